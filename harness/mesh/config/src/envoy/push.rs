//! A push of resources: what is taken, what is refused, and what is answered then.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::cluster::{Cluster, Endpoints};
use super::listener::Listener;
use super::refusal::Refusal;
use super::route::RouteTable;
use crate::ProxyResources;

/// Resources of one kind: what was read, by name, and what was not. What was refused leaves the version before in place.
#[derive(Debug, Clone)]
pub struct Taken<T> {
    /// By name.
    pub good: BTreeMap<String, Arc<T>>,
    /// Names with reasons, in order.
    pub refused: Vec<(String, Refusal)>,
}

/// A whole push.
#[derive(Debug, Clone)]
pub struct Push {
    /// Listeners.
    pub listeners: Taken<Listener>,
    /// Route tables.
    pub routes: Taken<RouteTable>,
    /// Clusters.
    pub clusters: Taken<Cluster>,
    /// Endpoints.
    pub endpoints: Taken<Endpoints>,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self { good: BTreeMap::new(), refused: Vec::new() }
    }
}

impl<T> Taken<T> {
    fn read<'a>(values: impl IntoIterator<Item = (&'a String, &'a Arc<Value>)>, read: impl Fn(&Value) -> Result<T, Refusal>) -> Self {
        let mut taken = Self::default();
        for (name, value) in values {
            match read(value) {
                Ok(resource) => {
                    taken.good.insert(name.clone(), Arc::new(resource));
                }
                Err(refusal) => taken.refused.push((name.clone(), refusal)),
            }
        }
        taken
    }

    fn list(&self, between: &str) -> String {
        self.refused.iter().map(|(name, refusal)| format!("{name}: {refusal}")).collect::<Vec<_>>().join(between)
    }
}

impl Push {
    /// Read all resources of a proxy.
    pub fn read(resources: &ProxyResources) -> Self {
        let mut listeners = Taken::read(&resources.listeners, Listener::read);
        refuse_same_addresses(&mut listeners);
        Self {
            listeners,
            routes: Taken::read(&resources.routes, RouteTable::read),
            clusters: Taken::read(&resources.clusters, Cluster::read),
            endpoints: Taken::read(&resources.endpoints, Endpoints::read),
        }
    }
}

impl Taken<Cluster> {
    /// What istiod gets as the reason of a NACK, if anything was refused (`CdsApiHelper::onConfigUpdate`).
    pub fn rejection(&self) -> Option<String> {
        (!self.refused.is_empty()).then(|| format!("Error adding/updating cluster(s) {}", self.list(", ")))
    }

    /// Read clusters of one push that may have a name twice: the second is refused.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut taken = Self::default();
        for value in values {
            let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let read = match taken.good.contains_key(&name) {
                true => Err(Refusal::rejected(format!("duplicate cluster {name} found"))),
                false => Cluster::read(value),
            };
            match read {
                Ok(cluster) => {
                    taken.good.insert(name, Arc::new(cluster));
                }
                Err(refusal) => taken.refused.push((name, refusal)),
            }
        }
        taken
    }
}

impl Taken<Listener> {
    /// What istiod gets as the reason of a NACK, if anything was refused (`LdsApiImpl::onConfigUpdate`).
    pub fn rejection(&self) -> Option<String> {
        (!self.refused.is_empty()).then(|| format!("Error adding/updating listener(s) {}\n", self.list("\n")))
    }
}

/// Two listeners that bind one address: the later one is refused (`ListenerManagerImpl::hasListenerWithDuplicatedAddress`).
fn refuse_same_addresses(listeners: &mut Taken<Listener>) {
    let mut bound = BTreeMap::new();
    let mut twice = Vec::new();
    for (name, listener) in listeners.good.iter().filter(|(_, listener)| listener.bind_to_port) {
        let address = listener.address.to_string();
        match bound.get(&address) {
            None => {
                bound.insert(address, name.clone());
            }
            Some(_) => twice
                .push((name.clone(), format!("error adding listener: '{name}' has duplicate address '{address}' as existing listener"))),
        }
    }
    for (name, words) in twice {
        listeners.good.remove(&name);
        listeners.refused.push((name, Refusal::rejected(words)));
    }
}
