//! A gateway's listeners and their filter chains (`pilot/pkg/networking/core/gateway.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::merge::{Group, Placed, claim};
use super::spec::{Role, TlsMode};
use super::{GatewayParts, Inputs, connection_manager, tls};
use crate::istio::model::{Protocol, host, sni_name};
use crate::istio::policy::{ListenerClass, listener_access_log, network_filters};
use crate::istio::route::spec::{L4Match, RouteDestination};
use crate::istio::route::{VirtualService, tcp_proxy, tcp_proxy_to};

/// What mutual TLS between sidecars offers as ALPN; a gateway that passes it on takes nothing else.
const MESH_ALPN: [&str; 5] = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// A filter chain before it is one.
#[derive(Debug, Default)]
struct Chain {
    sni_hosts: Vec<String>,
    alpn: Vec<&'static str>,
    transport_socket: Option<Value>,
    filters: Vec<Value>,
}

/// Makes the listeners of all groups; those of the same address and port become one.
pub(super) fn build(inputs: &Inputs<'_>, groups: &[Group], parts: &mut GatewayParts) {
    let unprivileged = inputs.meta("UNPRIVILEGED_POD").is_some_and(|said| matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let mut listeners: BTreeMap<(String, u16), Vec<Chain>> = BTreeMap::new();
    let mut sni_by_port: BTreeMap<u16, BTreeMap<String, String>> = BTreeMap::new();
    for group in groups {
        if unprivileged && group.port < 1024 {
            let id = format!("{}.{}", inputs.node.pod, inputs.node.namespace);
            let port = group.port;
            parts
                .log
                .push(format!("buildGatewayListeners: skipping privileged gateway port {port} for node {id} as it is an unprivileged pod"));
            continue;
        }
        let wildcard = if inputs.node.ip.is_ipv6() { "::" } else { "0.0.0.0" };
        let bind = if group.bind.is_empty() { wildcard } else { &group.bind };
        let chains = chains(inputs, group, bind, sni_by_port.entry(group.port).or_default(), &mut parts.log);
        listeners.entry((bind.to_owned(), group.port)).or_default().extend(chains);
    }
    if listeners.is_empty() {
        parts.log.push(format!("gateway has zero listeners for node {}.{}", inputs.node.pod, inputs.node.namespace));
    }
    for ((bind, port), chains) in listeners {
        let name = listener_name(&bind, port);
        if chains.is_empty() {
            parts.log.push(format!("gateway omitting listener {name:?} due to: must have more than 0 chains in listener {name:?}"));
        } else {
            parts.listeners.insert(name.clone(), listener(inputs, &name, &bind, port, chains));
        }
    }
}

fn listener_name(bind: &str, port: u16) -> String {
    format!("{bind}_{port}")
}

fn listener(inputs: &Inputs<'_>, name: &str, bind: &str, port: u16, chains: Vec<Chain>) -> Value {
    let mut out = Map::new();
    let mut put = |field: &str, value: Value| drop(out.insert(field.to_owned(), value));
    put("@type", json!("type.googleapis.com/envoy.config.listener.v3.Listener"));
    put("name", json!(name));
    put("address", json!({"socket_address": {"address": bind, "port_value": port}}));
    let mut filters = Vec::new();
    if inputs.topology("proxyProtocol").is_some() {
        filters.push(listener_filter("proxy_protocol", "proxy_protocol.v3.ProxyProtocol", json!({})));
    }
    // Server name and ALPN have to be read before a chain can be chosen.
    if chains.iter().any(|chain| !chain.sni_hosts.is_empty() || chain.transport_socket.is_some()) {
        filters.push(listener_filter("tls_inspector", "tls_inspector.v3.TlsInspector", json!({"initial_read_buffer_size": 512})));
    }
    if !filters.is_empty() {
        put("listener_filters", Value::Array(filters));
    }
    put("filter_chains", chains.into_iter().map(filter_chain).collect());
    put("traffic_direction", json!("OUTBOUND"));
    let logs = listener_access_log(inputs.context, inputs.node, ListenerClass::Gateway);
    if !logs.is_empty() {
        put("access_log", Value::Array(logs));
    }
    put("max_connections_to_accept_per_socket_event", json!(1));
    Value::Object(out)
}

fn listener_filter(name: &str, kind: &str, mut config: Value) -> Value {
    if let Some(fields) = config.as_object_mut() {
        fields.insert("@type".to_owned(), json!(format!("type.googleapis.com/envoy.extensions.filters.listener.{kind}")));
    }
    json!({"name": format!("envoy.filters.listener.{name}"), "typed_config": config})
}

/// Names with `*` among them match everything: then nothing is said (`toFilterChainMatch`).
fn filter_chain(chain: Chain) -> Value {
    let mut out = Map::new();
    let mut matching = Map::new();
    if !chain.sni_hosts.is_empty() && !chain.sni_hosts.iter().any(|host| host == "*") {
        let mut names = chain.sni_hosts;
        names.sort();
        matching.insert("server_names".to_owned(), json!(names));
    }
    if !chain.alpn.is_empty() {
        matching.insert("application_protocols".to_owned(), json!(chain.alpn));
    }
    if !matching.is_empty() {
        out.insert("filter_chain_match".to_owned(), Value::Object(matching));
    }
    out.insert("filters".to_owned(), Value::Array(chain.filters));
    if let Some(socket) = chain.transport_socket {
        out.insert("transport_socket".to_owned(), socket);
    }
    out.insert("transport_socket_connect_timeout".to_owned(), json!("15s"));
    Value::Object(out)
}

fn chains(inputs: &Inputs<'_>, group: &Group, bind: &str, known_sni: &mut BTreeMap<String, String>, log: &mut Vec<String>) -> Vec<Chain> {
    let prefix = format!("outbound_{};", listener_name(bind, group.port));
    // All servers with HTTP on a port share one chain and one table of routes.
    if let Some(first) = group.servers.first().filter(|first| first.role == Role::Http) {
        let grpc_web = first.port.parsed() == Protocol::GrpcWeb;
        let filters = vec![connection_manager::filter(inputs, &first.route, &prefix, grpc_web, log)];
        return vec![Chain { filters, ..Chain::default() }];
    }
    let mut out = Vec::new();
    for placed in &group.servers {
        match placed.role {
            Role::Http | Role::Https => {
                let prefix = if placed.server.name.is_empty() { &prefix } else { &placed.server.name };
                out.push(Chain {
                    sni_hosts: placed.server.sni_hosts(),
                    transport_socket: tls::transport_socket(inputs.context, &placed.server, placed.role),
                    filters: vec![connection_manager::filter(inputs, &placed.route, prefix, false, log)],
                    ..Chain::default()
                });
            }
            Role::Bytes => out.extend(bytes(inputs, placed, log)),
            Role::Passthrough => out.extend(passthrough(inputs, placed, known_sni, log)),
        }
    }
    out
}

/// The filters in front of a TCP proxy, and it.
fn with_policies(inputs: &Inputs<'_>, proxy: Value, log: &mut Vec<String>) -> Vec<Value> {
    let mut filters = network_filters(inputs.context, inputs.node, log);
    filters.push(proxy);
    filters
}

/// The one chain of a server of bytes: the first `tcp` route that counts here. Hosts only say which VirtualServices count.
fn bytes(inputs: &Inputs<'_>, placed: &Placed, log: &mut Vec<String>) -> Option<Chain> {
    let services = inputs.services.of_gateway(&placed.gateway, &inputs.node.namespace);
    if services.is_empty() {
        log.push(format!("no virtual service bound to gateway: {}", placed.gateway));
    }
    let found =
        services.iter().filter(|service| serves(placed, service)).find_map(|service| Some((*service, bytes_route(placed, service)?)));
    let proxy = found.and_then(|(service, route)| tcp_proxy(inputs.context, inputs.node, route, u32::from(placed.port.number), service));
    let Some(proxy) = proxy else {
        log.push(format!("gateway {}:{} listener missed network filter", placed.gateway, placed.port.number));
        return None;
    };
    Some(Chain {
        sni_hosts: if placed.server.tls.is_some() { placed.server.sni_hosts() } else { Vec::new() },
        transport_socket: tls::transport_socket(inputs.context, &placed.server, placed.role),
        filters: with_policies(inputs, proxy, log),
        ..Chain::default()
    })
}

/// The route of a VirtualService that counts at a server of bytes. What istiod made from a TLSRoute has `tls` in place of `tcp`.
fn bytes_route<'a>(placed: &Placed, service: &'a VirtualService) -> Option<&'a [RouteDestination]> {
    let tcp = service.spec.tcp.iter().filter(|tcp| !tcp.route.is_empty());
    let mut tcp = tcp.filter(|tcp| tcp.r#match.is_empty() || tcp.r#match.iter().any(|matching| counts(matching, placed)));
    if let Some(tcp) = tcp.next() {
        return Some(&tcp.route);
    }
    let of_tls_route = service.meta.annotations.get("internal.istio.io/parents").is_some_and(|parents| parents.starts_with("TLSRoute/"));
    let mut tls = service.spec.tls.iter().filter(|tls| of_tls_route && tls.r#match.iter().any(|matching| counts(&matching.l4, placed)));
    tls.next().map(|tls| tls.route.as_slice())
}

/// The chains of a server that leaves TLS sealed: one for each match by server name; of several with the same name the first.
fn passthrough(inputs: &Inputs<'_>, placed: &Placed, known_sni: &mut BTreeMap<String, String>, log: &mut Vec<String>) -> Vec<Chain> {
    if placed.server.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::AutoPassthrough) {
        return auto_passthrough(inputs, placed);
    }
    let mut out = Vec::new();
    let services = inputs.services.of_gateway(&placed.gateway, &inputs.node.namespace);
    for service in services.into_iter().filter(|service| serves(placed, service)) {
        for tls in service.spec.tls.iter().filter(|tls| !tls.route.is_empty()) {
            for (index, matching) in tls.r#match.iter().enumerate().filter(|(_, matching)| counts(&matching.l4, placed)) {
                let repeated = claim(&matching.sni_hosts, &placed.server.bind, known_sni);
                if !repeated.is_empty() {
                    log.push(format!(
                        "skipping VirtualService {} rule #{index} on server port {} of gateway {}, duplicate SNI host names: [{}]",
                        service.meta.name,
                        placed.port.number,
                        placed.gateway,
                        repeated.join(" ")
                    ));
                    continue;
                }
                if let Some(proxy) = tcp_proxy(inputs.context, inputs.node, &tls.route, u32::from(placed.port.number), service) {
                    out.push(Chain {
                        sni_hosts: matching.sni_hosts.clone(),
                        filters: with_policies(inputs, proxy, log),
                        ..Chain::default()
                    });
                }
            }
        }
    }
    out
}

/// A chain for every cluster of the mesh that the hosts cover, by the server name that sidecars give it; without policies, since the
/// other side has its own (`builtAutoPassthroughFilterChains`).
fn auto_passthrough(inputs: &Inputs<'_>, placed: &Placed) -> Vec<Chain> {
    let hosts = placed.server.sni_hosts();
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for service in inputs.context.services_visible_to(&inputs.node.namespace).filter(|service| !service.external) {
        if !hosts.iter().any(|host| host::subset_of(&service.host, host)) {
            continue;
        }
        let rule = inputs.context.destination_rule_of(inputs.node, service);
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            let subsets = rule.into_iter().flat_map(|rule| rule.subsets.iter().map(|subset| subset.name.as_str()));
            for subset in std::iter::once("").chain(subsets) {
                let sni = sni_name(port.number, subset, &service.host);
                if !seen.insert(sni.clone()) {
                    continue;
                }
                // The cluster has the same name: it is one of its own, without TLS, beside `outbound|PORT|SUBSET|HOST`.
                out.push(Chain {
                    filters: vec![tcp_proxy_to(inputs.context, inputs.node, &sni, rule, subset)],
                    sni_hosts: vec![sni],
                    alpn: MESH_ALPN.to_vec(),
                    transport_socket: None,
                });
            }
        }
    }
    out
}

/// Whether the server offers some host of the VirtualService to its namespace (`pickMatchingGatewayHosts`).
fn serves(placed: &Placed, service: &VirtualService) -> bool {
    placed.server.hosts.iter().any(|offered| {
        let name = match offered.split_once('/') {
            Some((namespace, name)) if namespace == service.meta.namespace => name,
            Some(_) => return false,
            None => offered,
        };
        service.spec.hosts.iter().any(|host| host::overlap(name, host))
    })
}

/// Whether a match can hold at this server: its Gateway, and the Gateway's port (`l4SingleMatch`).
fn counts(matching: &L4Match, placed: &Placed) -> bool {
    (matching.port == 0 || matching.port == u32::from(placed.port.number))
        && (matching.gateways.is_empty() || matching.gateways.contains(&placed.gateway))
}
