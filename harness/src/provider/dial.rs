//! How a call from outside reaches a gateway: over this machine's network, or over a simulated one.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that was made.
pub struct Dialled {
    /// What was dialled, to talk over.
    pub stream: Box<dyn Stream>,
    /// The caller's own address, where it is known.
    pub local: Option<SocketAddr>,
}

/// Makes connections from outside the mesh.
pub trait Dialler: Send + Sync {
    /// Connects.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Dialled>>;
}

/// Over this machine's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dialler for Tcp {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Dialled>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            let local = stream.local_addr().ok();
            let _ = stream.set_nodelay(true);
            Ok(Dialled { stream: Box::new(stream), local })
        })
    }
}
