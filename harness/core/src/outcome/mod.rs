//! Observation against expectation: what came back, and whether it is what was wanted.
//!
//! Probes make [`Observation`]s and judge nothing; [`judge`](crate::outcome::judge()) is pure.

mod access_log;
pub mod cause;
mod describe;
mod diagnosis;
mod flags;
pub mod join;
pub mod json_match;
mod judge;
mod judge_path;
mod layer;
mod observation;
mod redact;
mod structure_diff;
mod text;

pub use describe::{connection_words, describe_connection, describe_expectation, describe_observation};
pub use diagnosis::{diagnose, diagnose_not_reached, diagnose_with};
pub use flags::{explain_details, explain_flags, explain_reset};
pub use judge::{judge, judge_check};
pub use layer::{Layer, first_broken};
pub use observation::*;
pub(crate) use redact::is_suspect;
pub use redact::redact;
pub use structure_diff::difference;
pub(crate) use text::clip;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that was not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mismatch {
    /// Which part of the answer: `status`, `path[1].cluster`, `certificate`, …
    pub what: String,
    /// What was wanted, for people.
    pub expected: String,
    /// What was seen, for people.
    pub observed: String,
    /// What kind of evidence it rests on.
    pub by: EvidenceKind,
}

/// What a mismatch rests on; a set-up failure or a time-out alone is no proof that a check noticed a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// The answer to a call: status, body, connection, certificate, output.
    Traffic,
    /// A log line, present or absent.
    Log,
    /// A proxy's configuration.
    ProxyConfig,
    /// What an object of the Kubernetes API says, its status included.
    Object,
    /// `istioctl analyze`.
    Analysis,
    /// Pods, proxies in sync, versions.
    State,
}

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// As expected at the first attempt after the gate.
    Passed,
    /// As expected, but only at a later attempt: luck was needed.
    Flaky,
    /// Not as expected at the last attempt.
    Failed {
        /// Every mismatch of the last attempt; never empty.
        mismatches: Vec<Mismatch>,
    },
    /// Could not be judged: the cluster, a pod or the set-up failed. Neither pass nor fail.
    Error {
        /// What was being done, what was seen, what to do.
        message: String,
    },
    /// Not asked, for a reason.
    Skipped {
        /// The reason.
        reason: String,
    },
}

impl Outcome {
    /// Whether the run stays green with this outcome.
    #[must_use]
    pub fn is_green(&self) -> bool {
        matches!(self, Self::Passed | Self::Flaky | Self::Skipped { .. })
    }
}
