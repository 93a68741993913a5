//! One call through one proxy's configuration, without a byte: which listener, chain, virtual host, route and cluster it
//! meets, or why it does not. The questions are those of Istio's own tests (`pilot/test/simulation`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::access_log::CallRecord;
use super::hcm::{HttpConnectionManager, RouteSource};
use super::headers::Headers;
use super::listener::{ConnectionFacts, Listener, ListenerFilterKind, TrafficDirection, hand_over};
use super::network::NetworkFilter;
use super::refusal::Refusal;
use super::route::{Decision, Matched, RequestFacts, RouteTable};
use super::tls::CertificateSource;
use crate::ProxyResources;

/// What kind of traffic a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// To a gateway: its listener's address is called.
    #[default]
    Gateway,
    /// From an application: redirected to the outbound listener.
    Outbound,
    /// To an application: redirected to the inbound listener.
    Inbound,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Tcp,
}

/// What lies around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallTls {
    /// Nothing.
    #[default]
    Plaintext,
    /// TLS without a client certificate.
    Tls,
    /// TLS with a client certificate.
    Mtls,
}

/// A call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Where to; none: any address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// `/...`; empty: `/`.
    pub path: String,
    /// Empty: `GET`.
    pub method: String,
    /// What is spoken.
    pub protocol: CallProtocol,
    /// What lies around it.
    pub tls: CallTls,
    /// The `host`.
    pub host: String,
    /// SNI; empty: the host where there is TLS.
    pub sni: String,
    /// ALPN; empty: what fits protocol and TLS.
    pub alpn: String,
    /// Further headers.
    pub headers: Headers,
    /// Which way.
    pub mode: Mode,
    /// Who calls; none: some other machine.
    pub source: Option<IpAddr>,
    /// The name of the certificate that makes a chain one for mTLS; empty: `default`.
    pub mtls_secret_name: String,
    /// The caller's random value.
    pub random: u64,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// No listener there.
    NoListener,
    /// No filter chain.
    NoFilterChain,
    /// No such route table.
    NoRouteTable,
    /// No virtual host.
    NoVirtualHost,
    /// No route.
    NoRoute,
    /// No such cluster.
    NoCluster,
    /// A plain request is sent to https.
    TlsRedirect,
    /// HTTP expected and something else spoken.
    ProtocolError,
    /// TLS expected and not spoken, or the other way round.
    TlsError,
    /// A client certificate was asked for.
    MtlsError,
    /// A resource was refused.
    Refused(Refusal),
}

/// What a call met, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The listener's name.
    pub listener: Option<String>,
    /// The filter chain's name.
    pub filter_chain: Option<String>,
    /// The route table's name.
    pub route_table: Option<String>,
    /// The virtual host's name.
    pub virtual_host: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// The cluster, of HTTP or TCP.
    pub cluster: Option<String>,
    /// Why not.
    pub error: Option<CallError>,
}

/// Send a call through a proxy.
pub fn simulate(resources: &ProxyResources, call: &Call) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = run(resources, call, &mut outcome) {
        outcome.error = Some(error);
    }
    outcome
}

fn run(resources: &ProxyResources, call: &Call, outcome: &mut Outcome) -> Result<(), CallError> {
    let listeners: Vec<Listener> =
        resources.listeners.values().map(|value| Listener::read(value).map_err(CallError::Refused)).collect::<Result<_, _>>()?;
    let destination = SocketAddr::new(call.address.unwrap_or(IpAddr::from([1, 3, 3, 7])), call.port);
    let listener = entry(&listeners, call.mode, destination).ok_or(CallError::NoListener)?;
    outcome.listener = Some(listener.name.clone());
    let facts = inspect(listener, call, destination);
    let chain = listener.chain(&facts).ok_or(CallError::NoFilterChain)?;
    outcome.filter_chain = Some(chain.name.clone());
    if let Some(tls) = &chain.tls {
        if call.tls == CallTls::Plaintext {
            return Err(CallError::TlsError);
        }
        // As Istio's simulation has it: the mesh's own certificate with a client's certificate asked for is mTLS.
        let own = matches!(tls.common.certificates.first(), Some(CertificateSource::Sds(name)) if *name == call.mtls_secret());
        if (own && tls.require_client_certificate) != (call.tls == CallTls::Mtls) {
            return Err(CallError::MtlsError);
        }
    }
    for filter in &chain.filters {
        match filter {
            NetworkFilter::HttpConnectionManager(manager) => {
                let secure = call.tls != CallTls::Plaintext;
                if (secure && chain.tls.is_none()) || call.protocol == CallProtocol::Tcp {
                    return Err(CallError::ProtocolError);
                }
                return http(resources, call, manager, outcome);
            }
            NetworkFilter::TcpProxy(proxy) => {
                let cluster = proxy.cluster(call.random).unwrap_or_default().to_owned();
                return to_cluster(resources, cluster, outcome);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where the connection arrives: at a gateway's own address, or through one of the two listeners for redirected traffic.
fn entry(listeners: &[Listener], mode: Mode, destination: SocketAddr) -> Option<&Listener> {
    let restores = |l: &Listener| l.listener_filters.iter().any(|f| f.kind == ListenerFilterKind::OriginalDst);
    match mode {
        Mode::Gateway => hand_over(listeners.iter().filter(|l| l.bind_to_port), destination),
        Mode::Inbound => listeners.iter().find(|l| l.traffic_direction == TrafficDirection::Inbound && restores(l)),
        Mode::Outbound => {
            let first = listeners.iter().find(|l| l.use_original_dst && l.traffic_direction == TrafficDirection::Outbound)?;
            // A listener with a socket of its own counts too: that is how what calls 15006 meets `virtualInbound`.
            Some(hand_over(listeners, destination).unwrap_or(first))
        }
    }
}

/// What the listener filters find.
fn inspect(listener: &Listener, call: &Call, destination: SocketAddr) -> ConnectionFacts {
    let has = |kind: &ListenerFilterKind| listener.listener_filters.iter().any(|f| f.kind == *kind && f.runs(destination.port()));
    let secure = call.tls != CallTls::Plaintext;
    let source = SocketAddr::new(call.source.unwrap_or(IpAddr::from([9, 9, 9, 9])), 40_000);
    let mut facts = ConnectionFacts {
        destination,
        source,
        direct_source: source,
        server_name: String::new(),
        transport_protocol: String::new(),
        application_protocols: Vec::new(),
    };
    if secure && has(&ListenerFilterKind::TlsInspector) {
        facts.transport_protocol = "tls".to_owned();
        facts.server_name = call.server_name().to_ascii_lowercase();
        facts.application_protocols = call.alpn().into_iter().collect();
    }
    if !secure && has(&ListenerFilterKind::HttpInspector) {
        facts.application_protocols = match call.protocol {
            CallProtocol::Http => vec!["http/1.1".to_owned()],
            CallProtocol::Http2 => vec!["h2c".to_owned()],
            CallProtocol::Tcp => Vec::new(),
        };
    }
    facts
}

fn http(resources: &ProxyResources, call: &Call, manager: &HttpConnectionManager, outcome: &mut Outcome) -> Result<(), CallError> {
    let table = match &manager.routes {
        RouteSource::Inline(table) => table.clone(),
        RouteSource::Rds(name) => {
            outcome.route_table = Some(name.clone());
            let value = resources.routes.get(name).ok_or(CallError::NoRouteTable)?;
            Arc::new(RouteTable::read(value).map_err(CallError::Refused)?)
        }
    };
    outcome.route_table = Some(table.name.clone());
    let mut headers = call.headers.clone();
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    headers.set(":method", or(&call.method, "GET"));
    headers.set(":path", or(&call.path, "/"));
    headers.set(":authority", call.host.clone());
    let tls = call.tls != CallTls::Plaintext;
    headers.set(":scheme", if tls { "https" } else { "http" });
    let record = CallRecord::default();
    match table.route(&RequestFacts { headers: &headers, tls, internal: false, random: call.random, call: &record }) {
        Decision::NotFound { virtual_host: None } => Err(CallError::NoVirtualHost),
        Decision::NotFound { virtual_host: Some(host) } => {
            outcome.virtual_host = Some(host.name.clone());
            Err(CallError::NoRoute)
        }
        Decision::TlsRedirect { virtual_host, .. } => {
            outcome.virtual_host = Some(virtual_host.name.clone());
            Err(CallError::TlsRedirect)
        }
        Decision::Redirect { matched, .. } | Decision::DirectResponse { matched, .. } => {
            outcome.found(&matched);
            Ok(())
        }
        Decision::Forward { matched, cluster } => {
            outcome.found(&matched);
            to_cluster(resources, cluster, outcome)
        }
    }
}

fn to_cluster(resources: &ProxyResources, cluster: String, outcome: &mut Outcome) -> Result<(), CallError> {
    let there = resources.clusters.contains_key(&cluster);
    outcome.cluster = Some(cluster);
    if there { Ok(()) } else { Err(CallError::NoCluster) }
}

impl Outcome {
    fn found(&mut self, matched: &Matched) {
        self.virtual_host = Some(matched.virtual_host.name.clone());
        self.route = Some(matched.route.name.clone());
    }
}

impl Call {
    fn server_name(&self) -> &str {
        if self.sni.is_empty() && self.tls == CallTls::Tls { &self.host } else { &self.sni }
    }

    fn mtls_secret(&self) -> String {
        if self.mtls_secret_name.is_empty() { "default".to_owned() } else { self.mtls_secret_name.clone() }
    }

    /// The application protocol that a client of this kind offers; Istio's own names within the mesh.
    fn alpn(&self) -> Option<String> {
        if !self.alpn.is_empty() {
            return Some(self.alpn.clone());
        }
        let name = match (self.tls, self.protocol) {
            (CallTls::Plaintext, _) | (CallTls::Tls, CallProtocol::Tcp) => return None,
            (CallTls::Mtls, CallProtocol::Http) => "istio-http/1.1",
            (CallTls::Mtls, CallProtocol::Http2) => "istio-h2",
            (CallTls::Mtls, CallProtocol::Tcp) => "istio",
            (CallTls::Tls, CallProtocol::Http) => "http/1.1",
            (CallTls::Tls, CallProtocol::Http2) => "h2",
        };
        Some(name.to_owned())
    }
}
