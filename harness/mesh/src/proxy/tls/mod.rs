//! TLS towards clients and towards upstreams.

mod client;
mod facts;
mod secrets;
mod server;
mod verify;
mod words;

use std::sync::Arc;

use gateproof_mesh_config::envoy::tls::{CertificateSource, CommonTls, DataSource, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{SupportedProtocolVersion, version};

pub(super) use client::{ClientContext, HandshakeFailure, Hello};
pub(super) use secrets::{Roots, Secrets, key_of, roots_of};
pub(super) use server::ServerContext;
pub(super) use words::of_io as failure_words;

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// TLS 1.0 and 1.1 are not spoken here; who asks for them alone gets 1.2.
fn versions(common: &CommonTls, default_max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let least = common.min_version.unwrap_or(TlsVersion::V1_2);
    let most = common.max_version.unwrap_or(default_max);
    let mut versions = Vec::new();
    if least <= TlsVersion::V1_2 {
        versions.push(&version::TLS12);
    }
    if most >= TlsVersion::V1_3 {
        versions.push(&version::TLS13);
    }
    versions
}

/// What a context needs by SDS: `default`, `kubernetes://NAME`.
fn secret_names(common: &CommonTls) -> Vec<&str> {
    let keys = common.certificates.iter().filter_map(|c| match c {
        CertificateSource::Sds(name) => Some(name.as_str()),
        CertificateSource::Inline { .. } => None,
    });
    keys.chain(common.validation.as_ref().and_then(|v| v.sds.as_deref())).collect()
}

/// The certificates that a context shows; None while one is missing.
fn certificates(common: &CommonTls, secrets: &Secrets) -> Option<Vec<Arc<CertifiedKey>>> {
    common
        .certificates
        .iter()
        .map(|source| match source {
            CertificateSource::Sds(name) => secrets.key(name),
            CertificateSource::Inline { chain: DataSource::Inline(chain), key: DataSource::Inline(key) } => {
                key_of(chain, key).ok().map(Arc::new)
            }
            // The simulated proxy has no files.
            CertificateSource::Inline { .. } => None,
        })
        .collect()
}

/// Who is trusted; the outer None while a secret is missing, the inner one where nobody is asked for.
fn trusted(common: &CommonTls, secrets: &Secrets) -> Option<Option<Arc<Roots>>> {
    let Some(validation) = &common.validation else { return Some(None) };
    match (&validation.sds, &validation.trusted_ca) {
        (Some(name), _) => secrets.roots(name).map(Some),
        (None, Some(DataSource::Inline(pem))) => Some(Some(roots_of(pem).map(Arc::new).unwrap_or_default())),
        // The CAs of the proxy's own files, none of which signed anything in a simulated world.
        (None, Some(DataSource::File(_))) => Some(Some(Arc::default())),
        (None, None) if validation.system_roots => Some(Some(Arc::default())),
        (None, None) => Some(None),
    }
}
