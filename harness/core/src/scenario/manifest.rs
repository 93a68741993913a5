//! Manifest files → Kubernetes objects, with every mistake and its place.

use super::diagnose::{Mistake, Source};
use super::expand::Given;
use super::made::Made;
use super::reader::Reader;
use super::types::{KubeObject, Manifest};
use super::yaml::{self, Kind, Node};
use crate::names::ObjectKey;

/// Kinds of Kubernetes, Istio and Gateway API that belong to no namespace.
const CLUSTER_SCOPED: &[&str] = &[
    "APIService",
    "CSIDriver",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// API groups whose other kinds all belong to a namespace.
const NAMESPACED_GROUPS: &[&str] = &[
    "",
    "apps",
    "autoscaling",
    "batch",
    "discovery.k8s.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
    "networking.istio.io",
    "policy",
    "rbac.authorization.k8s.io",
    "security.istio.io",
    "telemetry.istio.io",
];

/// A manifest as read, with the place of each object for later complaints.
pub(super) struct ReadManifest {
    pub(super) manifest: Manifest,
    pub(super) places: Vec<std::ops::Range<usize>>,
    pub(super) source: Source,
    pub(super) mistakes: Vec<Mistake>,
}

/// Reads one file, with the scenario's values put in.
pub(super) fn read(file: &str, source: Source, given: &mut Given) -> ReadManifest {
    let (mut documents, error) = yaml::parse(&source.text);
    let mut reader = Reader { source: source.clone(), mistakes: Vec::new() };
    let mut found = Vec::new();
    documents.iter_mut().for_each(|document| given.put_into(document, &mut reader));
    for document in documents.iter().filter(|d| !d.is_null()) {
        walk(&mut reader, document);
        object(&mut reader, document, &mut found);
    }
    if let Some(error) = error {
        reader.wrong(error.at..error.at + 1, format!("not YAML: {}", error.message));
    } else if found.is_empty() && reader.mistakes.is_empty() {
        reader.mistakes.push(Mistake::of_file(&*source.file, "the manifest holds no object", None));
    }
    let (objects, places): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let manifest = Manifest { file: file.to_owned(), text: source.text.to_string(), objects };
    ReadManifest { manifest, places, source, mistakes: reader.mistakes }
}

/// Keys given twice or not text, merge keys, and words on which YAML readers disagree.
fn walk(reader: &mut Reader, node: &Node) {
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| walk(reader, item)),
        Kind::Map(pairs) => {
            let mut seen = std::collections::HashSet::new();
            for (key, value) in pairs {
                match key.scalar() {
                    None => reader.wrong(key.point(), "a key that is not text"),
                    Some("<<") => reader.wrong_help(key.point(), "merge keys are not supported", "write the fields out"),
                    Some(name) if !seen.insert(name) => reader.wrong(key.point(), format!("`{name}` is given twice")),
                    Some(_) => {}
                }
                walk(reader, value);
            }
        }
        Kind::Scalar { text, plain: true } => {
            let word = text.to_ascii_lowercase();
            if matches!(word.as_str(), "y" | "n" | "yes" | "no" | "on" | "off") {
                let help = "kubectl reads it as true or false, YAML 1.2 as text: quote it, or write `true` or `false`";
                reader.wrong_help(node.point(), format!("`{text}` is ambiguous"), help);
            }
        }
        Kind::Scalar { .. } => {}
    }
}

fn object(reader: &mut Reader, node: &Node, found: &mut Vec<(KubeObject, std::ops::Range<usize>)>) {
    let Kind::Map(_) = &node.kind else {
        reader.wrong_help(
            node.point(),
            format!("{} is no Kubernetes object", node.called()),
            "expected a map with apiVersion, kind and metadata",
        );
        return;
    };
    let before = reader.mistakes.len();
    let mut text = |parent: Option<&Node>, key: &str, shown: &str| match parent.and_then(|p| p.get(key)) {
        Some(value) if value.to_json().as_str().is_some_and(|s| !s.is_empty()) => value.scalar().map(str::to_owned),
        Some(value) => {
            reader.wrong_help(value.point(), format!("`{shown}` cannot be {}", value.called()), "expected text");
            None
        }
        None => {
            reader.wrong_help(node.point(), format!("not a Kubernetes object: `{shown}` is missing"), format!("add `{shown}`"));
            None
        }
    };
    let api_version = text(Some(node), "apiVersion", "apiVersion");
    let kind = text(Some(node), "kind", "kind");
    if let (Some(kind), Some(Node { kind: Kind::List(items), .. })) = (&kind, node.get("items"))
        && kind.ends_with("List")
    {
        for item in items {
            object(reader, item, found);
        }
        return;
    }
    let metadata = node.get("metadata");
    let name = text(metadata, "name", "metadata.name");
    let namespace = match metadata.and_then(|m| m.get("namespace")) {
        Some(_) => text(metadata, "namespace", "metadata.namespace"),
        None => None,
    };
    let (Some(api_version), Some(kind), Some(name)) = (api_version, kind, name) else { return };
    let key = ObjectKey { api_version, kind, namespace, name };
    let at = node.get("kind").unwrap_or(node).point();
    let cluster_scoped = CLUSTER_SCOPED.contains(&key.kind.as_str());
    if cluster_scoped && key.namespace.is_some() {
        reader.wrong_help(at.clone(), format!("a {} belongs to no namespace", key.kind), "take `metadata.namespace` away");
    } else if !cluster_scoped && key.namespace.is_none() && NAMESPACED_GROUPS.contains(&key.group()) {
        reader.wrong_help(at.clone(), format!("{key} does not say its namespace"), "add `metadata.namespace`");
    }
    let is_made = |data: &str, key: &Node| data == "stringData" && key.scalar().and_then(Made::parse).is_some();
    let kept = |data: &str| node.get(data).and_then(|d| d.get("tls.key")).is_some_and(|key| !is_made(data, key));
    if key.kind == "Secret" && ["data", "stringData"].into_iter().any(kept) {
        reader.wrong_help(
            at.clone(),
            "a private key is kept in a manifest",
            "declare the secret under `certificates`; it is generated for each run, and `$(key:NAMESPACE/NAME)` takes its key",
        );
    }
    if reader.mistakes.len() == before {
        let line = 1 + reader.source.text[..node.point().start.min(reader.source.text.len())].matches('\n').count();
        found.push((KubeObject { key, value: node.to_json(), line }, at));
    }
}
