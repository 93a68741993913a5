//! The HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use super::access_log::AccessLog;
use super::http_filter::HttpFilter;
use super::route::RouteTable;

/// `HttpConnectionManager.CodecType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodecType {
    /// By ALPN, else by the first bytes.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where routes come from.
#[derive(Debug, Clone)]
pub enum RouteSource {
    /// In the listener.
    Inline(Arc<RouteTable>),
    /// By name: [`crate::ProxyResources::routes`]. A listener waits for it; without it a request is answered with 404, flag NR
    /// and [`super::details::ROUTE_CONFIGURATION_NOT_FOUND`].
    Rds(String),
}

/// `ForwardClientCertDetails`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardClientCert {
    /// Drop `x-forwarded-client-cert`.
    #[default]
    Sanitize,
    /// Keep it if the client's certificate was checked.
    ForwardOnly,
    /// Add to it if the client's certificate was checked.
    AppendForward,
    /// Replace it if the client's certificate was checked, else drop it.
    SanitizeSet,
    /// Keep it in any case.
    AlwaysForwardOnly,
}

/// `SetCurrentClientCertDetails`: what goes into `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    /// `Subject`.
    pub subject: bool,
    /// `Cert`.
    pub cert: bool,
    /// `Chain`.
    pub chain: bool,
    /// `DNS`.
    pub dns: bool,
    /// `URI`.
    pub uri: bool,
}

/// `PathWithEscapedSlashesAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// As it is.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// 307 to the unescaped path.
    UnescapeAndRedirect,
    /// Unescaped for routing and for the upstream.
    UnescapeAndForward,
}

/// `ServerHeaderTransformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerHeader {
    /// `server` is the proxy's name.
    #[default]
    Overwrite,
    /// Set only where the upstream sent none.
    AppendIfAbsent,
    /// The upstream's, or none.
    PassThrough,
}

/// `Http1ProtocolOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http1Options {
    /// HTTP/1.0 is answered rather than refused with 426.
    pub accept_http_10: bool,
    /// The host of an HTTP/1.0 request without one.
    pub default_host_for_http_10: String,
    /// The case of header names is kept.
    pub preserve_case: bool,
    /// Header names are written `Like-This`.
    pub proper_case: bool,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Debug, Clone)]
pub struct HttpConnectionManager {
    /// The prefix of its statistics.
    pub stat_prefix: String,
    /// Which protocol.
    pub codec: CodecType,
    /// The routes.
    pub routes: RouteSource,
    /// The filters in order; the last is the router.
    pub http_filters: Vec<HttpFilter>,
    /// Written for each request.
    pub access_log: Vec<AccessLog>,
    /// The peer's address is the client's; `x-forwarded-for` gets it appended.
    pub use_remote_address: bool,
    /// Trusted proxies in front.
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`.
    pub skip_xff_append: bool,
    /// What `server` says; default `envoy`.
    pub server_name: String,
    /// When.
    pub server_header: ServerHeader,
    /// What happens with `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCert,
    /// What is written into it.
    pub client_cert_details: ClientCertDetails,
    /// RFC 3986 normalisation.
    pub normalize_path: bool,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// What happens with `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
    /// The port of the listener is taken off `host`.
    pub strip_matching_host_port: bool,
    /// Any port is.
    pub strip_any_host_port: bool,
    /// A dot at the end of `host` is.
    pub strip_trailing_host_dot: bool,
    /// HTTP/1.
    pub http1: Http1Options,
    /// Upgrades that are let through, in lower case: `websocket`, `connect`.
    pub upgrades: Vec<String>,
    /// `generate_request_id`; default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`.
    pub always_set_request_id_in_response: bool,
    /// `100-continue` is sent on.
    pub proxy_100_continue: bool,
    /// A stream without bytes for so long is answered with 408 or reset; none: never. Default 5 min.
    pub stream_idle_timeout: Option<Duration>,
    /// A whole request must arrive within; none: no bound.
    pub request_timeout: Option<Duration>,
    /// Its headers must arrive within.
    pub request_headers_timeout: Option<Duration>,
    /// A connection without streams is closed after; none: never. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// A connection is drained after.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// `max_requests_per_connection`.
    pub max_requests_per_connection: Option<u32>,
    /// Limit of a request's headers; default 60 KiB.
    pub max_request_headers_kb: u32,
    /// `via`.
    pub via: String,
}
