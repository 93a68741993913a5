//! Reading and writing an object's metadata.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub(super) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// The metadata, made when there is none; None when the object is no map.
pub(super) fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let map = object.as_object_mut()?;
    let slot = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

pub(super) fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(metadata) = metadata(object) {
        metadata.insert(key.to_owned(), value);
    }
}

pub(super) fn unset(object: &mut Value, key: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove(key);
    }
}

pub(super) fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn set_finalizers(object: &mut Value, all: &[String]) {
    if all.is_empty() {
        unset(object, "finalizers");
    } else {
        set(object, "finalizers", all.iter().cloned().map(Value::from).collect());
    }
}

/// The uids of the owners, and whether each is blocked by this dependent.
pub(super) fn owners(object: &Value) -> Vec<(&str, bool)> {
    let list = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|owner| {
            let uid = owner.get("uid").and_then(Value::as_str)?;
            Some((uid, owner.get("blockOwnerDeletion").and_then(Value::as_bool).unwrap_or(false)))
        })
        .collect()
}

fn drawn(seed: u64, count: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(count.to_be_bytes());
    hash.finalize().into()
}

/// A UUID of version 4 in shape, the same for the same seed and count.
pub(super) fn uid(seed: u64, count: u64) -> String {
    let bytes = drawn(seed, count);
    let hex: Vec<String> = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().concat();
    format!(
        "{}-{}-4{}-a{}-{}",
        part(0, 4),
        part(4, 6),
        &part(6, 8).get(1..).unwrap_or_default(),
        &part(8, 10).get(1..).unwrap_or_default(),
        part(10, 16)
    )
}

/// Five characters as `generateName` adds them. Source: `apimachinery/pkg/util/rand`.
pub(super) fn suffix(seed: u64, count: u64) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = drawn(seed, count);
    bytes.iter().rev().take(5).filter_map(|b| ALPHABET.get(usize::from(*b) % ALPHABET.len())).map(|b| char::from(*b)).collect()
}

/// Whether two objects are the same but for what every write sets.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let keys = a.keys().chain(b.keys());
    keys.into_iter().all(|key| match key.as_str() {
        "metadata" => {
            let strip = |v: Option<&Value>| {
                let mut map = v.and_then(Value::as_object).cloned().unwrap_or_default();
                map.remove("managedFields");
                map.remove("resourceVersion");
                map
            };
            strip(a.get(key)) == strip(b.get(key))
        }
        _ => a.get(key) == b.get(key),
    })
}

pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
