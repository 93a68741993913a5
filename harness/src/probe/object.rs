//! An object of the Kubernetes API, read when those who write into it have done so.

use std::time::{Duration, Instant};

use gateproof_core::names::ObjectKey;
use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;

use super::ProbeError;
use crate::kube_ext::{Resources, is_settled};
use crate::provider::Pace;

/// An object that stays the same for so long is read as it is. istiod writes statuses beside its pushes, on a queue of their own:
/// that the proxies have something says nothing of them.
const QUIET: Duration = Duration::from_millis(400);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// So long is waited for a controller that has not looked at the object yet; then it is read as it is. A pause and no limit: nobody may be
/// there who looks, and that is what a check may be about.
const LIMIT: Duration = Duration::from_secs(5);

/// The object as it stands, without managed fields, and without the values of a Secret; None where there is none.
pub(super) async fn read(client: &Client, key: &ObjectKey, pace: Pace) -> Result<Option<Value>, ProbeError> {
    let failed = |error| ProbeError::api(format!("reading {key}"), error);
    let api = Resources::new(client.clone()).api_for(key).await.map_err(failed)?;
    let began = Instant::now();
    let mut unchanged_since = Instant::now();
    let mut seen: Option<DynamicObject> = None;
    loop {
        let now = api.get_opt(&key.name).await.map_err(failed)?;
        let version = |object: &Option<DynamicObject>| object.as_ref().and_then(|o| o.metadata.resource_version.clone());
        if version(&now) != version(&seen) {
            unchanged_since = Instant::now();
        }
        seen = now;
        let value = seen.as_ref().and_then(|object| serde_json::to_value(object).ok());
        // One that is not there may still be made by somebody.
        if value.is_some() && has_no_status(key) {
            return Ok(value.map(tidy));
        }
        let quiet = unchanged_since.elapsed() >= pace.pause(QUIET) && value.as_ref().is_none_or(is_settled);
        if quiet || began.elapsed() >= pace.pause(LIMIT) {
            return Ok(value.map(tidy));
        }
        tokio::time::sleep(pace.pause(LOOK)).await;
    }
}

/// Whether nobody writes into an object of this kind after it was made: one that is there is read as it is, at once.
fn has_no_status(key: &ObjectKey) -> bool {
    // Not a Secret: it may be a controller's, and still to come.
    key.group().is_empty() && ["ConfigMap", "ServiceAccount"].contains(&key.kind.as_str()) || key.group() == "rbac.authorization.k8s.io"
}

/// Without what belongs in no report.
fn tidy(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if object["kind"] == "Secret" {
        // kubectl's last-applied-configuration repeats the data, and others may as well.
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("annotations");
        }
        for part in ["data", "stringData"] {
            // `get_mut`, for an index would put a null where there is nothing.
            for value in object.get_mut(part).and_then(Value::as_object_mut).into_iter().flat_map(|data| data.values_mut()) {
                *value = Value::from("[redacted]");
            }
        }
    }
    object
}

/// The command that shows the object.
pub(super) fn command(key: &ObjectKey) -> String {
    let kind = key.kind.to_lowercase();
    let kind = match key.api_version.split_once('/') {
        Some((group, version)) => format!("{kind}.{version}.{group}"),
        None => kind,
    };
    let namespace = key.namespace.as_ref().map_or(String::new(), |ns| format!(" -n {ns}"));
    format!("kubectl{namespace} get {kind} {} -o yaml", key.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_keeps_its_keys_only() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "a", "managedFields": [1],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"tls.key\":\"c2VjcmV0\"}}"}}, "data": {"tls.key": "c2VjcmV0"}});
        assert_eq!(tidy(secret), json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"tls.key": "[redacted]"}}));
    }

    #[test]
    fn the_command_names_the_group() {
        let key = |api_version: &str, kind: &str, namespace: Option<&str>| ObjectKey {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: "a".to_owned(),
        };
        let gateway = key("gateway.networking.k8s.io/v1", "Gateway", Some("n"));
        assert_eq!(command(&gateway), "kubectl -n n get gateway.v1.gateway.networking.k8s.io a -o yaml");
        assert_eq!(command(&key("v1", "Namespace", None)), "kubectl get namespace a -o yaml");
    }
}
