//! Where a route leads: clusters, rewriting, mirrors, timeouts.

use serde_json::{Map, Value, json};

use super::filters::{hundredths, millionths};
use super::headers::Operations;
use super::http::{HttpContext, missing_cluster_is_500};
use super::retry;
use super::spec::{Destination, HttpDestination, HttpRoute, Rewrite, Semantics};

/// What a route has to know of the service that a destination names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backend {
    /// Its ports.
    pub ports: Vec<u32>,
    /// The name that it stands for, if it is a Service of type ExternalName.
    pub external_name: Option<String>,
}

/// The services that destinations name, as seen from one proxy (and one VirtualService).
pub trait Backends {
    /// The service with this full name; `None` if the proxy knows none.
    fn backend(&self, host: &str) -> Option<Backend>;
    /// Envoy's `hash_policy` for a destination whose DestinationRule asks for consistent hashing.
    fn hash_policy(&self, destination: &Destination) -> Option<Value>;
}

/// The name that Istio gives the cluster of a destination, whether there is such a cluster or not: the destination's port,
/// else the only port of its service, else the listener's (`GetDestinationCluster`).
#[must_use]
pub fn cluster(destination: &Destination, backend: Option<&Backend>, listener_port: u32) -> String {
    if destination.host.is_empty() {
        return "UnknownService".to_owned();
    }
    let host = backend.and_then(|backend| backend.external_name.as_deref()).unwrap_or(&destination.host);
    let port = match (destination.port, backend.map(|backend| backend.ports.as_slice())) {
        (Some(port), _) => port.number,
        (None, Some([only])) => *only,
        (None, _) => listener_port,
    };
    format!("outbound|{port}|{}|{host}", destination.subset)
}

fn cluster_of(destination: &Destination, context: &HttpContext<'_>) -> String {
    cluster(destination, context.backends.backend(&destination.host).as_ref(), context.port)
}

/// The route's `route`, and the headers that its one destination changes, which Istio writes onto the route itself.
pub(super) fn action(
    http: &HttpRoute,
    semantics: Semantics,
    matched: &Value,
    authority: &str,
    context: &HttpContext<'_>,
) -> (Value, Operations) {
    let mut out = Map::new();
    let timeout = http.timeout.map_or_else(|| json!("0s"), super::ProtoDuration::json);
    out.insert("timeout".to_owned(), timeout.clone());
    // Without it Envoy would let a grpc-timeout header go unheeded.
    out.insert("max_grpc_timeout".to_owned(), timeout);
    if missing_cluster_is_500(semantics) {
        out.insert("cluster_not_found_response_code".to_owned(), json!("INTERNAL_SERVER_ERROR"));
    }
    let mut authority = authority.to_owned();
    if let Some(rewriting) = &http.rewrite {
        rewrite(rewriting, semantics, matched, &mut out);
        if !rewriting.authority.is_empty() {
            authority.clone_from(&rewriting.authority);
        }
    }
    let mirrors = mirrors(http, context);
    if !mirrors.is_empty() {
        out.insert("request_mirror_policies".to_owned(), Value::Array(mirrors));
    }

    let mut added = Operations::default();
    let mut hashes = Vec::new();
    if let [only] = http.route.as_slice() {
        // The weight of a single destination means nothing.
        out.insert("cluster".to_owned(), json!(cluster_of(&only.destination, context)));
        hashes.extend(context.backends.hash_policy(&only.destination));
        if let Some(headers) = &only.headers {
            added = Operations::of(headers);
            if authority.is_empty() {
                authority.clone_from(&added.authority);
            }
        }
    } else {
        let weighted: Vec<Value> = http
            .route
            .iter()
            .filter(|destination| destination.weight > 0)
            .map(|destination| {
                hashes.extend(context.backends.hash_policy(&destination.destination));
                weighted(destination, context)
            })
            .collect();
        let clusters = if weighted.is_empty() { json!({}) } else { json!({"clusters": weighted}) };
        out.insert("weighted_clusters".to_owned(), clusters);
    }
    if !authority.is_empty() {
        out.insert("host_rewrite_literal".to_owned(), Value::String(authority));
    }
    let consistent_hash = http.route.len() == 1 && !hashes.is_empty();
    if let Some(policy) = retry::policy(http.retries.as_ref().or(context.default_retries), consistent_hash) {
        out.insert("retry_policy".to_owned(), policy);
    }
    if !hashes.is_empty() {
        out.insert("hash_policy".to_owned(), Value::Array(hashes));
    }
    (Value::Object(out), added)
}

fn weighted(destination: &HttpDestination, context: &HttpContext<'_>) -> Value {
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(cluster_of(&destination.destination, context)));
    out.insert("weight".to_owned(), json!(destination.weight));
    if let Some(headers) = &destination.headers {
        let operations = Operations::of(headers);
        if !operations.authority.is_empty() {
            out.insert("host_rewrite_literal".to_owned(), json!(operations.authority));
        }
        operations.write(&mut out);
    }
    Value::Object(out)
}

fn rewrite(rewrite: &Rewrite, semantics: Semantics, matched: &Value, out: &mut Map<String, Value>) {
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        out.insert("regex_rewrite".to_owned(), json!({"pattern": {"regex": regex.r#match}, "substitution": regex.rewrite}));
    } else if rewrite.uri == "/" && semantics == Semantics::Gateway {
        // A prefix that is taken away must leave one slash, also where it was the whole path.
        let prefix = matched.get("path_separated_prefix").and_then(Value::as_str).unwrap_or_default();
        let pattern = format!("^{}(/?)(.*)", quoted(prefix));
        out.insert("regex_rewrite".to_owned(), json!({"pattern": {"regex": pattern}, "substitution": "/\\2"}));
    } else if !rewrite.uri.is_empty() {
        out.insert("prefix_rewrite".to_owned(), json!(rewrite.uri));
    }
}

/// Text as a regular expression that matches it alone, with the characters that Go's `regexp.QuoteMeta` escapes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn mirrors(http: &HttpRoute, context: &HttpContext<'_>) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some(mirror) = &http.mirror {
        let share = match (http.mirror_percentage, http.mirror_percent) {
            (Some(percent), _) => (percent.value > 0.0).then(|| millionths(percent)),
            (None, Some(percent)) => (percent > 0).then(|| hundredths(percent)),
            (None, None) => Some(hundredths(100)),
        };
        out.extend(share.map(|share| mirror_policy(mirror, &share, context)));
    }
    for mirror in &http.mirrors {
        let share = match mirror.percentage {
            Some(percent) => (percent.value > 0.0).then(|| millionths(percent)),
            None => Some(hundredths(100)),
        };
        if let (Some(share), Some(destination)) = (share, &mirror.destination) {
            out.push(mirror_policy(destination, &share, context));
        }
    }
    out
}

fn mirror_policy(destination: &Destination, share: &Value, context: &HttpContext<'_>) -> Value {
    json!({
        "cluster": cluster_of(destination, context),
        "runtime_fraction": {"default_value": share},
        "trace_sampled": false,
        "disable_shadow_host_suffix_append": true,
    })
}
