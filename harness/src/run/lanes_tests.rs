//! Scenarios beside one another on the simulated mesh: the same outcomes, in the same order, whoever ends first.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gateproof_core::plan::{Plan, plan};
use gateproof_core::report::RunRecord;
use gateproof_core::scenario::load_catalogue;

use super::choose::Environment;
use super::drive::drive;
use super::{Event, Listener, SessionOptions};
use crate::provider::Choice;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Scenarios of which some can run beside each other, with states that have the mesh alone.
fn some() -> Plan {
    let catalogue = load_catalogue(&root().join("scenarios"));
    let wanted = ["00-sample-apps", "10-ingress", "20-egress", "20-egress/dual-gateway", "70-certificates"];
    plan(&catalogue, &|id, _| wanted.contains(&id.as_str()))
}

#[derive(Default)]
struct Order(Mutex<Vec<String>>);

impl Listener for Order {
    fn on(&self, event: &Event) {
        if let Event::CheckFinished(id, _) = event {
            let mut seen = self.0.lock().unwrap();
            if seen.last().is_none_or(|last| last != id.as_str()) {
                seen.push(id.to_string());
            }
        }
    }
}

fn run(reports: &Path, parallel: usize) -> (RunRecord, Vec<String>) {
    let mut options: SessionOptions = Environment { root: root() }.session("a test").unwrap();
    options.provider.choice = Choice::Embedded;
    options.reports = reports.to_owned();
    options.parallel = parallel;
    let order = Arc::new(Order::default());
    let all = some();
    let ended = crate::cli::on_runtime(|| drive(&options, &all, order.clone())).unwrap();
    let seen = order.0.lock().unwrap().clone();
    (ended.record.unwrap(), seen)
}

#[test]
fn what_runs_beside_others_has_the_outcomes_that_it_has_alone() {
    let reports = tempfile::tempdir().unwrap();
    let (beside, order) = run(reports.path(), 3);
    let (alone, _) = run(reports.path(), 1);
    let told = |record: &RunRecord| -> Vec<String> {
        let scenario = |s: &gateproof_core::report::ScenarioRecord| {
            let states: Vec<&str> = s.stages.iter().map(|stage| stage.state.as_str()).collect();
            let checks: Vec<String> = s.checks.iter().map(|c| format!("{} in {}: {:?}", c.name, c.given, c.outcome)).collect();
            format!("{} [{}]\n  {}", s.id, states.join(", "), checks.join("\n  "))
        };
        record.scenarios.iter().map(scenario).collect()
    };
    assert_eq!(told(&beside), told(&alone));
    assert!(beside.ended_early.is_none() && beside.warnings.is_empty(), "{:?} {:?}", beside.ended_early, beside.warnings);
    // What is done between scenarios is told, with its time.
    let between = |record: &RunRecord| record.steps.iter().filter(|s| s.name.contains("`10-ingress`")).count();
    assert_eq!((between(&beside) > 0, between(&alone)), (true, 0), "{:?}", beside.steps);
    // One scenario's checks come between those of another only when both run.
    assert!(order.len() > 12, "nothing ran beside anything else: {order:?}");
}
