//! TLS towards clients: `DownstreamTlsContext`.

use std::sync::{Arc, Mutex};

use gateproof_mesh_config::envoy::access_log::TlsFacts;
use gateproof_mesh_config::envoy::tls::{DownstreamTls, TlsVersion};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::super::inspect;
use super::super::lock;
use super::super::stream::{ServerWire, Stream, Wire};
use super::verify::PeerCheck;
use super::{Secrets, certificates, facts, provider, secret_names, trusted, versions, words};
use crate::net::Conn;

/// The TLS of one filter chain, made anew when secrets change.
pub(in super::super) struct ServerContext {
    spec: DownstreamTls,
    secrets: Arc<Secrets>,
    built: Mutex<Option<(u64, Option<Built>)>>,
}

/// With the chain's ALPN, and without: a client that offers none of it goes on without, where rustls would refuse it
/// (`ServerContextImpl::alpnSelectCallback` answers NOACK).
#[derive(Clone)]
struct Built {
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
    shown: Option<Arc<CertifiedKey>>,
    checks: bool,
}

#[derive(Debug)]
struct Shown(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|k| k.key.choose_scheme(hello.signature_schemes()).is_some()).or(self.0.first()).cloned()
    }
}

impl ServerContext {
    pub(in super::super) fn new(spec: DownstreamTls, secrets: Arc<Secrets>) -> Self {
        Self { spec, secrets, built: Mutex::new(None) }
    }

    /// The SDS names that it needs.
    pub(in super::super) fn names(&self) -> Vec<&str> {
        secret_names(&self.spec.common)
    }

    fn build(&self) -> Option<Built> {
        let common = &self.spec.common;
        let keys = certificates(common, &self.secrets)?;
        let roots = trusted(common, &self.secrets)?;
        let validation = common.validation.as_ref();
        let names = validation.map(|v| v.subject_alt_names.clone()).unwrap_or_default();
        let checks = roots.is_some() || !names.is_empty();
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions(common, TlsVersion::V1_3)).ok()?;
        let builder = if checks || self.spec.require_client_certificate {
            let check = PeerCheck::new(roots, names, validation.is_some_and(|v| v.accept_untrusted));
            builder.with_client_cert_verifier(Arc::new(check.mandatory(self.spec.require_client_certificate)))
        } else {
            builder.with_no_client_auth()
        };
        let shown = keys.first().cloned();
        let mut config = builder.with_cert_resolver(Arc::new(Shown(keys)));
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = common.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Some(Built { with_alpn: Arc::new(config), without_alpn, shown, checks })
    }

    fn ready(&self) -> Option<Built> {
        let generation = self.secrets.generation();
        let mut built = lock(&self.built);
        match &*built {
            Some((of, ready)) if *of == generation => ready.clone(),
            _ => {
                let ready = self.build();
                *built = Some((generation, ready.clone()));
                ready
            }
        }
    }

    /// Ends a client's TLS.
    ///
    /// # Errors
    /// Why not, in Envoy's words.
    pub(in super::super) async fn accept(&self, conn: Conn) -> Result<(Stream, TlsFacts), String> {
        // `NotReadySslSocket`: the connection is closed as soon as it is read.
        let Some(built) = self.ready() else { return Err("TLS error: Secret is not supplied by SDS".to_owned()) };
        let offered = match inspect::look(&conn, inspect::client_hello).await {
            Ok(hello) => hello.unwrap_or_default(),
            Err(error) => return Err(words::of_io(&error)),
        };
        if self.spec.require_sni && offered.server_name.is_empty() {
            return Err(String::new());
        }
        let common = offered.alpn.iter().any(|p| self.spec.common.alpn.contains(p));
        let config = if common { built.with_alpn } else { built.without_alpn };
        let accepted = tokio_rustls::TlsAcceptor::from(config).accept(ServerWire(conn)).await.map_err(|e| words::of_io(&e))?;
        let own = built.shown.as_ref().and_then(|k| k.cert.first());
        let facts = facts::of(accepted.get_ref().1, own, built.checks);
        Ok((Stream::new(Wire::Server(Box::new(accepted))), facts))
    }
}
