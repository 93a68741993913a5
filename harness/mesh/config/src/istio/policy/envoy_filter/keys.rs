//! Field names as Envoy shows them.

use serde_json::Value;

/// Fields that hold a map: its keys are names, not fields.
pub(super) const MAPS: [&str; 8] = [
    "filter_metadata",
    "typed_filter_metadata",
    "typed_per_filter_config",
    "typed_extension_protocol_options",
    "providers",
    "policies",
    "requirement_map",
    "filter_state_rules",
];

/// Fields that hold free JSON (`google.protobuf.Struct`): nothing beneath them is a field.
const FREE: [&str; 3] = ["json_format", "metadata_value", "default_filter_metadata"];

/// A value in protobuf's JSON form with its fields in snake case. Both forms are allowed to users
/// (<https://protobuf.dev/programming-guides/json/>). Keys of maps and of free JSON stay. A `FractionalPercent`'s `HUNDRED`, the first
/// value of its enumeration, is what is there when nothing is said, and is not shown.
pub(super) fn snake_case(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(snake_case).collect(),
        Value::Object(fields) => {
            let is_free = fields.get("@type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with(".Struct"));
            let is_said = |(key, value): &(&String, &Value)| is_free || key.as_str() != "denominator" || **value != "HUNDRED";
            let fields = fields.iter().filter(is_said).map(|(key, value)| {
                let key = snake_key(key);
                let value = match value {
                    _ if is_free || FREE.contains(&key.as_str()) => value.clone(),
                    Value::Object(_) if key == "filter_metadata" => value.clone(),
                    Value::Object(entries) if MAPS.contains(&key.as_str()) => {
                        Value::Object(entries.iter().map(|(name, value)| (name.clone(), snake_case(value))).collect())
                    }
                    _ => snake_case(value),
                };
                (key, value)
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

fn snake_key(key: &str) -> String {
    if !key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return key.to_owned();
    }
    let mut snake = String::with_capacity(key.len() + 4);
    for (index, letter) in key.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_change_and_names_stay() {
        let value = json!({
            "connectTimeout": "1s",
            "typedExtensionProtocolOptions": {"envoy.Some.Name": {"@type": "x", "explicitHttpConfig": {}}},
            "metadata": {"filterMetadata": {"istio": {"aKey": {"bKey": 1}}}},
            "filterEnabled": {"defaultValue": {"numerator": 5, "denominator": "HUNDRED"}},
            "filterEnforced": {"defaultValue": {"numerator": 5, "denominator": "MILLION"}},
        });
        let wanted = json!({
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.Some.Name": {"@type": "x", "explicit_http_config": {}}},
            "metadata": {"filter_metadata": {"istio": {"aKey": {"bKey": 1}}}},
            "filter_enabled": {"default_value": {"numerator": 5}},
            "filter_enforced": {"default_value": {"numerator": 5, "denominator": "MILLION"}},
        });
        assert_eq!(snake_case(&value), wanted);
        assert_eq!(snake_case(&wanted), wanted);
    }
}
