//! What went wrong, and what is known about why.

use std::fmt::Write as _;

use super::check_anchor;
use crate::outcome::{EvidenceKind, Outcome};
use crate::report::record::{CheckRecord, RunRecord};
use crate::report::text::{Cell, Table, code, link, prose};
use crate::report::verdict::{self, check_mark, check_word, plural, seconds};

/// Each check that is red or flaky.
pub(super) fn body(record: &RunRecord) -> String {
    let mut out = String::new();
    if let Some(why) = &record.ended_early {
        let _ = writeln!(out, "The run ended early: {}.\n", prose(why.trim_end_matches('.')));
    } else if record.finished.is_none() {
        out.push_str("The run did not end, and left no reason.\n\n");
    }
    for (s, scenario) in record.scenarios.iter().enumerate() {
        for (c, check) in scenario.checks.iter().enumerate() {
            if matches!(check.outcome, Outcome::Passed | Outcome::Skipped { .. }) {
                continue;
            }
            let _ = writeln!(
                out,
                "### {} {}: {} ({})\n",
                check_mark(check),
                prose(scenario.id.as_str()),
                prose(&check.name),
                check_word(check)
            );
            for line in verdict::quarantine(check).into_iter().chain(verdict::history(check)) {
                let _ = writeln!(out, "This check is {}.\n", prose(&line));
            }
            one(&mut out, check);
            let _ = write!(out, "[Evidence](#{})", check_anchor(s, c));
            if let Some(folder) = &record.diagnostics {
                let _ = write!(out, " · diagnostics: {}", link(folder, folder));
            }
            out.push_str("\n\n");
        }
    }
    if out.is_empty() {
        return "Nothing failed, and nothing needed a second attempt.\n".to_owned();
    }
    if verdict::checks(record).all(|(_, c)| c.outcome.is_green() && c.outcome != Outcome::Flaky) {
        out.push_str("No recorded check failed, and none needed a second attempt.\n");
    }
    out
}

fn one(out: &mut String, check: &CheckRecord) {
    if let Some(cause) = &check.cause {
        let _ = writeln!(out, "**Likely cause:** {}\n", prose(&cause.sentences()));
    }
    match &check.outcome {
        Outcome::Failed { mismatches } => {
            let mut table = Table::new(["what", "expected", "observed", "rests on"]);
            for m in mismatches {
                table.row([Cell::code(&m.what), Cell::prose(&m.expected), Cell::prose(&m.observed), Cell::ours(rests_on(m.by))]);
            }
            let _ = writeln!(out, "{}", table.finish());
        }
        Outcome::Error { message } => {
            let _ = writeln!(out, "Neither passed nor failed: {}\n", prose(message));
        }
        Outcome::Flaky => {
            let _ = writeln!(
                out,
                "As expected only after {}, {} in all. Something had not settled when the proxies were said to be ready.\n",
                plural(check.attempts.len(), "attempt"),
                seconds(check.took)
            );
        }
        Outcome::Passed | Outcome::Skipped { .. } => {}
    }
    if !check.diagnosis.is_empty() {
        out.push_str("Diagnosis:\n\n");
        for line in &check.diagnosis {
            let _ = writeln!(out, "- {}", prose(line));
        }
        out.push('\n');
    } else if !matches!(check.outcome, Outcome::Flaky) {
        out.push_str("Diagnosis: none was recorded.\n\n");
    }
    if !check.attempts.is_empty() {
        let _ = writeln!(out, "Attempts, in state {}:\n", code(&check.given));
        for attempt in &check.attempts {
            let at = if attempt.at.is_empty() { String::new() } else { format!(" (at {})", prose(&attempt.at)) };
            let wrong = if attempt.wrong.is_empty() { String::new() } else { format!("; not as expected: {}", attempt.wrong.join("; ")) };
            let _ = writeln!(out, "- after {}{at}: {}", seconds(attempt.after), prose(&format!("{}{wrong}", attempt.seen)));
        }
        out.push('\n');
    }
}

fn rests_on(kind: EvidenceKind) -> &'static str {
    match kind {
        EvidenceKind::Traffic => "the answer to a call",
        EvidenceKind::Log => "an access log",
        EvidenceKind::ProxyConfig => "a proxy's configuration",
        EvidenceKind::Object => "an object of the Kubernetes API",
        EvidenceKind::Analysis => "`istioctl analyze`",
        EvidenceKind::State => "the state of pods and proxies",
    }
}
