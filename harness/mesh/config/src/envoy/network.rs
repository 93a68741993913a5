//! Network filters.

use std::collections::BTreeMap;
use std::time::Duration;

use super::access_log::{AccessLog, Format};
use super::hcm::HttpConnectionManager;
use super::rbac::Rbac;

/// A network filter of a chain.
#[derive(Debug, Clone)]
pub enum NetworkFilter {
    /// Copies bytes to a cluster; terminal.
    TcpProxy(Box<TcpProxy>),
    /// Speaks HTTP; terminal.
    HttpConnectionManager(Box<HttpConnectionManager>),
    /// Lets connections in or closes them.
    Rbac(Box<NetworkRbac>),
    /// Writes filter state when a connection begins.
    SetFilterState(Vec<FilterStateValue>),
    /// Bounds the number of connections.
    ConnectionLimit(ConnectionLimit),
    /// A token bucket for connections.
    LocalRateLimit(TokenBucket),
    /// `sni_cluster`: the TCP proxy's cluster is the SNI.
    SniCluster,
    /// Reads and answers nothing of its own (telemetry), by name.
    Ignored(String),
}

/// One name among several with a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpWeight {
    /// The cluster.
    pub cluster: String,
    /// Its weight; at least 1.
    pub weight: u32,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug, Clone)]
pub struct TcpProxy {
    /// The prefix of its statistics.
    pub stat_prefix: String,
    /// Where bytes go: one cluster with weight 1, or several.
    pub clusters: Vec<TcpWeight>,
    /// Written when the connection is closed.
    pub access_log: Vec<AccessLog>,
    /// Closed after so long without bytes; none: never (`0s`). Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Attempts to connect; default 1.
    pub max_connect_attempts: u32,
    /// Closed after so long in any case.
    pub max_downstream_connection_duration: Option<Duration>,
    /// `tunneling_config.hostname`: bytes go within a CONNECT to this.
    pub tunnel: Option<Format>,
}

impl TcpProxy {
    /// The cluster for a connection, by the caller's random value
    /// (`WeightedClusterUtil::pickCluster`: the value modulo the sum of weights).
    pub fn cluster(&self, random: u64) -> Option<&str> {
        let total: u64 = self.clusters.iter().map(|c| u64::from(c.weight)).sum();
        let mut left = random.checked_rem(total)?;
        self.clusters.iter().find_map(|c| match left.checked_sub(u64::from(c.weight)) {
            None => Some(c.cluster.as_str()),
            Some(rest) => {
                left = rest;
                None
            }
        })
    }
}

/// `envoy.extensions.filters.network.rbac.v3.RBAC`.
#[derive(Debug, Clone)]
pub struct NetworkRbac {
    /// The prefix of its statistics.
    pub stat_prefix: String,
    /// The rules; none: all pass.
    pub rules: Option<Rbac>,
    /// Rules that are counted and do not act.
    pub shadow_rules: Option<Rbac>,
}

/// One value that `set_filter_state` writes.
#[derive(Debug, Clone)]
pub struct FilterStateValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Format,
    /// An empty value is not written.
    pub skip_if_empty: bool,
    /// Shared with the upstream connection.
    pub shared: bool,
}

/// `envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// How many at once.
    pub max_connections: u64,
    /// How long a connection above the limit is kept before it is closed.
    pub delay: Option<Duration>,
}

/// `envoy.type.v3.TokenBucket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// At most so many.
    pub max_tokens: u32,
    /// So many are added ...
    pub tokens_per_fill: u32,
    /// ... each such time.
    pub fill_interval: Duration,
}

/// A token bucket at work. It fills without steps, as Envoy's `AtomicTokenBucketImpl` does; times are since any beginning
/// that the caller keeps to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    settings: TokenBucket,
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    /// A full one.
    pub fn new(settings: TokenBucket, now: Duration) -> Self {
        Self { settings, tokens: f64::from(settings.max_tokens), filled: now }
    }

    /// Take one token, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let time = now.saturating_sub(self.filled).as_secs_f64();
        let per_second = f64::from(self.settings.tokens_per_fill) / self.settings.fill_interval.as_secs_f64().max(f64::MIN_POSITIVE);
        self.tokens = (self.tokens + time * per_second).min(f64::from(self.settings.max_tokens));
        self.filled = self.filled.max(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// Dynamic metadata: by filter, then Struct as JSON.
pub type Metadata = BTreeMap<String, serde_json::Value>;
