//! Reading fields of Kubernetes objects without trusting them to have any shape.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is at a JSON pointer of plain names (RFC 6901), as [`Value::pointer`] finds it.
///
/// Names here have neither `~` nor `/`, so that nothing has to be written anew for each step, and lists are not stepped into but by
/// a number: this is asked some hundred thousand times in a run.
#[must_use]
pub fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    let Some(names) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(value) };
    if pointer.contains('~') {
        return value.pointer(pointer);
    }
    names.split('/').try_fold(value, |at, name| match at {
        Value::Object(fields) => fields.get(name),
        // `01` is no index (RFC 6901, section 4).
        Value::Array(items) if name == "0" || !name.starts_with(['0', '+']) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The text at a JSON pointer, empty if there is none.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, empty if there is none.
#[must_use]
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a list at a JSON pointer.
#[must_use]
pub fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(value, pointer).iter().filter_map(Value::as_str).collect()
}

/// The port number at a JSON pointer.
#[must_use]
pub fn port(value: &Value, pointer: &str) -> Option<u16> {
    at(value, pointer)?.as_u64().and_then(|number| u16::try_from(number).ok())
}

/// The flag at a JSON pointer; absent is false.
#[must_use]
pub fn flag(value: &Value, pointer: &str) -> bool {
    at(value, pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// An object's entries whose values are texts.
#[must_use]
pub fn text_map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `metadata.name`.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.creationTimestamp`; RFC 3339 in UTC, so that the order of texts is the order of times.
#[must_use]
pub fn created(object: &Value) -> &str {
    text(object, "/metadata/creationTimestamp")
}

/// `metadata.labels`.
#[must_use]
pub fn labels(object: &Value) -> BTreeMap<String, String> {
    at(object, "/metadata/labels").map(text_map).unwrap_or_default()
}

/// `metadata.annotations[key]`, empty if there is none.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    at(object, "/metadata/annotations").and_then(|annotations| annotations.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// The object's specification, null if it has none.
#[must_use]
pub fn spec(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

/// Whether every entry of `selector` is among `labels`; an empty selector takes everything.
#[must_use]
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::at;

    #[test]
    fn pointers_lead_where_those_of_serde_json_do() {
        let value = json!({"a": {"b": [1, {"c": "d"}], "": 2, "x/y": 3, "~": 4}, "0": 5});
        for pointer in [
            "", "/", "/a", "/a/b/0", "/a/b/1/c", "/a/b/01", "/a/b/+1", "/a/b/-", "/a/b/2", "/a/", "/a/x~1y", "/a/~0", "/0", "a", "/a/b/c",
            "/0/1",
        ] {
            assert_eq!(at(&value, pointer), value.pointer(pointer), "{pointer}");
        }
    }
}
