//! Changes, and those who follow them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{State, Store};
use crate::api::error::ApiError;
use crate::api::registry::{Resource, ResourceId};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It came to be.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the object is its last state.
    Deleted,
}

/// One write.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub action: Action,
    /// `apps/Deployment`, `Pod`.
    pub kind: String,
    /// The kind, as the API serves it.
    pub resource: Arc<Resource>,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The object after the write, in the version that it is kept in.
    pub object: Arc<Value>,
    /// The object before the write.
    pub old: Option<Arc<Value>>,
    /// The resource version of the write.
    pub version: u64,
}

/// Whom a change is sent to.
pub(super) struct Subscriber {
    /// None for all kinds.
    kinds: Option<Vec<ResourceId>>,
    namespace: Option<String>,
    sender: mpsc::UnboundedSender<Arc<Change>>,
}

/// Changes as they come, none lost and none twice, in the order of their resource versions.
#[derive(Debug)]
pub struct Watch {
    receiver: mpsc::UnboundedReceiver<Arc<Change>>,
}

impl Watch {
    /// The next change; None when the store is gone.
    pub async fn next(&mut self) -> Option<Arc<Change>> {
        self.receiver.recv().await
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Option<Arc<Change>> {
        self.receiver.try_recv().ok()
    }
}

impl Stream for Watch {
    type Item = Arc<Change>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// What a watch from a resource version begins with.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Changes since then, in order.
    pub(crate) past: Vec<Arc<Change>>,
    /// What follows.
    pub(crate) watch: Watch,
    /// Where the store stood between the two.
    pub(crate) version: u64,
}

impl State {
    pub(super) fn publish(&mut self, change: Change) {
        let change = Arc::new(change);
        let id = change.resource.id();
        self.subscribers.retain(|s| {
            let wanted = s.kinds.as_ref().is_none_or(|kinds| kinds.contains(&id))
                && s.namespace.as_ref().is_none_or(|namespace| *namespace == change.namespace);
            if wanted { s.sender.send(change.clone()).is_ok() } else { !s.sender.is_closed() }
        });
        self.history.push_back(change);
        while self.history.len() > self.limit {
            self.history.pop_front();
        }
    }

    pub(super) fn subscribe(&mut self, kinds: Option<Vec<ResourceId>>, namespace: Option<String>) -> Watch {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.subscribers.push(Subscriber { kinds, namespace, sender });
        Watch { receiver }
    }

    fn ids(&self, kinds: &[&str]) -> Option<Vec<ResourceId>> {
        (!kinds.is_empty()).then(|| kinds.iter().filter_map(|k| self.registry.kind(k)).map(|r| r.id()).collect())
    }
}

impl Store {
    /// Follows these kinds (all when none is named) from now on. A kind that nobody serves yet is never seen: follow all
    /// for such.
    #[must_use]
    pub fn watch(&self, kinds: &[&str]) -> Watch {
        let mut state = self.lock();
        let ids = state.ids(kinds);
        state.subscribe(ids, None)
    }

    /// The objects of these kinds as they are, and what follows, with nothing between.
    #[must_use]
    pub fn list_and_watch(&self, kinds: &[&str]) -> (Vec<Arc<Value>>, Watch) {
        let mut state = self.lock();
        let objects = state.snapshot(kinds);
        let ids = state.ids(kinds);
        let watch = state.subscribe(ids, None);
        (objects, watch)
    }

    /// Follows one resource from a version on.
    pub(crate) fn replay(&self, resource: &Resource, namespace: Option<&str>, from: u64) -> Result<Replay, ApiError> {
        let mut state = self.lock();
        let id = resource.id();
        // Versions before the first one kept are forgotten; version 1 is that of the empty store.
        let oldest = state.history.front().map_or(state.version + 1, |c| c.version);
        if from.saturating_add(1) < oldest {
            return Err(ApiError::expired(from, oldest.saturating_sub(1)));
        }
        let is_wanted = |c: &&Arc<Change>| c.version > from && c.resource.id() == id && namespace.is_none_or(|n| n == c.namespace);
        let past = state.history.iter().filter(is_wanted).cloned().collect();
        let watch = state.subscribe(Some(vec![id]), namespace.map(str::to_owned));
        Ok(Replay { past, watch, version: state.version })
    }

    /// Follows one resource from now on, after the objects that there are.
    pub(crate) fn begin(&self, resource: &Resource, namespace: Option<&str>) -> (Vec<Arc<Value>>, Replay) {
        let mut state = self.lock();
        let id = resource.id();
        let objects = state.of(&id, namespace).cloned().collect();
        let watch = state.subscribe(Some(vec![id]), namespace.map(str::to_owned));
        (objects, Replay { past: Vec::new(), watch, version: state.version })
    }
}
