//! Whole catalogues from texts: what loads, and what each mistake looks like.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::load::{Tree, catalogue_of};
use super::*;
use crate::names::ScenarioId;

/// A catalogue of files below `scenarios`, without touching a disk.
pub(crate) fn load(files: &[(&str, &str)]) -> Catalogue {
    load_given(files, &[])
}

/// The same with overrides: `VARIABLE=value` of the environment, or what follows `--value`.
pub(crate) fn load_given(files: &[(&str, &str)], given: &[&str]) -> Catalogue {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).into())).collect();
    let (environment, flags): (Vec<&str>, Vec<&str>) = given.iter().partition(|given| given.starts_with(VALUE_VARIABLE));
    let environment = environment.iter().filter_map(|given| given.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut overrides = ValueOverrides::from_environment(environment);
    flags.iter().for_each(|flag| overrides.add(flag).unwrap());
    catalogue_of(Tree { root: PathBuf::from("scenarios"), files, mistakes: Vec::new() }, &overrides)
}

/// Every mistake in one line each.
fn told(files: &[(&str, &str)]) -> String {
    load(files).mistakes().map(|m| format!("{m}\n")).collect()
}

/// Compares cases with a file of them; `GATEPROOF_BLESS=1` writes it anew, to be read before it is committed.
#[derive(Default)]
struct Golden(String);

impl Golden {
    /// A scenario `a` beside `MANIFEST`.
    fn scenario(&mut self, shown: &str, scenario: &str) {
        self.files(shown, &[("a/scenario.yaml", scenario), ("a/m.yaml", MANIFEST)]);
    }

    fn files(&mut self, shown: &str, files: &[(&str, &str)]) {
        let told = told(files);
        let told = if told.is_empty() { "no mistake\n" } else { &told };
        self.0 += &format!("## {}\n{told}\n", shown.replace('\n', "\n   "));
    }

    fn compare(self, name: &str) {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/scenario/golden")).join(name);
        if std::env::var_os("GATEPROOF_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &self.0).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let diff = similar::TextDiff::from_lines(&expected, &self.0);
        assert!(expected == self.0, "{}", diff.unified_diff().header("expected", "got"));
    }
}

const MANIFEST: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: x}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: x}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: x}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.b]}]}
";

/// A scenario with the given checks.
fn with_checks(checks: &str) -> String {
    format!("title: t\nmanifests: [m.yaml]\nchecks:\n{checks}")
}

/// A scenario whose only check has this probe and expectation.
fn with_probe(probe: &str, expect: &str) -> String {
    with_checks(&format!("- name: c\n  proves: p\n  {probe}\n  expect: {expect}\n"))
}

/// Every field of the format at least once.
const FULL: &str = include_str!("full.yaml");
const FULL_MANIFEST: &str = MANIFEST;
const EXTRA: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: x}\n";

fn full() -> Catalogue {
    load(&[
        ("00-base/scenario.yaml", "title: base\nchecks: [{name: v, proves: p, versions: , expect: {agree: true}}]\n"),
        ("10/full/scenario.yaml", FULL),
        ("10/full/m.yaml", FULL_MANIFEST),
        ("10/full/extra.yaml", EXTRA),
    ])
}

#[test]
fn a_scenario_with_every_field_loads() {
    let catalogue = full();
    assert_eq!(catalogue.mistakes().map(|m| m.render(false)).collect::<String>(), "");
    let scenario = catalogue.get(&ScenarioId::new("10/full/one").unwrap()).unwrap();
    assert_eq!(scenario.manifests[0].objects[1].line, 5);
    assert_eq!(scenario.manifests[0].objects[2].key.to_string(), "Gateway x/g");
    let names: Vec<_> = scenario.checks.iter().map(|c| (c.name.as_str(), c.given.as_str())).collect();
    assert_eq!(names[0], ("first", "intact"));
    let Expectation::Call(call) = &scenario.checks[0].expect else { panic!() };
    assert_eq!(call.status, Some(200));
    assert_eq!(call.path[0].route.as_deref(), Some("catch-all"));
    assert_eq!(call.path[0].proxy.to_string(), "istio-system/istio-ingressgateway");
    let Expectation::Call(call) = &scenario.checks[1].expect else { panic!() };
    assert_eq!(call.stdout, Some(TextMatch::Equals("200".to_owned())));
    assert_eq!(call.connection, [Connection::Closed, Connection::TlsAlert("certificate required".to_owned())]);
    assert!(matches!(&scenario.checks[2].expect, Expectation::Call(c) if c.stdout == Some(TextMatch::Equals("on".to_owned()))));
    let Change::Patch { key, edits } = &scenario.variations[1].changes[3] else { panic!() };
    assert_eq!(key.api_version, "networking.istio.io/v1");
    assert_eq!(edits.len(), 2);
}

#[test]
fn the_format_is_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let value = |text: &str| super::yaml::parse(text).0[0].to_json();
    let wrong: Vec<_> = validator.iter_errors(&value(FULL)).map(|e| format!("{} {e}", e.instance_path())).collect();
    assert_eq!(wrong, Vec::<String>::new());
    // An unknown key anywhere is wrong for the schema and for the reader.
    let mut tried = 0;
    let mut maps = Vec::new();
    places(&value(FULL), String::new(), &mut maps);
    for place in maps {
        let mut bent = value(FULL);
        bent.pointer_mut(&place).unwrap().as_object_mut().unwrap().insert("nosuch".to_owned(), json!("x"));
        let by_schema = validator.is_valid(&bent);
        let text = bent.to_string();
        let files = [("10/full/scenario.yaml", text.as_str()), ("10/full/m.yaml", FULL_MANIFEST), ("10/full/extra.yaml", EXTRA)];
        let base = ("00-base/scenario.yaml", "title: base\nchecks: [{name: v, proves: p, versions: , expect: {agree: true}}]\n");
        let by_reader = load(&[&[base], &files[..]].concat()).mistakes().count() == 0;
        assert_eq!(by_schema, by_reader, "{place}");
        tried += usize::from(!by_schema);
    }
    assert!(tried > 30, "{tried}");
}

/// Pointers to every map, without those whose keys are free.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if !["/headers", "/labels", "/set", "/contains", "/values"].iter().any(|free| at.ends_with(free)) => {
            out.push(at.clone());
            map.iter().for_each(|(k, v)| places(v, format!("{at}/{}", k.replace('/', "~1")), out));
        }
        Value::Array(items) if !at.ends_with("/contains") => {
            items.iter().enumerate().for_each(|(i, v)| places(v, format!("{at}/{i}"), out))
        }
        _ => {}
    }
}

/// `GATEPROOF_BLESS=1 cargo test -p gateproof-core` writes the file anew.
#[test]
fn the_committed_schema_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/scenario.schema.json");
    let current = format!("{:#}\n", schema());
    if std::env::var_os("GATEPROOF_BLESS").is_some() {
        std::fs::create_dir_all(PathBuf::from(path).parent().unwrap()).unwrap();
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == current, "scenarios/scenario.schema.json is out of date: run with GATEPROOF_BLESS=1");
}

#[test]
fn every_field_is_described() {
    let schema = schema();
    let root = "ScenarioFile".to_owned();
    let shapes = schema["$defs"].as_object().unwrap().iter().chain([(&root, &schema)]);
    for (name, shape) in shapes.filter(|(_, s)| s.get("properties").is_some()) {
        for (key, field) in shape["properties"].as_object().unwrap() {
            assert!(field.get("description").is_some(), "{name}.{key}");
        }
    }
}

#[test]
fn a_mistake_shows_its_place() {
    let catalogue = load(&[(
        "a/scenario.yaml",
        "title: t\nmanifets: [m.yaml]\nchecks:\n- name: c\n  proves: p\n  pods: {of: [x/nosuch]}\n  expect: {ready: 3/2}\n",
    )]);
    let rendered: String = catalogue.mistakes().map(|m| m.render(false) + "\n").collect();
    insta::assert_snapshot!(rendered, @r#"
    error: a scenario has no field `manifets`
     --> scenarios/a/scenario.yaml:2:1
      |
    1 | title: t
    2 | manifets: [m.yaml]
      | ^^^^^^^^
    3 | checks:
      |
      = help: did you mean `manifests`?
    error: `ready` cannot be `3/2`
     --> scenarios/a/scenario.yaml:7:19
      |
    6 |   pods: {of: [x/nosuch]}
    7 |   expect: {ready: 3/2}
      |                   ^^^
      |
      = help: expected so many of so many containers, such as `2/2`
    "#);
}

#[test]
fn mistakes_of_shape_are_told_all_at_once() {
    let mut golden = Golden::default();
    let fields =
        "title:\nmechanism: [x]\ntags: x\nmanifests: [m.yaml, m.yaml, 1]\nrunConfig: [nosuch, ~]\ntitle: x\nchecks: []\nchekcs: []\n";
    let gateways =
        "gateways:\n- {at: x}\n- {at: x/g, service: nodePort}\n- {at: x/g, service: {nodePort: {http: 80}}}\n- {labels: {a: [1]}}\n";
    let rest = "outside: [A.b, {host: a.b, addresses: 9}, a.b]\ncertificates: [{secret: x/y, hosts: []}, {secret: q/y, hosts: ['*.a']}]\nnotTested: [a]\n";
    let call = "- name: a::b\n  http: {from: me, url: 1, method: get, headers: {Host: a}, verify: no, timeout: 5}\n  expect: {status: 2000, runToken: no, exitCode: x}\n";
    for text in ["", "---\n---\n", "a: [", "- x", "a: *b", "{[a]: 1}", fields, gateways, rest, &with_checks(call)] {
        golden.scenario(text, text);
    }
    golden.compare("shape.txt");
}

#[test]
fn expectations_fit_their_probes() {
    let mut golden = Golden::default();
    for (probe, expect) in [
        ("pods: {of: [x/d]}", "{ready: 2/2}"),
        ("pods: {of: [x/d]}", "{status: 200}"),
        ("pods: {of: [x/d]}", "{}"),
        ("pods:", "{ready: 3/2}"),
        ("exec: {in: x/d, command: [ls]}", "{status: 200}"),
        ("exec: {in: x/d, command: [ls]}", "{stdout: {matches: '('}}"),
        ("exec: {in: x/d, command: []}", "{stdout: a}"),
        ("exec: {in: x/d, command: [curl, a]}", "{path: []}"),
        ("exec: {in: x/d, command: [curl, a]}", "{connection: closd}"),
        ("exec: {in: x/d, command: [curl, a]}", "{certificate: {secret: x/y}, status: 200}"),
        ("exec: {in: x/d, command: [curl, a]}", "{status: 200, connection: reset}"),
        ("exec: {in: x/d, command: [curl, a]}", "{status: 200, route: r}"),
        ("http: {from: outside, url: 'http://a.b/'}", "{status: 200, stdout: x}"),
        ("http: {from: x/d, url: 'ftp://a.b/'}", "{status: 200, route: r}"),
        ("http: {from: x/d, gateway: x/d, url: 'http://a.b/', sni: a.b}", "{certificate: {outside: a.b}}"),
        ("http: {from: x/d, gateway: istio-system/istio-egressgateway, url: 'http://a.b/'}", "{route: a, path: [{proxy: x/d}]}"),
        ("proxyConfig: {of: x/d, routes: a, clusters: b}", "{present: true}"),
        ("proxyConfig: {of: x/d, routes: a}", "{absent: true, contains: {a: 1}}"),
        ("proxyConfig: {of: x/d, routes: a}", "{present: false}"),
        ("proxyConfig: {of: x/d, routes: a}", "{contains: text}"),
        ("proxyConfig: {of: x/d, routes: a}", "{cel: ['object.a == 1', 'object.a == ']}"),
        ("proxyConfig: {of: x/d, routes: a}", "{absent: true, cel: 'object.a == 1'}"),
        ("object: {apiVersion: v1, kind: ConfigMap, name: x/c}", "{cel: \"objct.a == 'b'\"}"),
        ("object: {apiVersion: v1, kind: ConfigMap, name: x/c}", "{cel: [\"object.items.exist(i, i.name == 'a')\", '1 == 1', {a: b}]}"),
        ("object: {apiVersion: v1, kind: ConfigMap, name: x/c/d}", "{present: true}"),
        ("object: {apiVersion: v1, kind: ConfigMap, name: x/c}", "{absent: true, lacks: {a: 1}}"),
        ("logs: {of: istio-system/istiod}", "{contains: ''}"),
        ("analyze: {namespaces: [y]}", "{codes: [X1]}"),
        ("proxyStatus:\n  versions: {}", "{synced: true}"),
        ("given: intact", "{synced: true}"),
    ] {
        golden.scenario(&format!("{probe}\nexpect: {expect}"), &with_probe(probe, expect));
    }
    golden.compare("expectations.txt");
}

#[test]
fn names_have_to_exist_and_be_used() {
    let mut golden = Golden::default();
    let twice = "- {name: c, proves: p, pods: {of: [x/d]}, expect: {ready: 1/1}}\n- {name: c, given: v, proves: p, pods: {of: [x/e]}, expect: {ready: 1/1}}\n";
    golden.scenario(twice, &with_checks(twice));
    let check = "- {name: c, proves: p, given: v, pods: {of: [x/d]}, expect: {ready: 1/1}}\n";
    let variations = "variations:\n- {name: v, about: a, changes: [{without: m.yml}]}\n- {name: v, about: a, changes: [{withoutObject: Gateway x/h}]}\n- {name: intact, about: a, changes: []}\n- {name: unused, about: a, changes: [{with: m.yaml}]}\n";
    golden.scenario(variations, &(with_checks(check) + variations));
    for change in [
        "{patch: {object: Gateway x/g, set: {/spec/servers/0/port/number: 81, /spec/servers/-: {}}, remove: [/spec/selector/istio]}}",
        "{patch: {object: Gateway x/g, set: {/spec/servers/1/port/number: 81}, remove: [/spec/y]}}",
        "{patch: {object: Gateway x/g, remove: [/spec/y]}}",
        "{patch: {object: Gateway x/g, set: {/metadata/name: y}}}",
        "{patch: {object: Gateway x/gg, set: {/spec/a: 1}}}",
        "{patch: {object: Gateway, set: {a: 1}}}",
        "withoutAll, {withoutObject: Gateway x/g}",
        "withotAll, {wthout: m.yaml}, {}",
        "{without: n.yaml}",
        "{scale: {workload: x/g, replicas: -1}}",
        "{controlPlane: {mesh: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, ofALaterIstio: {a: [1]}}, env: {A_B: true, C: 1}}}",
        "{controlPlane: {mesh: {outboundTrafficPolicy: REGISTRY_ONLY, enableAutoMtls: 1, connectTimeout: 5, trustDomainAliases: {}}}}",
        "{controlPlane: {mesh: {defaultConfig: {drainDuration: }, accessLogFile: /a, accessLogFile: /b}}}",
        "{controlPlane: {env: {A B: x, C: [], D: }}}",
        "{controlPlane: {mesh: {}, env: {}}}",
        "{controlPlane: {mesh: [], env: x}}",
        "{controlPlane: {}}, {controlPlane: {environment: {A: b}}}",
    ] {
        golden.scenario(change, &(with_checks(check) + &format!("variations: [{{name: v, about: a, changes: [{change}]}}]\n")));
    }
    golden.compare("names.txt");
}

#[test]
fn manifests_are_kubernetes_objects() {
    let mut golden = Golden::default();
    let scenario = with_probe("versions:", "{agree: true}");
    let item = "- {apiVersion: v1, kind: Namespace, metadata: {name: s}}\n";
    for manifest in [
        "a: b: c",
        "# nothing\n---\n",
        "[]",
        "kind: 1\nmetadata: {name: }\nkind: 2",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: {a: yes}}",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: s, namespace: s}",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: s}\ndata: {tls.key: x}",
        &format!("apiVersion: v1\nkind: List\nitems:\n{item}"),
        &format!("apiVersion: v1\nkind: List\nitems:\n{item}{item}- 1\n"),
    ] {
        golden.files(manifest, &[("a/scenario.yaml", &scenario), ("a/m.yaml", manifest)]);
    }
    golden.compare("manifests.txt");
}

#[test]
fn a_secret_takes_what_is_declared_and_no_key_is_written_down() {
    let told_of = |key: &str, set: &str| {
        let manifest = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: default}}\nstringData: {{tls.key: {key}}}\n");
        let variation = format!(
            "variations: [{{name: v, about: a, changes: [{{patch: {{object: Secret default/s, set: {{/stringData/tls.key: {set}}}}}}}]}}]\n"
        );
        let check = "- {name: c, given: v, proves: p, versions: {}, expect: {agree: true}}\n";
        let scenario = with_checks(check) + "certificates: [{secret: default/web, hosts: [a.example]}]\n" + &variation;
        told(&[("a/scenario.yaml", &scenario), ("a/m.yaml", &manifest)])
    };
    assert_eq!(told_of("$(key:default/web)", "$(key:default/web)"), "");
    assert!(
        told_of("$(key:default/wep)", "$(key:default/web)")
            .contains("scenarios/a/m.yaml:1:1: there is no declared certificate `default/wep`")
    );
    assert!(told_of("$(key:default/web)", "$(key:default/wep)").contains("there is no declared certificate `default/wep`"));
    assert!(told_of("secret", "$(key:default/web)").contains("a private key is kept in a manifest"));
    assert!(told_of("$(key:default/web)", "secret").contains("a private key is kept in a variation"));
}

#[test]
fn needs_are_other_scenarios() {
    let simple =
        |needs: &str| format!("title: t\nneeds: [{needs}]\nchecks: [{{name: v, proves: p, versions: , expect: {{agree: true}}}}]\n");
    let mut golden = Golden::default();
    golden.files("a circle", &[("a/scenario.yaml", &simple("b")), ("b/scenario.yaml", &simple("c")), ("c/scenario.yaml", &simple("a"))]);
    golden.files("itself", &[("a/scenario.yaml", &simple("a"))]);
    let broken = [("aa/scenario.yaml", &*simple("bb, cc")), ("bb/scenario.yaml", "x: 1"), ("d/scenario.yaml", &simple("aa"))];
    golden.files("d needs aa, aa needs bb and cc; bb is broken, cc does not exist", &broken);
    // A subdirectory with its own scenario.yaml is its own scenario; what is in neither is a mistake.
    let nested = [
        ("a/scenario.yaml", &*simple("")),
        ("a/b/scenario.yaml", &simple("a")),
        ("a/b/x.yaml", ""),
        ("c/y.yaml", ""),
        ("d/scenario.yml", ""),
    ];
    golden.files("files that belong elsewhere", &nested);
    let other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n";
    let owner = format!("{}manifests: [n.yaml]\noutside: [h.org]\n", simple(""));
    let user = format!("{}manifests: [n.yaml]\noutside: [{{host: h.org, addresses: 2}}]\n", simple("a"));
    golden.files(
        "two scenarios declare the same differently",
        &[("a/scenario.yaml", &owner), ("a/n.yaml", other), ("b/scenario.yaml", &user), ("b/n.yaml", other)],
    );
    golden.files("nothing", &[]);
    golden.compare("needs.txt");
}

#[test]
fn a_directory_on_disk_loads() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("a/b/scenario.yaml"), with_probe("versions:", "{agree: true}")).unwrap();
    std::fs::write(dir.path().join("a/b/m.yaml"), MANIFEST).unwrap();
    std::fs::write(dir.path().join("a/b/scenario.schema.json"), "{}").unwrap();
    let catalogue = load_catalogue(dir.path());
    assert_eq!(
        catalogue.scenarios.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(),
        ["a/b"],
        "{:?}",
        catalogue.mistakes().collect::<Vec<_>>()
    );
    std::fs::write(dir.path().join("a/b/m.yaml"), b"\xff").unwrap();
    assert_eq!(load_catalogue(dir.path()).broken.len(), 1);
    assert_eq!(load_catalogue(&dir.path().join("nosuch")).root_mistakes.len(), 1);
    std::fs::write(dir.path().join("a/b/m.yaml"), MANIFEST).unwrap();
    assert_eq!(load_catalogue(&dir.path().join("a/b")).root_mistakes.len(), 1);
}

fn all_rendered(files: &[(&str, &str)]) {
    for mistake in load(files).mistakes() {
        let _ = mistake.render(true);
    }
}

/// Lines of the full example, shuffled and broken: more likely to reach deep than random text.
fn torn() -> impl Strategy<Value = String> {
    let lines: Vec<String> = FULL
        .lines()
        .chain(MANIFEST.lines())
        .map(str::to_owned)
        .chain(["- *a", "&a", "? x", "{", "null", "~: ~"].map(str::to_owned))
        .collect();
    proptest::collection::vec((proptest::sample::select(lines), 0..200usize), 0..25)
        .prop_map(|lines| lines.into_iter().map(|(line, cut)| line.chars().take(cut).collect::<String>() + "\n").collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,80}", torn in torn(), cut in 0..FULL.len()) {
        let cut = (0..=cut).rev().find(|i| FULL.is_char_boundary(*i)).unwrap_or(0);
        let valid = with_probe("versions:", "{agree: true}");
        for scenario in [text.as_str(), torn.as_str(), &FULL[..cut], &FULL[cut..], &format!("{}{text}{}", &FULL[..cut], &FULL[cut..])] {
            all_rendered(&[("a/scenario.yaml", scenario), ("a/m.yaml", MANIFEST)]);
            all_rendered(&[("a/scenario.yaml", &valid), ("a/m.yaml", scenario)]);
        }
    }
}

#[test]
fn an_explanation_is_of_a_change_that_prove_makes() {
    let scenario = |change: &str| {
        format!(
            "title: t\nmanifests: [m.yaml]\nunnoticed: [{{change: '{change}', why: w}}]\n\
             checks: [{{name: a, proves: p, pods: {{of: [istio-system/istiod]}}, expect: {{ready: 1/1}}}}]\n"
        )
    };
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\n";
    let catalogue = load(&[("s/m.yaml", manifest), ("s/scenario.yaml", &scenario("without *"))]);
    assert_eq!(catalogue.mistakes().count(), 0);
    assert_eq!(catalogue.scenarios[0].unnoticed, [Unnoticed { change: "without *".into(), why: "w".into() }]);
    let catalogue = load(&[("s/m.yaml", manifest), ("s/scenario.yaml", &scenario("without n.yaml"))]);
    let told: Vec<String> = catalogue.mistakes().map(|m| m.render(false)).collect();
    assert!(told.len() == 1 && told[0].contains("`prove` makes no change `without n.yaml`") && told[0].contains(":3:"), "{told:?}");
}
