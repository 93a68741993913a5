//! A kube client over the store: the calls that the harness makes, and what a real API server answers.

mod admission;
mod arbitrary;
mod fake;
mod lifecycle;
mod objects;
mod streams;
mod watching;

use std::sync::Arc;

use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::{NoKubelet, Options, Server, Store};

pub(super) fn client(store: &Store) -> Client {
    Server::new(store.clone(), Arc::new(NoKubelet)).client()
}

/// Through discovery, as the harness looks kinds up.
pub(super) async fn api(client: &Client, namespace: &str, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk).await.unwrap();
    match capabilities.scope {
        kube::discovery::Scope::Cluster => Api::all_with(client.clone(), &resource),
        kube::discovery::Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

pub(super) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
        },
    })
}

pub(super) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i:1"}, {"name": "istio-proxy", "image": "p:1"}]},
    })
}

pub(super) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"k": value}})
}

pub(super) fn status_of(error: kube::Error) -> kube::core::Status {
    match error {
        kube::Error::Api(status) => *status,
        other => panic!("no status: {other}"),
    }
}

pub(super) fn store() -> Store {
    Store::new(Options::default())
}
