//! What the tests of policies share.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::Value;

use crate::istio::PushContext;
use crate::{ProxyKind, ProxyNode, Snapshot};

/// A sidecar in a namespace with labels.
pub(super) fn node(namespace: &str, labels: &[(&str, &str)]) -> ProxyNode {
    ProxyNode {
        kind: ProxyKind::Sidecar,
        pod: "pod-1".to_owned(),
        namespace: namespace.to_owned(),
        ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        annotations: std::collections::BTreeMap::new(),
        service_account: "default".to_owned(),
        container_ports: Vec::new(),
    }
}

/// A gateway in a namespace with labels.
pub(super) fn router(namespace: &str, labels: &[(&str, &str)]) -> ProxyNode {
    ProxyNode { kind: ProxyKind::Router, ..node(namespace, labels) }
}

/// What istiod knows with these objects, in YAML, and this mesh configuration.
pub(super) fn context(mesh: &str, objects: &str) -> PushContext {
    let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}});
    let mut all = vec![Arc::new(map)];
    for text in objects.split("\n---\n").filter(|text| !text.trim().is_empty()) {
        let object: Value = serde_saphyr::from_str(text).expect("YAML");
        all.push(Arc::new(object));
    }
    PushContext::new(&Snapshot { objects: all, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() })
}

/// YAML as JSON.
pub(super) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}
