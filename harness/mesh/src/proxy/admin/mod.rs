//! The admin interface and the health check: `source/server/admin`.

mod dump;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::read;
use super::update::Core;
use crate::net::Conn;

pub(super) use dump::dump;

type Answer = Response<Full<Bytes>>;

/// Answers on the admin port.
pub(super) fn server(core: &Arc<Core>) -> impl Fn(Conn) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
    serve(core, answer)
}

/// Answers the kubelet.
pub(super) fn health(core: &Arc<Core>) -> impl Fn(Conn) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
    serve(core, |core, path, _| match path {
        "/healthz/ready" if core.is_configured() => plain(StatusCode::OK, String::new()),
        "/healthz/ready" => plain(StatusCode::SERVICE_UNAVAILABLE, String::new()),
        _ => plain(StatusCode::NOT_FOUND, String::new()),
    })
}

fn serve(
    core: &Arc<Core>,
    answer: fn(&Arc<Core>, &str, &str) -> Answer,
) -> impl Fn(Conn) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
    let core: Weak<Core> = Arc::downgrade(core);
    move |conn| {
        let core = core.clone();
        Box::pin(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let core = core.clone();
                async move {
                    let response = match core.upgrade() {
                        Some(core) => answer(&core, request.uri().path(), request.uri().query().unwrap_or_default()),
                        None => plain(StatusCode::SERVICE_UNAVAILABLE, String::new()),
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            // The client may go away at any time.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(conn), service).await;
        })
    }
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn plain(status: StatusCode, body: String) -> Answer {
    typed(status, "text/plain; charset=UTF-8", body)
}

/// Undoes percent encoding.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(b) = bytes.get(i) {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (b, hex) {
            (b'%', Some(c)) => {
                out.push(c);
                i += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                i += 1;
            }
            _ => {
                out.push(*b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The parameters of a query, in order; one without `=` has an empty value.
fn parameters(query: &str) -> Vec<(String, String)> {
    let pair = |p: &str| p.split_once('=').map_or_else(|| (decoded(p), String::new()), |(k, v)| (decoded(k), decoded(v)));
    query.split('&').filter(|p| !p.is_empty()).map(pair).collect()
}

fn answer(core: &Arc<Core>, path: &str, query: &str) -> Answer {
    let parameters = parameters(query);
    let parameter = |name: &str| parameters.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let json = |body: String| typed(StatusCode::OK, "application/json", body);
    match path {
        "/config_dump" => match parameter("resource") {
            None => json(dump(core, parameter("include_eds").is_some())),
            Some(resource) => match dump::resource(core, resource) {
                Some(body) => json(body),
                None => plain(StatusCode::NOT_FOUND, format!("{resource} not found in config dump")),
            },
        },
        "/stats" => stats(core, parameter("filter"), parameter("usedonly").is_some(), parameter("format")),
        "/stats/prometheus" => stats(core, parameter("filter"), parameter("usedonly").is_some(), Some("prometheus")),
        "/server_info" => json(server_info(core)),
        "/ready" => match core.is_configured() {
            true => plain(StatusCode::OK, "LIVE\n".to_owned()),
            false => plain(StatusCode::SERVICE_UNAVAILABLE, "PRE_INITIALIZING\n".to_owned()),
        },
        "/clusters" => plain(StatusCode::OK, clusters(core)),
        "/listeners" => {
            let tables = read(&core.env.tables);
            let lines = tables.listeners.iter().map(|(name, l)| format!("{name}::{}\n", l.spec.address));
            plain(StatusCode::OK, lines.collect())
        }
        "/certs" => json(certificates(core)),
        "/logging" => plain(StatusCode::OK, "active loggers:\n".to_owned()),
        _ => plain(StatusCode::NOT_FOUND, format!("invalid path: {path}\n")),
    }
}

fn stats(core: &Arc<Core>, filter: Option<&str>, used_only: bool, format: Option<&str>) -> Answer {
    let all = &core.env.stats;
    let answer = match format {
        Some("json") => all.json(filter, used_only).map(|found| typed(StatusCode::OK, "application/json", found.to_string())),
        Some("prometheus") => all.text(filter, used_only).map(|lines| {
            let name = |n: &str| n.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
            let lines = lines.lines().filter_map(|l| l.rsplit_once(": ")).map(|(n, v)| format!("envoy_{}{{}} {v}\n", name(n)));
            plain(StatusCode::OK, lines.collect())
        }),
        _ => all.text(filter, used_only).map(|lines| plain(StatusCode::OK, lines)),
    };
    answer.unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST, "Invalid re2 regex\n".to_owned()))
}

fn server_info(core: &Arc<Core>) -> String {
    json!({
        "version": format!("{}/gateproof-mesh simulated/{}/rustls", env!("CARGO_PKG_VERSION"), if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" }),
        "state": if core.is_configured() { "LIVE" } else { "PRE_INITIALIZING" },
        "hot_restart_version": "disabled",
        "node": dump::node(core),
    })
    .to_string()
}

fn clusters(core: &Arc<Core>) -> String {
    let all: Vec<_> = read(&core.env.tables).clusters.values().cloned().collect();
    let mut out = String::new();
    for cluster in all {
        let name = &cluster.spec.name;
        let limits = cluster.spec.circuit_breakers;
        let _ = writeln!(out, "{name}::observability_name::{}", cluster.alt_name.as_deref().unwrap_or(name));
        let _ = writeln!(out, "{name}::default_priority::max_connections::{}", limits.max_connections);
        let _ = writeln!(out, "{name}::default_priority::max_pending_requests::{}", limits.max_pending_requests);
        let _ = writeln!(out, "{name}::default_priority::max_requests::{}", limits.max_requests);
        let _ = writeln!(out, "{name}::default_priority::max_retries::{}", limits.max_retries);
        let _ = writeln!(out, "{name}::added_via_api::true");
        for host in &cluster.members().hosts {
            let of = format!("{name}::{}", host.address);
            let flags = if host.usable() { "healthy" } else { "/failed_eds_health" };
            let _ = writeln!(out, "{of}::hostname::{}\n{of}::health_flags::{flags}", host.endpoint.hostname);
            let _ = writeln!(out, "{of}::weight::{}\n{of}::priority::{}", host.endpoint.weight, host.endpoint.priority);
        }
    }
    out
}

fn certificates(core: &Arc<Core>) -> String {
    let names = dump::secret_names(core);
    let known = names.iter().filter(|n| core.env.secrets.get(n).is_some());
    let entry = |name: &String| json!({"ca_cert": [], "cert_chain": [{"path": "<inline>", "secret": name}]});
    json!({"certificates": known.map(entry).collect::<Vec<_>>()}).to_string()
}
