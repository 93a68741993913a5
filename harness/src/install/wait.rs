//! Waiting by watch: a missed poll costs its interval, a watch costs nothing.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, watcher};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::SYSTEM;
use crate::provider::ProviderError;

/// Waits until an object of the listed ones satisfies `good`.
async fn until<K>(api: Api<K>, config: watcher::Config, good: impl Fn(&K) -> bool) -> Result<(), watcher::Error>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config));
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) if good(&object) => return Ok(()),
            Ok(None) => return Ok(()),
            Ok(_) => {}
            // The watcher begins anew by itself; a server that restarts is not the end.
            Err(error) => {
                tracing::debug!(%error, "watch interrupted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Waits until a Deployment has rolled out.
pub(crate) async fn deployment(client: &kube::Client, namespace: &str, name: &str, patience: Duration) -> Result<(), ProviderError> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let watch = until(api, watcher::Config::default().fields(&format!("metadata.name={name}")), is_rolled_out);
    match tokio::time::timeout(patience, watch).await {
        Ok(_) => Ok(()),
        Err(_) => Err(ProviderError::Timeout {
            what: format!("roll out {namespace}/{name}"),
            waited: patience,
            seen: pods_seen(client, namespace, name).await,
        }),
    }
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= wanted
        && status.available_replicas.unwrap_or(0) >= wanted
        && status.replicas.unwrap_or(0) <= wanted
}

/// What holds pods up, in a line.
async fn pods_seen(client: &kube::Client, namespace: &str, deployment: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Ok(list) = pods.list(&ListParams::default()).await else { return "the API server does not answer".to_owned() };
    let of_it: Vec<String> = list.items.iter().filter(|p| p.name_any().starts_with(deployment)).map(pod_line).collect();
    if of_it.is_empty() { "it has no pods; see `kubectl describe replicaset`".to_owned() } else { of_it.join("; ") }
}

fn pod_line(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status.container_statuses.unwrap_or_default().into_iter().filter(|c| !c.ready).map(|c| {
        let why = c
            .state
            .and_then(|s| s.waiting)
            .map_or_else(|| "not ready".to_owned(), |w| format!("{} {}", w.reason.unwrap_or_default(), w.message.unwrap_or_default()));
        format!("{}: {}", c.name, why.trim())
    });
    let unscheduled = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .filter(|c| c.type_ == "PodScheduled" && c.status != "True")
        .filter_map(|c| c.message);
    let why: Vec<String> = waiting.chain(unscheduled).collect();
    format!("pod {} {} ({})", pod.name_any(), status.phase.unwrap_or_default(), why.join(", "))
}

/// Waits until istiod answers the injection webhook. A pod made before that is refused, and its
/// ReplicaSet backs off.
///
/// Asked by making a pod that is not kept: that goes the whole way, through kube-proxy's rules and
/// the CA that istiod puts into the webhook's configuration. istiod's readiness probe has a period of
/// 3 s, which the chart fixes; for as long as this waits, its Service leads to it regardless.
pub(crate) async fn injector(client: &kube::Client, patience: Duration) -> Result<(), ProviderError> {
    publish_unready(client, true).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), SYSTEM);
    let endpoint = until(slices, watcher::Config::default().labels("kubernetes.io/service-name=istiod"), |slice| {
        slice.endpoints.iter().flatten().any(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true))
    });
    let mut last = "no endpoint".to_owned();
    let answers = async {
        let _ = endpoint.await;
        while let Err(error) = would_inject(client).await {
            last = error;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(patience, answers).await.is_err() {
        let seen = format!("{last}; {}", pods_seen(client, SYSTEM, "istiod").await);
        return Err(ProviderError::Timeout { what: "see istiod inject a proxy".to_owned(), waited: patience, seen });
    }
    publish_unready(client, false).await
}

async fn publish_unready(client: &kube::Client, value: bool) -> Result<(), ProviderError> {
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM);
    let patch = Patch::Merge(json!({"spec": {"publishNotReadyAddresses": value}}));
    services.patch("istiod", &PatchParams::default(), &patch).await.map(|_| ()).map_err(ProviderError::kube("change the Service of istiod"))
}

/// Whether a pod that asks for a gateway's proxy gets one, on a dry run.
async fn would_inject(client: &kube::Client) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let pod = json!({
        "metadata": {"name": "gateproof-asks", "labels": {"sidecar.istio.io/inject": "true"}, "annotations": {"inject.istio.io/templates": "gateway"}},
        "spec": {"serviceAccountName": "istiod", "containers": [{"name": "istio-proxy", "image": "auto"}]},
    });
    let pod: Pod = serde_json::from_value(pod).map_err(|e| e.to_string())?;
    let made = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await.map_err(|e| e.to_string())?;
    let injected = made.spec.is_some_and(|s| s.containers.iter().any(|c| c.image.as_deref().is_some_and(|i| i != "auto")));
    if injected { Ok(()) } else { Err("the webhook was not asked".to_owned()) }
}

/// Touches the ReplicaSets of Deployments that were made before the webhook answered: any change of
/// one is looked at straight away, where its back-off would wait for seconds.
pub(crate) async fn wake(client: &kube::Client, namespace: &str, deployment: &str) -> Result<(), ProviderError> {
    let what = format!("wake the ReplicaSet of {namespace}/{deployment}");
    let api: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
    for set in api.list(&ListParams::default()).await.map_err(ProviderError::kube(&what))? {
        let owned = set.owner_references().iter().any(|o| o.kind == "Deployment" && o.name == deployment);
        let short = set.status.as_ref().is_none_or(|s| s.replicas < set.spec.replicas.unwrap_or(1));
        if owned && short {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"gateproof.io/woken": "the injection webhook answers"}}}));
            api.patch(&set.name_any(), &PatchParams::default(), &patch).await.map_err(ProviderError::kube(&what))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 1, "selector": {}, "template": {}}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn an_old_generation_or_an_old_pod_is_not_rolled_out() {
        let whole = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert!(is_rolled_out(&deployment(whole.clone())));
        for (key, value) in [("observedGeneration", 1), ("replicas", 2), ("updatedReplicas", 0), ("availableReplicas", 0)] {
            let mut other = whole.clone();
            other[key] = value.into();
            assert!(!is_rolled_out(&deployment(other)), "{key}");
        }
    }
}
