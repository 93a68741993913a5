//! A CA that lives for as long as it takes to sign, and the leaves of the stand-ins.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use sha2::{Digest, Sha256};

use crate::provider::ProviderError;

/// One host's certificate. The key goes into its container and nowhere else.
pub(crate) struct Leaf {
    pub(crate) host: String,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) fingerprint: String,
}

/// Signs a certificate for each host by a new CA, whose key is dropped on return.
/// Gives the CA's certificate too.
pub(crate) fn sign(hosts: &[String]) -> Result<(String, Vec<Leaf>), ProviderError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "gateproof stand-ins of this cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let ca_pem = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let leaves = hosts.iter().map(|host| leaf(host, &issuer)).collect::<Result<_, _>>()?;
    Ok((ca_pem, leaves))
}

fn leaf(host: &str, issuer: &Issuer<'_, KeyPair>) -> Result<Leaf, ProviderError> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Leaf {
        host: host.to_owned(),
        fingerprint: hex(&Sha256::digest(certificate.der())),
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn leaves_are_signed_by_the_ca_for_their_host_alone() {
        let (ca_pem, leaves) = sign(&["httpbin.org".to_owned(), "example.org".to_owned()]).unwrap();
        let (_, ca) = x509_parser::pem::parse_x509_pem(ca_pem.as_bytes()).unwrap();
        let (_, ca) = X509Certificate::from_der(&ca.contents).unwrap();
        assert!(ca.is_ca());
        assert_eq!(ca_pem.matches("BEGIN").count(), 1, "a certificate and no key");
        for leaf in &leaves {
            let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.certificate_pem.as_bytes()).unwrap();
            let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
            assert_eq!(certificate.issuer(), ca.subject());
            let names = certificate.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names, [x509_parser::extensions::GeneralName::DNSName(&leaf.host)]);
            assert_eq!(leaf.fingerprint, hex(&Sha256::digest(&pem.contents)));
        }
        assert_ne!(leaves[0].fingerprint, leaves[1].fingerprint);
    }
}
