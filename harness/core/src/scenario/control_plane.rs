//! `controlPlane`: what a state sets in the mesh configuration and in istiod's environment.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::raw_words::schema_alias;
use super::read::texts;
use super::reader::Reader;
use super::yaml::{Kind, Node};

/// What is set in the control plane. At least one of both.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is read by schemars only")]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
pub(super) struct ControlPlaneFile {
    /// Fields of Istio's MeshConfig, such as `outboundTrafficPolicy: {mode: REGISTRY_ONLY}`, merged into the mesh's own (the key
    /// `mesh` of the ConfigMap `istio`): maps key by key, all else as a whole.
    pub mesh: Option<MeshParts>,
    /// Variables of the container `discovery` in istiod's Deployment, such as `PILOT_SCOPE_GATEWAY_TO_NAMESPACE: "true"`. istiod is
    /// rolled out anew, there and back, which takes some seconds on a real cluster.
    pub env: Option<Variables>,
}

schema_alias! {
    /// Fields of Istio's MeshConfig.
    MeshParts = mesh_schema();
    /// Variables of an environment.
    Variables = env_schema();
}

/// What a state sets in the control plane; empty where it leaves it alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ControlPlane {
    /// Parts of `istio.mesh.v1alpha1.MeshConfig`, merged into what the mesh has.
    pub mesh: Map<String, Value>,
    /// Variables of istiod's environment.
    pub env: BTreeMap<String, String>,
}

impl ControlPlane {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mesh.is_empty() && self.env.is_empty()
    }

    /// Sets what another change of the same state sets, too; the later one counts where both do.
    pub fn add(&mut self, later: &Self) {
        merge_maps(&mut self.mesh, &later.mesh);
        self.env.extend(later.env.clone());
    }
}

/// Merges parts into a configuration: maps key by key, everything else as a whole.
pub fn merge(into: &mut Value, parts: &Map<String, Value>) {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(map) = into {
        merge_maps(map, parts);
    }
}

fn merge_maps(into: &mut Map<String, Value>, parts: &Map<String, Value>) {
    for (key, part) in parts {
        match (into.get_mut(key), part) {
            (Some(there @ Value::Object(_)), Value::Object(part)) => merge(there, part),
            _ => drop(into.insert(key.clone(), part.clone())),
        }
    }
}

/// How a field of the mesh configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Flag,
    Time,
    List,
    Map,
}

impl Form {
    fn called(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a number",
            Self::Flag => "`true` or `false`",
            Self::Time => "a duration such as `10s`",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Number => json!({"type": "integer"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Time => json!({"type": "string", "pattern": TIME}),
            Self::List => json!({"type": "array"}),
            Self::Map => json!({"type": "object"}),
        }
    }

    fn fits(self, node: &Node) -> bool {
        let value = node.to_json();
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_i64() || value.is_u64(),
            Self::Flag => value.is_boolean(),
            Self::Time => value.as_str().is_some_and(is_time),
            Self::List => value.is_array(),
            Self::Map => value.is_object(),
        }
    }
}

/// A duration in protobuf's JSON or Go's form, of one unit.
const TIME: &str = "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$";

fn is_time(text: &str) -> bool {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = &text[..split];
    number.starts_with(|c: char| c.is_ascii_digit())
        && !number.ends_with('.')
        && number.parse::<f64>().is_ok()
        && matches!(&text[split..], "ms" | "s" | "m" | "h")
}

/// The fields of `MeshConfig` and how each is written (istio/api `mesh/v1alpha1/config.proto`, 1.30). Another Istio may have more,
/// so that a field which is not here is let through: istiod is seen to use it, or the state is not reached.
const MESH: &[(&str, Form)] = &[
    ("accessLogEncoding", Form::Text),
    ("accessLogFile", Form::Text),
    ("accessLogFormat", Form::Text),
    ("ca", Form::Map),
    ("caCertificates", Form::List),
    ("configSources", Form::List),
    ("connectTimeout", Form::Time),
    ("defaultConfig", Form::Map),
    ("defaultDestinationRuleExportTo", Form::List),
    ("defaultHttpRetryPolicy", Form::Map),
    ("defaultProviders", Form::Map),
    ("defaultServiceExportTo", Form::List),
    ("defaultVirtualServiceExportTo", Form::List),
    ("disableEnvoyListenerLog", Form::Flag),
    ("discoverySelectors", Form::List),
    ("dnsRefreshRate", Form::Time),
    ("enableAutoMtls", Form::Flag),
    ("enableEnvoyAccessLogService", Form::Flag),
    ("enablePrometheusMerge", Form::Flag),
    ("enableTracing", Form::Flag),
    ("extensionProviders", Form::List),
    ("h2UpgradePolicy", Form::Text),
    ("inboundClusterStatName", Form::Text),
    ("inboundTrafficPolicy", Form::Map),
    ("ingressClass", Form::Text),
    ("ingressControllerMode", Form::Text),
    ("ingressSelector", Form::Text),
    ("ingressService", Form::Text),
    ("localityLbSetting", Form::Map),
    ("meshMTLS", Form::Map),
    ("outboundClusterStatName", Form::Text),
    ("outboundTrafficPolicy", Form::Map),
    ("pathNormalization", Form::Map),
    ("protocolDetectionTimeout", Form::Time),
    ("proxyHttpPort", Form::Number),
    ("proxyInboundListenPort", Form::Number),
    ("proxyListenPort", Form::Number),
    ("rootNamespace", Form::Text),
    ("serviceSettings", Form::List),
    ("tcpKeepalive", Form::Map),
    ("tlsDefaults", Form::Map),
    ("trustDomain", Form::Text),
    ("trustDomainAliases", Form::List),
    ("verifyCertificateAtClient", Form::Flag),
];

/// The schema of `mesh`: at least one field; those that are known have their form.
fn mesh_schema() -> Value {
    let known: Map<String, Value> = MESH.iter().map(|(name, form)| ((*name).to_owned(), form.schema())).collect();
    json!({"type": "object", "properties": known, "minProperties": 1})
}

/// The schema of `env`: at least one variable.
fn env_schema() -> Value {
    let text = json!({"type": ["string", "number", "boolean"]});
    json!({"type": "object", "minProperties": 1, "additionalProperties": text, "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}})
}

/// Reads `controlPlane`.
pub(super) fn read(r: &mut Reader, node: &Node) -> Option<ControlPlane> {
    let fields = r.fields::<ControlPlaneFile>(node, "`controlPlane`")?;
    if !fields.has("mesh") && !fields.has("env") {
        r.wrong_help(fields.at.clone(), "a change of the control plane that changes nothing", "add `mesh` or `env`");
        return None;
    }
    let before = r.mistakes.len();
    let mesh = fields.get("mesh").map(|node| mesh(r, node)).unwrap_or_default();
    let env = fields.get("env").map(|node| env(r, node)).unwrap_or_default();
    (r.mistakes.len() == before).then_some(ControlPlane { mesh, env })
}

fn mesh(r: &mut Reader, node: &Node) -> Map<String, Value> {
    let Kind::Map(pairs) = &node.kind else {
        r.wrong_help(node.point(), format!("`mesh` cannot be {}", node.called()), "expected a map of fields of Istio's MeshConfig");
        return Map::new();
    };
    if pairs.is_empty() {
        r.wrong(node.point(), "`mesh` sets nothing");
    }
    values(r, node);
    let mut out = Map::new();
    for (key, value) in pairs {
        let Some(name) = key.scalar() else { continue };
        if let Some((_, form)) = MESH.iter().find(|(known, form)| *known == name && !value.is_null() && !form.fits(value)) {
            r.wrong_help(value.point(), format!("`{name}` cannot be {}", value.called()), format!("expected {}", form.called()));
        }
        out.insert(name.to_owned(), value.to_json());
    }
    out
}

/// Keys are text, given once, and have a value, at every depth.
fn values(r: &mut Reader, node: &Node) {
    match &node.kind {
        Kind::Map(pairs) => {
            for (place, (key, value)) in pairs.iter().enumerate() {
                let Some(name) = key.scalar() else {
                    r.wrong(key.point(), "`mesh` has a key that is not text");
                    continue;
                };
                if pairs[..place].iter().any(|(earlier, _)| earlier.scalar() == Some(name)) {
                    r.wrong(key.point(), format!("`{name}` is given twice"));
                } else if value.is_null() {
                    r.wrong_help(key.point(), format!("`{name}` has no value"), "give one or take the field away");
                } else {
                    values(r, value);
                }
            }
        }
        Kind::List(items) => items.iter().for_each(|item| values(r, item)),
        Kind::Scalar { .. } => {}
    }
}

fn env(r: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let pairs = texts(r, node, "`env`");
    let Kind::Map(written) = &node.kind else { return BTreeMap::new() };
    if written.is_empty() {
        r.wrong(node.point(), "`env` sets nothing");
    }
    for (key, _) in written {
        let name = key.scalar().unwrap_or_default();
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let expected = "expected letters, digits and `_`, such as `PILOT_SCOPE_GATEWAY_TO_NAMESPACE`";
            r.wrong_help(key.point(), format!("`{name}` is no name of a variable"), expected);
        }
    }
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_merged_and_all_else_is_replaced() {
        let mut mesh =
            json!({"defaultConfig": {"drainDuration": "1s", "holdApplicationUntilProxyStarts": true}, "trustDomainAliases": ["a"]});
        let parts = json!({"defaultConfig": {"drainDuration": "2s"}, "trustDomainAliases": ["b"], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
        merge(&mut mesh, parts.as_object().unwrap());
        let wanted = json!({"defaultConfig": {"drainDuration": "2s", "holdApplicationUntilProxyStarts": true}, "trustDomainAliases": ["b"],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}});
        assert_eq!(mesh, wanted);
        let mut nothing = Value::Null;
        merge(&mut nothing, wanted.as_object().unwrap());
        assert_eq!(nothing, wanted, "a mesh without configuration gets the parts alone");
    }

    #[test]
    fn of_two_changes_the_later_counts_where_both_say_something() {
        let change = |mode: &str, name: &str| ControlPlane {
            mesh: json!({"outboundTrafficPolicy": {"mode": mode}}).as_object().unwrap().clone(),
            env: BTreeMap::from([("BOTH".to_owned(), mode.to_owned()), (name.to_owned(), "x".to_owned())]),
        };
        let mut both = change("ALLOW_ANY", "ONE");
        both.add(&change("REGISTRY_ONLY", "TWO"));
        assert_eq!(Value::Object(both.mesh), json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}));
        let env: Vec<String> = both.env.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(env, ["BOTH=REGISTRY_ONLY", "ONE=x", "TWO=x"]);
    }

    #[test]
    fn the_known_fields_are_in_order_and_once() {
        assert!(MESH.windows(2).all(|two| two[0].0 < two[1].0));
    }

    #[test]
    fn the_pattern_of_the_schema_and_the_reader_agree_on_durations() {
        let pattern = regex::Regex::new(TIME).unwrap();
        for text in ["10s", "0.5s", "100ms", "1h", "", "s", "10", "1.s", ".5s", "1m30s", "-1s", "1..2s"] {
            assert_eq!(is_time(text), pattern.is_match(text), "{text:?}");
        }
    }
}
