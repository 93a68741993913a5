//! This run against the last one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use similar::TextDiff;

use crate::outcome::Outcome;
use crate::report::drift::drift;
use crate::report::normalise::stable_lines;
use crate::report::record::{CheckRecord, RunRecord};
use crate::report::text::{code, fence, plain, prose};
use crate::report::verdict::{self, minute};

/// At most so many resources whose configuration drifted are shown, and so many lines of each.
const RESOURCES: usize = 12;
const LINES: usize = 40;

type States<'a> = BTreeMap<(&'a str, &'a str), &'a Outcome>;

fn states(record: &RunRecord) -> States<'_> {
    verdict::checks(record).map(|(s, c)| ((s.id.as_str(), c.name.as_str()), &c.outcome)).collect()
}

fn red(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. } | Outcome::Error { .. })
}

fn flaky(outcome: &Outcome) -> bool {
    *outcome == Outcome::Flaky
}

fn green(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Passed | Outcome::Flaky)
}

/// Lists of what is new, fixed, still failing and gone, then a diff of what was observed.
pub(in crate::report) fn body(record: &RunRecord, previous: Option<&RunRecord>) -> String {
    let Some(previous) = previous else {
        return "There is no earlier report to compare with.\n".to_owned();
    };
    let mut out = format!("Compared with the run of {} on {}", minute_of(previous), prose(&verdict::provider(previous)));
    out.push_str(if previous.provider.name == record.provider.name { ".\n" } else { ": **another provider** than this run's.\n" });
    let mut honest = |run: &RunRecord, which: &str| {
        if !verdict::ended(run) {
            let _ = writeln!(out, "\n{which} did not reach its end, so a missing check may only not have been reached.");
        }
    };
    honest(previous, "The earlier run");
    honest(record, "This run");

    let (old, new) = (states(previous), states(record));
    let in_both = || new.iter().filter_map(|(k, n)| old.get(k).map(|o| (k, *o, *n)));
    let lists: [(&str, Vec<_>); 9] = [
        ("Newly failing", in_both().filter(|(_, o, n)| !red(o) && red(n)).map(|(k, ..)| *k).collect()),
        ("Still failing", in_both().filter(|(_, o, n)| red(o) && red(n)).map(|(k, ..)| *k).collect()),
        ("Newly flaky", in_both().filter(|(_, o, n)| !flaky(o) && flaky(n)).map(|(k, ..)| *k).collect()),
        ("Still flaky", in_both().filter(|(_, o, n)| flaky(o) && flaky(n)).map(|(k, ..)| *k).collect()),
        ("No longer flaky", in_both().filter(|(_, o, n)| flaky(o) && **n == Outcome::Passed).map(|(k, ..)| *k).collect()),
        ("Fixed", in_both().filter(|(_, o, n)| red(o) && green(n)).map(|(k, ..)| *k).collect()),
        (
            "Failed before, now skipped",
            in_both().filter(|(_, o, n)| red(o) && matches!(n, Outcome::Skipped { .. })).map(|(k, ..)| *k).collect(),
        ),
        ("New checks", new.keys().filter(|k| !old.contains_key(*k)).copied().collect()),
        ("Gone (removed, renamed, or not selected)", old.keys().filter(|k| !new.contains_key(*k)).copied().collect()),
    ];
    if lists.iter().all(|(_, l)| l.is_empty()) {
        out.push_str("\nNo check is newly failing, fixed, still failing, new or gone.\n");
    }
    for (heading, list) in lists.iter().filter(|(_, l)| !l.is_empty()) {
        let _ = writeln!(out, "\n**{heading}**\n");
        for (scenario, check) in list {
            let state = new.get(&(*scenario, *check)).map(|o| format!(" ({})", verdict::word(o))).unwrap_or_default();
            let now = verdict::checks(record).find(|(s, c)| s.id.as_str() == *scenario && c.name == *check).map(|(_, c)| c);
            let since = now.and_then(told).map(|words| format!("; {}", prose(&words))).unwrap_or_default();
            let _ = writeln!(out, "- {}: {}{state}{since}", code(scenario), prose(check));
        }
    }
    out.push_str(&versions(record, previous));
    out.push_str(&configuration(record, previous));
    out.push_str(&difference(record, previous));
    out
}

/// Since when, and whether it counts.
fn told(check: &CheckRecord) -> Option<String> {
    let parts: Vec<String> = verdict::history(check).into_iter().chain(verdict::quarantine(check)).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What the proxies had, where both runs wrote it down.
fn configuration(record: &RunRecord, previous: &RunRecord) -> String {
    let Some(drift) = drift(previous, record) else { return String::new() };
    if drift.differences.is_empty() {
        return format!("\nThe proxies' configuration is the same: {} compared.\n", verdict::plural(drift.resources, "resource"));
    }
    let mut out =
        format!("\n**Configuration of the proxies that drifted** ({})\n\n", verdict::plural(drift.differences.len(), "difference"));
    for difference in drift.differences.iter().take(RESOURCES) {
        let _ = writeln!(out, "- {}", prose(&difference.heading()));
        if !difference.diff.is_empty() {
            let mut lines: Vec<&str> = difference.diff.iter().take(LINES).map(String::as_str).collect();
            let more = format!("… {} more", difference.diff.len().saturating_sub(LINES));
            lines.extend((difference.diff.len() > LINES).then_some(more.as_str()));
            let _ = writeln!(out, "\n{}", fence("diff", &lines.join("\n")));
        }
    }
    if drift.differences.len() > RESOURCES {
        let _ = writeln!(out, "- … {} more; `gateproof diff` of the two records shows them", drift.differences.len() - RESOURCES);
    }
    out
}

fn minute_of(record: &RunRecord) -> String {
    prose(&minute(&record.started))
}

fn versions(record: &RunRecord, previous: &RunRecord) -> String {
    let mut out = String::new();
    for now in &record.versions {
        if let Some(before) = previous.versions.iter().find(|v| v.what == now.what && v.observed != now.observed) {
            let _ = writeln!(out, "- {}: {} → {}", prose(&now.what), prose(&before.observed), prose(&now.observed));
        }
    }
    if out.is_empty() { out } else { format!("\n**Versions that changed**\n\n{out}") }
}

fn difference(record: &RunRecord, previous: &RunRecord) -> String {
    let text = |lines: Vec<String>| lines.into_iter().fold(String::new(), |all, l| all + &l + "\n");
    let (old, new) = (text(stable_lines(previous)), text(stable_lines(record)));
    if old == new {
        return "\nWhat was observed is the same, but for tokens, addresses, pod names and times.\n".to_owned();
    }
    let diff = TextDiff::from_lines(&old, &new);
    let (before, after) = (format!("run of {}", plain(&previous.started)), format!("run of {}", plain(&record.started)));
    let text = diff.unified_diff().context_radius(1).header(&before, &after).to_string();
    format!("\nWhat was observed, without tokens, addresses, pod names and times:\n\n{}", fence("diff", &text))
}
