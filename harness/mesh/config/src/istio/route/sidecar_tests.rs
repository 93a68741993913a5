//! Rules of a sidecar's routes, one by one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::l4::concerning;
use super::testing::{any_json, context, node, service};
use super::{Egress, VirtualServices, sidecar_route_config, tcp_proxy, tcp_routes, tls_matches};
use crate::ProxyKind;

fn rule(name: &str, created: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created}, "spec": spec,
    })
}

/// Names and domains, or the name of the first route, of the route configuration of a sidecar of `shop`.
fn config(objects: Vec<Value>, name: &str) -> Value {
    let context = context(objects);
    let services = VirtualServices::read(&context);
    let node = node(ProxyKind::Sidecar, "client", "shop");
    let egress = Egress::everything(&context, &services, "shop");
    sidecar_route_config(&context, &node, &egress, name)
}

fn hosts(config: &Value) -> Vec<(&str, Vec<&str>)> {
    let hosts = config["virtual_hosts"].as_array().into_iter().flatten();
    hosts
        .map(|host| {
            (
                host["name"].as_str().unwrap_or_default(),
                host["domains"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
            )
        })
        .collect()
}

fn route(host: &str) -> Value {
    json!([{"route": [{"destination": {"host": host}}]}])
}

#[test]
fn a_service_has_every_name_that_its_namespace_allows() {
    let objects = vec![
        service("web", "shop", "10.0.0.1", &[("http", 80, 8080)]),
        service("far", "other", "10.0.0.2", &[("http", 80, 8080)]),
        service("db", "shop", "10.0.0.3", &[("tcp", 80, 8080)]),
        service("head", "shop", "None", &[("http", 80, 8080)]),
        service("elsewhere", "shop", "10.0.0.4", &[("http", 81, 8080)]),
    ];
    let config = config(objects, "80");
    assert_eq!(
        hosts(&config),
        [
            (
                "far.other.svc.cluster.local:80",
                vec!["far.other.svc.cluster.local", "far.other.svc.cluster.local.", "far.other", "far.other.svc", "10.0.0.2"]
            ),
            (
                "head.shop.svc.cluster.local:80",
                vec![
                    "head.shop.svc.cluster.local",
                    "head.shop.svc.cluster.local.",
                    "head",
                    "head.shop.svc",
                    "head.shop",
                    "*.head.shop.svc.cluster.local",
                    "*.head.shop.svc.cluster.local.",
                    "*.head",
                    "*.head.shop.svc",
                    "*.head.shop",
                ]
            ),
            (
                "web.shop.svc.cluster.local:80",
                vec!["web.shop.svc.cluster.local", "web.shop.svc.cluster.local.", "web", "web.shop.svc", "web.shop", "10.0.0.1"]
            ),
            ("allow_any", vec!["*"]),
        ]
    );
}

#[test]
fn the_oldest_rule_for_a_host_counts() {
    let config = config(
        vec![
            service("web", "shop", "10.0.0.1", &[("http", 80, 8080)]),
            rule("young", "2026-01-02T00:00:00Z", json!({"hosts": ["web"], "http": route("young.example")})),
            rule("old", "2026-01-01T00:00:00Z", json!({"hosts": ["web", "free.example"], "http": route("old.example")})),
        ],
        "80",
    );
    assert_eq!(config["virtual_hosts"][0]["name"], "free.example:80");
    assert_eq!(config["virtual_hosts"][0]["domains"], json!(["free.example"]));
    assert_eq!(config["virtual_hosts"][1]["routes"][0]["route"]["cluster"], "outbound|80||old.example");
    assert_eq!(hosts(&config).len(), 3);
}

#[test]
fn hosts_that_no_service_has_are_served_on_port_80_alone() {
    let objects = || {
        vec![
            service("web", "shop", "10.0.0.1", &[("http", 80, 8080), ("http-b", 81, 81)]),
            rule("r", "2026-01-01T00:00:00Z", json!({"hosts": ["free.example"], "http": route("web")})),
        ]
    };
    assert_eq!(hosts(&config(objects(), "80"))[0].0, "free.example:80");
    assert_eq!(hosts(&config(objects(), "81"))[0].0, "web.shop.svc.cluster.local:81");
}

#[test]
fn a_wildcard_takes_the_services_that_nobody_names_better() {
    let entry = |host: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": host, "namespace": "shop"},
            "spec": {"hosts": [host], "ports": [{"number": 8000, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"}})
    };
    let config = config(
        vec![
            entry("a.b.example"),
            entry("c.example"),
            entry("d.example"),
            rule("wide", "2026-01-01T00:00:00Z", json!({"hosts": ["*.example"], "http": route("wide")})),
            rule("narrow", "2026-01-02T00:00:00Z", json!({"hosts": ["*.b.example"], "http": route("narrow")})),
            rule("exact", "2026-01-03T00:00:00Z", json!({"hosts": ["d.example"], "http": route("exact")})),
        ],
        "8000",
    );
    let taken: Vec<(&str, &str)> = config["virtual_hosts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|host| (host["name"].as_str().unwrap_or_default(), host["routes"][0]["route"]["cluster"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        taken,
        [
            ("a.b.example:8000", "outbound|8000||narrow.shop.svc.cluster.local"),
            ("c.example:8000", "outbound|8000||wide.shop.svc.cluster.local"),
            ("d.example:8000", "outbound|8000||exact.shop.svc.cluster.local"),
            ("allow_any", "PassthroughCluster"),
        ]
    );
}

#[test]
fn a_listener_that_finds_out_the_protocol_gets_one_service() {
    let objects = vec![service("web", "shop", "10.0.0.1", &[("web", 9000, 1)]), service("far", "other", "10.0.0.2", &[("web", 9000, 1)])];
    let config = config(objects, "web.shop.svc.cluster.local:9000");
    assert_eq!(hosts(&config), [("web.shop.svc.cluster.local:9000", vec!["*"])]);
}

#[test]
fn registry_only_answers_502() {
    let mesh = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}});
    let config = config(vec![mesh], "80");
    assert_eq!(
        config["virtual_hosts"][0]["routes"],
        json!([{"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}])
    );
    assert_eq!(config["virtual_hosts"][0]["name"], "block_all");
}

#[test]
fn a_name_that_is_no_port_has_no_routes() {
    for name in ["", "http.80", "a:b", ":", "99999999"] {
        assert!(hosts(&config(Vec::new(), name)).is_empty(), "{name}");
    }
}

#[test]
fn a_service_is_also_found_by_the_names_that_stand_for_it() {
    let alias = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": "shop"},
        "spec": {"type": "ExternalName", "externalName": "web.other.svc.cluster.local", "ports": [{"name": "http", "port": 80}]},
    });
    let config = config(vec![service("web", "other", "10.0.0.1", &[("http", 80, 8080)]), alias], "80");
    let hosts = hosts(&config);
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    assert_eq!(hosts[0].0, "web.other.svc.cluster.local:80");
    for domain in ["web.other", "front", "front.shop", "front.shop.svc.cluster.local", "10.0.0.1"] {
        assert!(hosts[0].1.contains(&domain), "{domain} in {hosts:?}");
    }
}

proptest! {
    #[test]
    fn no_rule_of_any_shape_makes_it_panic(any in any_json(), http in any_json(), l4 in any_json(), name in "[a-z.]{0,4}:?[0-9]{0,5}") {
        let context = context(vec![
            service("web", "shop", "10.0.0.1", &[("http", 80, 8080)]),
            rule("any", "2026-01-01T00:00:00Z", any),
            rule("http", "2026-01-01T00:00:00Z", json!({"hosts": ["web", "*"], "http": [http]})),
            rule("l4", "2026-01-01T00:00:00Z", json!({"hosts": ["web"], "tls": [l4.clone()], "tcp": [l4]})),
        ]);
        let services = VirtualServices::read(&context);
        let node = node(ProxyKind::Sidecar, "client", "shop");
        let egress = Egress::everything(&context, &services, "shop");
        for name in ["80", "web.shop.svc.cluster.local:80", &name] {
            prop_assert!(sidecar_route_config(&context, &node, &egress, name).is_object());
        }
        let mine = concerning(&egress.virtual_services, "web.shop.svc.cluster.local");
        let (tcp, _) = tcp_routes(&mine, &node, 80);
        for chain in tls_matches(&mine, &node, 80).into_iter().chain(tcp) {
            let _ = tcp_proxy(&context, &node, chain.route, 80, chain.service);
        }
    }
}
