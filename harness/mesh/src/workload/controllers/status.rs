//! A pod's status, made of what its containers do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::view::{self, is_deleting, list, text, uid};
use crate::workload::programs::with_registry;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started, and why.
    Waiting { reason: String, message: String },
    /// Since when.
    Running { since: String },
    /// Ended.
    Ended { code: i32, started: String, ended: String },
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    pub(super) ready: bool,
    pub(super) started: bool,
    pub(super) restarts: u32,
    /// How it ended the last time.
    pub(super) last: Option<(i32, String, String)>,
}

impl Default for Progress {
    fn default() -> Self {
        let phase = Phase::Waiting { reason: "PodInitializing".to_owned(), message: String::new() };
        Self { phase, ready: false, started: false, restarts: 0, last: None }
    }
}

/// A whole pod.
#[derive(Debug, Clone, Default)]
pub(super) struct PodState {
    pub(super) ip: Option<IpAddr>,
    pub(super) node_ip: Option<IpAddr>,
    pub(super) start: String,
    pub(super) containers: BTreeMap<String, Progress>,
    /// The pod is ending.
    pub(super) ending: bool,
}

fn ended(code: i32, started: &str, finished: &str, id: &str) -> Value {
    json!({"terminated": {"containerID": id, "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "startedAt": started, "finishedAt": finished}})
}

impl PodState {
    pub(super) fn of(&self, container: &str) -> Progress {
        self.containers.get(container).cloned().unwrap_or_default()
    }

    fn container(&self, pod: &Value, spec: &Value) -> Value {
        use sha2::{Digest, Sha256};
        let container_name = text(spec, "/name");
        let progress = self.of(container_name);
        let hex = |text: String| Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let id = format!("containerd://{}", hex(format!("{}/{container_name}/{}", uid(pod), progress.restarts)));
        let state = match &progress.phase {
            Phase::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
            Phase::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Phase::Running { since } => json!({"running": {"startedAt": since}}),
            Phase::Ended { code, started, ended: finished } => ended(*code, started, finished, &id),
        };
        let is_waiting = matches!(progress.phase, Phase::Waiting { .. }) && progress.restarts == 0;
        let last = progress.last.map_or(json!({}), |(code, started, finished)| ended(code, &started, &finished, &id));
        let image = text(spec, "/image");
        json!({"name": container_name, "image": if is_waiting { image.to_owned() } else { with_registry(image) },
            "imageID": if is_waiting { String::new() } else { format!("sha256:{}", hex(image.to_owned())) },
            "containerID": if is_waiting { Value::Null } else { json!(id) },
            "ready": progress.ready, "started": progress.started, "restartCount": progress.restarts, "state": state, "lastState": last})
    }

    /// As the API shows it.
    pub(super) fn show(&self, pod: &Value) -> Value {
        let init = list(pod, "/spec/initContainers");
        let main = list(pod, "/spec/containers");
        let is_sidecar = |c: &Value| c["restartPolicy"] == "Always";
        let is_done = |c: &&Value| {
            let progress = self.of(text(c, "/name"));
            if is_sidecar(c) { progress.started } else { matches!(progress.phase, Phase::Ended { code: 0, .. }) }
        };
        let initialized = init.iter().all(|c| is_done(&c));
        let counted = || init.iter().filter(|c| is_sidecar(c)).chain(main);
        let not_ready: Vec<&str> = counted().map(|c| text(c, "/name")).filter(|n| !self.of(n).ready).collect();
        let all_ready = initialized && not_ready.is_empty();
        let never = text(pod, "/spec/restartPolicy") != "Always";
        let codes: Vec<Option<i32>> = main
            .iter()
            .map(|c| match self.of(text(c, "/name")).phase {
                Phase::Ended { code, .. } => Some(code),
                _ => None,
            })
            .collect();
        let all_ended = never && !main.is_empty() && codes.iter().all(Option::is_some);
        let any_started = main.iter().any(|c| self.of(text(c, "/name")).started || self.of(text(c, "/name")).restarts > 0);
        let phase = match (all_ended, initialized && any_started) {
            (true, _) if codes.iter().all(|c| *c == Some(0)) => "Succeeded",
            (true, _) => "Failed",
            (false, true) => "Running",
            (false, false) => "Pending",
        };
        let truth = |holds: bool| if holds { "True" } else { "False" };
        let unready = format!("containers with unready status: [{}]", not_ready.join(" "));
        let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
            let mut out =
                json!({"type": kind, "status": truth(holds), "lastProbeTime": null, "observedGeneration": pod["metadata"]["generation"]});
            if !holds && let Some(map) = out.as_object_mut() {
                map.insert("reason".to_owned(), json!(reason));
                map.insert("message".to_owned(), json!(message));
            }
            out
        };
        let reason = if all_ended { "PodCompleted" } else { "ContainersNotReady" };
        let ready = all_ready && !self.ending && !is_deleting(pod);
        let incomplete: Vec<&str> = init.iter().filter(|c| !is_done(c)).map(|c| text(c, "/name")).collect();
        let conditions = vec![
            condition("PodReadyToStartContainers", self.ip.is_some(), "", ""),
            condition(
                "Initialized",
                initialized,
                "ContainersNotInitialized",
                &format!("containers with incomplete status: [{}]", incomplete.join(" ")),
            ),
            condition("Ready", ready, reason, &unready),
            condition("ContainersReady", all_ready, reason, &unready),
            condition("PodScheduled", true, "", ""),
        ];
        let ip = self.ip.map(|ip| ip.to_string());
        let ips = ip.as_ref().map(|ip| json!([{"ip": ip}]));
        let node = self.node_ip.map(|ip| ip.to_string());
        json!({"phase": phase, "conditions": view::with_times(conditions, pod), "podIP": ip, "podIPs": ips,
            "hostIP": node, "hostIPs": node.as_ref().map(|ip| json!([{"ip": ip}])), "startTime": self.start,
            "qosClass": "Burstable", "observedGeneration": pod["metadata"]["generation"],
            "initContainerStatuses": if init.is_empty() { Value::Null } else { init.iter().map(|c| self.container(pod, c)).collect() },
            "containerStatuses": main.iter().map(|c| self.container(pod, c)).collect::<Value>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Progress {
        Progress { phase: Phase::Running { since: "t".to_owned() }, ready: true, started: true, ..Progress::default() }
    }

    #[test]
    fn a_pod_is_ready_when_its_sidecar_and_its_containers_are() {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"restartPolicy": "Always",
            "initContainers": [{"name": "i", "image": "x"}, {"name": "s", "image": "x", "restartPolicy": "Always"}], "containers": [{"name": "c", "image": "x"}]}});
        let mut state = PodState { ip: "10.0.0.1".parse().ok(), ..PodState::default() };
        let ready = |state: &PodState| {
            let shown = state.show(&pod);
            (shown["phase"].as_str().unwrap().to_owned(), view::has_condition(&json!({"status": shown}), "Ready"))
        };
        assert_eq!(ready(&state), ("Pending".to_owned(), false));
        state.containers.insert(
            "i".to_owned(),
            Progress { phase: Phase::Ended { code: 0, started: String::new(), ended: String::new() }, ..Progress::default() },
        );
        state.containers.insert("s".to_owned(), running());
        assert_eq!(ready(&state), ("Pending".to_owned(), false));
        state.containers.insert("c".to_owned(), running());
        assert_eq!(ready(&state), ("Running".to_owned(), true));
        state.ending = true;
        assert_eq!(ready(&state), ("Running".to_owned(), false));
    }
}
