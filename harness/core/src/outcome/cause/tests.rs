//! What is whole has no cause; an egress broken in one place at a time; policies and limits.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::harbour::*;
use super::*;
use crate::outcome::{EvidenceKind, MissingHop};
use crate::scenario::HopExpect;

#[test]
fn what_is_whole_has_no_cause_whatever_was_seen() {
    let harbour = Harbour::whole();
    for (what, call, seen) in ingress_symptoms() {
        assert_eq!(told_of(&harbour, &call, wants_200(), seen), None, "{what}");
    }
    for (what, call, seen) in egress_symptoms() {
        assert_eq!(told_of(&harbour, &call, through_the_gateway(), seen), None, "{what}");
    }
}

#[test]
fn without_a_mismatch_or_with_a_refused_push_there_is_no_cause() {
    let broken = Harbour::whole().without("VirtualService market/till").read();
    let (expect, seen) = (Expectation::Call(Box::new(wants_200())), after(&at_front("NR", "route_not_found", "-")));
    assert_eq!(likely_cause(&broken, &ingress(), &expect, &seen, &[]), None);
    let refused = Mismatch { what: "configuration".into(), expected: "-".into(), observed: "-".into(), by: EvidenceKind::ProxyConfig };
    assert_eq!(likely_cause(&broken, &ingress(), &expect, &seen, &[refused]), None);
}

#[test]
fn a_failure_that_is_wanted_has_no_cause() {
    let broken = Harbour::whole().without("VirtualService market/till");
    let seen = || after(&Line { code: 404, ..at_front("NR", "route_not_found", "-") });
    let wants_404 = CallExpect { status: Some(404), ..CallExpect::default() };
    assert_eq!(told_of(&broken, &ingress(), wants_404, seen()), None);
    let hop = HopExpect { flags: Some("NR".into()), ..hop_wanted(FRONT, None) };
    assert_eq!(told_of(&broken, &ingress(), CallExpect { path: vec![hop], ..CallExpect::default() }, seen()), None);
    assert!(told_of(&broken, &ingress(), wants_200(), seen()).is_some());
    let closed = CallExpect { connection: vec![Connection::Refused], ..CallExpect::default() };
    let gone = Harbour::whole().without("Gateway market/front-gw");
    assert_eq!(told_of(&gone, &ingress(), closed, ended(Connection::Refused, vec![])), None);
}

#[test]
fn egress_without_a_virtual_service() {
    let (whole, vs) = (Harbour::whole(), "VirtualService market/quay");
    egress_says(&whole.clone().without(vs), "past the gateway", &["no VirtualService for quay.harbour.test holds in the mesh"], "");
    egress_says(
        &whole.clone().set(vs, "/spec/gateways", json!(["out-gw"])),
        "past the gateway",
        &["bound to market/out-gw and not to `mesh`"],
        "VirtualService market/quay spec.gateways",
    );
    egress_says(
        &whole.clone().set(vs, "/spec/gateways", json!(["mesh"])),
        "not taken",
        &["VirtualService market/quay for quay.harbour.test is bound to mesh, not to market/out-gw"],
        "VirtualService market/quay spec.gateways",
    );
    egress_says(
        &whole.clone().set(vs, "/spec/tls/0/match/0/gateways/0", json!("out-gw")),
        "past the gateway",
        &["is for gateways out-gw, not for mesh"],
        "VirtualService market/quay spec.tls[0].match[0].gateways",
    );
    egress_says(
        &whole.clone().set(vs, "/spec/tls/0/match/0/sniHosts/0", json!("pier.harbour.test")).set(
            vs,
            "/spec/tls/1/match/0/gateways/0",
            json!("mesh-2"),
        ),
        "past the gateway",
        &["is for pier.harbour.test, not for quay.harbour.test"],
        "VirtualService market/quay spec.tls[0].match[0].sniHosts",
    );
    let routes = json!([{"route": [{"destination": {"host": "out.edge.svc.cluster.local", "subset": "quay"}}]}]);
    let as_http = whole.set(vs, "/spec", json!({"hosts": ["quay.harbour.test"], "gateways": ["mesh", "out-gw"], "http": routes}));
    egress_says(&as_http, "past the gateway", &["has `http` routes", "only `tls` routes count"], "VirtualService market/quay spec.http");
    egress_says(&as_http, "not taken", &["PASSTHROUGH leaves the TLS sealed"], "VirtualService market/quay spec.http");
}

#[test]
fn egress_with_a_wrong_subset_or_selector() {
    let (whole, subset) = (Harbour::whole(), "VirtualService market/quay spec.tls[0].route[0].destination.subset");
    egress_says(
        &whole.clone().without("DestinationRule market/out"),
        "no cluster",
        &["names subset `quay`", "no DestinationRule is for that host"],
        subset,
    );
    egress_says(
        &whole.clone().set("DestinationRule market/out", "/spec/subsets/0/name", json!("pier")),
        "no cluster",
        &["DestinationRule market/out declares `pier`"],
        subset,
    );
    egress_says(
        &whole.clone().moved("DestinationRule market/out", "stalls"),
        "no cluster",
        &["is not followed from namespace market"],
        "DestinationRule stalls/out metadata.namespace",
    );
    egress_says(
        &whole.set("Gateway market/out-gw", "/spec/selector/gate", json!("elsewhere")),
        "not taken",
        &["the selector (gate=elsewhere) of Gateway market/out-gw matches no pod"],
        "Gateway market/out-gw spec.selector",
    );
}

#[test]
fn egress_with_a_wrong_port() {
    let whole = Harbour::whole();
    egress_says(
        &whole.clone().set("ServiceEntry market/quay", "/spec/ports/0/number", json!(444)),
        "past it",
        &["the call goes to port 443 of quay.harbour.test, but ServiceEntry market/quay serves 444"],
        "ServiceEntry market/quay spec.ports",
    );
    egress_says(
        &whole.clone().set("ServiceEntry market/quay", "/spec/hosts/0", json!("pier.harbour.test")),
        "past it",
        &["no ServiceEntry or Service has the host quay.harbour.test", "pier.harbour.test"],
        "ServiceEntry market/quay spec.hosts",
    );
    egress_says(
        &whole.clone().set("ServiceEntry market/quay", "/spec/ports/0/protocol", json!("HTTP")),
        "past it",
        &["port 443 of ServiceEntry market/quay is HTTP, and the call is TLS"],
        "ServiceEntry market/quay spec.ports[0].protocol",
    );
    egress_says(
        &whole.clone().set("VirtualService market/quay", "/spec/tls/0/route/0/destination/port/number", json!(444)),
        "no cluster",
        &["leads to port 444 of out.edge.svc.cluster.local, but Service edge/out serves 80, 443"],
        "VirtualService market/quay spec.tls[0].route[0].destination.port.number",
    );
    egress_says(
        &whole.clone().set("Gateway market/out-gw", "/spec/servers/0/port/number", json!(444)),
        "not taken",
        &["Gateway market/out-gw serves quay.harbour.test on port 444, and the call goes to port 443 of edge/out"],
        "Gateway market/out-gw spec.servers[0].port.number",
    );
    egress_says(
        &whole.clone().set("VirtualService market/quay", "/spec/tls/1/match/0/port", json!(8443)),
        "not taken",
        &["is for port 8443, not for 443"],
        "VirtualService market/quay spec.tls[1].match[0].port",
    );
    egress_says(
        &whole.set("VirtualService market/quay", "/spec/tls/1/route/0/destination/port/number", json!(444)),
        "no cluster there",
        &["leads to port 444 of quay.harbour.test, but ServiceEntry market/quay serves 443"],
        "VirtualService market/quay spec.tls[1].route[0].destination.port.number",
    );
}

#[test]
fn egress_hidden_by_export_to_or_a_sidecar() {
    let whole = Harbour::whole();
    let only = |to: &str| json!([to]);
    egress_says(
        &whole.clone().set("ServiceEntry market/quay", "/spec/exportTo", only("edge")),
        "past it",
        &["exportTo (edge) hides it from proxies in namespace market"],
        "ServiceEntry market/quay spec.exportTo",
    );
    egress_says(
        &whole.clone().set("ServiceEntry market/quay", "/spec/exportTo", only(".")),
        "no cluster there",
        &["exportTo (.) hides it from proxies in namespace edge"],
        "ServiceEntry market/quay spec.exportTo",
    );
    egress_says(
        &whole.clone().set("VirtualService market/quay", "/spec/exportTo", only("edge")),
        "past the gateway",
        &["exportTo (edge) hides it from proxies in namespace market"],
        "VirtualService market/quay spec.exportTo",
    );
    egress_says(
        &whole.clone().set("VirtualService market/quay", "/spec/exportTo", only(".")),
        "not taken",
        &["exportTo (.) hides it from proxies in namespace edge"],
        "VirtualService market/quay spec.exportTo",
    );
    let sidecar = istio("Sidecar", "market/default", json!({"egress": [{"hosts": ["edge/*"]}]}));
    egress_says(
        &whole.with(sidecar),
        "past it",
        &["Sidecar market/default", "is not among them"],
        "Sidecar market/default spec.egress[].hosts",
    );
}

#[test]
fn tls_of_the_mesh_without_a_server_name() {
    let mutual = Harbour::whole()
        .set("DestinationRule market/out", "/spec/subsets/0/trafficPolicy", json!({"tls": {"mode": "ISTIO_MUTUAL"}}))
        .set("Gateway market/out-gw", "/spec/servers/0/tls/mode", json!("ISTIO_MUTUAL"));
    let generated = "outbound_.443_.quay_.out.edge.svc.cluster.local";
    let line = Line { sni: generated, ..at_out("NR", "-") };
    let seen = ended(Connection::Closed, vec![at_buyer("UF", "outbound|443|quay|out.edge.svc.cluster.local").hop(), line.hop()]);
    says(
        &mutual,
        &egress(),
        through_the_gateway(),
        seen,
        &["is for outbound_.443_", "ISTIO_MUTUAL without `sni`"],
        "Gateway market/out-gw spec.servers[0].hosts",
    );
    // The same where the gateway left no line.
    egress_says(&mutual, "not taken", &["ISTIO_MUTUAL without `sni`"], "Gateway market/out-gw spec.servers[0].hosts");
}

#[test]
fn policies_that_refuse_are_named() {
    let policy =
        |name: &str, spec: Value| object("security.istio.io/v1", "AuthorizationPolicy", &format!("market/{name}"), json!({ "spec": spec }));
    let deny = Harbour::whole().with(policy("shut", json!({"action": "DENY", "rules": [{}]})));
    let line = |details| Line { proxy: TILL, request: "GET /get HTTP/1.1", code: 403, details, cluster: "inbound|8080||", on: 8080, ..TCP };
    let matched = "rbac_access_denied_matched_policy[ns[market]-policy[shut]-rule[0]]";
    says(
        &deny,
        &ingress(),
        wants_200(),
        after(&line(matched)),
        &["rule 0 of AuthorizationPolicy market/shut (DENY)"],
        "AuthorizationPolicy market/shut spec.rules[0]",
    );
    let none = "rbac_access_denied_matched_policy[none]";
    let rules = json!([{"from": [{"source": {"principals": ["cluster.local/ns/x/sa/y"]}}]}]);
    let allow = Harbour::whole().with(policy("some", json!({"selector": {"matchLabels": {"app": "till"}}, "rules": rules})));
    says(
        &allow,
        &ingress(),
        wants_200(),
        after(&line(none)),
        &["allows only principals cluster.local/ns/x/sa/y"],
        "AuthorizationPolicy market/some spec.rules",
    );
    let nothing = Harbour::whole().with(policy("none", json!({})));
    says(
        &nothing,
        &ingress(),
        wants_200(),
        after(&line(none)),
        &["allows nothing: it has no rules"],
        "AuthorizationPolicy market/none spec.rules",
    );
    let others = Harbour::whole().with(policy("others", json!({"selector": {"matchLabels": {"app": "buyer"}}})));
    assert_eq!(told_of(&others, &ingress(), wants_200(), after(&line(none))), None);
}

#[test]
fn plain_text_to_strict_mutual_tls() {
    let strict = |place: &str, spec: Value| object("security.istio.io/v1", "PeerAuthentication", place, json!({ "spec": spec }));
    let plain =
        |h: Harbour| Harbour(h.0.into_iter().chain(workload("market/loner", json!({"app": "loner"}), json!([{"name": "app"}]))).collect());
    let call = Call { caller: Some(at("market/loner")), gateway: None, host: "till".into(), port: 8000, ..ingress() };
    let seen = || ended(Connection::Reset, vec![]);
    let harbour = plain(Harbour::whole().with(strict("istio-root/default", json!({"mtls": {"mode": "STRICT"}}))));
    says(
        &harbour,
        &call,
        wants_200(),
        seen(),
        &["wants mutual TLS (STRICT)", "market/loner calls in plain text: it has no sidecar"],
        "PeerAuthentication istio-root/default spec.mtls.mode",
    );
    let softened = harbour.clone().with(strict("market/default", json!({"mtls": {"mode": "PERMISSIVE"}})));
    assert_eq!(told_of(&softened, &call, wants_200(), seen()), None);
    let with_sidecar = Call { caller: Some(at(BUYER)), ..call };
    assert_eq!(told_of(&harbour, &with_sidecar, wants_200(), seen()), None);
    let disabled = harbour.set("DestinationRule market/till", "/spec/trafficPolicy", json!({"tls": {"mode": "DISABLE"}}));
    ingress_says(
        &disabled,
        "failed",
        &["DestinationRule market/till says DISABLE"],
        "DestinationRule market/till spec.trafficPolicy.tls.mode",
    );
}

#[test]
fn limits_faults_and_time_outs_name_their_field() {
    let limited = Harbour::whole().set(
        "DestinationRule market/out",
        "/spec/trafficPolicy",
        json!({"connectionPool": {"tcp": {"maxConnections": 1}}}),
    );
    let seen = ended(Connection::Closed, vec![at_buyer("UO", "outbound|443|quay|out.edge.svc.cluster.local").hop()]);
    says(
        &limited,
        &egress(),
        through_the_gateway(),
        seen.clone(),
        &["limits connections", "maxConnections"],
        "DestinationRule market/out spec.trafficPolicy.connectionPool",
    );
    assert_eq!(told_of(&Harbour::whole(), &egress(), through_the_gateway(), seen), None);
    let faulty = Harbour::whole().set("VirtualService market/till", "/spec/http/0/fault", json!({"abort": {"httpStatus": 500}}));
    says(
        &faulty,
        &ingress(),
        wants_200(),
        after(&at_front("FI", "fault_filter_abort", "-")),
        &["has a fault"],
        "VirtualService market/till spec.http[0].fault",
    );
}

#[test]
fn gateway_api_tells_by_its_conditions() {
    let labels = json!({"gateway.networking.k8s.io/gateway-name": "front"});
    let mut all = workload("edge/front-istio", labels, json!([{"name": "istio-proxy"}]));
    let api = "gateway.networking.k8s.io/v1";
    all.push(object(api, "Gateway", FRONT, json!({"status": {"conditions": [{"type": "Programmed", "status": "True"}]}})));
    let condition = json!({"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "backend(till) not found"});
    let route = |status: Value| {
        object(
            api,
            "HTTPRoute",
            TILL,
            json!({"spec": {"hostnames": ["till.harbour.test"]}, "status": {"parents": [{"conditions": [status]}]}}),
        )
    };
    let call = Call { gateway: Some(at("edge/front-istio")), ..ingress() };
    let line = Line { proxy: "edge/front-istio", code: 404, ..at_front("NR", "route_not_found", "-") };
    let bad = Harbour(all.clone()).with(route(condition));
    says(
        &bad,
        &call,
        wants_200(),
        after(&line),
        &["HTTPRoute market/till says ResolvedRefs False, BackendNotFound"],
        "HTTPRoute market/till status.parents[0].conditions",
    );
    let good = Harbour(all.clone()).with(route(json!({"type": "Accepted", "status": "True"})));
    assert_eq!(told_of(&good, &call, wants_200(), after(&line)), None);
    says(
        &Harbour(all),
        &call,
        wants_200(),
        after(&line),
        &["no route of Gateway API has the host till.harbour.test"],
        "Gateway edge/front spec.listeners",
    );
}

#[test]
fn what_could_not_be_read_is_no_cause() {
    let harbour = Harbour::whole().without("VirtualService market/till").without("Gateway market/front-gw");
    let mismatch = Mismatch { what: "status".into(), expected: "200".into(), observed: "?".into(), by: EvidenceKind::Traffic };
    for (group, kind, symptom) in [(configured::ISTIO, "VirtualService", "no route"), (configured::ISTIO, "Gateway", "refused")] {
        let (_, call, seen) = ingress_symptoms().into_iter().find(|(name, ..)| *name == symptom).unwrap();
        let unread = BTreeSet::from([(group.to_owned(), kind.to_owned()), (configured::ISTIO.to_owned(), "Gateway".to_owned())]);
        let c = Configured::new(harbour.0.clone(), unread, "istio-root");
        assert_eq!(likely_cause(&c, &call, &Expectation::Call(Box::new(wants_200())), &seen, std::slice::from_ref(&mismatch)), None);
    }
}

#[test]
fn a_name_that_no_service_has() {
    let call = Call { caller: Some(at(BUYER)), gateway: None, host: "till.stalls".into(), port: 8000, ..ingress() };
    let short = Call { host: "tilt".into(), ..call.clone() };
    let seen = || ended(Connection::DnsFailure, vec![]);
    assert_eq!(told_of(&Harbour::whole(), &Call { host: "far.harbour.test".into(), ..call }, wants_200(), seen()), None);
    says(&Harbour::whole(), &short, wants_200(), seen(), &["no Service is called tilt as seen from namespace market"], "");
}

#[test]
fn what_the_sidecar_blocks_itself_is_unknown_to_it() {
    let unknown = Harbour::whole().without("ServiceEntry market/quay");
    let call = Call { tls: false, sni: None, port: 80, ..egress() };
    let mut hop = Line { request: "GET / HTTP/1.1", code: 502, details: "direct_response", ..at_buyer("-", "-") }.hop();
    hop.entry.route = "block_all".into();
    let seen = CallSeen { hops: vec![hop], status: Some(502), connection: Some(Connection::Answered), ..CallSeen::default() };
    says(&unknown, &call, wants_200(), seen, &["no ServiceEntry or Service has the host quay.harbour.test"], "");
}

#[test]
fn a_log_that_is_off_leaves_the_answer() {
    let broken = Harbour::whole().without("VirtualService market/till");
    let missing = MissingHop { proxy: at(FRONT), looked_for: "x".into() };
    let seen = CallSeen { status: Some(404), connection: Some(Connection::Answered), missing_hops: vec![missing], ..CallSeen::default() };
    says(&broken, &ingress(), wants_200(), seen, &["no VirtualService for till.harbour.test"], "");
}
