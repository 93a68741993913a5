//! TLS towards clients and upstreams.

use std::io::ErrorKind;

use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::AlertDescription;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::*;
use crate::net::{Host, Network};

struct World {
    ca: Ca,
    network: Network,
    caller: Host,
    side: Side,
}

fn world() -> World {
    let (ca, network) = (Ca::new("mesh"), Network::default());
    let (caller, server) = (network.add(ip("10.0.0.1")).unwrap(), network.add(ip("10.0.0.2")).unwrap());
    echo(&server, 80);
    let side = Side::new(&network, "10.0.0.3", Some(ca.identity("gateway")), None);
    World { ca, network, caller, side }
}

/// A gateway that ends TLS for one name.
fn ends_tls(certificate: &str, ca: Option<&str>) -> Resources {
    let chains = json!([{"filter_chain_match": {"server_names": ["web.example"]}, "filters": [http("https.443", json!([]))],
        "transport_socket": downstream_tls(certificate, ca)}]);
    Resources::default()
        .cluster(cluster("web", &["10.0.0.2:80"]))
        .listener("0.0.0.0_8443", 8443, chains)
        .routes("https.443", json!([to("web")]))
}

#[tokio::test]
async fn tls_ends_at_the_gateway_with_http1_and_http2() {
    let World { ca, caller, side, .. } = world();
    side.give(&ends_tls("kubernetes://web-tls", None).secret("kubernetes://web-tls", ca.secret(&["web.example"])));
    let stream = tls(dial(&caller, "10.0.0.3:8443"), "web.example", &CallerTls::trusting(&ca)).await.unwrap();
    let (status, _, body) = get(stream, "web.example", "/get", &[]).await.unwrap();
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &seen["headers"]["x-forwarded-proto"]), (200, &json!("https")));
    let h2 = CallerTls { alpn: &["h2"], ..CallerTls::trusting(&ca) };
    let stream = tls(dial(&caller, "10.0.0.3:8443"), "web.example", &h2).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get("https://nope.example/get").body(Full::<bytes::Bytes>::default()).unwrap();
    let (status, headers, _) = answer(sender.send_request(request).await.unwrap()).await.unwrap();
    assert_eq!((status, headers.len()), (404, 2), "date and server: {headers:?}");
    // A client whose protocols are none of the listener's goes on without one.
    let foreign = CallerTls { alpn: &["istio"], ..CallerTls::trusting(&ca) };
    let stream = tls(dial(&caller, "10.0.0.3:8443"), "web.example", &foreign).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let lines = side.lines(2).await;
    assert!(lines[0].contains(" 10.0.0.3:8443 10.0.0.1:32768 web.example all"), "{}", lines[0]);
    assert!(lines[1].contains("\"GET /get HTTP/2\" 404 NR route_not_found"), "{}", lines[1]);
}

async fn alert(caller: &Host, as_caller: &CallerTls<'_>) -> Option<AlertDescription> {
    let alert_of = |e: std::io::Error| match e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        other => panic!("{other:?} {e}"),
    };
    match tls(dial(caller, "10.0.0.3:8443"), "web.example", as_caller).await {
        Err(e) => alert_of(e),
        Ok(mut stream) => {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: web.example\r\nconnection: close\r\n\r\n").await;
            let mut all = Vec::new();
            match stream.read_to_end(&mut all).await {
                Err(e) => alert_of(e),
                Ok(_) => None,
            }
        }
    }
}

#[tokio::test]
async fn clients_certificates_are_asked_for_and_checked() {
    let World { ca, caller, side, .. } = world();
    side.give(&ends_tls("default", Some("ROOTCA")));
    let trusting = || CallerTls::trusting(&ca);
    // The gateway's certificate has no DNS name: callers that check it need one that does.
    side.give(&ends_tls("kubernetes://web-tls", Some("ROOTCA")).secret("kubernetes://web-tls", ca.secret(&["web.example"])));
    assert_eq!(alert(&caller, &trusting()).await, Some(AlertDescription::CertificateRequired));
    let old = CallerTls { most: &rustls::version::TLS12, ..trusting() };
    assert_eq!(alert(&caller, &old).await, Some(AlertDescription::HandshakeFailure), "TLS 1.2 has no other alert for it");
    let foreign = CallerTls { shows: Some(Ca::new("other").issue(&["spiffe://other/ns/a/sa/b"])), ..trusting() };
    assert_eq!(alert(&caller, &foreign).await, Some(AlertDescription::UnknownCA));
    let stats = side.admin("/stats?filter=fail_verify").await.1;
    assert_eq!(stats, "listener.0.0.0.0_8443.ssl.fail_verify_error: 1\nlistener.0.0.0.0_8443.ssl.fail_verify_no_cert: 2\n");
    let own = CallerTls { shows: Some(ca.issue(&["spiffe://cluster.local/ns/shop/sa/client"])), ..trusting() };
    assert_eq!(alert(&caller, &own).await, None);
    let line = side.line().await;
    assert!(line.contains(" 200 - via_upstream"), "{line}");
    let own = CallerTls { shows: Some(ca.issue(&["spiffe://cluster.local/ns/shop/sa/client"])), ..trusting() };
    let stream = tls(dial(&caller, "10.0.0.3:8443"), "web.example", &own).await.unwrap();
    let (_, _, body) = get(stream, "web.example", "/get", &[]).await.unwrap();
    let seen: Value = serde_json::from_str(&body).unwrap();
    let xfcc = seen["headers"]["x-forwarded-client-cert"].as_str().unwrap();
    assert!(xfcc.starts_with("Hash=") && xfcc.ends_with(";URI=spiffe://cluster.local/ns/shop/sa/client"), "{xfcc}");
}

#[tokio::test]
async fn a_failed_handshake_before_a_tcp_proxy_is_logged_with_the_endpoint() {
    let World { ca, caller, side, .. } = world();
    let chains = json!([{"filters": [tcp("web")], "transport_socket": downstream_tls("kubernetes://web-tls", Some("ROOTCA"))}]);
    let resources =
        Resources::default().cluster(cluster("web", &["10.0.0.2:80"])).secret("kubernetes://web-tls", ca.secret(&["web.example"]));
    side.give(&resources.listener("0.0.0.0_8443", 8443, chains));
    let old = CallerTls { most: &rustls::version::TLS12, ..CallerTls::trusting(&ca) };
    assert_eq!(alert(&caller, &old).await, Some(AlertDescription::HandshakeFailure));
    let line = side.line().await;
    assert!(line.contains("\"- - -\" 0 - - - \"-\" 0 0 ") && line.contains("\"10.0.0.2:80\" web 10.0.0.3:"), "{line}");
    assert!(line.ends_with(" web.example -"), "{line}");
}

/// A second proxy that ends the mesh's TLS for HTTP and TCP, as a sidecar.
fn inner(world: &World) -> Side {
    let side = Side::new(&world.network, "10.0.0.4", Some(world.ca.identity("web")), None);
    let chains = json!([
        {"filter_chain_match": {"application_protocols": ["istio"]}, "filters": [http("inbound", json!([]))], "transport_socket": downstream_tls("default", Some("ROOTCA"))},
        {"filter_chain_match": {"server_names": ["tcp.example"]}, "filters": [tcp("web")], "transport_socket": downstream_tls("default", Some("ROOTCA"))}]);
    let resources = Resources::default().cluster(cluster("web", &["10.0.0.2:80"])).routes("inbound", json!([to("web")]));
    side.give(&resources.listener("inbound", 15006, chains));
    side
}

#[tokio::test]
async fn two_proxies_speak_mutual_tls_quickly() {
    let world = world();
    let inner = inner(&world);
    let World { caller, side, .. } = &world;
    let mut web = cluster("web", &["10.0.0.4:15006"]);
    web["transport_socket"] = mesh_tls("web", "outbound_.80_._.web.shop.svc.cluster.local", &["istio"]);
    let chains = json!([{"filters": [http("http.8080", json!([]))]}]);
    side.give(&Resources::default().cluster(web).listener("0.0.0.0_8080", 8080, chains).routes("http.8080", json!([to("web")])));
    let (status, _, body) = get(dial(caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let seen: Value = serde_json::from_str(&body).unwrap();
    let xfcc = seen["headers"]["x-forwarded-client-cert"].as_str().unwrap();
    assert!(
        xfcc.starts_with("By=spiffe://cluster.local/ns/shop/sa/web;Hash=")
            && xfcc.ends_with(";Subject=\"\";URI=spiffe://cluster.local/ns/shop/sa/gateway"),
        "{xfcc}"
    );
    let (outer_line, inner_line) = (side.line().await, inner.line().await);
    assert!(inner_line.contains(" outbound_.80_._.web.shop.svc.cluster.local all"), "{inner_line}");
    let local = outer_line.split(' ').find(|f| f.starts_with("10.0.0.3:3")).unwrap();
    assert!(inner_line.contains(local), "the lines can be joined: {outer_line} {inner_line}");
    let began = std::time::Instant::now();
    for _ in 0..50 {
        get(dial(caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap();
    }
    println!("{:?} for a request through two proxies", began.elapsed() / 50);
}

#[tokio::test]
async fn an_upstream_that_is_not_who_it_should_be_is_a_503() {
    let world = world();
    let _inner = inner(&world);
    let World { caller, side, .. } = &world;
    let words =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, transport failure reason: ";
    let mut web = cluster("web", &["10.0.0.4:15006"]);
    web["transport_socket"] = mesh_tls("someone-else", "outbound_.80_._.web", &["istio"]);
    let chains = json!([{"filters": [http("http.8080", json!([]))]}]);
    let mut resources =
        Resources::default().cluster(web.clone()).listener("0.0.0.0_8080", 8080, chains).routes("http.8080", json!([to("web")]));
    side.give(&resources);
    let mut bodies = Vec::new();
    let mut ask = async |resources: &Resources| {
        side.give(resources);
        bodies.push(get(dial(caller, "10.0.0.3:8080"), "web.example", "/get", &[]).await.unwrap().2);
    };
    ask(&resources).await;
    // Plain text to a port that wants TLS: closed unread, so reset.
    resources = resources.cluster(cluster("web", &["10.0.0.4:15006"]));
    ask(&resources).await;
    // TLS to a port that speaks plain HTTP.
    web["load_assignment"] = cluster("web", &["10.0.0.2:80"])["load_assignment"].clone();
    resources = resources.cluster(web.clone());
    ask(&resources).await;
    // No chain for this name.
    web["load_assignment"] = cluster("web", &["10.0.0.4:15006"])["load_assignment"].clone();
    web["transport_socket"] = mesh_tls("web", "nope.example", &["other"]);
    resources = resources.cluster(web);
    ask(&resources).await;
    assert_eq!(bodies[0], format!("{words}TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end"));
    assert_eq!(bodies[1], "upstream connect error or disconnect/reset before headers. reset reason: connection termination");
    assert_eq!(bodies[2], format!("{words}TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end"));
    assert_eq!(bodies[3], format!("{words}TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer:TLS_error_end"));
    let lines = side.lines(4).await;
    assert!(lines[0].contains(" 503 UF upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end} - \"TLS_error:|268435581:SSL_routines:"), "{}", lines[0]);
}

#[tokio::test]
async fn bytes_pass_through_a_gateway_that_adds_tls() {
    let world = world();
    let inner = inner(&world);
    let World { caller, side, .. } = &world;
    let mut web = cluster("web", &["10.0.0.4:15006"]);
    web["transport_socket"] = mesh_tls("web", "tcp.example", &["istio-peer"]);
    side.give(&Resources::default().cluster(web).listener("l", 9000, json!([{"filters": [tcp("web")]}])));
    let (status, _, _) = get(dial(caller, "10.0.0.3:9000"), "web.example", "/get", &[("connection", "close")]).await.unwrap();
    assert_eq!(status, 200);
    let (outer_line, inner_line) = (side.line().await, inner.line().await);
    let counts = |line: &str| line.split(' ').skip(9).take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(counts(&outer_line), counts(&inner_line), "{outer_line} {inner_line}");
    assert!(inner_line.contains(" tcp.example "), "{inner_line}");
}

#[tokio::test]
async fn plain_bytes_to_tls_are_no_handshake() {
    let World { caller, side, ca, .. } = world();
    let mut resources = ends_tls("kubernetes://web-tls", None).secret("kubernetes://web-tls", ca.secret(&["web.example"]));
    let chains = json!([{"filters": [http("https.443", json!([]))], "transport_socket": downstream_tls("kubernetes://web-tls", None)}]);
    resources = resources.listener("0.0.0.0_8443", 8443, chains);
    side.give(&resources);
    let seen = say(dial(&caller, "10.0.0.3:8443"), b"GET / HTTP/1.1\r\nhost: web.example\r\n\r\n").await;
    assert!(matches!(&seen, Ok(bytes) if !bytes.starts_with(b"HTTP")) || matches!(seen, Err(ErrorKind::ConnectionReset)), "{seen:?}");
}
