//! Filters of rules and of backends (Istio: `createHeadersFilter` and those after it).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Fault;
use super::backend::{self, Source};
use crate::istio::model::object;

/// What filters do to headers.
pub(super) fn headers(filters: &[Value]) -> Result<Option<Value>, Fault> {
    let mut all = Map::new();
    for filter in filters {
        let (side, body) = match object::text(filter, "/type") {
            "RequestHeaderModifier" => ("request", "requestHeaderModifier"),
            "ResponseHeaderModifier" => ("response", "responseHeaderModifier"),
            _ => continue,
        };
        let Some(body) = filter.get(body) else { continue };
        let mut changes = Map::new();
        for change in ["add", "set"] {
            let mut entries = BTreeMap::new();
            for header in object::list(body, &format!("/{change}")) {
                let (name, value) = (object::text(header, "/name"), object::text(header, "/value"));
                if value.chars().any(|letter| letter.is_ascii_control() && letter != '\t') {
                    return Err(Fault::new("InvalidFilter", format!("header {name:?} value contains invalid characters")));
                }
                // Of several with the same name the first counts.
                entries.entry(name.to_ascii_lowercase()).or_insert(value);
            }
            if !entries.is_empty() {
                changes.insert(change.to_owned(), json!(entries));
            }
        }
        let removed = object::texts(body, "/remove");
        if !removed.is_empty() {
            changes.insert("remove".to_owned(), json!(removed));
        }
        all.insert(side.to_owned(), Value::Object(changes));
    }
    Ok((!all.is_empty()).then_some(Value::Object(all)))
}

/// A copy of requests to another backend.
pub(super) fn mirror(source: Source<'_, '_>, filter: &Value) -> Result<Value, Fault> {
    let mirror = filter.get("requestMirror").unwrap_or(&Value::Null);
    let (target, wrong) = backend::destination(source, mirror.get("backendRef").unwrap_or(&Value::Null))?;
    if let Some(fault) = wrong {
        return Err(fault);
    }
    let of = |at: &str| mirror.pointer(at).and_then(Value::as_f64);
    let share = match (of("/fraction/numerator"), of("/percent")) {
        (Some(part), _) => Some(100.0 * part / of("/fraction/denominator").filter(|whole| *whole > 0.0).unwrap_or(100.0)),
        (None, percent) => percent,
    };
    Ok(match share {
        Some(share) => json!({"destination": target, "percentage": {"value": share}}),
        None => json!({"destination": target}),
    })
}

/// A preflight from another origin goes on to the backend, unlike Istio's own default.
pub(super) fn cors(filter: &Value) -> Value {
    let origins = object::texts(filter, "/allowOrigins").into_iter().filter(|origin| !origin.is_empty()).map(origin);
    let mut out = Map::from_iter([("allowOrigins".to_owned(), origins.collect()), ("unmatchedPreflights".to_owned(), json!("IGNORE"))]);
    for field in ["allowMethods", "allowHeaders", "exposeHeaders"] {
        let values = object::texts(filter, &format!("/{field}"));
        if !values.is_empty() {
            out.insert(field.to_owned(), json!(values));
        }
    }
    if object::flag(filter, "/allowCredentials") {
        out.insert("allowCredentials".to_owned(), json!(true));
    }
    if let Some(age) = filter.get("maxAge").and_then(Value::as_u64).filter(|age| *age > 0) {
        out.insert("maxAge".to_owned(), json!(format!("{age}s")));
    }
    Value::Object(out)
}

/// Where requests may come from: any origin (RFC 6454), one, or those that a pattern takes.
fn origin(origin: &str) -> Value {
    match origin.split_once('*') {
        None => json!({"exact": origin}),
        Some(("", "")) => json!({"regex": r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$"}),
        Some((start, "")) => json!({"prefix": start}),
        Some(_) => {
            let mut pattern = String::from("^");
            for letter in origin.chars() {
                match letter {
                    '*' => pattern.push_str(".*"),
                    '\\' | '.' | '+' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => pattern.extend(['\\', letter]),
                    _ => pattern.push(letter),
                }
            }
            json!({"regex": pattern + "$"})
        }
    }
}

/// Unlike Istio's own default, a redirect keeps the port of the request, or takes that of its scheme.
pub(super) fn redirect(filter: &Value) -> Value {
    let mut out = Map::new();
    for (field, target) in [("statusCode", "redirectCode"), ("hostname", "authority"), ("scheme", "scheme"), ("port", "port")] {
        if let Some(value) = filter.get(field) {
            out.insert(target.to_owned(), value.clone());
        }
    }
    if !out.contains_key("port") {
        let port = if out.contains_key("scheme") { "FROM_PROTOCOL_DEFAULT" } else { "FROM_REQUEST_PORT" };
        out.insert("derivePort".to_owned(), json!(port));
    }
    match object::text(filter, "/path/type") {
        "ReplaceFullPath" => {
            out.insert("uri".to_owned(), json!(object::text(filter, "/path/replaceFullPath")));
        }
        "ReplacePrefixMatch" => {
            out.insert("prefixRewrite".to_owned(), json!(object::text(filter, "/path/replacePrefixMatch")));
        }
        _ => {}
    }
    Value::Object(out)
}

pub(super) fn rewrite(filter: &Value) -> Option<Value> {
    let mut out = Map::new();
    match object::text(filter, "/path/type") {
        "ReplacePrefixMatch" => {
            let path = object::text(filter, "/path/replacePrefixMatch");
            let path = path.strip_suffix('/').unwrap_or(path);
            out.insert("uri".to_owned(), json!(if path.is_empty() { "/" } else { path }));
        }
        "ReplaceFullPath" => {
            let path = object::text(filter, "/path/replaceFullPath");
            out.insert("uriRegexRewrite".to_owned(), json!({"match": "/.*", "rewrite": path}));
        }
        _ => {}
    }
    let host = object::text(filter, "/hostname");
    if !host.is_empty() {
        out.insert("authority".to_owned(), json!(host));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}
