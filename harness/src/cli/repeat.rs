//! Runs in a row: when they end, and what they say together.

use std::collections::BTreeMap;

use gateproof_core::outcome::Outcome;
use gateproof_core::report::{RunRecord, Tally};

use crate::run::trials::trial_name;

/// What is kept of each run: a record of every one would not fit into memory for ever.
#[derive(Debug, Clone)]
pub(super) struct Line {
    tally: Tally,
    seconds: f64,
    green: bool,
    /// By check: `passed`, `flaky`, …
    outcomes: BTreeMap<String, &'static str>,
}

impl Line {
    pub(super) fn of(record: &RunRecord) -> Self {
        let seconds = match (record.started.parse::<jiff::Timestamp>(), record.finished.as_deref().map(str::parse::<jiff::Timestamp>)) {
            (Ok(began), Some(Ok(ended))) => (ended - began).total(jiff::Unit::Second).unwrap_or_default(),
            _ => f64::NAN,
        };
        let tally = Tally::of(record.scenarios.iter().flat_map(|s| &s.checks));
        let checks = record.scenarios.iter().flat_map(|s| {
            s.checks.iter().map(move |c| {
                // In quarantine it may come out as it likes.
                (trial_name(&s.id, &c.name), if c.quarantined.is_some() { "quarantined" } else { word(&c.outcome) })
            })
        });
        Self { tally, seconds, green: record.ended_early.is_none() && tally.is_green(), outcomes: checks.collect() }
    }

    /// Whether it is what `--until-failure` looks for: some check is red or flaky that is not in quarantine.
    pub(super) fn is_a_find(&self) -> bool {
        !self.green || self.outcomes.values().any(|word| !matches!(*word, "passed" | "skipped" | "quarantined"))
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Flaky => "flaky",
        Outcome::Failed { .. } => "failed",
        Outcome::Error { .. } => "not judged",
        Outcome::Skipped { .. } => "skipped",
    }
}

/// Whether another run is due after these.
pub(super) fn another(lines: &[Line], at_most: Option<u32>, until_failure: bool) -> bool {
    let left = at_most.is_none_or(|most| (lines.len() as u64) < u64::from(most.max(1)));
    if until_failure { left && !lines.last().is_some_and(Line::is_a_find) } else { left && at_most.is_some() || lines.is_empty() }
}

/// Whether runs together are what was hoped for: all green, and none with another outcome; under `--until-failure` no find.
pub(super) fn all_well(lines: &[Line], until_failure: bool) -> bool {
    let green = !lines.is_empty() && lines.iter().all(|l| l.green) && same(lines);
    green && !(until_failure && lines.iter().any(Line::is_a_find))
}

fn same(lines: &[Line]) -> bool {
    lines.windows(2).all(|pair| pair[0].outcomes == pair[1].outcomes)
}

/// A line for each run, then each check that did not pass in all, and whether any outcome differs.
pub(super) fn table(lines: &[Line]) -> String {
    let mut out = String::from("run | passed | flaky | failed | not judged | quarantined | seconds\n");
    for (n, line) in lines.iter().enumerate() {
        let t = line.tally;
        let counts = [t.passed, t.flaky, t.failed, t.errors, t.quarantined].map(|n| n.to_string()).join(" | ");
        out.push_str(&format!("{} | {counts} | {:.1}\n", n + 1, line.seconds));
    }
    let mut checks: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (name, word) in lines.iter().flat_map(|l| &l.outcomes) {
        *checks.entry(name).or_default().entry(word).or_default() += 1;
    }
    for (name, words) in checks {
        if words.keys().any(|w| !matches!(*w, "passed" | "skipped")) || words.len() > 1 {
            let words: Vec<String> = words.iter().map(|(word, n)| format!("{word} in {n}")).collect();
            out.push_str(&format!("{name}: {}\n", words.join(", ")));
        }
    }
    let same = if same(lines) { "no outcome differs" } else { "OUTCOMES DIFFER" };
    out.push_str(&format!("{} runs: {same}", lines.len()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(outcomes: &[(&str, &'static str)]) -> Line {
        let count = |word: &str| outcomes.iter().filter(|(_, w)| *w == word).count();
        let tally = Tally { passed: count("passed"), flaky: count("flaky"), failed: count("failed"), ..Tally::default() };
        let outcomes = outcomes.iter().map(|(name, word)| ((*name).to_owned(), *word)).collect();
        Line { tally, seconds: 1.0, green: tally.is_green(), outcomes }
    }

    #[test]
    fn a_run_is_repeated_as_often_as_asked() {
        let green = line(&[("a", "passed")]);
        assert!(another(&[], None, false) && !another(std::slice::from_ref(&green), None, false));
        assert!(
            another(&[green.clone(), green.clone()], Some(3), false) && !another(&[green.clone(), green.clone(), green], Some(3), false)
        );
        // A red run does not end a comparison.
        assert!(another(&[line(&[("a", "failed")])], Some(3), false));
    }

    #[test]
    fn until_a_failure_a_flaky_check_is_enough() {
        let green = line(&[("a", "passed"), ("b", "skipped")]);
        assert!(another(&[], None, true) && another(&vec![green.clone(); 1000], None, true));
        assert!(!another(&vec![green.clone(); 5], Some(5), true));
        for found in ["flaky", "failed", "not judged"] {
            let lines = [green.clone(), line(&[("a", found), ("c", "passed")])];
            assert!(!another(&lines, None, true), "{found}");
            assert!(!all_well(&lines, true), "{found}");
        }
        assert!(all_well(&[green.clone(), green], true));
    }

    #[test]
    fn the_table_names_what_did_not_always_pass() {
        let lines = [line(&[("a", "passed"), ("b", "passed")]), line(&[("a", "flaky"), ("b", "passed")])];
        let text = table(&lines);
        assert!(
            text.contains("a: flaky in 1, passed in 1\n") && !text.contains("b:") && text.ends_with("2 runs: OUTCOMES DIFFER"),
            "{text}"
        );
        assert!(!all_well(&lines, false));
    }
}
