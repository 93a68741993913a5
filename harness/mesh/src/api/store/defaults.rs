//! What the API server itself fills in and refuses.
//!
//! Sources: Kubernetes `pkg/apis/{core,apps}/v1/defaults.go`, `pkg/registry/core/{namespace,secret,service}`,
//! `pkg/apis/apps/validation`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{State, meta};
use crate::api::error::{ApiError, Cause};
use crate::api::registry::Resource;

/// Sets a key that is absent or null.
fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

fn child<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.entry(key).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// The status that Gateway API's definitions give an object before any controller has.
fn awaited(conditions: &[&str]) -> Value {
    let one = |kind: &&str| {
        json!({"type": kind, "status": "Unknown", "reason": "Pending", "message": "Waiting for controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z"})
    };
    json!({"conditions": conditions.iter().map(one).collect::<Vec<_>>()})
}

/// What the definition of HTTPRoute fills in: without rules one for every path, without matches every path, in a match without a
/// path the same (Gateway API, `apis/v1/httproute_types.go`).
fn http_route(spec: &mut Map<String, Value>) {
    let every_path = || json!({"type": "PathPrefix", "value": "/"});
    default(spec, "rules", json!([{}]));
    for rule in spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        default(rule, "matches", json!([{}]));
        for one in rule.get_mut("matches").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            default(one, "path", every_path());
            if let Some(path) = child(one, "path") {
                default(path, "type", "PathPrefix");
                default(path, "value", "/");
            }
        }
    }
}

/// Fills in what a client may leave out.
pub(super) fn fill(resource: &Resource, object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => namespace(map),
        ("", "Secret") => secret(map),
        ("gateway.networking.k8s.io", "Gateway") => default(map, "status", awaited(&["Accepted", "Programmed"])),
        ("gateway.networking.k8s.io", "HTTPRoute") => {
            if let Some(spec) = child(map, "spec") {
                http_route(spec);
            }
        }
        ("gateway.networking.k8s.io", "GatewayClass") => default(map, "status", awaited(&["Accepted"])),
        ("", "Pod") => {
            if let Some(spec) = child(map, "spec") {
                pod_spec(spec);
                default(spec, "serviceAccountName", "default");
            }
        }
        ("", "Service") => {
            if let Some(spec) = child(map, "spec") {
                service_spec(spec);
            }
        }
        ("apps", "Deployment") => {
            if let Some(spec) = child(map, "spec") {
                default(spec, "replicas", 1);
                default(spec, "revisionHistoryLimit", 10);
                default(spec, "progressDeadlineSeconds", 600);
                if let Some(strategy) = child(spec, "strategy") {
                    default(strategy, "type", "RollingUpdate");
                    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
                        && let Some(rolling) = child(strategy, "rollingUpdate")
                    {
                        default(rolling, "maxSurge", "25%");
                        default(rolling, "maxUnavailable", "25%");
                    }
                }
                template(spec);
            }
        }
        ("apps", "ReplicaSet" | "StatefulSet") | ("", "ReplicationController") => {
            if let Some(spec) = child(map, "spec") {
                default(spec, "replicas", 1);
                template(spec);
            }
        }
        ("apps", "DaemonSet") | ("batch", "Job") => {
            if let Some(spec) = child(map, "spec") {
                template(spec);
            }
        }
        _ => {}
    }
}

fn namespace(map: &mut Map<String, Value>) {
    let name = map.get("metadata").and_then(|m| m.get("name")).cloned().unwrap_or_default();
    if let Some(labels) = child(map, "metadata").and_then(|m| child(m, "labels")) {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
    if let Some(spec) = child(map, "spec") {
        default(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(status) = child(map, "status") {
        default(status, "phase", "Active");
    }
}

/// `stringData` is written into `data` and not kept.
fn secret(map: &mut Map<String, Value>) {
    default(map, "type", "Opaque");
    if let Some(Value::Object(texts)) = map.remove("stringData")
        && let Some(data) = child(map, "data")
    {
        for (key, text) in texts {
            data.insert(key, json!(STANDARD.encode(text.as_str().unwrap_or_default())));
        }
    }
}

fn template(spec: &mut Map<String, Value>) {
    if let Some(pod) = child(spec, "template").and_then(|t| child(t, "spec")) {
        pod_spec(pod);
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    default(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", "default-scheduler");
    if let Some(account) = spec.get("serviceAccountName").cloned().filter(|a| a.as_str().is_some_and(|a| !a.is_empty())) {
        spec.insert("serviceAccount".to_owned(), account);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            let tag = image.rsplit('/').next().unwrap_or_default();
            let latest = !image.contains('@') && (tag.ends_with(":latest") || !tag.contains(':'));
            default(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
            default(container, "terminationMessagePath", "/dev/termination-log");
            default(container, "terminationMessagePolicy", "File");
            default(container, "resources", json!({}));
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
                default(port, "protocol", "TCP");
            }
            for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
                if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
                    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)] {
                        default(probe, key, value);
                    }
                    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
                        default(get, "path", "/");
                        default(get, "scheme", "HTTP");
                    }
                }
            }
        }
    }
}

fn service_spec(spec: &mut Map<String, Value>) {
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    if ["NodePort", "LoadBalancer"].contains(&kind.as_str()) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        default(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        default(port, "targetPort", number);
    }
}

impl State {
    /// Gives a Service its addresses and node ports; keeps those it had.
    pub(super) fn allocate(&self, resource: &Resource, object: &mut Value, old: Option<&Value>) {
        if !resource.group.is_empty() || resource.kind != "Service" {
            return;
        }
        let uid = old.map(|o| meta::text(o, "uid")).unwrap_or_default();
        let mut addresses: BTreeSet<&str> = BTreeSet::new();
        let mut ports: BTreeSet<u64> = BTreeSet::new();
        for other in self.of(&resource.id(), None).filter(|o| meta::text(o, "uid") != uid) {
            addresses.extend(other.pointer("/spec/clusterIP").and_then(Value::as_str));
            let list = other.pointer("/spec/ports").and_then(Value::as_array);
            ports.extend(list.into_iter().flatten().filter_map(|p| p.get("nodePort").and_then(Value::as_u64)));
        }
        let before = |pointer: &str| old.and_then(|o| o.pointer(pointer)).cloned();
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind == "ExternalName" {
            return;
        }
        let unset = spec.get("clusterIP").and_then(Value::as_str).is_none_or(str::is_empty);
        if unset {
            // 10.96.0.0/16 is the range of kubeadm's clusters; its first addresses are kept for the API and DNS.
            let free = || {
                let all = (256..65_000_u32).map(|n| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + n).to_string());
                all.into_iter().find(|a| !addresses.contains(a.as_str())).map(Value::from)
            };
            if let Some(address) = before("/spec/clusterIP").filter(|a| a.as_str().is_some_and(|a| !a.is_empty())).or_else(free) {
                spec.insert("clusterIP".to_owned(), address);
            }
        }
        let address = spec.get("clusterIP").cloned().unwrap_or_default();
        spec.insert("clusterIPs".to_owned(), json!([address]));
        let no_ports = spec.get("allocateLoadBalancerNodePorts").and_then(Value::as_bool) == Some(false);
        if kind == "NodePort" || (kind == "LoadBalancer" && !no_ports) {
            let earlier = before("/spec/ports").unwrap_or_default();
            for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
                if port.get("nodePort").and_then(Value::as_u64).is_some_and(|n| n != 0) {
                    continue;
                }
                let same = |p: &&Value| p.get("port") == port.get("port") && p.get("protocol") == port.get("protocol");
                let had = earlier.as_array().into_iter().flatten().find(same).and_then(|p| p.get("nodePort").and_then(Value::as_u64));
                if let Some(number) = had.or_else(|| (30_000..32_768).find(|n| !ports.contains(n))) {
                    ports.insert(number);
                    port.insert("nodePort".to_owned(), json!(number));
                }
            }
        }
    }
}

/// Refuses what the API server itself refuses, webhooks aside. Not all that it does: names, and what a controller could
/// make nothing of.
pub(super) fn check(resource: &Resource, name: &str, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    check_name(resource, name, &mut causes);
    let at = |pointer: &str| object.pointer(pointer).filter(|v| !v.is_null());
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            match at("/spec/selector") {
                None => causes.push(Cause::required("spec.selector", "")),
                Some(selector) => {
                    let labels = json!({"metadata": {"labels": at("/spec/template/metadata/labels").cloned().unwrap_or_default()}});
                    if !crate::api::selector::Selector::of_labels(selector).matches(&labels) {
                        let shown = at("/spec/template/metadata/labels").cloned().unwrap_or_else(|| json!({}));
                        let why = "`selector` does not match template `labels`";
                        causes.push(Cause::invalid("spec.template.metadata.labels", &shown, why));
                    }
                    if let Some(was) = old.and_then(|o| o.pointer("/spec/selector")).filter(|was| *was != selector) {
                        let _ = was;
                        causes.push(Cause::invalid("spec.selector", selector, "field is immutable"));
                    }
                }
            }
            check_containers("spec.template.spec", at("/spec/template/spec"), &mut causes);
        }
        ("", "Pod") => check_containers("spec", at("/spec"), &mut causes),
        ("", "Service") => check_service(object, old, &mut causes),
        _ => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(resource, name, causes)) }
}

fn check_service(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let text = |o: &Value, pointer: &str| o.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ports = object.pointer("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let needs_ports = text(object, "/spec/type") != "ExternalName" && text(object, "/spec/clusterIP") != "None";
    if ports.is_empty() && needs_ports {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        let number = port.get("port").and_then(Value::as_u64).unwrap_or(0);
        if !(1..=65_535).contains(&number) {
            let value = port.get("port").cloned().unwrap_or_else(|| json!(0));
            causes.push(Cause::invalid(&format!("spec.ports[{index}].port"), &value, "must be between 1 and 65535, inclusive"));
        }
        if ports.len() > 1 && port.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            causes.push(Cause::required(&format!("spec.ports[{index}].name"), ""));
        }
    }
    if let Some(old) = old {
        let (was, is) = (text(old, "/spec/clusterIP"), text(object, "/spec/clusterIP"));
        if !was.is_empty() && !is.is_empty() && was != is && text(object, "/spec/type") != "ExternalName" {
            causes.push(Cause::invalid("spec.clusterIPs[0]", &json!([is]), "may not change once set"));
        }
    }
}

fn check_containers(path: &str, spec: Option<&Value>, causes: &mut Vec<Cause>) {
    let containers = spec.and_then(|s| s.get("containers")).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required(&format!("{path}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let text = |key: &str| container.get(key).and_then(Value::as_str).unwrap_or_default();
        for key in ["name", "image"] {
            if text(key).is_empty() {
                causes.push(Cause::required(&format!("{path}.containers[{index}].{key}"), ""));
            }
        }
        if !names.insert(text("name")) {
            causes.push(Cause {
                reason: "FieldValueDuplicate".to_owned(),
                message: format!("Duplicate value: {:?}", text("name")),
                field: format!("{path}.containers[{index}].name"),
            });
        }
    }
}

/// Source: `apimachinery/pkg/util/validation/validation.go`.
fn check_name(resource: &Resource, name: &str, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
        return;
    }
    if resource.group == "rbac.authorization.k8s.io" {
        if name == "." || name == ".." || name.contains(['/', '%']) {
            causes.push(Cause::invalid("metadata.name", &json!(name), "may not contain '/' or '%'"));
        }
        return;
    }
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |p: &str| p.starts_with(ends) && p.ends_with(ends) && p.chars().all(|c| ends(c) || c == '-');
    let is_label = resource.group.is_empty() && ["Namespace", "Service"].contains(&resource.kind.as_str());
    let good = if is_label { part(name) && name.len() <= 63 } else { name.split('.').all(part) && name.len() <= 253 };
    if !good {
        let why = if is_label {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
             alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        } else {
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end \
             with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        };
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_takes_every_path_where_it_names_none() {
        let filled = |spec: Value| {
            let mut spec = spec.as_object().unwrap().clone();
            http_route(&mut spec);
            Value::Object(spec)
        };
        let every = json!({"type": "PathPrefix", "value": "/"});
        assert_eq!(filled(json!({})), json!({"rules": [{"matches": [{"path": every}]}]}));
        let rules = json!({"rules": [{"backendRefs": []}, {"matches": []}, {"matches": [{"method": "GET"}, {"path": {"value": "/a"}}]}]});
        let wanted = json!({"rules": [
            {"backendRefs": [], "matches": [{"path": every}]}, {"matches": []},
            {"matches": [{"method": "GET", "path": every}, {"path": {"type": "PathPrefix", "value": "/a"}}]}]});
        assert_eq!(filled(rules), wanted);
        assert_eq!(filled(wanted.clone()), wanted);
    }
}
