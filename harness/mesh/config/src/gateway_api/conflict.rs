//! Listeners of one Gateway that cannot be beside each other (Istio: `gatewaycommon/listener_conflict.go`).

use serde_json::Value;

use crate::istio::model::object;

/// Why each listener of a Gateway, in their order, loses to one before it; `None` for one that does not. A listener that lost does
/// not count for those after it.
pub(super) fn conflicts(gateway: &Value) -> Vec<Option<&'static str>> {
    let mut accepted: Vec<&Value> = Vec::new();
    let judged = object::list(gateway, "/spec/listeners").iter().map(|listener| {
        let prior = accepted.iter().find(|prior| !are_distinct(listener, prior));
        let reason =
            prior.map(
                |prior| if protocol(prior) == protocol(listener) && is_by_host(listener) { "HostnameConflict" } else { "ProtocolConflict" },
            );
        if reason.is_none() {
            accepted.push(listener);
        }
        reason
    });
    judged.collect()
}

fn protocol(listener: &Value) -> &str {
    object::text(listener, "/protocol")
}

/// Whether several may share a port, told apart by their hosts.
fn is_by_host(listener: &Value) -> bool {
    matches!(protocol(listener), "HTTP" | "HTTPS" | "TLS")
}

fn are_distinct(one: &Value, other: &Value) -> bool {
    let port = |listener: &Value| listener.get("port").and_then(Value::as_u64);
    if port(one) != port(other) {
        return true;
    }
    let is_l4 = |listener: &Value| matches!(protocol(listener), "TCP" | "UDP");
    match (is_by_host(one), is_by_host(other)) {
        (true, true) => host(one) != host(other),
        (true, false) if is_l4(other) => false,
        (false, true) if is_l4(one) => false,
        (false, false) if is_l4(one) && is_l4(other) => false,
        _ => protocol(one) != protocol(other),
    }
}

fn host(listener: &Value) -> &str {
    match object::text(listener, "/hostname") {
        "" => "*",
        host => host,
    }
}
