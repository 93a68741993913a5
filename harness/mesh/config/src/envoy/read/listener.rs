//! Listeners and filter chains.

use std::time::Duration;

use serde_json::Value;

use super::common::{address, cidrs};
use super::json::{Message, Read, constraint, unknown_extension};
use super::{access_log, network, tls};
use crate::envoy::address::Address;
use crate::envoy::chain::{ChainTree, Overlap};
use crate::envoy::listener::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterKind, ListenerPredicate, SourceType, TrafficDirection,
};
use crate::envoy::refusal::Refusal;

/// Listener filters of Istio's proxy that have no effect on what is decided here.
const IGNORED: &[&str] = &["envoy.filters.listener.metadata_to_peer_node", "envoy.listener.metadata_to_peer_node", "set_dst_address"];

pub(crate) fn listener(value: &Value) -> Read<Listener> {
    let message = Message::of(value, "listener")?;
    let address = address(message.message("address")?.ok_or_else(|| constraint("Listener.Address: is required"))?)?;
    for field in ["filter_chain_matcher", "api_listener", "udp_listener_config", "internal_listener"] {
        if message.has(field) {
            return Err(Refusal::unsupported(format!("{field} of a listener")));
        }
    }
    if matches!(address, Address::Name(..)) {
        return Err(Refusal::rejected(format!("malformed IP address: {}", host(&address))));
    }
    let filter_chains: Vec<FilterChain> = message.messages("filter_chains")?.into_iter().map(chain).collect::<Read<_>>()?;
    let default_filter_chain = message.message("default_filter_chain")?.map(chain).transpose()?;
    if filter_chains.is_empty() && default_filter_chain.is_none() {
        return Err(Refusal::rejected(format!("error adding listener '{address}': no filter chains specified")));
    }
    let tree = ChainTree::new(&filter_chains).map_err(|overlap| refuse_overlap(&address, &filter_chains, &overlap))?;
    Ok(Listener {
        name: message.text("name")?.to_owned(),
        additional_addresses: message
            .messages("additional_addresses")?
            .into_iter()
            .map(|a| super::common::address(a.part("address")?))
            .collect::<Read<_>>()?,
        address,
        bind_to_port: message.flag("bind_to_port", true)? && message.part("deprecated_v1")?.flag("bind_to_port", true)?,
        use_original_dst: message.flag("use_original_dst", false)?,
        traffic_direction: direction(message.text("traffic_direction")?)?,
        listener_filters: message.messages("listener_filters")?.into_iter().map(listener_filter).collect::<Read<_>>()?,
        listener_filters_timeout: message.bound("listener_filters_timeout", Some(Duration::from_secs(15)))?,
        continue_on_listener_filters_timeout: message.flag("continue_on_listener_filters_timeout", false)?,
        filter_chains,
        default_filter_chain,
        access_log: access_log::logs(message)?,
        per_connection_buffer_limit: message.number("per_connection_buffer_limit_bytes")?,
        tree,
    })
}

fn host(address: &Address) -> String {
    match address {
        Address::Name(name, _) => name.clone(),
        other => other.to_string(),
    }
}

/// `FilterChainManagerImpl::verifyNoDuplicateMatchers` and `addFilterChainForSourcePorts`.
fn refuse_overlap(address: &Address, chains: &[FilterChain], overlap: &Overlap) -> Refusal {
    let name = |index: usize| chains.get(index).map(|c| c.name.as_str()).unwrap_or_default();
    let before = format!("error adding listener '{address}':");
    match overlap {
        Overlap::PartialWildcard => Refusal::rejected(format!("{before} partial wildcards are not supported in \"server_names\"")),
        Overlap::Same(later, earlier) => Refusal::rejected(format!(
            "{before} filter chain '{}' has the same matching rules defined as '{}'",
            name(*later),
            name(*earlier)
        )),
        Overlap::Partly => Refusal::rejected(format!("{before} multiple filter chains with overlapping matching rules are defined")),
    }
}

fn direction(text: &str) -> Read<TrafficDirection> {
    match text {
        "" | "UNSPECIFIED" => Ok(TrafficDirection::Unspecified),
        "INBOUND" => Ok(TrafficDirection::Inbound),
        "OUTBOUND" => Ok(TrafficDirection::Outbound),
        other => Err(Refusal::rejected(format!("INVALID_ARGUMENT: traffic_direction: {other}"))),
    }
}

fn listener_filter(message: Message<'_>) -> Read<ListenerFilter> {
    let name = message.text("name")?;
    let config = message.any("typed_config")?;
    let (url, config) = config.map_or(("", None), |(url, config)| (url, Some(config)));
    let kind = match url.rsplit('.').next().unwrap_or_default() {
        "OriginalDst" => ListenerFilterKind::OriginalDst,
        "TlsInspector" => ListenerFilterKind::TlsInspector,
        "HttpInspector" => ListenerFilterKind::HttpInspector,
        "ProxyProtocol" if config.is_some() => ListenerFilterKind::ProxyProtocol,
        _ if IGNORED.contains(&name) => ListenerFilterKind::Ignored(name.to_owned()),
        _ if url.starts_with("envoy.extensions.filters.listener.") => {
            return Err(Refusal::unsupported(format!("listener filter {name}")));
        }
        _ => return Err(unknown_extension(name, url)),
    };
    Ok(ListenerFilter { kind, disabled: message.message("filter_disabled")?.map(|m| predicate(m, 0)).transpose()? })
}

fn predicate(message: Message<'_>, depth: usize) -> Read<ListenerPredicate> {
    if depth > 32 {
        return Err(Refusal::rejected("filter_disabled: too deep"));
    }
    let rules = |set: Message<'_>| -> Read<Vec<_>> { set.messages("rules")?.into_iter().map(|rule| predicate(rule, depth + 1)).collect() };
    if message.flag("any_match", false)? {
        return Ok(ListenerPredicate::Any);
    }
    if let Some(range) = message.message("destination_port_range")? {
        let end = |field| -> Read<u32> { Ok(range.number(field)?.unwrap_or_default()) };
        return Ok(ListenerPredicate::DestinationPort(end("start")?, end("end")?));
    }
    if let Some(set) = message.message("or_match")? {
        return Ok(ListenerPredicate::Or(rules(set)?));
    }
    if let Some(set) = message.message("and_match")? {
        return Ok(ListenerPredicate::And(rules(set)?));
    }
    if let Some(inner) = message.message("not_match")? {
        return Ok(ListenerPredicate::Not(Box::new(predicate(inner, depth + 1)?)));
    }
    Err(constraint("ListenerFilterChainMatchPredicate.Rule: is required"))
}

fn chain(message: Message<'_>) -> Read<FilterChain> {
    Ok(FilterChain {
        name: message.text("name")?.to_owned(),
        matches: matches(message.part("filter_chain_match")?)?,
        tls: tls::downstream(message)?,
        transport_socket_connect_timeout: message.bound("transport_socket_connect_timeout", None)?,
        filters: network::filters(message)?,
    })
}

fn matches(message: Message<'_>) -> Read<FilterChainMatch> {
    let ports = message.list("source_ports")?.iter().map(|port| {
        let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        port.ok_or_else(|| constraint("FilterChainMatch.SourcePorts[0]: value must be inside range [1, 65535]"))
    });
    let destination_port = message.number::<u32>("destination_port")?;
    let destination_port = destination_port
        .map(|port| u16::try_from(port).ok().filter(|port| *port > 0))
        .map(|port| port.ok_or_else(|| constraint("FilterChainMatch.DestinationPort: value must be inside range [1, 65535]")))
        .transpose()?;
    Ok(FilterChainMatch {
        destination_port,
        prefix_ranges: cidrs(message, "prefix_ranges")?,
        server_names: message.texts("server_names")?,
        transport_protocol: message.text("transport_protocol")?.to_owned(),
        application_protocols: message.texts("application_protocols")?,
        direct_source_prefix_ranges: cidrs(message, "direct_source_prefix_ranges")?,
        source_type: match message.text("source_type")? {
            "" | "ANY" => SourceType::Any,
            "SAME_IP_OR_LOOPBACK" => SourceType::SameIpOrLoopback,
            "EXTERNAL" => SourceType::External,
            other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: source_type: {other}"))),
        },
        source_prefix_ranges: cidrs(message, "source_prefix_ranges")?,
        source_ports: ports.collect::<Read<_>>()?,
    })
}
