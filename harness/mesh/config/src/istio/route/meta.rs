//! What every object carries beside its specification.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::istio::model::object;

/// Name and place of an object of Istio's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

impl Meta {
    /// Reads it from an object as the Kubernetes API holds it.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        Self {
            name: object::name(value).to_owned(),
            namespace: object::namespace(value).to_owned(),
            annotations: value.pointer("/metadata/annotations").map(object::text_map).unwrap_or_default(),
        }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A copy without its `null`s, which mean the same as a field left out.
pub(in crate::istio) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}
