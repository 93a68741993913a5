//! The JSON schemas of `scenario.yaml` and `exceptions.yaml`, for editors.

use serde_json::{Value, json};

use super::raw::ScenarioFile;
use super::raw_exceptions::ExceptionsFile;

/// The schema, as committed at `scenarios/scenario.schema.json`.
#[must_use]
pub fn schema() -> Value {
    let mut schema = titled(schemars::schema_for!(ScenarioFile).to_value(), "gateproof scenario");
    or_values(&mut schema);
    schema
}

/// The schema of `exceptions.yaml`, as committed at `scenarios/exceptions.schema.json`.
#[must_use]
pub fn exceptions_schema() -> Value {
    titled(schemars::schema_for!(ExceptionsFile).to_value(), "gateproof exceptions")
}

fn titled(mut schema: Value, title: &str) -> Value {
    no_nulls(&mut schema);
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".to_owned(), json!(title));
    }
    schema
}

/// Where a number, `true` or `false` is wanted, a value that is one can stand: `$(value:port)`.
fn or_values(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(kind) = map.get("type").filter(|kind| **kind == "integer" || **kind == "boolean").cloned() {
                map.insert("type".to_owned(), json!([kind, "string"]));
                map.insert("pattern".to_owned(), json!("^\\$\\(value:[a-z0-9-]+\\)$"));
            }
            map.values_mut().for_each(or_values);
        }
        Value::Array(items) => items.iter_mut().for_each(or_values),
        _ => {}
    }
}

/// A field without a value is a mistake here, so `null` is no type: schemars adds it for every `Option`.
fn no_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|s| *s != json!({"type": "null"}));
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            map.values_mut().for_each(no_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(no_nulls),
        _ => {}
    }
}
