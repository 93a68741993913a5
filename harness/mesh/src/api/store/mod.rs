//! The objects, and all that happens to them without a network.

mod commit;
mod defaults;
mod delete;
mod lifecycle;
mod meta;
mod patch;
mod read;
mod watch;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch as signal;

use super::admission::Admission;
use super::registry::{Registry, Resource, ResourceId};

pub(crate) use delete::Deleted;
pub use delete::{DeleteOptions, Propagation};
pub(crate) use patch::Patch;
pub(crate) use read::Page;
pub(crate) use watch::Replay;
pub use watch::{Action, Change, Watch};
pub(crate) use write::{FieldValidation, Subresource, Target, WriteOptions, Written};

/// How a store is made.
pub struct Options {
    /// The kinds that are served from the beginning.
    pub registry: Registry,
    /// What reviews writes, in this order.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Where uids and generated names come from: the same value gives the same ones.
    pub seed: u64,
    /// How many changes a watch may go back; older ones are answered with `410 Gone`.
    pub history: usize,
    /// The time now.
    pub clock: fn() -> Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        Self { registry: Registry::builtin(), admission: Vec::new(), seed: 0, history: 20_000, clock: Timestamp::now }
    }
}

/// A place: kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: ResourceId,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

pub(crate) type Objects = BTreeMap<(String, String), Arc<Value>>;

/// All that is guarded by the one lock.
pub(crate) struct State {
    pub(crate) registry: Arc<Registry>,
    pub(crate) version: u64,
    objects: BTreeMap<ResourceId, Objects>,
    by_uid: BTreeMap<String, Key>,
    dependents: BTreeMap<String, BTreeSet<Key>>,
    history: VecDeque<Arc<Change>>,
    subscribers: Vec<watch::Subscriber>,
    /// Places whose change may set off another: worked off before the lock is given back.
    pending: VecDeque<lifecycle::Task>,
    /// Definitions that are not established yet.
    unestablished: Vec<Key>,
    drawn: u64,
    seed: u64,
    limit: usize,
    clock: fn() -> Timestamp,
}

struct Inner {
    state: Mutex<State>,
    admission: Vec<Arc<dyn Admission>>,
    clock: fn() -> Timestamp,
    changed: signal::Sender<u64>,
}

/// A Kubernetes API in memory. Cheap to clone; all clones are the same API.
///
/// Kinds are named `GROUP/KIND`, or `KIND` in the core group; objects of the cluster have the namespace `""`.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Store {
    /// An API that holds nothing but the namespaces every cluster has.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let state = State {
            registry: Arc::new(options.registry),
            version: 1,
            objects: BTreeMap::new(),
            by_uid: BTreeMap::new(),
            dependents: BTreeMap::new(),
            history: VecDeque::new(),
            subscribers: Vec::new(),
            pending: VecDeque::new(),
            unestablished: Vec::new(),
            drawn: 0,
            seed: options.seed,
            limit: options.history.max(1),
            clock: options.clock,
        };
        let inner = Inner { state: Mutex::new(state), admission: options.admission, clock: options.clock, changed: signal::Sender::new(1) };
        let store = Self { inner: Arc::new(inner) };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            if let Err(error) = store.create(namespace, "kube-apiserver") {
                tracing::debug!(%error, name, "a namespace of every cluster was not made");
            }
        }
        store
    }

    /// No code of ours panics while it holds the lock; should one, the objects are whole all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource version of the latest write.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// What is served now.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.lock().registry.clone()
    }

    /// Serves a further kind.
    pub fn register(&self, resource: Resource) {
        Arc::make_mut(&mut self.lock().registry).add(resource);
    }

    /// The resource of a kind.
    #[must_use]
    pub fn resource(&self, kind: &str) -> Option<Arc<Resource>> {
        self.lock().registry.kind(kind)
    }

    /// Signals every write with its resource version.
    #[must_use]
    pub fn changed(&self) -> signal::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn now(&self) -> String {
        stamp((self.inner.clock)())
    }
}

/// RFC 3339 in whole seconds, as `metav1.Time`.
pub(crate) fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
