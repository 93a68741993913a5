//! A request's body, as the answer tells it, and answers' bodies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;

use super::request::Asked;
use super::text::{Values, multipart, values};

/// What a request's body says. Source: go-httpbin, `httpbin/helpers.go`, `parseBody`.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) data: String,
    pub(super) files: Values,
    pub(super) form: Values,
    pub(super) json: Value,
}

/// Reads a body by its content type.
pub(super) fn read(asked: &Asked) -> Result<Read, String> {
    let mut read = Read::default();
    if asked.body.is_empty() {
        return Ok(read);
    }
    read.data = String::from_utf8_lossy(&asked.body).into_owned();
    let content_type = asked.header("Content-Type").unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "text/html" | "text/plain" => {}
        "application/x-www-form-urlencoded" => read.form = values(&read.data),
        "multipart/form-data" => {
            let parts = multipart(&asked.body, content_type).ok_or("error parsing request body: multipart: NextPart: EOF")?;
            for part in parts {
                let into = if part.is_file { &mut read.files } else { &mut read.form };
                into.entry(part.name).or_default().push(part.content);
            }
        }
        "application/json" => {
            read.json = serde_json::from_slice(&asked.body).map_err(|e| format!("error parsing request body: {e}"))?;
        }
        other => {
            let kind = if other.is_empty() { "application/octet-stream" } else { other };
            read.data = format!("data:{kind};base64,{}", URL_SAFE.encode(&asked.body));
        }
    }
    Ok(read)
}

/// JSON with fields in this order, as Go's encoder indents it.
pub(super) fn pretty(fields: &[(&str, Value)]) -> String {
    if fields.is_empty() {
        return "{}\n".to_owned();
    }
    let mut out = String::from("{\n");
    for (at, (name, value)) in fields.iter().enumerate() {
        let text = serde_json::to_string_pretty(value).unwrap_or_default().replace('\n', "\n  ");
        out.push_str(&format!("  {}: {text}{}\n", Value::from(*name), if at + 1 < fields.len() { "," } else { "" }));
    }
    out.push_str("}\n");
    out
}

/// The same on one line.
pub(super) fn compact(fields: &[(&str, Value)]) -> String {
    let all: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}\n", all.join(","))
}
