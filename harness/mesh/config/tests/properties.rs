//! Properties of the whole way from objects to what becomes of a call, over objects of the committed cases, of captured clusters and
//! of `properties/objects.yaml`:
//!
//! - no configuration makes any step panic or hang, however its objects are spoiled;
//! - the order in which objects of one age are applied decides nothing.
//!
//! `PROPTEST_CASES` asks for more than a gate has time for.

#[path = "properties/corpus.rs"]
mod corpus;
#[path = "properties/spoil.rs"]
mod spoil;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateproof_mesh_config::analyze::analyze;
use gateproof_mesh_config::envoy::push::Push;
use gateproof_mesh_config::envoy::simulate::{Call, CallProtocol, CallTls, Mode, simulate};
use gateproof_mesh_config::gateway_api::{convert, deployments};
use gateproof_mesh_config::istio::PushContext;
use gateproof_mesh_config::validate::{reach, review, unknown_fields};
use gateproof_mesh_config::{ProxyKind, ProxyNode, ProxyResources, Snapshot};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};

use corpus::CORPUS;
use spoil::{Change, change};

/// No world of a few dozen objects may take longer in any build; one takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(cases),
        // A world is slow enough that a long search for a smaller one would look like a hang.
        max_shrink_iters: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    }
}

/// A world of some objects of the corpus.
fn world(picked: &[Index]) -> Vec<Value> {
    let mut all: Vec<Value> = CORPUS.always.clone();
    all.extend(picked.iter().map(|index| index.get(&CORPUS.others).clone()));
    all
}

fn snapshot(objects: &[Value]) -> Snapshot {
    let objects = objects.iter().map(|object| Arc::new(corpus::as_stored(object))).collect();
    Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() }
}

fn node(kind: ProxyKind, namespace: &str, ip: &str, labels: &[(&str, &str)]) -> ProxyNode {
    ProxyNode {
        kind,
        pod: "app".to_owned(),
        namespace: namespace.to_owned(),
        ip: ip.parse().expect("an address"),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        annotations: BTreeMap::new(),
        service_account: "default".to_owned(),
        container_ports: vec![8080],
    }
}

/// Proxies that most objects of the corpus are for, and those of its pods.
fn nodes(context: &PushContext) -> Vec<ProxyNode> {
    let mut nodes = vec![
        node(ProxyKind::Sidecar, "default", "1.1.1.1", &[("app", "foo")]),
        node(ProxyKind::Sidecar, "shop", "2001:db8::1", &[("app", "web")]),
        node(ProxyKind::Router, "default", "1.1.1.1", &[("istio", "ingressgateway")]),
        node(
            ProxyKind::Router,
            "istio-system",
            "10.0.0.9",
            &[("istio", "ingressgateway"), ("gateway.networking.k8s.io/gateway-name", "gateway")],
        ),
    ];
    nodes.extend(context.objects("Pod").iter().filter_map(|pod| ProxyNode::from_pod(pod)).take(4));
    nodes
}

fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for mode in [Mode::Gateway, Mode::Outbound, Mode::Inbound] {
        for (port, protocol, tls) in [
            (80, CallProtocol::Http, CallTls::Plaintext),
            (443, CallProtocol::Http, CallTls::Tls),
            (8080, CallProtocol::Tcp, CallTls::Mtls),
            (8080, CallProtocol::Http2, CallTls::Plaintext),
        ] {
            let host = "web.shop.svc.cluster.local".to_owned();
            calls.push(Call { port, protocol, tls, mode, host, path: "/a/b?c=d".to_owned(), ..Call::default() });
        }
    }
    calls
}

/// All that is done with objects, from their review to calls.
fn everything(objects: &[Value]) {
    let mut snapshot = snapshot(objects);
    for object in &snapshot.objects {
        let _ = review(object);
        let _ = unknown_fields(object);
        let _ = reach(object);
    }
    let converted = convert(&snapshot);
    let _ = deployments(&snapshot, "image");
    let _ = analyze(&snapshot);
    snapshot.objects.extend(converted.objects);
    let context = PushContext::new(&snapshot);
    for node in nodes(&context) {
        let resources = context.resources(&node);
        let push = Push::read(&resources);
        assert!(node.kind == ProxyKind::Router || resources.clusters.contains_key("BlackHoleCluster"));
        let _ = push.listeners.rejection();
        for call in calls() {
            let _ = simulate(&resources, &call);
        }
    }
}

proptest! {
    #![proptest_config(config(160))]

    #[test]
    fn no_configuration_makes_any_step_panic_or_hang(
        picked in proptest::collection::vec(any::<Index>(), 1..14),
        changes in proptest::collection::vec((any::<Index>(), change()), 0..12),
    ) {
        let mut objects = world(&picked);
        for (which, change) in &changes {
            let at = which.index(objects.len());
            if matches!(change, Change::Twice) {
                objects.push(objects[at].clone());
            } else {
                let donor = which.get(&CORPUS.others);
                change.apply(&mut objects[at], donor);
            }
        }
        let began = Instant::now();
        everything(&objects);
        prop_assert!(began.elapsed() < LIMIT, "took {:?}", began.elapsed());
    }

    #[test]
    fn what_envoy_would_get_may_be_spoiled_as_well(
        picked in proptest::collection::vec(any::<Index>(), 1..10),
        changes in proptest::collection::vec((any::<Index>(), change()), 1..10),
    ) {
        let snapshot = snapshot(&world(&picked));
        let context = PushContext::new(&snapshot);
        let mut resources = context.resources(&node(ProxyKind::Sidecar, "default", "1.1.1.1", &[("app", "foo")]));
        for (which, change) in &changes {
            let all: [&mut BTreeMap<String, Arc<Value>>; 4] =
                [&mut resources.listeners, &mut resources.routes, &mut resources.clusters, &mut resources.endpoints];
            let mut all: Vec<&mut Arc<Value>> = all.into_iter().flat_map(BTreeMap::values_mut).collect();
            let at = which.index(all.len());
            change.apply(Arc::make_mut(all[at]), which.get(&CORPUS.others));
        }
        let began = Instant::now();
        let _ = Push::read(&resources);
        for call in calls() {
            let _ = simulate(&resources, &call);
        }
        prop_assert!(began.elapsed() < LIMIT, "took {:?}", began.elapsed());
    }

    #[test]
    fn the_order_of_application_decides_nothing(
        picked in proptest::collection::vec(any::<Index>(), 2..16),
        years in proptest::collection::vec(0..3u8, 24),
        order in proptest::collection::vec(any::<u64>(), 24),
    ) {
        let mut objects = distinct(world(&picked));
        for (object, year) in objects.iter_mut().zip(years.iter().cycle()) {
            object["metadata"]["creationTimestamp"] = json!(format!("202{year}-01-01T00:00:00Z"));
        }
        let mut ranked: Vec<(u64, &Value)> = order.iter().copied().cycle().zip(&objects).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let other: Vec<Value> = ranked.into_iter().map(|(_, object)| object.clone()).collect();
        let (one, two) = (made(&objects), made(&other));
        prop_assert_eq!(&one.0, &two.0);
        for ((node, first), (_, second)) in one.1.iter().zip(&two.1) {
            for (what, first, second) in [
                ("listeners", &first.listeners, &second.listeners),
                ("routes", &first.routes, &second.routes),
                ("clusters", &first.clusters, &second.clusters),
                ("endpoints", &first.endpoints, &second.endpoints),
            ] {
                for (name, resource) in first {
                    prop_assert_eq!(Some(resource), second.get(name), "{} {} of {:?}", what, name, node);
                }
                prop_assert!(first.len() == second.len(), "{} of {:?}", what, node);
            }
        }
    }
}

/// What objects come to: Istio's objects of Gateway API's with all statuses and findings, and what each proxy is sent.
fn made(objects: &[Value]) -> (Vec<String>, Vec<(ProxyNode, ProxyResources)>) {
    let mut snapshot = snapshot(objects);
    let converted = convert(&snapshot);
    let mut words: Vec<String> = converted.objects.iter().map(|object| object.to_string()).collect();
    words.extend(converted.statuses.iter().map(|status| format!("{status:?}")));
    words.extend(analyze(&snapshot).messages.iter().map(ToString::to_string));
    snapshot.objects.extend(converted.objects);
    let context = PushContext::new(&snapshot);
    let sent = nodes(&context).into_iter().map(|node| (node.clone(), context.resources(&node)));
    (words, sent.collect())
}

/// One object of each name, as an API server has them.
fn distinct(objects: Vec<Value>) -> Vec<Value> {
    let key = |object: &Value| {
        ["/kind", "/apiVersion", "/metadata/namespace", "/metadata/name"]
            .map(|at| object.pointer(at).cloned().unwrap_or_default().to_string())
    };
    let by_name: BTreeMap<[String; 4], Value> = objects.into_iter().map(|object| (key(&object), object)).collect();
    by_name.into_values().collect()
}

/// The corpus is what it is taken for: objects of every kind that is read, which do come to listeners and routes.
#[test]
fn the_corpus_reaches_what_it_is_for() {
    let kinds: std::collections::BTreeSet<&str> =
        CORPUS.others.iter().chain(&CORPUS.always).filter_map(|object| object["kind"].as_str()).collect();
    for kind in [
        "AuthorizationPolicy",
        "DestinationRule",
        "EnvoyFilter",
        "Gateway",
        "GRPCRoute",
        "HTTPRoute",
        "PeerAuthentication",
        "ReferenceGrant",
        "RequestAuthentication",
        "Secret",
        "Service",
        "ServiceEntry",
        "Sidecar",
        "TCPRoute",
        "TLSRoute",
        "Telemetry",
        "VirtualService",
    ] {
        assert!(kinds.contains(kind), "no {kind}");
    }
    assert!(CORPUS.others.len() > 200, "{}", CORPUS.others.len());
    let sent = made(&distinct(CORPUS.always.clone())).1;
    let listeners: usize = sent.iter().map(|(_, resources)| resources.listeners.len()).sum();
    assert!(listeners > 8, "{listeners}");
}
