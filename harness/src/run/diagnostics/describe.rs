//! A Deployment and its pods as a person reads them: what was asked for, what there is, why it is not ready, what happened.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::tidy;

/// Of one object.
const EVENTS: usize = 30;

/// A page of a Deployment, its pods, and those of these events (of their namespace) since then that are about them.
pub(super) fn page(deployment: &Value, pods: &[Value], events: &[Value], since: Timestamp) -> String {
    let mut out = String::new();
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    head(&mut out, "Deployment", deployment);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let _ = writeln!(
        out,
        "Replicas:    {} desired, {} updated, {} ready, {} available, {} unavailable",
        spec["replicas"].as_i64().unwrap_or(1),
        count("updatedReplicas"),
        count("readyReplicas"),
        count("availableReplicas"),
        count("unavailableReplicas")
    );
    if status["observedGeneration"] != deployment["metadata"]["generation"] {
        let _ = writeln!(
            out,
            "Generation:  {}, its controller has seen {}",
            deployment["metadata"]["generation"], status["observedGeneration"]
        );
    }
    conditions(&mut out, status);
    happened(&mut out, deployment, "Deployment", events, since);
    for pod in pods {
        out.push('\n');
        head(&mut out, "Pod", pod);
        let text = |field: &str| pod["status"][field].as_str().unwrap_or("-").to_owned();
        let _ = writeln!(
            out,
            "Status:      {}, address {}, node {}",
            text("phase"),
            text("podIP"),
            pod["spec"]["nodeName"].as_str().unwrap_or("-")
        );
        for field in ["reason", "message"] {
            if let Some(said) = pod["status"][field].as_str() {
                let _ = writeln!(out, "             {said}");
            }
        }
        conditions(&mut out, &pod["status"]);
        for (kind, specified, states) in
            [("Init", "initContainers", "initContainerStatuses"), ("Container", "containers", "containerStatuses")]
        {
            for container in pod["spec"][specified].as_array().into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default();
                let state = pod["status"][states].as_array().into_iter().flatten().find(|s| s["name"] == name);
                let _ = writeln!(out, "{kind} {name}: {}", container["image"].as_str().unwrap_or("-"));
                match state {
                    None => out.push_str("  not started\n"),
                    Some(state) => {
                        let _ = writeln!(out, "  {}; ready {}, restarts {}", doing(&state["state"]), state["ready"], state["restartCount"]);
                        if let Some(last) = state["lastState"].as_object().filter(|last| !last.is_empty()) {
                            let _ = writeln!(out, "  before that {}", doing(&Value::Object(last.clone())));
                        }
                    }
                }
                for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                    if let Some(how) = container[probe].as_object() {
                        let _ = writeln!(out, "  {probe}: {}", asks(&Value::Object(how.clone())));
                    }
                }
            }
        }
        happened(&mut out, pod, "Pod", events, since);
    }
    out
}

fn head(out: &mut String, kind: &str, object: &Value) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or("-");
    let _ = writeln!(out, "{kind} {}/{}", text("namespace"), text("name"));
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let _ = writeln!(out, "Labels:      {}", if labels.is_empty() { "none".to_owned() } else { labels.join(", ") });
    if let Some(going) = object["metadata"]["deletionTimestamp"].as_str() {
        let _ = writeln!(out, "Deleted:     since {going}");
    }
}

fn conditions(out: &mut String, status: &Value) {
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let why: Vec<&str> = [text("reason"), text("message")].into_iter().filter(|said| !said.is_empty()).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(": ")) };
        let _ = writeln!(out, "Condition:   {} {}{why}", text("type"), text("status"));
    }
}

/// A container's state: `running since …`, `waiting: ImagePullBackOff: …`, `ended with exit code 1: Error`.
fn doing(state: &Value) -> String {
    let why = |of: &Value| {
        let said = ["reason", "message"].iter().filter_map(|field| of[*field].as_str());
        said.fold(String::new(), |all, said| format!("{all}: {said}"))
    };
    if state["running"].is_object() {
        return format!("running since {}", state["running"]["startedAt"].as_str().unwrap_or("-"));
    }
    if state["terminated"].is_object() {
        let ended = &state["terminated"];
        let at = ended["finishedAt"].as_str().map(|at| format!(" at {at}")).unwrap_or_default();
        return format!("ended with exit code {}{at}{}", ended["exitCode"], why(ended));
    }
    if state["waiting"].is_object() { format!("waiting{}", why(&state["waiting"])) } else { "in no known state".to_owned() }
}

/// What a probe of the kubelet asks.
fn asks(probe: &Value) -> String {
    let every = probe["periodSeconds"].as_i64().unwrap_or(10);
    let http = &probe["httpGet"];
    let what = if http.is_object() {
        format!("GET {} on port {}", http["path"].as_str().unwrap_or("/"), http["port"])
    } else if probe["exec"].is_object() {
        format!("command {}", probe["exec"]["command"])
    } else if probe["grpc"].is_object() {
        format!("gRPC on port {}", probe["grpc"]["port"])
    } else {
        format!("connection to port {}", probe["tcpSocket"]["port"])
    };
    format!("{what}, every {every} s")
}

fn happened(out: &mut String, object: &Value, kind: &str, events: &[Value], since: Timestamp) {
    let about = |event: &&Value| {
        let of = &event["involvedObject"];
        of["kind"] == kind && of["name"] == object["metadata"]["name"] && of["namespace"] == object["metadata"]["namespace"]
    };
    let own: Vec<Value> = events.iter().filter(about).cloned().collect();
    for event in tidy::events(&own, since, EVENTS) {
        let _ = writeln!(out, "Event:       {}", event.text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_says_why_a_pod_is_not_ready_and_what_happened_to_it() {
        let deployment = json!({
            "metadata": {"namespace": "a", "name": "w", "generation": 3, "labels": {"app": "w"}},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 2, "updatedReplicas": 1, "unavailableReplicas": 2,
                "conditions": [{"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "too few"}]},
        });
        let pod = json!({
            "metadata": {"namespace": "a", "name": "w-1"},
            "spec": {"nodeName": "n", "initContainers": [{"name": "istio-proxy", "image": "proxy:1"}], "containers": [
                {"name": "app", "image": "app:1", "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}}]},
            "status": {"phase": "Pending", "podIP": "10.0.0.1", "containerStatuses": [
                {"name": "app", "ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                 "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}}}]},
        });
        let event = |kind: &str, name: &str, at: &str| {
            json!({"involvedObject": {"kind": kind, "namespace": "a", "name": name}, "type": "Warning", "reason": "BackOff",
                "message": format!("of {name}\n"), "lastTimestamp": format!("2026-01-01T00:00:0{at}Z"), "count": 3})
        };
        let events = [event("Pod", "w-1", "2"), event("Pod", "other", "1"), event("Pod", "w-1", "1"), event("Deployment", "w", "1")];
        assert_eq!(
            page(&deployment, &[pod], &events, Timestamp::UNIX_EPOCH),
            "Deployment a/w\nLabels:      app=w\nReplicas:    2 desired, 1 updated, 0 ready, 0 available, 2 unavailable\n\
             Generation:  3, its controller has seen 2\nCondition:   Available False (MinimumReplicasUnavailable: too few)\n\
             Event:       00:00:01  Warning  BackOff  Deployment w: of w (seen 3 times)\n\nPod a/w-1\nLabels:      none\n\
             Status:      Pending, address 10.0.0.1, node n\nInit istio-proxy: proxy:1\n  not started\nContainer app: app:1\n  \
             waiting: CrashLoopBackOff: back-off; ready false, restarts 4\n  before that ended with exit code 137 at 2026-01-01T00:00:00Z: OOMKilled\n  \
             readinessProbe: GET /ready on port 8080, every 1 s\nEvent:       00:00:01  Warning  BackOff  Pod w-1: of w-1 (seen 3 times)\n\
             Event:       00:00:02  Warning  BackOff  Pod w-1: of w-1 (seen 3 times)\n"
        );
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let text = page(&Value::Null, &[json!({"spec": {"containers": [{}]}})], &[Value::Null], Timestamp::UNIX_EPOCH);
        assert!(text.contains("Status:      -, address -, node -") && text.contains("not started"), "{text}");
    }
}
