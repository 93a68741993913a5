//! The HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use super::json::{Message, Read, constraint};
use super::{access_log, http_filter, route};
use crate::envoy::hcm::{
    ClientCertDetails, CodecType, EscapedSlashes, ForwardClientCert, Http1Options, HttpConnectionManager, RouteSource, ServerHeader,
};
use crate::envoy::refusal::Refusal;

pub(super) fn manager(config: Message<'_>) -> Read<HttpConnectionManager> {
    if config.text("stat_prefix")?.is_empty() {
        return Err(constraint("HttpConnectionManager.StatPrefix: value length must be at least 1 characters"));
    }
    for field in ["scoped_routes", "local_reply_config", "original_ip_detection_extensions", "early_header_mutation_extensions"] {
        let used = match config.get(field) {
            Some(serde_json::Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
            None => false,
        };
        if used {
            return Err(Refusal::unsupported(format!("{field} of an HTTP connection manager")));
        }
    }
    let routes = if let Some(rds) = config.message("rds")? {
        RouteSource::Rds(rds.text("route_config_name")?.to_owned())
    } else if let Some(table) = config.message("route_config")? {
        RouteSource::Inline(Arc::new(route::table(table)?))
    } else {
        return Err(constraint("HttpConnectionManager.RouteSpecifier: is required"));
    };
    let details = config.part("set_current_client_cert_details")?;
    let common = config.part("common_http_protocol_options")?;
    let http1 = config.part("http_protocol_options")?;
    let flag = |field| config.flag(field, false);
    Ok(HttpConnectionManager {
        stat_prefix: config.text("stat_prefix")?.to_owned(),
        codec: match config.text("codec_type")? {
            "" | "AUTO" => CodecType::Auto,
            "HTTP1" => CodecType::Http1,
            "HTTP2" => CodecType::Http2,
            other => return Err(Refusal::unsupported(format!("codec {other}"))),
        },
        routes,
        http_filters: http_filter::filters(config)?,
        access_log: access_log::logs(config)?,
        use_remote_address: flag("use_remote_address")?,
        xff_num_trusted_hops: config.number("xff_num_trusted_hops")?.unwrap_or_default(),
        skip_xff_append: flag("skip_xff_append")?,
        server_name: config.some_text("server_name")?.filter(|name| !name.is_empty()).unwrap_or("envoy").to_owned(),
        server_header: match config.text("server_header_transformation")? {
            "APPEND_IF_ABSENT" => ServerHeader::AppendIfAbsent,
            "PASS_THROUGH" => ServerHeader::PassThrough,
            _ => ServerHeader::Overwrite,
        },
        forward_client_cert: match config.text("forward_client_cert_details")? {
            "" | "SANITIZE" => ForwardClientCert::Sanitize,
            "FORWARD_ONLY" => ForwardClientCert::ForwardOnly,
            "APPEND_FORWARD" => ForwardClientCert::AppendForward,
            "SANITIZE_SET" => ForwardClientCert::SanitizeSet,
            "ALWAYS_FORWARD_ONLY" => ForwardClientCert::AlwaysForwardOnly,
            other => return Err(Refusal::rejected(format!("INVALID_ARGUMENT: forward_client_cert_details: {other}"))),
        },
        client_cert_details: ClientCertDetails {
            subject: details.flag("subject", false)?,
            cert: details.flag("cert", false)?,
            chain: details.flag("chain", false)?,
            dns: details.flag("dns", false)?,
            uri: details.flag("uri", false)?,
        },
        normalize_path: flag("normalize_path")?,
        merge_slashes: flag("merge_slashes")?,
        escaped_slashes: match config.text("path_with_escaped_slashes_action")? {
            "REJECT_REQUEST" => EscapedSlashes::Reject,
            "UNESCAPE_AND_REDIRECT" => EscapedSlashes::UnescapeAndRedirect,
            "UNESCAPE_AND_FORWARD" => EscapedSlashes::UnescapeAndForward,
            _ => EscapedSlashes::Keep,
        },
        strip_matching_host_port: flag("strip_matching_host_port")?,
        strip_any_host_port: flag("strip_any_host_port")?,
        strip_trailing_host_dot: flag("strip_trailing_host_dot")?,
        http1: http1_options(http1)?,
        upgrades: config
            .messages("upgrade_configs")?
            .into_iter()
            .filter_map(|upgrade| match upgrade.flag("enabled", true) {
                Ok(true) => Some(upgrade.text("upgrade_type").map(str::to_ascii_lowercase)),
                Ok(false) => None,
                Err(refusal) => Some(Err(refusal)),
            })
            .collect::<Read<_>>()?,
        generate_request_id: config.flag("generate_request_id", true)?,
        preserve_external_request_id: flag("preserve_external_request_id")?,
        always_set_request_id_in_response: flag("always_set_request_id_in_response")?,
        proxy_100_continue: flag("proxy_100_continue")?,
        stream_idle_timeout: config.bound("stream_idle_timeout", Some(Duration::from_secs(300)))?,
        request_timeout: config.bound("request_timeout", None)?,
        request_headers_timeout: config.bound("request_headers_timeout", None)?,
        idle_timeout: common.bound("idle_timeout", Some(Duration::from_secs(3600)))?,
        max_connection_duration: common.bound("max_connection_duration", None)?,
        max_stream_duration: common.bound("max_stream_duration", None)?,
        max_requests_per_connection: common.number("max_requests_per_connection")?,
        max_request_headers_kb: config.number("max_request_headers_kb")?.unwrap_or(60),
        via: config.text("via")?.to_owned(),
    })
}

/// `Http1ProtocolOptions`; of `header_key_format` the two that Envoy has.
fn http1_options(options: Message<'_>) -> Read<Http1Options> {
    let format = options.part("header_key_format")?;
    Ok(Http1Options {
        accept_http_10: options.flag("accept_http_10", false)?,
        default_host_for_http_10: options.text("default_host_for_http_10")?.to_owned(),
        preserve_case: preserves_case(options)?,
        proper_case: format.has("proper_case_words"),
    })
}

/// The stateful formatter `preserve_case`.
pub(super) fn preserves_case(options: Message<'_>) -> Read<bool> {
    Ok(options.part("header_key_format")?.part("stateful_formatter")?.text("name")?.contains("preserve_case"))
}
