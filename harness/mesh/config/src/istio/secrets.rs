//! Secrets that listeners and clusters ask istiod for by name (Istio: `pilot/pkg/xds/sds.go`, `pilot/pkg/credentials`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::PushContext;
use super::model::object;
use crate::{ProxyNode, ProxyResources, Secret};

/// What a name ends in if it means the CA of a Secret.
const CA: &str = "-cacert";

/// The Secrets, of the proxy's own namespace, that its resources name and that hold what the name means.
pub(super) fn asked_for(context: &PushContext, node: &ProxyNode, resources: &ProxyResources) -> BTreeMap<String, Arc<Secret>> {
    let names = context.remembered.names.of(resources.listeners.values().chain(resources.clusters.values()));
    names.into_iter().filter_map(|name| Some((name.to_string(), Arc::new(secret(context, node, &name)?)))).collect()
}

/// The names in resources that were looked through before. An entry holds its resource, so that its address stands for nothing else
/// meanwhile.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<usize, Known>>);

/// A resource with the names in it.
type Known = (Arc<Value>, Arc<[Arc<str>]>);

impl Names {
    fn of<'a>(&self, resources: impl Iterator<Item = &'a Arc<Value>>) -> BTreeSet<Arc<str>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = BTreeSet::new();
        for resource in resources {
            let (_, names) = known.entry(Arc::as_ptr(resource) as usize).or_insert_with(|| {
                let mut names = BTreeSet::new();
                names_in(resource, &mut names);
                (resource.clone(), names.into_iter().map(Arc::from).collect())
            });
            all.extend(names.iter().cloned());
        }
        all
    }

    /// Forgets resources that nobody else holds.
    pub(super) fn forget_unused(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (resource, _)| Arc::strong_count(resource) > 1);
    }
}

/// Names of SDS secrets that come from Kubernetes.
fn names_in<'a>(value: &'a Value, names: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let (Some(Value::String(name)), true) = (fields.get("name"), fields.contains_key("sds_config")) {
                names.insert(name);
            }
            fields.values().for_each(|value| names_in(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| names_in(value, names)),
        _ => {}
    }
}

fn secret(context: &PushContext, node: &ProxyNode, name: &str) -> Option<Secret> {
    let (kind, path) = match name.split_once("://")? {
        ("kubernetes" | "kubernetes-gateway", path) => ("Secret", path),
        ("configmap", path) => ("ConfigMap", path),
        _ => return None,
    };
    let (namespace, path) = path.split_once('/').unwrap_or((&node.namespace, path));
    // A proxy gets Secrets of its own namespace alone, whatever another object names.
    if kind == "Secret" && namespace != node.namespace && !name.starts_with("kubernetes-gateway://") {
        return None;
    }
    let found = |name: &str| context.object(kind, namespace, name);
    if let Some(base) = path.strip_suffix(CA) {
        // A Secret beside the certificate's counts before the CA within that.
        let of = |name: &str| found(name).and_then(|object| ca(object));
        return of(path).or_else(|| of(base)).map(|ca_pem| Secret { ca_pem, ..Secret::default() });
    }
    let object = found(path)?;
    let pair = |chain: &str, key: &str| Some((data(object, chain)?, data(object, key)?));
    let (chain_pem, key_pem) = pair("cert", "key").or_else(|| pair("tls.crt", "tls.key"))?;
    Some(Secret { chain_pem, key_pem, ca_pem: String::new() })
}

/// The CA of a Secret or ConfigMap (Istio: `ExtractRoot`).
fn ca(object: &Value) -> Option<String> {
    data(object, "cacert").or_else(|| data(object, "ca.crt"))
}

/// An entry of a Secret (in base64, or plainly in `stringData`) or of a ConfigMap, if it is not empty.
fn data(object: &Value, key: &str) -> Option<String> {
    let entry = |at: &str| object.get(at)?.get(key)?.as_str();
    let text = if object::text(object, "/kind") == "ConfigMap" {
        entry("data")?.to_owned()
    } else if let Some(text) = entry("stringData") {
        text.to_owned()
    } else {
        String::from_utf8(STANDARD.decode(entry("data")?.trim()).ok()?).ok()?
    };
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::json;

    use super::*;
    use crate::{ProxyKind, Snapshot};

    #[test]
    fn a_name_finds_a_certificate_or_a_ca_in_the_proxys_namespace() {
        let secret = |name: &str, namespace: &str, data: Value| {
            Arc::new(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}))
        };
        let coded = |text: &str| STANDARD.encode(text);
        let context = PushContext::new(&Snapshot {
            objects: vec![
                secret("one", "a", json!({"tls.crt": coded("chain"), "tls.key": coded("key"), "ca.crt": coded("ca")})),
                secret("two", "a", json!({"cert": coded("chain"), "key": coded("key")})),
                secret("two-cacert", "a", json!({"cacert": coded("beside")})),
                secret("three", "b", json!({"tls.crt": coded("chain"), "tls.key": coded("key")})),
                secret("empty", "a", json!({"tls.crt": "", "tls.key": coded("key")})),
            ],
            root_namespace: "istio-system".to_owned(),
            domain: "cluster.local".to_owned(),
        });
        let node = ProxyNode {
            kind: ProxyKind::Router,
            pod: "p".to_owned(),
            namespace: "a".to_owned(),
            ip: IpAddr::from([10, 0, 0, 1]),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            service_account: "s".to_owned(),
            container_ports: Vec::new(),
        };
        let names = ["one", "one-cacert", "two", "two-cacert", "three", "empty", "missing"];
        let configs: Vec<Value> = names.iter().map(|name| json!({"name": format!("kubernetes://{name}"), "sds_config": {}})).collect();
        let listener = Arc::new(json!({"filter_chains": configs}));
        let resources = ProxyResources { listeners: BTreeMap::from([("l".to_owned(), listener)]), ..ProxyResources::default() };
        let found = asked_for(&context, &node, &resources);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["kubernetes://one", "kubernetes://one-cacert", "kubernetes://two", "kubernetes://two-cacert"]);
        assert_eq!(found["kubernetes://one"].key_pem, "key");
        assert_eq!(found["kubernetes://one-cacert"].ca_pem, "ca");
        assert_eq!(found["kubernetes://two-cacert"].ca_pem, "beside");
    }
}
