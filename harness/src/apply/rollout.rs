//! Waiting for what takes time after it was accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use gateproof_core::names::{Namespaced, ObjectKey};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use super::ApplyError;
use super::hopeless::{self, Images};

/// Every replica is of the newest template and available, and no older one is left.
/// Source: `kubectl rollout status` (kubectl `pkg/polymorphichelpers/rollout_status.go`).
fn rolled_out() -> impl Condition<Deployment> {
    |object: Option<&Deployment>| {
        let Some(deployment) = object else { return false };
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let Some(status) = &deployment.status else { return false };
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) == wanted
            && status.replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
    }
}

/// How it is found out early that a roll-out cannot end.
pub(super) struct Hope<'a> {
    /// How long what is missing may take to come by itself, and how often is looked.
    pub(super) look: Duration,
    pub(super) images: Images,
    /// Every text of the objects that stand and run no pods: a controller may make what one of them names.
    pub(super) named: &'a BTreeSet<String>,
    /// Whether pods of the run may make ConfigMaps and Secrets: then any may come.
    pub(super) by_pods: bool,
}

pub(super) async fn deployment(client: &Client, key: &ObjectKey, limit: Duration, hope: Option<&Hope<'_>>) -> Result<(), ApplyError> {
    let namespace = key.namespace.as_deref().unwrap_or("default");
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let rolled_out = timeout(limit, await_condition(api, &key.name, rolled_out()));
    let hopeless = async {
        let Some(hope) = hope else { return std::future::pending().await };
        // Twice in a row, so that what was on its way at the first look is there at the second.
        let mut before = None;
        loop {
            tokio::time::sleep(hope.look).await;
            // Who cannot be asked leaves hope.
            let now = hopeless::why(client, namespace, &key.name, hope).await.unwrap_or_default();
            match now {
                Some(why) if before.as_ref() == Some(&why) => return why,
                now => before = now,
            }
        }
    };
    tokio::select! {
        ended = rolled_out => if ended.is_ok_and(|r| r.is_ok()) { return Ok(()) },
        why = hopeless => return Err(ApplyError::Hopeless { what: format!("roll-out of {key}"), why }),
    }
    let last = why_not_ready(client, namespace, &key.name).await;
    Err(ApplyError::TimedOut { what: format!("roll-out of {key}"), limit, last })
}

/// The Deployment that istiod made for a Gateway, and its pods, are there no more. Istio calls it as the Gateway, with `-istio`.
pub(super) async fn gone(client: &Client, key: &ObjectKey, limit: Duration) -> Result<(), ApplyError> {
    let namespace = key.namespace.as_deref().unwrap_or("default");
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let gateway = key.name.strip_suffix("-istio").unwrap_or(&key.name);
    let labels = ListParams::default().labels(&format!("gateway.networking.k8s.io/gateway-name={gateway}"));
    let all_gone = async {
        loop {
            let (deployment, left) = tokio::join!(api.get_opt(&key.name), pods.list(&labels));
            if matches!(deployment, Ok(None)) && left.is_ok_and(|list| list.items.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(limit, all_gone).await.map_err(|_| ApplyError::TimedOut {
        what: format!("removal of {key}"),
        limit,
        last: "it, or a pod of it, is still there".to_owned(),
    })
}

pub(super) async fn crd(client: &Client, key: &ObjectKey, limit: Duration) -> Result<(), ApplyError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    match timeout(limit, await_condition(api, &key.name, conditions::is_crd_established())).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(ApplyError::TimedOut {
            what: format!("establishing {key}"),
            limit,
            last: "its condition Established is not True".to_owned(),
        }),
    }
}

pub(super) fn deployment_key(workload: &Namespaced) -> ObjectKey {
    ObjectKey {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some(workload.namespace.clone()),
        name: workload.name.clone(),
    }
}

/// How many replicas a Deployment asks for.
pub(super) async fn replicas(client: &Client, workload: &Namespaced) -> Result<u32, ApplyError> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let scale = api.get_scale(&workload.name).await;
    let scale = scale.map_err(|e| ApplyError::api("reading the scale of", &deployment_key(workload), e))?;
    Ok(u32::try_from(scale.spec.and_then(|s| s.replicas).unwrap_or(1)).unwrap_or(1))
}

pub(super) async fn scale(client: &Client, workload: &Namespaced, replicas: u32, limit: Duration) -> Result<u32, ApplyError> {
    let before = self::replicas(client, workload).await?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let key = deployment_key(workload);
    let patch = json!({"spec": {"replicas": replicas}});
    api.patch_scale(&workload.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|e| ApplyError::api("scaling", &key, e))?;
    only_pods(client, workload, replicas, limit).await?;
    Ok(before)
}

/// Waits until a Deployment whose template was changed has rolled out, and no pod of an earlier template is left.
pub(super) async fn renewed(client: &Client, workload: &Namespaced, limit: Duration) -> Result<(), ApplyError> {
    let replicas = self::replicas(client, workload).await?;
    only_pods(client, workload, replicas, limit).await
}

async fn only_pods(client: &Client, workload: &Namespaced, replicas: u32, limit: Duration) -> Result<(), ApplyError> {
    let key = deployment_key(workload);
    deployment(client, &key, limit, None).await?;
    // The Deployment's status forgets a terminating pod; its proxy still answers.
    let api: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let selector = pod_selector(&api, &workload.name).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &workload.namespace);
    let gone = async {
        // Looked at often at first: where pods go within moments, nobody should wait for longer.
        let mut pause = Duration::from_millis(1);
        loop {
            match pods.list(&ListParams::default().labels(&selector)).await {
                Ok(list) if list.items.len() == replicas as usize => return,
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    };
    timeout(limit, gone).await.map_err(|_| ApplyError::TimedOut {
        what: format!("{key} with {replicas} pods and no other"),
        limit,
        last: "earlier pods are still there".to_owned(),
    })
}

async fn pod_selector(api: &Api<Deployment>, name: &str) -> String {
    let labels = match api.get(name).await {
        Ok(deployment) => deployment.spec.selector.match_labels.unwrap_or_default(),
        Err(_) => Default::default(),
    };
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// The pods' own reasons: a container that waits, a failed scheduling, or no pod at all.
async fn why_not_ready(client: &Client, namespace: &str, deployment: &str) -> String {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let selector = pod_selector(&api, deployment).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Ok(list) = pods.list(&ListParams::default().labels(&selector)).await else {
        return "its pods could not be listed".to_owned();
    };
    let mut reasons = Vec::new();
    for pod in list.items {
        let name = pod.metadata.name.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let containers = status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten());
        for container in containers {
            if let Some(waiting) = container.state.and_then(|s| s.waiting) {
                let words = waiting.message.or(waiting.reason).unwrap_or_default();
                reasons.push(format!("pod {name}, container {}: {words}", container.name));
            } else if !container.ready {
                reasons.push(format!("pod {name}, container {} runs but is not ready", container.name));
            }
        }
        if let Some(condition) = status.conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False") {
            reasons.push(format!("pod {name} is not scheduled: {}", condition.message.unwrap_or_default()));
        }
    }
    if reasons.is_empty() {
        reasons.push("it has no pod; `kubectl describe` its ReplicaSet, a webhook may refuse the pod".to_owned());
    }
    reasons.join("; ")
}
