//! A VirtualService's `tls` and `tcp` as filter chains (`pilot/pkg/networking/core/tls.go`, `networkfilter.go`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::backends::backend;
use super::destination::cluster;
use super::duration::ProtoDuration;
use super::spec::{L4Match, RouteDestination, VirtualService};
use super::store::MESH;
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::model::{DestinationRule, host};
use crate::istio::policy::{ListenerClass, access_log};

/// One filter chain that a VirtualService wants in a sidecar's outbound listener.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chain<'a> {
    /// Whose it is.
    pub service: &'a VirtualService,
    /// `server_names` of the chain; empty for `tcp`.
    pub sni_hosts: &'a [String],
    /// Destination networks that the match names, which then stand in place of the service's own.
    pub subnets: &'a [String],
    /// Where it leads.
    pub route: &'a [RouteDestination],
}

impl Chain<'_> {
    /// The `metadata` of the chain in Envoy's dump.
    #[must_use]
    pub fn metadata(&self) -> Value {
        json!({"filter_metadata": {"istio": {"config": self.service.config_path()}}})
    }
}

/// The VirtualServices that concern a service, by its host (`getConfigsForHost`).
#[must_use]
pub fn concerning<'a>(services: &[&'a VirtualService], of: &str) -> Vec<&'a VirtualService> {
    services.iter().filter(|service| service.spec.hosts.iter().any(|host| host::overlap(host, of))).copied().collect()
}

/// The chains by server name that VirtualServices want on a port that carries TLS; of several with the same conditions only the
/// first, since Envoy would never come to the others. None means the service's own chain stands
/// (`buildSidecarOutboundTLSFilterChainOpts`).
#[must_use]
pub fn tls_matches<'a>(services: &[&'a VirtualService], node: &ProxyNode, port: u16) -> Vec<Chain<'a>> {
    let mut handled = BTreeSet::new();
    let mut out = Vec::new();
    for service in services {
        for tls in service.spec.tls.iter().filter(|tls| !tls.route.is_empty()) {
            for matching in tls.r#match.iter().filter(|matching| counts(&matching.l4, node, port)) {
                if handled.insert((&matching.sni_hosts, &matching.l4.destination_subnets)) {
                    let (sni_hosts, subnets) = (&matching.sni_hosts, &matching.l4.destination_subnets);
                    out.push(Chain { service, sni_hosts, subnets, route: &tls.route });
                }
            }
        }
    }
    out
}

/// The chains that VirtualServices want on a port that carries bytes, and whether the last of them takes everything, so that the
/// service's own chain is not wanted (`buildSidecarOutboundTCPFilterChainOpts`).
#[must_use]
pub fn tcp_routes<'a>(services: &[&'a VirtualService], node: &ProxyNode, port: u16) -> (Vec<Chain<'a>>, bool) {
    let mut out = Vec::new();
    for service in services {
        for tcp in service.spec.tcp.iter().filter(|tcp| !tcp.route.is_empty()) {
            let whole = Chain { service, sni_hosts: &[], subnets: &[], route: &tcp.route };
            if tcp.r#match.is_empty() {
                out.push(whole);
                return (out, true);
            }
            for matching in tcp.r#match.iter().filter(|matching| counts(matching, node, port)) {
                out.push(Chain { subnets: &matching.destination_subnets, ..whole });
                if matching.destination_subnets.is_empty() {
                    return (out, true);
                }
            }
        }
    }
    (out, false)
}

/// Whether a match can hold at this sidecar and port (`matchTLS`, `matchTCP`).
fn counts(matching: &L4Match, node: &ProxyNode, port: u16) -> bool {
    (matching.gateways.is_empty() || matching.gateways.iter().any(|gateway| gateway == MESH))
        && matching.source_labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && (matching.port == 0 || matching.port == u32::from(port))
        && (matching.source_namespace.is_empty() || matching.source_namespace == node.namespace)
}

/// The TCP proxy that leads to these destinations, with the access log of its class. `name` is the VirtualService that it is named
/// after when it has several (`buildOutboundNetworkFilters`). `None` without any destination that may be chosen.
#[must_use]
pub fn tcp_proxy(
    context: &PushContext,
    node: &ProxyNode,
    route: &[RouteDestination],
    listener_port: u32,
    name: &VirtualService,
) -> Option<Value> {
    let first = route.first()?;
    let lookup = |host: &str| context.service_for(host, &node.namespace);
    let named = |destination: &RouteDestination| {
        let service = lookup(&destination.destination.host).map(|service| backend(service));
        cluster(&destination.destination, service.as_ref(), listener_port)
    };
    let rule = lookup(&first.destination.host).and_then(|service| context.destination_rule_of(node, service));
    let mut out = Map::new();
    let subset;
    if let [only] = route {
        let cluster = named(only);
        subset = only.destination.subset.as_str();
        out.insert("stat_prefix".to_owned(), json!(cluster));
        out.insert("cluster".to_owned(), json!(cluster));
    } else {
        let clusters: Vec<Value> = route
            .iter()
            .filter(|destination| destination.weight > 0)
            .map(|destination| json!({"name": named(destination), "weight": destination.weight}))
            .collect();
        if clusters.is_empty() {
            return None;
        }
        subset = "";
        out.insert("stat_prefix".to_owned(), json!(format!("{}.{}", name.meta.name, name.meta.namespace)));
        out.insert("weighted_clusters".to_owned(), json!({"clusters": clusters}));
    }
    Some(finish_tcp_proxy(context, node, out, rule, subset))
}

/// The TCP proxy that leads to one cluster by its name.
#[must_use]
pub fn tcp_proxy_to(context: &PushContext, node: &ProxyNode, cluster: &str, rule: Option<&DestinationRule>, subset: &str) -> Value {
    let mut out = Map::new();
    out.insert("stat_prefix".to_owned(), json!(cluster));
    out.insert("cluster".to_owned(), json!(cluster));
    finish_tcp_proxy(context, node, out, rule, subset)
}

fn finish_tcp_proxy(
    context: &PushContext,
    node: &ProxyNode,
    mut out: Map<String, Value>,
    rule: Option<&DestinationRule>,
    subset: &str,
) -> Value {
    out.insert("@type".to_owned(), json!("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"));
    let policy = rule.and_then(|rule| rule.traffic_policy.as_ref());
    let tcp = |field: &str| {
        let text = policy.and_then(|policy| policy.pointer("/connectionPool/tcp")?.get(field)?.as_str());
        text.and_then(ProtoDuration::parse).map(ProtoDuration::json)
    };
    if let Some(timeout) = tcp("idleTimeout") {
        out.insert("idle_timeout".to_owned(), timeout);
    }
    if let Some(duration) = tcp("maxConnectionDuration") {
        out.insert("max_downstream_connection_duration".to_owned(), duration);
    }
    let hash = |policy: Option<&Value>| policy.and_then(|policy| policy.pointer("/loadBalancer")).cloned();
    let of_subset = rule.and_then(|rule| rule.subset(subset)).and_then(|subset| hash(subset.traffic_policy.as_ref()));
    let balancer = of_subset.or_else(|| hash(policy));
    if balancer.is_some_and(|balancer| balancer.pointer("/consistentHash/useSourceIp") == Some(&Value::Bool(true))) {
        out.insert("hash_policy".to_owned(), json!([{"source_ip": {}}]));
    }
    let logs = access_log(context, node, ListenerClass::of(node.kind, false));
    if !logs.is_empty() {
        out.insert("access_log".to_owned(), Value::Array(logs));
    }
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": out})
}

#[cfg(test)]
mod tests {
    use super::super::store::VirtualServices;
    use super::super::testing::{context, node, service};
    use super::*;
    use crate::ProxyKind;

    fn rule(spec: Value) -> Value {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "r", "namespace": "shop"}, "spec": spec})
    }

    #[test]
    fn the_first_of_equal_server_names_counts_and_only_at_its_source() {
        let to = |host: &str| json!([{"destination": {"host": host, "port": {"number": 443}}}]);
        let context = context(vec![rule(json!({"hosts": ["a.example"], "tls": [
            {"match": [{"sniHosts": ["a.example"], "gateways": ["gw"]}], "route": to("gateway-only.example")},
            {"match": [{"sniHosts": ["a.example"], "sourceLabels": {"app": "other"}}], "route": to("other.example")},
            {"match": [{"sniHosts": ["a.example"], "port": 444}], "route": to("other-port.example")},
            {"match": [{"sniHosts": ["a.example"], "sourceNamespace": "shop"}], "route": to("first.example")},
            {"match": [{"sniHosts": ["a.example"]}], "route": to("second.example")},
        ]}))]);
        let services = VirtualServices::read(&context);
        let mesh = services.of_gateway(MESH, "shop");
        let hosts = |namespace: &str| -> Vec<String> {
            let chains = tls_matches(&concerning(&mesh, "a.example"), &node(ProxyKind::Sidecar, "web", namespace), 443);
            chains.iter().filter_map(|chain| Some(chain.route.first()?.destination.host.clone())).collect()
        };
        assert_eq!(hosts("shop"), ["first.example"]);
        assert_eq!(hosts("elsewhere"), ["second.example"]);
        assert!(concerning(&mesh, "b.example").is_empty());
    }

    #[test]
    fn a_tcp_route_without_networks_ends_the_list() {
        let to = |host: &str, weight: i64| json!({"destination": {"host": host}, "weight": weight});
        let context = context(vec![
            service("one", "shop", "10.0.0.1", &[("tcp", 5432, 5432)]),
            rule(json!({"hosts": ["db.example"], "tcp": [
                {"match": [{"destinationSubnets": ["10.1.0.0/16"]}], "route": [to("net", 0)]},
                {"match": [{"port": 1}], "route": [to("never", 0)]},
                {"route": [to("one", 80), to("two", 20), to("none", 0)]},
                {"route": [to("behind", 0)]},
            ]})),
        ]);
        let services = VirtualServices::read(&context);
        let mesh = services.of_gateway(MESH, "shop");
        let node = node(ProxyKind::Sidecar, "web", "shop");
        let (chains, complete) = tcp_routes(&mesh, &node, 9000);
        assert!(complete);
        assert_eq!(chains.len(), 2);
        assert_eq!(chains[0].subnets, ["10.1.0.0/16".to_owned()]);
        let proxy = tcp_proxy(&context, &node, chains[1].route, 9000, chains[1].service).expect("a proxy");
        let config = &proxy["typed_config"];
        assert_eq!(config["stat_prefix"], "r.shop");
        assert_eq!(
            config["weighted_clusters"]["clusters"],
            json!([
                {"name": "outbound|5432||one.shop.svc.cluster.local", "weight": 80},
                {"name": "outbound|9000||two.shop.svc.cluster.local", "weight": 20},
            ])
        );
    }
}
