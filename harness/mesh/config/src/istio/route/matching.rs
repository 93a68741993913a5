//! Which requests a route takes: Istio's `match` in Envoy's form (`pilot/pkg/networking/core/route/route.go`).

use serde_json::{Map, Value, json};

use super::spec::{HttpMatch, Semantics, StringMatch};

/// The route's `match`. Without one it takes every path, and then says nothing of upper and lower case.
pub(super) fn route_match(semantics: Semantics, matching: Option<&HttpMatch>) -> Value {
    let Some(matching) = matching else { return json!({"prefix": "/"}) };
    let mut out = Map::new();

    let (field, value) = path(semantics, matching.uri.as_ref());
    out.insert(field.to_owned(), value);
    out.insert("case_sensitive".to_owned(), Value::Bool(!matching.ignore_uri_case));

    let mut headers: Vec<(&str, Value)> = Vec::new();
    let mut metadata = Vec::new();
    for (name, text) in &matching.headers {
        match claim(name) {
            Some(path) => metadata.push(claim_match(&path, text, false)),
            None => headers.push((name, header(name, text))),
        }
    }
    for (name, text) in &matching.without_headers {
        if let Some(path) = claim(name) {
            metadata.push(claim_match(&path, text, true));
            continue;
        }
        let mut matcher = header(name, text);
        if let Some(fields) = matcher.as_object_mut() {
            fields.insert("invert_match".to_owned(), Value::Bool(true));
            // Envoy refuses the two together.
            if !is_presence(text) {
                fields.insert("treat_missing_header_as_empty".to_owned(), Value::Bool(true));
            }
        }
        headers.push((name, matcher));
    }
    headers.sort_by(|a, b| a.0.cmp(b.0));
    let pseudo = [(":method", &matching.method), (":authority", &matching.authority), (":scheme", &matching.scheme)];
    headers.extend(pseudo.into_iter().filter_map(|(name, text)| Some((name, header(name, text.as_ref()?)))));

    let parameters: Vec<Value> = matching.query_params.iter().map(|(name, text)| parameter(name, text)).collect();
    for (field, list) in [
        ("headers", headers.into_iter().map(|(_, matcher)| matcher).collect::<Vec<_>>()),
        ("query_parameters", parameters),
        ("dynamic_metadata", metadata),
    ] {
        if !list.is_empty() {
            out.insert(field.to_owned(), Value::Array(list));
        }
    }
    Value::Object(out)
}

/// The path's part of a match: field and value.
fn path(semantics: Semantics, uri: Option<&StringMatch>) -> (&'static str, Value) {
    let Some(uri) = uri else { return ("prefix", json!("/")) };
    if let Some(exact) = &uri.exact {
        ("path", json!(exact))
    } else if let Some(prefix) = &uri.prefix {
        if semantics != Semantics::Istio && prefix != "/" {
            ("path_separated_prefix", json!(prefix.strip_suffix('/').unwrap_or(prefix)))
        } else {
            ("prefix", json!(prefix))
        }
    } else if let Some(regex) = &uri.regex {
        ("safe_regex", json!({"regex": regex}))
    } else {
        ("prefix", json!("/"))
    }
}

/// Whether a comparison only asks that there be a value: nothing given, or the regular expression `*`, which is none.
fn is_presence(text: &StringMatch) -> bool {
    text.exact.is_none() && text.prefix.is_none() && text.regex.as_deref().is_none_or(|regex| regex == "*")
}

/// Envoy's `StringMatcher`; `None` where nothing is compared.
pub(super) fn string_matcher(text: &StringMatch) -> Option<Value> {
    if let Some(exact) = &text.exact {
        Some(json!({"exact": exact}))
    } else if let Some(prefix) = &text.prefix {
        Some(json!({"prefix": prefix}))
    } else {
        text.regex.as_ref().map(|regex| json!({"safe_regex": {"regex": regex}}))
    }
}

fn header(name: &str, text: &StringMatch) -> Value {
    compared(name, text)
}

fn parameter(name: &str, text: &StringMatch) -> Value {
    compared(name, text)
}

/// Headers and query parameters are compared by fields of the same names.
fn compared(name: &str, text: &StringMatch) -> Value {
    match string_matcher(text).filter(|_| !is_presence(text)) {
        Some(matcher) => json!({"name": name, "string_match": matcher}),
        None => json!({"name": name, "present_match": true}),
    }
}

/// The claim that a header of the form `@request.auth.claims.a.b` or `@request.auth.claims[a][b]` names
/// (`pkg/jwt/routingclaim.go`).
fn claim(header: &str) -> Option<Vec<String>> {
    let rest = header.strip_prefix("@request.auth.claims")?;
    if let Some(dotted) = rest.strip_prefix('.') {
        let path: Vec<String> = dotted.split('.').map(str::to_owned).collect();
        return (!dotted.is_empty()).then_some(path);
    }
    let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
    let path: Vec<String> = inner.split("][").map(str::to_owned).collect();
    path.iter().all(|part| !part.is_empty()).then_some(path)
}

/// A claim is a text or a list of texts in what the JWT filter leaves behind.
fn claim_match(claim: &[String], text: &StringMatch, invert: bool) -> Value {
    let path: Vec<Value> = std::iter::once("payload").chain(claim.iter().map(String::as_str)).map(|key| json!({"key": key})).collect();
    let compared = string_matcher(text).unwrap_or_else(|| json!({}));
    let mut out = json!({
        "filter": "envoy.filters.http.jwt_authn",
        "path": path,
        "value": {"or_match": {"value_matchers": [
            {"string_match": compared},
            {"list_match": {"one_of": {"string_match": compared}}},
        ]}},
    });
    if invert && let Some(fields) = out.as_object_mut() {
        fields.insert("invert".to_owned(), Value::Bool(true));
    }
    out
}

/// Whether a route takes every request: then nothing behind it is ever reached.
pub(in crate::istio) fn is_catch_all(route: &Value) -> bool {
    let Some(matching) = route.get("match") else { return false };
    let every_path = matching.get("prefix").is_some_and(|p| p == "/")
        || matching.get("path_separated_prefix").is_some_and(|p| p == "/")
        || matching.pointer("/safe_regex/regex").is_some_and(|r| r == ".*");
    every_path && ["headers", "query_parameters", "dynamic_metadata"].iter().all(|field| matching.get(field).is_none())
}

/// Catch-alls last, each group in its own order (`route.SortVHostRoutes`).
pub(in crate::istio) fn catch_alls_last(routes: Vec<Value>) -> Vec<Value> {
    let (last, mut first): (Vec<_>, Vec<_>) = routes.into_iter().partition(is_catch_all);
    first.extend(last);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(spec: Value) -> Value {
        let matching: HttpMatch = serde_json::from_value(spec).expect("a match");
        route_match(Semantics::Istio, Some(&matching))
    }

    #[test]
    fn paths_are_compared_as_text_and_only_generated_routes_by_segment() {
        assert_eq!(route_match(Semantics::Istio, None), json!({"prefix": "/"}));
        assert_eq!(matched(json!({})), json!({"prefix": "/", "case_sensitive": true}));
        assert_eq!(matched(json!({"uri": {"prefix": "/a/"}})), json!({"prefix": "/a/", "case_sensitive": true}));
        assert_eq!(matched(json!({"uri": {"exact": "/a"}, "ignoreUriCase": true})), json!({"path": "/a", "case_sensitive": false}));
        assert_eq!(matched(json!({"uri": {"regex": "/a.*"}})), json!({"safe_regex": {"regex": "/a.*"}, "case_sensitive": true}));
        let matching: HttpMatch = serde_json::from_value(json!({"uri": {"prefix": "/a/"}})).expect("a match");
        assert_eq!(route_match(Semantics::Gateway, Some(&matching)), json!({"path_separated_prefix": "/a", "case_sensitive": true}));
    }

    #[test]
    fn headers_are_sorted_and_the_request_line_follows_them() {
        let got = matched(json!({
            "method": {"exact": "GET"},
            "authority": {"prefix": "api."},
            "headers": {"x-b": {"exact": "1"}, "x-a": {}, "x-c": {"regex": "*"}},
            "withoutHeaders": {"x-aa": {"exact": "no"}, "x-z": {}},
            "queryParams": {"debug": {"exact": "1"}, "any": {"regex": "*"}},
        }));
        let names: Vec<&str> = got["headers"].as_array().into_iter().flatten().filter_map(|h| h["name"].as_str()).collect();
        assert_eq!(names, ["x-a", "x-aa", "x-b", "x-c", "x-z", ":method", ":authority"]);
        assert_eq!(got["headers"][0], json!({"name": "x-a", "present_match": true}));
        assert_eq!(
            got["headers"][1],
            json!({"name": "x-aa", "string_match": {"exact": "no"}, "invert_match": true, "treat_missing_header_as_empty": true})
        );
        assert_eq!(got["headers"][3], json!({"name": "x-c", "present_match": true}));
        assert_eq!(got["headers"][4], json!({"name": "x-z", "present_match": true, "invert_match": true}));
        assert_eq!(got["query_parameters"][0], json!({"name": "any", "present_match": true}));
        assert_eq!(got["query_parameters"][1], json!({"name": "debug", "string_match": {"exact": "1"}}));
    }

    #[test]
    fn a_claim_is_looked_up_in_what_the_jwt_filter_left() {
        let got = matched(json!({"headers": {"@request.auth.claims[group][id]": {"exact": "g"}}}));
        assert_eq!(got["dynamic_metadata"][0]["path"], json!([{"key": "payload"}, {"key": "group"}, {"key": "id"}]));
        assert!(got.get("headers").is_none());
    }

    #[test]
    fn catch_alls_move_to_the_end_and_keep_their_order() {
        let route = |name: &str, matching: Value| json!({"name": name, "match": matching});
        let sorted = catch_alls_last(vec![
            route("all", json!({"prefix": "/"})),
            route("a", json!({"prefix": "/a"})),
            route("regex", json!({"safe_regex": {"regex": ".*"}})),
            route("header", json!({"prefix": "/", "headers": [{"name": "x", "present_match": true}]})),
        ]);
        let names: Vec<&str> = sorted.iter().filter_map(|r| r["name"].as_str()).collect();
        assert_eq!(names, ["a", "header", "all", "regex"]);
    }
}
