//! From one set of resources to the next, and what the admin interface says of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::*;
use crate::net::{Caller, Conn, Host, Network};

fn pair() -> (Host, Side) {
    let network = Network::default();
    let (caller, server) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    echo(&server, 80);
    // The server lives as long as its listener, which its task holds.
    (caller, Side::new(&network, "10.0.0.3", None, None))
}

fn plain(cluster_name: &str, endpoint: &str) -> Resources {
    let chains = json!([{"filters": [http("http.8080", json!([]))]}]);
    Resources::default()
        .cluster(cluster(cluster_name, &[endpoint]))
        .listener("0.0.0.0_8080", 8080, chains)
        .routes("http.8080", json!([to(cluster_name)]))
}

/// One request on a connection that stays open; the head of the answer.
async fn keep_alive(conn: &mut Conn) -> String {
    conn.write_all(b"GET /status/204 HTTP/1.1\r\nhost: web.example\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(conn.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn section<'a>(dump: &'a Value, name: &str) -> &'a Value {
    let kind = format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump");
    dump["configs"].as_array().unwrap().iter().find(|c| c["@type"] == kind).unwrap()
}

/// A resource as it was sent, from an entry of a dump.
fn sent(entry: &Value, what: &str) -> Value {
    let mut value = entry[what].clone();
    assert!(value.as_object_mut().unwrap().remove("@type").is_some());
    value
}

#[tokio::test]
async fn dumps_read_back_what_was_sent() {
    let (_caller, side) = pair();
    assert_eq!(side.admin("/ready").await.0, 503);
    let resources = plain("web", "10.0.0.2:80");
    side.give(&resources);
    let dump = side.dump().await;
    let names: Vec<&str> =
        dump["configs"].as_array().unwrap().iter().map(|c| c["@type"].as_str().unwrap().rsplit('.').next().unwrap()).collect();
    let wanted = ["Bootstrap", "Clusters", "Endpoints", "Listeners", "ScopedRoutes", "Routes", "Secrets"].map(|n| format!("{n}ConfigDump"));
    assert_eq!(names, wanted);
    let clusters = section(&dump, "Clusters");
    assert_eq!(sent(&clusters["dynamic_active_clusters"][0], "cluster"), *resources.0.clusters["web"]);
    assert!(clusters["version_info"].is_string());
    let listener = &section(&dump, "Listeners")["dynamic_listeners"][0];
    assert_eq!(listener["name"], "0.0.0.0_8080");
    assert_eq!(sent(&listener["active_state"], "listener"), *resources.0.listeners["0.0.0.0_8080"]);
    assert_eq!(sent(&section(&dump, "Routes")["dynamic_route_configs"][0], "route_config"), *resources.0.routes["http.8080"]);
    let endpoint = &section(&dump, "Endpoints")["dynamic_endpoint_configs"][0]["endpoint_config"]["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(endpoint["endpoint"]["address"]["socket_address"], json!({"address": "10.0.0.2", "port_value": 80}));
    assert_eq!(endpoint["health_status"], "HEALTHY");
    assert_eq!(serde_json::from_str::<Value>(&side.proxy.config_dump(true)).unwrap(), dump);
    assert!(!side.proxy.config_dump(false).contains("EndpointsConfigDump"));
    let (status, info) = side.admin("/server_info").await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((status, &info["state"]), (200, &json!("LIVE")));
    assert!(info["version"].as_str().unwrap().contains("/gateproof-mesh simulated/"));
    assert_eq!(side.admin("/listeners").await.1, "0.0.0.0_8080::0.0.0.0:8080\n");
    assert!(side.admin("/clusters").await.1.contains("web::10.0.0.2:80::health_flags::healthy\n"));
    assert_eq!(side.admin("/config_dump?resource=nothing").await.0, 404);
    let listeners: Value = serde_json::from_str(&side.admin("/config_dump?resource=dynamic_listeners").await.1).unwrap();
    assert_eq!(listeners["configs"][0]["name"], "0.0.0.0_8080");
    let ready = side.host.connect_loopback(15021).unwrap();
    assert_eq!(get(ready, "x", "/healthz/ready", &[]).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_refused_cluster_and_a_refused_listener_leave_the_others() {
    let (caller, side) = pair();
    let bad = json!({"name": "bad", "type": "LOGICAL_DNS", "connect_timeout": "1s", "load_assignment": {"cluster_name": "bad", "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": "a.example", "port_value": 80}}}},
        {"endpoint": {"address": {"socket_address": {"address": "b.example", "port_value": 80}}}}]}]}});
    let mut resources = plain("web", "10.0.0.2:80").cluster(bad).listener("same", 8080, json!([{"filters": [tcp("web")]}]));
    let refusals = side.try_give(&resources);
    assert_eq!(refusals.len(), 2, "{refusals:?}");
    assert!(
        refusals[0].type_url.ends_with("v3.Cluster") && refusals[0].message.starts_with("Error adding/updating cluster(s) bad: "),
        "{refusals:?}"
    );
    assert!(
        refusals[1].type_url.ends_with("v3.Listener") && refusals[1].message.contains("has duplicate address '0.0.0.0:8080'"),
        "{refusals:?}"
    );
    assert_eq!(get(dial(&caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap().0, 200);
    let dump = side.dump().await;
    let listeners = &section(&dump, "Listeners")["dynamic_listeners"];
    assert_eq!(listeners[1]["name"], "same");
    assert_eq!(
        listeners[1]["error_state"]["details"],
        "error adding listener: 'same' has duplicate address '0.0.0.0:8080' as existing listener"
    );
    assert_eq!(section(&dump, "Clusters")["dynamic_active_clusters"].as_array().unwrap().len(), 1);
    assert_eq!(side.try_give(&resources).len(), 2, "as long as they are sent");
    resources.0.clusters.remove("bad");
    resources.0.listeners.remove("same");
    side.give(&resources);
}

#[tokio::test]
async fn what_is_not_simulated_is_refused_and_not_done_otherwise() {
    let (_caller, side) = pair();
    let mut proxied = listener("0.0.0.0_8080", 8080, json!([{"filters": [tcp("web")]}]));
    proxied["listener_filters"] = json!([{"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"}}]);
    let refusals = side.try_give(&Resources::default().raw_listener(proxied));
    assert_eq!(refusals[0].message, "Error adding/updating listener(s) 0.0.0.0_8080: not simulated: the PROXY protocol of clients\n");
}

#[tokio::test]
async fn connections_stay_on_chains_that_do_not_change() {
    let (caller, side) = pair();
    let chain = |name: &str, prefix: &str| json!({"name": name, "filter_chain_match": {"source_prefix_ranges": [{"address_prefix": prefix, "prefix_len": 32}]}, "filters": [http("http.8080", json!([]))]});
    let with = |chains: Value| plain("web", "10.0.0.2:80").listener("0.0.0.0_8080", 8080, chains);
    side.give(&with(json!([chain("kept", "10.0.0.1"), chain("gone", "10.0.0.9")])));
    let mut kept = dial(&caller, "10.0.0.3:8080");
    keep_alive(&mut kept).await;
    side.give(&with(json!([chain("kept", "10.0.0.1")])));
    let draining = "/stats?filter=listener_manager.total_filter_chains_draining";
    assert_eq!(side.admin(draining).await.1, "listener_manager.total_filter_chains_draining: 1\n");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(side.admin(draining).await.1, "listener_manager.total_filter_chains_draining: 0\n");
    assert!(!keep_alive(&mut kept).await.contains("connection: close"));
    // Now its own chain changes: it goes on for the drain time, then it is closed.
    side.give(&with(json!([chain("changed", "10.0.0.1")])));
    assert!(keep_alive(&mut kept).await.starts_with("HTTP/1.1 204"));
    assert_eq!(
        side.admin("/stats?filter=listener.0.0.0.0_8080.downstream_cx_active").await.1,
        "listener.0.0.0.0_8080.downstream_cx_active: 1\n"
    );
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), kept.read_to_end(&mut rest)).await.expect("closed after the drain time").unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(
        side.admin("/stats?filter=listener.0.0.0.0_8080.downstream_cx_active").await.1,
        "listener.0.0.0.0_8080.downstream_cx_active: 0\n"
    );
}

#[tokio::test]
async fn a_removed_listener_closes_its_port_and_drains() {
    let (caller, side) = pair();
    let mut resources = plain("web", "10.0.0.2:80");
    side.give(&resources);
    let mut open = dial(&caller, "10.0.0.3:8080");
    keep_alive(&mut open).await;
    resources.0.listeners.clear();
    side.give(&resources);
    assert!(caller.connect(at("10.0.0.3:8080"), Caller::Application).is_err());
    keep_alive(&mut open).await;
    let dump = side.dump().await;
    assert!(section(&dump, "Listeners")["dynamic_listeners"][0]["draining_state"].is_object());
    side.give(&plain("web", "10.0.0.2:80"));
    assert_eq!(get(dial(&caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_listener_waits_for_its_secret_and_goes_on_without() {
    let (caller, side) = pair();
    let ca = Ca::new("ca");
    let chains = json!([{"filters": [http("http.8080", json!([]))], "transport_socket": downstream_tls("kubernetes://web-tls", None)}]);
    let waiting = plain("web", "10.0.0.2:80").listener("0.0.0.0_8443", 8443, chains);
    side.give(&waiting);
    assert!(caller.connect(at("10.0.0.3:8443"), Caller::Application).is_err(), "it does not listen yet");
    assert_eq!(side.proxy.warming(), ["0.0.0.0_8443"]);
    let dump = side.dump().await;
    let listener = &section(&dump, "Listeners")["dynamic_listeners"][1];
    assert!(listener["warming_state"].is_object() && listener.get("active_state").is_none());
    assert_eq!(section(&dump, "Secrets")["dynamic_warming_secrets"][0]["name"], "kubernetes://web-tls");
    let with = waiting.clone().secret("kubernetes://web-tls", ca.secret(&["web.example"]));
    side.give(&with);
    let stream = tls(dial(&caller, "10.0.0.3:8443"), "web.example", &CallerTls::trusting(&ca)).await.unwrap();
    assert_eq!(get(stream, "web.example", "/get", &[]).await.unwrap().0, 200);
    let dump = side.dump().await;
    let secret = &section(&dump, "Secrets")["dynamic_active_secrets"][0]["secret"];
    assert_eq!(secret["tls_certificate"]["private_key"]["inline_bytes"], "W3JlZGFjdGVkXQ==");
    // Another secret that does not come: the version before goes on, until the wait is over.
    let chains = json!([{"filters": [http("http.8080", json!([]))], "transport_socket": downstream_tls("kubernetes://other", None)}]);
    side.give(&with.clone().listener("0.0.0.0_8443", 8443, chains));
    assert!(tls(dial(&caller, "10.0.0.3:8443"), "web.example", &CallerTls::trusting(&ca)).await.is_ok());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(tls(dial(&caller, "10.0.0.3:8443"), "web.example", &CallerTls::trusting(&ca)).await.is_err());
    assert_eq!(side.proxy.warming(), [""; 0]);
}

#[tokio::test]
async fn the_proxys_own_certificate_may_come_later_and_change() {
    let (caller, side) = pair();
    let (one, two) = (Ca::new("one"), Ca::new("two"));
    let chains = json!([{"filters": [http("http.8080", json!([]))], "transport_socket": downstream_tls("default", None)}]);
    side.give(&plain("web", "10.0.0.2:80").listener("0.0.0.0_8443", 8443, chains));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(side.proxy.warming(), ["0.0.0.0_8443"], "it waits for its own for ever");
    for ca in [&one, &two] {
        let (chain_pem, key_pem) = ca.issue(&["web.example"]);
        side.identity.send_replace(Some(super::super::Identity { chain_pem, key_pem, root_pem: ca.pem() }));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(tls(dial(&caller, "10.0.0.3:8443"), "web.example", &CallerTls::trusting(ca)).await.is_ok());
    }
}

#[tokio::test]
async fn endpoints_come_by_eds_and_a_changed_assignment_moves_calls() {
    let (caller, side) = pair();
    let eds = json!({"name": "outbound|80||web", "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"ads": {}}, "service_name": "outbound|80||web"}});
    let to_endpoint = |e: &str| {
        let mut resources = plain("unused", "10.0.0.2:80").cluster(eds.clone()).routes("http.8080", json!([to("outbound|80||web")]));
        let mut assignment = cluster("outbound|80||web", &[e])["load_assignment"].clone();
        assignment["cluster_name"] = "outbound|80||web".into();
        resources.0.endpoints.insert("outbound|80||web".to_owned(), std::sync::Arc::new(assignment));
        resources
    };
    side.give(&to_endpoint("10.0.0.2:81"));
    assert_eq!(get(dial(&caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap().0, 503);
    side.give(&to_endpoint("10.0.0.2:80"));
    assert_eq!(get(dial(&caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap().0, 200);
}
