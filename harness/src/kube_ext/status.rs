//! Whether controllers have looked at an object as it is now.

use serde_json::Value;

/// Whether nothing says that a controller has still to look at the object. Conditions carry the generation that they speak of;
/// Gateway API's begin as `Unknown`, `Pending`, and a route has none before a controller wrote some.
#[must_use]
pub fn is_settled(object: &Value) -> bool {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let status = &object["status"];
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let is_route = text(object, "apiVersion").starts_with("gateway.networking.k8s.io/") && text(object, "kind").ends_with("Route");
    let unwritten = is_route && status["parents"].as_array().is_none_or(Vec::is_empty);
    let current = |value: &Value| value["observedGeneration"].as_i64().is_none_or(|seen| seen >= generation);
    let listed = ["listeners", "parents"].iter().flat_map(|list| status[*list].as_array().into_iter().flatten());
    let holders = std::iter::once(status).chain(listed);
    let mut conditions = holders.flat_map(|holder| holder["conditions"].as_array().into_iter().flatten());
    let waits = |c: &Value| !current(c) || (text(c, "status") == "Unknown" && text(c, "reason") == "Pending");
    !unwritten && current(status) && !conditions.any(waits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(generation: i64, parents: Value) -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"generation": generation},
            "status": {"parents": parents}})
    }

    #[test]
    fn a_status_is_settled_when_it_speaks_of_this_generation() {
        let parent = |observed: i64| json!([{"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": observed}]}]);
        assert!(is_settled(&route(2, parent(2))));
        assert!(!is_settled(&route(3, parent(2))));
        assert!(!is_settled(&route(1, json!([]))));
        assert!(!is_settled(&json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute", "metadata": {"generation": 1}})));
        let pending = json!({"metadata": {"generation": 1}, "status": {"conditions": [{"status": "Unknown", "reason": "Pending"}]}});
        assert!(!is_settled(&pending));
        assert!(!is_settled(&json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}})));
        assert!(is_settled(&json!({"metadata": {}, "data": {"a": "b"}})));
    }
}
