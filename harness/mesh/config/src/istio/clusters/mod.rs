//! Clusters: where a proxy can send what it gets, and the endpoints of those that istiod fills
//! (Istio: `pilot/pkg/networking/core/cluster.go`, `cluster_builder.go`).

mod builder;
mod inbound;
mod made;
#[cfg(test)]
mod tests;
pub mod tls;
mod traffic_policy;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use self::builder::{Builder, Client, Mode};
use super::mesh_config::OutboundPolicy;
use super::model::{Direction, Protocol, PushContext, Resolution, Service, cluster_name, object, sni_name};
use super::route::DYNAMIC_DNS_CLUSTER;
use crate::{ProxyKind, ProxyNode};

pub(super) use inbound::inbound;
pub(super) use made::Made;

/// Clusters with the endpoints that istiod sends for them, by name.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Clusters {
    /// `Cluster`.
    pub clusters: BTreeMap<String, Arc<Value>>,
    /// `ClusterLoadAssignment`, for clusters of type EDS.
    pub endpoints: BTreeMap<String, Arc<Value>>,
}

impl Clusters {
    /// Adds a cluster unless there is one of its name: of services for one host the first counts.
    fn add(&mut self, name: &str, cluster: Value, endpoints: Option<Arc<Value>>) {
        self.add_shared(name, Arc::new(cluster), endpoints);
    }

    fn add_shared(&mut self, name: &str, cluster: Arc<Value>, endpoints: Option<Arc<Value>>) {
        if self.clusters.contains_key(name) {
            return;
        }
        self.clusters.insert(name.to_owned(), cluster);
        if let Some(endpoints) = endpoints {
            self.endpoints.insert(name.to_owned(), endpoints);
        }
    }
}

/// The clusters for the services that a proxy can call, and those that take everything else or nothing.
#[must_use]
pub fn outbound(context: &PushContext, node: &ProxyNode, services: &[&Service]) -> Clusters {
    let mut out = Clusters::default();
    let passes_tls = node.kind == ProxyKind::Router && has_auto_passthrough(context, node);
    for service in services.iter().filter(|service| !matches!(service.resolution, Resolution::Alias(_) | Resolution::DynamicDns)) {
        let rule = context.destination_rule_of(node, service);
        let identities = context.identities_of(service);
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            let builder = Builder { context, client: Client::of(node), node, service, port, rule, identities };
            let subsets = || rule.map(|rule| rule.subsets.as_slice()).unwrap_or_default().iter();
            for subset in std::iter::once(None).chain(subsets().map(Some)) {
                let subset_name = subset.map_or("", |subset| subset.name.as_str());
                let name = cluster_name(Direction::Outbound, port.number, subset_name, &service.host);
                if let Some((cluster, endpoints)) = context.clusters.of(&builder, &name, subset, Mode::Normal) {
                    out.add_shared(&name, cluster, endpoints);
                }
                if passes_tls && !service.external {
                    let name = sni_name(port.number, subset_name, &service.host);
                    if let Some((cluster, endpoints)) = context.clusters.of(&builder, &name, subset, Mode::SniDnat) {
                        out.add_shared(&name, cluster, endpoints);
                    }
                }
            }
        }
    }
    out.add("BlackHoleCluster", black_hole(context), None);
    if node.kind == ProxyKind::Sidecar {
        out.add("PassthroughCluster", pass_through(context, "PassthroughCluster", None), None);
        // No Sidecar object can say this mode.
        if context.mesh.outbound == OutboundPolicy::AllowAnyDynamicDns {
            out.add(DYNAMIC_DNS_CLUSTER, dynamic_dns(context, node), None);
        }
        let bind = match node.ip {
            std::net::IpAddr::V4(_) => "127.0.0.6",
            std::net::IpAddr::V6(_) => "::6",
        };
        out.add("InboundPassthroughCluster", pass_through(context, "InboundPassthroughCluster", Some(bind)), None);
    }
    out
}

/// Where names that requests ask for are kept once they are resolved (Istio: `buildAllowAnyDynamicDNSDNSCacheConfig`).
#[must_use]
pub(super) fn dns_cache(node: &ProxyNode) -> Value {
    let family = if node.ip.is_ipv4() { "V4_ONLY" } else { "V6_ONLY" };
    json!({"dns_lookup_family": family, "max_hosts": 1024, "name": "allow_any_dfp_dns_cache"})
}

/// A cluster that goes to the host that a request asks for, by TLS where the mesh says so (Istio: `buildAllowAnyDFPCluster`).
fn dynamic_dns(context: &PushContext, node: &ProxyNode) -> Value {
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
        "dns_cache_config": dns_cache(node),
    });
    let mut cluster = pass_through(context, DYNAMIC_DNS_CLUSTER, None);
    let said = context.mesh.raw.pointer("/outboundTrafficPolicy/tls").unwrap_or(&Value::Null);
    let mode = object::text(said, "/mode");
    let originated = match mode {
        "SIMPLE" | "MUTUAL" => tls::originate(said, mode == "MUTUAL", &[], false),
        _ => None,
    };
    if mode.is_empty() || mode == "DISABLE" {
        // Envoy wants the server's name to be checked otherwise, which it cannot be without TLS.
        config["allow_insecure_cluster_options"] = json!(true);
    }
    if let Some(fields) = cluster.as_object_mut() {
        fields.remove("type");
        fields.insert("alt_stat_name".to_owned(), json!(format!("{DYNAMIC_DNS_CLUSTER};")));
        fields.insert("cluster_type".to_owned(), json!({"name": "envoy.clusters.dynamic_forward_proxy", "typed_config": config}));
        if let Some(originated) = originated {
            let mut checks = serde_json::Map::new();
            for (field, is_set) in [("auto_sni", originated.auto_sni), ("auto_san_validation", originated.auto_san_validation)] {
                if is_set {
                    checks.insert(field.to_owned(), json!(true));
                }
            }
            fields.insert("transport_socket".to_owned(), originated.socket);
            if let Some(Value::Object(options)) =
                fields.get_mut("typed_extension_protocol_options").and_then(|all| all.get_mut(builder::HTTP_OPTIONS))
            {
                options.insert("upstream_http_protocol_options".to_owned(), Value::Object(checks));
            }
        }
    }
    cluster
}

/// Whether a Gateway for this proxy passes TLS on by its SNI alone.
fn has_auto_passthrough(context: &PushContext, node: &ProxyNode) -> bool {
    context.objects("Gateway").iter().any(|gateway| {
        let selector = gateway.pointer("/spec/selector").map(object::text_map).unwrap_or_default();
        let mut servers = object::list(gateway, "/spec/servers").iter();
        object::selects(&selector, &node.labels) && servers.any(|server| object::text(server, "/tls/mode") == "AUTO_PASSTHROUGH")
    })
}

fn black_hole(context: &PushContext) -> Value {
    json!({
        "@type": builder::CLUSTER,
        "alt_stat_name": "BlackHoleCluster;",
        "connect_timeout": builder::connect_timeout(context),
        "name": "BlackHoleCluster",
        "type": "STATIC",
    })
}

/// A cluster that goes where the client was going, from an address of its own on the inbound side, so that a proxy can tell its
/// own connections from others.
fn pass_through(context: &PushContext, name: &str, bind: Option<&str>) -> Value {
    let mut cluster = json!({
        "@type": builder::CLUSTER,
        "alt_stat_name": "PassthroughCluster;",
        "circuit_breakers": {"thresholds": [traffic_policy::no_limits()]},
        "connect_timeout": builder::connect_timeout(context),
        "lb_policy": "CLUSTER_PROVIDED",
        "name": name,
        "type": "ORIGINAL_DST",
        "typed_extension_protocol_options": {builder::HTTP_OPTIONS: {
            "@type": builder::HTTP_OPTIONS_TYPE,
            "common_http_protocol_options": {"idle_timeout": "300s"},
            "use_downstream_protocol_config": {"http2_protocol_options": {}, "http_protocol_options": {}},
        }},
    });
    if let (Some(bind), Some(fields)) = (bind, cluster.as_object_mut()) {
        fields.insert("upstream_bind_config".to_owned(), json!({"source_address": {"address": bind, "port_value": 0}}));
    }
    cluster
}
