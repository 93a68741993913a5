//! What a route tells single HTTP filters: faults and CORS.

use serde_json::{Map, Value, json};

use super::matching::string_matcher;
use super::spec::{Abort, CorsPolicy, Delay, Fault, HttpRoute, Percent};

/// The route's `typed_per_filter_config`, if it has any.
pub(super) fn per_filter(route: &HttpRoute) -> Option<Value> {
    let mut out = Map::new();
    if let Some(fault) = &route.fault {
        out.insert("envoy.filters.http.fault".to_owned(), http_fault(fault));
    }
    if let Some(cors) = &route.cors_policy {
        out.insert("envoy.filters.http.cors".to_owned(), cors_policy(cors));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// A share as Envoy counts it, in millionths, cut off and not rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Rust saturates; shares are from 0 to 100")]
pub(super) fn millionths(percent: Percent) -> Value {
    let numerator = (percent.value * 10_000.0) as u32;
    fraction(numerator, "MILLION")
}

/// A share in whole hundredths.
pub(super) fn hundredths(percent: u32) -> Value {
    fraction(percent, "HUNDRED")
}

/// `FractionalPercent`, of which a dump leaves out 0 and `HUNDRED`, the first value of the enumeration.
fn fraction(numerator: u32, denominator: &str) -> Value {
    let mut out = Map::new();
    if numerator != 0 {
        out.insert("numerator".to_owned(), json!(numerator));
    }
    if denominator != "HUNDRED" {
        out.insert("denominator".to_owned(), json!(denominator));
    }
    Value::Object(out)
}

fn http_fault(fault: &Fault) -> Value {
    let mut out = Map::new();
    out.insert("@type".to_owned(), json!("type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"));
    if let Some(delay) = fault.delay.as_ref().and_then(delay) {
        out.insert("delay".to_owned(), delay);
    }
    if let Some(abort) = fault.abort.as_ref().and_then(abort) {
        out.insert("abort".to_owned(), abort);
    }
    Value::Object(out)
}

/// Only fixed delays exist; anything else is left out. Without a share nothing is delayed.
fn delay(delay: &Delay) -> Option<Value> {
    let fixed = delay.fixed_delay?;
    let percentage = delay.percentage.map_or_else(|| hundredths(delay.percent), millionths);
    Some(json!({"fixed_delay": fixed.json(), "percentage": percentage}))
}

/// Without a share every request is aborted: Envoy's field is absent then.
fn abort(abort: &Abort) -> Option<Value> {
    let mut out = Map::new();
    if let Some(status) = abort.http_status {
        out.insert("http_status".to_owned(), json!(status));
    } else {
        out.insert("grpc_status".to_owned(), json!(grpc_code(abort.grpc_status.as_deref()?)));
    }
    if let Some(percentage) = abort.percentage {
        out.insert("percentage".to_owned(), millionths(percentage));
    }
    Some(Value::Object(out))
}

/// gRPC's status codes by name, in the order of their numbers (<https://grpc.io/docs/guides/status-codes/>).
pub(crate) const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a gRPC status; an unknown one is 0, as a missing entry of Go's map.
fn grpc_code(name: &str) -> u32 {
    GRPC_CODES.iter().zip(0..).find(|(known, _)| **known == name).map_or(0, |(_, code)| code)
}

fn cors_policy(cors: &CorsPolicy) -> Value {
    let mut out = Map::new();
    out.insert("@type".to_owned(), json!("type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"));
    let origins: Vec<Value> = if cors.allow_origins.is_empty() {
        cors.allow_origin.iter().map(|origin| json!({"exact": origin})).collect()
    } else {
        cors.allow_origins.iter().filter_map(string_matcher).collect()
    };
    if !origins.is_empty() {
        out.insert("allow_origin_string_match".to_owned(), Value::Array(origins));
    }
    for (field, list) in
        [("allow_methods", &cors.allow_methods), ("allow_headers", &cors.allow_headers), ("expose_headers", &cors.expose_headers)]
    {
        if !list.is_empty() {
            out.insert(field.to_owned(), json!(list.join(",")));
        }
    }
    if let Some(age) = cors.max_age {
        out.insert("max_age".to_owned(), json!(age.0.as_secs().to_string()));
    }
    if let Some(allow) = cors.allow_credentials {
        out.insert("allow_credentials".to_owned(), json!(allow));
    }
    out.insert("filter_enabled".to_owned(), json!({"default_value": hundredths(100)}));
    out.insert("forward_not_matching_preflights".to_owned(), json!(cors.unmatched_preflights != "IGNORE"));
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spec: Value) -> Value {
        per_filter(&serde_json::from_value(spec).expect("a route")).unwrap_or_default()
    }

    #[test]
    fn faults_have_a_share_and_a_kind() {
        let got = of(
            json!({"fault": {"delay": {"percentage": {"value": 0.1}, "fixedDelay": "5s"}, "abort": {"httpStatus": 418, "percentage": {"value": 100}}}}),
        );
        let fault = &got["envoy.filters.http.fault"];
        assert_eq!(fault["delay"], json!({"fixed_delay": "5s", "percentage": {"numerator": 1000, "denominator": "MILLION"}}));
        assert_eq!(fault["abort"], json!({"http_status": 418, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}}));
        let got = of(json!({"fault": {"abort": {"grpcStatus": "UNAVAILABLE"}, "delay": {"fixedDelay": "1s"}}}));
        let fault = &got["envoy.filters.http.fault"];
        assert_eq!(fault["abort"], json!({"grpc_status": 14}));
        assert_eq!(fault["delay"]["percentage"], json!({}), "no share: none");
        assert_eq!(of(json!({})), Value::Null);
    }

    #[test]
    fn cors_lists_become_headers() {
        let got = of(json!({"corsPolicy": {
            "allowOrigins": [{"exact": "https://a.example"}, {"regex": ".*b"}],
            "allowMethods": ["GET", "PUT"], "allowHeaders": ["x-a"], "maxAge": "24h", "allowCredentials": false,
        }}));
        assert_eq!(
            got["envoy.filters.http.cors"],
            json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
                "allow_origin_string_match": [{"exact": "https://a.example"}, {"safe_regex": {"regex": ".*b"}}],
                "allow_methods": "GET,PUT",
                "allow_headers": "x-a",
                "max_age": "86400",
                "allow_credentials": false,
                "filter_enabled": {"default_value": {"numerator": 100}},
                "forward_not_matching_preflights": true,
            })
        );
    }
}
