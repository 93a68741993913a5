//! Clusters that one proxy of a push was given and another gets as well (Istio: the CDS cache, `pilot/pkg/model/xds_cache.go`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::builder::{Builder, Client, Mode};
use crate::istio::model::Subset;

/// Where in its context everything stands that a cluster is made of, and for whom it is. A context does not change, so that nothing
/// else comes to stand there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    service: usize,
    port: usize,
    rule: usize,
    subset: usize,
    mode: Mode,
    client: Client,
}

/// A cluster with its endpoints, or none.
type Outcome = Option<(Arc<Value>, Option<Arc<Value>>)>;

/// What was made from one context. It belongs to that one: a clone begins anew.
#[derive(Debug, Default)]
pub(in crate::istio) struct Made(Mutex<HashMap<Place, Outcome>>);

impl Clone for Made {
    fn clone(&self) -> Self {
        Self::default()
    }
}

fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of) as usize
}

impl Made {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster of a port of a service, or of a subset, made when it is asked for first.
    pub(super) fn of(&self, builder: &Builder<'_>, name: &str, subset: Option<&Subset>, mode: Mode) -> Outcome {
        let make = || builder.build(name, subset, mode).map(|(cluster, endpoints)| (Arc::new(cluster), endpoints));
        if builder.is_for_one_proxy(subset) {
            return make();
        }
        let place = Place {
            service: address(builder.service),
            port: address(builder.port),
            rule: builder.rule.map_or(0, address),
            subset: subset.map_or(0, address),
            mode,
            client: builder.client,
        };
        if let Some(made) = self.lock().get(&place) {
            return made.clone();
        }
        // Made without the lock: two at once make the same, and either counts.
        let made = make();
        self.lock().entry(place).or_insert(made).clone()
    }
}
