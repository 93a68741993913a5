//! HTTP to pods and Services through the API server, which connects from the node.
//!
//! Source: Kubernetes `registry/core/pod/strategy.go` (ResourceLocation), `registry/core/service/storage/storage.go`,
//! `apimachinery/pkg/util/proxy/upgradeaware.go`.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::request::{At, Call};
use super::{ApiBody, Server};
use crate::api::error::ApiError;
use crate::api::store::Store;

/// Where the request goes.
struct Backend {
    namespace: String,
    pod: String,
    address: String,
    port: u16,
}

impl Server {
    pub(super) async fn proxy(&self, call: Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        let (scheme, name, port) =
            parts(at.name()).ok_or_else(|| ApiError::bad_request(format!("invalid {} request {:?}", at.resource.singular, at.name())))?;
        if scheme == "https" {
            return Err(ApiError::unavailable("https to a pod's port is not proxied here"));
        }
        let backend = if at.resource.plural == "pods" {
            pod_backend(&self.store, at, name, port)?
        } else {
            service_backend(&self.store, at, name, port)?
        };
        let unreachable = |why: &dyn std::fmt::Display| {
            ApiError::unavailable(format!("error trying to reach service: dial tcp {}:{}: {why}", backend.address, backend.port))
        };
        let dialled = self.kubelet.dial_from_node(&backend.namespace, &backend.pod, backend.port).await;
        let stream = dialled.map_err(|error| unreachable(&spoken(&error)))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let request = onward(&call, at, &backend)?;
        let answer = sender.send_request(request).await.map_err(|_| ApiError::unavailable("error trying to reach service: EOF"))?;
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(CONNECTION);
        parts.headers.remove(hyper::header::TRANSFER_ENCODING);
        Ok(Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync()))
    }
}

/// As Go words it.
fn spoken(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

/// `[SCHEME:]NAME[:PORT]`.
fn parts(id: &str) -> Option<(&str, &str, &str)> {
    match id.split(':').collect::<Vec<_>>().as_slice() {
        [name] => Some(("", name, "")),
        [name, port] => Some(("", name, port)),
        [scheme @ ("" | "http" | "https"), name, port] => Some((scheme, name, port)),
        _ => None,
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn pod_backend(store: &Store, at: &At, name: &str, port: &str) -> Result<Backend, ApiError> {
    let pod = store.read(&at.resource, at.namespace(), name)?;
    let address = text(&pod, "/status/podIP").to_owned();
    if address.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    // Without a port the first that a container declares.
    let declared = || {
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let mut ports = containers.into_iter().flatten().filter_map(|c| c.pointer("/ports/0/containerPort").and_then(Value::as_u64));
        ports.next().and_then(|p| u16::try_from(p).ok())
    };
    let port = if port.is_empty() { declared().or(Some(80)) } else { port.parse().ok() };
    let port = port.ok_or_else(|| ApiError::bad_request(format!("invalid port for pod {name}")))?;
    Ok(Backend { namespace: at.namespace().to_owned(), pod: name.to_owned(), address, port })
}

fn service_backend(store: &Store, at: &At, name: &str, port: &str) -> Result<Backend, ApiError> {
    let service = store.read(&at.resource, at.namespace(), name)?;
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_meant = |p: &&Value| text(p, "/name") == port || p.get("port").and_then(Value::as_u64).is_some_and(|n| port.parse() == Ok(n));
    let meant = if port.is_empty() && ports.len() == 1 { ports.first() } else { ports.iter().find(is_meant) };
    let meant = meant.ok_or_else(|| ApiError::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let port_name = text(meant, "/name");
    let of_service = |slice: &&std::sync::Arc<Value>| {
        slice.pointer("/metadata/labels").and_then(|l| l.get("kubernetes.io/service-name")).and_then(Value::as_str) == Some(name)
    };
    let none = || ApiError::unavailable(format!("no endpoints available for service {name:?}"));
    for slice in store.list("discovery.k8s.io/EndpointSlice", Some(at.namespace())).iter().filter(of_service) {
        let ports = slice.get("ports").and_then(Value::as_array);
        let found = ports.into_iter().flatten().find(|p| text(p, "/name") == port_name);
        let Some(number) = found.and_then(|p| p.get("port")).and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in slice.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            let pod = text(endpoint, "/targetRef/name");
            if ready && !pod.is_empty() {
                let address = text(endpoint, "/addresses/0").to_owned();
                return Ok(Backend { namespace: at.namespace().to_owned(), pod: pod.to_owned(), address, port: number });
            }
        }
    }
    Err(none())
}

/// The request as the back end gets it: the path after `proxy`, the client's headers and Host.
fn onward(call: &Call, at: &At, backend: &Backend) -> Result<Request<Full<Bytes>>, ApiError> {
    // The path as it came, not decoded: what follows the segment `proxy` after the name.
    let (path, query) = call.target.split_once('?').map_or((call.target.as_str(), None), |(p, q)| (p, Some(q)));
    let mut seen = path.match_indices("/proxy");
    let after = seen.find_map(|(index, word)| {
        let rest = path.get(index + word.len()..)?;
        let above = path.get(..index)?;
        let is_it = above.matches('/').count() >= 6 && (rest.is_empty() || rest.starts_with('/'));
        is_it.then_some(rest)
    });
    let rest = after.map_or_else(|| format!("/{}", at.rest.join("/")), str::to_owned);
    let mut target = if rest.is_empty() { "/".to_owned() } else { rest };
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let mut request = Request::builder().method(call.method.clone()).uri(target);
    for (name, value) in &call.headers {
        if ![CONNECTION, UPGRADE, AUTHORIZATION, HOST].contains(name) {
            request = request.header(name, value);
        }
    }
    let host = match call.header(HOST) {
        "" => format!("{}:{}", backend.address, backend.port),
        host => host.to_owned(),
    };
    request = request.header(HOST, host).header(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static("127.0.0.1"));
    // Go's transport asks for gzip by itself.
    if call.headers.get(ACCEPT_ENCODING).is_none() {
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    request.body(Full::new(call.body.clone())).map_err(|e| ApiError::bad_request(e.to_string()))
}
