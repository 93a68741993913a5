//! The report as one page of GitHub-flavoured Markdown.

mod background;
pub(super) mod changes;
pub(super) mod closing;
mod head;
pub(super) mod mechanism;
pub(super) mod mermaid;
mod scenario;
mod troubleshooting;

use std::fmt::Write as _;

use super::record::{RunRecord, ScenarioRecord};
use super::text::prose;

/// The tag of scenarios that show where a run begins, rather than what it is about.
const PRE_CHECK: &str = "pre-check";

/// A part of the page with a heading of its own.
struct Section {
    anchor: String,
    /// Escaped.
    title: String,
    body: String,
}

impl Section {
    fn new(anchor: impl Into<String>, title: impl Into<String>, body: String) -> Self {
        Self { anchor: anchor.into(), title: title.into(), body }
    }
}

/// The anchor of a scenario's part, by its place in the record.
fn scenario_anchor(at: usize) -> String {
    format!("scenario-{}", at + 1)
}

/// The anchor of a check's evidence, by the places of scenario and check in the record.
fn check_anchor(scenario: usize, check: usize) -> String {
    format!("evidence-{}-{}", scenario + 1, check + 1)
}

fn is_pre_check(scenario: &ScenarioRecord) -> bool {
    scenario.tags.iter().any(|t| t == PRE_CHECK)
}

/// The whole page. `previous` is the record of the last report, for "what changed".
///
/// Links to scenarios lead from `reports/`; the page is to be saved there, beside the record under the same stem.
#[must_use]
pub fn render(record: &RunRecord, previous: Option<&RunRecord>) -> String {
    let mut sections = vec![
        Section::new("versions", "What it ran on", head::ran_on(record)),
        Section::new("background", "Background: the paths that were seen", background::paths(record)),
        Section::new("pre-checks", "Pre-checks: where the run began", background::pre_checks(record)),
    ];
    for (at, scenario) in record.scenarios.iter().enumerate().filter(|(_, s)| !is_pre_check(s)) {
        let title = format!("{}: {}", prose(scenario.id.as_str()), prose(&scenario.title));
        sections.push(Section::new(scenario_anchor(at), title, scenario::body(record, at, scenario, 3)));
    }
    sections.extend([
        Section::new("not-tested", "Deliberately not tested", closing::not_tested(record)),
        Section::new("troubleshooting", "Troubleshooting", troubleshooting::body(record)),
        Section::new("times", "Time of each step", closing::times(record)),
        Section::new("reproduce", "Commands to reproduce from scratch", closing::reproduce(record)),
        Section::new("next-work", "Next work", closing::per_scenario(record, |s| &s.next_work)),
        Section::new("key-points", "Key points", closing::per_scenario(record, |s| &s.key_points)),
        Section::new("might-be-missing", "What you might be missing", closing::per_scenario(record, |s| &s.might_be_missing)),
        Section::new("changes", "What changed since the last report", changes::body(record, previous)),
        Section::new("related", "Related files", closing::related(record)),
    ]);
    sections.retain(|s| !s.body.trim().is_empty());

    let mut out = head::front_matter(record);
    let _ = writeln!(out, "# {}\n", head::title(record));
    out.push_str(&head::summary(record));
    out.push_str("\n## Contents\n\n");
    for (n, section) in sections.iter().enumerate() {
        let _ = writeln!(out, "{}. [{}](#{})", n + 1, section.title, section.anchor);
    }
    for (n, section) in sections.iter().enumerate() {
        let _ = write!(out, "\n---\n\n<a id=\"{}\"></a>\n\n## {}. {}\n\n{}\n", section.anchor, n + 1, section.title, section.body.trim());
    }
    out.push_str("\n---\n\n");
    out.push_str("The record of this run, from which this page was made, is the JSON file beside it: the same name, ending in `.json`.\n");
    out
}
