//! Pods at a glance: what most questions need of them. Managed fields make up most of a pod's text, and reading all of it for its
//! name, over and over, takes longer than asking.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use gateproof_core::names::Namespaced;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Api, Client, Error};
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

/// As much of a Deployment as tells its pods.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DeploymentGlance {
    metadata: Meta,
    spec: DeploymentSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    selector: Selector,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: Option<BTreeMap<String, String>>,
}

async fn ask<T: DeserializeOwned>(
    client: &Client,
    request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<T, Error> {
    client.request(request.map_err(Error::BuildRequest)?).await
}

/// Lists pods as `api` would.
///
/// # Errors
/// When the API refuses.
pub(crate) async fn pods(client: &Client, api: &Api<Pod>, parameters: &ListParams) -> Result<Vec<PodGlance>, Error> {
    ask::<List<PodGlance>>(client, Request::new(api.resource_url()).list(parameters)).await.map(|list| list.items)
}

/// Every EndpointSlice.
///
/// # Errors
/// When the API refuses.
pub(crate) async fn slices(client: &Client) -> Result<Vec<SliceGlance>, Error> {
    let api: Api<EndpointSlice> = Api::all(client.clone());
    ask::<List<SliceGlance>>(client, Request::new(api.resource_url()).list(&ListParams::default())).await.map(|list| list.items)
}

/// The Deployment's pods, those that are going away included.
///
/// # Errors
/// When the Deployment does not exist, or the API refuses.
pub(crate) async fn pods_of(client: &Client, workload: &Namespaced) -> Result<Vec<PodGlance>, Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let request = Request::new(deployments.resource_url()).get(&workload.name, &kube::api::GetParams::default());
    let deployment: DeploymentGlance = ask(client, request).await?;
    let labels = deployment.spec.selector.match_labels.unwrap_or_default();
    let selector = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
    let api: Api<Pod> = Api::namespaced(client.clone(), &workload.namespace);
    pods(client, &api, &ListParams::default().labels(&selector)).await
}

/// Which pods are whose, by the labels that Deployments select. A Deployment's selector cannot be changed (`apps/v1`,
/// `DeploymentSpec.selector`): read once, it holds for as long as the Deployment stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selectors(BTreeMap<Namespaced, BTreeMap<String, String>>);

impl Selectors {
    /// Reads those of these Deployments; one that is not there is left out. A request for each namespace, not for each Deployment.
    ///
    /// # Errors
    /// When the API refuses.
    pub(crate) async fn read(client: &Client, workloads: &BTreeSet<Namespaced>) -> Result<Self, Error> {
        let namespaces: BTreeSet<&String> = workloads.iter().map(|w| &w.namespace).collect();
        let lists = namespaces.into_iter().map(|namespace| {
            let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            ask::<List<DeploymentGlance>>(client, Request::new(api.resource_url()).list(&ListParams::default()))
        });
        let mut out = BTreeMap::new();
        for deployment in try_join_all(lists).await?.into_iter().flat_map(|list| list.items) {
            let at = Namespaced { namespace: deployment.metadata.namespace, name: deployment.metadata.name };
            if workloads.contains(&at) {
                out.insert(at, deployment.spec.selector.match_labels.unwrap_or_default());
            }
        }
        Ok(Self(out))
    }

    /// The pods of each, those that are going away included.
    ///
    /// # Errors
    /// When the API refuses.
    pub(crate) async fn pods(&self, client: &Client) -> Result<BTreeMap<&Namespaced, Vec<PodGlance>>, Error> {
        let namespaces: BTreeSet<&String> = self.0.keys().map(|w| &w.namespace).collect();
        let lists = namespaces.into_iter().map(|namespace| async move {
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            pods(client, &api, &ListParams::default()).await.map(|pods| (namespace, pods))
        });
        let pods: BTreeMap<&String, Vec<PodGlance>> = try_join_all(lists).await?.into_iter().collect();
        let of = |workload: &Namespaced, labels: &BTreeMap<String, String>| -> Vec<PodGlance> {
            let is_its = |pod: &&PodGlance| labels.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value));
            pods.get(&workload.namespace).into_iter().flatten().filter(is_its).cloned().collect()
        };
        Ok(self.0.iter().map(|(workload, labels)| (workload, of(workload, labels))).collect())
    }
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
