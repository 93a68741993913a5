//! Deleting: grace, finalizers, preconditions.
//!
//! Source: Kubernetes `apiserver/pkg/registry/rest/delete.go` and `generic/registry/store.go`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Key, State, Store, meta, stamp};
use crate::api::error::ApiError;
use crate::api::registry::Resource;
use crate::api::selector::Selector;

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// It waits for those that block it.
    Foreground,
    /// They stay without it.
    Orphan,
}

/// How an object is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// What becomes of its dependents; background by default.
    pub propagation: Option<Propagation>,
    /// Seconds that a pod has to end. 0 forgets the pod at once: a kubelet says so when its containers have ended.
    pub grace_period_seconds: Option<i64>,
    /// Only the object of this uid.
    pub uid: Option<String>,
    /// Only the object at this version.
    pub resource_version: Option<String>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What came of a deletion.
#[derive(Debug, Clone)]
pub(crate) enum Deleted {
    /// It is gone.
    Gone(Arc<Value>),
    /// It waits for its grace period or finalizers.
    Waits(Arc<Value>),
}

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

impl Store {
    /// Deletes an object; true when it is gone at once, false when it waits for its grace period or finalizers.
    ///
    /// # Errors
    /// When it is not there, or a precondition does not hold.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str, options: &DeleteOptions) -> Result<bool, ApiError> {
        let resource = self.resource(kind).ok_or_else(ApiError::no_resource)?;
        self.delete_at(&resource, namespace, name, options).map(|d| matches!(d, Deleted::Gone(_)))
    }

    pub(crate) fn delete_at(
        &self,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let key = State::key(resource, namespace, name);
        self.transact(|state| state.delete(resource, &key, options))
    }

    /// Deletes those of a kind that a selector picks, and returns them.
    pub(crate) fn delete_all(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Vec<Arc<Value>> {
        self.transact(|state| {
            let chosen: Vec<Arc<Value>> = state.of(&resource.id(), namespace).filter(|o| selector.matches(o)).cloned().collect();
            for object in &chosen {
                let key = State::key(resource, meta::text(object, "namespace"), meta::text(object, "name"));
                if let Err(error) = state.delete(resource, &key, options) {
                    tracing::debug!(%error, "one of a collection was not deleted");
                }
            }
            chosen
        })
    }
}

impl State {
    pub(super) fn delete(&mut self, resource: &Arc<Resource>, key: &Key, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        let found = self.at(key).cloned().ok_or_else(|| ApiError::not_found(resource, &key.name))?;
        check_preconditions(resource, &key.name, &found, options)?;
        if resource.group.is_empty() && resource.plural == "namespaces" {
            return self.delete_namespace(resource, key, &found, options);
        }
        let grace = grace(resource, &found, options);
        let mut finalizers: Vec<String> = meta::finalizers(&found).into_iter().map(str::to_owned).collect();
        if let Some(propagation) = options.propagation {
            finalizers.retain(|f| f != FOREGROUND && f != ORPHAN);
            match propagation {
                Propagation::Background => {}
                Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
                Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
            }
        }
        let mut object = (*found).clone();
        if finalizers.is_empty() && grace == 0 {
            return Ok(Deleted::Gone(if options.dry_run { found } else { self.remove(resource, key, object) }));
        }
        let was = meta::is_deleting(&found);
        let earlier = found.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
        // A second request may only shorten what the first gave.
        if !was || earlier.is_some_and(|e| grace < e) {
            let until = (self.clock)().checked_add(Duration::from_secs(grace.unsigned_abs())).unwrap_or(Timestamp::MAX);
            meta::set(&mut object, "deletionTimestamp", json!(stamp(until)));
            meta::set(&mut object, "deletionGracePeriodSeconds", json!(grace));
        }
        if !was && let Some(generation) = object.pointer("/metadata/generation").and_then(Value::as_i64) {
            meta::set(&mut object, "generation", json!(generation + 1));
        }
        meta::set_finalizers(&mut object, &finalizers);
        if options.dry_run || meta::same(&found, &object) {
            return Ok(Deleted::Waits(Arc::new(object)));
        }
        let kept = self.put(resource, key.clone(), object);
        Ok(if self.at(key).is_some() { Deleted::Waits(kept) } else { Deleted::Gone(kept) })
    }

    /// Source: Kubernetes `registry/core/namespace/storage/storage.go`.
    fn delete_namespace(
        &mut self,
        resource: &Arc<Resource>,
        key: &Key,
        found: &Arc<Value>,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        if ["default", "kube-system", "kube-public"].contains(&key.name.as_str()) {
            return Err(ApiError::forbidden(resource, &key.name, "this namespace may not be deleted"));
        }
        if meta::is_deleting(found) {
            let why = "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will \
                       automatically be purged by the system.";
            return Err(ApiError::conflict(resource, &key.name, why));
        }
        let mut object = (**found).clone();
        let now = self.now();
        meta::set(&mut object, "deletionTimestamp", json!(now));
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"phase": "Terminating"}));
        }
        if options.dry_run {
            return Ok(Deleted::Waits(Arc::new(object)));
        }
        Ok(Deleted::Waits(self.put(resource, key.clone(), object)))
    }
}

fn check_preconditions(resource: &Resource, name: &str, found: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let uid = meta::text(found, "uid");
    if let Some(wanted) = options.uid.as_deref().filter(|w| *w != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(resource, name, &why));
    }
    let version = meta::text(found, "resourceVersion");
    if let Some(wanted) = options.resource_version.as_deref().filter(|w| *w != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        );
        return Err(ApiError::conflict(resource, name, &why));
    }
    Ok(())
}

/// Only pods take time. Source: Kubernetes `registry/core/pod/strategy.go`, CheckGracefulDelete.
fn grace(resource: &Resource, object: &Value, options: &DeleteOptions) -> i64 {
    if !resource.group.is_empty() || resource.plural != "pods" {
        return 0;
    }
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() || ["Failed", "Succeeded"].contains(&text("/status/phase")) {
        return 0;
    }
    let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    options.grace_period_seconds.or(own).unwrap_or(30).max(0)
}
