//! Connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use gateproof_mesh_config::envoy::access_log::TlsFacts;

use super::super::stats::Held;
use super::super::stream::{Stream, Wire};
use super::super::tls::{HandshakeFailure, Hello};
use super::{ClusterRuntime, UpstreamHost};
use crate::net::Caller;

/// A connection to an endpoint.
pub(in super::super) struct Connected {
    pub(in super::super) stream: Stream,
    pub(in super::super) local: SocketAddr,
    pub(in super::super) tls: Option<TlsFacts>,
    /// Counts it, as long as it lives.
    pub(in super::super) held: Held,
}

/// Why a call was not answered by the upstream: `Http::Utility::resetReasonToString`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Reset {
    /// Not connected.
    ConnectionFailure,
    /// Not connected in time.
    ConnectionTimeout,
    /// The connection ended.
    ConnectionTermination,
    /// The upstream reset the stream.
    Stream,
    /// The upstream refused the stream.
    RefusedStream,
    /// A circuit breaker.
    Overflow,
    /// The upstream's HTTP is wrong.
    ProtocolError,
}

impl Reset {
    pub(in super::super) fn words(self) -> &'static str {
        match self {
            Self::ConnectionFailure => "remote connection failure",
            Self::ConnectionTimeout => "connection timeout",
            Self::ConnectionTermination => "connection termination",
            Self::Stream => "remote reset",
            Self::RefusedStream => "remote refused stream reset",
            Self::Overflow => "overflow",
            Self::ProtocolError => "protocol error",
        }
    }
}

/// There is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ConnectError {
    pub(in super::super) reset: Reset,
    /// What the transport says; may be empty.
    pub(in super::super) transport: String,
}

impl ClusterRuntime {
    /// Connects to an endpoint, as far as the circuit breaker lets.
    ///
    /// # Errors
    /// Why not.
    pub(in super::super) async fn connect(&self, host: &Arc<UpstreamHost>, hello: &Hello) -> Result<Connected, ConnectError> {
        if !self.connections_left() {
            self.stats.cx_overflow.inc();
            return Err(ConnectError { reset: Reset::Overflow, transport: String::new() });
        }
        self.connect_over_limit(host, hello).await
    }

    pub(super) async fn connect_over_limit(&self, host: &Arc<UpstreamHost>, hello: &Hello) -> Result<Connected, ConnectError> {
        self.stats.cx_total.inc();
        let held = self.stats.cx_active.held();
        let failed = |reset, transport| {
            match reset {
                Reset::ConnectionTimeout => self.stats.cx_connect_timeout.inc(),
                _ => self.stats.cx_connect_fail.inc(),
            }
            Err(ConnectError { reset, transport })
        };
        let connect = |address: SocketAddr| self.env.host.connect_from(self.spec.source_address, address, Caller::Proxy);
        let first = connect(host.address);
        let conn = match host.others.iter().fold(first, |tried, other| tried.or_else(|error| connect(*other).map_err(|_| error))) {
            Ok(conn) => conn,
            Err(error) => return failed(Reset::ConnectionFailure, connect_words(&error)),
        };
        let local = conn.local_addr();
        let Some(tls) = &host.tls else {
            return Ok(Connected { stream: Stream::new(Wire::Plain(conn)), local, tls: None, held });
        };
        match tls.connect(conn, &host.endpoint.hostname, hello, self.spec.connect_timeout).await {
            Ok((stream, facts)) => {
                self.stats.ssl_handshake.inc();
                Ok(Connected { stream, local, tls: Some(facts), held })
            }
            Err(HandshakeFailure::TimedOut) => failed(Reset::ConnectionTimeout, String::new()),
            Err(HandshakeFailure::Failed(words)) => {
                self.stats.ssl_error.inc();
                failed(Reset::ConnectionFailure, words)
            }
        }
    }
}

/// `ConnectionImpl::onWriteReady` with the system's words.
fn connect_words(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused",
        io::ErrorKind::HostUnreachable => "No route to host",
        io::ErrorKind::NetworkUnreachable => "Network is unreachable",
        io::ErrorKind::ConnectionReset => "Connection reset by peer",
        _ => "Connection timed out",
    };
    format!("delayed connect error: {words}")
}
