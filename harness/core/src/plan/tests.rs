//! Order, dangling references, stages and mutations, over small scenarios in text.

use proptest::prelude::*;

use super::*;
use crate::names::ObjectKey;
use crate::scenario::{KubeObject, tests::load};

const NS: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n";
const MESH: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: x}
spec: {action: ALLOW, selector: {matchLabels: {app: a}}, rules: [{from: [{source: {principals: [cluster.local/ns/x/sa/s]}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: x}
spec:
  exportTo: ["."]
  hosts: [o.org]
  gateways: [mesh, g]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [o.org]}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: s, port: {number: 443}}}]
  - match: [{gateways: [g], port: 443, sniHosts: [o.org]}]
    route: [{destination: {host: o.org, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: x}
spec: {host: istio-egressgateway.istio-system.svc.cluster.local, subsets: [{name: s, labels: {a: b}, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: o.org}}]}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: x}
spec: {selector: {istio: egressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [o.org], tls: {mode: PASSTHROUGH}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: x}
spec: {hosts: [o.org], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS, location: MESH_EXTERNAL}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: w, namespace: x}
---
apiVersion: v1
kind: Service
metadata: {name: w, namespace: x}
"#;
const SCENARIO: &str = "
title: t
manifests: [m.yaml]
variations:
- {name: late, about: a, changes: [{without: m.yaml}]}
- {name: before, about: a, changes: [withoutAll]}
checks:
- {name: a, proves: p, given: late, versions: , expect: {agree: true}}
- {name: b, proves: p, versions: , expect: {agree: true}}
- {name: c, proves: p, given: before, versions: , expect: {agree: true}}
";

fn catalogue() -> Catalogue {
    let base = "title: t\nneeds: [z]\ngateways: [{at: gw/a}]\nchecks: [{name: a, proves: p, versions: , expect: {agree: true}}]\n";
    let last = "title: t\noutside: [o.org]\nchecks: [{name: a, proves: p, versions: , expect: {agree: true}}]\n";
    let catalogue = load(&[
        ("m/scenario.yaml", &format!("{SCENARIO}needs: [b]\n")),
        ("m/m.yaml", &format!("{NS}{MESH}")),
        ("b/scenario.yaml", base),
        ("z/scenario.yaml", last),
    ]);
    assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    catalogue
}

fn objects() -> Vec<KubeObject> {
    catalogue().get(&ScenarioId::new("m").unwrap()).unwrap().manifests[0].objects.clone()
}

fn shown(plan: &Plan) -> Vec<String> {
    let stages = |s: &PlannedScenario| s.stages.iter().map(|g| format!("{}{:?}", g.state, g.checks)).collect::<Vec<_>>().join(" ");
    let beneath = |s: &PlannedScenario| s.beneath.iter().map(|b| b.id.to_string()).collect::<Vec<_>>().join(",");
    plan.scenarios.iter().map(|s| format!("{} on [{}]: {}", s.scenario.id, beneath(s), stages(s))).collect()
}

#[test]
fn needs_come_first_and_nothing_comes_before_something() {
    let all = plan(&catalogue(), &|_, _| true);
    assert_eq!(shown(&all), ["z on []: intact[0]", "b on [z]: intact[0]", "m on [z,b]: before[2] intact[1] late[0]"]);
    assert_eq!((all.gateways.len(), all.outside.len()), (1, 1));
    let one = plan(&catalogue(), &|id, check| id.as_str() == "m" && check == "b");
    assert_eq!(shown(&one), ["m on [z,b]: intact[1]"]);
    assert_eq!((one.gateways.len(), one.outside.len()), (1, 1));
    let none = plan(&catalogue(), &|_, _| false);
    assert!(none.scenarios.is_empty() && none.gateways.is_empty());
}

#[test]
fn what_is_skipped_is_not_planned_and_neither_is_what_stands_on_it() {
    let files = [
        ("a/scenario.yaml", "title: t\ngateways: [{at: gw/a}]\nchecks: [{name: one, proves: p, versions: , expect: {agree: true}}]\n"),
        ("b/scenario.yaml", "title: t\nneeds: [a]\nchecks: [{name: one, proves: p, versions: , expect: {agree: true}}]\n"),
        (
            "c/scenario.yaml",
            "title: t\nchecks: [{name: one, proves: p, versions: , expect: {agree: true}}, {name: two, proves: p, versions: , expect: {agree: true}}]\n",
        ),
        ("exceptions.yaml", "skip:\n- {scenario: a, reason: no image}\n- {check: 'c::two', reason: r}\n"),
    ];
    let catalogue = load(&files);
    assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let all = plan(&catalogue, &|_, _| true);
    assert_eq!(shown(&all), ["c on []: intact[0]"]);
    assert!(all.gateways.is_empty(), "a gateway of a skipped scenario is not brought up");
    let skipped: Vec<String> =
        all.skipped.iter().map(|s| format!("{}::{}: {}", s.scenario.id, s.scenario.checks[s.check].name, s.reason)).collect();
    assert_eq!(skipped, ["a::one: no image", "b::one: it needs `a`, which is skipped: no image", "c::two: r"]);
    // Only what was selected is told of.
    assert_eq!(plan(&catalogue, &|id, _| id.as_str() == "b").skipped.len(), 1);
}

fn keys(objects: &[KubeObject]) -> Vec<Vec<String>> {
    let refs: Vec<_> = objects.iter().collect();
    apply_waves(&refs).waves.iter().map(|w| w.iter().map(|i| objects[*i].key.to_string()).collect()).collect()
}

#[test]
fn objects_come_after_what_they_refer_to() {
    let expected: &[&[&str]] = &[
        &["Namespace x"],
        &["Service x/w"],
        &["Deployment x/w"],
        &["DestinationRule x/d", "Gateway x/g", "ServiceEntry x/e"],
        &["VirtualService x/v"],
        &["AuthorizationPolicy x/p"],
    ];
    assert_eq!(keys(&objects()), expected);
}

#[test]
fn what_points_nowhere_is_told() {
    let check = |leave_out: &[&str], expected: &[&str]| {
        let objects: Vec<_> = objects().into_iter().filter(|o| !leave_out.contains(&o.key.kind.as_str())).collect();
        let plan = plan(&catalogue(), &|id, _| id.as_str() == "m");
        assert_eq!(dangling(&objects.iter().collect::<Vec<_>>(), &plan.scenarios[0].known()), expected);
    };
    check(&[], &[]);
    check(
        &["Gateway"],
        &[
            "VirtualService x/v refers at /spec/gateways/1 to Gateway x/g, which is declared nowhere",
            "VirtualService x/v refers at /spec/tls/1/match/0/gateways/0 to Gateway x/g, which is declared nowhere",
        ],
    );
    check(
        &["ServiceEntry"],
        &[
            "VirtualService x/v refers at /spec/tls/1/route/0/destination/host to the host o.org, which no Service and no ServiceEntry declares",
        ],
    );
    check(
        &["DestinationRule"],
        &[
            "VirtualService x/v refers at /spec/tls/0/route/0/destination/subset to the subset s of istio-egressgateway.istio-system.svc.cluster.local, which no DestinationRule declares",
        ],
    );
    let mut gateway = objects().into_iter().find(|o| o.key.kind == "Gateway").unwrap();
    gateway.value["spec"]["selector"]["istio"] = "x".into();
    gateway.value["spec"]["servers"][0]["tls"]["credentialName"] = "c".into();
    let told = dangling(&[&gateway], &Known { gateways: default_gateways(), ..Known::default() });
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn mutations_cover_every_telling_field_and_stay_applicable() {
    let catalogue = catalogue();
    let scenario = catalogue.get(&ScenarioId::new("m").unwrap()).unwrap();
    let intact = objects_in(scenario, INTACT).unwrap();
    let mutations = mutations(scenario);
    for mutation in &mutations {
        assert_ne!(changed(scenario, &mutation.changes).unwrap(), intact, "{}", mutation.id);
    }
    let ids: Vec<_> = mutations.iter().map(|m| m.id.as_str()).collect();
    insta::assert_snapshot!(ids.join("\n"), @r#"
    without m.yaml
    AuthorizationPolicy x/p: /spec/action ALLOW → DENY
    AuthorizationPolicy x/p: /spec/rules/0/from/0/source/principals/0 cluster.local/ns/x/sa/s → cluster.local/ns/x/sa/s-bent
    AuthorizationPolicy x/p: /spec/selector/matchLabels/app a → bent-a
    VirtualService x/v: /spec/gateways/0 mesh → bent-mesh
    VirtualService x/v: /spec/gateways/1 g → bent-g
    VirtualService x/v: /spec/hosts/0 o.org → bent-o.org
    VirtualService x/v: /spec/tls/0/match/0/gateways/0 mesh → bent-mesh
    VirtualService x/v: /spec/tls/0/match/0/port 443 → 444
    VirtualService x/v: /spec/tls/0/match/0/sniHosts/0 o.org → bent-o.org
    VirtualService x/v: /spec/tls/0/route/0/destination/host istio-egressgateway.istio-system.svc.cluster.local → bent-istio-egressgateway.istio-system.svc.cluster.local
    VirtualService x/v: /spec/tls/0/route/0/destination/port/number 443 → 444
    VirtualService x/v: /spec/tls/0/route/0/destination/subset s → bent-s
    VirtualService x/v: /spec/tls/1/match/0/gateways/0 g → bent-g
    VirtualService x/v: /spec/tls/1/match/0/port 443 → 444
    VirtualService x/v: /spec/tls/1/match/0/sniHosts/0 o.org → bent-o.org
    VirtualService x/v: /spec/tls/1/route/0/destination/host o.org → bent-o.org
    VirtualService x/v: /spec/tls/1/route/0/destination/port/number 443 → 444
    VirtualService x/v: /spec/tls routes as tcp
    VirtualService x/v: /spec/tls routes as http
    VirtualService x/v: /spec/exportTo/0 . → bent-x
    DestinationRule x/d: /spec/host istio-egressgateway.istio-system.svc.cluster.local → bent-istio-egressgateway.istio-system.svc.cluster.local
    DestinationRule x/d: /spec/subsets/0/labels/a b → bent-b
    DestinationRule x/d: /spec/subsets/0/name s → bent-s
    DestinationRule x/d: /spec/subsets/0/trafficPolicy/portLevelSettings/0/port/number 443 → 444
    DestinationRule x/d: /spec/subsets/0/trafficPolicy/portLevelSettings/0/tls/mode ISTIO_MUTUAL → DISABLE
    DestinationRule x/d: /spec/subsets/0/trafficPolicy/portLevelSettings/0/tls/sni o.org → bent-o.org
    Gateway x/g: /spec/selector/istio egressgateway → bent-egressgateway
    Gateway x/g: /spec/servers/0/hosts/0 o.org → bent-o.org
    Gateway x/g: /spec/servers/0/port/number 443 → 444
    Gateway x/g: /spec/servers/0/port/protocol TLS → TCP
    Gateway x/g: /spec/servers/0/tls/mode PASSTHROUGH → ISTIO_MUTUAL
    ServiceEntry x/e: /spec/hosts/0 o.org → bent-o.org
    ServiceEntry x/e: /spec/location MESH_EXTERNAL → MESH_INTERNAL
    ServiceEntry x/e: /spec/ports/0/number 443 → 444
    ServiceEntry x/e: /spec/ports/0/protocol TLS → HTTP
    ServiceEntry x/e: /spec/resolution DNS → NONE
    "#);
}

/// Objects of every tier with references at random, circles among them.
fn some_objects() -> impl Strategy<Value = Vec<KubeObject>> {
    let kinds = [
        ("v1", "Namespace"),
        ("v1", "Service"),
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("example.org/v1", "Thing"),
        ("networking.istio.io/v1", "VirtualService"),
        ("networking.istio.io/v1", "Gateway"),
        ("networking.istio.io/v1", "ServiceEntry"),
        ("networking.istio.io/v1", "DestinationRule"),
        ("security.istio.io/v1", "AuthorizationPolicy"),
    ];
    let object = (proptest::sample::select(kinds.to_vec()), 0..4usize, 0..4usize).prop_map(|((api, kind), name, to)| {
        let spec = serde_json::json!({
            "hosts": [format!("h{name}.org")], "host": format!("h{to}.org"), "gateways": [format!("n{to}")],
            "http": [{"delegate": {"name": format!("n{to}")}, "route": [{"destination": {"host": format!("h{to}.org")}}]}],
        });
        let namespace = (kind != "Namespace").then(|| format!("n{to}"));
        let key = ObjectKey { api_version: api.to_owned(), kind: kind.to_owned(), namespace, name: format!("n{name}") };
        KubeObject { key, value: serde_json::json!({"spec": spec}), line: 1 }
    });
    proptest::collection::vec(object, 0..24).prop_map(|mut all| {
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn waves_hold_every_object_once_whatever_the_order_of_input(objects in some_objects(), seed in any::<u64>()) {
        let refs: Vec<_> = objects.iter().collect();
        let waves = apply_waves(&refs);
        let mut all: Vec<_> = waves.order().collect();
        let place = |i: usize| waves.waves.iter().position(|w| w.contains(&i)).unwrap();
        for (i, object) in objects.iter().enumerate() {
            for (j, other) in objects.iter().enumerate() {
                if other.key.kind == "Namespace" && object.key.namespace.as_ref() == Some(&other.key.name) {
                    prop_assert!(place(j) < place(i));
                }
            }
        }
        all.sort_unstable();
        prop_assert_eq!(all, (0..objects.len()).collect::<Vec<_>>());
        let mut other = objects.clone();
        other.sort_by_key(|o| o.key.to_string().bytes().fold(seed, |h, b| h.rotate_left(7) ^ u64::from(b).wrapping_mul(0x9E37_79B9)));
        prop_assert_eq!(keys(&objects), keys(&other));
        let _ = dangling(&refs, &Known::default());
    }
}
