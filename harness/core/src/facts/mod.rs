//! What the parts of a cluster say of themselves, read into types: istiod's debug endpoints, a proxy's configuration, the API's lists.
//!
//! The harness asks; here the answers are read. They are large and come often, so that this is where reading has to be quick.

mod dump;
mod glance;
mod istiod;

pub use dump::{Dump, Known, MARK_CLUSTER};
pub use glance::{DeploymentGlance, Meta, PodGlance, SliceGlance};
pub use istiod::{KnownConfig, KnownMeta, SyncStatus, TypeStatus, short_type};

use serde_json::Value;

/// Reads JSON of whatever shape.
///
/// # Errors
/// When it is none.
pub fn json(answer: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(answer)
}
