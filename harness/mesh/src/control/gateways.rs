//! What istiod writes for Gateway API: its GatewayClasses, statuses, and the workloads of Gateways.
//! Source: istio/istio `pilot/pkg/config/kube/gatewaycommon/{gatewayclass,deploymentcontroller}.go`, `pilot/pkg/status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateproof_mesh_config::gateway_api::{CLASSES, Status};
use gateproof_mesh_config::istio::model::object::at;
use serde_json::{Value, json};

use crate::api::Store;

/// The field manager of istiod's writes.
const MANAGER: &str = "istio.io/gateway-controller";
const GROUP: &str = "gateway.networking.k8s.io";

/// What was applied last, by kind, namespace and name.
pub(super) type Applied = BTreeMap<(String, String, String), Arc<Value>>;

/// Makes Istio's own GatewayClasses where they are not there.
pub(super) fn make_classes(store: &Store) -> Vec<String> {
    let kind = format!("{GROUP}/GatewayClass");
    let missing = CLASSES.iter().filter(|class| store.get(&kind, "", class.name).is_none());
    let refused = missing.filter_map(|class| {
        let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": class.name},
            "spec": {"controllerName": class.controller, "description": class.description}});
        let error = store.create(object, MANAGER).err()?;
        Some(format!("gateway class\tGatewayClass {} was not made: {error}", class.name))
    });
    refused.collect()
}

/// Writes the statuses that changed; gives what could not be written.
pub(super) fn write_statuses(store: &Store, statuses: &[Status], now: &str) -> Vec<String> {
    let mut refused = Vec::new();
    for status in statuses {
        let kind = format!("{GROUP}/{}", status.kind);
        // One that has gone meanwhile needs none.
        let Some(object) = store.get(&kind, &status.namespace, &status.name) else { continue };
        let there = object.get("status").unwrap_or(&Value::Null);
        let mut wanted = status.status.clone();
        stamp(&mut wanted, there, now);
        if is_there(&wanted, there) {
            continue;
        }
        if let Err(error) = store.patch_status(&kind, &status.namespace, &status.name, &wanted, MANAGER) {
            refused.push(format!("status\tfailed to write the status of {} {}/{}: {error}", status.kind, status.namespace, status.name));
        }
    }
    refused
}

/// Whether every field of a status is as it is wanted; null is not there.
fn is_there(wanted: &Value, there: &Value) -> bool {
    let mut fields = wanted.as_object().into_iter().flatten();
    fields.all(|(field, value)| there.get(field).unwrap_or(&Value::Null) == value)
}

/// Gives each condition the time since when it has its status: that of the same condition before, or now
/// (Istio: `kstatus.UpdateConditionIfChanged`).
fn stamp(wanted: &mut Value, there: &Value, now: &str) {
    stamp_conditions(wanted, there, now);
    for (list, same) in [("listeners", "name"), ("parents", "parentRef")] {
        let entries = wanted.get_mut(list).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let others = there.get(list).and_then(Value::as_array);
            let is_same = |other: &&Value| other.get(same) == entry.get(same) && other.get("controllerName") == entry.get("controllerName");
            let before = others.into_iter().flatten().find(is_same).cloned().unwrap_or_default();
            stamp_conditions(entry, &before, now);
        }
    }
}

fn stamp_conditions(wanted: &mut Value, there: &Value, now: &str) {
    for condition in wanted.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(fields) = condition.as_object_mut().filter(|fields| !fields.contains_key("lastTransitionTime")) else { continue };
        let same = |other: &&Value| ["type", "status"].iter().all(|field| other.get(field) == fields.get(*field));
        let mut before = there.get("conditions").and_then(Value::as_array).into_iter().flatten();
        let since = before.find(same).and_then(|other| other.get("lastTransitionTime")).cloned();
        fields.insert("lastTransitionTime".to_owned(), since.unwrap_or_else(|| json!(now)));
    }
}

/// Applies what is wanted and is not there as it was applied last; gives what could not be applied. What is not wanted any more goes
/// with the Gateway that owns it.
pub(super) fn apply(store: &Store, wanted: Vec<Arc<Value>>, applied: &mut Applied) -> Vec<String> {
    let mut refused = Vec::new();
    let mut now = Applied::new();
    for object in wanted {
        let text = |pointer: &str| at(&object, pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let group = text("/apiVersion").split_once('/').map_or(String::new(), |(group, _)| format!("{group}/"));
        let key = (format!("{group}{}", text("/kind")), text("/metadata/namespace"), text("/metadata/name"));
        let is_there = applied.get(&key) == Some(&object) && store.get(&key.0, &key.1, &key.2).is_some();
        if !is_there && let Err(error) = store.apply(Value::clone(&object), MANAGER) {
            refused.push(format!("gateway\tapply failed: {} {}/{}: {error}", key.0, key.1, key.2));
            continue;
        }
        now.insert(key, object);
    }
    *applied = now;
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_is_the_same() {
        let condition = |status: &str, reason: &str| json!({"type": "Accepted", "status": status, "reason": reason});
        let of = |condition: Value| json!({"listeners": [{"name": "a", "conditions": [condition]}], "conditions": []});
        let mut there = of(condition("True", "Accepted"));
        stamp(&mut there, &Value::Null, "then");
        let since = |status: &str, reason: &str| {
            let mut wanted = of(condition(status, reason));
            stamp(&mut wanted, &there, "now");
            wanted["listeners"][0]["conditions"][0]["lastTransitionTime"].clone()
        };
        assert_eq!(since("True", "ListenersNotValid"), "then");
        assert_eq!(since("False", "Invalid"), "now");
        let mut same = of(condition("True", "Accepted"));
        stamp(&mut same, &there, "now");
        assert!(is_there(&same, &there));
        assert!(is_there(&json!({"listeners": null}), &json!({})));
    }
}
