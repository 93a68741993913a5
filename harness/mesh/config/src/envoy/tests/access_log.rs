//! Lines as a real proxy wrote them.

use std::time::Duration;

use serde_json::json;

use crate::envoy::access_log::{CallRecord, Comparison, Downstream, Flag, Format, LogFilter, TlsFacts, Upstream};
use crate::envoy::headers::Headers;

/// Istio's default (`model/telemetry_logging.go`).
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% \
%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn connection(local: &str, remote: &str, sni: &str) -> CallRecord {
    CallRecord {
        start: Some("2026-11-21T09:38:29.839Z".parse().unwrap()),
        duration: Some(Duration::from_micros(2_900)),
        downstream: Downstream {
            local: Some(local.parse().unwrap()),
            remote: Some(remote.parse().unwrap()),
            requested_server_name: sni.to_owned(),
            ..Downstream::default()
        },
        ..CallRecord::default()
    }
}

#[test]
fn a_request_looks_as_captured() {
    let call = CallRecord {
        start: Some("2026-11-21T09:37:56.800Z".parse().unwrap()),
        duration: Some(Duration::from_millis(39)),
        protocol: Some("HTTP/2".to_owned()),
        response_code: Some(418),
        response_code_details: Some("via_upstream".to_owned()),
        request: Headers::from_iter([
            (":method", "GET"),
            (":path", "/status/418"),
            (":authority", "shop.example.test"),
            ("x-forwarded-for", "172.18.0.1"),
            ("user-agent", "own 5"),
            ("x-request-id", "35c7cc7f-edce-43ee-9cca-493efdeb0235"),
        ]),
        response: Headers::from_iter([("x-envoy-upstream-service-time", "39")]),
        bytes_sent: 13,
        upstream: Upstream {
            cluster: Some("outbound|8000||alpha.apps.svc.cluster.local".to_owned()),
            cluster_alt_name: Some("outbound|8000||alpha.apps.svc.cluster.local;".to_owned()),
            host: Some("10.244.0.10:8080".to_owned()),
            local: Some("10.244.0.7:51886".parse().unwrap()),
            ..Upstream::default()
        },
        route_name: "status".to_owned(),
        ..connection("10.244.0.7:8443", "172.18.0.1:42318", "shop.example.test")
    };
    let call = CallRecord { start: Some("2026-11-21T09:37:56.800Z".parse().unwrap()), duration: Some(Duration::from_millis(39)), ..call };
    assert_eq!(
        Format::parse(ISTIO).unwrap().render(&call),
        "[2026-11-21T09:37:56.800Z] \"GET /status/418 HTTP/2\" 418 - via_upstream - \"-\" 0 13 39 39 \"172.18.0.1\" \"own 5\" \
         \"35c7cc7f-edce-43ee-9cca-493efdeb0235\" \"shop.example.test\" \"10.244.0.10:8080\" \
         outbound|8000||alpha.apps.svc.cluster.local 10.244.0.7:51886 10.244.0.7:8443 172.18.0.1:42318 shop.example.test status\n"
    );
    assert_eq!(Format::parse("%UPSTREAM_CLUSTER%").unwrap().render(&call), "outbound|8000||alpha.apps.svc.cluster.local;");
}

#[test]
fn a_refused_connection_looks_as_captured() {
    let mut call = connection("172.18.0.6:443", "10.244.0.11:34458", "one.example.test");
    call.flags = [Flag::UpstreamConnectionFailure, Flag::UpstreamRetryLimitExceeded].into_iter().collect();
    call.upstream.transport_failure = "delayed connect error: Connection refused".to_owned();
    call.upstream.cluster = Some("outbound|443|one|gate.edge.svc.cluster.local".to_owned());
    call.upstream.host = Some("10.244.0.12:8443".to_owned());
    assert_eq!(
        Format::parse(ISTIO).unwrap().render(&call),
        "[2026-11-21T09:38:29.839Z] \"- - -\" 0 UF,URX - - \"delayed_connect_error:_Connection_refused\" 0 0 2 - \"-\" \"-\" \"-\" \"-\" \
         \"10.244.0.12:8443\" outbound|443|one|gate.edge.svc.cluster.local - 172.18.0.6:443 10.244.0.11:34458 one.example.test -\n"
    );
}

#[test]
fn a_denied_connection_looks_as_captured() {
    let mut call = connection("10.244.0.4:8443", "10.244.0.11:48090", "four.example.test");
    call.connection_termination_details = Some(crate::envoy::details::rbac_denied(None));
    let line = Format::parse(ISTIO).unwrap().render(&call);
    assert!(line.contains("\"- - -\" 0 - - rbac_access_denied_matched_policy[none] \"-\" 0 0 2 -"), "{line}");
}

#[test]
fn alternatives_lengths_and_times() {
    let call =
        CallRecord { request: Headers::from_iter([("b", "abcdef"), (":path", "/x?q=1")]), ..connection("1.2.3.4:5", "6.7.8.9:10", "") };
    let line = |format: &str| Format::parse(format).unwrap().render(&call);
    assert_eq!(line("%REQ(A?B):3%|%REQ(A)%|%REQ(B?A)%|100%%"), "abc|-|abcdef|100%");
    assert_eq!(line("%START_TIME(%s.%3f)%"), "1795253909.839");
    assert_eq!(line("%START_TIME(%Y/%m/%d %H:%M:%S %6f %E3S)%"), "2026/11/21 09:38:29 839000 29.839");
    assert_eq!(line("%DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME%"), "5 6.7.8.9 -");
    assert_eq!(line("%PATH(NQ)% %QUERY_PARAM(q)%"), "/x 1");
    assert_eq!(Format::parse_value("a%REQ(NONE)%b").unwrap().render(&call), "ab");
}

#[test]
fn certificates_metadata_and_state() {
    let mut call = connection("1.2.3.4:5", "6.7.8.9:10", "");
    call.downstream.tls = Some(TlsFacts { peer_uri_sans: vec!["spiffe://a".to_owned(), "spiffe://b".to_owned()], ..TlsFacts::default() });
    call.metadata.insert("ns".to_owned(), json!({"a": {"b": "c", "n": 1}}));
    call.filter_state.insert("peer".to_owned(), "x\"y".to_owned());
    let line = |format: &str| Format::parse(format).unwrap().render(&call);
    assert_eq!(line("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_SUBJECT%"), "spiffe://a,spiffe://b -");
    assert_eq!(line("%DYNAMIC_METADATA(ns:a:b)% %DYNAMIC_METADATA(ns:a)% %DYNAMIC_METADATA(ns:z)%"), "c {\"b\":\"c\",\"n\":1} -");
    assert_eq!(line("%FILTER_STATE(peer:PLAIN)% %FILTER_STATE(peer)%"), "x\"y \"x\\\"y\"");
}

#[test]
fn json_keeps_types_and_is_in_order() {
    let call = CallRecord { response_code: Some(200), ..connection("1.2.3.4:5", "6.7.8.9:10", "") };
    let format = json!({"z": "%RESPONSE_CODE%", "a": {"sni": "%REQUESTED_SERVER_NAME%", "mix": "x %REQUESTED_SERVER_NAME%"}, "flags": "%RESPONSE_FLAGS%"});
    assert_eq!(Format::parse_json(&format).unwrap().render(&call), "{\"a\":{\"mix\":\"x -\",\"sni\":null},\"flags\":\"-\",\"z\":200}\n");
}

#[test]
fn what_is_no_operator_is_refused() {
    let words = |format: &str| Format::parse(format).unwrap_err().to_string();
    assert_eq!(words("%NOPE%"), "Not supported field in StreamInfo: NOPE");
    assert_eq!(words("ab %lower%"), "Incorrect configuration: ab %lower%. Couldn't find valid command at position 3");
    assert_eq!(words("%REQ(A?B?C)%"), "More than 1 alternative header specified in token: A?B?C");
    assert_eq!(words("%PROTOCOL(x)%"), "PROTOCOL does not take any parameters");
    assert!(Format::parse("%").is_err() && Format::parse("%REQ(A%").is_err() && Format::parse("%REQ(A):x%").is_err());
}

#[test]
fn filters_choose_the_lines() {
    let mut call = CallRecord { response_code: Some(503), ..CallRecord::default() };
    let nr = LogFilter::Flags(vec![Flag::NoRouteFound]);
    assert!(!nr.holds(&call, 0));
    assert!(!LogFilter::Flags(vec![]).holds(&call, 0));
    call.flags.set(Flag::NoRouteFound);
    assert!(nr.holds(&call, 0) && LogFilter::Flags(vec![]).holds(&call, 0));
    let bad = LogFilter::Status(Comparison::Ge, 500);
    assert!(LogFilter::And(vec![nr.clone(), bad.clone()]).holds(&call, 0));
    call.response_code = Some(200);
    assert!(!LogFilter::And(vec![nr.clone(), bad.clone()]).holds(&call, 0));
    assert!(LogFilter::Or(vec![nr, bad]).holds(&call, 0));
    assert!(LogFilter::NotHealthCheck.holds(&call, 0));
}

#[test]
fn flags_have_their_names() {
    assert_eq!(Flag::from_short("UAEX"), Some(Flag::UnauthorizedExternalService));
    assert_eq!(Flag::from_short("XX"), None);
    let names: std::collections::BTreeSet<_> = Flag::ALL.iter().map(|flag| flag.short()).collect();
    assert_eq!(names.len(), Flag::ALL.len());
}
