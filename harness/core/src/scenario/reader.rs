//! Reading a tree of nodes into values, collecting every mistake on the way.

use std::any::TypeId;
use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;

use super::diagnose::{Mistake, Source, closest, suggest};
use super::yaml::{Kind, Node};
use crate::names::NameError;

/// The file being read and what is wrong with it so far.
pub(super) struct Reader {
    pub(super) source: Source,
    pub(super) mistakes: Vec<Mistake>,
}

/// The keys of a shape, from the very type that the JSON schema is generated from.
pub(super) struct Shape {
    pub(super) keys: Vec<String>,
    pub(super) required: Vec<String>,
}

/// Asks schemars once per type: reader and schema cannot disagree about keys.
pub(super) fn shape<T: JsonSchema + 'static>() -> Arc<Shape> {
    static SHAPES: LazyLock<Mutex<HashMap<TypeId, Arc<Shape>>>> = LazyLock::new(Mutex::default);
    let mut shapes = SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
    let shape = shapes.entry(TypeId::of::<T>()).or_insert_with(|| {
        let schema = schemars::schema_for!(T);
        let keys = schema.get("properties").and_then(|p| p.as_object()).map(|p| p.keys().cloned().collect());
        let required = schema.get("required").and_then(|r| r.as_array());
        Arc::new(Shape {
            keys: keys.unwrap_or_default(),
            required: required.into_iter().flatten().filter_map(|r| r.as_str().map(str::to_owned)).collect(),
        })
    });
    Arc::clone(shape)
}

/// The fields of a map whose keys were checked against a shape.
pub(super) struct Fields<'n> {
    pub(super) at: Range<usize>,
    pairs: Vec<(&'n Node, &'n Node)>,
    shape: Arc<Shape>,
}

impl<'n> Fields<'n> {
    /// The value of a key, None where it is not given.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|(_, value)| value).filter(|v| !v.is_null())
    }

    /// Key and value, also where the value is empty.
    pub(super) fn entry(&self, key: &str) -> Option<(&'n Node, &'n Node)> {
        debug_assert!(self.shape.keys.iter().any(|k| k == key), "`{key}` is not in the schema");
        self.pairs.iter().find(|(k, _)| k.scalar() == Some(key)).copied()
    }

    /// Whether a key was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }
}

/// Keys that may stand without a value: a probe without settings.
const MAY_BE_EMPTY: &[&str] = &["proxyStatus", "versions"];

impl Reader {
    pub(super) fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake::at(&self.source, at, message, None));
    }

    pub(super) fn wrong_help(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Mistake::at(&self.source, at, message, Some(help.into())));
    }

    fn not_a(&mut self, node: &Node, what: &str, expected: &str) {
        self.wrong_help(node.point(), format!("{what} cannot be {}", node.called()), format!("expected {expected}"));
    }

    /// A map with the keys of `T`; unknown, repeated, empty and missing ones are mistakes.
    pub(super) fn fields<'n, T: JsonSchema + 'static>(&mut self, node: &'n Node, what: &str) -> Option<Fields<'n>> {
        let shape = shape::<T>();
        let Kind::Map(pairs) = &node.kind else {
            self.not_a(node, what, &format!("a map with {}", ticked(&shape.keys)));
            return None;
        };
        let mut fields = Fields { at: node.point(), pairs: Vec::new(), shape: Arc::clone(&shape) };
        // A key that was meant and misspelt is not said to be lacking as well.
        let mut meant: Vec<&str> = Vec::new();
        for (key, value) in pairs {
            let Some(name) = key.scalar() else {
                self.wrong(key.point(), format!("{what} has a key that is not text"));
                continue;
            };
            if !shape.keys.iter().any(|k| k == name) {
                let help = suggest(name, shape.keys.iter().map(String::as_str)).unwrap_or_default();
                meant.extend(closest(name, shape.keys.iter().map(String::as_str)));
                self.wrong_help(key.point(), format!("{what} has no field `{name}`"), help);
            } else if fields.pairs.iter().any(|(k, _)| k.scalar() == Some(name)) {
                self.wrong(key.point(), format!("`{name}` is given twice"));
            } else {
                if value.is_null() && !MAY_BE_EMPTY.contains(&name) {
                    self.wrong_help(key.point(), format!("`{name}` has no value"), "give one or take the field away");
                }
                fields.pairs.push((key, value));
            }
        }
        for key in &shape.required {
            if !meant.contains(&key.as_str()) && !fields.pairs.iter().any(|(k, _)| k.scalar() == Some(key)) {
                self.wrong_help(fields.at.clone(), format!("{what} lacks `{key}`"), format!("add `{key}:`"));
            }
        }
        Some(fields)
    }

    /// Any scalar as text: `200` and `"200"` are the same.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match node.scalar() {
            Some(text) if !node.is_null() => Some(text.to_owned()),
            Some(_) => None, // said already where the key was read, or below for items of lists
            None => {
                self.not_a(node, what, "text");
                None
            }
        }
    }

    /// Text with something in it.
    pub(super) fn line(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node, what)?;
        if text.trim().is_empty() {
            self.wrong(node.point(), format!("{what} is empty"));
            return None;
        }
        Some(text.trim().to_owned())
    }

    /// An optional text field; empty when it is not there.
    pub(super) fn line_of(&mut self, fields: &Fields<'_>, key: &str) -> String {
        fields.get(key).and_then(|node| self.line(node, &format!("`{key}`"))).unwrap_or_default()
    }

    /// A number, written plainly or quoted.
    pub(super) fn number<T: FromStr>(&mut self, node: &Node, what: &str, expected: &str) -> Option<T> {
        let number = node.scalar().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.not_a(node, what, expected);
        }
        number
    }

    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.kind {
            Kind::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "false") => Some(text == "true"),
            _ => {
                self.not_a(node, what, "`true` or `false`");
                None
            }
        }
    }

    /// A field that can only be `true`; false when it is not given.
    pub(super) fn only_true(&mut self, fields: &Fields<'_>, key: &str) -> bool {
        let Some(node) = fields.get(key) else { return false };
        match self.boolean(node, &format!("`{key}`")) {
            Some(false) => {
                self.wrong_help(node.point(), format!("`{key}: false` expects nothing"), "take it away or say `true`");
                false
            }
            given => given.is_some(),
        }
    }

    /// A checked name.
    pub(super) fn name<T: FromStr<Err = NameError>>(&mut self, node: &Node, what: &str) -> Option<T> {
        let text = self.text(node, what)?;
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong_help(node.point(), format!("{what}: `{}` is no such name", error.given), format!("expected {}", error.expected));
                None
            }
        }
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::List(items) => {
                for item in items.iter().filter(|i| i.is_null()) {
                    self.wrong(item.point(), format!("an item of {what} has no value"));
                }
                items
            }
            _ => {
                self.not_a(node, what, "a list");
                &[]
            }
        }
    }

    /// An optional list field.
    pub(super) fn list_of<'n>(&mut self, fields: &Fields<'n>, key: &str) -> &'n [Node] {
        fields.get(key).map_or(&[], |node| self.list(node, &format!("`{key}`")))
    }

    /// A list, or one thing that stands for a list of one.
    pub(super) fn list_or_one<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::List(_) => self.list(node, what),
            _ => std::slice::from_ref(node),
        }
    }

    /// A list of texts, each with something in it.
    pub(super) fn lines_of(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        self.list_of(fields, key).iter().filter_map(|item| self.line(item, &format!("an item of `{key}`"))).collect()
    }

    /// `10s`, `500ms`, `2m`.
    pub(super) fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let parsed = node.scalar().and_then(|text| {
            let split = text.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = text[..split].parse().ok()?;
            match &text[split..] {
                "ms" => Some(Duration::from_millis(number)),
                "s" => Some(Duration::from_secs(number)),
                "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
                _ => None,
            }
        });
        match parsed {
            Some(time) if !time.is_zero() && time <= Duration::from_secs(600) => Some(time),
            _ => {
                self.not_a(node, what, "a time such as `500ms`, `10s` or `2m`, at most ten minutes");
                None
            }
        }
    }

    /// A map with exactly one of the keys of `T`, as externally tagged enums are written.
    pub(super) fn one_of<'n>(&mut self, node: &'n Node, what: &str, keys: &[&str]) -> Option<(&'n str, &'n Node)> {
        let expected = format!("exactly one of {}", ticked(keys));
        let Kind::Map(pairs) = &node.kind else {
            self.not_a(node, what, &format!("a map with {expected}"));
            return None;
        };
        for (key, value) in pairs {
            let name = key.scalar().unwrap_or_default();
            if !keys.contains(&name) {
                self.wrong_help(
                    key.point(),
                    format!("{what} has no field `{name}`"),
                    suggest(name, keys.iter().copied()).unwrap_or_default(),
                );
                return None;
            }
            if value.is_null() {
                self.wrong(key.point(), format!("`{name}` has no value"));
                return None;
            }
        }
        match pairs.as_slice() {
            [(key, value)] => Some((key.scalar()?, value)),
            _ => {
                self.wrong_help(node.point(), format!("{what} has {} fields", pairs.len()), format!("expected {expected}"));
                None
            }
        }
    }
}

/// `a`, `b`, `c`.
pub(super) fn ticked<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|n| format!("`{}`", n.as_ref())).collect::<Vec<_>>().join(", ")
}
