//! What was captured from a real cluster is read without refusal, and does what it did there.

use std::net::SocketAddr;

use serde_json::Value;

use super::*;
use crate::envoy::hcm::{ForwardClientCert, RouteSource};
use crate::envoy::listener::ListenerFilterKind;
use crate::envoy::network::NetworkFilter;
use crate::envoy::push::Push;
use crate::envoy::simulate::{Call, CallError, CallProtocol, CallTls, Mode, Outcome, simulate};
use crate::envoy::tls::{CertificateSource, UpstreamSocket};

fn taken(resources: &ProxyResources) -> Push {
    let push = Push::read(resources);
    assert_eq!(push.listeners.refused, []);
    assert_eq!(push.routes.refused, []);
    assert_eq!(push.clusters.refused, []);
    assert_eq!(push.endpoints.refused, []);
    push
}

#[test]
fn captured_proxies_are_read_without_refusal() {
    for resources in [gateway_in(), gateway_out(), gateway_rbac(), sidecar()] {
        let push = taken(&resources);
        assert_eq!(push.listeners.good.len(), resources.listeners.len());
        assert_eq!(push.clusters.good.len(), resources.clusters.len());
    }
}

/// Run it with the folder of a capture: every `config_dump` below it must be readable.
#[test]
#[ignore = "reads the config dumps below the folder that GATEPROOF_DUMPS names"]
fn whole_dumps_are_read_without_refusal() {
    let mut folders = vec![std::path::PathBuf::from(std::env::var("GATEPROOF_DUMPS").unwrap())];
    let mut counts = [0; 4];
    let mut refusals = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let Ok(dump) = serde_json::from_str::<Value>(&text) else { continue };
            for config in dump["configs"].as_array().into_iter().flatten() {
                for (kind, count) in read_config(config, &path, &mut refusals) {
                    counts[kind] += count;
                }
            }
        }
    }
    assert!(refusals.is_empty(), "{}", refusals.join("\n"));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

fn read_config(config: &Value, path: &std::path::Path, refusals: &mut Vec<String>) -> Vec<(usize, usize)> {
    let each = |list: &str, inner: &[&str]| -> Vec<Value> {
        let found = config[list].as_array().into_iter().flatten();
        found.filter_map(|entry| inner.iter().try_fold(entry, |value, key| value.get(key)).cloned()).collect()
    };
    let mut counts = Vec::new();
    let mut read = |kind: usize, values: Vec<Value>, check: &dyn Fn(&Value) -> Option<crate::envoy::Refusal>| {
        counts.push((kind, values.len()));
        for value in values {
            refusals.extend(check(&value).map(|refusal| format!("{}: {}: {refusal}", path.display(), value["name"])));
        }
    };
    let listeners = [each("dynamic_listeners", &["active_state", "listener"]), each("static_listeners", &["listener"])].concat();
    read(0, listeners, &|v| crate::envoy::Listener::read(v).err());
    let routes = [each("dynamic_route_configs", &["route_config"]), each("static_route_configs", &["route_config"])].concat();
    read(1, routes, &|v| crate::envoy::RouteTable::read(v).err());
    let clusters = [each("dynamic_active_clusters", &["cluster"]), each("static_clusters", &["cluster"])].concat();
    read(2, clusters, &|v| crate::envoy::Cluster::read(v).err());
    let endpoints =
        [each("dynamic_endpoint_configs", &["endpoint_config"]), each("static_endpoint_configs", &["endpoint_config"])].concat();
    read(3, endpoints, &|v| crate::envoy::Endpoints::read(v).err());
    counts
}

#[test]
fn the_listener_of_a_gateway_says_what_it_was_told() {
    let push = taken(&gateway_in());
    let https = &push.listeners.good["0.0.0.0_8443"];
    assert!(https.bind_to_port && !https.use_original_dst);
    assert_eq!(https.listener_filters.len(), 1);
    assert_eq!(https.listener_filters_timeout, Some(std::time::Duration::from_secs(15)));
    let chain = &https.filter_chains[0];
    let tls = chain.tls.as_ref().unwrap();
    assert!(!tls.require_client_certificate);
    assert!(matches!(&tls.common.certificates[..], [CertificateSource::Sds(name)] if name.starts_with("kubernetes://")));
    assert_eq!(tls.common.alpn, ["h2", "http/1.1"]);
    let NetworkFilter::HttpConnectionManager(manager) = &chain.filters[0] else { panic!() };
    assert!(manager.use_remote_address && manager.normalize_path && manager.stream_idle_timeout.is_none());
    assert_eq!(manager.server_name, "istio-envoy");
    assert_eq!(manager.forward_client_cert, ForwardClientCert::SanitizeSet);
    assert!(matches!(&manager.routes, RouteSource::Rds(name) if name.starts_with("https.443.")));
    assert_eq!(
        manager.http_filters.iter().map(|f| f.name.rsplit('.').next().unwrap()).collect::<Vec<_>>(),
        ["grpc_stats", "fault", "cors", "router"]
    );
}

#[test]
fn the_inbound_listener_runs_its_filters_only_where_they_are_meant() {
    let push = taken(&sidecar());
    let inbound = &push.listeners.good["virtualInbound"];
    assert!(inbound.listener_filters_timeout.is_none() && inbound.continue_on_listener_filters_timeout);
    let runs = |kind: ListenerFilterKind, port| inbound.listener_filters.iter().any(|f| f.kind == kind && f.runs(port));
    assert!(runs(ListenerFilterKind::TlsInspector, 9999));
    assert!(!runs(ListenerFilterKind::TlsInspector, 15006));
    assert!(runs(ListenerFilterKind::HttpInspector, 9999));
    assert!(!runs(ListenerFilterKind::HttpInspector, 80));
}

#[test]
fn an_endpoint_with_a_proxy_is_spoken_to_in_mutual_tls() {
    let push = taken(&sidecar());
    let name = "outbound|8000||alpha.apps.svc.cluster.local";
    let (cluster, endpoints) = (&push.clusters.good[name], &push.endpoints.good[name]);
    let mut endpoint = endpoints.endpoints[0].clone();
    let UpstreamSocket::Tls(tls) = cluster.socket_for(&endpoint) else { panic!() };
    assert_eq!(tls.sni, "outbound_.8000_._.alpha.apps.svc.cluster.local");
    assert_eq!(tls.common.alpn, ["istio"]);
    let validation = tls.common.validation.as_ref().unwrap();
    assert_eq!(validation.sds.as_deref(), Some("ROOTCA"));
    assert!(validation.subject_alt_names[0].matcher.matches("spiffe://cluster.local/ns/apps/sa/alpha"));
    endpoint.metadata.clear();
    assert_eq!(cluster.socket_for(&endpoint), &UpstreamSocket::Raw);
}

fn call(host: &str, port: u16) -> Call {
    Call { host: host.to_owned(), port, ..Call::default() }
}

fn outcome(names: [&str; 5]) -> Outcome {
    let some = |name: &str| (name != "-").then(|| name.to_owned());
    let [listener, filter_chain, virtual_host, route, cluster] = names.map(some);
    Outcome { listener, filter_chain, virtual_host, route, cluster, ..Outcome::default() }
}

fn without_table(outcome: Outcome) -> Outcome {
    Outcome { route_table: None, ..outcome }
}

#[test]
fn calls_to_a_gateway_go_where_they_went() {
    let gateway = gateway_in();
    let cluster = "outbound|8000||alpha.apps.svc.cluster.local";
    let plain = |path: &str| Call { path: path.to_owned(), ..call("shop.example.test:80", 8080) };
    assert_eq!(without_table(simulate(&gateway, &plain("/get"))), outcome(["0.0.0.0_8080", "", "shop.example.test:80", "rest", cluster]));
    assert_eq!(
        without_table(simulate(&gateway, &plain("/first/418"))),
        outcome(["0.0.0.0_8080", "", "shop.example.test:80", "first", cluster])
    );
    assert_eq!(simulate(&gateway, &call("nope.example.test", 8080)).error, Some(CallError::NoVirtualHost));
    assert_eq!(simulate(&gateway, &call("x", 9)).error, Some(CallError::NoListener));
    let secure = Call { tls: CallTls::Tls, ..call("shop.example.test", 8443) };
    assert_eq!(simulate(&gateway, &secure).cluster.as_deref(), Some(cluster));
    assert_eq!(simulate(&gateway, &Call { sni: "nope.example.test".to_owned(), ..secure.clone() }).error, Some(CallError::NoFilterChain));
    let foreign_host = Call { sni: "shop.example.test".to_owned(), host: "nope.example.test".to_owned(), ..secure.clone() };
    assert_eq!(simulate(&gateway, &foreign_host).error, Some(CallError::NoVirtualHost));
    let plaintext = Call { tls: CallTls::Plaintext, ..secure };
    assert_eq!(simulate(&gateway, &plaintext).error, Some(CallError::NoFilterChain));
}

#[test]
fn calls_of_an_application_go_where_they_went() {
    let sidecar = sidecar();
    let out = |host: &str, port: u16| Call { mode: Mode::Outbound, ..call(host, port) };
    let found = simulate(&sidecar, &out("alpha:8000", 8000));
    assert_eq!(found.listener.as_deref(), Some("0.0.0.0_8000"));
    assert_eq!(found.cluster.as_deref(), Some("outbound|8000||alpha.apps.svc.cluster.local"));
    assert_eq!(simulate(&sidecar, &out("unknown.test", 80)).cluster.as_deref(), Some("PassthroughCluster"));
    let raw = Call { protocol: CallProtocol::Tcp, ..out("", 80) };
    let found = simulate(&sidecar, &raw);
    assert_eq!((found.filter_chain.as_deref(), found.cluster.as_deref()), (Some("PassthroughFilterChain"), Some("PassthroughCluster")));
    let elsewhere = simulate(&sidecar, &Call { protocol: CallProtocol::Tcp, ..out("", 7777) });
    assert_eq!(elsewhere.listener.as_deref(), Some("virtualOutbound"));
    assert_eq!(elsewhere.cluster.as_deref(), Some("PassthroughCluster"));
    let itself = simulate(&sidecar, &Call { protocol: CallProtocol::Tcp, ..out("", 15001) });
    assert_eq!(itself.cluster.as_deref(), Some("BlackHoleCluster"));
    let named = Call { tls: CallTls::Tls, protocol: CallProtocol::Tcp, ..out("one.example.test", 443) };
    assert_eq!(simulate(&sidecar, &named).cluster.as_deref(), Some("outbound|443|one|gate-a.edge-a.svc.cluster.local"));
}

#[test]
fn calls_to_an_application_arrive() {
    let sidecar = sidecar();
    let to = |port, tls| Call { mode: Mode::Inbound, tls, ..call("beta", port) };
    assert_eq!(simulate(&sidecar, &to(80, CallTls::Mtls)).cluster.as_deref(), Some("inbound|80||"));
    assert_eq!(simulate(&sidecar, &to(80, CallTls::Plaintext)).cluster.as_deref(), Some("inbound|80||"));
    assert_eq!(simulate(&sidecar, &to(9999, CallTls::Plaintext)).cluster.as_deref(), Some("InboundPassthroughCluster"));
}

#[test]
fn a_gateway_with_mutual_tls_wants_the_meshs_certificate() {
    let gateway = gateway_out();
    let with = |tls| Call { tls, protocol: CallProtocol::Tcp, sni: "one.example.test".to_owned(), ..call("", 8443) };
    let found = simulate(&gateway, &with(CallTls::Mtls));
    assert_eq!(found.cluster.as_deref(), Some("outbound|443||one.example.test"));
    assert_eq!(found.error, None);
    assert_eq!(simulate(&gateway, &with(CallTls::Tls)).error, Some(CallError::MtlsError));
}

#[test]
fn a_policy_of_a_gateway_knows_its_callers() {
    let push = taken(&gateway_rbac());
    let NetworkFilter::Rbac(filter) = &push.listeners.good["0.0.0.0_8443"].filter_chains[0].filters[0] else { panic!() };
    let rules = filter.rules.as_ref().unwrap();
    let mut call = crate::envoy::CallRecord::default();
    let verdict = rules.check(&call);
    assert_eq!((verdict.allowed, verdict.policy), (false, None));
    assert_eq!(crate::envoy::details::rbac_denied(None), "rbac_access_denied_matched_policy[none]");
    let tls = crate::envoy::access_log::TlsFacts {
        peer_uri_sans: vec!["spiffe://cluster.local/ns/apps/sa/beta".to_owned()],
        ..Default::default()
    };
    call.downstream.tls = Some(tls);
    let verdict = rules.check(&call);
    assert!(verdict.allowed);
    assert_eq!(verdict.policy.as_deref(), Some("ns[edge-b]-policy[only-beta]-rule[0]"));
}

#[test]
fn a_connection_is_handed_to_the_listener_of_its_destination() {
    let push = taken(&sidecar());
    let to = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        crate::envoy::listener::hand_over(push.listeners.good.values(), address).map(|l| l.name.clone())
    };
    let own = push.listeners.good.keys().find(|name| name.starts_with("10.96.") && name.ends_with("_443")).unwrap();
    assert_eq!(to(&own.replace('_', ":")).as_ref(), Some(own));
    assert_eq!(to("1.2.3.4:443").as_deref(), Some("0.0.0.0_443"));
    assert_eq!(to("1.2.3.4:4444"), None);
}
