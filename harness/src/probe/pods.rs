//! Which pods each workload has, looked up once for all checks of a state.
//!
//! A state's roll-outs have ended before its gate opens: pods come and go after that only by somebody else's doing. They are looked up
//! when the gate has opened and where a check is asked again, since what that met may have been a pod that went. Commands are run in these
//! pods, and logs of a call's path are followed of them. Whoever has to know that there is no other - absence from a log
//! (`sentinel`), a log, every replica's configuration - asks the API each time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateproof_core::facts::PodGlance;
use gateproof_core::names::Namespaced;
use kube::Client;
use tokio::sync::OnceCell;

use super::ProbeError;
use super::exec::glance_at;
use crate::kube_ext::glance::Selectors;

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
        seen.retain(|workload, _| !workloads.contains(workload));
        seen.extend(pods.into_iter().map(|(workload, pods)| (workload.clone(), Arc::new(OnceCell::new_with(Some(pods))))));
        Ok(())
    }

    /// The Deployment's pods, those that are going away included. Several who ask at once are answered with one look.
    ///
    /// # Errors
    /// When the Deployment does not exist, or the API refuses.
    pub async fn of(&self, workload: &Namespaced) -> Result<Vec<PodGlance>, ProbeError> {
        let seen = self.lock().entry(workload.clone()).or_default().clone();
        seen.get_or_try_init(|| glance_at(&self.client, workload)).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gateproof_mesh::{Mesh, Options};
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;

    use super::*;

    fn at(namespace: &str, name: &str) -> Namespaced {
        Namespaced { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[tokio::test]
    async fn pods_are_remembered_until_they_are_forgotten_or_looked_for_and_what_is_not_there_is_not() {
        let mesh = Mesh::start(Options::default()).await.unwrap();
        let (pods, istiod) = (Pods::new(mesh.client()), at("istio-system", "istiod"));
        let names = async || -> Vec<String> { pods.of(&istiod).await.unwrap().into_iter().map(|pod| pod.metadata.name).collect() };
        let before = names().await;
        assert_eq!(before.len(), 1);
        let api: Api<Pod> = Api::namespaced(mesh.client(), "istio-system");
        api.delete(&before[0], &kube::api::DeleteParams::default()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while api.get_opt(&before[0]).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(names().await, before, "what the state stood with");
        pods.look(&BTreeSet::from([istiod.clone(), at("istio-system", "nosuch")])).await.unwrap();
        assert!(!names().await.contains(&before[0]));
        pods.forget();
        assert!(!names().await.contains(&before[0]));
        for _ in 0..2 {
            assert!(pods.of(&at("istio-system", "nosuch")).await.unwrap_err().is_not_found());
        }
    }
}
