//! Bytes from one connection to another and back.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gateproof_mesh_config::envoy::CallRecord;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::super::stream::Stream;
use super::super::tls;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// How two connections came to their end.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Ending {
    /// Both sides said all they had to.
    Finished,
    /// The upstream reset its connection; the client's was reset too.
    UpstreamReset,
    /// The upstream's TLS ended in an error, with these words.
    UpstreamFailed(String),
    /// The client reset its connection; the upstream's was reset too.
    ClientReset,
    /// No bytes for too long.
    Idle,
    /// A filter refused what the client sent, with these details.
    Refused(String),
}

/// One direction.
struct Way {
    buffer: Vec<u8>,
    from: usize,
    until: usize,
    /// The reader's side has ended.
    ended: bool,
    /// And the writer's side was told.
    done: bool,
    /// Nobody reads any more: what comes is thrown away.
    deaf: bool,
}

enum Trouble {
    Reading(io::Error),
    Writing(io::Error),
}

impl Way {
    fn new() -> Self {
        Self { buffer: vec![0; CHUNK], from: 0, until: 0, ended: false, done: false, deaf: false }
    }

    /// As far as it goes. `read` is told of what was read, and None of the end.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Stream,
        writer: &mut Stream,
        mut read: impl FnMut(usize) -> bool,
    ) -> Result<bool, Trouble> {
        let mut moved = false;
        loop {
            while self.from < self.until {
                if self.deaf {
                    self.from = self.until;
                    break;
                }
                match Pin::new(&mut *writer).poll_write(cx, &self.buffer[self.from..self.until]) {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(Ok(0)) => return Err(Trouble::Writing(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => self.from += n,
                    Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => self.deaf = true,
                    Poll::Ready(Err(e)) => return Err(Trouble::Writing(e)),
                }
                moved = true;
            }
            if self.ended {
                if !self.done {
                    match Pin::new(&mut *writer).poll_shutdown(cx) {
                        Poll::Pending => return Ok(moved),
                        // It is gone already.
                        Poll::Ready(_) => self.done = true,
                    }
                    moved = true;
                }
                return Ok(moved);
            }
            if let Poll::Ready(Err(e)) = Pin::new(&mut *writer).poll_flush(cx) {
                if e.kind() == io::ErrorKind::BrokenPipe {
                    self.deaf = true;
                } else {
                    return Err(Trouble::Writing(e));
                }
            }
            let mut buf = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *reader).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Err(e)) => return Err(Trouble::Reading(e)),
                Poll::Ready(Ok(())) => {
                    let n = buf.filled().len();
                    moved = true;
                    (self.from, self.until) = (0, n);
                    self.ended = n == 0;
                    if !read(n) {
                        self.until = 0;
                        return Ok(moved);
                    }
                }
            }
        }
    }
}

/// Copies both ways; `gate` is asked once, when the client first says something, and its words end everything.
pub(in super::super) struct Relay<'a, G> {
    streams: Option<(Stream, Stream)>,
    there: Way,
    back: Way,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    record: &'a mut CallRecord,
    gate: Option<G>,
    refused: Option<String>,
}

impl<'a, G: Fn(&CallRecord) -> Option<String>> Relay<'a, G> {
    pub(in super::super) fn new(client: Stream, upstream: Stream, idle: Option<Duration>, record: &'a mut CallRecord, gate: G) -> Self {
        let idle = idle.map(|limit| (limit, Box::pin(tokio::time::sleep(limit))));
        Self { streams: Some((client, upstream)), there: Way::new(), back: Way::new(), idle, record, gate: Some(gate), refused: None }
    }
}

impl<G: Fn(&CallRecord) -> Option<String> + Unpin> Future for Relay<'_, G> {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = &mut *self;
        let Some((mut client, mut upstream)) = this.streams.take() else { return Poll::Ready(Ending::Finished) };
        let there = {
            let (record, gate, refused) = (&mut *this.record, &mut this.gate, &mut this.refused);
            this.there.step(cx, &mut client, &mut upstream, |n| {
                record.bytes_received += n as u64;
                *refused = gate.take().and_then(|gate| gate(record));
                refused.is_none()
            })
        };
        if let Some(details) = this.refused.take() {
            return Poll::Ready(Ending::Refused(details));
        }
        let back = {
            let record = &mut *this.record;
            this.back.step(cx, &mut upstream, &mut client, |n| {
                record.bytes_sent += n as u64;
                true
            })
        };
        let mut moved = false;
        for (way, to_upstream) in [(there, true), (back, false)] {
            let (client_failed, error) = match way {
                Ok(did) => {
                    moved |= did;
                    continue;
                }
                Err(Trouble::Reading(e)) => (to_upstream, e),
                Err(Trouble::Writing(e)) => (!to_upstream, e),
            };
            let reset = error.kind() == io::ErrorKind::ConnectionReset;
            return Poll::Ready(match (client_failed, reset) {
                (true, true) => {
                    upstream.reset();
                    Ending::ClientReset
                }
                (true, false) => Ending::Finished,
                (false, true) => {
                    client.reset();
                    Ending::UpstreamReset
                }
                (false, false) => Ending::UpstreamFailed(tls::failure_words(&error)),
            });
        }
        if this.there.done && this.back.done {
            return Poll::Ready(Ending::Finished);
        }
        if let Some((limit, sleep)) = &mut this.idle {
            if moved {
                sleep.as_mut().reset(Instant::now() + *limit);
            }
            if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Idle);
            }
        }
        this.streams = Some((client, upstream));
        Poll::Pending
    }
}
