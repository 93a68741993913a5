//! All parts together: one mesh.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gateproof_mesh_config::istio::sidecar::Interception;
use gateproof_mesh_config::{ProxyKind, ProxyNode, analyze};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{self, Server, Store};
use crate::control::{self, Authority, AuthorityError, Connection, Istiod, LogSink, Webhook};
use crate::install::{self, GatewayRelease};
use crate::net::{Bind, Host, Network};
use crate::proxy::{self, Identity, Proxy};
use crate::workload::programs::{OutsideHost, OutsideTls, serve_outside};
use crate::workload::{self, InjectionSettings, Injector, Proxies, ProxyHandle, WorkloadSettings, Workloads};

const ISTIOD_DEBUG_PORT: u16 = 15014;

/// What a mesh is made of, and how fast it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The version that istiod and the proxies say they are.
    pub istio_version: String,
    /// The version that the API server says it is.
    pub kubernetes_version: String,
    /// The mesh's configuration, as `meshConfig` in the values of Istio's chart; null for the defaults.
    pub mesh_config: Value,
    /// Decides all that is random.
    pub seed: u64,
    /// istiod's delays.
    pub control: control::Settings,
    /// The controllers' delays, and addresses.
    pub workloads: WorkloadSettings,
    /// How long a line of an access log waits to be written. Greater than zero.
    pub log_flush: Duration,
    /// How long connections of changed chains go on.
    pub drain: Duration,
    /// How long a listener waits for a secret before it goes on without.
    pub fetch_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            istio_version: "simulated".to_owned(),
            kubernetes_version: "v1.34.0".to_owned(),
            mesh_config: Value::Null,
            seed: 1,
            control: control::Settings::default(),
            workloads: WorkloadSettings {
                start_delay: Duration::from_millis(1),
                probe_delay: Duration::from_millis(1),
                stop_delay: Duration::from_millis(1),
                ..WorkloadSettings::default()
            },
            log_flush: Duration::from_millis(1),
            drain: Duration::from_millis(20),
            fetch_timeout: Duration::from_millis(250),
        }
    }
}

/// Why a mesh could not be made, or something in it.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// No certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The API refused an object.
    #[error("the simulated API refused {what}: {why}")]
    Refused {
        /// Which.
        what: String,
        /// Its words.
        why: String,
    },
    /// An address is taken.
    #[error("the simulated network refused {what}: {source}")]
    Network {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A host outside could not be served.
    #[error("failed to serve {host}: {why}")]
    Outside {
        /// The host.
        host: String,
        /// Why not.
        why: String,
    },
    /// Something did not become ready.
    #[error("{what} did not become ready: {seen}")]
    NotReady {
        /// What.
        what: String,
        /// What was seen last.
        seen: String,
    },
}

/// A host outside the mesh.
#[derive(Clone)]
pub struct OutsideServer {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its certificate, PEM.
    pub chain_pem: String,
    /// The key, PEM.
    pub key_pem: String,
}

/// One message of an analysis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `Error`, `Warning` or `Info`.
    pub level: String,
    /// istioctl's code.
    pub code: String,
    /// What it is about, and the words.
    pub text: String,
}

/// A simulated mesh. Cheap to clone; it ends when its last clone is dropped.
#[derive(Clone)]
pub struct Mesh(Arc<Parts>);

struct Parts {
    options: Options,
    server: Server,
    network: Network,
    istiod: Istiod,
    outside: Host,
    served: Mutex<Vec<OutsideHost>>,
}

impl Mesh {
    /// Starts a mesh with a control plane and no gateway.
    ///
    /// # Errors
    /// When a part of it cannot be made.
    pub async fn start(options: Options) -> Result<Self, MeshError> {
        let mut control = options.control.clone();
        control.version.clone_from(&options.istio_version);
        control.proxy_image = format!("docker.io/istio/proxyv2:{}", options.istio_version);
        let root = control.root_namespace.clone();
        let domain = options.workloads.domain.clone();
        let injector = Injector::new(InjectionSettings {
            proxy_image: control.proxy_image.clone(),
            domain: domain.clone(),
            root_namespace: root.clone(),
            ..InjectionSettings::default()
        });
        let store = Store::new(api::Options {
            admission: vec![Arc::new(injector), Arc::new(Webhook)],
            seed: options.seed,
            ..api::Options::default()
        });
        let network = Network::default();
        let taken = |what: &str| {
            let what = what.to_owned();
            move |source| MeshError::Network { what, source }
        };
        let outside = network.add(IpAddr::from([172, 18, 0, 1])).map_err(taken("the caller's address"))?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": root}});
        put(&store, namespace)?;
        for object in install::control_plane(&root, &format!("istio/pilot:{}", options.istio_version), &mesh_yaml(&options, &root)) {
            put(&store, object)?;
        }
        for object in install::platform(options.workloads.node_ip) {
            put(&store, object)?;
        }
        let authority = Arc::new(Authority::new("cluster.local")?);
        // Istiod's log has no pod to go to until its pod runs.
        let log: Arc<IstiodLog> = Arc::default();
        let into = log.clone();
        let sink: LogSink = Arc::new(move |line: &str| into.write(line));
        let istiod = Istiod::start(&store, control, sink);
        let settings = WorkloadSettings { root_cert_pem: authority.root_pem(), ..options.workloads.clone() };
        let proxies = Arc::new(MeshProxies {
            istiod: istiod.clone(),
            log,
            authority,
            network: network.clone(),
            settings: proxy::Settings {
                drain_time: options.drain,
                log_flush_delay: options.log_flush,
                initial_fetch_timeout: options.fetch_timeout,
                domain,
            },
            seed: options.seed,
        });
        let workloads = Workloads::start(workload::Setup { store: store.clone(), network: network.clone(), proxies, settings });
        let workloads = workloads.map_err(|e| MeshError::NotReady { what: "the node".to_owned(), seen: e.to_string() })?;
        let server = Server::new(store, Arc::new(workloads)).with_version(&options.kubernetes_version);
        let parts = Parts { options, server, network, istiod, outside, served: Mutex::default() };
        let mesh = Self(Arc::new(parts));
        mesh.rolled_out(&root, "istiod").await?;
        Ok(mesh)
    }

    /// A Kubernetes client of its API, without a socket. It works within the tokio runtime in which it is made.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.0.server.client()
    }

    /// Its API.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.0.server.store()
    }

    /// A host outside the cluster, to call from.
    #[must_use]
    pub fn outside(&self) -> &Host {
        &self.0.outside
    }

    /// The node's address.
    #[must_use]
    pub fn node_ip(&self) -> IpAddr {
        self.0.options.workloads.node_ip
    }

    /// The version that istiod and the proxies say they are.
    #[must_use]
    pub fn istio_version(&self) -> &str {
        &self.0.options.istio_version
    }

    /// The version that the API server says it is.
    #[must_use]
    pub fn kubernetes_version(&self) -> &str {
        &self.0.options.kubernetes_version
    }

    /// Applies an object.
    ///
    /// # Errors
    /// When the API refuses it.
    pub fn apply(&self, object: &Value) -> Result<(), MeshError> {
        put(self.store(), object.clone())
    }

    /// Installs gateways and waits until they run.
    ///
    /// # Errors
    /// When the API refuses an object, or one does not become ready.
    pub async fn install_gateways(&self, releases: &[GatewayRelease]) -> Result<(), MeshError> {
        for release in releases {
            if self.store().get("Namespace", "", &release.namespace).is_none() {
                put(self.store(), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": release.namespace}}))?;
            }
            for object in install::gateway(release) {
                put(self.store(), object)?;
            }
        }
        for release in releases {
            self.rolled_out(&release.namespace, &release.name).await?;
        }
        Ok(())
    }

    async fn rolled_out(&self, namespace: &str, name: &str) -> Result<(), MeshError> {
        let mut changed = self.store().changed();
        let ready = || {
            let deployment = self.store().get("apps/Deployment", namespace, name)?;
            (deployment["status"]["availableReplicas"] == deployment["spec"]["replicas"]).then_some(())
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while ready().is_none() {
                let _ = changed.changed().await;
            }
        });
        waited.await.map_err(|_| MeshError::NotReady {
            what: format!("Deployment {namespace}/{name}"),
            seen: self.store().get("apps/Deployment", namespace, name).map_or_else(String::new, |d| d["status"].to_string()),
        })
    }

    /// Puts a host outside the mesh, with HTTP on 80 and HTTPS on 443, and lets its name resolve.
    ///
    /// # Errors
    /// When an address is taken or the certificate does not fit its key.
    pub fn add_outside(&self, server: OutsideServer) -> Result<(), MeshError> {
        let tls = OutsideTls { chain_pem: server.chain_pem, key_pem: server.key_pem, client_ca_pem: None, client_required: false };
        let names = [server.name.clone()];
        for address in server.addresses {
            let served = serve_outside(&self.0.network, address, &names, Some(&tls));
            let served = served.map_err(|e| MeshError::Outside { host: server.name.clone(), why: e.to_string() })?;
            self.0.served.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(served);
        }
        Ok(())
    }

    /// What `istioctl analyze -n NAMESPACE` would say, for the codes that are looked for.
    #[must_use]
    pub fn analyze(&self, namespace: &str) -> Vec<Message> {
        let root = &self.0.options.control.root_namespace;
        let found = analyze::analyze(&self.0.istiod.snapshot()).messages.into_iter();
        // Messages of the namespace itself, and of those that hold for all.
        let here = found.filter(|m| {
            m.namespace == namespace || (m.namespace.is_empty() && m.name == namespace) || m.namespace == *root && namespace == root
        });
        here.map(|m| {
            let slash = if m.namespace.is_empty() { "" } else { "/" };
            let text = format!("{} {}{slash}{}: {}", m.kind, m.namespace, m.name, m.text);
            Message { level: format!("{:?}", m.level), code: m.code.to_owned(), text }
        })
        .collect()
    }

    /// The codes of istioctl that are not looked for.
    #[must_use]
    pub fn not_analysed(&self) -> &'static [&'static str] {
        analyze::analyze(&self.0.istiod.snapshot()).not_analysed
    }
}

fn put(store: &Store, object: Value) -> Result<(), MeshError> {
    let what = format!("{} {}", object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default());
    store.apply(object, "gateproof-mesh").map(|_| ()).map_err(|e| MeshError::Refused { what, why: e.to_string() })
}

/// The mesh's configuration in YAML; JSON is YAML.
fn mesh_yaml(options: &Options, root: &str) -> String {
    let mut mesh = json!({"rootNamespace": root, "trustDomain": "cluster.local", "enablePrometheusMerge": true});
    if let (Some(mesh), Some(given)) = (mesh.as_object_mut(), options.mesh_config.as_object()) {
        mesh.extend(given.clone());
    }
    mesh.to_string()
}

/// Lines of istiod's log until its pod runs, and where they go then.
#[derive(Default)]
struct IstiodLog(Mutex<(Vec<String>, Option<workload::LogSink>)>);

impl IstiodLog {
    fn write(&self, line: &str) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &state.1 {
            Some(sink) => sink.line(line),
            None => state.0.push(line.to_owned()),
        }
    }

    fn lead_to(&self, sink: workload::LogSink) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0.drain(..).for_each(|line| sink.line(&line));
        state.1 = Some(sink);
    }
}

/// istiod's debug endpoints on its pod's port 15014.
async fn serve_debug(istiod: Istiod, host: Host) {
    let Ok(mut listener) = host.listen(Bind::Any, ISTIOD_DEBUG_PORT) else { return };
    loop {
        let conn = listener.accept().await;
        let istiod = istiod.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (status, body) = istiod.debug(request.uri().path(), request.uri().query().unwrap_or_default());
                let response =
                    Response::builder().status(status).header("content-type", "application/json").body(Full::new(Bytes::from(body)));
                async move { response }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(conn), answer).await;
        });
    }
}

/// Starts proxies and connects them to istiod.
struct MeshProxies {
    istiod: Istiod,
    log: Arc<IstiodLog>,
    authority: Arc<Authority>,
    network: Network,
    settings: proxy::Settings,
    seed: u64,
}

/// A proxy with its connection to istiod.
struct Connected {
    _connection: Connection,
    ready: watch::Receiver<bool>,
    _identity: watch::Sender<Option<Identity>>,
}

impl ProxyHandle for Connected {
    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }
}

/// A proxy that istiod cannot know: its pod has no address or no such container.
struct Unconnected(watch::Receiver<bool>);

impl ProxyHandle for Unconnected {
    fn ready(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

/// istiod in its pod: its debug port.
struct ControlPlane {
    debug: JoinHandle<()>,
    ready: watch::Receiver<bool>,
}

impl ProxyHandle for ControlPlane {
    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.debug.abort();
    }
}

impl Proxies for MeshProxies {
    fn control_plane(&self, pod: &Arc<Value>, host: &Host, log: workload::LogSink) -> Option<Box<dyn ProxyHandle>> {
        self.log.lead_to(log);
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let istiod = containers.into_iter().flatten().filter(|container| container["name"] == "discovery");
        let env = istiod.filter_map(|container| container["env"].as_array()).flatten();
        self.istiod.began_with(env.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?))));
        let debug = tokio::spawn(serve_debug(self.istiod.clone(), host.clone()));
        // It answers from the start; the sender may go.
        let (_, ready) = watch::channel(true);
        Some(Box::new(ControlPlane { debug, ready }))
    }

    fn start(&self, pod: &Arc<Value>, host: &Host, log: workload::LogSink) -> Box<dyn ProxyHandle> {
        let (ready, is_ready) = watch::channel(false);
        let Some(node) = ProxyNode::from_pod(pod) else { return Box::new(Unconnected(is_ready)) };
        let identity = self.authority.identity(&node.namespace, &node.service_account).ok();
        let (identity_sender, identity) = watch::channel(identity);
        let (names, namespace, domain) = (self.network.names().clone(), node.namespace.clone(), self.settings.domain.clone());
        let interception = (node.kind == ProxyKind::Sidecar).then(|| Interception::of(&node)).flatten().map(|rules| {
            let rules = Arc::new(rules);
            let inbound = rules.clone();
            proxy::Interception {
                outbound: Arc::new(move |to: SocketAddr| rules.takes_outbound(to.ip(), to.port())),
                inbound: Arc::new(move |port| inbound.takes_inbound(port)),
            }
        });
        let warnings = log.clone();
        let log: LogSink = Arc::new(move |line: &str| log.line(line));
        let proxy = Arc::new(Proxy::start(proxy::Setup {
            host: host.clone(),
            resolve: Arc::new(move |name: &str| names.resolve_in(name, &namespace, &domain)),
            log,
            identity,
            node: node.clone(),
            interception,
            settings: self.settings.clone(),
            seed: self.seed,
        }));
        let deliver: control::Deliver = Arc::new(move |resources| {
            let refused: Vec<(String, String)> = proxy.update(resources).into_iter().map(|r| (r.type_url, r.message)).collect();
            refused.iter().flat_map(|(_, message)| envoys_words(message)).for_each(|line| warnings.line(&line));
            let _ = ready.send(true);
            refused
        });
        let connection = self.istiod.connect(node, deliver);
        Box::new(Connected { _connection: connection, ready: is_ready, _identity: identity_sender })
    }
}

/// Lines of Envoy's own log about clusters that it refused (`source/common/upstream/cds_api_helper.cc`). A NACK names them
/// one after another: `Error adding/updating cluster(s) NAME: WHY, NAME: WHY`.
fn envoys_words(nack: &str) -> Vec<String> {
    let Some(clusters) = nack.strip_prefix("Error adding/updating cluster(s) ") else { return Vec::new() };
    let now = jiff::Timestamp::now();
    let rejected = clusters.split(", ").filter_map(|one| one.split_once(": "));
    rejected
        .map(|(name, why)| {
            format!("{now:.6}\twarning\tenvoy upstream source/common/upstream/cds_api_helper.cc:58\tcds: cluster '{name}' config rejected: {why}")
        })
        .collect()
}

#[cfg(test)]
mod tests;
