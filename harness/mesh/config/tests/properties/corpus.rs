//! Objects to begin with.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// The objects of all sources.
pub(crate) struct Corpus {
    /// Those of `objects.yaml`, which belong together.
    pub(crate) always: Vec<Value>,
    /// All others.
    pub(crate) others: Vec<Value>,
}

/// Read once.
pub(crate) static CORPUS: LazyLock<Corpus> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let always: Vec<Value> = read(&root.join("tests/properties/objects.yaml")).as_array().cloned().expect("a list");
    let mut others = Vec::new();
    for folder in ["cases/istio", "cases/istio-gateway-api", "cases/gateway-api-listeners"] {
        for path in files(&root.join(folder), "yaml") {
            gather(&read(&path), &mut others);
        }
    }
    for path in files(&root.join("src/istio/testdata/captured"), "json") {
        let captured = read(&path);
        others.extend(captured["objects"].as_array().into_iter().flatten().filter(|object| object["kind"] != "ConfigMap").cloned());
    }
    others.extend(always.iter().cloned());
    Corpus { always, others }
});

fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Finds objects in their short form (`{KIND: NAME, in: NAMESPACE, spec: …}`) wherever they are.
fn gather(value: &Value, out: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            let kind = fields.iter().find(|(key, name)| key.starts_with(|first: char| first.is_ascii_uppercase()) && name.is_string());
            match kind.and_then(|(kind, name)| Some((kind, name, api_version(kind, fields)?))) {
                Some((kind, name, version)) => out.push(whole(kind, name, version, fields)),
                None => fields.values().for_each(|inner| gather(inner, out)),
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| gather(inner, out)),
        _ => {}
    }
}

fn whole(kind: &str, name: &Value, version: &str, fields: &Map<String, Value>) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}});
    for (key, value) in fields.iter().filter(|(key, _)| *key != kind) {
        match key.as_str() {
            "in" => object["metadata"]["namespace"] = value.clone(),
            "created" => object["metadata"]["creationTimestamp"] = value.clone(),
            "labels" | "annotations" => object["metadata"][key] = value.clone(),
            _ => object[key] = value.clone(),
        }
    }
    object
}

fn api_version(kind: &str, fields: &Map<String, Value>) -> Option<&'static str> {
    Some(match kind {
        "Gateway" if fields.get("spec").is_some_and(|spec| spec.get("listeners").is_some()) => "gateway.networking.k8s.io/v1",
        "Gateway" | "VirtualService" | "DestinationRule" | "ServiceEntry" | "Sidecar" => "networking.istio.io/v1",
        "PeerAuthentication" => "security.istio.io/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "GatewayClass" | "HTTPRoute" | "GRPCRoute" | "TLSRoute" | "TCPRoute" => "gateway.networking.k8s.io/v1",
        "ReferenceGrant" => "gateway.networking.k8s.io/v1beta1",
        "Service" | "Secret" | "ConfigMap" | "Namespace" | "Pod" => "v1",
        _ => return None,
    })
}

/// The object as the API has it: a mesh configuration, which is told as fields here, is a text in a ConfigMap.
pub(crate) fn as_stored(object: &Value) -> Value {
    if object["kind"] != "MeshConfig" {
        return object.clone();
    }
    let mesh = object.get("mesh").map(ToString::to_string).unwrap_or_default();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}})
}
