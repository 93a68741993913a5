//! Names, selectors and visibility as Istio resolves them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::scenario::KubeObject;

/// Labels of a pod.
pub(super) type Labels = BTreeMap<String, String>;

/// A host as an object of that namespace means it: a name without a dot is a Service beside the object.
/// Source: istio/istio `pilot/pkg/model`, `ResolveShortnameToFQDN`.
pub(super) fn qualified(host: &str, namespace: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains('.') || host.starts_with('*') { host } else { format!("{host}.{namespace}.svc.cluster.local") }
}

/// Whether a host of a Gateway, VirtualService or ServiceEntry (`*`, `*.suffix` or exact) is for this host.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase()),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// Whether every label that a selector names is there. An empty selector takes all.
pub(super) fn selects(selector: &Value, labels: &Labels) -> bool {
    selector.as_object().is_none_or(|all| all.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str()))
}

/// Labels from a map of texts.
pub(super) fn labels(value: Option<&Value>) -> Labels {
    let all = value.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `k=v, k=v`.
pub(super) fn shown(selector: &Value) -> String {
    let all = selector.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    all.collect::<Vec<_>>().join(", ")
}

/// The namespace of an object.
pub(super) fn namespace(object: &KubeObject) -> &str {
    object.key.namespace.as_deref().unwrap_or("default")
}

/// A text at a JSON pointer.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A list at a JSON pointer; empty when there is none.
pub(super) fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a list at a JSON pointer.
pub(super) fn texts<'v>(value: &'v Value, pointer: &str) -> Vec<&'v str> {
    list(value, pointer).iter().filter_map(Value::as_str).collect()
}

/// A port number.
pub(super) fn port(value: &Value, pointer: &str) -> Option<u16> {
    value.pointer(pointer).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())
}

/// Where an object says who may see it.
pub(super) fn export_field(object: &KubeObject) -> &'static str {
    if object.key.kind == "Service" { "metadata.annotations[networking.istio.io/exportTo]" } else { "spec.exportTo" }
}

/// To whom an object is shown, as written; empty for all.
pub(super) fn export_to(object: &KubeObject) -> Vec<String> {
    if object.key.kind == "Service" {
        let written = text(&object.value, "/metadata/annotations/networking.istio.io~1exportTo").unwrap_or_default();
        return written.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    }
    texts(&object.value, "/spec/exportTo").into_iter().map(str::to_owned).collect()
}

/// Whether proxies of a namespace see the object: `*`, `.` for its own, a namespace; nothing written is all.
/// Source: istio/api, `networking/v1alpha3`, field `export_to`.
pub(super) fn visible(object: &KubeObject, from: &str) -> bool {
    let all = export_to(object);
    all.is_empty() || all.iter().any(|to| to == "*" || to == from || (to == "." && from == namespace(object)))
}

/// The first few of some names, for people.
pub(super) fn few(names: impl IntoIterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    match all.len() {
        0 => "none".to_owned(),
        1..=6 => all.join(", "),
        n => format!("{} and {} more", all[..6].join(", "), n - 6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::names::ObjectKey;

    fn object(kind: &str, namespace: &str, value: Value) -> KubeObject {
        let key = ObjectKey {
            api_version: "networking.istio.io/v1".into(),
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: "x".into(),
        };
        KubeObject { key, value, line: 0 }
    }

    #[test]
    fn short_names_belong_to_the_namespace_and_wildcards_stay() {
        assert_eq!(qualified("till", "market"), "till.market.svc.cluster.local");
        assert_eq!(qualified("till.market", "x"), "till.market");
        assert_eq!(qualified("*", "x"), "*");
        assert!(covers("*.fair.test", "a.fair.test") && covers("*", "a") && covers("A.test", "a.test"));
        assert!(!covers("*.fair.test", "fair.test") && !covers("*.fair.test", "a.fair.test.org") && !covers("a.test", "b.test"));
    }

    #[test]
    fn export_to_decides_who_sees_an_object() {
        let entry = |to: Value| object("ServiceEntry", "market", json!({"spec": {"exportTo": to}}));
        assert!(visible(&entry(json!([])), "other") && visible(&entry(json!(["*"])), "other"));
        assert!(visible(&entry(json!(["."])), "market") && !visible(&entry(json!(["."])), "other"));
        assert!(visible(&entry(json!(["other"])), "other") && !visible(&entry(json!(["other"])), "market"));
        let service = object("Service", "market", json!({"metadata": {"annotations": {"networking.istio.io/exportTo": "., edge"}}}));
        assert!(visible(&service, "edge") && visible(&service, "market") && !visible(&service, "other"));
    }

    #[test]
    fn an_empty_selector_takes_all() {
        let pod = labels(Some(&json!({"app": "till", "v": "1"})));
        assert!(selects(&json!({}), &pod) && selects(&Value::Null, &pod) && selects(&json!({"app": "till"}), &pod));
        assert!(!selects(&json!({"app": "till", "v": "2"}), &pod));
    }
}
