//! Network filters.

use std::time::Duration;

use super::common::token_bucket;
use super::json::{Message, Read, constraint, unknown_extension};
use super::{access_log, hcm, rbac};
use crate::envoy::access_log::Format;
use crate::envoy::network::{ConnectionLimit, FilterStateValue, NetworkFilter, NetworkRbac, TcpProxy, TcpWeight};
use crate::envoy::refusal::Refusal;

/// Filters that Istio adds to count and to exchange what peers are; they change nothing about where bytes go.
const IGNORED: &[&str] = &[
    "istio.stats",
    "istio_authn",
    "envoy.filters.network.metadata_exchange",
    "istio.metadata_exchange",
    "envoy.filters.network.peer_metadata",
    "envoy.filters.network.upstream.peer_metadata",
    "forward_downstream_sni",
];

/// Filters of Envoy that answer by themselves what this simulation does not.
const EXTENSIONS: &str = "envoy.extensions.filters.network.";

pub(super) fn filters(chain: Message<'_>) -> Read<Vec<NetworkFilter>> {
    let mut filters = Vec::new();
    let list = chain.messages("filters")?;
    for (index, message) in list.iter().enumerate() {
        let name = message.text("name")?;
        let filter = filter(name, *message)?;
        let terminal = matches!(filter, NetworkFilter::TcpProxy(_) | NetworkFilter::HttpConnectionManager(_));
        let last = index + 1 == list.len();
        // `Config::Utility::validateTerminalFilters`.
        if terminal && !last {
            return Err(Refusal::rejected(format!(
                "Error: terminal filter named {name} of type {name} must be the last filter in a network filter chain."
            )));
        }
        if !terminal && last {
            return Err(Refusal::rejected(format!(
                "Error: non-terminal filter named {name} of type {name} is the last filter in a network filter chain."
            )));
        }
        filters.push(filter);
    }
    Ok(filters)
}

fn filter(name: &str, message: Message<'_>) -> Read<NetworkFilter> {
    if IGNORED.contains(&name) {
        return Ok(NetworkFilter::Ignored(name.to_owned()));
    }
    let Some((url, config)) = message.any("typed_config")? else { return Err(unknown_extension(name, "")) };
    match url.strip_prefix(EXTENSIONS) {
        Some("tcp_proxy.v3.TcpProxy") => Ok(NetworkFilter::TcpProxy(Box::new(tcp_proxy(config)?))),
        Some("http_connection_manager.v3.HttpConnectionManager") => {
            Ok(NetworkFilter::HttpConnectionManager(Box::new(hcm::manager(config)?)))
        }
        Some("rbac.v3.RBAC") => Ok(NetworkFilter::Rbac(Box::new(network_rbac(config)?))),
        Some("set_filter_state.v3.Config") => Ok(NetworkFilter::SetFilterState(filter_state(config, "on_new_connection")?)),
        Some("connection_limit.v3.ConnectionLimit") => Ok(NetworkFilter::ConnectionLimit(ConnectionLimit {
            max_connections: config
                .number("max_connections")?
                .filter(|max: &u64| *max > 0)
                .ok_or_else(|| constraint("ConnectionLimit.MaxConnections: value must be greater than or equal to 1"))?,
            delay: config.duration("delay")?,
        })),
        Some("local_ratelimit.v3.LocalRateLimit") => Ok(NetworkFilter::LocalRateLimit(token_bucket(config.part("token_bucket")?)?)),
        Some("sni_cluster.v3.SniCluster") => Ok(NetworkFilter::SniCluster),
        Some(_) => Err(Refusal::unsupported(format!("network filter {name}"))),
        None => Err(unknown_extension(name, url)),
    }
}

fn network_rbac(config: Message<'_>) -> Read<NetworkRbac> {
    if config.has("matcher") || config.has("shadow_matcher") {
        return Err(Refusal::unsupported("RBAC by a matcher"));
    }
    Ok(NetworkRbac {
        stat_prefix: config.text("stat_prefix")?.to_owned(),
        rules: config.message("rules")?.map(rbac::rules).transpose()?,
        shadow_rules: config.message("shadow_rules")?.map(rbac::rules).transpose()?,
    })
}

fn tcp_proxy(config: Message<'_>) -> Read<TcpProxy> {
    if config.text("stat_prefix")?.is_empty() {
        return Err(constraint("TcpProxy.StatPrefix: value length must be at least 1 characters"));
    }
    let mut clusters = Vec::new();
    if let Some(weighted) = config.message("weighted_clusters")? {
        for entry in weighted.messages("clusters")? {
            let weight = entry.number("weight")?.unwrap_or_default();
            if weight == 0 {
                return Err(constraint("ClusterWeight.Weight: value must be greater than or equal to 1"));
            }
            clusters.push(TcpWeight { cluster: entry.text("name")?.to_owned(), weight });
        }
        if clusters.is_empty() {
            return Err(constraint("WeightedCluster.Clusters: value must contain at least 1 item(s)"));
        }
    } else if let Some(cluster) = config.some_text("cluster")? {
        clusters.push(TcpWeight { cluster: cluster.to_owned(), weight: 1 });
    } else {
        return Err(constraint("TcpProxy.ClusterSpecifier: is required"));
    }
    let attempts = config.number("max_connect_attempts")?.unwrap_or(1);
    if attempts == 0 {
        return Err(constraint("TcpProxy.MaxConnectAttempts: value must be greater than or equal to 1"));
    }
    Ok(TcpProxy {
        stat_prefix: config.text("stat_prefix")?.to_owned(),
        clusters,
        access_log: access_log::logs(config)?,
        idle_timeout: config.bound("idle_timeout", Some(Duration::from_secs(3600)))?,
        max_connect_attempts: attempts,
        max_downstream_connection_duration: config.bound("max_downstream_connection_duration", None)?,
        tunnel: config.message("tunneling_config")?.map(|tunnel| Format::parse(tunnel.text("hostname")?)).transpose()?,
    })
}

/// `envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue`.
pub(super) fn filter_state(config: Message<'_>, field: &str) -> Read<Vec<FilterStateValue>> {
    let read = |value: Message<'_>| -> Read<FilterStateValue> {
        let format = value.part("format_string")?;
        let text = match format.message("text_format_source")? {
            Some(source) => source.text("inline_string")?,
            None => format.text("text_format")?,
        };
        Ok(FilterStateValue {
            key: value.text("object_key")?.to_owned(),
            value: Format::parse_value(text)?,
            skip_if_empty: value.flag("skip_if_empty", false)?,
            shared: matches!(value.text("shared_with_upstream")?, "ONCE" | "TRANSITIVE"),
        })
    };
    config.messages(field)?.into_iter().map(read).collect()
}
