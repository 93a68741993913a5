//! The life of a pod, from its scheduling to its end.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::contents::{NotYet, Volumes, environment, expand};
use super::probes;
use super::status::{Phase, PodState, Progress};
use super::view::{is_deleting, list, name, namespace, number, put, text, uid};
use super::{Controllers, ProxyHandle};
use crate::api::DeleteOptions;
use crate::net::Host;
use crate::workload::programs::{Container, Image, find, run_main, with_registry};

const MANAGER: &str = "kubelet";
/// How many addresses are tried when one is taken.
const TRIES: usize = 64;

/// A pod that is on the node. Dropped, all of it ends.
pub(super) struct OnNode {
    pub(super) uid: String,
    pub(super) host: Host,
    pub(super) containers: Mutex<BTreeMap<String, Container>>,
    volumes: Mutex<Volumes>,
    stop: watch::Sender<bool>,
    state: Mutex<PodState>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for OnNode {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One pod and those who serve it.
#[derive(Clone)]
struct Life {
    controllers: Arc<Controllers>,
    here: std::sync::Weak<OnNode>,
    ns: String,
    name: String,
}

impl Controllers {
    /// What a pod's change means for the node.
    pub(super) fn pod(self: &Arc<Self>, ns: &str, pod_name: &str) {
        let key = (ns.to_owned(), pod_name.to_owned());
        let known = lock(&self.pods).get(&key).cloned();
        let pod = self.store.get("Pod", ns, pod_name);
        match (pod, known) {
            (None, None) => {}
            (None, Some(_)) => self.forget(&key),
            (Some(pod), Some(here)) if uid(&pod) != here.uid => {
                self.forget(&key);
                self.begin(&pod);
            }
            (Some(pod), Some(here)) => {
                if is_deleting(&pod) {
                    here.stop.send_replace(true);
                }
            }
            (Some(pod), None) if is_deleting(&pod) => self.gone(&pod),
            (Some(pod), None) if ["Succeeded", "Failed"].contains(&text(&pod, "/status/phase")) => {}
            (Some(pod), None) => self.begin(&pod),
        }
    }

    fn forget(&self, key: &(String, String)) {
        lock(&self.pods).remove(key);
        self.logs.remove(&key.0, &key.1);
    }

    /// Tells the API that nothing of a pod runs any more.
    fn gone(&self, pod: &Value) {
        let options = DeleteOptions { grace_period_seconds: Some(0), uid: Some(uid(pod).to_owned()), ..DeleteOptions::default() };
        let _ = self.store.delete("Pod", namespace(pod), name(pod), &options);
    }

    fn address(&self) -> Option<Host> {
        for _ in 0..TRIES {
            let ip = lock(&self.addresses).next()?;
            if let Ok(host) = self.network.add(ip) {
                return Some(host);
            }
        }
        None
    }

    fn begin(self: &Arc<Self>, pod: &Value) {
        let Some(host) = self.address() else {
            self.event(pod, "Warning", "FailedCreatePodSandBox", "no IP addresses available in the range of the node's pods", "kubelet");
            return;
        };
        let state =
            PodState { ip: Some(host.ip()), node_ip: Some(self.settings.node_ip), start: super::view::now(), ..PodState::default() };
        let here = Arc::new(OnNode {
            uid: uid(pod).to_owned(),
            host,
            containers: Mutex::default(),
            volumes: Mutex::default(),
            stop: watch::Sender::new(false),
            state: Mutex::new(state),
            task: Mutex::default(),
        });
        let (ns, name) = (namespace(pod).to_owned(), name(pod).to_owned());
        lock(&self.pods).insert((ns.clone(), name.clone()), here.clone());
        let life = Life { controllers: self.clone(), here: Arc::downgrade(&here), ns, name };
        *lock(&here.task) = Some(tokio::spawn(life.run()));
    }

    /// Fills the volumes of pods anew that name a ConfigMap or Secret of this namespace.
    pub(super) fn refresh_volumes(&self, ns: &str) {
        let here: Vec<_> = lock(&self.pods).iter().filter(|((n, _), _)| n == ns).map(|((_, p), h)| (p.clone(), h.clone())).collect();
        for (pod_name, here) in here {
            if let Some(pod) = self.store.get("Pod", ns, &pod_name) {
                // What is gone meanwhile stays as it was, as in a running pod.
                let _ = lock(&here.volumes).fill(&self.store, &pod, here.host.ip(), self.settings.node_ip);
            }
        }
    }
}

impl Life {
    fn pod(&self) -> Option<Arc<Value>> {
        let here = self.here.upgrade()?;
        self.controllers.store.get("Pod", &self.ns, &self.name).filter(|p| uid(p) == here.uid)
    }

    /// Changes what is known of the pod, and writes its status.
    fn publish(&self, change: impl FnOnce(&mut PodState)) {
        let (Some(here), Some(pod)) = (self.here.upgrade(), self.pod()) else { return };
        // Held while it is written, so that an older status does not overtake a newer one.
        let mut state = lock(&here.state);
        change(&mut state);
        let status = state.show(&pod);
        if let Err(error) = self.controllers.store.patch_status("Pod", &self.ns, &self.name, &status, MANAGER) {
            tracing::debug!(%error, pod = self.name, "a pod's status was not written");
        }
    }

    fn progress(&self, container: &str, change: impl FnOnce(&mut Progress)) {
        self.publish(|state| change(state.containers.entry(container.to_owned()).or_default()));
    }

    fn event(&self, kind: &str, reason: &str, message: &str) {
        if let Some(pod) = self.pod() {
            self.controllers.event(&pod, kind, reason, message, "kubelet");
        }
    }

    async fn run(self) {
        let settings = &self.controllers.settings;
        let Some(mut stop) = self.here.upgrade().map(|h| h.stop.subscribe()) else { return };
        let bound = self.controllers.store.modify("Pod", &self.ns, &self.name, "kube-scheduler", |pod| {
            put(pod, &["spec", "nodeName"], json!(settings.node_name));
        });
        let Ok(pod) = bound else { return };
        let node = &settings.node_name;
        self.controllers.event(
            &pod,
            "Normal",
            "Scheduled",
            &format!("Successfully assigned {}/{} to {node}", self.ns, self.name),
            "default-scheduler",
        );
        let reason = if list(&pod, "/spec/initContainers").is_empty() { "ContainerCreating" } else { "PodInitializing" };
        self.publish(|state| {
            for spec in list(&pod, "/spec/initContainers").iter().chain(list(&pod, "/spec/containers")) {
                let phase = Phase::Waiting { reason: reason.to_owned(), message: String::new() };
                state.containers.insert(text(spec, "/name").to_owned(), Progress { phase, ..Progress::default() });
            }
        });
        let mut programs = JoinSet::new();
        programs.spawn(self.clone().start());
        let _ = stop.wait_for(|stop| *stop).await;
        self.publish(|state| state.ending = true);
        // Endpoints leave first; connections that come meanwhile are still served.
        tokio::time::sleep(settings.stop_delay).await;
        programs.shutdown().await;
        if let Some(pod) = self.pod() {
            self.controllers.gone(&pod);
        }
    }

    async fn start(self) {
        tokio::time::sleep(self.controllers.settings.start_delay).await;
        let mut said = None;
        let pod = loop {
            let mut changed = self.controllers.store.changed();
            let (Some(pod), Some(here)) = (self.pod(), self.here.upgrade()) else { return };
            let filled = lock(&here.volumes).fill(&self.controllers.store, &pod, here.host.ip(), self.controllers.settings.node_ip);
            drop(here);
            match filled {
                Ok(()) => break pod,
                Err(NotYet::Mount(why) | NotYet::Config(why)) => {
                    if said.as_ref() != Some(&why) {
                        self.event("Warning", "FailedMount", &why);
                        said = Some(why);
                    }
                    let _ = changed.changed().await;
                }
            }
        };
        let mut running = JoinSet::new();
        for spec in list(&pod, "/spec/initContainers") {
            let container = text(spec, "/name").to_owned();
            if spec["restartPolicy"] == "Always" {
                running.spawn(self.clone().keep(pod.clone(), spec.clone()));
                self.until_started(&container).await;
            } else {
                self.clone().keep(pod.clone(), spec.clone()).await;
            }
        }
        for spec in list(&pod, "/spec/containers") {
            running.spawn(self.clone().keep(pod.clone(), spec.clone()));
        }
        while running.join_next().await.is_some() {}
        // All has ended for good; the pod stays as it is until it is deleted.
        std::future::pending::<()>().await;
    }

    async fn until_started(&self, container: &str) {
        loop {
            let mut changed = self.controllers.store.changed();
            match self.here.upgrade() {
                Some(here) if lock(&here.state).of(container).started => return,
                Some(_) => {}
                None => return,
            }
            let _ = changed.changed().await;
        }
    }

    /// Runs a container, and again after its end if it is to be.
    async fn keep(self, pod: Arc<Value>, spec: Value) {
        let container = text(&spec, "/name").to_owned();
        let is_init = list(&pod, "/spec/initContainers").iter().any(|c| c["name"] == spec["name"]);
        let policy = match text(&spec, "/restartPolicy") {
            "" if is_init && text(&pod, "/spec/restartPolicy") == "Always" => "OnFailure",
            "" => text(&pod, "/spec/restartPolicy"),
            own => own,
        };
        let mut pause = self.controllers.settings.restart_delay;
        loop {
            let started = super::view::now();
            let Some(outcome) = self.once(&pod, &spec).await else { return };
            let (code, message) = match outcome {
                Ok(code) => (code, String::new()),
                Err(why) => (128, why),
            };
            let ended = super::view::now();
            let again = policy == "Always" || (policy == "OnFailure" && code != 0);
            self.progress(&container, |p| {
                p.ready = is_init && code == 0;
                p.started = false;
                p.phase = Phase::Ended { code, started: started.clone(), ended: ended.clone() };
            });
            if !again {
                return;
            }
            if !message.is_empty() {
                self.event("Warning", "Failed", &format!("Error: {message}"));
            }
            tokio::time::sleep(self.controllers.settings.start_delay).await;
            let why = format!("back-off {}s restarting failed container={container} pod={}_{}", pause.as_secs(), self.name, self.ns);
            self.progress(&container, |p| {
                p.last = Some((code, started, ended));
                p.restarts += 1;
                p.phase = if message.is_empty() {
                    Phase::Waiting { reason: "CrashLoopBackOff".to_owned(), message: why.clone() }
                } else {
                    Phase::Waiting { reason: "RunContainerError".to_owned(), message: message.clone() }
                };
            });
            self.event("Warning", "BackOff", &why);
            tokio::time::sleep(pause).await;
            // As a kubelet: doubled up to five minutes.
            pause = (pause * 2).min(Duration::from_secs(300));
        }
    }

    fn wait_for(&self, container: &str, reason: &str, message: &str) {
        self.progress(container, |p| p.phase = Phase::Waiting { reason: reason.to_owned(), message: message.to_owned() });
    }

    /// Runs a container once. None when it can never run or the pod is gone.
    async fn once(&self, pod: &Arc<Value>, spec: &Value) -> Option<Result<i32, String>> {
        let container_name = text(spec, "/name");
        let reference = text(spec, "/image");
        let image = match find(reference) {
            Ok(image) => image,
            Err(why) => {
                self.event("Warning", "Failed", &format!("Failed to pull image {reference:?}: {why}"));
                self.event("Warning", "Failed", "Error: ErrImagePull");
                self.wait_for(container_name, "ErrImagePull", &why);
                tokio::time::sleep(self.controllers.settings.restart_delay).await;
                self.event("Normal", "BackOff", &format!("Back-off pulling image {reference:?}"));
                self.wait_for(container_name, "ImagePullBackOff", &format!("Back-off pulling image {reference:?}: ErrImagePull: {why}"));
                std::future::pending::<()>().await;
                return None;
            }
        };
        let mut said = None;
        let (env, host) = loop {
            let mut changed = self.controllers.store.changed();
            let here = self.here.upgrade()?;
            let ip = here.host.ip();
            let now = self.pod()?;
            match environment(&self.controllers.store, &now, spec, ip, self.controllers.settings.node_ip) {
                Ok(env) => break (env, here.host.clone()),
                Err(NotYet::Config(why) | NotYet::Mount(why)) => {
                    drop(here);
                    if said.as_ref() != Some(&why) {
                        self.event("Warning", "Failed", &format!("Error: {why}"));
                        self.wait_for(container_name, "CreateContainerConfigError", &why);
                        said = Some(why);
                    }
                    let _ = changed.changed().await;
                }
            }
        };
        let words = |key: &str| -> Vec<String> { list(spec, key).iter().filter_map(Value::as_str).map(|w| expand(w, &env)).collect() };
        let (command, args) = (words("/command"), words("/args"));
        let hostname = Some(text(pod, "/spec/hostname")).filter(|h| !h.is_empty()).unwrap_or(&self.name).to_owned();
        let mut container = Container::new(host, &self.ns, &self.controllers.settings.domain, &hostname, image, reference, env);
        for alias in list(pod, "/spec/hostAliases") {
            let names: Vec<&str> = list(alias, "/hostnames").iter().filter_map(Value::as_str).collect();
            let line = format!("{}\t{}\n", text(alias, "/ip"), names.join("\t"));
            let _ = container.files.write("/etc/hosts", line.as_bytes(), true);
        }
        let here = self.here.upgrade()?;
        lock(&here.volumes).mount(pod, spec, &container.files);
        let directory = text(spec, "/workingDir");
        if !directory.is_empty() {
            container.files = container.files.at(directory);
        }
        lock(&here.containers).insert(container_name.to_owned(), container.clone());
        drop(here);
        let log = self.controllers.logs.open(&self.ns, &self.name, container_name);
        self.event("Normal", "Pulled", &format!("Container image {:?} already present on machine", with_registry(reference)));
        self.event("Normal", "Started", &format!("Started container {container_name}"));
        if image == Image::Proxy && args.first().map(String::as_str) == Some("proxy") {
            let handle = self.controllers.proxies.start(&self.pod()?, &container.host, log);
            return self.follow(container_name, Some(handle)).await;
        }
        if image == Image::Istiod {
            let handle = self.controllers.proxies.control_plane(&self.pod()?, &container.host, log);
            return self.follow(container_name, handle).await;
        }
        if image == Image::Proxy && args.first().is_some_and(|a| a == "istio-iptables" || a == "istio-clean-iptables") {
            // The rules themselves are the proxy's to set, when it begins to capture.
            return Some(Ok(0));
        }
        let is_init =
            list(pod, "/spec/initContainers").iter().any(|c| c["name"] == spec["name"]) && text(spec, "/restartPolicy") != "Always";
        self.progress(container_name, |p| p.phase = Phase::Running { since: super::view::now() });
        let out = log.out();
        let main = run_main(&container, &command, &args, &out);
        if is_init {
            return Some(main.await);
        }
        tokio::select! {
            outcome = main => Some(outcome),
            never = self.watch(pod, spec, &container) => match never {},
        }
    }

    /// Runs what another part of the simulation runs, and tells its readiness; what has no handle is ready.
    async fn follow(&self, container_name: &str, handle: Option<Box<dyn ProxyHandle>>) -> Option<Result<i32, String>> {
        self.progress(container_name, |p| p.phase = Phase::Running { since: super::view::now() });
        let mut ready = handle.as_ref().map_or_else(|| watch::channel(true).1, |handle| handle.ready());
        let mut said = None;
        loop {
            let now = *ready.borrow_and_update();
            // A proxy says it after each push: what was written already is not written again.
            if said.replace(now) != Some(now) {
                self.progress(container_name, |p| {
                    p.ready = now;
                    p.started |= now;
                });
            }
            if ready.changed().await.is_err() {
                // Whoever tells does so no more: what was said last holds.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks a container whether it is started and ready, as long as it runs.
    async fn watch(&self, pod: &Value, spec: &Value, container: &Container) -> std::convert::Infallible {
        let settings = &self.controllers.settings;
        let container_name = text(spec, "/name");
        tokio::time::sleep(settings.start_delay).await;
        if let Some(probe) = spec.get("startupProbe").filter(|p| p.is_object()) {
            while probes::ask(probe, pod, spec, container, &self.controllers.node).await.is_err() {
                tokio::time::sleep(settings.probe_delay).await;
            }
        }
        let Some(probe) = spec.get("readinessProbe").filter(|p| p.is_object()) else {
            self.progress(container_name, |p| (p.started, p.ready) = (true, true));
            return std::future::pending().await;
        };
        self.progress(container_name, |p| p.started = true);
        let count = |key: &str, or: i64| number(probe, key).unwrap_or(or).max(1);
        let period = Duration::from_secs(u64::try_from(count("/periodSeconds", 10)).unwrap_or(10));
        let failures_allowed = count("/failureThreshold", 3);
        let mut ready = false;
        let mut failures = 0;
        loop {
            match probes::ask(probe, pod, spec, container, &self.controllers.node).await {
                Ok(()) => {
                    failures = 0;
                    if !ready {
                        ready = true;
                        self.progress(container_name, |p| p.ready = true);
                    }
                }
                Err(why) => {
                    failures += 1;
                    if failures == 1 && ready {
                        self.event("Warning", "Unhealthy", &format!("Readiness probe failed: {why}"));
                    }
                    if ready && failures >= failures_allowed {
                        ready = false;
                        self.progress(container_name, |p| p.ready = false);
                    }
                }
            }
            // What is not ready yet is waited for; what is ready is looked at now and then, as a kubelet does.
            tokio::time::sleep(if ready { period } else { settings.probe_delay }).await;
        }
    }
}

/// Addresses of pods, one after another.
pub(super) struct Addresses {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) at: u32,
}

impl Addresses {
    /// Of a range such as `10.244.0.0/24`; the first two are the network's and the node's bridge.
    pub(super) fn of(range: &str) -> Option<Self> {
        let (base, bits) = range.split_once('/')?;
        let base: std::net::Ipv4Addr = base.parse().ok()?;
        let bits: u32 = bits.parse().ok().filter(|b| (8..=29).contains(b))?;
        let count = 1_u32 << (32 - bits);
        Some(Self { first: u32::from(base) & !(count - 1), count: count - 3, at: 0 })
    }

    /// The next; after the last the first again.
    fn next(&mut self) -> Option<IpAddr> {
        let ip = self.first.checked_add(2 + self.at % self.count)?;
        self.at = self.at.wrapping_add(1);
        Some(IpAddr::V4(ip.into()))
    }
}

impl OnNode {
    /// A port of the pod's address.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host.ip(), port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_in_order_and_over_again() {
        let mut addresses = Addresses::of("10.244.0.0/29").unwrap();
        let all: Vec<String> = (0..6).filter_map(|_| addresses.next()).map(|a| a.to_string()).collect();
        assert_eq!(all, ["10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5", "10.244.0.6", "10.244.0.2"]);
        assert!(Addresses::of("10.244.0.0").is_none() && Addresses::of("x/24").is_none());
    }
}
