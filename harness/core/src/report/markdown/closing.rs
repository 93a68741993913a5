//! The sections that close a report.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::report::record::{RunRecord, ScenarioRecord};
use crate::report::text::{Cell, Table, code, fence, joined, link, prose};
use crate::report::verdict::seconds;
use crate::report::{record::CheckRecord, verdict};

/// What was left out on purpose, and what was skipped in this run.
pub(super) fn not_tested(record: &RunRecord) -> String {
    let mut table = Table::new(["scenario", "what", "why"]);
    for s in &record.scenarios {
        for (what, why) in &s.not_tested {
            table.row([Cell::code(s.id.as_str()), Cell::prose(what), Cell::prose(why)]);
        }
    }
    let mut out = super::head::or_none(table.finish(), "The scenarios name nothing.");
    let mut skipped = Table::new(["scenario", "skipped check", "reason"]);
    for (s, check) in verdict::checks(record) {
        if let CheckRecord { outcome: Outcome::Skipped { reason }, .. } = check {
            skipped.row([Cell::code(s.id.as_str()), Cell::prose(&check.name), Cell::prose(reason)]);
        }
    }
    let skipped = skipped.finish();
    if !skipped.is_empty() {
        let _ = write!(out, "\nSkipped in this run:\n\n{skipped}");
    }
    let mut quarantined = Table::new(["scenario", "check in quarantine", "outcome", "until", "reason"]);
    for (s, check) in verdict::checks(record) {
        if let Some(q) = &check.quarantined {
            let outcome = Cell::ours(verdict::word(&check.outcome));
            quarantined.row([Cell::code(s.id.as_str()), Cell::prose(&check.name), outcome, Cell::prose(&q.until), Cell::prose(&q.reason)]);
        }
    }
    let quarantined = quarantined.finish();
    if !quarantined.is_empty() {
        let _ = write!(out, "\nIn quarantine: asked, but a failure does not make the run red.\n\n{quarantined}");
    }
    out
}

/// Each timed step.
pub(super) fn times(record: &RunRecord) -> String {
    let mut table = Table::new(["step", "began after", "took"]);
    for step in &record.steps {
        table.row([Cell::prose(&step.name), Cell::ours(seconds(step.began)), Cell::ours(seconds(step.took))]);
    }
    super::head::or_none(table.finish(), "No step was recorded.")
}

/// What the commands to reproduce do.
pub(in crate::report) fn says(record: &RunRecord) -> &'static str {
    if record.again.is_some() {
        "The mesh was simulated, and it ended with the run. The first command simulates it anew and asks the same checks; `curl`, `kubectl` \
         and `istioctl` cannot reach it, so the others bring a kept kind cluster into each state."
    } else {
        "These make the same cluster and apply the same manifests."
    }
}

/// The way back to the same cluster, and the run again.
pub(super) fn reproduce(record: &RunRecord) -> String {
    let mut out = String::new();
    let commands = joined(&record.reproduce);
    if commands.trim().is_empty() {
        out.push_str("The run recorded no commands.\n");
    } else {
        let _ = writeln!(out, "{} The command of each check is in its table above.\n", says(record));
        out.push_str(&fence("bash", &commands));
    }
    if !record.invoked.trim().is_empty() {
        let _ = write!(out, "\nThe same run again, checks included:\n\n{}", fence("bash", &record.invoked));
    }
    out
}

/// A list of sentences, under the scenario that says them where there are several scenarios.
pub(super) fn per_scenario(record: &RunRecord, of: impl Fn(&ScenarioRecord) -> &Vec<String>) -> String {
    let mut out = String::new();
    let several = record.scenarios.len() > 1;
    for s in &record.scenarios {
        for sentence in of(s).iter().map(|t| prose(t)).filter(|t| !t.is_empty()) {
            let _ = if several { writeln!(out, "- {}: {sentence}", code(s.id.as_str())) } else { writeln!(out, "- {sentence}") };
        }
    }
    out
}

/// Files that belong to the run.
pub(super) fn related(record: &RunRecord) -> String {
    let mut out = String::new();
    for s in &record.scenarios {
        let mut files = vec![link("scenario.yaml", &format!("../{}/scenario.yaml", s.folder))];
        files.extend(s.manifests.iter().map(|m| link(&m.file, &format!("../{}/{}", s.folder, m.file))));
        let _ = writeln!(out, "- {}: {}", link(s.id.as_str(), &format!("../{}/", s.folder)), files.join(" · "));
    }
    if let Some(folder) = &record.diagnostics {
        let _ = writeln!(out, "- Diagnostics: {}", link(folder, folder));
    }
    out
}
