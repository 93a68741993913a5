//! The pages that say which file is what. Named so that a forge shows them with their folder.

use std::fmt::Write as _;

use gateproof_core::names::ScenarioId;
use gateproof_core::outcome::Outcome;

use super::gather::{Gathered, Got};
use super::{Bounds, Red};

/// An index's file name.
pub(super) const FILE: &str = "README.md";

/// A red state of the run.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) scenario: ScenarioId,
    pub(super) state: String,
    pub(super) checks: Vec<String>,
    /// Below the run's folder; None when nothing was collected of it.
    pub(super) place: Option<String>,
}

/// Any text as code on one line.
fn code(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "'");
    let text = super::tidy::first(&text, 1500).replace('\n', " ");
    if text.is_empty() { "–".to_owned() } else { format!("`{}`", text.trim()) }
}

/// The same in a table's cell.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// The run's page.
pub(super) fn of_run(states: &[State], at_most: usize) -> String {
    let mut out = String::from(
        "# Diagnostics\n\nCollected from the cluster after a state turned out red, before anything was changed. Keys, tokens and \
         certificate bodies are taken out.\n",
    );
    for state in states {
        let name = format!("{}, state {}", code(state.scenario.as_str()), code(&state.state));
        let _ = match &state.place {
            Some(place) => writeln!(out, "\n- {name}: [{place}]({place}/{FILE})"),
            None => {
                writeln!(out, "\n- {name}: **not collected**, at most {at_most} states of a run are, or its folder could not be written")
            }
        };
        for check in &state.checks {
            let _ = writeln!(out, "  - {}", code(check));
        }
    }
    out
}

/// One state's page.
pub(super) fn of_state(red: &Red<'_>, gathered: &Gathered, bounds: Bounds) -> String {
    let mut out = format!("# Diagnostics of {}, state {}\n\n", code(red.planned.scenario.id.as_str()), code(&red.stage.state));
    let _ = writeln!(
        out,
        "Collected in {:.1} s, before anything was changed. \"Since the state\" means since {}, when the cluster began to be \
         brought into it; times are in UTC. Keys, tokens and certificate bodies are taken out.\n",
        gathered.took,
        red.since.strftime("%Y-%m-%dT%H:%M:%SZ")
    );
    out.push_str("## What was red\n\n");
    if let Some(why) = red.not_reached {
        let _ = writeln!(out, "The state was not reached: {}\n\nSo none of its checks was asked:\n", code(why));
    }
    for check in &red.checks {
        let _ = writeln!(out, "- {}", code(&check.name));
        if let Some(cause) = &check.cause {
            let _ = writeln!(out, "  - likely cause: {}", code(&cause.sentences()));
        }
        match &check.outcome {
            Outcome::Failed { mismatches } => {
                for m in mismatches {
                    let _ = writeln!(out, "  - {}: expected {}, observed {}", code(&m.what), code(&m.expected), code(&m.observed));
                }
            }
            Outcome::Error { message } if red.not_reached.is_none() => {
                let _ = writeln!(out, "  - could not be judged: {}", code(message));
            }
            _ => {}
        }
        for line in &check.diagnosis {
            let _ = writeln!(out, "  - {}", code(line));
        }
    }
    out.push_str("\n## What stands out\n\n");
    if gathered.odd.is_empty() {
        out.push_str(
            "Nothing: pods are up, proxies are in sync, nothing in them points at something they lack, and the analysis is clean.\n",
        );
    }
    for line in gathered.odd.iter().take(40) {
        let _ = writeln!(out, "- {}", code(line));
    }
    if gathered.odd.len() > 40 {
        let _ = writeln!(out, "- and {} more, in the files below", gathered.odd.len() - 40);
    }
    out.push_str("\n## Files\n\n| file | what |\n| --- | --- |\n");
    for (about, got) in &gathered.files {
        if let Got::File { name, note } = got {
            let _ = writeln!(out, "| [{name}]({name}) | {about}{} |", if note.is_empty() { String::new() } else { format!("; {note}") });
        }
    }
    let rest: Vec<_> = gathered.files.iter().filter(|(_, got)| !matches!(got, Got::File { .. })).collect();
    if !rest.is_empty() {
        out.push_str("\n## Without a file\n\n| what | why |\n| --- | --- |\n");
        for (about, got) in rest {
            let why = match got {
                Got::Nothing => "there is nothing".to_owned(),
                Got::Failed(why) => cell(why),
                Got::Pending | Got::File { .. } => format!("not done within {} s for all of it", bounds.time.as_secs()),
            };
            let _ = writeln!(out, "| {about} | {why} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_page_names_what_was_not_collected() {
        let state = |name: &str, place: Option<&str>| State {
            scenario: ScenarioId::new("20-egress/dual-gateway").unwrap(),
            state: name.to_owned(),
            checks: vec!["a `check`".to_owned()],
            place: place.map(str::to_owned),
        };
        let page = of_run(&[state("intact", Some("20-egress_dual-gateway/intact")), state("trap", None)], 1);
        assert!(page.contains("[20-egress_dual-gateway/intact](20-egress_dual-gateway/intact/README.md)"), "{page}");
        assert!(page.contains("`trap`: **not collected**") && page.contains("`a 'check'`"), "{page}");
    }
}
