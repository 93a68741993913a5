//! A run in a few lines: for a terminal, and for the page of a GitHub job.

use std::fmt::Write as _;

use super::again::with_commands;
use super::record::{AttemptRecord, CheckRecord, RunRecord, ScenarioRecord, Tally};
use super::text::{Cell, Table, clean, code, fence, hanging, plain, prose, shorten};
use super::verdict::{self, Told, Verdict, check_mark, check_word, counts, plural, seconds};
use crate::outcome::Outcome;

/// Most bytes that GitHub takes of a step's summary, less a margin.
pub const GITHUB_SUMMARY_LIMIT: usize = 1024 * 1024 - 1024;

/// So many red checks are told in full in a terminal.
const IN_FULL: usize = 3;
/// So many lines of a difference are shown there.
const DIFF_LINES: usize = 40;

/// Plain text for a terminal: a line for each scenario, then what is red or flaky, then the totals.
/// `report` is the path to show as the report's place.
#[must_use]
pub fn summary(record: &RunRecord, report: Option<&str>) -> String {
    let record = &*with_commands(record);
    let mut out = format!("{}\n", plain(&format!("provider: {} ({})", verdict::provider(record), record.provider.chosen)));
    let width = record.scenarios.iter().map(|s| s.id.as_str().len()).max().unwrap_or(0);
    for scenario in &record.scenarios {
        let (id, word) = (scenario.id.as_str(), Verdict::of_scenario(record, scenario).word());
        let _ = writeln!(out, "  {id:width$}  {word}  {}", counts(Tally::of(&scenario.checks)));
    }
    // The last lines are those that are on the screen when the run is over: the first failure stands there, in full.
    let told = verdict::told(record);
    let first = told.iter().position(|t| !t.first().outcome.is_green()).unwrap_or(0);
    for (n, one) in told.iter().enumerate().filter(|(n, _)| *n != first) {
        // Of many failures one is told in full; the report has the others.
        if n < IN_FULL { in_full(&mut out, one) } else { in_a_line(&mut out, one) }
    }
    if let Some(one) = told.get(first) {
        in_full(&mut out, one);
    }
    if let Some(why) = &record.ended_early {
        let _ = writeln!(out, "\nThe run ended early: {}", plain(why));
    } else if record.finished.is_none() {
        out.push_str("\nThe run did not end.\n");
    }
    let tally = verdict::tally(record);
    let mut totals = vec![format!("{} passed", tally.passed), format!("{} failed", tally.failed)];
    for (n, what) in
        [(tally.flaky, "flaky"), (tally.errors, "could not be judged"), (tally.quarantined, "quarantined"), (tally.skipped, "skipped")]
    {
        if n > 0 {
            totals.push(format!("{n} {what}"));
        }
    }
    let took = verdict::took(record).map(|s| format!(" in {}", seconds(s))).unwrap_or_default();
    let _ = writeln!(out, "\n{}: {}{took}", Verdict::of_run(record).word(), totals.join(", "));
    if let Some(path) = report {
        let _ = writeln!(out, "report: {}", plain(path));
    }
    if let Some(folder) = &record.diagnostics {
        let _ = writeln!(out, "diagnostics: {} (beside the report)", plain(folder));
    }
    out
}

/// The names of checks, then why they likely failed, then the first of them in full and a line of each other.
fn in_full(out: &mut String, told: &Told<'_>) {
    heading(out, told);
    let check = told.first();
    match &check.outcome {
        Outcome::Passed | Outcome::Skipped { .. } => return,
        Outcome::Flaky => {
            let _ = writeln!(out, "  as expected only at attempt {} ({})", check.attempts.len(), seconds(check.took));
            for line in attempts(check) {
                let _ = writeln!(out, "  {}", shorten(&plain(&line), 400));
            }
        }
        Outcome::Failed { mismatches } => {
            if told.checks.len() > 1 {
                let _ = writeln!(out, "  of the first:");
            }
            for m in mismatches {
                let _ = writeln!(out, "  {}", plain(&m.what));
                let _ = writeln!(out, "    expected: {}", shorten(&plain(&m.expected), 400));
                let _ = writeln!(out, "    observed: {}", shorten(&plain(&m.observed), 400));
            }
            for piece in check.evidence.iter().filter(|p| p.language == "diff") {
                let text = clean(&piece.text);
                for line in text.lines().take(DIFF_LINES) {
                    let _ = writeln!(out, "    {line}");
                }
                let more = text.lines().count().saturating_sub(DIFF_LINES);
                if more > 0 {
                    let _ = writeln!(out, "    … {} in the report", plural(more, "more line"));
                }
            }
        }
        Outcome::Error { message } => {
            let _ = writeln!(out, "  {}", plain(message));
        }
    }
    for line in &check.diagnosis {
        let _ = writeln!(out, "  diagnosis: {}", plain(line));
    }
    for line in verdict::quarantine(check).into_iter().chain(verdict::history(check)) {
        let _ = writeln!(out, "  {}", plain(&line));
    }
    // A state that was not reached has no command of its own.
    if !check.command.is_empty() && !check.outcome.is_green() {
        let _ = writeln!(out, "  repeat: {}", hanging(&check.command, 4));
    }
    for (_, other) in told.checks.iter().skip(1) {
        if let Some(first) = wrong(other).filter(|_| matches!(other.outcome, Outcome::Failed { .. })) {
            let _ = writeln!(out, "  of {}: {first}", plain(&other.name));
        }
    }
}

fn heading(out: &mut String, told: &Told<'_>) {
    out.push('\n');
    for (_, check) in &told.checks {
        let _ = writeln!(out, "{}: {}::{}", check_word(check).to_uppercase(), told.scenario.id, plain(&check.name));
    }
    if let Some(cause) = &told.first().cause {
        let _ = writeln!(out, "  cause: {}", plain(&cause.text));
        if !cause.look_at.is_empty() {
            let _ = writeln!(out, "  look at {}", plain(&cause.look_at.join(" and ")));
        }
    }
}

/// The first thing that was not as expected; None of what could not be judged.
fn wrong(check: &CheckRecord) -> Option<String> {
    let Outcome::Failed { mismatches } = &check.outcome else { return None };
    let m = mismatches.first()?;
    let more = if mismatches.len() > 1 { format!(" (and {} more)", mismatches.len() - 1) } else { String::new() };
    let [expected, observed] = [&m.expected, &m.observed].map(|text| shorten(&plain(text), 80));
    Some(format!("{}: expected {expected}, observed {observed}{more}", plain(&m.what)))
}

fn in_a_line(out: &mut String, told: &Told<'_>) {
    heading(out, told);
    let check = told.first();
    let why = match &check.outcome {
        Outcome::Failed { .. } => wrong(check),
        Outcome::Error { message } => Some(shorten(&plain(message), 160)),
        _ => None,
    };
    let _ = writeln!(out, "  {}", why.unwrap_or_default());
}

/// A line for each attempt: when, and what was not as expected.
fn attempts(check: &CheckRecord) -> Vec<String> {
    let line = |(n, a): (usize, &AttemptRecord)| {
        let seen = if a.wrong.is_empty() { a.seen.clone() } else { a.wrong.join("; ") };
        format!("attempt {}, after {}: {seen}", n + 1, seconds(a.after))
    };
    check.attempts.iter().enumerate().map(line).collect()
}

/// Markdown for `$GITHUB_STEP_SUMMARY`, never more than [`GITHUB_SUMMARY_LIMIT`] bytes: verdict, counts,
/// and each red or flaky check with its mismatches and diagnosis.
#[must_use]
pub fn github_summary(record: &RunRecord) -> String {
    let record = &*with_commands(record);
    let run = Verdict::of_run(record);
    let mut out = format!(
        "## {} gateproof on {}: {}\n\n{}.\n",
        run.mark(),
        prose(&verdict::provider(record)),
        run.word(),
        counts(verdict::tally(record))
    );
    if let Some(why) = &record.ended_early {
        let _ = writeln!(out, "\n**The run ended early:** {}", prose(&shorten(&plain(why), 2000)));
    } else if record.finished.is_none() {
        out.push_str("\n**The run did not end.** Outcomes may be missing.\n");
    }
    let mut table = Table::new(["scenario", "verdict", "checks"]);
    for s in record.scenarios.iter().take(500) {
        let verdict = Verdict::of_scenario(record, s);
        let checks = Cell::ours(counts(Tally::of(&s.checks)));
        table.row([Cell::code(&shorten(s.id.as_str(), 200)), Cell::ours(format!("{} {}", verdict.mark(), verdict.word())), checks]);
    }
    let _ = write!(out, "\n{}", table.finish());
    if record.scenarios.len() > 500 {
        let _ = writeln!(out, "\n{} more are in the report.", plural(record.scenarios.len() - 500, "scenario"));
    }
    let mut left_out = 0;
    for (scenario, check) in verdict::checks(record) {
        if matches!(check.outcome, Outcome::Passed | Outcome::Skipped { .. }) {
            continue;
        }
        let block = if left_out == 0 { red_markdown(scenario, check) } else { None };
        match block.filter(|b| out.len() + b.len() + 200 <= GITHUB_SUMMARY_LIMIT) {
            Some(block) => out.push_str(&block),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let _ = writeln!(out, "\n{} more did not pass. They are in the report.", plural(left_out, "check"));
    }
    out
}

fn red_markdown(scenario: &ScenarioRecord, check: &CheckRecord) -> Option<String> {
    let mut out = format!(
        "\n### {} {}: {} ({})\n\n",
        check_mark(check),
        prose(scenario.id.as_str()),
        prose(&shorten(&plain(&check.name), 300)),
        check_word(check)
    );
    if let Some(cause) = &check.cause {
        let _ = writeln!(out, "**Likely cause:** {}\n", prose(&shorten(&plain(&cause.sentences()), 2000)));
    }
    match &check.outcome {
        Outcome::Passed | Outcome::Skipped { .. } => return None,
        Outcome::Flaky => {
            let _ = writeln!(out, "As expected only at attempt {} ({}).\n", check.attempts.len(), seconds(check.took));
            for line in attempts(check) {
                let _ = writeln!(out, "- {}", prose(&shorten(&plain(&line), 1000)));
            }
        }
        Outcome::Failed { mismatches } => {
            let mut table = Table::new(["what", "expected", "observed"]);
            for m in mismatches.iter().take(20) {
                let [what, expected, observed] = [&m.what, &m.expected, &m.observed].map(|t| shorten(&plain(t), 1000));
                table.row([Cell::code(&what), Cell::prose(&expected), Cell::prose(&observed)]);
            }
            out.push_str(&table.finish());
            if mismatches.len() > 20 {
                let _ = writeln!(out, "\n{} more are in the report.", mismatches.len() - 20);
            }
        }
        Outcome::Error { message } => {
            let _ = writeln!(out, "{}", prose(&shorten(&plain(message), 2000)));
        }
    }
    for line in verdict::quarantine(check).into_iter().chain(verdict::history(check)) {
        let _ = writeln!(out, "\n{}.", prose(&shorten(&plain(&line), 1000)));
    }
    if !check.diagnosis.is_empty() {
        out.push_str("\nDiagnosis:\n\n");
        for line in check.diagnosis.iter().take(20) {
            let _ = writeln!(out, "- {}", prose(&shorten(&plain(line), 1000)));
        }
    }
    if !check.command.is_empty() && !check.outcome.is_green() {
        let _ = write!(out, "\nRepeat:\n\n{}", fence("bash", &shorten(&clean(&check.command), 4000)));
    }
    let _ = writeln!(out, "\nState: {}", code(&shorten(&plain(&check.given), 300)));
    Some(out)
}
