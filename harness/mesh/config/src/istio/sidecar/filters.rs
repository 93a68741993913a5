//! Filters that a sidecar's listeners share.

use serde_json::{Map, Value, json};

use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::clusters;
use crate::istio::gateway::tracing::tracing;
use crate::istio::mesh_config::OutboundPolicy;
use crate::istio::policy::{ListenerClass, access_log};

/// The type of a listener.
pub(super) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// What Envoy's HTTP inspector finds in plaintext.
pub(super) const PLAINTEXT_HTTP: [&str; 2] = ["http/1.1", "h2c"];

/// What an HTTP connection manager of a sidecar says in which class.
pub(super) struct Http<'a> {
    pub(super) class: ListenerClass,
    pub(super) stat_prefix: String,
    /// `rds` or `route_config` with its value.
    pub(super) routes: (&'static str, Value),
    /// Filters before Istio's own: tokens and who may call.
    pub(super) policies: &'a [Value],
    /// Whether the port speaks HTTP/2 alone.
    pub(super) is_http2: bool,
    /// What becomes of calls to unknown hosts; of no account on the inbound side.
    pub(super) outbound: OutboundPolicy,
}

/// An HTTP connection manager (Istio: `buildHTTPConnectionManager`).
pub(super) fn http(context: &PushContext, node: &ProxyNode, http: Http<'_>) -> Value {
    let mut fields = Map::new();
    let logs = access_log(context, node, http.class);
    if !logs.is_empty() {
        fields.insert("access_log".to_owned(), Value::Array(logs));
    }
    let mut filters = http.policies.to_vec();
    let [stats, fault, cors, router] = own_http_filters();
    filters.extend([stats, fault, cors]);
    if http.class == ListenerClass::SidecarOutbound && http.outbound == OutboundPolicy::AllowAnyDynamicDns {
        filters.push(json!({"name": "envoy.filters.http.dynamic_forward_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
            "dns_cache_config": clusters::dns_cache(node),
        }}));
    }
    filters.push(router);
    for (field, value) in [
        ("@type", json!("type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")),
        ("http_filters", Value::Array(filters)),
        ("normalize_path", json!(true)),
        ("path_with_escaped_slashes_action", json!("KEEP_UNCHANGED")),
        ("proxy_100_continue", json!(true)),
        (http.routes.0, http.routes.1),
        (
            "request_id_extension",
            json!({"typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "use_request_id_for_trace_sampling": true,
            }}),
        ),
        ("stat_prefix", json!(http.stat_prefix)),
        ("stream_idle_timeout", json!("0s")),
        ("tracing", tracing(context, node)),
        ("upgrade_configs", json!([{"upgrade_type": "websocket"}])),
        ("use_remote_address", json!(false)),
    ] {
        fields.insert(field.to_owned(), value);
    }
    if http.class == ListenerClass::SidecarInbound {
        fields.insert("forward_client_cert_details".to_owned(), json!("APPEND_FORWARD"));
        fields.insert("server_name".to_owned(), json!("istio-envoy"));
        fields.insert("set_current_client_cert_details".to_owned(), json!({"dns": true, "subject": true, "uri": true}));
        if http.is_http2 {
            fields.insert("http2_protocol_options".to_owned(), json!({}));
        }
    }
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": fields})
}

fn own_http_filters() -> [Value; 4] {
    let filter = |name: &str, kind: &str| {
        json!({"name": format!("envoy.filters.http.{name}"), "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{name}.v3.{kind}"),
        }})
    };
    [
        json!({"name": "envoy.filters.http.grpc_stats", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
            "emit_filter_state": true,
            "stats_for_all_methods": false,
        }}),
        filter("fault", "HTTPFault"),
        filter("cors", "Cors"),
        filter("router", "Router"),
    ]
}

/// A TCP proxy to a cluster of the proxy's own, with the log of its class if it has one.
pub(super) fn tcp(context: &PushContext, node: &ProxyNode, cluster: &str, class: Option<ListenerClass>) -> Value {
    let mut fields = Map::new();
    fields.insert("@type".to_owned(), json!("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"));
    fields.insert("cluster".to_owned(), json!(cluster));
    fields.insert("stat_prefix".to_owned(), json!(cluster));
    let logs = class.map(|class| access_log(context, node, class)).unwrap_or_default();
    if !logs.is_empty() {
        fields.insert("access_log".to_owned(), Value::Array(logs));
    }
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": fields})
}

/// Where outbound connections go that nothing else takes.
pub(super) fn everything_else(context: &PushContext, node: &ProxyNode, outbound: OutboundPolicy) -> Value {
    let cluster = match outbound {
        OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns => "PassthroughCluster",
        OutboundPolicy::RegistryOnly => "BlackHoleCluster",
    };
    tcp(context, node, cluster, Some(ListenerClass::SidecarOutbound))
}

/// Reads the SNI and ALPN of a connection, and whether it begins with TLS.
pub(super) fn tls_inspector() -> Value {
    json!({"name": "envoy.filters.listener.tls_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        "initial_read_buffer_size": 512,
    }})
}

/// Finds out whether plaintext is HTTP.
pub(super) fn http_inspector() -> Value {
    json!({"name": "envoy.filters.listener.http_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    }})
}
