//! Certificates: made for the run, and seen by callers.

use gateproof_core::outcome::CertificateSeen;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 of a certificate's DER form, lower-case hex.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What identifies a certificate; None when it cannot be read.
#[must_use]
pub fn describe(der: &[u8]) -> Option<CertificateSeen> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten().map(|san| {
        san.value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(dns) => Some((*dns).to_owned()),
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect()
    });
    Some(CertificateSeen {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names.unwrap_or_default(),
        sha256: fingerprint(der),
        not_after: jiff::Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?.to_string(),
    })
}

/// The first certificate in a text with PEM blocks in it.
#[must_use]
pub fn first_in_pem(text: &str) -> Option<CertificateSeen> {
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let der = CertificateDer::from_pem_slice(&text.as_bytes()[begin..]).ok()?;
    describe(&der)
}
