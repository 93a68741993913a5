//! Checks as test trials: their names, which are selected, and where each waits for its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};

use gateproof_core::names::ScenarioId;
use gateproof_core::outcome::Outcome;
use gateproof_core::report::CheckRecord;
use gateproof_core::scenario::Catalogue;

use super::event::{Event, Listener};

/// A check's name as a test: `10-ingress::catch-all route`.
#[must_use]
pub fn trial_name(scenario: &ScenarioId, check: &str) -> String {
    format!("{scenario}::{check}")
}

/// Today, in UTC, against which the last days of quarantines are held.
#[must_use]
pub fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// Every check of a catalogue, in its order.
#[must_use]
pub fn trial_names(catalogue: &Catalogue) -> Vec<(ScenarioId, String)> {
    catalogue.scenarios.iter().flat_map(|s| s.checks.iter().map(|c| (s.id.clone(), c.name.clone()))).collect()
}

/// What a test runner's arguments select, by libtest's rules: a filter is a part of the name, or with `exact` all of it;
/// what a skip matches is left out.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The positional filter.
    pub filter: Option<String>,
    /// Whether filter and skips must equal the whole name.
    pub exact: bool,
    /// Names to leave out.
    pub skip: Vec<String>,
}

impl Filter {
    /// Whether a name is selected.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        let hits = |pattern: &String| if self.exact { name == pattern } else { name.contains(pattern.as_str()) };
        self.filter.as_ref().is_none_or(hits) && !self.skip.iter().any(hits)
    }
}

/// Where trials wait. One engine fills it; trials only read.
#[derive(Debug, Default)]
pub struct Outcomes {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    done: BTreeMap<String, CheckRecord>,
    /// Set when nothing more will come, with the reason.
    over: Option<String>,
    taken: BTreeSet<String>,
}

impl Outcomes {
    /// Waits for a check's outcome; an error says why there will be none.
    ///
    /// # Errors
    /// When the run ended without it.
    pub fn wait(&self, name: &str) -> Result<CheckRecord, String> {
        let mut state = self.state.lock().expect("no panic holds this lock");
        loop {
            if let Some(record) = state.done.get(name).cloned() {
                state.taken.insert(name.to_owned());
                return Ok(record);
            }
            if let Some(why) = &state.over {
                return Err(why.clone());
            }
            state = self.changed.wait(state).expect("no panic holds this lock");
        }
    }

    /// Says that nothing more will come.
    pub fn close(&self, why: &str) {
        let mut state = self.state.lock().expect("no panic holds this lock");
        state.over.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
    }
}

impl Listener for Outcomes {
    fn on(&self, event: &Event) {
        if let Event::CheckFinished(scenario, record) = event {
            let mut state = self.state.lock().expect("no panic holds this lock");
            state.done.insert(trial_name(scenario, &record.name), (**record).clone());
            self.changed.notify_all();
        }
    }
}

/// What a red trial prints; nothing for a check in quarantine.
#[must_use]
pub fn failure_text(record: &CheckRecord) -> Option<String> {
    if record.quarantined.is_some() {
        return None;
    }
    let mut lines: Vec<String> = record.cause.iter().map(|cause| format!("cause: {}", cause.sentences())).collect();
    match &record.outcome {
        Outcome::Passed | Outcome::Flaky | Outcome::Skipped { .. } => return None,
        Outcome::Error { message } => lines.push(format!("could not be judged: {message}")),
        Outcome::Failed { mismatches } => {
            for mismatch in mismatches {
                lines.push(format!("{}\n  expected  {}\n  observed  {}", mismatch.what, mismatch.expected, mismatch.observed));
            }
        }
    }
    lines.extend(record.diagnosis.iter().map(|line| format!("diagnosis: {line}")));
    lines.push(format!("in state `{}`; repeat by hand: {}", record.given, record.command));
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_as_libtest_does() {
        let filter = |filter: &str, exact| Filter { filter: Some(filter.to_owned()), exact, skip: vec![] };
        assert!(filter("10-ingress", false).selects("10-ingress::catch-all route"));
        assert!(!filter("10-ingress", true).selects("10-ingress::catch-all route"));
        assert!(Filter::default().selects("anything"));
        let skip = Filter { skip: vec!["route".to_owned()], ..Filter::default() };
        assert!(!skip.selects("10-ingress::catch-all route"));
    }
}
