//! The comparison as a page.

use std::fmt::Write;

use super::{ComparedCheck, Facts, Parity};

fn words(seen: Option<&Facts>) -> String {
    let Some(facts) = seen else { return "not reached".to_owned() };
    let mut parts = vec![facts.outcome.clone()];
    if !facts.answer.is_empty() {
        parts.push(facts.answer.clone());
    }
    parts.extend(facts.hops.iter().cloned());
    parts.join("; ").replace('|', "\\|")
}

/// Markdown: what agrees in a line each, and everything that differs.
#[must_use]
pub fn table(parity: &Parity) -> String {
    let [a, b] = &parity.providers;
    let agreeing = parity.checks.iter().filter(|c| c.agrees()).count();
    let mut out = format!("# Parity of {a} and {b}\n\n{agreeing} of {} checks agree in outcome, answer and path.\n\n", parity.checks.len());
    let differing: Vec<&ComparedCheck> = parity.checks.iter().filter(|c| !c.agrees()).collect();
    if !differing.is_empty() {
        let _ = writeln!(out, "## Checks that differ\n\n| check | {a} | {b} |\n| --- | --- | --- |");
        for check in differing {
            let _ = writeln!(out, "| {} | {} | {} |", check.name, words(check.seen[0].as_ref()), words(check.seen[1].as_ref()));
        }
        out.push('\n');
    }
    if !parity.states.is_empty() {
        let _ = writeln!(out, "## Configuration of the proxies\n\n| state | resources compared | differ |\n| --- | --- | --- |");
        for state in &parity.states {
            let _ = writeln!(out, "| {} | {} | {} |", state.name, state.resources, state.differences.len());
        }
        for state in parity.states.iter().filter(|s| !s.differences.is_empty()) {
            let _ = writeln!(out, "\n<details><summary>{}: {} differ</summary>\n\n```text", state.name, state.differences.len());
            for difference in &state.differences {
                let _ = writeln!(out, "{difference}");
            }
            let _ = writeln!(out, "```\n</details>");
        }
        out.push('\n');
    }
    let _ = writeln!(out, "## Checks that agree\n\n| check | both |\n| --- | --- |");
    for check in parity.checks.iter().filter(|c| c.agrees()) {
        let _ = writeln!(out, "| {} | {} |", check.name, words(check.seen[0].as_ref()));
    }
    out
}
