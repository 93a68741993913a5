//! Deployments. Source: Kubernetes `pkg/controller/deployment`.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Controllers;
use super::view::{self, controller, is_deleting, name, namespace, number, owner, put, share, text, uid};
use crate::api::DeleteOptions;

const MANAGER: &str = "kube-controller-manager";
const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HASH: &str = "pod-template-hash";

/// A template's hash, in the letters of `rand.SafeEncodeString`; the number beneath is not the cluster's own.
pub(super) fn template_hash(template: &Value) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = Sha256::digest(template.to_string().as_bytes());
    let [a, b, c, d, ..] = digest.as_slice() else { return String::new() };
    let decimal = u32::from_be_bytes([*a, *b, *c, *d]).to_string();
    decimal.bytes().filter_map(|digit| ALPHABET.get(usize::from(digit) % ALPHABET.len())).map(|c| char::from(*c)).collect()
}

impl Controllers {
    pub(super) fn deployment(&self, ns: &str, deployment_name: &str) {
        let Some(deployment) = self.store.get("apps/Deployment", ns, deployment_name) else { return };
        if is_deleting(&deployment) {
            return;
        }
        let hash = template_hash(&deployment["spec"]["template"]);
        let mut sets: Vec<Arc<Value>> = self.owned("apps/ReplicaSet", ns, uid(&deployment));
        if !sets.iter().any(|s| view::label(s, HASH) == Some(&hash)) {
            if let Err(error) = self.store.create(self.new_set(&deployment, &hash, &sets), MANAGER) {
                tracing::debug!(%error, "a ReplicaSet was not made");
                return;
            }
            sets = self.owned("apps/ReplicaSet", ns, uid(&deployment));
        }
        let (new, old): (Vec<Arc<Value>>, Vec<Arc<Value>>) = sets.into_iter().partition(|s| view::label(s, HASH) == Some(&hash));
        let Some(new) = new.into_iter().next() else { return };
        if deployment["spec"]["paused"] != true {
            self.roll(&deployment, &new, &old);
        }
        self.deployment_status(ns, deployment_name, &hash);
        self.forget_old_sets(&deployment, &old);
    }

    fn new_set(&self, deployment: &Value, hash: &str, others: &[Arc<Value>]) -> Value {
        let revision = others.iter().filter_map(|s| view::annotation(s, REVISION)?.parse::<u64>().ok()).max().unwrap_or(0) + 1;
        let mut template = deployment["spec"]["template"].clone();
        put(&mut template, &["metadata", "labels", HASH], json!(hash));
        let mut selector = deployment["spec"]["selector"].clone();
        put(&mut selector, &["matchLabels", HASH], json!(hash));
        let mut annotations = deployment.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
        put(&mut annotations, &[REVISION], json!(revision.to_string()));
        if let Some(map) = annotations.as_object_mut() {
            map.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let labels = template["metadata"]["labels"].clone();
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": format!("{}-{hash}", name(deployment)), "namespace": namespace(deployment), "labels": labels,
                "annotations": annotations, "ownerReferences": [owner(deployment)]},
            "spec": {"replicas": 0, "selector": selector, "template": template}})
    }

    fn scale(&self, set: &Value, to: i64) {
        if number(set, "/spec/replicas") == Some(to) {
            return;
        }
        let result = self.store.modify("apps/ReplicaSet", namespace(set), name(set), MANAGER, |s| put(s, &["spec", "replicas"], json!(to)));
        if let Err(error) = result {
            tracing::debug!(%error, "a ReplicaSet was not scaled");
        }
    }

    /// One step from the old sets to the new one. Source: `deployment/rolling.go`, `recreate.go`.
    fn roll(&self, deployment: &Value, new: &Value, old: &[Arc<Value>]) {
        let replicas = number(deployment, "/spec/replicas").unwrap_or(1);
        let of = |set: &Value, pointer: &str| number(set, pointer).unwrap_or(0);
        let new_wanted = of(new, "/spec/replicas");
        if text(deployment, "/spec/strategy/type") == "Recreate" {
            for set in old {
                self.scale(set, 0);
            }
            let left = old.iter().any(|s| !self.owned("Pod", namespace(s), uid(s)).is_empty());
            if !left {
                self.scale(new, replicas);
            }
            return;
        }
        let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
        let surge = share(rolling.get("maxSurge"), replicas, true, 1);
        let mut unavailable = share(rolling.get("maxUnavailable"), replicas, false, 0);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let old_wanted: i64 = old.iter().map(|s| of(s, "/spec/replicas")).sum();
        if new_wanted > replicas {
            self.scale(new, replicas);
        } else if new_wanted < replicas {
            let room = (replicas + surge - old_wanted - new_wanted).max(0);
            let step = room.min(replicas - new_wanted);
            self.scale(new, new_wanted + step);
        }
        let new_available = of(new, "/status/availableReplicas");
        let old_available: i64 = old.iter().map(|s| of(s, "/status/availableReplicas")).sum();
        // Those that never became available go first and cost nothing.
        let mut may_go = (old_wanted - old_available).max(0) + (old_available + new_available - (replicas - unavailable)).max(0);
        for set in old {
            let wanted = of(set, "/spec/replicas");
            let go = wanted.min(may_go);
            if go > 0 {
                self.scale(set, wanted - go);
                may_go -= go;
            }
        }
    }

    fn deployment_status(&self, ns: &str, deployment_name: &str, hash: &str) {
        let Some(deployment) = self.store.get("apps/Deployment", ns, deployment_name) else { return };
        let sets = self.owned("apps/ReplicaSet", ns, uid(&deployment));
        let sum = |pointer: &str, only_new: bool| -> i64 {
            let chosen = sets.iter().filter(|s| !only_new || view::label(s, HASH) == Some(hash));
            chosen.map(|s| number(s, pointer).unwrap_or(0)).sum()
        };
        let wanted = number(&deployment, "/spec/replicas").unwrap_or(1);
        let (all, updated) = (sum("/status/replicas", false), sum("/status/replicas", true));
        let (ready, available) = (sum("/status/readyReplicas", false), sum("/status/availableReplicas", false));
        let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
        let enough = available >= wanted - share(rolling.get("maxUnavailable"), wanted, false, 0);
        let is_complete = updated == wanted && all == wanted && available == wanted;
        let new_name = format!("{deployment_name}-{hash}");
        let conditions = vec![
            json!({"type": "Available", "status": if enough { "True" } else { "False" }, "lastUpdateTime": "",
                "reason": if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
                "message": if enough { "Deployment has minimum availability." } else { "Deployment does not have minimum availability." }}),
            json!({"type": "Progressing", "status": "True", "lastUpdateTime": "",
                "reason": if is_complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" },
                "message": if is_complete { format!("ReplicaSet {new_name:?} has successfully progressed.") } else { format!("ReplicaSet {new_name:?} is progressing.") }}),
        ];
        // Zeros are left out, as Go leaves them out.
        let or_null = |n: i64| if n == 0 { Value::Null } else { json!(n) };
        let status = json!({"observedGeneration": deployment["metadata"]["generation"], "replicas": or_null(all), "updatedReplicas": or_null(updated),
            "readyReplicas": or_null(ready), "availableReplicas": or_null(available), "unavailableReplicas": or_null((wanted.max(all) - available).max(0)),
            "conditions": view::with_times(conditions, &deployment)});
        if let Err(error) = self.store.patch_status("apps/Deployment", ns, deployment_name, &status, MANAGER) {
            tracing::debug!(%error, "a Deployment's status was not written");
        }
        let revision = sets.iter().find(|s| view::label(s, HASH) == Some(hash)).and_then(|s| view::annotation(s, REVISION));
        if let Some(revision) = revision.filter(|r| view::annotation(&deployment, REVISION) != Some(r)) {
            let written = self.store.modify("apps/Deployment", ns, deployment_name, MANAGER, |d| {
                put(d, &["metadata", "annotations", REVISION], json!(revision));
            });
            if let Err(error) = written {
                tracing::debug!(%error, "a Deployment's revision was not written");
            }
        }
    }

    fn forget_old_sets(&self, deployment: &Value, old: &[Arc<Value>]) {
        let limit = number(deployment, "/spec/revisionHistoryLimit").and_then(|n| usize::try_from(n).ok()).unwrap_or(10);
        let mut idle: Vec<&Arc<Value>> =
            old.iter().filter(|s| number(s, "/spec/replicas") == Some(0) && number(s, "/status/replicas").unwrap_or(0) == 0).collect();
        idle.sort_by_key(|s| view::annotation(s, REVISION).and_then(|r| r.parse::<u64>().ok()));
        for set in idle.iter().take(idle.len().saturating_sub(limit)) {
            let _ = self.store.delete("apps/ReplicaSet", namespace(set), name(set), &DeleteOptions::default());
        }
    }

    /// Makes or ends pods until there are as many as wanted. Source: `pkg/controller/replicaset`.
    pub(super) fn replica_set(&self, ns: &str, set_name: &str) {
        let Some(set) = self.store.get("apps/ReplicaSet", ns, set_name) else { return };
        let pods = self.owned("Pod", ns, uid(&set));
        let mut active: Vec<&Arc<Value>> =
            pods.iter().filter(|p| !is_deleting(p) && !["Failed", "Succeeded"].contains(&text(p, "/status/phase"))).collect();
        let wanted = number(&set, "/spec/replicas").unwrap_or(1).max(0);
        let missing = wanted - i64::try_from(active.len()).unwrap_or(i64::MAX);
        let mut failure = None;
        if !is_deleting(&set) {
            for _ in 0..missing.max(0) {
                let pod = pod_of(&set, &format!("{set_name}-"));
                if let Err(error) = self.store.create(pod, MANAGER) {
                    self.event(&set, "Warning", "FailedCreate", &format!("Error creating: {error}"), "replicaset-controller");
                    failure = Some(error.to_string());
                    break;
                }
            }
            // Those that do not serve yet go first, then the youngest.
            active.sort_by_key(|p| (view::is_ready(p), std::cmp::Reverse(text(p, "/metadata/creationTimestamp").to_owned())));
            for pod in active.iter().take(usize::try_from(-missing).unwrap_or(0)) {
                let options = DeleteOptions { uid: Some(uid(pod).to_owned()), ..DeleteOptions::default() };
                let _ = self.store.delete("Pod", ns, name(pod), &options);
            }
        }
        let pods: Vec<Arc<Value>> = self.owned("Pod", ns, uid(&set)).into_iter().filter(|p| !is_deleting(p)).collect();
        let ready = pods.iter().filter(|p| view::is_ready(p)).count();
        let or_null = |n: usize| if n == 0 { Value::Null } else { json!(n) };
        let conditions = failure.map_or(Value::Null, |why| {
            json!(view::with_times(
                vec![json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why})],
                &set
            ))
        });
        let status = json!({"replicas": pods.len(), "fullyLabeledReplicas": or_null(pods.len()), "readyReplicas": or_null(ready), "availableReplicas": or_null(ready),
            "observedGeneration": set["metadata"]["generation"], "conditions": conditions});
        if let Err(error) = self.store.patch_status("apps/ReplicaSet", ns, set_name, &status, MANAGER) {
            tracing::debug!(%error, "a ReplicaSet's status was not written");
        }
    }

    /// Objects of a kind that belong to a controller.
    pub(super) fn owned(&self, kind: &str, ns: &str, of: &str) -> Vec<Arc<Value>> {
        self.store.list(kind, Some(ns)).into_iter().filter(|o| controller(o) == of).collect()
    }
}

/// A pod as the template of a set wants it.
pub(super) fn pod_of(set: &Value, prefix: &str) -> Value {
    let template = &set["spec"]["template"];
    let mut metadata = json!({"generateName": prefix, "namespace": namespace(set), "ownerReferences": [owner(set)]});
    for key in ["labels", "annotations"] {
        if let Some(map) = template.pointer(&format!("/metadata/{key}")).filter(|m| m.is_object()) {
            metadata[key] = map.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_made_of_safe_letters_and_depends_on_the_template() {
        let (a, b) = (template_hash(&json!({"a": 1})), template_hash(&json!({"a": 2})));
        assert_ne!(a, b);
        assert_eq!(a, template_hash(&json!({"a": 1})));
        assert!(a.bytes().all(|c| b"bcdfghjklmnpqrstvwxz2456789".contains(&c)) && (1..=10).contains(&a.len()), "{a}");
    }
}
