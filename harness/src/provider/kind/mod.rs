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

/// Where gateproof keeps what outlives a process: `$XDG_STATE_HOME/gateproof`, or below `~/.local/state`.
pub(crate) fn state_root() -> Result<std::path::PathBuf, super::ProviderError> {
    state::root().map(|clusters| clusters.parent().unwrap_or(&clusters).to_owned())
}

/// What a run looks at before it touches anything, without the run.
pub(crate) async fn look() -> Result<Vec<gateproof_core::report::PreflightRecord>, super::ProviderError> {
    preflight::preflight(&preflight::connect().await?).await
}
