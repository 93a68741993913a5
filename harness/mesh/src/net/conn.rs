//! One end of a connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lock;

/// What one direction holds before the sender has to wait.
const WINDOW: usize = 256 * 1024;

/// One end of a TCP connection. Dropped, it is closed: with a FIN when all that came was read, else with a RST, as a
/// socket that is closed with unread data (RFC 2525, section 2.17, and Linux).
pub struct Conn {
    local: SocketAddr,
    peer: SocketAddr,
    original: SocketAddr,
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
}

#[derive(Default)]
struct Pipe {
    data: BytesMut,
    /// The sender is done: after the data comes the end.
    finished: bool,
    /// Nobody reads any more.
    abandoned: bool,
    /// Something was written after that, which the other end's kernel answers with a RST: writing fails from now on.
    broken: bool,
    /// After the data comes a reset.
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Conn {
    /// Both ends: the client dialled `asked`, and the server has the address `served`.
    pub(super) fn pair(client: SocketAddr, asked: SocketAddr, served: SocketAddr) -> (Self, Self) {
        let (there, back) = (Arc::<Mutex<Pipe>>::default(), Arc::<Mutex<Pipe>>::default());
        let near = Self { local: client, peer: asked, original: asked, incoming: back.clone(), outgoing: there.clone() };
        let far = Self { local: served, peer: client, original: served, incoming: there, outgoing: back };
        (near, far)
    }

    /// This end's address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address, as this end sees it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// For a captured connection, where the client meant to go (`SO_ORIGINAL_DST`).
    #[must_use]
    pub fn original_destination(&self) -> SocketAddr {
        self.original
    }

    /// Ends the connection with a reset: the other end reads what was sent before, and then an error.
    pub fn reset(self) {
        self.reset_now();
    }

    /// Ends the connection before anything that the other end has sent is there to be read: with a FIN.
    pub fn end_unread(self) {
        lock(&self.incoming).data.clear();
    }

    fn reset_now(&self) {
        for pipe in [&self.outgoing, &self.incoming] {
            let mut pipe = lock(pipe);
            pipe.reset = true;
            pipe.wake();
        }
    }

    /// What has come and was not read yet, once it is at least `least` bytes or no more will come; nothing is consumed.
    ///
    /// # Errors
    /// Connection reset.
    pub async fn peek(&self, least: usize) -> io::Result<Bytes> {
        std::future::poll_fn(|cx| {
            let mut pipe = lock(&self.incoming);
            if pipe.data.len() >= least || pipe.finished {
                return Poll::Ready(Ok(Bytes::copy_from_slice(&pipe.data)));
            }
            if pipe.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            pipe.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.incoming);
        if !pipe.data.is_empty() {
            let n = pipe.data.len().min(buf.remaining());
            buf.put_slice(&pipe.data[..n]);
            pipe.data.advance(n);
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.finished {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Conn {
    /// Takes as much of these as there is room for, in one go.
    fn poll_send(&self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let mut pipe = lock(&self.outgoing);
        if pipe.reset || pipe.broken || pipe.finished {
            let reset = pipe.reset;
            // The other end locks the two in the other order.
            drop(pipe);
            // What the other end sent before it went comes before the news that it went: until that is read, writing
            // goes on, into nothing.
            if reset && !lock(&self.incoming).data.is_empty() {
                return Poll::Ready(Ok(all));
            }
            let kind = if reset { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
            return Poll::Ready(Err(kind.into()));
        }
        // The first write still succeeds: the kernel does not know yet. What came before is read as if nothing had been
        // written, an alert before the end in particular.
        if pipe.abandoned {
            pipe.broken = true;
            return Poll::Ready(Ok(all));
        }
        let room = WINDOW.saturating_sub(pipe.data.len());
        if room == 0 && all > 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = room.min(all);
        let mut left = n;
        for part in parts {
            let taken = left.min(part.len());
            pipe.data.extend_from_slice(&part[..taken]);
            left -= taken;
        }
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[io::IoSlice::new(buf)])
    }

    /// All at once, as one call to the kernel: a flight of TLS messages is not torn apart by what the other end does meanwhile.
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.outgoing);
        pipe.finished = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let unread = {
            let mut incoming = lock(&self.incoming);
            incoming.abandoned = true;
            incoming.wake();
            !incoming.data.is_empty()
        };
        if unread {
            self.reset_now();
        } else {
            let mut outgoing = lock(&self.outgoing);
            outgoing.finished = true;
            outgoing.wake();
        }
    }
}
