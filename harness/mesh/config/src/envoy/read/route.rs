//! Route configurations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::common::{fraction, headers, metadata, metadata_matcher, mutations, query, regex, runtime_fraction, substitution};
use super::http_filter::per_filter;
use super::json::{Message, Read, constraint};
use super::route_action::action;
use crate::envoy::matchers::FullRegex;
use crate::envoy::refusal::Refusal;
use crate::envoy::route::{PathMatch, RequireTls, RetryPolicy, Route, RouteMatcher, RouteTable, TableSettings, VirtualHost};

pub(crate) fn routes(value: &Value) -> Read<RouteTable> {
    table(Message::of(value, "route configuration")?)
}

pub(super) fn table(message: Message<'_>) -> Read<RouteTable> {
    if message.has("vhds") {
        return Err(Refusal::unsupported("virtual host discovery"));
    }
    let name = message.text("name")?.to_owned();
    let limit = message.number::<usize>("max_direct_response_body_size_bytes")?.unwrap_or(4096);
    let virtual_hosts =
        message.messages("virtual_hosts")?.into_iter().map(|host| Ok(Arc::new(virtual_host(host, limit)?))).collect::<Read<Vec<_>>>()?;
    let mut names = std::collections::BTreeSet::new();
    if let Some(twice) = virtual_hosts.iter().find(|host| !names.insert(host.name.as_str())) {
        return Err(Refusal::rejected(format!(
            "Only unique names for virtual hosts are permitted. Duplicate entry of name {} in route {name}",
            twice.name
        )));
    }
    let domains = crate::envoy::route::Domains::new(&name, &virtual_hosts)?;
    Ok(RouteTable {
        settings: Arc::new(TableSettings {
            mutations: mutations(message)?,
            per_filter: per_filter(message)?,
            internal_only_headers: message.texts("internal_only_headers")?,
            most_specific_header_mutations_wins: message.flag("most_specific_header_mutations_wins", false)?,
        }),
        ignore_port_in_host_matching: message.flag("ignore_port_in_host_matching", false)?,
        validate_clusters: message.some_flag("validate_clusters")?,
        name,
        virtual_hosts,
        domains,
    })
}

fn virtual_host(message: Message<'_>, limit: usize) -> Read<VirtualHost> {
    let name = message.text("name")?;
    if name.is_empty() {
        return Err(constraint("VirtualHost.Name: value length must be at least 1 characters"));
    }
    let domains = message.texts("domains")?;
    if domains.is_empty() {
        return Err(constraint("VirtualHost.Domains: value must contain at least 1 item(s)"));
    }
    if message.has("matcher") {
        return Err(Refusal::unsupported("a matcher of a virtual host"));
    }
    let retry = message.message("retry_policy")?.map(retry).transpose()?;
    let mut routes = Vec::new();
    for route_message in message.messages("routes")? {
        routes.push(Arc::new(route(route_message, retry.as_ref(), limit)?));
    }
    Ok(VirtualHost {
        name: name.to_owned(),
        domains,
        routes,
        require_tls: match message.text("require_tls")? {
            "" | "NONE" => RequireTls::None,
            "EXTERNAL_ONLY" => RequireTls::ExternalOnly,
            "ALL" => RequireTls::All,
            other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: require_tls: {other}"))),
        },
        mutations: mutations(message)?,
        per_filter: per_filter(message)?,
        retry,
        include_request_attempt_count: message.flag("include_request_attempt_count", false)?,
        include_attempt_count_in_response: message.flag("include_attempt_count_in_response", false)?,
    })
}

fn route(message: Message<'_>, inherited: Option<&RetryPolicy>, limit: usize) -> Read<Route> {
    Ok(Route {
        name: message.text("name")?.to_owned(),
        matches: matcher(message.message("match")?.ok_or_else(|| constraint("Route.Match: is required"))?)?,
        action: action(message, inherited, limit)?,
        mutations: mutations(message)?,
        per_filter: per_filter(message)?,
        metadata: metadata(message)?,
        operation: message.part("decorator")?.text("operation")?.to_owned(),
    })
}

fn matcher(message: Message<'_>) -> Read<RouteMatcher> {
    let tls = message.part("tls_context")?;
    if !message.list("filter_state")?.is_empty() || !message.list("cookies")?.is_empty() {
        return Err(Refusal::unsupported("a route by filter state or cookies"));
    }
    Ok(RouteMatcher {
        path: path(message)?,
        case_sensitive: message.flag("case_sensitive", true)?,
        headers: headers(message, "headers")?,
        query: message.messages("query_parameters")?.into_iter().map(query).collect::<Read<_>>()?,
        fraction: runtime_fraction(message, "runtime_fraction")?,
        grpc: message.has("grpc"),
        certificate_presented: tls.some_flag("presented")?,
        certificate_validated: tls.some_flag("validated")?,
        metadata: message.messages("dynamic_metadata")?.into_iter().map(metadata_matcher).collect::<Read<_>>()?,
    })
}

/// The path of a `RouteMatch`.
pub(super) fn path(message: Message<'_>) -> Read<PathMatch> {
    if let Some(text) = message.some_text("prefix")? {
        return Ok(PathMatch::Prefix(text.to_owned()));
    }
    if let Some(text) = message.some_text("path")? {
        return Ok(PathMatch::Exact(text.to_owned()));
    }
    if let Some(text) = message.some_text("path_separated_prefix")? {
        if !text.starts_with('/') || text.ends_with('/') || text.contains(['?', '#']) {
            return Err(constraint("RouteMatch.PathSeparatedPrefix: value does not match regex pattern \"^[^?#]+[^?#/]$\""));
        }
        return Ok(PathMatch::PathSeparatedPrefix(text.to_owned()));
    }
    if let Some(inner) = message.message("safe_regex")? {
        return Ok(PathMatch::Regex(regex(inner)?));
    }
    if message.has("connect_matcher") {
        return Ok(PathMatch::Connect);
    }
    if let Some(policy) = message.message("path_match_policy")? {
        return match policy.any("typed_config")? {
            Some(("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", config)) => template(config.text("path_template")?),
            _ => Err(Refusal::unsupported(format!("path match policy {}", policy.text("name")?))),
        };
    }
    Err(constraint("RouteMatch.PathSpecifier: is required"))
}

/// A URI template as a pattern (`source/extensions/path/uri_template_lib`): `*` is a segment, `**` any number of them,
/// `{name}` a segment and `{name=pattern}` what its pattern takes.
pub(super) fn template(text: &str) -> Read<PathMatch> {
    // RFC 3986's pchar without `=`, in which variables are bound, as Envoy has it.
    const SEGMENT: &str = "[a-zA-Z0-9-._~%!$&'()+,;:@=]+";
    const REST: &str = "[a-zA-Z0-9-._~%!$&'()+,;:@=/]*";
    let invalid = || Refusal::rejected(format!("path_match_policy.path_template {text} is invalid"));
    let mut segments = Vec::new();
    let (mut depth, mut current) = (0_i32, String::new());
    for character in text.strip_prefix('/').ok_or_else(invalid)?.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            '/' if depth == 0 => {
                segments.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    segments.push(current);
    let glob = |part: &str| match part {
        "*" => SEGMENT.to_owned(),
        "**" => REST.to_owned(),
        literal => regex_escape(literal),
    };
    let mut pattern = String::new();
    for segment in &segments {
        pattern.push('/');
        match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(variable) => match variable.split_once('=') {
                Some((_, inner)) => pattern.push_str(&inner.split('/').map(glob).collect::<Vec<_>>().join("/")),
                None => pattern.push_str(SEGMENT),
            },
            None => pattern.push_str(&glob(segment)),
        }
    }
    Ok(PathMatch::Template(FullRegex::new(&pattern).map_err(|_| invalid())?))
}

fn regex_escape(text: &str) -> String {
    regex::escape(text)
}

pub(super) fn retry(message: Message<'_>) -> Read<RetryPolicy> {
    let back_off = message.part("retry_back_off")?;
    let base = back_off.duration("base_interval")?.unwrap_or(Duration::from_millis(25)).max(Duration::from_millis(1));
    let max = back_off.duration("max_interval")?.unwrap_or(base.saturating_mul(10));
    if max < base {
        return Err(Refusal::rejected("retry_policy.max_interval must greater than or equal to the base_interval"));
    }
    let status = |value: &Value| value.as_u64().and_then(|status| u16::try_from(status).ok());
    let predicates = message.messages("retry_host_predicate")?;
    let named = |part: &str| -> Read<bool> {
        let names = predicates.iter().map(|p| p.text("name")).collect::<Read<Vec<_>>>()?;
        Ok(names.iter().any(|name| name.contains(part)))
    };
    let retry_on = message.text("retry_on")?.split(',').map(str::trim).filter(|on| !on.is_empty()).map(str::to_owned);
    Ok(RetryPolicy {
        retry_on: retry_on.collect(),
        num_retries: message.number("num_retries")?.unwrap_or(1),
        per_try_timeout: message.bound("per_try_timeout", None)?,
        per_try_idle_timeout: message.bound("per_try_idle_timeout", None)?,
        retriable_status_codes: message.list("retriable_status_codes")?.iter().filter_map(status).collect(),
        retriable_headers: headers(message, "retriable_headers")?,
        retriable_request_headers: headers(message, "retriable_request_headers")?,
        previous_hosts: named("previous_hosts")?,
        host_selection_attempts: message.number("host_selection_retry_max_attempts")?.filter(|n: &u32| *n > 0).unwrap_or(1),
        base_interval: base,
        max_interval: max,
    })
}

/// `upgrade_configs` of a route.
pub(super) fn upgrades(message: Message<'_>) -> Read<BTreeMap<String, bool>> {
    let read = |u: Message<'_>| -> Read<(String, bool)> { Ok((u.text("upgrade_type")?.to_ascii_lowercase(), u.flag("enabled", true)?)) };
    message.messages("upgrade_configs")?.into_iter().map(read).collect()
}

/// `RequestMirrorPolicy`s.
pub(super) fn mirrors(message: Message<'_>) -> Read<Vec<crate::envoy::route::Mirror>> {
    let read = |mirror: Message<'_>| -> Read<crate::envoy::route::Mirror> {
        let runtime = mirror.message("runtime_fraction")?;
        Ok(crate::envoy::route::Mirror {
            cluster: mirror.text("cluster")?.to_owned(),
            fraction: runtime.map(|runtime| fraction(runtime.part("default_value")?)).transpose()?,
            disable_shadow_host_suffix: mirror.flag("disable_shadow_host_suffix_append", false)?,
        })
    };
    message.messages("request_mirror_policies")?.into_iter().map(read).collect()
}

/// `regex_rewrite` and the like.
pub(super) fn rewrite(message: Message<'_>, field: &str) -> Read<Option<crate::envoy::matchers::Substitution>> {
    message.message(field)?.map(substitution).transpose()
}
