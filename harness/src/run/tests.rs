//! Whole runs on the simulated mesh: what ends them, what does not count, and what the next one says of the last.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use gateproof_core::outcome::Outcome;
use gateproof_core::plan::plan;
use gateproof_core::report::{RunRecord, drift};
use gateproof_core::scenario::{Catalogue, load_catalogue};
use tempfile::TempDir;

use super::choose::Environment;
use super::drive::{Ended, drive};
use super::trials::failure_text;
use super::{Attempts, Event, Listener, Pause, RedState, Session, SessionOptions};
use crate::provider::Choice;

const READY: &str = "pods: {of: [istio-system/istio-ingressgateway]}, expect: {ready: 1/1}";
const NEVER: &str = "pods: {of: [istio-system/istio-ingressgateway]}, expect: {ready: 2/2}";

/// Two scenarios, the first with a check that fails in the first of its two states.
fn scenarios(exceptions: &str) -> (TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("first/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\n");
    put(
        "first/scenario.yaml",
        &format!(
            "title: first\nmanifests: [m.yaml]\nvariations: [{{name: late, about: a, changes: [{{without: m.yaml}}]}}]\nchecks:\n\
             - {{name: wrong, proves: p, {NEVER}}}\n- {{name: right, proves: p, {READY}}}\n- {{name: after, proves: p, given: late, {READY}}}\n"
        ),
    );
    put("second/scenario.yaml", &format!("title: second\nchecks:\n- {{name: right, proves: p, {READY}}}\n"));
    put("exceptions.yaml", exceptions);
    let catalogue = load_catalogue(dir.path());
    assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    (dir, catalogue)
}

fn options(reports: &Path) -> SessionOptions {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut options = Environment { root }.session("a test").unwrap();
    options.provider.choice = Choice::Embedded;
    options.reports = reports.to_owned();
    options.attempts = Attempts { at_most: 1, ..options.attempts };
    options
}

/// What happened, in the order in which it did.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

impl Listener for Log {
    fn on(&self, event: &Event) {
        match event {
            Event::StageReady(id, stage) => self.note(format!("{id} in {}", stage.state)),
            Event::CheckFinished(id, check) if matches!(check.outcome, Outcome::Skipped { .. }) => {
                self.note(format!("skipped {id}::{}", check.name))
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct Look(Arc<Log>);

impl Pause for Look {
    fn at<'a>(&'a self, red: &'a RedState) -> BoxFuture<'a, ()> {
        let names: Vec<&str> = red.red.iter().map(|c| c.name.as_str()).collect();
        self.0.note(format!("paused at {} in {}: {}", red.scenario, red.state, names.join(", ")));
        Box::pin(std::future::ready(()))
    }
}

fn run(options: &SessionOptions, catalogue: &Catalogue, log: &Arc<Log>) -> Ended {
    let all = plan(catalogue, &|_, _| true);
    crate::cli::on_runtime(|| drive(options, &all, log.clone())).unwrap()
}

fn outcomes(record: &RunRecord) -> Vec<String> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Passed | Outcome::Flaky => "green".to_owned(),
        Outcome::Failed { .. } => "failed".to_owned(),
        Outcome::Error { message } => message.clone(),
        Outcome::Skipped { reason } => reason.clone(),
    };
    let checks = record.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
    checks.map(|(s, c)| format!("{}::{}: {}", s.id, c.name, word(&c.outcome))).collect()
}

#[test]
fn a_run_that_fails_fast_ends_after_the_red_state_and_says_what_it_did_not_reach() {
    let ((_dir, catalogue), reports) = (scenarios(""), tempfile::tempdir().unwrap());
    let log = Arc::new(Log::default());
    let fast = SessionOptions { fail_fast: true, pause: Some(Arc::new(Look(log.clone()))), ..options(reports.path()) };
    let ended = run(&fast, &catalogue, &log);
    assert!(!ended.is_green());
    let record = ended.record.unwrap();
    let why = "--fail-fast, and `first::wrong` is red";
    assert_eq!(
        outcomes(&record),
        [
            "first::wrong: failed".to_owned(),
            "first::right: green".to_owned(),
            format!("first::after: not reached: {why}"),
            format!("second::right: not reached: {why}"),
        ]
    );
    assert_eq!(record.ended_early.as_deref(), Some(why));
    assert_eq!(*log.0.lock().unwrap(), ["first in intact", "paused at first in intact: wrong"]);
    assert!(std::fs::read_to_string(ended.report.unwrap()).unwrap().contains("not reached"));
}

#[test]
fn a_pause_comes_while_the_red_state_stands() {
    let ((_dir, catalogue), reports) = (scenarios(""), tempfile::tempdir().unwrap());
    let log = Arc::new(Log::default());
    let slow = SessionOptions { pause: Some(Arc::new(Look(log.clone()))), ..options(reports.path()) };
    let record = run(&slow, &catalogue, &log).record.unwrap();
    assert_eq!(record.ended_early, None);
    assert_eq!(*log.0.lock().unwrap(), ["first in intact", "paused at first in intact: wrong", "first in late", "second in intact"]);
}

#[test]
fn exceptions_do_not_count_and_the_next_run_tells_since_when() {
    let exceptions =
        "quarantine: [{check: 'first::wrong', reason: a known one, until: 2999-12-31}]\nskip: [{scenario: second, reason: no image}]\n";
    let ((_dir, catalogue), reports) = (scenarios(exceptions), tempfile::tempdir().unwrap());
    let log = Arc::new(Log::default());
    let options = SessionOptions { fail_fast: true, observe_proxies: true, ..options(reports.path()) };
    let first = run(&options, &catalogue, &log);
    assert!(first.is_green(), "{:?}", first.record.map(|r| outcomes(&r)));
    let first = first.record.unwrap();
    assert_eq!(
        outcomes(&first),
        ["second::right: in exceptions.yaml: no image", "first::wrong: failed", "first::right: green", "first::after: green"]
    );
    assert_eq!(*log.0.lock().unwrap(), ["skipped second::right", "first in intact", "first in late"]);
    let wrong = |record: &RunRecord| record.scenarios.iter().flat_map(|s| &s.checks).find(|c| c.name == "wrong").cloned().unwrap();
    assert_eq!(wrong(&first).quarantined.unwrap().until, "2999-12-31");
    assert_eq!(failure_text(&wrong(&first)), None, "a trial of a quarantined check is not red");

    let second = run(&options, &catalogue, &log);
    let (second, page) = (second.record.unwrap(), std::fs::read_to_string(second.report.unwrap()).unwrap());
    let history = wrong(&second).history.unwrap();
    assert_eq!((history.red_since, history.red_runs), (Some(first.started.clone()), 2));
    assert!(page.contains("**Still failing**") && page.contains("red in 2 runs in a row"), "{page}");
    assert!(page.contains("In quarantine: asked, but a failure does not make the run red."), "{page}");
    // The same configuration on two meshes is no drift.
    let drift = drift(&first, &second).unwrap();
    assert!(drift.resources > 0, "{}", drift.resources);
    assert_eq!(drift.differences, []);
    assert!(page.contains("The proxies' configuration is the same"), "{page}");
}

#[test]
fn a_state_that_changes_the_control_plane_is_entered_only_where_that_is_allowed() {
    let (dir, _) = scenarios("");
    let variations = "[{name: closed, about: a, changes: [{controlPlane: {mesh: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}}}]}]";
    let text = format!("title: second\nvariations: {variations}\nchecks:\n- {{name: right, proves: p, given: closed, {READY}}}\n");
    std::fs::write(dir.path().join("second/scenario.yaml"), text).unwrap();
    std::fs::remove_dir_all(dir.path().join("first")).unwrap();
    let catalogue = load_catalogue(dir.path());
    let (all, reports) = (plan(&catalogue, &|_, _| true), tempfile::tempdir().unwrap());
    let options = &options(reports.path());
    let asked = |allowed: bool| {
        let all = &all;
        crate::cli::on_runtime(move || async move {
            let mut session = Session::begin(options, all, Arc::new(Log::default())).await.unwrap();
            session.engine().may_scale_gateways = allowed;
            session.run(all).await.unwrap();
            outcomes(&session.finish(&Log::default()).await.unwrap().0)
        })
    };
    let refused = "the state `closed` changes the control plane, for the whole mesh; allow it with --allow-mesh-changes";
    assert_eq!(asked(false), [format!("second::right: {refused}")]);
    assert_eq!(asked(true), ["second::right: green"]);
}
