use std::path::Path;

use serde_json::{Value, json};

use super::super::tests::load;
use super::*;
use crate::scenario::{Catalogue, load_catalogue};

const SCENARIO: &str = r#"
title: t
gateways: [{at: egress-x/egw-x, labels: {istio: egw-x}}]
certificates: [{secret: istio-system/web, hosts: [a.example]}]
manifests: [m.yaml]
variations:
  - {name: none, about: x, changes: [{scale: {workload: istio-system/istio-egressgateway, replicas: 0}}]}
  - name: bent
    about: x
    changes: [{patch: {object: VirtualService x/v, set: {/spec/http/0/route/0/destination/host: istio-egressgateway.istio-system.svc.cluster.local}}}]
  - name: elsewhere
    about: x
    changes:
      - {patch: {object: Gateway x/in, set: {/spec/selector: {istio: egw-x}}}}
      - {patch: {object: Gateway egress-x/out, set: {/spec/selector/istio: ingressgateway}}}
      - {patch: {object: AuthorizationPolicy istio-system/deny, set: {/spec/selector/matchLabels: {app: istio-ingressgateway}}}}
checks:
  - name: c
    proves: p
    http: {from: outside, gateway: istio-system/istio-ingressgateway, url: "https://a.example/"}
    expect:
      certificate: {secret: istio-system/web}
      path: [{proxy: istio-system/istio-ingressgateway, cluster: "outbound|443||istio-egressgateway.istio-system.svc.cluster.local"}]
      absentFrom: [istio-system/istio-egressgateway]
  - {name: d, given: none, proves: p, versions: {}, expect: {agree: true}}
  - {name: e, given: bent, proves: p, versions: {}, expect: {agree: true}}
  - {name: f, given: elsewhere, proves: p, versions: {}, expect: {agree: true}}
"#;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: x, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: egress-x}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: in, namespace: x}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: h, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: web}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: egress-x}
spec: {selector: {istio: egw-x}, servers: [{port: {number: 443, name: t, protocol: TLS}, hosts: [b.example], tls: {mode: PASSTHROUGH}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: x}
spec:
  hosts: [a.example]
  exportTo: [".", istio-system, egress-x]
  gateways: [in, egress-x/out]
  http: [{route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local}}, {destination: {host: my-istio-egressgateway.istio-system.svc.cluster.local}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: istio-system}
spec: {selector: {matchLabels: {istio: ingressgateway}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"#;

fn gateway(at: &str, service: &str, labels: Option<&[(&str, &str)]>) -> super::super::GatewayValues {
    super::super::GatewayValues {
        at: Namespaced::parse(at).unwrap(),
        service: Namespaced::parse(service).unwrap(),
        labels: labels.map(|l| l.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        http: None,
        https: None,
    }
}

fn values() -> ClusterValues {
    let at = |t: &str| Namespaced::parse(t).unwrap();
    ClusterValues {
        root_namespace: "mesh-root".into(),
        revision: Some("stable".into()),
        istiod: at("mesh-root/istiod-stable"),
        gateways: BTreeMap::from([
            (at("istio-system/istio-ingressgateway"), gateway("edge/public", "edge/public-lb", Some(&[("gateway", "public")]))),
            (at("istio-system/istio-egressgateway"), gateway("out/egress", "out/egress", None)),
            (at("egress-x/egw-x"), gateway("out/egw-x", "out/egw-x", None)),
        ]),
        outside_ca: None,
    }
}

fn catalogue() -> Catalogue {
    let catalogue = load(&[("a/scenario.yaml", SCENARIO), ("a/m.yaml", MANIFEST)]);
    assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    catalogue
}

fn object<'s>(scenario: &'s Scenario, kind: &str, name: &str) -> &'s KubeObject {
    scenario.manifests[0].objects.iter().find(|o| o.key.kind == kind && o.key.name == name).unwrap()
}

#[test]
fn objects_speak_of_the_clusters_gateways() {
    let mapped = remap(&catalogue(), &values());
    let scenario = &mapped.scenarios[0];
    assert_eq!(object(scenario, "Gateway", "in").value["spec"]["selector"], json!({"gateway": "public"}));
    let out = object(scenario, "Gateway", "out");
    assert_eq!((out.key.namespace.as_deref(), &out.value["spec"]["selector"]), (Some("out"), &json!({"istio": "egw-x"})));
    assert_eq!(out.value["metadata"]["namespace"], "out", "what stood in a gateway's namespace follows it");
    let v = &object(scenario, "VirtualService", "v").value["spec"];
    assert_eq!(v["exportTo"], json!([".", "out", "edge"]));
    assert_eq!(v["gateways"], json!(["in", "out/out"]));
    assert_eq!(v["http"][0]["route"][0]["destination"]["host"], "egress.out.svc.cluster.local");
    assert_eq!(
        v["http"][0]["route"][1]["destination"]["host"], "my-istio-egressgateway.istio-system.svc.cluster.local",
        "the end of another name is not ours"
    );
    let deny = object(scenario, "AuthorizationPolicy", "deny");
    assert_eq!(
        (deny.key.namespace.as_deref(), &deny.value["spec"]["selector"]["matchLabels"]),
        (Some("edge"), &json!({"gateway": "public"}))
    );
    assert_eq!(object(scenario, "PeerAuthentication", "default").key.namespace.as_deref(), Some("mesh-root"));
}

#[test]
fn namespaces_of_gateways_are_left_alone_and_others_join_the_revision() {
    let mapped = remap(&catalogue(), &values());
    let namespaces: Vec<_> = mapped.scenarios[0].manifests[0].objects.iter().filter(|o| o.key.kind == "Namespace").collect();
    assert_eq!(namespaces.len(), 1);
    assert_eq!(namespaces[0].value["metadata"]["labels"], json!({"istio.io/rev": "stable"}));
}

#[test]
fn checks_and_variations_follow() {
    let mapped = remap(&catalogue(), &values());
    let scenario = &mapped.scenarios[0];
    assert_eq!(scenario.certificates[0].secret.to_string(), "edge/web", "a secret stands where its gateway does");
    let Expectation::Call(call) = &scenario.checks[0].expect else { panic!() };
    assert_eq!(call.certificate, Some(CertificateExpect::Secret(Namespaced::parse("edge/web").unwrap())));
    assert_eq!(call.path[0].proxy.to_string(), "edge/public");
    assert_eq!(call.path[0].cluster.as_deref(), Some("outbound|443||egress.out.svc.cluster.local"));
    assert_eq!(call.absent_from[0].to_string(), "out/egress");
    assert!(matches!(&scenario.variations[0].changes[0], Change::Scale { workload, .. } if workload.to_string() == "out/egress"));
    let Change::Patch { edits, .. } = &scenario.variations[1].changes[0] else { panic!() };
    assert!(matches!(&edits[0], Edit::Set { value: Value::String(host), .. } if host == "egress.out.svc.cluster.local"));
    let used: Vec<_> = scenario.gateways.iter().map(|g| (g.at.to_string(), g.service != GatewayService::ClusterIp)).collect();
    assert_eq!(used, [("out/egw-x".to_owned(), false), ("out/egress".to_owned(), false), ("edge/public".to_owned(), true)]);
}

#[test]
fn a_variation_that_selects_another_gateway_selects_the_clusters() {
    let mapped = remap(&catalogue(), &values());
    let edits: Vec<Edit> = mapped.scenarios[0].variations[2]
        .changes
        .iter()
        .map(|change| match change {
            Change::Patch { edits, .. } => edits[0].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let set = |pointer: &str, value: Value| Edit::Set { pointer: pointer.to_owned(), value };
    assert_eq!(edits[0], set("/spec/selector", json!({"istio": "egw-x"})), "that gateway has the labels of ours");
    assert_eq!(edits[1], set("/spec/selector", json!({"gateway": "public"})), "a label of another name is no edit of one label");
    assert_eq!(edits[2], set("/spec/selector/matchLabels", json!({"gateway": "public"})));
}

/// Nothing but namespaces of gateways and the list of used gateways may change without values.
#[test]
fn without_values_the_committed_scenarios_stay_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let before = load_catalogue(&root);
    let after = remap(&before, &ClusterValues::default());
    for (a, b) in before.scenarios.iter().zip(&after.scenarios) {
        let objects = |s: &Scenario| s.manifests.iter().flat_map(|m| m.objects.clone()).collect::<Vec<_>>();
        let homes: Vec<_> = a.gateways.iter().map(|g| g.at.namespace.clone()).collect();
        let kept: Vec<_> = objects(a).into_iter().filter(|o| o.key.kind != "Namespace" || !homes.contains(&o.key.name)).collect();
        assert_eq!(kept, objects(b), "{}", a.id);
        assert_eq!(format!("{:?}", a.checks), format!("{:?}", b.checks), "{}", a.id);
        assert_eq!(a.certificates, b.certificates);
    }
}
