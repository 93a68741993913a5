//! Istio by Helm: the control plane, the gateways, and the waiting for both.

pub(crate) mod crds;
pub(crate) mod gateways;
pub(crate) mod helm;
pub(crate) mod wait;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::Value;

use crate::provider::{FIELD_MANAGER, ProviderError};

/// Where istiod lives.
pub(crate) const SYSTEM: &str = "istio-system";

/// Applies a Namespace as it is declared. One that nobody declares is made if it is not there; applying
/// it bare would take away what an earlier run declared.
pub(crate) async fn namespace(client: &kube::Client, name: &str, declared: Option<&Value>) -> Result<(), ProviderError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let made = match declared {
        Some(object) => api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await.map(|_| ()),
        None => {
            let mut bare = Namespace::default();
            bare.metadata.name = Some(name.to_owned());
            match api.create(&PostParams::default(), &bare).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                other => other.map(|_| ()),
            }
        }
    };
    made.map_err(ProviderError::kube(format!("make the namespace {name}")))
}
