//! The record itself, as the JSON file beside the report.

use serde_json::Value;

use super::record::RunRecord;
use super::redaction::{is_suspect, scrub};

/// The record as JSON without keys, tokens and certificate bodies. [`RunRecord`] reads it back.
///
/// # Errors
/// When the record cannot be written as JSON.
pub fn record_json(record: &RunRecord) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(record)?;
    scrub_value(&mut value);
    let mut text = serde_json::to_string_pretty(&value)?;
    text.push('\n');
    Ok(text)
}

fn scrub_value(value: &mut Value) {
    match value {
        Value::String(text) if is_suspect(text) => *text = scrub(text),
        Value::Object(map) => map.values_mut().for_each(scrub_value),
        Value::Array(items) => {
            // A PEM block may lie over the lines of one field.
            let suspect = items.iter().any(|item| item.as_str().is_some_and(is_suspect));
            let lines: Option<Vec<&str>> = if suspect { items.iter().map(Value::as_str).collect() } else { None };
            if let Some(text) = lines.map(|l| l.join("\n")) {
                let clean = scrub(&text);
                if clean != text {
                    *items = clean.lines().map(Value::from).collect();
                }
            }
            items.iter_mut().for_each(scrub_value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
