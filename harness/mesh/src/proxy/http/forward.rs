//! The router: requests to upstreams, and their responses back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateproof_mesh_config::envoy::cluster::Discovery;
use gateproof_mesh_config::envoy::route::{Action, Mirror, RetryPolicy, RouteAction};
use gateproof_mesh_config::envoy::{Flag, Headers, Matched, details};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::super::stats::Held;
use super::super::tls::Hello;
use super::super::upstream::{ClusterRuntime, ConnectError, Lease, Reset, Sender, UpstreamHost};
use super::body::{RequestBody, ResponseBody};
use super::call::{Call, headers_of};
use super::reply::{Reply, close_when_draining, finish_headers, map_of, send, send_by};
use super::retry;
use super::{Answer, Outgoing, upgrade};

/// A request that all filters before the router let pass.
pub(super) struct Ready {
    pub(super) call: Call,
    pub(super) incoming: Incoming,
    pub(super) upgrade: Option<OnUpgrade>,
    /// Filters add these to the response.
    pub(super) annotations: Headers,
    /// No `x-envoy-*` headers.
    pub(super) quiet: bool,
}

/// Holds the connection to the upstream while the response is read.
pub(super) struct Keeper {
    cluster: Arc<ClusterRuntime>,
    host: Arc<UpstreamHost>,
    lease: Lease,
    active: Option<Held>,
}

impl Keeper {
    /// The response is read: the connection is free.
    pub(super) fn give_back(self) {
        drop(self.active);
        self.cluster.give_back(&self.host, self.lease);
    }
}

/// What came of one attempt.
enum Attempted {
    Response(Response<Incoming>, Box<Keeper>),
    Failed(ConnectError),
    NoHost,
}

/// One request on its way.
struct Way<'a> {
    call: Call,
    cluster: Arc<ClusterRuntime>,
    matched: &'a Matched,
    policy: Option<&'a RetryPolicy>,
    body: RequestBody,
    finalized: bool,
    tried: Vec<std::net::SocketAddr>,
}

/// Sends a request to a cluster, and its response to the client.
pub(super) async fn forward(ready: Ready, matched: &Matched, cluster: String) -> Response<Answer> {
    let Ready { mut call, incoming, upgrade, annotations, quiet } = ready;
    let Action::Forward(action) = &matched.route.action else {
        return send(call, Reply::new(404, "", details::ROUTE_NOT_FOUND).flag(Flag::NoRouteFound));
    };
    let Some(runtime) = call.http.connection.env.cluster(&cluster) else {
        call.http.stats.no_cluster.inc();
        let reply = Reply::new(action.cluster_not_found_status, "", details::CLUSTER_NOT_FOUND);
        return send_by(call, reply.flag(Flag::NoClusterFound), Some(matched));
    };
    call.record.upstream.cluster = Some(cluster);
    call.record.upstream.cluster_alt_name.clone_from(&runtime.alt_name);
    call.record.upstream.metadata.clone_from(&runtime.spec.metadata);
    let policy = action.retry.as_ref().or(matched.virtual_host.retry.as_ref()).filter(|p| !p.retry_on.is_empty());
    let body = RequestBody::new(incoming, policy.is_some() || !action.mirrors.is_empty());
    call.body = Some(body.clone());
    let limit = timeout(action, &call.record.request);
    if let Some(limit) = limit.filter(|_| !quiet) {
        call.record.request.set("x-envoy-expected-rq-timeout-ms", limit.as_millis().to_string());
    }
    if !action.mirrors.is_empty() {
        body.gather().await;
        for mirror in &action.mirrors {
            shadow(&call, mirror, &body, matched);
        }
    }
    let began = Instant::now();
    let mut way = Way { call, cluster: runtime, matched, policy, body, finalized: false, tried: Vec::new() };
    let attempted = match limit {
        None => way.attempts().await,
        Some(limit) => match tokio::time::timeout(limit, way.attempts()).await {
            Ok(attempted) => attempted,
            Err(_) => {
                way.cluster.stats.rq_timeout.inc();
                let reply = Reply::new(504, "upstream request timeout", details::RESPONSE_TIMEOUT);
                return send_by(way.call, reply.flag(Flag::UpstreamRequestTimeout), Some(matched));
            }
        },
    };
    match attempted {
        Err(reply) => send_by(way.call, *reply, Some(matched)),
        Ok((response, keeper)) => respond(way, response, *keeper, upgrade, &annotations, quiet, began),
    }
}

fn respond(
    way: Way<'_>,
    response: Response<Incoming>,
    keeper: Keeper,
    client: Option<OnUpgrade>,
    annotations: &Headers,
    quiet: bool,
    began: Instant,
) -> Response<Answer> {
    let (mut call, matched) = (way.call, way.matched);
    let (mut parts, incoming) = response.into_parts();
    let status = parts.status;
    let mut headers = headers_of(&parts.headers);
    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = headers.get("upgrade").map(str::to_owned);
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
    let waited = began.elapsed();
    call.record.response_duration = Some(waited);
    if !quiet {
        headers.set("x-envoy-upstream-service-time", waited.as_millis().to_string());
    }
    if matched.virtual_host.include_attempt_count_in_response {
        headers.set("x-envoy-attempt-count", call.record.upstream.attempts.to_string());
    }
    headers.remove("x-envoy-decorator-operation");
    call.record.response_code = Some(status.as_u16());
    call.record.response_code_details = Some(details::VIA_UPSTREAM.to_owned());
    headers.set(":status", status.as_str());
    matched.finalize_response(&mut headers, &call.record);
    for (name, value) in annotations.iter() {
        headers.set(name, value);
    }
    finish_headers(&call, &mut headers);
    parts.headers = map_of(&headers);
    call.record.response = headers;
    close_when_draining(&call, &mut parts.headers);
    if let (true, Some(client), Some(protocol)) = (switched, client, protocol) {
        parts.headers.insert("connection", HeaderValue::from_static("upgrade"));
        if let Ok(protocol) = HeaderValue::from_str(&protocol) {
            parts.headers.insert("upgrade", protocol);
        }
        let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *answer.status_mut() = status;
        *answer.headers_mut() = parts.headers;
        let upstream = hyper::upgrade::on(Response::from_parts(upgraded(&parts.extensions, status), incoming));
        upgrade::tunnel(call, client, upstream, keeper);
        return answer;
    }
    let mut answer = Response::new(ResponseBody::new(incoming, call, keeper).boxed_unsync());
    *answer.status_mut() = status;
    *answer.headers_mut() = parts.headers;
    answer
}

/// The head of the upstream's response again: hyper keeps the way to the raw connection there.
fn upgraded(extensions: &hyper::http::Extensions, status: StatusCode) -> hyper::http::response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.extensions = extensions.clone();
    parts
}

/// The route's timeout, or what a gRPC client asks for where it may.
fn timeout(action: &RouteAction, request: &Headers) -> Option<Duration> {
    let asked = request.get("grpc-timeout").and_then(grpc_timeout).zip(action.max_grpc_timeout);
    match asked {
        Some((asked, most)) if most.is_zero() => Some(asked).filter(|a| !a.is_zero()),
        Some((asked, most)) => Some(asked.min(most)),
        None => action.timeout,
    }
}

/// `10S`, `100m` (gRPC over HTTP/2, `Timeout`).
fn grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let value: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(value.saturating_mul(3600)),
        'M' => Duration::from_secs(value.saturating_mul(60)),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

impl Way<'_> {
    /// Tries until there is a response that is passed on; else the answer in its place.
    async fn attempts(&mut self) -> Result<(Response<Incoming>, Box<Keeper>), Box<Reply>> {
        loop {
            self.call.record.upstream.attempts += 1;
            let retries = self.call.record.upstream.attempts - 1;
            let attempted = match self.policy.and_then(|p| p.per_try_timeout) {
                None => self.attempt().await,
                Some(limit) => match tokio::time::timeout(limit, self.attempt()).await {
                    Ok(attempted) => attempted,
                    Err(_) if retries < self.policy.map_or(0, |p| p.num_retries) && self.body.can_repeat() => {
                        self.pause(retries + 1).await;
                        continue;
                    }
                    Err(_) => {
                        // `Filter::onPerTryTimeoutCommon`: as of any other attempt that would be made again.
                        if retries >= self.policy.map_or(0, |p| p.num_retries) {
                            self.call.record.flags.set(Flag::UpstreamRetryLimitExceeded);
                        }
                        self.cluster.stats.rq_timeout.inc();
                        let reply = Reply::new(504, "upstream request timeout", details::UPSTREAM_PER_TRY_TIMEOUT);
                        return Err(Box::new(reply.flag(Flag::UpstreamRequestTimeout)));
                    }
                },
            };
            let applies = self.policy.filter(|p| p.applies(&self.call.record.request));
            let again = match &attempted {
                Attempted::NoHost => {
                    let reply = Reply::new(503, "no healthy upstream", details::NO_HEALTHY_UPSTREAM);
                    return Err(Box::new(reply.flag(Flag::NoHealthyUpstream)));
                }
                Attempted::Failed(failure) => applies.filter(|p| p.after_reset(retry::kind(failure.reset))),
                Attempted::Response(response, _) => applies.filter(|p| {
                    let mut headers = headers_of(response.headers());
                    headers.set(":status", response.status().as_str());
                    p.after_response(&headers)
                }),
            };
            if let Some(policy) = again {
                if retries < policy.num_retries && self.body.can_repeat() {
                    self.pause(retries + 1).await;
                    continue;
                }
                if retries >= policy.num_retries {
                    self.call.record.flags.set(Flag::UpstreamRetryLimitExceeded);
                }
            }
            match attempted {
                Attempted::Response(response, keeper) => return Ok((response, keeper)),
                Attempted::Failed(failure) => return Err(Box::new(self.failed(failure, retries > 0))),
                Attempted::NoHost => {}
            }
        }
    }

    async fn pause(&self, retry: u32) {
        self.cluster.stats.rq_retry.inc();
        if let Some(policy) = self.policy {
            tokio::time::sleep(retry::wait(policy, retry, &self.call.http.connection.env.random)).await;
        }
    }

    /// Envoy's answer where there is none from the upstream.
    fn failed(&mut self, failure: ConnectError, retried: bool) -> Reply {
        let ConnectError { reset, transport } = failure;
        let latest = if retried { "retried and the latest reset reason" } else { "reset reason" };
        let mut body = format!("upstream connect error or disconnect/reset before headers. {latest}: {}", reset.words());
        if !transport.is_empty() {
            body.push_str(", transport failure reason: ");
            body.push_str(&transport);
        }
        let status = if reset == Reset::ProtocolError { 502 } else { 503 };
        let mut reply = Reply::new(status, body, details::upstream_reset(true, reset.words(), &transport)).flag(match reset {
            Reset::ConnectionFailure | Reset::ConnectionTimeout => Flag::UpstreamConnectionFailure,
            Reset::ConnectionTermination => Flag::UpstreamConnectionTermination,
            Reset::Stream | Reset::RefusedStream => Flag::UpstreamRemoteReset,
            Reset::Overflow => Flag::UpstreamOverflow,
            Reset::ProtocolError => Flag::UpstreamProtocolError,
        });
        if reset == Reset::Overflow {
            reply = reply.header("x-envoy-overloaded", "true");
        }
        self.call.record.upstream.transport_failure = transport;
        reply
    }

    /// The endpoint for an attempt.
    fn endpoint(&self) -> Option<Arc<UpstreamHost>> {
        let record = &self.call.record;
        if self.cluster.spec.discovery == Discovery::DynamicForwardProxy {
            return self.call.resolved.map(|to| self.cluster.at(to));
        }
        let asked = record.request.get("x-envoy-original-dst-host").filter(|_| self.cluster.spec.use_http_header);
        let original = asked.and_then(|a| a.parse().ok()).or(record.downstream.local);
        let avoid: &[_] = if self.policy.is_some_and(|p| p.previous_hosts) { &self.tried } else { &[] };
        self.cluster.choose(original, avoid).ok()
    }

    async fn attempt(&mut self) -> Attempted {
        let Some(host) = self.endpoint() else { return Attempted::NoHost };
        let Some(active) = self.cluster.begin_request() else {
            return Attempted::Failed(ConnectError { reset: Reset::Overflow, transport: String::new() });
        };
        self.tried.push(host.address);
        if !std::mem::replace(&mut self.finalized, true) {
            let mut headers = self.call.record.request.clone();
            self.matched.finalize_request(
                &mut headers,
                &self.call.record,
                Some(&host.endpoint.hostname).filter(|n| !n.is_empty()).map(String::as_str),
            );
            self.call.record.request = headers;
        }
        if self.matched.virtual_host.include_request_attempt_count {
            let attempts = self.call.record.upstream.attempts.to_string();
            self.call.record.request.set("x-envoy-attempt-count", attempts);
        }
        self.call.record.upstream.host = Some(host.address.to_string());
        self.call.record.upstream.local = None;
        let mut fresh = false;
        loop {
            let lease = match self.cluster.lease(&host, self.call.http.http2, self.hello(), fresh).await {
                Ok(lease) => lease,
                Err(failure) => {
                    if failure.reset != Reset::Overflow {
                        self.cluster.went(&host, 503);
                    }
                    return Attempted::Failed(failure);
                }
            };
            let mut keeper = Keeper { cluster: self.cluster.clone(), host: host.clone(), lease, active: None };
            self.call.record.upstream.local = Some(keeper.lease.local);
            self.call.record.upstream.tls = keeper.lease.tls.as_deref().cloned();
            self.call.record.upstream.protocol = Some(keeper.lease.protocol().to_owned());
            let Some(request) = message(&self.call.record.request, &keeper.lease.sender, self.body.attempt()) else {
                return Attempted::Failed(ConnectError { reset: Reset::ProtocolError, transport: String::new() });
            };
            let sent = match &mut keeper.lease.sender {
                Sender::Http1(sender) => sender.send_request(request).await,
                Sender::Http2(sender) => sender.send_request(request).await,
            };
            match sent {
                Ok(response) => {
                    let status = response.status().as_u16();
                    self.cluster.completed(status);
                    self.cluster.went(&host, status);
                    keeper.active = Some(active);
                    return Attempted::Response(response, Box::new(keeper));
                }
                // The connection was closed before the request was on it.
                Err(error) if keeper.lease.used && !fresh && error.is_canceled() && self.body.can_repeat() => fresh = true,
                Err(error) => {
                    self.cluster.went(&host, 503);
                    return Attempted::Failed(failure_of(&error));
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        let http = &self.cluster.spec.http;
        let authority = self.call.record.request.authority();
        let name = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(authority, |(name, _)| name);
        Hello { sni: http.auto_sni.then(|| name.to_owned()), check_name: http.auto_san_validation, alpn: Vec::new() }
    }
}

/// A request as the connection's protocol wants it.
fn message(headers: &Headers, sender: &Sender, body: Outgoing) -> Option<Request<Outgoing>> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(headers.method().as_bytes()).ok()?;
    *request.headers_mut() = map_of(headers);
    let path = if headers.path().is_empty() { "/" } else { headers.path() };
    match sender {
        Sender::Http1(_) => {
            *request.uri_mut() = path.parse().ok()?;
            request.headers_mut().insert(HOST, HeaderValue::from_str(headers.authority()).ok()?);
        }
        Sender::Http2(_) => {
            let scheme = headers.get(":scheme").unwrap_or("http");
            *request.uri_mut() = Uri::builder().scheme(scheme).authority(headers.authority()).path_and_query(path).build().ok()?;
            *request.version_mut() = hyper::Version::HTTP_2;
            for name in ["connection", "upgrade", "host"] {
                request.headers_mut().remove(name);
            }
        }
    }
    Some(request)
}

/// Why there is no response.
fn failure_of(error: &hyper::Error) -> ConnectError {
    let mut transport = String::new();
    let mut reset = if error.is_parse() { Reset::ProtocolError } else { Reset::ConnectionTermination };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                transport = super::super::tls::failure_words(io);
            }
            break;
        }
        // hyper hides the types of HTTP/2's errors.
        let words = cause.to_string();
        if words.contains("stream error received") {
            reset = if words.contains("refused stream") { Reset::RefusedStream } else { Reset::Stream };
        }
        source = cause.source();
    }
    ConnectError { reset, transport }
}

/// Sends a copy that nobody waits for (`ShadowWriterImpl`).
fn shadow(call: &Call, mirror: &Mirror, body: &RequestBody, matched: &Matched) {
    let env = &call.http.connection.env;
    if mirror.fraction.is_some_and(|share| !share.draws(env.random.next())) {
        return;
    }
    let Some(cluster) = env.cluster(&mirror.cluster) else { return };
    let mut headers = call.record.request.clone();
    matched.finalize_request(&mut headers, &call.record, None);
    if !mirror.disable_shadow_host_suffix {
        let host = headers.authority();
        let host = match host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
            Some((name, port)) => format!("{name}-shadow:{port}"),
            None => format!("{host}-shadow"),
        };
        headers.set(":authority", host);
    }
    // The client that sends copies is one within the mesh (`AsyncStreamImpl::sendHeaders`).
    let before = headers.joined("x-forwarded-for").map_or_else(String::new, |list| list + ",");
    headers.set("x-forwarded-for", format!("{before}{}", env.node.ip));
    headers.set("x-envoy-internal", "true");
    let (outgoing, original, http2) = (body.attempt(), call.record.downstream.local, call.http.http2);
    env.tasks.spawn(async move {
        let Ok(host) = cluster.choose(original, &[]) else { return };
        let Some(_active) = cluster.begin_request() else { return };
        let Ok(mut lease) = cluster.lease(&host, http2, Hello::default(), false).await else { return };
        let Some(request) = message(&headers, &lease.sender, outgoing) else { return };
        let sent = match &mut lease.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        if let Ok(response) = sent {
            cluster.completed(response.status().as_u16());
            if response.into_body().collect().await.is_ok() {
                cluster.give_back(&host, lease);
            }
        }
    });
}
