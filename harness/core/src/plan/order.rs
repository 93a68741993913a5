//! In which order objects are applied, and references that point nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::refs::{GATEWAY_API, ISTIO, Reference, Target, provides, references};
use crate::names::{Namespaced, ObjectKey};
use crate::scenario::{Gateway, KubeObject};

/// Objects in the order of their dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waves {
    /// Indices into the objects given. What is in one wave does not depend on each other;
    /// inside a wave they are sorted by key. No wave is empty.
    pub waves: Vec<Vec<usize>>,
}

impl Waves {
    /// All indices, first to last.
    pub fn order(&self) -> impl DoubleEndedIterator<Item = usize> {
        self.waves.iter().flatten().copied()
    }
}

/// What applying before that kind would break. Istio's and the Gateway API's own kinds are ordered
/// further by their references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Namespace,
    CustomResource,
    Identity,
    Configuration,
    Service,
    Workload,
    Mesh,
    Route,
    Policy,
    Unknown,
}

fn tier(key: &ObjectKey) -> Tier {
    match (key.group(), key.kind.as_str()) {
        ("", "Namespace") => Tier::Namespace,
        ("apiextensions.k8s.io", _) => Tier::CustomResource,
        ("", "ServiceAccount") | ("rbac.authorization.k8s.io", _) => Tier::Identity,
        ("", "Service" | "Endpoints") | ("discovery.k8s.io", _) => Tier::Service,
        ("", "Pod" | "ReplicationController") | ("apps" | "batch", _) => Tier::Workload,
        ("" | "storage.k8s.io" | "scheduling.k8s.io" | "node.k8s.io", _) => Tier::Configuration,
        ("autoscaling" | "policy", _) => Tier::Policy,
        (ISTIO, "VirtualService") => Tier::Route,
        (ISTIO, "EnvoyFilter") => Tier::Policy,
        (ISTIO, _) => Tier::Mesh,
        (GATEWAY_API, "Gateway" | "GatewayClass" | "ReferenceGrant" | "ListenerSet") => Tier::Mesh,
        (GATEWAY_API, kind) if kind.ends_with("Policy") => Tier::Policy,
        (GATEWAY_API, _) => Tier::Route,
        ("security.istio.io" | "telemetry.istio.io" | "extensions.istio.io", _) => Tier::Policy,
        _ => Tier::Unknown,
    }
}

/// Waves in which the objects can be applied one after another; removal is the reverse.
/// Every object is in exactly one wave, also where references go in a circle.
#[must_use]
pub fn apply_waves(objects: &[&KubeObject]) -> Waves {
    let mut tiers: BTreeMap<Tier, Vec<usize>> = BTreeMap::new();
    for (i, object) in objects.iter().enumerate() {
        tiers.entry(tier(&object.key)).or_default().push(i);
    }
    let mut waves = Vec::new();
    for (tier, mut left) in tiers {
        left.sort_by(|a, b| objects[*a].key.cmp(&objects[*b].key).then(a.cmp(b)));
        if !matches!(tier, Tier::Mesh | Tier::Route) {
            waves.push(left);
            continue;
        }
        let refs: BTreeMap<usize, Vec<Reference>> = left.iter().map(|i| (*i, references(objects[*i]))).collect();
        while !left.is_empty() {
            let waits = |i: &usize| left.iter().any(|other| other != i && refs[i].iter().any(|r| provides(objects[*other], &r.target)));
            let (waiting, ready): (Vec<_>, Vec<_>) = left.iter().partition(|i| waits(i));
            // In a circle nobody is first: all of it goes at once.
            if ready.is_empty() {
                waves.push(waiting);
                break;
            }
            waves.push(ready);
            left = waiting;
        }
    }
    Waves { waves }
}

/// What exists beside the objects in question.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// Every gateway of the cluster, the default ones too.
    pub gateways: Vec<Gateway>,
    /// Secrets that are generated.
    pub secrets: BTreeSet<Namespaced>,
    /// Objects of the scenarios beneath.
    pub beneath: Vec<&'a KubeObject>,
}

/// References that point nowhere, each as a sentence that names object, field and target.
#[must_use]
pub fn dangling(objects: &[&KubeObject], known: &Known<'_>) -> Vec<String> {
    let all: Vec<&KubeObject> = objects.iter().chain(&known.beneath).copied().collect();
    let mut sorted = objects.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut out = Vec::new();
    for object in sorted {
        namespace(object, &all, known, &mut out);
        for reference in references(object) {
            if all.iter().any(|other| provides(other, &reference.target)) || known.provides(object, &reference.target) {
                continue;
            }
            let what = match &reference.target {
                Target::Object { kind, at, .. } => format!("{kind} {at}, which is declared nowhere"),
                Target::Host { host, subset: None } if host == "*" => continue,
                Target::Host { host, subset: None } => format!("the host {host}, which no Service and no ServiceEntry declares"),
                Target::Host { host, subset: Some(subset) } => format!("the subset {subset} of {host}, which no DestinationRule declares"),
                Target::Credential { name } => {
                    format!("the secret {name}, which is not declared in the namespace of a gateway that it selects")
                }
            };
            out.push(format!("{} refers at {} to {what}", object.key, reference.field));
        }
        selector(object, known, &mut out);
    }
    out
}

fn namespace(object: &KubeObject, all: &[&KubeObject], known: &Known<'_>, out: &mut Vec<String>) {
    let Some(namespace) = &object.key.namespace else { return };
    let declared = all.iter().any(|o| o.key.kind == "Namespace" && o.key.name == *namespace);
    let given = ["default", "kube-system", "istio-system"].contains(&namespace.as_str())
        || known.gateways.iter().any(|g| g.at.namespace == *namespace);
    if !declared && !given {
        out.push(format!("{} refers at /metadata/namespace to Namespace {namespace}, which is declared nowhere", object.key));
    }
}

/// The gateways whose pods an Istio Gateway selects.
pub(super) fn selected<'k>(gateway: &KubeObject, known: &'k Known<'_>) -> Vec<&'k Gateway> {
    let wanted = gateway.value.pointer("/spec/selector").and_then(|s| s.as_object());
    let fits = |g: &&Gateway| {
        wanted.into_iter().flatten().all(|(key, value)| {
            // Istio's chart labels the pods by the release's name; declared labels win over that.
            let chart = match key.as_str() {
                "app" => Some(g.at.name.as_str()),
                "istio" => Some(g.at.name.strip_prefix("istio-").unwrap_or(&g.at.name)),
                _ => None,
            };
            g.labels.get(key).map(String::as_str).or(chart) == value.as_str()
        })
    };
    known.gateways.iter().filter(fits).collect()
}

fn selector(object: &KubeObject, known: &Known<'_>, out: &mut Vec<String>) {
    if (object.key.group(), object.key.kind.as_str()) == (ISTIO, "Gateway") && selected(object, known).is_empty() {
        let shown = object.value.pointer("/spec/selector").map(ToString::to_string).unwrap_or_default();
        out.push(format!("{} refers at /spec/selector to {shown}, which are the labels of no gateway", object.key));
    }
}

impl Known<'_> {
    fn provides(&self, object: &KubeObject, target: &Target) -> bool {
        match target {
            Target::Host { host, subset: None } => {
                let own = ["istiod.istio-system.svc.cluster.local", "kubernetes.default.svc.cluster.local"];
                own.contains(&host.as_str())
                    || self.gateways.iter().any(|g| *host == format!("{}.{}.svc.cluster.local", g.at.name, g.at.namespace))
            }
            Target::Object { group: "", kind, at } if kind == "Secret" => self.secrets.contains(at),
            Target::Object { group: "", kind, at } if kind == "Service" => self.gateways.iter().any(|g| g.at == *at),
            Target::Credential { name } => {
                selected(object, self).iter().any(|g| self.secrets.iter().any(|s| s.name == *name && s.namespace == g.at.namespace))
            }
            _ => false,
        }
    }
}
