//! Containers' logs, followed from the start of the run, so that no line is missed and none is read twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use gateproof_core::facts::PodGlance;
use gateproof_core::names::Namespaced;
use gateproof_core::outcome::LogLine;
use gateproof_core::outcome::join::{ProxyLog, ReadLine};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ProbeError;
use super::follow::follow;
use super::pods::Pods;

/// A line, and what an access log says with it: read when that is asked for first.
#[derive(Debug)]
struct Line {
    text: String,
    read: OnceLock<Option<Arc<ReadLine>>>,
}

impl Line {
    fn read(&self) -> Option<Arc<ReadLine>> {
        self.read.get_or_init(|| ReadLine::read(&self.text).map(Arc::new)).clone()
    }
}

type Lines = Arc<Mutex<Vec<Line>>>;

/// One container's lines so far.
#[derive(Debug)]
struct Tap {
    workload: Namespaced,
    pod: String,
    container: String,
    lines: Lines,
    follower: JoinHandle<()>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// A place in every log that is followed: what comes later is "since then".
#[derive(Debug, Clone, Default)]
pub struct Since(HashMap<(String, String, String), usize>);

/// Follows logs.
pub struct LogTaps {
    client: Client,
    began: Timestamp,
    taps: Mutex<HashMap<(String, String, String), Tap>>,
    grown: watch::Sender<u64>,
}

impl LogTaps {
    /// From now on. `began` may lie a little in the past: lines since then are taken up too.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let began = Timestamp::now() - std::time::Duration::from_secs(1);
        Self { client, began, taps: Mutex::default(), grown: watch::Sender::new(0) }
    }

    /// Follows the named container (by default the proxy) of every pod of these Deployments that is not followed yet.
    ///
    /// # Errors
    /// When a Deployment or its pods cannot be read.
    pub async fn follow(&self, pods: &Pods, workloads: &[(Namespaced, Option<String>)]) -> Result<(), ProbeError> {
        for (workload, container) in workloads {
            let pods = pods.of(workload).await?;
            for pod in pods.into_iter().filter(|pod| !pod.is_leaving()) {
                let name = pod.metadata.name.clone();
                let Some(container) = container.clone().or_else(|| proxy_container(&pod)) else { continue };
                let key = (workload.namespace.clone(), name.clone(), container.clone());
                let mut taps = self.taps.lock().expect("no panic holds this lock");
                // A pod of this name had gone, and here it is again: what it writes is another log.
                let lines = match taps.get(&key) {
                    Some(tap) if !tap.follower.is_finished() => continue,
                    Some(tap) => tap.lines.clone(),
                    None => Lines::default(),
                };
                taps.insert(key, self.start(workload.clone(), name, container, lines));
            }
        }
        Ok(())
    }

    /// Follows the log into these lines, until the pod has gone.
    fn start(&self, workload: Namespaced, pod: String, container: String, lines: Lines) -> Tap {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &workload.namespace);
        let (into, grown, since, pod_name, container_name) =
            (lines.clone(), self.grown.clone(), self.began, pod.clone(), container.clone());
        let follower = tokio::spawn(async move {
            let open = |parameters| {
                let (api, pod) = (api.clone(), pod_name.clone());
                async move { api.log_stream(&pod, &parameters).await.map(Box::pin) }
            };
            let gone = || {
                let (api, pod) = (api.clone(), pod_name.clone());
                async move { matches!(api.get_metadata_opt(&pod).await, Ok(None)) }
            };
            follow(open, gone, &container_name, since, |line| {
                into.lock().expect("no panic holds this lock").push(Line { text: line, read: OnceLock::new() });
                grown.send_modify(|n| *n += 1);
            })
            .await;
        });
        Tap { workload, pod, container, lines, follower }
    }

    /// Where every log stands now.
    #[must_use]
    pub fn now(&self) -> Since {
        let taps = self.taps.lock().expect("no panic holds this lock");
        Since(taps.iter().map(|(k, t)| (k.clone(), t.lines.lock().expect("no panic holds this lock").len())).collect())
    }

    /// Lines since then of the containers that `wanted` picks by Deployment and container, by Deployment.
    #[must_use]
    pub fn lines(&self, since: &Since, wanted: impl Fn(&Namespaced, &str) -> bool) -> Vec<(Namespaced, LogLine)> {
        let mut out = Vec::new();
        self.each(since, wanted, |tap, lines| {
            out.extend(lines.iter().map(|line| (tap.workload.clone(), LogLine { pod: tap.pod.clone(), text: line.text.clone() })));
        });
        out
    }

    /// The access logs of all proxies since then.
    #[must_use]
    pub fn of_proxies(&self, since: &Since) -> Vec<ProxyLog> {
        let mut out = Vec::new();
        self.each(
            since,
            |_, container| container == PROXY,
            |tap, lines| {
                let lines: Vec<_> = lines.iter().filter_map(Line::read).collect();
                if !lines.is_empty() {
                    out.push(ProxyLog { proxy: tap.workload.clone(), pod: tap.pod.clone(), lines });
                }
            },
        );
        out
    }

    /// Whether a proxy's log has a line with this word since then.
    #[must_use]
    pub fn proxy_wrote(&self, since: &Since, proxy: &Namespaced, pod: &str, word: &str) -> bool {
        let mut wrote = false;
        self.each(
            since,
            |workload, container| workload == proxy && container == PROXY,
            |tap, lines| {
                wrote |= tap.pod == pod && lines.iter().any(|line| line.text.contains(word));
            },
        );
        wrote
    }

    /// Shows the lines since then of each container that `wanted` picks, in the order of their names.
    fn each(&self, since: &Since, wanted: impl Fn(&Namespaced, &str) -> bool, mut show: impl FnMut(&Tap, &[Line])) {
        let taps = self.taps.lock().expect("no panic holds this lock");
        let mut keys: Vec<_> = taps.iter().filter(|(_, t)| wanted(&t.workload, &t.container)).collect();
        keys.sort_by(|a, b| a.0.cmp(b.0));
        for (key, tap) in keys {
            let from = since.0.get(key).copied().unwrap_or(0);
            let lines = tap.lines.lock().expect("no panic holds this lock");
            show(tap, lines.get(from..).unwrap_or_default());
        }
    }

    /// Whether some pod of the Deployment has this container's log followed.
    #[must_use]
    pub fn follows(&self, workload: &Namespaced, container: &str) -> bool {
        let taps = self.taps.lock().expect("no panic holds this lock");
        taps.values().any(|t| t.workload == *workload && t.container == container)
    }

    /// A signal that fires whenever a line came.
    #[must_use]
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }
}

const PROXY: &str = "istio-proxy";

/// The proxy's container: beside the application, or a native sidecar among the init containers.
fn proxy_container(pod: &PodGlance) -> Option<String> {
    pod.all_containers().find(|name| *name == PROXY).map(str::to_owned)
}
