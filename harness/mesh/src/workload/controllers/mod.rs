//! Those who turn objects into what runs: controllers, the scheduler, kube-proxy, cluster DNS, and the node's kubelet.
//!
//! They follow the API and act on what changed; nothing is looked at again and again.

mod budgets;
mod contents;
mod deployments;
mod injection;
mod kubelet;
mod logs;
mod pods;
mod probes;
mod services;
mod sets;
mod status;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{Change, Store};
use crate::net::{Host, Network};
use logs::Logs;
use pods::{Addresses, OnNode};
use view::{controller, is_deleting, list, name, namespace, text, uid};

pub use injection::{InjectionSettings, Injector, inject, is_wanted};
pub use logs::LogSink;

const MANAGER: &str = "kube-controller-manager";
/// What is followed.
const KINDS: &[&str] = &[
    "Namespace",
    "apps/Deployment",
    "apps/ReplicaSet",
    "apps/StatefulSet",
    "apps/DaemonSet",
    "Pod",
    "Service",
    "discovery.k8s.io/EndpointSlice",
    "ConfigMap",
    "Secret",
    "policy/PodDisruptionBudget",
];
/// Namespaces of the cluster itself, which istiod leaves alone.
const SYSTEM: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

/// Starts the proxy of a pod.
pub trait Proxies: Send + Sync {
    /// Starts it. `host` is the pod's; what it logs goes to `log`.
    fn start(&self, pod: &Arc<Value>, host: &Host, log: LogSink) -> Box<dyn ProxyHandle>;

    /// Starts what the container of istiod stands for: its debug ports, its log. Its readiness is the handle's; without
    /// one the container is idle and ready.
    fn control_plane(&self, pod: &Arc<Value>, host: &Host, log: LogSink) -> Option<Box<dyn ProxyHandle>> {
        let _ = (pod, host, log);
        None
    }
}

/// A proxy that runs. Dropped, it stops.
pub trait ProxyHandle: Send + Sync {
    /// Whether it is ready, and when that changes.
    fn ready(&self) -> watch::Receiver<bool>;
}

/// How the cluster is.
#[derive(Debug, Clone)]
pub struct WorkloadSettings {
    /// The name of the one node.
    pub node_name: String,
    /// Its address.
    pub node_ip: IpAddr,
    /// Where pods' addresses come from.
    pub pod_range: String,
    /// The DNS suffix of Services.
    pub domain: String,
    /// What the ConfigMap `istio-ca-root-cert` of each namespace holds, in PEM form.
    pub root_cert_pem: String,
    /// What the ConfigMap `kube-root-ca.crt` of each namespace holds, in PEM form.
    pub kubernetes_ca_pem: String,
    /// From a pod's creation to its first container, and from a container's start to the first question whether it is ready.
    pub start_delay: Duration,
    /// How long what is not ready waits for the next question.
    pub probe_delay: Duration,
    /// From the moment that a pod's endpoints leave to the end of its programs.
    pub stop_delay: Duration,
    /// Before a container is started again; doubled each time.
    pub restart_delay: Duration,
}

impl Default for WorkloadSettings {
    fn default() -> Self {
        Self {
            node_name: "simulated-control-plane".to_owned(),
            node_ip: IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2)),
            pod_range: "10.244.0.0/16".to_owned(),
            domain: "cluster.local".to_owned(),
            root_cert_pem: String::new(),
            kubernetes_ca_pem: String::new(),
            start_delay: Duration::from_millis(2),
            probe_delay: Duration::from_millis(5),
            stop_delay: Duration::from_millis(10),
            restart_delay: Duration::from_secs(1),
        }
    }
}

/// What workloads are started with.
pub struct Setup {
    /// The API.
    pub store: Store,
    /// The network.
    pub network: Network,
    /// Who starts proxies.
    pub proxies: Arc<dyn Proxies>,
    /// How the cluster is.
    pub settings: WorkloadSettings,
}

/// Why workloads cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The range of pods' addresses is none.
    #[error("{0:?} is no range of IPv4 addresses such as 10.244.0.0/16")]
    Range(String),
    /// The node's address is taken.
    #[error("the node's address: {0}")]
    Node(#[from] std::io::Error),
}

/// The cluster's controllers and its one node. Dropped, all that runs ends.
pub struct Workloads {
    controllers: Arc<Controllers>,
    task: JoinHandle<()>,
}

impl Drop for Workloads {
    fn drop(&mut self) {
        self.task.abort();
        // Pods hold the controllers, and these the pods.
        let pods = std::mem::take(&mut *self.controllers.pods.lock().unwrap_or_else(PoisonError::into_inner));
        drop(pods);
    }
}

struct Controllers {
    store: Store,
    network: Network,
    proxies: Arc<dyn Proxies>,
    settings: WorkloadSettings,
    node: Host,
    logs: Logs,
    pods: Mutex<BTreeMap<(String, String), Arc<OnNode>>>,
    addresses: Mutex<Addresses>,
    /// Names that Services gave.
    names: Mutex<BTreeSet<String>>,
}

/// What has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Namespace(String),
    /// Kind, namespace, name.
    Set(&'static str, String, String),
    Pod(String, String),
    Service(String, String),
    Budget(String, String),
    Volumes(String),
    ProxyTable,
}

impl Workloads {
    /// Starts controllers and node. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the range of addresses is none, or the node's address is taken.
    pub fn start(setup: Setup) -> Result<Self, SetupError> {
        let Setup { store, network, proxies, settings } = setup;
        let addresses = Addresses::of(&settings.pod_range).ok_or_else(|| SetupError::Range(settings.pod_range.clone()))?;
        let node = network.add(settings.node_ip)?;
        let controllers = Arc::new(Controllers {
            store,
            network,
            proxies,
            settings,
            node,
            logs: Logs::default(),
            pods: Mutex::default(),
            addresses: Mutex::new(addresses),
            names: Mutex::default(),
        });
        controllers.node();
        let task = tokio::spawn(follow(controllers.clone()));
        Ok(Self { controllers, task })
    }

    /// The node, as a host of the network.
    #[must_use]
    pub fn node(&self) -> &Host {
        &self.controllers.node
    }

    /// The log of a container, begun when there is none: for what runs outside of any container's program.
    #[must_use]
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> LogSink {
        self.controllers.logs.open(namespace, pod, container)
    }

    /// The host of a pod that is on the node.
    #[must_use]
    pub fn pod_host(&self, namespace: &str, pod: &str) -> Option<Host> {
        self.controllers.here(namespace, pod).map(|here| here.host.clone())
    }
}

async fn follow(controllers: Arc<Controllers>) {
    let (objects, mut watch) = controllers.store.list_and_watch(KINDS);
    let mut tasks = BTreeSet::new();
    for object in objects {
        let kind = match (text(&object, "/apiVersion").split_once('/'), text(&object, "/kind")) {
            (Some((group, _)), kind) => format!("{group}/{kind}"),
            (None, kind) => kind.to_owned(),
        };
        controllers.note(&kind, &object, None, &mut tasks);
    }
    tasks.insert(Task::ProxyTable);
    loop {
        // In the order of `Task`: namespaces, sets, pods, and last what follows from all of them.
        for task in std::mem::take(&mut tasks) {
            controllers.work(&task);
        }
        let Some(change) = watch.next().await else { return };
        controllers.note_change(&change, &mut tasks);
        while let Some(change) = watch.try_next() {
            controllers.note_change(&change, &mut tasks);
        }
    }
}

impl Controllers {
    fn note_change(&self, change: &Change, tasks: &mut BTreeSet<Task>) {
        self.note(&change.kind, &change.object, change.old.as_deref(), tasks);
    }

    /// What an object's change makes necessary.
    fn note(&self, kind: &str, object: &Value, old: Option<&Value>, tasks: &mut BTreeSet<Task>) {
        let (ns, own_name) = (namespace(object).to_owned(), name(object).to_owned());
        match kind {
            "Namespace" => drop(tasks.insert(Task::Namespace(own_name))),
            "apps/Deployment" => drop(tasks.insert(Task::Set("apps/Deployment", ns, own_name))),
            "apps/StatefulSet" => drop(tasks.insert(Task::Set("apps/StatefulSet", ns, own_name))),
            "apps/DaemonSet" => drop(tasks.insert(Task::Set("apps/DaemonSet", ns, own_name))),
            "apps/ReplicaSet" => {
                self.note_owner(object, tasks);
                tasks.insert(Task::Set("apps/ReplicaSet", ns, own_name));
            }
            "Pod" => {
                self.note_owner(object, tasks);
                for budget in self.store.list("policy/PodDisruptionBudget", Some(&ns)) {
                    tasks.insert(Task::Budget(ns.clone(), name(&budget).to_owned()));
                }
                let labels = [Some(object), old].into_iter().flatten().filter_map(|o| o.pointer("/metadata/labels").cloned());
                let labels: Vec<Value> = labels.collect();
                for service in self.store.list("Service", Some(&ns)) {
                    let selector = view::texts(&service, "/spec/selector");
                    let picks = |labels: &Value| selector.iter().all(|(k, v)| labels.get(k).and_then(Value::as_str) == Some(v));
                    if !selector.is_empty() && labels.iter().any(picks) {
                        tasks.insert(Task::Service(ns.clone(), name(&service).to_owned()));
                    }
                }
                tasks.insert(Task::Pod(ns, own_name));
            }
            "Service" => {
                tasks.insert(Task::Service(ns, own_name));
                tasks.insert(Task::ProxyTable);
            }
            "discovery.k8s.io/EndpointSlice" => {
                // One that was deleted is made again.
                if let Some(owner) = list(object, "/metadata/ownerReferences").iter().find(|o| text(o, "/kind") == "Service") {
                    tasks.insert(Task::Service(ns, text(owner, "/name").to_owned()));
                }
                tasks.insert(Task::ProxyTable);
            }
            "policy/PodDisruptionBudget" => drop(tasks.insert(Task::Budget(ns, own_name))),
            "ConfigMap" | "Secret" => {
                if kind == "ConfigMap" {
                    tasks.insert(Task::Namespace(ns.clone()));
                }
                tasks.insert(Task::Volumes(ns));
            }
            _ => {}
        }
    }

    fn note_owner(&self, object: &Value, tasks: &mut BTreeSet<Task>) {
        let Some(owner) = list(object, "/metadata/ownerReferences").iter().find(|o| o["controller"] == true) else { return };
        let kind = match text(owner, "/kind") {
            "Deployment" => "apps/Deployment",
            "ReplicaSet" => "apps/ReplicaSet",
            "StatefulSet" => "apps/StatefulSet",
            "DaemonSet" => "apps/DaemonSet",
            _ => return,
        };
        let (ns, owner_name) = (namespace(object).to_owned(), text(owner, "/name").to_owned());
        // A Deployment that recreates waits for pods, not only for sets.
        if kind == "apps/ReplicaSet"
            && let Some(set) = self.store.get(kind, &ns, &owner_name)
            && let Some(deployment) = self.store.by_uid(controller(&set))
        {
            tasks.insert(Task::Set("apps/Deployment", ns.clone(), name(&deployment).to_owned()));
        }
        tasks.insert(Task::Set(kind, ns, owner_name));
    }

    fn work(self: &Arc<Self>, task: &Task) {
        match task {
            Task::Namespace(name) => self.namespace(name),
            Task::Set("apps/Deployment", ns, name) => self.deployment(ns, name),
            Task::Set("apps/ReplicaSet", ns, name) => self.replica_set(ns, name),
            Task::Set("apps/StatefulSet", ns, name) => self.stateful_set(ns, name),
            Task::Set(_, ns, name) => self.daemon_set(ns, name),
            Task::Pod(ns, name) => self.pod(ns, name),
            Task::Service(ns, name) => self.service(ns, name),
            Task::Budget(ns, name) => self.budget(ns, name),
            Task::Volumes(ns) => self.refresh_volumes(ns),
            Task::ProxyTable => self.proxy_table(),
        }
    }

    /// The ConfigMaps that every namespace has.
    fn namespace(&self, ns: &str) {
        let Some(home) = self.store.get("Namespace", "", ns) else { return };
        if is_deleting(&home) {
            return;
        }
        let wanted = [
            ("kube-root-ca.crt", "ca.crt", &self.settings.kubernetes_ca_pem),
            ("istio-ca-root-cert", "root-cert.pem", &self.settings.root_cert_pem),
        ];
        for (map, key, pem) in wanted {
            if map.starts_with("istio") && SYSTEM.contains(&ns) {
                continue;
            }
            let data = json!({key: pem});
            let written = match self.store.get("ConfigMap", ns, map) {
                Some(found) if found["data"] == data => continue,
                Some(_) => self.store.modify("ConfigMap", ns, map, MANAGER, |object| view::put(object, &["data"], data.clone())),
                None => {
                    let labels = if map.starts_with("istio") { json!({"istio.io/config": "true"}) } else { json!({}) };
                    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map, "namespace": ns, "labels": labels}, "data": data});
                    self.store.create(object, MANAGER)
                }
            };
            if let Err(error) = written {
                tracing::debug!(%error, ns, map, "a ConfigMap of every namespace was not written");
            }
        }
    }

    /// The one node, as kind has it.
    fn node(&self) {
        let (node_name, node_ip) = (&self.settings.node_name, self.settings.node_ip);
        let labels = json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": node_name, "node-role.kubernetes.io/control-plane": ""});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name, "labels": labels}, "spec": {"podCIDR": self.settings.pod_range}});
        let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status", "lastTransitionTime": view::now()});
        let status = json!({"addresses": [{"type": "InternalIP", "address": node_ip}, {"type": "Hostname", "address": node_name}], "conditions": [condition],
            "capacity": {"cpu": "2", "memory": "8Gi", "pods": "110"}, "allocatable": {"cpu": "2", "memory": "8Gi", "pods": "110"},
            "nodeInfo": {"kubeletVersion": "v1.34.0", "operatingSystem": "linux", "architecture": "amd64", "containerRuntimeVersion": "simulated://1"}});
        let made = self.store.create(node, "kubelet").and_then(|_| self.store.patch_status("Node", "", node_name, &status, "kubelet"));
        if let Err(error) = made {
            tracing::debug!(%error, "the node was not written");
        }
    }

    /// Tells what happened to an object.
    fn event(&self, object: &Value, kind: &str, reason: &str, message: &str, component: &str) {
        let now = view::now();
        let about = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "namespace": namespace(object), "name": name(object), "uid": uid(object)});
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": format!("{}.", name(object)), "namespace": namespace(object)},
            "involvedObject": about, "type": kind, "reason": reason, "message": message, "source": {"component": component},
            "firstTimestamp": now, "lastTimestamp": now, "count": 1, "reportingComponent": component, "reportingInstance": ""});
        if let Err(error) = self.store.create(event, component) {
            tracing::debug!(%error, "an event was not written");
        }
    }

    fn here(&self, ns: &str, pod: &str) -> Option<Arc<OnNode>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(&(ns.to_owned(), pod.to_owned())).cloned()
    }
}

#[cfg(test)]
mod tests;
