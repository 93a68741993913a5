//! Two runs compared: what an upgrade of Istio, of Kubernetes or of gateproof itself changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::drift::{Drift, drift};
use super::record::{CheckRecord, RunRecord};
use super::text::{clean, hanging, plain, shorten};
use super::verdict::{self, minute, plural, seconds, word};
use crate::outcome::Outcome;
use crate::parity::{Facts, facts};

/// At most so many differing resources are printed; all are in the JSON.
const RESOURCES: usize = 25;
/// At most so many lines of each.
const LINES: usize = 40;

/// What differs between two runs, the first being the earlier one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDiff {
    /// The two runs.
    pub runs: [RunHead; 2],
    /// Whether each check of either run has the same outcome in both.
    pub same_outcomes: bool,
    /// How many checks both have.
    pub compared: usize,
    /// Checks of both whose outcome is another.
    pub outcomes: Vec<OutcomeChange>,
    /// Checks that only the second has, as `SCENARIO::CHECK`.
    pub added: Vec<String>,
    /// Checks that only the first has.
    pub removed: Vec<String>,
    /// Versions that differ.
    pub versions: Vec<Change>,
    /// Checks of both whose answer is another: status, end of the connection, exit code.
    pub answers: Vec<Change>,
    /// Checks of both whose calls took another path: of each hop proxy, code, flags and cluster.
    pub paths: Vec<PathChange>,
    /// Configuration of the proxies; None when not both runs wrote it down (`run --observe`).
    pub configuration: Option<Drift>,
    /// Seconds that passed: of the whole run, and in the states of each scenario.
    pub times: Vec<Took>,
}

/// What a run is known by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunHead {
    /// When it began.
    pub started: String,
    /// On which provider.
    pub provider: String,
    /// Whether it reached its end: where not, a missing check may only not have been reached.
    pub ended: bool,
}

/// Another outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutcomeChange {
    /// `SCENARIO::CHECK`.
    pub check: String,
    /// In the first run.
    pub before: String,
    /// In the second.
    pub after: String,
    /// Of the one that is red or flaky (the second, where both are): the likely cause where it is known, then what was not as
    /// expected, a line each.
    pub why: Vec<String>,
}

/// Something that is in one run what it is not in the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// A version's name, or `SCENARIO::CHECK`.
    pub what: String,
    /// In the first run; None where it has none.
    pub before: Option<String>,
    /// In the second.
    pub after: Option<String>,
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathChange {
    /// `SCENARIO::CHECK`.
    pub check: String,
    /// Each hop in the first run: proxy, code, flags, cluster.
    pub before: Vec<String>,
    /// In the second.
    pub after: Vec<String>,
}

/// A time in both runs, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Took {
    /// `the run`, or a scenario.
    pub what: String,
    /// In the first run; None where it is not known.
    pub before: Option<f64>,
    /// In the second.
    pub after: Option<f64>,
}

type Checks<'a> = BTreeMap<String, (&'a CheckRecord, Facts)>;

fn checks(run: &RunRecord) -> Checks<'_> {
    verdict::checks(run).map(|(s, c)| (format!("{}::{}", s.id, c.name), (c, facts(c)))).collect()
}

/// Compares two runs.
#[must_use]
pub fn diff(before: &RunRecord, after: &RunRecord) -> RunDiff {
    let (old, new) = (checks(before), checks(after));
    let only = |a: &Checks<'_>, b: &Checks<'_>| a.keys().filter(|k| !b.contains_key(*k)).cloned().collect::<Vec<_>>();
    let (removed, added) = (only(&old, &new), only(&new, &old));
    let both: Vec<_> = old.iter().filter_map(|(name, o)| Some((name, o, new.get(name)?))).collect();
    let mut outcomes = Vec::new();
    let (mut answers, mut paths) = (Vec::new(), Vec::new());
    for (name, (o, was), (n, is)) in &both {
        if word(&o.outcome) != word(&n.outcome) {
            let why = if matches!(n.outcome, Outcome::Passed) { wrong(o) } else { wrong(n) };
            let (before, after) = (word(&o.outcome).to_owned(), word(&n.outcome).to_owned());
            outcomes.push(OutcomeChange { check: (*name).clone(), before, after, why });
        }
        // What was not asked has neither answer nor path.
        if matches!(o.outcome, Outcome::Skipped { .. }) || matches!(n.outcome, Outcome::Skipped { .. }) {
            continue;
        }
        if was.answer != is.answer {
            let some = |text: &String| (!text.is_empty()).then(|| text.clone());
            answers.push(Change { what: (*name).clone(), before: some(&was.answer), after: some(&is.answer) });
        }
        if was.hops != is.hops {
            paths.push(PathChange { check: (*name).clone(), before: was.hops.clone(), after: is.hops.clone() });
        }
    }
    RunDiff {
        runs: [before, after].map(head),
        same_outcomes: outcomes.is_empty() && added.is_empty() && removed.is_empty() && !both.is_empty(),
        compared: both.len(),
        outcomes,
        added,
        removed,
        versions: versions(before, after),
        answers,
        paths,
        configuration: drift(before, after),
        times: times(before, after),
    }
}

fn head(run: &RunRecord) -> RunHead {
    RunHead { started: run.started.clone(), provider: verdict::provider(run), ended: verdict::ended(run) }
}

/// What was not as expected, a line each.
fn wrong(check: &CheckRecord) -> Vec<String> {
    match &check.outcome {
        Outcome::Failed { mismatches } => {
            let cause = check.cause.as_ref().map(|cause| format!("cause: {}", cause.sentences()));
            let wrong = mismatches.iter().map(|m| format!("{}: expected {}, observed {}", m.what, m.expected, m.observed));
            cause.into_iter().chain(wrong).collect()
        }
        Outcome::Error { message } => vec![message.clone()],
        Outcome::Skipped { reason } => vec![reason.clone()],
        // The last attempt was as expected.
        Outcome::Flaky => {
            let early = check.attempts.iter().take(check.attempts.len().saturating_sub(1));
            early.map(|a| if a.wrong.is_empty() { a.seen.clone() } else { a.wrong.join("; ") }).collect()
        }
        Outcome::Passed => Vec::new(),
    }
}

fn versions(before: &RunRecord, after: &RunRecord) -> Vec<Change> {
    let all = |run: &RunRecord| -> BTreeMap<String, String> { run.versions.iter().map(|v| (v.what.clone(), v.observed.clone())).collect() };
    let (mut old, mut new) = (all(before), all(after));
    old.insert("gateproof".to_owned(), before.gateproof.clone());
    new.insert("gateproof".to_owned(), after.gateproof.clone());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |what: &String| Change { what: what.clone(), before: old.get(what).cloned(), after: new.get(what).cloned() };
    names.into_iter().map(change).filter(|c| c.before != c.after).collect()
}

fn times(before: &RunRecord, after: &RunRecord) -> Vec<Took> {
    // Checks of a state are asked at once: their sum would be no time that passed.
    let of = |run: &RunRecord| -> BTreeMap<String, f64> {
        run.scenarios.iter().filter_map(|s| Some((s.id.to_string(), verdict::scenario_took(s)?))).collect()
    };
    let (old, new) = (of(before), of(after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let whole = Took { what: "the run".to_owned(), before: verdict::took(before), after: verdict::took(after) };
    let each = names.into_iter().map(|what| Took { what: what.clone(), before: old.get(what).copied(), after: new.get(what).copied() });
    std::iter::once(whole).chain(each).collect()
}

/// The comparison for a terminal: what differs, and what is the same in a line.
#[must_use]
pub fn diff_text(diff: &RunDiff) -> String {
    let run = |at: &RunHead| format!("{} on {}", minute(&at.started), at.provider);
    let mut out = format!("before: {}\nafter:  {}\n", plain(&run(&diff.runs[0])), plain(&run(&diff.runs[1])));
    for (run, which) in diff.runs.iter().zip(["first", "second"]) {
        if !run.ended {
            let _ = writeln!(out, "The {which} run did not reach its end, so a missing check may only not have been reached.");
        }
    }
    let mut list = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{heading}");
            for line in lines {
                let _ = writeln!(out, "  {line}");
            }
        }
    };
    let outcome = |c: &OutcomeChange| {
        let why = c.why.iter().map(|w| format!("\n      {}", shorten(&plain(w), 400))).collect::<String>();
        format!("{}: {} → {}{why}", plain(&c.check), c.before, c.after)
    };
    let change = |c: &Change| {
        let side = |s: &Option<String>| s.as_deref().map_or("none".to_owned(), plain);
        format!("{}: {} → {}", plain(&c.what), side(&c.before), side(&c.after))
    };
    list("outcomes that changed", diff.outcomes.iter().map(outcome).collect());
    list("checks that only the second run has", diff.added.iter().map(|n| plain(n)).collect());
    list("checks that only the first run has", diff.removed.iter().map(|n| plain(n)).collect());
    list("versions", diff.versions.iter().map(change).collect());
    list("answers", diff.answers.iter().map(change).collect());
    let path = |c: &PathChange| {
        let hops = |hops: &[String]| if hops.is_empty() { "no hop".to_owned() } else { plain(&hops.join(" | ")) };
        format!("{}\n    - {}\n    + {}", plain(&c.check), hops(&c.before), hops(&c.after))
    };
    list("paths", diff.paths.iter().map(path).collect());
    list("time", diff.times.iter().filter_map(slower).collect());
    out.push_str(&configuration(diff.configuration.as_ref()));
    let same = diff.compared - diff.outcomes.len();
    let _ = write!(out, "\n{} of {} that both runs have came out the same", same, plural(diff.compared, "check"));
    for (n, what) in [(diff.added.len(), "only in the second"), (diff.removed.len(), "only in the first")] {
        if n > 0 {
            let _ = write!(out, ", {n} {what}");
        }
    }
    out.push_str(if diff.same_outcomes { ": NO OUTCOME DIFFERS\n" } else { ": OUTCOMES DIFFER\n" });
    out
}

/// A time that changed by more than a fifth and a second; always the whole run's.
fn slower(took: &Took) -> Option<String> {
    let side = |s: Option<f64>| s.map_or("unknown".to_owned(), seconds);
    let changed = match (took.before, took.after) {
        (Some(a), Some(b)) => (b - a).abs() > 1.0 && (b - a).abs() > 0.2 * a.max(b),
        _ => false,
    };
    (changed || took.what == "the run").then(|| format!("{}: {} → {}", plain(&took.what), side(took.before), side(took.after)))
}

fn configuration(drift: Option<&Drift>) -> String {
    let Some(drift) = drift else {
        return "\nThe proxies' configuration was not compared: not both runs wrote it down (`gateproof run --observe`).\n".to_owned();
    };
    if drift.differences.is_empty() {
        return format!("\nThe proxies' configuration is the same: {} compared.\n", plural(drift.resources, "resource"));
    }
    let mut out = format!("\nconfiguration of the proxies: {}\n", plural(drift.differences.len(), "difference"));
    for difference in drift.differences.iter().take(RESOURCES) {
        let _ = writeln!(out, "  {}", plain(&difference.heading()));
        // The file names of a unified diff say nothing here.
        let lines: Vec<&str> =
            difference.diff.iter().map(String::as_str).filter(|l| !l.starts_with("--- ") && !l.starts_with("+++ ")).collect();
        for line in lines.iter().take(LINES) {
            let _ = writeln!(out, "    {}", hanging(&clean(line), 4));
        }
        if lines.len() > LINES {
            let _ = writeln!(out, "    … {} more", plural(lines.len() - LINES, "line"));
        }
    }
    if drift.differences.len() > RESOURCES {
        let _ = writeln!(out, "  … {} more; `--json` has all", drift.differences.len() - RESOURCES);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_same_run_twice_has_no_difference() {
        let diff = diff(&sample::green(), &sample::green());
        assert!(diff.same_outcomes && diff.outcomes.is_empty() && diff.versions.is_empty() && diff.paths.is_empty());
        assert!(diff_text(&diff).ends_with("NO OUTCOME DIFFERS\n"));
    }

    #[test]
    fn an_upgrade_shows_versions_outcomes_and_paths() {
        let mut after = sample::red();
        after.versions[1].observed = "1.31.0".to_owned();
        insta::assert_snapshot!(diff_text(&diff(&sample::green(), &after)));
        let found = diff(&sample::green(), &after);
        assert!(!found.same_outcomes);
        assert_eq!(found.paths.len(), 1, "a skipped check has no path: {:?}", found.paths);
        assert_eq!(found.versions[0].what, "Istio control plane");
    }

    #[test]
    fn a_check_that_one_run_lacks_is_a_difference() {
        let mut after = sample::green();
        let gone = after.scenarios[1].checks.pop().unwrap();
        let there = diff(&sample::green(), &after);
        assert_eq!((there.same_outcomes, there.removed), (false, vec![format!("10-ingress::{}", gone.name)]));
        let back = diff(&after, &sample::green());
        assert_eq!((back.same_outcomes, back.added.len()), (false, 1));
    }

    #[test]
    fn a_flaky_check_is_no_pass_and_says_what_was_wrong() {
        let found = diff(&sample::green(), &sample::flaky());
        assert_eq!(found.outcomes[0].after, "flaky");
        assert_eq!(found.outcomes[0].why, ["status: expected 200, observed 503"]);
        assert!(!found.same_outcomes);
    }

    #[test]
    fn a_scenario_takes_no_longer_than_its_run() {
        // Three checks of a state, asked at once.
        let mut record = sample::green();
        for check in &mut record.scenarios[1].checks {
            check.attempts[0].at = "2026-11-21T01:48:30.5Z".to_owned();
            check.took = 2.0;
        }
        let took = verdict::scenario_took(&record.scenarios[1]).unwrap();
        let states: f64 = record.scenarios[1].stages.iter().map(|s| s.apply_took + s.gate_took).sum();
        assert!((took - states - 2.0).abs() < 0.001, "{took}");
        // An older record does not say when a check began.
        assert_eq!(verdict::scenario_took(&record.scenarios[2]), None);
    }

    #[test]
    fn two_runs_without_a_common_check_are_not_the_same() {
        let mut nothing = sample::green();
        nothing.scenarios.clear();
        assert!(!diff(&nothing, &nothing).same_outcomes);
    }
}
