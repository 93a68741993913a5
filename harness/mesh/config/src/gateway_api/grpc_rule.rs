//! Rules of GRPCRoutes, as those of a VirtualService (Istio: `convertGRPCRoute`).

use serde_json::{Map, Value, json};

use super::Fault;
use super::backend::{self, Source};
use super::filter::{self, headers};
use super::http_rule;
use super::route::Rule;
use crate::istio::model::object;

/// What a rule is for: a method is the path `/SERVICE/METHOD`.
pub(super) fn matching(one: &Value) -> Result<Value, Fault> {
    let mut out = Map::new();
    if let Some(method) = one.get("method").filter(|method| method.is_object()) {
        let of = |field: &str| method.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let is_regex = of("type") == Some("RegularExpression");
        let uri = match (of("service"), of("method")) {
            (None, None) => return Err(Fault::new("InvalidConfiguration", "gRPC match must have method or service defined")),
            (Some(service), None) if is_regex => json!({"regex": format!("/{service}/.+")}),
            (Some(service), None) => json!({"prefix": format!("/{service}/")}),
            (None, Some(method)) => json!({"regex": format!("/[^/]+/{method}")}),
            (Some(service), Some(method)) => {
                let path = format!("/{service}/{method}");
                if is_regex { json!({"regex": path}) } else { json!({"exact": path}) }
            }
        };
        out.insert("uri".to_owned(), uri);
    }
    if let Some(headers) = http_rule::texts(one, "headers") {
        out.insert("headers".to_owned(), headers);
    }
    Ok(Value::Object(out))
}

/// A rule without its matches, and what is wrong with its backends.
pub(super) fn rule(source: Source<'_, '_>, rule: &Value, name: String) -> Result<(Rule, Option<Fault>), Fault> {
    let mut out = Map::from_iter([("name".to_owned(), json!(name))]);
    let filters = object::list(rule, "/filters");
    let mut mirrors = Vec::new();
    for one in filters {
        match object::text(one, "/type") {
            "RequestHeaderModifier" | "ResponseHeaderModifier" => {}
            "RequestMirror" => mirrors.push(filter::mirror(source, one)?),
            other => return Err(Fault::new("InvalidFilter", format!("unsupported filter type {other:?}"))),
        }
    }
    if !mirrors.is_empty() {
        out.insert("mirrors".to_owned(), Value::Array(mirrors));
    }
    if let Some(changed) = headers(filters)? {
        out.insert("headers".to_owned(), changed);
    }
    let backends = object::list(rule, "/backendRefs");
    if backend::is_none(backends) {
        out.insert("directResponse".to_owned(), json!({"status": 500}));
        return Ok((out, None));
    }
    let (routes, fault) = backend::destinations(source, backends)?;
    out.insert("route".to_owned(), json!(routes));
    Ok((out, fault))
}
