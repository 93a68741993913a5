//! The mesh configuration (`istio.mesh.v1alpha1.MeshConfig`), with Istio's defaults (`pkg/config/mesh/mesh.go`).

use serde_json::{Value, json};

use super::model::Visibility;
use super::model::object;

/// Where sidecars send what they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// `ALLOW_ANY`: to where it was going.
    AllowAny,
    /// `ALLOW_ANY_DYNAMIC_DNS` (after Istio 1.30, of the mesh configuration alone): plaintext HTTP to the host that it asks for, all
    /// else to where it was going.
    AllowAnyDynamicDns,
    /// `REGISTRY_ONLY`: nowhere.
    RegistryOnly,
}

impl OutboundPolicy {
    /// Reads `outboundTrafficPolicy` of the mesh or of a Sidecar, if it is there. An empty one is `REGISTRY_ONLY`, the first value
    /// of the enumeration.
    #[must_use]
    pub fn read(policy: Option<&Value>) -> Option<OutboundPolicy> {
        let policy = policy.filter(|policy| !policy.is_null())?;
        Some(match object::text(policy, "/mode") {
            "ALLOW_ANY" => OutboundPolicy::AllowAny,
            "ALLOW_ANY_DYNAMIC_DNS" => OutboundPolicy::AllowAnyDynamicDns,
            _ => OutboundPolicy::RegistryOnly,
        })
    }
}

/// What istiod is told about the whole mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshConfig {
    /// `outboundTrafficPolicy.mode`.
    pub outbound: OutboundPolicy,
    /// `accessLogFile`; empty: no log.
    pub access_log_file: String,
    /// `accessLogFormat`; empty: the default format.
    pub access_log_format: String,
    /// Whether `accessLogEncoding` is `JSON`.
    pub access_log_json: bool,
    /// `disableEnvoyListenerLog`: whether connections that no filter chain matched are left out of the log.
    pub disable_listener_log: bool,
    /// `rootNamespace`.
    pub root_namespace: String,
    /// `trustDomain`.
    pub trust_domain: String,
    /// `enableAutoMtls`.
    pub auto_mtls: bool,
    /// `defaultServiceExportTo`.
    pub service_export_to: Visibility,
    /// `defaultVirtualServiceExportTo`.
    pub virtual_service_export_to: Visibility,
    /// `defaultDestinationRuleExportTo`.
    pub destination_rule_export_to: Visibility,
    /// `connectTimeout` as a protobuf duration (`10s`).
    pub connect_timeout: String,
    /// `protocolDetectionTimeout` as a protobuf duration (`0s`).
    pub protocol_detection_timeout: String,
    /// `dnsRefreshRate` as a protobuf duration (`60s`).
    pub dns_refresh_rate: String,
    /// `defaultHttpRetryPolicy`, as written.
    pub default_http_retry: Option<Value>,
    /// All of it, as written: `extensionProviders`, `defaultProviders`, `defaultConfig` and the rest.
    pub raw: Value,
}

impl MeshConfig {
    /// Reads the YAML of the ConfigMap `istio`, key `mesh`. What cannot be read leaves Istio's defaults, as an istiod without a
    /// mesh configuration has them; the reason is the second value.
    #[must_use]
    pub fn read(yaml: &str, root_namespace: &str) -> (MeshConfig, Option<String>) {
        match serde_saphyr::from_str::<Value>(yaml) {
            Ok(raw) => (MeshConfig::from_value(raw, root_namespace), None),
            Err(error) if !yaml.trim().is_empty() => (MeshConfig::from_value(Value::Null, root_namespace), Some(error.to_string())),
            Err(_) => (MeshConfig::from_value(Value::Null, root_namespace), None),
        }
    }

    /// From the configuration as JSON.
    #[must_use]
    pub fn from_value(raw: Value, root_namespace: &str) -> MeshConfig {
        let or = |pointer: &str, default: &str| match object::text(&raw, pointer) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let visibility = |pointer: &str| match object::texts(&raw, pointer).as_slice() {
            [] => Visibility::Public,
            // A dot stays a dot here: it is replaced by the namespace of each object that falls back to this default.
            words if words.contains(&".") => Visibility::Namespaces([".".to_owned()].into()),
            words => Visibility::read(words.iter().copied(), "", &Visibility::Public),
        };
        MeshConfig {
            outbound: OutboundPolicy::read(raw.pointer("/outboundTrafficPolicy")).unwrap_or(OutboundPolicy::AllowAny),
            access_log_file: object::text(&raw, "/accessLogFile").to_owned(),
            access_log_format: object::text(&raw, "/accessLogFormat").to_owned(),
            access_log_json: object::text(&raw, "/accessLogEncoding") == "JSON",
            disable_listener_log: object::flag(&raw, "/disableEnvoyListenerLog"),
            root_namespace: or("/rootNamespace", root_namespace),
            trust_domain: or("/trustDomain", "cluster.local"),
            auto_mtls: raw.pointer("/enableAutoMtls").and_then(Value::as_bool).unwrap_or(true),
            service_export_to: visibility("/defaultServiceExportTo"),
            virtual_service_export_to: visibility("/defaultVirtualServiceExportTo"),
            destination_rule_export_to: visibility("/defaultDestinationRuleExportTo"),
            connect_timeout: or("/connectTimeout", "10s"),
            protocol_detection_timeout: or("/protocolDetectionTimeout", "0s"),
            dns_refresh_rate: or("/dnsRefreshRate", "60s"),
            default_http_retry: raw.pointer("/defaultHttpRetryPolicy").cloned(),
            raw,
        }
    }

    /// What istiod says that it uses (`/debug/mesh`): what is written over Istio's defaults, in protobuf's JSON form, which leaves
    /// out the first value of an enumeration. Defaults that nothing here reads are not in it.
    #[must_use]
    pub fn in_use(&self) -> Value {
        let mut all = json!({
            "proxyListenPort": 15001, "connectTimeout": "10s", "protocolDetectionTimeout": "0s", "ingressClass": "istio",
            "ingressService": "istio-ingressgateway", "ingressSelector": "ingressgateway", "ingressControllerMode": "STRICT",
            "enableTracing": true, "outboundTrafficPolicy": {"mode": "ALLOW_ANY"}, "enableAutoMtls": true, "trustDomain": "cluster.local",
            "rootNamespace": self.root_namespace, "dnsRefreshRate": "60s",
        });
        if let (Some(all), Some(written)) = (all.as_object_mut(), self.raw.as_object()) {
            all.extend(written.clone());
            if self.outbound == OutboundPolicy::RegistryOnly {
                all.insert("outboundTrafficPolicy".to_owned(), json!({}));
            }
            if !self.access_log_json {
                all.remove("accessLogEncoding");
            }
        }
        all
    }

    /// `defaultConfig.FIELD`: a default of the proxies' own configuration.
    #[must_use]
    pub fn proxy_default(&self, field: &str) -> Option<&Value> {
        self.raw.get("defaultConfig")?.get(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_policy_allows_any_and_an_empty_one_only_the_registry() {
        let outbound = |yaml: &str| MeshConfig::read(yaml, "istio-system").0.outbound;
        assert_eq!(outbound("accessLogFile: /dev/stdout"), OutboundPolicy::AllowAny);
        assert_eq!(outbound("outboundTrafficPolicy: {}"), OutboundPolicy::RegistryOnly);
        assert_eq!(outbound("outboundTrafficPolicy: {mode: ALLOW_ANY}"), OutboundPolicy::AllowAny);
    }

    #[test]
    fn what_is_in_use_is_what_is_written_over_the_defaults_without_first_values() {
        let in_use = |yaml: &str| MeshConfig::read(yaml, "istio-system").0.in_use();
        assert_eq!(in_use("")["outboundTrafficPolicy"], json!({"mode": "ALLOW_ANY"}));
        let other = in_use("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, accessLogEncoding: TEXT, trustDomain: td}");
        assert_eq!((&other["outboundTrafficPolicy"], &other["trustDomain"]), (&json!({}), &json!("td")));
        assert!(other.get("accessLogEncoding").is_none());
    }

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        let (mesh, error) = MeshConfig::read("", "istio-system");
        assert_eq!(error, None);
        assert_eq!((mesh.root_namespace.as_str(), mesh.trust_domain.as_str()), ("istio-system", "cluster.local"));
        assert!(mesh.auto_mtls && mesh.access_log_file.is_empty());
        assert!(MeshConfig::read("a: [", "istio-system").1.is_some());
    }
}
