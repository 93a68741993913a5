//! Clusters and their endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::address::Address;
use super::refusal::Refusal;
use super::tls::UpstreamSocket;

/// `Cluster.DiscoveryType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Discovery {
    /// Endpoints in the cluster.
    #[default]
    Static,
    /// Every address that each name resolves to.
    StrictDns,
    /// The first address that the one name resolves to.
    LogicalDns,
    /// Endpoints from [`crate::ProxyResources::endpoints`].
    Eds,
    /// Where the connection was going.
    OriginalDst,
    /// Where the host of the request is, which an HTTP filter has found out (`envoy.clusters.dynamic_forward_proxy`).
    DynamicForwardProxy,
}

/// `Cluster.LbPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LbPolicy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The less busy of two.
    LeastRequest,
    /// By hash.
    RingHash,
    /// By chance.
    Random,
    /// By hash.
    Maglev,
    /// The cluster says: original destination, or the host that is asked for.
    ClusterProvided,
}

/// `CircuitBreakers.Thresholds` of the default priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Connections; default 1024.
    pub max_connections: u32,
    /// Requests that wait for a connection; default 1024.
    pub max_pending_requests: u32,
    /// Requests; default 1024.
    pub max_requests: u32,
    /// Retries; default 3.
    pub max_retries: u32,
}

impl Default for CircuitBreakers {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 }
    }
}

/// `OutlierDetection`, with Envoy's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierDetection {
    /// 5xx in a row before an endpoint is put out; 0: never. Default 5.
    pub consecutive_5xx: u32,
    /// Gateway errors (502, 503, 504) in a row; default 5.
    pub consecutive_gateway_failure: u32,
    /// How surely that puts it out, in percent; default 0.
    pub enforcing_consecutive_gateway_failure: u32,
    /// How surely 5xx put it out, in percent; default 100.
    pub enforcing_consecutive_5xx: u32,
    /// How often is looked; default 10 s.
    pub interval: Duration,
    /// How long it is out the first time; default 30 s.
    pub base_ejection_time: Duration,
    /// At most so many percent at once; default 10.
    pub max_ejection_percent: u32,
}

/// Which protocol is spoken to endpoints (`HttpProtocolOptions.upstream_protocol_options`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client speaks.
    Downstream,
    /// By ALPN.
    Alpn,
}

/// `HttpProtocolOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpOptions {
    /// Which protocol.
    pub protocol: UpstreamProtocol,
    /// `common_http_protocol_options.idle_timeout`.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`.
    pub max_requests_per_connection: Option<u32>,
    /// `max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `auto_sni`: the SNI is the host of the request.
    pub auto_sni: bool,
    /// `auto_san_validation`: the certificate must be for that SNI.
    pub auto_san_validation: bool,
    /// The case of header names is kept.
    pub preserve_case: bool,
}

/// One of `transport_socket_matches`.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketMatch {
    /// Its name.
    pub name: String,
    /// All of these must be in the endpoint's metadata `envoy.transport_socket_match`; empty: any endpoint.
    pub criteria: BTreeMap<String, Value>,
    /// What is used then.
    pub socket: UpstreamSocket,
}

/// `envoy.config.cluster.v3.Cluster`.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Another name for statistics; `%UPSTREAM_CLUSTER%` writes it. May be empty.
    pub alt_stat_name: String,
    /// Where endpoints come from.
    pub discovery: Discovery,
    /// The key of [`crate::ProxyResources::endpoints`]: `eds_cluster_config.service_name`, or the name.
    pub eds_name: String,
    /// Endpoints in the cluster.
    pub load_assignment: Option<Endpoints>,
    /// How long connecting may take; default 5 s.
    pub connect_timeout: Duration,
    /// How an endpoint is chosen.
    pub lb_policy: LbPolicy,
    /// Limits.
    pub circuit_breakers: CircuitBreakers,
    /// When endpoints are put out.
    pub outlier_detection: Option<OutlierDetection>,
    /// HTTP.
    pub http: HttpOptions,
    /// TLS, or none, for endpoints that none of the next matches.
    pub transport_socket: UpstreamSocket,
    /// TLS by endpoint; the first that matches, else [`Self::transport_socket`].
    pub transport_socket_matches: Vec<SocketMatch>,
    /// `upstream_bind_config`: connections come from this address.
    pub source_address: Option<IpAddr>,
    /// ORIGINAL_DST: the destination is taken from `x-envoy-original-dst-host`.
    pub use_http_header: bool,
    /// ORIGINAL_DST: this port instead of the original one.
    pub upstream_port_override: Option<u16>,
    /// How often a name is resolved again; default 5 s.
    pub dns_refresh_rate: Duration,
    /// `respect_dns_ttl`.
    pub respect_dns_ttl: bool,
    /// `common_lb_config.healthy_panic_threshold` in percent; default 50.
    pub healthy_panic_threshold: u32,
    /// `metadata.filter_metadata`.
    pub metadata: BTreeMap<String, Value>,
    /// PROXY protocol is written first.
    pub proxy_protocol: Option<u8>,
    /// `close_connections_on_host_health_failure`.
    pub close_connections_on_host_health_failure: bool,
}

/// `HealthStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not said: as healthy.
    #[default]
    Unknown,
    /// Good.
    Healthy,
    /// Not to be used.
    Unhealthy,
    /// Going away: kept and not chosen.
    Draining,
    /// Timed out: not to be used.
    Timeout,
    /// Used when others do not suffice.
    Degraded,
}

/// One `LbEndpoint` with its locality.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where.
    pub address: Address,
    /// `hostname`: for `auto_host_rewrite`.
    pub hostname: String,
    /// How it is.
    pub health: Health,
    /// At least 1.
    pub weight: u32,
    /// `metadata.filter_metadata`.
    pub metadata: BTreeMap<String, Value>,
    /// 0 is chosen first.
    pub priority: u32,
    /// `region/zone/sub_zone`, without trailing slashes.
    pub locality: String,
    /// The weight of its locality; none: localities are not weighted.
    pub locality_weight: Option<u32>,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoints {
    /// The EDS name.
    pub cluster_name: String,
    /// Endpoints in order.
    pub endpoints: Vec<Endpoint>,
    /// `policy.overprovisioning_factor`; default 140.
    pub overprovisioning_factor: u32,
}

impl Cluster {
    /// Read a cluster as `config_dump` prints it.
    ///
    /// # Errors
    /// What Envoy refuses, or what is not simulated.
    pub fn read(cluster: &Value) -> Result<Self, Refusal> {
        super::read::cluster(cluster)
    }

    /// The transport socket for an endpoint (`TransportSocketMatcherImpl::resolve`).
    pub fn socket_for(&self, endpoint: &Endpoint) -> &UpstreamSocket {
        let labels = endpoint.metadata.get("envoy.transport_socket_match");
        let fits = |wanted: &SocketMatch| wanted.criteria.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value));
        self.transport_socket_matches.iter().find(|m| fits(m)).map_or(&self.transport_socket, |m| &m.socket)
    }
}

impl Endpoints {
    /// Read an assignment as `config_dump` prints it.
    ///
    /// # Errors
    /// What Envoy refuses.
    pub fn read(assignment: &Value) -> Result<Self, Refusal> {
        super::read::endpoints(assignment)
    }
}
