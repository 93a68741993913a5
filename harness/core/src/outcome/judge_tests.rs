use std::collections::BTreeMap;

use serde_json::json;

use super::super::{
    AbsenceSeen, AccessLogEntry, CertificateSeen, HopSeen, MissingHop, describe_expectation, describe_observation, diagnose,
};
use super::*;
use crate::names::HostName;
use crate::scenario::HopExpect;

const CAPTURED: &str = include_str!("testdata/access.log");
const SLEEP: &str = "mesh-test/sleep";
const EGRESS: &str = "istio-system/istio-egressgateway";

fn name(text: &str) -> Namespaced {
    Namespaced::parse(text).unwrap()
}

fn hop(proxy: &str, part: &str) -> HopSeen {
    let line = CAPTURED.lines().find(|l| l.contains(part)).unwrap();
    HopSeen { proxy: name(proxy), pod: "p-1".into(), entry: AccessLogEntry::parse(line).unwrap(), joined_by: "addresses".into() }
}

fn want(proxy: &str) -> HopExpect {
    HopExpect::any(name(proxy))
}

fn good_call() -> CallSeen {
    CallSeen {
        stdout: Some("200\n".into()),
        exit_code: Some(0),
        connection: Some(Connection::Answered),
        status: Some(200),
        headers: BTreeMap::from([("server".into(), "istio-envoy".into())]),
        body: Some("token tok-1".into()),
        certificate: Some(CertificateSeen {
            subject: "CN=httpbin.org".into(),
            issuer: "CN=ca".into(),
            names: vec![],
            sha256: "ab".into(),
            not_after: "".into(),
        }),
        run_token: "tok-1".into(),
        known_certificates: BTreeMap::from([("httpbin.org".into(), "AB".into()), ("istio-system/httpbin-tls".into(), "cd".into())]),
        hops: vec![hop(SLEEP, "10.244.0.12:35120"), hop(EGRESS, "8443 10.244.0.12:49428")],
        absences: vec![AbsenceSeen { proxy: name("istio-system/egw-mtls"), lines: vec![], shown_by: Some("sentinel".into()) }],
        ..CallSeen::default()
    }
}

fn good_expect() -> CallExpect {
    CallExpect {
        stdout: Some(TextMatch::Equals("200".into())),
        exit_code: Some(0),
        status: Some(200),
        connection: vec![Connection::Closed, Connection::Answered],
        certificate: Some(CertificateExpect::Outside(HostName::new("httpbin.org").unwrap())),
        headers: BTreeMap::from([("Server".into(), TextMatch::Contains("envoy".into()))]),
        body: Some(TextMatch::Matches("tok-[0-9]".into())),
        run_token: true,
        path: vec![HopExpect {
            cluster: Some("outbound|443||httpbin.org".into()),
            flags: Some("-".into()),
            sni: Some("httpbin*".into()),
            code: Some(0),
            ..want(EGRESS)
        }],
        absent_from: vec![name("istio-system/egw-mtls")],
        ..CallExpect::default()
    }
}

fn verdict(expect: CallExpect, seen: CallSeen) -> Vec<Mismatch> {
    judge(&Expectation::Call(Box::new(expect)), &Observation::Call(Box::new(seen)))
}

fn shown(found: &[Mismatch]) -> Vec<String> {
    found.iter().map(|m| format!("{:?} {}: {} / {}", m.by, m.what, m.expected, m.observed)).collect()
}

#[test]
fn a_call_as_wanted_has_no_mismatch_and_no_diagnosis() {
    let (e, o) = (Expectation::Call(Box::new(good_expect())), Observation::Call(Box::new(good_call())));
    assert_eq!(judge(&e, &o), []);
    assert!(diagnose(&e, &o, &[]).is_empty());
    assert!(describe_expectation(&e).contains(&"status 200".to_owned()));
    assert!(describe_observation(&o, &e).contains(&format!("through {EGRESS}: outbound|443||httpbin.org, flags -, sni httpbin.org")));
}

#[test]
fn every_mismatch_comes_at_once_with_its_kind() {
    let seen = CallSeen {
        connection: Some(Connection::Reset),
        connection_detail: Some("curl 35: Recv failure".into()),
        run_token: "tok-1".into(),
        exit_code: Some(35),
        missing_hops: vec![MissingHop { proxy: name(EGRESS), looked_for: "token gp-1 for 3s".into() }],
        ..CallSeen::default()
    };
    let (e, o) = (Expectation::Call(Box::new(good_expect())), Observation::Call(Box::new(seen)));
    let found = judge(&e, &o);
    let what: Vec<&str> = found.iter().map(|m| m.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "stdout",
            "exitCode",
            "status",
            "connection",
            "certificate",
            "headers.Server",
            "body",
            "runToken",
            "path[0]",
            "absentFrom[istio-system/egw-mtls]"
        ]
    );
    assert_eq!(found[2].observed, "no response: reset (curl 35: Recv failure)");
    assert!(found[8].observed.contains("looked for token gp-1 for 3s"));
    assert!(found[..8].iter().all(|m| m.by == EvidenceKind::Traffic) && found[8..].iter().all(|m| m.by == EvidenceKind::Log));
    let lines = diagnose(&e, &o, &found);
    assert!(lines[0].starts_with("First broken layer: connection made (5 of 7)"), "{lines:?}");
    // How it ended stands in the mismatches; here is what that says.
    assert!(lines[1].starts_with("Connection: The peer took the connection and reset it"), "{lines:?}");
}

#[test]
fn a_path_is_found_in_order() {
    let path = |path: Vec<HopExpect>| verdict(CallExpect { path, ..CallExpect::default() }, good_call());
    assert_eq!(path(vec![want(SLEEP), want(EGRESS)]), []);
    assert!(shown(&path(vec![want(EGRESS), want(SLEEP)]))[0].contains("earlier place in the path"));
    let found = path(vec![HopExpect { cluster: Some("outbound|443||other".into()), flags: Some("NR".into()), ..want(EGRESS) }]);
    assert_eq!(found.iter().map(|m| m.what.as_str()).collect::<Vec<_>>(), ["path[0].cluster", "path[0].flags"]);
    assert!(
        shown(&path(vec![want("istio-system/egw-pt")]))[0].contains("it is in that of mesh-test/sleep, istio-system/istio-egressgateway")
    );
}

#[test]
fn a_hop_is_known_by_its_request_too() {
    let with =
        |request: &str| CallExpect { path: vec![HopExpect { request: Some(request.into()), ..want(EGRESS) }], ..CallExpect::default() };
    assert_eq!(verdict(with("- - -"), good_call()), []);
    let found = verdict(with("GET /get HTTP/*"), good_call());
    assert_eq!((found[0].what.as_str(), found[0].observed.split(' ').next()), ("path[0].request", Some("-")));
}

#[test]
fn several_lines_of_a_proxy_are_retries_or_a_mismatch() {
    let line = |part| hop(EGRESS, part);
    let path = || CallExpect { path: vec![want(EGRESS)], ..CallExpect::default() };
    let seen = |hops| CallSeen { hops, ..CallSeen::default() };
    assert_eq!(verdict(path(), seen(vec![line(" UH - - "), line("8443 10.244.0.12:49428")])), []);
    let found = verdict(path(), seen(vec![line("8443 10.244.0.12:49428"), line("8443 10.244.0.12:49446")]));
    assert_eq!((found.len(), found[0].by), (1, EvidenceKind::Log));
}

#[test]
fn absence_has_to_be_shown() {
    let gone = |absences, hops| {
        let expect = CallExpect { absent_from: vec![name(EGRESS)], ..CallExpect::default() };
        shown(&verdict(expect, CallSeen { absences, hops, ..CallSeen::default() }))
    };
    let absence = |lines, by: Option<&str>| AbsenceSeen { proxy: name(EGRESS), lines, shown_by: by.map(str::to_owned) };
    assert!(gone(vec![absence(vec![], Some("sentinel"))], vec![]).is_empty());
    assert!(gone(vec![absence(vec![], None)], vec![])[0].contains("absence not shown: no later call"));
    assert!(gone(vec![], vec![])[0].contains("absence not shown: that log was not read"));
    let line = hop(EGRESS, "8443 10.244.0.12:49428");
    let found = gone(vec![absence(vec![line.clone()], Some("sentinel"))], vec![line.clone()]);
    assert!(found.len() == 1 && found[0].contains(&line.entry.line));
}

#[test]
fn a_certificate_is_known_by_its_fingerprint() {
    let wanted = |c| CallExpect { certificate: Some(c), ..CallExpect::default() };
    let found = verdict(wanted(CertificateExpect::Secret(name("istio-system/httpbin-tls"))), good_call());
    assert!(found[0].observed.starts_with("that of httpbin.org: CN=httpbin.org"), "{found:?}");
    let found = verdict(wanted(CertificateExpect::Secret(name("a/b"))), good_call());
    assert!(found[0].observed.contains("generated no certificate for a/b"));
}

#[test]
fn alerts_are_compared_by_their_words() {
    let seen = CallSeen { connection: Some(Connection::TlsAlert("certificate required".into())), ..CallSeen::default() };
    let expect = |a: &str| CallExpect { connection: vec![Connection::TlsAlert(a.into())], ..CallExpect::default() };
    assert_eq!(verdict(expect("certificate_required"), seen.clone()), []);
    assert_eq!(verdict(expect("handshake failure"), seen).len(), 1);
}

fn config_of(replicas: Vec<ConfigSeen>, expect: ConfigExpect) -> Vec<Mismatch> {
    judge(&Expectation::Config(expect), &Observation::Config { replicas })
}

fn replica(pod: &str, entries: &[(&str, Value)], all: &[&str]) -> ConfigSeen {
    let entries = entries.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    ConfigSeen { pod: pod.into(), entries, all_names: all.iter().map(|n| (*n).to_owned()).collect() }
}

#[test]
fn configuration_holds_in_every_replica() {
    let present = |c: Value, l: Vec<Value>| ConfigExpect::Present { contains: vec![c], lacks: l, cel: vec![] };
    let good = replica("a", &[("x", json!({"p": 1})), ("y", json!({"p": 2, "q": 3}))], &["x", "y"]);
    let bad = replica("b", &[("x", json!({"p": 1}))], &["x"]);
    assert_eq!(config_of(vec![good.clone()], present(json!({"p": 2}), vec![])), []);
    let found = config_of(vec![good.clone(), bad], present(json!({"p": 2}), vec![]));
    assert_eq!(shown(&found), ["ProxyConfig b x $.p: 2 / 1"]);
    // One entry has to satisfy all of it.
    assert_eq!(config_of(vec![good.clone()], present(json!({"p": 2}), vec![json!({"q": "*"})])).len(), 1);
    assert_eq!(config_of(vec![], ConfigExpect::Absent).len(), 1);
    assert_eq!(config_of(vec![good], ConfigExpect::Absent).len(), 2);
    assert_eq!(config_of(vec![replica("a", &[], &["z"])], ConfigExpect::Absent), []);
}

#[test]
fn an_object_is_there_with_what_is_wanted_and_without_what_is_not() {
    let accepted = json!({"status": {"conditions": [{"type": "Accepted", "status": "True"}, {"type": "Programmed", "status": "False"}]}});
    let of = |expect: ConfigExpect, value: Option<Value>| {
        shown(&judge(&Expectation::Object(expect), &Observation::Object { name: "Gateway a/b".into(), value }))
    };
    let condition = |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status}]}});
    let present = |contains: Vec<Value>, lacks: Vec<Value>| ConfigExpect::Present { contains, lacks, cel: vec![] };
    assert!(of(present(vec![condition("Accepted", "True")], vec![condition("Programmed", "True")]), Some(accepted.clone())).is_empty());
    // One condition has to have both: another's status does not count.
    assert_eq!(of(present(vec![condition("Programmed", "True")], vec![]), Some(accepted.clone())).len(), 1);
    assert_eq!(of(present(vec![], vec![condition("Accepted", "True")]), Some(accepted.clone())).len(), 1);
    assert_eq!(of(present(vec![], vec![]), None), ["State Gateway a/b: an object / it is not there"]);
    assert_eq!(of(ConfigExpect::Absent, Some(accepted)), ["State Gateway a/b: no such object / it is there"]);
    assert!(of(ConfigExpect::Absent, None).is_empty());
}

#[test]
fn an_expression_holds_of_an_object_and_of_one_entry_in_every_replica() {
    let cel = |text: &str| ConfigExpect::Present {
        contains: vec![],
        lacks: vec![],
        cel: vec![crate::expression::CelExpression::parse(text).unwrap_or_else(|e| panic!("{e:?}"))],
    };
    let object = |text: &str| {
        let value = Some(json!({"spec": {"port": 80}}));
        shown(&judge(&Expectation::Object(cel(text)), &Observation::Object { name: "Service a/b".into(), value }))
    };
    assert!(object("object.spec.port == 80").is_empty());
    assert_eq!(
        object("object.spec.port == 81"),
        ["Object Service a/b cel: true: object.spec.port == 81 / it is false: object.spec.port is 80"]
    );
    let told = object("object.status.ready");
    assert!(told[0].ends_with("there is no `status` (`has(…)` asks whether there is): object.status.ready is not there"), "{told:?}");
    let good = replica("a", &[("x", json!({"p": 1})), ("y", json!({"p": 2}))], &["x", "y"]);
    let bad = replica("b", &[("x", json!({"p": 1}))], &["x"]);
    assert_eq!(config_of(vec![good.clone()], cel("object.p == 2")), []);
    let found = config_of(vec![good, bad], cel("object.p == 2"));
    assert_eq!(shown(&found), ["ProxyConfig b x cel: true: object.p == 2 / it is false: object.p is 1"]);
}

#[test]
fn a_name_that_is_not_there_is_answered_with_similar_ones() {
    let all: Vec<String> = (0..20).map(|i| format!("outbound|{i}||other")).chain(["http.8081".to_owned()]).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let seen = Observation::Config { replicas: vec![replica("a", &[], &names)] };
    let expect = Expectation::Config(ConfigExpect::Present { contains: vec![json!({"name": "http.8080"})], lacks: vec![], cel: vec![] });
    let found = judge(&expect, &seen);
    assert!(found[0].observed.starts_with("none; similar names: http.8081, "), "{found:?}");
    assert_eq!(found[0].observed.split(", ").count(), 8);
}

#[test]
fn logs_analysis_pods() {
    let lines = vec![LogLine { pod: "p".into(), text: "warn listener missed network filter".into() }];
    let logs = |contains, lacks| judge(&Expectation::Logs(LogsExpect { contains, lacks }), &Observation::Logs { lines: lines.clone() });
    let part = |t: &str| vec![TextMatch::Contains(t.into())];
    assert_eq!(logs(part("missed network filter"), part("omitting")), []);
    assert_eq!(logs(part("omitting"), part("missed")).iter().map(|m| m.what.as_str()).collect::<Vec<_>>(), ["contains[0]", "lacks[0]"]);

    let messages = ["Info", "Warning", "Error"].map(|l| AnalysisMessage { level: l.into(), code: format!("IST-{l}"), text: "t".into() });
    let analysis = |e| judge(&Expectation::Analysis(e), &Observation::Analysis { messages: messages.to_vec() });
    assert_eq!(analysis(AnalysisExpect::Clean).len(), 2);
    assert_eq!(analysis(AnalysisExpect::Codes(vec!["IST-Info".into()])), []);
    assert_eq!(analysis(AnalysisExpect::Codes(vec!["IST0101".into()]))[0].observed, "only IST-Info, IST-Warning, IST-Error");

    let pod = |ready, of| PodSeen { workload: name(SLEEP), pod: "sleep-1".into(), phase: "Running".into(), ready, of };
    let pods = |pods, without_pods| judge(&Expectation::PodsReady { ready: 2, of: 2 }, &Observation::Pods { pods, without_pods });
    assert_eq!(pods(vec![pod(2, 2)], vec![]), []);
    assert_eq!(pods(vec![pod(1, 1), pod(1, 2)], vec![name("a/b")]).len(), 3);
    assert_eq!(pods(vec![], vec![]).len(), 1);
}

#[test]
fn sync_and_versions() {
    let proxy =
        |id: &str, synced| ProxySeen { id: id.into(), types: vec![("CDS".into(), if synced { "SYNCED" } else { "STALE" }.into())], synced };
    let sync = |workloads: &[&str], proxies: Vec<ProxySeen>| {
        judge(
            &Expectation::InSync { workloads: workloads.iter().map(|w| name(w)).collect() },
            &Observation::ProxyStatus { proxies, unconnected: vec![] },
        )
    };
    let ids = [("sleep-7d9-x2k.mesh-test", true), ("sleep-other-7d9-x2k.mesh-test", false)];
    let both = || ids.iter().map(|(id, s)| proxy(id, *s)).collect::<Vec<_>>();
    assert_eq!(sync(&[SLEEP], both()), []);
    assert_eq!(shown(&sync(&[], both())), ["State sleep-other-7d9-x2k.mesh-test: all that was sent is acknowledged / CDS STALE"]);
    assert_eq!(sync(&[EGRESS], both()).len(), 1);
    assert_eq!(sync(&[], vec![]).len(), 1);

    let versions = |seen: &[(&str, &str)]| {
        let seen = seen.iter().map(|(who, v)| VersionSeen { who: (*who).into(), version: (*v).into() }).collect();
        judge(&Expectation::VersionsAgree, &Observation::Versions { seen })
    };
    assert_eq!(versions(&[("istiod", "1.30.0"), ("proxy a.b", "1.30.0"), ("istioctl", "1.27.1")]), []);
    assert_eq!(versions(&[("istiod", "1.30.0"), ("proxy a.b", "1.29.0"), ("istiod-canary", "1.31.0")]).len(), 2);
    assert_eq!(versions(&[("istiod", "1.30.0")]).len(), 1);
    assert_eq!(versions(&[("istioctl", "1.30.0")]).len(), 1);
}

#[test]
fn a_pod_whose_proxy_is_not_connected_is_not_in_sync() {
    let seen = |id: &str| ProxySeen { id: id.into(), types: vec![], synced: true };
    let sync = |workloads: &[&str]| {
        let seen = Observation::ProxyStatus {
            proxies: vec![seen("sleep-7d9-x2k.mesh-test")],
            unconnected: vec!["httpbin-559-bg5.mesh-test".into()],
        };
        judge(&Expectation::InSync { workloads: workloads.iter().map(|w| name(w)).collect() }, &seen)
    };
    let found = sync(&[]);
    assert_eq!(shown(&found), ["State httpbin-559-bg5.mesh-test: its proxy is connected to istiod / istiod does not list it"]);
    assert_eq!(sync(&[SLEEP]), []);
}

#[test]
fn what_is_unwanted_is_in_none_of_the_entries() {
    let two = replica("a", &[("x", json!({"p": 1, "q": 3})), ("y", json!({"p": 2}))], &["x", "y"]);
    let present = |contains| ConfigExpect::Present { contains, lacks: vec![json!({"q": 3})], cel: vec![] };
    let found = config_of(vec![two.clone()], present(vec![json!({"p": 2})]));
    assert_eq!(shown(&found), ["ProxyConfig a x $: nothing like {\"q\":3} / it is there"]);
    assert_eq!(config_of(vec![two], present(vec![])).len(), 1);
}

#[test]
fn another_kind_of_answer_is_never_a_pass() {
    assert_eq!(judge(&Expectation::VersionsAgree, &Observation::Logs { lines: vec![] }).len(), 1);
}

#[test]
fn a_diagnosis_decodes_what_the_last_proxy_logged() {
    let seen = CallSeen {
        hops: vec![hop(EGRESS, "unknown.example")],
        connection: Some(Connection::Answered),
        status: Some(503),
        ..CallSeen::default()
    };
    let expect = CallExpect { status: Some(200), ..CallExpect::default() };
    let (e, o) = (Expectation::Call(Box::new(expect)), Observation::Call(Box::new(seen)));
    let lines = diagnose(&e, &o, &judge(&e, &o));
    assert!(lines[0].starts_with("First broken layer: configuration in the proxy (3 of 7)"), "{lines:?}");
    // The status stands beside it already, as what was observed.
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("NR: no route") && lines[1].contains("filter_chain_not_found: no filter chain"), "{lines:?}");
}

#[test]
fn a_diagnosis_says_nothing_that_is_observed_already() {
    let missing = MissingHop { proxy: name(EGRESS), looked_for: "token x".into() };
    let seen = CallSeen {
        connection: Some(Connection::Reset),
        connection_detail: Some("curl 35: reset".into()),
        missing_hops: vec![missing],
        ..CallSeen::default()
    };
    let path = vec![want(EGRESS)];
    let explained = |expect: CallExpect| {
        let (e, o) = (Expectation::Call(Box::new(expect)), Observation::Call(Box::new(seen.clone())));
        diagnose(&e, &o, &judge(&e, &o))
    };
    let lines = explained(CallExpect { status: Some(200), path: path.clone(), ..CallExpect::default() });
    assert!(lines.iter().all(|line| !line.contains("curl 35") && !line.contains("has no line of this call")), "{lines:?}");
    assert!(lines[1].starts_with("Connection: The peer took the connection and reset it"), "{lines:?}");
    // Where no expectation shows how the connection ended, the diagnosis does.
    let lines = explained(CallExpect { stdout: Some(TextMatch::Equals("200".into())), ..CallExpect::default() });
    assert!(lines[1].starts_with("Connection: reset (curl 35: reset). The peer"), "{lines:?}");
}
