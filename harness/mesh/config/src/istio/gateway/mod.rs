//! Gateways: what stands on which port of a gateway's pod, as listeners and routes.

#[cfg(test)]
mod captured_tests;
mod connection_manager;
mod listeners;
mod merge;
mod routes;
pub mod spec;
#[cfg(test)]
mod tests;
mod tls;
pub(in crate::istio) mod tracing;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::route::VirtualServices;

/// What istiod sends to a gateway, apart from clusters and their endpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GatewayParts {
    /// `envoy.config.listener.v3.Listener` by name.
    pub listeners: BTreeMap<String, Value>,
    /// `envoy.config.route.v3.RouteConfiguration` by name.
    pub routes: BTreeMap<String, Value>,
    /// What istiod writes to its log, in its words.
    pub log: Vec<String>,
}

/// What all of it is made from.
pub(super) struct Inputs<'a> {
    context: &'a PushContext,
    node: &'a ProxyNode,
    services: &'a VirtualServices,
    fetch_keys: &'a dyn Fn(&str) -> Option<String>,
}

impl Inputs<'_> {
    /// A field of `gatewayTopology`: of the pod's own configuration (annotation `proxy.istio.io/config`), else of the mesh's.
    fn topology(&self, field: &str) -> Option<Value> {
        let own = self.node.annotations.get("proxy.istio.io/config");
        let own: Option<Value> = own.and_then(|yaml| serde_saphyr::from_str(yaml).ok());
        let of = |config: &Value| {
            config.get("gatewayTopology").and_then(|topology| topology.get(field)).filter(|value| !value.is_null()).cloned()
        };
        own.as_ref().and_then(of).or_else(|| self.context.mesh.raw.get("defaultConfig").and_then(of))
    }

    /// An entry of the proxy's metadata.
    fn meta(&self, name: &str) -> Option<&str> {
        tracing::proxy_meta(self.context, self.node, name)
    }
}

/// Listeners and routes of a gateway's proxy, from the Gateways that select it and the VirtualServices that name those.
///
/// `fetch_keys` says what istiod reads at a `jwksUri`, or nothing if it cannot.
#[must_use]
pub fn build(
    context: &PushContext,
    services: &VirtualServices,
    node: &ProxyNode,
    fetch_keys: &dyn Fn(&str) -> Option<String>,
) -> GatewayParts {
    let merged = merge::merge(context, node);
    let mut parts = GatewayParts { log: merged.log, ..GatewayParts::default() };
    if !merged.any {
        return parts;
    }
    let inputs = Inputs { context, node, services, fetch_keys };
    listeners::build(&inputs, &merged.groups, &mut parts);
    for (name, servers) in &merged.by_route {
        let config = routes::route_config(&inputs, name, servers, &mut parts.log);
        parts.routes.insert(name.clone(), config);
    }
    parts
}
