//! What a cluster says to its endpoints about TLS (Istio: `pilot/pkg/networking/core/cluster_tls.go`).

use serde_json::{Map, Value, json};

use crate::istio::model::object;

/// The type of `UpstreamTlsContext`.
const UPSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// How the proxy asks its agent for its own certificate and the mesh's root (Istio: `ConstructSdsSecretConfig`).
#[must_use]
pub fn agent_secret(name: &str) -> Value {
    json!({"name": name, "sds_config": {
        "api_config_source": {
            "api_type": "GRPC",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
            "set_node_on_first_message_only": true,
            "transport_api_version": "V3",
        },
        "initial_fetch_timeout": "0s",
        "resource_api_version": "V3",
    }})
}

/// How the proxy asks istiod for a Secret, without waiting for one that may not exist; for the built-in one it asks its agent
/// (Istio: `ConstructSdsSecretConfigForCredential`).
#[must_use]
pub fn istiod_secret(name: &str) -> Value {
    match name {
        "builtin://" => return agent_secret("default"),
        "builtin://-cacert" => return agent_secret("ROOTCA"),
        _ => {}
    }
    let name = name.strip_prefix("sds://").unwrap_or(name);
    let name = if name.contains("://") { name.to_owned() } else { format!("kubernetes://{name}") };
    json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}})
}

/// A TLS transport socket around a context.
#[must_use]
pub fn socket(context: Value) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

/// The versions that every side of the mesh speaks.
#[must_use]
pub fn versions() -> Value {
    json!({"tls_maximum_protocol_version": "TLSv1_3", "tls_minimum_protocol_version": "TLSv1_2"})
}

/// A list of exact names for the other side's certificate.
fn exact(names: &[String]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({"exact": name})).collect();
    if names.is_empty() { json!({}) } else { json!({"match_subject_alt_names": names}) }
}

/// Mutual TLS of the mesh: the proxy's own certificate, the mesh's root, the other side's identities.
#[must_use]
pub fn mutual_of_mesh(identities: &[String], sni: &str, is_http2: bool) -> Value {
    let alpn = if is_http2 { json!(["istio", "h2"]) } else { json!(["istio"]) };
    socket(json!({
        "@type": UPSTREAM_TLS,
        "common_tls_context": {
            "alpn_protocols": alpn,
            "combined_validation_context": {
                "default_validation_context": exact(identities),
                "validation_context_sds_secret_config": agent_secret("ROOTCA"),
            },
            "tls_certificate_sds_secret_configs": [agent_secret("default")],
            "tls_params": versions(),
        },
        "sni": sni,
    }))
}

/// What a cluster sends with each TLS handshake, and the HTTP options that go with it.
pub(super) struct Originated {
    /// The transport socket.
    pub(super) socket: Value,
    /// Whether the SNI comes from the request's host.
    pub(super) auto_sni: bool,
    /// Whether the certificate must be valid for that host.
    pub(super) auto_san_validation: bool,
}

/// TLS that a DestinationRule asks for by `SIMPLE` or `MUTUAL`. None if it lacks what it needs, for which Istio makes a cluster
/// without TLS.
pub(super) fn originate(settings: &Value, is_mutual: bool, external_names: &[String], is_http2: bool) -> Option<Originated> {
    let text = |field: &str| object::text(settings, field);
    let skips = object::flag(settings, "/insecureSkipVerify");
    let said: Vec<String> = object::texts(settings, "/subjectAltNames").into_iter().map(str::to_owned).collect();
    let auto_sni = text("/sni").is_empty();
    let auto_san_validation = auto_sni && said.is_empty() && !skips;
    let names = if said.is_empty() { external_names.to_vec() } else { said };

    let mut common = Map::new();
    common.insert("tls_params".to_owned(), versions());
    if is_http2 {
        common.insert("alpn_protocols".to_owned(), json!(["h2"]));
    }
    let credential = text("/credentialName");
    let authority = if credential.is_empty() {
        if is_mutual {
            let (certificate, key) = (text("/clientCertificate"), text("/privateKey"));
            if certificate.is_empty() || key.is_empty() {
                return None;
            }
            let secret = agent_secret(&format!("file-cert:{certificate}~{key}"));
            common.insert("tls_certificate_sds_secret_configs".to_owned(), json!([secret]));
        }
        let path = if text("/caCertificates").is_empty() { "system" } else { text("/caCertificates") };
        agent_secret(&format!("file-root:{path}"))
    } else {
        if is_mutual {
            common.insert("tls_certificate_sds_secret_configs".to_owned(), json!([istiod_secret(credential)]));
        }
        istiod_secret(&format!("{credential}-cacert"))
    };
    if !skips {
        let validation = json!({"default_validation_context": exact(&names), "validation_context_sds_secret_config": authority});
        common.insert("combined_validation_context".to_owned(), validation);
    } else if credential.is_empty() {
        common.insert("validation_context".to_owned(), json!({}));
    }
    let mut context = Map::new();
    context.insert("@type".to_owned(), json!(UPSTREAM_TLS));
    context.insert("common_tls_context".to_owned(), Value::Object(common));
    if !auto_sni {
        context.insert("sni".to_owned(), json!(text("/sni")));
    }
    Some(Originated { socket: socket(Value::Object(context)), auto_sni, auto_san_validation })
}

/// Mutual TLS to endpoints with a sidecar, plaintext to the others.
pub(super) fn by_endpoint(mutual: Value) -> Value {
    json!([
        {"match": {"tlsMode": "istio"}, "name": "tlsMode-istio", "transport_socket": mutual},
        {"match": {}, "name": "tlsMode-disabled", "transport_socket": {
            "name": "envoy.transport_sockets.raw_buffer",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
        }},
    ])
}
