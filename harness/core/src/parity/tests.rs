use serde_json::json;

use super::*;
use crate::report::sample;

#[test]
fn a_run_agrees_with_itself_in_every_check() {
    let run = sample::green();
    let parity = compare(&run, &run);
    assert!(parity.is_complete());
    assert!(table(&parity).contains(&format!("{0} of {0} checks agree", parity.checks.len())));
}

#[test]
fn another_answer_another_hop_and_a_check_that_was_not_reached_all_differ() {
    let left = sample::green();
    let differs = |change: &dyn Fn(&mut RunRecord)| {
        let mut right = left.clone();
        change(&mut right);
        let parity = compare(&left, &right);
        assert!(!parity.is_complete());
        parity.checks.iter().filter(|c| !c.agrees()).count()
    };
    assert_eq!(differs(&|run| run.scenarios[0].checks[0].answer = Some("reset".to_owned())), 1);
    assert_eq!(differs(&|run| drop(run.scenarios[0].checks.pop())), 1);
    let with_hops = left.scenarios.iter().flat_map(|s| &s.checks).position(|c| !c.hops.is_empty());
    assert!(with_hops.is_some(), "the sample has a path");
    let cut = differs(&|run| run.scenarios.iter_mut().flat_map(|s| &mut s.checks).for_each(|c| c.hops.clear()));
    assert!(cut > 0);
}

#[test]
fn two_empty_runs_are_no_agreement() {
    let mut run = sample::green();
    run.scenarios.clear();
    assert!(!compare(&run, &run).is_complete());
}

#[test]
fn a_proxy_that_has_something_else_is_named_with_the_place() {
    let with = |cluster: &str| {
        let mut run = sample::green();
        let digest = Digest::from([("listener 0.0.0.0_8443".to_owned(), json!({"chains": [{"cluster": cluster}]}))]);
        run.scenarios[0].stages[0].proxies.insert("a/gw".to_owned(), digest);
        run
    };
    let parity = compare(&with("x"), &with("y"));
    let differences: Vec<&String> = parity.states.iter().flat_map(|s| &s.differences).collect();
    assert_eq!(differences, ["a/gw: listener 0.0.0.0_8443 at .chains[0].cluster: \"x\" and \"y\""]);
}
