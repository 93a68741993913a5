//! What a sidecar listens for (Istio: `pilot/pkg/networking/core/listener*.go`).

mod filters;
mod inbound;
mod interception;
mod outbound;
mod scope;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

pub use inbound::INBOUND_PORT;
pub use interception::{Interception, Ports};
pub use outbound::OUTBOUND_PORT;
pub use scope::egress;
pub use targets::{Target, targets};

use super::PushContext;
use super::route::{self, Egress};
use crate::ProxyNode;

/// A sidecar's listeners and the routes that they ask for.
pub(super) struct SidecarParts {
    pub(super) listeners: Vec<Value>,
    pub(super) routes: BTreeMap<String, Value>,
    pub(super) log: Vec<String>,
}

/// Makes them.
pub(super) fn build(context: &PushContext, node: &ProxyNode, egress: &Egress<'_>, targets: &[Target]) -> SidecarParts {
    let mut log = Vec::new();
    let (mut listeners, names) = outbound::listeners(context, node, egress);
    listeners.push(inbound::listener(context, node, targets, &mut log));
    let routes = names.into_iter().map(|name| (name.clone(), route::sidecar_route_config(context, node, egress, &name)));
    SidecarParts { listeners, routes: routes.collect(), log }
}
