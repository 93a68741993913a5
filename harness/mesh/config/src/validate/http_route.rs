//! What istiod says of an HTTP route.

use serde_json::Value;

use super::names;
use super::problems::Problems;
use super::virtual_service::{gateway_names, is_claim};
use crate::istio::model::object;
use crate::istio::route::GRPC_CODES;

pub(super) fn check(route: &Value, is_delegate: bool) -> Problems {
    let mut problems = Problems::new();
    let has = |field: &str| route.get(field).is_some_and(|value| !value.is_null());
    conflicts(route, is_delegate, &mut problems);
    for one in object::list(route, "/match") {
        check_match(one, &mut problems);
    }
    for one in object::list(route, "/match") {
        let port = names::number(one, "/port");
        if port != 0 {
            problems.check(names::port(port));
        }
        problems.extend(names::tags(one.get("sourceLabels")));
        problems.extend(gateway_names(&object::texts(one, "/gateways")));
        let namespace = object::text(one, "/sourceNamespace");
        if !namespace.is_empty() && !names::is_label(namespace) {
            problems.error(format!("sourceNamespace match {namespace} is invalid"));
        }
    }
    headers(route.get("headers"), &mut problems);
    cors(route.get("corsPolicy"), &mut problems);
    fault(route.get("fault"), &mut problems);
    if has("mirrorPercent") {
        let value = names::number(route, "/mirrorPercent");
        if value > 100 {
            problems.error(format!("mirror_percent must have a max value of 100 (it has {value})"));
        }
        problems.warn("using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
    }
    percentage_range(route.pointer("/mirrorPercentage/value"), "mirror_percentage", &mut problems);
    problems.extend(route.get("mirror").map(destination).unwrap_or_default());
    for mirror in object::list(route, "/mirrors") {
        match mirror.get("destination") {
            None => problems.error("destination is required for mirrors"),
            Some(target) => problems.extend(destination(target)),
        }
        percentage_range(mirror.pointer("/percentage/value"), "mirror percentage", &mut problems);
    }
    redirect(route, &mut problems);
    if has("directResponse") {
        let size = object::text(route, "/directResponse/body/string").len();
        if size > 1024 * 1024 {
            problems.error("large direct_responses may impact control plane performance, must be less than 1MB");
        } else if size > 100 * 1024 {
            problems.warn("large direct_responses may impact control plane performance");
        }
        problems.check(http_status(names::number(route, "/directResponse/status")));
    }
    retries(route.get("retries"), &mut problems);
    rewrite(route, &mut problems);
    problems.extend(destinations(object::list(route, "/route"), true));
    problems.check(names::duration(route, "/timeout"));
    problems
}

fn conflicts(route: &Value, is_delegate: bool, problems: &mut Problems) {
    let has = |field: &str| route.get(field).is_some_and(|value| !value.is_null());
    let has_routes = !object::list(route, "/route").is_empty();
    if has("delegate") && !is_delegate {
        let name = object::text(route, "/name");
        problems.error_if(has("redirect"), &format!("root HTTP route {name} must not specify redirect"));
        problems.error_if(has("route"), &format!("root HTTP route {name} must not specify route"));
        return;
    }
    problems.error_if(has("delegate"), "delegate HTTP route cannot contain delegate");
    if has("redirect") {
        problems.error_if(has_routes, "HTTP route cannot contain both route and redirect");
        problems.error_if(has("fault"), "HTTP route cannot contain both fault and redirect");
        problems.error_if(has("rewrite"), "HTTP route rule cannot contain both rewrite and redirect");
        problems.error_if(has("directResponse"), "HTTP route rule cannot contain both direct_response and redirect");
    } else if has("directResponse") {
        problems.error_if(has_routes, "HTTP route cannot contain both route and direct_response");
        problems.error_if(has("fault"), "HTTP route cannot contain both fault and direct_response");
        problems.error_if(has("rewrite"), "HTTP route rule cannot contain both rewrite and direct_response");
    } else if !has_routes {
        problems.error("HTTP route, redirect or direct_response is required");
    }
    let has_mirrors = !object::list(route, "/mirrors").is_empty();
    problems.error_if(has("mirror") && has_mirrors, "HTTP route cannot contain both mirror and mirrors");
}

fn check_match(one: &Value, problems: &mut Problems) {
    for (field, place) in [("headers", "headers"), ("withoutHeaders", "withoutHeaders")] {
        for (name, value) in one.get(field).and_then(Value::as_object).into_iter().flatten() {
            if value.is_null() && field == "headers" {
                problems.error(format!("header match {name} cannot be null"));
            }
            problems.check(match_header(name));
            // A lone star is not a regular expression here but asks whether the header is there.
            if !(field == "withoutHeaders" && object::text(value, "/regex") == "*") {
                problems.check(string_match(value, place));
            }
        }
    }
    if let Some(regex) = one.pointer("/uri/regex").and_then(Value::as_str) {
        problems.check(filled_regex(regex, "uri"));
    }
    for field in ["scheme", "method", "authority"] {
        problems.check(one.get(field).map_or(Ok(()), |value| string_match(value, field)));
    }
    for (_, value) in one.get("queryParams").and_then(Value::as_object).into_iter().flatten() {
        problems.check(string_match(value, "queryParams"));
    }
}

fn match_header(name: &str) -> Result<(), String> {
    let is_pseudo = matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status");
    match name {
        "" => Err("header name cannot be empty".to_owned()),
        _ if is_claim(name) || is_pseudo || names::is_header(name) => Ok(()),
        _ => Err(format!("header name {name} is not a valid header name")),
    }
}

fn string_match(value: &Value, place: &str) -> Result<(), String> {
    if value.get("prefix").and_then(Value::as_str) == Some("") {
        return Err(format!("{place:?}: prefix string match should not be empty"));
    }
    value.get("regex").and_then(Value::as_str).map_or(Ok(()), |regex| filled_regex(regex, place))
}

fn filled_regex(regex: &str, place: &str) -> Result<(), String> {
    match regex {
        "" => Err(format!("{place:?}: regex string match should not be empty")),
        regex => names::regular_expression(regex, place),
    }
}

/// What a route or a destination does to headers.
fn headers(headers: Option<&Value>, problems: &mut Problems) {
    let Some(headers) = headers else {
        return;
    };
    for (side, change) in [("request", "add"), ("request", "set"), ("response", "add"), ("response", "set")] {
        let entries = headers.get(side).and_then(|side| side.get(change)).map(object::text_map).unwrap_or_default();
        for (name, value) in entries {
            problems.check(if side == "request" { changed_header(&name, true) } else { changed_header(&name, false) });
            if value.chars().any(|letter| letter.is_ascii_control() && letter != '\t') {
                problems.error(format!("header value configuration {value} is invalid"));
            }
        }
    }
    for name in object::texts(headers, "/request/remove").into_iter().chain(object::texts(headers, "/response/remove")) {
        problems.check(changed_header(name, false));
    }
}

fn changed_header(name: &str, may_be_authority: bool) -> Result<(), String> {
    let is_host = name.eq_ignore_ascii_case("host");
    let is_authority = is_host || name.eq_ignore_ascii_case(":authority");
    match name {
        "" => Err("header name cannot be empty".to_owned()),
        _ if may_be_authority && is_authority => Ok(()),
        _ if is_host => Err(format!("invalid header {name:?}: cannot set Host header")),
        _ if name.starts_with(':') => Err(format!("invalid header {name:?}: header cannot have \":\" prefix")),
        _ => Ok(()),
    }
}

fn cors(policy: Option<&Value>, problems: &mut Problems) {
    let Some(policy) = policy else {
        return;
    };
    for origin in object::list(policy, "/allowOrigins") {
        let text = ["exact", "prefix", "regex"].iter().find_map(|kind| origin.get(*kind)?.as_str()).unwrap_or_default();
        if text.is_empty() {
            problems.error("'' is not a valid match type for CORS allow origins");
        } else if let Some(regex) = origin.get("regex").and_then(Value::as_str) {
            problems.check(filled_regex(regex, "corsPolicy.allowOrigins"));
        }
    }
    const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
    for method in object::texts(policy, "/allowMethods").into_iter().filter(|method| !METHODS.contains(method)) {
        problems.error(format!("{method:?} is not a supported HTTP method"));
    }
    for name in object::texts(policy, "/allowHeaders").into_iter().chain(object::texts(policy, "/exposeHeaders")) {
        problems.check(match name {
            "" => Err("header name cannot be empty".to_owned()),
            _ if names::is_header(name) => Ok(()),
            _ => Err(format!("header name {name} is not a valid header name")),
        });
    }
    problems.check(names::duration(policy, "/maxAge"));
    let age = names::nanoseconds(object::text(policy, "/maxAge")).unwrap_or(0);
    problems.listed(age % 1_000_000_000 != 0, "max_age duration is accurate only to seconds precision");
}

fn percentage(value: Option<&Value>, problems: &mut Problems) {
    let Some(value) = value.and_then(Value::as_f64) else {
        return;
    };
    if !(0.0..=100.0).contains(&value) || (value > 0.0 && value < 0.0001) {
        problems.error(format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]"));
    }
}

fn percentage_range(value: Option<&Value>, name: &str, problems: &mut Problems) {
    let Some(value) = value.and_then(Value::as_f64) else {
        return;
    };
    if value > 100.0 {
        problems.error(format!("{name} must have a max value of 100 (it has {value:.6})"));
    }
    if value < 0.0 {
        problems.error(format!("{name} must have a min value of 0 (it has {value:.6})"));
    }
}

fn http_status(status: i64) -> Result<(), String> {
    if (200..=600).contains(&status) { Ok(()) } else { Err(format!("HTTP status {status} is not in range 200-599")) }
}

fn fault(fault: Option<&Value>, problems: &mut Problems) {
    let Some(fault) = fault else {
        return;
    };
    let (abort, delay) = (fault.get("abort"), fault.get("delay"));
    problems.listed(abort.is_none() && delay.is_none(), "HTTP fault injection must have an abort and/or a delay");
    if let Some(abort) = abort {
        percentage(abort.pointer("/percentage/value"), problems);
        if let Some(status) = abort.get("grpcStatus").and_then(Value::as_str) {
            if !GRPC_CODES.contains(&status) {
                let where_to = "See https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of supported codes, for example \
                                'NOT_FOUND'";
                problems.error(format!("gRPC status {status:?} is not supported. {where_to}"));
            }
        } else if abort.get("http2Error").is_some() {
            problems.error("HTTP/2 abort fault injection not supported yet");
        } else if abort.get("httpStatus").is_some() {
            problems.check(http_status(names::number(abort, "/httpStatus")));
        } else {
            problems.warn("abort configured, but error type not set");
        }
    }
    if let Some(delay) = delay {
        percentage(delay.pointer("/percentage/value"), problems);
        problems.check(names::duration(delay, "/fixedDelay"));
        if delay.get("exponentialDelay").is_some() {
            problems.check(names::duration(delay, "/exponentialDelay"));
            problems.listed(true, "exponentialDelay not supported yet");
        }
    }
}

fn redirect(route: &Value, problems: &mut Problems) {
    let Some(redirect) = route.get("redirect").filter(|redirect| redirect.is_object()) else {
        return;
    };
    let has = |field: &str| !object::text(redirect, field).is_empty();
    let code = names::number(redirect, "/redirectCode");
    let port = names::number(redirect, "/port");
    let has_port = redirect.get("port").is_some() || redirect.get("derivePort").is_some();
    // Only the first of these is told.
    problems.check(if !(has("/uri") || has("/authority") || has("/scheme") || has_port) {
        Err("redirect must specify URI, authority, scheme, or port".to_owned())
    } else if code != 0 && !(300..=399).contains(&code) {
        Err(format!("{code} is not a valid redirect code, must be 3xx"))
    } else if has("/scheme") && !matches!(object::text(redirect, "/scheme"), "http" | "https") {
        Err("invalid redirect scheme, must be \"http\" or \"https\"".to_owned())
    } else if port > 0 {
        names::port(port)
    } else {
        Ok(())
    });
}

/// Envoy's conditions for another try (Istio: `supportedRetryOnPolicies`).
const RETRY_ON: [&str; 17] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "",
];

fn retries(retries: Option<&Value>, problems: &mut Problems) {
    let Some(retries) = retries.filter(|retries| retries.is_object()) else {
        return;
    };
    let attempts = names::number(retries, "/attempts");
    problems.listed(attempts < 0, "attempts cannot be negative");
    let has_more = ["perTryTimeout", "retryOn", "retryRemoteLocalities"].iter().any(|field| retries.get(*field).is_some());
    problems.error_if(attempts == 0 && has_more, "http retry policy configured when attempts are set to 0 (disabled)");
    problems.check(names::duration(retries, "/perTryTimeout"));
    let on = object::text(retries, "/retryOn");
    for policy in on.split(',').filter(|_| !on.is_empty()) {
        let is_status = policy.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
        if !is_status && (policy.is_empty() || !RETRY_ON.contains(&policy)) {
            problems.error(format!("{policy:?} is not a valid retryOn policy"));
        }
    }
    problems.check(names::duration(retries, "/backoff"));
}

fn rewrite(route: &Value, problems: &mut Problems) {
    let is_authority = |name: &str| name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host");
    if let Some(rewrite) = route.get("rewrite").filter(|rewrite| rewrite.is_object()) {
        let (uri, authority) = (object::text(rewrite, "/uri"), object::text(rewrite, "/authority"));
        let regex = rewrite.get("uriRegexRewrite");
        if !uri.is_empty() && regex.is_some() {
            problems.error("rewrite may only contain one of URI or UriRegexRewrite");
        } else if uri.is_empty() && authority.is_empty() && regex.is_none() {
            let rest = "Only one of URI or UriRegexRewrite may be specified";
            problems.error(format!("rewrite must specify at least one of URI, UriRegexRewrite, or authority. {rest}"));
        } else if let Some(regex) = regex {
            let (pattern, text) = (object::text(regex, "/match"), object::text(regex, "/rewrite"));
            let result = match pattern.is_empty() || text.is_empty() {
                true => Err("UriRegexRewrite requires both Rewrite and Match fields to be specified".to_owned()),
                false => names::regular_expression(pattern, "HTTPRewrite.UriRegexRewrite.Match"),
            };
            problems.check(result.map_err(|error| format!("UriRegexRewrite has errors\n{error}")));
        }
    }
    let mut current = object::text(route, "/rewrite/authority").to_owned();
    for change in ["set", "add"] {
        let entries = route.pointer(&format!("/headers/request/{change}")).map(object::text_map).unwrap_or_default();
        for (_, value) in entries.into_iter().filter(|(name, _)| is_authority(name)) {
            if !current.is_empty() {
                let text = format!("have {current:?}, attempting to set {value:?}");
                problems.error(format!("authority header cannot be set multiple times: {text}"));
                return;
            }
            current = value;
        }
    }
}

/// Destinations with their weights.
pub(super) fn destinations(all: &[Value], is_http: bool) -> Problems {
    let mut problems = Problems::new();
    let mut total = 0_i64;
    for one in all {
        match one.get("destination") {
            None => problems.error("destination is required"),
            Some(_) if is_http => headers(one.get("headers"), &mut problems),
            Some(_) => {}
        }
        problems.extend(one.get("destination").map(destination).unwrap_or_default());
        let weight = names::number(one, "/weight");
        if weight < 0 {
            problems.error(format!("weight {weight} < 0"));
        }
        total = total.saturating_add(weight);
    }
    problems.error_if(all.len() > 1 && total == 0, "total destination weight = 0");
    problems
}

fn destination(target: &Value) -> Problems {
    let mut problems = Problems::new();
    match object::text(target, "/host") {
        "*" => problems.error("invalid destination host *"),
        host => problems.check(names::wildcard_domain(host)),
    }
    let subset = object::text(target, "/subset");
    if !subset.is_empty() {
        problems.check(subset_name(subset));
    }
    if target.get("port").is_some() {
        problems.check(names::port(names::number(target, "/port/number")));
    }
    problems
}

pub(super) fn subset_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("subset name cannot be empty".to_owned()),
        _ if names::is_label(name) => Ok(()),
        _ => Err(format!("subset name is invalid: {name}")),
    }
}
