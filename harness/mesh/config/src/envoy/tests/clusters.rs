//! What Envoy refuses of clusters.

use serde_json::json;

use super::*;
use crate::envoy::cluster::{Cluster, Discovery, UpstreamProtocol};
use crate::envoy::push::{Push, Taken};

fn with(name: &str, fields: Value) -> Value {
    let mut value = json!({"name": name});
    for (key, field) in fields.as_object().unwrap() {
        value[key] = field.clone();
    }
    value
}

fn endpoints(hosts: &[&str]) -> Value {
    let endpoint = |host: &&str| json!({"endpoint": {"address": {"socket_address": {"address": host, "port_value": 443}}}});
    json!({"cluster_name": "c", "endpoints": [{"lb_endpoints": hosts.iter().map(endpoint).collect::<Vec<_>>()}]})
}

fn words(value: Value) -> String {
    Cluster::read(&value).err().map(|refusal| refusal.to_string()).unwrap_or_default()
}

const LOGICAL: &str = "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint";

#[test]
fn a_logical_dns_cluster_has_one_endpoint() {
    let logical = |hosts: &[&str]| with("c", json!({"type": "LOGICAL_DNS", "load_assignment": endpoints(hosts)}));
    assert_eq!(words(logical(&["a.test", "b.test"])), LOGICAL);
    assert_eq!(words(logical(&[])), LOGICAL);
    assert_eq!(words(logical(&["a.test"])), "");
}

#[test]
fn a_rejection_names_the_cluster_as_istiod_logged_it() {
    let bad = with("refused", json!({"type": "LOGICAL_DNS", "load_assignment": endpoints(&["a.test", "b.test"])}));
    let good = with("sibling", json!({"type": "STATIC"}));
    let clusters = [("refused", bad), ("sibling", good)].map(|(name, value)| (name.to_owned(), Arc::new(value)));
    let push = Push::read(&ProxyResources { clusters: clusters.into_iter().collect(), ..Default::default() });
    assert!(push.clusters.good.contains_key("sibling"));
    assert_eq!(push.clusters.rejection().unwrap(), format!("Error adding/updating cluster(s) refused: {LOGICAL}"));
    assert_eq!(push.listeners.rejection(), None);
}

#[test]
fn a_name_comes_once() {
    let one = with("c", json!({}));
    let taken = Taken::of([&one, &one]);
    assert_eq!(taken.rejection().unwrap(), "Error adding/updating cluster(s) c: duplicate cluster c found");
}

#[test]
fn other_clusters_that_make_no_sense_are_refused() {
    let timeout = words(with("c", json!({"connect_timeout": "0s"})));
    assert_eq!(timeout, "Proto constraint validation failed (ClusterValidationError.ConnectTimeout: value must be greater than 0s)");
    assert!(words(with("c", json!({"load_assignment": endpoints(&["a.test"])}))).starts_with("malformed IP address: a.test. Consider"));
    assert!(words(with("c", json!({"type": "ORIGINAL_DST"}))).contains("Only 'CLUSTER_PROVIDED' is allowed"));
    assert!(words(with("c", json!({"type": "EDS"}))).contains("without an EDS config"));
    let unknown = json!({"transport_socket": {"name": "x", "typed_config": {"@type": "type.googleapis.com/made.Up"}}});
    assert_eq!(words(with("c", unknown)), "Didn't find a registered implementation for 'x' with type URL: 'made.Up'");
    assert!(words(json!({})).contains("ClusterValidationError.Name"));
}

#[test]
fn what_is_not_said_has_envoys_defaults() {
    let cluster = Cluster::read(&json!({"name": "c"})).unwrap();
    assert_eq!(cluster.discovery, Discovery::Static);
    assert_eq!(cluster.connect_timeout.as_secs(), 5);
    assert_eq!(cluster.circuit_breakers.max_connections, 1024);
    assert_eq!(cluster.circuit_breakers.max_retries, 3);
    assert_eq!((cluster.eds_name.as_str(), cluster.healthy_panic_threshold), ("c", 50));
    assert_eq!(cluster.http.protocol, UpstreamProtocol::Http1);
}

#[test]
fn the_protocol_of_a_cluster_is_read_in_all_its_forms() {
    let of = |options: Value| {
        let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        Cluster::read(&with("c", json!({"typed_extension_protocol_options": {key: options}}))).unwrap().http.protocol
    };
    assert_eq!(of(json!({"explicit_http_config": {"http2_protocol_options": {}}})), UpstreamProtocol::Http2);
    assert_eq!(of(json!({"explicit_http_config": {"http_protocol_options": {}}})), UpstreamProtocol::Http1);
    assert_eq!(of(json!({"use_downstream_protocol_config": {}})), UpstreamProtocol::Downstream);
    assert_eq!(of(json!({"auto_config": {}})), UpstreamProtocol::Alpn);
}
