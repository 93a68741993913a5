//! A fair with hosts of its own on the simulated mesh: whole, and broken in one place at a time. Each break that a new user
//! makes has to be told with its cause; the whole fair with none.

use std::path::Path;
use std::time::Duration;

use gateproof_core::outcome::Outcome;
use gateproof_core::report::CheckRecord;
use gateproof_core::scenario::INTACT;

use super::whole_run::whole_run;
use crate::provider::ProviderOptions;

const APPS: &str = include_str!("testdata/fair-apps.yaml");
const INGRESS: &str = include_str!("testdata/fair-ingress.yaml");
const EGRESS: &str = include_str!("testdata/fair-egress.yaml");

const HEAD: &str = "\
title: A ledger behind two gates
outside: [quay.fair.example]
runConfig: [guild]
manifests: [apps.yaml, ingress.yaml, egress.yaml]
";

const INGRESS_CALL: &str = "http: {from: outside, gateway: istio-system/istio-ingressgateway, url: \"http://ledger.fair.example/get\"}
    expect: {status: 200}";

const EGRESS_CALL: &str = "exec:
      in: guild/clerk
      command: [curl, -sS, -o, /dev/null, -w, \"%{http_code}\", \"https://quay.fair.example/get\"]
    expect:
      stdout: \"200\"
      path:
        - {proxy: guild/clerk, cluster: outbound|443|pier|istio-egressgateway.istio-system.svc.cluster.local, flags: \"-\"}
        - {proxy: istio-system/istio-egressgateway, cluster: outbound|443||quay.fair.example, flags: \"-\"}";

/// A way to break the fair: its name, the change, and what has to be told of it: words, and where to look.
struct Break {
    name: &'static str,
    egress: bool,
    change: &'static str,
    says: &'static str,
    look: &'static str,
}

const BREAKS: [Break; 12] = [
    Break {
        name: "ingress no VirtualService",
        egress: false,
        change: "withoutObject: VirtualService guild/ledger",
        says: "no VirtualService for ledger.fair.example is bound to Gateway guild/gate",
        look: "",
    },
    Break {
        name: "ingress wrong subset",
        egress: false,
        change: "patch: {object: VirtualService guild/ledger, set: {/spec/http/0/route/0/destination/subset: vellum}}",
        says: "names subset `vellum` of ledger.guild.svc.cluster.local, but DestinationRule guild/ledger declares `paper`",
        look: "`spec.http[0].route[0].destination.subset` of VirtualService guild/ledger",
    },
    Break {
        name: "ingress wrong selector of the Gateway",
        egress: false,
        change: "patch: {object: Gateway guild/gate, set: {/spec/selector/istio: sluice}}",
        says: "the selector (istio=sluice) of Gateway guild/gate matches no pod",
        look: "`spec.selector` of Gateway guild/gate",
    },
    Break {
        name: "ingress wrong selector of the Service",
        egress: false,
        change: "patch: {object: Service guild/ledger, set: {/spec/selector/app: legder}}",
        says: "the selector (app=legder) of Service guild/ledger matches no pod in guild",
        look: "`spec.selector` of Service guild/ledger",
    },
    Break {
        name: "ingress wrong port of the Gateway",
        egress: false,
        change: "patch: {object: Gateway guild/gate, set: {/spec/servers/0/port/number: 8081}}",
        says: "Gateway guild/gate serves ledger.fair.example on port 8081, and the call goes to port 80",
        look: "`spec.servers[0].port.number` of Gateway guild/gate",
    },
    Break {
        name: "ingress wrong port of the destination",
        egress: false,
        change: "patch: {object: VirtualService guild/ledger, set: {/spec/http/0/route/0/destination/port/number: 7001}}",
        says: "leads to port 7001 of ledger.guild.svc.cluster.local, but Service guild/ledger serves 7000",
        look: "`spec.http[0].route[0].destination.port.number` of VirtualService guild/ledger",
    },
    Break {
        name: "ingress hidden by exportTo",
        egress: false,
        change: "patch: {object: VirtualService guild/ledger, set: {/spec/exportTo: ['.']}}",
        says: "its exportTo (.) hides it from proxies in namespace istio-system",
        look: "`spec.exportTo` of VirtualService guild/ledger",
    },
    Break {
        name: "egress no VirtualService",
        egress: true,
        change: "withoutObject: VirtualService guild/quay",
        says: "no VirtualService for quay.fair.example holds in the mesh",
        look: "",
    },
    Break {
        name: "egress wrong subset",
        egress: true,
        change: "patch: {object: DestinationRule guild/out, set: {/spec/subsets/0/name: jetty}}",
        says: "names subset `pier` of istio-egressgateway.istio-system.svc.cluster.local, but DestinationRule guild/out declares `jetty`",
        look: "`spec.tls[0].route[0].destination.subset` of VirtualService guild/quay",
    },
    Break {
        name: "egress wrong selector",
        egress: true,
        change: "patch: {object: Gateway guild/out, set: {/spec/selector/istio: sluice}}",
        says: "the selector (istio=sluice) of Gateway guild/out matches no pod",
        look: "`spec.selector` of Gateway guild/out",
    },
    Break {
        name: "egress wrong port",
        egress: true,
        change: "patch: {object: ServiceEntry guild/quay, set: {/spec/ports/0/number: 8443}}",
        says: "the call goes to port 443 of quay.fair.example, but ServiceEntry guild/quay serves 8443",
        look: "`spec.ports` of ServiceEntry guild/quay",
    },
    Break {
        name: "egress hidden by exportTo",
        egress: true,
        change: "patch: {object: ServiceEntry guild/quay, set: {/spec/exportTo: [elsewhere]}}",
        says: "its exportTo (elsewhere) hides it from proxies in namespace guild",
        look: "`spec.exportTo` of ServiceEntry guild/quay",
    },
];

/// A check of a state of its own, or of one of [`BREAKS`]: its name, the state, what changes (empty where the state is there
/// already), the call, and what has to be told.
struct Reach {
    name: &'static str,
    state: &'static str,
    change: &'static str,
    call: &'static str,
    says: &'static str,
    look: &'static str,
}

const INJECT: &str = "`spec.template.metadata.labels[sidecar.istio.io/inject]` of Deployment guild/";

const REACHES: [Reach; 5] = [
    Reach {
        name: "a silent ledger",
        state: "ledger without a sidecar",
        change: "patch: {object: Deployment guild/ledger, set: {/spec/template/metadata/labels/sidecar.istio.io~1inject: \"false\"}}",
        call: "http: {from: outside, gateway: istio-system/istio-ingressgateway, url: \"http://ledger.fair.example/get\"}
    expect: {status: 200, path: [{proxy: istio-system/istio-ingressgateway}, {proxy: guild/ledger, cluster: inbound|8080||}]}",
        says: "guild/ledger has no istio-proxy container, so no proxy logs its calls: its pod template says",
        look: INJECT,
    },
    // What has no log cannot show that something is absent from it, and that is told, not left unjudged.
    Reach {
        name: "a ledger past which a call is to go",
        state: "ledger without a sidecar",
        change: "",
        call: "http: {from: outside, gateway: istio-system/istio-ingressgateway, url: \"http://ledger.fair.example/get\"}
    expect: {status: 200, absentFrom: [guild/ledger]}",
        says: "guild/ledger has no istio-proxy container",
        look: INJECT,
    },
    Reach {
        name: "a caller that nothing leads",
        state: "clerk without a sidecar",
        change: "patch: {object: Deployment guild/clerk, set: {/spec/template/metadata/labels/sidecar.istio.io~1inject: \"false\"}}",
        call: EGRESS_CALL,
        says: "guild/clerk has no istio-proxy container",
        look: INJECT,
    },
    Reach {
        name: "a caller that does not trust",
        state: "clerk without the variable",
        change: "patch: {object: Deployment guild/clerk, set: {/spec/template/spec/containers/0/env: [{name: OTHER, value: x}]}}",
        call: EGRESS_CALL,
        says: "Deployment guild/clerk does not trust the run's CA, which issued the certificate of quay.fair.example",
        look: "`spec.template.spec.containers[].env` of Deployment guild/clerk",
    },
    // The neighbour of "egress wrong selector": the gateway was to refuse this name, and nobody listened.
    Reach {
        name: "another name is closed",
        state: "egress wrong selector",
        change: "",
        call: "http: {from: guild/clerk, gateway: istio-system/istio-egressgateway, url: \"https://pier.fair.example/\"}
    expect: {connection: [closed, reset], path: [{proxy: istio-system/istio-egressgateway, flags: NR, sni: pier.fair.example}]}",
        says: "the selector (istio=sluice) of Gateway guild/out matches no pod",
        look: "`spec.selector` of Gateway guild/out",
    },
];

fn scenario() -> String {
    let mut out = format!("{HEAD}variations:\n");
    for one in &BREAKS {
        out.push_str(&format!("  - name: {}\n    about: One thing is wrong.\n    changes:\n      - {}\n", one.name, one.change));
    }
    for one in REACHES.iter().filter(|one| !one.change.is_empty()) {
        out.push_str(&format!("  - name: {}\n    about: One thing is wrong.\n    changes:\n      - {}\n", one.state, one.change));
    }
    out.push_str("checks:\n");
    let mut check = |name: &str, given: &str, call: &str| {
        out.push_str(&format!("  - name: {name}\n    proves: The call arrives.\n    given: {given}\n    {call}\n"));
    };
    check("ingress", INTACT, INGRESS_CALL);
    check("egress", INTACT, EGRESS_CALL);
    for one in &BREAKS {
        check(&format!("{} is told", one.name), one.name, if one.egress { EGRESS_CALL } else { INGRESS_CALL });
    }
    for one in &REACHES {
        check(one.name, one.state, one.call);
    }
    // An expectation that is wrong while all is in order: red, and nothing to blame.
    check("not what was wanted", INTACT, &INGRESS_CALL.replace("200", "201"));
    out
}

fn run(root: &Path) -> Vec<CheckRecord> {
    let provider = ProviderOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kind"));
    let record = whole_run(&root.join("scenarios"), root.join("reports"), provider, |session| {
        session.engine().diagnostics = None;
        // A line that is missing is missing in every second state here.
        session.engine().world.line_limit = Duration::from_millis(150);
    });
    record.scenarios.into_iter().flat_map(|s| s.checks).collect()
}

/// Whether a check failed, begins its diagnosis with a layer, and has a cause with these words and this place.
fn is_told(check: &CheckRecord, says: &str, look: &str) -> bool {
    let layered = check.diagnosis.first().is_some_and(|line| line.starts_with("First broken layer: "));
    let cause = check.cause.as_ref();
    let told = cause.is_some_and(|c| c.text.contains(says) && (look.is_empty() || c.look_at.iter().any(|place| place.contains(look))));
    matches!(check.outcome, Outcome::Failed { .. }) && layered && told
}

#[test]
fn each_break_of_a_new_user_is_told_with_its_cause_and_the_whole_with_none() {
    let root = tempfile::tempdir().unwrap();
    let fair = root.path().join("scenarios/fair");
    std::fs::create_dir_all(&fair).unwrap();
    for (file, text) in [("scenario.yaml", scenario().as_str()), ("apps.yaml", APPS), ("ingress.yaml", INGRESS), ("egress.yaml", EGRESS)] {
        std::fs::write(fair.join(file), text).unwrap();
    }
    let checks = run(root.path());
    let find = |name: &str| checks.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("{name} was not asked"));
    for name in ["ingress", "egress"] {
        let check = find(name);
        assert_eq!((&check.outcome, check.diagnosis.len()), (&Outcome::Passed, 0), "{name}: {:?}", check.observed);
    }
    let wrong = find("not what was wanted");
    assert!(matches!(wrong.outcome, Outcome::Failed { .. }) && wrong.cause.is_none(), "{:?}", wrong.diagnosis);
    assert!(wrong.diagnosis[0].starts_with("First broken layer: response as expected (6 of 7)"), "{:?}", wrong.diagnosis);
    let mut missed = Vec::new();
    let breaks = BREAKS.iter().map(|one| (format!("{} is told", one.name), one.says, one.look));
    for (name, says, look) in breaks.chain(REACHES.iter().map(|one| (one.name.to_owned(), one.says, one.look))) {
        let check = find(&name);
        if !is_told(check, says, look) {
            missed.push(format!("{name}: {:?} {:?} {:#?} {:#?}", check.outcome, check.observed, check.diagnosis, check.cause));
        }
    }
    // Checks of one state that have one reason are told with one cause, at one layer.
    let (one, other) = (find("egress wrong selector is told"), find("another name is closed"));
    assert_eq!((&one.cause, one.diagnosis.first()), (&other.cause, other.diagnosis.first()));
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}
