//! The mesh's certificate authority: what istiod's Citadel and the agent beside each proxy do together.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::proxy::Identity;

/// Signs the identities of one mesh. Its key never leaves it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    trust_domain: String,
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a certificate of the mesh: {0}")]
pub struct AuthorityError(#[from] rcgen::Error);

impl Authority {
    /// A new authority for a trust domain such as `cluster.local`.
    ///
    /// # Errors
    /// When no key or certificate can be made.
    pub fn new(trust_domain: &str) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, trust_domain: trust_domain.to_owned() })
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.issuer.pem()
    }

    /// An identity for a service account: its one name is `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`
    /// (SPIFFE ID, section 2; Istio `security/pkg/pki/util/san.go`).
    ///
    /// # Errors
    /// When no key or certificate can be made.
    pub fn identity(&self, namespace: &str, account: &str) -> Result<Identity, AuthorityError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = DistinguishedName::new();
        let name = format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain);
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(name)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { chain_pem: leaf.pem(), key_pem: key.serialize_pem(), root_pem: self.root_pem() })
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    use super::*;

    #[test]
    fn an_identity_is_a_spiffe_name_signed_by_the_root() {
        let authority = Authority::new("td").unwrap();
        let identity = authority.identity("shop", "cart").unwrap();
        let der = CertificateDer::from_pem_slice(identity.chain_pem.as_bytes()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://td/ns/shop/sa/cart")]);
        let root = CertificateDer::from_pem_slice(identity.root_pem.as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&root).unwrap();
        assert_eq!(leaf.issuer(), root.subject());
    }
}
