//! TLS towards upstreams: `UpstreamTlsContext`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateproof_mesh_config::envoy::access_log::TlsFacts;
use gateproof_mesh_config::envoy::tls::{TlsVersion, UpstreamTls};
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls_pki_types::ServerName;

use super::super::lock;
use super::super::stream::{Stream, Wire};
use super::verify::PeerCheck;
use super::{Secrets, certificates, facts, provider, secret_names, trusted, versions, words};
use crate::net::Conn;

/// The TLS of one transport socket of a cluster, made anew when secrets change.
pub(in super::super) struct ClientContext {
    spec: UpstreamTls,
    secrets: Arc<Secrets>,
    built: Mutex<Option<(u64, Vec<Built>)>>,
}

#[derive(Clone)]
struct Built {
    sni: bool,
    checks_name: bool,
    alpn: Vec<String>,
    config: Arc<ClientConfig>,
    shown: Option<Arc<CertifiedKey>>,
    checks: bool,
}

/// What one connection asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(in super::super) struct Hello {
    /// Instead of the context's SNI (`auto_sni`).
    pub(in super::super) sni: Option<String>,
    /// The certificate must be for this name (`auto_san_validation`).
    pub(in super::super) check_name: bool,
    /// ALPN where the context has none.
    pub(in super::super) alpn: Vec<String>,
}

/// Why there is no TLS connection.
#[derive(Debug)]
pub(in super::super) enum HandshakeFailure {
    /// In Envoy's words; may be empty.
    Failed(String),
    /// It took too long.
    TimedOut,
}

/// At most one, the first.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl ClientContext {
    pub(in super::super) fn new(spec: UpstreamTls, secrets: Arc<Secrets>) -> Self {
        Self { spec, secrets, built: Mutex::new(None) }
    }

    /// The SDS names that it needs.
    pub(in super::super) fn names(&self) -> Vec<&str> {
        secret_names(&self.spec.common)
    }

    fn build(&self, sni: bool, checks_name: bool, alpn: Vec<String>) -> Option<Built> {
        let common = &self.spec.common;
        let shown = certificates(common, &self.secrets)?.first().cloned();
        let roots = trusted(common, &self.secrets)?;
        let validation = common.validation.as_ref();
        let names = validation.map(|v| v.subject_alt_names.clone()).unwrap_or_default();
        let checks = roots.is_some() || !names.is_empty();
        let check = PeerCheck::new(roots, names, validation.is_some_and(|v| v.accept_untrusted)).for_server_name(checks_name);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions(common, TlsVersion::V1_2))
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check))
            .with_client_cert_resolver(Arc::new(Shown(shown.clone())));
        config.resumption = Resumption::disabled();
        config.enable_sni = sni;
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Some(Built { sni, checks_name, alpn, config: Arc::new(config), shown, checks })
    }

    fn ready(&self, sni: bool, checks_name: bool, alpn: &[String]) -> Option<Built> {
        let generation = self.secrets.generation();
        let mut built = lock(&self.built);
        if built.as_ref().is_none_or(|(of, _)| *of != generation) {
            *built = Some((generation, Vec::new()));
        }
        let (_, ready) = built.as_mut()?;
        if let Some(found) = ready.iter().find(|b| b.sni == sni && b.checks_name == checks_name && b.alpn == alpn) {
            return Some(found.clone());
        }
        let new = self.build(sni, checks_name, alpn.to_vec())?;
        ready.push(new.clone());
        Some(new)
    }

    /// Begins TLS with an endpoint. `endpoint` is its name, if it has one.
    ///
    /// # Errors
    /// Why not.
    pub(in super::super) async fn connect(
        &self,
        conn: Conn,
        endpoint: &str,
        hello: &Hello,
        limit: Duration,
    ) -> Result<(Stream, TlsFacts), HandshakeFailure> {
        let wanted = match &hello.sni {
            Some(sni) => sni.as_str(),
            None if !self.spec.sni.is_empty() => self.spec.sni.as_str(),
            None if self.spec.auto_host_sni => endpoint,
            None => "",
        };
        // An address is no server name (RFC 6066, section 3).
        let name =
            Some(wanted).filter(|n| !n.is_empty() && n.parse::<IpAddr>().is_err()).and_then(|n| ServerName::try_from(n.to_owned()).ok());
        let alpn = if self.spec.common.alpn.is_empty() { &hello.alpn } else { &self.spec.common.alpn };
        let checks_name = hello.check_name || self.spec.auto_sni_san_validation;
        let Some(built) = self.ready(name.is_some(), checks_name && !wanted.is_empty(), alpn) else {
            return Err(HandshakeFailure::Failed("TLS error: Secret is not supplied by SDS".to_owned()));
        };
        let by_address = wanted.parse::<IpAddr>().unwrap_or_else(|_| conn.peer_addr().ip());
        let name = name.unwrap_or_else(|| ServerName::IpAddress(by_address.into()));
        let handshake = tokio_rustls::TlsConnector::from(built.config).connect(name, conn);
        let connected = match tokio::time::timeout(limit, handshake).await {
            Err(_) => return Err(HandshakeFailure::TimedOut),
            Ok(Err(error)) => return Err(HandshakeFailure::Failed(words::of_io(&error))),
            Ok(Ok(connected)) => connected,
        };
        let own = built.shown.as_ref().and_then(|k| k.cert.first());
        let facts = facts::of(connected.get_ref().1, own, built.checks);
        Ok((Stream::new(Wire::Client(Box::new(connected))), facts))
    }
}
