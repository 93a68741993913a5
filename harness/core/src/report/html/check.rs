//! One check as a card that folds: what it proves, what was wanted and seen, and everything that this rests on.

use std::fmt::Write as _;

use super::drawing;
use super::text::{block, code, escape, folded, line, list, prose, table};
use crate::outcome::{EvidenceKind, Outcome};
use crate::report::again::to_repeat;
use crate::report::markdown::mermaid::Paths;
use crate::report::record::{CheckRecord, RunRecord, ScenarioRecord};
use crate::report::verdict::{self, plural, seconds, word};
use crate::scenario::INTACT;

/// The anchor of a check, by the places of scenario and check in the record; that of the Markdown page.
pub(super) fn anchor(scenario: usize, check: usize) -> String {
    format!("evidence-{}-{}", scenario + 1, check + 1)
}

/// Whether somebody should look at a check with this outcome.
pub(super) fn needs_a_look(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. } | Outcome::Error { .. } | Outcome::Flaky)
}

/// The class that colours an outcome.
pub(super) fn tone(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Flaky => "flaky",
        Outcome::Failed { .. } | Outcome::Error { .. } => "failed",
        Outcome::Skipped { .. } => "skipped",
    }
}

/// The card; open from the start where somebody should look.
pub(super) fn card(out: &mut String, record: &RunRecord, (s, c): (usize, usize), scenario: &ScenarioRecord, check: &CheckRecord) {
    let quiet = if needs_a_look(&check.outcome) { "" } else { " quiet" };
    let open = if needs_a_look(&check.outcome) { " open" } else { "" };
    let given = if check.given == INTACT { String::new() } else { format!("<span class=\"given\">{}</span>", line(&check.given)) };
    let _ = write!(
        out,
        "<details class=\"check {}{quiet}\" id=\"{}\"{open}>\n<summary><span class=\"pill {}\">{}</span> \
         <span class=\"what\">{}{given}</span> <span class=\"took\">{}</span></summary>\n<div class=\"body\">\n",
        tone(&check.outcome),
        anchor(s, c),
        tone(&check.outcome),
        word(&check.outcome),
        line(&check.name),
        seconds(check.took)
    );
    let shown = match &check.outcome {
        Outcome::Passed => "",
        Outcome::Flaky => "<strong>With luck only:</strong> ",
        Outcome::Failed { .. } | Outcome::Error { .. } | Outcome::Skipped { .. } => "<strong>Not shown:</strong> ",
    };
    let _ = writeln!(out, "<p class=\"proves\">{shown}{}</p>", prose(&check.proves));
    outcome(out, check);
    let _ = write!(
        out,
        "<div class=\"two\"><div><h4>Expected</h4>\n{}</div><div><h4>Observed</h4>\n{}</div></div>\n",
        list(&check.expected),
        list(&check.observed)
    );
    // A difference explains a failure, so it is not folded away.
    for piece in check.evidence.iter().filter(|p| p.language == "diff") {
        let _ = write!(out, "<h4>{}</h4>\n{}", prose(&piece.title), block("diff", &piece.text));
    }
    let paths = Paths::of([check], &record.gateways);
    if !paths.is_empty() {
        let _ = write!(out, "<h4>Path seen</h4>\n{}", drawing::svg(&paths.graph(), &format!("path of {}", check.name)));
    }
    let command = to_repeat(record, scenario, check);
    if !command.trim().is_empty() {
        let _ = write!(out, "<h4>Repeat it</h4>\n{}", block("bash", &command));
    }
    let _ = writeln!(out, "<p class=\"muted\">Asked in state {}; {}.</p>", code(&check.given), plural(check.attempts.len(), "attempt"));
    if check.attempts.len() > 1 {
        let rows = check
            .attempts
            .iter()
            .enumerate()
            .map(|(n, a)| [(n + 1).to_string(), seconds(a.after), prose(&a.wrong.join("; ")), prose(&a.seen)]);
        out.push_str(&table(["attempt", "after", "not as expected", "seen"], rows));
    }
    let mut hops = String::new();
    for hop in &check.hops {
        let _ = write!(
            hops,
            "<p>{}, pod {}; known to be of this call by {}</p>\n{}",
            code(&hop.proxy.to_string()),
            code(&hop.pod),
            prose(&hop.joined_by),
            block("text", &hop.entry.line)
        );
    }
    out.push_str(&folded(&format!("Access-log lines of this call ({})", check.hops.len()), &hops));
    for piece in check.evidence.iter().filter(|p| p.language != "diff") {
        out.push_str(&folded(&prose(&piece.title), &block(&piece.language, &piece.text)));
    }
    out.push_str("</div></details>\n");
}

fn outcome(out: &mut String, check: &CheckRecord) {
    match &check.outcome {
        Outcome::Failed { mismatches } => {
            let rows = mismatches.iter().map(|m| [code(&m.what), prose(&m.expected), prose(&m.observed), rests_on(m.by).to_owned()]);
            out.push_str(&table(["what", "expected", "observed", "rests on"], rows));
        }
        Outcome::Error { message } => {
            let _ = writeln!(out, "<p>Neither passed nor failed: {}</p>", prose(message));
        }
        Outcome::Skipped { reason } => {
            let _ = writeln!(out, "<p>Not asked: {}</p>", prose(reason));
        }
        Outcome::Flaky => {
            let _ = writeln!(out, "<p>As expected only at attempt {}, {} in all.</p>", check.attempts.len(), seconds(check.took));
        }
        Outcome::Passed => {}
    }
    for line in verdict::quarantine(check).into_iter().chain(verdict::history(check)) {
        let _ = writeln!(out, "<p>{}: {}</p>", escape(&verdict::check_word(check)), prose(&line));
    }
    if let Some(cause) = &check.cause {
        let _ = writeln!(out, "<p><strong>Likely cause:</strong> {}</p>", prose(&cause.sentences()));
    }
    if !check.diagnosis.is_empty() {
        let _ = write!(out, "<div class=\"diagnosis\"><h4>Diagnosis</h4>\n{}</div>\n", list(&check.diagnosis));
    }
    if let (Outcome::Failed { .. } | Outcome::Error { .. }, true) = (&check.outcome, check.diagnosis.is_empty()) {
        let _ = writeln!(out, "<p class=\"muted\">{}</p>", escape("No diagnosis was recorded."));
    }
}

fn rests_on(kind: EvidenceKind) -> &'static str {
    match kind {
        EvidenceKind::Traffic => "the answer to a call",
        EvidenceKind::Log => "an access log",
        EvidenceKind::ProxyConfig => "a proxy's configuration",
        EvidenceKind::Analysis => "<code>istioctl analyze</code>",
        EvidenceKind::Object => "an object of the cluster",
        EvidenceKind::State => "the state of pods and proxies",
    }
}
