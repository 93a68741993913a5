//! The routes of a sidecar's outbound HTTP listeners (`pilot/pkg/networking/core/httproute.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::backends::{Known, hash_policy};
use super::host::with_port;
use super::http::{HttpContext, routes};
use super::retry;
use super::spec::{Retries, Semantics, VirtualService};
use super::store::{MESH, VirtualServices};
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::mesh_config::OutboundPolicy;
use crate::istio::model::{ANY_ADDRESS, Direction, Protocol, Resolution, Service, cluster_name, host};

/// What one egress listener of a sidecar may reach: everything its namespace may see, or what a Sidecar object leaves of it.
#[derive(Debug, Clone)]
pub struct Egress<'a> {
    /// The services, oldest first; of several for one host and port the last counts, as in istiod.
    pub services: Vec<&'a Service>,
    /// The VirtualServices of the mesh, those that come first before those behind them.
    pub virtual_services: Vec<&'a VirtualService>,
    /// What becomes of everything else.
    pub outbound: OutboundPolicy,
}

impl<'a> Egress<'a> {
    /// What a sidecar without a Sidecar object may reach.
    #[must_use]
    pub fn everything(context: &'a PushContext, virtual_services: &'a VirtualServices, namespace: &'a str) -> Self {
        Self {
            services: context.services_visible_to(namespace).map(AsRef::as_ref).collect(),
            virtual_services: virtual_services.of_gateway(MESH, namespace),
            outbound: context.mesh.outbound,
        }
    }
}

/// The virtual host and the route of what goes to the host that it asks for.
pub(in crate::istio) const DYNAMIC_DNS: &str = "allow_any_dynamic_dns";
/// Its cluster.
pub(in crate::istio) const DYNAMIC_DNS_CLUSTER: &str = "AllowAnyDynamicDNSCluster";

/// A group of hosts that share routes.
struct Shared<'a> {
    /// Hosts of a VirtualService that no service has.
    hosts: Vec<String>,
    services: Vec<&'a Service>,
    routes: Vec<Value>,
}

/// The `RouteConfiguration` of this name for a sidecar: a port (`8000`), or for a listener that finds out the protocol a host and
/// port (`web.shop.svc.cluster.local:8000`), which gets the virtual host of that service alone.
#[must_use]
pub fn route_config(context: &PushContext, node: &ProxyNode, egress: &Egress<'_>, name: &str) -> Value {
    let (only, port) = match name.rsplit_once(':') {
        Some((host, port)) => (Some(host.trim_matches(['[', ']'])), port),
        None => (None, name),
    };
    let Ok(port) = port.parse::<u16>() else { return empty_config(name) };
    let mut hosts = virtual_hosts(context, node, egress, port);
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hosts: Vec<Value> = match only {
        Some(only) => hosts
            .into_iter()
            .filter(|(_, domains, _)| domains.iter().any(|domain| domain == name || domain == only))
            .map(|(name, _, routes)| virtual_host(&name, &["*".to_owned()], routes))
            .collect(),
        None => hosts.into_iter().map(|(name, domains, routes)| virtual_host(&name, &domains, routes)).collect(),
    };
    if only.is_none() {
        hosts.push(everything_else(egress.outbound));
    }
    config(name, hosts)
}

/// A `RouteConfiguration` as istiod fills it.
pub(in crate::istio) fn config(name: &str, virtual_hosts: Vec<Value>) -> Value {
    let mut out = Map::new();
    out.insert("@type".to_owned(), json!("type.googleapis.com/envoy.config.route.v3.RouteConfiguration"));
    out.insert("name".to_owned(), json!(name));
    if !virtual_hosts.is_empty() {
        out.insert("virtual_hosts".to_owned(), Value::Array(virtual_hosts));
    }
    out.insert("validate_clusters".to_owned(), json!(false));
    out.insert("max_direct_response_body_size_bytes".to_owned(), json!(1_048_576));
    out.insert("ignore_port_in_host_matching".to_owned(), json!(true));
    Value::Object(out)
}

/// What istiod answers for a name that it does not know.
#[must_use]
pub fn empty_config(name: &str) -> Value {
    json!({"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": name, "validate_clusters": false})
}

/// A virtual host as istiod fills it.
pub(in crate::istio) fn virtual_host(name: &str, domains: &[String], routes: Vec<Value>) -> Value {
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(name));
    out.insert("domains".to_owned(), json!(domains));
    if !routes.is_empty() {
        out.insert("routes".to_owned(), Value::Array(routes));
    }
    out.insert("include_request_attempt_count".to_owned(), json!(true));
    Value::Object(out)
}

/// The virtual host for every host that no service has (Istio: `buildCatchAllVirtualHost`).
pub(in crate::istio) fn everything_else(outbound: OutboundPolicy) -> Value {
    let to = |cluster: &str| json!({"cluster": cluster, "timeout": "0s", "max_grpc_timeout": "0s"});
    let (name, action, value) = match outbound {
        OutboundPolicy::AllowAny => ("allow_any", "route", to("PassthroughCluster")),
        OutboundPolicy::AllowAnyDynamicDns => (DYNAMIC_DNS, "route", to(DYNAMIC_DNS_CLUSTER)),
        OutboundPolicy::RegistryOnly => ("block_all", "direct_response", json!({"status": 502})),
    };
    virtual_host(name, &["*".to_owned()], vec![json!({"name": name, "match": {"prefix": "/"}, action: value})])
}

/// Name, domains and routes of each virtual host of a port.
fn virtual_hosts(context: &PushContext, node: &ProxyNode, egress: &Egress<'_>, port: u16) -> Vec<(String, Vec<String>, Vec<Value>)> {
    let mut services: BTreeMap<String, &Service> = BTreeMap::new();
    for service in egress.services.iter().filter(|service| service.port(port).is_some()) {
        services.insert(service.host.to_ascii_lowercase(), service);
    }
    let groups = groups(context, node, egress, &services, port);
    let aliases = aliases(egress);
    let known: BTreeSet<&str> = groups.iter().flat_map(|group| &group.services).map(|service| service.host.as_str()).collect();
    let mut names = BTreeSet::new();
    let mut domains_taken: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    let mut add = |host: &str, candidates: Vec<Domain>, routes: &[Value]| {
        let name = with_port(host, u32::from(port));
        if !names.insert(name.clone()) {
            return;
        }
        let mut domains = Vec::new();
        for domain in candidates {
            // A short form of one service must not hide the full name of another.
            let hides = domain.expanded && known.contains(domain.text.as_str());
            if !hides && domains_taken.insert(domain.text.to_ascii_lowercase()) {
                domains.push(domain.text);
            }
        }
        if !domains.is_empty() {
            out.push((name, domains, routes.to_vec()));
        }
    };
    for group in &groups {
        for host in &group.hosts {
            add(host, vec![Domain { text: bracketed(host), expanded: false }], &group.routes);
        }
        for service in &group.services {
            add(&service.host, service_domains(service, &aliases, node, &context.domain), &group.routes);
        }
    }
    out
}

/// VirtualServices with the services they take, then the services that none took.
fn groups<'a>(
    context: &PushContext,
    node: &ProxyNode,
    egress: &Egress<'_>,
    services: &BTreeMap<String, &'a Service>,
    port: u16,
) -> Vec<Shared<'a>> {
    let default_retries = default_retries(context);
    let backends = Known::by_sidecar(context, node, services, port);
    let http = HttpContext {
        labels: &node.labels,
        namespace: &node.namespace,
        gateway: MESH,
        port: u32::from(port),
        tls: false,
        default_retries: default_retries.as_ref(),
        backends: &backends,
    };
    let owners = wildcard_owners(egress);
    let mut out: Vec<Shared<'a>> = Vec::new();
    for service in &egress.virtual_services {
        // Port 80 also serves hosts that no service has.
        if port != 80 && !concerns(service, services) {
            continue;
        }
        let routes = routes(service, &http);
        if routes.is_empty() {
            continue;
        }
        let (hosts, mut taken) = split_hosts(service, services, &owners);
        if service.semantics == Semantics::Gateway {
            // A route of Gateway API counts in its own namespace and for the services of that namespace.
            let of_here = |taken: &&Service| taken.namespace == service.meta.namespace || node.namespace == service.meta.namespace;
            if !taken.iter().any(of_here) {
                continue;
            }
        }
        taken.retain(|service| speaks_http(service, port));
        if taken.is_empty() && port != 80 {
            continue;
        }
        out.push(Shared { hosts, services: taken, routes });
    }
    let taken: BTreeSet<String> = out.iter().flat_map(|group| &group.services).map(|service| service.host.clone()).collect();
    for service in services.values() {
        if taken.contains(&service.host) || matches!(service.resolution, Resolution::Alias(_)) || !speaks_http(service, port) {
            continue;
        }
        let hash = hash_policy(context, node, service, "", Some(u32::from(port)));
        out.push(Shared {
            hosts: Vec::new(),
            services: vec![service],
            routes: vec![default_route(&service.host, port, default_retries.as_ref(), hash)],
        });
    }
    out
}

/// The mesh's retries for routes that name none.
pub(in crate::istio) fn default_retries(context: &PushContext) -> Option<Retries> {
    context.mesh.default_http_retry.clone().and_then(|retries| serde_json::from_value(retries).ok())
}

/// A port that speaks HTTP, or of which Envoy is to find out.
fn speaks_http(service: &Service, port: u16) -> bool {
    service.port(port).is_some_and(|port| port.protocol.is_http() || port.protocol == Protocol::Auto)
}

/// Whether some host of the VirtualService is one of these services (`selectVirtualServices`).
fn concerns(service: &VirtualService, services: &BTreeMap<String, &Service>) -> bool {
    service.spec.hosts.iter().map(|host| host.to_ascii_lowercase()).any(|of_rule| {
        services.contains_key(&of_rule)
            || services.keys().any(|known| (of_rule.starts_with('*') || known.starts_with('*')) && host::overlap(&of_rule, known))
    })
}

/// By which VirtualService a service is taken that several hold by wildcards: one that names it in full, else the most specific,
/// else the first (`computeWildcardHostVirtualServiceIndex`).
fn wildcard_owners<'a>(egress: &Egress<'a>) -> BTreeMap<&'a str, String> {
    let mut exact: BTreeMap<String, String> = BTreeMap::new();
    let mut wildcards: Vec<(String, String)> = Vec::new();
    for service in &egress.virtual_services {
        for host in service.spec.hosts.iter().map(|host| host.to_ascii_lowercase()) {
            if host.starts_with('*') {
                wildcards.push((host, service.meta.key()));
            } else {
                exact.entry(host).or_insert_with(|| service.meta.key());
            }
        }
    }
    wildcards.sort_by(|a, b| host::by_specificity(&a.0, &b.0));
    let owner = |of: &str| {
        let by_wildcard = || wildcards.iter().find(|(wildcard, _)| host::subset_of(of, wildcard)).map(|(_, owner)| owner);
        exact.get(of).or_else(by_wildcard).cloned()
    };
    egress.services.iter().filter_map(|service| Some((service.host.as_str(), owner(&service.host.to_ascii_lowercase())?))).collect()
}

/// The hosts of a VirtualService that no service has, and the services that it takes (`separateVSHostsAndServices`).
fn split_hosts<'a>(
    service: &VirtualService,
    services: &BTreeMap<String, &'a Service>,
    owners: &BTreeMap<&str, String>,
) -> (Vec<String>, Vec<&'a Service>) {
    let mut hosts = Vec::new();
    let mut taken: Vec<&'a Service> = Vec::new();
    let (wildcards, exact): (Vec<String>, Vec<String>) =
        service.spec.hosts.iter().map(|host| host.to_ascii_lowercase()).partition(|host| host.starts_with('*'));
    for host in exact {
        match services.get(&host) {
            Some(known) => taken.push(known),
            None => hosts.push(host),
        }
    }
    let key = service.meta.key();
    for wildcard in wildcards {
        let mut held = services.values().filter(|known| host::overlap(&known.host, &wildcard)).peekable();
        if service.semantics == Semantics::Gateway || held.peek().is_none() {
            hosts.push(wildcard);
            continue;
        }
        taken.extend(held.filter(|known| owners.get(known.host.as_str()) == Some(&key)).copied());
    }
    (hosts, taken)
}

/// The one route of a service without a VirtualService.
fn default_route(host: &str, port: u16, retries: Option<&Retries>, hash: Option<Value>) -> Value {
    let mut action = Map::new();
    action.insert("cluster".to_owned(), json!(cluster_name(Direction::Outbound, port, "", host)));
    action.insert("timeout".to_owned(), json!("0s"));
    action.insert("max_grpc_timeout".to_owned(), json!("0s"));
    if let Some(policy) = retry::policy(retries, false) {
        action.insert("retry_policy".to_owned(), policy);
    }
    if let Some(hash) = hash {
        action.insert("hash_policy".to_owned(), json!([hash]));
    }
    json!({
        "name": "default",
        "match": {"prefix": "/"},
        "route": action,
        "decorator": {"operation": format!("{host}:{port}/*")},
    })
}

/// A name under which a virtual host is found.
struct Domain {
    text: String,
    /// Whether it is a short form of the service's name.
    expanded: bool,
}

fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

/// The Services of type ExternalName by the host that they stand for (Istio: `ServiceAttributes.Aliases`).
fn aliases<'a>(egress: &Egress<'a>) -> BTreeMap<&'a str, BTreeSet<(&'a str, &'a str)>> {
    let mut out: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for service in &egress.services {
        if let Resolution::Alias(target) = &service.resolution {
            out.entry(target).or_default().insert((&service.namespace, &service.host));
        }
    }
    out
}

/// Every name of a service: its own and those of Services that stand for it, and its address (`generateVirtualHostDomains`). Ports are
/// not among them, since Envoy is told to leave the port of a host out of account.
fn service_domains(service: &Service, aliases: &BTreeMap<&str, BTreeSet<(&str, &str)>>, node: &ProxyNode, domain: &str) -> Vec<Domain> {
    let mut out = Vec::new();
    let others = aliases.get(service.host.as_str()).into_iter().flatten().map(|(_, host)| *host);
    for host in std::iter::once(service.host.as_str()).chain(others) {
        forms(host, node, domain, &mut out);
    }
    if service.is_headless() {
        let single: Vec<Domain> = out.iter().map(|d| Domain { text: format!("*.{}", d.text), expanded: false }).collect();
        out.extend(single);
    }
    let address = service.default_address();
    if !address.is_empty() && address != ANY_ADDRESS {
        out.push(Domain { text: bracketed(address), expanded: false });
    }
    out
}

/// A name in full, with a dot behind it, and as short as the proxy's namespace allows (`GenerateAltVirtualHosts`).
fn forms(host: &str, node: &ProxyNode, domain: &str, out: &mut Vec<Domain>) {
    out.push(Domain { text: bracketed(host), expanded: false });
    let mut expand = |text: String| out.push(Domain { text, expanded: true });
    if host.parse::<IpAddr>().is_err() {
        expand(format!("{host}."));
    }
    let Some((name, namespace)) = host.strip_suffix(&format!(".svc.{domain}")).and_then(|rest| rest.split_once('.')) else { return };
    if namespace == node.namespace {
        expand(name.to_owned());
        expand(format!("{name}.{namespace}.svc"));
        expand(format!("{name}.{namespace}"));
    } else {
        expand(format!("{name}.{namespace}"));
        expand(format!("{name}.{namespace}.svc"));
    }
}
