//! Whether an object fits its kind's schema: Kubernetes' own checks, before any webhook is asked.

mod shape;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Cause, Refusal, is_reviewed, rules};
use crate::istio::model::object;
use shape::{Shape, spec_shape};

/// Fields of every object beside its specification.
pub(super) const COMMON: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// The fields of an object that its kind does not have, as strict decoding names them (`spec.servers[0].foo`). Empty for kinds
/// that are not reviewed.
#[must_use]
pub fn unknown_fields(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let Some(shape) = is_reviewed(object).then(|| spec_shape(object::text(object, "/kind"))).flatten() else {
        return found;
    };
    let top = object.as_object().into_iter().flatten().map(|(key, _)| key);
    found.extend(top.filter(|key| !COMMON.contains(&key.as_str())).cloned());
    walk(shape, object::spec(object), "spec", &mut |path, finding| {
        if finding == Finding::Unknown {
            found.push(path.to_owned());
        }
    });
    found
}

/// Server-side apply reads an object by its schema and stops at the first thing that is not there or not of its type.
pub(super) fn declared(object: &Value) -> Result<(), Refusal> {
    let kind = object::text(object, "/kind");
    let fail = |reasons: &str| {
        let (namespace, name) = (object::namespace(object), object::name(object));
        let whole = format!("{namespace}/{name}; {}, Kind={kind}", object::text(object, "/apiVersion"));
        let message = format!("failed to create typed patch object ({whole}): {reasons}");
        Err(Refusal { code: 500, reason: "", message, causes: Vec::new() })
    };
    if let Some(key) = object.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| !COMMON.contains(&key.as_str())) {
        return fail(&format!(".{key}: field not declared in schema"));
    }
    let Some(shape) = spec_shape(kind) else {
        return Ok(());
    };
    // Where a field is not known, nothing more is said of what stands beside it.
    let mut left: Vec<String> = Vec::new();
    let mut told: Vec<(String, String)> = Vec::new();
    walk(shape, object::spec(object), "spec", &mut |path, finding| {
        if left.iter().any(|owner| path.starts_with(owner.as_str())) {
            return;
        }
        let reason = match finding {
            Finding::Unknown => {
                left.push(path.rsplit_once('.').map_or(String::new(), |(owner, _)| format!("{owner}.")));
                "field not declared in schema".to_owned()
            }
            Finding::Duplicate(key) => format!("duplicate entries for key {key}"),
            Finding::Type { wanted, found } => mismatch(wanted, found),
            _ => return,
        };
        if !reason.is_empty() {
            told.push((path.to_owned(), reason));
        }
    });
    match told.as_slice() {
        [] => Ok(()),
        [(path, reason)] => fail(&format!(".{path}: {reason}")),
        many => {
            let lines: String = many.iter().map(|(path, reason)| format!("\n  .{path}: {reason}")).collect();
            fail(&format!("errors:{lines}"))
        }
    }
}

/// What structured-merge-diff says of a value of another type; empty where it does not mind.
pub(super) fn mismatch(wanted: &str, found: &Value) -> String {
    let shown = || match found {
        Value::String(text) => format!("&value.valueUnstructured{{Value:{text:?}}}"),
        other => format!("&value.valueUnstructured{{Value:{other}}}"),
    };
    let go_type = match found {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        _ => "nil",
    };
    match wanted {
        "integer" | "number" if found.is_number() => String::new(),
        "integer" | "number" => format!("expected numeric (int or float), got {go_type}"),
        "string" => format!("expected string, got {}", shown()),
        "boolean" => format!("expected boolean, got {}", shown()),
        "array" => format!("expected list, got &{{{}}}", go_value(found)),
        _ => format!("expected map, got &{{{}}}", go_value(found)),
    }
}

/// A value as Go prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// Whether the object fits: types, required fields, enumerations, choices, and the definitions' rules where nothing else is wrong.
pub(super) fn fits(object: &Value) -> Result<(), Refusal> {
    let kind = object::text(object, "/kind");
    let Some(shape) = spec_shape(kind) else {
        return Ok(());
    };
    let mut causes = Vec::new();
    let mut is_blocked = false;
    walk(shape, object::spec(object), "spec", &mut |path, finding| {
        let cause = |reason: &'static str, message: String| Cause { reason, message, field: path.to_owned() };
        let (blocks, cause) = match finding {
            Finding::Unknown | Finding::Duplicate(_) => return,
            Finding::Type { wanted, found } => {
                let found = json_type(found);
                let text = format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}");
                (true, cause("FieldValueTypeInvalid", text))
            }
            Finding::Missing => (true, cause("FieldValueRequired", "Required value".to_owned())),
            Finding::NotAmong { value, names } => {
                let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                let text = format!("Unsupported value: {value:?}: supported values: {}", names.join(", "));
                (true, cause("FieldValueNotSupported", text))
            }
            Finding::TooMany(count) => {
                let text = format!(
                    "Invalid value: \"\": {path:?} must validate one and only one schema (oneOf). Found {count} valid alternatives"
                );
                (false, Cause { reason: "FieldValueInvalid", message: text, field: "<nil>".to_owned() })
            }
            Finding::EmptyList => {
                let text = format!("Invalid value: 0: {path} in body should have at least 1 items");
                (false, cause("FieldValueInvalid", text))
            }
            Finding::EmptyText => {
                let text = format!("Invalid value: \"\": {path} in body should be at least 1 chars long");
                (false, cause("FieldValueInvalid", text))
            }
            Finding::Negative(number) => {
                let text = format!("Invalid value: {number}: {path} in body should be greater than or equal to 0");
                (false, cause("FieldValueInvalid", text))
            }
            Finding::BadDuration(text) => {
                let text = format!("Invalid value: \"string\": {text}");
                (false, cause("FieldValueInvalid", text))
            }
        };
        is_blocked |= blocks;
        causes.push((matches!(finding, Finding::TooMany(_)), cause));
    });
    // The API server names choices first.
    causes.sort_by_key(|(is_choice, _)| !is_choice);
    let mut causes: Vec<Cause> = causes.into_iter().map(|(_, cause)| cause).collect();
    if is_blocked {
        let text = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing \
                    errors to complete validation";
        causes.push(Cause { reason: "FieldValueInvalid", message: text.to_owned(), field: "<nil>".to_owned() });
    } else {
        causes.extend(rules::broken(object));
    }
    refuse(object, causes)
}

/// A `Status` of the API server for fields that do not fit (`field.ErrorList.ToAggregate`).
pub(super) fn refuse(object: &Value, causes: Vec<Cause>) -> Result<(), Refusal> {
    if causes.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let all = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
    let group = object::text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let message = format!("{}.{group} {:?} is invalid: {all}", object::text(object, "/kind"), object::name(object));
    Err(Refusal { code: 422, reason: "Invalid", message, causes })
}

pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What CEL says of a text that is no duration.
const NOT_A_DURATION: &str =
    "type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: must be a valid duration greater than 1ms";

/// Something about a value that its shape does not allow.
#[derive(Debug, PartialEq)]
enum Finding<'a> {
    Unknown,
    Missing,
    Type {
        wanted: &'static str,
        found: &'a Value,
    },
    NotAmong {
        value: &'a str,
        names: &'a [String],
    },
    TooMany(usize),
    EmptyList,
    EmptyText,
    Negative(i64),
    BadDuration(&'static str),
    /// `[key="value"]` of elements that must differ in it.
    Duplicate(String),
}

/// Goes through a value by its shape and reports what does not fit.
fn walk<'a>(shape: &'a Shape, value: &'a Value, path: &str, report: &mut dyn FnMut(&str, Finding<'a>)) {
    let mut wrong = |wanted: &'static str| report(path, Finding::Type { wanted, found: value });
    match (shape, value) {
        // Null is as good as absent.
        (_, Value::Null) | (Shape::Any, _) | (Shape::Bool, Value::Bool(_)) | (Shape::Number, Value::Number(_)) => {}
        (Shape::Text, Value::String(_)) => {}
        (Shape::FilledText, Value::String(text)) if text.is_empty() => report(path, Finding::EmptyText),
        (Shape::FilledText, Value::String(_)) => {}
        (Shape::Int, Value::Number(number)) if !number.is_f64() => {}
        (Shape::Unsigned, Value::Number(number)) if !number.is_f64() => {
            if let Some(negative) = number.as_i64().filter(|number| *number < 0) {
                report(path, Finding::Negative(negative));
            }
        }
        (Shape::Duration, Value::String(text)) => match super::names::nanoseconds(text) {
            Some(1_000_000..) => {}
            Some(_) => report(path, Finding::BadDuration("must be a valid duration greater than 1ms")),
            None => report(path, Finding::BadDuration(NOT_A_DURATION)),
        },
        (Shape::Enum(names), Value::String(text)) if !names.contains(text) => report(path, Finding::NotAmong { value: text, names }),
        (Shape::Enum(_), Value::String(_)) => {}
        (Shape::List { element, filled, key }, Value::Array(list)) => {
            if *filled && list.is_empty() {
                report(path, Finding::EmptyList);
            }
            let mut seen: BTreeMap<String, ()> = BTreeMap::new();
            for (index, one) in list.iter().enumerate() {
                if !key.is_empty() {
                    let shown = format!("[{key}={}]", one.get(key.as_str()).unwrap_or(&Value::Null));
                    if seen.insert(shown.clone(), ()).is_some() {
                        report(path, Finding::Duplicate(shown));
                    }
                }
                walk(element, one, &format!("{path}[{index}]"), report);
            }
        }
        (Shape::Map(element), Value::Object(entries)) => {
            for (name, one) in entries {
                walk(element, one, &format!("{path}.{name}"), report);
            }
        }
        (Shape::Object { fields, choices }, Value::Object(entries)) => {
            for choice in choices {
                let count = choice.iter().filter(|name| entries.get(*name).is_some_and(|value| !value.is_null())).count();
                if count > 1 {
                    report(path, Finding::TooMany(count));
                }
            }
            for (name, one) in entries {
                match fields.get(name) {
                    Some((_, shape)) => walk(shape, one, &format!("{path}.{name}"), report),
                    None => report(&format!("{path}.{name}"), Finding::Unknown),
                }
            }
            let is_there = |name: &String| entries.get(name).is_some_and(|value| !value.is_null());
            for (name, _) in fields.iter().filter(|(name, (required, _))| *required && !is_there(name)) {
                report(&format!("{path}.{name}"), Finding::Missing);
            }
        }
        (Shape::Bool, _) => wrong("boolean"),
        (Shape::Number, _) => wrong("number"),
        (Shape::Int | Shape::Unsigned, _) => wrong("integer"),
        (Shape::Text | Shape::FilledText | Shape::Duration | Shape::Enum(_), _) => wrong("string"),
        (Shape::List { .. }, _) => wrong("array"),
        (Shape::Map(_) | Shape::Object { .. }, _) => wrong("object"),
    }
}
