//! istiod's debug endpoints, for those that say what it knows and what it has sent.
//! Source: istio/istio `pilot/pkg/xds/debug.go`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use gateproof_mesh_config::istio::MeshConfig;
use gateproof_mesh_config::{ProxyKind, ProxyResources};
use serde_json::{Value, json};

use super::{CLUSTER, Connected, ENDPOINT, LISTENER, ROUTE, Shared, State};

pub(super) fn answer(shared: &Shared, path: &str, query: &str) -> (u16, String) {
    let parameter = |name: &str| query.split('&').find_map(|p| p.split_once('=').filter(|(k, _)| *k == name)).map(|(_, v)| v);
    match path {
        "/debug/configz" => (200, configz(&shared.lock()).to_string()),
        "/debug/mesh" => (200, mesh(shared, &shared.lock()).to_string()),
        "/debug/syncz" => (200, syncz(shared, &shared.lock()).to_string()),
        "/debug/config_dump" => match parameter("proxyID") {
            None => (400, "You must provide a proxyID in the query string".to_owned()),
            Some(proxy) => {
                let last = shared.lock().proxies.get(proxy).and_then(|p| p.last.clone());
                match last {
                    Some((version, resources)) => (200, dump(shared, &version, &resources)),
                    None => (404, "Proxy not connected to this Pilot instance. It may be connected to another instance.\n".to_owned()),
                }
            }
        },
        "/version" => (200, json!({"version": shared.settings.version, "status": "simulated"}).to_string()),
        "/ready" => (200, String::new()),
        _ => (404, "404 page not found\n".to_owned()),
    }
}

fn configz(state: &State) -> Value {
    let known = state.stores.configuration().map(|object| {
        let meta = &object["metadata"];
        let mut metadata = serde_json::Map::new();
        for field in ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "labels", "annotations"] {
            if let Some(value) = meta.get(field) {
                metadata.insert(field.to_owned(), value.clone());
            }
        }
        json!({"kind": object["kind"], "apiVersion": object["apiVersion"], "metadata": metadata, "spec": object["spec"]})
    });
    Value::Array(known.collect())
}

/// The mesh configuration that the next push is made of.
fn mesh(shared: &Shared, state: &State) -> Value {
    let root = &shared.settings.root_namespace;
    let map = state.stores.find("/ConfigMap", root, "istio");
    let text = map.and_then(|map| map.pointer("/data/mesh")?.as_str()).unwrap_or_default();
    MeshConfig::read(text, root).0.in_use()
}

fn syncz(shared: &Shared, state: &State) -> Value {
    let proxies = state.proxies.iter().map(|(name, proxy): (&String, &Connected)| {
        let resources: serde_json::Map<String, Value> = proxy
            .status
            .iter()
            .map(|(url, status)| {
                let mut entry = json!({"sent": status.sent, "acked": status.acked});
                if let Some(error) = &status.last_error {
                    entry["lastError"] = json!({"code": 13, "message": error});
                }
                ((*url).to_owned(), entry)
            })
            .collect();
        let kind = match proxy.node.kind {
            ProxyKind::Sidecar => "sidecar",
            ProxyKind::Router => "router",
        };
        json!({"cluster_id": "Kubernetes", "proxy": name, "proxy_type": kind, "istio_version": shared.settings.version, "resources": resources})
    });
    Value::Array(proxies.collect())
}

/// In Envoy's own form, snake case: the same message as istiod's camel case.
fn dump(shared: &Shared, version: &str, resources: &ProxyResources) -> String {
    let mut out = String::with_capacity(256 * 1024);
    out.push_str("{\"configs\":[");
    let mut section = |kind: &str, list: &str, part: &str, url: &str, of: &BTreeMap<String, Arc<Value>>| {
        if !out.ends_with('[') {
            out.push(',');
        }
        let _ =
            write!(out, "{{\"@type\":\"type.googleapis.com/envoy.admin.v3.{kind}\",\"version_info\":{},\"{list}\":[", Value::from(version));
        for (n, (name, value)) in of.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let text = shared.texts.of(value, url);
            if part == "listener" {
                let _ = write!(out, "{comma}{{\"name\":{},\"active_state\":{{\"listener\":{text}}}}}", Value::from(name.as_str()));
            } else {
                let _ = write!(out, "{comma}{{\"{part}\":{text}}}");
            }
        }
        out.push_str("]}");
    };
    section("ClustersConfigDump", "dynamic_active_clusters", "cluster", CLUSTER, &resources.clusters);
    section("ListenersConfigDump", "dynamic_listeners", "listener", LISTENER, &resources.listeners);
    section("RoutesConfigDump", "dynamic_route_configs", "route_config", ROUTE, &resources.routes);
    section("EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config", ENDPOINT, &resources.endpoints);
    out.push_str("]}");
    out
}
