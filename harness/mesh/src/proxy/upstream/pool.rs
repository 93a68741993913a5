//! Connections for HTTP, kept between requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use gateproof_mesh_config::envoy::access_log::TlsFacts;
use gateproof_mesh_config::envoy::cluster::UpstreamProtocol;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use super::super::http::Outgoing;
use super::super::lock;
use super::super::tls::Hello;
use super::{ClusterRuntime, ConnectError, Reset, UpstreamHost};

/// Which connections can be used for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    http2: bool,
    hello: Hello,
}

/// What is kept for one endpoint.
#[derive(Default)]
pub(super) struct Pools {
    idle: HashMap<Key, Vec<Lease>>,
    shared: HashMap<Key, Lease>,
    open: usize,
    /// The endpoint is gone: nothing is kept any more.
    retired: bool,
}

impl Pools {
    /// Lets all connections go that are not in use, and later the others.
    pub(super) fn retire(&mut self) {
        self.retired = true;
        self.idle.clear();
        self.shared.clear();
    }
}

/// Sends requests.
pub(in super::super) enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

/// A connection for one request.
pub(in super::super) struct Lease {
    pub(in super::super) sender: Sender,
    pub(in super::super) local: SocketAddr,
    pub(in super::super) tls: Option<Arc<TlsFacts>>,
    /// It was used before, so the upstream may have closed it meanwhile.
    pub(in super::super) used: bool,
    uses: u32,
    key: Key,
}

impl Lease {
    pub(in super::super) fn protocol(&self) -> &'static str {
        match self.sender {
            Sender::Http1(_) => "HTTP/1.1",
            Sender::Http2(_) => "HTTP/2",
        }
    }

    fn alive(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed() && sender.is_ready(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }
}

impl ClusterRuntime {
    /// A connection for a request: one that is free, a new one, or, where the circuit breaker lets no more be opened, one
    /// that becomes free.
    ///
    /// # Errors
    /// Why there is none.
    pub(in super::super) async fn lease(
        self: &Arc<Self>,
        host: &Arc<UpstreamHost>,
        downstream_http2: bool,
        hello: Hello,
        fresh: bool,
    ) -> Result<Lease, ConnectError> {
        let http2 = match self.spec.http.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Downstream => downstream_http2,
            UpstreamProtocol::Alpn => host.tls.is_some(),
        };
        let alpn: &[&str] = match (self.spec.http.protocol, http2) {
            (UpstreamProtocol::Alpn, _) => &["h2", "http/1.1"],
            (_, true) => &["h2"],
            (_, false) => &["http/1.1"],
        };
        let key = Key { http2, hello: Hello { alpn: alpn.iter().map(|p| (*p).to_owned()).collect(), ..hello } };
        if let Some(lease) = self.kept(host, &key).filter(|_| !fresh) {
            return Ok(lease);
        }
        // Connecting counts as pending, and so does waiting (`ConnPoolImplBase::newStreamImpl`).
        if self.stats.rq_pending_active.get() >= i64::from(self.spec.circuit_breakers.max_pending_requests) {
            self.stats.rq_pending_overflow.inc();
            return Err(ConnectError { reset: Reset::Overflow, transport: String::new() });
        }
        let _pending = self.stats.rq_pending_active.held();
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(lease) = self.kept(host, &key).filter(|_| !fresh) {
                return Ok(lease);
            }
            // Each endpoint gets one connection whatever the limit says (`tryCreateNewConnection`).
            if self.connections_left() || lock(&host.pool).open == 0 {
                return self.open(host, key).await;
            }
            self.stats.cx_overflow.inc();
            freed.await;
        }
    }

    fn kept(&self, host: &UpstreamHost, key: &Key) -> Option<Lease> {
        let mut pools = lock(&host.pool);
        if let Some(shared) = pools.shared.get(key) {
            if let (true, Sender::Http2(sender)) = (shared.alive(), &shared.sender) {
                let (sender, tls) = (Sender::Http2(sender.clone()), shared.tls.clone());
                return Some(Lease { sender, local: shared.local, tls, used: true, uses: 0, key: key.clone() });
            }
            pools.shared.remove(key);
        }
        let idle = pools.idle.get_mut(key)?;
        loop {
            let lease = idle.pop()?;
            if lease.alive() {
                return Some(lease);
            }
        }
    }

    async fn open(self: &Arc<Self>, host: &Arc<UpstreamHost>, key: Key) -> Result<Lease, ConnectError> {
        lock(&host.pool).open += 1;
        let mut counted = Counted { cluster: self.clone(), host: host.clone(), held: None };
        let connected = self.connect_over_limit(host, &key.hello).await?;
        counted.held = Some(connected.held);
        let failed = |_| ConnectError { reset: Reset::ConnectionTermination, transport: String::new() };
        let agreed = connected.stream.alpn().map(|p| p == b"h2");
        let http2 = if self.spec.http.protocol == UpstreamProtocol::Alpn { agreed == Some(true) } else { key.http2 };
        let io = TokioIo::new(connected.stream);
        let (local, tls) = (connected.local, connected.tls.map(Arc::new));
        let sender = if http2 {
            let (sender, driver) = http2::handshake(self.env.tasks.clone(), io).await.map_err(failed)?;
            self.env.tasks.spawn(async move {
                // How it ended shows in the requests on it.
                let _ = driver.await;
                drop(counted);
            });
            let shared = Lease { sender: Sender::Http2(sender.clone()), local, tls: tls.clone(), used: true, uses: 0, key: key.clone() };
            let mut pools = lock(&host.pool);
            if !pools.retired {
                pools.shared.insert(key.clone(), shared);
            }
            drop(pools);
            Sender::Http2(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.preserve_header_case(self.spec.http.preserve_case);
            let (sender, driver) = builder.handshake(io).await.map_err(failed)?;
            self.env.tasks.spawn(async move {
                let _ = driver.with_upgrades().await;
                drop(counted);
            });
            Sender::Http1(sender)
        };
        Ok(Lease { sender, local, tls, used: false, uses: 0, key })
    }

    /// Keeps a connection for the next request, once the response on it is read.
    pub(in super::super) fn give_back(self: &Arc<Self>, host: &Arc<UpstreamHost>, mut lease: Lease) {
        lease.uses += 1;
        lease.used = true;
        if self.spec.http.max_requests_per_connection.is_some_and(|most| most > 0 && lease.uses >= most) {
            return;
        }
        let (cluster, host) = (self.clone(), Arc::downgrade(host));
        self.env.tasks.spawn(async move {
            if let Sender::Http1(sender) = &mut lease.sender
                && sender.ready().await.is_ok()
                && let Some(host) = host.upgrade()
            {
                let mut pools = lock(&host.pool);
                if !pools.retired {
                    pools.idle.entry(lease.key.clone()).or_default().push(lease);
                }
                drop(pools);
                cluster.freed.notify_one();
            }
        });
    }
}

/// Counts an open connection of an endpoint, and tells who waits when it is gone.
struct Counted {
    cluster: Arc<ClusterRuntime>,
    host: Arc<UpstreamHost>,
    held: Option<super::Held>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut pools = lock(&self.host.pool);
        pools.open = pools.open.saturating_sub(1);
        drop(pools);
        self.held = None;
        self.cluster.freed.notify_one();
    }
}
