//! Why a cluster could not be had.

use std::time::Duration;

/// Why a cluster could not be had. Each message is a fragment that fits after "error: " and says what
/// was being done, what was seen, and, where there is something to do, what.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A file of `kind/` or of a bundle is wrong: the input, not the cluster.
    #[error("failed to read {file}: {why}")]
    Settings {
        /// The file.
        file: String,
        /// What is wrong, with its place where that is known.
        why: String,
    },
    /// The machine cannot run a cluster as it is.
    #[error("failed the preflight of {what}: {seen}; {todo}")]
    Preflight {
        /// What was looked at.
        what: &'static str,
        /// What was seen.
        seen: String,
        /// What to do.
        todo: String,
    },
    /// A command line tool could not be had.
    #[error("failed to provide {tool}: {why}")]
    Tool {
        /// The tool.
        tool: String,
        /// Why, and what to do.
        why: String,
    },
    /// A command failed.
    #[error("failed to {what}: {seen}")]
    Command {
        /// What was being done.
        what: String,
        /// The exit status and the end of what it printed.
        seen: String,
    },
    /// The Docker engine refused.
    #[error("failed to {what}: {source}")]
    Docker {
        /// What was being done.
        what: String,
        /// Its answer.
        source: bollard::errors::Error,
    },
    /// The Kubernetes API refused.
    #[error("failed to {what}: {source}")]
    Kube {
        /// What was being done.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// A file or process could not be handled.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Something did not come in time.
    #[error("failed to {what} within {} s: {seen}", waited.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What was seen last.
        seen: String,
    },
    /// A kubeconfig context cannot be used.
    #[error("{why}")]
    Context {
        /// Why not, and which there are.
        why: String,
    },
    /// An existing cluster is not fit for the run. Nothing was touched.
    #[error("the cluster of the context `{context}` lacks what this run needs; nothing was touched:\n  - {}", lacks.join("\n  - "))]
    Lacks {
        /// The context.
        context: String,
        /// Each thing that lacks, and what to do.
        lacks: Vec<String>,
    },
    /// Something bears our name but is not ours.
    #[error("{what} exists, and gateproof did not make it: {todo}")]
    NotOurs {
        /// What exists.
        what: String,
        /// What to do.
        todo: String,
    },
    /// A gateway cannot be reached from where it was asked for.
    #[error("failed to reach gateway {gateway} from outside: {why}")]
    Unreachable {
        /// The gateway.
        gateway: String,
        /// Why not.
        why: String,
    },
    /// The certificates of the stand-ins could not be made.
    #[error("failed to make the stand-ins' certificates: {0}")]
    Certificate(#[from] rcgen::Error),
}

impl ProviderError {
    /// Whether the input is wrong (exit 2) and not the cluster (exit 3).
    #[must_use]
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Settings { .. })
    }

    pub(crate) fn docker(what: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        move |source| Self::Docker { what: what.into(), source }
    }

    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube { what: what.into(), source: Box::new(source) }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}
