//! From one set of resources to the next: `source/common/upstream/cluster_manager_impl.cc`,
//! `source/common/listener_manager/listener_manager_impl.cc`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gateproof_mesh_config::envoy::listener::ListenerFilterKind;
use gateproof_mesh_config::envoy::{self, Address, Cluster, Endpoints, Listener, NetworkFilter, RouteTable};
use gateproof_mesh_config::{ProxyResources, Secret};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::env::{Env, Routes};
use super::listener::{ListenerRuntime, Socket};
use super::sent::Sent;
use super::upstream::ClusterRuntime;
use super::{Identity, Refusal, lock, read, write};

/// Type of listeners.
pub(super) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type of clusters.
pub(super) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type of routes.
pub(super) const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Type of endpoints.
pub(super) const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Type of secrets.
pub(super) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The proxy's own secrets, which never time out (`initial_fetch_timeout: 0s`).
const OWN: [&str; 2] = ["default", "ROOTCA"];

/// A proxy's configuration.
pub(super) struct Core {
    pub(super) env: Arc<Env>,
    pub(super) state: Mutex<State>,
}

/// What is not active, or was not taken.
#[derive(Default)]
pub(super) struct State {
    given: Option<Arc<ProxyResources>>,
    assignments: BTreeMap<String, Arc<Endpoints>>,
    sockets: BTreeMap<String, Socket>,
    pub(super) warming_listeners: BTreeMap<String, Warming<ListenerRuntime>>,
    pub(super) warming_clusters: BTreeMap<String, Warming<ClusterRuntime>>,
    pub(super) draining: Vec<(Arc<ListenerRuntime>, Instant)>,
    pub(super) refused: BTreeMap<&'static str, BTreeMap<String, Refused>>,
    /// Changes so far, by type, with the time of the last.
    pub(super) versions: BTreeMap<&'static str, (u64, Timestamp)>,
    changes: u64,
    stopped: bool,
}

/// Something that waits for secrets.
pub(super) struct Warming<T> {
    pub(super) what: Arc<T>,
    /// It goes on without them then.
    until: Option<Instant>,
}

/// A resource that was not taken.
pub(super) struct Refused {
    pub(super) json: Arc<Value>,
    pub(super) words: String,
    pub(super) at: Timestamp,
}

/// Refuses what can be read and is not done here, rather than doing something else.
fn bearable(listener: Listener) -> Result<Listener, envoy::Refusal> {
    if listener.listener_filters.iter().any(|f| f.kind == ListenerFilterKind::ProxyProtocol) {
        return Err(envoy::Refusal::unsupported("the PROXY protocol of clients"));
    }
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let tunnels = |f: &NetworkFilter| matches!(f, NetworkFilter::TcpProxy(tcp) if tcp.tunnel.is_some());
    if chains.flat_map(|c| &c.filters).any(tunnels) {
        return Err(envoy::Refusal::unsupported("TCP within CONNECT"));
    }
    Ok(listener)
}

/// As [`bearable`], for clusters.
fn reachable(cluster: Cluster) -> Result<Cluster, envoy::Refusal> {
    match cluster.proxy_protocol {
        None => Ok(cluster),
        Some(_) => Err(envoy::Refusal::unsupported("the PROXY protocol towards upstreams")),
    }
}

/// The same value, or another one with the same content.
fn same(a: Option<&Arc<Value>>, b: &Arc<Value>) -> bool {
    a.is_some_and(|a| Arc::ptr_eq(a, b) || a == b)
}

impl Core {
    pub(super) fn new(env: Arc<Env>) -> Self {
        Self { env, state: Mutex::default() }
    }

    /// Takes the certificate that the proxy has, and each that follows.
    pub(super) fn follow_identity(self: &Arc<Self>, mut identity: watch::Receiver<Option<Identity>>) {
        let take = |core: &Arc<Self>, identity: &mut watch::Receiver<Option<Identity>>| {
            let now = identity.borrow_and_update().clone();
            core.take_identity(now.as_ref());
        };
        take(self, &mut identity);
        let weak = Arc::downgrade(self);
        self.env.tasks.spawn(async move {
            while identity.changed().await.is_ok() {
                let Some(core) = weak.upgrade() else { break };
                take(&core, &mut identity);
            }
        });
    }

    fn take_identity(self: &Arc<Self>, identity: Option<&Identity>) {
        let Some(identity) = identity else { return };
        let own = Secret { chain_pem: identity.chain_pem.clone(), key_pem: identity.key_pem.clone(), ca_pem: String::new() };
        let root = Secret { ca_pem: identity.root_pem.clone(), ..Secret::default() };
        for (name, secret) in OWN.into_iter().zip([own, root]) {
            let mut state = lock(&self.state);
            match self.env.secrets.set(name, Some(&Arc::new(secret))) {
                Ok(true) => state.changed(SECRET),
                Ok(false) => {}
                Err(words) => state.refuse(SECRET, name, &Arc::new(Value::Null), words),
            }
        }
        self.promote(&mut lock(&self.state));
    }

    pub(super) fn update(self: &Arc<Self>, resources: &Arc<ProxyResources>) -> Vec<Refusal> {
        let mut state = lock(&self.state);
        let before = state.given.replace(resources.clone()).unwrap_or_default();
        self.take_secrets(&mut state, &before, resources);
        let moved = self.take_endpoints(&mut state, &before, resources);
        self.take_clusters(&mut state, &before, resources, &moved);
        self.take_routes(&mut state, &before, resources);
        self.take_listeners(&mut state, &before, resources);
        self.promote(&mut state);
        self.count(&state);
        state.refusals()
    }

    fn take_secrets(&self, state: &mut State, before: &ProxyResources, now: &ProxyResources) {
        let gone = before.secrets.keys().filter(|n| !now.secrets.contains_key(*n)).map(|n| (n, None));
        for (name, secret) in now.secrets.iter().map(|(n, s)| (n, Some(s))).chain(gone) {
            if secret.is_some_and(|s| before.secrets.get(name).is_some_and(|b| Arc::ptr_eq(b, s) || b == s)) {
                continue;
            }
            state.accept(SECRET, name);
            match self.env.secrets.set(name, secret) {
                Ok(true) => state.changed(SECRET),
                Ok(false) => {}
                Err(words) => state.refuse(SECRET, name, &Arc::new(Value::Null), words),
            }
        }
    }

    /// The names of assignments that changed.
    fn take_endpoints(&self, state: &mut State, before: &ProxyResources, now: &ProxyResources) -> Vec<String> {
        let mut moved = Vec::new();
        for (name, json) in now.endpoints.iter().filter(|(n, j)| !same(before.endpoints.get(*n), j)) {
            match Endpoints::read(json) {
                Ok(endpoints) => {
                    state.accept(ENDPOINT, name);
                    state.assignments.insert(name.clone(), Arc::new(endpoints));
                    moved.push(name.clone());
                }
                Err(refusal) => state.refuse(ENDPOINT, name, json, refusal.to_string()),
            }
        }
        for name in before.endpoints.keys().filter(|n| !now.endpoints.contains_key(*n)) {
            state.accept(ENDPOINT, name);
            state.assignments.remove(name);
            moved.push(name.clone());
        }
        if !moved.is_empty() {
            state.changed(ENDPOINT);
        }
        moved
    }

    fn take_clusters(self: &Arc<Self>, state: &mut State, before: &ProxyResources, now: &ProxyResources, moved: &[String]) {
        for name in before.clusters.keys().filter(|n| !now.clusters.contains_key(*n)) {
            state.accept(CLUSTER, name);
            state.warming_clusters.remove(name);
            if let Some(gone) = write(&self.env.tables).clusters.remove(name) {
                gone.retire();
                self.env.stats.forget(&format!("cluster.{}.", gone.alt_name.as_deref().unwrap_or(name)));
            }
            state.changed(CLUSTER);
        }
        for (name, json) in &now.clusters {
            if same(before.clusters.get(name), json) {
                let waiting = state.warming_clusters.get(name).map(|w| w.what.clone());
                for runtime in self.env.cluster(name).into_iter().chain(waiting).filter(|r| moved.contains(&r.spec.eds_name)) {
                    runtime.assign(state.assignments.get(&runtime.spec.eds_name).map(|e| &**e));
                }
                continue;
            }
            match Cluster::read(json).and_then(reachable) {
                Ok(spec) => {
                    state.accept(CLUSTER, name);
                    let assignment = state.assignments.get(&spec.eds_name).cloned();
                    let runtime = ClusterRuntime::new(self.env.clone(), json.clone(), Arc::new(spec), assignment.as_deref());
                    let until = self.deadline(&runtime.secret_names());
                    state.warming_clusters.insert(name.clone(), Warming { what: Arc::new(runtime), until });
                    state.changed(CLUSTER);
                }
                Err(refusal) => state.refuse(CLUSTER, name, json, refusal.to_string()),
            }
        }
    }

    fn take_routes(&self, state: &mut State, before: &ProxyResources, now: &ProxyResources) {
        for (name, json) in now.routes.iter().filter(|(n, j)| !same(before.routes.get(*n), j)) {
            match RouteTable::read(json) {
                Ok(table) => {
                    state.accept(ROUTE, name);
                    let routes = Routes { sent: Sent::new(json.clone()), table: Arc::new(table) };
                    write(&self.env.tables).routes.insert(name.clone(), Arc::new(routes));
                    state.changed(ROUTE);
                }
                Err(refusal) => state.refuse(ROUTE, name, json, refusal.to_string()),
            }
        }
        for name in before.routes.keys().filter(|n| !now.routes.contains_key(*n)) {
            state.accept(ROUTE, name);
            write(&self.env.tables).routes.remove(name);
            state.changed(ROUTE);
        }
    }

    fn take_listeners(self: &Arc<Self>, state: &mut State, before: &ProxyResources, now: &ProxyResources) {
        for name in before.listeners.keys().filter(|n| !now.listeners.contains_key(*n)) {
            state.accept(LISTENER, name);
            state.warming_listeners.remove(name);
            state.sockets.remove(name);
            let gone = write(&self.env.tables).listeners.remove(name);
            if let Some(gone) = gone {
                gone.give_way(&self.env, None);
                state.drains(&self.env, gone);
            }
            state.changed(LISTENER);
        }
        for (name, json) in now.listeners.iter().filter(|(n, j)| !same(before.listeners.get(*n), j)) {
            match Listener::read(json).and_then(bearable) {
                Ok(spec) => {
                    state.accept(LISTENER, name);
                    let active = read(&self.env.tables).listeners.get(name).cloned();
                    let runtime = ListenerRuntime::new(&self.env, json.clone(), Arc::new(spec), active.as_deref());
                    let until = self.deadline(&runtime.secret_names());
                    state.warming_listeners.insert(name.clone(), Warming { what: Arc::new(runtime), until });
                    state.changed(LISTENER);
                }
                Err(refusal) => state.refuse(LISTENER, name, json, refusal.to_string()),
            }
        }
    }

    /// When something that waits for these secrets goes on without them, and a look at it then.
    fn deadline(self: &Arc<Self>, names: &[&str]) -> Option<Instant> {
        let mut missing = names.iter().filter(|n| !self.env.secrets.has(n)).peekable();
        missing.peek()?;
        if missing.any(|n| OWN.contains(n)) {
            return None;
        }
        let limit = self.env.settings.initial_fetch_timeout;
        let weak = Arc::downgrade(self);
        self.env.tasks.spawn(async move {
            tokio::time::sleep(limit).await;
            if let Some(core) = weak.upgrade() {
                core.promote(&mut lock(&core.state));
            }
        });
        Some(Instant::now() + limit)
    }

    /// Makes active what has all it waits for, or has waited long enough.
    fn promote(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        let has = |names: &[&str]| names.iter().all(|n| self.env.secrets.has(n));
        let over = |until: Option<Instant>| until.is_some_and(|until| now >= until);
        let ready: Vec<String> = state
            .warming_clusters
            .iter()
            .filter(|(_, w)| has(&w.what.secret_names()) || over(w.until))
            .map(|(name, _)| name.clone())
            .collect();
        for name in ready {
            let Some(warm) = state.warming_clusters.remove(&name) else { continue };
            let before = write(&self.env.tables).clusters.insert(name, warm.what);
            if let Some(before) = before {
                before.retire();
            }
        }
        // Routes are waited for as long as it takes (`initial_fetch_timeout: 0s`).
        let routed = |listener: &ListenerRuntime| listener.route_names().all(|name| self.env.route(name).is_some());
        let ready: Vec<String> = state
            .warming_listeners
            .iter()
            .filter(|(_, w)| (has(&w.what.secret_names()) || over(w.until)) && routed(&w.what))
            .map(|(name, _)| name.clone())
            .collect();
        for name in ready {
            if let Some(warm) = state.warming_listeners.remove(&name) {
                self.activate(state, &name, warm.what);
            }
        }
    }

    fn activate(self: &Arc<Self>, state: &mut State, name: &str, runtime: Arc<ListenerRuntime>) {
        if state.stopped {
            return;
        }
        let binds = |l: &ListenerRuntime| l.spec.bind_to_port && l.spec.address == runtime.spec.address;
        let other = read(&self.env.tables).listeners.iter().any(|(n, l)| n != name && binds(l));
        if other && runtime.spec.bind_to_port {
            let address = &runtime.spec.address;
            let words = format!("error adding listener: '{name}' has duplicate address '{address}' as existing listener");
            return state.refuse(LISTENER, name, &runtime.sent.json, words);
        }
        match (&runtime.spec.address, runtime.spec.bind_to_port) {
            (Address::Ip(address), true) => {
                if state.sockets.get(name).is_none_or(|s| s.address() != *address) {
                    match Socket::open(&self.env, name, *address) {
                        Ok(socket) => {
                            state.sockets.insert(name.to_owned(), socket);
                        }
                        Err(_) => {
                            let words = format!("error adding listener '{address}': cannot bind '{address}': Address already in use");
                            return state.refuse(LISTENER, name, &runtime.sent.json, words);
                        }
                    }
                }
            }
            _ => {
                state.sockets.remove(name);
            }
        }
        let before = write(&self.env.tables).listeners.insert(name.to_owned(), runtime.clone());
        if let Some(before) = before
            && before.give_way(&self.env, Some(&runtime))
        {
            state.drains(&self.env, before);
        }
    }

    fn count(&self, state: &State) {
        let tables = read(&self.env.tables);
        let stat = |name: &str, n: usize| self.env.stats.stat(name).set(n);
        stat("listener_manager.total_listeners_active", tables.listeners.len());
        stat("listener_manager.total_listeners_warming", state.warming_listeners.len());
        stat("cluster_manager.active_clusters", tables.clusters.len());
        stat("cluster_manager.warming_clusters", state.warming_clusters.len());
        for (type_url, name) in [(LISTENER, "listener_manager.lds"), (CLUSTER, "cluster_manager.cds")] {
            let refused = state.refused.get(type_url).is_some_and(|r| !r.is_empty());
            self.env.stats.stat(&format!("{name}.{}", if refused { "update_rejected" } else { "update_success" })).inc();
        }
        for gauge in ["total_filter_chains_draining", "total_listeners_draining"] {
            self.env.stats.stat(&format!("listener_manager.{gauge}"));
        }
    }

    /// Names of listeners and clusters that wait for secrets.
    pub(super) fn warming(&self) -> Vec<String> {
        let state = lock(&self.state);
        state.warming_clusters.keys().chain(state.warming_listeners.keys()).cloned().collect()
    }

    /// Whether it has been configured: then the proxy is ready.
    pub(super) fn is_configured(&self) -> bool {
        lock(&self.state).given.is_some()
    }

    pub(super) fn stop(&self) {
        let mut state = lock(&self.state);
        let state = std::mem::replace(&mut *state, State { stopped: true, ..State::default() });
        for warming in state.warming_clusters.values() {
            warming.what.retire();
        }
        self.env.clear();
    }
}

impl State {
    fn changed(&mut self, type_url: &'static str) {
        self.changes += 1;
        self.versions.insert(type_url, (self.changes, Timestamp::now()));
    }

    fn accept(&mut self, type_url: &'static str, name: &str) {
        if let Some(refused) = self.refused.get_mut(type_url) {
            refused.remove(name);
        }
    }

    fn refuse(&mut self, type_url: &'static str, name: &str, json: &Arc<Value>, words: String) {
        let refused = Refused { json: json.clone(), words, at: Timestamp::now() };
        self.refused.entry(type_url).or_default().insert(name.to_owned(), refused);
    }

    fn drains(&mut self, env: &Env, listener: Arc<ListenerRuntime>) {
        let now = Instant::now();
        self.draining.retain(|(_, until)| *until > now);
        self.draining.push((listener, now + env.settings.drain_time));
    }

    /// One for each type, in the words of `LdsApiImpl`, `CdsApiHelper` and the subscriptions of the others.
    fn refusals(&self) -> Vec<Refusal> {
        let of = |(type_url, refused): (&&'static str, &BTreeMap<String, Refused>)| {
            let each = refused.iter().map(|(name, r)| (name, r.words.as_str()));
            let message = match *type_url {
                LISTENER => {
                    format!("Error adding/updating listener(s) {}", each.map(|(n, w)| format!("{n}: {w}\n")).collect::<String>())
                }
                CLUSTER => {
                    format!("Error adding/updating cluster(s) {}", each.map(|(n, w)| format!("{n}: {w}")).collect::<Vec<_>>().join(", "))
                }
                _ => each.map(|(_, w)| w.to_owned()).collect::<Vec<_>>().join(", "),
            };
            Refusal { type_url: (*type_url).to_owned(), message }
        };
        self.refused.iter().filter(|(_, refused)| !refused.is_empty()).map(of).collect()
    }
}
