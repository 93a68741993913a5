//! Absence in a log, shown: a later call of ours through the same proxy is in it.
//!
//! A log that has no line of a call proves nothing while lines may still come. So a sentinel is sent to each replica
//! after the call, straight to a port that its Envoy listens on, and its line is waited for: lines come in order.

use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::facts::PodGlance;
use gateproof_core::names::Namespaced;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exec::glance_at;
use super::logs::Since;
use super::{ProbeError, World, outside};
use crate::kube_ext::open_port;

/// A port that no application is expected to serve; a sidecar takes it to InboundPassthroughCluster and logs it.
const UNUSED_PORT: u16 = 64999;

/// How a proxy is made to log a call of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// A sidecar captures whatever comes to the pod's address.
    Sidecar,
    /// A gateway's port that speaks TLS.
    Tls(u16),
    /// A gateway's port that speaks HTTP.
    Plain(u16),
}

/// Sends a sentinel through every replica of a gateway and waits for its line. Returns what shows that each log has been
/// read past this moment, or None when a sentinel did not arrive.
pub(super) async fn past(world: &World, proxy: &Namespaced, since: &Since) -> Result<Option<String>, ProbeError> {
    let pods = match glance_at(&world.client, proxy).await {
        Ok(pods) => pods,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    // Where there is no proxy there is no log that could be without the call: nothing is shown.
    if pods.iter().any(|pod| !has_proxy(pod)) {
        return Ok(None);
    }
    let Some(names) = replicas(pods) else { return Ok(None) };
    if names.is_empty() {
        return Ok(Some("it has no replica".to_owned()));
    }
    let shown = join_all(names.iter().map(|pod| past_replica(world, proxy, pod, since))).await;
    let shown: Result<Vec<Option<String>>, ProbeError> = shown.into_iter().collect();
    let shown: Option<Vec<String>> = shown?.into_iter().collect();
    Ok(shown.map(|facts| facts.join("; ")))
}

fn has_proxy(pod: &PodGlance) -> bool {
    pod.all_containers().any(|name| name == "istio-proxy")
}

/// The replicas to ask; None while one is going away: it may still log, and no call of ours is sure to reach it.
fn replicas(pods: Vec<PodGlance>) -> Option<Vec<String>> {
    pods.iter().all(|pod| !pod.is_leaving()).then(|| pods.into_iter().map(|p| p.metadata.name).collect())
}

async fn past_replica(world: &World, proxy: &Namespaced, pod: &str, since: &Since) -> Result<Option<String>, ProbeError> {
    let listeners = world.gate.envoy_listeners(&proxy.namespace, pod).await?;
    let Some(door) = door(&listeners) else {
        return Ok(Some(format!("{pod} listens on no port for traffic")));
    };
    let token = world.next_token();
    let began = Instant::now();
    // As long as any other line: where lines come within moments, one that has not is not on its way.
    let limit = world.line_limit;
    // The answer may take long and is of no interest: the line in the log is.
    match door {
        Door::Sidecar => drop(tokio::spawn(through_api_server(world.client.clone(), proxy.clone(), pod.to_owned(), token.clone(), limit))),
        Door::Tls(port) | Door::Plain(port) => {
            // Port-forwards end on the pod's loopback, where a gateway's listeners are bound too.
            let stream = open_port(&world.client, &proxy.namespace, pod, port).await.map_err(crate::sync::GateError::from)?;
            let token = token.clone();
            drop(tokio::spawn(async move {
                if matches!(door, Door::Tls(_)) {
                    outside::greet(stream, &format!("{token}.sentinel.invalid"), &token, limit).await;
                } else {
                    let _ = tokio::time::timeout(limit, plain(stream, &token)).await;
                }
            }));
        }
    }
    let mut grown = world.logs.grown();
    loop {
        grown.mark_unchanged();
        if world.logs.proxy_wrote(since, proxy, pod, &token) {
            return Ok(Some(format!("{pod} logged the later sentinel {token} ({:.2} s)", began.elapsed().as_secs_f64())));
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() || tokio::time::timeout(left, grown.changed()).await.is_err() {
            return Ok(None);
        }
    }
}

async fn plain<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, token: &str) {
    let request = request(token);
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
}

/// A request that no route is meant for and that is known by its User-Agent.
pub(super) fn request(token: &str) -> String {
    format!("GET /gateproof-sentinel HTTP/1.1\r\nhost: {token}.sentinel.invalid\r\nuser-agent: {token}\r\nconnection: close\r\n\r\n")
}

/// A call to the pod's address, which a port-forward does not use: the API server's proxy connects from the node.
/// Under STRICT mutual TLS the line has no token, and absence stays unshown.
async fn through_api_server(client: kube::Client, proxy: Namespaced, pod: String, token: String, limit: Duration) {
    let path = format!("/api/v1/namespaces/{}/pods/http:{pod}:{UNUSED_PORT}/proxy/gateproof-sentinel", proxy.namespace);
    if let Ok(request) = hyper::Request::get(path).header("user-agent", token).body(Vec::new()) {
        // Its answer is an error, as nothing serves the port; the log is what counts.
        let _ = tokio::time::timeout(limit, client.request_text(request)).await;
    }
}

/// What makes the proxy log a call: of a gateway any port for traffic (those of 15000 and up are Istio's own).
fn door(listeners: &[Value]) -> Option<Door> {
    let mut doors = Vec::new();
    for entry in listeners {
        let listener = &entry["active_state"]["listener"];
        let Some(port) = listener["address"]["socket_address"]["port_value"].as_u64() else { continue };
        if listener["name"] == "virtualInbound" {
            return Some(Door::Sidecar);
        }
        if (15000..15100).contains(&port) {
            continue;
        }
        let chains = listener["filter_chains"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tls = chains.iter().any(|c| !c["transport_socket"].is_null() || !c["filter_chain_match"]["server_names"].is_null());
        doors.extend(u16::try_from(port).ok().map(if tls { Door::Tls } else { Door::Plain }));
    }
    doors.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listener(name: &str, port: u16, chain: &Value) -> Value {
        json!({"active_state": {"listener": {"name": name, "address": {"socket_address": {"port_value": port}}, "filter_chains": [chain]}}})
    }

    #[test]
    fn a_replica_that_is_going_away_may_still_log() {
        let pod = |more: Value| -> PodGlance { serde_json::from_value(json!({"metadata": more})).unwrap() };
        assert_eq!(replicas(vec![]), Some(vec![]));
        assert_eq!(replicas(vec![pod(json!({"name": "a"}))]), Some(vec!["a".to_owned()]));
        let leaving = json!({"name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(replicas(vec![pod(json!({"name": "a"})), pod(leaving)]), None);
    }

    #[test]
    fn a_pod_without_a_proxy_shows_no_absence() {
        let pod = |spec: Value| -> PodGlance { serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap() };
        assert!(!has_proxy(&pod(json!({"containers": [{"name": "app"}]}))));
        assert!(has_proxy(&pod(json!({"containers": [{"name": "app"}, {"name": "istio-proxy"}]}))));
        assert!(has_proxy(&pod(json!({"containers": [{"name": "app"}], "initContainers": [{"name": "istio-proxy"}]}))));
    }

    #[test]
    fn a_gateways_door_is_a_port_for_traffic() {
        let listeners = [
            listener("h", 15021, &json!({})),
            listener("t", 8443, &json!({"filter_chain_match": {"server_names": ["a"]}})),
            listener("p", 8080, &json!({})),
        ];
        assert_eq!(door(&listeners), Some(Door::Tls(8443)));
        assert_eq!(door(&listeners[..1]), None);
    }

    #[test]
    fn a_sidecar_is_known_by_its_inbound_listener() {
        let listeners = [listener("0.0.0.0_80", 80, &json!({})), listener("virtualInbound", 15006, &json!({}))];
        assert_eq!(door(&listeners), Some(Door::Sidecar));
    }
}
