//! This run against the last one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use similar::TextDiff;

use crate::outcome::Outcome;
use crate::report::normalise::stable_lines;
use crate::report::record::RunRecord;
use crate::report::text::{code, fence, plain, prose};
use crate::report::verdict::{self, minute};

type States<'a> = BTreeMap<(&'a str, &'a str), &'a Outcome>;

fn states(record: &RunRecord) -> States<'_> {
    verdict::checks(record).map(|(s, c)| ((s.id.as_str(), c.name.as_str()), &c.outcome)).collect()
}

fn red(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. } | Outcome::Error { .. })
}

fn green(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Passed | Outcome::Flaky)
}

/// Lists of what is new, fixed, still failing and gone, then a diff of what was observed.
pub(super) fn body(record: &RunRecord, previous: Option<&RunRecord>) -> String {
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
    let lists: [(&str, Vec<_>); 7] = [
        ("Newly failing", in_both().filter(|(_, o, n)| !red(o) && red(n)).map(|(k, ..)| *k).collect()),
        ("Still failing", in_both().filter(|(_, o, n)| red(o) && red(n)).map(|(k, ..)| *k).collect()),
        ("Newly flaky", in_both().filter(|(_, o, n)| **o != Outcome::Flaky && **n == Outcome::Flaky).map(|(k, ..)| *k).collect()),
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
            let _ = writeln!(out, "- {}: {}{state}", code(scenario), prose(check));
        }
    }
    out.push_str(&versions(record, previous));
    out.push_str(&difference(record, previous));
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
