//! The listener for what comes to the application: `virtualInbound` (Istio: `listener_inbound.go`, `filterchain_options.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::filters::{self, Http, LISTENER, PLAINTEXT_HTTP};
use super::targets::Target;
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::clusters::tls::{agent_secret, socket, versions};
use crate::istio::model::{Direction, Protocol, cluster_name, object};
use crate::istio::policy::{self, ListenerClass, PeerMode, peer_mode};

/// The port of the listener, to which all inbound connections are redirected.
pub const INBOUND_PORT: u16 = 15006;
/// Where a connection goes to whose port no service knows.
const PASSTHROUGH: &str = "InboundPassthroughCluster";
/// What another sidecar says in its handshake: that it found HTTP, or that it did not.
const MUTUAL_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MUTUAL_BYTES: [&str; 2] = ["istio-peer-exchange", "istio"];
const MUTUAL_ANY: [&str; 5] = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// What a port is taken to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Http,
    Bytes,
    Unknown,
}

impl Speech {
    fn of(protocol: Protocol) -> Speech {
        match protocol {
            protocol if protocol.is_http() => Speech::Http,
            Protocol::Auto => Speech::Unknown,
            _ => Speech::Bytes,
        }
    }
}

/// One filter chain's conditions.
struct Condition {
    alpn: &'static [&'static str],
    transport: &'static str,
    is_http: bool,
    ends_tls: bool,
}

/// The filter chains of a port by its mode and protocol (Istio: `getFilterChainMatchOptions`).
fn conditions(mode: PeerMode, speech: Speech) -> Vec<Condition> {
    let on = |alpn: &'static [&'static str], transport, is_http, ends_tls| Condition { alpn, transport, is_http, ends_tls };
    const RAW: &str = "raw_buffer";
    const TLS: &str = "tls";
    match (speech, mode) {
        (Speech::Http, PeerMode::Strict) => vec![on(&[], TLS, true, true)],
        (Speech::Http, PeerMode::Permissive) => vec![on(&MUTUAL_ANY, TLS, true, true), on(&[], RAW, true, false)],
        (Speech::Http, PeerMode::Disable) => vec![on(&[], RAW, true, false)],
        (Speech::Unknown, PeerMode::Strict) => vec![on(&MUTUAL_HTTP, TLS, true, true), on(&[], TLS, false, true)],
        (Speech::Unknown, PeerMode::Permissive) => vec![
            on(&MUTUAL_HTTP, TLS, true, true),
            on(&PLAINTEXT_HTTP, RAW, true, false),
            on(&MUTUAL_BYTES, TLS, false, true),
            on(&[], RAW, false, false),
            on(&[], TLS, false, false),
        ],
        (Speech::Unknown, PeerMode::Disable) => vec![on(&PLAINTEXT_HTTP, RAW, true, false), on(&[], RAW, false, false)],
        (Speech::Bytes, PeerMode::Strict) => vec![on(&[], TLS, false, true)],
        (Speech::Bytes, PeerMode::Permissive) => {
            vec![on(&MUTUAL_ANY, TLS, false, true), on(&[], TLS, false, false), on(&[], RAW, false, false)]
        }
        (Speech::Bytes, PeerMode::Disable) => vec![on(&[], RAW, false, false)],
    }
}

/// What the chains of one port have in common.
struct Port<'a> {
    /// None: every other port.
    number: Option<u16>,
    target: Option<&'a Target>,
}

impl Port<'_> {
    fn cluster(&self) -> String {
        match self.target {
            Some(target) => cluster_name(Direction::Inbound, target.port, "", ""),
            None => PASSTHROUGH.to_owned(),
        }
    }

    fn name(&self, is_http: bool) -> String {
        match self.target {
            Some(target) => target.listener_name(),
            None if is_http => "virtualInbound-catchall-http".to_owned(),
            None => "virtualInbound".to_owned(),
        }
    }
}

/// The listener `virtualInbound`.
#[must_use]
pub(super) fn listener(context: &PushContext, node: &ProxyNode, targets: &[Target], log: &mut Vec<String>) -> Value {
    let builder = Builder::new(context, node, log);
    let mut chains = vec![json!({
        "filter_chain_match": {"destination_port": INBOUND_PORT},
        "filters": [filters::tcp(context, node, "BlackHoleCluster", None)],
        "name": "virtualInbound-blackhole",
    })];
    builder.add(&Port { number: None, target: None }, &mut chains);
    // Of several services on one port the oldest counts.
    let mut by_port: BTreeMap<u16, &Target> = BTreeMap::new();
    for target in targets.iter().filter(|target| target.service_port.protocol != Protocol::Udp) {
        by_port.entry(target.port).or_insert(target);
    }
    for number in said_ports(context, node).into_iter().filter(|number| !by_port.contains_key(number)) {
        builder.add(&Port { number: Some(number), target: None }, &mut chains);
    }
    for (number, target) in by_port {
        builder.add(&Port { number: Some(number), target: Some(target) }, &mut chains);
    }
    let mut fields = Map::new();
    let logs = policy::listener_access_log(context, node, ListenerClass::SidecarInbound);
    if !logs.is_empty() {
        fields.insert("access_log".to_owned(), Value::Array(logs));
    }
    for (field, value) in [
        ("@type", json!(LISTENER)),
        ("address", json!({"socket_address": {"address": wildcard(node), "port_value": INBOUND_PORT}})),
        ("continue_on_listener_filters_timeout", json!(true)),
        ("listener_filters", Value::Array(listener_filters(&chains))),
        ("filter_chains", Value::Array(chains)),
        ("listener_filters_timeout", json!("0s")),
        ("max_connections_to_accept_per_socket_event", json!(1)),
        ("name", json!("virtualInbound")),
        ("traffic_direction", json!("INBOUND")),
    ] {
        fields.insert(field.to_owned(), value);
    }
    Value::Object(fields)
}

/// The address that stands for all of the proxy's.
pub(super) fn wildcard(node: &ProxyNode) -> &'static str {
    match node.ip {
        std::net::IpAddr::V4(_) => "0.0.0.0",
        std::net::IpAddr::V6(_) => "::",
    }
}

/// Ports for which a PeerAuthentication of this workload says a mode of their own.
fn said_ports(context: &PushContext, node: &ProxyNode) -> BTreeSet<u16> {
    let selecting = context.objects("PeerAuthentication").iter().find(|policy| {
        let selector = policy.pointer("/spec/selector/matchLabels").map(object::text_map).unwrap_or_default();
        object::namespace(policy) == node.namespace && !selector.is_empty() && object::selects(&selector, &node.labels)
    });
    let ports = selecting.and_then(|policy| policy.pointer("/spec/portLevelMtls")?.as_object());
    ports.into_iter().flatten().filter_map(|(port, _)| port.parse().ok()).collect()
}

struct Builder<'a> {
    context: &'a PushContext,
    node: &'a ProxyNode,
    /// Before HTTP.
    http_policies: Vec<Value>,
    /// Before bytes.
    network_policies: Vec<Value>,
    tls: Value,
}

impl<'a> Builder<'a> {
    fn new(context: &'a PushContext, node: &'a ProxyNode, log: &mut Vec<String>) -> Builder<'a> {
        // istiod would fetch keys by `jwksUri` from outside, where this one reaches nothing.
        let mut http_policies = policy::custom_http_filters(context, node, log);
        http_policies.extend(policy::jwt_filter(context, node, &|_| None));
        http_policies.extend(policy::http_filters(context, node, log));
        let network_policies = policy::network_filters(context, node, log);
        Builder { context, node, http_policies, network_policies, tls: downstream_tls(context) }
    }

    fn add(&self, port: &Port<'_>, chains: &mut Vec<Value>) {
        let mode = peer_mode(self.context, &self.node.namespace, &self.node.labels, port.number.unwrap_or(0));
        let speech = port.target.map_or(Speech::Unknown, |target| Speech::of(target.service_port.protocol));
        for condition in conditions(mode, speech) {
            let mut matching = Map::new();
            if !condition.alpn.is_empty() {
                matching.insert("application_protocols".to_owned(), json!(condition.alpn));
            }
            if let Some(number) = port.number {
                matching.insert("destination_port".to_owned(), json!(number));
            }
            matching.insert("transport_protocol".to_owned(), json!(condition.transport));
            let mut chain = Map::new();
            chain.insert("filter_chain_match".to_owned(), Value::Object(matching));
            chain.insert("filters".to_owned(), Value::Array(self.filters(port, condition.is_http)));
            chain.insert("name".to_owned(), json!(port.name(condition.is_http)));
            if condition.ends_tls {
                chain.insert("transport_socket".to_owned(), self.tls.clone());
            }
            chains.push(Value::Object(chain));
        }
    }

    fn filters(&self, port: &Port<'_>, is_http: bool) -> Vec<Value> {
        let cluster = port.cluster();
        if !is_http {
            let mut filters = self.network_policies.clone();
            filters.push(filters::tcp(self.context, self.node, &cluster, Some(ListenerClass::SidecarInbound)));
            return filters;
        }
        let stat_prefix = match port.target {
            Some(target) => format!("inbound_{};", target.listener_name()),
            None => format!("{cluster};"),
        };
        vec![filters::http(
            self.context,
            self.node,
            Http {
                class: ListenerClass::SidecarInbound,
                stat_prefix,
                routes: ("route_config", route_config(&cluster, port.target)),
                policies: &self.http_policies,
                is_http2: port.target.is_some_and(|target| target.service_port.protocol.is_http2()),
                outbound: self.context.mesh.outbound,
            },
        )]
    }
}

/// The one route to the application (Istio: `buildSidecarInboundHTTPRouteConfig`).
fn route_config(cluster: &str, target: Option<&Target>) -> Value {
    let (host, number) = target.map_or(("", 0), |target| (target.service.host.as_str(), target.service_port.number));
    json!({
        "name": cluster,
        "validate_clusters": false,
        "virtual_hosts": [{
            "domains": ["*"],
            "name": format!("inbound|http|{number}"),
            "routes": [{
                "decorator": {"operation": format!("{host}:{number}/*")},
                "match": {"prefix": "/"},
                "name": "default",
                "route": {
                    "cluster": cluster,
                    "max_stream_duration": {"grpc_timeout_header_max": "0s", "max_stream_duration": "0s"},
                    "retry_policy": {"num_retries": 2, "retry_on": "reset-before-request"},
                    "timeout": "0s",
                },
            }],
        }],
    })
}

/// Mutual TLS as a server of the mesh: its own certificate, and any identity of the trust domain.
fn downstream_tls(context: &PushContext) -> Value {
    let aliases = object::texts(&context.mesh.raw, "/trustDomainAliases");
    let domains = std::iter::once(context.mesh.trust_domain.as_str()).chain(aliases);
    let names: Vec<Value> = domains.map(|domain| json!({"prefix": format!("spiffe://{domain}/")})).collect();
    let mut parameters = versions();
    if let Some(fields) = parameters.as_object_mut() {
        let suites = [
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "AES256-GCM-SHA384",
            "AES128-GCM-SHA256",
        ];
        fields.insert("cipher_suites".to_owned(), json!(suites));
        if object::text(&context.mesh.raw, "/meshMTLS/minProtocolVersion") == "TLSV1_3" {
            fields.insert("tls_minimum_protocol_version".to_owned(), json!("TLSv1_3"));
        }
    }
    socket(json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "combined_validation_context": {
                "default_validation_context": {"match_subject_alt_names": names},
                "validation_context_sds_secret_config": agent_secret("ROOTCA"),
            },
            "tls_certificate_sds_secret_configs": [agent_secret("default")],
            "tls_params": parameters,
        },
        "require_client_certificate": true,
    }))
}

/// Inspectors where some chain needs them, and nowhere else: an application that speaks first would wait for them
/// (Istio: `populateListenerFilters`).
fn listener_filters(chains: &[Value]) -> Vec<Value> {
    // By port, 0 for all others: whether TLS is looked for, and HTTP.
    let mut needs: BTreeMap<u16, (bool, bool)> = BTreeMap::new();
    for chain in chains {
        let matching = chain.get("filter_chain_match").unwrap_or(&Value::Null);
        let (tls, http) = needs.entry(object::port(matching, "/destination_port").unwrap_or(0)).or_default();
        *tls |= object::text(matching, "/transport_protocol") == "tls";
        *http |= object::texts(matching, "/application_protocols").iter().any(|name| PLAINTEXT_HTTP.contains(name));
    }
    let mut filters = vec![json!({"name": "envoy.filters.listener.original_dst", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    }})];
    let add = |mut filter: Value, predicate: Option<Value>| {
        if let (Some(predicate), Some(fields)) = (predicate, filter.as_object_mut()) {
            fields.insert("filter_disabled".to_owned(), predicate);
        }
        filter
    };
    let ports = |wanted: &dyn Fn(&(bool, bool)) -> bool| -> Vec<u16> {
        needs.iter().filter(|(port, needs)| **port != 0 && wanted(needs)).map(|(port, _)| *port).collect()
    };
    if needs.values().any(|(tls, _)| *tls) {
        let predicate = if needs.get(&0).is_some_and(|(tls, _)| *tls) {
            any_of(&ports(&|(tls, _)| !tls))
        } else {
            any_of(&ports(&|(tls, _)| *tls)).map(|ports| json!({"not_match": ports}))
        };
        filters.push(add(filters::tls_inspector(), predicate));
    }
    if needs.values().any(|(_, http)| *http) {
        filters.push(add(filters::http_inspector(), any_of(&ports(&|(_, http)| !http))));
    }
    filters
}

/// A predicate that holds for these ports.
fn any_of(ports: &[u16]) -> Option<Value> {
    let mut rules: Vec<Value> =
        ports.iter().map(|port| json!({"destination_port_range": {"start": port, "end": u32::from(*port) + 1}})).collect();
    match rules.len() {
        0 | 1 => rules.pop(),
        _ => Some(json!({"or_match": {"rules": rules}})),
    }
}
