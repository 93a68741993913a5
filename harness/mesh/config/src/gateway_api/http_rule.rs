//! Rules of HTTPRoutes, as those of a VirtualService (Istio: `convertHTTPRoute`).

use serde_json::{Map, Value, json};

use super::Fault;
use super::backend::{self, Source};
use super::filter::{self, headers};
use super::route::Rule;
use crate::istio::model::object;

/// What a rule is for.
pub(super) fn matching(one: &Value) -> Value {
    let value = match object::text(one, "/path/value") {
        "" => "/",
        value => value,
    };
    let uri = match object::text(one, "/path/type") {
        "Exact" => json!({"exact": value}),
        "RegularExpression" => json!({"regex": value}),
        _ if value == "/" => json!({"prefix": value}),
        _ => json!({"prefix": value.strip_suffix('/').unwrap_or(value)}),
    };
    let mut out = Map::from_iter([("uri".to_owned(), uri)]);
    for field in ["headers", "queryParams"] {
        if let Some(entries) = texts(one, field) {
            out.insert(field.to_owned(), entries);
        }
    }
    let method = object::text(one, "/method");
    if !method.is_empty() {
        out.insert("method".to_owned(), json!({"exact": method}));
    }
    Value::Object(out)
}

/// Entries by their names with what their values have to be.
pub(super) fn texts(one: &Value, field: &str) -> Option<Value> {
    let entries = one.get(field)?.as_array()?.iter().map(|entry| {
        let kind = if object::text(entry, "/type") == "RegularExpression" { "regex" } else { "exact" };
        (object::text(entry, "/name").to_owned(), json!({kind: object::text(entry, "/value")}))
    });
    let entries: Map<String, Value> = entries.collect();
    (!entries.is_empty()).then_some(Value::Object(entries))
}

/// A rule without its matches, and what is wrong with its backends.
pub(super) fn rule(source: Source<'_, '_>, rule: &Value, name: String) -> Result<(Rule, Option<Fault>), Fault> {
    let mut out = Map::from_iter([("name".to_owned(), json!(name))]);
    let (mut mirrors, mut mirror_fault) = (Vec::new(), None);
    let filters = object::list(rule, "/filters");
    for one in filters {
        let body = |field: &str| one.get(field).unwrap_or(&Value::Null);
        match object::text(one, "/type") {
            "RequestHeaderModifier" | "ResponseHeaderModifier" => {}
            "RequestRedirect" => {
                out.insert("redirect".to_owned(), filter::redirect(body("requestRedirect")));
            }
            "URLRewrite" => {
                if let Some(rewrite) = filter::rewrite(body("urlRewrite")) {
                    out.insert("rewrite".to_owned(), rewrite);
                }
            }
            "RequestMirror" => match filter::mirror(source, one) {
                Ok(mirror) => mirrors.push(mirror),
                Err(fault) => mirror_fault = Some(fault),
            },
            "CORS" => {
                out.insert("corsPolicy".to_owned(), filter::cors(body("cors")));
            }
            other => return Err(Fault::new("InvalidFilter", format!("unsupported filter type {other:?}"))),
        }
    }
    if !mirrors.is_empty() {
        out.insert("mirrors".to_owned(), Value::Array(mirrors));
    }
    if let Some(changed) = headers(filters)? {
        out.insert("headers".to_owned(), changed);
    }
    if let Some(retry) = rule.get("retry").filter(|retry| retry.is_object()) {
        out.insert("retries".to_owned(), retries(retry));
    }
    timeouts(rule, &mut out);
    let backends = object::list(rule, "/backendRefs");
    if backend::is_none(backends) && !out.contains_key("redirect") {
        out.insert("directResponse".to_owned(), json!({"status": 500}));
        return Ok((out, mirror_fault));
    }
    let (routes, mut fault) = backend::destinations(source, backends)?;
    if !routes.is_empty() {
        out.insert("route".to_owned(), json!(routes));
    }
    match (&mut fault, mirror_fault) {
        (Some(fault), Some(mirror)) => fault.message = format!("{}; {}", fault.message, mirror.message),
        (None, mirror) => fault = mirror,
        (Some(_), None) => {}
    }
    Ok((out, fault))
}

/// With retries, the time of one try is its own; without, it is the whole.
fn timeouts(rule: &Value, out: &mut Rule) {
    let length = |at: &str| {
        let text = object::text(rule, at);
        (text.bytes().any(|letter| matches!(letter, b'1'..=b'9'))).then(|| text.to_owned())
    };
    if let Some(request) = length("/timeouts/request") {
        out.insert("timeout".to_owned(), json!(request));
    }
    if let Some(backend) = length("/timeouts/backendRequest") {
        match out.get_mut("retries").and_then(Value::as_object_mut) {
            Some(retries) => retries.insert("perTryTimeout".to_owned(), json!(backend)),
            None => out.insert("timeout".to_owned(), json!(backend)),
        };
    }
}

/// Two tries more where nothing is said; lost connections always count.
fn retries(retry: &Value) -> Value {
    let attempts = retry.get("attempts").and_then(Value::as_i64).unwrap_or(2);
    let mut out = Map::from_iter([("attempts".to_owned(), json!(attempts))]);
    if attempts > 0 {
        let mut on: Vec<String> = ["connect-failure", "refused-stream", "unavailable", "cancelled"].map(str::to_owned).into();
        on.extend(object::list(retry, "/codes").iter().filter_map(Value::as_u64).map(|code| code.to_string()));
        out.insert("retryOn".to_owned(), json!(on.join(",")));
    }
    if let Some(pause) = retry.get("backoff") {
        out.insert("backoff".to_owned(), pause.clone());
    }
    Value::Object(out)
}
