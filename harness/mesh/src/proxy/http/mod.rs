//! The HTTP connection manager and the router: `source/common/http/conn_manager_impl.cc`, `source/common/router/router.cc`.

mod body;
mod call;
mod filters;
mod forward;
mod reply;
mod request;
mod retry;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use gateproof_mesh_config::envoy::access_log::CallRecord;
use gateproof_mesh_config::envoy::hcm::{CodecType, RouteSource};
use gateproof_mesh_config::envoy::{Flag, HttpConnectionManager, RouteTable};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::connection::Connection;
use super::inspect::HTTP2_PREFACE;
use super::stats::Stat;
use super::stream::Stream;
use crate::net::Conn;

/// What ends a body early.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body on its way to an upstream.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, BodyError>;
/// A response's body on its way to a client.
type Answer = UnsyncBoxBody<Bytes, BodyError>;

/// One client's connection that speaks HTTP.
struct Http {
    connection: Arc<Connection>,
    manager: Arc<HttpConnectionManager>,
    /// What every record of a request on it begins with, with TLS.
    record: CallRecord,
    http2: bool,
    tls: bool,
    stats: HttpStats,
}

struct HttpStats {
    total: Stat,
    active: Stat,
    class: [Stat; 5],
    no_route: Stat,
    no_cluster: Stat,
}

impl Http {
    fn routes(&self) -> Option<Arc<RouteTable>> {
        match &self.manager.routes {
            RouteSource::Inline(table) => Some(table.clone()),
            RouteSource::Rds(name) => self.connection.env.route(name),
        }
    }
}

/// Serves a client's connection.
pub(super) async fn run(connection: &Arc<Connection>, manager: &Arc<HttpConnectionManager>, conn: Conn) {
    let (stream, tls) = match connection.secure(conn).await {
        Ok(secured) => secured,
        Err(words) => {
            let mut record = connection.record.clone();
            record.downstream.transport_failure = words;
            return connection.write_listener_log(&record);
        }
    };
    let mut record = connection.record.clone();
    record.downstream.tls = tls;
    if let Some(details) = connection.refused(&record) {
        record.connection_termination_details = Some(details);
        return connection.write_listener_log(&record);
    }
    serve(connection, manager, &record, stream).await;
    connection.write_listener_log(&record);
}

async fn serve(connection: &Arc<Connection>, manager: &Arc<HttpConnectionManager>, record: &CallRecord, mut stream: Stream) {
    let http2 = match (manager.codec, stream.alpn()) {
        (CodecType::Http1, _) => false,
        (CodecType::Http2, _) | (CodecType::Auto, Some(b"h2")) => true,
        (CodecType::Auto, Some(b"http/1.1" | b"http/1.0")) => false,
        (CodecType::Auto, _) => match stream.begins_with(HTTP2_PREFACE).await {
            Ok(begins) => begins,
            Err(_) => return,
        },
    };
    let stat = |what: &str| connection.env.stats.stat(&format!("http.{}.{what}", manager.stat_prefix));
    let stats = HttpStats {
        total: stat("downstream_rq_total"),
        active: stat("downstream_rq_active"),
        class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| stat(&format!("downstream_rq_{c}"))),
        no_route: stat("no_route"),
        no_cluster: stat("no_cluster"),
    };
    let tls = record.downstream.tls.is_some();
    let http = Arc::new(Http { connection: connection.clone(), manager: manager.clone(), record: record.clone(), http2, tls, stats });
    let of_service = http.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let http = of_service.clone();
        async move { Ok::<_, Infallible>(filters::handle(http, request).await) }
    });
    let io = TokioIo::new(stream);
    if http2 {
        // How it ended shows in the requests on it.
        let _ = http2::Builder::new(connection.env.tasks.clone()).serve_connection(io, service).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.preserve_header_case(manager.http1.preserve_case).title_case_headers(manager.http1.proper_case);
        builder.max_buf_size(usize::max(64 * 1024, manager.max_request_headers_kb as usize * 1024));
        if let Err(error) = builder.serve_connection(io, service).with_upgrades().await
            && error.is_parse()
        {
            malformed(&http);
        }
    }
}

/// What the client sent is no HTTP; hyper has answered 400.
fn malformed(http: &Http) {
    let mut record = http.record.clone();
    record.start = Some(jiff::Timestamp::now());
    record.duration = Some(std::time::Duration::ZERO);
    record.protocol = Some("HTTP/1.1".to_owned());
    record.response_code = Some(400);
    record.response_code_details = Some("http1.codec_error".to_owned());
    record.flags.set(Flag::DownstreamProtocolError);
    http.connection.env.journal.write(&http.manager.access_log, &record);
}
