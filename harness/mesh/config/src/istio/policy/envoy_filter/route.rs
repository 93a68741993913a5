//! Patches to route configurations, virtual hosts and routes (Istio: `rc_patch.go`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Context, Operation, Patch, merge, sequence};
use crate::istio::model::object;

/// The patches of a proxy, and what they ask of its Services.
pub(super) struct Scope<'a> {
    pub(super) patches: &'a [Patch],
    pub(super) gateway_ports: &'a BTreeMap<u64, Vec<u64>>,
}

impl Scope<'_> {
    /// Patches a route configuration.
    pub(super) fn patch(&self, context: Context, config: &mut Value) {
        let name = object::text(config, "/name").to_owned();
        let of = |apply_to: &'static str| {
            let ours = self.patches.iter().filter(move |patch| patch.is_for(apply_to, context));
            ours.filter(|patch| self.is_config(context, &name, patch)).collect::<Vec<_>>()
        };
        let (hosts, routes) = (of("VIRTUAL_HOST"), of("HTTP_ROUTE"));
        for patch in of("ROUTE_CONFIGURATION").into_iter().filter(|patch| patch.operation.is_merge()) {
            merge::merge(config, &patch.value, patch.operation == Operation::MergeReplacingLists);
        }
        if hosts.is_empty() && routes.is_empty() {
            return;
        }
        let Some(list) = sequence::list_at(config, "virtual_hosts") else {
            return;
        };
        list.retain_mut(|host| patch_host(&hosts, &routes, host));
        list.extend(hosts.iter().filter(|patch| patch.operation == Operation::Add).map(|patch| patch.value.clone()));
    }

    /// `match.routeConfiguration`: by name, and by the port, its name and the Gateway as they are in the name.
    fn is_config(&self, context: Context, name: &str, patch: &Patch) -> bool {
        let Some(wanted) = patch.matches.get("routeConfiguration").filter(|wanted| wanted.is_object()) else {
            return true;
        };
        let text = |field: &str| object::text(wanted, field);
        if !text("/name").is_empty() && text("/name") != name {
            return false;
        }
        let port = wanted.get("portNumber").and_then(Value::as_u64).unwrap_or(0);
        if context != Context::Gateway {
            let own = if name.starts_with("inbound|") { name.split('|').nth(1).unwrap_or_default() } else { name };
            return port == 0 || own.parse() == Ok(port);
        }
        // `http.PORT` or `https.PORT.PORTNAME.GATEWAY.NAMESPACE`
        let parts: Vec<&str> = name.split('.').collect();
        let own_port: u64 = parts.get(1).and_then(|port| port.parse().ok()).unwrap_or(0);
        let (port_name, gateway) = match parts.as_slice() {
            ["https", _, port_name, gateway, namespace] => (*port_name, format!("{namespace}/{gateway}")),
            _ => ("", String::new()),
        };
        let is_port = match self.gateway_ports.get(&own_port) {
            _ if port == 0 => true,
            Some(ports) => ports.contains(&port),
            None => own_port == port,
        };
        is_port
            && (text("/portName").is_empty() || text("/portName") == port_name)
            && (text("/gateway").is_empty() || text("/gateway") == gateway)
    }
}

/// Patches a virtual host; false: it goes.
fn patch_host(hosts: &[&Patch], routes: &[&Patch], host: &mut Value) -> bool {
    for patch in hosts.iter().filter(|patch| patch.operation != Operation::Add) {
        if !is_host(host, patch) {
            continue;
        }
        match patch.operation {
            Operation::Remove => return false,
            Operation::Replace => *host = patch.value.clone(),
            operation if operation.is_merge() => merge::merge(host, &patch.value, operation == Operation::MergeReplacingLists),
            _ => {}
        }
    }
    let routes: Vec<&&Patch> = routes.iter().filter(|patch| is_host(host, patch)).collect();
    if routes.is_empty() {
        return true;
    }
    let Some(list) = sequence::list_at(host, "routes") else {
        return true;
    };
    list.retain_mut(|route| {
        for patch in &routes {
            if !is_route(route, patch) {
                continue;
            }
            if patch.operation == Operation::Remove {
                return false;
            }
            if patch.operation.is_merge() {
                merge::merge(route, &patch.value, patch.operation == Operation::MergeReplacingLists);
            }
        }
        true
    });
    for patch in routes {
        if patch.operation.is_merge() || matches!(patch.operation, Operation::Remove | Operation::Replace) {
            continue;
        }
        let names_one = route_match(patch).is_some();
        let is_wanted = |route: &Value| is_route(route, patch);
        // Unlike filters, a route that is to come first waits for the one that the patch names.
        if patch.operation == Operation::InsertFirst && names_one && !list.iter().any(is_wanted) {
            continue;
        }
        sequence::patch(list, patch.operation, &patch.value, names_one.then_some(&is_wanted as &dyn Fn(&Value) -> bool));
    }
    true
}

fn is_host(host: &Value, patch: &Patch) -> bool {
    let Some(wanted) = patch.matches.pointer("/routeConfiguration/vhost").filter(|wanted| wanted.is_object()) else {
        return true;
    };
    let (name, domain) = (object::text(wanted, "/name"), object::text(wanted, "/domainName"));
    (name.is_empty() || name == object::text(host, "/name")) && (domain.is_empty() || object::texts(host, "/domains").contains(&domain))
}

fn route_match(patch: &Patch) -> Option<&Value> {
    patch.matches.pointer("/routeConfiguration/vhost/route").filter(|wanted| wanted.is_object())
}

fn is_route(route: &Value, patch: &Patch) -> bool {
    let Some(wanted) = route_match(patch) else {
        return true;
    };
    let name = object::text(wanted, "/name");
    if !name.is_empty() && name != object::text(route, "/name") {
        return false;
    }
    match object::text(wanted, "/action") {
        "ROUTE" => route.get("route").is_some(),
        "REDIRECT" => route.get("redirect").is_some(),
        "DIRECT_RESPONSE" => route.get("direct_response").is_some(),
        _ => true,
    }
}
