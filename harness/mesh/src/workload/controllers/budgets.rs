//! PodDisruptionBudgets: how many of their pods may go.
//!
//! Source: Kubernetes `pkg/controller/disruption/disruption.go`. Pods count as expected where their controllers' replicas would:
//! the two differ only while a controller is at work.

use serde_json::{Value, json};

use super::view::{self, is_deleting, is_ready, text};
use super::{Controllers, MANAGER};
use crate::api::Selector;

const KIND: &str = "policy/PodDisruptionBudget";

/// What a budget says of its pods.
fn status(budget: &Value, expected: i64, healthy: i64) -> Value {
    let spec = &budget["spec"];
    let desired = match spec.get("maxUnavailable") {
        Some(most) if !most.is_null() => (expected - view::share(Some(most), expected, true, 0)).max(0),
        _ => view::share(spec.get("minAvailable"), expected, true, 1),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let (holds, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let condition = json!({"type": "DisruptionAllowed", "status": holds, "reason": reason, "message": "",
        "observedGeneration": budget["metadata"]["generation"]});
    json!({"currentHealthy": healthy, "desiredHealthy": desired, "disruptionsAllowed": allowed, "expectedPods": expected,
        "observedGeneration": budget["metadata"]["generation"], "conditions": view::with_times(vec![condition], budget)})
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Controllers {
    /// Brings a budget's status up to date.
    pub(super) fn budget(&self, ns: &str, name: &str) {
        let Some(budget) = self.store.get(KIND, ns, name).filter(|budget| !is_deleting(budget)) else { return };
        let selector = Selector::of_labels(&budget["spec"]["selector"]);
        let mut pods = self.store.list("Pod", Some(ns));
        pods.retain(|pod| selector.matches(pod) && !["Failed", "Succeeded"].contains(&text(pod, "/status/phase")));
        let healthy = pods.iter().filter(|pod| is_ready(pod) && !is_deleting(pod)).count();
        let wanted = status(&budget, count(pods.len()), count(healthy));
        if budget["status"] == wanted {
            return;
        }
        if let Err(error) = self.store.patch_status(KIND, ns, name, &wanted, MANAGER) {
            tracing::debug!(%error, ns, name, "a budget's status was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_allows_what_is_above_its_need() {
        let of = |spec: Value, expected: i64, healthy: i64| {
            let status = status(&json!({"metadata": {"generation": 1}, "spec": spec}), expected, healthy);
            (status["desiredHealthy"].as_i64().unwrap(), status["disruptionsAllowed"].as_i64().unwrap())
        };
        assert_eq!(of(json!({"minAvailable": 1}), 1, 1), (1, 0));
        assert_eq!(of(json!({"minAvailable": 1}), 2, 2), (1, 1));
        assert_eq!(of(json!({"minAvailable": "50%"}), 3, 3), (2, 1));
        assert_eq!(of(json!({"maxUnavailable": 1}), 3, 2), (2, 0));
        assert_eq!(of(json!({"maxUnavailable": 1}), 0, 0), (0, 0));
    }
}
