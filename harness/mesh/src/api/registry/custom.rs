//! Resources that a CustomResourceDefinition makes.

use serde_json::Value;

use super::{Resource, priority};

/// The resource of a definition, or None when it lacks a name or a served version.
pub(crate) fn from_definition(definition: &Value) -> Option<Resource> {
    let spec = definition.get("spec")?;
    let names = spec.get("names")?;
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    let list = |key: &str| -> Vec<String> {
        names.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let kind = text(names, "kind")?;
    let all = spec.get("versions").and_then(Value::as_array)?;
    let served: Vec<&Value> = all.iter().filter(|v| v.get("served").and_then(Value::as_bool).unwrap_or(true)).collect();
    let mut versions: Vec<String> = served.iter().filter_map(|v| text(v, "name")).collect();
    versions.sort_by(|a, b| priority(b).cmp(&priority(a)).then_with(|| a.cmp(b)));
    if versions.is_empty() {
        return None;
    }
    let sub = |name: &str| served.iter().any(|v| v.get("subresources").and_then(|s| s.get(name)).is_some_and(|s| !s.is_null()));
    Some(Resource {
        group: text(spec, "group")?,
        versions,
        plural: text(names, "plural")?,
        singular: text(names, "singular").unwrap_or_else(|| kind.to_lowercase()),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: text(spec, "scope").as_deref() != Some("Cluster"),
        status: sub("status"),
        scale: sub("scale"),
        generation: true,
        virtual_only: false,
        subresources: Vec::new(),
        custom: true,
        kind,
    })
}
