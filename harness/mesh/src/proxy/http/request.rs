//! The head of a request as it arrives.

use gateproof_mesh_config::envoy::arrival::PathVerdict;
use gateproof_mesh_config::envoy::{Headers, details};
use hyper::Version;
use hyper::http::request::Parts;

use super::Http;
use super::call::{Call, headers_of};
use super::reply::Reply;

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[&str] = &["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "te"];

/// Takes in the head of a request. An answer, where it is refused.
pub(super) fn prepare(call: &mut Call, parts: &Parts) -> Option<Reply> {
    let http = call.http.clone();
    let manager = &http.manager;
    let mut headers = Headers::new();
    let authority = parts.uri.authority().map(|a| a.as_str().to_owned());
    let host = parts.headers.get("host").map(|h| String::from_utf8_lossy(h.as_bytes()).into_owned());
    let named = authority.or(host).filter(|n| !n.is_empty());
    let old = matches!(parts.version, Version::HTTP_09 | Version::HTTP_10);
    let by_default = Some(manager.http1.default_host_for_http_10.clone()).filter(|h| old && !h.is_empty());
    let named = named.or(by_default);
    let path = match parts.method {
        hyper::Method::CONNECT => "",
        _ => parts.uri.path_and_query().map_or("/", |p| p.as_str()),
    };
    let port = http.record.downstream.local.map(|local| local.port());
    headers.append(":method", parts.method.as_str());
    headers.append(":path", path);
    headers.append(":authority", manager.host(named.as_deref().unwrap_or_default(), port));
    for (name, value) in headers_of(&parts.headers).iter().filter(|(n, _)| *n != "host") {
        headers.append(name, value);
    }
    call.record.protocol = Some(protocol(parts.version).to_owned());
    keep_end_to_end(&http, &mut headers);
    let arrival = manager.arrive(&mut headers, &http.record.downstream);
    call.record.downstream.remote = arrival.remote;
    let scheme = headers.get("x-forwarded-proto").unwrap_or("http").to_owned();
    headers.set(":scheme", scheme);
    let fresh = arrival.edge && !manager.preserve_external_request_id;
    if manager.generate_request_id && (fresh || headers.get("x-request-id").is_none()) {
        headers.set("x-request-id", http.connection.env.random.uuid());
    }
    let refused = refuse(&http, parts, old, named.is_some()).or_else(|| match manager.path(headers.path()) {
        PathVerdict::Use(path) => {
            headers.set(":path", path);
            None
        }
        PathVerdict::Reject => Some(Reply::new(400, "", details::PATH_NORMALIZATION_FAILED)),
        PathVerdict::Redirect(path) => Some(Reply::new(307, "", details::PATH_NORMALIZATION_FAILED).header("location", path)),
    });
    call.record.request = headers;
    refused
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 | Version::HTTP_09 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn refuse(http: &Http, parts: &Parts, old: bool, named: bool) -> Option<Reply> {
    if old && !http.manager.http1.accept_http_10 {
        return Some(Reply::new(426, "", details::LOW_VERSION));
    }
    if !named {
        return Some(Reply::new(400, "", details::MISSING_HOST));
    }
    let words = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let upgrades = words("connection").split(',').any(|t| t.trim() == "upgrade");
    // HTTP/2 over an upgrade is not offered, and not refused (`ServerConnectionImpl::onHeadersComplete`).
    let to = Some(words("upgrade")).filter(|to| upgrades && !to.is_empty() && to != "h2c");
    let foreign = to.is_some_and(|to| !http.manager.upgrades.contains(&to)) || parts.method == hyper::Method::CONNECT;
    foreign.then(|| Reply::new(403, "", details::UPGRADE_FAILED))
}

/// Drops what is for this connection alone; an upgrade that is let through goes on.
fn keep_end_to_end(http: &Http, headers: &mut Headers) {
    let upgrade = headers.get("upgrade").map(str::to_ascii_lowercase).filter(|u| http.manager.upgrades.contains(u));
    let trailers = headers.get("te").is_some_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")));
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.set("te", "trailers");
    }
    if let Some(upgrade) = upgrade {
        headers.set("connection", "Upgrade");
        headers.set("upgrade", upgrade);
    }
}
