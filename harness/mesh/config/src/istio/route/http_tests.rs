//! Rules of `http`, one by one.

use serde_json::{Value, json};

use super::backends::Known;
use super::testing::{context, node, service};
use super::{HttpContext, VirtualService, VirtualServices, routes};
use crate::ProxyKind;

/// The routes that a VirtualService with this `http` has at port 80 of the gateway `shop/gw`.
fn made(http: Value) -> Vec<Value> {
    made_with(http, json!({}), Vec::new(), false)
}

fn made_with(http: Value, annotations: Value, mut objects: Vec<Value>, tls: bool) -> Vec<Value> {
    objects.push(service("web", "shop", "10.0.0.1", &[("http", 8000, 80)]));
    objects.push(service("two", "shop", "10.0.0.2", &[("http", 80, 80), ("http-admin", 81, 81)]));
    objects.push(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "rule", "namespace": "shop", "annotations": annotations},
        "spec": {"hosts": ["a.example"], "gateways": ["shop/gw"], "http": http},
    }));
    let context = context(objects);
    let services = VirtualServices::read(&context);
    let node = node(ProxyKind::Router, "gw", "infra");
    let backends = Known::by_gateway(&context, &node, "shop");
    let http = HttpContext {
        labels: &node.labels,
        namespace: &node.namespace,
        gateway: "shop/gw",
        port: 80,
        tls,
        default_retries: None,
        backends: &backends,
    };
    services.of_gateway("shop/gw", "infra").into_iter().flat_map(|service| routes(service, &http)).collect()
}

fn only(http: Value) -> Value {
    let mut made = made(json!([http]));
    assert_eq!(made.len(), 1);
    made.remove(0)
}

fn to(host: &str) -> Value {
    json!([{"destination": {"host": host}}])
}

fn names(routes: &[Value]) -> Vec<&str> {
    routes.iter().filter_map(|route| route["name"].as_str()).collect()
}

#[test]
fn nothing_is_made_behind_what_takes_everything() {
    let made = made(json!([
        {"name": "a", "match": [{"uri": {"prefix": "/a"}}, {"name": "b", "uri": {"exact": "/b"}}], "route": to("web")},
        {"name": "all", "match": [{"uri": {"prefix": "/"}}, {"uri": {"prefix": "/late"}}], "route": to("web")},
        {"name": "never", "route": to("web")},
    ]));
    assert_eq!(names(&made), ["a", "a.b", "all"]);
}

#[test]
fn matches_count_at_their_port_gateway_and_source_only() {
    let made = made(json!([
        {"name": "port", "match": [{"port": 443}], "route": to("web")},
        {"name": "gateway", "match": [{"gateways": ["mesh"]}], "route": to("web")},
        {"name": "labels", "match": [{"sourceLabels": {"app": "other"}}], "route": to("web")},
        {"name": "namespace", "match": [{"sourceNamespace": "shop"}], "route": to("web")},
        {"name": "here", "match": [{"port": 80, "gateways": ["gw"], "sourceLabels": {"app": "other"}, "uri": {"prefix": "/x"}}], "route": to("web")},
        {"name": "own", "match": [{"sourceLabels": {"app": "gw"}, "sourceNamespace": "infra"}], "route": to("web")},
    ]));
    assert_eq!(names(&made), ["here", "own"], "labels do not count where a gateway is named");
}

#[test]
fn the_port_of_a_destination_is_its_own_or_the_only_one_or_the_listeners() {
    let cluster = |destination: Value| only(json!({"route": [{"destination": destination, "weight": 0}]}))["route"]["cluster"].clone();
    assert_eq!(cluster(json!({"host": "web"})), "outbound|8000||web.shop.svc.cluster.local");
    assert_eq!(cluster(json!({"host": "two"})), "outbound|80||two.shop.svc.cluster.local");
    assert_eq!(cluster(json!({"host": "two", "port": {"number": 81}, "subset": "v1"})), "outbound|81|v1|two.shop.svc.cluster.local");
    assert_eq!(cluster(json!({"host": "nobody.example"})), "outbound|80||nobody.example");
    assert_eq!(cluster(json!({"host": ""})), "UnknownService");
}

#[test]
fn weights_count_among_several_and_none_is_dropped() {
    let route = only(json!({"route": [
        {"destination": {"host": "web"}, "weight": 90, "headers": {"request": {"set": {"x-a": "1", "host": "w.example"}}}},
        {"destination": {"host": "two"}, "weight": 0},
        {"destination": {"host": "two", "subset": "v2"}, "weight": 10},
    ]}));
    let clusters = &route["route"]["weighted_clusters"]["clusters"];
    assert_eq!(clusters.as_array().map(Vec::len), Some(2));
    assert_eq!(clusters[0]["weight"], 90);
    assert_eq!(clusters[0]["host_rewrite_literal"], "w.example");
    assert_eq!(clusters[0]["request_headers_to_add"][0]["header"], json!({"key": "x-a", "value": "1"}));
    assert_eq!(clusters[1]["name"], "outbound|80|v2|two.shop.svc.cluster.local");
    assert_eq!(route["decorator"]["operation"], "rule:80/*");
}

#[test]
fn headers_of_a_single_destination_stand_on_the_route() {
    let route = only(json!({
        "headers": {"request": {"add": {"x-route": "1"}}},
        "route": [{"destination": {"host": "web"}, "headers": {"request": {"add": {"x-dest": "2"}}, "response": {"remove": ["server"]}}}],
    }));
    let keys: Vec<&str> =
        route["request_headers_to_add"].as_array().into_iter().flatten().filter_map(|h| h["header"]["key"].as_str()).collect();
    assert_eq!(keys, ["x-route", "x-dest"]);
    assert_eq!(route["response_headers_to_remove"], json!(["server"]));
}

#[test]
fn timeouts_are_none_unless_given() {
    let action = only(json!({"route": to("web")}))["route"].clone();
    assert_eq!((&action["timeout"], &action["max_grpc_timeout"]), (&json!("0s"), &json!("0s")));
    let action = only(json!({"route": to("web"), "timeout": "500ms", "retries": {"attempts": 0}}))["route"].clone();
    assert_eq!((&action["timeout"], &action["max_grpc_timeout"]), (&json!("0.500s"), &json!("0.500s")));
    assert!(action.get("retry_policy").is_none());
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let action = |rewrite: Value| only(json!({"rewrite": rewrite, "route": to("web")}))["route"].clone();
    assert_eq!(action(json!({"uri": "/new"}))["prefix_rewrite"], "/new");
    assert_eq!(action(json!({"authority": "x.example"}))["host_rewrite_literal"], "x.example");
    assert_eq!(
        action(json!({"uriRegexRewrite": {"match": "^/a/(.*)", "rewrite": "/\\1"}, "uri": "/ignored"}))["regex_rewrite"],
        json!({"pattern": {"regex": "^/a/(.*)"}, "substitution": "/\\1"})
    );
}

#[test]
fn routes_of_gateway_api_match_by_segment_and_answer_500() {
    let http =
        json!([{"match": [{"uri": {"prefix": "/a.b"}}], "rewrite": {"uri": "/"}, "route": [{"destination": {"host": "x.example"}}]}]);
    let made = made_with(http, json!({"internal.istio.io/route-semantics": "gateway"}), Vec::new(), false);
    assert_eq!(made[0]["match"]["path_separated_prefix"], "/a.b");
    assert_eq!(made[0]["route"]["cluster_not_found_response_code"], "INTERNAL_SERVER_ERROR");
    assert_eq!(made[0]["route"]["regex_rewrite"], json!({"pattern": {"regex": "^/a\\.b(/?)(.*)"}, "substitution": "/\\2"}));
}

#[test]
fn redirects_have_a_code_and_leave_out_usual_ports() {
    let redirect = |redirect: Value| only(json!({"redirect": redirect}))["redirect"].clone();
    assert_eq!(redirect(json!({"uri": "/x"})), json!({"path_redirect": "/x"}));
    assert_eq!(
        redirect(json!({"authority": "b.example", "scheme": "https", "port": 443, "redirectCode": 308})),
        json!({"host_redirect": "b.example", "path_redirect": "", "scheme_redirect": "https", "response_code": "PERMANENT_REDIRECT"})
    );
    assert_eq!(redirect(json!({"port": 8080, "redirectCode": 302}))["port_redirect"], 8080);
    assert!(redirect(json!({"derivePort": "FROM_REQUEST_PORT"})).get("port_redirect").is_none(), "80 is usual for http");
    for (code, name) in [(303, "SEE_OTHER"), (307, "TEMPORARY_REDIRECT")] {
        assert_eq!(redirect(json!({"redirectCode": code}))["response_code"], name);
    }
    assert_eq!(redirect(json!({"redirectCode": 404})), Value::Null, "Envoy has no such redirect");
    let tls = made_with(json!([{"redirect": {"port": 80}}]), json!({}), Vec::new(), true);
    assert_eq!(tls[0]["redirect"]["port_redirect"], 80);
}

#[test]
fn a_route_can_answer_by_itself() {
    let route = only(json!({"directResponse": {"status": 503, "body": {"string": "no"}}}));
    assert_eq!(route["direct_response"], json!({"status": 503, "body": {"inline_string": "no"}}));
    assert_eq!(route["decorator"]["operation"], "rule:80/*");
}

#[test]
fn mirrors_take_their_share() {
    let policies = |http: Value| only(http)["route"]["request_mirror_policies"].clone();
    let whole = policies(json!({"route": to("web"), "mirror": {"host": "two", "port": {"number": 81}}}));
    assert_eq!(whole[0]["cluster"], "outbound|81||two.shop.svc.cluster.local");
    assert_eq!(whole[0]["runtime_fraction"], json!({"default_value": {"numerator": 100}}));
    assert_eq!(policies(json!({"route": to("web"), "mirror": {"host": "two"}, "mirrorPercentage": {"value": 0}})), Value::Null);
    let half = policies(json!({"route": to("web"), "mirrors": [{"destination": {"host": "web"}, "percentage": {"value": 0.5}}]}));
    assert_eq!(half[0]["runtime_fraction"]["default_value"], json!({"numerator": 5000, "denominator": "MILLION"}));
}

#[test]
fn consistent_hashing_of_the_rule_is_the_routes() {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"host": "web", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
            "subsets": [{"name": "c", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpCookie": {"name": "k", "ttl": "0s"}}}}}]},
    });
    let made = made_with(
        json!([
            {"match": [{"uri": {"prefix": "/a"}}], "route": to("web")},
            {"route": [{"destination": {"host": "web", "subset": "c"}}]},
        ]),
        json!({}),
        vec![rule],
        false,
    );
    assert_eq!(made[0]["route"]["hash_policy"], json!([{"header": {"header_name": "x-user"}}]));
    assert!(made[0]["route"]["retry_policy"].get("retry_host_predicate").is_none());
    assert_eq!(made[1]["route"]["hash_policy"], json!([{"cookie": {"name": "k", "ttl": "0s"}}]));
}

#[test]
fn a_specification_that_cannot_be_read_is_left_out() {
    for spec in [json!({"hosts": "a"}), json!({"hosts": ["a"], "http": [{"timeout": "soon"}]}), json!([1])] {
        assert_eq!(VirtualService::of(&json!({"kind": "VirtualService", "spec": spec})), None);
    }
    assert!(VirtualService::of(&json!({"kind": "VirtualService", "spec": {"hosts": null, "unknown": 1}})).is_some());
    assert_eq!(VirtualService::of(&json!({"kind": "Gateway"})), None);
}
