//! `/config_dump`: text is put together from the texts of resources, which are kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateproof_mesh_config::ProxyKind;
use gateproof_mesh_config::envoy::cluster::Health;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::sent::{any, time};
use super::super::update::{CLUSTER, Core, ENDPOINT, LISTENER, ROUTE, SECRET, State};
use super::super::upstream::{ClusterRuntime, UpstreamHost};
use super::super::{lock, read};

/// The sections, in Envoy's order.
const SECTIONS: [&str; 7] = ["Bootstrap", "Clusters", "Endpoints", "Listeners", "ScopedRoutes", "Routes", "Secrets"];

/// A list of a section: its name and its entries as JSON.
type Lists = Vec<(&'static str, Vec<Text>)>;

/// An entry as JSON: most are kept from one dump to the next.
enum Text {
    Kept(Arc<str>),
    Made(String),
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// Entries one after another.
fn put_all(out: &mut String, entries: &[Text]) {
    out.reserve(entries.iter().map(|entry| entry.len() + 1).sum());
    for (n, entry) in entries.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push_str(entry);
    }
}

/// All of it.
pub(in super::super) fn dump(core: &Arc<Core>, include_eds: bool) -> String {
    let state = lock(&core.state);
    let mut out = String::from("{\"configs\":[");
    for section in SECTIONS.into_iter().filter(|s| include_eds || *s != "Endpoints") {
        if !out.ends_with('[') {
            out.push(',');
        }
        let _ = write!(out, "{{\"@type\":\"type.googleapis.com/envoy.admin.v3.{section}ConfigDump\"");
        match section {
            "Bootstrap" => {
                let _ = write!(
                    out,
                    ",\"bootstrap\":{}",
                    json!({"node": node(core), "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}}})
                );
            }
            "Clusters" => version(&mut out, &state, CLUSTER),
            "Listeners" => version(&mut out, &state, LISTENER),
            _ => {}
        }
        for (name, entries) in lists(core, &state, section) {
            if !entries.is_empty() {
                let _ = write!(out, ",\"{name}\":[");
                put_all(&mut out, &entries);
                out.push(']');
            }
        }
        out.push('}');
    }
    out.push_str("]}");
    out
}

/// The entries of one list (`?resource=dynamic_listeners`). None: there is no such list.
pub(super) fn resource(core: &Arc<Core>, wanted: &str) -> Option<String> {
    let state = lock(&core.state);
    let known = [
        "dynamic_active_clusters",
        "dynamic_warming_clusters",
        "dynamic_endpoint_configs",
        "dynamic_listeners",
        "static_route_configs",
        "dynamic_route_configs",
        "dynamic_active_secrets",
        "dynamic_warming_secrets",
    ];
    known.contains(&wanted).then(|| {
        let found = SECTIONS.iter().flat_map(|s| lists(core, &state, s)).find(|(name, _)| *name == wanted);
        let mut out = String::from("{\"configs\":[");
        put_all(&mut out, &found.map(|(_, entries)| entries).unwrap_or_default());
        out.push_str("]}");
        out
    })
}

fn version(out: &mut String, state: &State, type_url: &str) {
    if let Some(text) = version_of(state, type_url) {
        let _ = write!(out, ",\"version_info\":\"{text}\"");
    }
}

/// As istiod numbers its pushes.
fn version_of(state: &State, type_url: &str) -> Option<String> {
    let (number, at) = state.versions.get(type_url)?;
    Some(format!("{}/{number}", at.strftime("%Y-%m-%dT%H:%M:%SZ")))
}

fn lists(core: &Arc<Core>, state: &State, section: &str) -> Lists {
    match section {
        "Clusters" => clusters(core, state),
        "Endpoints" => vec![("dynamic_endpoint_configs", endpoints(core))],
        "Listeners" => vec![("dynamic_listeners", listeners(core, state).into_iter().map(Text::Made).collect())],
        "Routes" => routes(core),
        "Secrets" => secrets(core, state),
        _ => Vec::new(),
    }
}

fn entry(what: &str, text: &str, since: Timestamp) -> String {
    format!("{{\"{what}\":{text},\"last_updated\":\"{}\"}}", time(since))
}

fn clusters(core: &Arc<Core>, state: &State) -> Lists {
    let cluster = |c: &ClusterRuntime| Text::Kept(c.sent.entry("cluster", CLUSTER));
    let active = read(&core.env.tables).clusters.values().map(|c| cluster(c)).collect();
    let warming = state.warming_clusters.values().map(|w| cluster(&w.what)).collect();
    vec![("dynamic_active_clusters", active), ("dynamic_warming_clusters", warming)]
}

/// Endpoints as clusters use them, in Envoy's form (`ConfigDumpHandler::dumpEndpointConfigs`).
fn endpoints(core: &Arc<Core>) -> Vec<Text> {
    let clusters: Vec<Arc<ClusterRuntime>> = read(&core.env.tables).clusters.values().cloned().collect();
    clusters
        .iter()
        .map(|cluster| Text::Kept(cluster.endpoints_text(|members| assignment(&cluster.spec.eds_name, &members.hosts))))
        .collect()
}

fn assignment(name: &str, hosts: &[Arc<UpstreamHost>]) -> String {
    let mut config = json!({"@type": ENDPOINT, "cluster_name": name, "policy": {"overprovisioning_factor": 140}});
    let places: BTreeSet<(u32, &str)> = hosts.iter().map(|h| (h.endpoint.priority, h.endpoint.locality.as_str())).collect();
    let groups: Vec<Value> = places
        .into_iter()
        .map(|(priority, locality)| {
            let here = hosts.iter().filter(|h| h.endpoint.priority == priority && h.endpoint.locality == locality);
            let weight = here.clone().find_map(|h| h.endpoint.locality_weight).unwrap_or_default();
            let mut group = json!({"locality": place(locality), "lb_endpoints": here.map(|h| endpoint(h)).collect::<Vec<_>>(), "load_balancing_weight": weight});
            if priority > 0 {
                group["priority"] = priority.into();
            }
            group
        })
        .collect();
    if !groups.is_empty() {
        config["endpoints"] = groups.into();
    }
    format!("{{\"endpoint_config\":{config}}}")
}

fn place(locality: &str) -> Value {
    let names = ["region", "zone", "sub_zone"].into_iter().zip(locality.split('/'));
    Value::Object(names.filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), v.into())).collect())
}

fn endpoint(host: &UpstreamHost) -> Value {
    let (address, endpoint) = (host.address, &host.endpoint);
    let health = match endpoint.health {
        _ if !host.usable() => "UNHEALTHY",
        Health::Degraded => "DEGRADED",
        _ => "HEALTHY",
    };
    let mut of = json!({
        "address": {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}},
        "health_check_config": {},
    });
    if !host.others.is_empty() {
        let socket = |a: &SocketAddr| json!({"address": {"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}}});
        of["additional_addresses"] = host.others.iter().map(socket).collect::<Vec<_>>().into();
    }
    if !endpoint.hostname.is_empty() {
        of["hostname"] = endpoint.hostname.clone().into();
    }
    let mut out = json!({"endpoint": of, "health_status": health, "load_balancing_weight": endpoint.weight});
    if !endpoint.metadata.is_empty() {
        out["metadata"] = json!({"filter_metadata": endpoint.metadata});
    }
    out
}

fn listeners(core: &Arc<Core>, state: &State) -> Vec<String> {
    let version = version_of(state, LISTENER).unwrap_or_default();
    let put = |out: &mut String, what: &str, l: &super::super::listener::ListenerRuntime| {
        let (text, since) = (l.sent.text(LISTENER), time(l.sent.since));
        out.reserve(text.len() + 256);
        let _ = write!(out, ",\"{what}\":{{\"version_info\":\"{version}\",\"listener\":{text},\"last_updated\":\"{since}\"}}");
    };
    let tables = read(&core.env.tables);
    let now = Instant::now();
    let draining: Vec<_> = state.draining.iter().filter(|(_, until)| *until > now).map(|(l, _)| l).collect();
    let refused = state.refused.get(LISTENER);
    let names: BTreeSet<&str> = tables
        .listeners
        .keys()
        .chain(state.warming_listeners.keys())
        .chain(refused.into_iter().flat_map(|r| r.keys()))
        .map(String::as_str)
        .chain(draining.iter().map(|l| l.spec.name.as_str()))
        .collect();
    names
        .into_iter()
        .map(|name| {
            let mut out = format!("{{\"name\":{}", Value::from(name));
            if let Some(active) = tables.listeners.get(name) {
                put(&mut out, "active_state", active);
            }
            if let Some(warming) = state.warming_listeners.get(name) {
                put(&mut out, "warming_state", &warming.what);
            }
            if let Some(old) = draining.iter().rfind(|l| l.spec.name == name) {
                put(&mut out, "draining_state", old);
            }
            if let Some(refused) = refused.and_then(|r| r.get(name)) {
                let words = Value::from(refused.words.as_str());
                let failed = any(&refused.json, LISTENER);
                let at = time(refused.at);
                let _ = write!(
                    out,
                    ",\"error_state\":{{\"failed_configuration\":{failed},\"last_update_attempt\":\"{at}\",\"details\":{words}}}"
                );
            }
            out.push('}');
            out
        })
        .collect()
}

fn routes(core: &Arc<Core>) -> Lists {
    let tables = read(&core.env.tables);
    let of_listeners =
        tables.listeners.values().flat_map(|l| l.static_routes().iter().map(|text| Text::Made(entry("route_config", text, l.sent.since))));
    let dynamic = tables.routes.values().map(|r| Text::Kept(r.sent.entry("route_config", ROUTE))).collect();
    vec![("static_route_configs", of_listeners.collect()), ("dynamic_route_configs", dynamic)]
}

/// The SDS names that listeners and clusters ask for.
pub(super) fn secret_names(core: &Arc<Core>) -> BTreeSet<String> {
    asked_for(core, &lock(&core.state))
}

fn asked_for(core: &Arc<Core>, state: &State) -> BTreeSet<String> {
    let tables = read(&core.env.tables);
    let listeners = tables.listeners.values().chain(state.warming_listeners.values().map(|w| &w.what)).flat_map(|l| l.secret_names());
    let clusters = tables.clusters.values().chain(state.warming_clusters.values().map(|w| &w.what)).flat_map(|c| c.secret_names());
    listeners.chain(clusters).map(str::to_owned).collect()
}

fn secrets(core: &Arc<Core>, state: &State) -> Lists {
    let (mut active, mut warming) = (Vec::new(), Vec::new());
    let bytes = |text: &str| json!({"inline_bytes": STANDARD.encode(text)});
    for name in asked_for(core, state) {
        let mut secret = json!({"@type": SECRET, "name": name});
        let Some(known) = core.env.secrets.get(&name) else {
            if core.env.secrets.has(&name) {
                continue;
            }
            let entry = json!({"name": name, "version_info": "uninitialized", "last_updated": time(Timestamp::now()), "secret": secret});
            warming.push(Text::Made(entry.to_string()));
            continue;
        };
        let sent = &known.secret;
        if !sent.chain_pem.is_empty() {
            secret["tls_certificate"] = json!({"certificate_chain": bytes(&sent.chain_pem), "private_key": bytes("[redacted]")});
        }
        if !sent.ca_pem.is_empty() {
            secret["validation_context"] = json!({"trusted_ca": bytes(&sent.ca_pem)});
        }
        active.push(Text::Made(json!({"name": name, "last_updated": time(known.since), "secret": secret}).to_string()));
    }
    vec![("dynamic_active_secrets", active), ("dynamic_warming_secrets", warming)]
}

/// Who the proxy says that it is.
pub(super) fn node(core: &Arc<Core>) -> Value {
    let (node, domain) = (&core.env.node, &core.env.settings.domain);
    let kind = match node.kind {
        ProxyKind::Sidecar => "sidecar",
        ProxyKind::Router => "router",
    };
    json!({
        "id": format!("{kind}~{}~{}.{}~{}.svc.{domain}", node.ip, node.pod, node.namespace, node.namespace),
        "cluster": format!("{}.{}", node.labels.get("app").unwrap_or(&node.service_account), node.namespace),
        "metadata": {"NAME": node.pod, "NAMESPACE": node.namespace, "LABELS": node.labels, "SERVICE_ACCOUNT": node.service_account},
    })
}
