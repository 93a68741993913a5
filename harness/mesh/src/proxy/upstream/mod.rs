//! Clusters at work: their endpoints, which one is next, and connections to it.

mod balance;
mod connect;
mod health;
mod pool;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use gateproof_mesh_config::envoy::cluster::{Discovery, Health};
use gateproof_mesh_config::envoy::{Address, Cluster, Endpoint, Endpoints, UpstreamSocket};
use serde_json::Value;
use tokio::sync::Notify;

use super::env::Env;
use super::sent::Sent;
use super::stats::{Held, Stat};
use super::tls::ClientContext;
use super::{lock, read, write};

pub(super) use connect::{ConnectError, Connected, Reset};
pub(super) use pool::{Lease, Sender};

/// One endpoint of a cluster.
pub(super) struct UpstreamHost {
    /// As it was configured, or as a name was resolved.
    pub(super) endpoint: Endpoint,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Where else, if connecting there fails: the other addresses of a name (`LogicalHost`, RFC 8305).
    pub(super) others: Vec<SocketAddr>,
    tls: Option<Arc<ClientContext>>,
    health: Mutex<health::Record>,
    pool: Mutex<pool::Pools>,
}

/// What a cluster counts.
pub(super) struct ClusterStats {
    pub(super) cx_total: Stat,
    pub(super) cx_active: Stat,
    pub(super) cx_connect_fail: Stat,
    pub(super) cx_connect_timeout: Stat,
    pub(super) cx_overflow: Stat,
    pub(super) cx_none_healthy: Stat,
    pub(super) rq_total: Stat,
    pub(super) rq_active: Stat,
    pub(super) rq_pending_active: Stat,
    pub(super) rq_pending_overflow: Stat,
    pub(super) rq_completed: Stat,
    pub(super) rq_retry: Stat,
    pub(super) rq_timeout: Stat,
    pub(super) rq_class: [Stat; 5],
    pub(super) membership_total: Stat,
    pub(super) membership_healthy: Stat,
    pub(super) ejections_active: Stat,
    pub(super) ssl_handshake: Stat,
    pub(super) ssl_error: Stat,
}

/// The endpoints of a cluster at one moment.
#[derive(Default)]
pub(super) struct Members {
    pub(super) hosts: Vec<Arc<UpstreamHost>>,
    /// The same, as rules look at them.
    endpoints: Vec<Endpoint>,
    overprovisioning: u32,
}

/// The endpoints as a dump shows them: which, which of them could be used, and the text.
type EndpointText = (Arc<Members>, Vec<bool>, Arc<str>);

/// A cluster at work.
pub(super) struct ClusterRuntime {
    /// As it was sent.
    pub(super) sent: Sent,
    /// As it was read.
    pub(super) spec: Arc<Cluster>,
    /// `alt_stat_name`.
    pub(super) alt_name: Option<String>,
    pub(super) stats: ClusterStats,
    env: Arc<Env>,
    default_tls: Option<Arc<ClientContext>>,
    matched_tls: Vec<Option<Arc<ClientContext>>>,
    members: RwLock<Arc<Members>>,
    text: Mutex<Option<EndpointText>>,
    original: Mutex<BTreeMap<SocketAddr, Arc<UpstreamHost>>>,
    resolved: Mutex<Option<Instant>>,
    turn: Mutex<balance::Turn>,
    freed: Notify,
}

/// No endpoint can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoHealthyHost;

impl ClusterStats {
    fn new(env: &Env, name: &str) -> Self {
        let stat = |what: &str| env.stats.stat(&format!("cluster.{name}.{what}"));
        Self {
            cx_total: stat("upstream_cx_total"),
            cx_active: stat("upstream_cx_active"),
            cx_connect_fail: stat("upstream_cx_connect_fail"),
            cx_connect_timeout: stat("upstream_cx_connect_timeout"),
            cx_overflow: stat("upstream_cx_overflow"),
            cx_none_healthy: stat("upstream_cx_none_healthy"),
            rq_total: stat("upstream_rq_total"),
            rq_active: stat("upstream_rq_active"),
            rq_pending_active: stat("upstream_rq_pending_active"),
            rq_pending_overflow: stat("upstream_rq_pending_overflow"),
            rq_completed: stat("upstream_rq_completed"),
            rq_retry: stat("upstream_rq_retry"),
            rq_timeout: stat("upstream_rq_timeout"),
            rq_class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| stat(&format!("upstream_rq_{c}"))),
            membership_total: stat("membership_total"),
            membership_healthy: stat("membership_healthy"),
            ejections_active: stat("outlier_detection.ejections_active"),
            ssl_handshake: stat("ssl.handshake"),
            ssl_error: stat("ssl.connection_error"),
        }
    }
}

impl ClusterRuntime {
    pub(super) fn new(env: Arc<Env>, json: Arc<Value>, spec: Arc<Cluster>, assignment: Option<&Endpoints>) -> Self {
        let context = |socket: &UpstreamSocket| match socket {
            UpstreamSocket::Raw => None,
            UpstreamSocket::Tls(tls) => Some(Arc::new(ClientContext::new((**tls).clone(), env.secrets.clone()))),
        };
        let alt_name = json.get("alt_stat_name").and_then(Value::as_str).map(str::to_owned);
        let new = Self {
            alt_name: alt_name.clone(),
            stats: ClusterStats::new(&env, alt_name.as_deref().unwrap_or(&spec.name)),
            default_tls: context(&spec.transport_socket),
            matched_tls: spec.transport_socket_matches.iter().map(|m| context(&m.socket)).collect(),
            members: RwLock::default(),
            text: Mutex::default(),
            original: Mutex::default(),
            resolved: Mutex::default(),
            turn: Mutex::default(),
            freed: Notify::new(),
            env,
            sent: Sent::new(json),
            spec,
        };
        new.assign(assignment);
        new
    }

    /// The SDS names that its endpoints' TLS needs.
    pub(super) fn secret_names(&self) -> Vec<&str> {
        self.matched_tls.iter().chain([&self.default_tls]).flatten().flat_map(|tls| tls.names()).collect()
    }

    /// Takes a new assignment (EDS), or reads its own again.
    pub(super) fn assign(&self, assignment: Option<&Endpoints>) {
        match self.spec.discovery {
            Discovery::Eds => self.take(assignment),
            Discovery::Static => self.take(self.spec.load_assignment.as_ref()),
            Discovery::StrictDns | Discovery::LogicalDns => self.resolve(),
            Discovery::OriginalDst | Discovery::DynamicForwardProxy => {}
        }
    }

    fn take(&self, assignment: Option<&Endpoints>) {
        let found = assignment.iter().flat_map(|a| &a.endpoints).filter_map(|e| Some((e.clone(), vec![e.address.ip()?])));
        self.replace(found.collect(), assignment);
    }

    fn resolve(&self) {
        *lock(&self.resolved) = Some(Instant::now());
        let mut found = Vec::new();
        for endpoint in self.spec.load_assignment.iter().flat_map(|a| &a.endpoints) {
            let Address::Name(name, port) = &endpoint.address else {
                found.extend(endpoint.address.ip().map(|ip| (endpoint.clone(), vec![ip])));
                continue;
            };
            let all = (self.env.resolve)(name).unwrap_or_default();
            let v4: Vec<IpAddr> = all.iter().copied().filter(IpAddr::is_ipv4).collect();
            let addresses = if v4.is_empty() { all } else { v4 };
            let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect();
            let mut of_name = endpoint.clone();
            if of_name.hostname.is_empty() {
                of_name.hostname.clone_from(name);
            }
            match self.spec.discovery {
                Discovery::LogicalDns => found.push((of_name, addresses)),
                _ => found.extend(addresses.into_iter().map(|a| (of_name.clone(), vec![a]))),
            }
        }
        self.replace(found, self.spec.load_assignment.as_ref());
    }

    fn resolve_when_due(&self) {
        if matches!(self.spec.discovery, Discovery::StrictDns | Discovery::LogicalDns) {
            let due = lock(&self.resolved).is_none_or(|at| at.elapsed() >= self.spec.dns_refresh_rate);
            if due {
                self.resolve();
            }
        }
    }

    fn replace(&self, wanted: Vec<(Endpoint, Vec<SocketAddr>)>, assignment: Option<&Endpoints>) {
        let before = read(&self.members).clone();
        let hosts: Vec<Arc<UpstreamHost>> = wanted
            .into_iter()
            .filter_map(|(endpoint, addresses)| {
                let (address, others) = addresses.split_first()?;
                let same = before.hosts.iter().find(|h| h.address == *address && h.others == others && h.endpoint == endpoint);
                Some(same.cloned().unwrap_or_else(|| self.host(endpoint, *address, others.to_vec())))
            })
            .collect();
        for gone in before.hosts.iter().filter(|h| !hosts.iter().any(|n| Arc::ptr_eq(h, n))) {
            lock(&gone.pool).retire();
        }
        self.stats.membership_total.set(hosts.len());
        self.stats.membership_healthy.set(hosts.iter().filter(|h| h.configured_healthy()).count());
        let endpoints = hosts.iter().map(|h| h.endpoint.clone()).collect();
        // Envoy's default.
        let overprovisioning = assignment.map_or(140, |a| a.overprovisioning_factor);
        *write(&self.members) = Arc::new(Members { hosts, endpoints, overprovisioning });
    }

    /// The cluster is gone, or there is a newer version of it.
    pub(super) fn retire(&self) {
        for host in read(&self.members).hosts.iter().chain(lock(&self.original).values()) {
            lock(&host.pool).retire();
        }
        lock(&self.original).clear();
    }

    fn host(&self, endpoint: Endpoint, address: SocketAddr, others: Vec<SocketAddr>) -> Arc<UpstreamHost> {
        let socket = self.spec.socket_for(&endpoint);
        let matched = self.spec.transport_socket_matches.iter().position(|m| std::ptr::eq(&m.socket, socket));
        let tls = matched.and_then(|i| self.matched_tls.get(i)).unwrap_or(&self.default_tls).clone();
        Arc::new(UpstreamHost { endpoint, address, others, tls, health: Mutex::default(), pool: Mutex::default() })
    }

    /// Its endpoints now.
    pub(super) fn members(&self) -> Arc<Members> {
        self.resolve_when_due();
        read(&self.members).clone()
    }

    /// Its endpoints as text, which is made anew only when they are others or in another state.
    pub(super) fn endpoints_text(&self, make: impl FnOnce(&Members) -> String) -> Arc<str> {
        let members = self.members();
        let usable: Vec<bool> = members.hosts.iter().map(|host| host.usable()).collect();
        let mut known = lock(&self.text);
        if let Some((of, then, text)) = &*known
            && Arc::ptr_eq(of, &members)
            && *then == usable
        {
            return text.clone();
        }
        let text: Arc<str> = make(&members).into();
        *known = Some((members, usable, text.clone()));
        text
    }

    /// The endpoint for the next call. `original` is where the client was going; `avoid` are those that were tried.
    ///
    /// # Errors
    /// There is none that can be used.
    pub(super) fn choose(&self, original: Option<SocketAddr>, avoid: &[SocketAddr]) -> Result<Arc<UpstreamHost>, NoHealthyHost> {
        if self.spec.discovery == Discovery::OriginalDst {
            let mut to = original.ok_or(NoHealthyHost)?;
            if let Some(port) = self.spec.upstream_port_override {
                to.set_port(port);
            }
            return Ok(self.at(to));
        }
        if self.spec.discovery == Discovery::DynamicForwardProxy {
            return Err(NoHealthyHost);
        }
        let (members, random) = (self.members(), self.env.random.next());
        let chosen = balance::choose(&self.spec, &members, avoid, &mut lock(&self.turn), random);
        if chosen.is_none() {
            self.stats.cx_none_healthy.inc();
        }
        chosen.ok_or(NoHealthyHost)
    }

    /// The endpoint at an address, for clusters that have none of their own.
    pub(super) fn at(&self, to: SocketAddr) -> Arc<UpstreamHost> {
        let mut hosts = lock(&self.original);
        hosts.entry(to).or_insert_with(|| self.host(original_endpoint(to), to, Vec::new())).clone()
    }

    fn connections_left(&self) -> bool {
        self.stats.cx_active.get() < i64::from(self.spec.circuit_breakers.max_connections)
    }

    /// Counts a request as active; None when the circuit breaker is open.
    pub(super) fn begin_request(&self) -> Option<Held> {
        if self.stats.rq_active.get() >= i64::from(self.spec.circuit_breakers.max_requests) {
            self.stats.rq_pending_overflow.inc();
            return None;
        }
        self.stats.rq_total.inc();
        Some(self.stats.rq_active.held())
    }

    /// Notes the status of a response.
    pub(super) fn completed(&self, status: u16) {
        self.stats.rq_completed.inc();
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|i| self.stats.rq_class.get(i)) {
            class.inc();
        }
    }

    /// Notes for outlier detection how a call to an endpoint went: a status, or 503 where there was none.
    pub(super) fn went(&self, host: &Arc<UpstreamHost>, status: u16) {
        if let Some(rules) = &self.spec.outlier_detection {
            let hosts = &read(&self.members).clone().hosts;
            let out = host.note(rules, status, hosts);
            if out {
                self.stats.ejections_active.set(hosts.iter().filter(|h| h.ejected()).count());
            }
        }
    }
}

fn original_endpoint(to: SocketAddr) -> Endpoint {
    Endpoint {
        address: Address::Ip(to),
        hostname: String::new(),
        health: Health::Unknown,
        weight: 1,
        metadata: BTreeMap::new(),
        priority: 0,
        locality: String::new(),
        locality_weight: None,
    }
}
