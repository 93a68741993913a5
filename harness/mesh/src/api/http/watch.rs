//! Watches over HTTP.
//!
//! Source: Kubernetes `apiserver/pkg/endpoints/handlers/watch.go`, `apiserver/pkg/storage/cacher`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use hyper::Response;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Sleep;

use super::request::{At, Call};
use super::respond::{self, InVersion};
use super::{ApiBody, Server};
use crate::api::error::ApiError;
use crate::api::selector::Selector;
use crate::api::store::{Action, Change, Replay, Watch};

/// How long a watch lasts that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

struct Watching {
    ready: VecDeque<Bytes>,
    watch: Watch,
    events: Events,
    until: Pin<Box<Sleep>>,
    bookmarks: bool,
    version: u64,
    ended: bool,
}

/// How changes become events.
struct Events {
    selector: Selector,
    api_version: String,
    kind: String,
    /// When one object alone is watched.
    name: Option<String>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    object: InVersion<'a>,
}

impl Events {
    fn line(&self, kind: &'static str, object: &Value) -> Option<Bytes> {
        let event = Event { kind, object: InVersion::new(object, &self.api_version) };
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        Some(Bytes::from(line))
    }

    fn wants(&self, object: &Value) -> bool {
        let named = || object.pointer("/metadata/name").and_then(Value::as_str);
        self.selector.matches(object) && self.name.as_deref().is_none_or(|name| named() == Some(name))
    }

    /// An object that comes to match is added for the watcher, one that ceases to is deleted.
    fn of(&self, change: &Change) -> Option<Bytes> {
        let is = self.wants(&change.object);
        let was = change.old.as_deref().is_some_and(|old| self.wants(old));
        match (change.action, was, is) {
            (Action::Deleted, true, _) | (Action::Deleted, _, true) => self.line("DELETED", &change.object),
            (Action::Added, _, true) | (Action::Modified, false, true) => self.line("ADDED", &change.object),
            (Action::Modified, true, true) => self.line("MODIFIED", &change.object),
            (Action::Modified, true, false) => {
                let mut last = change.old.as_deref().cloned().unwrap_or_default();
                if let Some(metadata) = last.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.insert("resourceVersion".to_owned(), json!(change.version.to_string()));
                }
                self.line("DELETED", &last)
            }
            _ => None,
        }
    }

    fn bookmark(&self, version: u64, ends_the_beginning: bool) -> Option<Bytes> {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if ends_the_beginning {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.line("BOOKMARK", &json!({"kind": self.kind, "apiVersion": self.api_version, "metadata": metadata}))
    }
}

impl Server {
    pub(super) fn watch(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        let events = Events {
            selector: call.selector()?,
            api_version: at.resource.in_version(&at.version),
            kind: at.resource.kind.clone(),
            name: at.name.clone(),
        };
        let timeout = call.number::<u64>("timeoutSeconds")?.filter(|s| *s > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let from = call.number::<u64>("resourceVersion")?.unwrap_or(0);
        let streams_list = call.flag("sendInitialEvents");
        let bookmarks = call.flag("allowWatchBookmarks");
        let mut ready = VecDeque::new();
        let replay = if from == 0 || streams_list {
            let (objects, replay) = self.store.begin(&at.resource, at.namespace.as_deref());
            ready.extend(objects.iter().filter(|o| events.wants(o)).filter_map(|o| events.line("ADDED", o)));
            if streams_list && bookmarks {
                ready.extend(events.bookmark(replay.version, true));
            }
            replay
        } else {
            match self.store.replay(&at.resource, at.namespace.as_deref(), from) {
                Ok(replay) => replay,
                // Said within the stream. Source: `cacher.go`, newErrWatcher.
                Err(error) => {
                    let line = json!({"type": "ERROR", "object": error.to_status()}).to_string() + "\n";
                    return Ok(respond::stream("application/json", stream::iter([Bytes::from(line)])));
                }
            }
        };
        let Replay { past, watch, version } = replay;
        ready.extend(past.iter().filter_map(|change| events.of(change)));
        let until = Box::pin(tokio::time::sleep(timeout));
        let state = Watching { ready, watch, events, until, bookmarks, version, ended: false };
        Ok(respond::stream("application/json", stream::unfold(state, next)))
    }
}

/// What is ready goes in one piece.
async fn next(mut state: Watching) -> Option<(Bytes, Watching)> {
    loop {
        while let Some(change) = state.watch.try_next() {
            state.take(&change);
        }
        if !state.ready.is_empty() {
            let mut chunk = BytesMut::new();
            state.ready.drain(..).for_each(|line| chunk.extend_from_slice(&line));
            return Some((chunk.freeze(), state));
        }
        if state.ended {
            return None;
        }
        tokio::select! {
            change = state.watch.next() => match change {
                Some(change) => state.take(&change),
                None => state.ended = true,
            },
            () = &mut state.until => {
                state.ended = true;
                if state.bookmarks {
                    let bookmark = state.events.bookmark(state.version, false);
                    state.ready.extend(bookmark);
                }
            }
        }
    }
}

impl Watching {
    fn take(&mut self, change: &Arc<Change>) {
        self.version = self.version.max(change.version);
        self.ready.extend(self.events.of(change));
    }
}
