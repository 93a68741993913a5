//! A resource as it was sent, with its text for dumps.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde_json::Value;

/// A resource, since when it is what it is, and its text once somebody asked for it.
pub(super) struct Sent {
    pub(super) json: Arc<Value>,
    pub(super) since: Timestamp,
    text: OnceLock<Arc<str>>,
    entry: OnceLock<Arc<str>>,
}

impl Sent {
    pub(super) fn new(json: Arc<Value>) -> Self {
        Self { json, since: Timestamp::now(), text: OnceLock::new(), entry: OnceLock::new() }
    }

    /// As an entry of a dump: an `Any` of this type under this name, and since when.
    pub(super) fn entry(&self, what: &str, type_url: &str) -> Arc<str> {
        let make = || format!("{{\"{what}\":{},\"last_updated\":\"{}\"}}", any(&self.json, type_url), time(self.since)).into();
        self.entry.get_or_init(make).clone()
    }

    /// As an `Any` of this type.
    pub(super) fn text(&self, type_url: &str) -> Arc<str> {
        self.text.get_or_init(|| any(&self.json, type_url).into()).clone()
    }
}

/// The JSON text of an `Any`: the type comes first.
pub(crate) fn any(json: &Value, type_url: &str) -> String {
    let text = json.to_string();
    match json.as_object() {
        Some(fields) if fields.contains_key("@type") => text,
        Some(fields) if fields.is_empty() => format!("{{\"@type\":\"{type_url}\"}}"),
        _ => format!("{{\"@type\":\"{type_url}\",{}", text.strip_prefix('{').unwrap_or(&text)),
    }
}

/// A time as Envoy prints it.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
