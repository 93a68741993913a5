//! Envoy's order of matching filter chains, and what it refuses.

use serde_json::json;

use super::*;
use crate::envoy::Refusal;
use crate::envoy::listener::ConnectionFacts;

fn facts(destination: &str) -> ConnectionFacts {
    let source = "9.9.9.9:4000".parse().unwrap();
    ConnectionFacts {
        destination: destination.parse().unwrap(),
        source,
        direct_source: source,
        server_name: String::new(),
        transport_protocol: String::new(),
        application_protocols: Vec::new(),
    }
}

fn named(name: &str) -> ConnectionFacts {
    ConnectionFacts { server_name: name.to_owned(), transport_protocol: "tls".to_owned(), ..facts("1.2.3.4:443") }
}

fn found(listener: &Listener, facts: &ConnectionFacts) -> Option<String> {
    listener.chain(facts).map(|chain| chain.name.clone())
}

#[test]
fn a_named_port_hides_the_chains_for_any() {
    let listener =
        listener(vec![chain("any", json!({})), chain("port", json!({"destination_port": 443, "transport_protocol": "tls"}))]).unwrap();
    assert_eq!(found(&listener, &named("x")).as_deref(), Some("port"));
    assert_eq!(found(&listener, &facts("1.2.3.4:80")).as_deref(), Some("any"));
    // No way back from the port.
    assert_eq!(found(&listener, &facts("1.2.3.4:443")), None);
}

#[test]
fn the_longest_prefix_is_taken_for_good() {
    let net = |ip: &str, length: u8| json!([{"address_prefix": ip, "prefix_len": length}]);
    let listener = listener(vec![
        chain("wide", json!({"prefix_ranges": net("1.0.0.0", 8)})),
        chain("narrow", json!({"prefix_ranges": net("1.2.3.4", 32), "transport_protocol": "tls"})),
        chain("rest", json!({})),
    ])
    .unwrap();
    assert_eq!(found(&listener, &facts("1.9.9.9:443")).as_deref(), Some("wide"));
    assert_eq!(found(&listener, &named("x")).as_deref(), Some("narrow"));
    assert_eq!(found(&listener, &facts("1.2.3.4:443")), None);
    assert_eq!(found(&listener, &facts("7.7.7.7:443")).as_deref(), Some("rest"));
    assert_eq!(found(&listener, &facts("[2001:db8::1]:443")).as_deref(), Some("rest"));
}

#[test]
fn a_server_name_is_exact_then_the_longest_suffix_then_any() {
    let names = |names: &[&str]| json!({"server_names": names});
    let listener = listener(vec![
        chain("exact", names(&["a.b.test"])),
        chain("near", names(&["*.b.test"])),
        chain("far", names(&["*.test"])),
        chain("any", json!({})),
    ])
    .unwrap();
    for (name, wanted) in
        [("a.b.test", "exact"), ("A.B.test", "exact"), ("x.b.test", "near"), ("x.y.b.test", "near"), ("b.test", "far"), ("test", "any")]
    {
        assert_eq!(found(&listener, &named(name)).as_deref(), Some(wanted), "{name}");
    }
}

#[test]
fn a_transport_and_an_application_protocol_count_in_turn() {
    let listener = listener(vec![
        chain("tls", json!({"transport_protocol": "tls"})),
        chain("istio", json!({"transport_protocol": "tls", "application_protocols": ["istio-http/1.1", "istio"]})),
        chain("http", json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"]})),
    ])
    .unwrap();
    let alpn = |facts: ConnectionFacts, names: &[&str]| ConnectionFacts {
        application_protocols: names.iter().map(|n| (*n).to_owned()).collect(),
        ..facts
    };
    assert_eq!(found(&listener, &alpn(named("x"), &["h2", "istio"])).as_deref(), Some("istio"));
    assert_eq!(found(&listener, &alpn(named("x"), &["h2"])).as_deref(), Some("tls"));
    assert_eq!(found(&listener, &alpn(facts("1.2.3.4:443"), &["http/1.1"])).as_deref(), Some("http"));
    assert_eq!(found(&listener, &facts("1.2.3.4:443")), None);
}

#[test]
fn the_source_counts_last() {
    let net = |ip: &str| json!([{"address_prefix": ip, "prefix_len": 32}]);
    let listener = listener(vec![
        chain("any", json!({})),
        chain("local", json!({"source_type": "SAME_IP_OR_LOOPBACK"})),
        chain("from", json!({"source_prefix_ranges": net("9.9.9.9")})),
        chain("port", json!({"source_prefix_ranges": net("8.8.8.8"), "source_ports": [4000]})),
    ])
    .unwrap();
    assert_eq!(found(&listener, &facts("1.2.3.4:443")).as_deref(), Some("from"));
    assert_eq!(found(&listener, &facts("9.9.9.9:443")).as_deref(), Some("local"));
    let mut other = facts("1.2.3.4:443");
    other.source = "8.8.8.8:4000".parse().unwrap();
    assert_eq!(found(&listener, &other).as_deref(), Some("port"));
    other.source = "8.8.8.8:4001".parse().unwrap();
    assert_eq!(found(&listener, &other), None);
}

#[test]
fn the_default_chain_takes_the_rest() {
    let value = json!({"name": "l", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 443}},
        "filter_chains": [chain("named", json!({"server_names": ["a.test"]}))], "default_filter_chain": chain("default", json!({}))});
    let listener = Listener::read(&value).unwrap();
    assert_eq!(found(&listener, &named("b.test")).as_deref(), Some("default"));
}

fn words(result: Result<Listener, Refusal>) -> String {
    result.err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

#[test]
fn chains_that_cannot_be_told_apart_are_refused() {
    let same = vec![chain("a", json!({"server_names": ["x.test"]})), chain("b", json!({"server_names": ["x.test"]}))];
    assert_eq!(words(listener(same)), "error adding listener '0.0.0.0:443': filter chain 'b' has the same matching rules defined as 'a'");
    let partly = vec![chain("a", json!({"server_names": ["x.test", "y.test"]})), chain("b", json!({"server_names": ["Y.test"]}))];
    assert_eq!(
        words(listener(partly)),
        "error adding listener '0.0.0.0:443': multiple filter chains with overlapping matching rules are defined"
    );
    let star = vec![chain("a", json!({"server_names": ["x*.test"]}))];
    assert_eq!(words(listener(star)), "error adding listener '0.0.0.0:443': partial wildcards are not supported in \"server_names\"");
    assert_eq!(words(listener(vec![])), "error adding listener '0.0.0.0:443': no filter chains specified");
}

#[test]
fn unknown_filters_are_refused_and_known_ones_that_are_not_simulated_say_so() {
    let with = |filter: Value| listener(vec![json!({"filters": [filter, tcp_proxy("c")]})]);
    let config = |url: &str| json!({"name": "f", "typed_config": {"@type": format!("type.googleapis.com/{url}")}});
    assert_eq!(words(with(config("made.up.Filter"))), "Didn't find a registered implementation for 'f' with type URL: 'made.up.Filter'");
    let redis = with(config("envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"));
    assert!(matches!(redis, Err(Refusal::Unsupported(_))));
    assert!(with(json!({"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}})).is_ok());
    let not_last = listener(vec![json!({"filters": [tcp_proxy("c"), tcp_proxy("c")]})]);
    assert!(words(not_last).contains("must be the last filter in a network filter chain"));
}
