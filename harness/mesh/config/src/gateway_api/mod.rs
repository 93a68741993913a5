//! Gateway API objects, turned into Istio's as istiod does, and their status (Istio: `pilot/pkg/config/kube/gateway`).
//!
//! Gateways of a class whose controller is Istio's, with listeners for HTTP, HTTPS, TLS and TCP; HTTPRoutes, GRPCRoutes, TLSRoutes
//! and TCPRoutes, whose parents are Gateways, Services or ServiceEntries; ReferenceGrants. What is not converted is listed in
//! [`Converted::not_converted`], not dropped in silence: ListenerSets, BackendTLSPolicies.

mod backend;
mod class;
mod condition;
mod conflict;
mod deployment;
mod filter;
mod gateway_status;
mod grpc_rule;
mod http_rule;
mod l4_route;
mod listener;
mod objects;
mod parent;
mod route;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use serde_json::Value;

use crate::Snapshot;
use crate::istio::model::object;
use listener::Listener;
use objects::Objects;
use parent::Attached;

pub use class::{CLASSES, Class};
pub use deployment::deployments;

/// The group of all these kinds.
const GROUP: &str = "gateway.networking.k8s.io";
/// The controller that istiod is (`GatewayClass.spec.controllerName`).
const CONTROLLER: &str = "istio.io/gateway-controller";

/// The status of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// `GatewayClass`, `Gateway`, `HTTPRoute`, `GRPCRoute`, `TLSRoute` or `TCPRoute`.
    pub kind: &'static str,
    /// The object's namespace; empty for a GatewayClass.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Fields of `status`. Conditions of ours have no `lastTransitionTime`: the caller knows the time, and which of them changed.
    /// Those of others are as they were.
    pub status: Value,
}

/// What Gateway API objects come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Converted {
    /// Istio's Gateways and VirtualServices: one Gateway for each listener, one VirtualService for each host of it.
    pub objects: Vec<Arc<Value>>,
    /// What istiod writes back.
    pub statuses: Vec<Status>,
    /// What there is and is not converted, in words.
    pub not_converted: Vec<String>,
}

/// Converts all Gateway API objects of a snapshot.
#[must_use]
pub fn convert(snapshot: &Snapshot) -> Converted {
    let objects = Objects::new(snapshot);
    let mut out = Converted::default();
    if objects.is_without_gateway_api() {
        return out;
    }
    for kind in ["ListenerSet", "BackendTLSPolicy"] {
        for object in objects.of(kind) {
            out.not_converted.push(format!("{kind} {}/{}", object::namespace(object), object::name(object)));
        }
    }
    class::statuses(&objects, &mut out);
    let listeners: Vec<Listener> = listener::all(&objects, &mut out);
    let mut attached = Attached::default();
    route::convert(&objects, &listeners, &mut attached, &mut out);
    l4_route::convert(&objects, &listeners, &mut attached, &mut out);
    gateway_status::all(&objects, &listeners, &attached, &mut out);
    out
}

/// Why a reference, a rule or a listener is not as it should be (`Condition.reason` and `.message`).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: &'static str,
    message: String,
}

impl Fault {
    fn new(reason: &'static str, message: impl Into<String>) -> Fault {
        Fault { reason, message: message.into() }
    }
}
