//! A connection as a filter sees it: plain, or with TLS taken off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use crate::net::Conn;

/// The alert of a TLS 1.2 server that was shown no certificate, as rustls writes it: `certificate_required` (116).
const CERTIFICATE_REQUIRED: [u8; 7] = [21, 3, 3, 0, 2, 2, 116];
/// As BoringSSL writes it: `handshake_failure` (40), as RFC 5246, section 7.4.6 asks (`tls13_server.cc` alone knows 116).
const HANDSHAKE_FAILURE: u8 = 40;

/// A server's end below TLS. It differs from what rustls writes in one alert, see [`CERTIFICATE_REQUIRED`]; that alert is
/// readable on the wire only in a handshake of TLS 1.2.
pub(super) struct ServerWire(pub(super) Conn);

impl AsyncRead for ServerWire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServerWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match buf.strip_suffix(&CERTIFICATE_REQUIRED[..]) {
            None => Pin::new(&mut self.0).poll_write(cx, buf),
            Some(before) => {
                let mut changed = before.to_vec();
                changed.extend_from_slice(&CERTIFICATE_REQUIRED);
                if let Some(last) = changed.last_mut() {
                    *last = HANDSHAKE_FAILURE;
                }
                Pin::new(&mut self.0).poll_write(cx, &changed)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What carries the bytes.
pub(super) enum Wire {
    /// As they are.
    Plain(Conn),
    /// TLS that this proxy ended.
    Server(Box<server::TlsStream<ServerWire>>),
    /// TLS that this proxy began.
    Client(Box<client::TlsStream<Conn>>),
}

/// A connection whose bytes can be read. Bytes that were looked at come first.
pub(super) struct Stream {
    ahead: BytesMut,
    wire: Wire,
}

impl Stream {
    pub(super) fn new(wire: Wire) -> Self {
        Self { ahead: BytesMut::new(), wire }
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        match self.wire {
            Wire::Plain(conn) => conn.reset(),
            Wire::Server(tls) => tls.into_inner().0.0.reset(),
            Wire::Client(tls) => tls.into_inner().0.reset(),
        }
    }

    /// The protocol that TLS agreed upon.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match &self.wire {
            Wire::Plain(_) => None,
            Wire::Server(tls) => tls.get_ref().1.alpn_protocol(),
            Wire::Client(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// Whether the bytes begin so; waits while they may. The end of the stream is a no.
    ///
    /// # Errors
    /// The connection was reset.
    pub(super) async fn begins_with(&mut self, beginning: &[u8]) -> io::Result<bool> {
        let mut buffer = [0; 64];
        loop {
            if self.ahead.starts_with(beginning) {
                return Ok(true);
            }
            if !beginning.starts_with(&self.ahead) {
                return Ok(false);
            }
            let n = poll_wire(&mut self.wire, &mut buffer).await?;
            if n == 0 {
                return Ok(false);
            }
            self.ahead.extend_from_slice(&buffer[..n]);
        }
    }
}

async fn poll_wire(wire: &mut Wire, buffer: &mut [u8]) -> io::Result<usize> {
    match wire {
        Wire::Plain(conn) => conn.read(buffer).await,
        Wire::Server(tls) => tls.read(buffer).await,
        Wire::Client(tls) => tls.read(buffer).await,
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let n = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..n]);
            self.ahead.advance(n);
            return Poll::Ready(Ok(()));
        }
        let read = match &mut self.wire {
            Wire::Plain(conn) => Pin::new(conn).poll_read(cx, buf),
            Wire::Server(tls) => Pin::new(tls).poll_read(cx, buf),
            Wire::Client(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        match read {
            // The other side ended TLS without saying so: BoringSSL makes no difference.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(conn) => Pin::new(conn).poll_write(cx, buf),
            Wire::Server(tls) => Pin::new(tls).poll_write(cx, buf),
            Wire::Client(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(conn) => Pin::new(conn).poll_flush(cx),
            Wire::Server(tls) => Pin::new(tls).poll_flush(cx),
            Wire::Client(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(conn) => Pin::new(conn).poll_shutdown(cx),
            Wire::Server(tls) => Pin::new(tls).poll_shutdown(cx),
            Wire::Client(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
