//! Sets of field paths, in the shape of `fieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A tree of path elements as `fieldsV1` writes them: `f:NAME`, `k:{KEYS}`, `v:VALUE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    pub(super) fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    pub(super) fn child(&mut self, element: &str) -> &mut Self {
        self.children.entry(element.to_owned()).or_default()
    }

    /// Removes the branches that hold nothing.
    pub(super) fn pruned(mut self) -> Self {
        self.children = self.children.into_iter().map(|(k, v)| (k, v.pruned())).filter(|(_, v)| !v.is_empty()).collect();
        self
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.member |= other.member;
        for (key, theirs) in &other.children {
            let mine = out.child(key);
            *mine = mine.union(theirs);
        }
        out
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut out = Self { member: self.member && !other.member, children: BTreeMap::new() };
        for (key, mine) in &self.children {
            let left = other.children.get(key).map_or_else(|| mine.clone(), |theirs| mine.minus(theirs));
            if !left.is_empty() {
                out.children.insert(key.clone(), left);
            }
        }
        out
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut out = Self { member: self.member && other.member, children: BTreeMap::new() };
        for (key, mine) in &self.children {
            if let Some(theirs) = other.children.get(key) {
                let both = mine.intersection(theirs);
                if !both.is_empty() {
                    out.children.insert(key.clone(), both);
                }
            }
        }
        out
    }

    /// Without these paths and whatever lies under them.
    pub(super) fn without(mut self, paths: &[&[&str]]) -> Self {
        for path in paths {
            self.cut(path);
        }
        self.pruned()
    }

    fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(&format!("f:{last}"));
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(&format!("f:{first}")) {
                    child.cut(rest);
                }
            }
        }
    }

    /// The members as messages write them: `.spec.containers[name="x"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, at: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(at.to_owned());
        }
        for (element, child) in &self.children {
            child.collect(&format!("{at}{}", shown(element)), out);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.to_json());
        }
        Value::Object(map)
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        let mut out = Self::below(value);
        out.member = false;
        out
    }

    fn below(value: &Value) -> Self {
        let mut out = Self::default();
        let Some(map) = value.as_object() else { return Self::leaf() };
        out.member = map.is_empty() || map.contains_key(".");
        for (element, child) in map.iter().filter(|(k, _)| *k != ".") {
            out.children.insert(element.clone(), Self::below(child));
        }
        out
    }
}

fn shown(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let all: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", all.join(","))
        }
        _ => format!("[{element}]"),
    }
}
