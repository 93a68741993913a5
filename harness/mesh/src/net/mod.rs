//! The virtual network: hosts with addresses, connections that close and reset as TCP's do, Services' addresses, names.
//!
//! Nothing here speaks to the machine's own network. Delivery takes no time; order between two connections is that of
//! the tasks that use them.

mod conn;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::mpsc;

pub use conn::Conn;
pub use names::Names;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The first port that a client is given, as on Linux (`ip_local_port_range`).
const FIRST_CLIENT_PORT: u16 = 32768;
const LAST_CLIENT_PORT: u16 = 60999;

/// All hosts, the addresses of Services, and the names that resolve. Cheap to clone.
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
    names: Names,
}

#[derive(Default)]
struct State {
    hosts: HashMap<IpAddr, Weak<HostState>>,
    services: HashMap<SocketAddr, Vec<SocketAddr>>,
    turn: HashMap<SocketAddr, usize>,
}

/// Who opens a connection on a host: only an application's connections are captured by a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A program in an application's container.
    Application,
    /// The proxy itself (user 1337 in Istio), or a host without one.
    Proxy,
}

/// Where a listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// Every address of the host, loopback too.
    Any,
    /// 127.0.0.1 alone.
    Loopback,
}

/// Which connections a sidecar captures, as istio-init's rules in iptables would.
#[derive(Clone)]
pub struct Capture {
    /// Whether a connection from the application to this address is captured.
    pub outbound: Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>,
    /// Whether a connection to this port of the pod is captured.
    pub inbound: Arc<dyn Fn(u16) -> bool + Send + Sync>,
    /// Takes captured connections from the application; [`Conn::original_destination`] is where it meant to go.
    pub outbound_to: mpsc::UnboundedSender<Conn>,
    /// Takes captured connections to the pod.
    pub inbound_to: mpsc::UnboundedSender<Conn>,
}

/// One host: a pod, a node, or something outside the cluster. It is gone when its last clone is dropped.
#[derive(Clone)]
pub struct Host {
    state: Arc<HostState>,
    network: Network,
}

struct HostState {
    ip: IpAddr,
    inner: Mutex<HostInner>,
}

#[derive(Default)]
struct HostInner {
    listeners: HashMap<(u16, bool), mpsc::UnboundedSender<Conn>>,
    capture: Option<Capture>,
    last_port: u16,
}

/// Takes connections to one port of a host. Dropped, the port is closed and connections not yet taken are reset.
pub struct Listener {
    host: Host,
    port: u16,
    loopback: bool,
    incoming: mpsc::UnboundedReceiver<Conn>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Network {
    /// The names that resolve on it.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A new host.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when the address is taken.
    pub fn add(&self, ip: IpAddr) -> io::Result<Host> {
        let mut state = lock(&self.state);
        if state.hosts.get(&ip).is_some_and(|h| h.strong_count() > 0) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{ip} is taken")));
        }
        let host = Arc::new(HostState { ip, inner: Mutex::default() });
        state.hosts.insert(ip, Arc::downgrade(&host));
        Ok(Host { state: host, network: self.clone() })
    }

    /// Replaces what the addresses of Services (cluster IPs, node ports) lead to: kube-proxy's table.
    /// An address with no endpoint refuses connections.
    pub fn set_services(&self, services: BTreeMap<SocketAddr, Vec<SocketAddr>>) {
        let mut state = lock(&self.state);
        state.services = services.into_iter().collect();
        let State { services, turn, .. } = &mut *state;
        turn.retain(|address, _| services.contains_key(address));
    }

    fn find(&self, ip: IpAddr) -> Option<Arc<HostState>> {
        lock(&self.state).hosts.get(&ip)?.upgrade()
    }

    /// Where a connection to this address goes: the address itself, or one endpoint of the Service that has it.
    fn destination(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        let mut state = lock(&self.state);
        let State { services, turn, .. } = &mut *state;
        let Some(endpoints) = services.get(&to) else { return Ok(to) };
        let turn = turn.entry(to).or_default();
        let endpoint = endpoints.get(*turn % endpoints.len().max(1)).copied().ok_or(io::ErrorKind::ConnectionRefused)?;
        *turn = turn.wrapping_add(1);
        Ok(endpoint)
    }
}

impl Host {
    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.state.ip
    }

    /// The network that it is on.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Listens on a port.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when something listens there already.
    pub fn listen(&self, bind: Bind, port: u16) -> io::Result<Listener> {
        let (sender, incoming) = mpsc::unbounded_channel();
        let loopback = bind == Bind::Loopback;
        let mut inner = lock(&self.state.inner);
        let taken = |l: bool| inner.listeners.get(&(port, l)).is_some_and(|s| !s.is_closed());
        if taken(false) || taken(true) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("port {port} of {} is in use", self.ip())));
        }
        inner.listeners.insert((port, loopback), sender);
        Ok(Listener { host: self.clone(), port, loopback, incoming })
    }

    /// Lets a sidecar capture connections, or no longer.
    pub fn set_capture(&self, capture: Option<Capture>) {
        lock(&self.state.inner).capture = capture;
    }

    /// Connects to an address, as a program on this host.
    ///
    /// # Errors
    /// Refused when nothing listens or a Service has no endpoint; host unreachable when no host has the address.
    pub fn connect(&self, to: SocketAddr, caller: Caller) -> io::Result<Conn> {
        self.connect_from(None, to, caller)
    }

    /// As [`Host::connect`], from another address of this host (such as 127.0.0.6 for a sidecar's inbound calls).
    ///
    /// # Errors
    /// As [`Host::connect`].
    pub fn connect_from(&self, source: Option<IpAddr>, to: SocketAddr, caller: Caller) -> io::Result<Conn> {
        if to.ip().is_loopback() {
            return self.connect_here(source.unwrap_or(LOOPBACK), to);
        }
        let client = SocketAddr::new(source.unwrap_or(self.ip()), self.next_port());
        if caller == Caller::Application {
            let capture = lock(&self.state.inner).capture.clone();
            if let Some(capture) = capture.filter(|c| to.ip() != self.ip() && (c.outbound)(to)) {
                let (near, far) = Conn::pair(client, to, to);
                capture.outbound_to.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
                return Ok(near);
            }
        }
        let destination = self.network.destination(to)?;
        if destination.ip() == self.ip() && caller == Caller::Proxy {
            return self.deliver(client, to, destination, false);
        }
        let target = self
            .network
            .find(destination.ip())
            .ok_or_else(|| io::Error::new(io::ErrorKind::HostUnreachable, format!("no route to {destination}")))?;
        Self { state: target, network: self.network.clone() }.deliver(client, to, destination, true)
    }

    /// Connects to a port of this host's loopback, as a port-forward does: no sidecar captures it.
    ///
    /// # Errors
    /// Refused when nothing listens.
    pub fn connect_loopback(&self, port: u16) -> io::Result<Conn> {
        self.connect_here(LOOPBACK, SocketAddr::new(LOOPBACK, port))
    }

    fn connect_here(&self, source: IpAddr, to: SocketAddr) -> io::Result<Conn> {
        let client = SocketAddr::new(source, self.next_port());
        let (near, far) = Conn::pair(client, to, to);
        let inner = lock(&self.state.inner);
        let listener = [true, false].iter().find_map(|l| inner.listeners.get(&(to.port(), *l)).filter(|s| !s.is_closed()));
        listener.ok_or(io::ErrorKind::ConnectionRefused)?.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    /// Hands a connection that arrived at this host to its sidecar or its listener. `asked` is what the client dialled.
    fn deliver(&self, client: SocketAddr, asked: SocketAddr, to: SocketAddr, may_capture: bool) -> io::Result<Conn> {
        let inner = lock(&self.state.inner);
        let capture = inner.capture.as_ref().filter(|c| may_capture && (c.inbound)(to.port()));
        let sender = match capture {
            Some(capture) => &capture.inbound_to,
            None => inner.listeners.get(&(to.port(), false)).ok_or(io::ErrorKind::ConnectionRefused)?,
        };
        let (near, far) = Conn::pair(client, asked, to);
        sender.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    fn next_port(&self) -> u16 {
        let mut inner = lock(&self.state.inner);
        inner.last_port =
            if (FIRST_CLIENT_PORT..LAST_CLIENT_PORT).contains(&inner.last_port) { inner.last_port + 1 } else { FIRST_CLIENT_PORT };
        inner.last_port
    }
}

impl Listener {
    /// The next connection.
    pub async fn accept(&mut self) -> Conn {
        match self.incoming.recv().await {
            Some(conn) => conn,
            // The sender lives in the host, which this listener holds: it is replaced only after this is dropped.
            None => std::future::pending().await,
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.incoming.close();
        while let Ok(conn) = self.incoming.try_recv() {
            conn.reset();
        }
        let mut inner = lock(&self.host.state.inner);
        if inner.listeners.get(&(self.port, self.loopback)).is_some_and(mpsc::UnboundedSender::is_closed) {
            inner.listeners.remove(&(self.port, self.loopback));
        }
    }
}

#[cfg(test)]
mod tests;
