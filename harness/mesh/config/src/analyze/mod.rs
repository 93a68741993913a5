//! What `istioctl analyze` would say, for a documented list of its codes (Istio: `pkg/config/analysis`).
//!
//! Codes in [`ANALYSED`] are found as istioctl finds them, with its words. Of every other code nothing is said at all: an empty
//! answer does not mean that istioctl would find nothing, so [`Analysis::not_analysed`] lists them.

mod gateway;
mod mesh;
mod policy;
#[cfg(test)]
mod tests;
mod virtual_service;
mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::Snapshot;
use crate::istio::model::object;
use crate::validate::{self, Reach};

/// How bad a message is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does not work.
    Error,
    /// It may not work.
    Warning,
    /// It is worth knowing.
    Info,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// How bad it is.
    pub level: Level,
    /// `IST0101` and so on (Istio: `pkg/config/analysis/msg/messages.yaml`).
    pub code: &'static str,
    /// The kind of the object that it is about.
    pub kind: String,
    /// Its namespace; empty for an object without one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is said.
    pub text: String,
}

impl fmt::Display for Message {
    /// As istioctl prints it: `Error [IST0101] (VirtualService ns/name) Referenced host not found: "x"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{:?} [{}] ({} {}{slash}{}) {}", self.level, self.code, self.kind, self.namespace, self.name, self.text)
    }
}

/// All that was found, and what was not looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// The findings, in istioctl's order: by level, code, object and text. Each once.
    pub messages: Vec<Message>,
    /// Codes that istioctl knows and this does not look for.
    pub not_analysed: &'static [&'static str],
}

/// The codes that are looked for.
pub const ANALYSED: &[&str] = &[
    "IST0101", "IST0102", "IST0103", "IST0106", "IST0108", "IST0109", "IST0110", "IST0111", "IST0112", "IST0116", "IST0118", "IST0123",
    "IST0127", "IST0128", "IST0129", "IST0130", "IST0131", "IST0132", "IST0133", "IST0134", "IST0137", "IST0138", "IST0140", "IST0145",
    "IST0149", "IST0150", "IST0151", "IST0152", "IST0153", "IST0154", "IST0155", "IST0162", "IST0165", "IST0173", "IST0174", "IST0175",
    "IST0177",
];

/// The codes of istioctl 1.31-alpha that are not. `IST0104` and `IST0113` are no longer among istioctl's.
const NOT_ANALYSED: &[&str] = &[
    "IST0001", "IST0002", "IST0107", "IST0125", "IST0126", "IST0135", "IST0136", "IST0139", "IST0141", "IST0142", "IST0143", "IST0144",
    "IST0146", "IST0147", "IST0148", "IST0156", "IST0157", "IST0158", "IST0159", "IST0160", "IST0161", "IST0163", "IST0164", "IST0166",
    "IST0167", "IST0168", "IST0169", "IST0170", "IST0171", "IST0172", "IST0176",
];

/// Namespaces whose objects are never spoken of (Istio: `inject.IgnoredNamespaces`).
const SILENT: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Analyses all objects of a snapshot, as `istioctl analyze --all-namespaces` does.
#[must_use]
pub fn analyze(snapshot: &Snapshot) -> Analysis {
    let mut findings = Findings { objects: Objects::new(snapshot), messages: Vec::new() };
    mesh::analyze(&mut findings);
    workload::analyze(&mut findings);
    gateway::analyze(&mut findings);
    virtual_service::analyze(&mut findings);
    policy::analyze(&mut findings);
    schema(&mut findings);
    let mut messages = findings.messages;
    messages.retain(|message| {
        let namespace = if message.kind == "Namespace" { &message.name } else { &message.namespace };
        !SILENT.contains(&namespace.as_str())
    });
    messages.sort();
    messages.dedup();
    Analysis { messages, not_analysed: NOT_ANALYSED }
}

/// What istiod's webhook would say of objects that are there already.
fn schema(findings: &mut Findings) {
    let reviewed = findings.objects.kinds(validate::REVIEWED);
    for object in &reviewed {
        let problems = validate::webhook(object);
        for error in &problems.errors {
            findings.add("IST0106", Level::Error, object, format!("Schema validation error: {error}"));
        }
        let is_virtual_service = object::text(object, "/kind") == "VirtualService";
        for warning in problems.warnings.iter().filter(|warning| !(is_virtual_service && warning.starts_with("virtualService rule "))) {
            findings.add("IST0133", Level::Warning, object, format!("Schema validation warning: {warning}"));
        }
        for found in validate::reach(object).into_iter().filter(|_| is_virtual_service) {
            match found {
                Reach::Unreachable { rule, reason } => {
                    findings.add("IST0130", Level::Warning, object, format!("VirtualService rule {rule} not used ({reason})."));
                }
                Reach::Ineffective { rule, part, other } => {
                    let why = format!("is not used (duplicate/overlapping match in rule {other}).");
                    findings.add("IST0131", Level::Info, object, format!("VirtualService rule {rule} match {part} {why}"));
                }
            }
        }
    }
}

/// The objects by kind, each kind by namespace and name.
struct Objects {
    by_kind: BTreeMap<String, Vec<Arc<Value>>>,
    root_namespace: String,
    domain: String,
}

impl Objects {
    fn new(snapshot: &Snapshot) -> Objects {
        let mut by_kind: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
        for object in &snapshot.objects {
            let kind = object::text(object, "/kind");
            let key = match object::text(object, "/apiVersion").split_once('/') {
                Some((group @ "gateway.networking.k8s.io", _)) => format!("{kind}.{group}"),
                _ => kind.to_owned(),
            };
            by_kind.entry(key).or_default().push(Arc::clone(object));
        }
        for list in by_kind.values_mut() {
            list.sort_by_key(|object| full_name(object));
        }
        Objects { by_kind, root_namespace: snapshot.root_namespace.clone(), domain: snapshot.domain.clone() }
    }

    /// Objects of a kind; those of Gateway API are asked for as `KIND.gateway.networking.k8s.io`.
    fn of(&self, kind: &str) -> Vec<Arc<Value>> {
        self.by_kind.get(kind).cloned().unwrap_or_default()
    }

    fn kinds(&self, kinds: &[&str]) -> Vec<Arc<Value>> {
        kinds.iter().flat_map(|kind| self.of(kind)).collect()
    }

    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.by_kind.get(kind)?.iter().find(|object| object::namespace(object) == namespace && object::name(object) == name)
    }

    /// A host as it is meant in a namespace: a name without a dot is a Service there.
    fn full_host(&self, namespace: &str, host: &str) -> String {
        if host.starts_with('*') || host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}.svc.{}", self.domain) }
    }

    /// Whether a workload is or will be in the mesh: it has a proxy, or its labels, annotations or namespace ask for one.
    fn in_mesh(&self, namespace: &str, metadata: &Value, spec: &Value) -> bool {
        if containers(spec)
            .any(|container| object::text(container, "/name") == "istio-proxy" && !object::text(container, "/image").is_empty())
        {
            return true;
        }
        for place in ["labels", "annotations"] {
            if let Some(value) = metadata.get(place).and_then(|map| map.get("sidecar.istio.io/inject")).and_then(Value::as_str) {
                return value == "true";
            }
        }
        let own = self.find("Namespace", "", namespace);
        own.is_some_and(|own| object::labels(own).get("istio-injection").map(String::as_str) == Some("enabled"))
    }

    /// Pods whose labels a selector takes, in any namespace.
    fn pods_with(&self, selector: &BTreeMap<String, String>) -> Vec<Arc<Value>> {
        self.of("Pod").into_iter().filter(|pod| object::selects(selector, &object::labels(pod))).collect()
    }
}

/// All containers of a pod's specification.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["/containers", "/initContainers"].into_iter().flat_map(|at| object::list(spec, at))
}

/// `NAMESPACE/NAME`, or the name alone.
fn full_name(object: &Value) -> String {
    match object::namespace(object) {
        "" => object::name(object).to_owned(),
        namespace => format!("{namespace}/{}", object::name(object)),
    }
}

/// Labels at a JSON pointer.
fn labels_at(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    value.pointer(pointer).map(object::text_map).unwrap_or_default()
}

/// A selector as Kubernetes writes it: `a=b,c=d`.
fn selector_text(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// A list as Go prints it: `[a b]`.
fn go_list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.as_ref().to_owned()).collect();
    format!("[{}]", items.join(" "))
}

struct Findings {
    objects: Objects,
    messages: Vec<Message>,
}

impl Findings {
    fn add(&mut self, code: &'static str, level: Level, about: &Value, text: String) {
        // `galley.istio.io/analyze-suppress`: codes that the object's owner does not want to hear of, or `*` for all.
        let suppressed =
            about.pointer("/metadata/annotations/galley.istio.io~1analyze-suppress").and_then(Value::as_str).unwrap_or_default();
        if suppressed.split(',').map(str::trim).any(|s| s == "*" || s == code) {
            return;
        }
        self.messages.push(Message {
            level,
            code,
            kind: object::text(about, "/kind").to_owned(),
            namespace: object::namespace(about).to_owned(),
            name: object::name(about).to_owned(),
            text,
        });
    }

    /// `IST0101`.
    fn not_found(&mut self, about: &Value, what: &str, which: &str) {
        self.add("IST0101", Level::Error, about, format!("Referenced {what} not found: {which:?}"));
    }
}
