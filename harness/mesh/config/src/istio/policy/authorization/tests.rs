use serde_json::{Value, json};

use super::{http_filters, network_filters};
use crate::istio::policy::testing::{context, node};

fn policies(spec: &str) -> String {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: a}\nspec:\n";
    format!("{head}{}", spec.lines().map(|line| format!("  {line}\n")).collect::<String>())
}

fn http(spec: &str) -> Vec<Value> {
    http_filters(&context("", &policies(spec)), &node("a", &[("app", "one")]), &mut Vec::new())
}

fn tcp(spec: &str) -> Vec<Value> {
    network_filters(&context("", &policies(spec)), &node("a", &[("app", "one")]), &mut Vec::new())
}

/// As a real Envoy shows it (captured on kind, Istio 1.31-alpha; the names are changed).
#[test]
fn a_principal_on_tcp_looks_like_the_captured_one() {
    let filters = tcp("action: ALLOW\nrules:\n- from:\n  - source:\n      principals: [cluster.local/ns/b/sa/c]");
    let principal = json!({"authenticated": {"principal_name": {"exact": "spiffe://cluster.local/ns/b/sa/c"}}});
    let wanted = json!({
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            "rules": {"policies": {"ns[a]-policy[p]-rule[0]": {
                "permissions": [{"and_rules": {"rules": [{"any": true}]}}],
                "principals": [{"and_ids": {"ids": [{"or_ids": {"ids": [principal]}}]}}],
            }}},
            "stat_prefix": "tcp.",
            "shadow_rules_stat_prefix": "istio_dry_run_allow_",
        }
    });
    assert_eq!(filters, [wanted]);
}

#[test]
fn allow_without_rules_matches_nothing_and_deny_is_said() {
    let rules = |filters: &[Value]| filters[0]["typed_config"]["rules"].clone();
    let never = json!({"permissions": [{"not_rule": {"any": true}}], "principals": [{"not_id": {"any": true}}]});
    assert_eq!(rules(&http("{}")), json!({"policies": {"ns[a]-policy[p]-rule[0]": never}}));
    assert_eq!(rules(&http("action: DENY\nrules: [{}]"))["action"], "DENY");
    assert!(http("selector: {matchLabels: {app: two}}").is_empty());
}

#[test]
fn what_only_a_request_has_is_dropped_from_deny_and_ends_allow_on_tcp() {
    let rules = "rules:\n- from:\n  - source: {requestPrincipals: [i/s]}\n  to:\n  - operation: {ports: ['80'], methods: [GET]}";
    assert_eq!(tcp(&format!("action: ALLOW\n{rules}"))[0]["typed_config"]["rules"], json!({}));
    let deny = &tcp(&format!("action: DENY\n{rules}"))[0]["typed_config"]["rules"]["policies"]["ns[a]-policy[p]-rule[0]"];
    assert_eq!(deny["permissions"], json!([{"and_rules": {"rules": [{"or_rules": {"rules": [{"destination_port": 80}]}}]}}]));
    assert_eq!(deny["principals"], json!([{"and_ids": {"ids": [{"any": true}]}}]));
}

#[test]
fn patterns_of_every_kind_become_their_matchers() {
    let filters = http(
        "rules:
- to:
  - operation:
      hosts: ['*.example.com']
      notMethods: ['*']
      paths: ['/a/*', '/b/{*}/c', '*']
  from:
  - source:
      namespaces: ['team-*']
      serviceAccounts: [worker, other/worker]
      ipBlocks: ['10.0.0.0/8']
      notRemoteIpBlocks: ['1.2.3.4']
      requestPrincipals: ['https://issuer/x/*']
  when:
  - {key: 'request.headers[x-team]', values: ['blue*']}
  - {key: 'request.auth.claims[realm][role]', values: [admin]}
  - {key: connection.sni, notValues: [a.b]}
  - {key: destination.ip, values: ['10.1.1.1']}",
    );
    let policy = &filters[0]["typed_config"]["rules"]["policies"]["ns[a]-policy[p]-rule[0]"];
    let kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
    let wanted = json!([
        {"or_rules": {"rules": [{"header": {"name": ":authority", "string_match": {"suffix": ".example.com", "ignore_case": true}}}]}},
        {"not_rule": {"or_rules": {"rules": [{"header": {"name": ":method", "present_match": true}}]}}},
        {"or_rules": {"rules": [
            {"url_path": {"path": {"prefix": "/a/"}}},
            {"uri_template": {"name": "uri-template", "typed_config": {"@type": kind, "path_template": "/b/*/c"}}},
            {"url_path": {"path": {"safe_regex": {"regex": ".+"}}}},
        ]}},
        {"not_rule": {"or_rules": {"rules": [{"requested_server_name": {"exact": "a.b"}}]}}},
        {"or_rules": {"rules": [{"destination_ip": {"address_prefix": "10.1.1.1", "prefix_len": 32}}]}},
    ]);
    assert_eq!(policy["permissions"][0]["and_rules"]["rules"], wanted);
    let ids = &policy["principals"][0]["and_ids"]["ids"];
    let name = |regex: &str| json!({"authenticated": {"principal_name": {"safe_regex": {"regex": regex}}}});
    let claim = |path: Value, value: Value| json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}});
    let of = |name: &str| json!([{"key": "payload"}, {"key": name}]);
    let issuer = claim(of("iss"), json!({"string_match": {"exact": "https://issuer/x"}}));
    let subject = claim(of("sub"), json!({"string_match": {"safe_regex": {"regex": ".+"}}}));
    assert_eq!(ids[0], json!({"and_ids": {"ids": [issuer, subject]}}));
    let accounts = [name("spiffe://.+/ns/a/(.+/|)sa/worker(/.+)?"), name("spiffe://.+/ns/other/(.+/|)sa/worker(/.+)?")];
    assert_eq!(ids[1], json!({"or_ids": {"ids": accounts}}));
    assert_eq!(ids[2], json!({"or_ids": {"ids": [name(".*/ns/team-.*/.*")]}}));
    assert_eq!(ids[3]["not_id"]["or_ids"]["ids"][0]["remote_ip"], json!({"address_prefix": "1.2.3.4", "prefix_len": 32}));
    assert_eq!(ids[4]["or_ids"]["ids"][0]["direct_remote_ip"], json!({"address_prefix": "10.0.0.0", "prefix_len": 8}));
    assert_eq!(ids[5]["or_ids"]["ids"][0]["header"], json!({"name": "x-team", "string_match": {"prefix": "blue"}}));
    let role = json!({"string_match": {"exact": "admin"}});
    let either = json!({"or_match": {"value_matchers": [{"list_match": {"one_of": role}}, role]}});
    assert_eq!(ids[6], claim(json!([{"key": "payload"}, {"key": "realm"}, {"key": "role"}]), either));
}

#[test]
fn aliases_of_the_trust_domain_are_all_meant() {
    let objects = policies("rules:\n- from:\n  - source: {principals: [cluster.local/ns/b/sa/c, other/ns/b/sa/c]}");
    let mesh = "{trustDomain: new, trustDomainAliases: [old]}";
    let filters = http_filters(&context(mesh, &objects), &node("a", &[]), &mut Vec::new());
    let text = filters[0].to_string();
    assert!(["spiffe://new/ns", "spiffe://old/ns", "spiffe://other/ns"].iter().all(|name| text.contains(name)));
    assert!(!text.contains("cluster.local"));
}

#[test]
fn a_trial_is_shadowed_and_an_unknown_word_skipped() {
    let trial = policies("rules: [{}]").replace("namespace: a", "namespace: istio-system, annotations: {istio.io/dry-run: 'true'}");
    let mut log = Vec::new();
    let filters = http_filters(&context("", &trial), &node("a", &[]), &mut log);
    assert!(filters[0]["typed_config"].get("rules").is_none() && filters[0]["typed_config"].get("shadow_rules").is_some());
    let odd = policies("rules: [{when: [{key: odd, values: [x]}]}]");
    let filters = http_filters(&context("", &odd), &node("a", &[]), &mut log);
    assert_eq!(filters[0]["typed_config"]["rules"], json!({}));
    assert_eq!(log, ["skipped invalid rule ns[a]-policy[p]-rule[0]: unknown attribute odd"]);
    let custom = policies("{action: CUSTOM, provider: {name: x}, rules: [{}]}");
    assert!(http_filters(&context("", &custom), &node("a", &[]), &mut log).is_empty() && log.len() == 2);
}
