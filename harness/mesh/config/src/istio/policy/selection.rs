//! Which workloads a policy is for.

use serde_json::Value;

use crate::ProxyNode;
use crate::istio::model::object;

/// The label by which a workload says which Gateway (of Gateway API) it serves.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Whether a policy is for a proxy, by `targetRefs` or by its selector (Istio: `pilot/pkg/model/policyattachment.go`).
///
/// A policy with `targetRefs` is for workloads of a Gateway in its own namespace alone; one without goes by its selector, also
/// for those. The namespace of a policy without `targetRefs` is not looked at: root or own, the caller asks for what counts.
#[must_use]
pub fn attaches(policy: &Value, node: &ProxyNode) -> bool {
    let spec = object::spec(policy);
    let single = spec.get("targetRef").filter(|reference| reference.is_object());
    let references = match object::list(spec, "/targetRefs") {
        [] => single.map(std::slice::from_ref).unwrap_or_default(),
        many => many,
    };
    if references.is_empty() {
        return object::selects(&selector(spec), &node.labels);
    }
    let Some(gateway) = node.labels.get(GATEWAY_NAME) else {
        return false;
    };
    references.iter().any(|reference| {
        let namespace = object::text(reference, "/namespace");
        object::namespace(policy) == node.namespace
            && (namespace.is_empty() || namespace == node.namespace)
            && object::text(reference, "/group") == "gateway.networking.k8s.io"
            && object::text(reference, "/kind") == "Gateway"
            && object::text(reference, "/name") == gateway
    })
}

/// The labels that a policy selects by: `selector.matchLabels`, or `workloadSelector.labels` of older kinds; none takes all.
fn selector(spec: &Value) -> std::collections::BTreeMap<String, String> {
    let labels = spec.pointer("/selector/matchLabels").or_else(|| spec.pointer("/workloadSelector/labels"));
    labels.map(object::text_map).unwrap_or_default()
}

/// Whether a policy names workloads: by labels or by `targetRefs`.
pub(super) fn is_narrow(policy: &Value) -> bool {
    let spec = object::spec(policy);
    !selector(spec).is_empty() || !object::list(spec, "/targetRefs").is_empty() || spec.get("targetRef").is_some_and(Value::is_object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::istio::policy::testing::node;

    #[test]
    fn a_selector_takes_workloads_with_all_its_labels() {
        let policy = |labels: Value| json!({"metadata": {"namespace": "a"}, "spec": {"selector": {"matchLabels": labels}}});
        let node = node("a", &[("app", "one"), ("version", "v1")]);
        assert!(attaches(&policy(json!({"app": "one"})), &node));
        assert!(!attaches(&policy(json!({"app": "one", "version": "v2"})), &node));
        assert!(attaches(&json!({"metadata": {"namespace": "a"}, "spec": {}}), &node));
    }

    #[test]
    fn a_target_is_a_gateway_of_the_same_namespace() {
        let policy = |namespace: &str| {
            let reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"});
            json!({"metadata": {"namespace": namespace}, "spec": {"targetRefs": [reference]}})
        };
        let gateway = node("a", &[(GATEWAY_NAME, "front")]);
        assert!(attaches(&policy("a"), &gateway));
        assert!(!attaches(&policy("b"), &gateway));
        assert!(!attaches(&policy("a"), &node("a", &[("app", "front")])));
    }
}
