//! What a sidecar may reach: everything its namespace may see, or what a Sidecar object leaves of it
//! (Istio: `pilot/pkg/model/sidecar.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::ProxyNode;
use crate::istio::mesh_config::OutboundPolicy;
use crate::istio::model::{PushContext, Service, host, object};
use crate::istio::route::{Egress, VirtualService, VirtualServices};

/// What this sidecar may reach.
///
/// Egress listeners of a Sidecar count by their hosts; their own ports and addresses (`port`, `bind`, `captureMode`) do not:
/// every service stays on its own.
#[must_use]
pub fn egress<'a>(context: &'a PushContext, all: &'a VirtualServices, node: &'a ProxyNode) -> Egress<'a> {
    let mut scope = Egress::everything(context, all, &node.namespace);
    let Some(sidecar) = sidecar_for(context, node) else { return scope };
    if let Some(outbound) = OutboundPolicy::read(sidecar.pointer("/spec/outboundTrafficPolicy")) {
        scope.outbound = outbound;
    }
    let listeners = object::list(sidecar, "/spec/egress");
    if listeners.is_empty() {
        return scope;
    }
    let hosts: Vec<Host<'_>> = listeners
        .iter()
        .flat_map(|listener| object::texts(listener, "/hosts"))
        .filter_map(|text| Host::read(text, &node.namespace))
        .collect();
    scope.virtual_services.retain(|service| {
        let of_namespace = hosts.iter().filter(|pattern| pattern.is_of(&service.meta.namespace));
        of_namespace.into_iter().any(|pattern| service.spec.hosts.iter().any(|name| host::overlap(name, pattern.name)))
    });
    // A route that counts brings the services that it leads to.
    let led_to: BTreeSet<&str> = scope.virtual_services.iter().flat_map(|service| destinations(service)).collect();
    scope.services.retain(|service| named(&hosts, service) || led_to.contains(service.host.as_str()));
    scope
}

/// The Sidecar object of a proxy: of its namespace the oldest that selects it, else the oldest without a selector, else the
/// root namespace's (Istio: `doGetSidecarScope`).
pub(super) fn sidecar_for<'a>(context: &'a PushContext, node: &ProxyNode) -> Option<&'a Value> {
    let of = |namespace: &str| {
        let namespace = namespace.to_owned();
        context.objects("Sidecar").iter().map(AsRef::as_ref).filter(move |sidecar| object::namespace(sidecar) == namespace)
    };
    let selector = |sidecar: &Value| sidecar.pointer("/spec/workloadSelector/labels").map(object::text_map);
    of(&node.namespace)
        .find(|sidecar| selector(sidecar).is_some_and(|selector| object::selects(&selector, &node.labels)))
        .or_else(|| of(&node.namespace).find(|sidecar| selector(sidecar).is_none()))
        .or_else(|| of(&context.root_namespace).find(|sidecar| selector(sidecar).is_none()))
}

/// An entry `namespace/name` of an egress listener's hosts.
struct Host<'a> {
    /// None: any.
    namespace: Option<&'a str>,
    name: &'a str,
}

impl<'a> Host<'a> {
    /// None for `~`, which stands for nothing.
    fn read(text: &'a str, own: &'a str) -> Option<Host<'a>> {
        let (namespace, name) = text.split_once('/')?;
        let namespace = match namespace {
            "~" => return None,
            "*" => None,
            "." => Some(own),
            namespace => Some(namespace),
        };
        Some(Host { namespace, name })
    }

    fn is_of(&self, namespace: &str) -> bool {
        self.namespace.is_none_or(|own| own == namespace)
    }
}

fn named(hosts: &[Host<'_>], service: &Service) -> bool {
    hosts.iter().any(|pattern| pattern.is_of(&service.namespace) && host::subset_of(&service.host, pattern.name))
}

/// The hosts that a VirtualService leads to.
fn destinations(service: &VirtualService) -> impl Iterator<Item = &str> {
    let spec = &service.spec;
    let http = spec.http.iter().flat_map(|http| {
        let mirrors = http.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
        let routes = http.route.iter().map(|route| &route.destination);
        routes.chain(http.mirror.as_ref()).chain(mirrors).map(|destination| destination.host.as_str())
    });
    let tls = spec.tls.iter().flat_map(|tls| tls.route.iter().map(|route| route.destination.host.as_str()));
    let tcp = spec.tcp.iter().flat_map(|tcp| tcp.route.iter().map(|route| route.destination.host.as_str()));
    http.chain(tls).chain(tcp)
}
