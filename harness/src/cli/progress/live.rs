//! What is under way, in the last lines of a terminal: a line for each scenario with its state and counts, one for each step.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use gateproof_core::outcome::Outcome;
use gateproof_core::report::CheckRecord;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::run::Event;

/// More lines would leave no room for what is above them.
const LINES: usize = 12;

/// The lines.
pub(super) struct Live {
    all: MultiProgress,
    colour: bool,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// In the order in which they began.
    scenarios: Vec<(String, ProgressBar, Counts)>,
    steps: BTreeMap<String, ProgressBar>,
}

/// What is known of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    state: String,
    passed: usize,
    flaky: usize,
    red: usize,
    quarantined: usize,
    skipped: usize,
}

impl Counts {
    fn count(&mut self, check: &CheckRecord) {
        match &check.outcome {
            Outcome::Failed { .. } | Outcome::Error { .. } if check.quarantined.is_some() => self.quarantined += 1,
            Outcome::Passed => self.passed += 1,
            Outcome::Flaky => self.flaky += 1,
            Outcome::Failed { .. } | Outcome::Error { .. } => self.red += 1,
            Outcome::Skipped { .. } => self.skipped += 1,
        }
    }

    /// `intact: 3 ok, 1 failed`.
    fn words(&self) -> String {
        let parts = [
            (self.passed, "ok"),
            (self.flaky, "flaky"),
            (self.red, "failed"),
            (self.quarantined, "quarantined"),
            (self.skipped, "skipped"),
        ];
        let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let state = if self.state.is_empty() { "applying" } else { self.state.as_str() };
        if parts.is_empty() { state.to_owned() } else { format!("{state}: {}", parts.join(", ")) }
    }
}

impl Live {
    /// Nothing is under way yet.
    pub(super) fn new(colour: bool) -> Self {
        Self { all: MultiProgress::new(), colour, now: Mutex::default() }
    }

    /// A line that stays, above those that change.
    pub(super) fn above(&self, text: &str) {
        // A terminal that is gone has nothing to show.
        let _ = self.all.println(text);
    }

    fn bar(&self, name: &str) -> ProgressBar {
        let template = if self.colour { "  {spinner:.cyan} {prefix:.bold} {wide_msg}" } else { "  {spinner} {prefix} {wide_msg}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.all.add(ProgressBar::new_spinner().with_style(style).with_prefix(name.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// Follows an event.
    pub(super) fn on(&self, event: &Event) {
        let Ok(mut now) = self.now.lock() else { return };
        match event {
            Event::StepStarted(name) => {
                let bar = self.bar(name);
                now.steps.insert(name.clone(), bar);
            }
            Event::StepEnded(name, _) => {
                if let Some(bar) = now.steps.remove(name) {
                    bar.finish_and_clear();
                }
            }
            Event::ScenarioStarted(id, title) => {
                let bar = self.bar(id.as_str());
                bar.set_message(title.clone());
                now.scenarios.push((id.to_string(), bar, Counts::default()));
                if now.scenarios.len() > LINES {
                    let (_, bar, _) = now.scenarios.remove(0);
                    bar.finish_and_clear();
                }
            }
            Event::StageReady(id, stage) => now.update(id.as_str(), |counts| counts.state.clone_from(&stage.state)),
            Event::CheckFinished(id, check) => now.update(id.as_str(), |counts| counts.count(check)),
            Event::Finished(..) => {
                now.scenarios.clear();
                now.steps.clear();
                let _ = self.all.clear();
            }
            _ => {}
        }
    }
}

impl Now {
    fn update(&mut self, id: &str, change: impl FnOnce(&mut Counts)) {
        if let Some((_, bar, counts)) = self.scenarios.iter_mut().rev().find(|(known, ..)| known == id) {
            change(counts);
            bar.set_message(counts.words());
        }
    }
}

impl Drop for Live {
    /// A run that fails before its end leaves no line that still turns.
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use gateproof_core::report::QuarantineRecord;

    use super::*;

    fn check(outcome: Outcome, quarantined: bool) -> CheckRecord {
        let text = String::new;
        CheckRecord {
            name: text(),
            proves: text(),
            given: text(),
            command: text(),
            expected: vec![],
            observed: vec![],
            answer: None,
            outcome,
            attempts: vec![],
            took: 0.0,
            hops: vec![],
            caller: None,
            destination: None,
            evidence: vec![],
            diagnosis: vec![],
            cause: None,
            quarantined: quarantined.then(|| QuarantineRecord { reason: text(), until: text() }),
            history: None,
        }
    }

    #[test]
    fn a_scenarios_line_has_its_state_and_its_counts() {
        let mut counts = Counts::default();
        assert_eq!(counts.words(), "applying");
        counts.state = "intact".to_owned();
        for quarantined in [false, true] {
            counts.count(&check(Outcome::Passed, quarantined));
            counts.count(&check(Outcome::Error { message: String::new() }, quarantined));
        }
        assert_eq!(counts.words(), "intact: 2 ok, 1 failed, 1 quarantined");
    }
}
