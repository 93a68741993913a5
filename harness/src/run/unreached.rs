//! Checks that a run was to ask and did not come to.

use gateproof_core::outcome::Outcome;
use gateproof_core::plan::Plan;
use gateproof_core::report::{NOT_REACHED, RunRecord};

use super::check;
use super::engine::blank_scenario;

/// Gives each planned check that has no record one that says why, its scenario included, and puts checks into the
/// scenario's order: a run that is broken off leaves them as they came.
pub(super) fn fill(record: &mut RunRecord, plan: &Plan, why: &str) {
    for planned in &plan.scenarios {
        let scenario = &planned.scenario;
        let at = record.scenarios.iter().position(|s| s.id == scenario.id).unwrap_or_else(|| {
            record.scenarios.push(blank_scenario(scenario));
            record.scenarios.len() - 1
        });
        let checks = &mut record.scenarios[at].checks;
        for i in planned.selected_checks() {
            let check = &scenario.checks[i];
            if !checks.iter().any(|c| c.name == check.name) {
                let record = check::unasked(check, Outcome::Skipped { reason: format!("{NOT_REACHED}: {why}") });
                checks.push(check::marked(scenario, record));
            }
        }
        checks.sort_by_key(|c| scenario.checks.iter().position(|known| known.name == c.name));
    }
}

#[cfg(test)]
mod tests {
    use gateproof_core::plan::plan;
    use gateproof_core::report::{ProviderRecord, RECORD_SCHEMA};
    use gateproof_core::scenario::load_catalogue;

    use super::*;

    fn blank() -> RunRecord {
        RunRecord {
            schema: RECORD_SCHEMA,
            started: String::new(),
            finished: None,
            gateproof: String::new(),
            invoked: String::new(),
            provider: ProviderRecord {
                name: String::new(),
                chosen: String::new(),
                cluster: String::new(),
                context: String::new(),
                origin: String::new(),
            },
            versions: vec![],
            warnings: vec![],
            outside: vec![],
            gateways: vec![],
            preflight: vec![],
            steps: vec![],
            scenarios: vec![],
            reproduce: vec![],
            again: None,
            diagnostics: None,
            ended_early: Some("interrupted by a signal".to_owned()),
        }
    }

    #[test]
    fn every_planned_check_has_a_record_in_order_and_outcomes_stay() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let catalogue = load_catalogue(&root);
        let plan = plan(&catalogue, &|_, _| true);
        let mut record = blank();
        let first = &plan.scenarios[0].scenario;
        record.scenarios.push(blank_scenario(first));
        let last = first.checks.last().unwrap();
        record.scenarios[0].checks.push(check::unasked(last, Outcome::Passed));
        fill(&mut record, &plan, "interrupted by a signal");
        fill(&mut record, &plan, "again");
        assert_eq!(record.scenarios.len(), plan.scenarios.len());
        for (filled, planned) in record.scenarios.iter().zip(&plan.scenarios) {
            let names: Vec<&str> = filled.checks.iter().map(|c| c.name.as_str()).collect();
            let wanted: Vec<&str> = planned.scenario.checks.iter().map(|c| c.name.as_str()).collect();
            assert_eq!(names, wanted);
        }
        let checks = &record.scenarios[0].checks;
        assert_eq!(checks.last().unwrap().outcome, Outcome::Passed);
        assert_eq!(checks[0].outcome, Outcome::Skipped { reason: "not reached: interrupted by a signal".to_owned() });
    }
}
