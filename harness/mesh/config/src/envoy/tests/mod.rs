//! Tests on what a real cluster's proxies had, and on single rules.

mod access_log;
mod arrival;
mod captured;
mod chains;
mod clusters;
mod filters;
mod properties;
mod rbac;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::listener::Listener;
use crate::ProxyResources;

/// Resources of one captured proxy, with names changed and parts left out.
fn captured(text: &str) -> ProxyResources {
    let value: Value = serde_json::from_str(text).unwrap();
    let of = |kind: &str| -> BTreeMap<String, Arc<Value>> {
        value[kind]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, resource)| (resource_name(resource, name), Arc::new(resource.clone())))
            .collect()
    };
    ProxyResources {
        listeners: of("listeners"),
        routes: of("routes"),
        clusters: of("clusters"),
        endpoints: of("endpoints"),
        ..Default::default()
    }
}

fn resource_name(resource: &Value, key: &str) -> String {
    resource.get("name").or(resource.get("cluster_name")).and_then(Value::as_str).unwrap_or(key).to_owned()
}

fn gateway_in() -> ProxyResources {
    captured(include_str!("../testdata/gateway_in.json"))
}

fn gateway_out() -> ProxyResources {
    captured(include_str!("../testdata/gateway_out.json"))
}

fn gateway_rbac() -> ProxyResources {
    captured(include_str!("../testdata/gateway_rbac.json"))
}

fn sidecar() -> ProxyResources {
    captured(include_str!("../testdata/sidecar.json"))
}

/// A chain with this match that proxies bytes to a cluster of its own name.
fn chain(name: &str, matches: Value) -> Value {
    json!({"name": name, "filter_chain_match": matches, "filters": [tcp_proxy(name)]})
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", "cluster": cluster}})
}

fn listener(chains: Vec<Value>) -> Result<Listener, super::Refusal> {
    Listener::read(&json!({"name": "l", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 443}}, "filter_chains": chains}))
}
