//! Patches to clusters (Istio: `cluster_patch.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Context, Operation, Patch, merge};
use crate::istio::model::object;

/// Whether a cluster is the application's own side of a sidecar.
pub(super) fn is_inbound(name: &str) -> bool {
    name.starts_with("inbound|") || name.starts_with("inbound-vip|") || name.starts_with("InboundPassthroughCluster")
}

/// Patches the clusters of a context.
pub(super) fn patch(patches: &[Patch], context: Context, clusters: &mut BTreeMap<String, Arc<Value>>, is_ours: &dyn Fn(&str) -> bool) {
    let ours: Vec<&Patch> = patches.iter().filter(|patch| patch.is_for("CLUSTER", context)).collect();
    clusters.retain(|name, cluster| {
        if !is_ours(name) {
            return true;
        }
        for patch in &ours {
            if !is_match(name, &patch.matches) {
                continue;
            }
            if patch.operation == Operation::Remove {
                return false;
            }
            if patch.operation.is_merge() {
                let mut patched = Value::clone(cluster);
                merge_into(&mut patched, patch);
                *cluster = Arc::new(patched);
            }
        }
        true
    });
    for patch in patches.iter().filter(|patch| patch.adds("CLUSTER", context)) {
        // Of clusters with one name istiod keeps the first.
        let name = object::text(&patch.value, "/name").to_owned();
        clusters.entry(name).or_insert_with(|| Arc::new(patch.value.clone()));
    }
}

/// A transport socket is merged into the one of its name, or else takes the place of what is there; the rest of such a patch is
/// not looked at.
fn merge_into(cluster: &mut Value, patch: &Patch) {
    let Some(socket) = patch.value.get("transport_socket").filter(|socket| socket.is_object()) else {
        merge::merge(cluster, &patch.value, patch.operation == Operation::MergeReplacingLists);
        return;
    };
    let name = socket.get("name");
    let config = socket.get("typed_config").unwrap_or(&Value::Null);
    if let Some(matches) = cluster.get_mut("transport_socket_matches").and_then(Value::as_array_mut).filter(|list| !list.is_empty()) {
        let sockets = matches.iter_mut().filter_map(|one| one.get_mut("transport_socket"));
        if let Some(own) = sockets.into_iter().find(|own| own.get("name") == name).and_then(|own| own.get_mut("typed_config")) {
            merge::merge_any(own, config);
        }
        return;
    }
    let Some(fields) = cluster.as_object_mut() else {
        return;
    };
    match fields.get_mut("transport_socket").filter(|own| own.get("name") == name) {
        Some(own) => {
            if let Some(own) = own.get_mut("typed_config") {
                merge::merge_any(own, config);
            }
        }
        None => {
            fields.insert("transport_socket".to_owned(), socket.clone());
        }
    }
}

/// `match.cluster`: by name alone, or by subset, service and port as they are in the name. An inbound cluster's name has no
/// service, so a patch that asks for one does not find it.
fn is_match(name: &str, matches: &Value) -> bool {
    let Some(wanted) = matches.get("cluster").filter(|wanted| wanted.is_object()) else {
        return true;
    };
    match object::text(wanted, "/name") {
        "" => {}
        wanted => return wanted == name,
    }
    let parts: Vec<&str> = name.split('|').collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    let port = wanted.get("portNumber").or_else(|| wanted.get("port_number")).and_then(Value::as_u64).unwrap_or(0);
    let (subset, service) = (object::text(wanted, "/subset"), object::text(wanted, "/service"));
    (subset.is_empty() || subset == part(2)) && (service.is_empty() || service == part(3)) && (port == 0 || part(1).parse() == Ok(port))
}
