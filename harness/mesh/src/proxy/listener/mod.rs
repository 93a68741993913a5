//! Listeners at work: sockets, filter chains, and what becomes of connections when those change.

mod accept;
mod socket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use gateproof_mesh_config::envoy::hcm::RouteSource;
use gateproof_mesh_config::envoy::network::{Bucket, TokenBucket};
use gateproof_mesh_config::envoy::{FilterChain, HttpConnectionManager, Listener, NetworkFilter, TcpProxy};
use serde_json::Value;
use tokio::sync::watch;

use super::env::Env;
use super::lock;
use super::sent::{Sent, any};
use super::stats::Stat;
use super::tls::ServerContext;

pub(super) use accept::{handle, set_state};
pub(super) use socket::{Socket, captured};

/// How long connections of a chain may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// For ever.
    Not,
    /// Until the drain time is over; HTTP connections are asked to close the more surely, the later.
    Since(Instant),
    /// No longer.
    Over,
}

/// What the last filter of a chain does.
#[derive(Clone)]
pub(super) enum Terminal {
    /// Copies bytes.
    Tcp(Arc<TcpProxy>),
    /// Speaks HTTP.
    Http(Arc<HttpConnectionManager>),
    /// None of these: the connection is closed.
    Nothing,
}

/// A filter chain at work. It outlives changes of its listener that leave it alone.
pub(super) struct ChainRuntime {
    pub(super) spec: FilterChain,
    json: Value,
    pub(super) tls: Option<ServerContext>,
    pub(super) terminal: Terminal,
    drain: watch::Sender<Drain>,
    pub(super) connections: Stat,
    buckets: Mutex<HashMap<usize, Bucket>>,
    /// Where its buckets' time begins.
    made: Instant,
}

/// One version of a listener at work.
pub(super) struct ListenerRuntime {
    /// As it was sent.
    pub(super) sent: Sent,
    /// As it was read.
    pub(super) spec: Arc<Listener>,
    /// In the order of the listener's.
    pub(super) chains: Vec<Arc<ChainRuntime>>,
    pub(super) default_chain: Option<Arc<ChainRuntime>>,
    /// Its name in statistics: the address.
    pub(super) stat_name: String,
    pub(super) active: Stat,
    pub(super) total: Stat,
    pub(super) no_chain: Stat,
    pub(super) ssl_handshake: Stat,
    pub(super) ssl_error: Stat,
    static_routes: OnceLock<Vec<Arc<str>>>,
}

impl ChainRuntime {
    fn new(env: &Arc<Env>, spec: FilterChain, json: Value) -> Self {
        let tls = spec.tls.as_ref().map(|tls| ServerContext::new((**tls).clone(), env.secrets.clone()));
        let terminal = spec
            .filters
            .iter()
            .find_map(|filter| match filter {
                NetworkFilter::TcpProxy(tcp) => Some(Terminal::Tcp(Arc::new((**tcp).clone()))),
                NetworkFilter::HttpConnectionManager(http) => Some(Terminal::Http(Arc::new((**http).clone()))),
                _ => None,
            })
            .unwrap_or(Terminal::Nothing);
        let drain = watch::Sender::new(Drain::Not);
        Self { spec, json, tls, terminal, drain, connections: Stat::default(), buckets: Mutex::default(), made: Instant::now() }
    }

    /// Follows what becomes of it.
    pub(super) fn drain(&self) -> watch::Receiver<Drain> {
        self.drain.subscribe()
    }

    /// Whether a response ends its connection: with a probability that grows over the drain time
    /// (`DrainManagerImpl::drainClose`).
    pub(super) fn asks_to_close(&self, env: &Env) -> bool {
        match *self.drain.borrow() {
            Drain::Not => false,
            Drain::Over => true,
            Drain::Since(began) => {
                let whole = u64::try_from(env.settings.drain_time.as_millis()).unwrap_or(u64::MAX);
                let gone = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                gone >= whole || env.random.next() % whole.max(1) < gone
            }
        }
    }

    /// Lets connections go on for the drain time.
    fn start_draining(self: &Arc<Self>, env: &Arc<Env>) {
        let began = self.drain.send_if_modified(|drain| {
            let fresh = *drain == Drain::Not;
            if fresh {
                *drain = Drain::Since(Instant::now());
            }
            fresh
        });
        if began {
            let (chain, time) = (self.clone(), env.settings.drain_time);
            env.tasks.spawn(async move {
                tokio::time::sleep(time).await;
                chain.drain.send_replace(Drain::Over);
            });
        }
    }

    /// Takes a token of the bucket known by `which`.
    pub(super) fn take_token(&self, which: usize, settings: &TokenBucket) -> bool {
        let now = self.made.elapsed();
        lock(&self.buckets).entry(which).or_insert_with(|| Bucket::new(*settings, now)).take(now)
    }
}

impl ListenerRuntime {
    /// Makes a version. Chains that are as in `before` are kept with their connections.
    pub(super) fn new(env: &Arc<Env>, json: Arc<Value>, spec: Arc<Listener>, before: Option<&Self>) -> Self {
        let old = |wanted: &Value| before.and_then(|b| b.all_chains().find(|c| c.json == *wanted).cloned());
        let chain =
            |spec: &FilterChain, json: &Value| old(json).unwrap_or_else(|| Arc::new(ChainRuntime::new(env, spec.clone(), json.clone())));
        let null = Value::Null;
        let jsons = json.get("filter_chains").and_then(Value::as_array);
        let chains = spec.filter_chains.iter().enumerate();
        let chains = chains.map(|(i, s)| chain(s, jsons.and_then(|j| j.get(i)).unwrap_or(&null))).collect();
        let default_chain = spec.default_filter_chain.as_ref().map(|s| chain(s, json.get("default_filter_chain").unwrap_or(&null)));
        let stat_name = spec.address.to_string().replace(':', "_");
        let stat = |what: &str| env.stats.stat(&format!("listener.{stat_name}.{what}"));
        Self {
            active: stat("downstream_cx_active"),
            total: stat("downstream_cx_total"),
            no_chain: stat("no_filter_chain_match"),
            ssl_handshake: stat("ssl.handshake"),
            ssl_error: stat("ssl.connection_error"),
            stat_name: stat_name.clone(),
            sent: Sent::new(json),
            spec,
            chains,
            default_chain,
            static_routes: OnceLock::new(),
        }
    }

    fn all_chains(&self) -> impl Iterator<Item = &Arc<ChainRuntime>> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The SDS names that its chains need.
    pub(super) fn secret_names(&self) -> Vec<&str> {
        self.all_chains().filter_map(|c| c.tls.as_ref()).flat_map(ServerContext::names).collect()
    }

    /// The names of the routes that its chains ask for.
    pub(super) fn route_names(&self) -> impl Iterator<Item = &str> {
        self.all_chains().filter_map(|chain| match &chain.terminal {
            Terminal::Http(manager) => match &manager.routes {
                RouteSource::Rds(name) => Some(name.as_str()),
                RouteSource::Inline(_) => None,
            },
            _ => None,
        })
    }

    /// Whether the two differ in filter chains alone (`ListenerMessageUtil::filterChainOnlyChange`).
    fn differs_in_chains_alone(&self, other: &Self) -> bool {
        let rest = |json: &Value| {
            let mut json = json.clone();
            if let Some(fields) = json.as_object_mut() {
                for chains in ["filter_chains", "default_filter_chain", "filter_chain_matcher"] {
                    fields.remove(chains);
                }
            }
            json
        };
        rest(&self.sent.json) == rest(&other.sent.json)
    }

    /// Drains what of this version is no part of the next one, and counts it as Envoy does for as long. Whether it drains
    /// as a whole.
    pub(super) fn give_way(&self, env: &Arc<Env>, next: Option<&Self>) -> bool {
        let kept = |chain: &Arc<ChainRuntime>| next.is_some_and(|n| n.all_chains().any(|c| Arc::ptr_eq(c, chain)));
        let gone: Vec<&Arc<ChainRuntime>> = self.all_chains().filter(|c| !kept(c)).collect();
        for chain in &gone {
            chain.start_draining(env);
        }
        let whole = next.is_none_or(|next| !self.differs_in_chains_alone(next));
        let (gauge, n) = if whole { ("total_listeners_draining", 1) } else { ("total_filter_chains_draining", gone.len()) };
        let (gauge, n) = (env.stats.stat(&format!("listener_manager.{gauge}")), i64::try_from(n).unwrap_or_default());
        gauge.add(n);
        let time = env.settings.drain_time;
        env.tasks.spawn(async move {
            tokio::time::sleep(time).await;
            gauge.add(-n);
        });
        whole
    }

    /// The route configurations within it, for dumps.
    pub(super) fn static_routes(&self) -> &[Arc<str>] {
        self.static_routes.get_or_init(|| {
            let chains = self.sent.json.get("filter_chains").and_then(Value::as_array).into_iter().flatten();
            let filters = chains.chain(self.sent.json.get("default_filter_chain")).filter_map(|c| c.get("filters")?.as_array()).flatten();
            let routes = filters.filter_map(|f| f.get("typed_config")?.get("route_config"));
            routes.map(|r| any(r, "type.googleapis.com/envoy.config.route.v3.RouteConfiguration").into()).collect()
        })
    }

    /// Ends its connections now.
    pub(super) fn close(&self) {
        for chain in self.all_chains() {
            chain.drain.send_replace(Drain::Over);
        }
    }
}

/// How long a client may take for its TLS handshake where a chain does not say.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
