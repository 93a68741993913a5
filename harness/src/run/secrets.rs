//! What is made for one run: its token, its CA, the TLS secrets that scenarios declare. Keys live in memory and in the
//! cluster's secrets, nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::scenario::{Certificate, KubeObject, Made, made_in};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::probe::certificate::{fingerprint, first_in_pem};
use crate::probe::outside::Identity;
use crate::probe::{RUN_CONFIG_MAP, RunSecrets};

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
#[error("making the run's certificates: {0}")]
pub struct SecretsError(#[from] rcgen::Error);

/// Makes the run's secrets. `outside_ca_pem` and `outside_fingerprints` are the stand-ins'.
///
/// # Errors
/// When a certificate cannot be made (a name that is no DNS name).
pub fn make(
    certificates: &[Certificate],
    outside_ca_pem: &str,
    outside_fingerprints: &BTreeMap<String, String>,
) -> Result<(RunSecrets, Vec<KubeObject>), SecretsError> {
    let issuer = authority()?;
    let mut secrets = RunSecrets {
        token: token(),
        roots_pem: format!("{}{outside_ca_pem}", issuer.pem()),
        authority_pem: issuer.pem(),
        identities: BTreeMap::new(),
        fingerprints: outside_fingerprints.clone(),
    };
    let mut objects = Vec::new();
    for certificate in certificates {
        let names: Vec<String> = certificate.hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &issuer)?;
        let identity = Identity { certificate_pem: leaf.pem(), key_pem: key.serialize_pem() };
        objects.push(tls_secret(&certificate.secret, &identity, &issuer.pem()));
        secrets.fingerprints.insert(certificate.secret.to_string(), fingerprint(leaf.der()));
        secrets.identities.insert(certificate.secret.clone(), identity);
    }
    Ok((secrets, objects))
}

/// Takes over what a cluster has already, for a run that applies nothing: certificates from their secrets, token and CAs
/// from the ConfigMap of the run that deployed them. Gives what is not there, in words.
pub async fn from_cluster(
    client: &Client,
    secrets: &mut RunSecrets,
    certificates: &[Certificate],
    homes: &BTreeSet<&String>,
) -> Vec<String> {
    let mut missing = Vec::new();
    for certificate in certificates {
        let at = &certificate.secret;
        let api: Api<Secret> = Api::namespaced(client.clone(), &at.namespace);
        let found = api.get_opt(&at.name).await.ok().flatten().and_then(|s| s.data);
        let text = |key: &str| found.as_ref().and_then(|d| d.get(key)).map(|b| String::from_utf8_lossy(&b.0).into_owned());
        match text("tls.crt").and_then(|pem| Some((first_in_pem(&pem)?, pem))) {
            None => {
                secrets.fingerprints.remove(&at.to_string());
                secrets.identities.remove(at);
                missing.push(format!("secret {at} has no certificate (tls.crt): checks that compare it cannot pass"));
            }
            Some((seen, pem)) => {
                secrets.fingerprints.insert(at.to_string(), seen.sha256);
                // Trusted as its own authority too: whoever deployed it by hand may have signed it by itself.
                secrets.roots_pem.push_str(&format!("\n{pem}\n"));
                let key_pem = text("tls.key").unwrap_or_default();
                secrets.identities.insert(at.clone(), Identity { certificate_pem: pem, key_pem });
            }
        }
    }
    for namespace in homes {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        match api.get_opt(RUN_CONFIG_MAP).await.ok().flatten().and_then(|c| c.data) {
            Some(data) => {
                if let Some(token) = data.get("token").filter(|t| !t.is_empty()) {
                    secrets.token.clone_from(token);
                }
                secrets.roots_pem.push_str(data.get("ca.crt").map_or("", String::as_str));
            }
            None => {
                missing.push(format!("ConfigMap {namespace}/{RUN_CONFIG_MAP} is not there: checks that want the run's token cannot pass"))
            }
        }
    }
    missing
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "gateproof run CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// 128 random bits in hex. From the ring-backed key generator's own source: no further crate is needed for one number.
fn token() -> String {
    use rustls::crypto::SecureRandom;
    let mut bytes = [0_u8; 16];
    let random: &dyn SecureRandom = rustls::crypto::ring::default_provider().secure_random;
    // The system's source does not fail on the platforms we run on; a token of zeros would still be one token.
    let _ = random.fill(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// With the CA beside the certificate, as cert-manager writes them: a gateway that asks for client certificates (MUTUAL)
/// verifies them by it.
fn tls_secret(at: &Namespaced, identity: &Identity, ca_pem: &str) -> KubeObject {
    let data = json!({"tls.crt": identity.certificate_pem, "tls.key": identity.key_pem, "ca.crt": ca_pem});
    object("Secret", at, json!({"type": "kubernetes.io/tls", "stringData": data}))
}

/// The object, with what its manifest takes from the run's certificates put in. Such a Secret is written as `data`: what
/// the API makes of `stringData` would stay when a key is left out later (Kubernetes, "Server-Side Apply" of write-only fields).
///
/// Where a file says what a cluster calls its gateways, declared secrets stand in other namespaces than manifests say, so
/// a name that only one declared secret has will do.
#[must_use]
pub fn filled(object: &KubeObject, secrets: &RunSecrets) -> KubeObject {
    let made = made_in(object);
    if made.is_empty() {
        return object.clone();
    }
    let identity = |at: &Namespaced| {
        secrets.identities.get(at).or_else(|| {
            let mut same = secrets.identities.iter().filter(|(known, _)| known.name == at.name).map(|(_, identity)| identity);
            same.next().filter(|_| same.next().is_none())
        })
    };
    let mut out = object.clone();
    let mut data = out.value.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let texts = out.value.get("stringData").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, text) in texts {
        let pem = match made.iter().find(|(k, _)| *k == key).map(|(_, made)| made) {
            None => text.as_str().map(str::to_owned),
            Some(Made::Authority) => Some(secrets.authority_pem.clone()),
            Some(Made::Certificate(at)) => identity(at).map(|i| i.certificate_pem.clone()),
            Some(Made::Key(at)) => identity(at).map(|i| i.key_pem.clone()),
        };
        // The loader has checked that the certificate is declared; what is not there after all leaves the key out.
        if let Some(pem) = pem {
            data.insert(key, json!(ByteString(pem.into_bytes())));
        }
    }
    if let Some(map) = out.value.as_object_mut() {
        map.remove("stringData");
        map.insert("data".to_owned(), Value::Object(data));
    }
    out
}

/// The ConfigMap that tells a namespace's workloads the run's token and CAs.
#[must_use]
pub fn run_config(namespace: &str, secrets: &RunSecrets) -> KubeObject {
    let at = Namespaced { namespace: namespace.to_owned(), name: RUN_CONFIG_MAP.to_owned() };
    object("ConfigMap", &at, json!({"data": {"token": secrets.token, "ca.crt": secrets.roots_pem}}))
}

fn object(kind: &str, at: &Namespaced, mut value: Value) -> KubeObject {
    let key =
        ObjectKey { api_version: "v1".to_owned(), kind: kind.to_owned(), namespace: Some(at.namespace.clone()), name: at.name.clone() };
    value["apiVersion"] = json!("v1");
    value["kind"] = json!(kind);
    value["metadata"] = json!({"namespace": at.namespace, "name": at.name});
    KubeObject { key, value, line: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateproof_core::names::HostName;

    #[test]
    fn a_declared_secret_is_signed_by_the_run_and_known_by_its_fingerprint() {
        let at = Namespaced::parse("istio-system/web").unwrap();
        let wanted = Certificate { secret: at.clone(), hosts: vec![HostName::new("a.example").unwrap()] };
        let (secrets, objects) = make(&[wanted], "", &BTreeMap::new()).unwrap();
        let pem = objects[0].value["stringData"]["tls.crt"].as_str().unwrap();
        let seen = crate::probe::certificate::first_in_pem(pem).unwrap();
        assert_eq!(secrets.fingerprints[&at.to_string()], seen.sha256);
        assert_eq!((seen.names.as_slice(), seen.issuer.as_str()), (["a.example".to_owned()].as_slice(), "CN=gateproof run CA"));
        assert_eq!(secrets.token.len(), 32);
    }
    #[test]
    fn a_manifests_secret_is_filled_from_declared_certificates() {
        let at = Namespaced::parse("istio-system/web").unwrap();
        let wanted = Certificate { secret: at.clone(), hosts: vec![HostName::new("a.example").unwrap()] };
        let (secrets, _) = make(&[wanted], "", &BTreeMap::new()).unwrap();
        let place = Namespaced::parse("edge/other").unwrap();
        let data = json!({"tls.crt": "$(certificate:istio-system/web)", "tls.key": "$(key:istio-system/web)", "ca.crt": "$(authority)"});
        let filled = filled(&object("Secret", &place, json!({"stringData": data})), &secrets);
        let text = |key: &str| {
            let bytes: ByteString = serde_json::from_value(filled.value["data"][key].clone()).unwrap();
            String::from_utf8(bytes.0).unwrap()
        };
        assert_eq!(text("tls.crt"), secrets.identities[&at].certificate_pem);
        assert_eq!(text("tls.key"), secrets.identities[&at].key_pem);
        assert_eq!(text("ca.crt"), secrets.authority_pem);
        assert!(filled.value.get("stringData").is_none());
        let plain = object("Secret", &place, json!({"stringData": {"user": "ann"}}));
        assert_eq!(super::filled(&plain, &secrets), plain);
    }
}
