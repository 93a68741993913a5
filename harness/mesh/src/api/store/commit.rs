//! Keeping and forgetting objects, with their indices and the word to those who follow.

use std::sync::Arc;

use serde_json::{Value, json};

use super::lifecycle::Task;
use super::watch::{Action, Change};
use super::{Key, State, Store, meta, stamp};
use crate::api::error::ApiError;
use crate::api::registry::{Resource, ResourceId};

impl Store {
    /// Writes under the lock, works off what follows from it, and gives the signal.
    pub(super) fn transact<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        let (out, version, moved, definitions) = {
            let mut state = self.lock();
            let before = state.version;
            let out = write(&mut state);
            state.settle();
            (out, state.version, state.version != before, std::mem::take(&mut state.unestablished))
        };
        if moved {
            self.inner.changed.send_replace(version);
        }
        definitions.into_iter().for_each(|key| self.establish_soon(key));
        out
    }
}

impl State {
    pub(super) fn now(&self) -> String {
        stamp((self.clock)())
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub(super) fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
        Key { resource: resource.id(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Keeps an object that was not there: uid, times and version are set here.
    pub(super) fn insert(&mut self, resource: &Arc<Resource>, key: Key, mut object: Value) -> Arc<Value> {
        let draw = self.draw();
        meta::set(&mut object, "uid", json!(meta::uid(self.seed, draw)));
        let now = self.now();
        meta::set(&mut object, "creationTimestamp", json!(now));
        if resource.generation {
            meta::set(&mut object, "generation", json!(1));
        }
        self.put(resource, key, object)
    }

    /// Keeps an object at its next version. One that is being deleted and has nothing left to wait for goes instead.
    pub(super) fn put(&mut self, resource: &Arc<Resource>, key: Key, mut object: Value) -> Arc<Value> {
        let old = self.at(&key).cloned();
        if old.is_some() && is_done(resource, &object) {
            return self.remove(resource, &key, object);
        }
        self.version += 1;
        meta::set(&mut object, "resourceVersion", json!(self.version.to_string()));
        let object = Arc::new(object);
        self.forget_indices(old.as_deref(), &key);
        self.by_uid.insert(meta::text(&object, "uid").to_owned(), key.clone());
        for (uid, _) in meta::owners(&object) {
            self.dependents.entry(uid.to_owned()).or_default().insert(key.clone());
        }
        let place = (key.namespace.clone(), key.name.clone());
        self.objects.entry(key.resource.clone()).or_default().insert(place, object.clone());
        let action = if old.is_some() { Action::Modified } else { Action::Added };
        self.tell(resource, &key, action, object.clone(), old);
        self.pending.push_back(Task::Written(key));
        object
    }

    /// Forgets an object, whose last state is given.
    pub(super) fn remove(&mut self, resource: &Arc<Resource>, key: &Key, mut last: Value) -> Arc<Value> {
        let old = self.at(key).cloned();
        self.forget_indices(old.as_deref(), key);
        if let Some(all) = self.objects.get_mut(&key.resource) {
            all.remove(&(key.namespace.clone(), key.name.clone()));
        }
        self.version += 1;
        meta::set(&mut last, "resourceVersion", json!(self.version.to_string()));
        let last = Arc::new(last);
        self.tell(resource, key, Action::Deleted, last.clone(), old);
        self.pending.push_back(Task::Gone(key.clone(), last.clone()));
        last
    }

    fn forget_indices(&mut self, old: Option<&Value>, key: &Key) {
        let Some(old) = old else { return };
        self.by_uid.remove(meta::text(old, "uid"));
        for (uid, _) in meta::owners(old) {
            if let Some(all) = self.dependents.get_mut(uid) {
                all.remove(key);
                if all.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
    }

    fn tell(&mut self, resource: &Arc<Resource>, key: &Key, action: Action, object: Arc<Value>, old: Option<Arc<Value>>) {
        let change = Change {
            action,
            kind: resource.group_kind(),
            resource: resource.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            object,
            old,
            version: self.version,
        };
        self.publish(change);
    }

    /// Refuses what would be made in a namespace that is not there or is going.
    pub(super) fn check_namespace(&self, resource: &Resource, namespace: &str, name: &str) -> Result<(), ApiError> {
        if !resource.namespaced {
            return Ok(());
        }
        let key = Key { resource: ResourceId::namespaces(), namespace: String::new(), name: namespace.to_owned() };
        match self.at(&key) {
            None => Err(ApiError::no_namespace(namespace)),
            Some(found) if meta::is_deleting(found) => {
                let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
                let mut error = ApiError::forbidden(resource, name, &why);
                error.details.causes.push(crate::api::error::Cause {
                    reason: "NamespaceTerminating".to_owned(),
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                });
                Err(error)
            }
            Some(_) => Ok(()),
        }
    }
}

/// Whether an object that is being deleted has nothing left to wait for.
fn is_done(resource: &Resource, object: &Value) -> bool {
    let waits = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
    meta::is_deleting(object) && grace == 0 && !waits("/metadata/finalizers") && !(is_namespace && waits("/spec/finalizers"))
}
