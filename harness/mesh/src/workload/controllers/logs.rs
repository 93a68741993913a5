//! What containers wrote, line by line with its time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::LogRequest;
use crate::workload::programs::Out;

/// Where a container's lines go. Clones are the same log.
#[derive(Clone, Debug)]
pub struct LogSink(Arc<Log>);

#[derive(Debug)]
struct Log {
    state: Mutex<State>,
    /// How many lines there are, and whether more may come.
    grown: watch::Sender<(usize, bool)>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<(Timestamp, String)>,
    /// A line without its end yet.
    partial: Vec<u8>,
}

impl Default for LogSink {
    fn default() -> Self {
        Self(Arc::new(Log { state: Mutex::default(), grown: watch::Sender::new((0, true)) }))
    }
}

impl LogSink {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or several if there are ends of lines in it.
    pub fn line(&self, text: &str) {
        self.write(text.as_bytes());
        self.write(b"\n");
    }

    fn write(&self, bytes: &[u8]) {
        let mut state = self.lock();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut state.partial);
                state.lines.push((Timestamp::now(), String::from_utf8_lossy(&line).into_owned()));
            } else {
                state.partial.push(*byte);
            }
        }
        let count = state.lines.len();
        drop(state);
        self.0.grown.send_if_modified(|known| std::mem::replace(&mut known.0, count) != count);
    }

    /// As a program's output.
    #[must_use]
    pub fn out(&self) -> Out {
        let log = self.clone();
        Out::new(move |bytes| {
            log.write(bytes);
            true
        })
    }

    /// No more lines come: those who follow are told so.
    pub(super) fn end(&self) {
        self.0.grown.send_modify(|known| known.1 = false);
    }

    /// The lines from a place on.
    fn from(&self, at: usize) -> Vec<(Timestamp, String)> {
        self.lock().lines.get(at..).unwrap_or_default().to_vec()
    }

    /// Reads as `kubectl logs` does.
    #[must_use]
    pub fn read(&self, request: &LogRequest) -> BoxStream<'static, Bytes> {
        let since = request.since;
        let timestamps = request.timestamps;
        let begin = |lines: &[(Timestamp, String)]| {
            let first = lines.iter().position(|(at, _)| since.is_none_or(|since| *at >= since)).unwrap_or(lines.len());
            request.tail.map_or(first, |tail| first.max(lines.len().saturating_sub(tail)))
        };
        let mut grown = self.0.grown.subscribe();
        grown.mark_unchanged();
        let at = begin(&self.from(0));
        let show = move |lines: Vec<(Timestamp, String)>| {
            let mut text = String::new();
            for (at, line) in lines {
                if timestamps {
                    text.push_str(&at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string());
                }
                text.push_str(&line);
                text.push('\n');
            }
            Bytes::from(text)
        };
        if !request.follow {
            let mut bytes = show(self.from(at));
            if let Some(limit) = request.limit_bytes {
                bytes.truncate(limit);
            }
            return futures::stream::once(async move { bytes }).filter(|b| std::future::ready(!b.is_empty())).boxed();
        }
        let log = self.clone();
        futures::stream::unfold((log, at, grown), move |(log, at, mut grown)| async move {
            loop {
                let open = grown.borrow_and_update().1;
                let lines = log.from(at);
                if !lines.is_empty() {
                    let next = at + lines.len();
                    return Some((show(lines), (log, next, grown)));
                }
                if !open || grown.changed().await.is_err() {
                    return None;
                }
            }
        })
        .boxed()
    }
}

/// Namespace, pod, container.
type Place = (String, String, String);

/// All logs by pod and container.
#[derive(Clone, Default)]
pub(super) struct Logs(Arc<Mutex<BTreeMap<Place, LogSink>>>);

impl Logs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, LogSink>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a container, begun when there is none.
    pub(super) fn open(&self, namespace: &str, pod: &str, container: &str) -> LogSink {
        self.lock().entry((namespace.to_owned(), pod.to_owned(), container.to_owned())).or_default().clone()
    }

    pub(super) fn get(&self, namespace: &str, pod: &str, container: &str) -> Option<LogSink> {
        self.lock().get(&(namespace.to_owned(), pod.to_owned(), container.to_owned())).cloned()
    }

    /// A pod is gone, and its logs with it.
    pub(super) fn remove(&self, namespace: &str, pod: &str) {
        self.lock().retain(|(n, p, _), log| {
            let keep = n != namespace || p != pod;
            if !keep {
                log.end();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_is_followed_until_its_end() {
        let log = LogSink::default();
        log.line("one");
        log.out().write("tw");
        let mut stream = log.read(&LogRequest { follow: true, tail: Some(1), ..LogRequest::default() });
        assert_eq!(stream.next().await.unwrap(), "one\n");
        log.out().write("o\n");
        assert_eq!(stream.next().await.unwrap(), "two\n");
        log.end();
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn the_past_is_cut_by_time_and_count() {
        let log = LogSink::default();
        log.line("one");
        log.line("two");
        let read = |request: LogRequest| log.read(&request).collect::<Vec<_>>();
        assert_eq!(read(LogRequest { tail: Some(1), ..LogRequest::default() }).await.concat(), b"two\n");
        let later = Timestamp::now() + jiff::SignedDuration::from_secs(5);
        assert!(read(LogRequest { since: Some(later), ..LogRequest::default() }).await.is_empty());
    }
}
