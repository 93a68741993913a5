//! EnvoyFilter: patches to what istiod made (Istio: `pilot/pkg/networking/core/envoyfilter`, `pilot/pkg/model/envoyfilter.go`).

mod cluster;
mod keys;
mod listener;
mod merge;
mod route;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::selection::attaches;
use crate::istio::PushContext;
use crate::istio::model::object;
use crate::{ProxyKind, ProxyNode, ProxyResources};

/// What a patch changes in a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Merge,
    /// As `Merge`, but a list replaces the one that is there.
    MergeReplacingLists,
    Add,
    Remove,
    InsertBefore,
    InsertAfter,
    InsertFirst,
    Replace,
}

impl Operation {
    fn is_merge(self) -> bool {
        matches!(self, Operation::Merge | Operation::MergeReplacingLists)
    }
}

/// What a resource is for, as patches ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    Inbound,
    Outbound,
    Gateway,
}

/// One entry of `configPatches`, ready for use.
#[derive(Debug)]
struct Patch {
    /// `applyTo`.
    apply_to: String,
    /// Nothing: any.
    context: Option<Context>,
    operation: Operation,
    /// `match.listener`, `match.cluster` and so on, as written.
    matches: Value,
    /// In Envoy's snake case.
    value: Value,
}

impl Patch {
    /// Reads an entry, unless it cannot be used.
    fn read(entry: &Value) -> Option<Patch> {
        let apply_to = object::text(entry, "/applyTo").to_owned();
        let context = match object::text(entry, "/match/context") {
            "SIDECAR_INBOUND" => Some(Context::Inbound),
            "SIDECAR_OUTBOUND" => Some(Context::Outbound),
            "GATEWAY" => Some(Context::Gateway),
            _ => None,
        };
        let can_insert = matches!(apply_to.as_str(), "HTTP_FILTER" | "NETWORK_FILTER" | "HTTP_ROUTE" | "LISTENER_FILTER");
        let operation = match object::text(entry, "/patch/operation") {
            "MERGE" => Operation::Merge,
            "MERGE_AND_REPLACE_LIST" => Operation::MergeReplacingLists,
            "ADD" => Operation::Add,
            "REMOVE" => Operation::Remove,
            "REPLACE" => Operation::Replace,
            // Where order means nothing, to insert is to add.
            "INSERT_BEFORE" | "INSERT_AFTER" | "INSERT_FIRST" if !can_insert => Operation::Add,
            "INSERT_BEFORE" => Operation::InsertBefore,
            "INSERT_AFTER" => Operation::InsertAfter,
            "INSERT_FIRST" => Operation::InsertFirst,
            _ => return None,
        };
        let value = keys::snake_case(entry.pointer("/patch/value").unwrap_or(&Value::Null));
        Some(Patch { apply_to, context, operation, matches: entry.get("match").cloned().unwrap_or(Value::Null), value })
    }

    fn is_for(&self, apply_to: &str, context: Context) -> bool {
        self.apply_to == apply_to && self.context.is_none_or(|own| own == context)
    }

    /// Whether a whole resource is added in this context: without a context only once, and not inbound.
    fn adds(&self, apply_to: &str, context: Context) -> bool {
        self.operation == Operation::Add && self.is_for(apply_to, context) && (self.context.is_some() || context != Context::Inbound)
    }
}

/// The version by which the simulated proxies answer `match.proxy.proxyVersion`.
const PROXY_VERSION: &str = "1.31";

/// Patches a proxy's resources by every EnvoyFilter that is for it: the root namespace's and its own, by priority, then root
/// first, then age, then name.
pub fn apply_envoy_filters(ctx: &PushContext, node: &ProxyNode, resources: &mut ProxyResources) {
    let patches = patches(ctx, node);
    if patches.is_empty() {
        return;
    }
    let contexts = match node.kind {
        ProxyKind::Router => &[Context::Gateway][..],
        ProxyKind::Sidecar => &[Context::Inbound, Context::Outbound],
    };
    let gateway_ports = gateway_ports(ctx, node);
    let routes = route::Scope { patches: &patches, gateway_ports: &gateway_ports };
    for context in contexts {
        let is_of = |inbound: bool| *context == Context::Gateway || (*context == Context::Inbound) == inbound;
        cluster::patch(&patches, *context, &mut resources.clusters, &|name| is_of(cluster::is_inbound(name)));
        // Without such a patch the rest stays what it is, shared with earlier pushes.
        if patches.iter().all(|patch| patch.apply_to == "CLUSTER") {
            continue;
        }
        listener::patch(&patches, *context, &mut resources.listeners, &|listener| is_of(listener::is_inbound(listener)), &routes);
        if *context != Context::Inbound {
            for config in resources.routes.values_mut() {
                let mut patched = Value::clone(config);
                routes.patch(*context, &mut patched);
                *config = Arc::new(patched);
            }
        }
    }
}

fn patches(ctx: &PushContext, node: &ProxyNode) -> Vec<Patch> {
    let is_near = |filter: &Value| object::namespace(filter) == node.namespace || object::namespace(filter) == ctx.root_namespace;
    let all = ctx.objects("EnvoyFilter").iter().filter(|filter| is_near(filter) && attaches(filter, node));
    let mut filters: Vec<&Value> = all.map(|filter| &**filter).collect();
    filters.sort_by_key(|filter| {
        let priority = filter.pointer("/spec/priority").and_then(Value::as_i64).unwrap_or(0);
        let is_local = object::namespace(filter) != ctx.root_namespace;
        (priority, is_local, object::created(filter), object::name(filter))
    });
    let entries = filters.into_iter().flat_map(|filter| object::list(filter, "/spec/configPatches"));
    entries.filter(|entry| is_for_proxy(entry)).filter_map(Patch::read).collect()
}

/// `match.proxy`: the version by a regular expression. Metadata is not simulated, so a patch that asks for some is not used.
fn is_for_proxy(entry: &Value) -> bool {
    let version = object::text(entry, "/match/proxy/proxyVersion");
    let is_version = version.is_empty() || regex::Regex::new(version).is_ok_and(|version| version.is_match(PROXY_VERSION));
    let metadata = entry.pointer("/match/proxy/metadata").and_then(Value::as_object);
    is_version && metadata.is_none_or(serde_json::Map::is_empty)
}

/// The ports of a gateway's own Services, by the port that its listener binds: patches name a route's port as the Gateway does.
fn gateway_ports(ctx: &PushContext, node: &ProxyNode) -> BTreeMap<u64, Vec<u64>> {
    let mut ports: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for service in ctx.objects("Service").iter().filter(|service| object::namespace(service) == node.namespace) {
        let selector = object::at(service, "/spec/selector").map(object::text_map).unwrap_or_default();
        if node.kind != ProxyKind::Router || selector.is_empty() || !object::selects(&selector, &node.labels) {
            continue;
        }
        for port in object::list(service, "/spec/ports") {
            let number = port.get("port").and_then(Value::as_u64);
            let target = port.get("targetPort").and_then(Value::as_u64).or(number);
            if let (Some(number), Some(target)) = (number, target) {
                ports.entry(target).or_default().push(number);
            }
        }
    }
    ports
}
