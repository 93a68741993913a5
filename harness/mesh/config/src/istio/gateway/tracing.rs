//! What a connection manager says of traces (`pilot/pkg/networking/core/tracing.go`). No tracer is configured; the sampling decides
//! what becomes of `x-request-id`.

use serde_json::{Map, Value, json};

use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::model::object;

/// The share of traces in percent that istiod asks for when nothing says otherwise (`PILOT_TRACE_SAMPLING`).
const DEFAULT_SAMPLING: f64 = 1.0;

/// The `tracing` of a connection manager of this proxy.
pub(in crate::istio) fn tracing(context: &PushContext, node: &ProxyNode) -> Value {
    let sampling = context.mesh.proxy_default("tracing").and_then(|tracing| tracing.get("sampling")).and_then(Value::as_f64);
    let sampling = sampling.filter(|share| (0.0..=100.0).contains(share)).unwrap_or(DEFAULT_SAMPLING);
    let mut random = Map::new();
    if sampling > 0.0 {
        random.insert("value".to_owned(), json_number(sampling));
    }
    let mut tags: Vec<Value> = Vec::new();
    for (action, what, key) in [
        ("allow", "name", "istio_dry_run_allow_shadow_effective_policy_id"),
        ("allow", "result", "istio_dry_run_allow_shadow_engine_result"),
        ("deny", "name", "istio_dry_run_deny_shadow_effective_policy_id"),
        ("deny", "result", "istio_dry_run_deny_shadow_engine_result"),
    ] {
        tags.push(json!({
            "tag": format!("istio.authorization.dry_run.{action}_policy.{what}"),
            "metadata": {"kind": {"request": {}}, "metadata_key": {"key": "envoy.filters.http.rbac", "path": [{"key": key}]}},
        }));
    }
    let (service, revision) = canonical(node);
    let mesh_id = match context.mesh.proxy_default("meshId").and_then(Value::as_str) {
        Some(id) if !id.is_empty() => id,
        _ => context.mesh.trust_domain.as_str(),
    };
    for (tag, value) in [
        ("canonical_revision", revision),
        ("canonical_service", service),
        ("cluster_id", "Kubernetes"),
        ("mesh_id", mesh_id),
        ("namespace", node.namespace.as_str()),
    ] {
        tags.push(json!({"tag": format!("istio.{tag}"), "literal": {"value": value}}));
    }
    json!({
        "client_sampling": {"value": 100},
        "random_sampling": random,
        "overall_sampling": {"value": 100},
        "custom_tags": tags,
    })
}

/// A whole number is printed without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "from 0 to 100")]
fn json_number(number: f64) -> Value {
    if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
}

/// Name and revision by which telemetry knows a workload (`pkg/model/proxy.go`: `CanonicalService`).
fn canonical(node: &ProxyNode) -> (&str, &str) {
    let label = |keys: [&str; 3]| keys.into_iter().find_map(|key| node.labels.get(key)).map(String::as_str);
    (
        label(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]).unwrap_or(&node.service_account),
        label(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]).unwrap_or("latest"),
    )
}

/// An entry of the proxy's metadata: the variable `ISTIO_META_NAME` of its container.
pub(in crate::istio) fn proxy_meta<'a>(context: &'a PushContext, node: &ProxyNode, name: &str) -> Option<&'a str> {
    let pod = context.object("Pod", &node.namespace, &node.pod)?;
    let containers = object::list(pod, "/spec/containers").iter().filter(|container| object::text(container, "/name") == "istio-proxy");
    let variable = format!("ISTIO_META_{name}");
    let found = containers.flat_map(|container| object::list(container, "/env")).find(|entry| object::text(entry, "/name") == variable);
    found.map(|entry| object::text(entry, "/value"))
}
