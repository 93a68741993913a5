//! Reading objects as JSON.

use std::collections::BTreeMap;

use gateproof_mesh_config::istio::model::object::at;
use serde_json::{Value, json};

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(object: &Value, pointer: &str) -> Option<i64> {
    at(object, pointer).and_then(Value::as_i64)
}

pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(super) fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// A map of texts: labels, annotations, data.
pub(super) fn texts(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = at(object, pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

pub(super) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, "/metadata/labels")?.get(key)?.as_str()
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, "/metadata/annotations")?.get(key)?.as_str()
}

/// Whether one of an object's conditions holds.
pub(super) fn has_condition(object: &Value, kind: &str) -> bool {
    list(object, "/status/conditions").iter().any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
}

/// A pod that takes traffic.
pub(super) fn is_ready(pod: &Value) -> bool {
    has_condition(pod, "Ready")
}

/// Whose it is: uid of the controller among the owners.
pub(super) fn controller(object: &Value) -> &str {
    list(object, "/metadata/ownerReferences").iter().find(|o| o["controller"] == true).map(|o| text(o, "/uid")).unwrap_or_default()
}

/// A reference by which an object belongs to its controller.
pub(super) fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": name(object), "uid": uid(object),
        "controller": true, "blockOwnerDeletion": true})
}

/// Now, as Kubernetes writes it.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Conditions with their times: that of one that did not change is kept.
pub(super) fn with_times(conditions: Vec<Value>, before: &Value) -> Vec<Value> {
    let now = now();
    conditions
        .into_iter()
        .map(|mut condition| {
            let earlier = list(before, "/status/conditions").iter().find(|c| c["type"] == condition["type"]);
            let is_same = earlier.is_some_and(|e| e["status"] == condition["status"]);
            let time = earlier.filter(|_| is_same).map_or_else(|| json!(now), |e| e["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = time;
            if condition.get("lastUpdateTime").is_some() {
                let unchanged = earlier.filter(|e| is_same && e["reason"] == condition["reason"] && e["message"] == condition["message"]);
                condition["lastUpdateTime"] = unchanged.map_or_else(|| json!(now), |e| e["lastUpdateTime"].clone());
            }
            condition
        })
        .collect()
}

/// `2` or `25%` of a number, percentages rounded as told.
pub(super) fn share(value: Option<&Value>, of: i64, round_up: bool, default: i64) -> i64 {
    match value {
        Some(Value::Number(n)) => n.as_i64().unwrap_or(default),
        Some(Value::String(text)) => match text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()) {
            Some(percent) if round_up => (of * percent + 99) / 100,
            Some(percent) => of * percent / 100,
            None => text.parse().unwrap_or(default),
        },
        _ => default,
    }
}

/// Sets a value deep in an object; what stands in the way and is no map becomes one.
pub(super) fn put(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for key in path {
        if !at.is_object() {
            *at = json!({});
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(*key).or_insert(Value::Null);
    }
    *at = value;
}
