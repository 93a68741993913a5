//! Merging messages in their JSON form as protobuf merges them (Istio: `pkg/proto/merge`): messages merge, lists are appended to,
//! a map's entries and single values are replaced, and setting one field of a `oneof` clears the others.

use serde_json::{Map, Value};

use super::keys::MAPS;

/// Fields of which one message can hold only one (`oneof` in Envoy's API).
const ONE_OF: [&[&str]; 11] = [
    &["type", "cluster_type"],
    &["round_robin_lb_config", "ring_hash_lb_config", "maglev_lb_config", "least_request_lb_config", "original_dst_lb_config"],
    &["route", "redirect", "direct_response", "filter_action", "non_forwarding_action"],
    &["cluster", "weighted_clusters", "cluster_header", "cluster_specifier_plugin", "inline_cluster_specifier_plugin"],
    &["prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher", "path_match_policy"],
    &["host_rewrite_literal", "auto_host_rewrite", "host_rewrite_header", "host_rewrite_path_regex"],
    &["rds", "route_config", "scoped_routes"],
    &["socket_address", "pipe", "envoy_internal_address"],
    &["filename", "inline_bytes", "inline_string", "environment_variable"],
    &["explicit_http_config", "use_downstream_protocol_config", "auto_config"],
    &["exact_match", "safe_regex_match", "range_match", "present_match", "string_match", "prefix_match", "suffix_match", "contains_match"],
];

/// Names of enumerations' first values: a field that has one is not set, and leaves what is there.
const UNSET_NAMES: [(&str, &str); 4] =
    [("lb_policy", "ROUND_ROBIN"), ("dns_lookup_family", "AUTO"), ("codec_type", "AUTO"), ("protocol", "TCP")];

/// Merges a message into another.
pub(super) fn merge(into: &mut Value, from: &Value, replace_lists: bool) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else {
        return;
    };
    for (key, value) in from {
        if is_unset(key, value) && into.contains_key(key) {
            continue;
        }
        for group in ONE_OF.iter().filter(|group| group.contains(&key.as_str())) {
            for other in group.iter().filter(|other| *other != key) {
                into.remove(*other);
            }
        }
        merge_field(into, key, value, replace_lists);
    }
}

fn merge_field(into: &mut Map<String, Value>, key: &str, value: &Value, replace_lists: bool) {
    match (into.get_mut(key), value) {
        (Some(Value::Object(own)), Value::Object(entries)) if MAPS.contains(&key) => {
            own.extend(entries.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        // An Any is bytes: another takes its place whole.
        (Some(own @ Value::Object(_)), Value::Object(fields)) if fields.contains_key("@type") => *own = value.clone(),
        (Some(own @ Value::Object(_)), Value::Object(_)) => merge(own, value, replace_lists),
        (Some(Value::Array(own)), Value::Array(list)) if !replace_lists => own.extend(list.iter().cloned()),
        (_, Value::Null) => {}
        _ => {
            into.insert(key.to_owned(), value.clone());
        }
    }
}

/// Whether protobuf cannot tell this from a field that is not there. A wrapped value (`BoolValue`) is one of these too: merging
/// a wrapper of the default leaves what is there.
fn is_unset(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || UNSET_NAMES.contains(&(key, text.as_str())),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Merges the configuration of an extension into one of the same type; of another type it stays (Istio: `MergeAnyWithAny`).
pub(super) fn merge_any(into: &mut Value, from: &Value) {
    if into.get("@type") == from.get("@type") {
        merge(into, from, false);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut into: Value, from: &Value) -> Value {
        merge(&mut into, from, false);
        into
    }

    #[test]
    fn messages_merge_lists_grow_and_maps_replace() {
        let into = json!({"a": {"b": 1, "l": [1]}, "filter_metadata": {"x": {"k": 1}}});
        let from = json!({"a": {"c": 2, "l": [2]}, "filter_metadata": {"x": {"m": 2}}});
        let wanted = json!({"a": {"b": 1, "c": 2, "l": [1, 2]}, "filter_metadata": {"x": {"m": 2}}});
        assert_eq!(merged(into.clone(), &from), wanted);
        let mut replaced = into;
        merge(&mut replaced, &from, true);
        assert_eq!(replaced["a"]["l"], json!([2]));
    }

    #[test]
    fn a_choice_excludes_the_others_and_a_default_changes_nothing() {
        let route = merged(json!({"route": {"cluster": "a"}}), &json!({"direct_response": {"status": 200}}));
        assert_eq!(route, json!({"direct_response": {"status": 200}}));
        let cluster = json!({"lb_policy": "LEAST_REQUEST", "flag": true});
        assert_eq!(merged(cluster.clone(), &json!({"lb_policy": "ROUND_ROBIN", "flag": false})), cluster);
    }

    #[test]
    fn extensions_of_two_types_do_not_merge() {
        let mut own = json!({"@type": "a", "x": 1});
        merge_any(&mut own, &json!({"@type": "b", "x": 2}));
        assert_eq!(own["x"], 1);
        merge_any(&mut own, &json!({"@type": "a", "x": 3}));
        assert_eq!(own["x"], 3);
    }
}
