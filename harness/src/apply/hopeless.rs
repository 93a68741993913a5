//! Roll-outs that cannot end, told as soon as that is certain instead of when the time is up.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec, Secret};
use kube::api::ListParams;
use kube::{Api, Client};

use super::rollout::Hope;
use crate::probe::RUN_CONFIG_MAP;

/// What a pod cannot start without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// ConfigMaps that Kubernetes and Istio put into each namespace a moment after it was made (kube-controller-manager's
/// `rootcacertpublisher`, istiod's `NamespaceController`).
const MADE_BY_CONTROLLERS: [&str; 3] = ["kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl"];

/// The ConfigMaps and Secrets without which the kubelet does not start a pod of this specification: those of volumes and of
/// variables that are not `optional`. A volume that no container mounts is not set up. Source: Kubernetes `pkg/kubelet/volumemanager/populator`; "Configure a Pod to Use a ConfigMap", "Restrictions"; API reference of `Volume`,
/// `EnvVarSource` and `EnvFromSource`.
pub(super) fn needed(spec: &PodSpec) -> BTreeSet<(Kind, String)> {
    let mut out = BTreeSet::new();
    let mut add = |kind: Kind, name: Option<&str>, optional: Option<bool>| {
        if let Some(name) = name.filter(|n| !n.is_empty() && optional != Some(true)) {
            out.insert((kind, name.to_owned()));
        }
    };
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let mounted: BTreeSet<&str> = containers().flat_map(|c| c.volume_mounts.iter().flatten()).map(|m| m.name.as_str()).collect();
    for volume in spec.volumes.iter().flatten().filter(|v| mounted.contains(v.name.as_str())) {
        if let Some(map) = &volume.config_map {
            add(Kind::ConfigMap, Some(&map.name), map.optional);
        }
        if let Some(secret) = &volume.secret {
            add(Kind::Secret, secret.secret_name.as_deref(), secret.optional);
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            if let Some(map) = &source.config_map {
                add(Kind::ConfigMap, Some(&map.name), map.optional);
            }
            if let Some(secret) = &source.secret {
                add(Kind::Secret, Some(&secret.name), secret.optional);
            }
        }
    }
    for container in containers() {
        for source in container.env_from.iter().flatten() {
            if let Some(map) = &source.config_map_ref {
                add(Kind::ConfigMap, Some(&map.name), map.optional);
            }
            if let Some(secret) = &source.secret_ref {
                add(Kind::Secret, Some(&secret.name), secret.optional);
            }
        }
        for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            if let Some(map) = &from.config_map_key_ref {
                add(Kind::ConfigMap, Some(&map.name), map.optional);
            }
            if let Some(secret) = &from.secret_key_ref {
                add(Kind::Secret, Some(&secret.name), secret.optional);
            }
        }
    }
    out
}

/// What is known of images that cannot be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Images {
    /// A registry may answer at the next try.
    MayCome,
    /// The simulated mesh has its programs from the start, and no others.
    AreThese,
}

/// Containers of these pods whose image will never be there, with the runtime's words. Only those of the present template count: a
/// pod of an earlier one is on its way out.
fn never_pulled(template: &PodSpec, pods: &[Pod]) -> Vec<String> {
    let present: BTreeMap<&str, Option<&str>> =
        template.init_containers.iter().flatten().chain(&template.containers).map(|c| (c.name.as_str(), c.image.as_deref())).collect();
    let mut out = BTreeSet::new();
    for pod in pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let Some(spec) = &pod.spec else { continue };
        let images: BTreeMap<&str, Option<&str>> =
            spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| (c.name.as_str(), c.image.as_deref())).collect();
        let status = pod.status.iter().flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
        for container in status {
            let name = container.name.as_str();
            let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
            let Some(waiting) = waiting.filter(|w| matches!(w.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff"))) else {
                continue;
            };
            if images.get(name).is_some_and(|image| present.get(name) == Some(image)) {
                let words = waiting.message.clone().unwrap_or_default();
                // A runtime says how it came to ask before it says what is wrong.
                let words = words.rsplit_once("ErrImagePull: ").map_or(words.as_str(), |(_, why)| why).to_owned();
                out.insert(format!("container {name}: {words}"));
            }
        }
    }
    out.into_iter().collect()
}

/// Whether a ConfigMap or Secret may still be made by somebody: by a controller of Kubernetes or Istio, or by one that reads an
/// object which has the name in it, as cert-manager reads a Certificate, or makes names of its own that begin with that of the object,
/// as operators do. `named` are all texts of such objects. The run's own ConfigMap is made by nobody else.
pub(super) fn may_come(kind: Kind, name: &str, named: &BTreeSet<String>, by_pods: bool) -> bool {
    if kind == Kind::ConfigMap && name == RUN_CONFIG_MAP {
        return false;
    }
    let begins = |text: &String| name.strip_prefix(text.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    by_pods || (kind == Kind::ConfigMap && MADE_BY_CONTROLLERS.contains(&name)) || named.iter().any(begins)
}

/// Why a Deployment's pods will never be ready, where that is certain; None where they may be.
///
/// # Errors
/// When the cluster cannot be asked; then nothing is known.
pub(super) async fn why(client: &Client, namespace: &str, deployment: &str, hope: &Hope<'_>) -> Result<Option<String>, kube::Error> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let Some(spec) = api.get_opt(deployment).await?.map(|d| d.spec) else { return Ok(None) };
    let Some(template) = spec.template.spec.filter(|_| spec.replicas != Some(0)) else { return Ok(None) };
    let mut missing = Vec::new();
    for (kind, name) in needed(&template) {
        if may_come(kind, &name, hope.named, hope.by_pods) {
            continue;
        }
        let is_there = match kind {
            Kind::ConfigMap => Api::<ConfigMap>::namespaced(client.clone(), namespace).get_metadata_opt(&name).await?.is_some(),
            Kind::Secret => Api::<Secret>::namespaced(client.clone(), namespace).get_metadata_opt(&name).await?.is_some(),
        };
        if !is_there {
            missing.push(told(kind, namespace, &name));
        }
    }
    if !missing.is_empty() {
        return Ok(Some(missing.join("; ")));
    }
    if hope.images == Images::MayCome {
        return Ok(None);
    }
    let labels = spec.selector.match_labels.unwrap_or_default();
    let selector = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default().labels(&selector)).await?;
    let never = never_pulled(&template, &pods.items);
    Ok((!never.is_empty()).then(|| never.join("; ")))
}

fn told(kind: Kind, namespace: &str, name: &str) -> String {
    let kind = kind.name();
    let missing =
        format!("its pods need {kind} {namespace}/{name}, which is not in the cluster, and nothing that this run applies makes it");
    match name {
        RUN_CONFIG_MAP => format!("{missing}; `runConfig: [{namespace}]` in the scenario does"),
        _ => missing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_not_optional_is_needed_wherever_it_is_named() {
        let spec = spec(json!({
            "volumes": [{"name": "a", "configMap": {"name": "m1"}}, {"name": "b", "secret": {"secretName": "s1"}},
                {"name": "c", "configMap": {"name": "maybe", "optional": true}}, {"name": "d", "emptyDir": {}},
                {"name": "unused", "secret": {"secretName": "nobody-mounts-it"}},
                {"name": "e", "projected": {"sources": [{"configMap": {"name": "m2"}}, {"secret": {"name": "s2"}}, {"secret": {"name": "no", "optional": true}}]}}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "m3"}}, {"secretRef": {"name": "s3"}}]}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"},
                {"name": "c", "mountPath": "/c"}, {"name": "d", "mountPath": "/d"}, {"name": "e", "mountPath": "/e"}], "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m4", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s4", "key": "k"}}},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "neither", "key": "k", "optional": true}}}]}]}));
        let names: Vec<String> = needed(&spec).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["m1", "m2", "m3", "m4", "s1", "s2", "s3", "s4"]);
    }

    #[test]
    fn what_somebody_may_make_is_waited_for() {
        let named = BTreeSet::from(["web-tls".to_owned(), "db".to_owned()]);
        let may_come = |kind, name: &str| may_come(kind, name, &named, false);
        assert!(may_come(Kind::ConfigMap, "istio-ca-root-cert"));
        assert!(may_come(Kind::Secret, "web-tls"), "a Certificate names it");
        assert!(may_come(Kind::Secret, "db-app"), "an operator makes it for the object db");
        assert!(!may_come(Kind::Secret, "dbapp") && !may_come(Kind::Secret, "keys"));
        assert!(!may_come(Kind::Secret, "istio-ca-root-cert"), "not of that kind");
        assert!(!may_come(Kind::ConfigMap, RUN_CONFIG_MAP));
        assert!(super::may_come(Kind::Secret, "keys", &named, true), "a Job may make it");
        assert!(!super::may_come(Kind::ConfigMap, RUN_CONFIG_MAP, &named, true));
        assert!(told(Kind::ConfigMap, "ledger", RUN_CONFIG_MAP).contains("`runConfig: [ledger]`"));
        assert!(!told(Kind::Secret, "ledger", "keys").contains("runConfig"));
    }

    #[test]
    fn an_image_of_an_earlier_template_says_nothing() {
        let pod = |image: &str, reason: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": image}]},
                "status": {"containerStatuses": [{"name": "c", "image": image, "imageID": "", "ready": false, "restartCount": 0, "state": {
                    "waiting": {"reason": reason, "message": format!("Back-off pulling image {image:?}: ErrImagePull: no program {image}")}}}]}}))
            .unwrap()
        };
        let template = spec(json!({"containers": [{"name": "c", "image": "new"}]}));
        assert_eq!(never_pulled(&template, &[pod("new", "ImagePullBackOff")]), ["container c: no program new"]);
        assert!(never_pulled(&template, &[pod("old", "ImagePullBackOff")]).is_empty());
        assert!(never_pulled(&template, &[pod("new", "ContainerCreating")]).is_empty());
    }
}
