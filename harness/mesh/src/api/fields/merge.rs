//! Values and field sets: what a value sets, what differs, what a merge gives, what is left without some fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schema::{Listing, Schema};
use super::set::FieldSet;

/// Walks values along a path of field names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) schema: Schema<'a>,
}

/// What changed between two values.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Added or modified.
    pub(super) changed: FieldSet,
    pub(super) removed: FieldSet,
}

/// The path element of a list item, or None when it lacks the keys.
fn element(item: &Value, listing: Listing) -> Option<String> {
    match listing {
        Listing::Atomic => None,
        Listing::Set => Some(format!("v:{item}")),
        Listing::Keyed(keys) => {
            let mut found = Map::new();
            for key in keys {
                // The schema's only default among keys.
                let value = item.get(*key).cloned().or_else(|| (*key == "protocol").then(|| json!("TCP")))?;
                found.insert((*key).to_owned(), value);
            }
            Some(format!("k:{}", Value::Object(found)))
        }
    }
}

/// The items by element, or None when the list is to be taken as a whole.
fn elements(items: &[Value], listing: Listing) -> Option<Vec<(String, &Value)>> {
    if listing == Listing::Atomic {
        return None;
    }
    items.iter().map(|item| Some((element(item, listing)?, item))).collect()
}

impl<'a> Walk<'a> {
    /// The fields that an applied configuration sets.
    pub(super) fn set_of(&self, value: &'a Value) -> FieldSet {
        let mut out = FieldSet::default();
        self.set_below(value, &mut Vec::new(), &mut out);
        out.pruned()
    }

    fn set_below(&self, value: &'a Value, path: &mut Vec<&'a str>, out: &mut FieldSet) {
        match value {
            Value::Object(map) if !map.is_empty() && !self.schema.atomic_map(path) => {
                for (key, inner) in map {
                    path.push(key);
                    self.set_below(inner, path, out.child(&format!("f:{key}")));
                    path.pop();
                }
            }
            Value::Array(items) if !items.is_empty() => match elements(items, self.schema.list(path)) {
                Some(all) => {
                    for (name, item) in all {
                        let child = out.child(&name);
                        child.member = true;
                        if item.is_object() {
                            self.set_below(item, path, child);
                        }
                    }
                }
                None => out.member = true,
            },
            _ => out.member = true,
        }
    }

    /// What `new` changes in `old`.
    pub(super) fn difference(&self, old: &'a Value, new: &'a Value) -> Difference {
        let mut out = Difference::default();
        self.differ(Some(old), Some(new), &mut Vec::new(), &mut out.changed, &mut out.removed);
        Difference { changed: out.changed.pruned(), removed: out.removed.pruned() }
    }

    fn differ(
        &self,
        old: Option<&'a Value>,
        new: Option<&'a Value>,
        path: &mut Vec<&'a str>,
        changed: &mut FieldSet,
        removed: &mut FieldSet,
    ) {
        if old == new {
            return;
        }
        let is_map = |v: Option<&Value>| v.is_none_or(Value::is_object);
        let is_list = |v: Option<&Value>| v.is_none_or(Value::is_array);
        if is_map(old) && is_map(new) && !self.schema.atomic_map(path) {
            // A map that comes or goes counts itself, beside what is in it.
            changed.member |= old.is_none();
            removed.member |= new.is_none();
            let (a, b) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let keys = a.into_iter().chain(b).flat_map(Map::keys).collect::<std::collections::BTreeSet<_>>();
            for key in keys {
                path.push(key);
                let name = format!("f:{key}");
                let inner = (a.and_then(|m| m.get(key)), b.and_then(|m| m.get(key)));
                self.differ(inner.0, inner.1, path, changed.child(&name), removed.child(&name));
                path.pop();
            }
            return;
        }
        if is_list(old) && is_list(new) {
            let listing = self.schema.list(path);
            let items = |v: Option<&'a Value>| elements(v.and_then(Value::as_array).map_or(&[][..], Vec::as_slice), listing);
            if let (Some(a), Some(b)) = (items(old), items(new)) {
                let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.into_iter().collect(), b.into_iter().collect());
                for name in a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>() {
                    let inner = (a.get(name).copied(), b.get(name).copied());
                    if inner.0.is_none_or(Value::is_object) && inner.1.is_none_or(Value::is_object) {
                        self.differ(inner.0, inner.1, path, changed.child(name), removed.child(name));
                    } else {
                        changed.child(name).member |= inner.0.is_none();
                        removed.child(name).member |= inner.1.is_none();
                    }
                }
                return;
            }
        }
        match new {
            Some(_) => changed.member = true,
            None => removed.member = true,
        }
    }

    /// `applied` over `live`.
    pub(super) fn merged(&self, live: &'a Value, applied: &'a Value) -> Value {
        self.merge(live, applied, &mut Vec::new())
    }

    fn merge(&self, live: &'a Value, applied: &'a Value, path: &mut Vec<&'a str>) -> Value {
        match (live, applied) {
            (Value::Object(a), Value::Object(b)) if !self.schema.atomic_map(path) => {
                let mut out = a.clone();
                for (key, theirs) in b {
                    path.push(key);
                    let value = a.get(key).map_or_else(|| theirs.clone(), |mine| self.merge(mine, theirs, path));
                    path.pop();
                    out.insert(key.clone(), value);
                }
                Value::Object(out)
            }
            (Value::Array(a), Value::Array(b)) => {
                let listing = self.schema.list(path);
                match (elements(a, listing), elements(b, listing)) {
                    (Some(a), Some(b)) => Value::Array(self.merge_lists(&a, &b, path)),
                    _ => applied.clone(),
                }
            }
            _ => applied.clone(),
        }
    }

    /// The applied order counts; items that only live has keep their place before the next common one.
    fn merge_lists(&self, live: &[(String, &'a Value)], applied: &[(String, &'a Value)], path: &mut Vec<&'a str>) -> Vec<Value> {
        let mut out = Vec::new();
        let mut next = 0;
        let is_applied = |name: &str| applied.iter().any(|(n, _)| n == name);
        for (name, theirs) in applied {
            let Some(at) = live.iter().position(|(n, _)| n == name) else {
                out.push((*theirs).clone());
                continue;
            };
            for (other, item) in live.iter().take(at).skip(next) {
                if !is_applied(other) {
                    out.push((*item).clone());
                }
            }
            next = next.max(at + 1);
            if let Some((_, mine)) = live.get(at) {
                out.push(self.merge(mine, theirs, path));
            }
        }
        out.extend(live.iter().skip(next).filter(|(n, _)| !is_applied(n)).map(|(_, item)| (*item).clone()));
        out
    }

    /// The value without the fields of the set, and without maps and lists that this leaves empty.
    pub(super) fn without(&self, value: &'a Value, gone: &FieldSet) -> Value {
        self.cut(value, gone, &mut Vec::new()).unwrap_or_else(|| Value::Object(Map::new()))
    }

    fn cut(&self, value: &'a Value, gone: &FieldSet, path: &mut Vec<&'a str>) -> Option<Value> {
        if gone.member && gone.children.is_empty() {
            return None;
        }
        match value {
            Value::Object(map) => {
                let mut out = Map::new();
                for (key, inner) in map {
                    match gone.children.get(&format!("f:{key}")) {
                        None => {
                            out.insert(key.clone(), inner.clone());
                        }
                        Some(below) => {
                            path.push(key);
                            if let Some(left) = self.cut(inner, below, path) {
                                out.insert(key.clone(), left);
                            }
                            path.pop();
                        }
                    }
                }
                (!out.is_empty() || map.is_empty()).then_some(Value::Object(out))
            }
            Value::Array(items) => {
                let listing = self.schema.list(path);
                let left: Vec<Value> = items
                    .iter()
                    .filter_map(|item| match element(item, listing).and_then(|name| gone.children.get(&name)) {
                        None => Some(item.clone()),
                        // An item goes with its own path, not with the last of its other fields.
                        Some(below) if below.member => None,
                        Some(below) => self.cut(item, below, path),
                    })
                    .collect();
                (!left.is_empty() || items.is_empty()).then_some(Value::Array(left))
            }
            other => (!gone.member).then(|| other.clone()),
        }
    }
}
