//! `lint`, `list`, `plan` and `schema`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstream::{eprintln, print, println};
use gateproof_core::scenario::{exceptions_schema, load_catalogue_with, schema as scenario_schema};

use gateproof_core::plan::{Schedule, apply_waves, dangling, objects_in};

use super::asked::{SelectFlags, catalogue, not_expired, select};
use super::{Common, EXIT_GREEN, EXIT_INPUT};
use crate::run::trials::{trial_name, trial_names};

/// What of a plan, and of which.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PlanFlags {
    #[command(flatten)]
    select: SelectFlags,
    /// Print which scenarios `run --parallel` runs beside each other, and what keeps the others apart
    #[arg(long)]
    parallel: bool,
}

/// Prints every mistake below a folder, and how many checks there are when there is none.
pub(super) fn lint(common: &Common) -> u8 {
    let looked = catalogue(common).and_then(|found| not_expired(&found).map(|()| found));
    let found = match looked {
        Ok(found) => found,
        Err(code) => return code,
    };
    let checks: usize = found.scenarios.iter().map(|s| s.checks.len()).sum();
    println!("{} scenarios with {checks} checks, no mistake", found.scenarios.len());
    let quarantined: usize = found.scenarios.iter().map(|s| s.exceptions.quarantined.len()).sum();
    let skipped = gateproof_core::plan::plan(&found, &|_, _| true).skipped.len();
    for (n, what) in [(quarantined, "in quarantine"), (skipped, "skipped")] {
        if n > 0 {
            println!("{n} of them {what}: {}", common.scenarios.join("exceptions.yaml").display());
        }
    }
    EXIT_GREEN
}

/// Prints every check's name, also where some scenario has a mistake.
pub(super) fn list(common: &Common) -> u8 {
    let answer = || -> Result<u8, u8> {
        let code = catalogue(common).err().unwrap_or(EXIT_GREEN);
        for (scenario, check) in trial_names(&load_catalogue_with(&common.scenarios, &common.overrides()?)) {
            println!("{}", trial_name(&scenario, &check));
        }
        Ok(code)
    };
    answer().unwrap_or_else(|code| code)
}

/// Prints what a run would do.
pub(super) fn plan(common: &Common, flags: &PlanFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let plan = select(&catalogue(common)?, &flags.select)?;
        if flags.parallel {
            print!("{}", beside(&Schedule::of(&plan)));
            return Ok(EXIT_GREEN);
        }
        for gateway in &plan.gateways {
            println!("gateway {}", gateway.at);
        }
        for host in &plan.outside {
            println!("outside host {} ({} address(es))", host.host, host.addresses);
        }
        for planned in &plan.scenarios {
            let beneath: Vec<String> = planned.beneath.iter().map(|s| s.id.to_string()).collect();
            let on = if beneath.is_empty() { String::new() } else { format!(" on {}", beneath.join(", ")) };
            println!("{}{on}: {}", planned.scenario.id, planned.scenario.title);
            for stage in &planned.stages {
                let state = match objects_in(&planned.scenario, &stage.state) {
                    Ok(state) => state,
                    Err(error) => {
                        eprintln!("error: {error}");
                        return Err(EXIT_INPUT);
                    }
                };
                println!("  state {}", stage.state);
                let objects: Vec<_> = state.objects.iter().collect();
                for (n, wave) in apply_waves(&objects).waves.iter().enumerate() {
                    let names: Vec<String> = wave.iter().map(|i| objects[*i].key.to_string()).collect();
                    println!("    wave {}: {}", n + 1, names.join(", "));
                }
                for notice in dangling(&objects, &planned.known()) {
                    println!("    note: {notice}");
                }
                for check in &stage.checks {
                    println!("    check {}", planned.scenario.checks[*check].name);
                }
            }
        }
        for skipped in &plan.skipped {
            let check = trial_name(&skipped.scenario.id, &skipped.scenario.checks[skipped.check].name);
            println!("skipped {check}: {}", skipped.reason);
        }
        Ok(EXIT_GREEN)
    };
    answer().unwrap_or_else(|code| code)
}

/// Of every unit, whom it can run beside, and what keeps it from the others.
fn beside(schedule: &Schedule) -> String {
    let units = schedule.units();
    let mut out = String::new();
    for (i, unit) in units.iter().enumerate() {
        let states: Vec<&str> = unit.planned.stages.iter().map(|s| s.state.as_str()).collect();
        let _ = writeln!(out, "{} in {}", unit.planned.scenario.id, states.join(", "));
        if unit.is_alone() {
            out.push_str("  alone: it has the whole mesh\n");
            continue;
        }
        let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (j, other) in units.iter().enumerate().filter(|(j, other)| *j != i && !other.is_alone()) {
            let reason = schedule.clash(i, j).map_or("  beside".to_owned(), |over| format!("  not beside, for {over}:"));
            reasons.entry(reason).or_default().push(other.planned.scenario.id.to_string());
        }
        for (reason, others) in reasons {
            let _ = writeln!(out, "{reason} {}", others.join(", "));
        }
    }
    out
}

/// Prints a schema.
pub(super) fn schema(of: &str) -> u8 {
    let schema = match of {
        "exceptions" => exceptions_schema(),
        "record" => gateproof_core::report::record_schema(),
        _ => scenario_schema(),
    };
    println!("{schema:#}");
    EXIT_GREEN
}
