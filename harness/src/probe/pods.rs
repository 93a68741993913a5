//! Which pods each workload has, looked up once for all checks of a state.
//!
//! A state stands when its roll-outs have ended and the gate has seen the proxies of those pods, so that these are the pods it is
//! about. They are looked up anew where a state begins and where a check is asked again: what it met may have been a pod that went.
//! Whoever has to show that nothing else was there ([`super::sentinel`]) asks the API each time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateproof_core::facts::PodGlance;
use gateproof_core::names::Namespaced;
use kube::Client;
use tokio::sync::OnceCell;

use super::ProbeError;
use crate::kube_ext::glance::{self, Selectors};

type Seen = Arc<OnceCell<Vec<PodGlance>>>;

/// What has been seen of workloads' pods.
pub struct Pods {
    client: Client,
    seen: Mutex<HashMap<Namespaced, Seen>>,
}

impl Pods {
    /// Nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, seen: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Namespaced, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever is asked for next is looked up.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// Looks up those of all these Deployments anew, in a few requests; one that is not there is left out.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn look(&self, workloads: &BTreeSet<Namespaced>) -> Result<(), ProbeError> {
        let failed = |e| ProbeError::api("looking up the pods of workloads".to_owned(), e);
        let selectors = Selectors::read(&self.client, workloads).await.map_err(failed)?;
        let pods = selectors.pods(&self.client).await.map_err(failed)?;
        let mut seen = self.lock();
        seen.extend(pods.into_iter().map(|(workload, pods)| (workload.clone(), Arc::new(OnceCell::new_with(Some(pods))))));
        Ok(())
    }

    /// The Deployment's pods, those that are going away included. Several who ask at once are answered with one look.
    ///
    /// # Errors
    /// When the Deployment does not exist, or the API refuses.
    pub async fn of(&self, workload: &Namespaced) -> Result<Vec<PodGlance>, ProbeError> {
        let seen = self.lock().entry(workload.clone()).or_default().clone();
        let look = || async {
            let failed = |e| ProbeError::api(format!("looking up the pods of {workload}"), e);
            glance::pods_of(&self.client, workload).await.map_err(failed)
        };
        seen.get_or_try_init(look).await.cloned()
    }
}
