use serde_json::json;

use super::*;

fn quiet() -> LogSink {
    Arc::new(|_| {})
}

fn node(pod: &str) -> ProxyNode {
    ProxyNode {
        kind: gateproof_mesh_config::ProxyKind::Router,
        pod: pod.to_owned(),
        namespace: "default".to_owned(),
        ip: std::net::IpAddr::from([10, 0, 0, 1]),
        labels: BTreeMap::from([("istio".to_owned(), "gw".to_owned())]),
        annotations: BTreeMap::new(),
        service_account: "default".to_owned(),
        container_ports: Vec::new(),
    }
}

fn gateway(name: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"istio": "gw"}, "servers": [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}})
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

async fn until(what: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(5), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.expect("it comes");
}

#[tokio::test]
async fn a_change_is_known_before_it_is_pushed_and_pushed_before_it_is_there() {
    let store = Store::default();
    let settings = Settings { debounce: Duration::from_millis(30), delivery: Duration::from_millis(30), ..Settings::default() };
    let istiod = Istiod::start(&store, settings, quiet());
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let into = seen.clone();
    let deliver: Deliver = Arc::new(move |push| {
        into.lock().unwrap().push(push.listeners.len());
        vec![]
    });
    let _connection = istiod.connect(node("gw-1"), deliver);
    until(|| !seen.lock().unwrap().is_empty()).await;
    store.create(gateway("one"), "test").unwrap();
    assert!(!istiod.debug("/debug/configz", "").1.contains("\"one\""), "not at once");
    until(|| istiod.debug("/debug/configz", "").1.contains("\"one\"")).await;
    assert!(!istiod.debug("/debug/config_dump", "proxyID=gw-1.default").1.contains("8080"), "it is still debounced");
    until(|| istiod.debug("/debug/config_dump", "proxyID=gw-1.default").1.contains("8080")).await;
    assert_eq!(seen.lock().unwrap().last(), Some(&0), "it is on its way");
    until(|| seen.lock().unwrap().last() == Some(&1)).await;
}

#[tokio::test]
async fn the_mesh_configuration_is_read_again_and_shown_as_it_is_used() {
    let store = Store::default();
    let istiod = Istiod::start(&store, Settings::default(), quiet());
    let mode = || serde_json::from_str::<Value>(&istiod.debug("/debug/mesh", "").1).unwrap()["outboundTrafficPolicy"]["mode"].clone();
    assert_eq!(mode(), "ALLOW_ANY", "the default, without a ConfigMap");
    let map = |policy: &str| {
        let mesh = format!("outboundTrafficPolicy: {{mode: {policy}}}");
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}})
    };
    store.create(namespace("istio-system"), "test").unwrap();
    store.apply(map("REGISTRY_ONLY"), "test").unwrap();
    until(|| mode().is_null()).await;
    store.apply(map("ALLOW_ANY"), "test").unwrap();
    until(|| mode() == "ALLOW_ANY").await;
}

#[tokio::test]
async fn what_its_environment_switches_is_pushed_though_no_object_changes() {
    let store = Store::default();
    let mut elsewhere = gateway("one");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    store.create(namespace("elsewhere"), "test").unwrap();
    store.create(elsewhere, "test").unwrap();
    let istiod = Istiod::start(&store, Settings::default(), quiet());
    let _connection = istiod.connect(node("gw-1"), Arc::new(|_| vec![]));
    let serves = || istiod.debug("/debug/config_dump", "proxyID=gw-1.default").1.contains("0.0.0.0_8080");
    until(serves).await;
    istiod.began_with([("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", "true")]);
    until(|| !serves()).await;
    istiod.began_with([]);
    until(serves).await;
}

#[tokio::test]
async fn a_refusal_stands_until_the_next_acknowledgement() {
    let store = Store::default();
    let istiod = Istiod::start(&store, Settings::default(), quiet());
    let refuse = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = refuse.clone();
    let deliver: Deliver = Arc::new(move |_| {
        let no = asked.load(std::sync::atomic::Ordering::SeqCst);
        if no { vec![(LISTENER.to_owned(), "boom".to_owned())] } else { vec![] }
    });
    let connection = istiod.connect(node("gw-1"), deliver);
    until(|| istiod.debug("/debug/syncz", "").1.contains("boom")).await;
    refuse.store(false, std::sync::atomic::Ordering::SeqCst);
    store.create(gateway("one"), "test").unwrap();
    until(|| !istiod.debug("/debug/syncz", "").1.contains("boom")).await;
    drop(connection);
    assert_eq!(istiod.debug("/debug/syncz", "").1, "[]");
    assert_eq!(istiod.debug("/debug/config_dump", "proxyID=gw-1.default").0, 404);
}

#[test]
fn nonces_begin_with_the_version_and_end_like_a_uuid() {
    let one = nonce("2026-01-01T00:00:00Z/7", "a.b", CLUSTER);
    assert!(one.starts_with("2026-01-01T00:00:00Z/7"));
    assert_eq!(one.len(), "2026-01-01T00:00:00Z/7".len() + 36);
    assert_ne!(one, nonce("2026-01-01T00:00:00Z/7", "a.b", LISTENER));
}
