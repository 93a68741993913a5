//! What a route leads to: a host of the registry, one of its ports, perhaps a subset.

use serde_json::Value;

use super::configured::{Configured, ISTIO, Port, is_ready, numbers, ports, service_host};
use super::names::{export_field, export_to, few, labels, list, namespace, qualified, selects, shown, text, texts, visible};
use super::{Cause, Layer, Place};
use crate::outcome::AccessLogEntry;
use crate::scenario::KubeObject;

/// Where a route leads.
#[derive(Debug, Clone)]
pub(super) struct Target<'c> {
    /// The full name.
    pub(super) host: String,
    /// The port, where one is named.
    pub(super) port: Option<u16>,
    /// The subset, where one is named.
    pub(super) subset: Option<String>,
    /// The VirtualService that says so, and the field with the destination; None when no route has a part in it.
    pub(super) by: Option<(&'c KubeObject, String)>,
}

impl<'c> Target<'c> {
    /// As a VirtualService writes it.
    pub(super) fn of(object: &'c KubeObject, field: String, destination: &Value) -> Option<Self> {
        Some(Self {
            host: qualified(text(destination, "/host")?, namespace(object)),
            port: super::names::port(destination, "/port/number"),
            subset: text(destination, "/subset").map(str::to_owned),
            by: Some((object, field)),
        })
    }

    /// As Envoy's cluster is called: `outbound|PORT|SUBSET|HOST`.
    pub(super) fn of_cluster(cluster: &str) -> Option<Self> {
        let parts: Vec<&str> = cluster.split('|').collect();
        let [direction, port, subset, host] = parts[..] else { return None };
        (direction == "outbound").then(|| Self {
            host: host.to_owned(),
            port: port.parse().ok(),
            subset: (!subset.is_empty()).then(|| subset.to_owned()),
            by: None,
        })
    }

    /// Whether that cluster is this target's.
    pub(super) fn is_cluster(&self, cluster: &str) -> bool {
        Self::of_cluster(cluster)
            .is_some_and(|c| c.host == self.host && c.subset == self.subset && (self.port.is_none() || c.port == self.port))
    }

    fn said_by(&self) -> String {
        self.by.as_ref().map_or_else(|| "the call".to_owned(), |(object, _)| object.key.to_string())
    }

    fn place(&self, part: &str) -> Option<Place> {
        self.by.as_ref().map(|(object, field)| Place::new(object, format!("{field}.{part}")))
    }
}

/// Why proxies of a namespace have no cluster for a target (flag NC).
pub(super) fn missing_cluster(c: &Configured, client: &str, target: &Target<'_>) -> Option<Cause> {
    let all = c.hosts(&target.host);
    let host = &target.host;
    if all.is_empty() {
        if !(c.knows("", "Service") && c.knows(ISTIO, "ServiceEntry")) {
            return None;
        }
        let name = host.split('.').next().unwrap_or_default();
        let elsewhere: Vec<String> = c.all("", "Service").filter(|s| s.key.name == name).map(service_host).collect();
        let hint = if elsewhere.is_empty() { String::new() } else { format!("; there is {}", few(elsewhere)) };
        let text = format!("{} leads to {host}, and no Service or ServiceEntry has that host{hint}", target.said_by());
        return Some(Cause::at(Layer::Proxy, text, target.place("host")));
    }
    let seen: Vec<&KubeObject> = all.iter().copied().filter(|o| visible(o, client)).collect();
    if seen.is_empty() {
        return Some(hidden(all[0], host, client));
    }
    if let Some(cause) = unserved_port(target, &seen) {
        return Some(cause);
    }
    let subset = target.subset.as_deref()?;
    missing_subset(c, client, target, subset, namespace(seen[0]))
}

/// An object that exportTo keeps from a namespace's proxies.
pub(super) fn hidden(object: &KubeObject, host: &str, client: &str) -> Cause {
    let text =
        format!("{} is for {host}, but its exportTo ({}) hides it from proxies in namespace {client}", object.key, few(export_to(object)));
    Cause::at(Layer::Proxy, text, Some(Place::new(object, export_field(object))))
}

fn unserved_port(target: &Target<'_>, seen: &[&KubeObject]) -> Option<Cause> {
    let all: Vec<Port> = seen.iter().flat_map(|o| ports(o)).collect();
    let objects = few(seen.iter().map(|o| o.key.to_string()));
    match target.port {
        Some(port) if !all.iter().any(|p| p.number == port) => {
            let text = format!("{} leads to port {port} of {}, but {objects} serves {}", target.said_by(), target.host, numbers(&all));
            let place = target.place("port.number").or_else(|| Some(Place::new(seen[0], "spec.ports")));
            Some(Cause::at(Layer::Proxy, text, place))
        }
        None if all.len() > 1 && target.by.is_some() => {
            let text =
                format!("{} leads to {} without a port, but {objects} serves several: {}", target.said_by(), target.host, numbers(&all));
            Some(Cause::at(Layer::Proxy, text, target.place("port.number")))
        }
        _ => None,
    }
}

fn missing_subset(c: &Configured, client: &str, target: &Target<'_>, subset: &str, home: &str) -> Option<Cause> {
    if !c.knows(ISTIO, "DestinationRule") {
        return None;
    }
    let host = &target.host;
    let names = |rule: &KubeObject| -> Vec<String> {
        list(&rule.value, "/spec/subsets").iter().filter_map(|s| text(s, "/name").map(str::to_owned)).collect()
    };
    let rules = c.rules(client, home, host);
    if rules.iter().any(|rule| names(rule).iter().any(|n| n == subset)) {
        return None;
    }
    let says = format!("{} names subset `{subset}` of {host}", target.said_by());
    if let Some(rule) = rules.first() {
        let text = format!("{says}, but {} declares {}", rule.key, few(rules.iter().flat_map(|r| names(r)).map(|n| format!("`{n}`"))));
        return Some(Cause::at(Layer::Proxy, text, target.place("subset")).and(Place::new(rule, "spec.subsets")));
    }
    let others = c.rules_for(host);
    match others.iter().find(|rule| names(rule).iter().any(|n| n == subset)).or(others.first()) {
        None => {
            // A rule that was meant for this host, by its subset.
            let meant = c.all(ISTIO, "DestinationRule").find(|rule| names(rule).iter().any(|n| n == subset));
            let near = meant.map(|rule| {
                let written = text(&rule.value, "/spec/host").unwrap_or_default();
                format!("; {} declares it for {}", rule.key, qualified(written, namespace(rule)))
            });
            let text = format!("{says}, but no DestinationRule is for that host{}", near.unwrap_or_default());
            let cause = Cause::at(Layer::Proxy, text, target.place("subset"));
            Some(meant.into_iter().fold(cause, |cause, rule| cause.and(Place::new(rule, "spec.host"))))
        }
        Some(rule) if !visible(rule, client) => {
            let text =
                format!("{says}, but exportTo ({}) of {} hides it from proxies in namespace {client}", few(export_to(rule)), rule.key);
            Some(Cause::at(Layer::Proxy, text, Some(Place::new(rule, "spec.exportTo"))))
        }
        Some(rule) => {
            let text = format!(
                "{says}, but {} is not followed from namespace {client}: rules are looked up in the caller's namespace ({client}), \
                 then the host's ({home}), then {}",
                rule.key,
                c.root()
            );
            Some(Cause::at(Layer::Proxy, text, Some(Place::new(rule, "metadata.namespace"))))
        }
    }
}

/// Why the cluster of a target has no healthy endpoint (flag UH).
pub(super) fn no_endpoint(c: &Configured, client: &str, target: &Target<'_>) -> Option<Cause> {
    let seen: Vec<&KubeObject> = c.hosts(&target.host).into_iter().filter(|o| visible(o, client)).collect();
    let object = *seen.first()?;
    let (selector_at, named) = match object.key.kind.as_str() {
        "Service" => ("/spec/selector", "spec.selector"),
        _ => ("/spec/workloadSelector/labels", "spec.workloadSelector.labels"),
    };
    let Some(selector) = object.value.pointer(selector_at).filter(|s| s.as_object().is_some_and(|m| !m.is_empty())) else {
        let is_static = text(&object.value, "/spec/resolution") == Some("STATIC");
        return (is_static && list(&object.value, "/spec/endpoints").is_empty()).then(|| {
            let text = format!("{} is resolved STATIC, but lists no endpoint", object.key);
            Cause::at(Layer::Endpoints, text, Some(Place::new(object, "spec.endpoints")))
        });
    };
    if !(c.knows("", "Pod") && c.knows("apps", "Deployment")) {
        return None;
    }
    let home = namespace(object);
    let taken: Vec<_> = c.pods(Some(home)).filter(|(_, l)| selects(selector, l)).collect();
    if taken.is_empty() {
        let waiting = c.deployments(Some(home), selector);
        let text = match waiting.first() {
            Some(deployment) => format!("{} is for the pods of {}, which has none", object.key, deployment.key),
            None => {
                let there = c.deployments(Some(home), &Value::Null);
                let there = few(there.iter().map(|d| shown_labels(d)));
                format!("the selector ({}) of {} matches no pod in {home}; pods there have {there}", shown(selector), object.key)
            }
        };
        let place = waiting.first().map_or_else(|| Place::new(object, named), |d| Place::new(d, "spec.replicas"));
        return Some(Cause::at(Layer::Endpoints, text, Some(place)));
    }
    let mut serving = taken;
    if let Some(subset) = &target.subset {
        let rules = c.rules(client, home, &target.host);
        let declared = rules.iter().find_map(|rule| {
            let subsets = list(&rule.value, "/spec/subsets").iter().enumerate();
            let found = subsets.into_iter().find(|(_, s)| text(s, "/name") == Some(subset));
            found.map(|(i, s)| (*rule, i, s.get("labels").unwrap_or(&Value::Null)))
        });
        let (rule, index, wanted) = declared?;
        let here: Vec<String> = serving.iter().map(|(_, l)| shown_of(l)).collect();
        serving.retain(|(_, l)| selects(wanted, l));
        if serving.is_empty() {
            let text =
                format!("subset `{subset}` of {} wants pods with {}; those of {} have {}", rule.key, shown(wanted), object.key, few(here));
            return Some(Cause::at(Layer::Endpoints, text, Some(Place::new(rule, format!("spec.subsets[{index}].labels")))));
        }
    }
    if serving.iter().any(|(pod, _)| is_ready(pod)) {
        return None;
    }
    let (pod, _) = serving.first()?;
    let text = format!("no pod of {} is ready, such as {}", object.key, pod.key);
    Some(Cause::at(Layer::Endpoints, text, Some(Place::new(pod, "status.conditions"))))
}

fn shown_labels(deployment: &KubeObject) -> String {
    shown_of(&labels(deployment.value.pointer("/spec/template/metadata/labels")))
}

/// Labels as people write them; those that controllers add say nothing.
pub(super) fn shown_of(all: &super::names::Labels) -> String {
    let own =
        |key: &str| !(key.contains("istio.io/") || key == "pod-template-hash" || key.starts_with("app.kubernetes.io/") || key == "chart");
    let shown: Vec<String> = all.iter().filter(|(k, _)| own(k)).map(|(k, v)| format!("{k}={v}")).collect();
    if shown.is_empty() { "no labels".to_owned() } else { shown.join(",") }
}

/// Why connections to the pods of a target fail (flag UF), as far as its Service shows: a target port that no container has.
pub(super) fn wrong_target_port(c: &Configured, client: &str, target: &Target<'_>) -> Option<Cause> {
    let object = c.hosts(&target.host).into_iter().find(|o| o.key.kind == "Service" && visible(o, client))?;
    let selector = object.value.pointer("/spec/selector").filter(|s| s.is_object())?;
    let port = ports(object).into_iter().find(|p| target.port.is_none_or(|number| p.number == number))?;
    let wanted = &port.target;
    let mut had = Vec::new();
    for (pod, _) in c.pods(Some(namespace(object))).filter(|(_, l)| selects(selector, l)) {
        for container in list(&pod.value, "/spec/containers").iter().filter(|c| text(c, "/name") != Some("istio-proxy")) {
            for one in list(container, "/ports") {
                if one.get("containerPort") == Some(wanted) || (wanted.is_string() && one.get("name") == Some(wanted)) {
                    return None;
                }
                had.extend(one.get("containerPort").map(Value::to_string));
            }
        }
    }
    // A container need not say what it listens on; where none does, nothing is known.
    if had.is_empty() {
        return None;
    }
    let shown = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
    let text = format!("port {} of {} leads to {shown} on its pods, whose containers have {}", port.number, object.key, few(had));
    Some(Cause::at(Layer::Endpoints, text, Some(Place::new(object, format!("spec.ports[{}].targetPort", port.index)))))
}

/// Why a sidecar cannot reach its own application on a port (flag UF of `inbound|PORT||`): a Service leads there.
pub(super) fn wrong_inbound_port(c: &Configured, workload: &crate::names::Namespaced, cluster: &str) -> Option<Cause> {
    let wanted: u16 = cluster.strip_prefix("inbound|")?.split('|').next()?.parse().ok()?;
    let labels = c.labels_of(workload)?;
    let takes = |service: &&KubeObject| {
        let selector = service.value.pointer("/spec/selector").filter(|s| s.as_object().is_some_and(|m| !m.is_empty()));
        namespace(service) == workload.namespace && selector.is_some_and(|s| selects(s, &labels))
    };
    c.all("", "Service").filter(takes).find_map(|service| {
        let port = ports(service).into_iter().find(|p| p.target.as_u64() == Some(u64::from(wanted)))?;
        let target = Target { host: service_host(service), port: Some(port.number), subset: None, by: None };
        wrong_target_port(c, &workload.namespace, &target)
    })
}

/// Why a sidecar's connection to its own application was refused, where the Service is in order: nobody listens on that port.
pub(super) fn nobody_listens(c: &Configured, workload: &crate::names::Namespaced, entry: &AccessLogEntry) -> Option<Cause> {
    let wanted: u16 = entry.cluster.strip_prefix("inbound|")?.split('|').next()?.parse().ok()?;
    // Envoy names the error of the system, or its number on Linux.
    let refused = |said: &String| {
        said.to_ascii_lowercase().replace('_', " ").contains("connection refused") || said.contains("delayed_connect_error:_111")
    };
    if ![&entry.upstream_failure, &entry.details].into_iter().any(refused) {
        return None;
    }
    let deployment = c.find("apps", "Deployment", &workload.namespace, &workload.name)?;
    let text =
        format!("nothing listens on port {wanted} at the address of the pods of {workload}: their sidecar's connection to it was refused");
    let cause = Cause::at(Layer::Endpoints, text, Some(Place::new(deployment, "spec.template.spec.containers")));
    let labels = c.labels_of(workload)?;
    let leads = c.all("", "Service").filter(|service| {
        let selector = service.value.pointer("/spec/selector").filter(|s| s.as_object().is_some_and(|m| !m.is_empty()));
        namespace(service) == workload.namespace && selector.is_some_and(|s| selects(s, &labels))
    });
    let place = |service: &KubeObject| {
        let port = ports(service).into_iter().find(|p| p.target.as_u64() == Some(u64::from(wanted)))?;
        Some(Place::new(service, format!("spec.ports[{}].targetPort", port.index)))
    };
    Some(leads.into_iter().find_map(place).into_iter().fold(cause, Cause::and))
}

/// The TLS mode that a DestinationRule sets for a target, with the rule and the field.
pub(super) fn tls_mode<'c>(c: &'c Configured, client: &str, target: &Target<'_>) -> Option<(String, &'c KubeObject, String)> {
    let home = c.hosts(&target.host).first().map_or(client, |o| namespace(o)).to_owned();
    let rules = c.rules(client, &home, &target.host);
    for rule in rules {
        let in_policy = |policy: &Value, field: &str| -> Option<(String, String)> {
            for (i, level) in list(policy, "/portLevelSettings").iter().enumerate() {
                if super::names::port(level, "/port/number") == target.port {
                    return text(level, "/tls/mode").map(|m| (m.to_owned(), format!("{field}.portLevelSettings[{i}].tls.mode")));
                }
            }
            text(policy, "/tls/mode").map(|m| (m.to_owned(), format!("{field}.tls.mode")))
        };
        let subsets = list(&rule.value, "/spec/subsets").iter().enumerate();
        let of_subset = subsets.into_iter().find(|(_, s)| text(s, "/name").map(str::to_owned) == target.subset && target.subset.is_some());
        let found = of_subset
            .and_then(|(i, s)| in_policy(s.get("trafficPolicy")?, &format!("spec.subsets[{i}].trafficPolicy")))
            .or_else(|| in_policy(rule.value.pointer("/spec/trafficPolicy")?, "spec.trafficPolicy"));
        if let Some((mode, field)) = found {
            return Some((mode, rule, field));
        }
    }
    None
}

/// Whether any host of a ServiceEntry is this one, for words about near misses.
pub(super) fn entry_hosts(object: &KubeObject) -> String {
    few(texts(&object.value, "/spec/hosts").into_iter().map(str::to_owned))
}
