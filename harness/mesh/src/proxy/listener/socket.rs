//! A port that a listener has, or the two channels by which a sidecar is given captured connections.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use tokio::sync::mpsc;

use super::super::env::Env;
use super::super::{lock, read};
use super::{ListenerRuntime, handle};
use crate::net::{Bind, Conn, Listener};

/// An open port. Dropped, it is closed at once; the task that reads from it ends later.
pub(in super::super) struct Socket {
    address: SocketAddr,
    listener: Arc<Mutex<Option<Listener>>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        lock(&self.listener).take();
    }
}

/// The next connection; None once the port was closed.
async fn next(listener: &Mutex<Option<Listener>>) -> Option<Conn> {
    std::future::poll_fn(|cx| match lock(listener).as_mut() {
        None => Poll::Ready(None),
        Some(listener) => pin!(listener.accept()).poll(cx).map(Some),
    })
    .await
}

impl Socket {
    /// Opens the port of a listener, and hands connections to the version of it that is active when they come.
    ///
    /// # Errors
    /// The port is taken.
    pub(in super::super) fn open(env: &Arc<Env>, name: &str, address: SocketAddr) -> io::Result<Self> {
        let bind = if address.ip().is_loopback() { Bind::Loopback } else { Bind::Any };
        let listener = Arc::new(Mutex::new(Some(env.host.listen(bind, address.port())?)));
        let (weak, name, port) = (Arc::downgrade(env), name.to_owned(), listener.clone());
        env.tasks.spawn(async move {
            while let Some(conn) = next(&port).await {
                let Some(env) = weak.upgrade() else { break };
                let current = read(&env.tables).listeners.get(&name).cloned();
                start(&env, current, conn);
            }
        });
        Ok(Self { address, listener })
    }

    /// Serves a port by other means than a listener's filter chains.
    ///
    /// # Errors
    /// The port is taken.
    pub(in super::super) fn serve<F>(env: &Arc<Env>, bind: Bind, port: u16, each: impl Fn(Conn) -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = Arc::new(Mutex::new(Some(env.host.listen(bind, port)?)));
        let (tasks, open) = (env.tasks.clone(), listener.clone());
        env.tasks.spawn(async move {
            while let Some(conn) = next(&open).await {
                tasks.spawn(each(conn));
            }
        });
        Ok(Self { address: SocketAddr::new(env.host.ip(), port), listener })
    }

    pub(in super::super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn start(env: &Arc<Env>, current: Option<Arc<ListenerRuntime>>, conn: Conn) {
    match current {
        // Dropped with what was not read: reset, as by a port that is just being closed.
        None => drop(conn),
        Some(current) => env.tasks.spawn(handle(env.clone(), current, conn)),
    }
}

/// Hands captured connections to the listener that has this port.
pub(in super::super) fn captured(env: &Arc<Env>, mut incoming: mpsc::UnboundedReceiver<Conn>, port: u16) {
    let weak = Arc::downgrade(env);
    env.tasks.spawn(async move {
        while let Some(conn) = incoming.recv().await {
            let Some(env) = weak.upgrade() else { break };
            let current =
                read(&env.tables).listeners.values().find(|l| l.spec.bind_to_port && l.spec.address.port() == Some(port)).cloned();
            // Nothing listens there: refused.
            match current {
                None => conn.reset(),
                current => start(&env, current, conn),
            }
        }
    });
}
