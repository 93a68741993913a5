//! Two runs of the same scenarios on two providers, compared check by check and proxy by proxy.

mod digest;
mod proved;
pub mod random;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use digest::{Digest, Places, digest};
pub use proved::{ComparedProofs, ProvedMutation, ProvedRun, ProvedVerdict, compare_proofs, proofs_table};
pub use table::table;

use crate::outcome::Outcome;
use crate::outcome::json_match::first_difference;
use crate::report::{CheckRecord, RunRecord};

/// What two runs have in common and where they differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parity {
    /// The providers, in the order in which they were given.
    pub providers: [String; 2],
    /// Every check of either run.
    pub checks: Vec<ComparedCheck>,
    /// Every state of either run, for proxies whose configuration was written down.
    pub states: Vec<ComparedState>,
}

/// One check on both.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedCheck {
    /// `SCENARIO::CHECK`.
    pub name: String,
    /// What each saw; None where the run did not come to it.
    pub seen: [Option<Facts>; 2],
}

/// What is compared of a check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `passed`, `failed`, …
    pub outcome: String,
    /// Status, ending of the connection, exit code.
    pub answer: String,
    /// Each log line of the call: proxy, code, flags, cluster.
    pub hops: Vec<String>,
}

/// One state on both.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedState {
    /// `SCENARIO in STATE`.
    pub name: String,
    /// How many resources were compared.
    pub resources: usize,
    /// A line for each that differs: proxy, resource, the first place.
    pub differences: Vec<String>,
}

impl ComparedCheck {
    /// Whether both came to it and saw the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.seen[0].is_some() && self.seen[0] == self.seen[1]
    }
}

impl Parity {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(ComparedCheck::agrees) && self.states.iter().all(|s| s.differences.is_empty())
    }
}

/// What is compared of a check.
pub(crate) fn facts(check: &CheckRecord) -> Facts {
    let outcome = match &check.outcome {
        // A retry is a matter of time, not of what is so.
        Outcome::Passed | Outcome::Flaky => "passed",
        Outcome::Failed { .. } => "failed",
        Outcome::Error { .. } => "not judged",
        Outcome::Skipped { .. } => "skipped",
    };
    let mut hops: Vec<String> =
        check.hops.iter().map(|hop| format!("{} {} {} {}", hop.proxy, hop.entry.code, hop.entry.flags, hop.entry.cluster)).collect();
    hops.dedup();
    Facts { outcome: outcome.to_owned(), answer: check.answer.clone().unwrap_or_default(), hops }
}

/// Compares two runs.
#[must_use]
pub fn compare(left: &RunRecord, right: &RunRecord) -> Parity {
    let checks = |run: &RunRecord| -> BTreeMap<String, Facts> {
        let all = run.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (format!("{}::{}", s.id, c.name), facts(c))));
        all.collect()
    };
    let (mut a, mut b) = (checks(left), checks(right));
    let names: BTreeSet<String> = a.keys().chain(b.keys()).cloned().collect();
    let checks = names.into_iter().map(|name| ComparedCheck { seen: [a.remove(&name), b.remove(&name)], name }).collect();
    let states = |run: &RunRecord| -> BTreeMap<String, BTreeMap<String, Digest>> {
        let all = run.scenarios.iter().flat_map(|s| s.stages.iter().map(move |t| (format!("{} in {}", s.id, t.state), t.proxies.clone())));
        all.collect()
    };
    let (a, b) = (states(left), states(right));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let empty = BTreeMap::new();
    let states = names.into_iter().map(|name| compare_state(name, a.get(name).unwrap_or(&empty), b.get(name).unwrap_or(&empty))).collect();
    Parity { providers: [left.provider.name.clone(), right.provider.name.clone()], checks, states }
}

fn compare_state(name: &str, a: &BTreeMap<String, Digest>, b: &BTreeMap<String, Digest>) -> ComparedState {
    let (mut differences, mut resources) = (Vec::new(), 0);
    let proxies: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for proxy in proxies {
        let (Some(x), Some(y)) = (a.get(proxy), b.get(proxy)) else {
            differences.push(format!("{proxy}: only on the {}", if a.contains_key(proxy) { "first" } else { "second" }));
            continue;
        };
        let all: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
        resources += all.len();
        for resource in all {
            match (x.get(resource), y.get(resource)) {
                (Some(p), Some(q)) if p == q => {}
                (Some(p), Some(q)) => differences.push(format!("{proxy}: {resource}{}", difference(p, q))),
                (Some(_), None) => differences.push(format!("{proxy}: {resource} is only on the first")),
                _ => differences.push(format!("{proxy}: {resource} is only on the second")),
            }
        }
    }
    ComparedState { name: name.to_owned(), resources, differences }
}

/// The first place where two values differ, in words.
fn difference(a: &Value, b: &Value) -> String {
    let (at, a, b) = first_difference(a, b);
    let short = |v: &Value| v.to_string().chars().take(160).collect::<String>();
    format!(" at {at}: {} and {}", short(a), short(b))
}

#[cfg(test)]
mod tests;
