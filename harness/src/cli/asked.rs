//! What a command is asked for: scenarios without a mistake, and of their checks those that were named.

use std::io::IsTerminal;
use std::path::Path;

use anstream::eprintln;
use gateproof_core::names::ScenarioId;
use gateproof_core::plan::{Plan, plan};
use gateproof_core::scenario::{Catalogue, load_catalogue};

use super::{EXIT_GREEN, EXIT_INPUT};
use crate::run::trials::trial_name;

/// Prints every mistake below a folder; exit code 2 when there is one or nothing to run.
pub(super) fn check(root: &Path) -> u8 {
    let catalogue = load_catalogue(root);
    let colour = std::io::stderr().is_terminal();
    let mut mistakes = 0;
    for mistake in catalogue.mistakes() {
        mistakes += 1;
        eprintln!("{}\n", mistake.render(colour));
    }
    if mistakes > 0 {
        eprintln!("{mistakes} mistakes in {} of {} scenarios", catalogue.broken.len(), catalogue.broken.len() + catalogue.scenarios.len());
        return EXIT_INPUT;
    }
    if catalogue.scenarios.is_empty() {
        eprintln!("no scenario below {}: a scenario is a directory with a scenario.yaml", root.display());
        return EXIT_INPUT;
    }
    EXIT_GREEN
}

/// The catalogue, or every mistake in it and exit code 2: nothing is touched before the input is right.
pub(super) fn catalogue(root: &Path) -> Result<Catalogue, u8> {
    match check(root) {
        EXIT_GREEN => Ok(load_catalogue(root)),
        code => Err(code),
    }
}

/// A plan of the checks that some filter hits.
pub(super) fn selected(catalogue: &Catalogue, filters: &[String]) -> Result<Plan, u8> {
    let hits = |scenario: &ScenarioId, check: &str| {
        let name = trial_name(scenario, check);
        filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()))
    };
    for filter in filters {
        let lost = !catalogue.scenarios.iter().any(|s| s.checks.iter().any(|c| trial_name(&s.id, &c.name).contains(filter.as_str())));
        if lost {
            eprintln!("error: no check's name has `{filter}` in it; `gateproof list` prints them all");
            return Err(EXIT_INPUT);
        }
    }
    Ok(plan(catalogue, &hits))
}
