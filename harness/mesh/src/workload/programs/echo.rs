//! Servers that send back what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use super::httpbin::{canonical, duration};
use super::serve::{Body, Handler, Peer, full, serve, server_config};
use super::{Container, Out};
use crate::net::{Bind, Listener};

/// What Gateway API's conformance server tells.
/// Source: `kubernetes-sigs/gateway-api`, `conformance/echo-basic/echo-basic.go`.
#[derive(Debug, Serialize)]
struct Told {
    path: String,
    host: String,
    method: String,
    proto: String,
    headers: BTreeMap<String, Vec<String>>,
    namespace: String,
    ingress: String,
    service: String,
    pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ToldOfTls>,
    sni: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldOfTls {
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peer_certificates: Vec<String>,
    server_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    negotiated_protocol: String,
    cipher_suite: String,
}

/// Runs echo-basic: HTTP, HTTP/2 without TLS, and HTTPS when it has a certificate.
pub(super) async fn basic(container: &Container, log: &Out) -> i32 {
    let env = |name: &str| container.env.get(name).cloned().unwrap_or_default();
    let port = |name: &str, or: u16| container.env.get(name).map_or(Some(or), |p| p.parse::<u16>().ok());
    let handler = echo_handler(container);
    let mut servers = JoinSet::new();
    let text = |path: &str| container.files.read(path).map(|d| String::from_utf8_lossy(&d).into_owned()).unwrap_or_default();
    let mut tls = None;
    if !env("TLS_SERVER_CERT").is_empty() && !env("TLS_SERVER_PRIVKEY").is_empty() {
        let ca = Some(env("TLS_CLIENT_CACERTS")).filter(|p| !p.is_empty()).map(|p| text(&p));
        match server_config(&text(&env("TLS_SERVER_CERT")), &text(&env("TLS_SERVER_PRIVKEY")), ca.as_deref(), false) {
            Ok(config) => tls = Some(config),
            Err(error) => {
                log.line(&format!("panic: Failed to start listening: {error}"));
                return 2;
            }
        }
    }
    for (name, or, kind) in [("HTTP_PORT", 3000, "http"), ("H2C_PORT", 3001, "h2c"), ("HTTPS_PORT", 8443, "https")] {
        if kind == "https" && tls.is_none() {
            continue;
        }
        let listener = port(name, or)
            .ok_or_else(|| "invalid port".to_owned())
            .and_then(|p| container.host.listen(Bind::Any, p).map_err(|e| e.to_string()));
        match listener {
            Ok(listener) => {
                log.line(&format!("Starting server, listening on port {} ({kind})", listener.port()));
                servers.spawn(serve(listener, tls.clone().filter(|_| kind == "https"), handler.clone()));
            }
            Err(error) => {
                log.line(&format!("panic: Failed to start listening: {error}"));
                return 2;
            }
        }
    }
    servers.join_next().await;
    0
}

fn echo_handler(container: &Container) -> Handler {
    let env = |name: &str| container.env.get(name).cloned().unwrap_or_default();
    let known = Arc::new([env("NAMESPACE"), env("INGRESS_NAME"), env("SERVICE_NAME"), env("POD_NAME")]);
    Arc::new(move |request: Request<Incoming>, peer: Peer| {
        let known = known.clone();
        Box::pin(async move { echo(&request, &peer, &known).await })
    })
}

async fn echo(request: &Request<Incoming>, peer: &Peer, known: &[String; 4]) -> Response<Body> {
    let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let path = request.uri().path();
    if path == "/health" {
        return Response::new(full("OK"));
    }
    if let Some(code) = path.strip_prefix("/status/") {
        let mut response = Response::new(full(""));
        *response.status_mut() = code
            .parse::<u16>()
            .ok()
            .filter(|c| (200..1000).contains(c))
            .and_then(|c| StatusCode::from_u16(c).ok())
            .unwrap_or(StatusCode::BAD_REQUEST);
        return response;
    }
    let delay = request.uri().query().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("delay=")));
    if let Some(time) = delay.and_then(duration) {
        tokio::time::sleep(time).await;
    }
    let mut headers = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in request.headers().iter().filter(|(n, _)| *n != "host") {
        headers.entry(canonical(name.as_str())).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let host = request.uri().authority().map(ToString::to_string);
    let host = host.or_else(|| request.headers().get("host")?.to_str().ok().map(str::to_owned)).unwrap_or_default();
    let set: Vec<String> = headers.get("X-Echo-Set-Header").cloned().unwrap_or_default();
    let [namespace, ingress, service, pod] = known.clone();
    let told = Told {
        path: target.clone(),
        host,
        method: request.method().to_string(),
        proto: match request.version() {
            hyper::Version::HTTP_2 => "HTTP/2.0".to_owned(),
            version => format!("{version:?}"),
        },
        headers,
        namespace,
        ingress,
        service,
        pod,
        tls: peer.tls.as_ref().map(|tls| ToldOfTls {
            version: tls.version.clone(),
            peer_certificates: tls.client_certificates.iter().map(|der| pem(der)).collect(),
            server_name: tls.server_name.clone(),
            negotiated_protocol: tls.protocol.clone(),
            cipher_suite: tls.cipher.clone(),
        }),
        sni: peer.tls.as_ref().filter(|_| target.contains("backendTLS")).map(|t| t.server_name.clone()).unwrap_or_default(),
    };
    let mut response = Response::new(full(serde_json::to_string_pretty(&told).unwrap_or_default()));
    let into = response.headers_mut();
    for pair in set.iter().flat_map(|line| line.split(',')) {
        let (name, value) = pair.trim().split_once(':').unwrap_or((pair.trim(), ""));
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.trim()), HeaderValue::from_str(value.trim())) {
            into.append(name, value);
        }
    }
    into.insert("content-type", HeaderValue::from_static("application/json"));
    into.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<String> = text.as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Runs tcp-echo: on each port it sends back each line with a prefix. Source: `istio/istio`, `samples/tcp-echo`.
pub(super) async fn tcp(container: &Container, args: &[String], log: &Out) -> i32 {
    let ports: Option<Vec<u16>> = args.first().map(|list| list.split(',').map(|p| p.parse().ok()).collect()).unwrap_or_default();
    let (Some(ports), Some(prefix)) = (ports, args.get(1)) else {
        log.line("usage: tcp-echo PORTS PREFIX");
        return 1;
    };
    let mut servers = JoinSet::new();
    for port in ports {
        match container.host.listen(Bind::Any, port) {
            Ok(listener) => {
                log.line(&format!("listening on [::]:{port}, prefix: {prefix}"));
                servers.spawn(lines(listener, prefix.clone(), log.clone()));
            }
            Err(error) => {
                log.line(&format!("listen error, err: {error}"));
                return 1;
            }
        }
    }
    servers.join_next().await;
    0
}

async fn lines(mut listener: Listener, prefix: String, log: Out) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            conn = listener.accept() => {
                let (prefix, log) = (prefix.clone(), log.clone());
                connections.spawn(async move {
                    let mut conn = BufReader::new(conn);
                    let mut line = String::new();
                    while let Ok(1..) = conn.read_line(&mut line).await {
                        log.line(&format!("request: {}", line.trim_end()));
                        if conn.get_mut().write_all(format!("{prefix} {line}").as_bytes()).await.is_err() {
                            break;
                        }
                        line.clear();
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{on, run};
    use super::super::{Image, run_main};
    use super::*;
    use crate::net::Network;
    use serde_json::{Value, json};

    fn server(network: &Network, image: Image, env: &[(&str, &str)]) -> Container {
        let host = network.add("10.244.0.6".parse().unwrap()).unwrap();
        network.names().set("echo", vec![host.ip()]);
        let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Container::new(host, "shop", "cluster.local", "echo-0", image, "echo", env)
    }

    #[tokio::test]
    async fn the_conformance_server_tells_what_it_was_asked_and_who_it_is() {
        let network = Network::default();
        let client = on(&network, "10.244.0.5");
        let container = server(&network, Image::EchoBasic, &[("POD_NAME", "echo-0"), ("NAMESPACE", "shop")]);
        let task = tokio::spawn(async move { run_main(&container, &[], &[], &Out::null()).await });
        tokio::task::yield_now().await;
        let args = ["curl", "-si", "-H", "X-Echo-Set-Header: X-A: b", "-H", "X-Twice: 1", "-H", "X-Twice: 2", "http://echo:3000/p?q=1"];
        let (_, out, err) = run(&client, &args).await;
        let (head, body) = out.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{out}{err}"));
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(head.contains("X-A: b"), "{head}");
        assert_eq!(
            (&body["path"], &body["host"], &body["method"], &body["proto"]),
            (&json!("/p?q=1"), &json!("echo:3000"), &json!("GET"), &json!("HTTP/1.1"))
        );
        assert_eq!((&body["pod"], &body["namespace"], &body["headers"]["X-Twice"]), (&json!("echo-0"), &json!("shop"), &json!(["1", "2"])));
        assert!(body.get("tls").is_none());
        let (_, out, _) = run(&client, &["curl", "-s", "--http2-prior-knowledge", "http://echo:3001/"]).await;
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["proto"], "HTTP/2.0");
        task.abort();
    }

    #[tokio::test]
    async fn lines_come_back_with_the_prefix() {
        let network = Network::default();
        let client = on(&network, "10.244.0.5");
        let container = server(&network, Image::TcpEcho, &[]);
        let args = ["9000,9001".to_owned(), "one".to_owned()];
        let task = tokio::spawn(async move { run_main(&container, &[], &args, &Out::null()).await });
        tokio::task::yield_now().await;
        let (_, out, err) = run(&client, &["sh", "-c", "echo hello | nc echo 9001"]).await;
        assert_eq!((out.as_str(), err.as_str()), ("one hello\n", ""));
        task.abort();
    }
}
