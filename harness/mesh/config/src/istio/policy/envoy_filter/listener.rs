//! Patches to listeners, their chains and filters (Istio: `listener_patch.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::route::Scope;
use super::{Context, Operation, Patch, merge, sequence};
use crate::istio::model::object;

const HTTP_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Whether a sidecar's listener takes calls to the application: the virtual one, and those of a Sidecar's `ingress`.
pub(super) fn is_inbound(listener: &Value) -> bool {
    object::text(listener, "/name") == "virtualInbound" || object::text(listener, "/traffic_direction") == "INBOUND"
}

/// Patches the listeners of a context.
pub(super) fn patch(
    patches: &[Patch],
    context: Context,
    listeners: &mut BTreeMap<String, Arc<Value>>,
    is_ours: &dyn Fn(&Value) -> bool,
    routes: &Scope<'_>,
) {
    listeners.retain(|_, listener| {
        if !is_ours(listener) {
            return true;
        }
        let mut patched = Value::clone(listener);
        let stays = patch_one(patches, context, &mut patched, routes);
        *listener = Arc::new(patched);
        stays
    });
    for patch in patches.iter().filter(|patch| patch.adds("LISTENER", context)) {
        let name = object::text(&patch.value, "/name").to_owned();
        listeners.entry(name).or_insert_with(|| Arc::new(patch.value.clone()));
    }
}

/// Patches one listener; false: it goes.
fn patch_one(patches: &[Patch], context: Context, listener: &mut Value, routes: &Scope<'_>) -> bool {
    for patch in patches.iter().filter(|patch| patch.is_for("LISTENER", context)) {
        if !is_match(listener, patch) {
            continue;
        }
        if patch.operation == Operation::Remove {
            return false;
        }
        if patch.operation.is_merge() {
            merge::merge(listener, &patch.value, patch.operation == Operation::MergeReplacingLists);
        }
    }
    patch_listener_filters(patches, context, listener);
    let identity = Identity::of(listener);
    if let Some(chains) = listener.get_mut("filter_chains").and_then(Value::as_array_mut) {
        chains.retain_mut(|chain| patch_chain(patches, context, &identity, chain, routes));
    }
    let goes = match listener.get_mut("default_filter_chain") {
        Some(chain) => !patch_chain(patches, context, &identity, chain, routes),
        None => false,
    };
    if let Some(fields) = listener.as_object_mut().filter(|_| goes) {
        fields.remove("default_filter_chain");
    }
    for patch in patches.iter().filter(|patch| patch.operation == Operation::Add && patch.is_for("FILTER_CHAIN", context)) {
        if is_match(listener, patch)
            && let Some(chains) = sequence::list_at(listener, "filter_chains")
        {
            chains.push(patch.value.clone());
        }
    }
    true
}

fn patch_listener_filters(patches: &[Patch], context: Context, listener: &mut Value) {
    for patch in patches.iter().filter(|patch| patch.is_for("LISTENER_FILTER", context)) {
        if !is_match(listener, patch) {
            continue;
        }
        let wanted = object::text(&patch.matches, "/listener/listenerFilter");
        let is_wanted = |filter: &Value| object::text(filter, "/name") == wanted;
        let Some(filters) = sequence::list_at(listener, "listener_filters") else {
            continue;
        };
        if patch.operation.is_merge() {
            filters.iter_mut().filter(|filter| !wanted.is_empty() && is_wanted(filter)).for_each(|filter| merge_filter(filter, patch));
        } else {
            sequence::patch(filters, patch.operation, &patch.value, (!wanted.is_empty()).then_some(&is_wanted));
        }
    }
    let is_empty = listener.get("listener_filters").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if let Some(fields) = listener.as_object_mut().filter(|_| is_empty) {
        fields.remove("listener_filters");
    }
}

/// What patches ask of the listener that a chain belongs to, kept apart so that the chain can be changed.
struct Identity {
    name: String,
    port: u64,
}

impl Identity {
    fn of(listener: &Value) -> Identity {
        let port = listener.pointer("/address/socket_address/port_value").and_then(Value::as_u64).unwrap_or(0);
        Identity { name: object::text(listener, "/name").to_owned(), port }
    }

    /// The listeners that stand for all ports: a patch's port is asked of the chain.
    fn is_virtual(&self) -> bool {
        self.name == "virtualInbound" || self.name == "virtualOutbound"
    }

    fn is_match(&self, patch: &Patch) -> bool {
        let Some(wanted) = listener_match(patch) else {
            return true;
        };
        let name = object::text(wanted, "/name");
        if !name.is_empty() && name != self.name {
            return false;
        }
        let port = port_number(wanted);
        (patch.apply_to != "LISTENER" && self.is_virtual()) || port == 0 || port == self.port
    }
}

fn is_match(listener: &Value, patch: &Patch) -> bool {
    Identity::of(listener).is_match(patch)
}

fn listener_match(patch: &Patch) -> Option<&Value> {
    patch.matches.get("listener").filter(|wanted| wanted.is_object())
}

fn port_number(wanted: &Value) -> u64 {
    wanted.get("portNumber").or_else(|| wanted.get("port_number")).and_then(Value::as_u64).unwrap_or(0)
}

/// Patches a chain; false: it goes.
fn patch_chain(patches: &[Patch], context: Context, listener: &Identity, chain: &mut Value, routes: &Scope<'_>) -> bool {
    for patch in patches.iter().filter(|patch| patch.is_for("FILTER_CHAIN", context)) {
        if patch.operation == Operation::Add || !listener.is_match(patch) || !is_chain(listener, chain, patch) {
            continue;
        }
        if patch.operation == Operation::Remove {
            return false;
        }
        if patch.operation.is_merge() && !merge_socket(chain, patch) {
            merge::merge(chain, &patch.value, patch.operation == Operation::MergeReplacingLists);
        }
    }
    let mut filters = match chain.get_mut("filters").map(Value::take) {
        Some(Value::Array(filters)) => filters,
        _ => return true,
    };
    let near = |patch: &&Patch| listener.is_match(patch) && is_chain(listener, chain, patch);
    let network: Vec<&Patch> = patches.iter().filter(|patch| patch.is_for("NETWORK_FILTER", context)).filter(near).collect();
    let http: Vec<&Patch> = patches.iter().filter(|patch| patch.is_for("HTTP_FILTER", context)).filter(near).collect();
    for patch in network.iter().filter(|patch| !patch.operation.is_merge()) {
        let wanted = filter_match(patch).map(|wanted| object::text(wanted, "/name"));
        let is_wanted = |filter: &Value| Some(object::text(filter, "/name")) == wanted;
        sequence::patch(&mut filters, patch.operation, &patch.value, wanted.map(|_| &is_wanted as &dyn Fn(&Value) -> bool));
    }
    for filter in &mut filters {
        for patch in network.iter().filter(|patch| patch.operation == Operation::Merge) {
            if is_filter(filter, patch) {
                merge_filter(filter, patch);
            }
        }
        if object::text(filter, "/name") == HTTP_MANAGER {
            patch_http(&http, filter);
            if context == Context::Inbound
                && let Some(config) = filter.pointer_mut("/typed_config/route_config")
            {
                routes.patch(context, config);
            }
        }
    }
    if let Some(fields) = chain.as_object_mut() {
        fields.insert("filters".to_owned(), Value::Array(filters));
    }
    true
}

/// Merges a transport socket into one of the same name; then nothing else of the patch counts.
fn merge_socket(chain: &mut Value, patch: &Patch) -> bool {
    let (Some(own), Some(other)) = (chain.get_mut("transport_socket"), patch.value.get("transport_socket")) else {
        return false;
    };
    if own.get("name") != other.get("name") {
        return false;
    }
    if let (Some(own), Some(other)) = (own.get_mut("typed_config"), other.get("typed_config")) {
        merge::merge_any(own, other);
    }
    true
}

fn is_chain(listener: &Identity, chain: &Value, patch: &Patch) -> bool {
    let Some(wanted) = listener_match(patch) else {
        return true;
    };
    let own_port = chain.pointer("/filter_chain_match/destination_port").and_then(Value::as_u64).unwrap_or(0);
    let port = port_number(wanted);
    if listener.is_virtual() && port > 0 && own_port != port {
        return false;
    }
    let Some(wanted) = wanted.get("filterChain").filter(|wanted| wanted.is_object()) else {
        return true;
    };
    let has = |field: &str, text: &str| object::texts(chain, &format!("/filter_chain_match/{field}")).contains(&text);
    let is = |field: &str, test: &dyn Fn(&str) -> bool| match object::text(wanted, field) {
        "" => true,
        text => test(text),
    };
    let port = wanted.get("destinationPort").and_then(Value::as_u64).unwrap_or(0);
    is("/name", &|name| object::text(chain, "/name") == name)
        && is("/sni", &|sni| has("server_names", sni))
        && is("/transportProtocol", &|protocol| object::text(chain, "/filter_chain_match/transport_protocol") == protocol)
        && is("/applicationProtocols", &|protocols| protocols.split(',').all(|protocol| has("application_protocols", protocol)))
        && (port == 0 || port == own_port)
}

fn filter_match(patch: &Patch) -> Option<&Value> {
    patch.matches.pointer("/listener/filterChain/filter").filter(|wanted| wanted.is_object())
}

fn is_filter(filter: &Value, patch: &Patch) -> bool {
    filter_match(patch).is_none_or(|wanted| object::text(wanted, "/name") == object::text(filter, "/name"))
}

fn patch_http(patches: &[&Patch], manager: &mut Value) {
    let ours: Vec<&&Patch> = patches.iter().filter(|patch| is_filter(manager, patch)).collect();
    let Some(filters) = manager.get_mut("typed_config").and_then(|config| sequence::list_at(config, "http_filters")) else {
        return;
    };
    for patch in ours.iter().filter(|patch| !patch.operation.is_merge()) {
        let wanted = sub_filter(patch);
        let is_wanted = |filter: &Value| Some(object::text(filter, "/name")) == wanted;
        sequence::patch(filters, patch.operation, &patch.value, wanted.map(|_| &is_wanted as &dyn Fn(&Value) -> bool));
    }
    for filter in filters {
        for patch in ours.iter().filter(|patch| patch.operation == Operation::Merge) {
            if sub_filter(patch).is_none_or(|wanted| wanted == object::text(filter, "/name")) {
                merge_filter(filter, patch);
            }
        }
    }
}

fn sub_filter(patch: &Patch) -> Option<&str> {
    let wanted = filter_match(patch)?.get("subFilter").filter(|wanted| wanted.is_object())?;
    Some(object::text(wanted, "/name"))
}

/// Merges a filter's configuration and takes over its name. One without a configuration of its own stays as it is.
fn merge_filter(filter: &mut Value, patch: &Patch) {
    let Some(fields) = filter.as_object_mut().filter(|fields| fields.contains_key("typed_config")) else {
        return;
    };
    if let (Some(own), Some(other)) = (fields.get_mut("typed_config"), patch.value.get("typed_config")) {
        merge::merge_any(own, other);
    }
    if let Some(name) = patch.value.get("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty())) {
        fields.insert("name".to_owned(), name.clone());
    }
}
