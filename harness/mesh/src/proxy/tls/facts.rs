//! What certificates and handshakes say, for access logs, rules and headers.

use std::fmt::Write as _;
use std::net::IpAddr;

use gateproof_mesh_config::envoy::access_log::TlsFacts;
use gateproof_mesh_config::envoy::tls::SanType;
use jiff::Timestamp;
use rustls::{CommonState, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

/// The subject alternative names of a certificate, in order.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(SanType, String)>);

impl Names {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        Some(Self::of_parsed(&parsed))
    }

    fn of_parsed(parsed: &X509Certificate<'_>) -> Self {
        let Some(names) = parsed.subject_alternative_name().ok().flatten() else { return Self::default() };
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(dns) => Some((SanType::Dns, (*dns).to_owned())),
            GeneralName::URI(uri) => Some((SanType::Uri, (*uri).to_owned())),
            GeneralName::RFC822Name(email) => Some((SanType::Email, (*email).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let ip = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                ip.ok().map(|ip| (SanType::Ip, ip.to_string()))
            }
            _ => None,
        };
        Self(names.value.general_names.iter().filter_map(name).collect())
    }

    /// Those of one kind, or all.
    pub(super) fn of(&self, kind: SanType) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| kind == SanType::Any || *k == kind).map(|(_, name)| name.as_str())
    }

    fn list(&self, kind: SanType) -> Vec<String> {
        self.of(kind).map(str::to_owned).collect()
    }
}

/// RFC 2253: the last part first.
fn distinguished(name: &X509Name<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let mut parts: Vec<String> = name
        .iter()
        .map(|set| {
            let attributes = set.iter().map(|a| {
                let key =
                    x509_parser::objects::oid2abbrev(a.attr_type(), registry).map_or_else(|_| a.attr_type().to_id_string(), str::to_owned);
                let value =
                    a.as_str().unwrap_or_default().replace('\\', "\\\\").replace(',', "\\,").replace('+', "\\+").replace('"', "\\\"");
                format!("{key}={value}")
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// PEM, URL-encoded as Envoy does it (`source/common/tls/utility.cc`, `getCertificateExtension...`, `urlEncodedPem...`).
fn url_encoded_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in body.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    let mut out = String::with_capacity(pem.len() * 5 / 4);
    for c in pem.chars() {
        match c {
            '\n' => out.push_str("%0A"),
            ' ' => out.push_str("%20"),
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out
}

fn cipher(state: &CommonState) -> String {
    let Some(suite) = state.negotiated_cipher_suite() else { return String::new() };
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        // OpenSSL's names: ECDHE-RSA-AES128-GCM-SHA256.
        None => name
            .trim_start_matches("TLS_")
            .replace("_WITH", "")
            .replace("AES_", "AES")
            .replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305")
            .replace('_', "-"),
    }
}

/// What a handshake came to. `own` is the certificate that this side showed; `checked` whether the other's was to be checked.
pub(super) fn of(state: &CommonState, own: Option<&CertificateDer<'_>>, checked: bool) -> TlsFacts {
    let version = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let mut facts = TlsFacts {
        version: version.to_owned(),
        cipher: cipher(state),
        alpn: state.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default(),
        ..TlsFacts::default()
    };
    if let Some((_, own)) = own.and_then(|own| X509Certificate::from_der(own).ok()) {
        let names = Names::of_parsed(&own);
        facts.local_uri_sans = names.list(SanType::Uri);
        facts.local_dns_sans = names.list(SanType::Dns);
        facts.local_subject = distinguished(own.subject());
    }
    let chain = state.peer_certificates().unwrap_or_default();
    let Some(first) = chain.first() else { return facts };
    facts.peer_presented = true;
    facts.peer_validated = checked;
    facts.peer_fingerprint_256 = hex(&Sha256::digest(first));
    facts.peer_certificate = url_encoded_pem(first);
    facts.peer_chain = chain.iter().map(url_encoded_pem).collect();
    let Ok((_, parsed)) = X509Certificate::from_der(first) else { return facts };
    let names = Names::of_parsed(&parsed);
    facts.peer_uri_sans = names.list(SanType::Uri);
    facts.peer_dns_sans = names.list(SanType::Dns);
    facts.peer_ip_sans = names.list(SanType::Ip);
    facts.peer_email_sans = names.list(SanType::Email);
    facts.peer_subject = distinguished(parsed.subject());
    facts.peer_issuer = distinguished(parsed.issuer());
    facts.peer_serial = hex(parsed.raw_serial()).trim_start_matches("00").to_owned();
    facts.peer_valid_from = Timestamp::from_second(parsed.validity().not_before.timestamp()).ok();
    facts.peer_valid_to = Timestamp::from_second(parsed.validity().not_after.timestamp()).ok();
    facts
}
