//! Scenarios in the words of a cluster that was there before them. Pure.
//!
//! Scenarios name gateways as gateproof's own clusters have them. On another cluster these are values: a gateway's
//! Deployment, Service, namespace and labels, the root namespace, the revision. Everything that names one of them is
//! rewritten, in manifests, variations, probes and expectations alike:
//!
//! - a selector that selects one of our gateways selects the cluster's;
//! - `NAME.NAMESPACE.svc…` of our gateway becomes its Service's name, in whatever text it stands;
//! - what stands in our gateway's namespace (its secrets, its policies, `exportTo`) follows it into its own;
//! - a Namespace that holds a gateway is the cluster's, so it is not among the objects to apply.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::cluster_values::ClusterValues;
use super::load::{Catalogue, default_gateways};
use super::types::*;
use crate::expression::CelExpression;
use crate::names::{HostName, Namespaced, ObjectKey};

const SYSTEM: &str = "istio-system";
const ISTIO_KINDS_WITH_SELECTOR: [&str; 2] = ["/spec/selector/matchLabels", "/spec/workloadSelector/labels"];

/// The same scenarios for a cluster with these values. Every scenario's `gateways` then lists all that it uses, those of
/// the cluster included; `NodePort` marks one that it calls from outside.
#[must_use]
pub fn remap(catalogue: &Catalogue, values: &ClusterValues) -> Catalogue {
    let words = Words::of(catalogue, values);
    let scenarios = catalogue.scenarios.iter().map(|s| words.scenario(s)).collect();
    Catalogue {
        scenarios,
        broken: catalogue.broken.clone(),
        root_mistakes: catalogue.root_mistakes.clone(),
        ending: catalogue.ending.clone(),
    }
}

/// One gateway: ours, and what it is in the cluster.
struct Move {
    ours: Namespaced,
    our_labels: BTreeMap<String, String>,
    at: Namespaced,
    service: Namespaced,
    /// None where the labels are ours.
    labels: Option<BTreeMap<String, String>>,
    declared: BTreeMap<String, String>,
    from_outside: bool,
}

struct Words<'v> {
    values: &'v ClusterValues,
    moves: Vec<Move>,
    /// Objects whose namespace changes, with the new one.
    moved: BTreeMap<ObjectKey, String>,
    secrets: BTreeMap<Namespaced, Namespaced>,
}

impl<'v> Words<'v> {
    fn of(catalogue: &Catalogue, values: &'v ClusterValues) -> Self {
        let called: BTreeSet<Namespaced> = catalogue.scenarios.iter().flat_map(called_from_outside).collect();
        let mut known: BTreeMap<Namespaced, Gateway> = default_gateways().into_iter().map(|g| (g.at.clone(), g)).collect();
        known.extend(catalogue.scenarios.iter().flat_map(|s| &s.gateways).map(|g| (g.at.clone(), g.clone())));
        let moves = known
            .into_values()
            .map(|gateway| {
                let theirs = values.gateways.get(&gateway.at);
                // Istio's chart labels the pods by the release's name; declared labels win over that.
                let short = gateway.at.name.strip_prefix("istio-").unwrap_or(&gateway.at.name);
                let mut our_labels = BTreeMap::from([("app".to_owned(), gateway.at.name.clone()), ("istio".to_owned(), short.to_owned())]);
                our_labels.extend(gateway.labels.clone());
                let mut declared = gateway.labels.clone();
                // A selector names one of the two; a cluster need not have the other.
                if gateway.at.namespace == SYSTEM {
                    declared.remove("app");
                }
                Move {
                    from_outside: called.contains(&gateway.at),
                    at: theirs.map_or_else(|| gateway.at.clone(), |t| t.at.clone()),
                    service: theirs.map_or_else(|| gateway.at.clone(), |t| t.service.clone()),
                    labels: theirs.and_then(|t| t.labels.clone()),
                    declared,
                    our_labels,
                    ours: gateway.at,
                }
            })
            .collect();
        let mut words = Self { values, moves, moved: BTreeMap::new(), secrets: BTreeMap::new() };
        let objects = || catalogue.scenarios.iter().flat_map(|s| s.manifests.iter().chain(&s.extra_manifests)).flat_map(|m| &m.objects);
        words.moved = objects().filter_map(|o| Some((o.key.clone(), words.new_home(o)?))).collect();
        for secret in catalogue.scenarios.iter().flat_map(|s| &s.certificates).map(|c| &c.secret) {
            let user = objects().filter(|o| o.key.kind == "Gateway" && names_credential(&o.value, &secret.name)).find_map(|o| {
                let selector = o.value.pointer("/spec/selector")?.as_object()?;
                words.selected(selector).find(|m| m.ours.namespace == secret.namespace).map(|m| m.at.namespace.clone())
            });
            if let Some(namespace) = user.or_else(|| words.homes(&secret.namespace).into_iter().next()) {
                words.secrets.insert(secret.clone(), Namespaced { namespace, name: secret.name.clone() });
            }
        }
        words
    }

    /// Where the gateways of one of our namespaces are; empty when none of ours is there.
    fn homes(&self, namespace: &str) -> Vec<String> {
        let mut homes: Vec<String> = Vec::new();
        for gateway in self.moves.iter().filter(|m| m.ours.namespace == namespace) {
            if !homes.contains(&gateway.at.namespace) {
                homes.push(gateway.at.namespace.clone());
            }
        }
        homes
    }

    fn selected<'s>(&'s self, selector: &'s Map<String, Value>) -> impl Iterator<Item = &'s Move> {
        let fits = |m: &&Move| !selector.is_empty() && selector.iter().all(|(k, v)| m.our_labels.get(k).map(String::as_str) == v.as_str());
        self.moves.iter().filter(fits)
    }

    /// The namespace that an object follows its gateway into; None where it stays.
    fn new_home(&self, object: &KubeObject) -> Option<String> {
        let namespace = object.key.namespace.as_ref()?;
        let homes = self.homes(namespace);
        let first = homes.first()?;
        let places = ISTIO_KINDS_WITH_SELECTOR.iter().copied().chain((object.key.kind == "Gateway").then_some("/spec/selector"));
        let selector = places.into_iter().find_map(|place| object.value.pointer(place)?.as_object());
        let follows = selector.and_then(|s| self.selected(s).find(|m| m.ours.namespace == *namespace)).map(|m| &m.at.namespace);
        let new = match follows {
            Some(home) => home,
            // Without a selector in the root namespace it holds for the whole mesh.
            None if namespace == SYSTEM => &self.values.root_namespace,
            None => first,
        };
        (new != namespace).then(|| new.clone())
    }

    fn key(&self, key: &ObjectKey) -> ObjectKey {
        let namespace = self.moved.get(key).cloned().or_else(|| key.namespace.clone());
        ObjectKey { namespace, ..key.clone() }
    }

    /// A Namespace that the cluster has because a gateway stands in it.
    fn is_the_clusters(&self, key: &ObjectKey) -> bool {
        key.kind == "Namespace" && (self.moves.iter().any(|m| m.ours.namespace == key.name || m.at.namespace == key.name))
    }

    fn workload(&self, workload: &Namespaced) -> Namespaced {
        if let Some(gateway) = self.moves.iter().find(|m| m.ours == *workload) {
            return gateway.at.clone();
        }
        if (workload.namespace.as_str(), workload.name.as_str()) == (SYSTEM, "istiod") {
            return self.values.istiod.clone();
        }
        let moved = self
            .moved
            .iter()
            .find(|(k, _)| k.kind == "Deployment" && k.name == workload.name && k.namespace.as_deref() == Some(&workload.namespace));
        moved.map_or_else(|| workload.clone(), |(_, home)| Namespaced { namespace: home.clone(), name: workload.name.clone() })
    }

    fn secret(&self, secret: &Namespaced) -> Namespaced {
        self.secrets.get(secret).unwrap_or(secret).clone()
    }

    /// A text with every host of ours replaced.
    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for gateway in self.moves.iter().filter(|m| m.ours != m.service) {
            text = replace_host(&text, &gateway.ours, &gateway.service);
        }
        text
    }

    fn value(&self, value: &Value, key: &str) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) if key == "exportTo" => {
                let mut out: Vec<Value> = Vec::new();
                for item in items {
                    let homes = self.homes(item.as_str().unwrap_or_default());
                    let all = if homes.is_empty() { vec![item.clone()] } else { homes.into_iter().map(Value::String).collect() };
                    out.extend(all.into_iter().filter(|v| !out.contains(v)).collect::<Vec<_>>());
                }
                Value::Array(out)
            }
            Value::Array(items) if key == "gateways" => Value::Array(items.iter().map(|v| self.gateway_reference(v)).collect()),
            Value::Array(items) => Value::Array(items.iter().map(|v| self.value(v, key)).collect()),
            Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (self.text(k), self.value(v, k))).collect()),
            other => other.clone(),
        }
    }

    /// `NAMESPACE/NAME` of an Istio Gateway that moved.
    fn gateway_reference(&self, reference: &Value) -> Value {
        let Some((namespace, name)) = reference.as_str().and_then(|r| r.split_once('/')) else { return self.value(reference, "") };
        let moved = self.moved.iter().find(|(k, _)| k.kind == "Gateway" && k.name == name && k.namespace.as_deref() == Some(namespace));
        moved.map_or_else(|| reference.clone(), |(_, home)| Value::String(format!("{home}/{name}")))
    }

    fn object(&self, object: &KubeObject) -> KubeObject {
        let key = self.key(&object.key);
        let mut value = self.value(&object.value, "");
        if key.namespace != object.key.namespace {
            value["metadata"]["namespace"] = key.namespace.clone().into();
        }
        // A selector of workloads means our gateway only in the gateway's own namespace.
        let places = ISTIO_KINDS_WITH_SELECTOR.iter().copied().filter(|_| object.key.group().ends_with(".istio.io"));
        for place in places.chain((object.key.kind == "Gateway").then_some("/spec/selector")) {
            let Some(selector) = object.value.pointer(place).and_then(Value::as_object) else { continue };
            let here = |m: &&Move| place == "/spec/selector" || object.key.namespace.as_deref() == Some(&m.ours.namespace);
            if let Some(labels) = self.selected(selector).find(here).and_then(|m| m.labels.as_ref())
                && let Some(slot) = value.pointer_mut(place)
            {
                *slot = labels.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect::<Map<_, _>>().into();
            }
        }
        if let Some(revision) = &self.values.revision {
            use_revision(&mut value, revision);
        }
        KubeObject { key, value, line: object.line }
    }

    fn manifest(&self, manifest: &Manifest) -> Manifest {
        let objects = manifest.objects.iter().filter(|o| !self.is_the_clusters(&o.key)).map(|o| self.object(o)).collect();
        Manifest { file: manifest.file.clone(), text: manifest.text.clone(), objects }
    }

    fn change(&self, change: &Change) -> Option<Change> {
        Some(match change {
            Change::WithoutObject { key } if !self.is_the_clusters(key) => Change::WithoutObject { key: self.key(key) },
            Change::Patch { key, edits } if !self.is_the_clusters(key) => {
                let edit = |edit: &Edit| match edit {
                    Edit::Set { pointer, value } => {
                        if let Some(mapped) = self.selector_edit(key, pointer, value) {
                            return mapped;
                        }
                        let last = pointer.rsplit('/').find(|part| *part != "-" && part.parse::<usize>().is_err()).unwrap_or_default();
                        let held = Value::Array(vec![value.clone()]);
                        // An item put into `exportTo` or `gateways` is read like the whole list.
                        let value = match (last, value) {
                            ("exportTo" | "gateways", Value::String(_)) => self.value(&held, last)[0].clone(),
                            _ => self.value(value, last),
                        };
                        Edit::Set { pointer: pointer.clone(), value }
                    }
                    remove => remove.clone(),
                };
                Change::Patch { key: self.key(key), edits: edits.iter().map(edit).collect() }
            }
            Change::WithoutObject { .. } | Change::Patch { .. } => return None,
            Change::Scale { workload, replicas } => Change::Scale { workload: self.workload(workload), replicas: *replicas },
            other => other.clone(),
        })
    }

    /// An edit that lets an object select another gateway of ours, or the same by another label. The cluster's gateway may
    /// have labels of other names, so that the whole selector is set.
    fn selector_edit(&self, key: &ObjectKey, pointer: &str, value: &Value) -> Option<Edit> {
        let istio = ISTIO_KINDS_WITH_SELECTOR.iter().copied().filter(|_| key.group().ends_with(".istio.io"));
        let mut places = istio.chain((key.kind == "Gateway").then_some("/spec/selector"));
        let (place, selector) = places.find_map(|place| match pointer.strip_prefix(place)? {
            "" => Some((place, value.as_object()?.clone())),
            label => Some((place, Map::from_iter([(label.strip_prefix('/')?.replace("~1", "/").replace("~0", "~"), value.clone())]))),
        })?;
        let here = |m: &&Move| place == "/spec/selector" || key.namespace.as_deref() == Some(&m.ours.namespace);
        let labels = self.selected(&selector).find(here)?.labels.as_ref()?;
        let value = labels.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect::<Map<_, _>>().into();
        Some(Edit::Set { pointer: place.to_owned(), value })
    }

    fn host(&self, host: &HostName) -> HostName {
        HostName::new(self.text(host.as_str())).unwrap_or_else(|_| host.clone())
    }

    fn probe(&self, probe: &Probe) -> Probe {
        match probe.clone() {
            Probe::Exec(p) => Probe::Exec(ExecProbe {
                workload: self.workload(&p.workload),
                command: p.command.iter().map(|word| self.text(word)).collect(),
                ..p
            }),
            Probe::Http(p) => Probe::Http(HttpProbe {
                from: match &p.from {
                    Caller::Outside => Caller::Outside,
                    Caller::Workload(workload) => Caller::Workload(self.workload(workload)),
                },
                gateway: p.gateway.as_ref().map(|g| self.workload(g)),
                host: self.host(&p.host),
                sni: p.sni.as_ref().map(|s| self.host(s)),
                client_certificate: p.client_certificate.as_ref().map(|s| self.secret(s)),
                ..p
            }),
            Probe::Logs(p) => Probe::Logs(LogsProbe { workload: self.workload(&p.workload), ..p }),
            Probe::ProxyConfig(p) => {
                Probe::ProxyConfig(ProxyConfigProbe { workload: self.workload(&p.workload), name: self.text(&p.name), ..p })
            }
            Probe::Analyze { namespaces } => {
                let mut all: Vec<String> = Vec::new();
                for namespace in namespaces {
                    let homes = self.homes(&namespace);
                    all.extend(if homes.is_empty() { vec![namespace] } else { homes });
                }
                all.dedup();
                Probe::Analyze { namespaces: all }
            }
            Probe::Pods { workloads } => Probe::Pods { workloads: workloads.iter().map(|w| self.workload(w)).collect() },
            same @ (Probe::ProxyStatus | Probe::Versions | Probe::Object(_)) => same,
        }
    }

    fn text_match(&self, wanted: &TextMatch) -> TextMatch {
        match wanted {
            TextMatch::Equals(text) => TextMatch::Equals(self.text(text)),
            TextMatch::Contains(text) => TextMatch::Contains(self.text(text)),
            TextMatch::Matches(text) => TextMatch::Matches(self.text(text)),
        }
    }

    fn expectation(&self, expect: &Expectation) -> Expectation {
        match expect {
            Expectation::Call(call) => {
                let mut call = call.clone();
                for wanted in [&mut call.stdout, &mut call.stderr, &mut call.body].into_iter().flatten() {
                    *wanted = self.text_match(wanted);
                }
                if let Some(CertificateExpect::Secret(secret)) = &mut call.certificate {
                    *secret = self.secret(secret);
                }
                for hop in &mut call.path {
                    hop.proxy = self.workload(&hop.proxy);
                    hop.cluster = hop.cluster.as_ref().map(|c| self.text(c));
                }
                call.absent_from = call.absent_from.iter().map(|w| self.workload(w)).collect();
                Expectation::Call(call)
            }
            Expectation::Logs(logs) => Expectation::Logs(LogsExpect {
                contains: logs.contains.iter().map(|t| self.text_match(t)).collect(),
                lacks: logs.lacks.iter().map(|t| self.text_match(t)).collect(),
            }),
            Expectation::Config(ConfigExpect::Present { contains, lacks, cel }) => {
                let all = |values: &[Value]| values.iter().map(|v| self.value(v, "")).collect();
                // Another name in a literal leaves an expression an expression.
                let renamed = |c: &CelExpression| CelExpression::parse(&self.text(c.source())).unwrap_or_else(|_| c.clone());
                Expectation::Config(ConfigExpect::Present {
                    contains: all(contains),
                    lacks: all(lacks),
                    cel: cel.iter().map(renamed).collect(),
                })
            }
            Expectation::InSync { workloads } => Expectation::InSync { workloads: workloads.iter().map(|w| self.workload(w)).collect() },
            other => other.clone(),
        }
    }

    /// The gateways that a scenario brings, calls, watches, selects or sends to.
    fn used(&self, scenario: &Scenario) -> Vec<Gateway> {
        let named: BTreeSet<Namespaced> = scenario.checks.iter().flat_map(Check::workloads).collect();
        let objects: Vec<&KubeObject> = scenario.manifests.iter().chain(&scenario.extra_manifests).flat_map(|m| &m.objects).collect();
        let texts: Vec<String> = objects.iter().map(|o| o.value.to_string()).collect();
        let uses = |m: &&Move| {
            let selects = |o: &&KubeObject| {
                let selector = o.value.pointer("/spec/selector").and_then(Value::as_object);
                o.key.kind == "Gateway" && selector.is_some_and(|s| self.selected(s).any(|g| g.ours == m.ours))
            };
            named.contains(&m.ours)
                || scenario.gateways.iter().any(|g| g.at == m.ours)
                || objects.iter().any(selects)
                || texts.iter().any(|t| replace_host(t, &m.ours, &Namespaced { namespace: "x".into(), name: "x".into() }) != *t)
        };
        let service = |m: &Move| if m.from_outside { GatewayService::NodePort { http: 80, https: 443 } } else { GatewayService::ClusterIp };
        let gateway =
            |m: &Move| Gateway { at: m.at.clone(), labels: m.labels.clone().unwrap_or_else(|| m.declared.clone()), service: service(m) };
        self.moves.iter().filter(uses).map(gateway).collect()
    }

    fn scenario(&self, scenario: &Scenario) -> Scenario {
        let mut out = scenario.clone();
        out.gateways = self.used(scenario);
        out.manifests = scenario.manifests.iter().map(|m| self.manifest(m)).collect();
        out.extra_manifests = scenario.extra_manifests.iter().map(|m| self.manifest(m)).collect();
        for certificate in &mut out.certificates {
            certificate.secret = self.secret(&certificate.secret);
        }
        for variation in &mut out.variations {
            variation.changes = variation.changes.iter().filter_map(|c| self.change(c)).collect();
        }
        for check in &mut out.checks {
            check.probe = self.probe(&check.probe);
            check.expect = self.expectation(&check.expect);
        }
        out
    }
}

fn called_from_outside(scenario: &Scenario) -> Vec<Namespaced> {
    let gateway = |check: &Check| match &check.probe {
        Probe::Http(probe) if probe.from == Caller::Outside => probe.gateway.clone(),
        _ => None,
    };
    scenario.checks.iter().filter_map(gateway).collect()
}

fn names_credential(gateway: &Value, secret: &str) -> bool {
    let servers = gateway.pointer("/spec/servers").and_then(Value::as_array);
    servers.into_iter().flatten().any(|s| s.pointer("/tls/credentialName").and_then(Value::as_str) == Some(secret))
}

/// Injection by revision: on namespaces that ask for it, and on pods that ask for it themselves.
fn use_revision(value: &mut Value, revision: &str) {
    let asks = |labels: &Map<String, Value>, key: &str, word: &str| labels.get(key).and_then(Value::as_str) == Some(word);
    if value["kind"] == "Namespace"
        && let Some(labels) = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut)
        && asks(labels, "istio-injection", "enabled")
    {
        labels.remove("istio-injection");
        labels.insert("istio.io/rev".to_owned(), revision.into());
    }
    if let Some(labels) = value.pointer_mut("/spec/template/metadata/labels").and_then(Value::as_object_mut)
        && asks(labels, "sidecar.istio.io/inject", "true")
    {
        labels.insert("istio.io/rev".to_owned(), revision.into());
    }
}

/// Replaces `NAME.NAMESPACE.svc`, where it stands as whole labels.
fn replace_host(text: &str, ours: &Namespaced, theirs: &Namespaced) -> String {
    let from = format!("{}.{}.svc", ours.name, ours.namespace);
    let part = |b: Option<char>| b.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let inside = part(out.chars().chain(before.chars()).next_back());
        let longer = after.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
        out.push_str(before);
        if inside || longer {
            out.push_str(&from);
        } else {
            out.push_str(&format!("{}.{}.svc", theirs.name, theirs.namespace));
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
#[path = "remap_tests.rs"]
mod tests;
