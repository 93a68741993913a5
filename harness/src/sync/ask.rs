//! What the gate asks: istiod's debug endpoints, Envoy's admin interface, the Kubernetes API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gateproof_core::facts::{self, Dump, PodGlance, SyncStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{ENVOY_ADMIN_PORT, Gate, GateError};
use crate::kube_ext::glance;

const ISTIOD_DEBUG_PORT: u16 = 15014;
const DUMP: &str = "/config_dump?include_eds";

impl Gate {
    /// What istiod says of every connected proxy.
    ///
    /// # Errors
    /// When istiod cannot be asked.
    pub async fn sync_status(&self) -> Result<Vec<SyncStatus>, GateError> {
        self.look_anew();
        self.sync_status_of(&self.istiod_pods().await?).await
    }

    pub(super) async fn sync_status_of(&self, istiods: &[String]) -> Result<Vec<SyncStatus>, GateError> {
        let mut all = Vec::new();
        for pod in istiods {
            all.extend(self.ask_istiod(pod, "/debug/syncz", SyncStatus::list).await?);
        }
        all.sort_by(|a, b| a.proxy.cmp(&b.proxy));
        Ok(all)
    }

    /// Envoy's own configuration in one pod, as it prints it.
    ///
    /// # Errors
    /// When the pod cannot be asked or answers something else.
    pub async fn envoy_dump(&self, namespace: &str, pod: &str) -> Result<Value, GateError> {
        self.ask_envoy(namespace, pod, DUMP).await
    }

    /// The dynamic listeners of one pod's Envoy: a small part of its configuration.
    pub(crate) async fn envoy_listeners(&self, namespace: &str, pod: &str) -> Result<Vec<Value>, GateError> {
        let answer = self.ask_envoy(namespace, pod, "/config_dump?resource=dynamic_listeners").await?;
        Ok(answer["configs"].as_array().cloned().unwrap_or_default())
    }

    async fn ask_envoy(&self, namespace: &str, pod: &str, path: &str) -> Result<Value, GateError> {
        let body = self.http.get(namespace, pod, ENVOY_ADMIN_PORT, path, Duration::from_secs(10)).await?;
        aside(move || facts::json(&body))
            .await
            .map_err(|e| GateError::Unreadable { what: format!("{path} of {namespace}/{pod}"), why: e.to_string() })
    }

    /// Envoy's own configuration, read for comparison.
    pub(super) async fn runs(&self, status: &SyncStatus) -> Result<Dump, GateError> {
        let body = self.http.get(status.namespace(), status.pod(), ENVOY_ADMIN_PORT, DUMP, Duration::from_secs(10)).await?;
        self.read_dump(body, format!("{DUMP} of {}", status.proxy)).await
    }

    /// istiod's own configuration for a proxy, from the istiod that it is connected to.
    pub(super) async fn intended(&self, status: &SyncStatus, istiods: &[String]) -> Option<Dump> {
        let path = format!("/debug/config_dump?proxyID={}&include_eds=true", status.proxy);
        for pod in istiods {
            let limit = Duration::from_secs(10);
            let Ok(body) = self.http.get(&self.root_namespace, pod, ISTIOD_DEBUG_PORT, &path, limit).await else { continue };
            if let Ok(dump) = self.read_dump(body, path.clone()).await {
                return Some(dump);
            }
        }
        None
    }

    async fn read_dump(&self, body: Bytes, what: String) -> Result<Dump, GateError> {
        let known = self.known.clone();
        let dump = aside(move || Dump::read(&body, &known)).await;
        dump.map_err(|e| GateError::Unreadable { what, why: e.to_string() })
    }

    /// The addresses that Kubernetes counts as ready, by Service host.
    ///
    /// istiod and Envoy may agree on endpoints that both have not heard the newest of; Kubernetes has.
    pub(super) async fn ready_endpoints(&self) -> Result<BTreeMap<String, BTreeSet<String>>, GateError> {
        let failed = |e| GateError::Api { doing: "listing endpoint slices".to_owned(), source: Box::new(e) };
        let mut ready: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for slice in glance::slices(&self.client).await.map_err(failed)? {
            let Some(service) = slice.service() else { continue };
            let addresses = ready.entry(format!("{service}.{}.svc.cluster.local", slice.metadata.namespace)).or_default();
            addresses.extend(slice.ready().cloned());
        }
        Ok(ready)
    }

    /// Every pod of the cluster, at a glance.
    pub(super) async fn all_pods(&self) -> Result<Vec<PodGlance>, GateError> {
        let failed = |e| GateError::Api { doing: "listing pods".to_owned(), source: Box::new(e) };
        glance::pods(&self.client, &Api::all(self.client.clone()), &ListParams::default()).await.map_err(failed)
    }

    /// Every pod with a proxy.
    pub(crate) async fn pods_with_proxy(&self) -> Result<Vec<Pod>, GateError> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let failed = |e| GateError::Api { doing: "listing pods".to_owned(), source: Box::new(e) };
        let mut pods = api.list(&ListParams::default()).await.map_err(failed)?.items;
        pods.retain(|pod| {
            let mut containers = pod.spec.iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
            containers.any(|c| c.name == "istio-proxy")
        });
        Ok(pods)
    }

    fn seen_istiods(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.istiods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// istiod's pods, as they were seen since somebody last let go of them ([`Gate::look_anew`]).
    pub(super) async fn istiod_pods(&self) -> Result<Vec<String>, GateError> {
        if let Some(seen) = self.seen_istiods().clone() {
            return Ok(seen);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.root_namespace);
        let wanted = ListParams::default().labels(&self.istiod_selector).fields("status.phase=Running");
        let pods = glance::pods(&self.client, &api, &wanted)
            .await
            .map_err(|e| GateError::Api { doing: "listing istiod's pods".to_owned(), source: Box::new(e) })?;
        let names: Vec<String> = pods.into_iter().filter(|pod| !pod.is_leaving()).map(|pod| pod.metadata.name).collect();
        if names.is_empty() {
            return Err(GateError::Unreadable {
                what: format!("pods with {} in {}", self.istiod_selector, self.root_namespace),
                why: "none is running".to_owned(),
            });
        }
        *self.seen_istiods() = Some(names.clone());
        Ok(names)
    }

    /// Lets go of what was seen of istiod's pods: whoever waits looks for them again, for they may be others by then.
    pub(super) fn look_anew(&self) {
        *self.seen_istiods() = None;
    }

    pub(super) async fn ask_istiod<T: Send + 'static>(
        &self,
        pod: &str,
        path: &str,
        read: fn(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<T, GateError> {
        let asked = self.http.get(&self.root_namespace, pod, ISTIOD_DEBUG_PORT, path, Duration::from_secs(10)).await;
        let body = asked.inspect_err(|_| self.look_anew())?;
        aside(move || read(&body)).await.map_err(|e| GateError::Unreadable { what: format!("{path} of {pod}"), why: e.to_string() })
    }
}

/// Reads on a thread of its own: a megabyte of JSON would hold up the others.
///
/// No more at once than there are processors: more are no sooner done, and each holds its megabytes, and its thread's, meanwhile.
async fn aside<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));
    let _one = AT_ONCE.acquire().await.expect("nobody closes it");
    match tokio::task::spawn_blocking(read).await {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
