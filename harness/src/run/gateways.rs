//! Gateways of the Gateway API: each asks for proxies that istiod deploys. No manifest has their Deployment, and a state stands only
//! when it does.

use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::plan::GATEWAY_API;
use gateproof_core::scenario::KubeObject;
use serde_json::Value;

/// The Deployment that istiod makes for an object, if it makes one: for a Gateway of the class `istio` that names no Service of
/// somebody else's as its address. Source: istio/istio `pilot/pkg/config/kube/gatewaycommon`, `IsManaged` and `getDefaultName`.
pub(super) fn deployment_of(object: &KubeObject) -> Option<ObjectKey> {
    let is_gateway = object.key.group() == GATEWAY_API && object.key.kind == "Gateway";
    let class = object.value.pointer("/spec/gatewayClassName").and_then(Value::as_str);
    let addresses = object.value.pointer("/spec/addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let managed = match addresses {
        [] => true,
        [one] => one.get("type").and_then(Value::as_str).is_none_or(|kind| kind == "IPAddress"),
        _ => false,
    };
    (is_gateway && class == Some("istio") && managed).then(|| ObjectKey {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: object.key.namespace.clone(),
        name: format!("{}-istio", object.key.name),
    })
}

/// As a workload is named.
pub(super) fn workload(deployment: &ObjectKey) -> Option<Namespaced> {
    Some(Namespaced { namespace: deployment.namespace.clone()?, name: deployment.name.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(api_version: &str, spec: Value) -> KubeObject {
        let key = ObjectKey { api_version: api_version.to_owned(), kind: "Gateway".into(), namespace: Some("n".into()), name: "g".into() };
        KubeObject { key, value: json!({"spec": spec}), line: 0 }
    }

    #[test]
    fn a_gateway_of_istios_class_has_a_deployment_of_its_own() {
        let named = |api_version: &str, spec: Value| deployment_of(&gateway(api_version, spec)).map(|key| key.to_string());
        let api = "gateway.networking.k8s.io/v1";
        assert_eq!(named(api, json!({"gatewayClassName": "istio"})).as_deref(), Some("Deployment n/g-istio"));
        assert_eq!(named(api, json!({"gatewayClassName": "other"})), None);
        assert_eq!(named("networking.istio.io/v1", json!({"selector": {}})), None);
        let at = |kind: &str| json!({"gatewayClassName": "istio", "addresses": [{"type": kind, "value": "x"}]});
        assert_eq!(named(api, at("Hostname")), None);
        assert!(named(api, at("IPAddress")).is_some());
    }
}
