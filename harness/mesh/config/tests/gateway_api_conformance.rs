//! What Gateway API's conformance tests ask of listeners, and of TLS, TCP and gRPC routes, told again under
//! `cases/gateway-api-listeners`: what is written into statuses, and where a call comes to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gateproof_mesh_config::envoy::simulate::{Call as Simulated, CallError, CallProtocol, CallTls, simulate};
use gateproof_mesh_config::gateway_api::{Converted, convert, deployments};
use gateproof_mesh_config::istio::PushContext;
use gateproof_mesh_config::{ProxyKind, ProxyNode, Snapshot};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The namespace of what says no other.
const INFRA: &str = "gateway-conformance-infra";
/// A certificate that is none, in the form of one.
const PEM: &str =
    "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
/// Services that the suite has for all tests.
const SERVICES: [&str; 8] = [
    "infra-backend-v1",
    "infra-backend-v2",
    "infra-backend-v3",
    "grpc-infra-backend-v1",
    "grpc-infra-backend-v2",
    "grpc-infra-backend-v3",
    "tls-backend",
    "tcp-backend",
];
/// Secrets that the suite makes.
const SECRETS: [(&str, &str); 5] = [
    (INFRA, "tls-validity-checks-certificate"),
    (INFRA, "tls-passthrough-checks-certificate"),
    (INFRA, "tls-checks-certificate"),
    (INFRA, "tls-terminate-checks-certificate"),
    ("gateway-conformance-web-backend", "certificate"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "source")]
    _source: String,
    objects: Vec<Value>,
    status: Vec<Value>,
    calls: Vec<Call>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Call {
    gateway: String,
    port: u16,
    protocol: String,
    tls: bool,
    host: String,
    path: String,
    /// A Service, `404`, or `closed`.
    to: String,
}

#[test]
fn listeners_and_routes_are_as_the_conformance_tests_want_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/gateway-api-listeners");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("the folder").filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let (mut asked, mut differences) = (0, Vec::new());
    for path in paths {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let file: File = serde_saphyr::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("YAML");
        asked += file.status.len() + file.calls.len();
        let snapshot = snapshot(&file);
        let converted = convert(&snapshot);
        differences.extend(file.status.iter().filter_map(|told| status_differs(told, &converted)).map(|it| format!("{name}: {it}")));
        let context = context(&snapshot, &converted);
        differences.extend(file.calls.iter().filter_map(|call| call_differs(call, &context)).map(|it| format!("{name}: {it}")));
    }
    assert!(differences.is_empty(), "{} of {asked} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(asked > 90, "only {asked} were asked");
}

fn snapshot(file: &File) -> Snapshot {
    let mut objects: Vec<Value> = file.objects.iter().map(object).collect();
    let ports = json!([{"name": "https", "port": 443}, {"name": "tcp", "port": 3000}, {"name": "http", "port": 8080}, {"name": "tls", "port": 8443}]);
    for name in SERVICES {
        let metadata = json!({"namespace": INFRA, "name": name});
        objects
            .push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": "10.0.0.1", "ports": ports}}));
    }
    for (namespace, name) in SECRETS {
        let data = json!({"tls.crt": PEM, "tls.key": PEM});
        objects.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name}, "stringData": data}));
    }
    for name in ["tls-checks-ca-certificate", "tls-validity-checks-ca-certificate"] {
        let metadata = json!({"namespace": INFRA, "name": name});
        objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": PEM}}));
    }
    for (name, label) in [(INFRA, "infra"), ("gateway-conformance-app-backend", "backend"), ("gateway-conformance-web-backend", "backend")]
    {
        let metadata = json!({"name": name, "labels": {"gateway-conformance": label}});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    objects.push(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"namespace": INFRA, "name": "same-namespace"},
        "spec": {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
    );
    let objects = objects.into_iter().map(Arc::new).collect();
    Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() }
}

/// With Istio's objects, and the Services that istiod makes for Gateways.
fn context(snapshot: &Snapshot, converted: &Converted) -> PushContext {
    let mut all = snapshot.clone();
    all.objects.extend(converted.objects.iter().cloned());
    all.objects.extend(deployments(snapshot, "proxyv2"));
    PushContext::new(&all)
}

/// An object from its short form: `{KIND: NAME, in: NAMESPACE, ...}`; of a Service the ports.
fn object(told: &Value) -> Value {
    let (kind, name) = kind_and_name(told);
    let namespace = told.get("in").and_then(Value::as_str).unwrap_or(INFRA);
    let version = match kind.as_str() {
        "Secret" | "ConfigMap" | "Service" => "v1",
        _ => "gateway.networking.k8s.io/v1",
    };
    let mut out = json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": namespace, "name": name}});
    if let Some(ports) = told.get("ports") {
        out["spec"] = json!({"clusterIP": "10.0.0.2", "ports": ports});
    }
    if let Some(spec) = told.get("spec") {
        out["spec"] = spec.clone();
    }
    if let Some(data) = told.get("data").and_then(Value::as_object) {
        let field = if kind == "Secret" { "stringData" } else { "data" };
        let of = |value: &Value| if value == "PEM" { json!(PEM) } else { value.clone() };
        out[field] = Value::Object(data.iter().map(|(key, value)| (key.clone(), of(value))).collect());
    }
    out
}

fn kind_and_name(told: &Value) -> (String, String) {
    let mut fields = told.as_object().expect("an object").iter();
    let (kind, name) = fields.find(|(key, _)| key.starts_with(|first: char| first.is_ascii_uppercase())).expect("a kind");
    (kind.clone(), name.as_str().unwrap_or_default().to_owned())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Conditions in short: the reason, or `not: REASON`.
fn short(conditions: &Value) -> Map<String, Value> {
    let short = conditions.as_array().into_iter().flatten().map(|one| {
        let not = if text(one, "/status") == "True" { "" } else { "not: " };
        (text(one, "/type").to_owned(), json!(format!("{not}{}", text(one, "/reason"))))
    });
    short.collect()
}

fn status_differs(told: &Value, converted: &Converted) -> Option<String> {
    let (kind, name) = kind_and_name(told);
    let found = converted.statuses.iter().find(|status| status.kind == kind && status.name == name);
    let Some(found) = found.map(|status| &status.status) else { return Some(format!("{kind} {name} has no status")) };
    let mut ours = Map::new();
    if let Some(parents) = found.get("parents").and_then(Value::as_array) {
        ours.insert("parents".to_owned(), parents.iter().map(|parent| Value::Object(short(&parent["conditions"]))).collect());
    } else {
        ours.insert("is".to_owned(), Value::Object(short(&found["conditions"])));
        let listeners = found.get("listeners").and_then(Value::as_array).into_iter().flatten().map(|listener| {
            let mut entry = short(&listener["conditions"]);
            entry.insert("routes".to_owned(), listener["attachedRoutes"].clone());
            let kinds = listener["supportedKinds"].as_array().into_iter().flatten();
            entry.insert("kinds".to_owned(), kinds.map(|kind| kind["kind"].clone()).collect());
            (text(listener, "/name").to_owned(), Value::Object(entry))
        });
        ours.insert("listeners".to_owned(), Value::Object(listeners.collect()));
    }
    let ours = Value::Object(ours);
    let wanted = told.as_object().into_iter().flatten().filter(|(key, _)| **key != kind && *key != "in");
    let wanted: Map<String, Value> = wanted.map(|(key, value)| (key.clone(), value.clone())).collect();
    let wanted = Value::Object(wanted);
    (!holds(&ours, &wanted)).then(|| format!("{kind} {name}:\n  ours   {ours}\n  theirs {wanted}"))
}

/// Whether everything that is wanted is so.
fn holds(ours: &Value, wanted: &Value) -> bool {
    match (ours, wanted) {
        (Value::Object(ours), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| ours.get(key).is_some_and(|own| holds(own, value)))
        }
        (Value::Array(ours), Value::Array(wanted)) => {
            ours.len() == wanted.len() && ours.iter().zip(wanted).all(|(own, value)| holds(own, value))
        }
        _ => ours == wanted,
    }
}

fn call_differs(told: &Call, context: &PushContext) -> Option<String> {
    let node = ProxyNode {
        kind: ProxyKind::Router,
        pod: "gateway".to_owned(),
        namespace: INFRA.to_owned(),
        ip: "10.1.1.1".parse().ok()?,
        labels: BTreeMap::from([("gateway.networking.k8s.io/gateway-name".to_owned(), told.gateway.clone())]),
        annotations: BTreeMap::new(),
        service_account: "default".to_owned(),
        container_ports: Vec::new(),
    };
    let call = Simulated {
        port: told.port,
        protocol: if told.protocol == "http" { CallProtocol::Http } else { CallProtocol::Tcp },
        tls: if told.tls { CallTls::Tls } else { CallTls::Plaintext },
        host: told.host.clone(),
        path: told.path.clone(),
        ..Simulated::default()
    };
    let outcome = simulate(&context.resources(&node), &call);
    let found = match &outcome.error {
        // Endpoints are not what is asked about.
        None | Some(CallError::NoCluster) => {
            let host = outcome.cluster.as_deref().and_then(|cluster| cluster.rsplit('|').next()).unwrap_or_default();
            host.split('.').next().unwrap_or_default().to_owned()
        }
        Some(CallError::NoVirtualHost | CallError::NoRoute) => "404".to_owned(),
        Some(CallError::NoFilterChain | CallError::NoListener) => "closed".to_owned(),
        Some(other) => format!("{other:?}"),
    };
    (found != told.to).then(|| format!("{told:?} comes to {found:?}: {outcome:?}"))
}
