//! Upgrades to WebSocket, with channels in the first byte of each message.
//!
//! Source: RFC 6455; Kubernetes `apimachinery/pkg/util/httpstream/wsstream`, `apimachinery/pkg/util/remotecommand`.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

use super::ApiBody;
use super::request::Call;
use crate::api::error::ApiError;

/// At most so much of a channel's data goes into one message.
const CHUNK: usize = 128 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Which protocol the two sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    V4,
    /// Knows the end of a channel.
    V5,
}

/// An upgrade that is agreed on and not done yet.
pub(super) struct Agreed {
    pub(super) protocol: Protocol,
    pub(super) response: Response<ApiBody>,
    upgrade: OnUpgrade,
}

/// Agrees on an upgrade.
pub(super) fn agree(call: &mut Call) -> Result<Agreed, ApiError> {
    let wanted = call.header(UPGRADE).to_ascii_lowercase();
    let needs = || ApiError::bad_request("Upgrade request required");
    if wanted != "websocket" {
        return Err(needs());
    }
    let offered = call.header(SEC_WEBSOCKET_PROTOCOL).to_owned();
    let offers = |name: &str| offered.split(',').any(|o| o.trim() == name);
    let (protocol, name) = if offers("v5.channel.k8s.io") {
        (Protocol::V5, "v5.channel.k8s.io")
    } else if offers("v4.channel.k8s.io") {
        (Protocol::V4, "v4.channel.k8s.io")
    } else {
        return Err(ApiError::bad_request(format!("unable to upgrade: no supported sub-protocol among {offered:?}")));
    };
    let accept = derive_accept_key(call.header(SEC_WEBSOCKET_KEY).as_bytes());
    let upgrade = call.upgrade.take().ok_or_else(needs)?;
    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut set = |key: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(key, value);
        }
    };
    set(CONNECTION, "Upgrade");
    set(UPGRADE, "websocket");
    set(SEC_WEBSOCKET_ACCEPT, &accept);
    set(SEC_WEBSOCKET_PROTOCOL, name);
    Ok(Agreed { protocol, response, upgrade })
}

/// The sending half, shared by the channels.
#[derive(Clone)]
pub(super) struct Sender {
    sink: Arc<Mutex<SplitSink<Socket, Message>>>,
}

/// What the client sends.
pub(super) enum Incoming {
    Data(u8, Bytes),
    /// The end of a channel, in v5.
    End(u8),
    /// The client closes, or is gone.
    Closed,
}

pub(super) struct Receiver {
    stream: SplitStream<Socket>,
    protocol: Protocol,
}

/// Waits for the upgrade to be done.
pub(super) async fn open(upgrade: OnUpgrade, protocol: Protocol) -> Result<(Sender, Receiver), hyper::Error> {
    let upgraded = upgrade.await?;
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let (sink, stream) = socket.split();
    Ok((Sender { sink: Arc::new(Mutex::new(sink)) }, Receiver { stream, protocol }))
}

impl Agreed {
    pub(super) fn split(self) -> (Response<ApiBody>, OnUpgrade, Protocol) {
        (self.response, self.upgrade, self.protocol)
    }
}

impl Sender {
    /// False when the client is gone.
    pub(super) async fn send(&self, channel: u8, data: &[u8]) -> bool {
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        self.sink.lock().await.send(Message::binary(message)).await.is_ok()
    }

    pub(super) async fn close(&self) {
        let mut sink = self.sink.lock().await;
        // Go's client takes an end without a code for a failure.
        let frame = CloseFrame { code: CloseCode::Normal, reason: Default::default() };
        let _ = sink.send(Message::Close(Some(frame))).await;
        let _ = sink.close().await;
    }

    /// Sends what comes until its end; false when the client is gone before.
    pub(super) async fn pump(&self, channel: u8, mut from: impl AsyncRead + Unpin) -> bool {
        let mut buffer = BytesMut::new();
        loop {
            // A dump of a proxy is some hundred kilobytes: each message more wakes half a dozen tasks.
            if buffer.capacity() < CHUNK / 8 {
                buffer.reserve(CHUNK);
            }
            buffer.put_u8(channel);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {
                    if self.sink.lock().await.send(Message::binary(buffer.split().freeze())).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }
}

impl Receiver {
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Binary(data))) => match (data.first(), data.get(1)) {
                    (Some(255), Some(channel)) if self.protocol == Protocol::V5 => return Incoming::End(*channel),
                    (Some(channel), _) => return Incoming::Data(*channel, data.slice(1..)),
                    (None, _) => {}
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Incoming::Closed,
                Some(Ok(_)) => {}
            }
        }
    }
}
