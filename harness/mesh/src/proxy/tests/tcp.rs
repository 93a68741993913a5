//! Connections without HTTP, and how they end.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::Interception;
use super::world::*;
use crate::net::{Bind, Host, Network};

/// A network with a caller, a server that sends back what it gets, and a proxy.
async fn three() -> (Network, Host, Host, Side) {
    let network = Network::default();
    let (caller, server) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    let side = Side::new(&network, "10.0.0.3", None, None);
    (network, caller, server, side)
}

/// Sends back what comes, until the caller is done.
fn mirror(host: &Host, port: u16) {
    let mut listener = host.listen(Bind::Any, port).unwrap();
    tokio::spawn(async move {
        loop {
            let conn = listener.accept().await;
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(conn);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
}

fn plain(cluster: &str) -> Value {
    json!([{"filters": [tcp(cluster)]}])
}

/// The fields of a line that do not change from run to run: all but the first (time), duration and client ports.
fn facts(line: &str) -> Vec<&str> {
    line.split(' ').skip(4).collect()
}

#[tokio::test]
async fn bytes_are_copied_both_ways_and_counted() {
    let (_network, caller, server, side) = three().await;
    mirror(&server, 9000);
    side.give(&Resources::default().cluster(cluster("back", &["10.0.0.2:9000"])).listener("0.0.0.0_9000", 9000, plain("back")));
    let words = vec![7; 300_000];
    assert_eq!(say(dial(&caller, "10.0.0.3:9000"), &words).await.unwrap(), words);
    let line = side.line().await;
    let fields = facts(&line);
    assert_eq!(fields[..6], ["0", "-", "-", "-", "\"-\"", "300000"], "{line}");
    assert_eq!(fields[6], "300000", "{line}");
    assert!(line.contains("\"10.0.0.2:9000\" back 10.0.0.3:"), "{line}");
    assert!(line.contains(" 10.0.0.3:9000 10.0.0.1:32768 - -"), "{line}");
}

#[tokio::test]
async fn a_missing_cluster_a_missing_endpoint_and_a_closed_port_have_their_flags() {
    let (_network, caller, server, side) = three().await;
    drop(server.listen(Bind::Any, 9000));
    let clusters = Resources::default().cluster(cluster("empty", &[])).cluster(cluster("closed", &["10.0.0.2:9000"]));
    side.give(&clusters.listener("nc", 9001, plain("none")).listener("uh", 9002, plain("empty")).listener("uf", 9003, plain("closed")));
    for port in 9001..=9003 {
        let mut conn = dial(&caller, &format!("10.0.0.3:{port}"));
        conn.write_all(b"hello").await.unwrap();
        assert_eq!(conn.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset, "what was said was not read: {port}");
    }
    let lines = side.lines(3).await;
    assert!(lines[0].contains("\"- - -\" 0 NC - - \"-\" 0 0 "), "{}", lines[0]);
    assert!(lines[0].contains("\"-\" - - 10.0.0.3:9001"), "{}", lines[0]);
    assert!(lines[1].contains("\"- - -\" 0 UH - - \"-\" 0 0 "), "{}", lines[1]);
    assert!(lines[1].contains("\"-\" empty - 10.0.0.3:9002"), "{}", lines[1]);
    assert!(lines[2].contains("\"- - -\" 0 UF,URX - - \"delayed_connect_error:_Connection_refused\" 0 0 "), "{}", lines[2]);
    assert!(lines[2].contains("\"10.0.0.2:9000\" closed - 10.0.0.3:9003"), "{}", lines[2]);
}

#[tokio::test]
async fn more_connections_than_the_circuit_breaker_lets_are_closed() {
    let (_network, caller, server, side) = three().await;
    mirror(&server, 9000);
    let mut limited = cluster("back", &["10.0.0.2:9000"]);
    limited["circuit_breakers"] = json!({"thresholds": [{"max_connections": 1}]});
    side.give(&Resources::default().cluster(limited).listener("l", 9000, plain("back")));
    let mut first = dial(&caller, "10.0.0.3:9000");
    first.write_all(b"a").await.unwrap();
    assert_eq!(first.read(&mut [0]).await.unwrap(), 1);
    assert_eq!(say(dial(&caller, "10.0.0.3:9000"), b"b").await, Err(ErrorKind::ConnectionReset));
    assert!(side.line().await.contains("\"- - -\" 0 UO - - "), "{}", side.line().await);
    drop(first);
    side.lines(2).await;
    assert_eq!(say(dial(&caller, "10.0.0.3:9000"), b"c").await.unwrap(), b"c");
    let stats = side.admin("/stats?filter=upstream_cx_").await.1;
    assert!(stats.contains("cluster.back.upstream_cx_overflow: 1\n"), "{stats}");
    assert!(stats.contains("cluster.back.upstream_cx_total: 2\n"), "{stats}");
}

#[tokio::test]
async fn a_reset_of_the_upstream_goes_on_to_the_client() {
    let (_network, caller, server, side) = three().await;
    let mut listener = server.listen(Bind::Any, 9000).unwrap();
    tokio::spawn(async move {
        let conn = listener.accept().await;
        conn.peek(5).await.unwrap();
        // Closed with unread data, as by a listener without a chain for it.
        drop(conn);
    });
    side.give(&Resources::default().cluster(cluster("back", &["10.0.0.2:9000"])).listener("l", 9000, plain("back")));
    let mut conn = dial(&caller, "10.0.0.3:9000");
    conn.write_all(b"hello").await.unwrap();
    assert_eq!(conn.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(side.line().await.contains("\"- - -\" 0 UR - - \"-\" 5 0 "), "{}", side.line().await);
}

#[tokio::test]
async fn rbac_lets_a_connection_be_made_and_ends_it_at_the_first_byte() {
    let (_network, caller, server, side) = three().await;
    mirror(&server, 9000);
    let rbac = json!({"name": "envoy.filters.network.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC", "stat_prefix": "tcp.",
        "rules": {"policies": {"ns[shop]-policy[only]-rule[0]": {
            "permissions": [{"any": true}], "principals": [{"direct_remote_ip": {"address_prefix": "10.9.0.0", "prefix_len": 16}}]}}}}});
    let chains = json!([{"filters": [rbac, tcp("back")]}]);
    side.give(&Resources::default().cluster(cluster("back", &["10.0.0.2:9000"])).listener("l", 9000, chains));
    let mut conn = dial(&caller, "10.0.0.3:9000");
    conn.write_all(b"hello").await.unwrap();
    assert_eq!(conn.read(&mut [0]).await.unwrap(), 0, "all was read, so it is closed and not reset");
    let line = side.line().await;
    assert!(line.contains("\"- - -\" 0 - - rbac_access_denied_matched_policy[none] \"-\" 5 0 "), "{line}");
    assert!(line.contains("\"10.0.0.2:9000\" back 10.0.0.3:"), "{line}");
}

#[tokio::test]
async fn a_connection_that_no_chain_takes_is_closed_with_a_line_of_the_listener() {
    let (_network, caller, server, side) = three().await;
    mirror(&server, 443);
    let chains = json!([{"filter_chain_match": {"server_names": ["web.example"]}, "filters": [tcp("back")]}]);
    side.give(&Resources::default().cluster(cluster("back", &["10.0.0.2:443"])).listener("0.0.0.0_8443", 8443, chains));
    let ca = Ca::new("any");
    let error = tls(dial(&caller, "10.0.0.3:8443"), "nope.example", &CallerTls::trusting(&ca)).await.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let line = side.line().await;
    assert!(line.contains("\"- - -\" 0 NR filter_chain_not_found - \"-\" 0 0 "), "{line}");
    assert!(line.ends_with("\"-\" - - 10.0.0.3:8443 10.0.0.1:32768 nope.example -"), "{line}");
    // The right name passes, TLS untouched: the mirror sends the ClientHello back.
    let error = tls(dial(&caller, "10.0.0.3:8443"), "web.example", &CallerTls::trusting(&ca)).await.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(side.lines(2).await[1].ends_with("web.example -"));
}

#[tokio::test]
async fn a_sidecar_picks_the_listener_by_the_original_destination() {
    let network = Network::default();
    let (server, other) = (network.add(ip("10.0.0.2")).unwrap(), network.add(ip("10.0.0.4")).unwrap());
    mirror(&server, 9000);
    mirror(&other, 7000);
    mirror(&other, 9000);
    let interception = Interception { outbound: Arc::new(|_| true), inbound: Arc::new(|port| port != 15021) };
    let side = Side::new(&network, "10.0.0.3", None, Some(interception));
    let application = side.host.clone();
    mirror(&application, 80);
    let original = json!({"name": "through", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s"});
    let mut inbound = original.clone();
    inbound["name"] = "inbound".into();
    inbound["upstream_bind_config"] = json!({"source_address": {"address": "127.0.0.6", "port_value": 0}});
    let mut outer = listener("virtualOutbound", 15001, plain("through"));
    outer["use_original_dst"] = true.into();
    let mut inner = listener("0.0.0.0_9000", 9000, plain("back"));
    inner["bind_to_port"] = false.into();
    let resources = Resources::default().cluster(original).cluster(inbound).cluster(cluster("back", &["10.0.0.2:9000"]));
    side.give(&resources.raw_listener(outer).raw_listener(inner).listener("virtualInbound", 15006, plain("inbound")));
    assert_eq!(say(dial(&application, "10.0.0.4:9000"), b"a").await.unwrap(), b"a");
    assert_eq!(say(dial(&application, "10.0.0.4:7000"), b"b").await.unwrap(), b"b");
    assert_eq!(say(dial(&server, "10.0.0.3:80"), b"c").await.unwrap(), b"c");
    let lines = side.lines(3).await;
    assert!(lines[0].contains("\"10.0.0.2:9000\" back 10.0.0.3:") && lines[0].contains(" 10.0.0.4:9000 10.0.0.3:"), "{}", lines[0]);
    assert!(lines[1].contains("\"10.0.0.4:7000\" through 10.0.0.3:"), "{}", lines[1]);
    assert!(lines[2].contains("\"10.0.0.3:80\" inbound 127.0.0.6:"), "{}", lines[2]);
}

#[tokio::test]
async fn names_that_do_not_resolve_leave_no_endpoint_and_a_dropped_proxy_closes_all() {
    let (network, caller, server, side) = three().await;
    mirror(&server, 9000);
    let named = |name: &str, host: &str| {
        let mut of = cluster(name, &["0.0.0.0:9000"]);
        of["type"] = "STRICT_DNS".into();
        of["dns_refresh_rate"] = "0.050s".into();
        of["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] = host.into();
        of
    };
    network.names().set("known.example", vec![ip("10.0.0.2")]);
    let clusters = Resources::default().cluster(named("known", "known.example")).cluster(named("unknown", "unknown.example"));
    side.give(&clusters.clone().listener("a", 9001, plain("known")).listener("b", 9002, plain("unknown")));
    assert_eq!(say(dial(&caller, "10.0.0.3:9001"), b"a").await.unwrap(), b"a");
    assert!(say(dial(&caller, "10.0.0.3:9002"), b"a").await.is_err());
    assert!(side.lines(2).await[1].contains(" 0 UH "));
    network.names().set("unknown.example", vec![ip("10.0.0.2")]);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(say(dial(&caller, "10.0.0.3:9002"), b"a").await.unwrap(), b"a");
    // A logical name is one endpoint, which has all its addresses.
    let mut logical = named("logical", "many.example");
    logical["type"] = "LOGICAL_DNS".into();
    network.names().set("many.example", vec![ip("10.0.0.1"), ip("10.0.0.2")]);
    side.give(&clusters.cluster(logical).listener("a", 9001, plain("known")).listener("c", 9003, plain("logical")));
    assert_eq!(say(dial(&caller, "10.0.0.3:9003"), b"a").await.unwrap(), b"a", "the second address is tried too");
    assert!(side.proxy.config_dump(true).contains("\"additional_addresses\":[{\"address\":{\"socket_address\":{\"address\":\"10.0.0.2\""));
    let mut open = dial(&caller, "10.0.0.3:9001");
    open.write_all(b"x").await.unwrap();
    assert_eq!(open.read(&mut [0]).await.unwrap(), 1);
    drop(side.proxy);
    assert!(caller.connect(at("10.0.0.3:9001"), crate::net::Caller::Application).is_err(), "the port is closed at once");
    assert_eq!(open.read(&mut [0]).await.unwrap(), 0);
}
