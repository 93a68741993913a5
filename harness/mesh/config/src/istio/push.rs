//! A push: everything that one proxy is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::PushContext;
use super::{clusters, gateway, policy, secrets, sidecar};
use crate::{ProxyKind, ProxyNode, ProxyResources};

impl PushContext {
    /// What istiod sends to this proxy: listeners, routes, clusters, endpoints and secrets, after EnvoyFilters.
    #[must_use]
    pub fn resources(&self, node: &ProxyNode) -> ProxyResources {
        self.patched(node, self.unpatched(node))
    }

    /// The same before EnvoyFilters. As long as no other object changes, this stays the same.
    #[must_use]
    pub fn unpatched(&self, node: &ProxyNode) -> ProxyResources {
        match node.kind {
            ProxyKind::Sidecar => self.of_sidecar(node),
            ProxyKind::Router => self.of_gateway(node),
        }
    }

    /// What was made before EnvoyFilters, after them.
    #[must_use]
    pub fn patched(&self, node: &ProxyNode, mut resources: ProxyResources) -> ProxyResources {
        policy::apply_envoy_filters(self, node, &mut resources);
        type_added(&mut resources.listeners, "envoy.config.listener.v3.Listener");
        type_added(&mut resources.routes, "envoy.config.route.v3.RouteConfiguration");
        type_added(&mut resources.clusters, "envoy.config.cluster.v3.Cluster");
        resources.secrets = secrets::asked_for(self, node, &resources);
        resources
    }

    fn of_sidecar(&self, node: &ProxyNode) -> ProxyResources {
        let rules = self.virtual_services();
        let egress = sidecar::egress(self, rules, node);
        let targets = sidecar::targets(self, node);
        let mut clusters = clusters::outbound(self, node, &egress.services);
        clusters::inbound(self, node, &targets, &mut clusters);
        let parts = sidecar::build(self, node, &egress, &targets);
        let mut log = self.log.clone();
        log.extend(rules.log.iter().cloned());
        log.extend(parts.log);
        ProxyResources {
            listeners: by_name(parts.listeners),
            routes: shared(parts.routes),
            clusters: clusters.clusters,
            endpoints: clusters.endpoints,
            secrets: BTreeMap::new(),
            log,
        }
    }

    fn of_gateway(&self, node: &ProxyNode) -> ProxyResources {
        let rules = self.virtual_services();
        let services: Vec<_> = self.services_visible_to(&node.namespace).map(AsRef::as_ref).collect();
        let clusters = clusters::outbound(self, node, &services);
        // istiod would fetch keys by `jwksUri` from outside, where this one reaches nothing.
        let parts = gateway::build(self, rules, node, &|_| None);
        let mut log = self.log.clone();
        log.extend(rules.log.iter().cloned());
        log.extend(parts.log);
        ProxyResources {
            listeners: shared(parts.listeners),
            routes: shared(parts.routes),
            clusters: clusters.clusters,
            endpoints: clusters.endpoints,
            secrets: BTreeMap::new(),
            log,
        }
    }
}

fn shared(resources: BTreeMap<String, Value>) -> BTreeMap<String, Arc<Value>> {
    resources.into_iter().map(|(name, resource)| (name, Arc::new(resource))).collect()
}

/// Resources that a patch adds have the type of their kind, as every resource of a dump.
fn type_added(resources: &mut BTreeMap<String, Arc<Value>>, name: &str) {
    for resource in resources.values_mut().filter(|resource| resource.get("@type").is_none()) {
        if let Some(fields) = Arc::make_mut(resource).as_object_mut() {
            fields.insert("@type".to_owned(), Value::String(format!("type.googleapis.com/{name}")));
        }
    }
}

/// Listeners by their names.
fn by_name(listeners: Vec<Value>) -> BTreeMap<String, Arc<Value>> {
    let name = |listener: &Value| listener.get("name").and_then(Value::as_str).map(str::to_owned);
    listeners.into_iter().filter_map(|listener| Some((name(&listener)?, Arc::new(listener)))).collect()
}
