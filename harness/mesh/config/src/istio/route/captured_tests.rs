//! Routes of real sidecars, against those made from the objects of their cluster (Istio 1.31, `config_dump`).

use serde_json::Value;

use super::testing::context;
use super::{Egress, VirtualServices, sidecar_route_config};
use crate::ProxyNode;

fn same(text: &str) {
    let state: Value = serde_json::from_str(text).expect("a captured state");
    let objects = state["objects"].as_array().cloned().unwrap_or_default();
    let node = objects.iter().find_map(ProxyNode::from_pod).expect("the sidecar's pod");
    let context = context(objects);
    let services = VirtualServices::read(&context);
    let egress = Egress::everything(&context, &services, &node.namespace);
    let routes = state["routes"].as_object().expect("routes");
    assert!(!routes.is_empty());
    for (name, captured) in routes {
        let made = sidecar_route_config(&context, &node, &egress, name);
        assert_eq!(&made, captured, "{name}:\n{made:#}\n{captured:#}");
    }
}

#[test]
fn services_without_rules() {
    same(include_str!("testdata/services.json"));
}

#[test]
fn an_outside_host_that_speaks_http() {
    same(include_str!("testdata/http-entry.json"));
}

#[test]
fn http_rules_for_a_port_that_carries_tls() {
    same(include_str!("testdata/http-rule-for-tls.json"));
}

#[test]
fn a_sidecar_of_another_kind() {
    same(include_str!("testdata/two-gateways.json"));
}
