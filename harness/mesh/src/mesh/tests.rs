//! Gateway API through the whole mesh.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::api::DeleteOptions;
use crate::net::Caller;

const GROUP: &str = "gateway.networking.k8s.io";

async fn until(what: &str, mesh: &Mesh, is_so: impl Fn(&Store) -> bool) {
    let mut changed = mesh.store().changed();
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so(mesh.store()) {
            let _ = changed.changed().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not come"));
}

fn get(store: &Store, kind: &str, name: &str) -> Arc<Value> {
    store.get(kind, "shop", name).unwrap_or_default()
}

/// A condition, `STATUS REASON`.
fn condition(object: &Value, at: &str, kind: &str) -> String {
    let all = object.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let one = all.into_iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    format!("{} {}", one["status"].as_str().unwrap_or("-"), one["reason"].as_str().unwrap_or("-"))
}

fn gateway(service_type: &str, port: u16) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "front", "namespace": "shop", "annotations": {"networking.istio.io/service-type": service_type}},
        "spec": {"gatewayClassName": "istio", "listeners": [{"name": "web", "port": port, "protocol": "HTTP", "hostname": "*.shop.example"}]}})
}

async fn shop() -> Mesh {
    let mesh = Mesh::start(Options::default()).await.unwrap();
    let labels = json!({"app": "web"});
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8000, "targetPort": 8080}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "ghcr.io/mccutchen/go-httpbin:2.26.0", "ports": [{"containerPort": 8080}]}]}}}}),
        gateway("NodePort", 80),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "front"}], "hostnames": ["a.shop.example"], "rules": [
                {"matches": [{"path": {"type": "PathPrefix", "value": "/get"}}], "backendRefs": [{"name": "web", "port": 8000}]}]}}),
    ] {
        mesh.apply(&object).unwrap();
    }
    mesh
}

/// The status of an answer by the node's port of a Service's port.
async fn call(mesh: &Mesh, port: u64, host: &str, path: &str) -> Option<String> {
    let service = get(mesh.store(), "Service", "front-istio");
    let ports = service["spec"]["ports"].as_array()?.clone();
    let node_port = ports.iter().find(|one| one["port"] == port)?["nodePort"].as_u64()?;
    let to = SocketAddr::new(mesh.node_ip(), u16::try_from(node_port).ok()?);
    let mut conn = mesh.outside().connect(to, Caller::Application).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    conn.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    conn.read_to_end(&mut answer).await.ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned)
}

async fn answers(mesh: &Mesh, port: u64, host: &str, path: &str, status: &str) {
    let mut seen = None;
    for _ in 0..400 {
        seen = call(mesh, port, host, path).await;
        if seen.as_deref() == Some(status) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{host}{path} answers {seen:?}, not {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_becomes_a_pod_that_answers_and_goes_with_it() {
    let mesh = shop().await;
    let kind = format!("{GROUP}/Gateway");
    let programmed = |store: &Store| condition(&get(store, &kind, "front"), "/status/conditions", "Programmed") == "True Programmed";
    until("Programmed", &mesh, programmed).await;
    let found = get(mesh.store(), &kind, "front");
    assert_eq!(found["status"]["addresses"], json!([{"type": "Hostname", "value": "front-istio.shop.svc.cluster.local"}]));
    assert_eq!(found["status"]["listeners"][0]["attachedRoutes"], 1);
    let since = found["status"]["conditions"][0]["lastTransitionTime"].as_str().unwrap_or_default();
    assert!(since.ends_with('Z'), "{since}");
    let route = get(mesh.store(), &format!("{GROUP}/HTTPRoute"), "web");
    assert_eq!(condition(&route, "/status/parents/0/conditions", "Accepted"), "True Accepted");
    answers(&mesh, 80, "a.shop.example", "/get", "200").await;
    answers(&mesh, 80, "a.shop.example", "/other", "404").await;
    answers(&mesh, 80, "b.shop.example", "/get", "404").await;
    // Another port: the Service and the proxy follow.
    mesh.apply(&gateway("NodePort", 8080)).unwrap();
    answers(&mesh, 8080, "a.shop.example", "/get", "200").await;
    // The users' own objects alone are istiod's configuration.
    let (_, configuration) = mesh.0.istiod.debug("/debug/configz", "");
    assert!(configuration.contains("\"front\"") && !configuration.contains("autogenerated"), "{configuration}");
    // Nothing goes on by itself.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let version = mesh.store().version();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(mesh.store().version(), version, "nothing is written for nothing");
    mesh.store().delete(&kind, "shop", "front", &DeleteOptions::default()).unwrap();
    let gone = |store: &Store| {
        ["Service", "ServiceAccount", "apps/Deployment"].iter().all(|kind| store.get(kind, "shop", "front-istio").is_none())
    };
    until("the end of all that was made for it", &mesh, gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_that_nobody_provides_stays_pending() {
    let mesh = shop().await;
    mesh.apply(&gateway("LoadBalancer", 80)).unwrap();
    let kind = format!("{GROUP}/Gateway");
    let pending = |store: &Store| {
        let found = get(store, &kind, "front");
        let conditions = found.pointer("/status/conditions").map(ToString::to_string).unwrap_or_default();
        conditions.contains("address pending for hostname")
    };
    until("a pending address", &mesh, pending).await;
    let found = get(mesh.store(), &kind, "front");
    assert_eq!(condition(&found, "/status/conditions", "Programmed"), "False AddressNotAssigned");
    assert_eq!(condition(&found, "/status/conditions", "Accepted"), "True Accepted");
}

#[tokio::test]
async fn istios_classes_are_there_and_accepted() {
    let mesh = Mesh::start(Options::default()).await.unwrap();
    let kind = format!("{GROUP}/GatewayClass");
    let accepted = |store: &Store| {
        let of = |name: &str| store.get(&kind, "", name).map(|class| condition(&class, "/status/conditions", "Accepted"));
        ["istio", "istio-remote"].iter().all(|name| of(name).as_deref() == Some("True Accepted"))
    };
    until("the classes", &mesh, accepted).await;
}
