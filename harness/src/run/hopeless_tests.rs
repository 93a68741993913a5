//! Roll-outs that cannot end, on the simulated mesh: told at once, with what is missing.

use std::path::Path;
use std::time::{Duration, Instant};

use gateproof_core::outcome::Outcome;
use gateproof_core::report::RunRecord;

use super::whole_run::whole_run;
use crate::provider::{KindFiles, ProviderOptions};

const SCENARIO: &str = "\
title: A clerk that never comes
manifests: [clerk.yaml]
checks:
  - {name: it is there, proves: It is there., pods: {of: [ledger/clerk]}, expect: {ready: 1/1}}
";

/// The namespace and a clerk with this in its pod's specification.
fn clerk(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ledger}}\n---\napiVersion: apps/v1\nkind: Deployment\n\
         metadata: {{name: clerk, namespace: ledger}}\nspec:\n  selector: {{matchLabels: {{app: clerk}}}}\n  template:\n    \
         metadata: {{labels: {{app: clerk}}}}\n    spec: {{{spec}}}\n"
    )
}

/// Runs it without a `kind/` anywhere; gives the record and how long it took.
fn run(spec: &str) -> (RunRecord, Duration) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("mine/clerk");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("scenario.yaml"), SCENARIO).unwrap();
    std::fs::write(folder.join("clerk.yaml"), clerk(spec)).unwrap();
    let kind = KindFiles::find(None, root.path());
    assert_eq!(kind, KindFiles::BuiltIn);
    let provider = ProviderOptions { kind, ..ProviderOptions::new("kind") };
    let began = Instant::now();
    let record = whole_run(&root.path().join("mine"), root.path().join("reports"), provider, |_| {});
    let page = std::fs::read_dir(root.path().join("reports"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "md"));
    check_links(&page.unwrap());
    (record, began.elapsed())
}

/// The report's links to the scenario lead somewhere.
fn check_links(page: &Path) {
    let text = std::fs::read_to_string(page).unwrap();
    let links: Vec<&str> = text.match_indices("](../").map(|(i, _)| text[i + 2..].split(')').next().unwrap()).collect();
    assert!(links.iter().any(|link| link.ends_with("clerk.yaml")), "{links:?}");
    for link in links {
        assert!(page.parent().unwrap().join(link).exists(), "{link}");
    }
}

fn told(record: &RunRecord) -> &str {
    match &record.scenarios[0].checks[0].outcome {
        Outcome::Error { message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_that_no_program_has_is_told_at_once() {
    let (record, took) = run("containers: [{name: web, image: 'nginx:1.27'}]");
    let said = told(&record);
    assert!(said.contains("roll-out of Deployment ledger/clerk cannot end") && said.contains("no program of the name \"nginx\""), "{said}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let again = record.again.unwrap();
    assert!(again.run.starts_with("gateproof run --provider embedded --scenarios ") && again.run.ends_with("/mine"), "{}", again.run);
}

#[test]
fn an_object_that_nobody_brings_is_told_by_its_name() {
    let mount = "containers: [{name: curl, image: curlimages/curl, command: [sleep, infinity], volumeMounts: [{name: k, mountPath: /k}]}], volumes: [{name: k, secret: {secretName: keys}}]";
    let (record, took) = run(mount);
    let said = told(&record);
    assert!(said.contains("its pods need Secret ledger/keys, which is not in the cluster"), "{said}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}
