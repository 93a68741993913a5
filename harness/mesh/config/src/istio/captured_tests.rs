//! Our resources against those of a real istiod, as a real Envoy had them, for captured states of a cluster.
//!
//! A fixture holds Kubernetes objects (without status and fields that nothing here reads; no keys) and, for some proxies, the
//! resources of their `config_dump`, both shortened by [`brief`]. `GATEPROOF_CAPTURED` names a folder of further ones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::PushContext;
use super::model::object;
use crate::{ProxyNode, ProxyResources, Snapshot};

fn fixtures() -> Vec<(String, Value)> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/istio/testdata/captured");
    let folders = std::iter::once(own).chain(std::env::var_os("GATEPROOF_CAPTURED").map(PathBuf::from));
    let mut paths: Vec<PathBuf> =
        folders.flat_map(|folder| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())).collect();
    paths.sort();
    let fixtures = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).map(|path| {
        let text = std::fs::read_to_string(&path).expect("a file");
        (path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(), serde_json::from_str(&text).expect("JSON"))
    });
    fixtures.collect()
}

fn snapshot(fixture: &Value) -> Snapshot {
    let objects = object::list(fixture, "/objects").iter().map(|object| Arc::new(object.clone())).collect();
    Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() }
}

/// The same on both sides, without what is long and checked elsewhere.
fn brief(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut out = Map::new();
            for (name, value) in fields {
                let value = match (name.as_str(), value) {
                    ("access_log", Value::Array(logs)) => {
                        json!(logs.iter().map(|log| if log.get("filter").is_some() { "NR" } else { "all" }).collect::<Vec<_>>())
                    }
                    ("tracing", tracing) => {
                        let literals = object::list(tracing, "/custom_tags").iter().filter_map(|tag| tag.pointer("/literal/value"));
                        json!([tracing["random_sampling"], literals.collect::<Vec<_>>()])
                    }
                    ("sds_config", source) => json!(if source.get("ads").is_some() { "ads" } else { "agent" }),
                    ("@type", Value::String(name)) => json!(name.rsplit('.').next().unwrap_or_default()),
                    (_, value) => brief(value),
                };
                out.insert(name.clone(), value);
            }
            Value::Object(out)
        }
        Value::Array(list) => Value::Array(list.iter().map(brief).collect()),
        value => value.clone(),
    }
}

fn all(resources: &ProxyResources) -> BTreeMap<(&'static str, String), Value> {
    let kinds = [
        ("clusters", &resources.clusters),
        ("endpoints", &resources.endpoints),
        ("listeners", &resources.listeners),
        ("routes", &resources.routes),
    ];
    kinds.into_iter().flat_map(|(kind, map)| map.iter().map(move |(name, value)| ((kind, name.clone()), brief(value)))).collect()
}

/// Where two values differ, and how.
fn differences(at: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let null = Value::Null;
                differences(&format!("{at}/{name}"), one.get(name).unwrap_or(&null), other.get(name).unwrap_or(&null), out);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{at}/{index}"), one, other, out);
            }
        }
        _ if ours != theirs => out.push(format!("{at}\n    ours   {ours}\n    theirs {theirs}")),
        _ => {}
    }
}

#[test]
fn resources_equal_those_of_a_real_istiod() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (state, fixture) in fixtures() {
        let snapshot = snapshot(&fixture);
        let context = PushContext::new(&snapshot);
        let nodes: Vec<ProxyNode> = context.objects("Pod").iter().filter_map(|pod| ProxyNode::from_pod(pod)).collect();
        for (proxy, dump) in fixture["proxies"].as_object().expect("proxies") {
            let node = nodes.iter().find(|node| format!("{}.{}", node.namespace, node.labels["app"]) == *proxy).expect("a pod");
            let mut ours = all(&context.resources(node));
            let mut theirs = BTreeMap::new();
            for kind in ["clusters", "endpoints", "listeners", "routes"] {
                // A fixture may hold a part of the kinds.
                if dump.get(kind).is_none() {
                    ours.retain(|(other, _), _| *other != kind);
                }
                for (name, value) in dump[kind].as_object().into_iter().flatten() {
                    theirs.insert((kind, name.clone()), value.clone());
                }
            }
            compared += theirs.len();
            let keys: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                let at = format!("{state} {proxy} {} {}", key.0, key.1);
                match (ours.get(key), theirs.get(key)) {
                    (Some(ours), Some(theirs)) => differences(&at, ours, theirs, &mut wrong),
                    (Some(_), None) => wrong.push(format!("{at} is ours alone")),
                    (None, Some(_)) => wrong.push(format!("{at} is missing")),
                    (None, None) => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 100, "{compared}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_order_of_objects_does_not_matter(keys in proptest::collection::vec(any::<u64>(), 64)) {
        let (_, fixture) = fixtures().into_iter().next().expect("a fixture");
        let first = snapshot(&fixture);
        let mut other = first.clone();
        let mut ranked: Vec<_> =
            other.objects.drain(..).enumerate().map(|(index, object)| (keys[index % keys.len()], index, object)).collect();
        ranked.sort_by_key(|(key, index, _)| (*key, *index));
        other.objects = ranked.into_iter().map(|(_, _, object)| object).collect();
        let (one, two) = (PushContext::new(&first), PushContext::new(&other));
        for node in one.objects("Pod").iter().filter_map(|pod| ProxyNode::from_pod(pod)) {
            prop_assert_eq!(one.resources(&node), two.resources(&node));
        }
    }
}

/// A value of some kind that an object may hold where another is expected.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(-1)),
        Just(json!(70000)),
        Just(json!("*")),
        Just(json!("")),
        Just(json!("é.")),
        Just(json!(["~/*", "a/", "/"])),
        Just(json!({"mode": "MUTUAL", "credentialName": "c"})),
        Just(json!({"matchLabels": {}})),
    ]
}

/// Puts a value at the place that a path of numbers leads to.
fn replace(value: &mut Value, path: &[u8], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = with.clone();
        return;
    };
    let index = usize::from(*first);
    let inner = match value {
        Value::Object(fields) if !fields.is_empty() => {
            let index = index % fields.len();
            fields.values_mut().nth(index)
        }
        Value::Array(list) if !list.is_empty() => {
            let index = index % list.len();
            list.get_mut(index)
        }
        _ => None,
    };
    match inner {
        Some(inner) => replace(inner, rest, with),
        None => *value = with.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn objects_of_any_shape_are_survived(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::collection::vec(any::<u8>(), 1..7), odd()), 1..40)
    ) {
        let (_, fixture) = fixtures().into_iter().next_back().expect("a fixture");
        let mut snapshot = snapshot(&fixture);
        for (index, path, with) in &changes {
            let at = index.index(snapshot.objects.len());
            if let Some(object) = snapshot.objects.get_mut(at) {
                replace(Arc::make_mut(object), path, with);
            }
        }
        let context = PushContext::new(&snapshot);
        for node in context.objects("Pod").iter().filter_map(|pod| ProxyNode::from_pod(pod)) {
            let resources = context.resources(&node);
            prop_assert!(resources.clusters.contains_key("BlackHoleCluster"));
        }
    }
}
