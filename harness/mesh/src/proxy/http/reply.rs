//! Answers that the proxy gives itself: `Utility::sendLocalReply`.

use gateproof_mesh_config::envoy::hcm::ServerHeader;
use gateproof_mesh_config::envoy::route::Matched;
use gateproof_mesh_config::envoy::{Flag, Headers};
use http_body_util::{BodyExt as _, Full};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

use super::Answer;
use super::call::Call;

/// An answer that is not the upstream's.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) details: String,
    pub(super) flags: Vec<Flag>,
    pub(super) headers: Headers,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<String>, details: impl Into<String>) -> Self {
        Self { status, body: body.into(), details: details.into(), ..Self::default() }
    }

    pub(super) fn flag(mut self, flag: Flag) -> Self {
        self.flags.push(flag);
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.set(name, value);
        self
    }
}

/// `Grpc::Utility::httpToGrpcStatus`.
fn grpc_status(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Percent-encoded as gRPC asks (`Http::Utility::PercentEncoding::encode`).
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if (b' '..=b'~').contains(&b) && b != b'%' {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

/// Answers where a route was found, whose headers an answer of the proxy's own has as well; what the answer brings itself
/// comes after them. Source: Envoy, `filter_manager.cc`, `DownstreamFilterManager::sendLocalReplyViaFilterChain`.
pub(super) fn send_by(call: Call, mut reply: Reply, matched: Option<&Matched>) -> Response<Answer> {
    if let Some(matched) = matched {
        let own = std::mem::take(&mut reply.headers);
        matched.finalize_response(&mut reply.headers, &call.record);
        for (name, value) in own.iter() {
            reply.headers.set(name, value);
        }
    }
    send(call, reply)
}

/// Answers, and writes the line.
pub(super) fn send(mut call: Call, reply: Reply) -> Response<Answer> {
    for flag in &reply.flags {
        call.record.flags.set(*flag);
    }
    call.record.response_code_details = Some(reply.details);
    let content_type = call.record.request.get("content-type").unwrap_or_default();
    let grpc = content_type == "application/grpc" || content_type.starts_with("application/grpc+");
    let mut headers = reply.headers;
    let (status, body) = if grpc {
        headers.set("content-type", "application/grpc");
        headers.set("grpc-status", grpc_status(reply.status).to_string());
        if !reply.body.is_empty() {
            headers.set("grpc-message", percent_encoded(&reply.body));
        }
        (200, String::new())
    } else {
        if !reply.body.is_empty() {
            headers.set("content-length", reply.body.len().to_string());
            if headers.get("content-type").is_none() {
                headers.set("content-type", "text/plain");
            }
        }
        (reply.status, reply.body)
    };
    let body = if call.record.request.method() == "HEAD" { String::new() } else { body };
    finish_headers(&call, &mut headers);
    call.record.response_code = Some(status);
    call.record.bytes_sent = body.len() as u64;
    call.record.response = headers.clone();
    call.record.response.set(":status", status.to_string());
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = map_of(&headers);
    close_when_draining(&call, response.headers_mut());
    call.finish();
    response
}

/// What the connection manager adds to every response (`ConnectionManagerUtility::mutateResponseHeaders`).
pub(super) fn finish_headers(call: &Call, headers: &mut Headers) {
    let manager = &call.http.manager;
    match manager.server_header {
        ServerHeader::PassThrough => {}
        ServerHeader::AppendIfAbsent if headers.get("server").is_some() => {}
        _ => headers.set("server", manager.server_name.clone()),
    }
    if manager.always_set_request_id_in_response
        && let Some(id) = call.record.request.get("x-request-id")
    {
        headers.set("x-request-id", id);
    }
    if !manager.via.is_empty() {
        headers.append("via", manager.via.clone());
    }
}

/// A chain that drains asks HTTP/1 clients to come again by another connection.
pub(super) fn close_when_draining(call: &Call, headers: &mut HeaderMap) {
    if !call.http.http2 && call.http.connection.chain.asks_to_close(&call.http.connection.env) {
        headers.insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Headers for the wire, without pseudo headers and what cannot be written.
pub(super) fn map_of(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(n, _)| !n.starts_with(':')) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            map.append(name, value);
        }
    }
    map
}
