//! What istiod makes of Gateway API's objects, by its own tests' files told again under `cases/istio-gateway-api` (see the README of
//! `cases`): Istio's objects that they come to, and what is written into their status.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gateproof_mesh_config::Snapshot;
use gateproof_mesh_config::gateway_api::{Converted, convert};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A certificate that is none, in the form of one.
const PEM: &str =
    "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
/// Services that the original has, each with port 80, 34000 and 34001.
const SERVICES: &str = "default/httpbin apple/httpbin-apple banana/httpbin-banana default/httpbin-second default/httpbin-wildcard \
    default/foo-svc default/httpbin-other default/example default/echo cert/httpbin service/my-svc allowed-1/a-example allowed-2/a-example \
    allowed-1/b-example allowed-1/svc2 allowed-2/svc2 allowed-1/svc1 allowed-2/svc3 default/svc4 group-namespace1/httpbin \
    group-namespace2/httpbin default/httpbin-zero istio-system/httpbin default/httpbin-mirror default/httpbin-foo default/httpbin-alt \
    istio-system/istiod istio-system/echo default/httpbin-bad default/echo-1 default/echo-2 default/echo-port default/not-found";
/// Secrets with a certificate.
const SECRETS: &str = "istio-system/my-cert-http ns2/ns2-cert ns3/ns3-cert ns4/ns4-cert istio-system/my-cert istio-system/my-cert-http2 \
    cert/cert bookinfo/bookinfo-secret bookinfo/another-secret";
/// Differences that stay, each with its reason.
const KNOWN: [(&str, &str); 3] = [
    ("http: status of Gateway istio-system/gateway:", "three of its routes are for InferencePools, and those are not told"),
    ("tls: Gateway istio-system gateway-invalid-ciphers", "ciphers that there are not are left out by those who make listeners"),
    ("tls: Gateway istio-system gateway-mixed-ciphers", "as above"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "source")]
    _source: String,
    objects: Vec<Value>,
    istio: Vec<Value>,
    status: Vec<Value>,
}

#[test]
fn gateway_api_comes_to_what_istiod_makes_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/istio-gateway-api");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("the folder").filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let (mut asked, mut differences) = (0, Vec::new());
    for path in paths {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let file: File = serde_saphyr::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("YAML");
        let converted = convert(&snapshot(&file));
        asked += file.istio.len() + file.status.len();
        let mut found = Vec::new();
        objects_differ(&file, &converted, &mut found);
        statuses_differ(&file, &converted, &mut found);
        differences.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    for (known, reason) in KNOWN {
        let before = differences.len();
        differences.retain(|difference| !difference.starts_with(known));
        assert!(differences.len() < before, "{known} does not differ any more: {reason}");
    }
    assert!(differences.is_empty(), "{} of {asked} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(asked > 250, "only {asked} were asked");
}

fn snapshot(file: &File) -> Snapshot {
    let metadata = |place: &str| {
        let (namespace, name) = place.split_once('/').unwrap_or_default();
        json!({"namespace": namespace, "name": name})
    };
    let mut objects: Vec<Value> = file.objects.iter().map(object).collect();
    let ports = json!([{"name": "http", "port": 80}, {"name": "tcp", "port": 34000}, {"name": "tcp-other", "port": 34001}]);
    for place in SERVICES.split_whitespace() {
        objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(place), "spec": {"ports": ports}}));
    }
    objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("istio-system/istio-ingressgateway"),
        "spec": {"ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}, {"name": "tcp", "port": 34000}, {"name": "tcp-other", "port": 34001}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}));
    objects.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"namespace": "istio-system", "name": "s",
            "labels": {"kubernetes.io/service-name": "istio-ingressgateway"}},
        "endpoints": [{"addresses": ["1.1.1.1"]}],
        "ports": [{"name": "http", "port": 8080}, {"name": "https", "port": 1}, {"name": "tcp", "port": 1}, {"name": "tcp-other", "port": 1}]}));
    for (place, host) in [("istio-system/example", "example.com"), ("default/google", "google.com")] {
        let ports = json!([{"number": 80}, {"number": 34000}, {"number": 34001}]);
        objects.push(json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata(place),
            "spec": {"hosts": [host], "ports": ports}}));
    }
    for place in SECRETS.split_whitespace() {
        let data = json!({"tls.crt": PEM, "tls.key": PEM, "ca.crt": PEM});
        objects.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(place), "stringData": data}));
    }
    let broken = json!({"tls.crt": "SGVsbG8gd29ybGQK", "tls.key": "SGVsbG8gd29ybGQK"});
    objects.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("istio-system/malformed"), "data": broken}));
    for (place, key, value) in [
        ("istio-system/malformed", "not-ca.crt", "hello"),
        ("istio-system/malformed-trustbundle", "ca.crt", "hello"),
        ("istio-system/my-cert-http", "ca.crt", PEM),
        ("default/malformed", "not-ca.crt", "hello"),
        ("default/auth-cert", "ca.crt", PEM),
    ] {
        objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(place), "data": {key: value}}));
    }
    let namespaces: std::collections::BTreeSet<String> =
        file.objects.iter().filter_map(|told| told.get("in")?.as_str().map(str::to_owned)).collect();
    for namespace in namespaces {
        let part = namespace.split('-').next().unwrap_or_default();
        let metadata = json!({"name": namespace, "labels": {"istio.io/test-name-part": part}});
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    let objects = objects.into_iter().map(Arc::new).collect();
    Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "domain.suffix".to_owned() }
}

/// An object from its short form: `{KIND: NAME, in: NAMESPACE, ...}`.
fn object(told: &Value) -> Value {
    let (kind, name) = kind_and_name(told);
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    let mut out = Map::new();
    for (key, value) in told.as_object().into_iter().flatten().filter(|(key, _)| **key != kind) {
        match key.as_str() {
            "in" => metadata.insert("namespace".to_owned(), value.clone()),
            "created" => metadata.insert("creationTimestamp".to_owned(), value.clone()),
            "labels" | "annotations" => metadata.insert(key.clone(), value.clone()),
            _ => out.insert(key.clone(), value.clone()),
        };
    }
    let version = match kind.as_str() {
        "Secret" | "ConfigMap" | "Service" | "Namespace" => "v1",
        "ServiceEntry" => "networking.istio.io/v1",
        _ => "gateway.networking.k8s.io/v1",
    };
    out.insert("apiVersion".to_owned(), json!(version));
    out.insert("kind".to_owned(), json!(kind));
    out.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(out)
}

fn kind_and_name(told: &Value) -> (String, String) {
    let mut fields = told.as_object().expect("an object").iter();
    let (kind, name) = fields.find(|(key, _)| key.starts_with(|first: char| first.is_ascii_uppercase())).expect("a kind");
    (kind.clone(), name.as_str().unwrap_or_default().to_owned())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn objects_differ(file: &File, converted: &Converted, out: &mut Vec<String>) {
    let place =
        |object: &Value| [text(object, "/kind"), text(object, "/metadata/namespace"), text(object, "/metadata/name")].map(str::to_owned);
    let mut found: BTreeMap<[String; 3], &Value> = converted.objects.iter().map(|object| (place(object), object.as_ref())).collect();
    for told in &file.istio {
        let (kind, name) = kind_and_name(told);
        let key = [kind, text(told, "/in").to_owned(), name];
        let Some(object) = found.remove(&key) else {
            out.push(format!("{} is not there", key.join(" ")));
            continue;
        };
        for (annotation, value) in told.get("of").and_then(Value::as_object).into_iter().flatten() {
            let ours = text(object, &format!("/metadata/annotations/internal.istio.io~1{annotation}"));
            if value.as_str() != Some(ours) {
                out.push(format!("{}: {annotation} is {ours:?} for {value}", key.join(" ")));
            }
        }
        let (ours, theirs) = (plain(&object["spec"]), plain(&told["spec"]));
        if ours != theirs {
            out.push(format!("{}:\n  ours   {ours}\n  theirs {theirs}", key.join(" ")));
        }
    }
    out.extend(found.into_keys().map(|key| format!("{} is one too many", key.join(" "))));
}

/// Without what is a default, and numbers all of one kind.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(key, value)| !(*key == "mode" && *value == "PASSTHROUGH"));
            Value::Object(fields.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        Value::Number(number) => json!(number.as_f64()),
        Value::String(text) => match text.strip_suffix("ms").and_then(|number| number.parse::<f64>().ok()) {
            Some(milliseconds) => json!(format!("{}s", milliseconds / 1000.0)),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

/// Conditions in short: the reason, or `not: REASON`.
fn short(conditions: &Value) -> Map<String, Value> {
    let short = conditions.as_array().into_iter().flatten().map(|one| {
        let not = if text(one, "/status") == "True" { "" } else { "not: " };
        (text(one, "/type").to_owned(), json!(format!("{not}{}", text(one, "/reason"))))
    });
    short.collect()
}

fn statuses_differ(file: &File, converted: &Converted, out: &mut Vec<String>) {
    for told in &file.status {
        let (kind, name) = kind_and_name(told);
        let namespace = text(told, "/in");
        let same = |status: &&gateproof_mesh_config::gateway_api::Status| {
            status.kind == kind && status.namespace == namespace && status.name == name
        };
        let Some(found) = converted.statuses.iter().find(same) else {
            out.push(format!("{kind} {namespace}/{name} has no status"));
            continue;
        };
        let found = &found.status;
        let mut ours = Map::from_iter([(kind.clone(), json!(name)), ("in".to_owned(), json!(namespace))]);
        if let Some(parents) = found.get("parents").and_then(Value::as_array) {
            let parents = parents.iter().map(|parent| {
                let mut entry = short(&parent["conditions"]);
                entry.insert("of".to_owned(), parent["parentRef"].clone());
                Value::Object(entry)
            });
            ours.insert("parents".to_owned(), parents.collect());
        } else {
            ours.insert("is".to_owned(), Value::Object(short(&found["conditions"])));
            if let Some(addresses) = found.get("addresses").and_then(Value::as_array) {
                ours.insert("addresses".to_owned(), addresses.iter().map(|address| address["value"].clone()).collect());
            }
            let listeners = found.get("listeners").and_then(Value::as_array).into_iter().flatten().map(|listener| {
                let mut entry = short(&listener["conditions"]);
                entry.insert("routes".to_owned(), listener["attachedRoutes"].clone());
                let kinds = listener["supportedKinds"].as_array().into_iter().flatten();
                entry.insert("kinds".to_owned(), kinds.map(|kind| kind["kind"].clone()).collect());
                (text(listener, "/name").to_owned(), Value::Object(entry))
            });
            let listeners: Map<String, Value> = listeners.collect();
            if !listeners.is_empty() {
                ours.insert("listeners".to_owned(), Value::Object(listeners));
            }
        }
        let (ours, theirs) = (plain(&Value::Object(ours)), plain(told));
        if ours != theirs {
            out.push(format!("status of {kind} {namespace}/{name}:\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
}
