//! One run at a time: a coordination Lease in the root namespace, held while the run lasts. A killed run's Lease runs out.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::provider::{FIELD_MANAGER, Progress, ProviderError};

const NAME: &str = "gateproof";
const SECONDS: i32 = 30;
const RENEW: Duration = Duration::from_secs(10);

/// The lock, held; renewed until it is released or dropped.
pub(super) struct Held {
    api: Api<Lease>,
    uid: Option<String>,
    renewal: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Held {
    /// Lets the next run in.
    pub(super) async fn release(self) -> Result<(), ProviderError> {
        self.renewal.abort();
        // Only ours: after a long pause another run may have taken it over.
        let preconditions = Preconditions { uid: self.uid.clone(), resource_version: None };
        match self.api.delete(NAME, &DeleteParams::default().preconditions(preconditions)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ProviderError::kube("release the cluster's lock")(error)),
        }
    }
}

/// Takes the lock, waiting for as long as another run renews it.
pub(super) async fn take(client: &Client, namespace: &str, patience: Duration, progress: &dyn Progress) -> Result<Held, ProviderError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let me = identity();
    let began = Instant::now();
    let mut said = false;
    let what = || format!("take the Lease {namespace}/{NAME}, by which one run at a time uses the cluster");
    loop {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER}},
            "spec": {"holderIdentity": me, "leaseDurationSeconds": SECONDS, "renewTime": now()},
        }))
        .unwrap_or_default();
        match api.create(&PostParams::default(), &lease).await {
            Ok(made) => return Ok(hold(api, made.metadata.uid)),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(ProviderError::kube(what())(error)),
        }
        let Some(found) = api.get_opt(NAME).await.map_err(ProviderError::kube(what()))? else { continue };
        let holder = found.spec.as_ref().and_then(|s| s.holder_identity.clone()).unwrap_or_default();
        let ours = found.metadata.labels.as_ref().and_then(|l| l.get("app.kubernetes.io/managed-by")).is_some_and(|v| v == FIELD_MANAGER);
        if !ours {
            let todo = "remove or rename it; gateproof needs that name for its lock".to_owned();
            return Err(ProviderError::NotOurs { what: format!("the Lease {namespace}/{NAME}"), todo });
        }
        if has_run_out(&found) {
            progress.warn(&format!("the run {holder} ended without giving the cluster back; taking it over"));
            let preconditions = Preconditions { uid: found.metadata.uid, resource_version: found.metadata.resource_version };
            let _ = api.delete(NAME, &DeleteParams::default().preconditions(preconditions)).await;
            continue;
        }
        if !said {
            said = true;
            progress.warn(&format!("another run ({holder}) uses the cluster; waiting until it ends"));
        }
        if began.elapsed() > patience {
            return Err(ProviderError::Timeout { what: what(), waited: patience, seen: format!("{holder} holds it") });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn hold(api: Api<Lease>, uid: Option<String>) -> Held {
    let renewed = api.clone();
    let renewal = tokio::spawn(async move {
        loop {
            tokio::time::sleep(RENEW).await;
            let patch = Patch::Merge(json!({"spec": {"renewTime": now()}}));
            if let Err(error) = renewed.patch(NAME, &PatchParams::default(), &patch).await {
                tracing::warn!(%error, "the cluster's lock could not be renewed");
            }
        }
    });
    Held { api, uid, renewal }
}

fn has_run_out(lease: &Lease) -> bool {
    let Some(spec) = &lease.spec else { return true };
    let Some(renewed) = &spec.renew_time else { return true };
    let seconds = Timestamp::now().as_second() - renewed.0.as_second();
    seconds > i64::from(spec.lease_duration_seconds.unwrap_or(SECONDS))
}

/// A MicroTime wants exactly six digits.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn identity() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_else(|| "unknown".to_owned());
    format!("{host}, process {}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_out_when_nobody_renews_it() {
        let lease = |renew: &str| serde_json::from_value(json!({"spec": {"leaseDurationSeconds": 30, "renewTime": renew}})).unwrap();
        assert!(!has_run_out(&lease(&now())));
        assert!(has_run_out(&lease("2020-01-01T00:00:00.000000Z")));
        assert!(has_run_out(&Lease::default()));
    }
}
