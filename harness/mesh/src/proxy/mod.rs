//! The data plane: one proxy for each pod that has one.
//!
//! It takes the resources that istiod sends and does with real bytes what Envoy does with them: TLS, HTTP and TCP between
//! hosts of the virtual network, lines in an access log, and an admin interface. What is decided (which chain, which route,
//! who may) is decided in `gateproof-mesh-config`.

mod admin;
mod connection;
mod env;
mod http;
mod inspect;
mod journal;
mod jwks;
mod listener;
mod sent;
mod stats;
mod stream;
mod tasks;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod update;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use gateproof_mesh_config::{ProxyNode, ProxyResources};
use tokio::sync::{mpsc, watch};

use crate::net::{Bind, Capture, Host};
use env::Env;
use journal::Journal;
use listener::{Socket, captured};
pub(crate) use sent::any;
use stats::Stats;
use tasks::{Lifeline, Random, Tasks};
use tls::Secrets;
use update::Core;

/// Where Envoy's admin interface listens, on loopback (`pilot-agent`, `PROXY_ADMIN_PORT`).
pub const ADMIN_PORT: u16 = 15000;
/// Where the kubelet asks whether a proxy is ready (`ENVOY_STATUS_PORT`).
pub const HEALTH_PORT: u16 = 15021;
/// Where captured connections of the application go (`PROXY_PORT`).
pub const OUTBOUND_PORT: u16 = 15001;
/// Where captured connections to the pod go (`INBOUND_CAPTURE_PORT`).
pub const INBOUND_PORT: u16 = 15006;

/// A proxy's own certificate, which it is given by SDS under the names `default` and `ROOTCA`.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and what signed it, in PEM form.
    pub chain_pem: String,
    /// Its key, in PEM form.
    pub key_pem: String,
    /// Who is trusted in the mesh, in PEM form.
    pub root_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Which connections a sidecar captures: `istio-init`'s rules.
#[derive(Clone)]
pub struct Interception {
    /// Whether a connection of the application to this address is captured.
    pub outbound: Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>,
    /// Whether a connection to this port of the pod is captured.
    pub inbound: Arc<dyn Fn(u16) -> bool + Send + Sync>,
}

/// Times of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long connections of changed or removed chains go on; 45 s in Istio (`drainDuration`).
    pub drain_time: Duration,
    /// How long a line of the access log waits; 1 s in Istio (`fileFlushInterval`).
    pub log_flush_delay: Duration,
    /// How long a listener or a cluster waits for its secrets before it goes on without; 15 s in Envoy.
    pub initial_fetch_timeout: Duration,
    /// The DNS suffix of Services, for the proxy's name.
    pub domain: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drain_time: Duration::from_secs(45),
            log_flush_delay: Duration::from_secs(1),
            initial_fetch_timeout: Duration::from_secs(15),
            domain: "cluster.local".to_owned(),
        }
    }
}

/// Names to addresses.
pub type Resolve = Arc<dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync>;
/// Takes lines.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// What a proxy begins with.
pub struct Setup {
    /// Its pod.
    pub host: Host,
    /// Names to addresses, as its pod resolves them. None: no such name.
    pub resolve: Resolve,
    /// Takes lines of its access log, without line break.
    pub log: Log,
    /// Its certificate, as soon as there is one.
    pub identity: watch::Receiver<Option<Identity>>,
    /// Who it is.
    pub node: ProxyNode,
    /// For a sidecar: what it captures.
    pub interception: Option<Interception>,
    /// Times.
    pub settings: Settings,
    /// Decides all that is random.
    pub seed: u64,
}

/// Why resources of one type were not taken as they are: what Envoy answers in a NACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `type.googleapis.com/envoy.config.listener.v3.Listener` and so on.
    pub type_url: String,
    /// Envoy's words.
    pub message: String,
}

/// A running proxy. Dropped, all of it stops: its ports are closed at once, its connections end as those of a killed
/// process.
pub struct Proxy {
    core: Arc<Core>,
    _sockets: Vec<Socket>,
    _lifeline: Lifeline,
}

impl Proxy {
    /// Starts a proxy without any configuration: its admin interface and its health check answer. It needs a Tokio runtime.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let Setup { host, resolve, log, identity, node, interception, settings, seed } = setup;
        let (lifeline, tasks) = Tasks::new();
        let random = Arc::new(Random::new(seed));
        let journal = Journal::new(&tasks, random.clone(), settings.log_flush_delay, log);
        let env = Arc::new(Env {
            host,
            resolve,
            node,
            settings,
            secrets: Arc::new(Secrets::default()),
            stats: Stats::default(),
            random,
            tasks,
            journal,
            tables: RwLock::default(),
            connections: AtomicU64::new(0),
        });
        if let Some(Interception { outbound, inbound }) = interception {
            let (outbound_to, from_outbound) = mpsc::unbounded_channel();
            let (inbound_to, from_inbound) = mpsc::unbounded_channel();
            env.host.set_capture(Some(Capture { outbound, inbound, outbound_to, inbound_to }));
            captured(&env, from_outbound, OUTBOUND_PORT);
            captured(&env, from_inbound, INBOUND_PORT);
        }
        let core = Arc::new(Core::new(env.clone()));
        core.follow_identity(identity);
        let admin = Socket::serve(&env, Bind::Loopback, ADMIN_PORT, admin::server(&core));
        let health = Socket::serve(&env, Bind::Any, HEALTH_PORT, admin::health(&core));
        // A port that is taken stays without an answer, as with a second Envoy beside the first.
        let sockets = [admin, health].into_iter().filter_map(Result::ok).collect();
        Self { core, _sockets: sockets, _lifeline: lifeline }
    }

    /// Takes new resources in the place of those before. What is valid is active when this returns, unless it waits for a
    /// secret; what was refused is in the answer (nothing: all was taken, an ACK), and its version before stays.
    pub fn update(&self, resources: &Arc<ProxyResources>) -> Vec<Refusal> {
        self.core.update(resources)
    }

    /// The configuration as `/config_dump` prints it.
    #[must_use]
    pub fn config_dump(&self, include_eds: bool) -> String {
        admin::dump(&self.core, include_eds)
    }

    /// What waits for a secret: names of listeners and clusters.
    #[must_use]
    pub fn warming(&self) -> Vec<String> {
        self.core.warming()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.core.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
