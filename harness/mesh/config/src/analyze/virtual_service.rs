//! VirtualServices: their hosts, Gateways and destinations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Findings, Level, Objects, full_name, go_list, labels_at};
use crate::istio::model::object;
use crate::validate::{hosts_overlap, is_claim};

pub(super) fn analyze(findings: &mut Findings) {
    let services = findings.objects.of("VirtualService");
    let hosts = KnownHosts::new(&findings.objects);
    conflicting_hosts(&services, findings);
    let subsets = subsets(&findings.objects);
    for service in &services {
        gateways(service, findings);
        claims(service, findings);
        destinations(service, &hosts, &subsets, findings);
        lost_subsets(service, &services, findings);
    }
}

/// A host and who may see it: `*` or a namespace.
type Scoped = (String, String);

/// The ports of every host that can be a destination.
pub(super) struct KnownHosts {
    ports: BTreeMap<Scoped, Vec<u64>>,
    selectors: BTreeMap<Scoped, BTreeMap<String, String>>,
}

impl KnownHosts {
    pub(super) fn new(objects: &Objects) -> KnownHosts {
        let (mut ports, mut selectors) = (BTreeMap::new(), BTreeMap::new());
        for entry in objects.of("ServiceEntry") {
            let namespace = object::namespace(&entry);
            let own: Vec<u64> = numbers(&entry, "number");
            for host in object::texts(&entry, "/spec/hosts") {
                for scope in scopes(&object::texts(&entry, "/spec/exportTo"), namespace) {
                    let key = (scope, objects.full_host(namespace, host));
                    selectors.insert(key.clone(), labels_at(&entry, "/spec/workloadSelector/labels"));
                    ports.insert(key, own.clone());
                }
            }
        }
        for service in objects.of("Service") {
            let namespace = object::namespace(&service);
            let words: Vec<&str> = object::annotation(&service, "networking.istio.io/exportTo").split(',').map(str::trim).collect();
            let words = if words == [""] { Vec::new() } else { words };
            for scope in scopes(&words, namespace) {
                ports.insert((scope, objects.full_host(namespace, object::name(&service))), numbers(&service, "port"));
            }
        }
        KnownHosts { ports, selectors }
    }

    /// The host as an object of a namespace, exported so, sees it (Istio: `GetDestinationHost`).
    pub(super) fn find(&self, objects: &Objects, namespace: &str, export_to: &[&str], host: &str) -> Option<&Scoped> {
        let full = objects.full_host(namespace, host);
        let mut places = vec!["*".to_owned()];
        match export_to {
            [] => places.push(namespace.to_owned()),
            words => places.extend(words.iter().map(|word| if *word == "." { namespace.to_owned() } else { (*word).to_owned() })),
        }
        let exact = places.into_iter().find_map(|scope| self.ports.get_key_value(&(scope, full.clone())));
        let wild = || {
            let bare = host.strip_prefix('*').unwrap_or(host);
            let fits = |(scope, known): &&Scoped| {
                (scope == "*" || scope == namespace) && known.strip_prefix('*').is_some_and(|suffix| bare.ends_with(suffix))
            };
            self.ports.keys().find(fits)
        };
        exact.map(|(key, _)| key).or_else(wild)
    }

    /// The labels by which a ServiceEntry selects its workloads.
    pub(super) fn selector(&self, host: &Scoped) -> BTreeMap<String, String> {
        self.selectors.get(host).cloned().unwrap_or_default()
    }
}

fn numbers(object: &Value, field: &str) -> Vec<u64> {
    object::list(object, "/spec/ports").iter().filter_map(|port| port.get(field)?.as_u64()).collect()
}

/// Who sees what is exported so.
pub(super) fn scopes(export_to: &[&str], namespace: &str) -> BTreeSet<String> {
    if export_to.is_empty() || export_to.contains(&"*") {
        return BTreeSet::from(["*".to_owned()]);
    }
    export_to.iter().map(|word| if *word == "." { namespace.to_owned() } else { (*word).to_owned() }).collect()
}

fn is_for_mesh(service: &Value) -> bool {
    let gateways = object::texts(service, "/spec/gateways");
    gateways.is_empty() || gateways.contains(&"mesh")
}

/// Two VirtualServices of sidecars for one host.
fn conflicting_hosts(services: &[Arc<Value>], findings: &mut Findings) {
    let mut by_host: BTreeMap<Scoped, Vec<&Arc<Value>>> = BTreeMap::new();
    for service in services.iter().filter(|service| is_for_mesh(service)) {
        let namespace = object::namespace(service);
        for scope in scopes(&object::texts(service, "/spec/exportTo"), namespace) {
            for host in object::texts(service, "/spec/hosts") {
                let key = (scope.clone(), findings.objects.full_host(namespace, host));
                by_host.entry(key).or_default().push(service);
            }
        }
    }
    let mut told = BTreeSet::new();
    for ((scope, host), own) in &by_host {
        let mut all = own.clone();
        if scope != "*" {
            let wider = by_host.iter().filter(|((scope, other), _)| scope == "*" && hosts_overlap(host, other));
            all.extend(wider.flat_map(|(_, services)| services));
        }
        if all.len() < 2 {
            continue;
        }
        let mut names: Vec<String> = all.iter().map(|service| full_name(service)).collect();
        names.sort();
        let text = format!(
            "The VirtualServices {} associated with mesh gateway define the same host {scope}/{host} which can lead to undefined \
             behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.",
            names.join(",")
        );
        for service in all {
            if told.insert(full_name(service)) {
                findings.add("IST0109", Level::Error, service, text.clone());
            }
        }
    }
}

fn gateways(service: &Value, findings: &mut Findings) {
    let namespace = object::namespace(service);
    let hosts = object::texts(service, "/spec/hosts");
    for name in object::texts(service, "/spec/gateways").into_iter().filter(|name| *name != "mesh") {
        if name.contains("-istio-autogenerated-k8s-gateway") {
            let text = format!(
                "Gateway reference in VirtualService {} is to an implementation-generated internal Gateway: {name}.",
                full_name(service)
            );
            findings.add("IST0165", Level::Warning, service, text);
            continue;
        }
        let (of, short) = name.split_once('/').unwrap_or((namespace, name));
        let own = findings.objects.find("Gateway", of, short).cloned();
        let other = findings.objects.find("Gateway.gateway.networking.k8s.io", of, short).cloned();
        if own.is_none() && other.is_none() {
            findings.not_found(service, "gateway", name);
        }
        let has_host = match (&own, &other) {
            (Some(gateway), _) => gateway_hosts(gateway, namespace).iter().any(|known| hosts.iter().any(|host| hosts_overlap(known, host))),
            (None, Some(gateway)) => object::list(gateway, "/spec/listeners").iter().any(|listener| {
                let known = object::text(listener, "/hostname");
                known.is_empty() || hosts.iter().any(|host| hosts_overlap(known, host))
            }),
            (None, None) => false,
        };
        if !has_host {
            let text = format!(
                "one or more host {} defined in VirtualService {} not found in Gateway {of}/{short}.",
                go_list(&hosts),
                full_name(service)
            );
            findings.add("IST0132", Level::Warning, service, text);
        }
    }
}

/// The hosts of a Gateway that a namespace may use.
fn gateway_hosts(gateway: &Value, namespace: &str) -> Vec<String> {
    let all = object::list(gateway, "/spec/servers").iter().flat_map(|server| object::texts(server, "/hosts"));
    let usable = all.filter_map(|host| match host.split_once('/') {
        None => Some(host),
        Some(("*", host)) => Some(host),
        Some((".", host)) => (object::namespace(gateway) == namespace).then_some(host),
        Some((of, host)) => (of == namespace).then_some(host),
    });
    usable.map(str::to_owned).collect()
}

/// Routes by a token's claims need something that checks the token.
fn claims(service: &Value, findings: &mut Findings) {
    let matches = object::list(service, "/spec/http").iter().flat_map(|route| object::list(route, "/match"));
    let headers = matches.flat_map(|one| [one.get("headers"), one.get("withoutHeaders")]).flatten();
    let Some(key) = headers.filter_map(Value::as_object).flat_map(serde_json::Map::keys).find(|key| is_claim(key)).cloned() else {
        return;
    };
    for name in object::texts(service, "/spec/gateways").into_iter().filter(|name| *name != "mesh") {
        let (of, short) = name.split_once('/').unwrap_or((object::namespace(service), name));
        let Some(gateway) = findings.objects.find("Gateway", of, short).cloned() else {
            continue;
        };
        let policies = findings.objects.of("RequestAuthentication");
        for pod in findings.objects.pods_with(&labels_at(&gateway, "/spec/selector")) {
            let is_near =
                |policy: &Value| [object::namespace(&pod), findings.objects.root_namespace.as_str()].contains(&object::namespace(policy));
            let selects = |policy: &Value| object::selects(&labels_at(policy, "/spec/selector/matchLabels"), &object::labels(&pod));
            if !policies.iter().any(|policy| is_near(policy) && selects(policy)) {
                let text = format!(
                    "The virtual service uses the JWT claim based routing (key: {key}) but found no request authentication for the gateway \
                     ({of}/{short}) pod ({}). The request authentication must first be applied for the gateway pods to validate the JWT \
                     token and make the claims available for routing.",
                    object::name(&pod)
                );
                findings.add("IST0149", Level::Error, service, text);
            }
        }
    }
}

/// Subsets of all DestinationRules, by the Service that their host means.
fn subsets(objects: &Objects) -> BTreeSet<(String, String)> {
    let rules = objects.of("DestinationRule");
    let all = rules.iter().flat_map(|rule| {
        let host = service_of(objects, object::namespace(rule), object::text(rule, "/spec/host"));
        object::list(rule, "/spec/subsets").iter().map(move |subset| (host.clone(), object::text(subset, "/name").to_owned()))
    });
    all.collect()
}

/// `NAMESPACE/NAME` of the Service that a host means; another host stays itself, in the namespace of who says it.
fn service_of(objects: &Objects, namespace: &str, host: &str) -> String {
    let inner = host.strip_suffix(&format!(".svc.{}", objects.domain)).and_then(|inner| inner.split_once('.'));
    match inner {
        Some((name, of)) => format!("{of}/{name}"),
        None => format!("{namespace}/{host}"),
    }
}

fn destinations(service: &Value, hosts: &KnownHosts, subsets: &BTreeSet<(String, String)>, findings: &mut Findings) {
    let of_kind = |kind: &str| object::list(service, &format!("/spec/{kind}"));
    let routes = ["tcp", "tls", "http"].into_iter().flat_map(of_kind).flat_map(|route| object::list(route, "/route"));
    let targets = routes.filter_map(|route| route.get("destination")).map(|target| (target, false));
    let mirrors = of_kind("http").iter().flat_map(|route| {
        let many = object::list(route, "/mirrors").iter().filter_map(|mirror| mirror.get("destination"));
        route.get("mirror").into_iter().chain(many)
    });
    for (target, is_mirror) in targets.chain(mirrors.map(|target| (target, true))) {
        let (namespace, host) = (object::namespace(service), object::text(target, "/host"));
        let subset = object::text(target, "/subset");
        if !subset.is_empty() && !subsets.contains(&(service_of(&findings.objects, namespace, host), subset.to_owned())) {
            let what = if is_mirror { "mirror+subset in destinationrule" } else { "host+subset in destinationrule" };
            findings.not_found(service, what, &format!("{host}+{subset}"));
        }
        let export_to = object::texts(service, "/spec/exportTo");
        let Some(ports) = hosts.find(&findings.objects, namespace, &export_to, host).and_then(|key| hosts.ports.get(key)) else {
            findings.not_found(service, if is_mirror { "mirror host" } else { "host" }, host);
            continue;
        };
        match target.pointer("/port/number").and_then(Value::as_u64) {
            None if ports.len() > 1 => {
                let shown = go_list(ports.iter().map(u64::to_string));
                let text = format!(
                    "This VirtualService routes to a service {host:?} that exposes multiple ports {shown}. Specifying a port in the \
                     destination is required to disambiguate."
                );
                findings.add("IST0112", Level::Error, service, text);
            }
            Some(port) if !ports.contains(&port) => findings.not_found(service, "host:port", &format!("{host}:{port}")),
            _ => {}
        }
    }
}

/// A gateway's route to a host whose own VirtualService, for the mesh, names subsets.
fn lost_subsets(service: &Value, all: &[Arc<Value>], findings: &mut Findings) {
    if object::texts(service, "/spec/gateways").is_empty() {
        return;
    }
    let routes = |service: &Value| -> Vec<Value> {
        let all = object::list(service, "/spec/http").iter().flat_map(|route| object::list(route, "/route"));
        all.filter_map(|route| route.get("destination").cloned()).collect()
    };
    for target in routes(service).iter().filter(|target| object::text(target, "/subset").is_empty()) {
        let host = object::text(target, "/host");
        for other in all.iter().filter(|other| object::texts(other, "/spec/hosts").contains(&host)) {
            let names_subset = |target: &Value| !object::text(target, "/subset").is_empty() && object::text(target, "/host") == host;
            if routes(other).iter().any(names_subset) {
                let (other, own) = (full_name(other), full_name(service));
                let text = format!("Subset in virtual service {other} has no effect on ingress gateway {own} requests");
                findings.add("IST0140", Level::Warning, service, text);
            }
        }
    }
}
