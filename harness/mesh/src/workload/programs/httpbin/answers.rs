//! What each path answers. Source: go-httpbin 2.26, `httpbin/handlers.go`, and its answers.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::body::{compact, pretty, read};
use super::request::{Asked, shown};
use super::text::{duration, reason};
use super::{Flavour, Httpbin, websocket};
use crate::workload::programs::serve::{Body, Peer, full};

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// Source: go-httpbin, `DefaultMaxDuration`.
const MAX_DURATION: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 100 * 1024;

/// Methods that a path is bound to; all others take any.
const METHODS: &[(&str, &[&str])] = &[
    ("/get", &["GET", "HEAD"]),
    ("/head", &["HEAD", "GET"]),
    ("/post", &["POST"]),
    ("/put", &["PUT"]),
    ("/patch", &["PATCH"]),
    ("/delete", &["DELETE"]),
];

pub(super) async fn answer(server: &Httpbin, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
    if request.uri().path() == "/websocket/echo" && server.flavour == Flavour::Go {
        return websocket::answer(request);
    }
    let Some(asked) = Asked::read(&mut request, peer).await else {
        return failure(400, "error parsing request body: http: request body too large");
    };
    if asked.method == "OPTIONS" {
        let methods = "GET, POST, HEAD, PUT, DELETE, PATCH, QUERY, OPTIONS";
        let asked_for = asked.header("Access-Control-Request-Headers").unwrap_or_default();
        let mut extra = vec![("access-control-allow-methods", methods), ("access-control-max-age", "3600")];
        if !asked_for.is_empty() {
            extra.push(("access-control-allow-headers", asked_for));
        }
        return reply(200, "", Vec::new(), &extra);
    }
    if let Some(clean) = clean(&asked.path) {
        let query = asked.target.split_once('?').map_or_else(String::new, |(_, query)| format!("?{query}"));
        let body = if asked.method == "GET" { format!("<a href=\"{clean}{query}\">Temporary Redirect</a>.\n\n") } else { String::new() };
        return reply(307, HTML, body, &[("location", format!("{clean}{query}").as_str())]);
    }
    if let Some((_, allowed)) = METHODS.iter().find(|(path, _)| *path == asked.path)
        && !allowed.contains(&asked.method.as_str())
    {
        let mut allowed = allowed.to_vec();
        allowed.sort_unstable();
        return reply(405, TEXT, "Method Not Allowed\n", &[("allow", allowed.join(", ").as_str()), ("x-content-type-options", "nosniff")]);
    }
    by_path(server, &asked).await
}

/// Where Go's router sends a path with doubled slashes or dots in it; None for a clean one. Source: Go 1.26, `net/http`,
/// `cleanPath` and `ServeMux.findHandler`.
fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let ends = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    let clean = format!("/{}{ends}", parts.join("/"));
    (clean != path).then_some(clean)
}

async fn by_path(server: &Httpbin, asked: &Asked) -> Response<Body> {
    let flat = server.flavour == Flavour::Python;
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => {
            reply(200, HTML, "<!DOCTYPE html>\n<html>\n<head><title>httpbin</title></head>\n<body><h1>httpbin</h1></body>\n</html>\n", &[])
        }
        ["get" | "head"] => json_of(200, &asked.told(flat)),
        ["post" | "put" | "patch" | "delete"] | ["anything", ..] => with_body(asked, flat, &[]),
        ["headers"] => json_of(200, &[("headers", shown(&asked.headers, flat))]),
        ["ip"] => json_of(200, &[("origin", json!(asked.origin))]),
        ["user-agent"] => json_of(200, &[("user-agent", json!(asked.header("User-Agent").unwrap_or_default()))]),
        ["status", codes] => status(server, codes),
        ["unstable"] => {
            let rate = asked.arg("failure_rate").map_or(Some(0.5), |r| r.parse::<f64>().ok());
            match rate.filter(|r| (0.0..=1.0).contains(r)) {
                Some(rate) => reply(if server.chance() < rate { 500 } else { 200 }, TEXT, "", &[]),
                None => failure(400, "invalid failure rate"),
            }
        }
        ["delay", time] => match duration(time).filter(|d| *d <= MAX_DURATION) {
            None => failure(400, &format!("invalid duration: {time}")),
            Some(time) => {
                tokio::time::sleep(time).await;
                let millis = time.as_secs_f64() * 1000.0;
                with_body(asked, flat, &[("server-timing", format!("initial_delay;dur={millis:.2};desc=\"initial delay\"").as_str())])
            }
        },
        ["bytes" | "stream-bytes", count] => match count.parse::<usize>() {
            Ok(count) => {
                let mut bytes = Vec::new();
                while bytes.len() < count.min(MAX_BYTES) {
                    bytes.extend_from_slice(&server.draw());
                }
                bytes.truncate(count.min(MAX_BYTES));
                reply(200, "application/octet-stream", bytes, &[])
            }
            Err(_) => failure(400, &format!("invalid byte count: {}: invalid syntax", quoted(count))),
        },
        ["stream", count] => match count.parse::<usize>() {
            Ok(count) => lines(asked, flat, count.clamp(1, 100)),
            Err(_) => failure(400, &format!("invalid line count: {}: invalid syntax", quoted(count))),
        },
        ["drip"] => drip(asked).await,
        ["range", count] => match count.parse::<usize>().ok().filter(|n| (1..=MAX_BYTES).contains(n)) {
            Some(count) => {
                let text: Vec<u8> = (b'a'..=b'z').cycle().take(count).collect();
                reply(200, TEXT, text, &[("etag", format!("range{count}").as_str()), ("accept-ranges", "bytes")])
            }
            None => failure(404, "invalid count"),
        },
        ["redirect" | "relative-redirect" | "absolute-redirect", count] => {
            redirect(asked, parts.first().copied().unwrap_or_default(), count)
        }
        ["redirect-to"] => match (asked.arg("url"), asked.arg("status_code").map_or(Ok(302), str::parse::<u16>)) {
            (None, _) => failure(400, "missing required query parameter: url"),
            (Some(url), Ok(code @ 300..=399)) => reply(code, "", "", &[("location", url)]),
            (Some(_), _) => {
                failure(400, &format!("invalid status code: {} not in range [300, 399]", asked.arg("status_code").unwrap_or_default()))
            }
        },
        ["response-headers"] => response_headers(asked, flat),
        ["cookies"] => json_of(200, &[("cookies", json!(asked.cookies()))]),
        ["cookies", "set"] => cookies(asked, |name, value| format!("{name}={value}; Path=/; HttpOnly")),
        ["cookies", "delete"] => {
            cookies(asked, |name, _| format!("{name}=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly"))
        }
        ["basic-auth", user, password] => basic(asked, user, password, false),
        ["hidden-basic-auth", user, password] => basic(asked, user, password, true),
        ["bearer"] => match asked.header("Authorization").and_then(|h| h.strip_prefix("Bearer ")) {
            Some(token) => json_of(200, &[("authenticated", json!(true)), ("token", json!(token))]),
            None => with_headers(failure(401, ""), &[("www-authenticate", "Bearer")]),
        },
        ["uuid"] => json_of(200, &[("uuid", json!(uuid(server.draw())))]),
        ["json"] => json_of(200, &[("slideshow", slideshow())]),
        ["html"] => {
            reply(200, HTML, "<!DOCTYPE html>\n<html>\n  <head>\n  </head>\n  <body>\n      <h1>A page</h1>\n  </body>\n</html>\n", &[])
        }
        ["xml"] => reply(
            200,
            "application/xml",
            "<?xml version='1.0' encoding='us-ascii'?>\n<slideshow title=\"Sample Slide Show\"></slideshow>\n",
            &[],
        ),
        ["robots.txt"] => reply(200, TEXT, "User-agent: *\nDisallow: /deny\n", &[]),
        ["deny"] => reply(200, TEXT, "YOU SHOULDN'T BE HERE", &[]),
        ["base64", text] | ["base64", "decode", text] => match URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)) {
            Ok(bytes) => reply(200, TEXT, bytes, &[]),
            Err(error) => failure(400, &format!("base64 decode failed: {error}")),
        },
        ["base64", "encode", text] => reply(200, TEXT, URL_SAFE.encode(text), &[]),
        ["cache"] if asked.header("If-None-Match").is_some() || asked.header("If-Modified-Since").is_some() => reply(304, "", "", &[]),
        ["cache"] => json_of(200, &asked.told(flat)),
        ["cache", seconds] if seconds.parse::<u32>().is_ok() => {
            with_headers(json_of(200, &asked.told(flat)), &[("cache-control", format!("public, max-age={seconds}").as_str())])
        }
        ["etag", tag] => {
            let quoted = format!("\"{tag}\"");
            let is_same =
                asked.header("If-None-Match").is_some_and(|given| given.split(',').any(|g| g.trim() == quoted || g.trim() == *tag));
            let answer = if is_same { reply(304, "", "", &[]) } else { reply(200, TEXT, pretty(&asked.told(flat)), &[]) };
            with_headers(answer, &[("etag", &quoted)])
        }
        ["hostname"] if !flat => json_of(200, &[("hostname", json!(server.told_hostname))]),
        ["env"] if !flat => json_of(200, &[("env", json!(server.env))]),
        ["dump", "request"] => reply(200, TEXT, dump(asked), &[]),
        _ => reply(404, TEXT, "404 page not found\n", &[("x-content-type-options", "nosniff")]),
    }
}

fn reply(code: u16, kind: &str, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !kind.is_empty() {
        response = with_headers(response, &[("content-type", kind)]);
    }
    with_headers(response, headers)
}

/// What is no header (a name or value that HTTP does not allow) is left out.
fn with_headers(mut response: Response<Body>, headers: &[(&str, &str)]) -> Response<Body> {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn json_of(code: u16, fields: &[(&str, Value)]) -> Response<Body> {
    reply(code, JSON, pretty(fields), &[])
}

fn failure(code: u16, detail: &str) -> Response<Body> {
    let mut fields = vec![("status_code", json!(code)), ("error", json!(reason(code)))];
    if !detail.is_empty() {
        fields.push(("detail", json!(detail)));
    }
    json_of(code, &fields)
}

fn quoted(text: &str) -> String {
    format!("{text:?}: strconv.Atoi: parsing {text:?}")
}

fn with_body(asked: &Asked, flat: bool, headers: &[(&str, &str)]) -> Response<Body> {
    match read(asked) {
        Ok(read) => with_headers(json_of(200, &asked.told_with_body(&read, flat)), headers),
        Err(error) => failure(400, &error),
    }
}

/// One code, or one of several by weight: `200:0.9,500:0.1`.
fn status(server: &Httpbin, codes: &str) -> Response<Body> {
    let mut choices = Vec::new();
    for choice in codes.split(',') {
        let (code, weight) = choice.split_once(':').unwrap_or((choice, "1"));
        let Ok(code) = code.parse::<u16>() else {
            return failure(400, &format!("invalid status code: {}: invalid syntax", quoted(code)));
        };
        if !(100..=599).contains(&code) {
            return failure(400, &format!("invalid status code: {code} not in range [100, 599]"));
        }
        match weight.parse::<f64>() {
            Ok(weight) if weight >= 0.0 => choices.push((code, weight)),
            _ => return failure(400, &format!("invalid weight value: {weight:?}")),
        }
    }
    let total: f64 = choices.iter().map(|(_, w)| w).sum();
    let mut at = if choices.len() == 1 { 0.0 } else { server.chance() * total };
    let chosen = choices.iter().find(|(_, weight)| {
        at -= weight;
        at < 0.0
    });
    let code = chosen.or(choices.last()).map_or(200, |(code, _)| *code);
    special_status(code)
}

fn special_status(code: u16) -> Response<Body> {
    let to = |location: &str| reply(code, TEXT, "", &[("location", location)]);
    match code {
        // An interim response is no answer; Go's server writes such a status as the final one, which HTTP forbids.
        100..=199 => failure(400, &format!("interim status {code} cannot be a final one")),
        300 => with_headers(
            reply(300, TEXT, "<!doctype html>\n<head>\n<title>Multiple Choices</title>\n</head>\n", &[]),
            &[("location", "/image/jpeg")],
        ),
        301 | 302 | 303 | 305 | 307 | 308 => to("/redirect/1"),
        401 => reply(401, TEXT, "", &[("www-authenticate", "Basic realm=\"Fake Realm\"")]),
        407 => reply(407, TEXT, "", &[("proxy-authenticate", "Basic realm=\"Fake Realm\"")]),
        406 => json_of(
            406,
            &[
                ("message", json!("Client did not request a supported media type")),
                ("accept", json!(["image/webp", "image/svg+xml", "image/jpeg", "image/png", "image/"])),
            ],
        ),
        418 => reply(418, TEXT, "I'm a teapot!", &[("x-more-info", "http://tools.ietf.org/html/rfc2324")]),
        code => reply(code, TEXT, "", &[]),
    }
}

fn lines(asked: &Asked, flat: bool, count: usize) -> Response<Body> {
    let told: Vec<(&'static str, Value)> = asked.told(flat).into_iter().filter(|(name, _)| *name != "method").collect();
    let line = move |id: usize| {
        let mut fields = vec![("id", json!(id))];
        fields.extend(told.iter().cloned());
        Ok(Frame::data(Bytes::from(compact(&fields))))
    };
    let stream = futures::stream::iter((0..count).map(line));
    with_headers(Response::new(StreamBody::new(stream).boxed_unsync()), &[("content-type", TEXT)])
}

/// Bytes, one after another, with pauses.
async fn drip(asked: &Asked) -> Response<Body> {
    let time = |name: &str, or: f64| asked.arg(name).map_or_else(|| duration(&or.to_string()), duration).filter(|d| *d <= MAX_DURATION);
    let (Some(all), Some(delay)) = (time("duration", 2.0), time("delay", 2.0)) else {
        return failure(400, "invalid duration or delay");
    };
    let count = asked.arg("numbytes").map_or(Ok(10), str::parse::<u32>);
    let code = asked.arg("code").map_or(Ok(200), str::parse::<u16>);
    let (Ok(count @ 1..=10_000), Ok(code @ 200..=599)) = (count, code) else {
        return failure(400, "invalid numbytes or code");
    };
    tokio::time::sleep(delay).await;
    let pause = if count > 1 { all / (count - 1) } else { all };
    let stream = futures::stream::iter(0..count).then(move |at| async move {
        if at > 0 {
            tokio::time::sleep(pause).await;
        }
        Ok(Frame::data(Bytes::from_static(b"*")))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    with_headers(response, &[("content-type", TEXT), ("content-length", count.to_string().as_str())])
}

fn redirect(asked: &Asked, how: &str, count: &str) -> Response<Body> {
    let Some(count) = count.parse::<u32>().ok().filter(|n| *n > 0) else {
        return failure(400, &format!("invalid redirect count: {}: invalid syntax", quoted(count)));
    };
    let absolute = how == "absolute-redirect" || (how == "redirect" && asked.arg("absolute") == Some("true"));
    let path = match (count, absolute) {
        (1, _) => "/get".to_owned(),
        (_, true) => format!("/absolute-redirect/{}", count - 1),
        (_, false) => format!("/relative-redirect/{}", count - 1),
    };
    let here = asked.url.strip_suffix(asked.target.as_str()).unwrap_or_default();
    reply(302, "", "", &[("location", &if absolute { format!("{here}{path}") } else { path })])
}

fn response_headers(asked: &Asked, flat: bool) -> Response<Body> {
    let mut told = asked.args.clone();
    told.entry("Content-Type".to_owned()).or_insert_with(|| vec![JSON.to_owned()]);
    let kind = told.get("Content-Type").and_then(|v| v.first()).cloned().unwrap_or_default();
    let fields: Vec<(&str, Value)> =
        told.iter().map(|(n, v)| (n.as_str(), if flat && v.len() == 1 { json!(v.first()) } else { json!(v) })).collect();
    let mut response = reply(200, &kind, pretty(&fields), &[]);
    for (name, value) in asked.args.iter().flat_map(|(n, all)| all.iter().map(move |v| (n, v))) {
        if !name.eq_ignore_ascii_case("content-type") {
            response = with_headers(response, &[(name, value)]);
        }
    }
    response
}

fn cookies(asked: &Asked, cookie: impl Fn(&str, &str) -> String) -> Response<Body> {
    let mut response = reply(302, "", "", &[("location", "/cookies")]);
    for (name, values) in &asked.args {
        response = with_headers(response, &[("set-cookie", &cookie(name, values.first().map_or("", String::as_str)))]);
    }
    response
}

fn basic(asked: &Asked, user: &str, password: &str, hidden: bool) -> Response<Body> {
    let given = asked.header("Authorization").and_then(|h| h.strip_prefix("Basic ")).and_then(|b| STANDARD.decode(b).ok());
    let given = given.map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let (given_user, given_password) = given.split_once(':').unwrap_or((&given, ""));
    let fits = given_user == user && given_password == password;
    let told = [("authenticated", json!(fits)), ("user", json!(given_user)), ("authorized", json!(fits))];
    match (fits, hidden) {
        (true, _) => json_of(200, &told),
        (false, true) => failure(404, ""),
        (false, false) => with_headers(json_of(401, &told), &[("www-authenticate", "Basic realm=\"Fake Realm\"")]),
    }
}

fn uuid(bytes: [u8; 32]) -> String {
    let hex: String = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

fn slideshow() -> Value {
    json!({"author": "Yours Truly", "date": "date of publication", "title": "Sample Slide Show", "slides": [
        {"title": "Wake up to WonderWidgets!", "type": "all"},
        {"title": "Overview", "type": "all",
         "items": ["Why <em>WonderWidgets</em> are great", "Who <em>buys</em> WonderWidgets"]}]})
}

fn dump(asked: &Asked) -> String {
    let mut out =
        format!("{} {} {:?}\r\nHost: {}\r\n", asked.method, asked.target, asked.version, asked.header("Host").unwrap_or_default());
    for (name, values) in asked.headers.iter().filter(|(n, _)| *n != "Host") {
        for value in values {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    out + "\r\n" + &String::from_utf8_lossy(&asked.body)
}
