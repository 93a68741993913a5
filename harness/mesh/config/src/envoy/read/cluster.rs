//! Clusters and endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::common::{address, metadata};
use super::hcm::preserves_case;
use super::json::{Message, Read, constraint};
use super::tls;
use crate::envoy::address::Address;
use crate::envoy::cluster::{
    CircuitBreakers, Cluster, Discovery, Endpoint, Endpoints, Health, HttpOptions, LbPolicy, OutlierDetection, SocketMatch,
    UpstreamProtocol,
};
use crate::envoy::refusal::Refusal;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn cluster(value: &Value) -> Read<Cluster> {
    let message = Message::of(value, "cluster")?;
    let name = message.text("name")?;
    if name.is_empty() {
        return Err(constraint("Cluster.Name: value length must be at least 1 characters"));
    }
    let connect_timeout = message.duration("connect_timeout")?.unwrap_or(Duration::from_secs(5));
    if connect_timeout.is_zero() {
        return Err(constraint("Cluster.ConnectTimeout: value must be greater than 0s"));
    }
    let (discovery, extension) = discovery(message)?;
    let lb_policy = lb_policy(message, name, discovery)?;
    let load_assignment = message.message("load_assignment")?.map(assignment).transpose()?;
    check_endpoints(message, discovery, load_assignment.as_ref())?;
    let (transport_socket, proxy_protocol) = tls::upstream(message.message("transport_socket")?)?;
    let original = message.part("original_dst_lb_config")?;
    let eds = message.part("eds_cluster_config")?;
    let lb = message.part("common_lb_config")?;
    let dns = extension.unwrap_or(message);
    Ok(Cluster {
        name: name.to_owned(),
        alt_stat_name: message.text("alt_stat_name")?.to_owned(),
        discovery,
        eds_name: eds.some_text("service_name")?.filter(|service| !service.is_empty()).unwrap_or(name).to_owned(),
        load_assignment,
        connect_timeout,
        lb_policy,
        circuit_breakers: circuit_breakers(message)?,
        outlier_detection: message.message("outlier_detection")?.map(outlier_detection).transpose()?,
        http: http_options(message)?,
        transport_socket,
        transport_socket_matches: message.messages("transport_socket_matches")?.into_iter().map(socket_match).collect::<Read<_>>()?,
        source_address: source_address(message)?,
        use_http_header: original.flag("use_http_header", false)?,
        upstream_port_override: original.number("upstream_port_override")?,
        dns_refresh_rate: dns.duration("dns_refresh_rate")?.unwrap_or(Duration::from_secs(5)),
        respect_dns_ttl: dns.flag("respect_dns_ttl", false)?,
        healthy_panic_threshold: match lb.message("healthy_panic_threshold")? {
            // A percentage between 0 and 100; Envoy works with whole ones.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Some(percent) => percent.float("value")?.unwrap_or_default().clamp(0.0, 100.0) as u32,
            None => 50,
        },
        metadata: metadata(message)?,
        proxy_protocol,
        close_connections_on_host_health_failure: message.flag("close_connections_on_host_health_failure", false)?,
    })
}

/// The type, and the settings of an extension that is one.
fn discovery(message: Message<'_>) -> Read<(Discovery, Option<Message<'_>>)> {
    if let Some(custom) = message.message("cluster_type")? {
        let name = custom.text("name")?;
        let config = custom.any("typed_config")?.map(|(_, config)| config);
        return match name {
            "envoy.cluster.static" => Ok((Discovery::Static, None)),
            "envoy.cluster.eds" => Ok((Discovery::Eds, None)),
            "envoy.cluster.original_dst" => Ok((Discovery::OriginalDst, None)),
            "envoy.cluster.strict_dns" => Ok((Discovery::StrictDns, None)),
            "envoy.cluster.logical_dns" => Ok((Discovery::LogicalDns, None)),
            "envoy.clusters.dns" => {
                let single = config.map(|c| c.flag("all_addresses_in_single_endpoint", false)).transpose()?.unwrap_or_default();
                Ok((if single { Discovery::LogicalDns } else { Discovery::StrictDns }, config))
            }
            "envoy.clusters.dynamic_forward_proxy" => match config {
                Some(config) if config.has("sub_clusters_config") => {
                    Err(Refusal::unsupported(format!("cluster type {name} with sub-clusters")))
                }
                Some(_) => Ok((Discovery::DynamicForwardProxy, None)),
                None => Err(constraint("ClusterConfig.ClusterImplementationSpecifier: is required")),
            },
            known if known.starts_with("envoy.cluster") => Err(Refusal::unsupported(format!("cluster type {known}"))),
            other => Err(Refusal::rejected(format!("Didn't find a registered cluster factory implementation for name: '{other}'"))),
        };
    }
    let discovery = match message.text("type")? {
        "" | "STATIC" => Discovery::Static,
        "STRICT_DNS" => Discovery::StrictDns,
        "LOGICAL_DNS" => Discovery::LogicalDns,
        "EDS" => Discovery::Eds,
        "ORIGINAL_DST" => Discovery::OriginalDst,
        other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: type: {other}"))),
    };
    Ok((discovery, None))
}

fn lb_policy(message: Message<'_>, name: &str, discovery: Discovery) -> Read<LbPolicy> {
    let text = message.some_text("lb_policy")?.unwrap_or("ROUND_ROBIN");
    let policy = match text {
        // A policy given as an extension: what it is matters little here, one endpoint is chosen among those that are good.
        "LOAD_BALANCING_POLICY_CONFIG" | "ROUND_ROBIN" => LbPolicy::RoundRobin,
        "LEAST_REQUEST" => LbPolicy::LeastRequest,
        "RING_HASH" => LbPolicy::RingHash,
        "RANDOM" => LbPolicy::Random,
        "MAGLEV" => LbPolicy::Maglev,
        "CLUSTER_PROVIDED" => LbPolicy::ClusterProvided,
        other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: lb_policy: {other}"))),
    };
    match (discovery, policy) {
        (Discovery::OriginalDst | Discovery::DynamicForwardProxy, LbPolicy::ClusterProvided) => Ok(policy),
        (Discovery::DynamicForwardProxy, _) => Err(Refusal::rejected(format!(
            "cluster manager: cluster provided LB not specified but cluster '{name}' provided one. Check cluster documentation."
        ))),
        (Discovery::OriginalDst, _) => Err(Refusal::rejected(format!(
            "cluster: LB policy {text} is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type \
             'ORIGINAL_DST'"
        ))),
        (_, LbPolicy::ClusterProvided) => Err(Refusal::rejected(format!(
            "cluster: LB policy CLUSTER_PROVIDED cannot be used: cluster provided LB specified but cluster '{name}' did not provide one. \
             Check cluster documentation."
        ))),
        _ => Ok(policy),
    }
}

/// What each type wants of its endpoints.
fn check_endpoints(message: Message<'_>, discovery: Discovery, assignment: Option<&Endpoints>) -> Read<()> {
    let endpoints = assignment.map(|a| a.endpoints.as_slice()).unwrap_or_default();
    if discovery != Discovery::Eds && message.has("eds_cluster_config") {
        return Err(Refusal::rejected("eds_cluster_config set in a non-EDS cluster"));
    }
    match discovery {
        Discovery::Eds if !message.has("eds_cluster_config") => {
            Err(Refusal::rejected("cannot create an EDS cluster without an EDS config"))
        }
        Discovery::OriginalDst if message.has("load_assignment") => {
            Err(Refusal::rejected("ORIGINAL_DST clusters must have no load assignment configured"))
        }
        // `LogicalDnsCluster`: one locality with one endpoint. The endpoints of two localities are at least two.
        Discovery::LogicalDns if endpoints.len() != 1 => {
            Err(Refusal::rejected("LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint"))
        }
        Discovery::Static => match endpoints.iter().find_map(|e| if let Address::Name(name, _) = &e.address { Some(name) } else { None }) {
            Some(name) => Err(Refusal::rejected(format!(
                "malformed IP address: {name}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'"
            ))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn circuit_breakers(message: Message<'_>) -> Read<CircuitBreakers> {
    let mut limits = CircuitBreakers::default();
    for threshold in message.part("circuit_breakers")?.messages("thresholds")? {
        if !matches!(threshold.text("priority")?, "" | "DEFAULT") {
            continue;
        }
        limits = CircuitBreakers {
            max_connections: threshold.number("max_connections")?.unwrap_or(limits.max_connections),
            max_pending_requests: threshold.number("max_pending_requests")?.unwrap_or(limits.max_pending_requests),
            max_requests: threshold.number("max_requests")?.unwrap_or(limits.max_requests),
            max_retries: threshold.number("max_retries")?.unwrap_or(limits.max_retries),
        };
    }
    Ok(limits)
}

fn outlier_detection(message: Message<'_>) -> Read<OutlierDetection> {
    let number = |field: &str, default: u32| -> Read<u32> { Ok(message.number(field)?.unwrap_or(default)) };
    Ok(OutlierDetection {
        consecutive_5xx: number("consecutive_5xx", 5)?,
        consecutive_gateway_failure: number("consecutive_gateway_failure", 5)?,
        enforcing_consecutive_gateway_failure: number("enforcing_consecutive_gateway_failure", 0)?,
        enforcing_consecutive_5xx: number("enforcing_consecutive_5xx", 100)?,
        interval: message.duration("interval")?.unwrap_or(Duration::from_secs(10)),
        base_ejection_time: message.duration("base_ejection_time")?.unwrap_or(Duration::from_secs(30)),
        max_ejection_percent: number("max_ejection_percent", 10)?,
    })
}

fn http_options(message: Message<'_>) -> Read<HttpOptions> {
    let older = message.part("common_http_protocol_options")?;
    let mut options = HttpOptions {
        protocol: match (message.text("protocol_selection")?, message.has("http2_protocol_options")) {
            ("USE_DOWNSTREAM_PROTOCOL", _) => UpstreamProtocol::Downstream,
            (_, true) => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        },
        idle_timeout: older.bound("idle_timeout", Some(Duration::from_secs(3600)))?,
        max_requests_per_connection: message.number("max_requests_per_connection")?,
        max_connection_duration: older.bound("max_connection_duration", None)?,
        ..HttpOptions::default()
    };
    let extensions = message.entries("typed_extension_protocol_options")?;
    let Some((_, value)) = extensions.iter().find(|(name, _)| *name == HTTP_OPTIONS) else { return Ok(options) };
    let (_, http) = Message::of(value, HTTP_OPTIONS)?.unpacked()?;
    let mut one = http.part("explicit_http_config")?;
    if http.has("use_downstream_protocol_config") {
        one = http.part("use_downstream_protocol_config")?;
        options.protocol = UpstreamProtocol::Downstream;
    } else if http.has("auto_config") {
        one = http.part("auto_config")?;
        options.protocol = UpstreamProtocol::Alpn;
    } else if one.has("http2_protocol_options") {
        options.protocol = UpstreamProtocol::Http2;
    }
    options.preserve_case = preserves_case(one.part("http_protocol_options")?)?;
    let common = http.part("common_http_protocol_options")?;
    let upstream = http.part("upstream_http_protocol_options")?;
    options.idle_timeout = common.bound("idle_timeout", Some(Duration::from_secs(3600)))?;
    options.max_requests_per_connection = common.number("max_requests_per_connection")?.or(options.max_requests_per_connection);
    options.max_connection_duration = common.bound("max_connection_duration", None)?;
    options.auto_sni = upstream.flag("auto_sni", false)?;
    options.auto_san_validation = upstream.flag("auto_san_validation", false)?;
    Ok(options)
}

fn socket_match(message: Message<'_>) -> Read<SocketMatch> {
    let criteria: BTreeMap<String, Value> = message.entries("match")?.into_iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
    let (socket, proxy_protocol) = tls::upstream(message.message("transport_socket")?)?;
    if proxy_protocol.is_some() {
        return Err(Refusal::unsupported("PROXY protocol for some endpoints"));
    }
    Ok(SocketMatch { name: message.text("name")?.to_owned(), criteria, socket })
}

fn source_address(message: Message<'_>) -> Read<Option<std::net::IpAddr>> {
    let Some(source) = message.part("upstream_bind_config")?.message("source_address")? else { return Ok(None) };
    let text = source.text("address")?;
    text.parse().map(Some).map_err(|_| Refusal::rejected(format!("malformed IP address: {text}")))
}

pub(crate) fn endpoints(value: &Value) -> Read<Endpoints> {
    let message = Message::of(value, "cluster load assignment")?;
    let found = assignment(message)?;
    if found.cluster_name.is_empty() {
        return Err(constraint("ClusterLoadAssignment.ClusterName: value length must be at least 1 characters"));
    }
    Ok(found)
}

fn assignment(message: Message<'_>) -> Read<Endpoints> {
    let mut endpoints = Vec::new();
    for group in message.messages("endpoints")? {
        let place = group.part("locality")?;
        let locality = [place.text("region")?, place.text("zone")?, place.text("sub_zone")?].join("/");
        let locality = locality.trim_end_matches('/').to_owned();
        let priority = group.number("priority")?.unwrap_or_default();
        if priority > 128 {
            return Err(constraint("LocalityLbEndpoints.Priority: value must be less than or equal to 128"));
        }
        let locality_weight = group.number("load_balancing_weight")?;
        for entry in group.messages("lb_endpoints")? {
            let endpoint = entry.part("endpoint")?;
            let weight = entry.number("load_balancing_weight")?.unwrap_or(1);
            if weight == 0 {
                return Err(constraint("LbEndpoint.LoadBalancingWeight: value must be greater than or equal to 1"));
            }
            endpoints.push(Endpoint {
                address: address(endpoint.part("address")?)?,
                hostname: endpoint.text("hostname")?.to_owned(),
                health: health(entry.text("health_status")?)?,
                weight,
                metadata: metadata(entry)?,
                priority,
                locality: locality.clone(),
                locality_weight,
            });
        }
    }
    Ok(Endpoints {
        cluster_name: message.text("cluster_name")?.to_owned(),
        endpoints,
        overprovisioning_factor: message.part("policy")?.number("overprovisioning_factor")?.unwrap_or(140),
    })
}

fn health(text: &str) -> Read<Health> {
    Ok(match text {
        "" | "UNKNOWN" => Health::Unknown,
        "HEALTHY" => Health::Healthy,
        "UNHEALTHY" => Health::Unhealthy,
        "DRAINING" => Health::Draining,
        "TIMEOUT" => Health::Timeout,
        "DEGRADED" => Health::Degraded,
        other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: health_status: {other}"))),
    })
}
