//! TLS as curl with OpenSSL does it, and in OpenSSL's words.
//!
//! The chain is checked within the handshake and the name after it, as there.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Failure;
use super::options::{Options, Version};
use crate::workload::programs::Container;

/// Where curl's image keeps the system's authorities.
pub(crate) const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const LEARN_MORE: &str = "More details here: https://curl.se/docs/sslcerts.html\n\ncurl failed to verify the legitimacy of the server and therefore could not\nestablish a secure connection to it. To learn more about this situation and\nhow to fix it, please visit the web page mentioned above.";

/// What was learnt about the server.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// As it sent them.
    pub(super) chain: Vec<Vec<u8>>,
    /// OpenSSL's number for what is wrong with the chain, 0 for nothing.
    pub(super) result: u32,
}

/// Trusts those who are in the bundle, as OpenSSL does with `X509_V_FLAG_PARTIAL_CHAIN`: a server's own certificate too.
#[derive(Debug)]
struct Judge {
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
    insecure: bool,
    provider: Arc<CryptoProvider>,
    seen: Arc<Mutex<Seen>>,
}

/// OpenSSL's number and words for what can be wrong. Source: `X509_verify_cert_error_string`.
fn words(result: u32) -> &'static str {
    match result {
        7 => "certificate signature failure",
        9 => "certificate is not yet valid",
        10 => "certificate has expired",
        18 => "self-signed certificate",
        19 => "self-signed certificate in certificate chain",
        20 => "unable to get local issuer certificate",
        26 => "unsuitable certificate purpose",
        _ => "unspecified certificate verification error",
    }
}

fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, c)| c.subject() == c.issuer())
}

impl Judge {
    fn check(&self, end: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> u32 {
        if self.trusted.iter().any(|c| c.as_ref() == end.as_ref()) {
            return match X509Certificate::from_der(end) {
                Ok((_, c)) => {
                    let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                    let validity = c.validity();
                    if at < validity.not_before.timestamp() {
                        9
                    } else if at > validity.not_after.timestamp() {
                        10
                    } else {
                        0
                    }
                }
                Err(_) => 1,
            };
        }
        let parsed = match ParsedCertificate::try_from(end) {
            Ok(parsed) => parsed,
            Err(_) => return 1,
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, others, now, algorithms) {
            Ok(()) => 0,
            Err(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::UnknownIssuer if is_self_issued(end) => 18,
                CertificateError::UnknownIssuer if others.iter().any(|c| is_self_issued(c)) => 19,
                CertificateError::UnknownIssuer => 20,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => 10,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => 9,
                CertificateError::BadSignature => 7,
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => 26,
                // webpki does not take a CA's certificate for a server's; OpenSSL does, when it trusts it.
                CertificateError::Other(_) if is_self_issued(end) => 18,
                _ => 1,
            },
            Err(_) => 1,
        }
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.check(end_entity, intermediates, now);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.chain = std::iter::once(end_entity).chain(intermediates).map(|c| c.to_vec()).collect();
        seen.result = result;
        match result {
            0 => Ok(ServerCertVerified::assertion()),
            _ if self.insecure => Ok(ServerCertVerified::assertion()),
            // The alert follows the reason: OpenSSL sends `unknown CA`, `certificate expired`, `bad certificate`.
            9 | 10 => Err(CertificateError::Expired.into()),
            18..=20 => Err(CertificateError::UnknownIssuer.into()),
            _ => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn identity(options: &Options, container: &Container) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Failure> {
    let Some(path) = &options.cert else { return Ok(None) };
    let unreadable = |path: &str| {
        let why = "OpenSSL error error:80000002:system library::No such file or directory, (no key found, wrong pass phrase, or wrong file format?)";
        Failure::new(58, format!("could not load PEM client certificate from {path}, {why}"))
    };
    let pem = container.files.read(path).map_err(|_| unreadable(path))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err(Failure::new(
            58,
            format!(
                "could not load PEM client certificate from {path}, OpenSSL error error:0480006C:PEM routines::no start line, (no key found, wrong pass phrase, or wrong file format?)"
            ),
        ));
    }
    let key_path = options.key.as_ref().unwrap_or(path);
    let key = container.files.read(key_path).ok().and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).ok());
    let key = key.ok_or_else(|| Failure::new(58, format!("unable to set private key file: '{key_path}' type PEM")))?;
    Ok(Some((chain, key)))
}

/// How to begin TLS, and where what is learnt goes.
pub(super) fn config(options: &Options, container: &Container) -> Result<(Arc<ClientConfig>, Arc<Mutex<Seen>>), Failure> {
    let env = |name: &str| container.env.get(name).filter(|v| !v.is_empty()).cloned();
    let given = options.cacert.clone().or_else(|| env("CURL_CA_BUNDLE")).or_else(|| env("SSL_CERT_FILE"));
    let path = given.unwrap_or_else(|| SYSTEM_BUNDLE.to_owned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let mut trusted = Vec::new();
    match container.files.read(&path) {
        Ok(pem) => {
            trusted.extend(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            roots.add_parsable_certificates(trusted.iter().cloned());
        }
        Err(_) if options.insecure => {}
        Err(_) => return Err(Failure::new(77, format!("error setting certificate file: {path}"))),
    }
    let seen = Arc::<Mutex<Seen>>::default();
    let judge = Judge { roots, trusted, insecure: options.insecure, provider: provider.clone(), seen: seen.clone() };
    let versions: &[&rustls::SupportedProtocolVersion] = match (options.tls_min, options.tls_max) {
        (3, 2) => return Err(Failure::new(35, format!("{OPENSSL}: error:0A0000BF:SSL routines::no protocols available"))),
        (3, _) => &[&rustls::version::TLS13],
        (_, 2) => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|e| Failure::new(35, e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge));
    let mut config = match identity(options, container)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let path = options.key.as_ref().or(options.cert.as_ref()).cloned().unwrap_or_default();
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| Failure::new(58, format!("unable to set private key file: '{path}' type PEM")))?
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match options.version {
        Version::Default | Version::Two => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Version::TwoAtOnce => vec![b"h2".to_vec()],
        Version::One1 => vec![b"http/1.1".to_vec()],
        Version::One0 => vec![b"http/1.0".to_vec()],
    };
    Ok((Arc::new(config), seen))
}

const OPENSSL: &str = "OpenSSL/3.0.19";

/// Whether the certificate is for this host.
pub(super) fn check_name(end: &[u8], host: &str) -> Result<(), Failure> {
    let certificate = CertificateDer::from(end.to_vec());
    let fits = ServerName::try_from(host.to_owned())
        .ok()
        .is_some_and(|name| ParsedCertificate::try_from(&certificate).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok()));
    if fits {
        return Ok(());
    }
    // Without any alternative name, the common name counts (RFC 2818, section 3.1).
    if let Ok((_, parsed)) = X509Certificate::from_der(end)
        && !parsed.subject_alternative_name().is_ok_and(|s| s.is_some())
    {
        let name = parsed.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or_default().to_owned();
        let matches = name.eq_ignore_ascii_case(host)
            || name.strip_prefix("*.").is_some_and(|rest| host.split_once('.').is_some_and(|(_, tail)| tail.eq_ignore_ascii_case(rest)));
        if matches {
            return Ok(());
        }
        return Err(Failure::new(
            60,
            format!("SSL: certificate subject name '{name}' does not match target host name '{host}'\n{LEARN_MORE}"),
        ));
    }
    Err(Failure::new(60, format!("SSL: no alternative certificate subject name matches target host name '{host}'\n{LEARN_MORE}")))
}

/// OpenSSL's code and words for an alert. Source: OpenSSL, `ssl/ssl_err.c`; the code is 1000 more than the alert's.
fn alert(description: AlertDescription) -> String {
    let number = u32::from(u8::from(description));
    let name = match number {
        10 => "sslv3 alert unexpected message",
        20 => "sslv3 alert bad record mac",
        21 => "tlsv1 alert decryption failed",
        22 => "tlsv1 alert record overflow",
        30 => "sslv3 alert decompression failure",
        40 => "sslv3 alert handshake failure",
        41 => "sslv3 alert no certificate",
        42 => "sslv3 alert bad certificate",
        43 => "sslv3 alert unsupported certificate",
        44 => "sslv3 alert certificate revoked",
        45 => "sslv3 alert certificate expired",
        46 => "sslv3 alert certificate unknown",
        47 => "sslv3 alert illegal parameter",
        48 => "tlsv1 alert unknown ca",
        49 => "tlsv1 alert access denied",
        50 => "tlsv1 alert decode error",
        51 => "tlsv1 alert decrypt error",
        70 => "tlsv1 alert protocol version",
        71 => "tlsv1 alert insufficient security",
        80 => "tlsv1 alert internal error",
        86 => "tlsv1 alert inappropriate fallback",
        90 => "tlsv1 alert user cancelled",
        100 => "tlsv1 alert no renegotiation",
        109 => "tlsv13 alert missing extension",
        110 => "tlsv1 unsupported extension",
        112 => "tlsv1 unrecognized name",
        116 => "tlsv13 alert certificate required",
        120 => "tlsv1 alert no application protocol",
        _ => "unknown alert",
    };
    format!("error:{:08X}:SSL routines::{name}", 0x0A00_0000 + 1000 + number)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why a handshake failed.
pub(super) fn handshake_failure(error: &io::Error, seen: &Seen, place: &str) -> Failure {
    // With --insecure a certificate may be found bad, and the handshake still fail for another reason.
    let is_judged = matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)));
    if seen.result != 0 && is_judged {
        return Failure::new(60, format!("SSL certificate problem: {}\n{LEARN_MORE}", words(seen.result)));
    }
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(description)) => Failure::new(35, format!("{OPENSSL}: {}", alert(*description))),
        Some(rustls::Error::InvalidMessage(_)) => Failure::new(35, format!("{OPENSSL}: error:0A00010B:SSL routines::wrong version number")),
        Some(rustls::Error::PeerIncompatible(_)) => {
            Failure::new(35, format!("{OPENSSL}: error:0A000102:SSL routines::unsupported protocol"))
        }
        Some(other) => Failure::new(35, format!("{OPENSSL}: error:0A000000:SSL routines::{other}")),
        None if error.kind() == io::ErrorKind::ConnectionReset => Failure::new(35, "Recv failure: Connection reset by peer"),
        None if error.kind() == io::ErrorKind::BrokenPipe => Failure::new(35, "Send failure: Broken pipe"),
        // The blank at the end is curl's.
        None => Failure::new(35, format!("OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to {place} ")),
    }
}

/// Why reading failed after the handshake.
pub(super) fn read_failure(error: &io::Error, is_tls: bool) -> Failure {
    if !is_tls {
        return Failure::new(56, "Recv failure: Connection reset by peer");
    }
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(description)) => {
            Failure::new(56, format!("OpenSSL SSL_read: {OPENSSL}: {}, errno 0", alert(*description)))
        }
        Some(other) => Failure::new(56, format!("OpenSSL SSL_read: {OPENSSL}: error:0A000000:SSL routines::{other}, errno 0")),
        None if error.kind() == io::ErrorKind::ConnectionReset => Failure::new(56, "OpenSSL SSL_read: Connection reset by peer, errno 104"),
        None => {
            Failure::new(56, format!("OpenSSL SSL_read: {OPENSSL}: error:0A000126:SSL routines::unexpected eof while reading, errno 0"))
        }
    }
}

/// Certificates as `%{certs}` prints them.
pub(super) fn describe(chain: &[Vec<u8>]) -> String {
    use base64::Engine;
    let mut out = String::new();
    for der in chain {
        if let Ok((_, c)) = X509Certificate::from_der(der) {
            out.push_str(&format!("Subject:{}\nIssuer:{}\nVersion:{}\n", spaced(c.subject()), spaced(c.issuer()), c.version().0));
            let serial: String = c.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
            out.push_str(&format!(
                "Serial Number:{serial}\nStart date:{}\nExpire date:{}\n",
                date(c.validity().not_before),
                date(c.validity().not_after)
            ));
        }
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        for line in text.as_bytes().chunks(64) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

/// A certificate's name as OpenSSL prints it: `CN = x, O = y`.
fn spaced(name: &x509_parser::x509::X509Name<'_>) -> String {
    name.to_string().replace('=', " = ")
}

fn date(time: x509_parser::time::ASN1Time) -> String {
    jiff::Timestamp::from_second(time.timestamp()).map(|t| t.strftime("%b %e %H:%M:%S %Y GMT").to_string()).unwrap_or_default()
}

/// The lines of `-v` about the server's certificate.
pub(super) fn verbose_lines(seen: &Seen) -> Vec<String> {
    let mut lines = vec!["Server certificate:".to_owned()];
    if let Some((_, c)) = seen.chain.first().and_then(|der| X509Certificate::from_der(der).ok()) {
        lines.push(format!(" subject: {}", c.subject()));
        lines.push(format!(" start date: {}", date(c.validity().not_before)));
        lines.push(format!(" expire date: {}", date(c.validity().not_after)));
        lines.push(format!(" issuer: {}", c.issuer()));
    }
    lines.push(match seen.result {
        0 => " SSL certificate verify ok.".to_owned(),
        result => format!(" SSL certificate verify result: {} ({result}), continuing anyway.", words(result)),
    });
    lines
}
