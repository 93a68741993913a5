//! What Istio and Gateway API objects refer to.

use serde_json::Value;

use crate::names::{Namespaced, ObjectKey};
use crate::scenario::KubeObject;

/// A reference from one object's field to something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The field, as a JSON pointer.
    pub(super) field: String,
    pub(super) target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// An object by group, kind, namespace and name.
    Object { group: &'static str, kind: String, at: Namespaced },
    /// A host of the service registry, fully qualified, and perhaps a subset of it.
    Host { host: String, subset: Option<String> },
    /// A TLS secret beside a gateway's pods; a Gateway's namespace does not count.
    Credential { name: String },
}

pub(super) const ISTIO: &str = "networking.istio.io";
/// The group of Gateway API: Gateways, routes and grants.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Short names belong to the namespace of whoever uses them.
pub(super) fn qualified(host: &str, namespace: &str) -> String {
    if host.contains('.') || host == "*" { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") }
}

/// Every reference that the object makes, in the order of its fields.
pub(super) fn references(object: &KubeObject) -> Vec<Reference> {
    let mut out = Vec::new();
    let namespace = object.key.namespace.as_deref().unwrap_or("default");
    let spec = object.value.get("spec").unwrap_or(&Value::Null);
    match (object.key.group(), object.key.kind.as_str()) {
        (ISTIO, "VirtualService") => {
            gateway_names(spec.get("gateways"), "/spec/gateways", namespace, &mut out);
            walk(spec, "/spec", &mut |field, key, value| match (key, value) {
                ("gateways", _) if field != "/spec/gateways" => gateway_names(Some(value), field, namespace, &mut out),
                ("destination" | "mirror", Value::Object(_)) => destination(value, field, namespace, &mut out),
                ("delegate", Value::Object(d)) => {
                    let text = |key: &str| d.get(key).and_then(Value::as_str);
                    out.extend(text("name").map(|name| Reference {
                        field: field.to_owned(),
                        target: object_at(ISTIO, "VirtualService", text("namespace").unwrap_or(namespace), name),
                    }));
                }
                _ => {}
            });
        }
        (ISTIO, "DestinationRule") => {
            if let Some(host) = spec.get("host").and_then(Value::as_str) {
                out.push(Reference {
                    field: "/spec/host".to_owned(),
                    target: Target::Host { host: qualified(host, namespace), subset: None },
                });
            }
        }
        (ISTIO, "Gateway") => {
            walk(spec, "/spec", &mut |field, key, value| {
                if let ("credentialName", Value::String(name)) = (key, value) {
                    out.push(Reference { field: field.to_owned(), target: Target::Credential { name: name.clone() } });
                }
            });
        }
        (GATEWAY_API, kind) => {
            walk(spec, "/spec", &mut |field, key, value| {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    let default = match (key, kind) {
                        ("parentRefs", _) => (GATEWAY_API, "Gateway"),
                        ("backendRefs", _) => ("", "Service"),
                        ("certificateRefs", "Gateway") => ("", "Secret"),
                        _ => continue,
                    };
                    let text = |key: &str| item.get(key).and_then(Value::as_str);
                    let group = match text("group") {
                        None => default.0,
                        Some("" | "core") => "",
                        Some(GATEWAY_API) => GATEWAY_API,
                        Some(ISTIO) => ISTIO,
                        Some(_) => continue,
                    };
                    let Some(name) = text("name") else { continue };
                    let kind = text("kind").unwrap_or(default.1);
                    let at = text("namespace").unwrap_or(namespace);
                    let target = match kind {
                        "Hostname" => Target::Host { host: name.to_owned(), subset: None },
                        _ => object_at(group, kind, at, name),
                    };
                    out.push(Reference { field: format!("{field}/{i}"), target });
                }
            });
        }
        _ => {}
    }
    out
}

fn object_at(group: &'static str, kind: &str, namespace: &str, name: &str) -> Target {
    Target::Object { group, kind: kind.to_owned(), at: Namespaced { namespace: namespace.to_owned(), name: name.to_owned() } }
}

fn gateway_names(list: Option<&Value>, field: &str, namespace: &str, out: &mut Vec<Reference>) {
    for (i, name) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(name) = name.as_str().filter(|n| *n != "mesh") else { continue };
        let (namespace, name) = name.split_once('/').map_or((namespace, name), |(ns, n)| (if ns == "." { namespace } else { ns }, n));
        out.push(Reference { field: format!("{field}/{i}"), target: object_at(ISTIO, "Gateway", namespace, name) });
    }
}

fn destination(value: &Value, field: &str, namespace: &str, out: &mut Vec<Reference>) {
    let Some(host) = value.get("host").and_then(Value::as_str) else { return };
    let host = qualified(host, namespace);
    if let Some(subset) = value.get("subset").and_then(Value::as_str) {
        out.push(Reference {
            field: format!("{field}/subset"),
            target: Target::Host { host: host.clone(), subset: Some(subset.to_owned()) },
        });
    }
    out.push(Reference { field: format!("{field}/host"), target: Target::Host { host, subset: None } });
}

/// Visits every field below a value with its pointer and its key.
pub(super) fn walk(value: &Value, at: &str, visit: &mut dyn FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let here = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                visit(&here, key, value);
                walk(value, &here, visit);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(item, &format!("{at}/{i}"), visit);
            }
        }
        _ => {}
    }
}

/// Whether an object provides what a reference wants.
pub(super) fn provides(object: &KubeObject, target: &Target) -> bool {
    let ObjectKey { kind, namespace, name, .. } = &object.key;
    match target {
        Target::Object { group, kind: wanted, at } => {
            object.key.group() == *group && kind == wanted && namespace.as_deref() == Some(&at.namespace) && *name == at.name
        }
        Target::Host { host, subset: None } => hosts(object).iter().any(|h| host_matches(h, host)),
        Target::Host { host, subset: Some(subset) } => {
            let spec = object.value.get("spec");
            let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
            object.key.group() == ISTIO
                && kind == "DestinationRule"
                && spec
                    .and_then(|s| text(s, "host"))
                    .is_some_and(|h| host_matches(&qualified(&h, namespace.as_deref().unwrap_or_default()), host))
                && spec
                    .and_then(|s| s.get("subsets")?.as_array())
                    .is_some_and(|all| all.iter().any(|s| text(s, "name").as_deref() == Some(subset)))
        }
        Target::Credential { name: wanted } => kind == "Secret" && name == wanted,
    }
}

fn hosts(object: &KubeObject) -> Vec<String> {
    match (object.key.group(), object.key.kind.as_str(), &object.key.namespace) {
        ("", "Service", Some(namespace)) => vec![format!("{}.{namespace}.svc.cluster.local", object.key.name)],
        (ISTIO, "ServiceEntry", _) => {
            let hosts = object.value.pointer("/spec/hosts").and_then(Value::as_array);
            hosts.into_iter().flatten().filter_map(|h| h.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// `*.suffix` and `*` on either side cover what the other names.
fn host_matches(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, host: &str| pattern.strip_prefix('*').is_some_and(|suffix| host.trim_start_matches('*').ends_with(suffix));
    one == other || covers(one, other) || covers(other, one)
}
