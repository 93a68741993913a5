//! A VirtualService that hands some of its paths to others (`MergeHTTPRoutes` in `pilot/pkg/model/virtualservice.go`).

use std::collections::BTreeMap;

use super::spec::{HttpMatch, HttpRoute, StringMatch, VirtualService};
use crate::istio::model::Visibility;

/// Replaces each route that delegates by the delegate's routes, as far as they fit; istiod's warnings go to the log.
pub(super) fn merge_into(service: &mut VirtualService, delegates: &[(VirtualService, Visibility)], log: &mut Vec<String>) {
    if service.spec.http.iter().all(|http| http.delegate.is_none()) {
        return;
    }
    let (name, namespace) = (&service.meta.name, &service.meta.namespace);
    let mut merged = Vec::new();
    for http in &service.spec.http {
        let Some(delegate) = &http.delegate else {
            merged.push(http.clone());
            continue;
        };
        let of = if delegate.namespace.is_empty() { namespace } else { &delegate.namespace };
        let found = delegates.iter().find(|(candidate, _)| candidate.meta.name == delegate.name && candidate.meta.namespace == *of);
        match found {
            None => log.push(format!("delegate virtual service {of}/{} of {namespace}/{name} not found", delegate.name)),
            Some((_, seen)) if !seen.includes(namespace) => {
                log.push(format!("delegate virtual service {of}/{} of {namespace}/{name} is not exported to {namespace}", delegate.name));
            }
            Some((delegate, _)) => merged.extend(delegate.spec.http.iter().filter_map(|route| merge(http, route, log))),
        }
    }
    service.spec.http = merged;
}

/// The delegate's route with what it leaves open taken from the root; `None` where their matches contradict each other.
fn merge(root: &HttpRoute, delegate: &HttpRoute, log: &mut Vec<String>) -> Option<HttpRoute> {
    let Some(matches) = merge_matches(&root.r#match, &delegate.r#match, log) else {
        log.push(format!("HTTPMatchRequests conflict: root route {}, delegate route {}", root.name, delegate.name));
        return None;
    };
    let mut out = delegate.clone();
    out.r#match = matches;
    out.name = joined(&root.name, &delegate.name);
    out.rewrite = out.rewrite.or_else(|| root.rewrite.clone());
    out.direct_response = out.direct_response.or_else(|| root.direct_response.clone());
    out.timeout = out.timeout.or(root.timeout);
    out.retries = out.retries.or_else(|| root.retries.clone());
    out.fault = out.fault.or_else(|| root.fault.clone());
    out.mirror = out.mirror.or_else(|| root.mirror.clone());
    out.mirror_percent = out.mirror_percent.or(root.mirror_percent);
    out.mirror_percentage = out.mirror_percentage.or(root.mirror_percentage);
    out.cors_policy = out.cors_policy.or_else(|| root.cors_policy.clone());
    out.headers = out.headers.or_else(|| root.headers.clone());
    if out.mirrors.is_empty() {
        out.mirrors.clone_from(&root.mirrors);
    }
    Some(out)
}

fn joined(root: &str, delegate: &str) -> String {
    match (root, delegate) {
        (root, "") => root.to_owned(),
        ("", delegate) => delegate.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    }
}

/// Every match of the delegate must lie within one of the root's.
fn merge_matches(root: &[HttpMatch], delegate: &[HttpMatch], log: &mut Vec<String>) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() { delegate } else { root }.to_vec());
    }
    let mut out = Vec::new();
    for leaf in delegate {
        let before = out.len();
        for root in root {
            if conflict(root, leaf) {
                log.push("HTTPMatchRequests conflict: root and delegate contradict each other".to_owned());
            } else {
                out.push(merge_match(root, leaf));
            }
        }
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

fn merge_match(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let or = |leaf: &Option<StringMatch>, root: &Option<StringMatch>| leaf.clone().or_else(|| root.clone());
    let text = |leaf: &str, root: &str| if leaf.is_empty() { root.to_owned() } else { leaf.to_owned() };
    HttpMatch {
        name: joined(&root.name, &leaf.name),
        uri: or(&leaf.uri, &root.uri),
        scheme: or(&leaf.scheme, &root.scheme),
        method: or(&leaf.method, &root.method),
        authority: or(&leaf.authority, &root.authority),
        headers: union(&root.headers, &leaf.headers),
        port: if leaf.port == 0 { root.port } else { leaf.port },
        source_labels: union(&root.source_labels, &leaf.source_labels),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        query_params: union(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case,
        without_headers: union(&root.without_headers, &leaf.without_headers),
        source_namespace: text(&leaf.source_namespace, &root.source_namespace),
        stat_prefix: text(&leaf.stat_prefix, &root.stat_prefix),
    }
}

/// Both, the second's entries before the first's.
fn union<V: Clone>(root: &BTreeMap<String, V>, leaf: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    root.iter().chain(leaf).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether the leaf asks for something that the root excludes (`hasConflict`).
fn conflict(root: &HttpMatch, leaf: &HttpMatch) -> bool {
    let single = [(&root.uri, &leaf.uri), (&root.scheme, &leaf.scheme), (&root.method, &leaf.method), (&root.authority, &leaf.authority)];
    let maps = [(&root.headers, &leaf.headers), (&root.without_headers, &leaf.without_headers), (&root.query_params, &leaf.query_params)];
    single.into_iter().any(|(root, leaf)| texts_conflict(root.as_ref(), leaf.as_ref()))
        || maps.into_iter().any(|(root, leaf)| leaf.iter().any(|(name, leaf)| texts_conflict(root.get(name), Some(leaf))))
        || root.ignore_uri_case != leaf.ignore_uri_case
        || (root.port > 0 && leaf.port > 0 && root.port != leaf.port)
        || (!root.source_namespace.is_empty() && leaf.source_namespace != root.source_namespace)
        || leaf.source_labels.iter().any(|(key, value)| root.source_labels.get(key).is_some_and(|of_root| of_root != value))
        || (!root.gateways.is_empty()
            && !leaf.gateways.is_empty()
            && (root.gateways.len() < leaf.gateways.len() || leaf.gateways.iter().any(|gateway| !root.gateways.contains(gateway))))
}

/// Whether the leaf is no part of the root (`stringMatchConflict`).
fn texts_conflict(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    fn some(text: &Option<String>) -> Option<&str> {
        text.as_deref().filter(|text| !text.is_empty())
    }
    let (Some(root), Some(leaf)) = (root, leaf) else { return false };
    let any = |text: &StringMatch| some(&text.regex).or(some(&text.prefix)).or(some(&text.exact)).is_some();
    if (some(&root.regex).is_some() && any(leaf)) || (some(&leaf.regex).is_some() && any(root)) {
        return true;
    }
    if let Some(exact) = some(&root.exact) {
        return some(&leaf.prefix).is_some() || leaf.exact.as_deref() != Some(exact);
    }
    if let Some(prefix) = some(&root.prefix)
        && let Some(leaf) = some(&leaf.prefix).or(some(&leaf.exact))
    {
        return !leaf.starts_with(prefix);
    }
    true
}
