//! What is made from objects of a real cluster, against what its gateways had (Istio 1.31, `config_dump`).

use serde_json::Value;

use super::{GatewayParts, build};
use crate::ProxyNode;
use crate::istio::route::VirtualServices;
use crate::istio::route::testing::context;

/// The captured state, and what is made from its objects.
fn captured(text: &str) -> (Value, GatewayParts) {
    let state: Value = serde_json::from_str(text).expect("a captured state");
    let objects = state["objects"].as_array().cloned().unwrap_or_default();
    let node = objects.iter().find_map(ProxyNode::from_pod).expect("the gateway's pod");
    let context = context(objects);
    let parts = build(&context, &VirtualServices::read(&context), &node, &|_| None);
    (state, parts)
}

/// The first place at which two values differ, for a message that can be read.
fn difference(at: &str, wanted: &Value, made: &Value) -> Option<String> {
    match (wanted, made) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter()
                .find_map(|key| difference(&format!("{at}/{key}"), a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(index, (a, b))| difference(&format!("{at}/{index}"), a, b))
        }
        (a, b) => (a != b).then(|| format!("{at}: captured {a}, made {b}")),
    }
}

fn same(text: &str) -> GatewayParts {
    let (state, parts) = captured(text);
    let made =
        |map: &std::collections::BTreeMap<String, Value>| -> Value { map.clone().into_iter().collect::<serde_json::Map<_, _>>().into() };
    assert_eq!(difference("listeners", &state["listeners"], &made(&parts.listeners)), None);
    assert_eq!(difference("routes", &state["routes"], &made(&parts.routes)), None);
    parts
}

#[test]
fn http_and_ended_tls_with_routes() {
    let parts = same(include_str!("testdata/http-and-ended-tls.json"));
    assert_eq!(parts.log, Vec::<String>::new());
    assert_eq!(parts.listeners.keys().collect::<Vec<_>>(), ["0.0.0.0_8080", "0.0.0.0_8443"]);
}

#[test]
fn routes_in_another_order() {
    same(include_str!("testdata/routes-in-reverse-order.json"));
}

#[test]
fn tls_passed_on_by_server_name() {
    same(include_str!("testdata/sealed-tls.json"));
    same(include_str!("testdata/sealed-tls-to-an-http-entry.json"));
    same(include_str!("testdata/two-gateways-sealed.json"));
    same(include_str!("testdata/two-gateways-policy.json"));
}

#[test]
fn mesh_tls_ended_in_front_of_a_tcp_route() {
    same(include_str!("testdata/two-gateways-mesh-tls.json"));
}

#[test]
fn a_tls_route_behind_ended_tls_leaves_no_listener() {
    let parts = same(include_str!("testdata/tls-route-behind-ended-tls.json"));
    assert_eq!(
        parts.log,
        [
            "gateway mesh-test/egress-gateway:443 listener missed network filter",
            r#"gateway omitting listener "0.0.0.0_8443" due to: must have more than 0 chains in listener "0.0.0.0_8443""#,
        ]
    );
}

#[test]
fn ended_tls_that_expects_http_answers_404() {
    let parts = same(include_str!("testdata/ended-tls-expects-http.json"));
    assert_eq!(
        parts.log,
        [
            "constructed http route config for route https.443.tls.egress-gateway.mesh-test on port 443 with no vhosts; Setting up a default 404 vhost"
        ]
    );
}

#[test]
fn an_http_route_for_sealed_tls_leaves_no_listener() {
    let parts = same(include_str!("testdata/http-route-for-sealed-tls.json"));
    assert_eq!(parts.log, [r#"gateway omitting listener "0.0.0.0_8443" due to: must have more than 0 chains in listener "0.0.0.0_8443""#]);
}
