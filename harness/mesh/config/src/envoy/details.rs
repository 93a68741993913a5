//! Envoy's words for what became of a call: `envoy/stream_info/stream_info.h`, and for reasons of resets
//! `Http::Utility::resetReasonToString`.

/// Answered by the upstream.
pub const VIA_UPSTREAM: &str = "via_upstream";
/// No virtual host or no route.
pub const ROUTE_NOT_FOUND: &str = "route_not_found";
/// Answered by a route: direct response or redirect.
pub const DIRECT_RESPONSE: &str = "direct_response";
/// The cluster does not exist.
pub const CLUSTER_NOT_FOUND: &str = "cluster_not_found";
/// The host of the request did not resolve; Envoy adds in braces what its resolver said.
pub const DNS_RESOLUTION_FAILURE: &str = "dns_resolution_failure";
/// The cluster has no usable endpoint.
pub const NO_HEALTHY_UPSTREAM: &str = "no_healthy_upstream";
/// The route's timeout.
pub const RESPONSE_TIMEOUT: &str = "response_timeout";
/// The timeout of one attempt.
pub const UPSTREAM_PER_TRY_TIMEOUT: &str = "upstream_per_try_timeout";
/// The connection manager's `request_timeout`.
pub const REQUEST_OVERALL_TIMEOUT: &str = "request_overall_timeout";
/// Nothing was sent for too long.
pub const STREAM_IDLE_TIMEOUT: &str = "stream_idle_timeout";
/// The client went away.
pub const DOWNSTREAM_REMOTE_DISCONNECT: &str = "downstream_remote_disconnect";
/// The routes that the listener asks for are not there.
pub const ROUTE_CONFIGURATION_NOT_FOUND: &str = "route_configuration_not_found";
/// The request's headers took too long.
pub const REQUEST_HEADER_TIMEOUT: &str = "request_header_timeout";
/// The connection lasted too long.
pub const DURATION_TIMEOUT: &str = "duration_timeout";
/// The stream to the upstream lasted too long.
pub const UPSTREAM_MAX_STREAM_DURATION: &str = "upstream_max_stream_duration_reached";
/// One attempt was idle for too long.
pub const UPSTREAM_PER_TRY_IDLE_TIMEOUT: &str = "upstream_per_try_idle_timeout";
/// Dropped by the endpoints' drop policy.
pub const DROP_OVERLOAD: &str = "drop_overload";
/// A whole URL where a path should be.
pub const ABSOLUTE_PATH: &str = "absolute_path_rejected";
/// A response too large for a buffer.
pub const RESPONSE_PAYLOAD_TOO_LARGE: &str = "response_payload_too_large";
/// The request was too large to be kept for a retry.
pub const RETRY_BUFFER_LIMIT: &str = "request_payload_exceeded_retry_buffer_limit";
/// An idle TCP connection: a connection's details.
pub const TCP_SESSION_IDLE_TIMEOUT: &str = "tcp_session_idle_timeout";
/// A TLS handshake that took too long: a connection's details.
pub const TRANSPORT_SOCKET_TIMEOUT: &str = "transport_socket_timeout";
/// The reason within `upstream_reset_...{...}` for a circuit breaker.
pub const RESET_OVERFLOW: &str = "overflow";
/// The same for a connection that the other side refused.
pub const RESET_REMOTE_CONNECTION_FAILURE: &str = "remote_connection_failure";
/// The same for a connection that this side gave up.
pub const RESET_LOCAL_CONNECTION_FAILURE: &str = "local_connection_failure";
/// The same for a connection that took too long.
pub const RESET_CONNECTION_TIMEOUT: &str = "connection_timeout";
/// The same for a connection that was closed in the middle.
pub const RESET_CONNECTION_TERMINATION: &str = "connection_termination";
/// The same for a stream that the other side reset.
pub const RESET_REMOTE: &str = "remote_reset";
/// The same for a stream that the other side did not take.
pub const RESET_REMOTE_REFUSED_STREAM: &str = "remote_refused_stream_reset";
/// The same for HTTP that was wrong.
pub const RESET_PROTOCOL_ERROR: &str = "protocol_error";

/// This side ended the connection, for a reason.
pub fn downstream_local_disconnect(reason: &str) -> String {
    format!("downstream_local_disconnect({reason})")
}
/// HTTP/1.1 without a host.
pub const MISSING_HOST: &str = "missing_host_header";
/// No path.
pub const MISSING_PATH: &str = "missing_path_rejected";
/// The path cannot be normalised.
pub const PATH_NORMALIZATION_FAILED: &str = "path_normalization_failed";
/// HTTP/1.0 or less, which is not wanted.
pub const LOW_VERSION: &str = "low_version";
/// An upgrade that is not let through.
pub const UPGRADE_FAILED: &str = "upgrade_failed";
/// A body too large for a buffer.
pub const REQUEST_PAYLOAD_TOO_LARGE: &str = "request_payload_too_large";
/// A fault.
pub const FAULT_ABORT: &str = "fault_filter_abort";
/// A rate limit.
pub const LOCAL_RATE_LIMITED: &str = "local_rate_limited";
/// A preflight that CORS answered.
pub const CORS_PREFLIGHT: &str = "cors_response";
/// The stream lasted too long.
pub const MAX_DURATION_TIMEOUT: &str = "max_duration_timeout";
/// No filter chain took the connection; a connection's details.
pub const FILTER_CHAIN_NOT_FOUND: &str = "filter_chain_not_found";

/// `rbac_access_denied_matched_policy[NAME]`, with blanks replaced as Envoy does; `none` where no policy matched.
pub fn rbac_denied(policy: Option<&str>) -> String {
    format!("rbac_access_denied_matched_policy[{}]", policy.unwrap_or("none").replace(char::is_whitespace, "_"))
}

/// `upstream_reset_before_response_started{REASON}` or, with `|`, what the transport says.
pub fn upstream_reset(before: bool, reason: &str, transport: &str) -> String {
    let when = if before { "before" } else { "after" };
    let transport = if transport.is_empty() { String::new() } else { format!("|{transport}") };
    format!("upstream_reset_{when}_response_started{{{reason}{transport}}}").replace(' ', "_")
}

/// `jwt_authn_access_denied{WORDS}`.
pub fn jwt_denied(words: &str) -> String {
    format!("jwt_authn_access_denied{{{}}}", words.replace(' ', "_"))
}
