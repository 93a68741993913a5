//! Reading Istio's default text access log.
//!
//! Source: istio/istio `pilot/pkg/model/telemetry_logging.go`, `EnvoyTextLogFormat`. Envoy turns white space in
//! `RESPONSE_CODE_DETAILS` into `_` (Envoy docs, "Substitution formatter"), but not in
//! `CONNECTION_TERMINATION_DETAILS`; header values (user agent, path) are written as the caller sent them, quotes included.

use std::sync::LazyLock;

use regex::Regex;

use super::AccessLogEntry;

/// One line of the format. The fields that a caller or a certificate may fill with anything stand between fields of
/// a narrow shape: the parts before the User-Agent match as early, the User-Agent as far as it can.
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"^\[(?P<start>\d{4}-\d{2}-\d{2}T[0-9:.]+Z)\] "#,
        r#""(?P<request>\S+ .*? \S+)" (?P<code>\d{1,5}|-) (?P<flags>[A-Z0-9_,]+|-) "#,
        r#"(?P<details>\S+) (?P<termination>.*?) "(?P<failure>.*?)" "#,
        r#"(?P<received>\d+) (?P<sent>\d+) (?P<duration>\d+) (?:\S+) "#,
        r#""(?:.*?)" "(?P<agent>.*)" "(?P<id>[^"]*)" "(?P<authority>[^"]*)" "(?P<host>[^"]*)" "#,
        r#"(?P<cluster>\S+) (?P<up_local>\S+) (?P<down_local>\S+) (?P<down_remote>\S+) (?P<sni>\S+) (?P<route>.*)$"#,
    ))
    .expect("the access log's expression is a constant")
});

impl AccessLogEntry {
    /// Reads a line; None when it is no line of the default format (Envoy's own messages, another format).
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.starts_with('[') {
            return None;
        }
        let found = LINE.captures(line)?;
        let text = |name: &str| found.name(name).map_or("", |m| m.as_str()).to_owned();
        let number = |name: &str| found.name(name).and_then(|m| m.as_str().parse::<u64>().ok());
        let request = text("request");
        let code = match &found["code"] {
            "-" => 0,
            digits => digits.parse().ok()?,
        };
        Some(Self {
            line: line.to_owned(),
            start: text("start"),
            request: (request != "- - -").then_some(request),
            code,
            flags: text("flags"),
            details: text("details"),
            termination: text("termination"),
            upstream_failure: text("failure"),
            received: number("received")?,
            sent: number("sent")?,
            duration_ms: number("duration")?,
            user_agent: text("agent"),
            request_id: text("id"),
            authority: text("authority"),
            upstream_host: text("host"),
            cluster: text("cluster"),
            upstream_local: text("up_local"),
            downstream_local: text("down_local"),
            downstream_remote: text("down_remote"),
            sni: text("sni"),
            route: text("route"),
        })
    }

    /// Whether the line is of an HTTP request (and not of a TCP connection).
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.request.is_some()
    }

    /// Whether the line tells of an attempt that failed: flags are set, the status is a server error, or an
    /// AuthorizationPolicy closed the TCP connection (which sets no flag, only the termination details).
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.flags != "-" || self.code >= 500 || self.termination.starts_with("rbac_access_denied")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines of a kind cluster with Istio's gateways, as they were logged.
    const CAPTURED: &str = include_str!("testdata/access.log");

    fn only(part: &str) -> AccessLogEntry {
        let lines: Vec<_> = CAPTURED.lines().filter(|l| l.contains(part)).collect();
        assert_eq!(lines.len(), 1, "{part} is not in exactly one line");
        AccessLogEntry::parse(lines[0]).unwrap()
    }

    #[test]
    fn every_captured_line_is_read() {
        assert!(CAPTURED.lines().count() >= 12);
        for line in CAPTURED.lines() {
            let entry = AccessLogEntry::parse(line).unwrap_or_else(|| panic!("not read: {line}"));
            assert_eq!(entry.line, line);
            assert_eq!(entry.is_http(), !line.contains("\"- - -\""), "{line}");
        }
    }

    #[test]
    fn an_http_line_gives_its_route() {
        let e = only("gp-s418");
        assert_eq!(e.request.as_deref(), Some("GET /status/418 HTTP/1.1"));
        assert_eq!((e.code, e.flags.as_str(), e.details.as_str()), (418, "-", "via_upstream"));
        assert_eq!((e.received, e.sent, e.duration_ms), (0, 13, 1));
        assert_eq!((e.route.as_str(), e.sni.as_str()), ("status", "-"));
        assert_eq!(e.cluster, "outbound|8000||httpbin.mesh-test.svc.cluster.local");
        assert_eq!((e.authority.as_str(), e.upstream_host.as_str()), ("httpbin.example.com", "10.244.0.11:8080"));
        assert_eq!(e.downstream_remote, "172.18.0.1:50080");
    }

    #[test]
    fn a_connection_that_no_chain_matched_has_its_sni() {
        let e = only("unknown.example");
        assert_eq!((e.code, e.flags.as_str(), e.details.as_str()), (0, "NR", "filter_chain_not_found"));
        assert_eq!((e.sni.as_str(), e.cluster.as_str(), e.request), ("unknown.example", "-", None));
    }

    #[test]
    fn a_refused_upstream_says_why() {
        let e = only("delayed_connect_error");
        assert_eq!(e.upstream_failure, "delayed_connect_error:_Connection_refused");
        assert_eq!((e.flags.as_str(), e.upstream_local.as_str()), ("UF,URX", "-"));
    }

    #[test]
    fn passthrough_has_both_addresses() {
        let e = only("PassthroughCluster");
        assert_eq!((e.upstream_local.as_str(), e.downstream_remote.as_str()), ("10.244.0.12:35146", "10.244.0.12:35134"));
    }

    #[test]
    fn free_texts_may_hold_spaces_and_quotes() {
        let line = concat!(
            r#"[2026-11-21T01:40:34.043Z] "GET /a"b?q=%20 HTTP/1.1" 503 UF,URX upstream_reset_before_response_started{connection_failure} "#,
            r#"closed for a reason "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end" "#,
            r#"1 2 3 - "10.0.0.1, 10.0.0.2" "curl "x" "y" (z) 200 - -" "id" "h:80" "10.1.1.1:80" outbound|80||h.example 10.0.0.1:1 10.0.0.2:2 10.0.0.3:3 - a route with spaces"#
        );
        let e = AccessLogEntry::parse(line).unwrap();
        assert_eq!(e.request.as_deref(), Some(r#"GET /a"b?q=%20 HTTP/1.1"#));
        assert_eq!(e.termination, "closed for a reason");
        assert!(e.upstream_failure.ends_with("CERTIFICATE_VERIFY_FAILED:TLS_error_end"));
        assert_eq!(e.user_agent, r#"curl "x" "y" (z) 200 - -"#);
        assert_eq!(e.route, "a route with spaces");
    }

    #[test]
    fn a_refused_tcp_connection_names_the_policy_and_has_no_flag() {
        let e = only("rbac_access_denied");
        assert_eq!(e.termination, "rbac_access_denied_matched_policy[none]");
        assert_eq!((e.flags.as_str(), e.details.as_str(), e.is_failure()), ("-", "-", true));
    }

    #[test]
    fn a_failed_upstream_handshake_gives_the_tls_error() {
        let e = only("CERTIFICATE_VERIFY_FAILED");
        assert!(e.upstream_failure.starts_with("TLS_error:|") && e.upstream_failure.ends_with(":TLS_error_end"));
        assert_eq!(e.flags, "UF,URX");
    }

    #[test]
    fn what_is_no_http_has_a_protocol_but_no_method() {
        let e = only("DPE");
        assert_eq!((e.request.as_deref(), e.code, e.details.as_str()), (Some("- - HTTP/1.1"), 400, "http1.codec_error"));
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "[",
            "2026-11-21T01:43:01.403585Z\twarn\tbuildGatewayRoutes: no gateways for router x",
            "[2026-11-21 01:40:34.043][1][warning][config] [source/x.cc:1] gRPC config stream closed",
            r#"[2026-11-21T01:40:34.043Z] "GET / HTTP/1.1" 200"#,
            r#"{"start_time":"2026-11-21T01:40:34.043Z"}"#,
        ] {
            assert_eq!(AccessLogEntry::parse(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in any::<String>()) {
            let _ = AccessLogEntry::parse(&line);
        }

        #[test]
        fn never_panics_near_the_format(line in r#"\[2026-11-21T01:40:34.043Z\] "[ -~]{0,40}" [0-9]{1,9} [A-Z,-]{1,5} [ "a-z0-9|:-]{0,200}"#) {
            let _ = AccessLogEntry::parse(&line);
        }

        #[test]
        fn a_line_built_from_fields_reads_back(
            path in "/[!-~]{0,20}", code in 0u16..1000, flags in "-|UH|NR|UF,URX", details in "[a-z_]{1,12}(\\{[a-z:_]{1,9}\\})?",
            termination in "[a-z_\\[\\]]{1,9}( [a-z_]{1,9}){0,3}", failure in "[!#-~]{1,9}( [!#-~]{1,9}){0,3}",
            counts in (any::<u64>(), any::<u64>(), any::<u64>()), agent in "[ -~]{0,40}", id in "[a-f0-9-]{1,36}",
            authority in "[a-z.]{1,20}(:[0-9]{2,5})?", port in 1u16.., cluster in "outbound\\|[0-9]{2,5}\\|[a-z]{0,5}\\|[a-z.]{1,20}",
            sni in "-|[a-z.]{1,20}", route in "-|[a-z]{1,9}( [a-z]{1,9}){0,3}",
        ) {
            let (rx, tx, ms) = counts;
            let line = format!(
                "[2026-11-21T01:40:34.043Z] \"GET {path} HTTP/2\" {code} {flags} {details} {termination} \"{failure}\" {rx} {tx} {ms} 7 \
                 \"10.0.0.9\" \"{agent}\" \"{id}\" \"{authority}\" \"10.1.1.1:{port}\" {cluster} 10.0.0.1:{port} 10.0.0.2:8443 10.0.0.3:{port} {sni} {route}"
            );
            let e = AccessLogEntry::parse(&line).unwrap();
            prop_assert_eq!(e.request, Some(format!("GET {path} HTTP/2")));
            prop_assert_eq!((e.code, e.flags, e.details, e.termination), (code, flags, details, termination));
            prop_assert_eq!((e.upstream_failure, e.received, e.sent, e.duration_ms), (failure, rx, tx, ms));
            prop_assert_eq!((e.user_agent, e.request_id, e.authority), (agent, id, authority));
            prop_assert_eq!((e.cluster, e.sni, e.route), (cluster, sni, route));
            prop_assert_eq!((e.upstream_local, e.downstream_remote), (format!("10.0.0.1:{port}"), format!("10.0.0.3:{port}")));
            prop_assert_eq!(e.line, line);
        }
    }
}
