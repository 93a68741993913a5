//! What `new` writes runs as it stands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateproof_core::names::{HostName, Namespaced, ScenarioId};
use gateproof_core::outcome::Outcome;
use gateproof_core::plan::plan;
use gateproof_core::scenario::{Catalogue, load_catalogue};
use serde_json::{Value, json};

use super::draft::{Live, Seen, cleaned, draft};
use super::{File, live, put, template};
use crate::cli::on_runtime;
use crate::provider::Choice;
use crate::run::choose::Environment;
use crate::run::drive::drive;
use crate::run::event::Deaf;
use crate::run::{Session, SessionOptions};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn embedded(reports: &Path) -> SessionOptions {
    let mut options = Environment { root: repository() }.session("test").unwrap();
    options.provider.choice = Choice::Embedded;
    options.provider.keep = false;
    options.provider.reuse_only = false;
    options.verify_only = false;
    options.provider.bundle = None;
    options.reports = reports.to_owned();
    options
}

fn id(text: &str) -> ScenarioId {
    ScenarioId::new(text).unwrap()
}

fn mistakes(catalogue: &Catalogue) -> Vec<String> {
    catalogue.mistakes().map(ToString::to_string).collect()
}

/// Runs all checks of a scenario on the simulated mesh; those that are not green, in words.
fn red(root: &Path, scenario: &ScenarioId) -> Vec<String> {
    let catalogue = load_catalogue(root);
    assert_eq!(mistakes(&catalogue), Vec::<String>::new());
    let plan = plan(&catalogue, &|s, _| s == scenario);
    let options = embedded(&root.join("../reports"));
    let ended = on_runtime(|| drive(&options, &plan, Arc::new(Deaf))).unwrap();
    let record = ended.record.unwrap();
    let checks: Vec<_> = record.scenarios.iter().flat_map(|s| &s.checks).collect();
    assert_eq!(checks.len(), plan.scenarios.iter().map(|s| s.selected_checks().count()).sum::<usize>());
    checks
        .into_iter()
        .filter(|c| !matches!(c.outcome, Outcome::Passed | Outcome::Flaky))
        .map(|c| format!("{}: {:?} {:?}", c.name, c.outcome, c.observed))
        .collect()
}

fn written(files: impl Fn(&ScenarioId) -> Vec<File>, name: &str) -> (tempfile::TempDir, PathBuf, ScenarioId) {
    let dir = tempfile::tempdir().unwrap();
    let (root, id) = (dir.path().join("scenarios"), id(name));
    put(&root, &id, files(&id)).unwrap();
    (dir, root, id)
}

#[test]
fn a_new_ingress_scenario_runs_as_it_stands_in_an_empty_folder() {
    let host = HostName::new("shop.acme.test").unwrap();
    let (_dir, root, id) = written(|id| template::ingress(id, &host), "30-shop");
    assert!(root.join("scenario.schema.json").exists() && root.join("00-sample-apps/sleep.yaml").exists());
    let text = std::fs::read_to_string(root.join("30-shop/scenario.yaml")).unwrap();
    assert!(text.starts_with("# yaml-language-server: $schema=../scenario.schema.json\n"), "{text}");
    assert_eq!(red(&root, &id), Vec::<String>::new());
    // Its checks can fail: with another destination, the first one does.
    let routes = root.join("30-shop/virtualservice.yaml");
    let bent = std::fs::read_to_string(&routes).unwrap().replace("number: 8000", "number: 8001");
    std::fs::write(&routes, bent).unwrap();
    assert!(red(&root, &id)[0].starts_with("the host is served"), "a broken route is noticed");
}

#[test]
fn a_new_egress_scenario_runs_as_it_stands() {
    let host = HostName::new("api.acme.test").unwrap();
    let (_dir, root, id) = written(|id| template::egress(id, &host), "partners/40-api");
    let text = std::fs::read_to_string(root.join("partners/40-api/scenario.yaml")).unwrap();
    assert!(text.starts_with("# yaml-language-server: $schema=../../scenario.schema.json\n"), "{text}");
    assert_eq!(red(&root, &id), Vec::<String>::new());
}

#[test]
fn nothing_is_overwritten_and_a_failure_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<File> = vec![("a/x.yaml".into(), "1".into()), ("a/y.yaml".into(), "2".into())];
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(dir.path().join("a/y.yaml"), "mine").unwrap();
    let said = super::write::all(dir.path(), &files).unwrap_err().to_string();
    assert!(said.contains("y.yaml"), "{said}");
    assert!(!dir.path().join("a/x.yaml").exists());
    assert_eq!(std::fs::read_to_string(dir.path().join("a/y.yaml")).unwrap(), "mine");
}

#[test]
fn names_of_objects_and_hosts_come_from_the_scenarios_name() {
    for (name, wanted) in [("30-shop", "shop"), ("a/b_c", "b-c"), ("42", "42"), ("x/Y.Z", "y-z")] {
        assert_eq!(template::object_name(&id(name)), wanted);
    }
    assert_eq!(template::default_host(&id("30-shop"), false), "shop.example.com");
    assert_eq!(template::default_host(&id("30-shop"), true), "shop.example.org");
}

/// An object as an API server gives it.
fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": {
            "name": name, "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}], "labels": {"team": "a"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
        },
        "spec": spec, "status": {"x": 1}
    })
}

fn a_shop() -> Live {
    let gateway = object(
        "Gateway",
        "web",
        json!({"selector": {"istio": "ingressgateway"}, "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["shop.acme.test"]},
            {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*.acme.test"], "tls": {"mode": "SIMPLE", "credentialName": "shop-tls"}}
        ]}),
    );
    let routes = object(
        "VirtualService",
        "shop",
        json!({"hosts": ["shop.acme.test"], "gateways": ["web"], "http": [
            {"name": "beta", "match": [{"uri": {"prefix": "/v2"}, "headers": {"x-beta": {"exact": "\"yes\": #1"}}}], "route": [{"destination": {"host": "shop"}}]},
            {"match": [{"uri": {"regex": "/[a-z]+"}}], "route": [{"destination": {"host": "shop"}}]}
        ]}),
    );
    let entry =
        object("ServiceEntry", "bank", json!({"hosts": ["bank.test"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]}));
    Live {
        namespace: "shop".to_owned(),
        home: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "uid": "n", "labels": {"istio-injection": "enabled", "kubernetes.io/metadata.name": "shop"}}, "spec": {"finalizers": ["kubernetes"]}, "status": {}}),
        gateways: vec![gateway.clone()],
        objects: vec![gateway, entry, routes],
        workloads: vec![(
            Namespaced::parse("istio-system/istio-ingressgateway").unwrap(),
            [("istio".to_owned(), "ingressgateway".to_owned())].into(),
        )],
    }
}

#[test]
fn an_exported_object_has_nothing_that_a_cluster_keeps_for_itself() {
    let live = a_shop();
    let clean = cleaned(&live.objects[0]);
    assert_eq!(clean["metadata"], json!({"name": "web", "namespace": "shop", "labels": {"team": "a"}}));
    assert!(clean.get("status").is_none());
    assert_eq!(cleaned(&live.home)["metadata"]["labels"], json!({"istio-injection": "enabled"}));
}

#[test]
fn every_route_of_a_namespace_is_drafted_and_what_is_not_decided_is_a_mistake_for_lint() {
    let dir = tempfile::tempdir().unwrap();
    let (root, id) = (dir.path().to_owned(), id("shop"));
    let drafted = draft(&a_shop(), &load_catalogue(&root), None);
    let names: Vec<&str> = drafted.calls.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "http shop.acme.test: beta",
            "http shop.acme.test: route 2",
            "http: a host that nobody declared",
            "https shop.acme.test: beta",
            "https shop.acme.test: route 2",
            "https: a host that nobody declared"
        ]
    );
    put(&root, &id, drafted.files(&id, &[], "2026-01-01")).unwrap();
    let told = mistakes(&load_catalogue(&root));
    assert_eq!(told.iter().filter(|m| m.contains("scenario.yaml:") && m.contains("TODO")).count(), 6, "{told:#?}");
    let text = std::fs::read_to_string(root.join("shop/scenario.yaml")).unwrap();
    for part in ["bank.test", "--caller", "Service shop/shop", "the route wants a path like", "istio-system/shop-tls"] {
        assert!(text.contains(part), "{part} is not told:\n{text}");
    }

    // Once it is decided, it is a scenario without mistakes.
    let mut answers = vec![Some(Seen { status: Some(404), hop: Some(("beta".into(), "outbound|80||shop".into())), ..Seen::default() }); 5];
    answers.push(Some(Seen { ended: Some("[closed, reset]".into()), ..Seen::default() }));
    let files = drafted.files(&id, &answers, "2026-01-01");
    std::fs::write(root.join("shop/scenario.yaml"), &files[0].1).unwrap();
    assert_eq!(mistakes(&load_catalogue(&root)), Vec::<String>::new(), "{}", files[0].1);
}

#[test]
fn a_draft_of_a_mesh_that_stands_says_what_each_route_answered_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository().join("scenarios");
    let shipped = load_catalogue(&root);
    let from = id("10-ingress");
    let target = plan(&shipped, &|s, c| *s == from && c == "catch-all route");
    let options = embedded(dir.path());
    let own = dir.path().join("scenarios");
    let made = id("50-drafted");
    let (answers, text) = on_runtime(|| async {
        let mut session = Session::begin(&options, &target, Arc::new(Deaf)).await.unwrap();
        let planned = &target.scenarios[0];
        let state = gateproof_core::plan::objects_in(&planned.scenario, "intact").unwrap();
        session.engine().enter(planned, "intact", "", &state).await.unwrap();
        let world = &session.engine().world;
        let found = live::read(&world.client, "mesh-test").await.unwrap();
        let drafted = draft(&found, &shipped, None);
        let assumed = vec![Some(Seen { status: Some(200), ..Seen::default() }); drafted.calls.len()];
        copy(&root.join("00-sample-apps"), &own.join("00-sample-apps"));
        put(&own, &made, drafted.files(&made, &assumed, "2026-01-01")).unwrap();
        let catalogue = load_catalogue(&own);
        assert_eq!(mistakes(&catalogue), Vec::<String>::new());
        let answers = live::look(world, catalogue.get(&made).unwrap()).await;
        let text = drafted.files(&made, &answers, "2026-01-01").swap_remove(0).1;
        session.finish(&Deaf).await.unwrap();
        (answers, text)
    });
    let statuses: Vec<Option<u16>> = answers.iter().flatten().map(|s| s.status).collect();
    assert!(statuses.contains(&Some(200)) && statuses.contains(&Some(404)), "{answers:?}");
    assert!(text.contains("route: \"catch-all\"") && text.contains("route: \"status\""), "{text}");
    std::fs::write(own.join("50-drafted/scenario.yaml"), &text).unwrap();
    // What was seen once is what a run of the draft sees, on a mesh where the draft's own manifests were applied.
    assert_eq!(red(&own, &made), Vec::<String>::new(), "{text}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
