//! Pods without a proxy, callers without the run's CA, gateways that listen to nobody, routes that were passed over.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::harbour::*;
use super::*;
use crate::outcome::{AbsenceSeen, MissingHop};

/// The harbour with the till's and the buyer's namespace as the cluster has it.
fn with_namespace(labels: Value) -> Harbour {
    let mut market = object("v1", "Namespace", "x/market", json!({"metadata": {"labels": labels}}));
    market.key.namespace = None;
    Harbour::whole().with(market)
}

fn without_sidecar(harbour: Harbour, workload: &str) -> Harbour {
    harbour.set(&format!("Pod {workload}-1"), "/spec/containers", json!([{"name": "app", "ports": [{"containerPort": 8080}]}]))
}

/// The gateway answered 200, and the till has no line.
fn till_is_silent() -> (CallExpect, CallSeen) {
    let expect = CallExpect { status: Some(200), path: vec![hop_wanted(FRONT, None), hop_wanted(TILL, None)], ..CallExpect::default() };
    let hop = Line { code: 200, details: "via_upstream", ..at_front("-", "-", "outbound|8000|low|till.market.svc.cluster.local") }.hop();
    let missing = MissingHop { proxy: at(TILL), looked_for: "x".into() };
    let seen = CallSeen {
        hops: vec![hop],
        status: Some(200),
        connection: Some(Connection::Answered),
        missing_hops: vec![missing],
        ..CallSeen::default()
    };
    (expect, seen)
}

#[test]
fn a_workload_without_a_proxy_is_told_with_the_reason() {
    let (expect, seen) = till_is_silent();
    let tell = |harbour: &Harbour, parts: &[&str], place: &str| says(harbour, &ingress(), expect.clone(), seen.clone(), parts, place);
    let bare = without_sidecar(with_namespace(json!({})), TILL);
    let cause = told_of(&bare, &ingress(), expect.clone(), seen.clone()).unwrap();
    assert_eq!(cause.layer, Layer::Proxy);
    tell(
        &bare,
        &["market/till has no istio-proxy container", "Namespace market lacks the label istio-injection=enabled"],
        "Namespace market metadata.labels",
    );
    let misspelt = without_sidecar(with_namespace(json!({"istio-injection": "true"})), TILL);
    tell(&misspelt, &["Namespace market says istio-injection=true, which is not `enabled`"], "Namespace market metadata.labels");
    let enabled = without_sidecar(with_namespace(json!({"istio-injection": "enabled"})), TILL);
    tell(&enabled, &["has istio-injection=enabled now, so its pods are older"], "Namespace market metadata.labels");
    let template = "/spec/template/metadata/labels/sidecar.istio.io~1inject";
    let refuses = enabled.set("Deployment market/till", template, json!("false")).set(
        "Pod market/till-1",
        "/metadata/labels/sidecar.istio.io~1inject",
        json!("false"),
    );
    let place = "Deployment market/till spec.template.metadata.labels[sidecar.istio.io/inject]";
    tell(&refuses, &["its pod template says sidecar.istio.io/inject: \"false\""], place);
    // Of a Namespace that may not be read nothing is said.
    let unread = without_sidecar(Harbour::whole(), TILL);
    tell(
        &unread,
        &["market/till has no istio-proxy container, so no proxy logs its calls"],
        "Deployment market/till spec.template.metadata",
    );
    assert_eq!(told_of(&with_namespace(json!({})), &ingress(), expect, seen), None, "with a sidecar there is no cause");
}

#[test]
fn an_absence_that_a_missing_proxy_cannot_show_is_told() {
    let expect = CallExpect { status: Some(200), absent_from: vec![at(TILL)], ..CallExpect::default() };
    let absent = |shown_by: Option<String>| CallSeen {
        absences: vec![AbsenceSeen { proxy: at(TILL), lines: vec![], shown_by }],
        hops: vec![],
        ..till_is_silent().1
    };
    let bare = without_sidecar(with_namespace(json!({})), TILL);
    says(
        &bare,
        &ingress(),
        expect.clone(),
        absent(None),
        &["market/till has no istio-proxy container"],
        "Namespace market metadata.labels",
    );
    assert_eq!(told_of(&bare, &ingress(), expect, absent(Some("it has no replica".into()))), None);
}

#[test]
fn a_caller_without_a_sidecar_is_led_nowhere() {
    let harbour = without_sidecar(with_namespace(json!({})), BUYER);
    let seen = || CallSeen { connection: Some(Connection::Answered), status: Some(200), ..CallSeen::default() };
    let place = "Namespace market metadata.labels";
    says(&harbour, &egress(), through_the_gateway(), seen(), &["market/buyer has no istio-proxy container, so no proxy"], place);
    let gateway_alone = CallExpect { path: vec![hop_wanted(OUT, None)], ..through_the_gateway() };
    let parts = ["market/buyer has no istio-proxy container", "nothing leads its call to edge/out"];
    says(&harbour, &egress(), gateway_alone.clone(), seen(), &parts, place);
    // One that calls the gateway itself needs no sidecar.
    let itself = Call { connects_to: Some("out.edge".into()), ..egress() };
    assert_eq!(told_of(&harbour, &itself, gateway_alone, seen()), None);
}

fn rejected(words: &str) -> CallSeen {
    CallSeen {
        connection: Some(Connection::CertificateRejected),
        connection_detail: Some(format!("curl 60: SSL certificate problem: {words}")),
        known_certificates: BTreeMap::from([("quay.harbour.test".to_owned(), "ab".to_owned())]),
        hops: vec![at_buyer("-", "outbound|443||quay.harbour.test").hop()],
        ..CallSeen::default()
    }
}

#[test]
fn a_caller_without_the_runs_ca_is_told_how_to_trust_it() {
    let issuer = "unable to get local issuer certificate";
    says(
        &Harbour::whole(),
        &egress(),
        wants_200(),
        rejected(issuer),
        &["Deployment market/buyer does not trust the run's CA", "mounts no ConfigMap `gateproof-run`", "`runConfig: [market]`"],
        "Deployment market/buyer spec.template.spec.volumes",
    );
    let volumes = json!([{"name": "run", "configMap": {"name": "gateproof-run"}}]);
    let mounted = Harbour::whole().set("Deployment market/buyer", "/spec/template/spec/volumes", volumes);
    says(
        &mounted,
        &egress(),
        wants_200(),
        rejected(issuer),
        &["no CURL_CA_BUNDLE or SSL_CERT_FILE leads to its ca.crt"],
        "Deployment market/buyer spec.template.spec.containers[].env",
    );
    let env = json!([{"name": "app", "env": [{"name": "CURL_CA_BUNDLE", "value": "/x"}]}]);
    let trusting = mounted.set("Deployment market/buyer", "/spec/template/spec/containers", env);
    assert_eq!(told_of(&trusting, &egress(), wants_200(), rejected(issuer)), None);
    // Another reason, another host's certificate, and a rejection that is wanted.
    assert_eq!(told_of(&Harbour::whole(), &egress(), wants_200(), rejected("certificate has expired")), None);
    let unknown = CallSeen { known_certificates: BTreeMap::new(), ..rejected(issuer) };
    assert_eq!(told_of(&Harbour::whole(), &egress(), wants_200(), unknown), None);
    let wanted = CallExpect { connection: vec![Connection::CertificateRejected], status: Some(200), ..CallExpect::default() };
    assert_eq!(told_of(&Harbour::whole(), &egress(), wanted, rejected(issuer)), None);
}

/// A call by another name, which the gateway is to close.
fn by_another_name() -> (Call, CallExpect, CallSeen) {
    let call = Call { gateway: Some(at(OUT)), host: "pier.harbour.test".into(), sni: Some("pier.harbour.test".into()), ..egress() };
    let refuses = HopExpect { flags: Some("NR".into()), sni: Some("pier.harbour.test".into()), ..hop_wanted(OUT, None) };
    let expect = CallExpect { connection: vec![Connection::Closed, Connection::Reset], path: vec![refuses], ..CallExpect::default() };
    let line = Line { sni: "pier.harbour.test", ..at_buyer("UF,URX", "outbound|443||out.edge.svc.cluster.local") };
    (call, expect, ended(Connection::Reset, vec![line.hop()]))
}

#[test]
fn a_refusal_that_nobody_was_there_to_make_has_the_cause_of_its_neighbour() {
    let whole = Harbour::whole();
    let gateway = "Gateway market/out-gw";
    for broken in [
        whole.clone().set(gateway, "/spec/selector/gate", json!("elsewhere")),
        whole.clone().set(gateway, "/spec/servers/0/port/number", json!(8443)),
        whole.clone().set(gateway, "/spec/servers/0/hosts/0", json!("quays.harbour.test")),
        whole.clone().set("VirtualService market/quay", "/spec/exportTo", json!(["."])),
    ] {
        let neighbour = ended(Connection::Reset, vec![at_buyer("UF,URX", "outbound|443|quay|out.edge.svc.cluster.local").hop()]);
        let its = told_of(&broken, &egress(), through_the_gateway(), neighbour).unwrap();
        let (call, expect, seen) = by_another_name();
        let own = told_of(&broken, &call, expect.clone(), seen);
        assert_eq!(own.as_ref(), Some(&its));
        // A caller without a sidecar has no line that would tell of it.
        let (call, unseen) = (Call { caller: None, ..call }, ended(Connection::Reset, vec![]));
        assert_eq!(told_of(&broken, &call, expect, unseen).as_ref(), Some(&its));
    }
    let (call, expect, seen) = by_another_name();
    says(
        &whole.clone().without("VirtualService market/quay"),
        &call,
        expect.clone(),
        seen.clone(),
        &["no VirtualService for quay.harbour.test is bound to Gateway market/out-gw"],
        "",
    );
    assert_eq!(told_of(&whole, &call, expect, seen), None, "where the gateway listens there is no cause");
}

#[test]
fn an_unknown_host_at_a_gateway_that_does_not_listen_has_the_cause_of_the_known_one() {
    let call = Call { host: "pier.harbour.test".into(), ..ingress() };
    let wants_404 = || CallExpect { status: Some(404), ..CallExpect::default() };
    let refused = || ended(Connection::Refused, vec![]);
    for broken in [
        Harbour::whole().set("Gateway market/front-gw", "/spec/selector/gate", json!("back")),
        Harbour::whole().set("Gateway market/front-gw", "/spec/servers/0/port/number", json!(81)),
    ] {
        let its = told_of(&broken, &ingress(), wants_200(), refused()).unwrap();
        assert_eq!(told_of(&broken, &call, wants_404(), refused()), Some(its));
    }
    // Another answer than the one wanted is not silence.
    let answered = CallSeen { connection: Some(Connection::Answered), status: Some(200), ..CallSeen::default() };
    assert_eq!(told_of(&Harbour::whole(), &call, wants_404(), answered), None);
}

#[test]
fn a_port_that_two_objects_disagree_on_names_both() {
    let broken = Harbour::whole().set("Gateway market/out-gw", "/spec/servers/0/port/number", json!(8443));
    let neighbour = ended(Connection::Reset, vec![at_buyer("UF,URX", "outbound|443|quay|out.edge.svc.cluster.local").hop()]);
    let cause = told_of(&broken, &egress(), through_the_gateway(), neighbour).unwrap();
    assert!(cause.text.contains("is for port 443, not for 8443, the port of Gateway market/out-gw"), "{cause}");
    let places: Vec<String> = cause.places.iter().map(ToString::to_string).collect();
    assert_eq!(
        places,
        ["`spec.tls[1].match[0].port` of VirtualService market/quay", "`spec.servers[0].port.number` of Gateway market/out-gw"]
    );
}

#[test]
fn a_route_that_was_passed_over_says_what_it_wants() {
    let destination = |subset: &str| json!([{"destination": {"host": "till", "subset": subset, "port": {"number": 8000}}}]);
    let routes = |ring: Value| {
        json!([
            {"name": "beta", "match": [{"uri": {"prefix": "/"}, "headers": {"x-ring": ring}}], "route": destination("high")},
            {"name": "stable", "route": destination("low")}])
    };
    let vs = "VirtualService market/till";
    let call = Call { headers: vec![("x-ring".into(), "beta".into())], ..ingress() };
    let hop = HopExpect { route: Some("beta".into()), ..hop_wanted(FRONT, None) };
    let expect = CallExpect { status: Some(200), path: vec![hop], ..CallExpect::default() };
    let seen = || {
        let mut seen = till_is_silent().1;
        seen.hops[0].entry.route = "stable".into();
        seen
    };
    let wrong = Harbour::whole().set(vs, "/spec/http", routes(json!({"exact": "Beta"})));
    says(
        &wrong,
        &call,
        expect.clone(),
        seen(),
        &["route `beta` of VirtualService market/till wants header x-ring exact `Beta`, and the call has `beta`"],
        "VirtualService market/till spec.http[0].match[0].headers[x-ring]",
    );
    // What lets a caller in is told of neither side.
    let secret = wrong.clone().set(vs, "/spec/http/0/match", json!([{"headers": {"authorization": {"exact": "Basic b2s="}}}]));
    let shows = Call { headers: vec![("Authorization".into(), "Basic bm8=".into())], ..ingress() };
    says(
        &secret,
        &shows,
        expect.clone(),
        seen(),
        &["route `beta` of VirtualService market/till wants another header authorization than the call has"],
        "VirtualService market/till spec.http[0].match[0].headers[authorization]",
    );
    let prefix = wrong.clone().set(vs, "/spec/http/0/match", json!([{"uri": {"prefix": "/v2"}}]));
    says(
        &prefix,
        &call,
        expect.clone(),
        seen(),
        &["wants uri prefix `/v2`, and the call has `/get`"],
        "VirtualService market/till spec.http[0].match[0].uri",
    );
    // By its cluster, where the check names no route.
    let by_cluster =
        CallExpect { path: vec![hop_wanted(FRONT, Some("outbound|8000|high|till.market.svc.cluster.local"))], ..expect.clone() };
    says(&prefix, &call, by_cluster, seen(), &["wants uri prefix"], "VirtualService market/till spec.http[0].match[0].uri");
    let mut turned = routes(json!({"exact": "beta"}));
    turned.as_array_mut().unwrap().reverse();
    let order = Harbour::whole().set(vs, "/spec/http", turned);
    says(
        &order,
        &call,
        expect.clone(),
        seen(),
        &["route `stable` of VirtualService market/till stands before route `beta` and takes this call too"],
        "VirtualService market/till spec.http[0]",
    );
    // A route that takes the call was not passed over: the proxy did something else.
    let right = Harbour::whole().set(vs, "/spec/http", routes(json!({"exact": "beta"})));
    assert_eq!(told_of(&right, &call, expect, seen()), None);
}

#[test]
fn plain_text_that_a_rule_sends_is_told_at_the_proxy_before() {
    let strict = object("security.istio.io/v1", "PeerAuthentication", "market/default", json!({"spec": {"mtls": {"mode": "STRICT"}}}));
    let harbour =
        Harbour::whole().with(strict).set("DestinationRule market/till", "/spec/trafficPolicy", json!({"tls": {"mode": "DISABLE"}}));
    let front = at_front("UC", "-", "outbound|8000|low|till.market.svc.cluster.local").hop();
    let till = Line { proxy: TILL, flags: "NR", details: "filter_chain_not_found", on: 8080, ..TCP }.hop();
    let seen = CallSeen { hops: vec![front, till], status: Some(503), connection: Some(Connection::Answered), ..CallSeen::default() };
    says(
        &harbour,
        &ingress(),
        wants_200(),
        seen.clone(),
        &["DestinationRule market/till says DISABLE"],
        "DestinationRule market/till spec.trafficPolicy.tls.mode",
    );
    assert_eq!(told_of(&Harbour::whole(), &ingress(), wants_200(), seen), None);
}

#[test]
fn an_application_that_listens_elsewhere_is_told() {
    let line = Line { proxy: TILL, cluster: "inbound|8080||", on: 8080, ..at_front("UF,URX", "-", "-") };
    let mut seen = after(&line);
    seen.hops[0].entry.details =
        "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}".into();
    says(
        &Harbour::whole(),
        &ingress(),
        wants_200(),
        seen,
        &["nothing listens on port 8080 at the address of the pods of market/till"],
        "Deployment market/till spec.template.spec.containers",
    );
}
