//! Who analyses a configuration: istioctl, or the simulated mesh itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use gateproof_core::outcome::AnalysisMessage;

/// An analysis of one namespace: messages, or why it could not be made.
pub type Analysis = dyn Fn(&str) -> Result<Vec<AnalysisMessage>, String> + Send + Sync;

/// Where `analyze` probes are answered.
#[derive(Clone)]
pub enum Analyst {
    /// Nowhere: istioctl is not to be had.
    Nobody,
    /// By istioctl.
    Istioctl {
        /// Its path.
        path: PathBuf,
        /// `--kubeconfig FILE` or `--context NAME`.
        access: [OsString; 2],
    },
    /// By a mesh in this process, for the codes that it knows.
    Mesh(Arc<Analysis>),
}
