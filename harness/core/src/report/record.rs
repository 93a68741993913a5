//! The record of a run. The engine fills it, renderers only read it. It is saved as JSON beside the report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{Namespaced, ScenarioId};
use crate::outcome::cause::Cause;
use crate::outcome::{HopSeen, Outcome, redact};
use crate::parity::Digest;
use crate::scenario::{ScenarioValue, ValueSource};

/// The version of this structure; raised when a field changes its meaning.
pub const RECORD_SCHEMA: u32 = 1;

/// How the reason of a skipped check begins that was to be asked in a run which ended before.
pub const NOT_REACHED: &str = "not reached";

/// Everything that is known of one run. Times are RFC 3339 in UTC; durations are seconds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// [`RECORD_SCHEMA`] when written.
    pub schema: u32,
    /// When the run began.
    pub started: String,
    /// When it ended; None while it runs, or when it died.
    pub finished: Option<String>,
    /// gateproof's version.
    pub gateproof: String,
    /// The command line that began it, without secrets.
    pub invoked: String,
    /// The provider and its cluster.
    pub provider: ProviderRecord,
    /// Versions as read from the cluster.
    pub versions: Vec<VersionRecord>,
    /// What did not fit but did not stop the run (a client that does not fit the control plane, …).
    pub warnings: Vec<String>,
    /// Hosts outside the mesh.
    pub outside: Vec<OutsideRecord>,
    /// Gateways of the cluster.
    pub gateways: Vec<GatewayRecord>,
    /// What was looked at before anything was touched.
    pub preflight: Vec<PreflightRecord>,
    /// Each step of provisioning and clean-up, with its time.
    pub steps: Vec<StepRecord>,
    /// The scenarios, in the order run.
    pub scenarios: Vec<ScenarioRecord>,
    /// Commands that make the same cluster and apply the same manifests from scratch.
    pub reproduce: Vec<String>,
    /// How a check is asked again where the mesh ended with the run; None where the checks' own commands do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<AgainRecord>,
    /// Folder with diagnostics of what failed, relative to the report; None when nothing was collected.
    pub diagnostics: Option<String>,
    /// Why the run ended early: interrupted, cluster lost, …
    pub ended_early: Option<String>,
}

/// See [`RunRecord::provider`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProviderRecord {
    /// `kind`, `existing`, `embedded`.
    pub name: String,
    /// Why this one: named by the user, or chosen and why.
    pub chosen: String,
    /// The cluster's name.
    pub cluster: String,
    /// The kubeconfig context, or how to reach it.
    pub context: String,
    /// `created for this run`, `reused (kept by an earlier run)`, …
    pub origin: String,
}

/// One version, as read and as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRecord {
    /// `Kubernetes`, `Istio control plane`, `Envoy in istio-egressgateway`, `kind`, `helm`, `istioctl`, `node image`, …
    pub what: String,
    /// As read.
    pub observed: String,
    /// As declared in `kind/`, where it is.
    pub declared: Option<String>,
}

/// See [`RunRecord::again`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgainRecord {
    /// The command line that runs what is named after it: a check as `SCENARIO::CHECK`.
    pub run: String,
    /// The command line that brings a kept cluster into the state that is named after it: `SCENARIO STATE`.
    pub hold: String,
}

/// One host outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutsideRecord {
    /// Its name.
    pub host: String,
    /// `stand-in` or `real`.
    pub kind: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// What answers for it (an image), where it is a stand-in.
    pub served_by: String,
}

/// One gateway deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayRecord {
    /// Its Deployment and Service.
    pub at: Namespaced,
    /// Its labels, as `k=v`.
    pub labels: Vec<String>,
    /// How it is reached: `ClusterIP 10.96.0.7`, `NodePort 172.18.0.2:31080 (80), 172.18.0.2:31443 (443)`.
    pub reached: String,
}

/// One look before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreflightRecord {
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub observed: String,
    /// Whether it is good enough.
    pub ok: bool,
}

/// One timed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepRecord {
    /// `create the kind cluster`, `install istiod`, `remove 20-egress`, …
    pub name: String,
    /// Seconds after the run's start at which it began.
    pub began: f64,
    /// Seconds it took.
    pub took: f64,
}

/// One scenario's part of the run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioRecord {
    /// Its id.
    pub id: ScenarioId,
    /// Its title.
    pub title: String,
    /// Markdown from the scenario.
    pub mechanism: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Scenarios that stood beneath it.
    pub needs: Vec<ScenarioId>,
    /// Its folder, relative to the one that the folder of the reports lies in: a report's links begin with `../` and this.
    pub folder: String,
    /// The values that were put into its checks and manifests, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueRecord>,
    /// The manifests of the intact scenario.
    pub manifests: Vec<ManifestRecord>,
    /// Each state that it was brought into.
    pub stages: Vec<StageRecord>,
    /// Each check, in the scenario's order.
    pub checks: Vec<CheckRecord>,
    /// What was left out on purpose: subject and reason.
    pub not_tested: Vec<(String, String)>,
    /// Claims of earlier documents and what is so instead.
    pub corrections: Vec<(String, String)>,
    /// For "key points".
    pub key_points: Vec<String>,
    /// For "what a reader might be missing".
    pub might_be_missing: Vec<String>,
    /// For "next work".
    pub next_work: Vec<String>,
}

/// One value of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueRecord {
    /// Its name, as in `$(value:NAME)`.
    pub name: String,
    /// The text that was used, without secrets.
    pub value: String,
    /// Where it came from.
    pub source: ValueSource,
    /// What the scenario says about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

impl ValueRecord {
    /// What is written down of a value.
    #[must_use]
    pub fn of(value: &ScenarioValue) -> Self {
        Self { name: value.name.clone(), value: redact(&value.value), source: value.source, about: value.about.clone() }
    }
}

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestRecord {
    /// Its path, relative to the scenario's folder.
    pub file: String,
    /// Its objects, such as `Gateway istio-system/egress`.
    pub objects: Vec<String>,
}

/// One state: intact or a variation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRecord {
    /// `intact` or the variation's name.
    pub state: String,
    /// What departs, and why.
    pub about: String,
    /// Objects applied to come to it.
    pub applied: Vec<String>,
    /// Objects removed to come to it.
    pub removed: Vec<String>,
    /// References that point nowhere in this state, and answers of the API worth a line.
    pub notices: Vec<String>,
    /// Seconds to apply and remove, including roll-outs.
    pub apply_took: f64,
    /// Seconds until the proxies had it.
    pub gate_took: f64,
    /// What showed that they had it, a line each.
    pub gate_facts: Vec<String>,
    /// The configuration of each proxy, by workload, where it was asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proxies: BTreeMap<String, Digest>,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckRecord {
    /// Its name.
    pub name: String,
    /// What a green outcome shows.
    pub proves: String,
    /// The state it was asked in.
    pub given: String,
    /// A command that repeats it by hand.
    pub command: String,
    /// What was wanted, a line each.
    pub expected: Vec<String>,
    /// What was seen at the last attempt, a line each.
    pub observed: Vec<String>,
    /// Of a call: its status or how the connection ended, and the exit code of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Its outcome.
    pub outcome: Outcome,
    /// Each attempt: seconds after the gate, and what was seen in a line.
    pub attempts: Vec<AttemptRecord>,
    /// Seconds for all attempts.
    pub took: f64,
    /// The path seen, in order.
    pub hops: Vec<HopSeen>,
    /// Who called, where the path begins (`outside`, `mesh-test/sleep`); None when it was no call.
    pub caller: Option<String>,
    /// Where the path ended (an outside host, an upstream address); None when unknown.
    pub destination: Option<String>,
    /// What else was seen, folded below the table.
    pub evidence: Vec<EvidenceRecord>,
    /// For a red check: what the layers and flags say, a line each.
    pub diagnosis: Vec<String>,
    /// For a red check: why it likely failed; None where the configuration does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseRecord>,
    /// Why its failure does not make the run red, where it is in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<QuarantineRecord>,
    /// What earlier runs on the same provider say of it, where it is red or flaky.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<CheckHistory>,
}

impl CheckRecord {
    /// Whether it makes the run red: it failed or could not be judged, and is not in quarantine.
    #[must_use]
    pub fn counts_red(&self) -> bool {
        !self.outcome.is_green() && self.quarantined.is_none()
    }
}

/// See [`CheckRecord::cause`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CauseRecord {
    /// What is wrong, in a sentence without its end.
    pub text: String,
    /// Where to look, the likeliest first, such as "`spec.hosts` of Gateway shop/front"; empty when an object is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look_at: Vec<String>,
}

impl CauseRecord {
    /// What is written down of a cause, without secrets.
    #[must_use]
    pub fn of(cause: &Cause) -> Self {
        Self { text: redact(&cause.text), look_at: cause.places.iter().map(|place| redact(&place.to_string())).collect() }
    }

    /// All of it: what is wrong, and where to look.
    #[must_use]
    pub fn sentences(&self) -> String {
        let look = if self.look_at.is_empty() { String::new() } else { format!(" Look at {}.", self.look_at.join(" and ")) };
        format!("{}.{look}", self.text)
    }
}

/// See [`CheckRecord::quarantined`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineRecord {
    /// Why.
    pub reason: String,
    /// The last day on which it holds, `YYYY-MM-DD`.
    pub until: String,
}

/// See [`CheckRecord::history`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckHistory {
    /// When the first run of the present row of red ones began (it may be this one); None where it is not red.
    pub red_since: Option<String>,
    /// How many runs that row has, this one included. Runs that did not ask the check do not interrupt it.
    pub red_runs: u32,
    /// When the last run began in which it was as expected; None where no record has one.
    pub last_green: Option<String>,
    /// In how many of the last `runs` runs it was flaky.
    pub flaky_runs: u32,
    /// How many runs that asked it were looked at, this one included.
    pub runs: u32,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// Seconds after the check was first asked, which is after the gate has opened.
    pub after: f64,
    /// What was seen, in a line.
    pub seen: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// What was not as expected, a line each; empty where all was, and where the question could not be put.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceRecord {
    /// A heading.
    pub title: String,
    /// The language of the code block (`json`, `text`, …).
    pub language: String,
    /// The text.
    pub text: String,
}

/// The counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Passed at the first attempt.
    pub passed: usize,
    /// Passed at a later attempt.
    pub flaky: usize,
    /// Failed.
    pub failed: usize,
    /// Could not be judged.
    pub errors: usize,
    /// Not asked.
    pub skipped: usize,
    /// Failed or not judged, and in quarantine.
    #[serde(default)]
    pub quarantined: usize,
}

impl Tally {
    /// Counts checks.
    pub fn of<'a>(checks: impl IntoIterator<Item = &'a CheckRecord>) -> Self {
        let mut tally = Self::default();
        for check in checks {
            match check.outcome {
                Outcome::Failed { .. } | Outcome::Error { .. } if check.quarantined.is_some() => tally.quarantined += 1,
                Outcome::Passed => tally.passed += 1,
                Outcome::Flaky => tally.flaky += 1,
                Outcome::Failed { .. } => tally.failed += 1,
                Outcome::Error { .. } => tally.errors += 1,
                Outcome::Skipped { .. } => tally.skipped += 1,
            }
        }
        tally
    }

    /// Whether at least one check was asked and none failed or could not be judged, but for those in quarantine.
    #[must_use]
    pub fn is_green(self) -> bool {
        self.failed == 0 && self.errors == 0 && self.passed + self.flaky + self.quarantined > 0
    }
}
