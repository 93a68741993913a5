//! Small worlds for tests.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::istio::PushContext;
use crate::{ProxyKind, ProxyNode, Snapshot};

/// What istiod knows of these objects.
pub(in crate::istio) fn context(objects: Vec<Value>) -> PushContext {
    PushContext::new(&Snapshot {
        objects: objects.into_iter().map(Arc::new).collect(),
        root_namespace: "istio-system".to_owned(),
        domain: "cluster.local".to_owned(),
    })
}

/// A proxy with the label `app: NAME`.
pub(in crate::istio) fn node(kind: ProxyKind, name: &str, namespace: &str) -> ProxyNode {
    ProxyNode {
        kind,
        pod: format!("{name}-0"),
        namespace: namespace.to_owned(),
        ip: std::net::IpAddr::from([10, 0, 0, 9]),
        labels: [("app".to_owned(), name.to_owned())].into(),
        annotations: std::collections::BTreeMap::new(),
        service_account: name.to_owned(),
        container_ports: Vec::new(),
    }
}

/// A Service of pods labelled `app: NAME`, with ports as (name, port, targetPort).
pub(in crate::istio) fn service(name: &str, namespace: &str, ip: &str, ports: &[(&str, u16, u16)]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target})).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name}, "ports": ports},
    })
}

/// JSON of any shape, with the words that objects use.
pub(in crate::istio) fn any_json() -> impl Strategy<Value = Value> {
    let words = ["*", "a.example", "./*", "HTTP", "TLS", "SIMPLE", "gw", "shop/gw", "1s", "/", "8000"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    let fields = [
        "hosts",
        "gateways",
        "http",
        "tls",
        "tcp",
        "match",
        "route",
        "destination",
        "host",
        "port",
        "number",
        "servers",
        "selector",
        "protocol",
        "name",
        "mode",
        "sniHosts",
        "uri",
        "prefix",
        "regex",
        "exact",
        "headers",
        "weight",
        "retries",
        "timeout",
        "redirect",
        "bind",
        "exportTo",
        "credentialName",
        "delegate",
        "fault",
        "corsPolicy",
        "mirror",
        "rewrite",
        "directResponse",
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((proptest::sample::select(fields.to_vec()), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}
