//! One request from its arrival to the line in the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use gateproof_mesh_config::envoy::access_log::CallRecord;
use gateproof_mesh_config::envoy::{Flag, Headers, details};
use hyper::HeaderMap;
use jiff::Timestamp;

use super::super::stats::Held;
use super::Http;
use super::body::RequestBody;

/// A request that is being answered. Dropped before its end, the client has gone away.
pub(super) struct Call {
    pub(super) http: Arc<Http>,
    pub(super) record: CallRecord,
    pub(super) began: Instant,
    pub(super) body: Option<RequestBody>,
    /// Where the host of the request is, once a filter has found out.
    pub(super) resolved: Option<SocketAddr>,
    /// Counts it.
    _active: Held,
    written: bool,
}

impl Call {
    pub(super) fn new(http: Arc<Http>) -> Self {
        http.stats.total.inc();
        let active = http.stats.active.held();
        let mut record = http.record.clone();
        record.start = Some(Timestamp::now());
        Self { http, record, began: Instant::now(), body: None, resolved: None, _active: active, written: false }
    }

    /// All of the response went to the client.
    pub(super) fn finish(mut self) {
        self.write();
    }

    /// The upstream ended in the middle of the response.
    pub(super) fn upstream_broke_off(mut self) {
        self.record.flags.set(Flag::UpstreamConnectionTermination);
        self.record.response_code_details = Some(details::upstream_reset(false, "connection termination", ""));
        self.write();
    }

    /// What came through a connection that changed its protocol.
    pub(super) fn received_by_upgrade(&mut self, bytes: u64) {
        self.body = None;
        self.record.bytes_received = bytes;
    }

    pub(super) fn take_trailers(&mut self, trailers: &HeaderMap) {
        self.record.trailers = headers_of(trailers);
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        self.record.duration = Some(self.began.elapsed());
        if let Some(body) = &self.body {
            self.record.bytes_received = body.received();
        }
        let class = usize::from(self.record.response_code.unwrap_or_default() / 100);
        if let Some(class) = class.checked_sub(1).and_then(|i| self.http.stats.class.get(i)) {
            class.inc();
        }
        self.http.connection.env.journal.write(&self.http.manager.access_log, &self.record);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.written {
            self.record.flags.set(Flag::DownstreamConnectionTermination);
            self.record.response_code_details = Some(details::DOWNSTREAM_REMOTE_DISCONNECT.to_owned());
            self.write();
        }
    }
}

/// Headers in the form of rules and logs. A value that is no text is taken as Latin-1.
pub(super) fn headers_of(map: &HeaderMap) -> Headers {
    map.iter().map(|(name, value)| (name.as_str(), text(value.as_bytes()))).collect()
}

fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|b| char::from(*b)).collect(), str::to_owned)
}
