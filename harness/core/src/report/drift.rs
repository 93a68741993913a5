//! What differs between the configuration of the proxies in two runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use super::record::RunRecord;
use crate::parity::Digest;

/// Two runs' proxies, in the states that both wrote down.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Drift {
    /// How many resources were compared.
    pub resources: usize,
    /// Each difference once, wherever it was met.
    pub differences: Vec<ResourceDrift>,
}

/// One resource that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResourceDrift {
    /// `listener NAME`, `route NAME`, `cluster NAME`, `endpoints NAME`; or `everything`, of a proxy that only one run has.
    pub resource: String,
    /// `only before`, `only after` or `changed`.
    pub change: String,
    /// The proxies that have it, by workload.
    pub proxies: BTreeSet<String>,
    /// The states in which they do, as `SCENARIO in STATE`.
    pub states: BTreeSet<String>,
    /// A unified diff of what changed, a line each; empty where it is in one run only.
    pub diff: Vec<String>,
}

type States<'a> = BTreeMap<String, &'a BTreeMap<String, Digest>>;

fn states(run: &RunRecord) -> States<'_> {
    let all = run.scenarios.iter().flat_map(|s| s.stages.iter().map(move |t| (format!("{} in {}", s.id, t.state), &t.proxies)));
    all.filter(|(_, proxies)| !proxies.is_empty()).collect()
}

/// Compares the proxies of two runs; None when no state of both was written down (`--observe`).
#[must_use]
pub fn drift(before: &RunRecord, after: &RunRecord) -> Option<Drift> {
    let (old, new) = (states(before), states(after));
    let both: Vec<&String> = old.keys().filter(|state| new.contains_key(*state)).collect();
    if both.is_empty() {
        return None;
    }
    let mut found = Found::default();
    for state in both {
        let (old, new) = (old[state], new[state]);
        for proxy in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            match (old.get(proxy), new.get(proxy)) {
                (Some(old), Some(new)) => {
                    for resource in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                        found.compare(state, proxy, resource, old.get(resource), new.get(resource));
                    }
                }
                (old, _) => found.note(state, proxy, "everything", if old.is_some() { ONLY_BEFORE } else { ONLY_AFTER }, ""),
            }
        }
    }
    let all = found.all.into_iter().map(|((resource, change, diff), (proxies, states))| ResourceDrift {
        resource,
        change: change.to_owned(),
        proxies,
        states,
        diff: diff.lines().map(str::to_owned).collect(),
    });
    Some(Drift { resources: found.resources, differences: all.collect() })
}

const ONLY_BEFORE: &str = "only before";
const ONLY_AFTER: &str = "only after";

#[derive(Default)]
struct Found {
    resources: usize,
    all: BTreeMap<Change, Where>,
}

/// A resource, what became of it, and the diff.
type Change = (String, &'static str, String);
/// The proxies and the states in which a change was seen.
type Where = (BTreeSet<String>, BTreeSet<String>);

impl Found {
    fn note(&mut self, state: &str, proxy: &str, resource: &str, change: &'static str, diff: &str) {
        let (proxies, states) = self.all.entry((resource.to_owned(), change, diff.to_owned())).or_default();
        proxies.insert(proxy.to_owned());
        states.insert(state.to_owned());
    }

    fn compare(&mut self, state: &str, proxy: &str, resource: &str, old: Option<&Value>, new: Option<&Value>) {
        self.resources += 1;
        match (old, new) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => {
                let text = |v: &Value| format!("{v:#}\n");
                let (old, new) = (text(old), text(new));
                let diff = TextDiff::from_lines(&old, &new).unified_diff().context_radius(2).to_string();
                self.note(state, proxy, resource, "changed", &diff);
            }
            (old, _) => self.note(state, proxy, resource, if old.is_some() { ONLY_BEFORE } else { ONLY_AFTER }, ""),
        }
    }
}

impl ResourceDrift {
    /// The resource, how it changed, and where it was met.
    #[must_use]
    pub fn heading(&self) -> String {
        let some = |all: &BTreeSet<String>, what: &str| match all.iter().next() {
            Some(one) if all.len() == 1 => one.clone(),
            Some(one) => format!("{one} and {} more {what}", all.len() - 1),
            None => String::new(),
        };
        format!("{}, {}: {}; {}", self.resource, self.change, some(&self.proxies, "proxies"), some(&self.states, "states"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample;

    fn with(proxies: &[(&str, Value)]) -> RunRecord {
        let mut record = sample::green();
        for stage in record.scenarios.iter_mut().flat_map(|s| &mut s.stages) {
            stage.proxies =
                proxies.iter().map(|(proxy, digest)| ((*proxy).to_owned(), serde_json::from_value(digest.clone()).unwrap())).collect();
        }
        record
    }

    #[test]
    fn what_differs_is_told_once_with_its_places() {
        let before = with(&[
            ("a/x", json!({"cluster c": {"type": "EDS", "n": 1}, "route r": {}})),
            ("a/y", json!({"cluster c": {"type": "EDS", "n": 1}})),
        ]);
        let after = with(&[
            ("a/x", json!({"cluster c": {"type": "STATIC", "n": 1}, "listener l": {}})),
            ("a/y", json!({"cluster c": {"type": "STATIC", "n": 1}})),
        ]);
        let drift = drift(&before, &after).unwrap();
        let told: Vec<&str> = drift.differences.iter().map(|d| d.change.as_str()).collect();
        assert_eq!(told, ["changed", "only after", "only before"]);
        let cluster = &drift.differences[0];
        assert_eq!(cluster.proxies.len(), 2);
        assert!(
            cluster.diff.contains(&"-  \"type\": \"EDS\"".to_owned()) && cluster.diff.contains(&"+  \"type\": \"STATIC\"".to_owned()),
            "{:?}",
            cluster.diff
        );
        assert!(cluster.heading().starts_with("cluster c, changed: a/x and 1 more proxies; "), "{}", cluster.heading());
    }

    #[test]
    fn the_same_is_no_drift_and_what_was_not_written_down_is_not_compared() {
        let same = with(&[("a/x", json!({"cluster c": {}}))]);
        let none = drift(&same, &same).unwrap();
        assert!(none.differences.is_empty() && none.resources > 0);
        assert_eq!(drift(&sample::green(), &same), None);
    }

    #[test]
    fn a_proxy_that_is_gone_is_one_difference() {
        let before = with(&[("a/x", json!({"cluster c": {}})), ("a/y", json!({"cluster c": {}}))]);
        let after = with(&[("a/x", json!({"cluster c": {}}))]);
        let drift = drift(&before, &after).unwrap();
        assert_eq!(drift.differences.len(), 1);
        assert_eq!(drift.differences[0].resource, "everything");
    }
}
