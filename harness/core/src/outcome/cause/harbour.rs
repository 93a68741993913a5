//! A harbour's mesh for tests: an ingress and an egress through a gateway, and the ways their calls may fail.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::names::ObjectKey;
use crate::outcome::{AccessLogEntry, EvidenceKind};
use crate::plan::apply_edit;
use crate::scenario::{Edit, HopExpect};

pub(super) const FRONT: &str = "edge/front";
pub(super) const OUT: &str = "edge/out";
pub(super) const BUYER: &str = "market/buyer";
pub(super) const TILL: &str = "market/till";

pub(super) fn at(text: &str) -> Namespaced {
    Namespaced::parse(text).unwrap()
}

pub(super) fn object(api: &str, kind: &str, place: &str, mut value: Value) -> KubeObject {
    let at = at(place);
    let key = ObjectKey { api_version: api.into(), kind: kind.into(), namespace: Some(at.namespace), name: at.name };
    if !value.is_object() {
        value = json!({});
    }
    KubeObject { key, value, line: 0 }
}

pub(super) fn workload(place: &str, labels: Value, containers: Value) -> Vec<KubeObject> {
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
    vec![
        object("apps/v1", "Deployment", place, json!({"spec": {"template": template}})),
        object(
            "v1",
            "Pod",
            &format!("{place}-1"),
            json!({"metadata": {"labels": labels}, "spec": {"containers": containers}, "status": ready}),
        ),
    ]
}

pub(super) fn istio(kind: &str, place: &str, spec: Value) -> KubeObject {
    object("networking.istio.io/v1", kind, place, json!({ "spec": spec }))
}

pub(super) fn service(place: &str, selector: Value, ports: &[(&str, u16, u16)]) -> KubeObject {
    let ports: Vec<Value> = ports.iter().map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target})).collect();
    object("v1", "Service", place, json!({"spec": {"selector": selector, "ports": ports}}))
}

#[derive(Clone)]
pub(super) struct Harbour(pub(super) Vec<KubeObject>);

impl Harbour {
    pub(super) fn whole() -> Self {
        let proxy = json!([{"name": "istio-proxy"}]);
        let app = |port: u16| json!([{"name": "app", "ports": [{"containerPort": port}]}, {"name": "istio-proxy"}]);
        let mut all = workload(FRONT, json!({"gate": "front"}), proxy.clone());
        all.extend(workload(OUT, json!({"gate": "out"}), proxy));
        all.extend(workload(TILL, json!({"app": "till", "tide": "low"}), app(8080)));
        all.extend(workload(BUYER, json!({"app": "buyer"}), app(9)));
        let of_gate = [("http2", 80, 8080), ("https", 443, 8443)];
        all.push(service(FRONT, json!({"gate": "front"}), &of_gate));
        all.push(service(OUT, json!({"gate": "out"}), &of_gate));
        all.push(service(TILL, json!({"app": "till"}), &[("http", 8000, 8080)]));
        all.push(object("v1", "Secret", "edge/till-cert", json!({})));
        all.push(istio(
            "Gateway",
            "market/front-gw",
            json!({"selector": {"gate": "front"}, "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["till.harbour.test"]},
                {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["till.harbour.test"],
                 "tls": {"mode": "SIMPLE", "credentialName": "till-cert"}}]}),
        ));
        all.push(istio(
            "VirtualService",
            "market/till",
            json!({"hosts": ["till.harbour.test"], "gateways": ["front-gw"], "http": [
                {"match": [{"uri": {"prefix": "/get"}}], "route": [{"destination": {"host": "till", "subset": "low", "port": {"number": 8000}}}]}]}),
        ));
        all.push(istio("DestinationRule", TILL, json!({"host": "till", "subsets": [{"name": "low", "labels": {"tide": "low"}}]})));
        all.push(istio(
            "ServiceEntry",
            "market/quay",
            json!({"hosts": ["quay.harbour.test"], "resolution": "DNS", "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]}),
        ));
        all.push(istio(
            "Gateway",
            "market/out-gw",
            json!({"selector": {"gate": "out"}, "servers": [
                {"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["quay.harbour.test"], "tls": {"mode": "PASSTHROUGH"}}]}),
        ));
        all.push(istio("DestinationRule", "market/out", json!({"host": "out.edge.svc.cluster.local", "subsets": [{"name": "quay"}]})));
        all.push(istio(
            "VirtualService",
            "market/quay",
            json!({"hosts": ["quay.harbour.test"], "gateways": ["mesh", "out-gw"], "tls": [
                {"match": [{"gateways": ["mesh"], "port": 443, "sniHosts": ["quay.harbour.test"]}],
                 "route": [{"destination": {"host": "out.edge.svc.cluster.local", "subset": "quay", "port": {"number": 443}}}]},
                {"match": [{"gateways": ["out-gw"], "port": 443, "sniHosts": ["quay.harbour.test"]}],
                 "route": [{"destination": {"host": "quay.harbour.test", "port": {"number": 443}}}]}]}),
        ));
        Self(all)
    }

    pub(super) fn without(mut self, shown: &str) -> Self {
        let before = self.0.len();
        self.0.retain(|o| o.key.to_string() != shown);
        assert!(self.0.len() < before, "{shown}");
        self
    }

    pub(super) fn set(mut self, shown: &str, pointer: &str, value: Value) -> Self {
        let object = self.0.iter_mut().find(|o| o.key.to_string() == shown).unwrap_or_else(|| panic!("{shown}"));
        apply_edit(&mut object.value, &Edit::Set { pointer: pointer.to_owned(), value }).unwrap();
        self
    }

    pub(super) fn with(mut self, object: KubeObject) -> Self {
        self.0.push(object);
        self
    }

    pub(super) fn moved(mut self, shown: &str, namespace: &str) -> Self {
        let object = self.0.iter_mut().find(|o| o.key.to_string() == shown).unwrap_or_else(|| panic!("{shown}"));
        object.key.namespace = Some(namespace.to_owned());
        self
    }

    pub(super) fn read(&self) -> Configured {
        Configured::new(self.0.clone(), BTreeSet::new(), "istio-root")
    }
}

/// A line in Istio's format with what matters here.
pub(super) struct Line<'a> {
    pub(super) proxy: &'a str,
    pub(super) request: &'a str,
    pub(super) code: u16,
    pub(super) flags: &'a str,
    pub(super) details: &'a str,
    pub(super) termination: &'a str,
    pub(super) authority: &'a str,
    pub(super) cluster: &'a str,
    pub(super) on: u16,
    pub(super) sni: &'a str,
}

pub(super) const TCP: Line<'_> = Line {
    proxy: "",
    request: "- - -",
    code: 0,
    flags: "-",
    details: "-",
    termination: "-",
    authority: "-",
    cluster: "-",
    on: 443,
    sni: "-",
};

impl Line<'_> {
    pub(super) fn hop(&self) -> HopSeen {
        let Line { request, code, flags, details, termination, authority, cluster, on, sni, .. } = self;
        let line = format!(
            "[2026-11-21T01:40:34.043Z] \"{request}\" {code} {flags} {details} {termination} \"-\" 0 0 1 - \"-\" \"ua\" \"id\" \"{authority}\" \
             \"-\" {cluster} - 10.0.0.2:{on} 10.0.0.3:4000 {sni} -"
        );
        HopSeen { proxy: at(self.proxy), pod: "p".into(), entry: AccessLogEntry::parse(&line).unwrap(), joined_by: "t".into() }
    }
}

/// A request in a line of the ingress gateway.
pub(super) fn at_front<'a>(flags: &'a str, details: &'a str, cluster: &'a str) -> Line<'a> {
    Line { proxy: FRONT, request: "GET /get HTTP/1.1", code: 503, flags, details, authority: "till.harbour.test", cluster, on: 8080, ..TCP }
}

pub(super) fn at_buyer<'a>(flags: &'a str, cluster: &'a str) -> Line<'a> {
    Line { proxy: BUYER, flags, cluster, sni: "quay.harbour.test", ..TCP }
}

pub(super) fn at_out<'a>(flags: &'a str, cluster: &'a str) -> Line<'a> {
    Line { proxy: OUT, flags, cluster, on: 8443, sni: "quay.harbour.test", ..TCP }
}

pub(super) fn ingress() -> Call {
    Call {
        caller: None,
        gateway: Some(at(FRONT)),
        tls: false,
        host: "till.harbour.test".into(),
        sni: None,
        connects_to: None,
        port: 80,
        path: "/get".into(),
        method: "GET".into(),
        headers: vec![],
        certificate: false,
    }
}

pub(super) fn ingress_tls() -> Call {
    Call { tls: true, port: 443, sni: Some("till.harbour.test".into()), ..ingress() }
}

pub(super) fn egress() -> Call {
    Call {
        caller: Some(at(BUYER)),
        gateway: None,
        tls: true,
        host: "quay.harbour.test".into(),
        sni: Some("quay.harbour.test".into()),
        port: 443,
        ..ingress()
    }
}

pub(super) fn hop_wanted(proxy: &str, cluster: Option<&str>) -> HopExpect {
    HopExpect { cluster: cluster.map(str::to_owned), ..HopExpect::any(at(proxy)) }
}

/// What an egress check wants: through the gateway.
pub(super) fn through_the_gateway() -> CallExpect {
    let path = vec![hop_wanted(BUYER, Some("outbound|443|quay|out.edge.svc.cluster.local")), hop_wanted(OUT, None)];
    CallExpect { status: Some(200), path, ..CallExpect::default() }
}

pub(super) fn told_of(harbour: &Harbour, call: &Call, expect: CallExpect, seen: CallSeen) -> Option<Cause> {
    let mismatch = Mismatch { what: "status".into(), expected: "200".into(), observed: "?".into(), by: EvidenceKind::Traffic };
    likely_cause(&harbour.read(), call, &Expectation::Call(Box::new(expect)), &seen, &[mismatch])
}

pub(super) fn wants_200() -> CallExpect {
    CallExpect { status: Some(200), ..CallExpect::default() }
}

pub(super) fn after(line: &Line<'_>) -> CallSeen {
    CallSeen { hops: vec![line.hop()], connection: Some(Connection::Answered), status: Some(line.code), ..CallSeen::default() }
}

pub(super) fn ended(end: Connection, hops: Vec<HopSeen>) -> CallSeen {
    CallSeen { hops, connection: Some(end), ..CallSeen::default() }
}

/// The ways a call of the ingress may fail, as proxies and callers tell them.
pub(super) fn ingress_symptoms() -> Vec<(&'static str, Call, CallSeen)> {
    vec![
        ("no route", ingress(), after(&at_front("NR", "route_not_found", "-"))),
        ("no cluster", ingress(), after(&at_front("NC", "cluster_not_found", "-"))),
        ("no endpoint", ingress(), after(&at_front("UH", "no_healthy_upstream", "outbound|8000|low|till.market.svc.cluster.local"))),
        ("failed", ingress(), after(&at_front("UF,URX", "-", "outbound|8000|low|till.market.svc.cluster.local"))),
        ("refused", ingress(), ended(Connection::Refused, vec![])),
        ("reset over TLS", ingress_tls(), ended(Connection::Reset, vec![])),
    ]
}

pub(super) fn egress_symptoms() -> Vec<(&'static str, Call, CallSeen)> {
    vec![
        ("past it", egress(), after(&at_buyer("-", "PassthroughCluster"))),
        ("past the gateway", egress(), after(&at_buyer("-", "outbound|443||quay.harbour.test"))),
        ("no cluster", egress(), ended(Connection::Closed, vec![at_buyer("NC", "-").hop()])),
        ("not taken", egress(), ended(Connection::Reset, vec![at_buyer("UF,URX", "outbound|443|quay|out.edge.svc.cluster.local").hop()])),
        (
            "no chain",
            egress(),
            ended(Connection::Closed, vec![at_buyer("-", "outbound|443|quay|out.edge.svc.cluster.local").hop(), at_out("NR", "-").hop()]),
        ),
        (
            "no cluster there",
            egress(),
            ended(Connection::Closed, vec![at_buyer("-", "outbound|443|quay|out.edge.svc.cluster.local").hop(), at_out("NC", "-").hop()]),
        ),
        (
            "no endpoint there",
            egress(),
            ended(
                Connection::Closed,
                vec![
                    at_buyer("-", "outbound|443|quay|out.edge.svc.cluster.local").hop(),
                    at_out("UH", "outbound|443||quay.harbour.test").hop(),
                ],
            ),
        ),
    ]
}

/// The cause of a broken harbour, with parts of its words and its first place.
pub(super) fn says(harbour: &Harbour, call: &Call, expect: CallExpect, seen: CallSeen, parts: &[&str], place: &str) {
    let cause = told_of(harbour, call, expect, seen).unwrap_or_else(|| panic!("no cause; wanted {parts:?}"));
    for part in parts {
        assert!(cause.text.contains(part), "{cause} lacks {part}");
    }
    let first = cause.places.first().map(|p| format!("{} {}", p.object, p.field)).unwrap_or_default();
    assert_eq!(first, place, "{cause}");
}

pub(super) fn ingress_says(harbour: &Harbour, symptom: &str, parts: &[&str], place: &str) {
    let (_, call, seen) = ingress_symptoms().into_iter().find(|(name, ..)| *name == symptom).unwrap();
    says(harbour, &call, wants_200(), seen, parts, place);
}

pub(super) fn egress_says(harbour: &Harbour, symptom: &str, parts: &[&str], place: &str) {
    let (_, call, seen) = egress_symptoms().into_iter().find(|(name, ..)| *name == symptom).unwrap();
    says(harbour, &call, through_the_gateway(), seen, parts, place);
}
