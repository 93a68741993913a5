//! Where services run: endpoints from EndpointSlices, from pods that a ServiceEntry selects, and those that it lists
//! (Istio: `pilot/pkg/xds/endpoints`, `serviceregistry`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::locality::{Failover, Group};
use super::model::{PushContext, Registry, Resolution, Service, ServicePort, StaticEndpoint, TargetPort, object};
use super::policy::{PeerMode, peer_mode};
use super::secrets::Names;

/// The label by which a workload says that its sidecar takes mutual TLS; the injector sets it.
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// The name of the one cluster.
const CLUSTER_ID: &str = "Kubernetes";

/// One place where a service's port can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An IP address, a DNS name or `unix://PATH`.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The workload's labels.
    pub labels: BTreeMap<String, String>,
    /// The workload's namespace.
    pub namespace: String,
    /// Its SPIFFE identity, empty if it has none.
    pub identity: String,
    /// Whether a sidecar takes mutual TLS there (`security.istio.io/tlsMode: istio`).
    pub has_sidecar: bool,
    /// Its weight; at least 1.
    pub weight: u32,
    /// Whether calls may go there.
    pub is_ready: bool,
    /// `region/zone/subzone`, empty if unknown.
    pub locality: String,
    /// What Istio's telemetry calls it: `workload;namespace;canonical name;revision;cluster`.
    pub workload: String,
}

/// The endpoints of every service, found once for all proxies of a push.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoints {
    by_port: BTreeMap<PortKey, Vec<Endpoint>>,
    identities: BTreeMap<ServiceKey, Vec<String>>,
}

/// A service by where it was declared, host and namespace.
type ServiceKey = (bool, String, String);
/// A port of it, by number and name: one number may be both of TCP and of UDP.
type PortKey = (ServiceKey, u16, String);

fn key(service: &Service) -> ServiceKey {
    (service.registry == Registry::Kubernetes, service.host.clone(), service.namespace.clone())
}

impl Endpoints {
    pub(super) fn find(context: &PushContext) -> Endpoints {
        let mut slices: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
        for slice in context.objects("EndpointSlice") {
            let of = slice.pointer("/metadata/labels/kubernetes.io~1service-name").and_then(Value::as_str);
            if let Some(of) = of {
                slices.entry((object::namespace(slice), of)).or_default().push(slice);
            }
        }
        let mut found = Endpoints::default();
        // A ServiceEntry with several addresses is several services.
        let mut seen = BTreeSet::new();
        for service in &context.services {
            if !seen.insert((key(service), service.object_name.as_str())) {
                continue;
            }
            let mut identities: BTreeSet<String> = service.subject_alt_names.iter().cloned().collect();
            for port in &service.ports {
                let endpoints = match service.registry {
                    Registry::Kubernetes => {
                        let slices = slices.get(&(service.namespace.as_str(), service.object_name.as_str()));
                        context.of_kubernetes(service, port, slices.map_or(&[], Vec::as_slice))
                    }
                    Registry::External => context.of_entry(service, port),
                };
                identities.extend(endpoints.iter().map(|endpoint| endpoint.identity.clone()));
                found.by_port.entry((key(service), port.number, port.name.clone())).or_default().extend(endpoints);
            }
            identities.remove("");
            let known = found.identities.entry(key(service)).or_default();
            known.extend(identities);
            known.sort();
            known.dedup();
        }
        found
    }
}

/// What one push knows of earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// The identities of services' endpoints: istiod keeps them for a service that has no endpoint any more
    /// (seen on a cluster after a Deployment was scaled to zero; Istio `pilot/pkg/model/endpointshards.go`, `ServiceAccounts`).
    identities: BTreeMap<ServiceKey, Vec<String>>,
    /// The secrets that resources name: most are the same from push to push.
    pub(super) names: Arc<Names>,
}

impl PushContext {
    /// The endpoints of a service's port, in order of the objects that declare them. Services of one host and namespace share
    /// their endpoints, as in Istio, where they are kept by both.
    #[must_use]
    pub fn endpoints_of(&self, service: &Service, port: &ServicePort) -> &[Endpoint] {
        self.endpoints().by_port.get(&(key(service), port.number, port.name.clone())).map_or(&[], Vec::as_slice)
    }

    /// Who may answer for a service: the identities of its endpoints and those that its object names, in order.
    #[must_use]
    pub fn identities_of(&self, service: &Service) -> &[String] {
        let now = self.endpoints().identities.get(&key(service)).filter(|identities| !identities.is_empty());
        now.or_else(|| self.remembered.identities.get(&key(service))).map_or(&[], Vec::as_slice)
    }

    /// The same context, with what earlier pushes knew.
    #[must_use]
    pub fn remembering(self, earlier: &Remembered) -> Self {
        self.with_memory(earlier.clone())
    }

    /// What later pushes have to know of this one.
    #[must_use]
    pub fn memory(&self) -> Remembered {
        let known = self.services.iter().map(|service| (key(service), self.identities_of(service).to_vec()));
        self.remembered.names.forget_unused();
        Remembered { identities: known.filter(|(_, identities)| !identities.is_empty()).collect(), names: self.remembered.names.clone() }
    }

    fn of_kubernetes(&self, service: &Service, port: &ServicePort, slices: &[&Value]) -> Vec<Endpoint> {
        let mut found = Vec::new();
        for slice in slices {
            let numbers = object::list(slice, "/ports").iter().filter(|candidate| object::text(candidate, "/name") == port.name);
            let numbers: Vec<u16> = numbers.filter_map(|candidate| object::port(candidate, "/port")).collect();
            for endpoint in object::list(slice, "/endpoints") {
                let condition = |name: &str| endpoint.get("conditions")?.get(name)?.as_bool();
                // A terminating endpoint gets no new calls, ready or not.
                let is_ready = condition("ready").unwrap_or(true);
                if condition("terminating") == Some(true) && !is_ready {
                    continue;
                }
                if let Some(address) = object::texts(endpoint, "/addresses").first() {
                    let pod = self.pod_at(address).or_else(|| self.pod_of(endpoint, &service.namespace));
                    found.extend(numbers.iter().map(|number| Endpoint { is_ready, ..self.at(address, *number, pod) }));
                }
            }
        }
        if !service.selector.is_empty() {
            found.extend(self.workload_entries(service, port));
        }
        // An endpoint moves between slices by being in both for a while.
        let mut seen = BTreeSet::new();
        found.retain(|endpoint| seen.insert((endpoint.address.clone(), endpoint.port)));
        found
    }

    /// The pod that an endpoint names; one that shares its node's address is known by nothing else.
    fn pod_of(&self, endpoint: &Value, namespace: &str) -> Option<&Arc<Value>> {
        let name = object::text(endpoint, "/targetRef/name");
        (object::text(endpoint, "/targetRef/kind") == "Pod").then(|| self.object("Pod", namespace, name)).flatten()
    }

    fn of_entry(&self, entry: &Service, port: &ServicePort) -> Vec<Endpoint> {
        if !entry.selector.is_empty() {
            let mut found = self.selected_pods(entry, port);
            found.extend(self.workload_entries(entry, port));
            return found;
        }
        let listed = entry.endpoints.iter().enumerate().map(|(index, endpoint)| {
            let name = format!("{}-{index}", entry.object_name);
            self.of_static(entry, endpoint, port, &name)
        });
        let listed: Vec<Endpoint> = listed.collect();
        if listed.is_empty() && matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin) {
            let itself = StaticEndpoint {
                address: entry.host.clone(),
                ports: BTreeMap::new(),
                labels: entry.labels.clone(),
                weight: 0,
                locality: String::new(),
                service_account: String::new(),
            };
            return vec![self.of_static(entry, &itself, port, &entry.object_name)];
        }
        listed
    }

    fn selected_pods(&self, entry: &Service, port: &ServicePort) -> Vec<Endpoint> {
        let selected = self.objects("Pod").iter().filter(|pod| {
            object::namespace(pod) == entry.namespace
                && object::selects(&entry.selector, &object::labels(pod))
                && !object::text(pod, "/status/podIP").is_empty()
                && object::text(pod, "/metadata/deletionTimestamp").is_empty()
        });
        let target = target_number(port);
        selected
            .map(|pod| {
                let conditions = object::list(pod, "/status/conditions").iter();
                let mut ready = conditions.filter(|condition| object::text(condition, "/type") == "Ready");
                let is_ready = ready.any(|condition| object::text(condition, "/status") == "True");
                Endpoint { is_ready, ..self.at(object::text(pod, "/status/podIP"), target, Some(pod)) }
            })
            .collect()
    }

    fn workload_entries(&self, service: &Service, port: &ServicePort) -> Vec<Endpoint> {
        let entries = self.objects("WorkloadEntry").iter().filter(|entry| object::namespace(entry) == service.namespace);
        let read = entries.map(|entry| (object::name(entry), StaticEndpoint::read(object::spec(entry))));
        let selected = read.filter(|(_, endpoint)| object::selects(&service.selector, &endpoint.labels));
        selected.map(|(name, endpoint)| self.of_static(service, &endpoint, port, name)).collect()
    }

    fn of_static(&self, service: &Service, endpoint: &StaticEndpoint, port: &ServicePort, name: &str) -> Endpoint {
        let account = &endpoint.service_account;
        let identity = if account.is_empty() { String::new() } else { spiffe(&self.mesh.trust_domain, &service.namespace, account) };
        Endpoint {
            address: endpoint.address.clone(),
            port: endpoint.ports.get(&port.name).copied().unwrap_or_else(|| target_number(port)),
            labels: endpoint.labels.clone(),
            namespace: service.namespace.clone(),
            identity,
            has_sidecar: endpoint.labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == "istio"),
            weight: endpoint.weight.max(1),
            is_ready: true,
            locality: endpoint.locality.clone(),
            workload: workload(name, &service.namespace, &endpoint.labels),
        }
    }

    /// An address that belongs to a pod or to nothing known.
    fn at(&self, address: &str, port: u16, pod: Option<&Arc<Value>>) -> Endpoint {
        let mut endpoint = Endpoint {
            address: address.to_owned(),
            port,
            labels: BTreeMap::new(),
            namespace: String::new(),
            identity: String::new(),
            has_sidecar: false,
            weight: 1,
            is_ready: true,
            locality: String::new(),
            workload: format!(";;;;{CLUSTER_ID}"),
        };
        let Some(pod) = pod else { return endpoint };
        endpoint.labels = object::labels(pod);
        endpoint.namespace = object::namespace(pod).to_owned();
        let account = match object::text(pod, "/spec/serviceAccountName") {
            "" => "default",
            account => account,
        };
        endpoint.identity = spiffe(&self.mesh.trust_domain, &endpoint.namespace, account);
        endpoint.has_sidecar = endpoint.labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == "istio");
        endpoint.workload = workload(&workload_name(pod), &endpoint.namespace, &endpoint.labels);
        endpoint.locality = self.locality_of(object::text(pod, "/spec/nodeName"));
        endpoint
    }

    /// `region/zone/subzone` of a node.
    pub(super) fn locality_of(&self, node: &str) -> String {
        let Some(node) = self.objects("Node").iter().find(|candidate| object::name(candidate) == node) else { return String::new() };
        let labels = object::labels(node);
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let parts = [label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"), label("topology.istio.io/subzone")];
        parts.join("/").trim_end_matches('/').to_owned()
    }
}

/// The SPIFFE identity of a service account.
#[must_use]
pub fn spiffe(trust_domain: &str, namespace: &str, account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
}

fn target_number(port: &ServicePort) -> u16 {
    match port.target {
        TargetPort::Number(number) => number,
        TargetPort::Name(_) => port.number,
    }
}

fn workload(name: &str, namespace: &str, labels: &BTreeMap<String, String>) -> String {
    let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name).cloned());
    let canonical = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]).unwrap_or_else(|| name.to_owned());
    let revision = first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]).unwrap_or_default();
    // What stands for no revision is not written.
    let revision = if revision == "latest" { "" } else { revision.as_str() };
    format!("{name};{namespace};{canonical};{revision};{CLUSTER_ID}")
}

/// A pod's Deployment, or whatever made it (Istio: `GetDeployMetaFromPod`).
fn workload_name(pod: &Value) -> String {
    let owner = object::text(pod, "/metadata/ownerReferences/0/name");
    let hash = object::text(pod, "/metadata/labels/pod-template-hash");
    match owner {
        "" => object::name(pod).to_owned(),
        owner if hash.is_empty() => owner.to_owned(),
        owner => owner.strip_suffix(hash).and_then(|name| name.strip_suffix('-')).unwrap_or(owner).to_owned(),
    }
}

/// Which endpoints of a port a cluster has, and how it is to reach them.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// The labels of a subset.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Whether a DestinationRule says the TLS mode, and whether that is `ISTIO_MUTUAL`; else each endpoint decides.
    pub said_mutual: Option<bool>,
    /// Whether endpoints that are not ready are sent, marked as such.
    pub with_unready: bool,
    /// Which are called first.
    pub(super) failover: Option<&'a Failover<'a>>,
}

/// The localities with their endpoints, as a ClusterLoadAssignment lists them (Istio: `EndpointBuilder.generate`).
#[must_use]
pub fn localities<'a>(context: &PushContext, endpoints: impl IntoIterator<Item = &'a Endpoint>, selection: Selection<'_>) -> Vec<Value> {
    let mut by_locality: BTreeMap<&str, Vec<(&Endpoint, Value)>> = BTreeMap::new();
    for endpoint in endpoints {
        let is_in = selection.labels.is_none_or(|labels| object::selects(labels, &endpoint.labels));
        if !is_in || !(endpoint.is_ready || selection.with_unready) {
            continue;
        }
        let takes_mutual = match selection.said_mutual {
            Some(said) => said && endpoint.has_sidecar,
            None => endpoint.has_sidecar && peer_mode(context, &endpoint.namespace, &endpoint.labels, endpoint.port) != PeerMode::Disable,
        };
        by_locality.entry(&endpoint.locality).or_default().push((endpoint, lb_endpoint(endpoint, takes_mutual)));
    }
    let groups = by_locality.into_iter();
    let groups: Vec<Group<'_>> =
        groups.map(|(locality, endpoints)| Group { locality: locality.to_owned(), priority: 0, endpoints }).collect();
    let groups = match selection.failover {
        Some(failover) => failover.apply(groups),
        None => groups,
    };
    groups.into_iter().map(Group::write).collect()
}

fn lb_endpoint(endpoint: &Endpoint, takes_mutual: bool) -> Value {
    let mut metadata = Map::new();
    if takes_mutual {
        metadata.insert("envoy.transport_socket_match".to_owned(), json!({"tlsMode": "istio"}));
    }
    metadata.insert("istio".to_owned(), json!({"workload": endpoint.workload}));
    let mut fields = Map::new();
    fields.insert("endpoint".to_owned(), json!({"address": address(&endpoint.address, endpoint.port)}));
    if !endpoint.is_ready {
        fields.insert("health_status".to_owned(), json!("UNHEALTHY"));
    }
    fields.insert("load_balancing_weight".to_owned(), json!(endpoint.weight));
    fields.insert("metadata".to_owned(), json!({"filter_metadata": metadata}));
    Value::Object(fields)
}

pub(super) fn address(host: &str, port: u16) -> Value {
    match host.strip_prefix("unix://") {
        Some(path) => json!({"pipe": {"path": path}}),
        None => json!({"socket_address": {"address": host, "port_value": port}}),
    }
}

/// The assignment of an EDS cluster. Names are left out, which Envoy could not resolve here.
#[must_use]
pub fn assignment<'a>(
    context: &PushContext,
    cluster: &str,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
    selection: Selection<'_>,
) -> Arc<Value> {
    let addresses = endpoints.into_iter();
    let endpoints = addresses.filter(|endpoint| endpoint.address.starts_with("unix://") || endpoint.address.parse::<IpAddr>().is_ok());
    let mut localities = localities(context, endpoints, selection);
    for endpoint in localities.iter_mut().filter_map(|locality| locality.get_mut("lb_endpoints")?.as_array_mut()).flatten() {
        if let Some(fields) = endpoint.as_object_mut() {
            fields.entry("health_status").or_insert_with(|| json!("HEALTHY"));
        }
        if let Some(fields) = endpoint.get_mut("endpoint").and_then(Value::as_object_mut) {
            fields.insert("health_check_config".to_owned(), json!({}));
        }
    }
    let mut assignment = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "policy": {"overprovisioning_factor": 140},
    });
    if let (false, Some(fields)) = (localities.is_empty(), assignment.as_object_mut()) {
        fields.insert("endpoints".to_owned(), Value::Array(localities));
    }
    Arc::new(assignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Snapshot;

    fn context(objects: &[&Value]) -> PushContext {
        let objects = objects.iter().map(|object| Arc::new((*object).clone())).collect();
        PushContext::new(&Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() })
    }

    #[test]
    fn identities_outlive_the_last_endpoint_and_not_the_service() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"serviceAccountName": "cart"}, "status": {"podIP": "10.0.0.1", "phase": "Running"}});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "http", "port": 8080}]});
        let running = context(&[&service, &pod, &slice]);
        let known = running.identities_of(&running.services[0]).to_vec();
        assert_eq!(known, ["spiffe://cluster.local/ns/shop/sa/cart"]);
        let stopped = context(&[&service]).remembering(&running.memory());
        assert_eq!(stopped.identities_of(&stopped.services[0]), known);
        let gone = context(&[]).remembering(&stopped.memory());
        let back = context(&[&service]).remembering(&gone.memory());
        assert!(back.identities_of(&back.services[0]).is_empty());
    }
}
