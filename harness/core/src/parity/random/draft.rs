//! A configuration in the making.

use serde_json::{Value, json};

use super::probes::Call;
use crate::names::ObjectKey;
use crate::scenario::KubeObject;

/// The applications' namespace.
pub(super) const APPS: &str = "mesh-test";
/// Istio's and the gateways' namespace.
pub(super) const ROOT: &str = "istio-system";
/// httpbin's Service in full.
pub(super) const HTTPBIN: &str = "httpbin.mesh-test.svc.cluster.local";

/// What was drawn so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// In words.
    pub about: Vec<String>,
    /// What was bent.
    pub bends: Vec<&'static str>,
    /// The objects.
    pub objects: Vec<KubeObject>,
    /// The battery.
    pub calls: Vec<Call>,
}

impl Draft {
    /// Adds an Istio object.
    pub(super) fn add(&mut self, kind: &str, namespace: &str, name: &str, spec: &Value) {
        let group = if kind.ends_with("Policy") || kind == "PeerAuthentication" { "security" } else { "networking" };
        let api_version = format!("{group}.istio.io/v1");
        let value = json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let key = ObjectKey { api_version, kind: kind.to_owned(), namespace: Some(namespace.to_owned()), name: name.to_owned() };
        self.objects.push(KubeObject { key, value, line: 1 });
    }

    /// Notes a bend.
    pub(super) fn bend(&mut self, words: &'static str) {
        self.bends.push(words);
    }

    /// The objects as a manifest.
    pub(super) fn yaml(&self) -> String {
        let documents: Vec<String> = self.objects.iter().map(|o| serde_saphyr::to_string(&o.value).unwrap_or_default()).collect();
        documents.join("---\n")
    }
}
