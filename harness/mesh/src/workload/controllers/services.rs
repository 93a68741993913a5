//! Services: endpoints, kube-proxy's table, cluster DNS.
//!
//! Sources: Kubernetes `pkg/controller/endpointslice`, `pkg/proxy`, the specification of DNS for Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::Controllers;
use super::view::{self, is_deleting, is_ready, label, list, name, namespace, number, owner, put, text, uid};
use crate::api::{DeleteOptions, Selector};

const MANAGER: &str = "kube-controller-manager";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The port of a pod that a Service's port leads to.
fn target_port(port: &Value, pod: &Value) -> Option<i64> {
    match &port["targetPort"] {
        Value::String(wanted) => match wanted.parse::<i64>() {
            Ok(number) => Some(number),
            Err(_) => {
                // Native sidecars' ports count too.
                let sidecars = list(pod, "/spec/initContainers").iter().filter(|c| c["restartPolicy"] == "Always");
                let containers = list(pod, "/spec/containers").iter().chain(sidecars);
                let ports = containers.flat_map(|c| list(c, "/ports"));
                ports
                    .into_iter()
                    .find(|p| text(p, "/name") == wanted && protocol(p) == protocol(port))
                    .and_then(|p| number(p, "/containerPort"))
            }
        },
        Value::Number(n) if n.as_i64() != Some(0) => n.as_i64(),
        _ => number(port, "/port"),
    }
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// The slices that a Service should have: ports and the endpoints that have them.
fn slices(service: &Value, pods: &[Arc<Value>]) -> Vec<(Value, Vec<Value>)> {
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for pod in pods {
        let ip = text(pod, "/status/podIP");
        if ip.is_empty() || ["Failed", "Succeeded"].contains(&text(pod, "/status/phase")) {
            continue;
        }
        let ports: Vec<Value> = list(service, "/spec/ports")
            .iter()
            .filter_map(|port| {
                let mut entry = json!({"name": text(port, "/name"), "port": target_port(port, pod)?, "protocol": protocol(port)});
                if let Some(app) = port.get("appProtocol").filter(|a| a.is_string()) {
                    put(&mut entry, &["appProtocol"], app.clone());
                }
                Some(entry)
            })
            .collect();
        let serving = is_ready(pod);
        let terminating = is_deleting(pod);
        let mut endpoint = json!({"addresses": [ip],
            "conditions": {"ready": publish || (serving && !terminating), "serving": serving || publish, "terminating": terminating},
            "nodeName": text(pod, "/spec/nodeName"),
            "targetRef": {"kind": "Pod", "name": name(pod), "namespace": namespace(pod), "uid": uid(pod)}});
        let (hostname, subdomain) = (text(pod, "/spec/hostname"), text(pod, "/spec/subdomain"));
        if !hostname.is_empty() && subdomain == name(service) {
            put(&mut endpoint, &["hostname"], json!(hostname));
        }
        let ports = Value::from(ports);
        groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
    }
    groups.into_values().collect()
}

impl Controllers {
    pub(super) fn service(&self, ns: &str, service_name: &str) {
        let Some(service) = self.store.get("Service", ns, service_name) else { return };
        let selector = &service["spec"]["selector"];
        // Of a Service without a selector somebody else keeps the endpoints.
        if is_deleting(&service) || selector.as_object().is_none_or(serde_json::Map::is_empty) || service["spec"]["type"] == "ExternalName"
        {
            return;
        }
        let selector = Selector::of_labels(&json!({"matchLabels": selector}));
        let pods = self.store.select("Pod", Some(ns), &selector);
        let mut wanted = slices(&service, &pods);
        if wanted.is_empty() {
            wanted.push((Value::Null, Vec::new()));
        }
        let have: Vec<Arc<Value>> = self
            .owned("discovery.k8s.io/EndpointSlice", ns, uid(&service))
            .into_iter()
            .filter(|s| label(s, MANAGED_BY) == Some(CONTROLLER))
            .collect();
        let mut labels = view::texts(&service, "/metadata/labels");
        labels.insert(SERVICE_NAME.to_owned(), service_name.to_owned());
        labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
        if service["spec"]["clusterIP"] == "None" {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        for (at, (ports, endpoints)) in wanted.iter().enumerate() {
            let endpoints = if endpoints.is_empty() { Value::Null } else { json!(endpoints) };
            let change = |slice: &mut Value| {
                put(slice, &["metadata", "labels"], json!(labels));
                if slice["endpoints"] != endpoints || slice["ports"] != *ports {
                    put(slice, &["metadata", "annotations", LAST_CHANGE], json!(view::now()));
                }
                put(slice, &["endpoints"], endpoints.clone());
                put(slice, &["ports"], ports.clone());
            };
            let written = match have.get(at) {
                Some(slice) => self.store.modify("discovery.k8s.io/EndpointSlice", ns, name(slice), MANAGER, change),
                None => {
                    let mut slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                        "metadata": {"generateName": format!("{service_name}-"), "namespace": ns, "ownerReferences": [owner(&service)]}});
                    change(&mut slice);
                    self.store.create(slice, MANAGER)
                }
            };
            if let Err(error) = written {
                tracing::debug!(%error, service = service_name, "an EndpointSlice was not written");
            }
        }
        for slice in have.iter().skip(wanted.len()) {
            let _ = self.store.delete("discovery.k8s.io/EndpointSlice", ns, name(slice), &DeleteOptions::default());
        }
    }

    /// What addresses of Services lead to, and which names resolve.
    pub(super) fn proxy_table(&self) {
        let services = self.store.list("Service", None);
        let mut by_service: BTreeMap<(String, String), Vec<Arc<Value>>> = BTreeMap::new();
        for slice in self.store.list("discovery.k8s.io/EndpointSlice", None) {
            if let Some(service) = label(&slice, SERVICE_NAME) {
                by_service.entry((namespace(&slice).to_owned(), service.to_owned())).or_default().push(slice.clone());
            }
        }
        let mut table: BTreeMap<SocketAddr, Vec<SocketAddr>> = BTreeMap::new();
        let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let domain = &self.settings.domain;
        for service in services.iter().filter(|s| !is_deleting(s)) {
            let full = format!("{}.{}.svc.{domain}", name(service), namespace(service));
            let key = (namespace(service).to_owned(), name(service).to_owned());
            let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
            if service["spec"]["type"] == "ExternalName" {
                let target = text(service, "/spec/externalName");
                if let Some(addresses) = self.network.names().resolve(target) {
                    names.insert(full, addresses);
                }
                continue;
            }
            let Ok(cluster_ip) = text(service, "/spec/clusterIP").parse::<IpAddr>() else {
                headless(service, &full, slices, &mut names);
                continue;
            };
            names.insert(full, vec![cluster_ip]);
            for port in list(service, "/spec/ports").iter().filter(|p| protocol(p) == "TCP") {
                let endpoints = endpoints(slices, text(port, "/name"));
                let number = |pointer: &str| number(port, pointer).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
                if let Some(number) = number("/port") {
                    table.insert(SocketAddr::new(cluster_ip, number), endpoints.clone());
                    for external in list(service, "/status/loadBalancer/ingress").iter().filter_map(|i| text(i, "/ip").parse().ok()) {
                        table.insert(SocketAddr::new(external, number), endpoints.clone());
                    }
                }
                if let Some(node_port) = number("/nodePort") {
                    table.insert(SocketAddr::new(self.settings.node_ip, node_port), endpoints);
                }
            }
        }
        self.network.set_services(table);
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.iter().filter(|n| !names.contains_key(*n)) {
            self.network.names().remove(gone);
        }
        *known = names.keys().cloned().collect::<BTreeSet<String>>();
        for (name, addresses) in names {
            self.network.names().set(&name, addresses);
        }
    }
}

/// A Service without an address resolves to its pods, and each pod with a hostname has a name of its own.
fn headless(service: &Value, full: &str, slices: &[Arc<Value>], names: &mut BTreeMap<String, Vec<IpAddr>>) {
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    let mut all = BTreeSet::new();
    for endpoint in slices.iter().flat_map(|s| list(s, "/endpoints")) {
        if !publish && endpoint["conditions"]["ready"] == false {
            continue;
        }
        for ip in list(endpoint, "/addresses").iter().filter_map(|a| a.as_str()?.parse::<IpAddr>().ok()) {
            all.insert(ip);
            if let Some(hostname) = endpoint["hostname"].as_str() {
                names.insert(format!("{hostname}.{full}"), vec![ip]);
            }
        }
    }
    if !all.is_empty() {
        names.insert(full.to_owned(), all.into_iter().collect());
    }
}

/// Where a port of a Service leads: ready endpoints, else those that still serve while they end.
fn endpoints(slices: &[Arc<Value>], port_name: &str) -> Vec<SocketAddr> {
    let of = |wanted: &dyn Fn(&Value) -> bool| -> Vec<SocketAddr> {
        let mut out = Vec::new();
        for slice in slices {
            let Some(port) = list(slice, "/ports").iter().find(|p| text(p, "/name") == port_name) else { continue };
            let Some(number) = number(port, "/port").and_then(|n| u16::try_from(n).ok()) else { continue };
            for endpoint in list(slice, "/endpoints").iter().filter(|e| wanted(e)) {
                out.extend(list(endpoint, "/addresses").iter().filter_map(|a| Some(SocketAddr::new(a.as_str()?.parse().ok()?, number))));
            }
        }
        out
    };
    let ready = of(&|e| e["conditions"]["ready"] != false);
    if ready.is_empty() { of(&|e| e["conditions"]["serving"] == true && e["conditions"]["terminating"] == true) } else { ready }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str, port: i64) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"nodeName": "n",
            "containers": [{"ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}))
    }

    #[test]
    fn a_named_port_may_differ_from_pod_to_pod() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
        let found = slices(&service, &[pod("a", "10.0.0.1", 8080), pod("b", "10.0.0.2", 9090), pod("c", "10.0.0.3", 8080)]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].1.len(), &found[0].0[0]["port"]), (2, &json!(8080)));
        let slices: Vec<Arc<Value>> =
            found.iter().map(|(ports, endpoints)| Arc::new(json!({"ports": ports, "endpoints": endpoints}))).collect();
        assert_eq!(endpoints(&slices, "http").len(), 3);
        assert!(endpoints(&slices, "other").is_empty());
    }
}
