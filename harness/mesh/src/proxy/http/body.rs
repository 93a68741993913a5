//! Bodies that are counted, kept for another attempt, and written to the log when they end.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::super::lock;
use super::call::Call;
use super::forward::Keeper;
use super::{BodyError, Outgoing};

/// What is kept of a request for another attempt (`per_connection_buffer_limit_bytes`, 1 MiB by default).
const KEPT: usize = 1024 * 1024;

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Part {
    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}

struct Source {
    incoming: Incoming,
    parts: Vec<Part>,
    keep: bool,
    size: usize,
    /// More came than is kept: no other attempt.
    lost: bool,
    ended: bool,
    received: u64,
}

/// A request's body, from which several attempts can be made as long as it is short.
#[derive(Clone)]
pub(super) struct RequestBody {
    source: Arc<Mutex<Source>>,
    hint: SizeHint,
    empty: bool,
}

/// One attempt.
struct Attempt {
    body: RequestBody,
    at: usize,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, keep: bool) -> Self {
        let (hint, empty) = (incoming.size_hint(), incoming.is_end_stream());
        let source = Source { incoming, parts: Vec::new(), keep, size: 0, lost: false, ended: empty, received: 0 };
        Self { source: Arc::new(Mutex::new(source)), hint, empty }
    }

    /// Bytes of it so far.
    pub(super) fn received(&self) -> u64 {
        lock(&self.source).received
    }

    /// Whether another attempt can be made.
    pub(super) fn can_repeat(&self) -> bool {
        let source = lock(&self.source);
        self.empty || source.received == 0 || (source.keep && !source.lost)
    }

    /// Reads all of it, so that several can be made at once.
    pub(super) async fn gather(&self) {
        let mut reader = self.attempt();
        while let Some(Ok(_)) = reader.frame().await {}
    }

    pub(super) fn attempt(&self) -> Outgoing {
        Attempt { body: self.clone(), at: 0 }.boxed_unsync()
    }
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.body.clone();
        let mut source = lock(&body.source);
        if let Some(part) = source.parts.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(part.frame())));
        }
        if source.ended {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut source.incoming).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                source.ended = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                source.ended = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            source.received += data.len() as u64;
            source.size += data.len();
        }
        if source.keep && !source.lost {
            let part = match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => Some(Part::Data(data.clone())),
                (None, trailers) => trailers.cloned().map(Part::Trailers),
            };
            source.parts.extend(part);
            self.at += 1;
            if source.size > KEPT {
                source.lost = true;
                source.parts.clear();
                self.at = 0;
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.empty
    }

    fn size_hint(&self) -> SizeHint {
        self.body.hint
    }
}

/// A response's body: it is counted, and its end is the end of the call.
pub(super) struct ResponseBody {
    inner: Incoming,
    call: Option<Call>,
    /// Has the connection to the upstream, and gives it back.
    keeper: Option<Keeper>,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, call: Call, keeper: Keeper) -> Self {
        let mut new = Self { inner, call: Some(call), keeper: Some(keeper) };
        if new.inner.is_end_stream() {
            new.finish();
        }
        new
    }

    fn finish(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.give_back();
        }
        if let Some(call) = self.call.take() {
            call.finish();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) => {
                self.keeper = None;
                if let Some(call) = self.call.take() {
                    call.upstream_broke_off();
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(call) = &mut self.call {
                    call.record.bytes_sent += frame.data_ref().map_or(0, |d| d.len() as u64);
                    if let Some(trailers) = frame.trailers_ref() {
                        call.take_trailers(trailers);
                    }
                }
                if self.inner.is_end_stream() {
                    self.finish();
                }
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // HEAD, 204 and 304 have no body to be read to its end.
        if self.inner.is_end_stream() {
            self.finish();
        }
    }
}
