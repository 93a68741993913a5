//! Policies, by what they look at.

use serde_json::{Value, json};

use super::listener;
use crate::envoy::access_log::{CallRecord, TlsFacts};
use crate::envoy::headers::Headers;
use crate::envoy::network::NetworkFilter;
use crate::envoy::rbac::Rbac;

/// Rules are read with the filter that holds them.
fn rules(action: &str, policies: Value) -> Rbac {
    let filter = json!({"name": "envoy.filters.network.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC", "stat_prefix": "x",
        "rules": {"action": action, "policies": policies}}});
    let listener = listener(vec![json!({"filters": [filter, super::tcp_proxy("c")]})]).unwrap();
    let Some(NetworkFilter::Rbac(rbac)) = listener.filter_chains[0].filters.first() else { panic!() };
    rbac.rules.clone().unwrap()
}

fn policy(permission: Value, principal: Value) -> Value {
    json!({"permissions": [permission], "principals": [principal]})
}

fn holds(permission: Value, principal: Value, call: &CallRecord) -> bool {
    rules("ALLOW", json!({"p": policy(permission, principal)})).check(call).allowed
}

fn any() -> Value {
    json!({"any": true})
}

fn call() -> CallRecord {
    let mut call = CallRecord {
        request: Headers::from_iter([(":path", "/a/b?q"), (":method", "GET"), (":authority", "Shop.test"), ("x-token", "1")]),
        ..CallRecord::default()
    };
    call.downstream.local = Some("10.0.0.1:8080".parse().unwrap());
    call.downstream.remote = Some("203.0.113.7:1".parse().unwrap());
    call.downstream.direct_remote = Some("10.0.0.9:1".parse().unwrap());
    call.downstream.requested_server_name = "sni.test".to_owned();
    call.metadata.insert("envoy.filters.http.jwt_authn".to_owned(), json!({"payload": {"iss": "me", "groups": ["a", "b"]}}));
    call
}

#[test]
fn permissions_look_at_the_request_and_at_the_connection() {
    let call = call();
    let net = |ip: &str, length: u8| json!({"destination_ip": {"address_prefix": ip, "prefix_len": length}});
    let table = [
        (json!({"url_path": {"path": {"prefix": "/a/"}}}), true),
        (json!({"url_path": {"path": {"exact": "/a/b"}}}), true),
        (json!({"url_path": {"path": {"exact": "/a/b?q"}}}), false),
        (json!({"header": {"name": ":method", "string_match": {"exact": "GET"}}}), true),
        (json!({"header": {"name": ":authority", "string_match": {"exact": "shop.test", "ignore_case": true}}}), true),
        (json!({"header": {"name": "x-none", "present_match": true}}), false),
        (net("10.0.0.0", 8), true),
        (net("11.0.0.0", 8), false),
        (json!({"destination_port": 8080}), true),
        (json!({"destination_port_range": {"start": 8080, "end": 8081}}), true),
        (json!({"destination_port_range": {"start": 8081, "end": 9000}}), false),
        (json!({"requested_server_name": {"suffix": ".test"}}), true),
        (json!({"not_rule": {"destination_port": 8080}}), false),
        (json!({"or_rules": {"rules": [{"destination_port": 1}, {"any": true}]}}), true),
        (json!({"and_rules": {"rules": [{"destination_port": 1}, {"any": true}]}}), false),
        (json!({"uri_template": {"name": "t", "typed_config": {"@type": "x", "path_template": "/a/*"}}}), true),
        (json!({"uri_template": {"name": "t", "typed_config": {"@type": "x", "path_template": "/*"}}}), false),
        (json!({"uri_template": {"name": "t", "typed_config": {"@type": "x", "path_template": "/**"}}}), true),
    ];
    for (permission, wanted) in table {
        assert_eq!(holds(permission.clone(), any(), &call), wanted, "{permission}");
    }
}

#[test]
fn principals_look_at_who_calls() {
    let mut call = call();
    let net = |field: &str, ip: &str| json!({field: {"address_prefix": ip, "prefix_len": 32}});
    let claim = |value: Value| json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "payload"}, {"key": "groups"}], "value": value}});
    let authenticated = |text: &str| json!({"authenticated": {"principal_name": {"exact": text}}});
    let table = |call: &CallRecord, rows: &[(Value, bool)]| {
        for (principal, wanted) in rows {
            assert_eq!(holds(any(), principal.clone(), call), *wanted, "{principal}");
        }
    };
    table(
        &call,
        &[
            (net("remote_ip", "203.0.113.7"), true),
            (net("direct_remote_ip", "203.0.113.7"), false),
            (net("direct_remote_ip", "10.0.0.9"), true),
            (net("source_ip", "10.0.0.9"), true),
            (claim(json!({"list_match": {"one_of": {"string_match": {"exact": "b"}}}})), true),
            (
                claim(
                    json!({"or_match": {"value_matchers": [{"string_match": {"exact": "b"}}, {"list_match": {"one_of": {"string_match": {"exact": "z"}}}}]}}),
                ),
                false,
            ),
            (json!({"authenticated": {}}), false),
            (json!({"not_id": {"authenticated": {}}}), true),
            (json!({"filter_state": {"key": "k", "string_match": {"exact": "v"}}}), false),
        ],
    );
    call.filter_state.insert("k".to_owned(), "v".to_owned());
    call.downstream.tls =
        Some(TlsFacts { peer_uri_sans: vec!["spiffe://a".to_owned()], peer_subject: "CN=s".to_owned(), ..TlsFacts::default() });
    table(
        &call,
        &[
            (json!({"authenticated": {}}), true),
            (authenticated("spiffe://a"), true),
            (authenticated("CN=s"), true),
            (authenticated("spiffe://b"), false),
            (json!({"filter_state": {"key": "k", "string_match": {"exact": "v"}}}), true),
        ],
    );
}

#[test]
fn the_first_policy_in_order_of_names_is_named() {
    let both = json!({"b": policy(any(), any()), "a": policy(any(), any())});
    let denied = rules("DENY", both.clone()).check(&call());
    assert_eq!((denied.allowed, denied.policy.as_deref()), (false, Some("a")));
    let logged = rules("LOG", both).check(&call());
    assert!(logged.allowed);
    assert!(!rules("ALLOW", json!({})).check(&call()).allowed);
    assert!(rules("DENY", json!({})).check(&call()).allowed);
}

#[test]
fn what_asks_for_http_never_holds_for_a_connection() {
    let connection = CallRecord::default();
    assert!(!holds(json!({"header": {"name": ":method", "string_match": {"exact": "GET"}}}), any(), &connection));
    assert!(!holds(json!({"url_path": {"path": {"prefix": "/"}}}), any(), &connection));
    assert!(!holds(json!({"destination_port": 1}), any(), &connection));
}
