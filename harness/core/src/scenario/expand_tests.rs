use serde_json::json;

use super::super::tests::{load, load_given};
use super::super::*;
use crate::names::ScenarioId;

const MANIFEST: &str = "\
apiVersion: v1
kind: Service
metadata: {name: $(value:name), namespace: default, labels: {on: \"$(value:port)\"}}
spec: {ports: [{port: $(value:port), name: http-$(value:port)}], selector: {$(value:name): x}}
";

const VALUES: &str = "values:\n  name: shop\n  port: {default: 8080, about: where it listens}\n";

fn scenario(more: &str) -> String {
    format!(
        "title: t\n{VALUES}{more}manifests: [m.yaml]\nchecks:\n- name: c\n  proves: p\n  object: {{apiVersion: v1, kind: Service, name: default/$(value:name)}}\n  \
         expect: {{contains: {{spec: {{ports: [{{port: $(value:port)}}]}}}}}}\n"
    )
}

fn with(more: &str, given: &[&str]) -> Catalogue {
    load_given(&[("a/scenario.yaml", &scenario(more)), ("a/m.yaml", MANIFEST)], given)
}

fn told(catalogue: &Catalogue) -> Vec<String> {
    catalogue.mistakes().map(ToString::to_string).collect()
}

fn get<'c>(catalogue: &'c Catalogue, id: &str) -> &'c Scenario {
    catalogue.get(&ScenarioId::new(id).unwrap()).unwrap_or_else(|| panic!("no {id}: {:#?}", told(catalogue)))
}

#[test]
fn values_stand_in_checks_and_manifests_and_keep_their_kind() {
    let catalogue = with("", &[]);
    let scenario = get(&catalogue, "a");
    let object = &scenario.manifests[0].objects[0];
    assert_eq!(object.key.to_string(), "Service default/shop");
    // Alone and without quotes a number is a number; within a text, or quoted, it is text.
    assert_eq!(object.value["spec"], json!({"ports": [{"port": 8080, "name": "http-8080"}], "selector": {"shop": "x"}}));
    assert_eq!(object.value["metadata"]["labels"]["on"], "8080");
    assert!(matches!(&scenario.checks[0].probe, Probe::Object(key) if key.name == "shop"));
    let Expectation::Object(ConfigExpect::Present { contains, .. }) = &scenario.checks[0].expect else { panic!() };
    assert_eq!(contains[0]["spec"]["ports"][0]["port"], 8080);
    let value = |name: &str, value: &str, source, about: &str| ScenarioValue {
        name: name.into(),
        value: value.into(),
        source,
        about: about.into(),
    };
    let expected = [value("name", "shop", ValueSource::Default, ""), value("port", "8080", ValueSource::Default, "where it listens")];
    assert_eq!(scenario.values, expected);
}

#[test]
fn a_row_is_a_scenario_of_its_own() {
    let matrix = "matrix:\n- {row: plain}\n- {row: other, values: {name: bank, port: 81}}\n";
    let catalogue = with(matrix, &[]);
    let ids: Vec<_> = catalogue.scenarios.iter().map(|s| (s.id.to_string(), s.folder(), s.title.clone())).collect();
    let (other, plain) = ("a/other".to_owned(), "a/plain".to_owned());
    assert_eq!(ids, [(other, "a", "t (other)".to_owned()), (plain, "a", "t (plain)".to_owned())], "{:?}", told(&catalogue));
    let bank = get(&catalogue, "a/other");
    assert_eq!(bank.manifests[0].objects[0].key.to_string(), "Service default/bank");
    assert_eq!(bank.values[1].source, ValueSource::Row);
    assert_eq!(get(&catalogue, "a/plain").manifests[0].objects[0].value["spec"]["ports"][0]["port"], 8080);
}

#[test]
fn overrides_come_from_outside_by_name_scenario_and_row() {
    let port = |more: &str, given: &[&str], id: &str| {
        let catalogue = with(more, given);
        let scenario = get(&catalogue, id);
        (scenario.manifests[0].objects[0].value["spec"]["ports"][0]["port"].clone(), scenario.values[1].source)
    };
    assert_eq!(port("", &["GATEPROOF_VALUE_PORT=1"], "a"), (json!(1), ValueSource::Environment));
    assert_eq!(port("", &["GATEPROOF_VALUE_PORT=1", "port=2"], "a"), (json!(2), ValueSource::CommandLine));
    assert_eq!(port("", &["a:port=3", "port=2"], "a"), (json!(3), ValueSource::CommandLine));
    let matrix = "matrix:\n- {row: plain}\n- {row: other, values: {port: 81}}\n";
    assert_eq!(port(matrix, &["port=2"], "a/plain").0, json!(2));
    assert_eq!(port(matrix, &["port=2"], "a/other"), (json!(81), ValueSource::Row));
    assert_eq!(port(matrix, &["a/other:port=4"], "a/other"), (json!(4), ValueSource::CommandLine));
}

#[test]
fn an_override_that_fits_nothing_is_a_mistake() {
    let matrix = "matrix:\n- {row: one, values: {port: 80}}\n- {row: two, values: {port: 81}}\n";
    for (more, given, wanted) in [
        ("", "prot=1", "--value prot: no scenario declares a value `prot` (did you mean `port`?)"),
        ("", "GATEPROOF_VALUE_PROT=1", "GATEPROOF_VALUE_PROT: no scenario declares a value `prot`"),
        ("", "b:port=1", "--value b:port: there is no scenario `b`"),
        ("", "a:prot=1", "--value a:prot: `a` declares no value `prot`"),
        ("", "port=http", "a/scenario.yaml:4:3: --value port cannot be the value `port` (its default here is a number)"),
        (
            matrix,
            "port=1",
            "--value port: every row of the matrix gives `port` itself, so this changes nothing (name the row: `--value a/ROW:port=…`)",
        ),
        (matrix, "a/three:port=1", "--value a/three:port: there is no scenario `a/three`"),
    ] {
        let told = told(&with(more, &[given]));
        assert_eq!(told.len(), 1, "{given}: {told:#?}");
        assert!(told[0].strip_prefix("scenarios/").unwrap_or(&told[0]).starts_with(wanted), "{given}: {told:#?}");
    }
}

#[test]
fn what_is_wrong_with_values_is_told_where_it_stands() {
    let check = "checks: [{name: c, proves: \"$(value:x)\", versions: , expect: {agree: true}}]\n";
    for (text, wanted) in [
        (format!("title: t\n{check}"), "2:29: the scenario declares no value `x` (declare it under `values`)"),
        (format!("title: t\nvalues: {{xs: 1, y: 2}}\n{check}"), "3:29: the scenario declares no value `x` (there is `xs`, `y`)"),
        (format!("title: t\nvalues: {{x: 1, y: 2}}\n{check}"), "2:16: nothing takes the value `y`"),
        (format!("title: t\nvalues: [x]\n{check}"), "2:10: `values` cannot be a list"),
        (format!("title: t\nvalues: {{X_y: 1, x: 1}}\n{check}"), "2:10: `X_y` is no value's name"),
        (format!("title: t\nvalues: {{x: }}\n{check}"), "2:10: the value `x` has no default"),
        (format!("title: t\nvalues: {{x: [1]}}\n{check}"), "2:14: the value `x` cannot be a list"),
        (format!("title: t\nvalues: {{x: {{about: a}}}}\n{check}"), "2:14: a value lacks `default`"),
        (format!("title: t\nvalues: {{x: 1}}\nmatrix: []\n{check}"), "3:9: a matrix without rows"),
        (format!("title: t\nvalues: {{x: 1}}\nmatrix: [{{row: A b}}]\n{check}"), "3:16: `A b` is no row's name"),
        (
            format!("title: t\nvalues: {{x: 1}}\nmatrix: [{{row: a}}, {{row: a, values: {{x: 2}}}}]\n{check}"),
            "3:26: a second row is called `a`",
        ),
        (format!("title: t\nvalues: {{x: 1}}\nmatrix: [{{row: a}}, {{row: b}}]\n{check}"), "3:26: the row `b` gives what `a` gives"),
        (
            format!("title: t\nvalues: {{x: 1}}\nmatrix: [{{row: a, values: {{z: 2}}}}]\n{check}"),
            "3:28: the scenario declares no value `z`",
        ),
        (
            format!("title: t\nvalues: {{x: 1}}\nmatrix: [{{row: a, values: {{x: b}}}}]\n{check}"),
            "3:31: `x` cannot be `b` (its default is a number)",
        ),
        (
            "title: t\nchecks: [{name: c, proves: \"$(value:X\", versions: , expect: {agree: true}}]\n".into(),
            "2:28: `$(value:` names no value",
        ),
    ] {
        let told = told(&load(&[("a/scenario.yaml", &text)]));
        assert!(told.iter().any(|m| m.starts_with(&format!("scenarios/a/scenario.yaml:{wanted}"))), "{text}\n{told:#?}");
    }
    let manifest = MANIFEST.replace("$(value:name)", "$(value:nam)");
    let told = told(&load(&[("a/scenario.yaml", &scenario("")), ("a/m.yaml", &manifest)]));
    assert!(told.iter().any(|m| m.starts_with("scenarios/a/m.yaml:3:18: the scenario declares no value `nam`")), "{told:#?}");
}

#[test]
fn the_text_itself_can_be_written() {
    let text = "title: t\nvalues: {x: 1}\nchecks: [{name: c, proves: \"$$(value:x) is $(value:x)\", versions: , expect: {agree: true}}]\n";
    let catalogue = load(&[("a/scenario.yaml", text)]);
    assert_eq!(get(&catalogue, "a").checks[0].proves, "$(value:x) is 1");
}

#[test]
fn what_is_wrong_in_one_row_only_says_so_and_the_whole_is_broken() {
    let matrix = "matrix:\n- {row: good}\n- {row: bad, values: {name: Not-A-Name}}\n";
    let check = "- name: d\n  proves: p\n  http: {from: outside, gateway: istio-system/istio-ingressgateway, url: \"http://$(value:name)/\"}\n  expect: {status: 200}\n";
    let needs = ("b/scenario.yaml", "title: t\nneeds: [a/good]\nchecks: [{name: c, proves: p, versions: , expect: {agree: true}}]\n");
    let catalogue = load(&[("a/scenario.yaml", &(scenario(matrix) + check)), ("a/m.yaml", MANIFEST), needs]);
    let told = told(&catalogue);
    assert_eq!(catalogue.broken.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("`name`: `default/Not-A-Name` is no such name, in the row `bad`"), "{told:#?}");
    assert!(told[1].contains("`http://Not-A-Name/` is no URL that can be called, in the row `bad`"), "{told:#?}");
    assert!(told[2].contains("needs `a/good`, which is broken"), "{told:#?}");
    // What is wrong in every row is told once.
    let catalogue =
        load(&[("a/scenario.yaml", &scenario("nosuch: 1\nmatrix: [{row: one}, {row: two, values: {port: 1}}]\n")), ("a/m.yaml", MANIFEST)]);
    let told: Vec<String> = catalogue.mistakes().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
}

#[test]
fn rows_are_needed_and_excepted_by_their_own_names() {
    let matrix = "matrix: [{row: one}, {row: two, values: {port: 1}}]\n";
    let a = ("a/scenario.yaml", &*scenario(matrix));
    let needs = |what: &str| format!("title: t\nneeds: [{what}]\nchecks: [{{name: c, proves: p, versions: , expect: {{agree: true}}}}]\n");
    let catalogue = load(&[a, ("a/m.yaml", MANIFEST), ("b/scenario.yaml", &needs("a/two"))]);
    assert_eq!(catalogue.beneath(get(&catalogue, "b"))[0].id.as_str(), "a/two");
    let catalogue = load(&[a, ("a/m.yaml", MANIFEST), ("b/scenario.yaml", &needs("a"))]);
    assert!(told(&catalogue)[0].ends_with("there is no scenario `a` (it has rows, of which one can be needed: `a/one`, `a/two`)"));
    let skip = ("exceptions.yaml", "skip: [{check: 'a/one::c', reason: r}]\n");
    let catalogue = load(&[a, ("a/m.yaml", MANIFEST), skip]);
    assert_eq!(get(&catalogue, "a/one").exceptions.skipped["c"], "r");
    assert!(get(&catalogue, "a/two").exceptions.skipped.is_empty());
    // A row cannot be called as a scenario below.
    let below = ("a/one/scenario.yaml", &*needs("a/two"));
    let catalogue = load(&[a, ("a/m.yaml", MANIFEST), below]);
    assert!(
        told(&catalogue).iter().any(|m| m.contains("a row is called as the scenario `a/one` below this one")),
        "{:#?}",
        told(&catalogue)
    );
}

#[test]
fn rows_may_have_manifests_of_their_own() {
    let text = "title: t\nvalues: {api: istio}\nmatrix: [{row: istio}, {row: gateway-api, values: {api: gateway}}]\nmanifests: [$(value:api).yaml]\n\
                checks: [{name: c, proves: p, versions: , expect: {agree: true}}]\n";
    let object = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let files = [("a/scenario.yaml", text), ("a/istio.yaml", &*object("i")), ("a/gateway.yaml", &*object("g"))];
    let catalogue = load(&files);
    assert_eq!(get(&catalogue, "a/gateway-api").manifests[0].objects[0].key.name, "g");
    let spare = object("s");
    let catalogue = load(&[&files[..], &[("a/spare.yaml", &*spare)]].concat());
    assert_eq!(
        told(&catalogue),
        [
            "scenarios/a/spare.yaml: the file is named nowhere in the scenario (name it under `manifests`, or in a variation's `with`, or take it away)"
        ]
    );
}
