//! Connections that change their protocol: WebSocket.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::call::Call;
use super::forward::Keeper;

/// Copies bytes between both sides, once both have changed their protocol.
pub(super) fn tunnel(mut call: Call, client: OnUpgrade, upstream: OnUpgrade, keeper: Keeper) {
    let tasks = call.http.connection.env.tasks.clone();
    tasks.spawn(async move {
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else { return };
        let copied = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
        if let Ok((received, sent)) = copied {
            call.record.bytes_sent = sent;
            call.received_by_upgrade(received);
        }
        drop(keeper);
        call.finish();
    });
}
