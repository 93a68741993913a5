//! Merge, JSON and strategic merge patches.

use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::fields::{Listing, Schema};

/// A patch that is no apply.
#[derive(Debug, Clone)]
pub(crate) enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes's own: like a merge patch, but lists are merged by their keys.
    Strategic(Value),
}

impl Patch {
    /// What the object becomes.
    pub(crate) fn apply(&self, schema: Schema<'_>, object: &Value) -> Result<Value, ApiError> {
        let mut out = object.clone();
        match self {
            Self::Merge(patch) => merge(&mut out, patch),
            Self::Strategic(patch) => strategic(schema, &mut out, patch, &mut Vec::new()),
            Self::Json(operations) => {
                for operation in operations.as_array().ok_or_else(|| ApiError::bad_request("a JSON patch is a list"))? {
                    step(&mut out, operation)?;
                }
            }
        }
        Ok(out)
    }
}

/// RFC 7386, section 2.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Source: `apimachinery/pkg/util/strategicpatch/patch.go`.
fn strategic<'a>(schema: Schema<'_>, target: &mut Value, patch: &'a Value, path: &mut Vec<&'a str>) {
    let Some(changes) = patch.as_object() else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut whole = changes.clone();
        whole.remove("$patch");
        *target = Value::Object(whole);
        return;
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in changes {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(items) = map.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|i| !gone.contains(i));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            map.remove(key);
            continue;
        }
        path.push(key);
        let slot = map.entry(key.clone()).or_insert(Value::Null);
        match value.as_array() {
            Some(items) => merge_list(schema, slot, items, path),
            None => strategic(schema, slot, value, path),
        }
        path.pop();
    }
}

fn merge_list<'a>(schema: Schema<'_>, slot: &mut Value, items: &'a [Value], path: &mut Vec<&'a str>) {
    let keys = match schema.list(path) {
        // Strategic merge knows one key only, the first.
        Listing::Keyed(keys) => keys.first().copied(),
        Listing::Set => {
            let mut all = slot.as_array().cloned().unwrap_or_default();
            for item in items {
                if !all.contains(item) {
                    all.push(item.clone());
                }
            }
            *slot = Value::Array(all);
            return;
        }
        Listing::Atomic => None,
    };
    let Some(key) = keys else {
        *slot = Value::Array(items.to_vec());
        return;
    };
    let mut all = slot.as_array().cloned().unwrap_or_default();
    if items.iter().any(|i| i.get("$patch").and_then(Value::as_str) == Some("replace")) {
        all.clear();
    }
    for item in items {
        let directive = item.get("$patch").and_then(Value::as_str);
        let at = all.iter().position(|a| a.get(key).is_some() && a.get(key) == item.get(key));
        match (directive, at) {
            (Some("replace"), _) => {}
            (Some("delete"), Some(at)) => drop(all.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => {
                if let Some(existing) = all.get_mut(at) {
                    strategic(schema, existing, item, path);
                }
            }
            (_, None) => all.push(item.clone()),
        }
    }
    *slot = Value::Array(all);
}

fn refused(why: &str) -> ApiError {
    ApiError::new(422, "Invalid", format!("the server rejected our request due to an error in our request: {why}"))
}

/// One operation of RFC 6902, section 4.
fn step(target: &mut Value, operation: &Value) -> Result<(), ApiError> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let path = text("path").ok_or_else(|| refused("an operation has no path"))?;
    let value = || operation.get("value").cloned().ok_or_else(|| refused("an operation has no value"));
    let source = |target: &Value| -> Result<Value, ApiError> {
        let from = text("from").ok_or_else(|| refused("an operation has no from"))?;
        target.pointer(from).cloned().ok_or_else(|| refused(&format!("there is nothing at {from}")))
    };
    match text("op").unwrap_or_default() {
        "add" => add(target, path, value()?),
        "replace" => {
            *target.pointer_mut(path).ok_or_else(|| refused(&format!("there is nothing at {path}")))? = value()?;
            Ok(())
        }
        "remove" => remove(target, path),
        "copy" => source(target).and_then(|v| add(target, path, v)),
        "move" => {
            let moved = source(target)?;
            remove(target, text("from").unwrap_or_default())?;
            add(target, path, moved)
        }
        "test" => {
            let wanted = value()?;
            if target.pointer(path) == Some(&wanted) { Ok(()) } else { Err(refused(&format!("testing value {path} failed"))) }
        }
        other => Err(refused(&format!("unknown operation {other}"))),
    }
}

fn parent<'a>(target: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), ApiError> {
    let (above, last) = path.rsplit_once('/').ok_or_else(|| refused(&format!("{path} is no path")))?;
    let name = last.replace("~1", "/").replace("~0", "~");
    let found = target.pointer_mut(above).ok_or_else(|| refused(&format!("there is nothing at {above}")))?;
    Ok((found, name))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), ApiError> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (found, name) = parent(target, path)?;
    match found {
        Value::Object(map) => drop(map.insert(name, value)),
        Value::Array(items) if name == "-" => items.push(value),
        Value::Array(items) => {
            let at: usize = name.parse().ok().filter(|at| *at <= items.len()).ok_or_else(|| refused(&format!("no place {path}")))?;
            items.insert(at, value);
        }
        _ => return Err(refused(&format!("no place {path}"))),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<(), ApiError> {
    let (found, name) = parent(target, path)?;
    let gone = match found {
        Value::Object(map) => map.remove(&name),
        Value::Array(items) => name.parse::<usize>().ok().filter(|at| *at < items.len()).map(|at| items.remove(at)),
        _ => None,
    };
    gone.map(drop).ok_or_else(|| refused(&format!("there is nothing at {path}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POD: Schema<'static> = Schema { group: "", kind: "Pod" };

    #[test]
    fn each_kind_of_patch_does_its_own() {
        let pod =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d"}]}});
        let merged =
            Patch::Merge(json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"containers": []}})).apply(POD, &pod).unwrap();
        assert_eq!(merged, json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"containers": []}}));
        let patch = json!({"spec": {"containers": [{"name": "c", "tty": true}, {"name": "d", "$patch": "delete"}, {"name": "e"}]}});
        let strategic = Patch::Strategic(patch).apply(POD, &pod).unwrap();
        assert_eq!(strategic["spec"]["containers"], json!([{"name": "c", "image": "i", "tty": true}, {"name": "e"}]));
        let operations = json!([
            {"op": "test", "path": "/metadata/labels/a", "value": "1"},
            {"op": "add", "path": "/metadata/labels/x~1y", "value": "z"},
            {"op": "remove", "path": "/spec/containers/0"},
            {"op": "replace", "path": "/spec/containers/0/name", "value": "f"},
            {"op": "move", "from": "/metadata/labels/b", "path": "/spec/b"}]);
        let stepped = Patch::Json(operations).apply(POD, &pod).unwrap();
        assert_eq!(stepped, json!({"metadata": {"labels": {"a": "1", "x/y": "z"}}, "spec": {"b": "2", "containers": [{"name": "f"}]}}));
        for bad in [
            json!({}),
            json!([{"op": "remove", "path": "/x/y"}]),
            json!([{"op": "add", "path": "x"}]),
            json!([{"op": "spin", "path": "/"}]),
        ] {
            assert!(Patch::Json(bad).apply(POD, &pod).is_err());
        }
    }
}
