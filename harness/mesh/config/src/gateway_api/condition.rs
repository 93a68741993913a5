//! Conditions of a status.

use serde_json::{Value, json};

use super::Fault;
use crate::istio::model::object;

/// A condition that holds, or the fault that is there instead.
pub(super) fn good(owner: &Value, kind: &str, reason: &str, message: &str, fault: Option<&Fault>) -> Value {
    match fault {
        None => condition(owner, kind, true, reason, message),
        Some(fault) => condition(owner, kind, false, fault.reason, &fault.message),
    }
}

/// A condition, without the time since when it is so.
pub(super) fn condition(owner: &Value, kind: &str, is_true: bool, reason: &str, message: &str) -> Value {
    let generation = owner.pointer("/metadata/generation").cloned().unwrap_or(json!(0));
    let status = if is_true { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation})
}

/// Conditions of ours among those that are there: each in the place of its type, new ones at the end. Conditions of types in `gone`
/// are taken away; those of others stay as they are.
pub(super) fn among(there: &[Value], ours: Vec<Value>, gone: &[&str]) -> Vec<Value> {
    let mut all: Vec<Value> = there.iter().filter(|one| !gone.contains(&object::text(one, "/type"))).cloned().collect();
    for one in ours {
        match all.iter_mut().find(|other| object::text(other, "/type") == object::text(&one, "/type")) {
            Some(place) => *place = one,
            None => all.push(one),
        }
    }
    all
}
