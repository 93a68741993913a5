//! Which names resolve, inside the cluster and out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};

/// The names of the cluster's DNS and of the world outside. Cheap to clone.
#[derive(Clone, Default)]
pub struct Names {
    table: Arc<RwLock<BTreeMap<String, Vec<IpAddr>>>>,
}

impl Names {
    /// Gives a fully qualified name its addresses, in the order in which they are answered.
    pub fn set(&self, name: &str, addresses: Vec<IpAddr>) {
        let mut table = self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.insert(name.trim_end_matches('.').to_ascii_lowercase(), addresses);
    }

    /// Takes a name away.
    pub fn remove(&self, name: &str) {
        let mut table = self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.remove(&name.trim_end_matches('.').to_ascii_lowercase());
    }

    /// The addresses of a fully qualified name, or None when there is no such name. An address is its own answer.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Ok(address) = name.parse() {
            return Some(vec![address]);
        }
        let table = self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.get(&name.trim_end_matches('.').to_ascii_lowercase()).cloned()
    }

    /// As a pod of this namespace resolves: its search list is tried first for names with fewer than five dots
    /// (Kubernetes, "DNS for Services and Pods"; `ndots:5`).
    #[must_use]
    pub fn resolve_in(&self, name: &str, namespace: &str, domain: &str) -> Option<Vec<IpAddr>> {
        if name.ends_with('.') || name.matches('.').count() >= 5 {
            return self.resolve(name);
        }
        if name.parse::<IpAddr>().is_ok() {
            return self.resolve(name);
        }
        let search = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
        search.iter().find_map(|suffix| self.resolve(&format!("{name}.{suffix}"))).or_else(|| self.resolve(name))
    }
}
