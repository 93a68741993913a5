//! Objects for tests, written as YAML.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::PushContext;
use crate::{ProxyKind, ProxyNode, Snapshot};

/// A push of these documents (separated by `---`), with this mesh configuration.
pub(super) fn context(mesh: &str, documents: &str) -> PushContext {
    let mut objects: Vec<Arc<Value>> = documents
        .split("---\n")
        .filter(|document| !document.trim().is_empty())
        .map(|document| Arc::new(serde_saphyr::from_str(document).expect("a document")))
        .collect();
    objects.push(Arc::new(serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh},
    })));
    PushContext::new(&Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() })
}

/// A proxy of namespace `shop` with the label `app: web`.
pub(super) fn node(kind: ProxyKind) -> ProxyNode {
    ProxyNode {
        kind,
        pod: "web".to_owned(),
        namespace: "shop".to_owned(),
        ip: IpAddr::from([10, 0, 0, 1]),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        annotations: BTreeMap::new(),
        service_account: "web".to_owned(),
        container_ports: Vec::new(),
    }
}

/// A Service with two pods behind it: one ready with a sidecar (`v: one`), one neither (`v: two`).
pub(super) const DATABASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80, targetPort: 8080}], selector: {app: db}}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db, v: one, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: db}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: db-2, namespace: shop, labels: {app: db, v: two}}
spec: {serviceAccountName: db}
status: {podIP: 10.0.0.3}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-x, namespace: shop, labels: {kubernetes.io/service-name: db}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}}
- {addresses: [10.0.0.3], conditions: {ready: false}}
- {addresses: [10.0.0.4], conditions: {ready: false, terminating: true}}
---
";
