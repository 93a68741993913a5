use std::sync::Arc;

use serde_json::{Value, json};

use super::apply_envoy_filters;
use crate::ProxyResources;
use crate::istio::policy::testing::{context, node, router, yaml};

fn resources() -> ProxyResources {
    let listener = |name: &str, port: u16, chain: Value| json!({"name": name, "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}}, "filter_chains": [chain]});
    let manager = |extra: Value| {
        let mut config = yaml(
            "{'@type': hcm, http_filters: [{name: fault, typed_config: {'@type': f, a: 1}}, {name: router, typed_config: {'@type': r}}]}",
        );
        config.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
    };
    let route = json!({"name": "inbound|80||", "virtual_hosts": [{"name": "inbound|http|80", "domains": ["*"], "routes": [{"name": "default", "route": {"cluster": "inbound|80||"}}]}]});
    let inbound = json!({"filter_chain_match": {"destination_port": 80}, "filters": [manager(json!({"route_config": route}))]});
    let outbound = json!({"filters": [manager(json!({"rds": {"route_config_name": "8080"}}))]});
    let hosts = json!([{"name": "one:8080", "domains": ["one"], "routes": [{"name": "a", "route": {"cluster": "outbound|8080||one"}}]}]);
    let arc = |name: &str, value: Value| (name.to_owned(), Arc::new(value));
    ProxyResources {
        listeners: [
            arc("virtualInbound", listener("virtualInbound", 15006, inbound)),
            arc("0.0.0.0_8080", listener("0.0.0.0_8080", 8080, outbound)),
        ]
        .into(),
        routes: [
            arc("8080", json!({"name": "8080", "virtual_hosts": hosts})),
            arc("http.8080", json!({"name": "http.8080", "virtual_hosts": hosts})),
        ]
        .into(),
        clusters: [
            arc("outbound|8080||one", json!({"name": "outbound|8080||one", "connect_timeout": "10s", "lb_policy": "LEAST_REQUEST"})),
            arc("inbound|80||", json!({"name": "inbound|80||", "connect_timeout": "10s"})),
        ]
        .into(),
        ..ProxyResources::default()
    }
}

fn filter(patches: &str) -> String {
    let head = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f, namespace: a}\nspec:\n  configPatches:\n";
    format!("{head}{}", patches.lines().map(|line| format!("  {line}\n")).collect::<String>())
}

fn patched(patches: &str) -> ProxyResources {
    let mut resources = resources();
    apply_envoy_filters(&context("", &filter(patches)), &node("a", &[]), &mut resources);
    resources
}

fn names(resources: &ProxyResources, listener: &str) -> Vec<String> {
    let filters = resources.listeners[listener].pointer("/filter_chains/0/filters/0/typed_config/http_filters").expect("filters");
    filters.as_array().into_iter().flatten().map(|filter| filter["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn filters_are_replaced_in_a_context_as_if_it_were_made_anew() {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}]}";
    let adds =
        |cluster: &str| filter(&format!("- applyTo: CLUSTER\n  patch: {{operation: ADD, value: {{name: {cluster}, type: STATIC}}}}"));
    let mesh = "discoverySelectors: [{matchLabels: {mesh: on}}]";
    for mesh in ["", mesh] {
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {mesh: 'on'}}";
        let elsewhere = adds("three").replace("namespace: a", "namespace: istio-system");
        let all = |filters: &[&str]| [&[service, namespace], filters].concat().join("\n---\n");
        let (one, two) = (context(mesh, &all(&[&adds("one")])), context(mesh, &all(&[&adds("two"), &elsewhere])));
        let objects: Vec<Arc<Value>> = [adds("two"), elsewhere.clone()].iter().map(|text| Arc::new(yaml(text))).collect();
        let replaced = one.with_envoy_filters(&objects);
        assert_eq!(replaced.resources(&node("a", &[])), two.resources(&node("a", &[])));
        assert_eq!(replaced.with_envoy_filters(&[]).resources(&node("a", &[])), context(mesh, &all(&[])).resources(&node("a", &[])));
        assert!(
            one.resources(&node("a", &[])).clusters.contains_key("one")
                && !replaced.resources(&node("a", &[])).clusters.contains_key("one")
        );
    }
}

#[test]
fn a_cluster_is_merged_removed_and_added_by_context() {
    let resources = patched(
        "- applyTo: CLUSTER
  match: {context: SIDECAR_OUTBOUND, cluster: {service: one, portNumber: 8080}}
  patch: {operation: MERGE, value: {connectTimeout: 1s, lb_policy: ROUND_ROBIN}}
- applyTo: CLUSTER
  match: {context: SIDECAR_INBOUND}
  patch: {operation: REMOVE}
- applyTo: CLUSTER
  patch: {operation: ADD, value: {name: new, type: STATIC}}",
    );
    let own = json!({"name": "outbound|8080||one", "connect_timeout": "1s", "lb_policy": "LEAST_REQUEST"});
    assert_eq!(*resources.clusters["outbound|8080||one"], own);
    assert_eq!(resources.clusters.keys().collect::<Vec<_>>(), ["new", "outbound|8080||one"]);
}

#[test]
fn an_http_filter_goes_where_it_is_told() {
    let insert = |operation: &str, sub: &str, context: &str| {
        let within = format!("{{name: envoy.filters.network.http_connection_manager{sub}}}");
        patched(&format!(
            "- applyTo: HTTP_FILTER\n  match: {{context: {context}, listener: {{filterChain: {{filter: {within}}}}}}}\n  patch: {{operation: {operation}, value: {{name: lua}}}}"
        ))
    };
    let router = ", subFilter: {name: router}";
    let before = insert("INSERT_BEFORE", router, "SIDECAR_INBOUND");
    assert_eq!(names(&before, "virtualInbound"), ["fault", "lua", "router"]);
    assert_eq!(names(&before, "0.0.0.0_8080"), ["fault", "router"]);
    assert_eq!(names(&insert("INSERT_FIRST", "", "ANY"), "0.0.0.0_8080"), ["lua", "fault", "router"]);
    assert_eq!(names(&insert("INSERT_AFTER", ", subFilter: {name: fault}", "ANY"), "0.0.0.0_8080"), ["fault", "lua", "router"]);
    assert_eq!(names(&insert("REMOVE", ", subFilter: {name: fault}", "ANY"), "0.0.0.0_8080"), ["router"]);
    assert_eq!(names(&insert("REPLACE", router, "ANY"), "0.0.0.0_8080"), ["fault", "lua"]);
    assert_eq!(names(&insert("INSERT_AFTER", ", subFilter: {name: none}", "ANY"), "0.0.0.0_8080"), ["fault", "router"]);
}

#[test]
fn filters_merge_within_their_configuration() {
    let resources = patched(
        "- applyTo: NETWORK_FILTER
  match: {listener: {portNumber: 8080, filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
  patch: {operation: MERGE, value: {typedConfig: {'@type': hcm, streamIdleTimeout: 5s}}}
- applyTo: HTTP_FILTER
  match: {listener: {portNumber: 80, filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: fault}}}}}
  patch: {operation: MERGE, value: {name: fault, typed_config: {'@type': f, b: 2}}}",
    );
    let config =
        |listener: &str, at: &str| resources.listeners[listener].pointer(&format!("/filter_chains/0/filters/0/typed_config{at}")).cloned();
    assert_eq!(config("0.0.0.0_8080", "/stream_idle_timeout"), Some(json!("5s")));
    assert_eq!(config("virtualInbound", "/stream_idle_timeout"), None);
    assert_eq!(config("virtualInbound", "/http_filters/0/typed_config"), Some(json!({"@type": "f", "a": 1, "b": 2})));
}

#[test]
fn routes_are_patched_by_host_and_name() {
    let resources = patched(
        "- applyTo: HTTP_ROUTE
  match: {context: SIDECAR_OUTBOUND, routeConfiguration: {portNumber: 8080, vhost: {name: 'one:8080', route: {name: a}}}}
  patch: {operation: MERGE, value: {route: {timeout: 3s}}}
- applyTo: HTTP_ROUTE
  match: {context: SIDECAR_INBOUND}
  patch: {operation: INSERT_FIRST, value: {name: early, directResponse: {status: 418}}}
- applyTo: VIRTUAL_HOST
  match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: '8080'}}
  patch: {operation: ADD, value: {name: two, domains: [two]}}",
    );
    let hosts = &resources.routes["8080"]["virtual_hosts"];
    assert_eq!(hosts[0]["routes"][0]["route"], json!({"cluster": "outbound|8080||one", "timeout": "3s"}));
    assert_eq!(hosts[1]["name"], "two");
    let inline =
        resources.listeners["virtualInbound"].pointer("/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0");
    assert_eq!(inline, Some(&json!({"name": "early", "direct_response": {"status": 418}})));
}

#[test]
fn a_gateway_is_asked_by_the_port_of_its_service() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: a}\nspec: {selector: {app: gw}, ports: [{port: 80, targetPort: 8080}]}";
    let patch = |port: u16| {
        filter(&format!(
            "- applyTo: ROUTE_CONFIGURATION\n  match: {{context: GATEWAY, routeConfiguration: {{portNumber: {port}}}}}\n  patch: {{operation: MERGE, value: {{maxDirectResponseBodySizeBytes: 9}}}}"
        ))
    };
    let run = |port: u16| {
        let mut resources = resources();
        let objects = format!("{service}\n---\n{}", patch(port));
        apply_envoy_filters(&context("", &objects), &router("a", &[("app", "gw")]), &mut resources);
        resources.routes["http.8080"].get("max_direct_response_body_size_bytes").is_some()
    };
    assert!(run(80) && !run(8080));
}

#[test]
fn chains_and_listeners_come_and_go() {
    let resources = patched(
        "- applyTo: LISTENER
  match: {context: SIDECAR_OUTBOUND, listener: {name: 0.0.0.0_8080}}
  patch: {operation: REMOVE}
- applyTo: FILTER_CHAIN
  match: {context: SIDECAR_INBOUND, listener: {portNumber: 80}}
  patch: {operation: REMOVE}
- applyTo: LISTENER
  match: {context: SIDECAR_INBOUND}
  patch: {operation: ADD, value: {name: extra}}",
    );
    assert_eq!(resources.listeners.keys().collect::<Vec<_>>(), ["extra", "virtualInbound"]);
    assert_eq!(resources.listeners["virtualInbound"]["filter_chains"], json!([]));
}

#[test]
fn priority_and_place_order_the_patches() {
    let one = |name: &str, namespace: &str, priority: i32, value: &str| {
        let patch = format!(
            "configPatches: [{{applyTo: CLUSTER, match: {{context: SIDECAR_OUTBOUND}}, patch: {{operation: MERGE, value: {{alt_stat_name: {value}}}}}}}]"
        );
        format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{priority: {priority}, {patch}}}"
        )
    };
    let run = |filters: [String; 2]| {
        let mut resources = resources();
        apply_envoy_filters(&context("", &filters.join("\n---\n")), &node("a", &[]), &mut resources);
        resources.clusters["outbound|8080||one"]["alt_stat_name"].clone()
    };
    assert_eq!(run([one("x", "a", 0, "local"), one("y", "istio-system", 0, "root")]), "local");
    assert_eq!(run([one("x", "a", -1, "local"), one("y", "istio-system", 0, "root")]), "root");
}
