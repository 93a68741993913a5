//! The HTTP connection manager of a gateway's chain (`buildGatewayConnectionManager`, `buildHTTPConnectionManager`).

use serde_json::{Map, Value, json};

use super::Inputs;
use crate::istio::model::object;
use crate::istio::policy::{ListenerClass, access_log, custom_http_filters, http_filters, jwt_filter};
use crate::istio::route::ProtoDuration;

/// The filter of a chain whose routes have this name.
pub(super) fn filter(inputs: &Inputs<'_>, route: &str, stat_prefix: &str, grpc_web: bool, log: &mut Vec<String>) -> Value {
    let mesh = &inputs.context.mesh;
    let mut out = Map::new();
    let mut put = |field: &str, value: Value| drop(out.insert(field.to_owned(), value));
    put("@type", json!("type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"));
    put("stat_prefix", json!(stat_prefix));
    put(
        "rds",
        json!({
            "config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "route_config_name": route,
        }),
    );
    put("http_filters", http_filter_list(inputs, grpc_web, log));
    if mesh.raw.get("enableTracing").and_then(Value::as_bool) != Some(false) {
        put("tracing", super::tracing::tracing(inputs.context, inputs.node));
    }
    let old_versions = inputs.meta("HTTP10") == Some("1");
    put("http_protocol_options", if old_versions { json!({"accept_http_10": true}) } else { json!({}) });
    put("server_name", json!("istio-envoy"));
    let logs = access_log(inputs.context, inputs.node, ListenerClass::Gateway);
    if !logs.is_empty() {
        put("access_log", Value::Array(logs));
    }
    put("use_remote_address", json!(true));
    if let Some(hops) = inputs.topology("numTrustedProxies").and_then(|hops| hops.as_u64()).filter(|hops| *hops > 0) {
        put("xff_num_trusted_hops", json!(hops));
    }
    let details = inputs.topology("forwardClientCertDetails");
    let details = match details.as_ref().and_then(Value::as_str) {
        Some(said) if !said.is_empty() && said != "UNDEFINED" => said,
        _ => "SANITIZE_SET",
    };
    // `SANITIZE` is the first value of the enumeration and is not printed.
    if details != "SANITIZE" {
        put("forward_client_cert_details", json!(details));
    }
    if matches!(details, "APPEND_FORWARD" | "SANITIZE_SET") {
        put("set_current_client_cert_details", json!({"subject": true, "cert": true, "dns": true, "uri": true}));
    }
    put("proxy_100_continue", json!(true));
    put("upgrade_configs", json!([{"upgrade_type": "websocket"}]));
    if let Some(timeout) = annotated_idle_timeout(inputs) {
        put("common_http_protocol_options", json!({"idle_timeout": timeout.json()}));
    }
    put("stream_idle_timeout", json!("0s"));
    let normalization = object::text(&mesh.raw, "/pathNormalization/normalization");
    put("normalize_path", json!(normalization != "NONE"));
    if matches!(normalization, "MERGE_SLASHES" | "DECODE_AND_MERGE_SLASHES") {
        put("merge_slashes", json!(true));
    }
    let escaped = if normalization == "DECODE_AND_MERGE_SLASHES" { "UNESCAPE_AND_FORWARD" } else { "KEEP_UNCHANGED" };
    put("path_with_escaped_slashes_action", json!(escaped));
    put(
        "request_id_extension",
        json!({"typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
            "use_request_id_for_trace_sampling": true,
        }}),
    );
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": out})
}

/// `ISTIO_META_IDLE_TIMEOUT` of the proxy, Go's way of writing a duration.
fn annotated_idle_timeout(inputs: &Inputs<'_>) -> Option<ProtoDuration> {
    inputs.meta("IDLE_TIMEOUT").and_then(ProtoDuration::parse)
}

/// In the order in which istiod puts them: external servers, tokens, policies, then what every chain has.
fn http_filter_list(inputs: &Inputs<'_>, grpc_web: bool, log: &mut Vec<String>) -> Value {
    let plain = |name: &str, config: &str| json!({"name": format!("envoy.filters.http.{name}"), "typed_config": {"@type": format!("type.googleapis.com/envoy.extensions.filters.http.{config}")}});
    let mut filters = custom_http_filters(inputs.context, inputs.node, log);
    filters.extend(jwt_filter(inputs.context, inputs.node, inputs.fetch_keys));
    filters.extend(http_filters(inputs.context, inputs.node, log));
    if grpc_web {
        filters.push(plain("grpc_web", "grpc_web.v3.GrpcWeb"));
    }
    filters.push(json!({
        "name": "envoy.filters.http.grpc_stats",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
            "emit_filter_state": true,
            "stats_for_all_methods": false,
        },
    }));
    filters.push(plain("fault", "fault.v3.HTTPFault"));
    filters.push(plain("cors", "cors.v3.Cors"));
    filters.push(plain("router", "router.v3.Router"));
    Value::Array(filters)
}
