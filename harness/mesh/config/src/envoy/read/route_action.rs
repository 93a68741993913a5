//! What a route does.

use std::sync::Arc;
use std::time::Duration;

use super::common::{data_source, mutations};
use super::http_filter::per_filter;
use super::json::{Message, Read, constraint};
use super::route::{mirrors, retry, rewrite, upgrades};
use crate::envoy::refusal::Refusal;
use crate::envoy::route::{
    Action, ClusterChoice, DirectResponse, HostRewrite, PathRewrite, Redirect, RetryPolicy, RouteAction, WeightedCluster,
};
use crate::envoy::tls::DataSource;

pub(super) fn action(route: Message<'_>, inherited: Option<&RetryPolicy>, limit: usize) -> Read<Action> {
    if let Some(message) = route.message("route")? {
        return Ok(Action::Forward(Box::new(forward(message, inherited)?)));
    }
    if let Some(message) = route.message("redirect")? {
        return Ok(Action::Redirect(Box::new(redirect(message)?)));
    }
    if let Some(message) = route.message("direct_response")? {
        return Ok(Action::Direct(direct(message, limit)?));
    }
    if route.has("non_forwarding_action") {
        return Ok(Action::NonForwarding);
    }
    Err(constraint("Route.Action: is required"))
}

fn forward(message: Message<'_>, inherited: Option<&RetryPolicy>) -> Read<RouteAction> {
    let stream = message.part("max_stream_duration")?;
    let prefix = message.some_text("prefix_rewrite")?.filter(|to| !to.is_empty());
    let pattern = rewrite(message, "regex_rewrite")?;
    if prefix.is_some() && pattern.is_some() {
        return Err(Refusal::rejected("Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy"));
    }
    if message.has("path_rewrite_policy") {
        return Err(Refusal::unsupported("path_rewrite_policy of a route"));
    }
    Ok(RouteAction {
        cluster: cluster(message)?,
        cluster_not_found_status: match message.text("cluster_not_found_response_code")? {
            "" | "SERVICE_UNAVAILABLE" => 503,
            "NOT_FOUND" => 404,
            "INTERNAL_SERVER_ERROR" => 500,
            other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: cluster_not_found_response_code: {other}"))),
        },
        rewrite: prefix.map(|to| PathRewrite::Prefix(to.to_owned())).or(pattern.map(PathRewrite::Regex)),
        host_rewrite: host_rewrite(message)?,
        append_x_forwarded_host: message.flag("append_x_forwarded_host", false)?,
        timeout: message.bound("timeout", Some(Duration::from_secs(15)))?,
        idle_timeout: message.duration("idle_timeout")?,
        max_stream_duration: stream.bound("max_stream_duration", None)?,
        max_grpc_timeout: match stream.duration("grpc_timeout_header_max")? {
            None => message.duration("max_grpc_timeout")?,
            set => set,
        },
        retry: match message.message("retry_policy")? {
            Some(own) => Some(retry(own)?),
            None => inherited.cloned(),
        },
        mirrors: mirrors(message)?,
        upgrades: upgrades(message)?,
    })
}

fn cluster(message: Message<'_>) -> Read<ClusterChoice> {
    if let Some(name) = message.some_text("cluster")? {
        if name.is_empty() {
            return Err(constraint("RouteAction.Cluster: value length must be at least 1 characters"));
        }
        return Ok(ClusterChoice::Cluster(name.to_owned()));
    }
    if let Some(header) = message.some_text("cluster_header")? {
        return Ok(ClusterChoice::Header(header.to_owned()));
    }
    let Some(weighted) = message.message("weighted_clusters")? else {
        let other = ["inline_cluster_specifier_plugin", "cluster_specifier_plugin"].into_iter().find(|field| message.has(field));
        return Err(match other {
            Some(field) => Refusal::unsupported(format!("{field} of a route")),
            None => constraint("RouteAction.ClusterSpecifier: is required"),
        });
    };
    let mut clusters = Vec::new();
    for entry in weighted.messages("clusters")? {
        let entry = WeightedCluster {
            name: entry.text("name")?.to_owned(),
            cluster_header: entry.text("cluster_header")?.to_owned(),
            weight: entry.number("weight")?.unwrap_or_default(),
            mutations: mutations(entry)?,
            per_filter: per_filter(entry)?,
            host_rewrite: entry.some_text("host_rewrite_literal")?.filter(|host| !host.is_empty()).map(str::to_owned),
        };
        match (entry.name.is_empty(), entry.cluster_header.is_empty()) {
            (true, true) => return Err(Refusal::rejected("At least one of name or cluster_header need to be specified")),
            (false, false) => return Err(Refusal::rejected("Only one of name or cluster_header can be specified")),
            _ => clusters.push(Arc::new(entry)),
        }
    }
    if clusters.is_empty() {
        return Err(constraint("WeightedCluster.Clusters: value must contain at least 1 item(s)"));
    }
    let total: u64 = clusters.iter().map(|entry| u64::from(entry.weight)).sum();
    // `WeightedClustersConfig`.
    if total == 0 {
        return Err(Refusal::rejected("Sum of weights in the weighted_cluster must be greater than 0."));
    }
    if total > u64::from(u32::MAX) {
        return Err(Refusal::rejected(format!("The sum of weights of all weighted clusters of route  exceeds {}", u32::MAX)));
    }
    Ok(ClusterChoice::Weighted { clusters, total })
}

fn host_rewrite(message: Message<'_>) -> Read<Option<HostRewrite>> {
    if let Some(host) = message.some_text("host_rewrite_literal")?.filter(|host| !host.is_empty()) {
        return Ok(Some(HostRewrite::Literal(host.to_owned())));
    }
    if message.flag("auto_host_rewrite", false)? {
        return Ok(Some(HostRewrite::Auto));
    }
    if let Some(header) = message.some_text("host_rewrite_header")?.filter(|header| !header.is_empty()) {
        return Ok(Some(HostRewrite::Header(header.to_owned())));
    }
    Ok(rewrite(message, "host_rewrite_path_regex")?.map(HostRewrite::PathRegex))
}

fn redirect(message: Message<'_>) -> Read<Redirect> {
    let scheme = if message.flag("https_redirect", false)? { Some("https") } else { message.some_text("scheme_redirect")? };
    let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let path = if let Some(path) = own(message.some_text("path_redirect")?) {
        Some(PathRewrite::Full(path))
    } else if let Some(prefix) = own(message.some_text("prefix_rewrite")?) {
        Some(PathRewrite::Prefix(prefix))
    } else {
        rewrite(message, "regex_rewrite")?.map(PathRewrite::Regex)
    };
    Ok(Redirect {
        scheme: own(scheme),
        host: own(message.some_text("host_redirect")?),
        port: message.number::<u16>("port_redirect")?.filter(|port| *port > 0),
        path,
        status: match message.text("response_code")? {
            "" | "MOVED_PERMANENTLY" => 301,
            "FOUND" => 302,
            "SEE_OTHER" => 303,
            "TEMPORARY_REDIRECT" => 307,
            "PERMANENT_REDIRECT" => 308,
            other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: response_code: {other}"))),
        },
        strip_query: message.flag("strip_query", false)?,
    })
}

fn direct(message: Message<'_>, limit: usize) -> Read<DirectResponse> {
    let status = message.number("status")?.unwrap_or_default();
    if !(200..600).contains(&status) {
        return Err(constraint("DirectResponseAction.Status: value must be inside range [200, 600)"));
    }
    let body = match message.message("body")?.map(data_source).transpose()? {
        None => String::new(),
        Some(DataSource::Inline(body)) => body,
        Some(DataSource::File(_)) => return Err(Refusal::unsupported("a direct response from a file")),
    };
    // `ConfigUtility::parseDirectResponseBody`.
    if body.len() > limit {
        return Err(Refusal::rejected(format!("response body size is {} bytes; maximum is {limit}", body.len())));
    }
    Ok(DirectResponse { status, body })
}
