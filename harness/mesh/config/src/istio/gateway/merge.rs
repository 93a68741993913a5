//! Several Gateways of one pod as one: which servers stand on which port (`mergeGateways` in `pilot/pkg/model/gateway.go`).

use std::collections::{BTreeMap, BTreeSet};

use super::spec::{Gateway, Port, Role, Server};
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::model::{Protocol, Service, TargetPort, object};

/// Made by istiod for Gateways of Gateway API: the Services by which pods are found, in place of a selector.
const GATEWAY_SERVICE: &str = "internal.istio.io/gateway-service";
/// The namespace of the object that such a Gateway was made from, where it is another.
const PARENT_NAMESPACE: &str = "internal.istio.io/parent-namespace";
/// A Service with this label does not say which port of the pod a Gateway's port is.
const DISABLE_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A server that stands, and what follows from where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) server: Server,
    pub(super) port: Port,
    pub(super) role: Role,
    /// `namespace/name` of its Gateway.
    pub(super) gateway: String,
    /// The name of its routes; empty without any.
    pub(super) route: String,
}

/// Servers of one port, protocol and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// The port that is listened on.
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) bind: String,
    pub(super) servers: Vec<Placed>,
}

/// What stands at a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Merged {
    /// Whether any Gateway is for the pod at all.
    pub(super) any: bool,
    /// In the order in which they came.
    pub(super) groups: Vec<Group>,
    /// The servers behind each name of routes.
    pub(super) by_route: BTreeMap<String, Vec<Placed>>,
    pub(super) log: Vec<String>,
}

/// Merges the Gateways that are for this pod, oldest first.
pub(super) fn merge(context: &PushContext, node: &ProxyNode) -> Merged {
    let targets = targets(context, node);
    let mut merging = Merging::default();
    for gateway in context.objects("Gateway").iter().filter_map(|object| Gateway::of(object)) {
        // Also of those that were made from Gateway API: `gatewayIndex.namespace` has them all (`pilot/pkg/model/push_context.go`).
        if context.features.scope_gateways && gateway.meta.namespace != node.namespace {
            continue;
        }
        let Some((targets, by_selector)) = selected(&gateway, node, &targets) else { continue };
        merging.out.any = true;
        merging.warn_of_repeated_names(&gateway);
        for server in &gateway.spec.servers {
            let Some(port) = &server.port else { continue };
            let server = server.with_plain_hosts(&gateway.meta.namespace);
            for resolved in resolve_ports(context, node, port.number, &targets, by_selector) {
                merging.place(&gateway, &server, port, resolved);
            }
        }
    }
    merging.out
}

/// The Services that lead to the pod, oldest first (`Proxy.ServiceTargets`).
fn targets<'a>(context: &'a PushContext, node: &ProxyNode) -> Vec<&'a Service> {
    context.services.iter().map(AsRef::as_ref).filter(|service| service.leads_to(node)).collect()
}

/// The Services that may translate the Gateway's ports, and whether it finds its pods by labels; `None` if it is for others.
fn selected<'a>(gateway: &Gateway, node: &ProxyNode, targets: &[&'a Service]) -> Option<(Vec<&'a Service>, bool)> {
    let Some(named) = gateway.meta.annotations.get(GATEWAY_SERVICE) else {
        return object::selects(&gateway.spec.selector, &node.labels).then(|| (targets.to_vec(), true));
    };
    let parent = gateway.meta.annotations.get(PARENT_NAMESPACE).filter(|namespace| !namespace.is_empty());
    let namespace = parent.unwrap_or(&gateway.meta.namespace);
    let known: BTreeSet<&str> = named.split(',').collect();
    let matching: Vec<&Service> =
        targets.iter().filter(|service| known.contains(service.host.as_str()) && service.namespace == *namespace).copied().collect();
    (!matching.is_empty()).then_some((matching, false))
}

/// The ports of the pod that a Gateway's port means. By labels: the target of the first Service with that port, else that port
/// itself. By named Services: the targets of all of them, and nothing if none has it (`resolvePorts`).
fn resolve_ports(context: &PushContext, node: &ProxyNode, number: u16, targets: &[&Service], by_selector: bool) -> BTreeSet<u16> {
    let mut out = BTreeSet::new();
    for service in targets.iter().filter(|service| !(by_selector && service.labels.contains_key(DISABLE_TRANSLATION))) {
        let target = service.port(number).and_then(|port| {
            service.listed_port(node, port).or_else(|| match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => named_port(context, node, name),
            })
        });
        if let Some(target) = target {
            out.insert(target);
            if by_selector {
                return out;
            }
        }
    }
    if out.is_empty() && by_selector {
        out.insert(number);
    }
    out
}

/// The container port of this name at the pod.
fn named_port(context: &PushContext, node: &ProxyNode, name: &str) -> Option<u16> {
    let pod = context.object("Pod", &node.namespace, &node.pod)?;
    let containers = object::list(pod, "/spec/containers").iter().flat_map(|container| object::list(container, "/ports"));
    containers.filter(|port| object::text(port, "/name") == name).find_map(|port| object::port(port, "/containerPort"))
}

#[derive(Default)]
struct Merging {
    out: Merged,
    ports: BTreeSet<u16>,
    /// The first group of each port that is not for TLS.
    plain: BTreeMap<u16, usize>,
    /// Which hosts of TLS servers a port has, and at which address.
    sealed_hosts: BTreeMap<u16, BTreeMap<String, String>>,
}

impl Merging {
    fn warn_of_repeated_names(&mut self, gateway: &Gateway) {
        let mut seen = BTreeSet::new();
        for name in gateway.spec.servers.iter().map(|server| &server.name).filter(|name| !name.is_empty()) {
            if !seen.insert(name) {
                self.out.log.push(format!(
                    "Server name {name} is not unique in gateway {} and may create possible issues like stat prefix collision ",
                    gateway.meta.key()
                ));
            }
        }
    }

    /// Puts a server where it belongs, or leaves it out because of one that is there.
    fn place(&mut self, gateway: &Gateway, server: &Server, port: &Port, resolved: u16) {
        let role = server.role(port);
        let placed = Placed {
            server: server.clone(),
            port: port.clone(),
            role,
            gateway: gateway.meta.key(),
            route: route_name(gateway, server, port, role, resolved),
        };
        if server.tls.is_some() {
            let repeated = claim(&server.hosts, &server.bind, self.sealed_hosts.entry(resolved).or_default());
            if !repeated.is_empty() {
                let hosts = repeated.join(" ");
                self.out.log.push(format!("skipping server on gateway {}, duplicate host names: [{hosts}]", gateway.meta.key()));
                return;
            }
        }
        let tls_server = server.tls.is_some() && !port.is_http();
        if self.ports.insert(resolved) {
            self.add_first(placed, resolved, tls_server);
            return;
        }
        let existing = self.plain.get(&resolved).and_then(|index| Some((*index, self.out.groups.get(*index)?.clone())));
        match existing {
            Some((index, current)) => self.join_plain(gateway, placed, resolved, index, &current),
            None if !tls_server => self.add_first(placed, resolved, false),
            None => self.join_sealed(gateway, placed, resolved),
        }
    }

    /// A new group. A port's first server without TLS decides what others may stand beside it.
    fn add_first(&mut self, placed: Placed, resolved: u16, tls_server: bool) {
        if !tls_server {
            self.plain.insert(resolved, self.out.groups.len());
        }
        if matches!(placed.role, Role::Http | Role::Https) {
            self.out.by_route.insert(placed.route.clone(), vec![placed.clone()]);
        }
        self.push(placed, resolved);
    }

    fn push(&mut self, placed: Placed, resolved: u16) {
        let (protocol, bind) = (placed.port.protocol.clone(), placed.server.bind.clone());
        let same = |group: &&mut Group| group.port == resolved && group.protocol == protocol && group.bind == bind;
        match self.out.groups.iter_mut().find(same) {
            Some(group) => group.servers.push(placed),
            None => self.out.groups.push(Group { port: resolved, protocol, bind, servers: vec![placed] }),
        }
    }

    /// A server on a port that has one without TLS: HTTP joins HTTP, nothing else does.
    fn join_plain(&mut self, gateway: &Gateway, placed: Placed, resolved: u16, index: usize, current: &Group) {
        let same_bind = current.bind == placed.server.bind;
        let there = Port { protocol: current.protocol.clone(), ..Port::default() };
        let mergeable = placed.port.is_http() && there.is_http();
        if !mergeable && same_bind {
            self.out.log.push(conflict(
                gateway,
                &placed,
                resolved,
                &format!("conflict with existing server {resolved}.{}", placed.port.protocol),
            ));
            return;
        }
        if placed.route.is_empty() && same_bind {
            return;
        }
        if same_bind {
            self.out.by_route.entry(placed.route.clone()).or_default().push(placed.clone());
            if let Some(group) = self.out.groups.get_mut(index) {
                group.servers.push(placed);
            }
        } else {
            if matches!(placed.role, Role::Http | Role::Https) {
                self.out.by_route.entry(placed.route.clone()).or_default().push(placed.clone());
            }
            let groups = self.out.groups.len();
            let sealed = placed.server.tls.is_some() && !placed.port.is_http();
            self.push(placed, resolved);
            if self.out.groups.len() > groups && !sealed {
                self.plain.insert(resolved, groups);
            }
        }
    }

    /// A TLS server on a port that has others: they are told apart by server name.
    fn join_sealed(&mut self, gateway: &Gateway, placed: Placed, resolved: u16) {
        if placed.role == Role::Https {
            if self.out.by_route.contains_key(&placed.route) {
                self.out.log.push(conflict(gateway, &placed, resolved, "non unique port name for HTTPS port"));
                return;
            }
            self.out.by_route.insert(placed.route.clone(), vec![placed.clone()]);
        }
        self.push(placed, resolved);
    }
}

fn conflict(gateway: &Gateway, placed: &Placed, resolved: u16, why: &str) -> String {
    let (name, protocol) = (&placed.port.name, &placed.port.protocol);
    format!("skipping server on gateway {} port {name}.{resolved}.{protocol}: {why}", gateway.meta.name)
}

/// The hosts that are taken at this address already; if none is, all are taken now (`CheckDuplicates`).
pub(super) fn claim(hosts: &[String], bind: &str, known: &mut BTreeMap<String, String>) -> Vec<String> {
    let repeated: Vec<String> = hosts.iter().filter(|host| known.get(*host).is_some_and(|at| at == bind)).cloned().collect();
    if repeated.is_empty() {
        known.extend(hosts.iter().map(|host| (host.clone(), bind.to_owned())));
    }
    repeated
}

/// `http.PORT` by the port that is listened on, `https.PORT.NAME.GATEWAY.NAMESPACE` by the Gateway's, and none for bytes
/// (`gatewayRDSRouteName`).
fn route_name(gateway: &Gateway, server: &Server, port: &Port, role: Role, resolved: u16) -> String {
    let bind = if server.bind.is_empty() { String::new() } else { format!(".{}", server.bind) };
    match role {
        Role::Http => format!("http.{resolved}{bind}"),
        _ if port.parsed() == Protocol::Https && role != Role::Passthrough => {
            let (number, name) = (port.number, &port.name);
            format!("https.{number}.{name}.{}.{}{bind}", gateway.meta.name, gateway.meta.namespace)
        }
        _ => String::new(),
    }
}
