//! Clusters to the application beside a sidecar: one for each port that a service has it answer on.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Clusters;
use super::builder::{self, CLUSTER, HTTP_OPTIONS, HTTP_OPTIONS_TYPE};
use super::traffic_policy::{self, Policy};
use crate::ProxyNode;
use crate::istio::endpoints;
use crate::istio::model::{Direction, Protocol, PushContext, cluster_name, object};
use crate::istio::sidecar::Target;

/// About 292 years, the longest that Istio can say: the cluster is never cleaned up.
const NEVER: &str = "9223372035s";

/// Adds the clusters `inbound|PORT||`. Of several services on one port the first gives its name and its limits.
pub(in crate::istio) fn inbound(context: &PushContext, node: &ProxyNode, targets: &[Target], out: &mut Clusters) {
    for target in targets {
        let name = cluster_name(Direction::Inbound, target.port, "", "");
        if out.clusters.contains_key(&name) {
            continue;
        }
        let service = &target.service;
        let rule = context.destination_rule_for(&service.host, &node.namespace, &service.namespace);
        let rule = rule.filter(|rule| rule.traffic_policy.is_some());
        let policy = Policy::of(rule.and_then(|rule| rule.traffic_policy.as_ref()), None, target.service_port.number);
        let mut cluster = Map::new();
        let mut options = Map::new();
        if target.service_port.protocol.is_http2() {
            traffic_policy::use_http2(&mut options);
        } else if target.service_port.protocol == Protocol::Auto {
            traffic_policy::use_downstream_protocol(&mut options);
        }
        cluster.insert("connect_timeout".to_owned(), json!(builder::connect_timeout(context)));
        traffic_policy::apply_pool(&mut cluster, &mut options, policy.pool.as_ref());
        let mut hosts = BTreeSet::new();
        let beside = targets.iter().filter(|other| other.port == target.port && other.service_port.number == target.service_port.number);
        let services: Vec<Value> = beside
            .filter(|other| other.declared.as_ref().is_none_or(|declared| declared.has_service))
            .filter(|other| hosts.insert(other.service.host.as_str()))
            .map(|other| builder::service_metadata(&other.service))
            .collect();
        let mut metadata = Map::new();
        if !services.is_empty() {
            metadata.insert("services".to_owned(), Value::Array(services));
        }
        if let Some(rule) = rule {
            metadata.insert("config".to_owned(), json!(builder::rule_path(rule)));
        }
        let (bind, localhost) = match node.ip {
            std::net::IpAddr::V4(_) => ("127.0.0.6", "127.0.0.1"),
            std::net::IpAddr::V6(_) => ("::6", "::1"),
        };
        let endpoint = match &target.declared {
            Some(declared) => declared.endpoint.clone(),
            None => to_localhost(context).then(|| (localhost.to_owned(), target.port)),
        };
        for (field, value) in [
            ("@type", json!(CLUSTER)),
            ("name", json!(name)),
            ("alt_stat_name", json!(format!("{name};"))),
            ("common_lb_config", json!({})),
        ] {
            cluster.insert(field.to_owned(), value);
        }
        if !metadata.is_empty() {
            cluster.insert("metadata".to_owned(), json!({"filter_metadata": {"istio": metadata}}));
        }
        // To localhost the proxy's own traffic is not redirected back to it; elsewhere this address says whose it is.
        if endpoint.as_ref().is_none_or(|(host, _)| host != localhost) {
            cluster.insert("upstream_bind_config".to_owned(), json!({"source_address": {"address": bind, "port_value": 0}}));
        }
        match endpoint {
            None => {
                cluster.insert("type".to_owned(), json!("ORIGINAL_DST"));
                cluster.insert("lb_policy".to_owned(), json!("CLUSTER_PROVIDED"));
                cluster.insert("cleanup_interval".to_owned(), json!(NEVER));
            }
            Some((host, port)) => {
                let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": endpoints::address(&host, port)}}]}]);
                cluster.insert("type".to_owned(), json!("STATIC"));
                cluster.insert("load_assignment".to_owned(), json!({"cluster_name": name, "endpoints": endpoints}));
            }
        }
        if !options.is_empty() {
            options.insert("@type".to_owned(), json!(HTTP_OPTIONS_TYPE));
            cluster.insert("typed_extension_protocol_options".to_owned(), json!({HTTP_OPTIONS: options}));
        }
        out.add(&name, Value::Object(cluster), None);
    }
}

/// Whether calls go to the application's localhost instead of the address that was called (`inboundTrafficPolicy`).
fn to_localhost(context: &PushContext) -> bool {
    object::text(&context.mesh.raw, "/inboundTrafficPolicy/mode") == "LOCALHOST"
}
