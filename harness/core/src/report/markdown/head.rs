//! Front matter, title, summary, and what the run ran on.

use std::fmt::Write as _;

use super::{check_anchor, scenario_anchor};
use crate::outcome::Outcome;
use crate::report::record::{CheckRecord, RunRecord, Tally, VersionRecord};
use crate::report::text::{Cell, Table, clean, code, plain, prose, shorten, yaml};
use crate::report::verdict::{self, Verdict, counts_in, minute, plural, seconds};

/// YAML between two `---`.
pub(super) fn front_matter(record: &RunRecord) -> String {
    let mut tags: Vec<String> = ["istio", "gateway", "report"].into_iter().map(str::to_owned).collect();
    let of_scenarios = record.scenarios.iter().flat_map(|s| &s.tags).map(String::as_str);
    for tag in std::iter::once(record.provider.name.as_str()).chain(of_scenarios) {
        let tag = yaml(tag);
        if !tags.contains(&tag) && tag != "\"\"" {
            tags.push(tag);
        }
    }
    let created = verdict::date(&record.started).map_or_else(|| yaml(&record.started), str::to_owned);
    format!("---\ntype: report\ntags: [{}]\ncreated: {created}\n---\n\n", tags.join(", "))
}

/// The page's title, for a heading.
pub(super) fn title(record: &RunRecord) -> String {
    match record.scenarios.as_slice() {
        [one] => format!("Test report: {}", prose(&one.title)),
        many => format!("Test report: {} on {}", plural(many.len(), "scenario"), prose(&verdict::provider(record))),
    }
}

/// The verdict and what it rests on, in an alert; then a line for each scenario.
pub(super) fn summary(record: &RunRecord) -> String {
    let run = Verdict::of_run(record);
    let tally = verdict::tally(record);
    let mut lines = vec![format!(
        "**{}** on {}, cluster {}, {}.",
        run.word(),
        prose(&verdict::provider(record)),
        code(&record.provider.cluster),
        prose(&record.provider.origin)
    )];
    let took = verdict::took(record).map(|s| format!(" The run took {}.", seconds(s))).unwrap_or_default();
    lines.push(format!("{}.{took}", counts_in(tally, &format!(" in {}", plural(record.scenarios.len(), "scenario")))));
    if record.provider.name == "embedded" {
        lines.push(
            "The mesh was simulated inside gateproof. No Envoy and no istiod ran, so this is no proof about a real Istio.".to_owned(),
        );
    }
    lines.extend(meaning(run, tally).map(str::to_owned));
    lines.extend(how_it_ended(record));
    for told in verdict::told(record) {
        let item = |(c, check): &(usize, &CheckRecord)| {
            let why = match &check.outcome {
                Outcome::Failed { mismatches } => mismatches.first().map(|m| {
                    format!("{}: expected {}, observed {}", m.what, shorten(&plain(&m.expected), 120), shorten(&plain(&m.observed), 120))
                }),
                Outcome::Error { message } => Some(format!("could not be judged: {}", shorten(&plain(message), 200))),
                Outcome::Flaky => Some(format!("flaky, {}", plural(check.attempts.len(), "attempt"))),
                Outcome::Passed | Outcome::Skipped { .. } => None,
            };
            // One that fails for the third time reads differently from one that fails for the first.
            let more = verdict::quarantine(check).into_iter().chain(verdict::history(check));
            let why = why.map(|why| more.fold(why, |all, more| format!("{all} ({more})")))?;
            let name = format!("{} / {}", prose(told.scenario.id.as_str()), prose(&check.name));
            Some(format!("[{name}](#{}): {}", check_anchor(told.at, *c), prose(&why)))
        };
        let items: Vec<String> = told.checks.iter().filter_map(item).collect();
        // The cause once, above the checks that it made red.
        if let Some(cause) = &told.first().cause {
            lines.push(format!("- **Likely cause:** {}", prose(&cause.sentences())));
        }
        let indent = if told.first().cause.is_some() { "  " } else { "" };
        lines.extend(items.into_iter().map(|item| format!("{indent}- {item}")));
    }
    let mut out = format!("> [!{}]\n", run.alert());
    let mut in_list = false;
    for line in &lines {
        // A list needs no empty line between its items; paragraphs do.
        if !(out.ends_with("]\n") || in_list && line.trim_start().starts_with("- ")) {
            out.push_str(">\n");
        }
        in_list = line.trim_start().starts_with("- ");
        let _ = writeln!(out, "> {line}");
    }
    out.push('\n');
    out.push_str(&tallies(record));
    out
}

/// What a verdict other than "passed" means for the reader.
fn meaning(run: Verdict, tally: Tally) -> Option<&'static str> {
    match run {
        Verdict::Flaky => {
            Some("Every check came out as expected in the end, but not each at its first attempt. A flaky check is not a pass.")
        }
        Verdict::Quarantined => Some("What is not in quarantine came out as expected. What is does not count, and is no pass."),
        Verdict::NothingAsked if tally.skipped > 0 => Some("Every check was skipped. This run proves nothing."),
        Verdict::NothingAsked => Some("No check was asked. This run proves nothing."),
        Verdict::NotJudged => Some("Nothing was seen to be wrong, but not everything could be looked at. This is no pass."),
        Verdict::Passed | Verdict::Failed | Verdict::Incomplete => None,
    }
}

/// For a run without a proper end: that, and what is missing.
fn how_it_ended(record: &RunRecord) -> Option<String> {
    if verdict::ended(record) {
        return None;
    }
    let mut out = match (&record.finished, &record.ended_early) {
        (None, Some(why)) => format!("**The run did not end.** It stopped early: {}.", prose(why.trim_end_matches('.'))),
        (None, None) => "**The run did not end.** It died, or was still under way when this page was written.".to_owned(),
        (Some(_), why) => format!("**The run ended early:** {}.", prose(why.as_deref().unwrap_or("no reason given").trim_end_matches('.'))),
    };
    if let Some(step) = record.steps.last() {
        let _ = write!(out, " The last step recorded is {}.", code(&step.name));
    }
    match verdict::checks(record).last() {
        Some((s, c)) => {
            let _ = write!(out, " The last check recorded is {} of {}.", code(&c.name), code(s.id.as_str()));
        }
        None => out.push_str(" No check was recorded."),
    }
    let without: Vec<String> = record.scenarios.iter().filter(|s| s.checks.is_empty()).map(|s| code(s.id.as_str())).collect();
    if !without.is_empty() {
        let _ = write!(out, " No outcome is known for any check of {}.", without.join(", "));
    }
    out.push_str(" Whatever was to come after that is missing here.");
    Some(out)
}

fn tallies(record: &RunRecord) -> String {
    let verdict = if verdict::ended(record) { "verdict" } else { "verdict so far" };
    let mut table = Table::new(["scenario", verdict, "passed", "flaky", "failed", "not judged", "skipped"]);
    for (at, scenario) in record.scenarios.iter().enumerate() {
        let tally = Tally::of(&scenario.checks);
        let verdict = Verdict::of_scenario(record, scenario);
        let aside = if tally.quarantined > 0 { format!(" ({} quarantined)", tally.quarantined) } else { String::new() };
        let [passed, flaky, failed, errors, skipped] =
            [tally.passed, tally.flaky, tally.failed, tally.errors, tally.skipped].map(|n| Cell::ours(n.to_string()));
        table.row([
            Cell::ours(format!("[{}](#{})", scenario.id, scenario_anchor(at))),
            Cell::ours(format!("{} {}{aside}", verdict.mark(), verdict.word())),
            passed,
            flaky,
            failed,
            errors,
            skipped,
        ]);
    }
    table.finish()
}

/// Provider, versions, stand-ins and gateways.
pub(super) fn ran_on(record: &RunRecord) -> String {
    let provider = &record.provider;
    let mut table = Table::new(["what", "value"]);
    let ended = match &record.finished {
        Some(time) => Cell::prose(&minute(time)),
        None => Cell::ours("**not ended**"),
    };
    for (what, value) in [
        ("provider", Cell::prose(&verdict::provider(record))),
        ("why this provider", Cell::prose(&provider.chosen)),
        ("cluster", Cell::code(&provider.cluster).below(Cell::prose(&provider.origin))),
        ("context", Cell::code(&provider.context)),
        ("started", Cell::prose(&minute(&record.started))),
        ("ended", ended),
        ("invoked as", Cell::code(&record.invoked)),
        ("gateproof", Cell::prose(&record.gateproof)),
    ] {
        table.row([Cell::ours(what), value]);
    }
    let mut out = table.finish();
    let simulated = provider.name == "embedded";
    let source = if simulated { "as the simulated mesh gives them" } else { "as read from the cluster" };
    let _ = write!(out, "\n**Versions, {source}**\n\n");
    let mut versions = Table::new(["what", "observed", "declared"]);
    for v in &record.versions {
        versions.row([Cell::prose(&v.what), Cell::prose(&v.observed), declared(v)]);
    }
    out.push_str(&or_none(versions.finish(), "None was read."));
    if !record.warnings.is_empty() {
        out.push_str("\n> [!WARNING]\n");
        for warning in &record.warnings {
            let _ = writeln!(out, "> - {}", prose(warning));
        }
    }
    out.push_str("\n**Hosts outside the mesh**\n\n");
    let mut outside = Table::new(["host", "stand-in or real", "addresses", "served by"]);
    for o in &record.outside {
        outside.row([Cell::code(&o.host), Cell::prose(&o.kind), Cell::prose(&o.addresses.join("\n")), Cell::prose(&o.served_by)]);
    }
    out.push_str(&or_none(outside.finish(), "None."));
    out.push_str("\n**Gateways**\n\n");
    let mut gateways = Table::new(["gateway", "labels", "reached at"]);
    for g in &record.gateways {
        let labels = g.labels.iter().fold(Cell::ours(""), |cells, l| cells.below(Cell::code(l)));
        gateways.row([Cell::code(&g.at.to_string()), labels, Cell::prose(&g.reached)]);
    }
    out.push_str(&or_none(gateways.finish(), "None."));
    out
}

/// What was declared, marked where something else was read.
fn declared(version: &VersionRecord) -> Cell {
    let Some(declared) = &version.declared else { return Cell::ours("") };
    let bare = |s: &str| clean(s).trim().trim_start_matches('v').to_owned();
    let same = bare(declared) == bare(&version.observed);
    if same { Cell::prose(declared) } else { Cell::prose(declared).below(Cell::ours("**differs**")) }
}

/// A table, or an honest word that there is nothing to show.
pub(super) fn or_none(table: String, none: &str) -> String {
    if table.is_empty() { format!("{none}\n") } else { table }
}
