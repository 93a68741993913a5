//! How the other side's certificate is checked: `source/common/tls/cert_validator/default_validator.cc`.

use std::sync::Arc;

use gateproof_mesh_config::envoy::tls::{SanMatcher, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::facts::Names;
use super::{Roots, provider};

/// What is asked of a certificate.
#[derive(Debug)]
pub(super) struct PeerCheck {
    provider: Arc<CryptoProvider>,
    /// Who must have signed it; None: anyone.
    roots: Option<Arc<Roots>>,
    /// The same for clients' certificates, as rustls wants it.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// One of these must be in it; empty: any.
    names: Vec<SanMatcher>,
    /// It must be for the name that is asked for.
    check_server_name: bool,
    /// A failure is noted and does not end the handshake.
    accept_untrusted: bool,
    /// A client without one is refused.
    mandatory: bool,
}

/// None of the names in the certificate is accepted.
#[derive(Debug)]
pub(super) struct NameMismatch;

impl std::fmt::Display for NameMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("verify SAN list")
    }
}

impl std::error::Error for NameMismatch {}

impl PeerCheck {
    pub(super) fn new(roots: Option<Arc<Roots>>, names: Vec<SanMatcher>, accept_untrusted: bool) -> Self {
        let clients = roots
            .as_ref()
            .filter(|r| !r.store.is_empty())
            .and_then(|roots| WebPkiClientVerifier::builder_with_provider(roots.store.clone(), provider()).build().ok());
        Self { provider: provider(), roots, clients, names, check_server_name: false, accept_untrusted, mandatory: false }
    }

    pub(super) fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = mandatory;
        self
    }

    pub(super) fn for_server_name(mut self, check: bool) -> Self {
        self.check_server_name = check;
        self
    }

    fn names_fit(&self, certificate: &CertificateDer<'_>, server_name: Option<&ServerName<'_>>) -> Result<(), Error> {
        let asked = server_name.filter(|_| self.check_server_name);
        if self.names.is_empty() && asked.is_none() {
            return Ok(());
        }
        let found = Names::read(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let listed = self.names.is_empty() || self.names.iter().any(|m| found.of(m.san_type).any(|name| fits(m, name)));
        let named = asked.is_none_or(|asked| {
            let asked = asked.to_str();
            found.of(SanType::Dns).any(|name| covers(name, &asked)) || found.of(SanType::Ip).any(|ip| *ip == *asked)
        });
        if listed && named { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NameMismatch))))) }
    }

    /// Trusted as it is: a CA that is its own certificate, which rustls would not take.
    fn trusted_itself(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.as_ref().is_some_and(|r| r.certificates.iter().any(|c| c == certificate))
    }
}

/// A DNS name is compared as such where the matcher is exact: with a wildcard in its first label (`Utility::dnsNameMatch`).
fn fits(matcher: &SanMatcher, name: &str) -> bool {
    use gateproof_mesh_config::envoy::matchers::StringPattern;
    match &matcher.matcher.pattern {
        StringPattern::Exact(wanted) if matches!(matcher.san_type, SanType::Dns | SanType::Any) => {
            matcher.matcher.matches(name) || (name.starts_with("*.") && covers(name, wanted))
        }
        _ => matcher.matcher.matches(name),
    }
}

/// Whether a DNS name of a certificate covers a host (RFC 6125, section 6.4.3).
fn covers(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix("*.") {
        None => name == host,
        Some(suffix) => host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == suffix),
    }
}

impl ServerCertVerifier for PeerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = || {
            if let Some(roots) = self.roots.as_ref().filter(|_| !self.trusted_itself(end_entity)) {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, algorithms)?;
            }
            self.names_fit(end_entity, Some(server_name))
        };
        match check() {
            Err(error) if !self.accept_untrusted => Err(error),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerCheck {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.as_ref().map_or(&[], |c| c.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let check = || {
            if self.roots.is_some() && !self.trusted_itself(end_entity) {
                let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
                self.clients.as_ref().ok_or_else(unknown)?.verify_client_cert(end_entity, intermediates, now)?;
            }
            self.names_fit(end_entity, None)
        };
        match check() {
            Err(error) if !self.accept_untrusted => Err(error),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_wildcard_covers_one_label() {
        assert!(covers("*.example.org", "www.Example.org"));
        for host in ["example.org", "a.b.example.org", ".example.org"] {
            assert!(!covers("*.example.org", host), "{host}");
        }
        assert!(covers("example.org", "EXAMPLE.org"));
    }
}
