//! Istio's patterns as Envoy's matchers (Istio: `pilot/pkg/security/authz/matcher`).

use std::net::IpAddr;

use serde_json::{Value, json};

/// A pattern: `*` is anything that is not empty, `*x` a suffix, `x*` a prefix, all else the very text.
pub(super) fn string(pattern: &str) -> Value {
    prefixed(pattern, "")
}

/// The same, where `prefix` stands before what the pattern means (`spiffe://`).
pub(super) fn prefixed(pattern: &str, prefix: &str) -> Value {
    if pattern == "*" {
        return regex(".+");
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) if prefix.is_empty() => json!({"suffix": suffix}),
        (Some(suffix), _) => regex(&format!("{prefix}.*{}", quote(suffix))),
        (None, Some(start)) => json!({"prefix": format!("{prefix}{start}")}),
        (None, None) => json!({"exact": format!("{prefix}{pattern}")}),
    }
}

/// A matcher by regular expression.
pub(super) fn regex(regex: &str) -> Value {
    json!({"safe_regex": {"regex": regex}})
}

/// A header's value by a pattern; `*` asks that it be there. Hosts are compared without regard to case.
pub(super) fn header(name: &str, pattern: &str, ignore_case: bool) -> Value {
    if pattern == "*" {
        return json!({"name": name, "present_match": true});
    }
    let mut matcher = string(pattern);
    if let Some(fields) = matcher.as_object_mut().filter(|_| ignore_case) {
        fields.insert("ignore_case".to_owned(), Value::Bool(true));
    }
    json!({"name": name, "string_match": matcher})
}

/// A range of addresses; a single address is the range of itself.
pub(super) fn cidr(text: &str) -> Option<Value> {
    let (address, bits) = match text.split_once('/') {
        Some(_) => {
            let net: ipnet::IpNet = text.parse().ok()?;
            (net.network(), net.prefix_len())
        }
        None => {
            let address: IpAddr = text.parse().ok()?;
            (address, if address.is_ipv4() { 32 } else { 128 })
        }
    };
    Some(json!({"address_prefix": address.to_string(), "prefix_len": bits}))
}

/// A claim of a token (Istio: `MetadataStringMatcherForJWTClaim`).
pub(super) fn claim(path: &[&str], value: &Value) -> Value {
    let keys = std::iter::once(&"payload").chain(path).map(|key| json!({"key": key}));
    json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": keys.collect::<Vec<_>>(), "value": value}})
}

/// A claim that is one of these texts or a list with one of them (Istio: `MetadataListValueMatcherForJWTClaims`).
pub(super) fn claim_among(path: &[&str], patterns: &[&str]) -> Value {
    let texts = any_value(patterns.iter().map(|pattern| json!({"string_match": string(pattern)})).collect());
    claim(path, &json!({"or_match": {"value_matchers": [{"list_match": {"one_of": texts.clone()}}, texts]}}))
}

/// One of several values (Istio: `OrMatcher`: a single one stands for itself).
pub(super) fn any_value(mut values: Vec<Value>) -> Value {
    match (values.len(), values.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            values.extend(last);
            json!({"or_match": {"value_matchers": values}})
        }
    }
}

/// The names in `[a]` or `[a][b]`; brackets that do not pair off are part of the one name.
pub(super) fn brackets(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    match names.iter().any(|name| name.contains(['[', ']'])) {
        true => Some(vec![inner]),
        false => Some(names),
    }
}

/// A text as the regular expression that matches it alone, escaped as Go does it (`regexp.QuoteMeta`).
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}
