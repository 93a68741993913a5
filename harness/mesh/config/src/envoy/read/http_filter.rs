//! HTTP filters and their settings per route.

use super::common::{fraction, header_mutations, headers, runtime_fraction, strings, token_bucket};
use super::json::{Message, Read, constraint, unknown_extension};
use super::{jwt, network, rbac};
use crate::envoy::http_filter::{
    Abort, Cors, Fault, HttpFilter, HttpFilterKind, HttpRbac, LocalRateLimit, PerFilter, PerFilterConfig, Router,
};
use crate::envoy::jwt::PerRouteJwt;
use crate::envoy::refusal::Refusal;

/// Filters that count, compress, or exchange what peers are; by the last part of their type, or by name for Istio's own.
const IGNORED_TYPES: &[&str] =
    &["grpc_stats.v3.FilterConfig", "compressor.v3.Compressor", "decompressor.v3.Decompressor", "grpc_web.v3.GrpcWeb"];
const IGNORED_NAMES: &[&str] = &[
    "istio.stats",
    "istio.metadata_exchange",
    "istio.alpn",
    "istio_authn",
    "envoy.filters.http.peer_metadata",
    "waypoint_downstream_peer_metadata",
    "waypoint_upstream_peer_metadata",
    "connect_authority",
];

const EXTENSIONS: &str = "envoy.extensions.filters.http.";

pub(super) fn filters(manager: Message<'_>) -> Read<Vec<HttpFilter>> {
    let list = manager.messages("http_filters")?;
    let mut filters: Vec<HttpFilter> = Vec::new();
    for (index, message) in list.iter().enumerate() {
        let name = message.text("name")?;
        let read = filter(name, *message)?;
        let terminal = matches!(read, Some(HttpFilterKind::Router(_)));
        let last = index + 1 == list.len();
        // `Config::Utility::validateTerminalFilters`.
        if terminal != last {
            let (kind, place) = if terminal { ("terminal", "must be the last filter") } else { ("non-terminal", "is the last filter") };
            return Err(Refusal::rejected(format!("Error: {kind} filter named {name} of type {name} {place} in a http filter chain.")));
        }
        if let Some(kind) = read {
            filters.push(HttpFilter { name: name.to_owned(), kind, disabled: message.flag("disabled", false)? });
        }
    }
    if filters.is_empty() {
        return Err(Refusal::rejected("http connection manager has no http filters"));
    }
    Ok(filters)
}

/// None: an optional filter that Envoy does not have.
fn filter(name: &str, message: Message<'_>) -> Read<Option<HttpFilterKind>> {
    if IGNORED_NAMES.contains(&name) {
        return Ok(Some(HttpFilterKind::Ignored));
    }
    if message.has("config_discovery") {
        return Err(Refusal::unsupported(format!("HTTP filter {name} by extension config discovery")));
    }
    let optional = message.flag("is_optional", false)?;
    let Some((url, config)) = message.any("typed_config")? else {
        return if optional { Ok(None) } else { Err(unknown_extension(name, "")) };
    };
    let Some(kind) = url.strip_prefix(EXTENSIONS) else {
        return if optional { Ok(None) } else { Err(unknown_extension(name, url)) };
    };
    if IGNORED_TYPES.contains(&kind) {
        return Ok(Some(HttpFilterKind::Ignored));
    }
    Ok(Some(match kind {
        "rbac.v3.RBAC" => HttpFilterKind::Rbac(Box::new(http_rbac(config)?)),
        "fault.v3.HTTPFault" => HttpFilterKind::Fault(Box::new(fault(config)?)),
        "cors.v3.Cors" => HttpFilterKind::Cors,
        "jwt_authn.v3.JwtAuthentication" => HttpFilterKind::JwtAuthn(Box::new(jwt::filter(config)?)),
        "local_ratelimit.v3.LocalRateLimit" => HttpFilterKind::LocalRateLimit(Box::new(local_rate_limit(config)?)),
        "buffer.v3.Buffer" => HttpFilterKind::Buffer(config.number("max_request_bytes")?),
        "set_filter_state.v3.Config" => HttpFilterKind::SetFilterState(network::filter_state(config, "on_request_headers")?),
        "dynamic_forward_proxy.v3.FilterConfig" => HttpFilterKind::DynamicForwardProxy,
        "router.v3.Router" => HttpFilterKind::Router(Router { suppress_envoy_headers: config.flag("suppress_envoy_headers", false)? }),
        _ => return Err(Refusal::unsupported(format!("HTTP filter {name}"))),
    }))
}

fn http_rbac(config: Message<'_>) -> Read<HttpRbac> {
    if config.has("matcher") || config.has("shadow_matcher") {
        return Err(Refusal::unsupported("RBAC by a matcher"));
    }
    Ok(HttpRbac {
        rules: config.message("rules")?.map(rbac::rules).transpose()?,
        shadow_rules: config.message("shadow_rules")?.map(rbac::rules).transpose()?,
        shadow_prefix: config.text("shadow_rules_stat_prefix")?.to_owned(),
    })
}

fn fault(config: Message<'_>) -> Read<Fault> {
    let share = |message: Message<'_>| message.message("percentage")?.map(fraction).transpose();
    let nothing = crate::envoy::http_filter::Fraction { numerator: 0, denominator: 100 };
    let delay = match config.message("delay")? {
        None => None,
        Some(delay) if delay.has("header_delay") => return Err(Refusal::unsupported("a fault delay by header")),
        Some(delay) => {
            let time = delay.duration("fixed_delay")?.filter(|time| !time.is_zero());
            let time = time.ok_or_else(|| constraint("FaultDelay.FixedDelay: value must be greater than 0s"))?;
            Some((time, share(delay)?.unwrap_or(nothing)))
        }
    };
    let abort = match config.message("abort")? {
        None => None,
        Some(abort) if abort.has("header_abort") => return Err(Refusal::unsupported("a fault abort by header")),
        Some(abort) => {
            let what = match (abort.number("http_status")?, abort.number("grpc_status")?) {
                (Some(status), _) if (200..600).contains(&status) => Abort::Http(status),
                (Some(_), _) => return Err(constraint("FaultAbort.HttpStatus: value must be inside range [200, 600)")),
                (None, Some(status)) => Abort::Grpc(status),
                (None, None) => return Err(constraint("FaultAbort.ErrorType: is required")),
            };
            Some((what, share(abort)?.unwrap_or(nothing)))
        }
    };
    Ok(Fault { delay, abort, headers: headers(config, "headers")?, upstream_cluster: config.text("upstream_cluster")?.to_owned() })
}

fn cors(config: Message<'_>) -> Read<Cors> {
    Ok(Cors {
        allow_origins: strings(config, "allow_origin_string_match")?,
        allow_methods: config.text("allow_methods")?.to_owned(),
        allow_headers: config.text("allow_headers")?.to_owned(),
        expose_headers: config.text("expose_headers")?.to_owned(),
        max_age: config.text("max_age")?.to_owned(),
        allow_credentials: config.flag("allow_credentials", false)?,
        allow_private_network: config.flag("allow_private_network_access", false)?,
        forward_not_matching_preflights: config.flag("forward_not_matching_preflights", true)?,
        enabled: runtime_fraction(config, "filter_enabled")?,
    })
}

fn local_rate_limit(config: Message<'_>) -> Read<LocalRateLimit> {
    if !config.list("descriptors")?.is_empty() {
        return Err(Refusal::unsupported("descriptors of a local rate limit"));
    }
    let status = config.part("status")?.number::<u16>("code")?;
    Ok(LocalRateLimit {
        bucket: config.message("token_bucket")?.map(token_bucket).transpose()?,
        // `LocalRateLimit::FilterConfig`: a status below 400 is not taken.
        status: status.filter(|status| *status >= 400).unwrap_or(429),
        enabled: runtime_fraction(config, "filter_enabled")?,
        enforced: runtime_fraction(config, "filter_enforced")?,
        response_headers: header_mutations(config, "response_headers_to_add")?,
        per_connection: config.flag("local_rate_limit_per_downstream_connection", false)?,
    })
}

/// `typed_per_filter_config`.
pub(super) fn per_filter(message: Message<'_>) -> Read<PerFilterConfig> {
    let mut settings = PerFilterConfig::new();
    for (name, value) in message.entries("typed_per_filter_config")? {
        let (mut url, mut config) = Message::of(value, name)?.unpacked()?;
        if url == "envoy.config.route.v3.FilterConfig" {
            if config.flag("disabled", false)? {
                settings.insert(name.to_owned(), PerFilter::Disabled);
                continue;
            }
            let optional = config.flag("is_optional", false)?;
            match config.any("config")? {
                Some(inner) => (url, config) = inner,
                None => continue,
            }
            if optional && url.strip_prefix(EXTENSIONS).is_none() {
                continue;
            }
        }
        if let Some(found) = per_filter_config(name, url, config)? {
            settings.insert(name.to_owned(), found);
        }
    }
    Ok(settings)
}

fn per_filter_config(name: &str, url: &str, config: Message<'_>) -> Read<Option<PerFilter>> {
    if IGNORED_NAMES.contains(&name) {
        return Ok(Some(PerFilter::Ignored));
    }
    let Some(kind) = url.strip_prefix(EXTENSIONS) else { return Err(unknown_extension(name, url)) };
    Ok(Some(match kind {
        "fault.v3.HTTPFault" => PerFilter::Fault(Box::new(fault(config)?)),
        "cors.v3.CorsPolicy" => PerFilter::Cors(Box::new(cors(config)?)),
        "rbac.v3.RBACPerRoute" => PerFilter::Rbac(config.message("rbac")?.map(|inner| Ok(Box::new(http_rbac(inner)?))).transpose()?),
        "jwt_authn.v3.PerRouteConfig" => PerFilter::Jwt(match config.some_text("requirement_name")? {
            Some(requirement) => PerRouteJwt::Requirement(requirement.to_owned()),
            None => PerRouteJwt::Disabled,
        }),
        "local_ratelimit.v3.LocalRateLimit" => PerFilter::LocalRateLimit(Box::new(local_rate_limit(config)?)),
        "buffer.v3.BufferPerRoute" => PerFilter::Buffer(config.part("buffer")?.number("max_request_bytes")?),
        "compressor.v3.CompressorPerRoute" => PerFilter::Ignored,
        _ => return Err(Refusal::unsupported(format!("settings of HTTP filter {name} for a route"))),
    }))
}
