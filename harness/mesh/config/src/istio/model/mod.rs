//! What istiod knows when it makes a push: every object in order, services of both registries, rules by who may see them
//! (Istio: `pilot/pkg/model/push_context.go`).

mod destination_rule;
mod discovery;
pub mod host;
pub mod object;
mod protocol;
mod service;
mod visibility;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

pub use destination_rule::{DestinationRule, Subset};
pub use protocol::Protocol;
pub use service::{ANY_ADDRESS, Registry, Resolution, Service, ServicePort, StaticEndpoint, TargetPort};
pub use visibility::Visibility;

use super::clusters::Made;
use super::endpoints::{Endpoints, Remembered};
use super::features::Features;
use super::ingress;
use super::mesh_config::MeshConfig;
use super::route::VirtualServices;
use crate::{ProxyNode, Snapshot};
use destination_rule::DestinationRules;
use discovery::Discovery;

/// Which way traffic goes through a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the proxy to a service.
    Outbound,
    /// To the application beside the proxy.
    Inbound,
}

/// The name of a cluster: `outbound|PORT|SUBSET|HOST` (Istio: `model.BuildSubsetKey`).
#[must_use]
pub fn cluster_name(direction: Direction, port: u16, subset: &str, host: &str) -> String {
    let direction = match direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
    };
    format!("{direction}|{port}|{subset}|{host}")
}

/// The SNI of mutual TLS between sidecars: `outbound_.PORT_.SUBSET_.HOST` (Istio: `model.BuildDNSSrvSubsetKey`).
#[must_use]
pub fn sni_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// The objects of a snapshot, made ready for questions. It does not depend on the order of the snapshot's objects.
#[derive(Debug, Clone)]
pub struct PushContext {
    contents: Arc<Contents>,
    /// EnvoyFilters change what was made of everything else; so a context can be had again with others.
    envoy_filters: Vec<Arc<Value>>,
}

impl Deref for PushContext {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

/// All of a [`PushContext`] but the EnvoyFilters.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The mesh configuration.
    pub mesh: MeshConfig,
    /// The namespace of mesh-wide objects.
    pub root_namespace: String,
    /// The DNS suffix of Services.
    pub domain: String,
    /// Every service, oldest first. There can be several of one host.
    pub services: Vec<Arc<Service>>,
    /// The labels of each namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What istiod writes to its log while it reads the objects.
    pub log: Vec<String>,
    objects: BTreeMap<String, Vec<Arc<Value>>>,
    destination_rules: DestinationRules,
    pods_by_ip: BTreeMap<String, Arc<Value>>,
    endpoints: OnceLock<Endpoints>,
    virtual_services: OnceLock<VirtualServices>,
    pub(super) remembered: Remembered,
    pub(super) features: Features,
    pub(super) clusters: Made,
}

impl PushContext {
    /// Reads a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> PushContext {
        let mut objects: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
        for object in &snapshot.objects {
            objects.entry(kind_key(object)).or_default().push(Arc::clone(object));
        }
        for list in objects.values_mut() {
            list.sort_by(|one, other| order(one).cmp(&order(other)));
        }
        let of_kind = |kind: &str| objects.get(kind).map_or(&[][..], Vec::as_slice);
        let is_mesh_config = |map: &&Arc<Value>| object::name(map) == "istio" && object::namespace(map) == snapshot.root_namespace;
        let yaml = of_kind("ConfigMap").iter().find(is_mesh_config).map_or("", |map| object::text(map, "/data/mesh"));
        let (mesh, error) = MeshConfig::read(yaml, &snapshot.root_namespace);
        let log = error.into_iter().map(|error| format!("failed to read mesh configuration, using default: {error}")).collect();

        let namespaces = of_kind("Namespace").iter().map(|namespace| (object::name(namespace).to_owned(), object::labels(namespace)));
        let namespaces: BTreeMap<_, _> = namespaces.collect();
        let discovery = Discovery::of(&mesh.raw);
        for list in objects.values_mut() {
            list.retain(|object| {
                let namespace = object::namespace(object);
                namespace.is_empty() || discovery.takes(namespaces.get(namespace))
            });
        }
        let of_kind = |kind: &str| objects.get(kind).map_or(&[][..], Vec::as_slice);
        let made = ingress::convert(&mesh, of_kind("Ingress"), of_kind("IngressClass"), of_kind("Service"), &snapshot.domain);
        for (kind, made) in [("Gateway", made.0), ("VirtualService", made.1)].into_iter().filter(|(_, made)| !made.is_empty()) {
            let list = objects.entry(kind.to_owned()).or_default();
            list.extend(made.into_iter().map(Arc::new));
            list.sort_by(|one, other| order(one).cmp(&order(other)));
        }
        let of_kind = |kind: &str| objects.get(kind).map_or(&[][..], Vec::as_slice);

        let mut services = Vec::new();
        for object in of_kind("Service").iter().chain(of_kind("ServiceEntry")) {
            service::read_into(&mut services, object, &snapshot.domain, &mesh.service_export_to);
        }
        services.sort_by(|one, other| (&one.created, &one.name, &one.namespace).cmp(&(&other.created, &other.name, &other.namespace)));
        let is_private = !matches!(mesh.destination_rule_export_to, Visibility::Public);
        let destination_rules = DestinationRules::new(of_kind("DestinationRule"), &snapshot.domain, &mesh.root_namespace, is_private);
        let pods = of_kind("Pod").iter().filter(|pod| !object::flag(pod, "/spec/hostNetwork") && is_alive(pod));
        let pods_by_ip = pods.map(|pod| (object::text(pod, "/status/podIP").to_owned(), Arc::clone(pod))).filter(|(ip, _)| !ip.is_empty());
        let pods_by_ip = pods_by_ip.collect();
        let envoy_filters = objects.remove(ENVOY_FILTER).unwrap_or_default();
        let contents = Contents {
            root_namespace: mesh.root_namespace.clone(),
            domain: snapshot.domain.clone(),
            services,
            namespaces,
            log,
            destination_rules,
            pods_by_ip,
            mesh,
            objects,
            endpoints: OnceLock::new(),
            virtual_services: OnceLock::new(),
            remembered: Remembered::default(),
            features: Features::default(),
            clusters: Made::default(),
        };
        PushContext { contents: Arc::new(contents), envoy_filters }
    }

    /// The same with the EnvoyFilters among these objects instead of its own.
    #[must_use]
    pub fn with_envoy_filters(&self, objects: &[Arc<Value>]) -> PushContext {
        let discovery = Discovery::of(&self.mesh.raw);
        let counts = |namespace: &str| namespace.is_empty() || discovery.takes(self.namespaces.get(namespace));
        let taken = objects.iter().filter(|object| kind_key(object) == ENVOY_FILTER && counts(object::namespace(object)));
        let mut envoy_filters: Vec<Arc<Value>> = taken.cloned().collect();
        envoy_filters.sort_by(|one, other| order(one).cmp(&order(other)));
        PushContext { contents: Arc::clone(&self.contents), envoy_filters }
    }

    /// The same with what earlier pushes knew. Clusters name the identities, so that none that was made before counts.
    pub(super) fn with_memory(mut self, remembered: Remembered) -> PushContext {
        let contents = Arc::make_mut(&mut self.contents);
        contents.remembered = remembered;
        contents.clusters = Made::default();
        self
    }

    /// As of an istiod with these features.
    #[must_use]
    pub fn with(mut self, features: Features) -> PushContext {
        Arc::make_mut(&mut self.contents).features = features;
        self
    }

    /// Of what an istiod it is.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// The objects of a kind, oldest first, then by name and namespace. Kinds of Gateway API are asked for as
    /// `KIND.gateway.networking.k8s.io`, since two groups have a `Gateway`; all others by their kind alone.
    #[must_use]
    pub fn objects(&self, kind: &str) -> &[Arc<Value>] {
        if kind == ENVOY_FILTER {
            return &self.envoy_filters;
        }
        self.objects.get(kind).map_or(&[], Vec::as_slice)
    }

    /// One object.
    #[must_use]
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects(kind).iter().find(|object| object::name(object) == name && object::namespace(object) == namespace)
    }

    /// The pod with this address, unless it shares its node's.
    #[must_use]
    pub fn pod_at(&self, ip: &str) -> Option<&Arc<Value>> {
        self.pods_by_ip.get(ip)
    }

    /// The endpoints of all services, found when they are asked for first.
    pub(super) fn endpoints(&self) -> &Endpoints {
        self.endpoints.get_or_init(|| Endpoints::find(self))
    }

    /// The VirtualServices with names in full and delegates merged, read when they are asked for first.
    #[must_use]
    pub fn virtual_services(&self) -> &VirtualServices {
        self.virtual_services.get_or_init(|| VirtualServices::read(self))
    }

    /// The services that proxies of a namespace may see: those exported to some namespaces alone, then those that everybody sees,
    /// oldest first (Istio: `servicesExportedToNamespace`).
    pub fn services_visible_to<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Service>> {
        let everybodys = |service: &Service| service.export_to == Visibility::Public;
        let narrow = self.services.iter().filter(move |service| !everybodys(service) && service.export_to.includes(namespace));
        narrow.chain(self.services.iter().filter(move |service| everybodys(service)))
    }

    /// The service that a host means to proxies of a namespace: the one of this name (their own namespace's before others, a
    /// Kubernetes Service before a ServiceEntry, an older before a younger), else the most specific wildcard that holds it.
    #[must_use]
    pub fn service_for(&self, name: &str, namespace: &str) -> Option<&Arc<Service>> {
        let rank = |service: &&Arc<Service>| (service.namespace != namespace, service.registry != Registry::Kubernetes);
        let visible = || self.services.iter().filter(|service| service.export_to.includes(namespace));
        visible().filter(|service| service.host == name).min_by_key(rank).or_else(|| {
            let wildcards = visible().filter(|service| service.host.starts_with('*') && host::subset_of(name, &service.host));
            wildcards.min_by(|one, other| host::by_specificity(&one.host, &other.host).then_with(|| rank(one).cmp(&rank(other))))
        })
    }

    /// The DestinationRule for a service that any proxy of the client's namespace calls: of the client's namespace, else of the
    /// service's, else of the root namespace. Rules for selected clients only do not count here.
    #[must_use]
    pub fn destination_rule_for(&self, host: &str, client_namespace: &str, service_namespace: &str) -> Option<&DestinationRule> {
        self.destination_rules.find(host, client_namespace, service_namespace).into_iter().find(|rule| rule.clients.is_none())
    }

    /// The DestinationRule for a service that this proxy calls: one that selects it, else one for all clients
    /// (Istio: `SidecarScope.DestinationRule`).
    #[must_use]
    pub fn destination_rule_of(&self, node: &ProxyNode, service: &Service) -> Option<&DestinationRule> {
        let rules = self.destination_rules.find(&service.host, &node.namespace, &service.namespace);
        let selecting = rules.iter().find(|rule| rule.clients.as_ref().is_some_and(|clients| object::selects(clients, &node.labels)));
        selecting.or_else(|| rules.iter().find(|rule| rule.clients.is_none())).copied()
    }
}

const ENVOY_FILTER: &str = "EnvoyFilter";

/// Under which word objects of this kind are found.
fn kind_key(value: &Value) -> String {
    let kind = object::text(value, "/kind");
    match object::text(value, "/apiVersion").split_once('/') {
        Some((group @ "gateway.networking.k8s.io", _)) => format!("{kind}.{group}"),
        _ => kind.to_owned(),
    }
}

/// Oldest first, then by name and namespace (Istio: `sortConfigByCreationTime`).
fn order(value: &Value) -> (&str, &str, &str) {
    (object::created(value), object::name(value), object::namespace(value))
}

/// Whether a pod still runs or is yet to.
fn is_alive(pod: &Value) -> bool {
    !matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed")
}
