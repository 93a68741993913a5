//! What istiod says of a RequestAuthentication.

use serde_json::Value;

use super::names;
use super::problems::Problems;
use crate::istio::model::object;

pub(super) fn check(policy: &Value) -> Problems {
    let mut problems = Problems::new();
    let spec = object::spec(policy);
    problems.extend(names::targets(spec));
    problems.extend(names::selector(spec.get("selector")));
    for rule in object::list(spec, "/jwtRules") {
        let mut own = Problems::new();
        check_rule(rule, &mut own);
        // A rule's errors begin as a list, and stay one even where there is but one.
        own.always_list = !own.errors.is_empty();
        problems.extend(own);
    }
    problems
}

fn check_rule(rule: &Value, problems: &mut Problems) {
    let text = |field: &str| object::text(rule, field);
    problems.error_if(object::texts(rule, "/audiences").contains(&""), "audience must be non-empty string");
    problems.error_if(text("/issuer").is_empty() && text("/jwksUri").is_empty(), "issuer or jwksUri must be non-empty string");
    let uri = text("/jwksUri");
    if !uri.is_empty() && !uri.starts_with("http://") && !uri.starts_with("https://") {
        let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
        problems.error(format!("URI scheme {scheme:?} is not supported"));
    }
    let jwks = text("/jwks");
    if !jwks.is_empty() {
        let is_set = |value: &Value| value.get("keys").is_some_and(Value::is_array) || value.get("kty").is_some();
        match serde_json::from_str::<Value>(jwks) {
            Ok(value) if is_set(&value) => {}
            Ok(_) => {
                let why = "failed to parse sole key in key set: invalid key type from JSON ()";
                problems.error(format!("jwks parse error: failed to unmarshal JWK set: {why}"));
            }
            Err(_) => {
                // Go's words for the two most likely mistakes: no JSON at all, and JSON that ends too early.
                let first = jwks.trim_start().chars().next().unwrap_or(' ');
                let why = match first {
                    '{' | '[' | '"' => "unexpected end of JSON input".to_owned(),
                    other => format!("invalid character '{other}' looking for beginning of value"),
                };
                problems.error(format!("jwks parse error: failed to unmarshal JWK set: {why}"));
            }
        }
    }
    let is_nameless = object::list(rule, "/fromHeaders").iter().any(|header| object::text(header, "/name").is_empty());
    problems.error_if(is_nameless, "location header name must be non-empty string");
    problems.error_if(object::texts(rule, "/fromParams").contains(&""), "location query must be non-empty string");
    problems.error_if(object::texts(rule, "/fromCookies").contains(&""), "cookie name must be non-empty string");
    for copy in object::list(rule, "/outputClaimToHeaders") {
        let (header, claim) = (object::text(copy, "/header"), object::text(copy, "/claim"));
        if header.is_empty() || claim.is_empty() {
            problems.error("outputClaimToHeaders header and claim value must be non-empty string");
        } else if !header.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter)) {
            problems.error(format!("header name {header} is not a valid header name"));
        }
    }
    problems.check(names::duration(rule, "/timeout"));
}
