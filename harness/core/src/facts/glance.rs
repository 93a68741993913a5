//! Pods, Deployments and EndpointSlices at a glance: what most questions need of them. Managed fields make up most of an object's
//! text, and reading all of it for a name, over and over, takes longer than asking.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodGlance {
    /// Who it is.
    pub metadata: Meta,
    /// What runs in it.
    pub spec: Spec,
    /// How it is.
    pub status: Status,
}

/// See [`PodGlance::metadata`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    labels: BTreeMap<String, String>,
    deletion_timestamp: Option<IgnoredAny>,
}

/// See [`PodGlance::spec`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    containers: Vec<Named>,
    init_containers: Option<Vec<Named>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

/// See [`PodGlance::status`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl PodGlance {
    /// Reads a list of pods as the API answers it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(answer: &str) -> Result<Vec<Self>, serde_json::Error> {
        list(answer)
    }

    /// Whether it bears all these labels.
    #[must_use]
    pub fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.metadata.labels.get(key) == Some(value))
    }

    /// Whether it is going away.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().flatten().any(|c| c.kind == "Ready" && c.status == "True")
    }

    /// Its containers, those that run from beginning to end.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.spec.containers.iter().map(|c| c.name.as_str())
    }

    /// Those, and the init containers, which native sidecars are among.
    pub fn all_containers(&self) -> impl Iterator<Item = &str> {
        self.spec.containers.iter().chain(self.spec.init_containers.iter().flatten()).map(|c| c.name.as_str())
    }
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SliceGlance {
    /// Whose it is.
    pub metadata: SliceMeta,
    endpoints: Option<Vec<EndpointGlance>>,
}

/// See [`SliceGlance::metadata`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SliceMeta {
    /// Its namespace.
    pub namespace: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct EndpointGlance {
    addresses: Vec<String>,
    conditions: Option<EndpointConditions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct EndpointConditions {
    ready: Option<bool>,
}

impl SliceGlance {
    /// Reads a list of EndpointSlices as the API answers it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(answer: &str) -> Result<Vec<Self>, serde_json::Error> {
        list(answer)
    }

    /// The Service that it is of.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get("kubernetes.io/service-name").map(String::as_str)
    }

    /// The addresses that are ready. What is not said to be unready counts as such (`discovery.k8s.io/v1`, `EndpointConditions`).
    pub fn ready(&self) -> impl Iterator<Item = &String> {
        let ready = |endpoint: &&EndpointGlance| endpoint.conditions.as_ref().is_none_or(|c| c.ready != Some(false));
        self.endpoints.iter().flatten().filter(ready).flat_map(|endpoint| &endpoint.addresses)
    }
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

fn list<T: DeserializeOwned>(answer: &str) -> Result<Vec<T>, serde_json::Error> {
    serde_json::from_str::<List<T>>(answer).map(|list| list.items)
}

/// As much of a Deployment as tells its pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DeploymentGlance {
    /// Which one it is.
    pub metadata: Meta,
    spec: DeploymentSpec,
}

impl DeploymentGlance {
    /// Reads a list of Deployments as the API answers it.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(answer: &str) -> Result<Vec<Self>, serde_json::Error> {
        list(answer)
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(answer: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(answer)
    }

    /// The labels that it selects its pods by.
    #[must_use]
    pub fn selects(self) -> BTreeMap<String, String> {
        self.spec.selector.match_labels.unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    selector: Selector,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> PodGlance {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_that_says_little_is_neither_ready_nor_leaving() {
        let bare = pod(json!({"metadata": {"name": "a"}}));
        assert_eq!((bare.metadata.name.as_str(), bare.is_ready(), bare.is_leaving()), ("a", false, false));
        assert_eq!(bare.all_containers().count(), 0);
    }

    #[test]
    fn an_endpoint_is_ready_unless_it_is_said_not_to_be() {
        let slice: SliceGlance = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": true}}]}))
        .unwrap();
        assert_eq!(slice.service(), Some("web"));
        assert_eq!(slice.ready().collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.3"]);
    }

    #[test]
    fn what_is_asked_of_pods_is_read_beside_what_is_not() {
        let full = pod(json!({
            "metadata": {"name": "a", "namespace": "n", "deletionTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"fieldsV1": {}}]},
            "spec": {"containers": [{"name": "c", "image": "x"}], "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}}));
        assert!(full.is_ready() && full.is_leaving());
        assert_eq!(full.containers().collect::<Vec<_>>(), ["c"]);
        assert_eq!(full.all_containers().collect::<Vec<_>>(), ["c", "istio-proxy"]);
    }
}
