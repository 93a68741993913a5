//! Which ports of the pod beside a sidecar services lead to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::ProxyNode;
use crate::istio::model::{ANY_ADDRESS, Protocol, PushContext, Service, ServicePort, TargetPort, object};

/// A port of the application, as one service leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: Arc<Service>,
    /// Its port.
    pub service_port: ServicePort,
    /// The application's port.
    pub port: u16,
    /// What a Sidecar's ingress says of it; none: a service leads to it.
    pub declared: Option<Declared>,
}

impl Target {
    /// What the listener for it alone would be called; its filter chains are (Istio: `getListenerName`).
    pub(super) fn listener_name(&self) -> String {
        let bind = self.declared.as_ref().map_or(ANY_ADDRESS, |declared| declared.bind.as_str());
        format!("{bind}_{}", self.port)
    }
}

/// A port of the application as a Sidecar's ingress declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The address that it is called by.
    pub bind: String,
    /// Where its connections go, an IP address with a port or `unix://PATH`; none: to the address that was called.
    pub endpoint: Option<(String, u16)>,
    /// Whether there is a service for it; else the Sidecar gives its name.
    pub has_service: bool,
}

/// The application's ports: those of the Sidecar's ingress alone if it has one, else those of services
/// (Istio: `buildInboundChainConfigs`).
#[must_use]
pub fn targets(context: &PushContext, node: &ProxyNode) -> Vec<Target> {
    let of_services = targets_of_services(context, node);
    let Some(sidecar) = super::scope::sidecar_for(context, node) else { return of_services };
    match object::list(sidecar, "/spec/ingress") {
        [] => of_services,
        ingress => ingress.iter().filter_map(|listener| declared(node, sidecar, listener, &of_services)).collect(),
    }
}

/// A listener of a Sidecar's ingress (Istio: `buildInboundClustersFromSidecar`, `findOrCreateService`). Its TLS settings do not
/// count, as in Istio unless `ENABLE_TLS_ON_SIDECAR_INGRESS` is set.
fn declared(node: &ProxyNode, sidecar: &Value, listener: &Value, of_services: &[Target]) -> Option<Target> {
    let port = object::port(listener, "/port/number")?;
    let name = object::text(listener, "/port/name").to_owned();
    let protocol = Protocol::parse(object::text(listener, "/port/protocol"));
    let (own, localhost) = match node.ip {
        IpAddr::V4(_) => ("0.0.0.0", "127.0.0.1"),
        IpAddr::V6(_) => ("::", "::1"),
    };
    let endpoint = match object::text(listener, "/defaultEndpoint") {
        "" => None,
        path if path.starts_with("unix://") => Some((path.to_owned(), 0)),
        address => {
            let (host, port) = address.rsplit_once(':')?;
            let host = match host.trim_matches(['[', ']']) {
                // All of the pod's addresses stand for the one that services know.
                host if host == own => node.ip.to_string(),
                "0.0.0.0" => "127.0.0.1".to_owned(),
                "::" => "::1".to_owned(),
                _ => localhost.to_owned(),
            };
            Some((host, port.parse().ok()?))
        }
    };
    let service = of_services.iter().find(|target| target.port == port).map(|target| Arc::clone(&target.service));
    let bind = match object::text(listener, "/bind") {
        "" => node.ip.to_string(),
        bind => bind.to_owned(),
    };
    let declared = Declared { bind, endpoint, has_service: service.is_some() };
    let host = format!("{}.{}", object::name(sidecar), object::namespace(sidecar));
    let service = service.unwrap_or_else(|| Arc::new(Service::nameless(&host, object::name(sidecar), object::namespace(sidecar))));
    let service_port = ServicePort { number: port, name, protocol, target: TargetPort::Number(port) };
    Some(Target { service, service_port, port, declared: Some(declared) })
}

/// The application's ports by the services that lead to the pod, ready or not, oldest service first
/// (Istio: `GetProxyServiceTargets`).
fn targets_of_services(context: &PushContext, node: &ProxyNode) -> Vec<Target> {
    let leading = context.services.iter().filter(|service| service.leads_to(node));
    let named = container_ports(context, node);
    leading
        .flat_map(|service| {
            service.ports.iter().filter_map(|port| {
                let number = match (service.listed_port(node, port), &port.target) {
                    (Some(number), _) => number,
                    (None, TargetPort::Number(number)) => *number,
                    (None, TargetPort::Name(name)) => named.get(name).copied()?,
                };
                Some(Target { service: Arc::clone(service), service_port: port.clone(), port: number, declared: None })
            })
        })
        .collect()
}

/// The named ports of the pod's containers.
fn container_ports(context: &PushContext, node: &ProxyNode) -> BTreeMap<String, u16> {
    let Some(pod) = context.object("Pod", &node.namespace, &node.pod) else { return BTreeMap::new() };
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(|at| object::list(pod, at));
    let ports = containers.flat_map(|container| object::list(container, "/ports"));
    let named =
        ports.filter_map(|port| Some((port.get("name").and_then(Value::as_str)?.to_owned(), object::port(port, "/containerPort")?)));
    let mut out = BTreeMap::new();
    for (name, number) in named {
        out.entry(name).or_insert(number);
    }
    out
}
