//! A record made by hand, for the tests of the renderers.

use super::record::*;
use crate::names::{Namespaced, ScenarioId};
use crate::outcome::{AccessLogEntry, EvidenceKind, HopSeen, Mismatch, Outcome};

fn texts(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|l| (*l).to_owned()).collect()
}

fn pairs(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

pub(crate) fn at(text: &str) -> Namespaced {
    Namespaced::parse(text).unwrap()
}

/// A hop whose line says what its fields say.
pub(crate) fn hop(proxy: &str, request: Option<&str>, host: &str, code: u16, flags: &str, upstream: &str, cluster: &str) -> HopSeen {
    let proxy = at(proxy);
    let sni = if request.is_none() { host } else { "-" };
    let authority = if request.is_some() { host } else { "-" };
    let line = format!(
        "[2026-11-21T01:49:40.000Z] \"{}\" {code} {flags} \"{upstream}\" {cluster} 10.1.0.7:49456 10.1.0.7:8443 10.1.0.9:37006 {sni} -",
        request.unwrap_or("- - -")
    );
    HopSeen {
        pod: format!("{}-6d9f8b7c5d-x2k4z", proxy.name),
        proxy,
        joined_by: if request.is_some() { "token in User-Agent" } else { "addresses 10.1.0.9:37006" }.to_owned(),
        entry: AccessLogEntry {
            line,
            start: "2026-11-21T01:49:40.000Z".to_owned(),
            request: request.map(str::to_owned),
            code,
            flags: flags.to_owned(),
            details: "-".to_owned(),
            termination: "-".to_owned(),
            upstream_failure: "-".to_owned(),
            received: 0,
            sent: 0,
            duration_ms: 4,
            user_agent: "-".to_owned(),
            request_id: "-".to_owned(),
            authority: authority.to_owned(),
            upstream_host: upstream.to_owned(),
            cluster: cluster.to_owned(),
            upstream_local: "10.1.0.7:49456".to_owned(),
            downstream_local: "10.1.0.7:8443".to_owned(),
            downstream_remote: "10.1.0.9:37006".to_owned(),
            sni: sni.to_owned(),
            route: "-".to_owned(),
        },
    }
}

/// A check that passed at its first attempt.
pub(crate) fn check(name: &str, proves: &str, command: &str, expected: &[&str], observed: &[&str]) -> CheckRecord {
    CheckRecord {
        name: name.to_owned(),
        proves: proves.to_owned(),
        given: "intact".to_owned(),
        command: command.to_owned(),
        expected: texts(expected),
        observed: texts(observed),
        answer: None,
        outcome: Outcome::Passed,
        attempts: vec![attempt(0.012, &observed.join(", "), &[])],
        took: 0.034,
        hops: Vec::new(),
        caller: None,
        destination: None,
        evidence: Vec::new(),
        diagnosis: Vec::new(),
        cause: None,
        quarantined: None,
        history: None,
    }
}

/// An attempt, so many seconds after a check was first asked.
pub(crate) fn attempt(after: f64, seen: &str, wrong: &[&str]) -> AttemptRecord {
    AttemptRecord { after, seen: seen.to_owned(), at: String::new(), wrong: texts(wrong) }
}

/// A scenario with these checks and little else.
pub(crate) fn scenario(id: &str, title: &str, checks: Vec<CheckRecord>) -> ScenarioRecord {
    ScenarioRecord {
        id: ScenarioId::new(id).unwrap(),
        title: title.to_owned(),
        mechanism: String::new(),
        tags: Vec::new(),
        needs: Vec::new(),
        folder: format!("scenarios/{id}"),
        values: Vec::new(),
        manifests: Vec::new(),
        stages: vec![StageRecord {
            state: "intact".to_owned(),
            about: String::new(),
            applied: Vec::new(),
            removed: Vec::new(),
            notices: Vec::new(),
            apply_took: 0.31,
            gate_took: 0.85,
            proxies: std::collections::BTreeMap::new(),
            gate_facts: texts(&["istiod: 4 proxies acknowledged all that was sent"]),
        }],
        checks,
        not_tested: Vec::new(),
        corrections: Vec::new(),
        key_points: Vec::new(),
        might_be_missing: Vec::new(),
        next_work: Vec::new(),
    }
}

fn manifest(file: &str, objects: &[&str]) -> ManifestRecord {
    ManifestRecord { file: file.to_owned(), objects: texts(objects) }
}

fn ingress() -> ScenarioRecord {
    const GATEWAY: &str = "istio-system/istio-ingressgateway";
    const CLUSTER: &str = "outbound|8000||httpbin.mesh-test.svc.cluster.local";
    let call = |path: &str, code: u16, route: &str| {
        let request = format!("GET {path} HTTP/1.1");
        let mut at_gateway = hop(GATEWAY, Some(&request), "httpbin.example.com", code, "-", "10.1.0.12:8080", CLUSTER);
        at_gateway.entry.route = route.to_owned();
        let inbound = hop("mesh-test/httpbin", Some(&request), "httpbin.example.com", code, "-", "10.1.0.12:8080", "inbound|8080||");
        vec![at_gateway, inbound]
    };
    let mut catch_all = check(
        "catch-all route",
        "The `/*` route reaches httpbin of this run.",
        "curl -sS -H 'Host: httpbin.example.com' http://172.18.0.2:31080/get",
        &["status 200", "route catch-all"],
        &["status 200", "route catch-all"],
    );
    catch_all.hops = call("/get", 200, "catch-all");
    let mut prefix = check(
        "explicit prefix",
        "The /status route is matched before the catch-all.",
        "curl -sS -H 'Host: httpbin.example.com' http://172.18.0.2:31080/status/418",
        &["status 418", "route status"],
        &["status 418", "route status"],
    );
    prefix.hops = call("/status/418", 418, "status");
    let mut other = check(
        "another host is not served",
        "A host without a route is refused, not served by some default.",
        "curl -sS -H 'Host: nope.example.com' http://172.18.0.2:31080/get",
        &["status 404"],
        &["status 404"],
    );
    other.hops = vec![hop(GATEWAY, Some("GET /get HTTP/1.1"), "nope.example.com", 404, "NR", "-", "-")];
    for c in [&mut catch_all, &mut prefix, &mut other] {
        c.caller = Some("outside".to_owned());
    }
    for c in [&mut catch_all, &mut prefix] {
        c.destination = Some("httpbin".to_owned());
    }
    let mut table = check(
        "the route table is in the gateway",
        "Envoy has the virtual host.",
        "istioctl proxy-config routes deploy/istio-ingressgateway.istio-system --name http.8080 -o json \\\n  | jq '.[].virtualHosts[].domains'",
        &["an entry `http.8080` holds virtual_hosts[].domains = httpbin.example.com"],
        &["entry `http.8080`: 1 virtual host"],
    );
    table.evidence = vec![EvidenceRecord {
        title: "The entry in pod istio-ingressgateway-6d9f8b7c5d-x2k4z".to_owned(),
        language: "json".to_owned(),
        text: "{\"name\": \"http.8080\"}".to_owned(),
    }];
    ScenarioRecord {
        mechanism: "The gateway ends the TLS of its clients. Therefore it sees host and path, and routes by them.\n\n# Order\n\
                    See [the routes](virtualservice-httpbin.yaml)."
            .to_owned(),
        tags: texts(&["ingress", "tls"]),
        needs: vec![ScenarioId::new("00-sample-apps").unwrap()],
        values: Vec::new(),
        manifests: vec![
            manifest("gateway-ingress.yaml", &["Gateway istio-system/httpbin"]),
            manifest("virtualservice-httpbin.yaml", &["VirtualService mesh-test/httpbin"]),
        ],
        corrections: pairs(&[(
            "Only a 418 shows that the specific route was matched.",
            "httpbin answers 418 on either route; the route's name in the log line shows it.",
        )]),
        key_points: texts(&["The order of routes decides; the first match wins."]),
        might_be_missing: texts(&["404 is the gateway's own answer: its line carries the flags `NR` and no upstream."]),
        ..scenario("10-ingress", "HTTP and HTTPS ingress through the shared gateway", vec![catch_all, prefix, other, table])
    }
}

fn egress() -> ScenarioRecord {
    const OUT: &str = "outbound|443||httpbin.org";
    let command = "kubectl -n mesh-test exec deploy/sleep -c sleep -- curl -sS -o /dev/null -w '%{http_code}' https://httpbin.org/get";
    let sidecar = |cluster: &str, upstream: &str| hop("mesh-test/sleep", None, "httpbin.org", 0, "-", upstream, cluster);
    let mut through = check(
        "traffic leaves through the egress gateway",
        "The call passes the egress gateway, which routes it by SNI alone.",
        command,
        &["stdout 200", "path istio-system/istio-egressgateway, cluster outbound|443||httpbin.org"],
        &["stdout 200", "istio-system/istio-egressgateway: outbound|443||httpbin.org"],
    );
    through.hops = vec![
        sidecar("outbound|443|httpbin|istio-egressgateway.istio-system.svc.cluster.local", "10.1.0.7:8443"),
        hop("istio-system/istio-egressgateway", None, "httpbin.org", 0, "-", "172.18.0.9:443", OUT),
    ];
    let mut without = check(
        "without the VirtualService it does not",
        "The VirtualService is what brings the call to the gateway.",
        command,
        &["stdout 200", "no line in istio-system/istio-egressgateway"],
        &["stdout 200", "no line in istio-system/istio-egressgateway"],
    );
    without.given = "without the VirtualService".to_owned();
    without.hops = vec![sidecar(OUT, "172.18.0.9:443")];
    for c in [&mut through, &mut without] {
        c.caller = Some("mesh-test/sleep".to_owned());
        c.destination = Some("httpbin.org".to_owned());
    }
    let base = scenario("20-egress", "HTTPS egress by SNI", vec![through, without]);
    let variation = StageRecord {
        state: "without the VirtualService".to_owned(),
        about: "`virtualservice-egress.yaml` is left out, so nothing leads to the gateway.".to_owned(),
        removed: texts(&["VirtualService mesh-test/egress"]),
        notices: texts(&["Gateway istio-system/egress is bound by no VirtualService"]),
        ..base.stages[0].clone()
    };
    ScenarioRecord {
        mechanism: "The payload stays encrypted, so the gateway routes by SNI.".to_owned(),
        tags: texts(&["egress", "tls"]),
        values: Vec::new(),
        manifests: vec![manifest("virtualservice-egress.yaml", &["VirtualService mesh-test/egress"])],
        stages: vec![base.stages[0].clone(), variation],
        not_tested: pairs(&[("REGISTRY_ONLY", "It is set for the whole mesh; changing it would touch every other scenario.")]),
        key_points: texts(&["200 is the server's answer. The gateway saw no status."]),
        next_work: texts(&["TLS origination at the gateway."]),
        ..base
    }
}

/// A green run on kind.
pub(crate) fn green() -> RunRecord {
    let mut apps = scenario(
        "00-sample-apps",
        "Sample applications",
        vec![check(
            "pods are ready",
            "Sidecars are injected.",
            "kubectl -n mesh-test get pods",
            &["2 of 2 ready"],
            &["httpbin 2 of 2", "sleep 2 of 2"],
        )],
    );
    apps.tags = texts(&["pre-check"]);
    RunRecord {
        schema: RECORD_SCHEMA,
        started: "2026-11-21T01:48:00Z".to_owned(),
        finished: Some("2026-11-21T01:49:12Z".to_owned()),
        gateproof: "0.1.0".to_owned(),
        invoked: "gateproof run scenarios --provider kind".to_owned(),
        provider: ProviderRecord {
            name: "kind".to_owned(),
            chosen: "kind's preflight passed".to_owned(),
            cluster: "gateproof".to_owned(),
            context: "kind-gateproof".to_owned(),
            origin: "created for this run".to_owned(),
        },
        versions: [
            ("Kubernetes", "v1.34.0", Some("1.34.0")),
            ("Istio control plane", "1.30.0", Some("1.30.0")),
            ("istioctl", "1.27.0", Some("1.30.0")),
            ("Envoy in istio-egressgateway", "1.38.0", None),
        ]
        .into_iter()
        .map(|(what, observed, declared)| VersionRecord {
            what: what.to_owned(),
            observed: observed.to_owned(),
            declared: declared.map(str::to_owned),
        })
        .collect(),
        warnings: texts(&["istioctl 1.27.0 does not fit the control plane 1.30.0; gateproof asks istiod itself"]),
        outside: vec![OutsideRecord {
            host: "httpbin.org".to_owned(),
            kind: "stand-in".to_owned(),
            addresses: texts(&["172.18.0.9"]),
            served_by: "mccutchen/go-httpbin:2.18.3".to_owned(),
        }],
        gateways: [
            ("istio-system/istio-ingressgateway", "NodePort 172.18.0.2:31080 (80), 172.18.0.2:31443 (443)"),
            ("istio-system/istio-egressgateway", "ClusterIP 10.96.0.7"),
        ]
        .into_iter()
        .map(|(gateway, reached)| GatewayRecord {
            at: at(gateway),
            labels: vec![format!("istio={}", &at(gateway).name[6..])],
            reached: reached.to_owned(),
        })
        .collect(),
        preflight: vec![PreflightRecord { what: "Docker answers".to_owned(), observed: "Docker 29.0, cgroup v2".to_owned(), ok: true }],
        steps: vec![
            StepRecord { name: "create the kind cluster".to_owned(), began: 0.4, took: 21.5 },
            StepRecord { name: "install istiod".to_owned(), began: 21.9, took: 12.25 },
        ],
        scenarios: vec![apps, ingress(), egress()],
        reproduce: texts(&["kind create cluster --name gateproof --config kind/cluster.yaml", "kubectl apply -f scenarios/10-ingress/"]),
        again: None,
        diagnostics: None,
        ended_early: None,
    }
}

/// A run with one check that failed, one that could not be judged, one that was skipped.
pub(crate) fn red() -> RunRecord {
    let mut record = green();
    record.started = "2026-11-22T01:48:00Z".to_owned();
    record.finished = Some("2026-11-22T01:49:30Z".to_owned());
    record.diagnostics = Some("2026-11-22-kind-3-scenarios.diagnostics/".to_owned());
    let [_, ingress, egress] = record.scenarios.as_mut_slice() else { unreachable!("the green run has three scenarios") };
    let failed = &mut egress.checks[0];
    failed.hops.truncate(1);
    failed.hops[0] = hop("mesh-test/sleep", None, "httpbin.org", 0, "-", "172.18.0.9:443", "PassthroughCluster");
    failed.observed = texts(&["stdout 200", "no line in istio-system/istio-egressgateway"]);
    failed.outcome = Outcome::Failed {
        mismatches: vec![Mismatch {
            what: "path[1]".to_owned(),
            expected: "istio-system/istio-egressgateway with cluster outbound|443||httpbin.org".to_owned(),
            observed: "no line of this call in 1 replica, read 2.1 s past it".to_owned(),
            by: EvidenceKind::Log,
        }],
    };
    failed.attempts = vec![
        attempt(0.2, "200, no line in the gateway", &["path[1]: no line of this call"]),
        attempt(1.4, "200, no line in the gateway", &["path[1]: no line of this call"]),
    ];
    failed.took = 3.5;
    failed.diagnosis = texts(&["The sidecar's cluster is `PassthroughCluster`: no VirtualService took the call."]);
    failed.cause = Some(CauseRecord {
        text: "VirtualService mesh-test/egress names the gateway `egres`, which does not exist".to_owned(),
        look_at: texts(&["`spec.gateways[0]` of VirtualService mesh-test/egress"]),
    });
    let skipped = &mut egress.checks[1];
    skipped.outcome = Outcome::Skipped { reason: "its state could not be reached: the API refused the patch".to_owned() };
    let gone = &mut ingress.checks[3];
    for check in [skipped, &mut *gone] {
        (check.observed, check.attempts, check.hops, check.evidence) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    }
    gone.outcome =
        Outcome::Error { message: "reading the proxy's configuration: the pod is gone; run again with GATEPROOF_KEEP=1".to_owned() };
    record
}

/// A run with a check that needed a second attempt.
pub(crate) fn flaky() -> RunRecord {
    let mut record = green();
    let check = &mut record.scenarios[1].checks[0];
    check.outcome = Outcome::Flaky;
    check.attempts.insert(0, attempt(0.01, "503, flags UF", &["status: expected 200, observed 503"]));
    check.took = 1.2;
    record
}

/// The red run with the check that failed in quarantine, and the one that could not be judged mended.
pub(crate) fn quarantined() -> RunRecord {
    let mut record = red();
    record.scenarios[1].checks[3] = ingress().checks[3].clone();
    let quarantine = QuarantineRecord { reason: "the stand-in is slow to begin".to_owned(), until: "2026-12-31".to_owned() };
    record.scenarios[2].checks[0].quarantined = Some(quarantine);
    record
}

/// A run that died in its last scenario.
pub(crate) fn unfinished() -> RunRecord {
    let mut record = green();
    record.finished = None;
    record.scenarios[2].checks.clear();
    record
}

/// A run on the simulated mesh.
pub(crate) fn embedded() -> RunRecord {
    let mut record = green();
    record.provider = ProviderRecord {
        name: "embedded".to_owned(),
        chosen: "kind's preflight did not pass: Docker does not answer".to_owned(),
        cluster: "in this process".to_owned(),
        context: "none".to_owned(),
        origin: "created for this run".to_owned(),
    };
    record.preflight[0] =
        PreflightRecord { what: "Docker answers".to_owned(), observed: "no socket at /var/run/docker.sock".to_owned(), ok: false };
    record.scenarios.truncate(2);
    record.again = Some(AgainRecord {
        run: "gateproof run --provider embedded --scenarios mine".to_owned(),
        hold: "gateproof hold --provider kind --scenarios mine".to_owned(),
    });
    record.reproduce = texts(&["gateproof run --provider embedded --scenarios mine 10-ingress"]);
    record
}
