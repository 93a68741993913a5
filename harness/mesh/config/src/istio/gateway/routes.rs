//! The routes of a gateway's HTTP listeners (`buildGatewayHTTPRouteConfig` in `pilot/pkg/networking/core/gateway.go`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Inputs;
use super::merge::Placed;
use crate::istio::model::host;
use crate::istio::route::backends::Known;
use crate::istio::route::host::{for_namespace, intersection, with_port};
use crate::istio::route::matching::catch_alls_last;
use crate::istio::route::sidecar::{config, default_retries, virtual_host};
use crate::istio::route::{HttpContext, routes};

/// A host's routes, each with where it came from, by which hosts with the same routes are found.
#[derive(Debug, Default)]
struct Host {
    port: u32,
    routes: Vec<Value>,
    sources: Vec<(String, String)>,
    redirects: bool,
}

/// The `RouteConfiguration` behind a name, from the servers that share it.
pub(super) fn route_config(inputs: &Inputs<'_>, name: &str, servers: &[Placed], log: &mut Vec<String>) -> Value {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    let mut made: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for placed in servers {
        add_server(inputs, placed, &mut hosts, &mut made);
    }
    if hosts.is_empty() {
        let port = servers.first().map_or(0, |first| u32::from(first.port.number));
        log.push(format!("constructed http route config for route {name} on port {port} with no vhosts; Setting up a default 404 vhost"));
        return config(name, vec![json!({"name": with_port("blackhole", port), "domains": ["*"]})]);
    }
    config(name, virtual_hosts(hosts))
}

/// Adds what one server offers. A VirtualService has the same routes at every server of its Gateway with these routes.
fn add_server(inputs: &Inputs<'_>, placed: &Placed, hosts: &mut BTreeMap<String, Host>, made: &mut BTreeMap<(String, String), Vec<Value>>) {
    let port = u32::from(placed.port.number);
    let redirects = placed.server.redirects();
    let default_retries = default_retries(inputs.context);
    for service in inputs.services.of_gateway(&placed.gateway, &inputs.node.namespace) {
        let offered = for_namespace(&placed.server.hosts, &service.meta.namespace);
        let common = intersection(&offered, &service.spec.hosts);
        if common.is_empty() {
            continue;
        }
        let source = (placed.gateway.clone(), service.meta.key());
        let routes = made.entry(source.clone()).or_insert_with(|| {
            let backends = Known::by_gateway(inputs.context, inputs.node, &service.meta.namespace);
            let http = HttpContext {
                labels: &inputs.node.labels,
                namespace: &inputs.node.namespace,
                gateway: &placed.gateway,
                port,
                tls: placed.server.tls.is_some(),
                default_retries: default_retries.as_ref(),
                backends: &backends,
            };
            routes(service, &http)
        });
        if routes.is_empty() {
            continue;
        }
        for name in common {
            let host = hosts.entry(name.to_ascii_lowercase()).or_insert_with(|| Host { port, ..Host::default() });
            host.routes.extend(routes.iter().cloned());
            host.sources.push(source.clone());
            host.redirects |= redirects;
        }
    }
    if redirects {
        // Also where nothing is routed.
        for name in &placed.server.hosts {
            let host = hosts.entry(name.to_ascii_lowercase()).or_insert_with(|| Host { port, ..Host::default() });
            host.redirects = true;
        }
    }
}

/// Virtual hosts by name. Hosts with the same routes are one, named after the most specific (`collapseDuplicateRoutes`).
fn virtual_hosts(hosts: BTreeMap<String, Host>) -> Vec<Value> {
    let mut ordered: Vec<(String, Host)> = hosts.into_iter().collect();
    ordered.sort_by(|a, b| host::by_specificity(&a.0, &b.0));
    let mut merged: Vec<(Vec<String>, Host)> = Vec::new();
    for (name, host) in ordered {
        // As in istiod the last of those with the same routes is compared, though it may differ in how it redirects.
        match merged.iter_mut().rev().find(|(_, known)| known.sources == host.sources) {
            Some((domains, known)) if known.redirects == host.redirects => domains.push(name),
            _ => merged.push((vec![name], host)),
        }
    }
    let mut out: Vec<(String, Value)> = merged
        .into_iter()
        .filter_map(|(domains, host)| {
            let name = with_port(domains.first()?, host.port);
            let mut made = virtual_host(&name, &domains, catch_alls_last(host.routes));
            if host.redirects
                && let Some(fields) = made.as_object_mut()
            {
                fields.insert("require_tls".to_owned(), json!("ALL"));
            }
            Some((name, made))
        })
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().map(|(_, made)| made).collect()
}
