//! What the cluster has while a state stands, read once and only when a check of it failed.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use gateproof_core::names::ObjectKey;
use gateproof_core::outcome::cause::Configured;
use gateproof_core::scenario::KubeObject;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::probe::World;

/// How long the cluster may take to list its objects; what is not there by then counts as unknown.
const LIMIT: Duration = Duration::from_secs(5);

/// Reads the cluster's objects when they are asked for, and then no more: it belongs to one state.
pub struct Look<'w> {
    world: &'w World,
    seen: OnceCell<Configured>,
}

impl<'w> Look<'w> {
    /// At the state that stands; nothing is read yet.
    #[must_use]
    pub fn new(world: &'w World) -> Self {
        Self { world, seen: OnceCell::new() }
    }

    /// What the cluster has.
    pub async fn configured(&self) -> &Configured {
        self.seen.get_or_init(|| read(&self.world.client, self.world.gate.root_namespace())).await
    }
}

async fn read(client: &Client, root: &str) -> Configured {
    let asked = Configured::KINDS.map(|(api_version, kind, plural)| async move {
        let listed = tokio::time::timeout(LIMIT, list(client, api_version, kind, plural)).await;
        let why = match listed {
            Ok(Ok(objects)) => return Ok(objects),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {LIMIT:?}"),
        };
        tracing::debug!("{kind} of {api_version} could not be listed for a likely cause: {why}");
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Err((group.to_owned(), kind.to_owned()))
    });
    let (mut objects, mut unread) = (Vec::new(), BTreeSet::new());
    for answer in join_all(asked).await {
        match answer {
            Ok(all) => objects.extend(all),
            Err(kind) => drop(unread.insert(kind)),
        }
    }
    Configured::new(objects, unread, root)
}

async fn list(client: &Client, api_version: &str, kind: &str, plural: &str) -> Result<Vec<KubeObject>, kube::Error> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match api.list(&ListParams::default()).await {
        Ok(all) => Ok(all.items.into_iter().filter_map(|object| taken(object, api_version, kind)).collect()),
        // A kind that the cluster does not serve has no objects.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn taken(object: DynamicObject, api_version: &str, kind: &str) -> Option<KubeObject> {
    // What is going away takes no more calls.
    if object.metadata.deletion_timestamp.is_some() && kind == "Pod" {
        return None;
    }
    let name = object.metadata.name.clone()?;
    let namespace = object.metadata.namespace.clone();
    // Of a Secret nothing but its name is kept.
    let value = if kind == "Secret" { json!({}) } else { serde_json::to_value(&object).unwrap_or(Value::Null) };
    let key = ObjectKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace, name };
    Some(KubeObject { key, value, line: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_secret_leaves_its_name_only() {
        let secret =
            object(json!({"metadata": {"name": "s", "namespace": "n", "annotations": {"a": "b"}}, "data": {"tls.key": "c2VjcmV0"}}));
        let kept = taken(secret, "v1", "Secret").unwrap();
        assert_eq!((kept.key.to_string().as_str(), kept.value), ("Secret n/s", json!({})));
    }

    #[test]
    fn a_pod_that_goes_away_does_not_count() {
        let going = json!({"metadata": {"name": "p", "namespace": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(taken(object(going), "v1", "Pod").is_none());
        assert!(taken(object(json!({"metadata": {"name": "p", "namespace": "n"}})), "v1", "Pod").is_some());
    }
}
