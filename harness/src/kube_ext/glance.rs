//! Asks for objects at a glance ([`gateproof_core::facts`]).

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use gateproof_core::facts::{DeploymentGlance, PodGlance, SliceGlance};
use gateproof_core::names::Namespaced;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Api, Client, Error};

/// Asks, and reads the answer with what has been compiled for that.
async fn ask<T>(
    client: &Client,
    request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    read: fn(&str) -> Result<T, serde_json::Error>,
) -> Result<T, Error> {
    let answer = client.request_text(request.map_err(Error::BuildRequest)?).await?;
    read(&answer).map_err(Error::SerdeError)
}

/// Lists pods as `api` would.
///
/// # Errors
/// When the API refuses.
pub(crate) async fn pods(client: &Client, api: &Api<Pod>, parameters: &ListParams) -> Result<Vec<PodGlance>, Error> {
    ask(client, Request::new(api.resource_url()).list(parameters), PodGlance::list).await
}

/// Every EndpointSlice.
///
/// # Errors
/// When the API refuses.
pub(crate) async fn slices(client: &Client) -> Result<Vec<SliceGlance>, Error> {
    let api: Api<EndpointSlice> = Api::all(client.clone());
    ask(client, Request::new(api.resource_url()).list(&ListParams::default()), SliceGlance::list).await
}

/// The Deployment's pods, those that are going away included.
///
/// # Errors
/// When the Deployment does not exist, or the API refuses.
pub(crate) async fn pods_of(client: &Client, workload: &Namespaced) -> Result<Vec<PodGlance>, Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let request = Request::new(deployments.resource_url()).get(&workload.name, &kube::api::GetParams::default());
    let labels = ask(client, request, DeploymentGlance::read).await?.selects();
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
            ask(client, Request::new(api.resource_url()).list(&ListParams::default()), DeploymentGlance::list)
        });
        let mut out = BTreeMap::new();
        for deployment in try_join_all(lists).await?.into_iter().flatten() {
            let at = Namespaced { namespace: deployment.metadata.namespace.clone(), name: deployment.metadata.name.clone() };
            if workloads.contains(&at) {
                out.insert(at, deployment.selects());
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
            pods.get(&workload.namespace).into_iter().flatten().filter(|pod| pod.has_labels(labels)).cloned().collect()
        };
        Ok(self.0.iter().map(|(workload, labels)| (workload, of(workload, labels))).collect())
    }
}
