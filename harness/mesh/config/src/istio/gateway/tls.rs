//! TLS that a gateway ends (`BuildListenerTLSContext`, `pilot/pkg/security/model/authentication.go`).

use serde_json::{Map, Value, json};

use super::spec::{Role, Server, Tls, TlsMode};
use crate::istio::PushContext;
use crate::istio::model::object;

/// Names of secrets that istiod is asked for, when an object gives no other kind.
const KUBERNETES: &str = "kubernetes://";
/// The proxy's own certificate under the name that Gateway API's conversion gives it.
const BUILT_IN: &str = "builtin://";
/// Behind the name of a secret: the CA to check clients by.
const CA_SUFFIX: &str = "-cacert";

/// What Istio takes for the names of cipher suites (`pkg/config/security.ValidCipherSuites`).
const CIPHER_SUITES: [&str; 14] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-SHA",
    "AES128-SHA",
];

/// The chain's `transport_socket`; `None` for a server that leaves TLS sealed or has none.
pub(super) fn transport_socket(context: &PushContext, server: &Server, role: Role) -> Option<Value> {
    let tls = server.tls.as_ref()?;
    if matches!(role, Role::Passthrough | Role::Http) || matches!(tls.mode, TlsMode::Passthrough | TlsMode::AutoPassthrough) {
        return None;
    }
    let mut common = Map::new();
    // Between sidecar and gateway bytes may carry who is on the other side, which the first of these says.
    let exchange = tls.mode == TlsMode::IstioMutual && role == Role::Bytes;
    common.insert(
        "alpn_protocols".to_owned(),
        if exchange { json!(["istio-peer-exchange", "h2", "http/1.1"]) } else { json!(["h2", "http/1.1"]) },
    );
    let require = matches!(tls.mode, TlsMode::Mutual | TlsMode::IstioMutual);
    let validate = require || tls.mode == TlsMode::OptionalMutual;
    if tls.mode == TlsMode::IstioMutual {
        workload_secrets(tls, validate, &mut common);
    } else if !tls.credential_names.is_empty() || !tls.credential_name.is_empty() {
        credentials(tls, validate, &mut common);
    } else {
        files(tls, validate, &mut common);
    }
    if tls.mode != TlsMode::IstioMutual {
        let params = parameters(context, tls);
        if !params.is_empty() {
            common.insert("tls_params".to_owned(), Value::Object(params));
        }
    }
    Some(json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": require,
        },
    }))
}

/// The proxy's own certificate and the mesh's CA.
fn workload_secrets(tls: &Tls, validate: bool, out: &mut Map<String, Value>) {
    out.insert("tls_certificate_sds_secret_configs".to_owned(), json!([from_agent("default")]));
    if validate {
        put_validation(out, validation(tls, false), from_agent("ROOTCA"));
    }
}

/// Secrets by `credentialName`, which istiod looks up beside the proxy.
fn credentials(tls: &Tls, validate: bool, out: &mut Map<String, Value>) {
    let names = if tls.credential_names.is_empty() { std::slice::from_ref(&tls.credential_name) } else { tls.credential_names.as_slice() };
    let certificates: Vec<Value> = names.iter().map(|name| secret(name)).collect();
    out.insert("tls_certificate_sds_secret_configs".to_owned(), Value::Array(certificates));
    let ca = match (tls.ca_cert_credential_name.as_str(), names.first()) {
        ("", Some(first)) => format!("{first}{CA_SUFFIX}"),
        (named, _) => named.to_owned(),
    };
    if validate {
        put_validation(out, validation(tls, true), secret(&ca));
    } else if !tls.subject_alt_names.is_empty() {
        out.insert("validation_context".to_owned(), json!({"match_subject_alt_names": exact(&tls.subject_alt_names)}));
    }
}

/// Files that are mounted into the proxy, or where none are named its own certificate (`ApplyToCommonTLSContext`).
fn files(tls: &Tls, validate: bool, out: &mut Map<String, Value>) {
    let certificate = |chain: &str, key: &str| {
        let name = if chain.is_empty() || key.is_empty() { "default".to_owned() } else { format!("file-cert:{chain}~{key}") };
        from_agent(&name)
    };
    let certificates: Vec<Value> = if tls.tls_certificates.is_empty() {
        vec![certificate(&tls.server_certificate, &tls.private_key)]
    } else {
        tls.tls_certificates.iter().map(|pair| certificate(&pair.server_certificate, &pair.private_key)).collect()
    };
    out.insert("tls_certificate_sds_secret_configs".to_owned(), Value::Array(certificates));
    if validate {
        let ca = if tls.ca_certificates.is_empty() { "ROOTCA".to_owned() } else { format!("file-root:{}", tls.ca_certificates) };
        put_validation(out, validation(tls, false), from_agent(&ca));
    }
}

fn put_validation(out: &mut Map<String, Value>, default: Value, secret: Value) {
    out.insert(
        "combined_validation_context".to_owned(),
        json!({"default_validation_context": default, "validation_context_sds_secret_config": secret}),
    );
}

/// What a client's certificate has to say beside being signed by the CA.
fn validation(tls: &Tls, pins: bool) -> Value {
    let mut out = Map::new();
    if !tls.subject_alt_names.is_empty() {
        out.insert("match_subject_alt_names".to_owned(), exact(&tls.subject_alt_names));
    }
    if pins {
        for (field, list) in
            [("verify_certificate_spki", &tls.verify_certificate_spki), ("verify_certificate_hash", &tls.verify_certificate_hash)]
        {
            if !list.is_empty() {
                out.insert(field.to_owned(), json!(list));
            }
        }
    }
    if tls.insecure_skip_verify {
        out.insert("trust_chain_verification".to_owned(), json!("ACCEPT_UNTRUSTED"));
    }
    Value::Object(out)
}

fn exact(names: &[String]) -> Value {
    names.iter().map(|name| json!({"exact": name})).collect()
}

/// A secret that istiod sends.
fn secret(name: &str) -> Value {
    if name == BUILT_IN {
        return from_agent("default");
    }
    if name.strip_prefix(BUILT_IN) == Some(CA_SUFFIX) {
        return from_agent("ROOTCA");
    }
    let known = [KUBERNETES, "kubernetes-gateway://", "configmap://"];
    let name = name.strip_prefix("sds://").unwrap_or(name);
    let full = if known.iter().any(|kind| name.starts_with(kind)) { name.to_owned() } else { format!("{KUBERNETES}{name}") };
    json!({"name": full, "sds_config": {"ads": {}, "resource_api_version": "V3"}})
}

/// A secret of the proxy's own agent.
fn from_agent(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
                "set_node_on_first_message_only": true,
            },
            "initial_fetch_timeout": "0s",
            "resource_api_version": "V3",
        },
    })
}

/// Versions and ciphers: the mesh's `tlsDefaults`, then the server's own.
fn parameters(context: &PushContext, tls: &Tls) -> Map<String, Value> {
    let mut out = Map::new();
    let defaults = context.mesh.raw.get("tlsDefaults").unwrap_or(&Value::Null);
    let version = match object::text(defaults, "/minProtocolVersion") {
        "TLSV1_2" => Some("TLSv1_2"),
        "TLSV1_3" => Some("TLSv1_3"),
        _ => None,
    };
    if let Some(version) = tls.min_protocol_version.envoy().or(version) {
        out.insert("tls_minimum_protocol_version".to_owned(), json!(version));
    }
    if let Some(version) = tls.max_protocol_version.envoy() {
        out.insert("tls_maximum_protocol_version".to_owned(), json!(version));
    }
    let mut ciphers: Vec<&str> = Vec::new();
    for cipher in tls.cipher_suites.iter().map(String::as_str).filter(|cipher| CIPHER_SUITES.contains(cipher)) {
        if !ciphers.contains(&cipher) {
            ciphers.push(cipher);
        }
    }
    if ciphers.is_empty() {
        ciphers = object::texts(defaults, "/cipherSuites");
    }
    for (field, list) in [("cipher_suites", ciphers), ("ecdh_curves", object::texts(defaults, "/ecdhCurves"))] {
        if !list.is_empty() {
            out.insert(field.to_owned(), json!(list));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::spec::Port;
    use super::*;
    use crate::istio::route::testing::context;

    fn made(protocol: &str, tls: Value) -> Value {
        let server: Server =
            serde_json::from_value(json!({"port": {"protocol": protocol}, "hosts": ["a.example"], "tls": tls})).expect("a server");
        let role = server.role(&Port { protocol: protocol.to_owned(), ..Port::default() });
        transport_socket(&context(Vec::new()), &server, role).map_or(Value::Null, |socket| socket["typed_config"].clone())
    }

    #[test]
    fn a_mode_says_whether_clients_are_asked_for_a_certificate() {
        for (mode, require, ca) in [("SIMPLE", false, false), ("MUTUAL", true, true), ("OPTIONAL_MUTUAL", false, true)] {
            let made = made("HTTPS", json!({"mode": mode, "credentialName": "web"}));
            assert_eq!(made["require_client_certificate"], require, "{mode}");
            let common = &made["common_tls_context"];
            assert_eq!(common["tls_certificate_sds_secret_configs"][0]["name"], "kubernetes://web");
            let validation = &common["combined_validation_context"]["validation_context_sds_secret_config"]["name"];
            assert_eq!(validation, &if ca { json!("kubernetes://web-cacert") } else { Value::Null }, "{mode}");
        }
        assert_eq!(made("TLS", json!({"mode": "PASSTHROUGH"})), Value::Null);
        assert_eq!(made("HTTP", json!({"httpsRedirect": true})), Value::Null);
    }

    #[test]
    fn mesh_certificates_come_from_the_agent() {
        let tcp = made("TLS", json!({"mode": "ISTIO_MUTUAL", "minProtocolVersion": "TLSV1_3"}));
        let common = &tcp["common_tls_context"];
        assert_eq!(common["alpn_protocols"], json!(["istio-peer-exchange", "h2", "http/1.1"]));
        assert_eq!(common["tls_certificate_sds_secret_configs"][0]["name"], "default");
        assert_eq!(common["combined_validation_context"]["validation_context_sds_secret_config"]["name"], "ROOTCA");
        assert!(common.get("tls_params").is_none(), "the mesh's own TLS is not the object's to change");
        assert_eq!(made("HTTPS", json!({"mode": "ISTIO_MUTUAL"}))["common_tls_context"]["alpn_protocols"], json!(["h2", "http/1.1"]));
    }

    #[test]
    fn versions_and_ciphers_are_passed_on_as_far_as_they_are_known() {
        let made = made(
            "HTTPS",
            json!({
                "mode": "SIMPLE", "credentialNames": ["rsa", "ecdsa"], "minProtocolVersion": "TLSV1_2", "maxProtocolVersion": "TLSV1_3",
                "cipherSuites": ["AES128-SHA", "ROT13", "AES128-SHA"], "subjectAltNames": ["c.example"],
            }),
        );
        let common = &made["common_tls_context"];
        assert_eq!(
            common["tls_params"],
            json!({"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3", "cipher_suites": ["AES128-SHA"]})
        );
        assert_eq!(common["tls_certificate_sds_secret_configs"][1]["name"], "kubernetes://ecdsa");
        assert_eq!(common["validation_context"]["match_subject_alt_names"], json!([{"exact": "c.example"}]));
    }
}
