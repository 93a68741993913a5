//! A caller that does not take a certificate of this run's CA, since nobody told it to.

use super::call::Call;
use super::configured::Configured;
use super::names::{list, text};
use super::{Cause, Layer, Place};
use crate::outcome::CallSeen;
use crate::scenario::{CallExpect, Connection, KubeObject};

/// The ConfigMap with the run's CAs, which `runConfig` of a scenario makes.
const RUN_CONFIG: &str = "gateproof-run";

/// How TLS libraries say that they do not know who issued a certificate. Source: OpenSSL, `crypto/x509/x509_txt.c`.
const UNKNOWN_ISSUER: [&str; 4] =
    ["issuer certificate", "self-signed certificate", "self signed certificate", "verify the first certificate"];

/// Variables that lead curl to certificates to trust. Source: curl's manual, "ENVIRONMENT".
const VARIABLES: [&str; 3] = ["CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Why a pod did not take a certificate that this run made.
pub(super) fn untrusted(c: &Configured, call: &Call, expect: &CallExpect, seen: &CallSeen) -> Option<Cause> {
    let wanted = expect.connection.contains(&Connection::CertificateRejected) || expect.exit_code == Some(60);
    if wanted || seen.connection != Some(Connection::CertificateRejected) {
        return None;
    }
    let words = seen.connection_detail.as_deref().unwrap_or_default().to_ascii_lowercase();
    // What was shown decides; where nobody saw it, whether the run made one for that name.
    let of_run = match &seen.certificate {
        Some(shown) => seen.known_certificates.values().any(|known| known.eq_ignore_ascii_case(&shown.sha256)),
        None => seen.known_certificates.contains_key(call.name()),
    };
    if !of_run || !UNKNOWN_ISSUER.iter().any(|part| words.contains(part)) {
        return None;
    }
    let caller = call.caller.as_ref()?;
    let deployment = c.find("apps", "Deployment", &caller.namespace, &caller.name)?;
    let head = format!("{} does not trust the run's CA, which issued the certificate of {}", deployment.key, call.name());
    if !mounts(deployment) {
        let text = format!(
            "{head}: it mounts no ConfigMap `{RUN_CONFIG}`, which `runConfig: [{}]` in scenario.yaml makes, and which CURL_CA_BUNDLE leads curl to",
            caller.namespace
        );
        return Some(Cause::at(Layer::Connection, text, Some(Place::new(deployment, "spec.template.spec.volumes"))));
    }
    let containers = || list(&deployment.value, "/spec/template/spec/containers").iter();
    let is_led = |container| list(container, "/env").iter().any(|v| text(v, "/name").is_some_and(|name| VARIABLES.contains(&name)));
    (!containers().any(is_led)).then(|| {
        let text = format!("{head}: it mounts the ConfigMap `{RUN_CONFIG}`, but no CURL_CA_BUNDLE or SSL_CERT_FILE leads to its ca.crt");
        Cause::at(Layer::Connection, text, Some(Place::new(deployment, "spec.template.spec.containers[].env")))
    })
}

fn mounts(deployment: &KubeObject) -> bool {
    let of = |volume: &serde_json::Value, pointer: &str| text(volume, pointer) == Some(RUN_CONFIG);
    list(&deployment.value, "/spec/template/spec/volumes").iter().any(|volume| {
        of(volume, "/configMap/name") || list(volume, "/projected/sources").iter().any(|source| of(source, "/configMap/name"))
    })
}
