//! GitHub's workflow commands: a group for each scenario, an annotation for each failure at its line of the scenario.
//! Source: GitHub's documentation, "Workflow commands for GitHub Actions" (`group`, `error`, and how texts are escaped).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gateproof_core::names::ScenarioId;
use gateproof_core::outcome::{Outcome, redact};
use gateproof_core::report::CheckRecord;

use crate::run::Event;

/// GitHub shows so many errors of a step.
const MOST: usize = 10;

/// What is said on GitHub beside the plain lines.
pub(super) struct Annotations {
    groups: bool,
    open: AtomicBool,
    told: AtomicUsize,
}

impl Annotations {
    /// With groups, or with errors alone.
    pub(super) fn new(groups: bool) -> Self {
        Self { groups, open: AtomicBool::new(false), told: AtomicUsize::new(0) }
    }

    /// Lines before those of the event.
    pub(super) fn before(&self, event: &Event) -> Vec<String> {
        let mut out = Vec::new();
        if !self.groups || !matches!(event, Event::ScenarioStarted(..) | Event::Finished(..)) {
            return out;
        }
        if self.open.swap(false, Ordering::SeqCst) {
            out.push("::endgroup::".to_owned());
        }
        if let Event::ScenarioStarted(id, title) = event {
            out.push(format!("::group::{}", escape(&format!("{id}: {title}"))));
            self.open.store(true, Ordering::SeqCst);
        }
        out
    }

    /// Lines after those of the event.
    pub(super) fn after(&self, event: &Event) -> Vec<String> {
        let Event::CheckFinished(id, check) = event else { return Vec::new() };
        if !check.counts_red() || self.told.fetch_add(1, Ordering::SeqCst) >= MOST {
            return Vec::new();
        }
        // Paths are those of the repository; under `cargo test` the working folder is one below.
        let file = format!("scenarios/{id}/scenario.yaml");
        let text = [file.clone(), format!("../{file}")].iter().find_map(|f| std::fs::read_to_string(Path::new(f)).ok());
        vec![error(id, check, &file, text.as_deref().and_then(|t| line_of(t, &check.name)))]
    }
}

/// The annotation of one failure.
fn error(id: &ScenarioId, check: &CheckRecord, file: &str, line: Option<usize>) -> String {
    let what: Vec<String> = match &check.outcome {
        Outcome::Failed { mismatches } => {
            mismatches.iter().map(|m| format!("{}: expected {}, observed {}", m.what, m.expected, m.observed)).collect()
        }
        Outcome::Error { message } => vec![format!("could not be judged: {message}")],
        _ => Vec::new(),
    };
    let cause = check.cause.iter().map(|cause| format!("cause: {}", cause.sentences()));
    let what = redact(&cause.chain(what).chain(check.diagnosis.iter().cloned()).collect::<Vec<_>>().join("\n"));
    let line = line.map(|n| format!(",line={n}")).unwrap_or_default();
    format!("::error file={}{line},title={}::{}", property(file), property(&format!("{id}: {}", check.name)), escape(&what))
}

/// The line of a scenario's text in which a check is named; 1-based.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let named = |line: &str| {
        let Some((_, behind)) = line.split_once("name:") else { return false };
        let behind = behind.trim_start();
        [name.to_owned(), format!("\"{name}\""), format!("'{name}'")].iter().any(|n| {
            let rest = behind.strip_prefix(n.as_str());
            rest.is_some_and(|r| r.is_empty() || r.starts_with([',', '}', ' ', '\r']))
        })
    };
    // Variations may have the same name; checks stand after them.
    text.lines().enumerate().filter(|(_, line)| named(line)).map(|(n, _)| n + 1).last()
}

/// A message, so that it stays one.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property, in which `:` and `,` mean something too.
fn property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use gateproof_core::outcome::{EvidenceKind, Mismatch};

    use super::*;

    fn failed(name: &str) -> CheckRecord {
        let mismatch =
            Mismatch { what: "status".into(), expected: "200".into(), observed: "50%\n::error::x".into(), by: EvidenceKind::Traffic };
        let value = serde_json::json!({
            "name": name, "proves": "", "given": "intact", "command": "", "expected": [], "observed": [],
            "outcome": {"outcome": "failed", "mismatches": [mismatch]}, "attempts": [], "took": 0.0, "hops": [],
            "caller": null, "destination": null, "evidence": [], "diagnosis": ["No route, at all: none."]
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_failure_is_one_command_whatever_it_says() {
        let id = ScenarioId::new("10-ingress").unwrap();
        let text = error(&id, &failed("a, b: c"), "scenarios/10-ingress/scenario.yaml", Some(7));
        assert_eq!(
            text,
            "::error file=scenarios/10-ingress/scenario.yaml,line=7,title=10-ingress%3A a%2C b%3A c::\
             status: expected 200, observed 50%25%0A::error::x%0ANo route, at all: none."
        );
    }

    #[test]
    fn a_check_is_found_by_its_name_however_it_is_quoted() {
        let text = "variations:\n  - name: a\nchecks:\n  - name: a\n  - name: \"b: c\"\n  - {name: d, proves: x}\n  - name: ab\n";
        assert_eq!([line_of(text, "a"), line_of(text, "b: c"), line_of(text, "d"), line_of(text, "e")], [Some(4), Some(5), Some(6), None]);
    }

    #[test]
    fn groups_are_closed_and_errors_are_bounded() {
        let annotations = Annotations::new(true);
        let id = ScenarioId::new("x").unwrap();
        let started = Event::ScenarioStarted(id.clone(), "T".to_owned());
        assert_eq!(annotations.before(&started), ["::group::x: T"]);
        assert_eq!(annotations.before(&started), ["::endgroup::", "::group::x: T"]);
        let finished = Event::CheckFinished(id, Box::new(failed("n")));
        let told: usize = (0..20).map(|_| annotations.after(&finished).len()).sum();
        assert_eq!(told, MOST);
        assert!(Annotations::new(false).before(&started).is_empty());
    }
}
