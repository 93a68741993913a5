//! DestinationRules, ServiceEntries, Sidecars, EnvoyFilters and AuthorizationPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::virtual_service::{KnownHosts, scopes};
use super::{Findings, Level, full_name, go_list, labels_at, selector_text};
use crate::istio::model::object;

/// The networks from which istiod fetches no keys.
const VARIABLE: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";

pub(super) fn analyze(findings: &mut Findings) {
    destination_rules(findings);
    service_entries(findings);
    sidecars(findings);
    envoy_filters(findings);
    for policy in findings.objects.of("AuthorizationPolicy") {
        authorization(&policy, findings);
    }
    unrestricted_keys(findings);
}

/// An istiod that may fetch keys from anywhere, where somebody asks for tokens, also for such with keys of their own
/// (`BlockedCIDRsAnalyzer`).
fn unrestricted_keys(findings: &mut Findings) {
    let asking: Vec<String> = findings.objects.of("RequestAuthentication").iter().map(|policy| full_name(policy)).collect();
    if asking.is_empty() {
        return;
    }
    let more = asking.len().saturating_sub(5);
    let mut names = asking.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        names.push_str(&format!(", and {more} more"));
    }
    for istiod in findings.objects.of("Deployment") {
        let is_set = |variable: &Value| object::text(variable, "/name") == VARIABLE && !object::text(variable, "/value").is_empty();
        let containers = object::list(&istiod, "/spec/template/spec/containers").iter();
        let is_istiod = object::labels(&istiod).get("app").is_some_and(|app| app == "istiod");
        if !is_istiod || containers.flat_map(|container| object::list(container, "/env")).any(is_set) {
            continue;
        }
        let what = format!("{VARIABLE} is not configured but {} RequestAuthentication resource(s) exist ({names}).", asking.len());
        let advice = "Consider configuring it to restrict JWKS URI fetches to trusted networks.";
        findings.add("IST0175", Level::Warning, &istiod, format!("{what} {advice}"));
    }
}

fn destination_rules(findings: &mut Findings) {
    let hosts = KnownHosts::new(&findings.objects);
    for rule in findings.objects.of("DestinationRule") {
        certificates(&rule, findings);
        let host = object::text(&rule, "/spec/host");
        let export_to = object::texts(&rule, "/spec/exportTo");
        let Some(known) = hosts.find(&findings.objects, object::namespace(&rule), &export_to, host) else {
            let text = format!("The host {host} defined in the DestinationRule does not match any services in the mesh.");
            findings.add("IST0174", Level::Warning, &rule, text);
            continue;
        };
        for subset in object::list(&rule, "/spec/subsets") {
            let mut selector = hosts.selector(known);
            selector.extend(labels_at(subset, "/labels"));
            if pods_with_places(&selector, findings) {
                continue;
            }
            let name = object::text(subset, "/name");
            let why = "does not select any pods. Which may lead to 503 UH (NoHealthyUpstream).";
            findings.add("IST0173", Level::Error, &rule, format!("The Subset {name} defined in the DestinationRule {why}"));
        }
    }
}

/// Whether any pod has these labels, with those that istiod adds from its node.
fn pods_with_places(selector: &BTreeMap<String, String>, findings: &Findings) -> bool {
    findings.objects.of("Pod").iter().any(|pod| {
        let mut labels = object::labels(pod);
        let node = object::text(pod, "/spec/nodeName");
        if let Some(node) = findings.objects.find("Node", "", node) {
            let places = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
            labels.extend(object::labels(node).into_iter().filter(|(key, _)| places.contains(&key.as_str())));
        }
        labels.insert("kubernetes.io/hostname".to_owned(), node.to_owned());
        object::selects(selector, &labels)
    })
}

/// TLS that does not check who answers.
fn certificates(rule: &Value, findings: &mut Findings) {
    let (name, namespace, host) = (full_name(rule), object::namespace(rule), object::text(rule, "/spec/host"));
    let has_selector = rule.pointer("/spec/workloadSelector").is_some();
    let unchecked = |policy: &Value| {
        let mode = object::text(policy, "/tls/mode");
        let has_credential = !object::text(policy, "/tls/credentialName").is_empty() && has_selector;
        let is_unchecked = matches!(mode, "SIMPLE" | "MUTUAL") && object::text(policy, "/tls/caCertificates").is_empty() && !has_credential;
        is_unchecked.then(|| mode.to_owned())
    };
    let policy = rule.pointer("/spec/trafficPolicy").unwrap_or(&Value::Null);
    let begin = format!("DestinationRule {name} in namespace {namespace} has TLS mode set to");
    let middle = "but no caCertificates are set to validate server identity for host:";
    if let Some(mode) = unchecked(policy) {
        findings.add("IST0128", Level::Warning, rule, format!("{begin} {mode} {middle} {host}"));
    }
    for port in object::list(policy, "/portLevelSettings") {
        if let Some(mode) = unchecked(port) {
            let number = port.pointer("/port/number").and_then(Value::as_u64).unwrap_or(0);
            findings.add("IST0129", Level::Warning, rule, format!("{begin} {mode} {middle} {host} at port number:{number}"));
        }
    }
}

/// Who sees it, host and port.
type ScopedPort = (String, String, u64);

fn service_entries(findings: &mut Findings) {
    let entries = findings.objects.of("ServiceEntry");
    let maps = findings.objects.find("ConfigMap", &findings.objects.root_namespace, "istio").cloned();
    let mesh: Value = maps.and_then(|map| serde_saphyr::from_str(object::text(&map, "/data/mesh")).ok()).unwrap_or(Value::Null);
    let is_on = |name: &str| object::text(&mesh, &format!("/defaultConfig/proxyMetadata/{name}")) == "true";
    let allocates = is_on("ISTIO_META_DNS_CAPTURE") && (is_on("ISTIO_META_DNS_AUTO_ALLOCATE") || is_on("PILOT_ENABLE_IP_AUTOALLOCATE"));
    for entry in &entries {
        let has_address = entry.pointer("/spec/addresses").is_some() || !object::list(entry, "/status/addresses").is_empty();
        let is_plain = |port: &Value| {
            let protocol = object::text(port, "/protocol");
            protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP")
        };
        if !has_address && !allocates && object::list(entry, "/spec/ports").iter().any(is_plain) {
            findings.add("IST0134", Level::Warning, entry, "ServiceEntry addresses are required for this protocol.".to_owned());
        }
    }
    let mut index: BTreeMap<ScopedPort, Vec<(String, &Arc<Value>)>> = BTreeMap::new();
    for entry in &entries {
        for scope in scopes(&object::texts(entry, "/spec/exportTo"), object::namespace(entry)) {
            for host in object::texts(entry, "/spec/hosts") {
                for port in object::list(entry, "/spec/ports") {
                    let number = port.get("number").and_then(Value::as_u64).unwrap_or(0);
                    let protocol = object::text(port, "/protocol").to_ascii_uppercase();
                    index.entry((scope.clone(), host.to_owned(), number)).or_default().push((protocol, entry));
                }
            }
        }
    }
    let mut told = BTreeSet::new();
    for ((scope, host, port), own) in &index {
        let wider = index.get(&("*".to_owned(), host.clone(), *port)).filter(|_| scope != "*");
        let all: Vec<&(String, &Arc<Value>)> = own.iter().chain(wider.into_iter().flatten()).collect();
        let protocols: BTreeSet<&str> = all.iter().map(|(protocol, _)| protocol.as_str()).collect();
        if protocols.len() < 2 {
            continue;
        }
        let names: BTreeSet<String> = all.iter().map(|(_, entry)| full_name(entry)).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let protocols = protocols.into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("define the same host {host:?} and port {port} with conflicting protocols ({protocols}).");
        for (_, entry) in all {
            if told.insert(full_name(entry)) {
                findings.add("IST0177", Level::Warning, entry, format!("Multiple ServiceEntries ({names}) {what}"));
            }
        }
    }
}

fn sidecars(findings: &mut Findings) {
    let all = findings.objects.of("Sidecar");
    let mut wide: BTreeMap<&str, Vec<&Arc<Value>>> = BTreeMap::new();
    let mut by_pod: BTreeMap<(String, String), Vec<&Arc<Value>>> = BTreeMap::new();
    for sidecar in &all {
        let selector = labels_at(sidecar, "/spec/workloadSelector/labels");
        if selector.is_empty() {
            wide.entry(object::namespace(sidecar)).or_default().push(sidecar);
            continue;
        }
        let pods = findings.objects.pods_with(&selector);
        let pods: Vec<_> = pods.iter().filter(|pod| object::namespace(pod) == object::namespace(sidecar)).collect();
        if pods.is_empty() {
            findings.not_found(sidecar, "selector", &selector_text(&selector));
        }
        for pod in pods {
            by_pod.entry((object::namespace(pod).to_owned(), object::name(pod).to_owned())).or_default().push(sidecar);
        }
    }
    let names = |sidecars: &[&Arc<Value>]| go_list(sidecars.iter().map(|sidecar| object::name(sidecar)).collect::<BTreeSet<_>>());
    for ((namespace, pod), sidecars) in by_pod.iter().filter(|(_, sidecars)| sidecars.len() > 1) {
        let what = format!("select the same workload pod {pod:?}, which can lead to undefined behavior.");
        let text = format!("The Sidecars {} in namespace {namespace:?} {what}", names(sidecars));
        for sidecar in sidecars {
            findings.add("IST0110", Level::Error, sidecar, text.clone());
        }
    }
    for (namespace, sidecars) in wide.iter().filter(|(_, sidecars)| sidecars.len() > 1) {
        let what = "have no workload selector, which can lead to undefined behavior.";
        let text = format!("The Sidecars {} in namespace {namespace:?} {what}", names(sidecars));
        for sidecar in sidecars {
            findings.add("IST0111", Level::Error, sidecar, text.clone());
        }
    }
}

/// Patches that depend on what else is there, or that do nothing.
fn envoy_filters(findings: &mut Findings) {
    let mut with_version: Vec<String> = Vec::new();
    for filter in findings.objects.of("EnvoyFilter") {
        let has_priority = filter.pointer("/spec/priority").and_then(Value::as_i64).unwrap_or(0) != 0;
        for patch in object::list(&filter, "/spec/configPatches") {
            if !patch.get("patch").is_some_and(Value::is_object) {
                break;
            }
            let (apply_to, operation) = (object::text(patch, "/applyTo"), object::text(patch, "/patch/operation"));
            let name = match patch.pointer("/patch/value/name") {
                Some(name) => name.to_string(),
                None if patch.pointer("/patch/value").is_some() => {
                    object::text(patch, "/match/listener/filterChain/filter/name").to_owned()
                }
                None => String::new(),
            };
            let is_routes = matches!(apply_to, "ROUTE_CONFIGURATION" | "HTTP_ROUTE");
            let ignored = "will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";
            let relative = match operation {
                "ADD" if is_routes => {
                    findings.add("IST0153", Level::Error, &filter, format!("The ADD operation {ignored}"));
                    false
                }
                "REMOVE" if is_routes => {
                    findings.add("IST0154", Level::Error, &filter, format!("The REMOVE operation {ignored}"));
                    false
                }
                "REPLACE" if !matches!(apply_to, "NETWORK_FILTER" | "HTTP_FILTER" | "VIRTUAL_HOST") => {
                    let text = "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.";
                    findings.add("IST0152", Level::Error, &filter, text.to_owned());
                    false
                }
                "REMOVE" | "REPLACE" | "INSERT_BEFORE" | "INSERT_AFTER" => !has_priority,
                _ => false,
            };
            let help = "or setting the priority may help in ensuring the EnvoyFilter is applied correctly.";
            if relative && with_version.contains(&name) {
                let text = format!(
                    "This EnvoyFilter does not have a priority and has a relative patch operation (NSTERT_BEFORE/AFTER, REPLACE, MERGE, \
                     DELETE) and proxyVersion set which can cause the EnvoyFilter not to be applied during an upgrade. Using the \
                     INSERT_FIRST or ADD option {help}"
                );
                findings.add("IST0155", Level::Warning, &filter, text);
            } else if relative {
                let text = format!(
                    "This EnvoyFilter does not have a priority and has a relative patch operation set which can cause the EnvoyFilter not \
                     to be applied. Using the INSERT_FIRST of ADD option {help}"
                );
                findings.add("IST0151", Level::Warning, &filter, text);
            }
            if !object::text(patch, "/match/proxy/proxyVersion").is_empty() {
                with_version.push(name);
            }
        }
    }
}

fn authorization(policy: &Value, findings: &mut Findings) {
    let selector = policy.pointer("/spec/selector").filter(|selector| selector.is_object());
    let labels = labels_at(policy, "/spec/selector/matchLabels");
    let namespace = object::namespace(policy);
    let is_root = namespace == findings.objects.root_namespace;
    let pods = findings.objects.of("Pod");
    let is_taken = |pod: &&Arc<Value>| {
        let metadata = pod.get("metadata").unwrap_or(&Value::Null);
        (is_root || object::namespace(pod) == namespace)
            && object::selects(&labels, &object::labels(pod))
            && findings.objects.in_mesh(object::namespace(pod), metadata, object::spec(pod))
    };
    let has_pods = pods.iter().any(|pod| is_taken(&pod));
    if !has_pods && (selector.is_some() || !is_root) {
        let text = format!("No matching workloads for this resource with the following labels: {}", selector_text(&labels));
        findings.add("IST0127", Level::Warning, policy, text);
    }
    let known = findings.objects.of("Namespace");
    let is_known = |wanted: &str| {
        known.iter().map(|namespace| object::name(namespace)).any(|name| match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
            (Some(suffix), _) => name.ends_with(suffix),
            (None, Some(prefix)) => name.starts_with(prefix),
            (None, None) => name.eq_ignore_ascii_case(wanted),
        })
    };
    for from in object::list(policy, "/spec/rules").iter().flat_map(|rule| object::list(rule, "/from")) {
        let all = ["/source/namespaces", "/source/notNamespaces"].into_iter().flat_map(|at| object::texts(from, at));
        for namespace in all.filter(|namespace| !is_known(namespace)) {
            findings.not_found(policy, "namespace", namespace);
        }
    }
}
