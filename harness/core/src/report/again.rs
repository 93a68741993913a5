//! How a check is asked again: by its command, or, where the mesh ended with the run, by running it again.

use std::borrow::Cow;

use super::record::{CheckRecord, RunRecord, ScenarioRecord};
use crate::scenario::INTACT;

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What repeats a check. The command of a call speaks to a cluster; of a mesh that ended with the run nothing is left that it could
/// reach, so there the run of this one check comes first, and the command with what it needs.
pub(super) fn to_repeat(record: &RunRecord, scenario: &ScenarioRecord, check: &CheckRecord) -> String {
    let Some(again) = &record.again else { return check.command.clone() };
    let mut out = format!("{} {}", again.run, quoted(&format!("{}::{}", scenario.id, check.name)));
    if !check.command.trim().is_empty() {
        let state = if check.given == INTACT { String::new() } else { format!(" {}", quoted(&check.given)) };
        out.push_str(&format!(
            "\n# or by hand on kind, with the addresses of its gateways, after: eval \"$({} {}{state})\"\n{}",
            again.hold, scenario.id, check.command
        ));
    }
    out
}

/// The record with, as each check's command, what repeats it.
pub(super) fn with_commands(record: &RunRecord) -> Cow<'_, RunRecord> {
    if record.again.is_none() {
        return Cow::Borrowed(record);
    }
    let mut out = record.clone();
    for (scenario, before) in out.scenarios.iter_mut().zip(&record.scenarios) {
        for (check, asked) in scenario.checks.iter_mut().zip(&before.checks) {
            check.command = to_repeat(record, before, asked);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::super::{html, junit, render, sample, summary};
    use super::*;

    #[test]
    fn of_a_simulated_mesh_each_form_says_what_really_repeats_a_check() {
        let mut record = sample::red();
        record.again = sample::embedded().again;
        let red = verdict_of(&record);
        assert!(red.1.command.starts_with("curl") || red.1.command.starts_with("kubectl"), "{}", red.1.command);
        let wanted = format!("gateproof run --provider embedded --scenarios mine '{}::{}'", red.0.id, red.1.name);
        for page in [summary(&record, None), junit(&record), render(&record, None), html(&record, None)] {
            let page = page.replace("&#39;", "'").replace("&apos;", "'").replace("&quot;", "\"");
            assert!(page.contains(&wanted), "{wanted} is not in\n{page}");
            assert!(page.contains("gateproof hold --provider kind --scenarios mine"), "{page}");
        }
    }

    fn verdict_of(record: &RunRecord) -> (&ScenarioRecord, &CheckRecord) {
        super::super::verdict::checks(record).find(|(_, c)| matches!(c.outcome, crate::outcome::Outcome::Failed { .. })).unwrap()
    }

    #[test]
    fn of_a_cluster_the_command_repeats_it() {
        let record = sample::red();
        assert!(matches!(with_commands(&record), Cow::Borrowed(_)));
        let (scenario, check) = verdict_of(&record);
        assert_eq!(to_repeat(&record, scenario, check), check.command);
    }
}
