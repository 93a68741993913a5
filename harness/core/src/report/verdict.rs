//! The verdict of a run and of each scenario. One place decides, so that no page contradicts another.

use std::collections::BTreeMap;

use super::record::{CheckRecord, NOT_REACHED, RunRecord, ScenarioRecord, Tally};
use crate::outcome::Outcome;

/// How a run or a scenario came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every check that was asked came out as expected at its first attempt.
    Passed,
    /// As expected in the end, but some check needed more than one attempt.
    Flaky,
    /// As expected, but for checks in quarantine.
    Quarantined,
    /// Some check did not come out as expected.
    Failed,
    /// No check failed, but some could not be judged.
    NotJudged,
    /// Nothing failed in what is known, but the run did not reach its end.
    Incomplete,
    /// No check was asked.
    NothingAsked,
}

impl Verdict {
    /// Of a set of checks.
    fn of(tally: Tally) -> Self {
        if tally.failed > 0 {
            Self::Failed
        } else if tally.errors > 0 {
            Self::NotJudged
        } else if tally.flaky > 0 {
            Self::Flaky
        } else if tally.quarantined > 0 {
            Self::Quarantined
        } else if tally.passed > 0 {
            Self::Passed
        } else {
            Self::NothingAsked
        }
    }

    /// Of a run. Only a run that reached its end can be green.
    pub(super) fn of_run(record: &RunRecord) -> Self {
        let verdict = Self::of(tally(record));
        if !ended(record) && verdict != Self::Failed { Self::Incomplete } else { verdict }
    }

    /// Of a scenario, as far as its checks go. In a run without an end, no outcome is not the same as not asked.
    pub(super) fn of_scenario(record: &RunRecord, scenario: &ScenarioRecord) -> Self {
        let unreached = |c: &CheckRecord| matches!(&c.outcome, Outcome::Skipped { reason } if reason.starts_with(NOT_REACHED));
        let verdict = Self::of(Tally::of(&scenario.checks));
        let partial = scenario.checks.is_empty() || scenario.checks.iter().any(unreached);
        if partial && !ended(record) && verdict != Self::Failed { Self::Incomplete } else { verdict }
    }

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Flaky => "FLAKY",
            Self::Quarantined => "GREEN BUT FOR QUARANTINE",
            Self::Failed => "FAILED",
            Self::NotJudged => "COULD NOT BE JUDGED",
            Self::Incomplete => "INCOMPLETE",
            Self::NothingAsked => "NOTHING WAS ASKED",
        }
    }

    /// A mark before the word, for those who skim.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Passed => "✅",
            Self::Flaky | Self::Quarantined => "⚠️",
            Self::Failed | Self::NotJudged | Self::Incomplete => "❌",
            Self::NothingAsked => "⏭️",
        }
    }

    /// GitHub's alert for it.
    pub(super) fn alert(self) -> &'static str {
        match self {
            Self::Passed => "NOTE",
            Self::Flaky | Self::Quarantined => "WARNING",
            Self::Failed | Self::NotJudged | Self::Incomplete | Self::NothingAsked => "CAUTION",
        }
    }
}

/// All checks of a run, counted.
pub(super) fn tally(record: &RunRecord) -> Tally {
    Tally::of(record.scenarios.iter().flat_map(|s| &s.checks))
}

/// Whether the run reached its own end.
pub(super) fn ended(record: &RunRecord) -> bool {
    record.finished.is_some() && record.ended_early.is_none()
}

/// The word for one outcome.
pub(super) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Flaky => "flaky",
        Outcome::Failed { .. } => "failed",
        Outcome::Error { .. } => "could not be judged",
        Outcome::Skipped { .. } => "skipped",
    }
}

/// The mark for one outcome.
pub(super) fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "✅",
        Outcome::Flaky => "⚠️",
        Outcome::Failed { .. } | Outcome::Error { .. } => "❌",
        Outcome::Skipped { .. } => "⏭️",
    }
}

/// The word for a check: that of its outcome, and that it is in quarantine.
pub(super) fn check_word(check: &CheckRecord) -> String {
    let word = word(&check.outcome);
    if check.quarantined.is_some() { format!("{word}, quarantined") } else { word.to_owned() }
}

/// The mark for a check: one in quarantine does not make the run red.
pub(super) fn check_mark(check: &CheckRecord) -> &'static str {
    if check.outcome.is_green() || check.counts_red() { mark(&check.outcome) } else { "⚠️" }
}

/// What a quarantine means for a check, in a sentence; None where it is in none.
pub(super) fn quarantine(check: &CheckRecord) -> Option<String> {
    let quarantine = check.quarantined.as_ref()?;
    let end = if check.outcome == Outcome::Passed { "; it passed, so it may be due to end" } else { "" };
    Some(format!("in quarantine until {}: {}{end}", quarantine.until, quarantine.reason))
}

/// What earlier runs say of a check, in words.
pub(super) fn history(check: &CheckRecord) -> Option<String> {
    check.history.as_ref()?.words()
}

/// Each check of a run with its scenario.
pub(super) fn checks(record: &RunRecord) -> impl Iterator<Item = (&ScenarioRecord, &CheckRecord)> {
    record.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)))
}

/// Checks that are neither passed nor skipped and are told together: one, or several of a scenario with the same cause, or with
/// the same reason why they could not be judged.
pub(super) struct Told<'a> {
    /// The scenario's place in the record.
    pub(super) at: usize,
    /// The scenario.
    pub(super) scenario: &'a ScenarioRecord,
    /// The checks, with their places; at least one.
    pub(super) checks: Vec<(usize, &'a CheckRecord)>,
}

impl<'a> Told<'a> {
    /// The first, whose cause is that of all.
    pub(super) fn first(&self) -> &'a CheckRecord {
        self.checks[0].1
    }

    fn takes(&self, at: usize, check: &CheckRecord) -> bool {
        let first = self.first();
        let same = match (&first.outcome, &check.outcome) {
            (Outcome::Error { message }, Outcome::Error { message: other }) => message == other,
            (Outcome::Failed { .. }, Outcome::Failed { .. }) => first.cause.is_some() && first.cause == check.cause,
            _ => false,
        };
        self.at == at && same && first.quarantined == check.quarantined
    }
}

/// What is red or flaky, in the record's order.
pub(super) fn told(record: &RunRecord) -> Vec<Told<'_>> {
    let mut all: Vec<Told<'_>> = Vec::new();
    for (at, scenario) in record.scenarios.iter().enumerate() {
        for (place, check) in scenario.checks.iter().enumerate() {
            if matches!(check.outcome, Outcome::Passed | Outcome::Skipped { .. }) {
                continue;
            }
            match all.iter_mut().find(|told| told.takes(at, check)) {
                Some(told) => told.checks.push((place, check)),
                None => all.push(Told { at, scenario, checks: vec![(place, check)] }),
            }
        }
    }
    all
}

/// `12 checks: 10 passed, 1 flaky, 1 failed`; counts of zero are left out.
pub(super) fn counts(tally: Tally) -> String {
    counts_in(tally, "")
}

/// The same with ` in 3 scenarios` or the like after the number of checks.
pub(super) fn counts_in(tally: Tally, place: &str) -> String {
    let all = tally.passed + tally.flaky + tally.failed + tally.errors + tally.quarantined + tally.skipped;
    let parts: Vec<String> = [
        (tally.passed, "passed"),
        (tally.flaky, "flaky"),
        (tally.failed, "failed"),
        (tally.errors, "could not be judged"),
        (tally.quarantined, "quarantined"),
        (tally.skipped, "skipped"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    if parts.is_empty() {
        format!("No check{place} has an outcome")
    } else {
        format!("{}{place}: {}", plural(all, "check"), parts.join(", "))
    }
}

/// `1 check`, `2 checks`.
pub(super) fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The provider's name as people should read it: a simulated mesh is never taken for a real one.
pub(super) fn provider(record: &RunRecord) -> String {
    match record.provider.name.as_str() {
        "embedded" => "embedded (simulated mesh)".to_owned(),
        other => other.to_owned(),
    }
}

/// Seconds for people.
pub(super) fn seconds(s: f64) -> String {
    if !s.is_finite() {
        return "unknown".to_owned();
    }
    if s < 0.995 {
        format!("{:.0} ms", s * 1000.0)
    } else if s < 59.95 {
        format!("{s:.1} s")
    } else {
        format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor())
    }
}

/// Seconds from a scenario's first state to its last check, states that were gone through again included: those of bringing the
/// cluster into each state, and from the first check's beginning in it to the last one's end. None when no check says when it began.
pub(super) fn scenario_took(scenario: &ScenarioRecord) -> Option<f64> {
    let asked = scenario.checks.iter().filter(|c| !c.attempts.is_empty());
    let mut windows: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for check in asked {
        let began: jiff::Timestamp = check.attempts[0].at.parse().ok()?;
        let began = (began - jiff::Timestamp::UNIX_EPOCH).total(jiff::Unit::Second).ok()?;
        let window = windows.entry(check.given.as_str()).or_insert((began, began));
        *window = (window.0.min(began), window.1.max(began + check.took));
    }
    let states = scenario.stages.iter().map(|stage| stage.apply_took + stage.gate_took).sum::<f64>();
    (!windows.is_empty()).then(|| states + windows.values().map(|(from, to)| to - from).sum::<f64>())
}

/// Seconds from start to end of the run; None when it has no end or a time cannot be read.
pub(super) fn took(record: &RunRecord) -> Option<f64> {
    let start: jiff::Timestamp = record.started.parse().ok()?;
    let end: jiff::Timestamp = record.finished.as_ref()?.parse().ok()?;
    (end - start).total(jiff::Unit::Second).ok()
}

/// `2026-11-21` of an RFC 3339 time; None when it is not one.
pub(super) fn date(time: &str) -> Option<&str> {
    let date = time.get(..10)?;
    date.parse::<jiff::civil::Date>().ok().map(|_| date)
}

/// `2026-11-21 01:49 UTC` of an RFC 3339 time; the text itself when it is not one.
pub(super) fn minute(time: &str) -> String {
    time.parse::<jiff::Timestamp>().map_or_else(|_| time.to_owned(), |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
