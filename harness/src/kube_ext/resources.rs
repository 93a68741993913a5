//! From an object's apiVersion and kind to the API that serves it.

use std::collections::HashMap;
use std::sync::Arc;

use gateproof_core::names::ObjectKey;
use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Api, Client};
use tokio::sync::Mutex;

/// Looks kinds up once and remembers them.
#[derive(Clone)]
pub struct Resources {
    client: Client,
    known: Arc<Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>>,
}

impl Resources {
    /// Over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, known: Arc::default() }
    }

    /// The API for one object.
    ///
    /// # Errors
    /// When the cluster does not serve the kind.
    pub async fn api_for(&self, key: &ObjectKey) -> Result<Api<DynamicObject>, kube::Error> {
        let (resource, scope) = self.lookup(&key.api_version, &key.kind).await?;
        Ok(match (&scope, &key.namespace) {
            (Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
            (Scope::Namespaced, Some(ns)) => Api::namespaced_with(self.client.clone(), ns, &resource),
            (Scope::Namespaced, None) => Api::default_namespaced_with(self.client.clone(), &resource),
        })
    }

    /// The API for all objects of a kind, in every namespace.
    ///
    /// # Errors
    /// When the cluster does not serve the kind.
    pub async fn api_all(&self, api_version: &str, kind: &str) -> Result<Api<DynamicObject>, kube::Error> {
        let (resource, _) = self.lookup(api_version, kind).await?;
        Ok(Api::all_with(self.client.clone(), &resource))
    }

    async fn lookup(&self, api_version: &str, kind: &str) -> Result<(ApiResource, Scope), kube::Error> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        if let Some((resource, scope)) = self.known.lock().await.get(&gvk) {
            return Ok((resource.clone(), scope.clone()));
        }
        let (resource, capabilities) = pinned_kind(&self.client, &gvk).await?;
        self.known.lock().await.insert(gvk, (resource.clone(), capabilities.scope.clone()));
        Ok((resource, capabilities.scope))
    }
}
