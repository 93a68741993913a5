//! The services that destinations name, looked up in what istiod knows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::destination::{Backend, Backends};
use super::duration::ProtoDuration;
use super::spec::Destination;
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::model::{Resolution, Service, object};

/// Which services a gateway or a sidecar means by a name.
pub(in crate::istio) struct Known<'a> {
    context: &'a PushContext,
    node: &'a ProxyNode,
    lookup: Lookup<'a>,
}

enum Lookup<'a> {
    /// A Service beside the VirtualService if the proxy may see it, else what the name means to the proxy
    /// (`buildNameToServiceMapForHTTPRoutes`).
    Gateway { namespace: &'a str },
    /// Those that have the port that routes are made for, with that port alone.
    Sidecar { services: &'a BTreeMap<String, &'a Service>, port: u16 },
}

impl<'a> Known<'a> {
    /// As a gateway sees them for a VirtualService of this namespace.
    pub(in crate::istio) fn by_gateway(context: &'a PushContext, node: &'a ProxyNode, namespace: &'a str) -> Self {
        Self { context, node, lookup: Lookup::Gateway { namespace } }
    }

    /// As a sidecar sees them on one port.
    pub(super) fn by_sidecar(
        context: &'a PushContext,
        node: &'a ProxyNode,
        services: &'a BTreeMap<String, &'a Service>,
        port: u16,
    ) -> Self {
        Self { context, node, lookup: Lookup::Sidecar { services, port } }
    }
}

impl Backends for Known<'_> {
    fn backend(&self, host: &str) -> Option<Backend> {
        match &self.lookup {
            Lookup::Gateway { namespace } => {
                let mut visible = self.context.services_visible_to(&self.node.namespace);
                let beside = visible.find(|service| service.host == host && service.namespace == *namespace);
                beside.or_else(|| self.context.service_for(host, &self.node.namespace)).map(|service| backend(service))
            }
            Lookup::Sidecar { services, port } => {
                services.get(host).map(|service| Backend { ports: vec![u32::from(*port)], ..backend(service) })
            }
        }
    }

    fn hash_policy(&self, destination: &Destination) -> Option<Value> {
        let service = self.context.service_for(&destination.host, &self.node.namespace)?;
        hash_policy(self.context, self.node, service, &destination.subset, destination.port.map(|port| port.number))
    }
}

/// What a destination has to know of a service.
pub(in crate::istio) fn backend(service: &Service) -> Backend {
    let external_name = match &service.resolution {
        Resolution::Alias(name) => Some(name.clone()),
        _ => None,
    };
    Backend { ports: service.ports.iter().map(|port| u32::from(port.number)).collect(), external_name }
}

/// Envoy's form of the consistent hashing that a DestinationRule asks for: the subset's port, the subset, the port, the host
/// (`HashForHTTPDestination`).
pub(super) fn hash_policy(context: &PushContext, node: &ProxyNode, service: &Service, subset: &str, port: Option<u32>) -> Option<Value> {
    let rule = context.destination_rule_of(node, service)?;
    let of_subset = rule.subset(subset).and_then(|subset| subset.traffic_policy.as_ref());
    let candidates = [
        of_subset.and_then(|policy| of_port(policy, port)),
        of_subset.and_then(of_policy),
        rule.traffic_policy.as_ref().and_then(|policy| of_port(policy, port)),
        rule.traffic_policy.as_ref().and_then(of_policy),
    ];
    candidates.into_iter().flatten().next().and_then(envoy_hash)
}

fn of_policy(policy: &Value) -> Option<&Value> {
    policy.pointer("/loadBalancer/consistentHash").filter(|hash| !hash.is_null())
}

fn of_port(policy: &Value, port: Option<u32>) -> Option<&Value> {
    let port = u64::from(port?);
    let settings = object::list(policy, "/portLevelSettings");
    settings.iter().find(|setting| setting.pointer("/port/number").and_then(Value::as_u64) == Some(port)).and_then(of_policy)
}

fn envoy_hash(hash: &Value) -> Option<Value> {
    let text = |pointer: &str| Some(object::text(hash, pointer)).filter(|text| !text.is_empty());
    if let Some(name) = text("/httpHeaderName") {
        return Some(json!({"header": {"header_name": name}}));
    }
    if let Some(cookie) = hash.get("httpCookie") {
        let mut out = Map::new();
        for field in ["name", "path"] {
            if let Some(text) = cookie.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                out.insert(field.to_owned(), json!(text));
            }
        }
        if let Some(ttl) = cookie.get("ttl").and_then(Value::as_str).and_then(ProtoDuration::parse) {
            out.insert("ttl".to_owned(), ttl.json());
        }
        return Some(json!({"cookie": out}));
    }
    if let Some(own_address) = hash.get("useSourceIp").and_then(Value::as_bool) {
        return Some(json!({"connection_properties": if own_address { json!({"source_ip": true}) } else { json!({}) }}));
    }
    text("/httpQueryParameterName").map(|name| json!({"query_parameter": {"name": name}}))
}
