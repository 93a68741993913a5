//! What earlier runs say of the checks of this one: the records beside reports are the history.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::record::{CheckHistory, RECORD_SCHEMA, RunRecord};
use super::verdict;
use crate::outcome::Outcome;

/// At most so many runs back: a check that was flaky longer ago is another check by now.
const RUNS: u32 = 20;

/// An earlier run, as far as its checks go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// When it began, RFC 3339.
    pub started: String,
    /// The provider's name.
    pub provider: String,
    /// By `SCENARIO::CHECK`; a check that was not asked is not in it.
    outcomes: BTreeMap<String, Past>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    Passed,
    Flaky,
    Red,
}

/// Of a record only what is needed: records may be large, and there may be many.
#[derive(Deserialize)]
struct Light {
    schema: u32,
    started: String,
    finished: Option<String>,
    provider: LightProvider,
    scenarios: Vec<LightScenario>,
}

#[derive(Deserialize)]
struct LightProvider {
    name: String,
}

#[derive(Deserialize)]
struct LightScenario {
    id: String,
    checks: Vec<LightCheck>,
}

#[derive(Deserialize)]
struct LightCheck {
    name: String,
    outcome: LightOutcome,
}

#[derive(Deserialize)]
struct LightOutcome {
    outcome: String,
}

impl PastRun {
    /// Of a record's JSON; None when it is no record of a run that ended, on this provider where one is named.
    #[must_use]
    pub fn read(json: &[u8], provider: Option<&str>) -> Option<Self> {
        let light: Light = serde_json::from_slice(json).ok()?;
        if light.schema != RECORD_SCHEMA || light.finished.is_none() || provider.is_some_and(|p| light.provider.name != p) {
            return None;
        }
        let mut outcomes = BTreeMap::new();
        for scenario in light.scenarios {
            for check in scenario.checks {
                let past = match check.outcome.outcome.as_str() {
                    "passed" => Past::Passed,
                    "flaky" => Past::Flaky,
                    "failed" | "error" => Past::Red,
                    _ => continue,
                };
                outcomes.insert(format!("{}::{}", scenario.id, check.name), past);
            }
        }
        Some(Self { started: light.started, provider: light.provider.name, outcomes })
    }
}

/// Whether [`note_history`] would change a record, whatever the past was: most runs have nothing that is red.
#[must_use]
pub fn needs_history(record: &RunRecord) -> bool {
    let mut checks = record.scenarios.iter().flat_map(|s| &s.checks);
    checks.any(|c| c.history.is_some() || !matches!(c.outcome, Outcome::Passed | Outcome::Skipped { .. }))
}

/// Writes into each red or flaky check what `past` says of it. `past` are runs on the same provider, the newest first.
pub fn note_history(record: &mut RunRecord, past: &[PastRun]) {
    let started = record.started.clone();
    for scenario in &mut record.scenarios {
        for check in &mut scenario.checks {
            let red = match check.outcome {
                Outcome::Failed { .. } | Outcome::Error { .. } => true,
                Outcome::Flaky => false,
                Outcome::Passed | Outcome::Skipped { .. } => {
                    check.history = None;
                    continue;
                }
            };
            let name = format!("{}::{}", scenario.id, check.name);
            let earlier: Vec<(&str, Past)> =
                past.iter().filter_map(|run| Some((run.started.as_str(), *run.outcomes.get(&name)?))).collect();
            let row = earlier.iter().take_while(|(_, past)| red && *past == Past::Red).count();
            let lately = earlier.iter().take(RUNS as usize - 1);
            check.history = Some(CheckHistory {
                red_since: red.then(|| row.checked_sub(1).map_or(started.clone(), |last| earlier[last].0.to_owned())),
                red_runs: if red { 1 + u32::try_from(row).unwrap_or(u32::MAX - 1) } else { 0 },
                last_green: earlier.iter().find(|(_, past)| *past != Past::Red).map(|(at, _)| (*at).to_owned()),
                flaky_runs: u32::from(!red)
                    + u32::try_from(lately.clone().filter(|(_, past)| *past == Past::Flaky).count()).unwrap_or(RUNS),
                runs: 1 + u32::try_from(lately.count()).unwrap_or(RUNS),
            });
        }
    }
}

impl CheckHistory {
    /// In words: since when it is red, or how often it was flaky; None where no earlier run asked it.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        if self.runs < 2 && self.red_runs < 2 && self.last_green.is_none() {
            return None;
        }
        let mut parts = Vec::new();
        match &self.red_since {
            Some(since) if self.red_runs > 1 => {
                parts.push(format!(
                    "red in {} in a row, since the run of {}",
                    verdict::plural(self.red_runs as usize, "run"),
                    verdict::minute(since)
                ));
                match &self.last_green {
                    Some(green) => parts.push(format!("last as expected in the run of {}", verdict::minute(green))),
                    None => parts.push("as expected in no run that is known".to_owned()),
                }
            }
            Some(_) => {
                parts.extend(self.last_green.as_ref().map(|g| format!("newly red: as expected in the run of {}", verdict::minute(g))))
            }
            None => {}
        }
        if self.flaky_runs > 0 {
            parts.push(format!("flaky in {} of its last {}", self.flaky_runs, verdict::plural(self.runs as usize, "run")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{record_json, sample};

    fn past(record: &RunRecord, started: &str) -> PastRun {
        let mut record = record.clone();
        record.started = started.to_owned();
        PastRun::read(record_json(&record).unwrap().as_bytes(), Some("kind")).unwrap()
    }

    fn history(past: &[PastRun]) -> CheckHistory {
        let mut record = sample::red();
        note_history(&mut record, past);
        record.scenarios[2].checks[0].history.clone().unwrap()
    }

    #[test]
    fn a_row_of_red_runs_begins_at_its_first() {
        let (red, green) = (sample::red(), sample::green());
        let runs = [
            past(&red, "2026-11-20T01:00:00Z"),
            past(&red, "2026-11-19T01:00:00Z"),
            past(&green, "2026-11-18T01:00:00Z"),
            past(&red, "2026-11-17T01:00:00Z"),
        ];
        let seen = history(&runs);
        assert_eq!((seen.red_since.as_deref(), seen.red_runs), (Some("2026-11-19T01:00:00Z"), 3));
        assert_eq!(
            seen.words().unwrap(),
            "red in 3 runs in a row, since the run of 2026-11-19 01:00 UTC; last as expected in the run of 2026-11-18 01:00 UTC"
        );
    }

    #[test]
    fn a_run_that_did_not_ask_interrupts_no_row() {
        let mut other = sample::green();
        other.scenarios.truncate(1);
        let runs = [past(&other, "2026-11-20T01:00:00Z"), past(&sample::red(), "2026-11-19T01:00:00Z")];
        assert_eq!(history(&runs).red_runs, 2);
        // Neither does one in which it was skipped.
        let mut skipped = sample::green();
        skipped.scenarios[2].checks[0].outcome = Outcome::Skipped { reason: "r".to_owned() };
        let runs = [past(&skipped, "2026-11-20T01:00:00Z"), past(&sample::red(), "2026-11-19T01:00:00Z")];
        assert_eq!(history(&runs).red_runs, 2);
    }

    #[test]
    fn what_was_green_before_is_newly_red_and_without_history_nothing_is_said() {
        assert_eq!(
            history(&[past(&sample::green(), "2026-11-20T01:00:00Z")]).words().unwrap(),
            "newly red: as expected in the run of 2026-11-20 01:00 UTC"
        );
        let alone = history(&[]);
        assert_eq!((alone.red_since.as_deref(), alone.red_runs, alone.words()), (Some("2026-11-22T01:48:00Z"), 1, None));
    }

    #[test]
    fn flaky_runs_are_counted_and_a_pass_has_no_history() {
        let mut record = sample::flaky();
        let runs = [past(&sample::green(), "2026-11-20T01:00:00Z"), past(&sample::flaky(), "2026-11-19T01:00:00Z")];
        note_history(&mut record, &runs);
        let seen = record.scenarios[1].checks[0].history.clone().unwrap();
        assert_eq!(seen.words().unwrap(), "flaky in 2 of its last 3 runs");
        assert!(record.scenarios[0].checks[0].history.is_none());
        assert!(needs_history(&record) && needs_history(&sample::red()) && !needs_history(&sample::green()));
    }

    #[test]
    fn only_ended_records_of_the_provider_are_history() {
        let json = |record: &RunRecord| record_json(record).unwrap();
        assert!(PastRun::read(json(&sample::green()).as_bytes(), Some("embedded")).is_none());
        assert!(PastRun::read(json(&sample::unfinished()).as_bytes(), Some("kind")).is_none());
        assert!(PastRun::read(b"{}", None).is_none());
    }
}
