//! What istiod knows of the API: its informers' stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateproof_mesh_config::istio::model::object::at;
use serde_json::Value;

use crate::api::{Action, Change};

/// Kinds that matter to proxies, beside those of Istio and the Gateway API.
const KINDS: [(&str, &str); 11] = [
    ("v1", "Namespace"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("v1", "Node"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "IngressClass"),
];

type Key = (String, String, String);

/// Objects by kind, namespace and name.
#[derive(Debug, Default)]
pub(super) struct Stores(BTreeMap<Key, Arc<Value>>);

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

fn group(object: &Value) -> &str {
    text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group)
}

/// Whether an object is of a kind that `/debug/configz` lists.
pub(super) fn is_configuration(object: &Value) -> bool {
    let group = group(object);
    group.ends_with(".istio.io") || group == "gateway.networking.k8s.io"
}

fn matters(object: &Value) -> bool {
    is_configuration(object) || KINDS.contains(&(text(object, "/apiVersion"), text(object, "/kind")))
}

fn key(object: &Value) -> Key {
    let kind = format!("{}/{}", group(object), text(object, "/kind"));
    (kind, text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

/// Whether a change from one to the other can change what a proxy is sent: a status written by someone cannot,
/// but for a pod's address and readiness.
fn differs(old: &Value, new: &Value) -> bool {
    let parts: &[&str] = match text(new, "/kind") {
        "Pod" => &["/metadata/uid", "/metadata/labels", "/metadata/annotations", "/metadata/deletionTimestamp", "/status/podIP"],
        "Deployment" | "Node" | "ServiceAccount" => &["/metadata/uid"],
        _ if at(new, "/metadata/generation").is_some() => {
            &["/metadata/uid", "/metadata/generation", "/metadata/labels", "/metadata/annotations", "/spec"]
        }
        _ => &[""],
    };
    parts.iter().any(|p| at(old, p) != at(new, p))
}

impl Stores {
    pub(super) fn put(&mut self, object: &Arc<Value>) -> bool {
        if !matters(object) {
            return false;
        }
        match self.0.insert(key(object), object.clone()) {
            Some(old) => differs(&old, object),
            None => true,
        }
    }

    /// Takes a change over; gives whether proxies have to be told.
    pub(super) fn take(&mut self, change: &Change) -> bool {
        match change.action {
            Action::Added | Action::Modified => self.put(&change.object),
            Action::Deleted => self.0.remove(&key(&change.object)).is_some(),
        }
    }

    pub(super) fn objects(&self) -> Vec<Arc<Value>> {
        self.0.values().cloned().collect()
    }

    /// One object; its kind with the API group before it, as in `apps/Deployment` and `/ConfigMap`.
    pub(super) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.0.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    /// Istio's and the Gateway API's objects.
    pub(super) fn configuration(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.0.values().filter(|o| is_configuration(o))
    }
}
