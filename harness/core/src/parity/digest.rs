//! One proxy's configuration without what differs from cluster to cluster, so that two clusters' can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// By `listener NAME`, `route NAME`, `cluster NAME`, `endpoints NAME`: what decides about traffic.
pub type Digest = BTreeMap<String, Value>;

/// What stands at an address, in words that hold on any cluster: `Service httpbin.mesh-test`, `pod of sleep`.
pub type Places = BTreeMap<String, String>;

/// Fields that decide nothing about where a call goes or whether it is let through: names of statistics, traces,
/// telemetry, buffer sizes, and where the resource came from.
const WITHOUT_MEANING: [&str; 34] = [
    "@type",
    "stat_prefix",
    "alt_stat_name",
    "metadata",
    "tracing",
    "decorator",
    "access_log",
    "common_lb_config",
    "dns_lookup_family",
    "dns_refresh_rate",
    "respect_dns_ttl",
    "dns_jitter",
    "typed_dns_resolver_config",
    "dns_lookup_failure_refresh_rate",
    "eds_cluster_config",
    "connection_pool_per_downstream_connection",
    "upstream_connection_options",
    "upstream_bind_config",
    "traffic_direction",
    "enable_reuse_port",
    "max_connections_to_accept_per_socket_event",
    "socket_options",
    "connection_balance_config",
    "stream_idle_timeout",
    "listener_filters_timeout",
    "continue_on_listener_filters_timeout",
    "max_grpc_timeout",
    "max_stream_duration",
    "load_balancing_weight",
    "priority",
    "locality",
    "initial_fetch_timeout",
    "resource_api_version",
    "validate_clusters",
];

/// Filters that only watch.
const WATCHERS: [&str; 8] = [
    "istio.metadata_exchange",
    "istio.stats",
    "istio.alpn",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.peer_metadata",
    "istio.metadata.peer",
    "envoy.filters.network.metadata_exchange",
    "envoy.access_loggers.file",
];

/// The dynamic resources of Envoy's `config_dump?include_eds`, of each kind by name.
///
/// Two things in a dump are no configuration and are left out: route tables that no active listener asks for (Envoy keeps
/// them until the last connection of a removed listener has drained), and the hosts of ORIGINAL_DST clusters (Envoy notes
/// there where it was called to lately).
#[must_use]
pub fn digest(dump: &Value, places: &Places) -> Digest {
    let mut out = Digest::new();
    let (mut asked_for, mut noted) = (BTreeSet::new(), BTreeSet::new());
    for section in list(&dump["configs"]) {
        for entry in list(&section["dynamic_listeners"]) {
            route_names(&entry["active_state"]["listener"], &mut asked_for);
        }
        for entry in list(&section["dynamic_active_clusters"]).iter().filter(|e| e["cluster"]["type"] == "ORIGINAL_DST") {
            noted.extend(entry["cluster"]["name"].as_str());
        }
    }
    let mut put = |kind: &str, value: &Value| {
        let name = value["name"].as_str().or_else(|| value["cluster_name"].as_str()).unwrap_or_default();
        let left_out = (kind == "route" && !asked_for.contains(name)) || (kind == "endpoints" && noted.contains(name));
        if !name.is_empty() && !name.starts_with("gateproof-mark") && !left_out {
            out.insert(format!("{kind} {}", placed(name, places)), strip(value, places));
        }
    };
    for section in list(&dump["configs"]) {
        for entry in list(&section["dynamic_active_clusters"]) {
            put("cluster", &entry["cluster"]);
        }
        for entry in list(&section["dynamic_listeners"]) {
            put("listener", &entry["active_state"]["listener"]);
        }
        for entry in list(&section["dynamic_route_configs"]) {
            put("route", &entry["route_config"]);
        }
        for entry in list(&section["dynamic_endpoint_configs"]) {
            put("endpoints", &entry["endpoint_config"]);
        }
    }
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Names of the route tables that are asked for by RDS, anywhere in a listener.
fn route_names<'a>(value: &'a Value, into: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            into.extend(map.get("route_config_name").and_then(Value::as_str));
            map.values().for_each(|v| route_names(v, into));
        }
        Value::Array(items) => items.iter().for_each(|v| route_names(v, into)),
        _ => {}
    }
}

fn strip(value: &Value, places: &Places) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| !WITHOUT_MEANING.contains(&key.as_str()));
            let kept: Map<String, Value> =
                kept.map(|(key, value)| (key.clone(), strip(value, places))).filter(|(_, value)| !is_empty(value)).collect();
            Value::Object(kept)
        }
        Value::Array(items) => {
            let watches = |v: &Value| v["name"].as_str().is_some_and(|n| WATCHERS.iter().any(|w| n.starts_with(w)));
            let mut items: Vec<Value> = items.iter().filter(|v| !watches(v)).map(|v| strip(v, places)).collect();
            // Endpoints and chains come in an order that decides nothing.
            if items.iter().any(|v| v.get("lb_endpoints").is_some() || v.get("endpoint").is_some() || v.get("filter_chain_match").is_some())
            {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::String(text) => Value::String(placed(text, places)),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A text with known addresses replaced by what stands there.
fn placed(text: &str, places: &Places) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        match places.get(word.as_str()) {
            Some(place) => out.push_str(&format!("<{place}>")),
            None => out.push_str(word),
        }
        word.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() || c == '.' {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_become_places_and_what_only_watches_is_left_out() {
        let places = Places::from([("10.96.0.7".to_owned(), "Service web.shop".to_owned())]);
        let dump = json!({"configs": [{"dynamic_listeners": [{"name": "10.96.0.7_443", "active_state": {"listener": {
            "name": "10.96.0.7_443", "stat_prefix": "x",
            "filter_chains": [{"filters": [{"name": "istio.stats"}, {"name": "envoy.filters.network.tcp_proxy",
                "typed_config": {"@type": "t", "cluster": "outbound|443||web.shop.svc.cluster.local"}}]}]}}}]}]});
        let digest = digest(&dump, &places);
        assert_eq!(
            digest["listener <Service web.shop>_443"]["filter_chains"],
            json!([{"filters": [{"name": "envoy.filters.network.tcp_proxy",
                "typed_config": {"cluster": "outbound|443||web.shop.svc.cluster.local"}}]}])
        );
    }

    #[test]
    fn what_lingers_in_a_dump_is_left_out() {
        let listener = json!({"name": "l", "filter_chains": [{"rds": {"route_config_name": "http.80"}}]});
        let dump = json!({"configs": [
            {"dynamic_listeners": [{"active_state": {"listener": listener}}]},
            {"dynamic_route_configs": [{"route_config": {"name": "http.80"}}, {"route_config": {"name": "http.90"}}]},
            {"dynamic_active_clusters": [{"cluster": {"name": "p", "type": "ORIGINAL_DST"}}]},
            {"dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": "p"}}, {"endpoint_config": {"cluster_name": "q"}}]}]});
        let digest = digest(&dump, &Places::new());
        let names: Vec<&str> = digest.keys().map(String::as_str).collect();
        assert_eq!(names, ["cluster p", "endpoints q", "listener l", "route http.80"]);
    }

    #[test]
    fn a_field_that_decides_is_kept() {
        let with = |mode: &str| {
            let dump = json!({"configs": [{"dynamic_active_clusters": [{"cluster": {"name": "c", "type": mode}}]}]});
            digest(&dump, &Places::new())
        };
        assert_ne!(with("EDS"), with("STRICT_DNS"));
    }
}
