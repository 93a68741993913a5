use serde_json::{Value, json};

use super::{custom_http_filters, http_filters, network_filters};
use crate::envoy::Listener;
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
}

/// Who asks: the objects of a mesh with these providers, and the service that they run as.
fn custom(mesh: &str, objects: &str) -> (Vec<Value>, Vec<Value>, Vec<String>) {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: asked, namespace: b}, spec: {ports: [{port: 9000}]}}";
    let (context, node) = (context(mesh, &format!("{objects}\n---\n{service}")), node("a", &[("app", "one")]));
    let mut log = Vec::new();
    let (http, tcp) = (custom_http_filters(&context, &node, &mut log), network_filters(&context, &node, &mut log));
    (http, tcp, log)
}

const RULE: &str = "rules: [{to: [{operation: {paths: [/admin]}}]}]";

/// As Istio's own test expects of a provider that nobody defines (`testdata/http/custom-bad-out.yaml`), and under the name that a
/// cluster with Istio 1.30.0 logged; on bytes the path is left out, which denies every connection.
#[test]
fn a_custom_policy_without_its_provider_denies_what_it_matches() {
    let (http, tcp, log) = custom("", &policies(&format!("action: CUSTOM\nprovider: {{name: ext}}\n{RULE}")));
    let any = json!([{"and_ids": {"ids": [{"any": true}]}}]);
    let path = json!([{"and_rules": {"rules": [{"or_rules": {"rules": [{"url_path": {"path": {"exact": "/admin"}}}]}}]}}]);
    let id = "istio-ext-authz-ext-ns[a]-policy[p]-rule[0]-deny-due-to-bad-CUSTOM-action";
    let wanted = json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {id: {"permissions": path, "principals": any}}},
        }
    });
    assert_eq!(http, [wanted]);
    assert_eq!(tcp.len(), 1);
    assert_eq!(tcp[0]["typed_config"]["rules"]["policies"][id]["permissions"], json!([{"and_rules": {"rules": [{"any": true}]}}]));
    assert!(log[0].contains("failed to process CUSTOM action for provider ext, will generate deny configs"), "{log:?}");
}

#[test]
fn a_provider_that_cannot_be_asked_denies_too() {
    let policy = policies(&format!("action: CUSTOM\nprovider: {{name: ext}}\n{RULE}"));
    let of = |provider: &str| custom(&format!("extensionProviders: [{{name: ext, {provider}}}]"), &policy);
    for provider in [
        "envoyExtAuthzHttp: {service: none.b.svc.cluster.local, port: 9000}",
        "envoyExtAuthzHttp: {service: asked.b.svc.cluster.local}",
        "envoyExtAuthzGrpc: {service: c/asked.b.svc.cluster.local, port: 9000}",
        "envoyExtAuthzHttp: {service: asked.b.svc.cluster.local, port: 9000, pathPrefix: check}",
        "envoyOtelAls: {service: asked.b.svc.cluster.local, port: 9000}",
    ] {
        let (http, _, log) = of(provider);
        assert_eq!(http.len(), 1, "{provider}: {log:?}");
        assert_eq!(http[0]["typed_config"]["rules"]["action"], "DENY", "{provider}");
    }
    // Two providers for one workload are one too many.
    let both =
        format!("{policy}\n---\n{}", policies(&format!("action: CUSTOM\nprovider: {{name: two}}\n{RULE}")).replace("name: p,", "name: q,"));
    let good = "envoyExtAuthzHttp: {service: asked.b.svc.cluster.local, port: 9000}";
    let (http, _, log) = custom(&format!("extensionProviders: [{{name: ext, {good}}}, {{name: two, {good}}}]"), &both);
    assert!(http.iter().all(|filter| filter["typed_config"]["rules"]["action"] == "DENY") && http.len() == 2, "{http:?}");
    assert!(log[0].starts_with("multiple CUSTOM authorization providers per workload"), "{log:?}");
}

/// The configuration is Istio's (`testdata/http/custom-http-provider-out*.yaml`); this envoy says that it cannot do it, and takes no
/// listener with it.
#[test]
fn a_defined_provider_is_asked_which_is_not_simulated_and_so_refused() {
    let policy = policies(&format!("action: CUSTOM\nprovider: {{name: ext}}\n{RULE}"));
    let mesh = |kind: &str| format!("extensionProviders: [{{name: ext, {kind}: {{service: b/asked.b.svc.cluster.local, port: 9000}}}}]");
    let (http, tcp, log) = custom(&mesh("envoyExtAuthzHttp"), &policy);
    assert_eq!((http.len(), tcp.len()), (2, 0), "bytes are none of an HTTP server's business");
    assert_eq!(http[0]["typed_config"]["shadow_rules_stat_prefix"], "istio_ext_authz_");
    assert!(http[0]["typed_config"]["shadow_rules"]["policies"].get("istio-ext-authz-ext-ns[a]-policy[p]-rule[0]").is_some());
    let asks = &http[1]["typed_config"];
    let server =
        json!({"cluster": "outbound|9000||asked.b.svc.cluster.local", "timeout": "600s", "uri": "http://asked.b.svc.cluster.local"});
    assert_eq!(asks["http_service"]["server_uri"], server);
    assert_eq!(asks["filter_enabled_metadata"]["value"], json!({"string_match": {"prefix": "istio-ext-authz-ext"}}));
    assert!(log[0].starts_with("not simulated: calls to the extension provider ext"), "{log:?}");
    let (http, tcp, _) = custom(&mesh("envoyExtAuthzGrpc"), &policy);
    assert_eq!((http.len(), tcp.len()), (2, 2));
    for filters in [http, tcp] {
        let listener = json!({"name": "l", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}}, "filter_chains": [{"filters": filters}]});
        let listener = if filters[0]["name"] == "envoy.filters.http.rbac" { in_manager(&filters) } else { listener };
        let refusal = Listener::read(&listener).expect_err("not simulated").to_string();
        assert!(refusal.starts_with("not simulated: ") && refusal.contains("ext_authz"), "{refusal}");
    }
}

/// A listener whose connection manager has these HTTP filters.
fn in_manager(filters: &[Value]) -> Value {
    let manager = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x", "route_config": {"name": "r"}, "http_filters": filters,
    }});
    json!({"name": "l", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}}, "filter_chains": [{"filters": [manager]}]})
}
