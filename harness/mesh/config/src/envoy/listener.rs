//! Listeners: where connections arrive, and which filter chain takes one.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::access_log::AccessLog;
use super::address::{Address, Cidr};
use super::chain::ChainTree;
use super::network::NetworkFilter;
use super::refusal::Refusal;
use super::tls::DownstreamTls;

/// `envoy.config.core.v3.TrafficDirection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// Towards the workload.
    Inbound,
    /// From it.
    Outbound,
}

/// `envoy.config.listener.v3.Listener`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name: the key under which an update replaces it.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// `additional_addresses`.
    pub additional_addresses: Vec<Address>,
    /// Whether a socket is opened. One that is not gets its connections from a listener with `use_original_dst`.
    pub bind_to_port: bool,
    /// Hand a connection to the listener of its original destination, if there is one, else keep it
    /// (`ConnectionHandlerImpl::getBalancedHandlerByAddress`).
    pub use_original_dst: bool,
    /// Which way.
    pub traffic_direction: TrafficDirection,
    /// Filters that look at a connection before a filter chain is chosen, in order.
    pub listener_filters: Vec<ListenerFilter>,
    /// How long those may take; none: for ever (`0s`). Default 15 s.
    pub listener_filters_timeout: Option<Duration>,
    /// After that time go on (true) or close (false).
    pub continue_on_listener_filters_timeout: bool,
    /// The chains.
    pub filter_chains: Vec<FilterChain>,
    /// The chain for connections that no other takes.
    pub default_filter_chain: Option<FilterChain>,
    /// Written when a connection is closed, with flag NR when no chain took it.
    pub access_log: Vec<AccessLog>,
    /// `per_connection_buffer_limit_bytes`.
    pub per_connection_buffer_limit: Option<u32>,
    pub(crate) tree: ChainTree,
}

/// A filter of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: ListenerFilterKind,
    /// It is not run for connections that match this.
    pub disabled: Option<ListenerPredicate>,
}

/// What a listener filter does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerFilterKind {
    /// Restores the address to which the connection was sent before it was redirected.
    OriginalDst,
    /// Reads SNI and ALPN from a ClientHello; sets the transport protocol `tls`.
    TlsInspector,
    /// Reads the first line; sets the application protocol `http/1.0`, `http/1.1` or `h2c`.
    HttpInspector,
    /// Reads a PROXY protocol header.
    ProxyProtocol,
    /// One without effect here, by name.
    Ignored(String),
}

/// `ListenerFilterChainMatchPredicate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerPredicate {
    /// Always.
    Any,
    /// Destination port from the first up to, and not including, the second.
    DestinationPort(u32, u32),
    /// Any of these.
    Or(Vec<ListenerPredicate>),
    /// All of these.
    And(Vec<ListenerPredicate>),
    /// Not this.
    Not(Box<ListenerPredicate>),
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// From the same address, or loopback.
    SameIpOrLoopback,
    /// From elsewhere.
    External,
}

/// `envoy.config.listener.v3.FilterChainMatch`; empty lists match all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterChainMatch {
    /// Original destination port.
    pub destination_port: Option<u16>,
    /// Original destination address.
    pub prefix_ranges: Vec<Cidr>,
    /// SNI: exact in lower case, or `*.suffix`.
    pub server_names: Vec<String>,
    /// `tls` or `raw_buffer`; empty: any.
    pub transport_protocol: String,
    /// ALPN or what the HTTP inspector found.
    pub application_protocols: Vec<String>,
    /// The address that the connection really comes from.
    pub direct_source_prefix_ranges: Vec<Cidr>,
    /// Local or not.
    pub source_type: SourceType,
    /// The client's address.
    pub source_prefix_ranges: Vec<Cidr>,
    /// The client's port.
    pub source_ports: Vec<u16>,
}

/// `envoy.config.listener.v3.FilterChain`.
#[derive(Debug, Clone)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: String,
    /// Which connections.
    pub matches: FilterChainMatch,
    /// TLS is terminated; none: bytes are taken as they are.
    pub tls: Option<Box<DownstreamTls>>,
    /// How long the handshake may take.
    pub transport_socket_connect_timeout: Option<Duration>,
    /// Network filters in order; the last one is terminal.
    pub filters: Vec<NetworkFilter>,
}

/// What the listener filters found about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Original destination.
    pub destination: SocketAddr,
    /// The client.
    pub source: SocketAddr,
    /// The peer on the wire: the client, unless a PROXY protocol header said otherwise.
    pub direct_source: SocketAddr,
    /// SNI in lower case; empty: none.
    pub server_name: String,
    /// `tls` if the TLS inspector saw a ClientHello, else empty, which matches as `raw_buffer`.
    pub transport_protocol: String,
    /// ALPN of the ClientHello, or what the HTTP inspector found; in order.
    pub application_protocols: Vec<String>,
}

impl Listener {
    /// Read a listener as `config_dump` prints it.
    ///
    /// # Errors
    /// What Envoy refuses, or what is not simulated.
    pub fn read(listener: &Value) -> Result<Self, Refusal> {
        super::read::listener(listener)
    }

    /// The filter chain that takes a connection, or the default one, or none: then Envoy closes it and logs
    /// [`super::details::FILTER_CHAIN_NOT_FOUND`].
    pub fn chain(&self, facts: &ConnectionFacts) -> Option<&FilterChain> {
        self.tree.find(facts).and_then(|index| self.filter_chains.get(index)).or(self.default_filter_chain.as_ref())
    }
}

/// The listener to which a connection with this original destination is handed by one with [`Listener::use_original_dst`] or
/// by the original destination filter: the one with that very address, else the one with that port and any address
/// (`ConnectionHandlerImpl::getBalancedHandlerByAddress`). None: it stays where it is.
pub fn hand_over<'a, L>(listeners: impl IntoIterator<Item = &'a L>, original: SocketAddr) -> Option<&'a L>
where
    L: std::borrow::Borrow<Listener> + 'a,
{
    let mut any = None;
    for candidate in listeners {
        let listener: &Listener = candidate.borrow();
        for address in std::iter::once(&listener.address).chain(&listener.additional_addresses).filter_map(Address::ip) {
            if address == original {
                return Some(candidate);
            }
            let same_family = address.is_ipv4() == original.is_ipv4() || address.is_ipv6();
            if address.ip().is_unspecified() && address.port() == original.port() && same_family {
                any = any.or(Some(candidate));
            }
        }
    }
    any
}

impl ListenerFilter {
    /// Whether it is run for a connection to this port.
    pub fn runs(&self, destination_port: u16) -> bool {
        !self.disabled.as_ref().is_some_and(|predicate| predicate.holds(destination_port))
    }
}

impl ListenerPredicate {
    /// Whether it holds for a destination port.
    pub fn holds(&self, destination_port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::DestinationPort(start, end) => (*start..*end).contains(&u32::from(destination_port)),
            Self::Or(rules) => rules.iter().any(|r| r.holds(destination_port)),
            Self::And(rules) => rules.iter().all(|r| r.holds(destination_port)),
            Self::Not(rule) => !rule.holds(destination_port),
        }
    }
}
