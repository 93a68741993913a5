//! What follows from a write by itself: garbage collection, the end of namespaces, definitions that are established.
//!
//! On a cluster controllers do this a moment later; here it is done before the write returns, so that nothing has to be
//! waited for. Sources: Kubernetes `pkg/controller/garbagecollector`, `pkg/controller/namespace/deletion`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::delete::{DeleteOptions, FOREGROUND, ORPHAN, Propagation};
use super::{Key, State, Store, meta};
use crate::api::registry::{Resource, ResourceId, from_definition};

/// Something to be looked after.
pub(crate) enum Task {
    /// An object was made or changed.
    Written(Key),
    /// An object is gone.
    Gone(Key, Arc<Value>),
}

fn background() -> DeleteOptions {
    DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() }
}

impl State {
    /// Works off what follows from what follows.
    pub(super) fn settle(&mut self) {
        while let Some(task) = self.pending.pop_front() {
            match task {
                Task::Written(key) => self.after_write(&key),
                Task::Gone(key, last) => self.after_end(&key, &last),
            }
        }
    }

    fn after_write(&mut self, key: &Key) {
        let (Some(object), Some(resource)) = (self.at(key).cloned(), self.registry.by_id(&key.resource).cloned()) else { return };
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "namespaces") if meta::is_deleting(&object) => self.empty_namespace(&key.name),
            ("", "namespaces") => self.furnish_namespace(&key.name),
            ("apiextensions.k8s.io", "customresourcedefinitions") => self.unestablished.push(key.clone()),
            _ => {}
        }
        let owners = meta::owners(&object);
        if !owners.is_empty() && !owners.iter().any(|(uid, _)| self.by_uid.contains_key(*uid)) && !meta::is_deleting(&object) {
            let _ = self.delete(&resource, key, &background());
            return;
        }
        if meta::is_deleting(&object) {
            let finalizers = meta::finalizers(&object);
            if finalizers.contains(&ORPHAN) {
                self.orphan(meta::text(&object, "uid"));
                self.drop_finalizer(key, ORPHAN);
            } else if finalizers.contains(&FOREGROUND) {
                self.delete_in_foreground(key, &object);
            }
        }
    }

    fn after_end(&mut self, key: &Key, last: &Value) {
        let uid = meta::text(last, "uid");
        let dependents: Vec<Key> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for dependent in dependents {
            self.release(&dependent, uid);
        }
        for (owner, _) in meta::owners(last) {
            let Some(owner_key) = self.by_uid.get(owner).cloned() else { continue };
            let Some(object) = self.at(&owner_key).cloned() else { continue };
            if meta::is_deleting(&object) && meta::finalizers(&object).contains(&FOREGROUND) {
                self.delete_in_foreground(&owner_key, &object);
            }
        }
        if !key.namespace.is_empty() {
            self.end_namespace_if_empty(&key.namespace);
        }
        if key.resource == definitions() {
            self.end_definition(last);
        }
    }

    /// An owner is gone: the dependent goes as well, unless another owner is there.
    fn release(&mut self, key: &Key, owner: &str) {
        let (Some(object), Some(resource)) = (self.at(key).cloned(), self.registry.by_id(&key.resource).cloned()) else { return };
        if meta::owners(&object).iter().any(|(uid, _)| *uid != owner && self.by_uid.contains_key(*uid)) {
            self.without_owner(key, &resource, &object, owner);
        } else if !meta::is_deleting(&object) {
            let _ = self.delete(&resource, key, &background());
        }
    }

    fn without_owner(&mut self, key: &Key, resource: &Arc<Resource>, object: &Value, owner: &str) {
        let mut object = object.clone();
        let list = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
        let left: Vec<Value> = list.into_iter().filter(|o| o.get("uid").and_then(Value::as_str) != Some(owner)).collect();
        if left.is_empty() {
            meta::unset(&mut object, "ownerReferences");
        } else {
            meta::set(&mut object, "ownerReferences", Value::Array(left));
        }
        self.put(resource, key.clone(), object);
    }

    fn orphan(&mut self, uid: &str) {
        let dependents: Vec<Key> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for key in dependents {
            let (Some(object), Some(resource)) = (self.at(&key).cloned(), self.registry.by_id(&key.resource).cloned()) else { continue };
            self.without_owner(&key, &resource, &object, uid);
        }
    }

    /// Dependents go first; the owner follows when none is left that blocks it.
    fn delete_in_foreground(&mut self, key: &Key, object: &Value) {
        let uid = meta::text(object, "uid");
        let dependents: Vec<Key> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        let mut blocked = false;
        for dependent in dependents {
            let (Some(object), Some(resource)) = (self.at(&dependent).cloned(), self.registry.by_id(&dependent.resource).cloned()) else {
                continue;
            };
            let blocks = meta::owners(&object).iter().any(|(owner, blocks)| *owner == uid && *blocks);
            if !meta::is_deleting(&object) {
                let owns = self.dependents.contains_key(meta::text(&object, "uid"));
                let propagation = if owns { Propagation::Foreground } else { Propagation::Background };
                let _ = self.delete(&resource, &dependent, &DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() });
            }
            blocked |= blocks && self.at(&dependent).is_some();
        }
        if !blocked {
            self.drop_finalizer(key, FOREGROUND);
        }
    }

    fn drop_finalizer(&mut self, key: &Key, finalizer: &str) {
        let (Some(object), Some(resource)) = (self.at(key).cloned(), self.registry.by_id(&key.resource).cloned()) else { return };
        let left: Vec<String> = meta::finalizers(&object).into_iter().filter(|f| *f != finalizer).map(str::to_owned).collect();
        let mut object = (*object).clone();
        meta::set_finalizers(&mut object, &left);
        self.put(&resource, key.clone(), object);
    }

    /// Every namespace has a service account. Source: `pkg/controller/serviceaccount/serviceaccounts_controller.go`.
    fn furnish_namespace(&mut self, namespace: &str) {
        let Some(resource) = self.registry.kind("ServiceAccount") else { return };
        let key = Self::key(&resource, namespace, "default");
        if self.at(&key).is_none() {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
            self.insert(&resource, key, account);
        }
    }

    fn empty_namespace(&mut self, namespace: &str) {
        let inside: Vec<(Key, bool)> = self
            .objects
            .iter()
            .flat_map(|(id, all)| {
                let from = (namespace.to_owned(), String::new());
                all.range(from..).take_while(|((n, _), _)| n == namespace).map(|((n, name), object)| {
                    let key = Key { resource: id.clone(), namespace: n.clone(), name: name.clone() };
                    (key, meta::is_deleting(object))
                })
            })
            .collect();
        for (key, _) in inside.iter().filter(|(_, deleting)| !deleting) {
            if let Some(resource) = self.registry.by_id(&key.resource).cloned() {
                let _ = self.delete(&resource, key, &background());
            }
        }
        self.end_namespace_if_empty(namespace);
    }

    fn end_namespace_if_empty(&mut self, namespace: &str) {
        let key = Key { resource: ResourceId::namespaces(), namespace: String::new(), name: namespace.to_owned() };
        let (Some(object), Some(resource)) = (self.at(&key).cloned(), self.registry.by_id(&key.resource).cloned()) else { return };
        let is_empty = !self
            .objects
            .values()
            .any(|all| all.range((namespace.to_owned(), String::new())..).next().is_some_and(|((n, _), _)| n == namespace));
        let waits = object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty());
        if meta::is_deleting(&object) && is_empty && waits {
            let mut object = (*object).clone();
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove("finalizers");
            }
            self.put(&resource, key, object);
        }
    }

    fn end_definition(&mut self, definition: &Value) {
        let Some(resource) = from_definition(definition) else { return };
        let id = resource.id();
        let Some(served) = self.registry.by_id(&id).filter(|r| r.custom).cloned() else { return };
        let all: Vec<(Key, Arc<Value>)> = self
            .objects
            .get(&id)
            .into_iter()
            .flatten()
            .map(|((ns, name), o)| (Key { resource: id.clone(), namespace: ns.clone(), name: name.clone() }, o.clone()))
            .collect();
        for (key, object) in all {
            self.remove(&served, &key, (*object).clone());
        }
        Arc::make_mut(&mut self.registry).remove(&id);
    }

    /// Serves the definition's kind and says so in its status.
    fn establish(&mut self, key: &Key) {
        let (Some(definition), Some(resource)) = (self.at(key).cloned(), self.registry.by_id(&key.resource).cloned()) else { return };
        let Some(mut made) = from_definition(&definition) else { return };
        // A kind that is served anyway outlives its definition.
        made.custom = self.registry.by_id(&made.id()).is_none_or(|r| r.custom);
        let versions = made.versions.clone();
        let mut object = (*definition).clone();
        let now = self.now();
        let since = definition.pointer("/status/conditions/0/lastTransitionTime").and_then(Value::as_str).map_or(now, str::to_owned);
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since});
        let status = json!({
            "acceptedNames": definition.pointer("/spec/names").cloned().unwrap_or_default(),
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "storedVersions": versions.first().map(|v| vec![v.clone()]).unwrap_or_default(),
        });
        if self.registry.by_id(&made.id()).is_none_or(|r| **r != made) {
            Arc::make_mut(&mut self.registry).add(made);
        }
        if definition.get("status") != Some(&status) {
            if let Some(map) = object.as_object_mut() {
                map.insert("status".to_owned(), status);
            }
            self.put(&resource, key.clone(), object);
        }
    }
}

fn definitions() -> ResourceId {
    Resource { group: "apiextensions.k8s.io".to_owned(), plural: "customresourcedefinitions".to_owned(), ..Resource::default() }.id()
}

impl Store {
    /// A definition is established a moment after it is written, as on a cluster; without a runtime at once.
    pub(super) fn establish_soon(&self, key: Key) {
        let store = self.clone();
        let work = move || store.transact(|state| state.establish(&key));
        match tokio::runtime::Handle::try_current() {
            Err(_) => work(),
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                work();
            })),
        }
    }
}
