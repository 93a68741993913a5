//! A VirtualService's `http` as routes of Envoy (`pilot/pkg/networking/core/route/route.go`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::destination::{Backends, action};
use super::filters::per_filter;
use super::headers::Operations;
use super::matching::{is_catch_all, route_match};
use super::spec::{DerivePort, DirectResponse, HttpMatch, HttpRoute, Redirect, Retries, Semantics, VirtualService};

/// For whom and where routes are made.
pub struct HttpContext<'a> {
    /// The proxy's labels, for `sourceLabels`.
    pub labels: &'a BTreeMap<String, String>,
    /// The proxy's namespace, for `sourceNamespace`.
    pub namespace: &'a str,
    /// `mesh`, or the Gateway as `namespace/name`.
    pub gateway: &'a str,
    /// A Service's port on a sidecar; the number that the Gateway's server gives, whatever the listener binds, on a gateway.
    pub port: u32,
    /// Whether the listener ends TLS.
    pub tls: bool,
    /// The mesh's `defaultHttpRetryPolicy`.
    pub default_retries: Option<&'a Retries>,
    /// The services that destinations name.
    pub backends: &'a dyn Backends,
}

/// The routes of one VirtualService, in order, up to the first that takes everything. None if no match counts here.
#[must_use]
pub fn routes(service: &VirtualService, context: &HttpContext<'_>) -> Vec<Value> {
    let mut out = Vec::new();
    for http in &service.spec.http {
        if http.r#match.is_empty() {
            out.push(route(service, http, None, context));
            return out;
        }
        for matching in http.r#match.iter().filter(|matching| counts(matching, context)) {
            let route = route(service, http, Some(matching), context);
            let last = is_catch_all(&route);
            out.push(route);
            if last {
                return out;
            }
        }
    }
    out
}

/// Whether a match can hold at this proxy, port and gateway at all. Where gateways are named, labels and namespace of the
/// source are not looked at (`sourceMatchHTTP`).
fn counts(matching: &HttpMatch, context: &HttpContext<'_>) -> bool {
    if matching.port != 0 && matching.port != context.port {
        return false;
    }
    if !matching.gateways.is_empty() {
        return matching.gateways.iter().any(|gateway| gateway == context.gateway);
    }
    matching.source_labels.iter().all(|(key, value)| context.labels.get(key) == Some(value))
        && (matching.source_namespace.is_empty() || matching.source_namespace == context.namespace)
}

fn route(service: &VirtualService, http: &HttpRoute, matching: Option<&HttpMatch>, context: &HttpContext<'_>) -> Value {
    let mut out = Map::new();
    let matched = route_match(service.semantics, matching);
    let match_name = matching.map_or("", |matching| matching.name.as_str());
    let name = if match_name.is_empty() { http.name.clone() } else { format!("{}.{match_name}", http.name) };
    if !name.is_empty() {
        out.insert("name".to_owned(), Value::String(name));
    }
    out.insert("metadata".to_owned(), json!({"filter_metadata": {"istio": {"config": service.config_path()}}}));
    if let Some(prefix) = matching.map(|matching| &matching.stat_prefix).filter(|prefix| !prefix.is_empty()) {
        out.insert("stat_prefix".to_owned(), json!(prefix));
    }

    let mut operations = http.headers.as_ref().map(Operations::of).unwrap_or_default();
    if let Some(redirect) = &http.redirect {
        if let Some(redirect) = redirect_action(redirect, context) {
            out.insert("redirect".to_owned(), redirect);
        }
    } else if let Some(response) = &http.direct_response {
        out.insert("direct_response".to_owned(), direct_response(response));
    } else {
        let (action, added) = action(http, service.semantics, &matched, &operations.authority, context);
        operations.extend(added);
        out.insert("route".to_owned(), action);
    }
    operations.write(&mut out);

    let operation = operation(&out, &matched, &service.meta.name, context.port);
    out.insert("decorator".to_owned(), json!({"operation": operation}));
    out.insert("match".to_owned(), matched);
    if let Some(filters) = per_filter(http) {
        out.insert("typed_per_filter_config".to_owned(), filters);
    }
    Value::Object(out)
}

/// What a trace calls the route: the one host it leads to, otherwise the VirtualService, with the path.
fn operation(route: &Map<String, Value>, matched: &Value, name: &str, port: u32) -> String {
    let text = |field: &str| matched.pointer(field).and_then(Value::as_str);
    let path = text("/prefix")
        .map(|prefix| format!("{prefix}*"))
        .or_else(|| text("/path").map(str::to_owned))
        .or_else(|| text("/safe_regex/regex").map(str::to_owned))
        .unwrap_or_else(|| "/*".to_owned());
    let cluster = route.get("route").and_then(|action| action.get("cluster")).and_then(Value::as_str).unwrap_or_default();
    let parts: Vec<&str> = cluster.split('|').collect();
    match parts.as_slice() {
        [_, port, _, host] => format!("{host}:{port}{path}"),
        _ => format!("{name}:{port}{path}"),
    }
}

/// `None` for a status that Envoy has no redirect for.
fn redirect_action(redirect: &Redirect, context: &HttpContext<'_>) -> Option<Value> {
    let mut out = Map::new();
    let mut put = |field: &str, value: Value| out.insert(field.to_owned(), value);
    if !redirect.authority.is_empty() {
        put("host_redirect", json!(redirect.authority));
    }
    if redirect.prefix_rewrite.is_empty() {
        // One of several fields of which one is set, so that it is printed even when empty.
        put("path_redirect", json!(redirect.uri));
    } else {
        put("prefix_rewrite", json!(redirect.prefix_rewrite));
    }
    if !redirect.scheme.is_empty() {
        put("scheme_redirect", json!(redirect.scheme));
    }
    let scheme = match redirect.scheme.as_str() {
        "" if context.tls => "https",
        "" => "http",
        scheme => scheme,
    };
    // Envoy cannot take the port from the request, but every route is made for one port.
    let port = redirect.port.or_else(|| (redirect.derive_port == Some(DerivePort::FromRequestPort)).then_some(context.port));
    if let Some(port) = port.filter(|port| *port != 0 && !matches!((*port, scheme), (80, "http") | (443, "https"))) {
        put("port_redirect", json!(port));
    }
    match redirect.redirect_code {
        0 | 301 => {}
        302 => drop(put("response_code", json!("FOUND"))),
        303 => drop(put("response_code", json!("SEE_OTHER"))),
        307 => drop(put("response_code", json!("TEMPORARY_REDIRECT"))),
        308 => drop(put("response_code", json!("PERMANENT_REDIRECT"))),
        _ => return None,
    }
    Some(Value::Object(out))
}

fn direct_response(response: &DirectResponse) -> Value {
    let mut out = Map::new();
    if response.status != 0 {
        out.insert("status".to_owned(), json!(response.status));
    }
    if let Some(body) = &response.body {
        if let Some(text) = &body.string {
            out.insert("body".to_owned(), json!({"inline_string": text}));
        } else if let Some(bytes) = &body.bytes {
            out.insert("body".to_owned(), json!({"inline_bytes": bytes}));
        }
    }
    Value::Object(out)
}

/// Whether a missing cluster is the server's fault: Gateway API wants 500 for an invalid backend, Envoy's default is 503.
pub(super) fn missing_cluster_is_500(semantics: Semantics) -> bool {
    semantics == Semantics::Gateway
}
