//! Services: those of Kubernetes and those that ServiceEntries declare, in one form (Istio: `pilot/pkg/model/service.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::object;
use super::protocol::Protocol;
use super::visibility::Visibility;
use crate::ProxyNode;

/// The address of a service without one: it takes every address on its ports.
pub const ANY_ADDRESS: &str = "0.0.0.0";

/// Where a service was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// How a client finds the endpoints (Istio: `model.Resolution`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// From the endpoints istiod knows: Services with a cluster IP, ServiceEntries `STATIC`.
    ClientSide,
    /// By DNS, every address of the answer: `DNS`.
    Dns,
    /// By DNS, one address at a time: `DNS_ROUND_ROBIN`.
    DnsRoundRobin,
    /// To where the client was going: headless Services, `NONE`.
    Passthrough,
    /// By DNS as named by the request: `DYNAMIC_DNS`.
    DynamicDns,
    /// Another host: a Service of type ExternalName.
    Alias(String),
}

/// Where a port of a Service leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// This port.
    Number(u16),
    /// The container port of this name.
    Name(String),
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// The endpoint's port.
    pub target: TargetPort,
}

/// An endpoint that a ServiceEntry lists (`WorkloadEntry`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEndpoint {
    /// An IP address, a DNS name, or `unix://…`.
    pub address: String,
    /// Ports by the name of the service's port.
    pub ports: BTreeMap<String, u16>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its weight; 0 is unset.
    pub weight: u32,
    /// Its locality, `region/zone/subzone`.
    pub locality: String,
    /// Its service account, empty if unset.
    pub service_account: String,
}

/// A host that can be called by name, with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The full name, maybe with a wildcard.
    pub host: String,
    /// The namespace of its object.
    pub namespace: String,
    /// By which services of one second are ordered: a Service's name; for a ServiceEntry the host.
    pub name: String,
    /// The name of the object that declares it.
    pub object_name: String,
    /// `metadata.creationTimestamp`.
    pub created: String,
    /// Who declares it.
    pub registry: Registry,
    /// Addresses that clients connect to; [`ANY_ADDRESS`] alone if it has none.
    pub addresses: Vec<String>,
    /// Addresses that istiod allocated for a ServiceEntry without any (`status.addresses`); only proxies that answer DNS use them.
    pub allocated: Vec<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Whether it is outside the mesh (`MESH_EXTERNAL`, ExternalName).
    pub external: bool,
    /// Who may see it.
    pub export_to: Visibility,
    /// Which pods are its endpoints; empty: none by labels.
    pub selector: BTreeMap<String, String>,
    /// The object's labels.
    pub labels: BTreeMap<String, String>,
    /// The endpoints a ServiceEntry lists.
    pub endpoints: Vec<StaticEndpoint>,
    /// Identities that its endpoints may have (`subjectAltNames`).
    pub subject_alt_names: Vec<String>,
    /// Whether endpoints that are not ready count (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
}

impl Service {
    /// The first address ([`ANY_ADDRESS`] if it has none).
    #[must_use]
    pub fn default_address(&self) -> &str {
        self.addresses.first().map_or(ANY_ADDRESS, String::as_str)
    }

    /// Its port with this number.
    #[must_use]
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether it has no address of its own (a Service with `clusterIP: None`).
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.registry == Registry::Kubernetes && self.resolution == Resolution::Passthrough
    }

    /// A service that stands for a Sidecar's ingress, which no client can call (Istio: `findOrCreateService`).
    #[must_use]
    pub fn nameless(host: &str, name: &str, namespace: &str) -> Service {
        Service {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            object_name: name.to_owned(),
            created: String::new(),
            registry: Registry::External,
            addresses: vec![ANY_ADDRESS.to_owned()],
            allocated: Vec::new(),
            ports: Vec::new(),
            resolution: Resolution::ClientSide,
            external: false,
            export_to: Visibility::Public,
            selector: BTreeMap::new(),
            labels: BTreeMap::new(),
            endpoints: Vec::new(),
            subject_alt_names: Vec::new(),
            publish_not_ready: false,
        }
    }

    /// Whether this proxy is one of its endpoints: of its namespace, and selected by labels or, for a ServiceEntry, listed with its
    /// address (Istio: `GetProxyServiceTargets` of each registry).
    #[must_use]
    pub fn leads_to(&self, node: &ProxyNode) -> bool {
        let is_selected = || !self.selector.is_empty() && object::selects(&self.selector, &node.labels);
        self.namespace == node.namespace && (is_selected() || self.listed(node).is_some())
    }

    /// The port that a ServiceEntry's own endpoint for this proxy says for a port, if it says one.
    #[must_use]
    pub fn listed_port(&self, node: &ProxyNode, port: &ServicePort) -> Option<u16> {
        self.listed(node)?.ports.get(&port.name).copied()
    }

    fn listed(&self, node: &ProxyNode) -> Option<&StaticEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.address.parse() == Ok(node.ip))
    }

    /// A Kubernetes Service (Istio: `kube.ConvertService`).
    #[must_use]
    pub fn of_kubernetes(service: &Value, domain: &str, default_visibility: &Visibility) -> Service {
        let (name, namespace) = (object::name(service), object::namespace(service));
        let cluster_ip = object::text(service, "/spec/clusterIP");
        let external_name = object::text(service, "/spec/externalName");
        let is_alias = object::text(service, "/spec/type") == "ExternalName" && !external_name.is_empty();
        let resolution = if cluster_ip == "None" {
            Resolution::Passthrough
        } else if is_alias {
            Resolution::Alias(external_name.to_owned())
        } else {
            Resolution::ClientSide
        };
        let cluster_ips = object::texts(service, "/spec/clusterIPs");
        let addresses = match cluster_ip {
            "" | "None" => vec![ANY_ADDRESS.to_owned()],
            _ if cluster_ips.len() > 1 => cluster_ips.into_iter().map(str::to_owned).collect(),
            ip => vec![ip.to_owned()],
        };
        let exported = object::annotation(service, "networking.istio.io/exportTo");
        Service {
            host: format!("{name}.{namespace}.svc.{domain}"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            object_name: name.to_owned(),
            created: object::created(service).to_owned(),
            registry: Registry::Kubernetes,
            addresses,
            allocated: Vec::new(),
            ports: object::list(service, "/spec/ports").iter().filter_map(kubernetes_port).collect(),
            resolution,
            external: is_alias,
            export_to: Visibility::read(exported.split(','), namespace, default_visibility),
            selector: service.pointer("/spec/selector").map(object::text_map).unwrap_or_default(),
            labels: object::labels(service),
            endpoints: Vec::new(),
            subject_alt_names: Vec::new(),
            publish_not_ready: object::flag(service, "/spec/publishNotReadyAddresses"),
        }
    }

    /// The services of a ServiceEntry, one for each host and address (Istio: `convertServices`).
    #[must_use]
    pub fn of_service_entry(entry: &Value, default_visibility: &Visibility) -> Vec<Service> {
        let namespace = object::namespace(entry);
        let resolution = match object::text(entry, "/spec/resolution") {
            "DNS" => Resolution::Dns,
            "DNS_ROUND_ROBIN" => Resolution::DnsRoundRobin,
            "STATIC" => Resolution::ClientSide,
            "DYNAMIC_DNS" => Resolution::DynamicDns,
            _ => Resolution::Passthrough,
        };
        let addresses: Vec<String> = object::texts(entry, "/spec/addresses").into_iter().filter_map(address).collect();
        let declares_addresses = !object::list(entry, "/spec/addresses").is_empty();
        let of_host = |host: &str| {
            let allocated = object::list(entry, "/status/addresses").iter();
            let allocated =
                allocated.filter(|status| object::text(status, "/host") == host).map(|status| object::text(status, "/value").to_owned());
            Service {
                host: host.to_owned(),
                namespace: namespace.to_owned(),
                name: host.to_owned(),
                object_name: object::name(entry).to_owned(),
                created: object::created(entry).to_owned(),
                registry: Registry::External,
                addresses: vec![ANY_ADDRESS.to_owned()],
                allocated: if declares_addresses { Vec::new() } else { allocated.collect() },
                ports: object::list(entry, "/spec/ports").iter().filter_map(entry_port).collect(),
                resolution: resolution.clone(),
                external: object::text(entry, "/spec/location") != "MESH_INTERNAL",
                export_to: Visibility::read(object::texts(entry, "/spec/exportTo"), namespace, default_visibility),
                selector: entry.pointer("/spec/workloadSelector/labels").map(object::text_map).unwrap_or_default(),
                labels: object::labels(entry),
                endpoints: object::list(entry, "/spec/endpoints").iter().map(StaticEndpoint::read).collect(),
                subject_alt_names: object::texts(entry, "/spec/subjectAltNames").into_iter().map(str::to_owned).collect(),
                publish_not_ready: false,
            }
        };
        let hosts = object::texts(entry, "/spec/hosts").into_iter().map(of_host);
        if !declares_addresses {
            return hosts.collect();
        }
        hosts
            .flat_map(|service| addresses.iter().map(move |address| Service { addresses: vec![address.clone()], ..service.clone() }))
            .collect()
    }
}

impl StaticEndpoint {
    /// Reads a `WorkloadEntry`, or an entry of a ServiceEntry's `endpoints`.
    #[must_use]
    pub fn read(endpoint: &Value) -> StaticEndpoint {
        let ports = endpoint.get("ports").and_then(Value::as_object).into_iter().flatten();
        let ports = ports.filter_map(|(name, number)| Some((name.clone(), number.as_u64().and_then(|number| u16::try_from(number).ok())?)));
        StaticEndpoint {
            address: object::text(endpoint, "/address").to_owned(),
            ports: ports.collect(),
            labels: endpoint.get("labels").map(object::text_map).unwrap_or_default(),
            weight: endpoint.get("weight").and_then(Value::as_u64).and_then(|weight| u32::try_from(weight).ok()).unwrap_or(0),
            locality: object::text(endpoint, "/locality").to_owned(),
            service_account: object::text(endpoint, "/serviceAccount").to_owned(),
        }
    }
}

/// Adds the services of one object to `services`.
pub(super) fn read_into(services: &mut Vec<Arc<Service>>, object: &Value, domain: &str, default_visibility: &Visibility) {
    match object::text(object, "/kind") {
        "Service" => services.push(Arc::new(Service::of_kubernetes(object, domain, default_visibility))),
        "ServiceEntry" => services.extend(Service::of_service_entry(object, default_visibility).into_iter().map(Arc::new)),
        _ => {}
    }
}

/// An address of a ServiceEntry: an IP, or a network of more than one.
fn address(written: &str) -> Option<String> {
    if let Ok(ip) = written.parse::<std::net::IpAddr>() {
        return Some(ip.to_string());
    }
    let network: ipnet::IpNet = written.parse().ok()?;
    Some(if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { written.to_owned() })
}

fn kubernetes_port(port: &Value) -> Option<ServicePort> {
    let number = object::port(port, "/port")?;
    let name = object::text(port, "/name").to_owned();
    let protocol =
        Protocol::of_service_port(number, &name, object::text(port, "/protocol"), port.get("appProtocol").and_then(Value::as_str));
    let target = match port.get("targetPort") {
        Some(Value::String(name)) => TargetPort::Name(name.clone()),
        _ => TargetPort::Number(object::port(port, "/targetPort").filter(|target| *target != 0).unwrap_or(number)),
    };
    Some(ServicePort { number, name, protocol, target })
}

fn entry_port(port: &Value) -> Option<ServicePort> {
    let number = object::port(port, "/number")?;
    let name = object::text(port, "/name").to_owned();
    // A ServiceEntry's port without a protocol is TCP unless its name says more (Istio: `serviceentry.convertPort` parses the word).
    let protocol = Protocol::parse(object::text(port, "/protocol"));
    let target = TargetPort::Number(object::port(port, "/targetPort").filter(|target| *target != 0).unwrap_or(number));
    Some(ServicePort { number, name, protocol, target })
}
