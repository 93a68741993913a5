//! From what a case tells to objects, a proxy and its resources.

use std::net::IpAddr;
use std::sync::Arc;

use gateproof_mesh_config::gateway_api::convert;
use gateproof_mesh_config::istio::PushContext;
use gateproof_mesh_config::{ProxyKind, ProxyNode, ProxyResources, Snapshot};
use serde_json::{Map, Value, json};

use super::told::{Case, Proxy, Rule, Scope, Test};

/// In which form rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Istio's own.
    VirtualService,
    /// Gateway API's, with Services as parents.
    HttpRoute,
}

/// The proxy of a case.
pub(crate) fn node(test: &Test, case: &Case) -> ProxyNode {
    let default = Proxy::default();
    let proxy = case.proxy.as_ref().or(test.proxy.as_ref()).unwrap_or(&default);
    ProxyNode {
        kind: if proxy.kind == "gateway" { ProxyKind::Router } else { ProxyKind::Sidecar },
        pod: "app".to_owned(),
        namespace: proxy.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        ip: proxy.ip.as_deref().unwrap_or("1.1.1.1").parse::<IpAddr>().expect("an address of a proxy"),
        labels: proxy.labels.clone(),
        annotations: Default::default(),
        service_account: "default".to_owned(),
        container_ports: Vec::new(),
    }
}

/// What the proxy is sent.
pub(crate) fn resources(node: &ProxyNode, test: &Test, case: &Case, variant: Option<&str>, form: Form) -> ProxyResources {
    let groups = case.groups.iter().chain(variant.iter().filter_map(|name| case.variants.get(*name)).flat_map(|variant| &variant.groups));
    let of_group = |name: &String| test.groups.get(name).unwrap_or_else(|| panic!("{}: no group {name}", test.test));
    let mut objects: Vec<Value> = groups.flat_map(of_group).chain(&case.objects).map(object).collect();
    if !case.rules.is_empty() {
        objects.extend(test.groups.values().flatten().map(object));
    }
    objects.extend(case.rules.iter().map(|rule| written(rule, form)));
    objects.extend(case.scope.iter().map(sidecar));
    let mesh = case.mesh.as_ref().map(ToString::to_string).unwrap_or_default();
    objects.push(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh},
    }));
    let objects = objects.into_iter().map(Arc::new).collect();
    let mut snapshot = Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() };
    let converted = convert(&snapshot);
    snapshot.objects.extend(converted.objects);
    PushContext::new(&snapshot).resources(node)
}

/// An object from its short form: `{KIND: NAME, in: NAMESPACE, created: …, labels: …, annotations: …, spec: …}`.
fn object(told: &Value) -> Value {
    let fields = told.as_object().expect("an object");
    let is_kind = |key: &str| key.starts_with(|first: char| first.is_ascii_uppercase());
    let (kind, name) = fields.iter().find(|(key, _)| is_kind(key)).expect("an object's kind");
    let mut metadata = Map::from_iter([("name".to_owned(), name.clone()), ("namespace".to_owned(), json!("default"))]);
    let mut out = Map::from_iter([("apiVersion".to_owned(), json!(api_version(kind))), ("kind".to_owned(), json!(kind))]);
    for (key, value) in fields.iter().filter(|(key, _)| !is_kind(key)) {
        match key.as_str() {
            "in" => metadata.insert("namespace".to_owned(), value.clone()),
            "created" => metadata.insert("creationTimestamp".to_owned(), value.clone()),
            "labels" | "annotations" => metadata.insert(key.clone(), value.clone()),
            _ => out.insert(key.clone(), value.clone()),
        };
    }
    out.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(out)
}

fn api_version(kind: &str) -> &'static str {
    match kind {
        "Gateway" | "VirtualService" | "DestinationRule" | "ServiceEntry" | "Sidecar" => "networking.istio.io/v1",
        "PeerAuthentication" => "security.istio.io/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Ingress" => "networking.k8s.io/v1",
        "Service" => "v1",
        other => panic!("no version is known for {other}"),
    }
}

/// A rule in one of its forms, with the name that the original makes.
fn written(rule: &Rule, form: Form) -> Value {
    // The original takes the single host for the name, and none where there are several.
    let of_host = if let [host] = rule.hosts.as_slice() { host.replace('*', "wild") } else { String::new() };
    let metadata = json!({
        "name": format!("{}{of_host}{}", rule.namespace, rule.to),
        "namespace": rule.namespace,
        "creationTimestamp": format!("{}-01-01T00:00:00Z", rule.year.unwrap_or(2020)),
    });
    match form {
        Form::VirtualService => {
            let mut destination = json!({"host": rule.to});
            if let Some(port) = rule.port {
                destination["port"] = json!({"number": port});
            }
            let mut http = json!({"route": [{"destination": destination}]});
            if let Some(port) = rule.match_port {
                http["match"] = json!([{"port": port}]);
            }
            let spec = json!({"hosts": rule.hosts, "http": [http]});
            json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec})
        }
        Form::HttpRoute => {
            let parent = |host: &String| {
                let mut labels = host.split('.');
                let (name, namespace) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
                let mut parent = json!({"group": "", "kind": "Service", "name": name, "namespace": namespace});
                if let Some(port) = rule.match_port {
                    parent["port"] = json!(port);
                }
                parent
            };
            let parents: Vec<Value> = rule.hosts.iter().map(parent).collect();
            let backend = json!({"kind": "Hostname", "group": "networking.istio.io", "name": rule.to, "port": rule.port.unwrap_or(80)});
            let spec = json!({"parentRefs": parents, "rules": [{"backendRefs": [backend]}]});
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec})
        }
    }
}

fn sidecar(scope: &Scope) -> Value {
    object(&json!({"Sidecar": scope.namespace, "in": scope.namespace, "spec": {"egress": [{"hosts": scope.egress}]}}))
}
