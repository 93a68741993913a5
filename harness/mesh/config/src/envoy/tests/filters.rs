//! Faults, CORS, and what is refused of a connection manager.

use std::time::Duration;

use serde_json::{Value, json};

use super::listener;
use crate::envoy::Refusal;
use crate::envoy::headers::Headers;
use crate::envoy::http_filter::{Abort, Cors, CorsVerdict, Fault, FaultVerdict, HttpFilterKind};
use crate::envoy::matchers::StringMatcher;
use crate::envoy::network::{Bucket, NetworkFilter, TokenBucket};

fn filters(filters: Vec<Value>) -> Result<Vec<crate::envoy::HttpFilter>, Refusal> {
    let manager = json!({"name": "hcm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x", "route_config": {"name": "r"}, "http_filters": filters}});
    let listener = listener(vec![json!({"filters": [manager]})])?;
    let Some(NetworkFilter::HttpConnectionManager(manager)) = listener.filter_chains[0].filters.first() else { panic!() };
    Ok(manager.http_filters.clone())
}

fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{kind}"));
    json!({"name": name, "typed_config": config})
}

fn router() -> Value {
    filter("envoy.filters.http.router", "router.v3.Router", json!({}))
}

fn fault(config: Value) -> Fault {
    let read = filters(vec![filter("f", "fault.v3.HTTPFault", config), router()]).unwrap();
    let HttpFilterKind::Fault(fault) = &read[0].kind else { panic!() };
    (**fault).clone()
}

#[test]
fn a_fault_delays_and_aborts_its_share() {
    let fault = fault(json!({
        "delay": {"fixed_delay": "2s", "percentage": {"numerator": 500_000, "denominator": "MILLION"}},
        "abort": {"http_status": 555, "percentage": {"numerator": 10}},
        "headers": [{"name": "who", "string_match": {"exact": "me"}}]}));
    let me = Headers::from_iter([("who", "me")]);
    assert_eq!(fault.check(&me, "c", 499_999, 9), FaultVerdict { delay: Some(Duration::from_secs(2)), abort: Some(Abort::Http(555)) });
    assert_eq!(fault.check(&me, "c", 500_000, 10), FaultVerdict::default());
    assert_eq!(fault.check(&Headers::new(), "c", 0, 0), FaultVerdict::default());
}

#[test]
fn a_preflight_is_answered_and_others_are_annotated() {
    let cors = Cors {
        allow_origins: vec![StringMatcher::exact("https://a.test")],
        allow_methods: "GET,POST".to_owned(),
        expose_headers: "x-e".to_owned(),
        allow_credentials: true,
        forward_not_matching_preflights: true,
        ..Cors::default()
    };
    let asking = |method: &str, origin: &str| {
        Headers::from_iter([(":method", method), ("origin", origin), ("access-control-request-method", "GET")])
    };
    let CorsVerdict::Preflight(answer) = cors.check(&asking("OPTIONS", "https://a.test"), 0) else { panic!() };
    assert_eq!(answer.get("access-control-allow-origin"), Some("https://a.test"));
    assert_eq!(answer.get("access-control-allow-methods"), Some("GET,POST"));
    assert_eq!(answer.get("access-control-allow-credentials"), Some("true"));
    let CorsVerdict::Annotate(headers) = cors.check(&asking("GET", "https://a.test"), 0) else { panic!() };
    assert_eq!(headers.get("access-control-expose-headers"), Some("x-e"));
    assert_eq!(cors.check(&asking("OPTIONS", "https://b.test"), 0), CorsVerdict::Pass);
    let strict = Cors { forward_not_matching_preflights: false, ..cors };
    let CorsVerdict::Preflight(answer) = strict.check(&asking("OPTIONS", "https://b.test"), 0) else { panic!() };
    assert_eq!((answer.get("access-control-allow-origin"), answer.get("access-control-allow-methods")), (None, Some("GET,POST")));
    assert_eq!(strict.check(&Headers::from_iter([(":method", "OPTIONS")]), 0), CorsVerdict::Pass);
}

#[test]
fn the_router_comes_last_and_unknown_filters_are_refused() {
    let words = |list: Vec<Value>| filters(list).err().map(|refusal| refusal.to_string()).unwrap_or_default();
    assert!(words(vec![filter("f", "fault.v3.HTTPFault", json!({}))]).contains("is the last filter in a http filter chain"));
    assert!(words(vec![router(), router()]).contains("must be the last filter in a http filter chain"));
    let unknown = json!({"name": "my", "typed_config": {"@type": "type.googleapis.com/my.Own"}});
    assert_eq!(words(vec![unknown.clone(), router()]), "Didn't find a registered implementation for 'my' with type URL: 'my.Own'");
    let mut optional = unknown;
    optional["is_optional"] = json!(true);
    assert_eq!(filters(vec![optional, router()]).unwrap().len(), 1);
    assert!(matches!(filters(vec![filter("lua", "lua.v3.Lua", json!({})), router()]), Err(Refusal::Unsupported(_))));
    assert!(matches!(filters(vec![filter("wasm", "wasm.v3.Wasm", json!({})), router()]), Err(Refusal::Unsupported(_))));
    let typed = json!({"name": "w", "typed_config": {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", "value": {"abort": {"http_status": 500}}}});
    assert!(matches!(filters(vec![typed, router()]).unwrap()[0].kind, HttpFilterKind::Fault(_)));
}

#[test]
fn a_bucket_fills_again() {
    let settings = TokenBucket { max_tokens: 2, tokens_per_fill: 1, fill_interval: Duration::from_secs(10) };
    let mut bucket = Bucket::new(settings, Duration::ZERO);
    let taken: Vec<_> = [0, 1, 2, 9, 11, 12, 60, 61, 62].map(|second| bucket.take(Duration::from_secs(second))).into();
    assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
}
