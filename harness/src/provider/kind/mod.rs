//! Real clusters by kind.

pub(crate) mod build;
pub(crate) mod images;
pub(crate) mod lease;
pub(crate) mod node;
pub(crate) mod preflight;
pub(crate) mod remove;
pub(crate) mod state;
pub(crate) mod tools;
pub(crate) mod versions;

pub use lease::{Lease, delete, up};
pub use remove::cleanup_blocking;
pub(crate) use tools::not_here;

/// Where gateproof keeps what outlives a process: `$XDG_STATE_HOME/gateproof`, or below `~/.local/state`.
pub(crate) fn state_root() -> Result<std::path::PathBuf, super::ProviderError> {
    state::root().map(|clusters| clusters.parent().unwrap_or(&clusters).to_owned())
}

/// What a run looks at before it touches anything, without the run.
pub(crate) async fn look() -> Result<Vec<gateproof_core::report::PreflightRecord>, super::ProviderError> {
    preflight::preflight(&preflight::connect().await?).await
}

/// Whether the engine has this image or its registry answers for it; else why not.
pub(crate) async fn has_or_can_have(image: &str) -> Result<(), String> {
    let docker = preflight::connect().await.map_err(|e| e.to_string())?;
    if docker.inspect_image(image).await.is_ok() {
        return Ok(());
    }
    let asked = tokio::time::timeout(std::time::Duration::from_secs(5), docker.inspect_registry_image(image, None)).await;
    match asked {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the node image {image} is not here, and its registry does not give it: {error}")),
        Err(_) => Err(format!("the node image {image} is not here, and its registry does not answer within 5 s")),
    }
}
