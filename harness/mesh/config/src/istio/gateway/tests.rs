//! Rules of merging and serving, one by one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{GatewayParts, build};
use crate::istio::Features;
use crate::istio::route::VirtualServices;
use crate::istio::route::testing::{any_json, context, node, service};
use crate::{ProxyKind, ProxyNode};

fn object(kind: &str, name: &str, created: u8, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": format!("2026-01-{created:02}T00:00:00Z")}, "spec": spec,
    })
}

fn gateway(name: &str, created: u8, servers: Value) -> Value {
    object("Gateway", name, created, json!({"selector": {"app": "gw"}, "servers": servers}))
}

fn http(name: &str, created: u8, hosts: &[&str], to: &str) -> Value {
    object(
        "VirtualService",
        name,
        created,
        json!({"hosts": hosts, "gateways": ["gw"], "http": [{"name": name, "route": [{"destination": {"host": to}}]}]}),
    )
}

fn the_node() -> ProxyNode {
    node(ProxyKind::Router, "gw", "infra")
}

fn made(mut objects: Vec<Value>) -> GatewayParts {
    objects.push(service("gw", "infra", "10.0.0.1", &[("http", 80, 8080), ("https", 443, 8443)]));
    let context = context(objects);
    build(&context, &VirtualServices::read(&context), &the_node(), &|_| None)
}

/// Name and domains of each virtual host.
fn hosts(parts: &GatewayParts, route: &str) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hosts = parts.routes.get(route).and_then(|config| config["virtual_hosts"].as_array()).into_iter().flatten();
    hosts.map(|host| (text(&host["name"]), host["domains"].as_array().into_iter().flatten().map(text).collect())).collect()
}

/// The server names of each chain of a listener.
fn snis(parts: &GatewayParts, listener: &str) -> Vec<Value> {
    let chains = parts.listeners.get(listener).and_then(|listener| listener["filter_chains"].as_array()).into_iter().flatten();
    chains.map(|chain| chain["filter_chain_match"]["server_names"].clone()).collect()
}

const HTTP: fn(Value) -> Value = |hosts| json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts});

fn https(name: &str, hosts: Value, mode: &str) -> Value {
    json!({"port": {"number": 443, "name": name, "protocol": "HTTPS"}, "hosts": hosts, "tls": {"mode": mode, "credentialName": "cert"}})
}

#[test]
fn a_gateway_is_for_pods_with_its_labels_and_without_any_for_all() {
    let spec = |selector: Value| json!({"selector": selector, "servers": [HTTP(json!(["*"]))]});
    for (selector, any) in [(json!({"app": "gw"}), true), (json!({}), true), (json!({"app": "gw", "x": "y"}), false), (Value::Null, true)] {
        let parts = made(vec![object("Gateway", "gw", 1, spec(selector.clone()))]);
        assert_eq!(!parts.listeners.is_empty(), any, "{selector}");
    }
}

#[test]
fn a_gateway_of_another_namespace_counts_unless_istiod_keeps_gateways_to_their_own() {
    let there = gateway("there", 1, json!([HTTP(json!(["there.example"]))]));
    let mut here = gateway("here", 2, json!([HTTP(json!(["here.example"]))]));
    here["metadata"]["namespace"] = json!("infra");
    let mut route = http("here", 1, &["*"], "web");
    route["spec"]["gateways"] = json!(["shop/there", "infra/here"]);
    let objects = vec![there, here, route, service("gw", "infra", "10.0.0.1", &[("http", 80, 8080)])];
    let served = |scope_gateways: bool| {
        let context = context(objects.clone()).with(Features { scope_gateways });
        let parts = build(&context, &VirtualServices::read(&context), &the_node(), &|_| None);
        hosts(&parts, "http.8080").into_iter().flat_map(|(_, domains)| domains).collect::<Vec<_>>()
    };
    assert_eq!(served(false), ["here.example", "there.example"]);
    assert_eq!(served(true), ["here.example"]);
}

#[test]
fn a_port_is_the_services_target_or_itself() {
    let server = |number: u16| json!({"port": {"number": number, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    let parts = made(vec![gateway("gw", 1, json!([server(80), server(9090)]))]);
    assert_eq!(parts.listeners.keys().collect::<Vec<_>>(), ["0.0.0.0_8080", "0.0.0.0_9090"]);
    assert_eq!(hosts(&parts, "http.8080"), [("blackhole:80".to_owned(), vec!["*".to_owned()])]);
}

#[test]
fn a_pod_without_privileges_leaves_out_low_ports() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gw-0", "namespace": "infra"},
        "spec": {"containers": [{"name": "istio-proxy", "env": [{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}]}]},
    });
    let parts = made(vec![pod, gateway("gw", 1, json!([{"port": {"number": 81, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]))]);
    assert!(parts.listeners.is_empty());
    assert_eq!(
        parts.log.first().map(String::as_str),
        Some("buildGatewayListeners: skipping privileged gateway port 81 for node gw-0.infra as it is an unprivileged pod")
    );
}

#[test]
fn http_servers_of_one_port_share_their_routes() {
    let parts = made(vec![
        gateway("gw", 1, json!([HTTP(json!(["a.example"]))])),
        gateway("other", 2, json!([HTTP(json!(["b.example"]))])),
        http("a", 1, &["a.example"], "web"),
        object(
            "VirtualService",
            "b",
            1,
            json!({"hosts": ["b.example"], "gateways": ["other"], "http": [{"route": [{"destination": {"host": "web"}}]}]}),
        ),
    ]);
    let names: Vec<String> = hosts(&parts, "http.8080").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.example:80", "b.example:80"]);
}

#[test]
fn a_later_server_of_another_protocol_is_left_out() {
    let tcp = json!({"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]});
    let parts = made(vec![gateway("gw", 1, json!([HTTP(json!(["*"]))])), gateway("late", 2, json!([tcp]))]);
    assert_eq!(parts.listeners.len(), 1);
    assert_eq!(
        parts.log.first().map(String::as_str),
        Some("skipping server on gateway late port tcp.8080.TCP: conflict with existing server 8080.TCP")
    );
}

#[test]
fn tls_servers_of_one_port_are_told_apart_by_server_name() {
    let parts = made(vec![
        gateway("gw", 1, json!([https("one", json!(["b.example", "a.example"]), "SIMPLE"), https("two", json!(["c.example"]), "MUTUAL")])),
        gateway("late", 2, json!([https("three", json!(["c.example", "d.example"]), "SIMPLE")])),
    ]);
    assert_eq!(snis(&parts, "0.0.0.0_8443"), [json!(["a.example", "b.example"]), json!(["c.example"])]);
    assert_eq!(parts.log.first().map(String::as_str), Some("skipping server on gateway shop/late, duplicate host names: [c.example]"));
    assert_eq!(parts.routes.keys().collect::<Vec<_>>(), ["https.443.one.gw.shop", "https.443.two.gw.shop"]);
}

#[test]
fn two_https_servers_of_one_port_name_have_one_table_of_routes() {
    let parts =
        made(vec![gateway("gw", 1, json!([https("same", json!(["a.example"]), "SIMPLE"), https("same", json!(["b.example"]), "SIMPLE")]))]);
    assert_eq!(snis(&parts, "0.0.0.0_8443"), [json!(["a.example"])]);
    assert_eq!(
        parts.log.first().map(String::as_str),
        Some("skipping server on gateway gw port same.8443.HTTPS: non unique port name for HTTPS port")
    );
}

#[test]
fn a_star_takes_every_server_name() {
    let parts = made(vec![gateway("gw", 1, json!([https("one", json!(["*"]), "SIMPLE")]))]);
    assert_eq!(snis(&parts, "0.0.0.0_8443"), [Value::Null]);
    assert!(parts.listeners["0.0.0.0_8443"].get("listener_filters").is_some());
}

#[test]
fn hosts_may_name_the_namespace_that_may_use_them() {
    for (host, served) in
        [("./a.example", true), ("shop/a.example", true), ("*/a.example", true), ("else/a.example", false), ("*/*", true), ("shop/*", true)]
    {
        let parts = made(vec![gateway("gw", 1, json!([HTTP(json!([host]))])), http("a", 1, &["a.example"], "web")]);
        let expected = if served { "a.example:80" } else { "blackhole:80" };
        assert_eq!(hosts(&parts, "http.8080").first().map(|(name, _)| name.as_str()), Some(expected), "{host}");
    }
}

#[test]
fn what_server_and_rule_have_in_common_is_served() {
    let served = |server: Value, rule: &[&str]| -> Vec<String> {
        let parts = made(vec![gateway("gw", 1, json!([HTTP(server)])), http("a", 1, rule, "web")]);
        hosts(&parts, "http.8080").into_iter().flat_map(|(_, domains)| domains).collect()
    };
    assert_eq!(served(json!(["*.example"]), &["b.example", "A.example", "c.test"]), ["a.example", "b.example"]);
    assert_eq!(served(json!(["a.example", "b.example"]), &["*"]), ["a.example", "b.example"]);
    assert_eq!(served(json!(["*.test"]), &["a.example"]), ["*"], "nothing: the virtual host that answers 404");
}

#[test]
fn rules_for_one_host_are_put_together_with_catch_alls_last() {
    let special = object(
        "VirtualService",
        "special",
        2,
        json!({"hosts": ["a.example"], "gateways": ["gw"], "http": [{"name": "special", "match": [{"uri": {"prefix": "/s"}}], "route": [{"destination": {"host": "web"}}]}]}),
    );
    let parts = made(vec![
        gateway("gw", 1, json!([HTTP(json!(["*"]))])),
        http("young", 3, &["a.example"], "web"),
        http("old", 1, &["a.example"], "web"),
        special,
    ]);
    let routes = parts.routes["http.8080"]["virtual_hosts"][0]["routes"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = routes.iter().filter_map(|route| route["name"].as_str()).collect();
    assert_eq!(names, ["special", "old", "young"]);
}

#[test]
fn a_redirect_needs_no_rule() {
    let server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["b.example", "a.example"], "tls": {"httpsRedirect": true}});
    let parts = made(vec![gateway("gw", 1, json!([server])), http("a", 1, &["a.example"], "web")]);
    let hosts = parts.routes["http.8080"]["virtual_hosts"].as_array().cloned().unwrap_or_default();
    assert_eq!(hosts.len(), 2);
    assert!(hosts.iter().all(|host| host["require_tls"] == "ALL"));
    assert_eq!((&hosts[0]["name"], hosts[0].get("routes").is_some()), (&json!("a.example:80"), true));
    assert_eq!((&hosts[1]["name"], hosts[1].get("routes").is_some()), (&json!("b.example:80"), false));
    assert!(parts.listeners["0.0.0.0_8080"]["filter_chains"][0].get("transport_socket").is_none());
}

fn passthrough(rules: Vec<Value>) -> GatewayParts {
    let server = json!({"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["*.example"], "tls": {"mode": "PASSTHROUGH"}});
    let mut objects = vec![gateway("gw", 1, json!([server]))];
    objects.extend(rules);
    made(objects)
}

fn tls(name: &str, created: u8, matching: Value) -> Value {
    let route = json!([{"destination": {"host": format!("{name}.example"), "port": {"number": 443}}}]);
    object(
        "VirtualService",
        name,
        created,
        json!({"hosts": ["a.example", "b.example"], "gateways": ["gw"], "tls": [{"match": matching, "route": route}]}),
    )
}

#[test]
fn sealed_tls_has_a_chain_for_each_match_and_the_first_of_equal_names_wins() {
    let parts = passthrough(vec![
        tls("young", 2, json!([{"sniHosts": ["a.example"]}, {"sniHosts": ["b.example"], "port": 443}])),
        tls(
            "old",
            1,
            json!([{"sniHosts": ["a.example"]}, {"sniHosts": ["c.example"], "port": 8443}, {"sniHosts": ["d.example"], "gateways": ["mesh"]}]),
        ),
    ]);
    assert_eq!(snis(&parts, "0.0.0.0_8443"), [json!(["a.example"]), json!(["b.example"])]);
    let chains = &parts.listeners["0.0.0.0_8443"]["filter_chains"];
    assert_eq!(chains[0]["filters"][0]["typed_config"]["cluster"], "outbound|443||old.example");
    assert_eq!(
        parts.log,
        ["skipping VirtualService young rule #0 on server port 443 of gateway shop/gw, duplicate SNI host names: [a.example]"]
    );
}

#[test]
fn bytes_take_the_first_tcp_route_of_their_gateway() {
    let server = json!({"port": {"number": 31400, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]});
    let rule = |name: &str, created: u8, matching: Value| {
        let route = json!([{"destination": {"host": name, "port": {"number": 9000}}}]);
        object("VirtualService", name, created, json!({"hosts": ["*"], "gateways": ["gw"], "tcp": [{"match": matching, "route": route}]}))
    };
    let parts = made(vec![
        gateway("gw", 1, json!([server])),
        rule("elsewhere", 1, json!([{"port": 31401}])),
        rule("here", 2, json!([{"port": 1}, {"port": 31400, "gateways": ["gw"]}])),
        rule("late", 3, json!([])),
    ]);
    let filters = &parts.listeners["0.0.0.0_31400"]["filter_chains"][0]["filters"];
    assert_eq!(filters[0]["typed_config"]["cluster"], "outbound|9000||here.shop.svc.cluster.local");
    assert!(parts.listeners["0.0.0.0_31400"].get("listener_filters").is_none());
}

#[test]
fn other_chains_of_a_port_survive_one_that_has_no_route() {
    let parts = made(vec![gateway(
        "gw",
        1,
        json!([
            https("web", json!(["a.example"]), "SIMPLE"),
            {"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["b.example"], "tls": {"mode": "SIMPLE", "credentialName": "c"}},
        ]),
    )]);
    assert_eq!(snis(&parts, "0.0.0.0_8443"), [json!(["a.example"])]);
    assert_eq!(
        parts.log.get(..2).unwrap_or_default(),
        ["no virtual service bound to gateway: shop/gw", "gateway shop/gw:443 listener missed network filter"]
    );
}

#[test]
fn mesh_tls_is_passed_on_for_every_service_that_the_hosts_cover() {
    let server =
        json!({"port": {"number": 15443, "name": "tls", "protocol": "TLS"}, "hosts": ["*.local"], "tls": {"mode": "AUTO_PASSTHROUGH"}});
    let parts = made(vec![gateway("gw", 1, json!([server])), service("web", "shop", "10.0.0.7", &[("http", 8000, 80)])]);
    let names = snis(&parts, "0.0.0.0_15443");
    assert!(names.contains(&json!(["outbound_.8000_._.web.shop.svc.cluster.local"])), "{names:?}");
}

#[test]
fn proxies_in_front_are_counted_as_mesh_or_pod_say() {
    let mesh = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "defaultConfig: {gatewayTopology: {numTrustedProxies: 1, forwardClientCertDetails: SANITIZE, proxyProtocol: {}}}"}});
    let context = context(vec![mesh, gateway("gw", 1, json!([HTTP(json!(["*"]))]))]);
    let services = VirtualServices::read(&context);
    let manager = |node: &ProxyNode| {
        let parts = build(&context, &services, node, &|_| None);
        assert_eq!(parts.listeners["0.0.0.0_80"]["listener_filters"][0]["name"], "envoy.filters.listener.proxy_protocol");
        parts.listeners["0.0.0.0_80"]["filter_chains"][0]["filters"][0]["typed_config"].clone()
    };
    let mut node = the_node();
    let of_mesh = manager(&node);
    assert_eq!(of_mesh["xff_num_trusted_hops"], 1);
    assert!(of_mesh.get("forward_client_cert_details").is_none() && of_mesh.get("set_current_client_cert_details").is_none());
    node.annotations.insert("proxy.istio.io/config".to_owned(), "gatewayTopology: {numTrustedProxies: 2}".to_owned());
    assert_eq!(manager(&node)["xff_num_trusted_hops"], 2);
}

proptest! {
    #[test]
    fn no_object_of_any_shape_makes_it_panic(gateway_spec in any_json(), service_spec in any_json(), metadata in any_json()) {
        let raw = |kind: &str, metadata: Value, spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
        made(vec![
            raw("Gateway", metadata.clone(), gateway_spec.clone()),
            raw("VirtualService", metadata, service_spec.clone()),
            object("Gateway", "gw", 1, gateway_spec),
            object("VirtualService", "r", 1, service_spec),
            gateway("gw2", 2, json!([HTTP(json!(["*"]))])),
        ]);
    }

    #[test]
    fn the_order_of_objects_does_not_matter(order in Just((0..7usize).collect::<Vec<_>>()).prop_shuffle()) {
        let objects = [
            gateway("gw", 1, json!([HTTP(json!(["*"])), https("one", json!(["a.example"]), "SIMPLE")])),
            gateway("gw-b", 1, json!([HTTP(json!(["a.example"])), https("two", json!(["a.example"]), "SIMPLE")])),
            gateway("late", 2, json!([{"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}])),
            http("a", 1, &["a.example"], "web"),
            http("b", 1, &["a.example"], "other"),
            http("c", 2, &["*"], "web"),
            service("web", "shop", "10.0.0.7", &[("http", 8000, 80)]),
        ];
        let shuffled = order.iter().filter_map(|index| objects.get(*index).cloned()).collect();
        prop_assert_eq!(made(shuffled), made(objects.to_vec()));
    }
}
