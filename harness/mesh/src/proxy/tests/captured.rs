//! Proxies with configuration captured from a real cluster, and the lines that were captured there.

use std::sync::Arc;

use gateproof_mesh_config::ProxyResources;
use serde_json::Value;

use super::super::{Identity, Interception};
use super::world::*;
use crate::net::Network;

fn captured(text: &str) -> Resources {
    let all: Value = serde_json::from_str(text).unwrap();
    let of = |kind: &str| all[kind].as_object().unwrap().iter().map(|(n, v)| (n.clone(), Arc::new(v.clone()))).collect();
    let resources = ProxyResources {
        listeners: of("listeners"),
        routes: of("routes"),
        clusters: of("clusters"),
        endpoints: of("endpoints"),
        ..ProxyResources::default()
    };
    Resources(resources)
}

fn gateway_in() -> Resources {
    captured(include_str!("../../../config/src/envoy/testdata/gateway_in.json"))
}

fn sidecar() -> Resources {
    captured(include_str!("../../../config/src/envoy/testdata/sidecar.json"))
}

fn gateway_rbac() -> Resources {
    captured(include_str!("../../../config/src/envoy/testdata/gateway_rbac.json"))
}

fn identity(ca: &Ca, namespace: &str, account: &str) -> Option<Identity> {
    let (chain_pem, key_pem) = ca.issue(&[&format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")]);
    Some(Identity { chain_pem, key_pem, root_pem: ca.pem() })
}

fn captures() -> Option<Interception> {
    let own = |port| [15020, 15021, 15090].contains(&port);
    Some(Interception { outbound: Arc::new(|to| !to.ip().is_loopback()), inbound: Arc::new(move |port| !own(port)) })
}

#[tokio::test]
async fn a_call_through_a_captured_gateway_and_sidecar() {
    let (ca, network) = (Ca::new("mesh"), Network::default());
    let caller = network.add(ip("172.18.0.1")).unwrap();
    let gateway = Side::new(&network, "10.244.0.7", identity(&ca, "istio-system", "gate-in"), None);
    let pod = Side::new(&network, "10.244.0.17", identity(&ca, "apps", "alpha"), captures());
    echo(&pod.host, 80);
    echo(&pod.host, 8080);
    let shown = gateway_in().secret("kubernetes://alpha-tls", ca.secret(&["shop.example.test"]));
    pod.give(&sidecar());
    gateway.give(&shown);
    let (status, ..) = get(dial(&caller, "10.244.0.7:8080"), "shop.example.test", "/first", &[]).await.unwrap();
    assert_eq!(status, 200);
    // The captured endpoint is on a port that the sidecar knows no service of: bytes are passed through.
    let line = gateway.line().await;
    assert!(line.contains("\"10.244.0.17:8080\" outbound|8000||alpha.apps.svc.cluster.local 10.244.0.7:"), "{line}");
    assert!(line.contains(" 10.244.0.7:8080 172.18.0.1:") && line.ends_with(" - first"), "{line}");
    // On the port that it knows, HTTP is spoken.
    let name = "outbound|8000||alpha.apps.svc.cluster.local";
    let mut moved = shown.clone();
    let mut endpoints = (*moved.0.endpoints[name]).clone();
    endpoints["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] = 80.into();
    moved.0.endpoints.insert(name.to_owned(), Arc::new(endpoints));
    gateway.give(&moved);
    assert_eq!(get(dial(&caller, "10.244.0.7:8080"), "shop.example.test", "/first", &[]).await.unwrap().0, 200);
    let (outer, lines) = (gateway.lines(2).await, pod.lines(1).await);
    let inner = lines.last().unwrap();
    assert!(inner.contains("\"GET /first HTTP/1.1\" 200 - via_upstream - \"-\" 0 "), "{inner}");
    assert!(inner.contains("\"10.244.0.17:80\" inbound|80|| 127.0.0.6:"), "{inner}");
    assert!(inner.ends_with(" 10.244.0.17:80 172.18.0.1:0 outbound_.8000_._.alpha.apps.svc.cluster.local default"), "{inner}");
    let id = |line: &str| line.split('"').nth(9).map(str::to_owned);
    assert_eq!(id(&outer[1]), id(inner), "the request's id goes with it");
    // The dump is what istiod sent, as far as Envoy leaves it as it is.
    let dump = gateway.dump().await;
    let kind = "type.googleapis.com/envoy.admin.v3.ListenersConfigDump";
    let listeners = dump["configs"].as_array().unwrap().iter().find(|c| c["@type"] == kind).unwrap();
    assert_eq!(listeners["dynamic_listeners"][0]["active_state"]["listener"], *shown.0.listeners["0.0.0.0_8080"]);
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert!(!pod.proxy.config_dump(true).is_empty());
    }
    println!("{:?} for a dump", began.elapsed() / 20);
}

#[tokio::test]
async fn a_captured_policy_refuses_another_account() {
    let (ca, network) = (Ca::new("mesh"), Network::default());
    let outside = network.add(ip("172.18.0.5")).unwrap();
    echo(&outside, 443);
    network.names().set("four.example.test", vec![ip("172.18.0.5")]);
    let pod = Side::new(&network, "10.244.0.11", identity(&ca, "apps", "alpha"), captures());
    let gateway = Side::new(&network, "10.244.0.4", identity(&ca, "edge-b", "gate-b"), None);
    pod.give(&sidecar());
    gateway.give(&gateway_rbac());
    let end = tls(dial(&pod.host, "172.18.0.5:443"), "four.example.test", &CallerTls::trusting(&ca)).await.err().unwrap();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "closed, not reset");
    let (outer, inner) = (pod.line().await, gateway.line().await);
    assert!(outer.contains("\"- - -\" 0 - - - \"-\" ") && !outer.contains("rbac"), "{outer}");
    assert!(outer.contains("\"10.244.0.4:8443\" outbound|443|example|gate-b.edge-b.svc.cluster.local 10.244.0.11:"), "{outer}");
    assert!(outer.ends_with(" four.example.test -") && outer.contains(" 172.18.0.5:443 10.244.0.11:"), "{outer}");
    assert!(inner.contains("\"- - -\" 0 - - rbac_access_denied_matched_policy[none] \"-\" "), "{inner}");
    assert!(inner.contains("\"172.18.0.5:443\" outbound|443||four.example.test 10.244.0.4:"), "{inner}");
    // A name that no chain has passes through, to where it was going.
    let _ = tls(dial(&pod.host, "172.18.0.5:443"), "other.example.test", &CallerTls::trusting(&ca)).await;
    let line = &pod.lines(2).await[1];
    assert!(line.contains("\"172.18.0.5:443\" PassthroughCluster 10.244.0.11:"), "{line}");
}

/// Resources of a whole `config_dump`.
fn of_dump(dump: &Value) -> Resources {
    let list = |kind: &str, list: &str, what: &str| -> Vec<Value> {
        let section = dump["configs"].as_array().unwrap().iter().find(|c| c["@type"].as_str().unwrap().ends_with(kind));
        let entries = section.and_then(|s| s[list].as_array()).cloned().unwrap_or_default();
        entries.into_iter().map(|e| e.get("active_state").unwrap_or(&e)[what].clone()).filter(Value::is_object).collect()
    };
    let by =
        |values: Vec<Value>, key: &str| values.into_iter().filter_map(|v| Some((v.get(key)?.as_str()?.to_owned(), Arc::new(v)))).collect();
    Resources(ProxyResources {
        listeners: by(list(".ListenersConfigDump", "dynamic_listeners", "listener"), "name"),
        routes: by(list(".RoutesConfigDump", "dynamic_route_configs", "route_config"), "name"),
        clusters: by(list(".ClustersConfigDump", "dynamic_active_clusters", "cluster"), "name"),
        endpoints: by(list(".EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config"), "cluster_name"),
        ..ProxyResources::default()
    })
}

/// Run it with the folder of a capture.
#[tokio::test]
#[ignore = "reads the config dumps below the folder that GATEPROOF_DUMPS names"]
async fn whole_dumps_are_taken_and_read_back() {
    let ca = Ca::new("mesh");
    let mut folders = vec![std::path::PathBuf::from(std::env::var("GATEPROOF_DUMPS").unwrap())];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(dump) = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
                continue;
            };
            if !dump["configs"].is_array() {
                continue;
            }
            let side = Side::new(&Network::default(), "10.244.0.11", identity(&ca, "apps", "alpha"), captures());
            let mut resources = of_dump(&dump);
            for name in dump["configs"].as_array().unwrap().iter().flat_map(|c| c["dynamic_active_secrets"].as_array()).flatten() {
                resources = resources.secret(name["name"].as_str().unwrap(), ca.secret(&["any.example.test"]));
            }
            for own in ["default", "ROOTCA"] {
                resources.0.secrets.remove(own);
            }
            let began = std::time::Instant::now();
            side.give(&resources);
            let took = began.elapsed();
            let began = std::time::Instant::now();
            side.give(&resources);
            let again = began.elapsed();
            println!("{}: {took:?} to take, {again:?} the same again, warming {:?}", path.display(), side.proxy.warming());
            let back = of_dump(&serde_json::from_str(&side.proxy.config_dump(true)).unwrap()).0;
            assert_eq!(back.listeners, resources.0.listeners);
            assert_eq!(back.clusters, resources.0.clusters);
            assert_eq!(back.routes, resources.0.routes);
            for (name, endpoints) in &back.endpoints {
                let before = resources.0.endpoints.get(name);
                let by_name = resources.0.clusters.get(name).is_some_and(|c| c["type"].as_str().is_some_and(|t| t.ends_with("_DNS")));
                assert!(by_name || before == Some(endpoints), "{} {name}:\n{before:?}\n{endpoints:?}", path.display());
            }
        }
    }
}
