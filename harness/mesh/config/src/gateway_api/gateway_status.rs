//! The status of Gateways and of their listeners (Istio: `reportGatewayStatus`, `ResolveGatewayInstances`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::class::Controller;
use super::condition::{among, condition, good};
use super::listener::Listener;
use super::parent::Attached;
use super::{Converted, Fault, GROUP, Objects, Status, class, tls};
use crate::istio::model::object;

const LENIENT: &str = "InsecureFrontendValidationMode";

/// The status of every Gateway of Istio's.
pub(super) fn all(objects: &Objects<'_>, listeners: &[Listener<'_>], attached: &Attached, out: &mut Converted) {
    for gateway in objects.of("Gateway").iter().copied() {
        let status = match class::controller(objects, gateway) {
            None => continue,
            Some(Controller::Unmanaged) => unmanaged(gateway),
            Some(Controller::Istio) => {
                let own: Vec<&Listener<'_>> = listeners.iter().filter(|listener| std::ptr::eq(listener.gateway, gateway)).collect();
                of_gateway(objects, gateway, &own, attached)
            }
        };
        let (namespace, name) = (object::namespace(gateway).to_owned(), object::name(gateway).to_owned());
        out.statuses.push(Status { kind: "Gateway", namespace, name, status });
    }
}

/// Somewhere else somebody looks after it.
fn unmanaged(gateway: &Value) -> Value {
    let ours = vec![
        condition(gateway, "Accepted", true, "Accepted", "Resource accepted"),
        condition(gateway, "Programmed", true, "Programmed", "This Gateway is remote; Istio will not program it"),
    ];
    let conditions = among(object::list(gateway, "/status/conditions"), ours, &[]);
    json!({"addresses": object::list(gateway, "/spec/addresses"), "conditions": conditions, "listeners": null})
}

fn of_gateway(objects: &Objects<'_>, gateway: &Value, listeners: &[&Listener<'_>], attached: &Attached) -> Value {
    let (services, mut fault) = class::services(gateway, objects.domain);
    let is_read = !(services.is_empty() && fault.is_some());
    if fault.is_none() {
        fault = parameters(objects, gateway);
    }
    let total = object::list(gateway, "/spec/listeners").len();
    let valid = listeners.iter().filter(|listener| listener.is_valid()).count();
    let accepted = match (fault, total) {
        (Some(fault), _) => condition(gateway, "Accepted", false, fault.reason, &fault.message),
        (None, total) if total > 0 && valid == 0 => {
            condition(gateway, "Accepted", false, "ListenersNotValid", "None of the Gateway's listeners are valid")
        }
        (None, total) if valid < total => {
            condition(gateway, "Accepted", true, "ListenersNotValid", "One or more of the Gateway's listeners are invalid")
        }
        (None, _) => condition(gateway, "Accepted", true, "Accepted", "Resource accepted"),
    };
    let ports: BTreeSet<u64> = listeners.iter().filter(|listener| listener.is_served()).map(|listener| listener.port).collect();
    let places = Places::of(objects, object::namespace(gateway), &services, &ports);
    let resolved = tls::client_certificate(objects, gateway);
    let mut ours = vec![accepted];
    let is_lenient = tls::is_lenient(gateway);
    if is_lenient {
        let text = "Gateway is operating in AllowInsecureFallback mode for frontend validation";
        ours.push(condition(gateway, LENIENT, true, "ConfigurationChanged", text));
    }
    ours.push(places.programmed(gateway, &services));
    ours.push(good(gateway, "ResolvedRefs", "ResolvedRefs", "All references resolved", resolved.as_ref()));
    let gone: &[&str] = if is_lenient { &[] } else { &[LENIENT] };
    let mut out = Map::new();
    let addresses = places.addresses(gateway);
    // None is told before there is one; one that was told stays.
    if !addresses.is_empty() {
        out.insert("addresses".to_owned(), Value::Array(addresses));
    }
    out.insert("conditions".to_owned(), json!(among(object::list(gateway, "/status/conditions"), ours, gone)));
    if is_read {
        let listeners: Vec<Value> = listeners.iter().map(|listener| listener_status(listener, attached)).collect();
        out.insert("listeners".to_owned(), Value::Array(listeners));
    }
    Value::Object(out)
}

/// What is wrong with the parameters of the Deployment (`validateParametersRef`).
fn parameters(objects: &Objects<'_>, gateway: &Value) -> Option<Fault> {
    let reference = gateway.pointer("/spec/infrastructure/parametersRef")?;
    let (group, kind, name) = (object::text(reference, "/group"), object::text(reference, "/kind"), object::text(reference, "/name"));
    if (group, kind) != ("", "ConfigMap") {
        let text = format!("Unsupported parametersRef group/kind {group}/{kind}, only ConfigMap is supported");
        return Some(Fault::new("InvalidParameters", text));
    }
    let namespace = object::namespace(gateway);
    let is_there = objects.find("ConfigMap", namespace, name).is_some();
    (!is_there).then(|| Fault::new("InvalidParameters", format!("parametersRef ConfigMap {namespace}/{name} does not exist")))
}

/// Where a Gateway can be reached.
#[derive(Default)]
struct Places {
    /// `HOST:PORT` within the cluster.
    internal: BTreeSet<String>,
    internal_ips: BTreeSet<String>,
    external: BTreeSet<String>,
    /// Hosts whose load balancer has no address yet.
    pending: BTreeSet<String>,
    warnings: Vec<String>,
    /// Whether a Service or a port is not there at all.
    is_unusable: bool,
}

impl Places {
    fn of(objects: &Objects<'_>, namespace: &str, services: &[String], ports: &BTreeSet<u64>) -> Places {
        let mut out = Places::default();
        for host in services {
            if let Some(service) = objects.service_of_host(host, namespace) {
                out.of_service(objects, host, service, ports);
            } else if let Some(entry) = objects.entry_of_host(host, namespace) {
                out.of_entry(host, entry, ports);
            } else {
                let elsewhere: Vec<String> = objects.namespaces_of_host(host).iter().map(|one| format!("{one:?}")).collect();
                out.warnings.push(if elsewhere.is_empty() {
                    format!("hostname {host:?} not found")
                } else {
                    let places = elsewhere.join(", ");
                    format!("hostname {host:?} not found in namespace {namespace:?}, but it was found in namespace(s) {places}")
                });
                out.is_unusable = true;
            }
        }
        out.warnings.sort();
        out
    }

    fn of_service(&mut self, objects: &Objects<'_>, host: &str, service: &Value, ports: &BTreeSet<u64>) {
        let instances = Instances::of(objects, service);
        for number in ports {
            if instances.at(*number) {
                self.internal.insert(format!("{host}:{number}"));
                let ips = object::texts(service, "/spec/clusterIPs").into_iter().chain([object::text(service, "/spec/clusterIP")]);
                self.internal_ips.extend(ips.filter(|ip| !matches!(*ip, "" | "None")).map(str::to_owned));
                let balancers = object::list(service, "/status/loadBalancer/ingress").iter();
                let of_balancers = balancers.flat_map(|one| [object::text(one, "/ip"), object::text(one, "/hostname")]);
                let external = of_balancers.chain(object::texts(service, "/spec/externalIPs")).filter(|one| !one.is_empty());
                let external: Vec<String> = external.map(str::to_owned).collect();
                if !external.is_empty() {
                    self.external.extend(external);
                } else if object::text(service, "/spec/type") == "LoadBalancer" && self.pending.insert(host.to_owned()) {
                    self.warnings.push(format!("address pending for hostname {host:?}"));
                }
            } else if instances.ports.is_empty() {
                self.warnings.push(format!("no instances found for hostname {host:?}"));
            } else if let Some(hint) = instances.meant(*number) {
                let hint = format!(
                    "(hint: the service port should be specified, not the workload port. Did you mean one of these ports: [{hint}]?)"
                );
                self.warnings.push(format!("port {number} not found for hostname {host:?} {hint}"));
                self.is_unusable = true;
            } else {
                let is_managed = object::labels(service).contains_key("gateway.istio.io/managed");
                let has_port =
                    object::list(service, "/spec/ports").iter().any(|port| port.get("port").and_then(Value::as_u64) == Some(*number));
                // Endpoints of a port that istiod has just made come a moment later.
                if !(is_managed && has_port) {
                    self.warnings.push(format!("port {number} not found for hostname {host:?}"));
                    self.is_unusable = true;
                }
            }
        }
    }

    fn of_entry(&mut self, host: &str, entry: &Value, ports: &BTreeSet<u64>) {
        for number in ports {
            if object::list(entry, "/spec/ports").iter().any(|port| port.get("number").and_then(Value::as_u64) == Some(*number)) {
                self.internal.insert(format!("{host}:{number}"));
            } else {
                self.warnings.push(format!("port {number} not found for hostname {host:?}"));
                self.is_unusable = true;
            }
        }
    }

    fn programmed(&self, gateway: &Value, services: &[String]) -> Value {
        let of = |is_true: bool, reason: &str, message: &str| condition(gateway, "Programmed", is_true, reason, message);
        let internal: Vec<&str> = self.internal.iter().map(String::as_str).collect();
        if services.is_empty() {
            return of(false, "UnsupportedAddress", "Failed to assign to any requested addresses");
        }
        if self.warnings.is_empty() {
            return match internal.is_empty() {
                true => of(true, "Programmed", "Resource programmed"),
                false => of(true, "Programmed", &format!("Resource programmed, assigned to service(s) {}", joined(&internal))),
            };
        }
        let why = self.warnings.join("; ");
        let text = match internal.is_empty() {
            true => format!("Failed to assign to any requested addresses: {why}"),
            false => {
                let places = joined(&internal);
                format!("Assigned to service(s) {places}, but failed to assign to all requested addresses: {why}")
            }
        };
        of(false, if self.is_unusable { "AddressNotUsable" } else { "AddressNotAssigned" }, &text)
    }

    fn addresses(&self, gateway: &Value) -> Vec<Value> {
        let typed = |address: &String| {
            let kind = if address.parse::<std::net::IpAddr>().is_ok() { "IPAddress" } else { "Hostname" };
            json!({"type": kind, "value": address})
        };
        if !self.external.is_empty() {
            return self.external.iter().map(typed).collect();
        }
        let wanted = match gateway.pointer("/metadata/annotations/networking.istio.io~1address-type").and_then(Value::as_str) {
            None => "Hostname",
            Some(wanted) => wanted,
        };
        let mut all: Vec<String> = Vec::new();
        if wanted != "Hostname" {
            all.extend(self.internal_ips.iter().cloned());
        }
        if wanted != "IPAddress" {
            let hosts = self.internal.iter().filter_map(|place| place.rsplit_once(':')).map(|(host, _)| host.to_owned());
            for host in hosts.filter(|host| !self.pending.contains(host)) {
                if !all.contains(&host) {
                    all.push(host);
                }
            }
        }
        all.iter().map(typed).collect()
    }
}

/// Ports behind which there are endpoints: the Service's, and theirs.
struct Instances {
    ports: Vec<(u64, u64)>,
}

impl Instances {
    fn of(objects: &Objects<'_>, service: &Value) -> Instances {
        let mut ports = Vec::new();
        for slice in objects.slices_of(object::namespace(service), object::name(service)) {
            let is_ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
            if object::list(slice, "/endpoints").iter().filter(is_ready).count() == 0 {
                continue;
            }
            for port in object::list(service, "/spec/ports") {
                let Some(number) = port.get("port").and_then(Value::as_u64) else { continue };
                let same = |other: &&Value| object::text(other, "/name") == object::text(port, "/name");
                let of_slice = object::list(slice, "/ports").iter().filter(same).filter_map(|other| other.get("port")?.as_u64());
                ports.extend(of_slice.map(|endpoint| (number, endpoint)));
            }
        }
        Instances { ports }
    }

    fn at(&self, number: u64) -> bool {
        self.ports.iter().any(|(service, _)| *service == number)
    }

    /// The Service's ports that lead to this port of the pods.
    fn meant(&self, number: u64) -> Option<String> {
        let ports: BTreeSet<u64> = self.ports.iter().filter(|(_, endpoint)| *endpoint == number).map(|(service, _)| *service).collect();
        (!ports.is_empty()).then(|| ports.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
    }
}

/// A list as people write it.
fn joined(all: &[&str]) -> String {
    match all {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} and {other}"),
        [firsts @ .., last] => format!("{}, and {last}", firsts.join(", ")),
    }
}

fn listener_status(listener: &Listener<'_>, attached: &Attached) -> Value {
    let fine = "No errors found";
    let owner = listener.gateway;
    let of = |kind: &str, is_true: bool, reason: &str, message: &str| condition(owner, kind, is_true, reason, message);
    let mut conditions = if let Some(reason) = listener.conflict {
        let text = "Listener has a conflict with another listener attached to the same Gateway";
        vec![of("Accepted", false, reason, text), of("Conflicted", true, reason, text), of("Programmed", false, reason, text)]
    } else {
        let tls = listener.tls_fault.as_ref();
        let of_authority =
            |fault: &&Fault| matches!(fault.reason, "InvalidCACertificateRef" | "InvalidCACertificateKind" | "RefNotPermitted");
        let unaccepted = tls.filter(of_authority).map(|fault| Fault::new("NoValidCACertificate", fault.message.clone()));
        let unaccepted = listener.protocol_fault.clone().or(unaccepted);
        let programmed = tls.map(|_| Fault::new("Invalid", "Bad TLS configuration"));
        vec![
            good(owner, "Accepted", "Accepted", fine, unaccepted.as_ref()),
            of("Conflicted", false, "NoConflicts", fine),
            good(owner, "Programmed", "Programmed", fine, programmed.as_ref()),
            good(owner, "ResolvedRefs", "ResolvedRefs", fine, tls),
        ]
    };
    if !listener.kinds_are_valid {
        conditions.retain(|one| object::text(one, "/type") != "ResolvedRefs");
        conditions.push(of("ResolvedRefs", false, "InvalidRouteKinds", "Invalid route kinds"));
    }
    let kinds: Vec<Value> = listener.kinds.iter().map(|kind| json!({"group": GROUP, "kind": kind})).collect();
    json!({
        "name": listener.section,
        "attachedRoutes": attached.count(listener),
        "supportedKinds": kinds,
        "conditions": conditions,
    })
}
