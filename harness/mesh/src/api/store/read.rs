//! Reading.

use std::ops::Bound;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Key, State, Store};
use crate::api::error::ApiError;
use crate::api::registry::{Resource, ResourceId};
use crate::api::selector::Selector;

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) token: String,
}

/// A list, or a part of one.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) objects: Vec<Arc<Value>>,
    pub(crate) version: u64,
    /// Where the next part begins, and how many objects it and those after it have.
    pub(crate) next: Option<(String, usize)>,
}

impl State {
    pub(super) fn at(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(&key.resource)?.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// Objects of a resource, in one namespace or in all, by namespace and name.
    pub(super) fn of<'a>(&'a self, id: &ResourceId, namespace: Option<&'a str>) -> Box<dyn Iterator<Item = &'a Arc<Value>> + 'a> {
        let Some(all) = self.objects.get(id) else { return Box::new(std::iter::empty()) };
        match namespace {
            None => Box::new(all.values()),
            Some(namespace) => {
                let from = (namespace.to_owned(), String::new());
                Box::new(all.range(from..).take_while(move |((n, _), _)| n == namespace).map(|(_, object)| object))
            }
        }
    }

    pub(super) fn snapshot(&self, kinds: &[&str]) -> Vec<Arc<Value>> {
        if kinds.is_empty() {
            return self.objects.values().flat_map(|all| all.values().cloned()).collect();
        }
        let mut out = Vec::new();
        for resource in kinds.iter().filter_map(|k| self.registry.kind(k)) {
            out.extend(self.of(&resource.id(), None).cloned());
        }
        out
    }
}

impl Store {
    /// One object.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let state = self.lock();
        let resource = state.registry.kind(kind)?.id();
        state.at(&Key { resource, namespace: namespace.to_owned(), name: name.to_owned() }).cloned()
    }

    /// The object of a uid.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Value>> {
        let state = self.lock();
        state.at(state.by_uid.get(uid)?).cloned()
    }

    /// The objects of a kind, in one namespace or in all, by namespace and name.
    #[must_use]
    pub fn list(&self, kind: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.select(kind, namespace, &Selector::default())
    }

    /// Those of them that a selector picks.
    #[must_use]
    pub fn select(&self, kind: &str, namespace: Option<&str>, selector: &Selector) -> Vec<Arc<Value>> {
        let state = self.lock();
        let Some(resource) = state.registry.kind(kind) else { return Vec::new() };
        state.of(&resource.id(), namespace).filter(|o| selector.matches(o)).cloned().collect()
    }

    /// The objects that name this uid as an owner.
    #[must_use]
    pub fn dependents(&self, uid: &str) -> Vec<Arc<Value>> {
        let state = self.lock();
        state.dependents.get(uid).into_iter().flatten().filter_map(|key| state.at(key).cloned()).collect()
    }

    /// All objects of these kinds (of all when none is named) at one moment, and its resource version.
    #[must_use]
    pub fn snapshot(&self, kinds: &[&str]) -> (u64, Vec<Arc<Value>>) {
        let state = self.lock();
        (state.version, state.snapshot(kinds))
    }

    pub(crate) fn read(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Arc<Value>, ApiError> {
        let key = Key { resource: resource.id(), namespace: namespace.to_owned(), name: name.to_owned() };
        self.lock().at(&key).cloned().ok_or_else(|| ApiError::not_found(resource, name))
    }

    pub(crate) fn page(&self, resource: &Resource, namespace: Option<&str>, selector: &Selector, page: &Page) -> Result<Listed, ApiError> {
        let state = self.lock();
        let id = resource.id();
        let whole = page.limit == 0 && page.token.is_empty();
        if whole {
            let objects = state.of(&id, namespace).filter(|o| selector.matches(o)).cloned().collect();
            return Ok(Listed { objects, version: state.version, next: None });
        }
        let after = match page.token.as_str() {
            "" => None,
            token => Some(read_token(token).ok_or_else(|| ApiError::bad_request("continue key is not valid"))?),
        };
        // Later parts are of now, not of when the first was read; what lies between is told by the version of the first.
        let version = after.as_ref().map_or(state.version, |(version, _)| *version);
        let from = after.map_or(Bound::Unbounded, |(_, key)| Bound::Excluded(key));
        let empty = super::Objects::new();
        let all = state.objects.get(&id).unwrap_or(&empty);
        let is_here = |key: &(String, String)| namespace.is_none_or(|n| n == key.0);
        let mut rest = all.range((from, Bound::Unbounded)).filter(|(key, object)| is_here(key) && selector.matches(object));
        let limit = if page.limit == 0 { usize::MAX } else { page.limit };
        let mut objects = Vec::new();
        let mut last = None;
        for (key, object) in rest.by_ref().take(limit) {
            objects.push(object.clone());
            last = Some(key);
        }
        let left = rest.count();
        let next = last.filter(|_| left > 0).map(|key| (token(version, key), left));
        Ok(Listed { objects, version, next })
    }
}

fn token(version: u64, key: &(String, String)) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": version, "start": [key.0, key.1]}).to_string())
}

fn read_token(token: &str) -> Option<(u64, (String, String))> {
    let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let part = |at: usize| value.get("start")?.get(at)?.as_str().map(str::to_owned);
    Some((value.get("rv")?.as_u64()?, (part(0)?, part(1)?)))
}
