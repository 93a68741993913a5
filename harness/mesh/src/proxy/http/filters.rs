//! A request through the HTTP filters, up to the router.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use gateproof_mesh_config::envoy::cluster::Discovery;
use gateproof_mesh_config::envoy::details;
use gateproof_mesh_config::envoy::http_filter::{Abort, CorsVerdict, Fault, HttpRbac, LocalRateLimit, PerFilter};
use gateproof_mesh_config::envoy::jwt::{JwtAuthn, JwtVerdict, PerRouteJwt};
use gateproof_mesh_config::envoy::{Decision, Flag, Headers, HttpFilterKind, Matched, RequestFacts, UpstreamSocket};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};

use super::super::jwks;
use super::call::Call;
use super::reply::{Reply, send, send_by};
use super::{Answer, Http, forward, request};

/// Answers a request.
pub(super) async fn handle(http: Arc<Http>, mut request: Request<Incoming>) -> Response<Answer> {
    let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
    let (parts, incoming) = request.into_parts();
    let mut call = Call::new(http.clone());
    if let Some(reply) = request::prepare(&mut call, &parts) {
        return send(call, reply);
    }
    let random = http.connection.env.random.next();
    let mut decision = decide(&http, &mut call, random);
    let mut annotations = Headers::new();
    for filter in &http.manager.http_filters {
        let settings = matched(&decision).and_then(|m| m.per_filter(&filter.name)).cloned();
        if matches!(settings, Some(PerFilter::Disabled)) || (filter.disabled && settings.is_none()) {
            continue;
        }
        let reply = match (&filter.kind, settings) {
            (HttpFilterKind::Rbac(_), Some(PerFilter::Rbac(None))) => None,
            (HttpFilterKind::Rbac(_), Some(PerFilter::Rbac(Some(rbac)))) => check_rbac(&mut call, &rbac),
            (HttpFilterKind::Rbac(rbac), _) => check_rbac(&mut call, rbac),
            (HttpFilterKind::Fault(_), Some(PerFilter::Fault(fault))) => inject(&mut call, &fault, &decision).await,
            (HttpFilterKind::Fault(fault), _) => inject(&mut call, fault, &decision).await,
            (HttpFilterKind::Cors, Some(PerFilter::Cors(cors))) => {
                match cors.check(&call.record.request, http.connection.env.random.next()) {
                    CorsVerdict::Pass => None,
                    CorsVerdict::Annotate(headers) => {
                        annotations = headers;
                        None
                    }
                    CorsVerdict::Preflight(headers) => Some(Reply { headers, ..Reply::new(200, "", details::CORS_PREFLIGHT) }),
                }
            }
            (HttpFilterKind::JwtAuthn(jwt), settings) => {
                let route = match &settings {
                    Some(PerFilter::Jwt(route)) => Some(route),
                    _ => None,
                };
                let reply = check_tokens(&mut call, jwt, route);
                // Claims may decide the route (`clear_route_cache`).
                decision = decide(&http, &mut call, random);
                reply
            }
            (HttpFilterKind::LocalRateLimit(_), Some(PerFilter::LocalRateLimit(limit))) => limit_rate(&mut call, &limit),
            (HttpFilterKind::LocalRateLimit(limit), _) => limit_rate(&mut call, limit),
            (HttpFilterKind::Buffer(limit), settings) => {
                let limit = match settings {
                    Some(PerFilter::Buffer(limit)) => limit,
                    _ => *limit,
                };
                let length = call.record.request.get("content-length").and_then(|l| l.parse::<u64>().ok());
                let over = limit.zip(length).is_some_and(|(limit, length)| length > u64::from(limit));
                over.then(|| Reply::new(413, "Payload Too Large", details::REQUEST_PAYLOAD_TOO_LARGE))
            }
            (HttpFilterKind::DynamicForwardProxy, _) => resolve(&mut call, &decision),
            (HttpFilterKind::SetFilterState(values), _) => {
                super::super::listener::set_state(values, &mut call.record);
                None
            }
            (HttpFilterKind::Router(router), _) => {
                let ready = forward::Ready { call, incoming, upgrade, annotations, quiet: router.suppress_envoy_headers };
                return route(ready, decision).await;
            }
            _ => None,
        };
        if let Some(mut reply) = reply {
            for (name, value) in annotations.iter() {
                reply.headers.set(name, value);
            }
            // A preflight's answer is written by its filter as it is, without the route's headers (`CorsFilter::decodeHeaders`).
            let route = matched(&decision).filter(|_| reply.details != details::CORS_PREFLIGHT);
            return send_by(call, reply, route);
        }
    }
    // A chain without a router: Envoy refuses such a listener.
    send(call, Reply::new(404, "", details::ROUTE_NOT_FOUND).flag(Flag::NoRouteFound))
}

fn decide(http: &Http, call: &mut Call, random: u64) -> Decision {
    let decision = match http.routes() {
        None => Decision::NotFound { virtual_host: None },
        Some(table) => {
            let facts = RequestFacts { headers: &call.record.request, tls: http.tls, internal: false, random, call: &call.record };
            table.route(&facts)
        }
    };
    let found = matched(&decision);
    call.record.route_name = found.map(|m| m.route.name.clone()).unwrap_or_default();
    call.record.virtual_host = found.map(|m| m.virtual_host.name.clone()).unwrap_or_default();
    call.record.route_metadata = found.map(|m| m.route.metadata.clone()).unwrap_or_default();
    // Known from the route on, and so in the log of what a filter answers before the router: a fault, a denial
    // (`ActiveStream::setCachedRoute`).
    if let Decision::Forward { cluster, .. } = &decision
        && let Some(runtime) = call.http.connection.env.cluster(cluster)
    {
        call.record.upstream.cluster = Some(cluster.clone());
        call.record.upstream.cluster_alt_name.clone_from(&runtime.alt_name);
        call.record.upstream.metadata.clone_from(&runtime.spec.metadata);
    }
    decision
}

fn matched(decision: &Decision) -> Option<&Matched> {
    match decision {
        Decision::Forward { matched, .. } | Decision::Redirect { matched, .. } | Decision::DirectResponse { matched, .. } => Some(matched),
        Decision::NotFound { .. } | Decision::TlsRedirect { .. } => None,
    }
}

/// What the router does.
async fn route(ready: forward::Ready, decision: Decision) -> Response<Answer> {
    let call = ready.call;
    match decision {
        Decision::Forward { matched, cluster } => forward::forward(forward::Ready { call, ..ready }, &matched, cluster).await,
        Decision::NotFound { .. } => {
            call.http.stats.no_route.inc();
            let known = call.http.routes().is_some();
            let words = if known { details::ROUTE_NOT_FOUND } else { details::ROUTE_CONFIGURATION_NOT_FOUND };
            send(call, Reply::new(404, "", words).flag(Flag::NoRouteFound))
        }
        Decision::TlsRedirect { location, .. } => send(call, Reply::new(301, "", details::DIRECT_RESPONSE).header("location", location)),
        Decision::Redirect { matched, status, location } => {
            let mut reply = Reply::new(status, "", details::DIRECT_RESPONSE).header("location", location);
            matched.finalize_response(&mut reply.headers, &call.record);
            send(call, reply)
        }
        Decision::DirectResponse { matched, status, body } => {
            let mut reply = Reply::new(status, body, details::DIRECT_RESPONSE);
            matched.finalize_response(&mut reply.headers, &call.record);
            send(call, reply)
        }
    }
}

fn check_rbac(call: &mut Call, rbac: &HttpRbac) -> Option<Reply> {
    let stats = &call.http.connection.env.stats;
    let prefix = &call.http.manager.stat_prefix;
    if let Some(rules) = &rbac.shadow_rules {
        let verdict = rules.check(&call.record);
        let result = if verdict.allowed { "allowed" } else { "denied" };
        let entry = call.record.metadata.entry("envoy.filters.http.rbac".to_owned()).or_insert_with(|| json!({}));
        if let Some(fields) = entry.as_object_mut() {
            fields.insert(format!("{}shadow_engine_result", rbac.shadow_prefix), result.into());
            if let Some(policy) = verdict.policy {
                fields.insert(format!("{}shadow_effective_policy_id", rbac.shadow_prefix), policy.into());
            }
        }
    }
    let verdict = rbac.rules.as_ref()?.check(&call.record);
    stats.stat(&format!("http.{prefix}.rbac.{}", if verdict.allowed { "allowed" } else { "denied" })).inc();
    (!verdict.allowed).then(|| Reply::new(403, "RBAC: access denied", details::rbac_denied(verdict.policy.as_deref())))
}

/// Finds out where the host of a request is, if its cluster goes there (`ProxyFilter::decodeHeaders`): at the port that it names, else
/// at the one of its scheme.
fn resolve(call: &mut Call, decision: &Decision) -> Option<Reply> {
    let Decision::Forward { cluster, .. } = decision else { return None };
    let env = call.http.connection.env.clone();
    let runtime = env.cluster(cluster).filter(|runtime| runtime.spec.discovery == Discovery::DynamicForwardProxy)?;
    let default = if matches!(runtime.spec.transport_socket, UpstreamSocket::Raw) { 80 } else { 443 };
    let authority = call.record.request.authority();
    let named = authority.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    // `[::1]` ends in what looks like a port only without its bracket.
    let (name, port) = named.unwrap_or((authority, default));
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let found = match name.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) => (env.resolve)(name).unwrap_or_default().into_iter().next(),
    };
    call.resolved = found.map(|address| SocketAddr::new(address, port));
    let failed = || Reply::new(503, "DNS resolution failure", details::DNS_RESOLUTION_FAILURE).flag(Flag::DnsResolutionFailed);
    call.resolved.is_none().then(failed)
}

async fn inject(call: &mut Call, fault: &Fault, decision: &Decision) -> Option<Reply> {
    let cluster = match decision {
        Decision::Forward { cluster, .. } => cluster.as_str(),
        _ => "",
    };
    let random = call.http.connection.env.random.clone();
    let verdict = fault.check(&call.record.request, cluster, random.next(), random.next());
    if let Some(delay) = verdict.delay {
        call.record.flags.set(Flag::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    let (status, grpc) = match verdict.abort? {
        Abort::Http(status) => (status, None),
        Abort::Grpc(code) => (200, Some(code)),
    };
    let mut reply = Reply::new(status, "fault filter abort", details::FAULT_ABORT).flag(Flag::FaultInjected);
    if let Some(code) = grpc {
        reply = reply.header("content-type", "application/grpc").header("grpc-status", code.to_string());
        reply = reply.header("grpc-message", "fault filter abort");
        reply.body.clear();
    }
    Some(reply)
}

fn check_tokens(call: &mut Call, jwt: &JwtAuthn, route: Option<&PerRouteJwt>) -> Option<Reply> {
    let now = call.record.start.map_or(0, jiff::Timestamp::as_second);
    match jwt.check(&call.record.request, route, now, &jwks::check) {
        JwtVerdict::Refuse { status, body, www_authenticate } => {
            let words = details::jwt_denied(&body);
            let reply = Reply::new(status, body, words);
            Some(if www_authenticate.is_empty() { reply } else { reply.header("www-authenticate", www_authenticate) })
        }
        JwtVerdict::Pass { metadata, set, remove, remove_parameters } => {
            let path = without_parameters(call.record.request.path(), &remove_parameters);
            call.record.request.set(":path", path);
            for name in &remove {
                call.record.request.remove(name);
            }
            for (name, value) in set {
                call.record.request.set(&name, value);
            }
            if !metadata.is_empty() {
                let fields: serde_json::Map<String, Value> = metadata.into_iter().collect();
                call.record.metadata.insert("envoy.filters.http.jwt_authn".to_owned(), Value::Object(fields));
            }
            None
        }
    }
}

/// A path whose query lacks these parameters.
fn without_parameters(path: &str, names: &[String]) -> String {
    let Some((bare, query)) = path.split_once('?').filter(|_| !names.is_empty()) else { return path.to_owned() };
    let kept = |pair: &&str| !names.iter().any(|n| pair.split('=').next() == Some(n));
    let query: Vec<&str> = query.split('&').filter(kept).collect();
    if query.is_empty() { bare.to_owned() } else { format!("{bare}?{}", query.join("&")) }
}

fn limit_rate(call: &mut Call, limit: &LocalRateLimit) -> Option<Reply> {
    let random = call.http.connection.env.random.clone();
    let bucket = limit.bucket.as_ref()?;
    if !limit.enabled.is_some_and(|share| share.draws(random.next())) {
        return None;
    }
    let which = bucket_key(call, limit);
    if call.http.connection.chain.take_token(which, bucket) || !limit.enforced.is_some_and(|share| share.draws(random.next())) {
        return None;
    }
    let mut reply = Reply::new(limit.status, "local_rate_limited", details::LOCAL_RATE_LIMITED).flag(Flag::RateLimited);
    for mutation in &limit.response_headers {
        reply.headers.set(&mutation.name, mutation.value.render(&call.record));
    }
    Some(reply)
}

/// Which bucket: settings of a route have their own; those of a connection too.
fn bucket_key(call: &Call, limit: &LocalRateLimit) -> usize {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (&call.record.virtual_host, &call.record.route_name, format!("{:?}", limit.bucket)).hash(&mut hasher);
    if limit.per_connection {
        call.record.downstream.connection_id.hash(&mut hasher);
    }
    usize::try_from(hasher.finish() >> 1).unwrap_or(usize::MAX)
}
