//! Requests, and what becomes of them.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::*;
use crate::net::{Host, Network};

fn pair() -> (Network, Host, Host, Side) {
    let network = Network::default();
    let (caller, server) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    echo(&server, 80);
    let side = Side::new(&network, "10.0.0.3", None, None);
    (network, caller, server, side)
}

fn gateway(routes: Value, filters: Value) -> Resources {
    let chains = json!([{"filters": [http("http.8080", filters)]}]);
    let clusters = Resources::default().cluster(cluster("web", &["10.0.0.2:80"])).cluster(cluster("empty", &[]));
    let clusters = clusters.cluster(cluster("closed", &["10.0.0.2:81", "10.0.0.2:82"]));
    clusters.listener("0.0.0.0_8080", 8080, chains).routes("http.8080", routes)
}

async fn call(caller: &Host, host: &str, path: &str) -> (u16, hyper::HeaderMap, String) {
    get(dial(caller, "10.0.0.3:8080"), host, path, &[]).await.expect("an answer")
}

#[tokio::test]
async fn a_request_is_sent_on_with_envoys_headers_and_logged() {
    let (_network, caller, _server, side) = pair();
    side.give(&gateway(json!([to("web")]), json!([])));
    let (status, headers, body) = call(&caller, "web.example:8080", "/a/../get?x=1").await;
    assert_eq!(status, 200);
    assert_eq!(headers["server"], "istio-envoy");
    assert!(headers.contains_key("x-envoy-upstream-service-time") && headers.contains_key("date"));
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&seen["uri"], &seen["host"]), (&json!("/get?x=1"), &json!("web.example:8080")));
    let said = |name: &str| seen["headers"][name].as_str().unwrap_or("-").to_owned();
    assert_eq!(said("x-forwarded-for"), "10.0.0.1");
    assert_eq!(said("x-forwarded-proto"), "http");
    assert_eq!(said("x-envoy-external-address"), "10.0.0.1");
    assert_eq!(said("x-envoy-attempt-count"), "1");
    assert_eq!(said("x-request-id").len(), 36);
    let line = side.line().await;
    assert!(line.contains("\"GET /get?x=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 "), "{line}");
    assert!(
        line.contains(&format!("\"10.0.0.1\" \"test\" \"{}\" \"web.example:8080\" \"10.0.0.2:80\" web 10.0.0.3:", said("x-request-id"))),
        "{line}"
    );
    assert!(line.ends_with(" 10.0.0.3:8080 10.0.0.1:32768 - all"), "{line}");
    assert_eq!(line.split(' ').nth(10), Some(body.len().to_string().as_str()), "{line}");
}

#[tokio::test]
async fn a_foreign_host_is_a_404_and_a_missing_table_too() {
    let (_network, caller, _server, side) = pair();
    let mut resources = gateway(json!([to("web")]), json!([]));
    side.give(&resources);
    let (status, headers, body) = call(&caller, "nope.example", "/get").await;
    assert_eq!((status, body.as_str(), headers["server"].to_str().unwrap()), (404, "", "istio-envoy"));
    let line = side.line().await;
    assert!(line.contains("\"GET /get HTTP/1.1\" 404 NR route_not_found - \"-\" 0 0 "), "{line}");
    assert!(line.contains("\"nope.example\" \"-\" - - 10.0.0.3:8080 10.0.0.1:32768 - -"), "{line}");
    resources.0.routes.clear();
    side.give(&resources);
    assert_eq!(call(&caller, "web.example", "/get").await.0, 404);
}

#[tokio::test]
async fn upstreams_that_cannot_be_reached_are_503s_with_their_flags() {
    let (_network, caller, _server, side) = pair();
    let route = |name: &str, path: &str, cluster: &str, retries: u32| {
        json!({"match": {"path": path}, "name": name, "route": {"cluster": cluster, "timeout": "0s",
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": retries,
                "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]}}})
    };
    let routes = json!([route("nc", "/nc", "none", 1), route("uh", "/uh", "empty", 1), route("uf", "/uf", "closed", 1), to("web")]);
    side.give(&gateway(routes, json!([])));
    assert_eq!(call(&caller, "web.example", "/nc").await.0, 503);
    let (status, _, body) = call(&caller, "web.example", "/uh").await;
    assert_eq!((status, body.as_str()), (503, "no healthy upstream"));
    let (status, headers, body) = call(&caller, "web.example", "/uf").await;
    let words = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
                 remote connection failure, transport failure reason: delayed connect error: Connection refused";
    assert_eq!((status, body.as_str(), &headers["content-type"]), (503, words, &hyper::header::HeaderValue::from_static("text/plain")));
    let (status, _, body) = call(&caller, "web.example", "/reset").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination")
    );
    let lines = side.lines(4).await;
    assert!(lines[0].contains(" 503 NC cluster_not_found - \"-\" 0 0 ") && lines[0].ends_with(" nc"), "{}", lines[0]);
    assert!(lines[1].contains(" 503 UH no_healthy_upstream - \"-\" 0 19 ") && lines[1].contains("\"-\" empty - "), "{}", lines[1]);
    assert!(lines[2].contains(" 503 URX,UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} - \"delayed_connect_error:_Connection_refused\" 0 "), "{}", lines[2]);
    assert!(lines[2].contains("\"10.0.0.2:82\" closed - "), "another endpoint is tried: {}", lines[2]);
    assert!(lines[3].contains(" 503 UC upstream_reset_before_response_started{connection_termination} - "), "{}", lines[3]);
}

#[tokio::test]
async fn a_request_is_sent_to_the_host_that_it_asks_for_where_the_cluster_says_so() {
    let (network, caller, server, side) = pair();
    echo(&server, 8000);
    network.names().set("web.example", vec![ip("10.0.0.2")]);
    let cache = json!({"name": "names"});
    let kind = "type.googleapis.com/envoy.extensions";
    let cluster = json!({"name": "asked", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {"name": "envoy.clusters.dynamic_forward_proxy",
        "typed_config": {"@type": format!("{kind}.clusters.dynamic_forward_proxy.v3.ClusterConfig"), "dns_cache_config": cache}}});
    let filter = json!({"name": "envoy.filters.http.dynamic_forward_proxy", "typed_config": {
        "@type": format!("{kind}.filters.http.dynamic_forward_proxy.v3.FilterConfig"), "dns_cache_config": cache}});
    let mut resources = gateway(json!([to("asked")]), json!([filter])).cluster(cluster);
    let mut table = (*resources.0.routes["http.8080"]).clone();
    table["virtual_hosts"][0]["domains"] = json!(["*"]);
    resources.0.routes.insert("http.8080".to_owned(), std::sync::Arc::new(table));
    side.give(&resources);
    for host in ["web.example", "web.example:8000", "10.0.0.2"] {
        let (status, _, body) = call(&caller, host, "/get").await;
        assert_eq!((status, &serde_json::from_str::<Value>(&body).unwrap()["host"]), (200, &json!(host)));
    }
    let (status, _, body) = call(&caller, "none.example", "/get").await;
    assert_eq!((status, body.as_str()), (503, "DNS resolution failure"));
    let lines = side.lines(4).await;
    assert!(lines[0].contains("\"10.0.0.2:80\" asked ") && lines[1].contains("\"10.0.0.2:8000\" asked "), "{lines:#?}");
    assert!(lines[3].contains(" 503 DF dns_resolution_failure - "), "{}", lines[3]);
}

#[tokio::test]
async fn timeouts_faults_redirects_and_answers() {
    let (_network, caller, _server, side) = pair();
    let fault = json!({"name": "envoy.filters.http.fault", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}});
    let aborted = json!({"match": {"path": "/abort"}, "route": {"cluster": "web"}, "typed_per_filter_config": {"envoy.filters.http.fault": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "0.020s", "percentage": {"numerator": 100}},
        "abort": {"http_status": 418, "percentage": {"numerator": 100}}}}});
    let routes = json!([
        {"match": {"path": "/slow"}, "route": {"cluster": "web", "timeout": "0.050s"}},
        aborted,
        {"match": {"path": "/old"}, "redirect": {"path_redirect": "/new"}},
        {"match": {"path": "/direct"}, "direct_response": {"status": 202, "body": {"inline_string": "here"}}},
        {"match": {"prefix": "/api/"}, "route": {"cluster": "web", "timeout": "3s", "prefix_rewrite": "/", "host_rewrite_literal": "inner.example"}},
    ]);
    side.give(&gateway(routes, json!([fault])));
    let (status, _, body) = call(&caller, "web.example", "/slow").await;
    assert_eq!((status, body.as_str()), (504, "upstream request timeout"));
    let began = Instant::now();
    let (status, _, body) = call(&caller, "web.example", "/abort").await;
    assert_eq!((status, body.as_str()), (418, "fault filter abort"));
    assert!(began.elapsed() >= Duration::from_millis(20));
    let (status, headers, _) = call(&caller, "web.example", "/old").await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (301, "http://web.example/new"));
    let (status, _, body) = call(&caller, "web.example", "/direct").await;
    assert_eq!((status, body.as_str()), (202, "here"));
    let seen: Value = serde_json::from_str(&call(&caller, "web.example", "/api/get").await.2).unwrap();
    assert_eq!(
        (&seen["uri"], &seen["host"], &seen["headers"]["x-envoy-expected-rq-timeout-ms"]),
        (&json!("/get"), &json!("inner.example"), &json!("3000"))
    );
    let lines = side.lines(5).await;
    assert!(lines[0].contains(" 504 UT response_timeout - \"-\" 0 24 "), "{}", lines[0]);
    assert!(lines[1].contains(" 418 DI,FI fault_filter_abort - \"-\" 0 18 "), "{}", lines[1]);
    assert!(lines[2].contains(" 301 - direct_response - "), "{}", lines[2]);
    assert!(lines[4].contains("\"GET /api/get HTTP/1.1\" 200 - via_upstream"), "the path as it came is logged: {}", lines[4]);
}

#[tokio::test]
async fn rbac_tokens_cors_and_rate_limits_answer_themselves() {
    let (_network, caller, _server, side) = pair();
    let rbac = json!({"name": "envoy.filters.http.rbac", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "DENY", "policies": {"ns[shop]-policy[no]-rule[0]": {
            "permissions": [{"url_path": {"path": {"exact": "/secret"}}}], "principals": [{"any": true}]}}}}});
    let jwt = json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"origins-0": {"issuer": "me", "local_jwks": {"inline_string": "{\"keys\":[]}"}}},
        "rules": [{"match": {"prefix": "/token"}, "requires": {"provider_name": "origins-0"}}]}});
    let cors = json!({"name": "envoy.filters.http.cors", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}});
    let limit = json!({"name": "envoy.filters.http.local_ratelimit", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "limit",
        "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "60s"},
        "filter_enabled": {"default_value": {"numerator": 100}}, "filter_enforced": {"default_value": {"numerator": 100}}}});
    let mut route = to("web");
    route["typed_per_filter_config"] = json!({"envoy.filters.http.cors": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": "https://ok.example"}], "allow_methods": "GET"}});
    side.give(&gateway(json!([route]), json!([cors, rbac, jwt, limit])));
    let (status, _, body) = call(&caller, "web.example", "/secret").await;
    assert_eq!((status, body.as_str()), (403, "RBAC: access denied"));
    let (status, headers, body) = call(&caller, "web.example", "/token").await;
    assert_eq!((status, body.as_str()), (401, "Jwt is missing"));
    assert_eq!(headers["www-authenticate"], "Bearer realm=\"http://web.example/token\"");
    let request = Request::options("/get").header("host", "web.example").header("origin", "https://ok.example");
    let request = request.header("access-control-request-method", "GET").body(Full::<bytes::Bytes>::default()).unwrap();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(dial(&caller, "10.0.0.3:8080"))).await.unwrap();
    tokio::spawn(driver);
    let (status, headers, _) = answer(sender.send_request(request).await.unwrap()).await.unwrap();
    assert_eq!((status, headers["access-control-allow-methods"].to_str().unwrap()), (200, "GET"));
    assert_eq!(call(&caller, "web.example", "/get").await.0, 200);
    let (status, _, body) = call(&caller, "web.example", "/get").await;
    assert_eq!((status, body.as_str()), (429, "local_rate_limited"));
    let lines = side.lines(5).await;
    assert!(lines[0].contains(" 403 - rbac_access_denied_matched_policy[ns[shop]-policy[no]-rule[0]] - \"-\" 0 19 "), "{}", lines[0]);
    assert!(lines[1].contains(" 401 - jwt_authn_access_denied{Jwt_is_missing} - "), "{}", lines[1]);
    assert!(lines[4].contains(" 429 RL local_rate_limited - "), "{}", lines[4]);
}

#[tokio::test]
async fn circuit_breakers_refuse_what_is_too_much() {
    let (_network, caller, _server, side) = pair();
    let mut resources = gateway(json!([to("web")]), json!([]));
    let mut limited = cluster("web", &["10.0.0.2:80"]);
    limited["circuit_breakers"] = json!({"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]});
    resources = resources.cluster(limited);
    side.give(&resources);
    let slow = || {
        let caller = caller.clone();
        tokio::spawn(async move { call(&caller, "web.example", "/slow").await.0 })
    };
    let _running = slow();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _waiting = slow();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (status, headers, body) = call(&caller, "web.example", "/get").await;
    assert_eq!((status, body.as_str()), (503, "upstream connect error or disconnect/reset before headers. reset reason: overflow"));
    assert_eq!(headers["x-envoy-overloaded"], "true");
    assert!(side.line().await.contains(" 503 UO upstream_reset_before_response_started{overflow} - "));
}

#[tokio::test]
async fn connections_are_kept_and_http2_passes_with_bodies_and_trailers() {
    let (_network, caller, _server, side) = pair();
    let mut resources = gateway(json!([to("web")]), json!([]));
    let mut second = cluster("web", &["10.0.0.2:80"]);
    second["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    side.give(&resources);
    for _ in 0..3 {
        assert_eq!(call(&caller, "web.example", "/get").await.0, 200);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let stats = side.admin("/stats?filter=cluster.web.upstream_(cx|rq)_total").await.1;
    assert_eq!(stats, "cluster.web.upstream_cx_total: 1\ncluster.web.upstream_rq_total: 3\n");
    resources = resources.cluster(second);
    side.give(&resources);
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(dial(&caller, "10.0.0.3:8080"))).await.unwrap();
    tokio::spawn(driver);
    let request = Request::post("http://web.example/post").body(Full::<bytes::Bytes>::from("body")).unwrap();
    let (status, _, body) = answer(sender.send_request(request).await.unwrap()).await.unwrap();
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &seen["body"], &seen["host"]), (200, &json!("body"), &json!("web.example")));
    let line = &side.lines(4).await[3];
    assert!(line.contains("\"POST /post HTTP/2\" 200 - via_upstream - \"-\" 4 "), "{line}");
    let request = Request::post("http://web.example/trailers").body(Full::<bytes::Bytes>::default()).unwrap();
    let collected = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_websocket_is_let_through_and_another_upgrade_is_not() {
    let (_network, caller, server, side) = pair();
    let mut listener = server.listen(crate::net::Bind::Any, 81).unwrap();
    tokio::spawn(async move {
        let mut conn = listener.accept().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(conn.read_u8().await.unwrap());
        }
        assert!(String::from_utf8_lossy(&head).contains("upgrade: websocket"));
        conn.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await.unwrap();
        let mut word = [0; 4];
        conn.read_exact(&mut word).await.unwrap();
        conn.write_all(&word).await.unwrap();
    });
    side.give(&gateway(json!([to("closed")]), json!([])));
    let mut conn = dial(&caller, "10.0.0.3:8080");
    let head = |to: &str| format!("GET / HTTP/1.1\r\nhost: web.example\r\nconnection: Upgrade\r\nupgrade: {to}\r\n\r\n");
    conn.write_all(head("websocket").as_bytes()).await.unwrap();
    conn.write_all(b"ping").await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nping") {
        seen.push(conn.read_u8().await.unwrap());
    }
    assert!(seen.starts_with(b"HTTP/1.1 101 "));
    drop(conn);
    assert!(side.line().await.contains(" 101 - via_upstream - "), "{}", side.line().await);
    let mut conn = dial(&caller, "10.0.0.3:8080");
    conn.write_all(head("strange").as_bytes()).await.unwrap();
    let mut seen = [0; 12];
    conn.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"HTTP/1.1 403");
}

/// As captured on kind: the proxy names itself in the copy's `x-forwarded-for`.
#[tokio::test]
async fn a_copy_comes_from_the_proxy_as_a_client_within_the_mesh() {
    let (_network, caller, server, side) = pair();
    let mut listener = server.listen(crate::net::Bind::Any, 83).unwrap();
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "web", "timeout": "0s",
        "request_mirror_policies": [{"cluster": "copy", "runtime_fraction": {"default_value": {"numerator": 100}}}]}}]);
    side.give(&gateway(routes, json!([])).cluster(cluster("copy", &["10.0.0.2:83"])));
    let (status, _, body) = call(&caller, "web.example", "/get").await;
    assert!(status == 200 && !body.contains("x-envoy-internal"), "{body}");
    let mut conn = listener.accept().await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(conn.read_u8().await.unwrap());
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    for line in ["x-forwarded-for: 10.0.0.1,10.0.0.3", "x-envoy-internal: true", "host: web.example-shadow"] {
        assert!(head.contains(&format!("{line}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn what_leads_nowhere_is_closed_before_it_is_read_and_reset_where_it_was_looked_at() {
    let (_network, caller, _server, side) = pair();
    let chains = json!([{"filters": [tcp("empty")]}]);
    let mut bare = listener("bare", 9001, chains.clone());
    bare["listener_filters"] = json!([]);
    side.give(&Resources::default().cluster(cluster("empty", &[])).listener("looking", 9000, chains).raw_listener(bare));
    for _ in 0..3 {
        assert_eq!(say(dial(&caller, "10.0.0.3:9001"), b"hello").await, Ok(Vec::new()));
    }
    assert!(say(dial(&caller, "10.0.0.3:9000"), b"hello").await.is_err());
    assert!(side.lines(1).await[0].contains(" UH "));
}

#[tokio::test]
async fn mirrors_get_a_copy_and_weights_share() {
    let (_network, caller, server, side) = pair();
    echo(&server, 83);
    let routes = json!([{"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "web", "weight": 50}, {"name": "other", "weight": 50}]}, "timeout": "0s",
        "request_mirror_policies": [{"cluster": "copy", "runtime_fraction": {"default_value": {"numerator": 100}}}]}}]);
    side.give(&gateway(routes, json!([])).cluster(cluster("other", &["10.0.0.2:83"])).cluster(cluster("copy", &["10.0.0.2:80"])));
    for _ in 0..40 {
        assert_eq!(call(&caller, "web.example", "/get").await.0, 200);
    }
    let lines = side.lines(40).await;
    let to_web = lines.iter().filter(|l| l.contains(" web 10.")).count();
    assert!((10..30).contains(&to_web), "{to_web}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stats = side.admin("/stats?filter=cluster.copy.upstream_rq_total").await.1;
    assert_eq!(stats, "cluster.copy.upstream_rq_total: 40\n");
}

#[tokio::test]
async fn a_request_is_repeated_with_its_body_until_the_retries_are_used_up() {
    let (_network, caller, _server, side) = pair();
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "web", "timeout": "0s", "retry_policy": {
        "retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.002s", "max_interval": "0.010s"}}}}]);
    side.give(&gateway(routes, json!([])));
    let request = Request::post("/status/500").header("host", "web.example").body(Full::<bytes::Bytes>::from("again")).unwrap();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(dial(&caller, "10.0.0.3:8080"))).await.unwrap();
    tokio::spawn(driver);
    let (status, _, body) = answer(sender.send_request(request).await.unwrap()).await.unwrap();
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &seen["body"], &seen["headers"]["x-envoy-attempt-count"]), (500, &json!("again"), &json!("3")));
    assert!(side.line().await.contains(" 500 URX via_upstream - \"-\" 5 "), "{}", side.line().await);
    let stats = side.admin("/stats?filter=cluster.web.upstream_rq_(total|retry)$").await.1;
    assert_eq!(stats, "cluster.web.upstream_rq_retry: 2\ncluster.web.upstream_rq_total: 3\n");
}

#[tokio::test]
async fn an_endpoint_that_fails_is_put_out() {
    let (_network, caller, _server, side) = pair();
    let mut web = cluster("web", &["10.0.0.2:81", "10.0.0.2:80"]);
    web["outlier_detection"] =
        json!({"consecutive_5xx": 1, "base_ejection_time": "30s", "max_ejection_percent": 100, "enforcing_consecutive_5xx": 100});
    side.give(&gateway(json!([to("web")]), json!([])).cluster(web));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(call(&caller, "web.example", "/get").await.0);
    }
    assert_eq!(statuses, [503, 200, 200, 200, 200]);
    assert_eq!(side.admin("/stats?filter=ejections_active&usedonly").await.1, "cluster.web.outlier_detection.ejections_active: 1\n");
}

#[tokio::test]
async fn a_client_that_goes_away_is_logged() {
    let (_network, caller, _server, side) = pair();
    side.give(&gateway(json!([to("web")]), json!([])));
    let mut conn = dial(&caller, "10.0.0.3:8080");
    conn.write_all(b"GET /slow HTTP/1.1\r\nhost: web.example\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(conn);
    let line = side.line().await;
    assert!(line.contains("\"GET /slow HTTP/1.1\" 0 DC downstream_remote_disconnect - \"-\" 0 0 "), "{line}");
}

#[tokio::test]
async fn what_is_no_http_is_a_400() {
    let (_network, caller, _server, side) = pair();
    side.give(&gateway(json!([to("web")]), json!([])));
    let seen = say(dial(&caller, "10.0.0.3:8080"), b"\x16\x03\x01\x00\x05hello").await.unwrap();
    assert!(seen.starts_with(b"HTTP/1.1 400 Bad Request"), "{}", String::from_utf8_lossy(&seen));
    assert!(side.line().await.contains("\"- - HTTP/1.1\" 400 DPE http1.codec_error - "), "{}", side.line().await);
    let bodies = Full::<bytes::Bytes>::default().collect().await.unwrap();
    assert!(bodies.to_bytes().is_empty());
}
