//! What is known of one connection from a client.

use std::sync::Arc;
use std::time::Instant;

use gateproof_mesh_config::envoy::access_log::TlsFacts;
use gateproof_mesh_config::envoy::rbac::Verdict;
use gateproof_mesh_config::envoy::{CallRecord, NetworkFilter, details};

use super::env::Env;
use super::listener::{ChainRuntime, HANDSHAKE_LIMIT, ListenerRuntime};
use super::stream::{Stream, Wire};
use crate::net::Conn;

/// A connection that a filter chain has taken.
pub(super) struct Connection {
    pub(super) env: Arc<Env>,
    pub(super) listener: Arc<ListenerRuntime>,
    pub(super) chain: Arc<ChainRuntime>,
    /// What every record of it begins with.
    pub(super) record: CallRecord,
    pub(super) began: Instant,
}

impl Connection {
    /// Takes off TLS, if the chain has any.
    ///
    /// # Errors
    /// Why the handshake failed, in Envoy's words.
    pub(super) async fn secure(&self, conn: Conn) -> Result<(Stream, Option<TlsFacts>), String> {
        let Some(tls) = &self.chain.tls else { return Ok((Stream::new(Wire::Plain(conn)), None)) };
        let limit = self.chain.spec.transport_socket_connect_timeout.unwrap_or(HANDSHAKE_LIMIT);
        match tokio::time::timeout(limit, tls.accept(conn)).await {
            Ok(Ok((stream, facts))) => {
                self.listener.ssl_handshake.inc();
                Ok((stream, Some(facts)))
            }
            Ok(Err(words)) => {
                self.listener.ssl_error.inc();
                let why = match words.as_str() {
                    w if w.contains("PEER_DID_NOT_RETURN_A_CERTIFICATE") => Some("ssl.fail_verify_no_cert"),
                    w if w.contains("CERTIFICATE_VERIFY_FAILED") => Some("ssl.fail_verify_error"),
                    _ => None,
                };
                if let Some(why) = why {
                    self.env.stats.stat(&format!("listener.{}.{why}", self.listener.stat_name)).inc();
                }
                Err(words)
            }
            Err(_) => Err(String::new()),
        }
    }

    /// Asks the chain's network RBAC filters; the details of the refusal.
    pub(super) fn refused(&self, record: &CallRecord) -> Option<String> {
        self.chain.spec.filters.iter().find_map(|filter| {
            let NetworkFilter::Rbac(rbac) = filter else { return None };
            let count = |what: &str| self.env.stats.stat(&format!("{}rbac.{what}", rbac.stat_prefix)).inc();
            match rbac.rules.as_ref().map(|rules| rules.check(record)) {
                Some(Verdict { allowed: false, policy }) => {
                    count("denied");
                    Some(details::rbac_denied(policy.as_deref()))
                }
                Some(_) => {
                    count("allowed");
                    None
                }
                None => None,
            }
        })
    }

    /// Writes the end of the connection to the listener's access log.
    pub(super) fn write_listener_log(&self, record: &CallRecord) {
        if !self.listener.spec.access_log.is_empty() {
            let mut record = record.clone();
            record.duration = Some(self.began.elapsed());
            self.env.journal.write(&self.listener.spec.access_log, &record);
        }
    }
}
