//! One scenario: how it works, what was applied, what was asked, what came back.

use std::fmt::Write as _;

use super::check_anchor;
use super::mechanism::embed;
use super::mermaid::Paths;
use crate::outcome::Outcome;
use crate::report::again::to_repeat;
use crate::report::record::{CheckRecord, RunRecord, ScenarioRecord, StageRecord, Tally};
use crate::report::text::{Cell, Table, clean, code, fence, html, joined, link, prose};
use crate::report::verdict::{self, Verdict, check_mark, check_word, counts, plural, seconds};
use crate::scenario::INTACT;

/// Longest command shown in a cell.
const COMMAND: usize = 160;

/// A scenario's part below its heading; `level` is that of the headings within.
pub(super) fn body(record: &RunRecord, at: usize, scenario: &ScenarioRecord, level: usize) -> String {
    let h = "#".repeat(level);
    let mut parts: Vec<String> = Vec::new();
    if !scenario.needs.is_empty() {
        let needs: Vec<String> = scenario.needs.iter().map(|n| code(n.as_str())).collect();
        parts.push(format!("Stood on: {}.", needs.join(", ")));
    }
    if !scenario.mechanism.trim().is_empty() {
        parts.push(format!("{h} Mechanism\n\n{}", embed(&scenario.mechanism, level, &scenario.folder).trim_end()));
    }
    if !scenario.values.is_empty() {
        let mut table = Table::new(["value", "used", "from", "what it is for"]);
        for value in &scenario.values {
            table.row([Cell::code(&value.name), Cell::code(&value.value), Cell::ours(value.source.words()), Cell::prose(&value.about)]);
        }
        parts.push(format!("{h} Values\n\n{}", table.finish().trim_end()));
    }
    if !scenario.manifests.is_empty() {
        parts.push(format!("{h} Applied manifests\n\n{}", manifests(scenario)));
    }
    if !scenario.stages.is_empty() {
        parts.push(format!("{h} States\n\n{}", stages(&scenario.stages)));
    }
    parts.push(format!("{h} Checks\n\n{}", checks(record, at, scenario)));
    let paths = Paths::of(&scenario.checks, &record.gateways);
    if !paths.is_empty() {
        let dashed = if paths.has_variations() { "Solid: the intact scenario. Dashed: seen in a variation only.\n\n" } else { "" };
        parts.push(format!("{h} Paths seen\n\n{dashed}{}", paths.render().trim_end()));
    }
    if !scenario.corrections.is_empty() {
        let mut table = Table::new(["what an earlier document claimed", "what is so"]);
        for (claim, instead) in &scenario.corrections {
            table.row([Cell::prose(claim), Cell::prose(instead)]);
        }
        parts.push(format!("{h} Corrections\n\n{}", table.finish().trim_end()));
    }
    if !scenario.checks.is_empty() {
        let evidence: Vec<String> =
            scenario.checks.iter().enumerate().map(|(c, check)| evidence(record, (at, scenario), c, check)).collect();
        parts.push(format!("{h} Evidence\n\n{}", evidence.join("\n").trim_end()));
    }
    parts.push(format!("{h} {}", conclusion(record, scenario)));
    let mut out = parts.join("\n\n");
    out.push('\n');
    out
}

fn conclusion(record: &RunRecord, scenario: &ScenarioRecord) -> String {
    let verdict = Verdict::of_scenario(record, scenario);
    let so_far = if verdict::ended(record) || verdict == Verdict::Incomplete { "" } else { " so far" };
    let mut out = format!("Verdict: {} {}{so_far}\n\n{}.", verdict.mark(), verdict.word(), counts(Tally::of(&scenario.checks)));
    if !verdict::ended(record) {
        out.push_str(" The run did not reach its end, so checks of this scenario may be missing.");
    } else if scenario.checks.is_empty() {
        out.push_str(" The scenario was brought up, but nothing was asked of it in this run.");
    }
    out
}

fn manifests(scenario: &ScenarioRecord) -> String {
    let mut out = String::new();
    for manifest in &scenario.manifests {
        let objects: Vec<String> = manifest.objects.iter().map(|o| code(o)).collect();
        let _ = write!(out, "- {}", link(&manifest.file, &format!("../{}/{}", scenario.folder, manifest.file)));
        if !objects.is_empty() {
            let _ = write!(out, ": {}", objects.join(", "));
        }
        out.push('\n');
    }
    out.trim_end().to_owned()
}

fn stages(stages: &[StageRecord]) -> String {
    let mut table =
        Table::new(["state", "what departs from the manifests, and why", "applying took", "proxies had it after", "what showed it"]);
    let mut detail = String::new();
    for stage in stages {
        let about = if stage.about.trim().is_empty() && stage.state == INTACT { "nothing" } else { &stage.about };
        table.row([
            Cell::code(&stage.state),
            Cell::prose(about),
            Cell::ours(seconds(stage.apply_took)),
            Cell::ours(seconds(stage.gate_took)),
            Cell::lines(&stage.gate_facts, "…"),
        ]);
        for (heading, objects) in [("applied", &stage.applied), ("removed", &stage.removed)] {
            if !objects.is_empty() {
                let list: Vec<String> = objects.iter().map(|o| code(o)).collect();
                let _ = writeln!(detail, "- {}, {heading}: {}", code(&stage.state), list.join(", "));
            }
        }
    }
    let mut out = table.finish();
    for stage in stages {
        for notice in &stage.notices {
            let _ = write!(out, "\n- Notice in {}: {}", code(&stage.state), prose(notice));
        }
    }
    if !detail.is_empty() {
        let _ = write!(out, "\n\n<details><summary>Objects applied and removed to reach each state</summary>\n\n{detail}\n</details>");
    }
    out.trim_end().to_owned()
}

fn checks(record: &RunRecord, at: usize, scenario: &ScenarioRecord) -> String {
    // A mesh that ended with the run can be reached by no command; what repeats the check stands with its evidence.
    let heading = if record.again.is_some() { "command, on kind" } else { "command to repeat" };
    let mut table = Table::new(["check", heading, "expected", "observed", "what it proves"]);
    for (c, check) in scenario.checks.iter().enumerate() {
        let more = format!("[in full below](#{})", check_anchor(at, c));
        let mut name = Cell::prose(&check.name).below(Cell::ours(format!("{} **{}**", check_mark(check), check_word(check))));
        if check.given != INTACT {
            name = name.below(Cell::ours("in state")).below(Cell::code(&check.given));
        }
        table.row([name, command(&check.command, &more), Cell::lines(&check.expected, &more), observed(check, &more), proves(check)]);
    }
    let table = table.finish();
    if table.is_empty() { "No outcome of a check of this scenario was recorded.".to_owned() } else { table.trim_end().to_owned() }
}

/// A command of one short line as it is; of any other its beginning, and where the whole is.
fn command(text: &str, more: &str) -> Cell {
    let text = clean(text);
    let text = text.trim();
    // Markdown would swallow line ends and runs of spaces, and the command would be another.
    if !text.contains(['\n', '\t']) && !text.contains("  ") && text.chars().count() <= COMMAND {
        return Cell::code(text);
    }
    let first = text.lines().next().unwrap_or_default();
    // Cut between words: half an argument would look like another argument.
    let mut short = String::new();
    for word in first.split(' ').take_while(|w| *w != "\\") {
        if short.chars().count() + word.chars().count() > COMMAND {
            break;
        }
        short.push_str(word);
        short.push(' ');
    }
    Cell::code(&format!("{short}…")).below(Cell::ours(more))
}

fn observed(check: &CheckRecord, more: &str) -> Cell {
    let seen = Cell::lines(&check.observed, more);
    match &check.outcome {
        Outcome::Passed | Outcome::Failed { .. } => seen,
        Outcome::Flaky => seen.below(Cell::ours(format!("only at attempt {}", check.attempts.len()))),
        Outcome::Error { message } => seen.below(Cell::ours("**not judged:**")).below(Cell::prose(message)),
        Outcome::Skipped { reason } => seen.below(Cell::ours("**not asked:**")).below(Cell::prose(reason)),
    }
}

/// What a check proves is proved only by a green outcome.
fn proves(check: &CheckRecord) -> Cell {
    let text = Cell::prose(&check.proves);
    match &check.outcome {
        Outcome::Passed => text,
        Outcome::Flaky => Cell::ours("**with luck only:**").below(text),
        Outcome::Failed { .. } | Outcome::Error { .. } | Outcome::Skipped { .. } => Cell::ours("**not shown:**").below(text),
    }
}

/// All that an outcome rests on, folded.
fn evidence(record: &RunRecord, (at, scenario): (usize, &ScenarioRecord), c: usize, check: &CheckRecord) -> String {
    let mut out = format!(
        "<a id=\"{}\"></a>\n\n<details><summary>{} {}: {}</summary>\n\n",
        check_anchor(at, c),
        check_mark(check),
        html(&check.name),
        check_word(check)
    );
    let _ = writeln!(
        out,
        "Asked in state {}; {}, {} in all.\n",
        code(&check.given),
        plural(check.attempts.len(), "attempt"),
        seconds(check.took)
    );
    for line in verdict::quarantine(check).into_iter().chain(verdict::history(check)) {
        let _ = writeln!(out, "It is {}.\n", prose(&line));
    }
    let command = to_repeat(record, scenario, check);
    if !command.trim().is_empty() {
        let _ = writeln!(out, "Command to repeat it:\n\n{}", fence("bash", &command));
    }
    for (heading, lines) in [("Expected", &check.expected), ("Observed", &check.observed)] {
        let text = joined(lines);
        if !text.trim().is_empty() {
            let _ = writeln!(out, "{heading}:\n\n{}", fence("text", &text));
        }
    }
    if check.attempts.len() > 1 {
        let mut table = Table::new(["attempt", "after the first", "at", "seen", "not as expected"]);
        for (n, attempt) in check.attempts.iter().enumerate() {
            let wrong = Cell::prose(&attempt.wrong.join("\n"));
            let (number, after) = (Cell::ours((n + 1).to_string()), Cell::ours(seconds(attempt.after)));
            table.row([number, after, Cell::prose(&attempt.at), Cell::prose(&attempt.seen), wrong]);
        }
        let _ = writeln!(out, "{}", table.finish());
    }
    if !check.hops.is_empty() {
        out.push_str("Access-log lines of this call, in path order:\n\n");
        for hop in &check.hops {
            let _ = writeln!(
                out,
                "- {}, pod {}; known to be of this call by {}\n",
                code(&hop.proxy.to_string()),
                code(&hop.pod),
                prose(&hop.joined_by)
            );
            for line in fence("text", &hop.entry.line).lines() {
                let _ = writeln!(out, "  {line}");
            }
            out.push('\n');
        }
    }
    for piece in &check.evidence {
        let _ = writeln!(out, "{}:\n\n{}", prose(&piece.title), fence(&piece.language, &piece.text));
    }
    out.push_str("</details>\n");
    out
}
