//! Routes, by what they match and what they do.

use serde_json::{Value, json};

use super::*;

fn table(virtual_hosts: Value) -> RouteTable {
    RouteTable::read(&json!({"name": "t", "virtual_hosts": virtual_hosts})).unwrap()
}

fn words(routes: Value) -> String {
    RouteTable::read(&routes).err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

fn to(name: &str, matches: Value) -> Value {
    json!({"name": name, "match": matches, "route": {"cluster": name}})
}

fn one(routes: Vec<Value>) -> RouteTable {
    table(json!([{"name": "v", "domains": ["*"], "routes": routes}]))
}

fn request(path: &str, more: &[(&str, &str)]) -> Headers {
    let base = [(":method", "GET"), (":authority", "shop.test"), (":scheme", "http"), (":path", path)];
    base.iter().chain(more).map(|(name, value)| (*name, *value)).collect()
}

fn decide_with(table: &RouteTable, headers: &Headers, random: u64) -> Decision {
    let call = CallRecord::default();
    table.route(&RequestFacts { headers, tls: false, internal: false, random, call: &call })
}

fn cluster(table: &RouteTable, headers: &Headers) -> String {
    match decide_with(table, headers, 0) {
        Decision::Forward { cluster, .. } => cluster,
        _ => String::new(),
    }
}

#[test]
fn a_domain_is_exact_then_suffix_then_prefix_then_any() {
    let host = |name: &str, domains: &[&str]| json!({"name": name, "domains": domains, "routes": [to(name, json!({"prefix": "/"}))]});
    let hosts = json!([
        host("any", &["*"]),
        host("prefix", &["shop.*"]),
        host("far", &["*.test"]),
        host("near", &["*.a.test", "*-x.test"]),
        host("exact", &["shop.test", "shop.test:8080"])
    ]);
    let table = table(hosts.clone());
    let of = |table: &RouteTable, authority: &str| cluster(table, &Headers::from_iter([(":authority", authority), (":path", "/")]));
    for (authority, wanted) in [
        ("shop.test", "exact"),
        ("SHOP.test", "exact"),
        ("shop.test:8080", "exact"),
        ("shop.test:9", "prefix"),
        ("b.a.test", "near"),
        ("a-x.test", "near"),
        ("a.test", "far"),
        (".a.test", "far"),
        ("shop.org", "prefix"),
        ("other.org", "any"),
        ("", "any"),
    ] {
        assert_eq!(of(&table, authority), wanted, "{authority}");
    }
    let ignoring = RouteTable::read(&json!({"name": "t", "ignore_port_in_host_matching": true, "virtual_hosts": hosts})).unwrap();
    assert_eq!(of(&ignoring, "shop.test:9"), "exact");
    assert_eq!(of(&ignoring, "[::1]:9"), "any");
}

#[test]
fn a_path_is_matched_in_each_way_without_its_query() {
    let table = one(vec![
        to("exact", json!({"path": "/exact"})),
        to("segment", json!({"path_separated_prefix": "/seg"})),
        to("regex", json!({"safe_regex": {"regex": "/r/[0-9]+"}})),
        to("case", json!({"prefix": "/Case", "case_sensitive": false})),
        to("prefix", json!({"prefix": "/pre"})),
    ]);
    for (path, wanted) in [
        ("/exact", "exact"),
        ("/exact?q", "exact"),
        ("/exact/", ""),
        ("/seg", "segment"),
        ("/seg/x", "segment"),
        ("/segment", ""),
        ("/r/12?x=/", "regex"),
        ("/r/12/", ""),
        ("/x/r/12", ""),
        ("/cASE/x", "case"),
        ("/prefix", "prefix"),
        ("/Pre", ""),
    ] {
        assert_eq!(cluster(&table, &request(path, &[])), wanted, "{path}");
    }
}

#[test]
fn headers_and_parameters_are_anded() {
    let header = |fields: Value| {
        let mut header = json!({"name": "X-A"});
        for (key, value) in fields.as_object().unwrap() {
            header[key] = value.clone();
        }
        one(vec![to("hit", json!({"prefix": "/", "headers": [header]}))])
    };
    let table = [
        (json!({"string_match": {"exact": "b"}}), Some("b"), true),
        (json!({"string_match": {"exact": "B", "ignore_case": true}}), Some("b"), true),
        (json!({"exact_match": "b"}), Some("c"), false),
        (json!({"string_match": {"contains": "b"}}), Some("abc"), true),
        (json!({"safe_regex_match": {"regex": "a.c"}}), Some("abcd"), false),
        (json!({"range_match": {"start": "-1", "end": "10"}}), Some("9"), true),
        (json!({"range_match": {"start": "-1", "end": "10"}}), Some("10"), false),
        (json!({"present_match": true}), Some(""), true),
        (json!({"present_match": true}), None, false),
        (json!({"present_match": true, "invert_match": true}), None, true),
        (json!({"string_match": {"exact": "b"}, "invert_match": true}), Some("c"), true),
        (json!({"string_match": {"exact": "b"}, "invert_match": true}), None, false),
        (json!({"string_match": {"exact": "b"}, "invert_match": true, "treat_missing_header_as_empty": true}), None, true),
    ];
    for (matcher, value, wanted) in table {
        let more: Vec<_> = value.map(|value| ("x-a", value)).into_iter().collect();
        assert_eq!(cluster(&header(matcher.clone()), &request("/", &more)) == "hit", wanted, "{matcher} {value:?}");
    }
    let query = one(vec![to(
        "hit",
        json!({"prefix": "/", "query_parameters": [
        {"name": "a", "string_match": {"exact": "1"}}, {"name": "b", "present_match": true}]}),
    )]);
    for (path, wanted) in [("/?a=1&b", true), ("/?b=&a=1", true), ("/?a=2&a=1&b", false), ("/?a=1", false), ("/", false)] {
        assert_eq!(cluster(&query, &request(path, &[])) == "hit", wanted, "{path}");
    }
}

#[test]
fn weights_and_fractions_follow_the_random_value() {
    let weighted = one(vec![json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
        {"name": "a", "weight": 10}, {"name": "none", "weight": 0}, {"name": "b", "weight": 90}]}}})]);
    let draws: Vec<_> = [0, 9, 10, 99, 100]
        .map(|random| match decide_with(&weighted, &request("/", &[]), random) {
            Decision::Forward { cluster, .. } => cluster,
            _ => String::new(),
        })
        .into();
    assert_eq!(draws, ["a", "a", "b", "b", "a"]);
    let share = one(vec![
        to("some", json!({"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 25}}})),
        to("rest", json!({"prefix": "/"})),
    ]);
    let of = |random| match decide_with(&share, &request("/", &[]), random) {
        Decision::Forward { cluster, .. } => cluster,
        _ => String::new(),
    };
    assert_eq!((of(24), of(25), of(124)), ("some".to_owned(), "rest".to_owned(), "some".to_owned()));
    let header = one(vec![json!({"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}})]);
    assert_eq!(cluster(&header, &request("/", &[("x-to", "there")])), "there");
}

fn location(redirect: Value, matches: Value, headers: &Headers) -> (u16, String) {
    let table = one(vec![json!({"match": matches, "redirect": redirect})]);
    match decide_with(&table, headers, 0) {
        Decision::Redirect { status, location, .. } => (status, location),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_redirect_says_where() {
    let any = || json!({"prefix": "/"});
    let at = |authority: &str, path: &str| {
        let mut headers = request(path, &[("x-forwarded-proto", "http")]);
        headers.set(":authority", authority);
        headers
    };
    let of = |redirect: Value, matches: Value, headers: Headers| location(redirect, matches, &headers).1;
    assert_eq!(location(json!({"https_redirect": true}), any(), &at("a.test:80", "/x?y")), (301, "https://a.test/x?y".to_owned()));
    assert_eq!(of(json!({"https_redirect": true}), any(), at("a.test:8080", "/x")), "https://a.test:8080/x");
    assert_eq!(of(json!({"port_redirect": 8443, "https_redirect": true}), any(), at("a.test:8080", "/x")), "https://a.test:8443/x");
    let mut secure = at("a.test:443", "/x");
    secure.set("x-forwarded-proto", "https");
    assert_eq!(of(json!({"scheme_redirect": "http"}), any(), secure.clone()), "http://a.test/x");
    assert_eq!(of(json!({"https_redirect": true}), any(), secure), "https://a.test:443/x");
    assert_eq!(of(json!({"host_redirect": "b.test"}), any(), at("a.test:80", "/x")), "http://b.test/x");
    assert_eq!(of(json!({"path_redirect": "/new"}), any(), at("a.test", "/x?y")), "http://a.test/new?y");
    assert_eq!(of(json!({"path_redirect": "/new?z", "strip_query": true}), any(), at("a.test", "/x?y")), "http://a.test/new?z");
    assert_eq!(of(json!({"strip_query": true}), any(), at("a.test", "/x?y")), "http://a.test/x");
    assert_eq!(of(json!({"prefix_rewrite": "/b"}), json!({"path_separated_prefix": "/a"}), at("a.test", "/a/c?y")), "http://a.test/b/c?y");
    assert_eq!(location(json!({"response_code": "PERMANENT_REDIRECT"}), any(), &at("a.test", "/")).0, 308);
}

fn finalized(route: Value, headers: &Headers) -> Headers {
    let table = one(vec![route]);
    let Decision::Forward { matched, .. } = decide_with(&table, headers, 0) else { panic!() };
    let mut headers = headers.clone();
    matched.finalize_request(&mut headers, &CallRecord::default(), Some("endpoint.test"));
    headers
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let path = |matches: Value, action: Value, path: &str| {
        let mut action = action;
        action["cluster"] = json!("c");
        finalized(json!({"match": matches, "route": action}), &request(path, &[]))
    };
    let prefix = path(json!({"prefix": "/a/"}), json!({"prefix_rewrite": "/"}), "/a/b?c");
    assert_eq!((prefix.path(), prefix.get("x-envoy-original-path")), ("/b?c", Some("/a/b?c")));
    assert_eq!(path(json!({"path": "/a"}), json!({"prefix_rewrite": "/z"}), "/a?c").path(), "/z?c");
    assert_eq!(path(json!({"safe_regex": {"regex": "/a.*"}}), json!({"prefix_rewrite": "/z"}), "/abc?d").path(), "/z?d");
    let regex = json!({"regex_rewrite": {"pattern": {"regex": "^/v([0-9]+)/(.*)$"}, "substitution": "/\\2/$\\1"}});
    assert_eq!(path(json!({"prefix": "/"}), regex, "/v2/x?y").path(), "/x/$2?y");
    let host = |action: Value| path(json!({"prefix": "/"}), action, "/h/x").authority().to_owned();
    assert_eq!(host(json!({"host_rewrite_literal": "b.test"})), "b.test");
    assert_eq!(host(json!({"auto_host_rewrite": true})), "endpoint.test");
    assert_eq!(host(json!({"host_rewrite_header": "none"})), "shop.test");
    let forwarded = path(json!({"prefix": "/"}), json!({"host_rewrite_literal": "b.test", "append_x_forwarded_host": true}), "/");
    assert_eq!(forwarded.get("x-forwarded-host"), Some("shop.test"));
    assert_eq!(forwarded.get("x-envoy-original-host"), Some("shop.test"));
}

#[test]
fn headers_change_from_the_route_to_the_table() {
    let add = |name: &str, value: &str, action: &str| json!({"header": {"key": name, "value": value}, "append_action": action});
    let table = RouteTable::read(&json!({
        "name": "t",
        "request_headers_to_add": [add("x-who", "table", "OVERWRITE_IF_EXISTS_OR_ADD")],
        "virtual_hosts": [{"name": "v", "domains": ["*"],
            "request_headers_to_add": [add("x-list", "host", "APPEND_IF_EXISTS_OR_ADD"), add("x-none", "x", "OVERWRITE_IF_EXISTS")],
            "response_headers_to_remove": ["server"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}, "request_headers_to_remove": ["x-gone"],
                "request_headers_to_add": [add("x-who", "route", "ADD_IF_ABSENT"), add("x-list", "route", "APPEND_IF_EXISTS_OR_ADD"),
                    add("x-path", "%REQ(:PATH)%%REQ(NONE)%", "ADD_IF_ABSENT"), add("x-empty", "%REQ(NONE)%", "ADD_IF_ABSENT")]}]}]}))
    .unwrap();
    let mut headers = request("/p", &[("x-gone", "1")]);
    let Decision::Forward { matched, .. } = decide_with(&table, &headers, 0) else { panic!() };
    let call = CallRecord { request: headers.clone(), ..CallRecord::default() };
    matched.finalize_request(&mut headers, &call, None);
    assert_eq!(headers.get("x-who"), Some("table"));
    assert_eq!(headers.joined("x-list").as_deref(), Some("route,host"));
    assert_eq!(
        (headers.get("x-path"), headers.get("x-empty"), headers.get("x-none"), headers.get("x-gone")),
        (Some("/p"), None, None, None)
    );
    let mut response = Headers::from_iter([("server", "x"), ("a", "b")]);
    matched.finalize_response(&mut response, &call);
    assert_eq!(response, Headers::from_iter([("a", "b")]));
}

#[test]
fn other_answers() {
    let direct = one(vec![json!({"match": {"prefix": "/"}, "direct_response": {"status": 502, "body": {"inline_string": "no"}}})]);
    assert!(matches!(decide_with(&direct, &request("/", &[]), 0), Decision::DirectResponse { status: 502, ref body, .. } if body == "no"));
    let tls = table(json!([{"name": "v", "domains": ["*"], "require_tls": "ALL", "routes": [to("c", json!({"prefix": "/"}))]}]));
    let Decision::TlsRedirect { location, .. } = decide_with(&tls, &request("/x", &[]), 0) else { panic!() };
    assert_eq!(location, "https://shop.test/x");
    assert_eq!(cluster(&tls, &request("/x", &[("x-forwarded-proto", "https")])), "c");
    assert!(matches!(decide_with(&table(json!([])), &request("/", &[]), 0), Decision::NotFound { virtual_host: None }));
    assert!(matches!(decide_with(&one(vec![]), &request("/", &[]), 0), Decision::NotFound { virtual_host: Some(_) }));
}

#[test]
fn settings_of_filters_come_from_the_most_specific_level() {
    let fault = |status: u16| json!({"f": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", "abort": {"http_status": status}}});
    let off = json!({"g": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}});
    let table = RouteTable::read(&json!({"name": "t", "typed_per_filter_config": off, "virtual_hosts": [{"name": "v", "domains": ["*"],
        "typed_per_filter_config": fault(501), "routes": [
            {"match": {"path": "/own"}, "route": {"cluster": "c"}, "typed_per_filter_config": fault(502)},
            {"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]}))
    .unwrap();
    let status = |path: &str| {
        let Decision::Forward { matched, .. } = decide_with(&table, &request(path, &[]), 0) else { panic!() };
        assert!(matches!(matched.per_filter("g"), Some(PerFilter::Disabled)));
        match matched.per_filter("f") {
            Some(PerFilter::Fault(fault)) => fault.abort.map(|(what, _)| what),
            _ => None,
        }
    };
    assert_eq!(status("/own"), Some(crate::envoy::http_filter::Abort::Http(502)));
    assert_eq!(status("/"), Some(crate::envoy::http_filter::Abort::Http(501)));
}

#[test]
fn retries_and_times_have_envoys_defaults() {
    let table = one(vec![json!({"match": {"prefix": "/"}, "route": {"cluster": "c", "retry_policy": {"retry_on": "5xx, reset"}}})]);
    let Action::Forward(action) = &table.virtual_hosts[0].routes[0].action else { panic!() };
    let retry = action.retry.as_ref().unwrap();
    assert_eq!((retry.num_retries, retry.retry_on.join("+")), (1, "5xx+reset".to_owned()));
    assert_eq!((retry.base_interval.as_millis(), retry.max_interval.as_millis()), (25, 250));
    assert_eq!(action.timeout.map(|time| time.as_secs()), Some(15));
    assert_eq!(action.cluster_not_found_status, 503);
}

#[test]
fn what_envoy_refuses() {
    let host = |name: &str, domains: &[&str]| json!({"name": name, "domains": domains});
    let of = |hosts: Value| words(json!({"name": "t", "virtual_hosts": hosts}));
    assert_eq!(
        of(json!([host("a", &["x.test"]), host("b", &["X.test"])])),
        "Only unique values for domains are permitted. Duplicate entry of domain x.test in route t"
    );
    assert_eq!(of(json!([host("a", &["*"]), host("b", &["*"])])), "Only a single wildcard domain is permitted in route t");
    assert_eq!(
        of(json!([host("a", &["x"]), host("a", &["y"])])),
        "Only unique names for virtual hosts are permitted. Duplicate entry of name a in route t"
    );
    assert!(of(json!([host("a", &[])])).contains("VirtualHostValidationError.Domains"));
    let route = |route: Value| words(json!({"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]}));
    assert!(route(json!({"match": {"prefix": "/"}})).contains("RouteValidationError.Action: is required"));
    assert!(!route(json!({"match": {"safe_regex": {"regex": "("}}, "route": {"cluster": "c"}})).is_empty());
    let header = json!({"match": {"prefix": "/"}, "route": {"cluster": "c"}, "request_headers_to_add": [{"header": {"key": ":path", "value": "x"}}]});
    assert_eq!(route(header), ":-prefixed or host headers may not be modified");
}
