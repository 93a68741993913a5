//! What all parts of one proxy share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use gateproof_mesh_config::ProxyNode;
use gateproof_mesh_config::envoy::RouteTable;

use super::journal::Journal;
use super::listener::ListenerRuntime;
use super::sent::Sent;
use super::stats::Stats;
use super::tasks::{Random, Tasks};
use super::tls::Secrets;
use super::upstream::ClusterRuntime;
use super::{Resolve, Settings, read, write};
use crate::net::Host;

/// What is active now.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) clusters: BTreeMap<String, Arc<ClusterRuntime>>,
    pub(super) routes: BTreeMap<String, Arc<Routes>>,
    pub(super) listeners: BTreeMap<String, Arc<ListenerRuntime>>,
}

/// Routes that listeners ask for by their name.
pub(super) struct Routes {
    pub(super) sent: Sent,
    pub(super) table: Arc<RouteTable>,
}

/// Shared by all parts.
pub(super) struct Env {
    pub(super) host: Host,
    pub(super) resolve: Resolve,
    pub(super) node: ProxyNode,
    pub(super) settings: Settings,
    pub(super) secrets: Arc<Secrets>,
    pub(super) stats: Stats,
    pub(super) random: Arc<Random>,
    pub(super) tasks: Tasks,
    pub(super) journal: Journal,
    pub(super) tables: RwLock<Tables>,
    pub(super) connections: AtomicU64,
}

impl Env {
    pub(super) fn cluster(&self, name: &str) -> Option<Arc<ClusterRuntime>> {
        read(&self.tables).clusters.get(name).cloned()
    }

    pub(super) fn route(&self, name: &str) -> Option<Arc<RouteTable>> {
        read(&self.tables).routes.get(name).map(|r| r.table.clone())
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets go of everything: parts hold this and this holds parts.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *write(&self.tables));
        for cluster in gone.clusters.values() {
            cluster.retire();
        }
        for listener in gone.listeners.values() {
            listener.close();
        }
    }
}
