//! What Envoy's abbreviations mean, in words for people who operate gateways.
//!
//! Sources: Envoy docs, "Access log usage" / "Substitution formatter" (`%RESPONSE_FLAGS%`,
//! docs/root/configuration/advanced/substitution_formatter.rst) and "Response code details"
//! (docs/root/configuration/http/http_conn_man/response_code_details.rst); names of the `rbac_` details from Envoy's
//! RBAC filters. The words are ours.

/// Every flag of the table in Envoy's docs, and of `ResponseFlagUtils` in source/common/stream_info/utility.h.
const FLAGS: &[(&str, &str)] = &[
    ("UH", "no healthy endpoint in the upstream cluster: it has none, or its name does not resolve (yet)"),
    ("UF", "the connection to the upstream failed: refused, timed out, or its TLS handshake failed"),
    ("UO", "a circuit breaker of the upstream cluster overflowed"),
    ("NR", "no route for the request, or no filter chain for the connection (server name, port)"),
    ("URX", "gave up after the allowed number of retries or connection attempts"),
    ("NC", "the route names a cluster that the proxy does not have (host, port or subset unknown to it)"),
    ("DT", "the connection or request lasted longer than allowed"),
    ("DC", "the caller closed the connection first"),
    ("LH", "the local service failed its health check"),
    ("UT", "the upstream did not answer in time"),
    ("LR", "this proxy reset the connection"),
    ("UR", "the upstream reset the connection"),
    ("UC", "the upstream closed the connection before the answer was complete"),
    ("DI", "a fault rule delayed the request"),
    ("FI", "a fault rule aborted the request"),
    ("RL", "refused by a local rate limit"),
    ("UAEX", "denied by the external authorization service"),
    ("RLSE", "refused since the rate limit service failed"),
    ("IH", "refused for an invalid value in an x-envoy header"),
    ("SI", "the stream was idle for too long"),
    ("DPE", "the caller's request was no valid HTTP"),
    ("UPE", "the upstream's response was no valid HTTP"),
    ("UMSDR", "the upstream request lasted longer than allowed"),
    ("RFCF", "answered from a cache filter"),
    ("NFCF", "refused since a filter's configuration did not arrive in time"),
    ("OM", "refused by the overload manager"),
    ("DF", "a name could not be resolved"),
    ("DO", "dropped, as the control plane asked under overload"),
    ("DR", "the caller reset the stream"),
    ("UDO", "everything is dropped, as the control plane asked under overload"),
];

/// Each known flag of `%RESPONSE_FLAGS%` (`UF,URX`; `-` for none) with what it means. Unknown ones are left out.
#[must_use]
pub fn explain_flags(flags: &str) -> Vec<(&'static str, &'static str)> {
    flags.split(',').filter_map(|flag| FLAGS.iter().find(|(name, _)| *name == flag.trim())).copied().collect()
}

/// Details by their beginning; the first that fits counts. Braces and brackets hold particulars.
const DETAILS: &[(&str, &str)] = &[
    ("via_upstream", "the upstream answered; the status is its own"),
    ("direct_response", "this proxy answered itself (a redirect, a direct response)"),
    ("route_not_found", "no virtual host for the Host header, or no route for the path"),
    ("absolute_path_rejected", "a whole URL stood where a path should"),
    ("missing_path_rejected", "the request had no path"),
    ("route_configuration_not_found", "the proxy has no route table for this listener yet"),
    ("filter_chain_not_found", "no filter chain for the connection: the server name or port matches no server of a Gateway"),
    ("cluster_not_found", "the route's cluster is not in this proxy (host, port or subset unknown to it)"),
    ("no_healthy_upstream", "the upstream cluster has no healthy endpoint"),
    ("rbac_access_denied_matched_policy[none]", "an AuthorizationPolicy refused: none that allows matched"),
    ("rbac_access_denied", "an AuthorizationPolicy refused: the policy in brackets matched"),
    ("ext_authz_denied", "the external authorization service refused"),
    ("ext_authz_error", "the external authorization service failed"),
    ("jwt_authn_access_denied", "a RequestAuthentication refused the token"),
    ("fault_filter_abort", "a fault rule aborted the request"),
    ("upstream_reset_before_response_started", "the upstream connection broke before a response (the reason stands in braces)"),
    ("upstream_reset_after_response_started", "the upstream connection broke during the response (the reason stands in braces)"),
    ("upstream_response_timeout", "the upstream did not answer in time"),
    ("response_timeout", "the upstream did not answer in time"),
    ("upstream_per_try_timeout", "the last try did not answer in time"),
    ("upstream_max_stream_duration_reached", "the upstream request lasted longer than allowed"),
    ("request_overall_timeout", "the whole request took longer than allowed"),
    ("max_duration_timeout", "the stream lasted longer than allowed"),
    ("duration_timeout", "the connection lasted longer than allowed"),
    ("stream_idle_timeout", "the stream was idle for too long"),
    ("upstream_per_try_idle_timeout", "the last try was idle for too long"),
    ("request_header_timeout", "the request's headers took too long"),
    ("tcp_session_idle_timeout", "the connection was idle for too long"),
    ("transport_socket_timeout", "the TLS handshake took too long"),
    ("drop_overload", "dropped, as the control plane asked under overload"),
    ("maintenance_mode", "the upstream cluster is in maintenance mode"),
    ("request_payload_exceeded_retry_buffer_limit", "the request was too large to be kept for a retry"),
    ("internal_redirect", "an internal redirect was followed"),
    ("downstream_remote_disconnect", "the caller closed the connection first"),
    ("downstream_local_disconnect", "this proxy closed the caller's connection"),
    ("local_rate_limited", "refused by a local rate limit"),
    ("request_rate_limited", "refused by the rate limit service"),
    ("overload", "refused by the overload manager"),
    ("missing_host_header", "the request had no Host"),
    ("low_version", "HTTP/1.0 is not accepted"),
    ("upgrade_failed", "the upgrade (such as WebSocket) is not accepted here"),
    ("path_normalization_failed", "the path is not valid"),
    ("request_payload_too_large", "the request body is larger than allowed"),
    ("response_payload_too_large", "the response body is larger than allowed"),
    ("http1.", "the request or response was no valid HTTP/1"),
    ("http2.", "the request or response was no valid HTTP/2"),
];

/// What `%RESPONSE_CODE_DETAILS%` (or a connection's termination details) means; None when it is not known.
#[must_use]
pub fn explain_details(details: &str) -> Option<&'static str> {
    let starts = |prefix: &str| {
        details.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('.') || !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    DETAILS.iter().find(|(prefix, _)| starts(prefix)).map(|(_, words)| *words)
}

/// Why Envoy's stream to the upstream was reset, by the reason that details have in braces:
/// `upstream_reset_before_response_started{connection_termination}`. Source: `Http::Utility::resetReasonToString`.
const RESETS: &[(&str, &str)] = &[
    ("remote_connection_failure", "the upstream did not take the connection: refused, or its handshake failed"),
    ("local_connection_failure", "this proxy gave the connection up"),
    ("connection_failure", "the connection could not be made"),
    ("connection_timeout", "connecting took too long: nobody has that address, or packets are dropped"),
    ("connection_termination", "the upstream closed the connection: often plain text to a port that wants TLS, or the reverse"),
    ("remote_refused_stream_reset", "the upstream refused the stream"),
    ("remote_reset", "the upstream reset the stream"),
    ("local_refused_stream_reset", "this proxy refused the stream"),
    ("local_reset", "this proxy reset the stream"),
    ("overflow", "a limit of the DestinationRule's connectionPool was reached"),
    ("protocol_error", "what came was not the protocol that the port is for"),
    ("connect_error", "the CONNECT was refused"),
    ("overload_manager_reset", "the overload manager ended it"),
    ("http3_upstream_connect_error", "the HTTP/3 connection failed"),
];

/// What the reason in the braces of details means; None without one that is known.
#[must_use]
pub fn explain_reset(details: &str) -> Option<&'static str> {
    let (_, inside) = details.split_once('{')?;
    let reason = inside.trim_end_matches('}').split('|').next().unwrap_or_default();
    RESETS.iter().find(|(name, _)| *name == reason).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_split_and_explained() {
        let names = |flags| explain_flags(flags).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("UF,URX"), ["UF", "URX"]);
        assert_eq!(names("NR"), ["NR"]);
        assert!(names("-").is_empty() && names("").is_empty() && names("XX").is_empty());
    }

    /// The short strings of `ResponseFlagUtils` and those that Envoy's docs list beside them.
    const ENVOYS: &str = "DC LH UH UT LR UR UF UC UO URX NR DI FI RL UAEX RLSE SI IH DPE UMSDR RFCF NFCF DT UPE NC OM DF DO DR UDO";

    #[test]
    fn every_flag_of_envoy_is_explained() {
        let missing: Vec<&str> = ENVOYS.split(' ').filter(|flag| explain_flags(flag).is_empty()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(FLAGS.len(), ENVOYS.split(' ').count());
    }

    #[test]
    fn the_reason_of_a_reset_is_read_from_its_braces() {
        let refused =
            explain_reset("upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}");
        assert!(refused.is_some_and(|w| w.contains("refused")));
        assert!(explain_reset("upstream_reset_before_response_started{connection_termination}").is_some());
        assert_eq!(explain_reset("via_upstream"), None);
        assert_eq!(explain_reset("x{unheard_of}"), None);
    }

    #[test]
    fn no_flag_is_listed_twice() {
        let mut names: Vec<_> = FLAGS.iter().map(|f| f.0).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn details_are_found_with_their_particulars() {
        for (details, word) in [
            ("filter_chain_not_found", "filter chain"),
            ("rbac_access_denied_matched_policy[none]", "none that allows"),
            ("rbac_access_denied_matched_policy[ns[mesh-test]-policy[httpbin]-rule[0]]", "in brackets"),
            ("upstream_reset_before_response_started{connection_failure|TLS_error}", "before a response"),
            ("http2.too_many_headers", "HTTP/2"),
        ] {
            assert!(explain_details(details).is_some_and(|w| w.contains(word)), "{details}");
        }
        assert_eq!(explain_details("-"), None);
        assert_eq!(explain_details("overloaded_with_words"), None);
    }
}
