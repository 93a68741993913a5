//! StatefulSets and DaemonSets, as far as pods without storage go. Sources: Kubernetes `pkg/controller/{statefulset,daemon}`.

use serde_json::{Value, json};

use super::Controllers;
use super::deployments::{pod_of, template_hash};
use super::view::{self, is_deleting, label, name, number, put, text, uid};
use crate::api::DeleteOptions;

const MANAGER: &str = "kube-controller-manager";
const REVISION: &str = "controller-revision-hash";

impl Controllers {
    pub(super) fn stateful_set(&self, ns: &str, set_name: &str) {
        let Some(set) = self.store.get("apps/StatefulSet", ns, set_name) else { return };
        if is_deleting(&set) {
            return;
        }
        let hash = format!("{set_name}-{}", template_hash(&set["spec"]["template"]));
        let wanted = number(&set, "/spec/replicas").unwrap_or(1).max(0);
        let parallel = text(&set, "/spec/podManagementPolicy") == "Parallel";
        let pods = self.owned("Pod", ns, uid(&set));
        let pod_at = |at: i64| pods.iter().find(|p| name(p) == format!("{set_name}-{at}"));
        for at in 0..wanted {
            match pod_at(at) {
                None => {
                    let mut pod = pod_of(&set, "");
                    let pod_name = format!("{set_name}-{at}");
                    put(&mut pod, &["metadata", "generateName"], Value::Null);
                    put(&mut pod, &["metadata", "name"], json!(pod_name));
                    put(&mut pod, &["metadata", "labels", REVISION], json!(hash));
                    put(&mut pod, &["metadata", "labels", "statefulset.kubernetes.io/pod-name"], json!(pod_name));
                    put(&mut pod, &["metadata", "labels", "apps.kubernetes.io/pod-index"], json!(at.to_string()));
                    put(&mut pod, &["spec", "hostname"], json!(pod_name));
                    put(&mut pod, &["spec", "subdomain"], set["spec"]["serviceName"].clone());
                    if let Err(error) = self.store.create(pod, MANAGER) {
                        self.event(
                            &set,
                            "Warning",
                            "FailedCreate",
                            &format!("create Pod {pod_name} failed: {error}"),
                            "statefulset-controller",
                        );
                        break;
                    }
                    if !parallel {
                        break;
                    }
                }
                Some(pod) if !view::is_ready(pod) && !parallel => break,
                Some(_) => {}
            }
        }
        // From the highest down: those too many, then those of an older template, one at a time.
        let ordinal = |pod: &Value| name(pod).rsplit('-').next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(i64::MAX);
        let mut going: Vec<_> = pods.iter().filter(|p| !is_deleting(p)).collect();
        going.sort_by_key(|p| std::cmp::Reverse(ordinal(p)));
        let extra = going.iter().find(|p| ordinal(p) >= wanted);
        let all_ready = pods.len() == usize::try_from(wanted).unwrap_or(0) && pods.iter().all(|p| view::is_ready(p) && !is_deleting(p));
        let on_delete = text(&set, "/spec/updateStrategy/type") == "OnDelete";
        let old = going.iter().find(|p| label(p, REVISION) != Some(&hash)).filter(|_| all_ready && !on_delete);
        if let Some(pod) = extra.or(old) {
            let _ = self.store.delete("Pod", ns, name(pod), &DeleteOptions { uid: Some(uid(pod).to_owned()), ..DeleteOptions::default() });
        }
        let pods = self.owned("Pod", ns, uid(&set));
        let ready = pods.iter().filter(|p| view::is_ready(p)).count();
        let updated = pods.iter().filter(|p| label(p, REVISION) == Some(&hash)).count();
        let status = json!({"observedGeneration": set["metadata"]["generation"], "replicas": pods.len(), "readyReplicas": ready,
            "availableReplicas": ready, "currentReplicas": updated, "updatedReplicas": updated,
            "currentRevision": hash, "updateRevision": hash, "collisionCount": 0});
        self.write_status("apps/StatefulSet", ns, set_name, &status);
    }

    /// On the one node.
    pub(super) fn daemon_set(&self, ns: &str, set_name: &str) {
        let Some(set) = self.store.get("apps/DaemonSet", ns, set_name) else { return };
        if is_deleting(&set) {
            return;
        }
        let hash = template_hash(&set["spec"]["template"]);
        let pods = self.owned("Pod", ns, uid(&set));
        let live: Vec<_> = pods.iter().filter(|p| !is_deleting(p)).collect();
        if pods.is_empty() {
            let mut pod = pod_of(&set, &format!("{set_name}-"));
            put(&mut pod, &["metadata", "labels", REVISION], json!(hash));
            if let Err(error) = self.store.create(pod, MANAGER) {
                self.event(&set, "Warning", "FailedCreate", &format!("Error creating: {error}"), "daemonset-controller");
            }
        }
        let on_delete = text(&set, "/spec/updateStrategy/type") == "OnDelete";
        for pod in live.iter().filter(|p| label(p, REVISION) != Some(&hash) && !on_delete).chain(live.iter().skip(1)) {
            let _ = self.store.delete("Pod", ns, name(pod), &DeleteOptions { uid: Some(uid(pod).to_owned()), ..DeleteOptions::default() });
        }
        let pods = self.owned("Pod", ns, uid(&set));
        let ready = pods.iter().filter(|p| view::is_ready(p)).count().min(1);
        let updated = pods.iter().filter(|p| label(p, REVISION) == Some(&hash)).count().min(1);
        let status = json!({"observedGeneration": set["metadata"]["generation"], "currentNumberScheduled": pods.len().min(1),
            "desiredNumberScheduled": 1, "numberAvailable": ready, "numberMisscheduled": 0, "numberReady": ready, "updatedNumberScheduled": updated,
            "numberUnavailable": if ready == 1 { Value::Null } else { json!(1) }});
        self.write_status("apps/DaemonSet", ns, set_name, &status);
    }

    fn write_status(&self, kind: &str, ns: &str, name: &str, status: &Value) {
        if let Err(error) = self.store.patch_status(kind, ns, name, status, MANAGER) {
            tracing::debug!(%error, kind, name, "a status was not written");
        }
    }
}
