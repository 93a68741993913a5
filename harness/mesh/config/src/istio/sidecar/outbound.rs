//! Listeners for what the application calls: one for each address and port of services, and `virtualOutbound` for the rest
//! (Istio: `listener.go`, `tls.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::filters::{self, Http, LISTENER, PLAINTEXT_HTTP};
use super::inbound::wildcard;
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::mesh_config::OutboundPolicy;
use crate::istio::model::{ANY_ADDRESS, Direction, Protocol, Registry, Resolution, Service, ServicePort, cluster_name};
use crate::istio::policy::{self, ListenerClass};
use crate::istio::route::{self, Egress};

/// The port of `virtualOutbound`, to which all outbound connections are redirected.
pub const OUTBOUND_PORT: u16 = 15001;
/// Ports that the proxy listens on anyway: its own, health and metrics.
const RESERVED: [u16; 4] = [OUTBOUND_PORT, super::inbound::INBOUND_PORT, 15021, 15090];

/// What a filter chain does.
enum Handling {
    /// These filters.
    Network(Vec<Value>),
    /// Routes of this name.
    Http(String),
}

/// A filter chain before it is written down.
struct Chain {
    sni: Vec<String>,
    networks: Vec<String>,
    /// Whether it is for plaintext HTTP alone, as the inspector finds it.
    is_sniffed: bool,
    handling: Handling,
    metadata: Option<Value>,
}

impl Chain {
    fn takes_all(&self) -> bool {
        (self.sni.is_empty() || self.sni.iter().any(|name| name == "*")) && !self.is_sniffed && self.networks.is_empty()
    }

    /// Whether Envoy would refuse both in one listener.
    fn conflicts(&self, other: &Chain) -> bool {
        let sni = |chain: &Chain| {
            let mut names: Vec<String> = chain.sni.iter().filter(|name| *name != "*").cloned().collect();
            names.sort();
            names
        };
        let networks = |chain: &Chain| {
            // Two that differ in bits beyond the prefix alone are one to Envoy.
            let mut networks: Vec<_> = chain.networks.iter().filter_map(|network| range(network)).collect();
            for (address, length) in &mut networks {
                *address = ipnet::IpNet::new(*address, *length).map_or(*address, |network| network.network());
            }
            networks.sort();
            networks
        };
        self.is_sniffed == other.is_sniffed && sni(self) == sni(other) && networks(self) == networks(other)
    }
}

/// A listener before it is written down.
struct Entry {
    /// What it is known to carry; [`Protocol::Auto`] once HTTP and bytes are mixed.
    protocol: Protocol,
    chains: Vec<Chain>,
}

/// How a port's protocol is listened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Auto,
}

impl Kind {
    fn of(protocol: Protocol) -> Option<Kind> {
        match protocol {
            Protocol::Auto => Some(Kind::Auto),
            protocol if protocol.is_http() => Some(Kind::Http),
            protocol if protocol.is_tcp() => Some(Kind::Tcp),
            _ => None,
        }
    }
}

/// The outbound listeners by name, with the names of the routes that they ask for.
pub(super) fn listeners(context: &PushContext, node: &ProxyNode, egress: &Egress<'_>) -> (Vec<Value>, Vec<String>) {
    let mut builder = Builder { context, node, egress, entries: BTreeMap::new() };
    for service in &egress.services {
        for port in &service.ports {
            builder.add_port(service, port);
        }
    }
    let mut names = Vec::new();
    let mut out = Vec::new();
    for ((address, port), entry) in &builder.entries {
        names.extend(entry.chains.iter().filter_map(|chain| match &chain.handling {
            Handling::Http(name) => Some(name.clone()),
            Handling::Network(_) => None,
        }));
        out.push(builder.write(address, *port, entry));
    }
    out.push(virtual_outbound(context, node, egress));
    (out, names)
}

struct Builder<'a> {
    context: &'a PushContext,
    node: &'a ProxyNode,
    egress: &'a Egress<'a>,
    entries: BTreeMap<(String, u16), Entry>,
}

impl Builder<'_> {
    fn add_port(&mut self, service: &Service, port: &ServicePort) {
        let Some(kind) = Kind::of(port.protocol) else { return };
        if matches!(service.resolution, Resolution::Alias(_)) || (kind == Kind::Http && RESERVED.contains(&port.number)) {
            return;
        }
        let any = wildcard(self.node);
        let address = match service.default_address() {
            ANY_ADDRESS => any,
            address => address,
        };
        if kind != Kind::Http && service.resolution == Resolution::Passthrough && address == any {
            let endpoints = self.context.endpoints_of(service, port);
            if service.registry == Registry::Kubernetes || !endpoints.is_empty() || !service.selector.is_empty() {
                // The pods of a headless Service are called by their own addresses.
                let addresses = endpoints.iter().filter_map(|endpoint| endpoint.address.parse::<IpAddr>().ok());
                for address in addresses.filter(|address| *address != self.node.ip) {
                    self.add(service, port, kind, &address.to_string(), &[]);
                }
                return;
            }
        }
        if kind == Kind::Http {
            self.add(service, port, kind, any, &[]);
        } else if address.contains('/') {
            self.add(service, port, kind, any, &[address.to_owned()]);
        } else {
            self.add(service, port, kind, address, &[]);
        }
    }

    /// Adds a service's port to the listener of an address, or makes that listener (Istio: `buildSidecarOutboundListener`).
    fn add(&mut self, service: &Service, port: &ServicePort, kind: Kind, address: &str, networks: &[String]) {
        let key = (address.to_owned(), port.number);
        let Some(current) = self.entries.get(&key).map(|entry| entry.protocol) else {
            let (protocol, chains) = match kind {
                // Beside HTTP there is always a way for other bytes: what is not of any service may be anything.
                Kind::Http => (Protocol::Auto, vec![http_chain(port.number.to_string())]),
                Kind::Tcp => (port.protocol, self.network_chains(service, port, address, networks)),
                Kind::Auto => {
                    let mut chains = self.network_chains(service, port, address, networks);
                    chains.push(self.sniffed_chain(service, port, address));
                    (Protocol::Auto, chains)
                }
            };
            self.entries.insert(key, Entry { protocol, chains });
            return;
        };
        // Clients of these wait for the server to speak, so nothing can be found out about them.
        let waits = |protocol: Protocol| matches!(protocol, Protocol::Mongo | Protocol::Mysql);
        if port.protocol != current && (waits(port.protocol) || waits(current)) {
            return;
        }
        let incoming = match (kind, current) {
            (Kind::Http, Protocol::Auto) => return,
            (Kind::Http, _) => vec![http_chain(port.number.to_string())],
            (Kind::Auto, current) if current != Protocol::Auto => {
                let mut chains = self.network_chains(service, port, address, networks);
                chains.push(self.sniffed_chain(service, port, address));
                chains
            }
            _ => self.network_chains(service, port, address, networks),
        };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if kind != Kind::Tcp {
            entry.protocol = Protocol::Auto;
        }
        // Of two chains with the same conditions the first stays.
        for chain in incoming {
            if !entry.chains.iter().any(|present| present.conflicts(&chain)) {
                entry.chains.push(chain);
            }
        }
    }

    fn sniffed_chain(&self, service: &Service, port: &ServicePort, address: &str) -> Chain {
        // A listener of one service alone has routes of its own.
        let name = if address == wildcard(self.node) { port.number.to_string() } else { format!("{}:{}", service.host, port.number) };
        http_chain(name)
    }

    /// The chains for bytes and TLS: those of VirtualServices, then the service's own.
    fn network_chains(&self, service: &Service, port: &ServicePort, address: &str, networks: &[String]) -> Vec<Chain> {
        let rules = route::l4::concerning(&self.egress.virtual_services, &service.host);
        if port.protocol.is_tls() {
            return self.tls_chains(&rules, service, port, address, networks);
        }
        let (wanted, takes_all) = route::tcp_routes(&rules, self.node, port.number);
        let mut chains: Vec<Chain> = wanted
            .iter()
            .filter_map(|chain| {
                let networks = if chain.subnets.is_empty() { networks } else { chain.subnets };
                self.routed(chain, port, networks)
            })
            .collect();
        if !takes_all && !chains.iter().any(|chain| !networks.is_empty() && chain.networks == networks) {
            chains.push(self.own(service, port, Vec::new(), networks));
        }
        chains
    }

    fn tls_chains(
        &self,
        rules: &[&route::VirtualService],
        service: &Service,
        port: &ServicePort,
        address: &str,
        networks: &[String],
    ) -> Vec<Chain> {
        let wanted = route::tls_matches(rules, self.node, port.number);
        if wanted.is_empty() {
            // With an address of its own a service is known without its name.
            let needs_name = !networks.is_empty() || (service.default_address() == ANY_ADDRESS && address == wildcard(self.node));
            let sni = if needs_name { vec![service.host.clone()] } else { Vec::new() };
            return vec![self.own(service, port, sni, networks)];
        }
        let mut networks = networks;
        let mut chains = Vec::new();
        for chain in &wanted {
            if !chain.subnets.is_empty() {
                networks = chain.subnets;
            }
            chains.extend(self.routed(chain, port, networks));
        }
        chains
    }

    fn routed(&self, chain: &route::Chain<'_>, port: &ServicePort, networks: &[String]) -> Option<Chain> {
        let filter = route::tcp_proxy(self.context, self.node, chain.route, u32::from(port.number), chain.service)?;
        Some(Chain {
            sni: chain.sni_hosts.to_vec(),
            networks: networks.to_vec(),
            is_sniffed: false,
            handling: Handling::Network(vec![filter]),
            metadata: Some(chain.metadata()),
        })
    }

    fn own(&self, service: &Service, port: &ServicePort, sni: Vec<String>, networks: &[String]) -> Chain {
        let cluster = cluster_name(Direction::Outbound, port.number, "", &service.host);
        let rule = self.context.destination_rule_of(self.node, service);
        let filter = route::tcp_proxy_to(self.context, self.node, &cluster, rule, "");
        Chain { sni, networks: networks.to_vec(), is_sniffed: false, handling: Handling::Network(vec![filter]), metadata: None }
    }

    /// As Envoy has it (Istio: `buildListenerFromEntry`).
    fn write(&self, address: &str, port: u16, entry: &Entry) -> Value {
        let name = format!("{address}_{port}");
        let mut chains = Vec::new();
        let mut default = None;
        for chain in &entry.chains {
            let mut fields = Map::new();
            let filters = match &chain.handling {
                Handling::Network(filters) => filters.clone(),
                Handling::Http(routes) => vec![self.http(&name, routes)],
            };
            fields.insert("filters".to_owned(), Value::Array(filters));
            fields.insert("transport_socket_connect_timeout".to_owned(), json!("15s"));
            if let Some(metadata) = &chain.metadata {
                fields.insert("metadata".to_owned(), metadata.clone());
            }
            if chain.takes_all() {
                default = Some(Value::Object(fields));
            } else {
                fields.insert("filter_chain_match".to_owned(), matching(chain));
                chains.push(Value::Object(fields));
            }
        }
        let needs_tls = entry.chains.iter().any(|chain| !chain.sni.is_empty());
        let needs_http = entry.chains.iter().any(|chain| chain.is_sniffed);
        let inspectors = [needs_tls.then(filters::tls_inspector), needs_http.then(filters::http_inspector)];
        let inspectors: Vec<Value> = inspectors.into_iter().flatten().collect();

        let mut fields = Map::new();
        match default {
            // A chain that stands alone takes all by itself.
            Some(only) if chains.is_empty() => chains.push(only),
            Some(default) => drop(fields.insert("default_filter_chain".to_owned(), default)),
            None => {
                let filter = filters::everything_else(self.context, self.node, self.egress.outbound);
                let default = json!({"filter_chain_match": {}, "filters": [filter], "name": "PassthroughFilterChain"});
                fields.insert("default_filter_chain".to_owned(), default);
            }
        }
        let timeout = if needs_http { self.context.mesh.protocol_detection_timeout.as_str() } else { "0s" };
        for (field, value) in [
            ("@type", json!(LISTENER)),
            ("address", json!({"socket_address": {"address": address, "port_value": port}})),
            ("bind_to_port", json!(false)),
            ("continue_on_listener_filters_timeout", json!(true)),
            ("filter_chains", Value::Array(chains)),
            ("listener_filters_timeout", json!(timeout)),
            ("name", json!(name)),
            ("traffic_direction", json!("OUTBOUND")),
        ] {
            fields.insert(field.to_owned(), value);
        }
        if !inspectors.is_empty() {
            fields.insert("listener_filters".to_owned(), Value::Array(inspectors));
        }
        Value::Object(fields)
    }

    fn http(&self, listener: &str, routes: &str) -> Value {
        let source = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
        filters::http(
            self.context,
            self.node,
            Http {
                class: ListenerClass::SidecarOutbound,
                stat_prefix: format!("outbound_{listener};"),
                routes: ("rds", json!({"config_source": source, "route_config_name": routes})),
                policies: &[],
                is_http2: false,
                outbound: self.egress.outbound,
            },
        )
    }
}

fn http_chain(routes: String) -> Chain {
    Chain { sni: Vec::new(), networks: Vec::new(), is_sniffed: true, handling: Handling::Http(routes), metadata: None }
}

/// The conditions of a chain that does not take all.
fn matching(chain: &Chain) -> Value {
    let mut fields = Map::new();
    if chain.is_sniffed {
        fields.insert("application_protocols".to_owned(), json!(PLAINTEXT_HTTP));
        fields.insert("transport_protocol".to_owned(), json!("raw_buffer"));
    }
    if !chain.sni.is_empty() && !chain.sni.iter().any(|name| name == "*") {
        let mut names = chain.sni.clone();
        names.sort();
        fields.insert("server_names".to_owned(), json!(names));
    }
    let mut networks = chain.networks.clone();
    networks.sort();
    let ranges = networks.iter().filter_map(|network| range(network));
    let ranges: Vec<Value> = ranges.map(|(address, length)| json!({"address_prefix": address, "prefix_len": length})).collect();
    if !ranges.is_empty() {
        fields.insert("prefix_ranges".to_owned(), Value::Array(ranges));
    }
    Value::Object(fields)
}

/// A network, or an address as one of its own.
fn range(text: &str) -> Option<(IpAddr, u8)> {
    if let Ok(network) = text.parse::<ipnet::IpNet>() {
        return Some((network.addr(), network.prefix_len()));
    }
    let address: IpAddr = text.parse().ok()?;
    Some((address, if address.is_ipv4() { 32 } else { 128 }))
}

/// Sends requests that no listener is for to the host that they ask for (Istio: `buildAllowAnyDynamicDNSHTTPFilterChain`).
fn by_asked_host(context: &PushContext, node: &ProxyNode, outbound: OutboundPolicy) -> Value {
    let routes = route::config(route::DYNAMIC_DNS, vec![route::everything_else(outbound)]);
    filters::http(
        context,
        node,
        Http {
            class: ListenerClass::SidecarOutbound,
            stat_prefix: "outbound_virtualOutbound_allow_any_dynamic_dns;".to_owned(),
            routes: ("route_config", routes),
            policies: &[],
            is_http2: false,
            outbound,
        },
    )
}

/// Takes every outbound connection and hands it to the listener of where it was going; keeps what has none.
fn virtual_outbound(context: &PushContext, node: &ProxyNode, egress: &Egress<'_>) -> Value {
    let mut fields = Map::new();
    let logs = policy::listener_access_log(context, node, ListenerClass::SidecarOutbound);
    if !logs.is_empty() {
        fields.insert("access_log".to_owned(), Value::Array(logs));
    }
    let mut chains = vec![json!({
        "filter_chain_match": {"destination_port": OUTBOUND_PORT},
        "filters": [filters::tcp(context, node, "BlackHoleCluster", None)],
        "name": "virtualOutbound-blackhole",
    })];
    if egress.outbound == OutboundPolicy::AllowAnyDynamicDns {
        chains.push(json!({
            "filter_chain_match": {"application_protocols": PLAINTEXT_HTTP},
            "filters": [by_asked_host(context, node, egress.outbound)],
            "name": "virtualOutbound-catchall-tcp-http",
        }));
        fields.insert("listener_filters".to_owned(), json!([filters::http_inspector()]));
    }
    let rest = filters::everything_else(context, node, egress.outbound);
    chains.push(json!({"filters": [rest], "name": "virtualOutbound-catchall-tcp"}));
    for (field, value) in [
        ("@type", json!(LISTENER)),
        ("address", json!({"socket_address": {"address": wildcard(node), "port_value": OUTBOUND_PORT}})),
        ("filter_chains", Value::Array(chains)),
        ("max_connections_to_accept_per_socket_event", json!(1)),
        ("name", json!("virtualOutbound")),
        ("traffic_direction", json!("OUTBOUND")),
        ("use_original_dst", json!(true)),
    ] {
        fields.insert(field.to_owned(), value);
    }
    Value::Object(fields)
}
