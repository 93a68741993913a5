//! `values` and `matrix` of a `scenario.yaml`: read, and put in where the file and its manifests say `$(value:NAME)`.
//!
//! All of it happens on the tree of the text, before anything else is read. So a value can stand wherever text can, what it
//! leads to is held to the same rules as if it had been written there, and mistakes keep their places. A row of the matrix
//! becomes a scenario of its own; nothing after the loader knows of rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::diagnose::suggest;
use super::raw_given as raw;
use super::reader::{Fields, Reader};
use super::values::{Applied, ScenarioValue, ValueSource, is_value_name, value_variable};
use super::yaml::{Kind, Node};
use crate::names::ScenarioId;

/// Fields that no value is put into: those that say what the values are, and which scenarios there are.
const WITHOUT_VALUES: &[&str] = &["values", "matrix", "needs"];
const OPENING: &str = "$(value:";

/// A scalar as written: `plain` ones may be numbers or words of YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scalar {
    text: String,
    plain: bool,
}

impl Scalar {
    fn of(node: &Node) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, plain } if !node.is_null() => Some(Self { text: text.clone(), plain: *plain }),
            _ => None,
        }
    }

    /// What a person would call what it stands for.
    fn kind(&self) -> &'static str {
        let node = Node::scalar_of(self.text.clone(), self.plain);
        match node.to_json() {
            Value::Number(_) => "a number",
            Value::Bool(_) => "`true` or `false`",
            _ => "text",
        }
    }

    /// A text from outside, read as what the default is; None when it cannot be that.
    fn like(&self, text: &str) -> Option<Self> {
        if self.kind() == "text" {
            return Some(Self { text: text.to_owned(), plain: false });
        }
        Some(Self { text: text.trim().to_owned(), plain: true }).filter(|other| other.kind() == self.kind())
    }
}

struct Declared {
    name: String,
    default: Scalar,
    about: String,
    at: Range<usize>,
}

struct Row {
    id: ScenarioId,
    name: String,
    values: BTreeMap<String, Scalar>,
}

/// What one reading of the file is given.
pub(super) struct Given {
    /// The row's id and name; None for a scenario without a matrix.
    pub(super) row: Option<(ScenarioId, String)>,
    values: BTreeMap<String, (Scalar, ScenarioValue, Range<usize>)>,
    /// Something under `values` could not be read: an unknown name may be that.
    incomplete: bool,
    used: BTreeSet<String>,
}

impl Given {
    /// For a file of which nothing could be read.
    pub(super) fn nothing() -> Self {
        Self { row: None, values: BTreeMap::new(), incomplete: true, used: BTreeSet::new() }
    }

    /// The values in force, by name.
    pub(super) fn in_force(&self) -> Vec<ScenarioValue> {
        self.values.values().map(|(_, value, _)| value.clone()).collect()
    }

    /// Names that nothing takes, and where they are declared.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.values.iter().filter(|(name, _)| !self.used.contains(*name)).map(|(name, (_, _, at))| (name.as_str(), at.clone()))
    }

    /// Puts the values into every field of the scenario's file that may have them.
    pub(super) fn put_into_file(&mut self, document: &mut Node, r: &mut Reader) {
        if let Kind::Map(pairs) = &mut document.kind {
            for (_, value) in pairs.iter_mut().filter(|(key, _)| key.scalar().is_none_or(|k| !WITHOUT_VALUES.contains(&k))) {
                self.put_into(value, r);
            }
        }
    }

    /// Puts the values into every text of a tree, keys included.
    pub(super) fn put_into(&mut self, node: &mut Node, r: &mut Reader) {
        match &mut node.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| self.put_into(item, r)),
            Kind::Map(pairs) => {
                for (key, value) in pairs {
                    self.put_into(key, r);
                    self.put_into(value, r);
                }
            }
            Kind::Scalar { text, .. } if !text.contains(OPENING) => {}
            Kind::Scalar { text, plain } => {
                // Alone and without quotes it is whatever the value is: `port: $(value:port)` is a number.
                let alone = text.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(')')).filter(|name| is_value_name(name));
                if let Some(name) = alone.filter(|_| *plain).map(str::to_owned) {
                    if let Some(value) = self.take(&name, &node.at, r) {
                        (*text, *plain) = (value.text, value.plain);
                    }
                } else {
                    let spliced = self.splice(&text.clone(), &node.at, r);
                    (*text, *plain) = (spliced, false);
                }
            }
        }
    }

    fn splice(&mut self, text: &str, at: &Range<usize>, r: &mut Reader) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPENING) {
            // `$$(value:…)` is the text itself, as `$$(…)` is in a Pod's command.
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str(OPENING);
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((name, after)) = after.split_once(')').filter(|(name, _)| is_value_name(name)) else {
                let help = "expected `$(value:NAME)` with a name of lower-case letters, digits and `-`; `$$(value:` is the text itself";
                r.wrong_help(at.clone(), "`$(value:` names no value", help);
                return text.to_owned();
            };
            match self.take(name, at, r) {
                Some(value) => out.push_str(&value.text),
                None => out.push_str(&format!("{OPENING}{name})")),
            }
            rest = after;
        }
        out + rest
    }

    fn take(&mut self, name: &str, at: &Range<usize>, r: &mut Reader) -> Option<Scalar> {
        if let Some((value, ..)) = self.values.get(name) {
            self.used.insert(name.to_owned());
            return Some(value.clone());
        }
        if !self.incomplete {
            let written = format!("{OPENING}{name})");
            let inside = r.source.text.get(at.clone()).and_then(|text| text.find(&written));
            let at = inside.map_or(at.clone(), |i| at.start + i..at.start + i + written.len());
            let help = suggest(name, self.values.keys().map(String::as_str)).unwrap_or_else(|| "declare it under `values`".to_owned());
            r.wrong_help(at, format!("the scenario declares no value `{name}`"), help);
        }
        None
    }
}

/// What each reading of a scenario's file is given: one without a matrix, one for each row of it.
pub(super) fn given(r: &mut Reader, document: &Node, folder: &ScenarioId, applied: &mut Applied<'_>) -> Vec<Given> {
    let before = r.mistakes.len();
    let declared = document.get("values").map(|node| values(r, node)).unwrap_or_default();
    let rows = document.get("matrix").map(|node| matrix(r, node, folder, &declared)).unwrap_or_default();
    let incomplete = r.mistakes.len() > before;
    applied.there_is(folder, folder);
    let mut in_force = |row: Option<&Row>| {
        if let Some(row) = row {
            applied.there_is(folder, &row.id);
        }
        let mut values = BTreeMap::new();
        for one in &declared {
            let own = row.and_then(|row| row.values.get(&one.name));
            let (mut value, mut source) = own.map_or((one.default.clone(), ValueSource::Default), |v| (v.clone(), ValueSource::Row));
            if let Some((text, from, shown)) = applied.of(folder, row.map(|row| (&row.id, own.is_some())), &one.name) {
                match one.default.like(text) {
                    Some(like) => (value, source) = (like, from),
                    None => {
                        let help = format!("its default here is {}", one.default.kind());
                        r.wrong_help(one.at.clone(), format!("{shown} cannot be the value `{}`", one.name), help);
                    }
                }
            }
            let known = ScenarioValue { name: one.name.clone(), value: value.text.clone(), source, about: one.about.clone() };
            values.insert(one.name.clone(), (value, known, one.at.clone()));
        }
        Given { row: row.map(|row| (row.id.clone(), row.name.clone())), values, incomplete, used: BTreeSet::new() }
    };
    if rows.is_empty() { vec![in_force(None)] } else { rows.iter().map(|row| in_force(Some(row))).collect() }
}

fn values(r: &mut Reader, node: &Node) -> Vec<Declared> {
    let Kind::Map(pairs) = &node.kind else {
        r.wrong_help(node.point(), format!("`values` cannot be {}", node.called()), "expected a map from name to default");
        return Vec::new();
    };
    let mut out: Vec<Declared> = Vec::new();
    for (key, value) in pairs {
        let Some(name) = r.line(key, "a value's name") else { continue };
        if !is_value_name(&name) {
            let help = format!("expected lower-case letters, digits and `-`; {} overrides it", value_variable("the-name"));
            r.wrong_help(key.point(), format!("`{name}` is no value's name"), help);
            continue;
        }
        let mut about = String::new();
        let default = if let Kind::Map(_) = &value.kind {
            let Some(fields) = r.fields::<raw::FullValueFile>(value, "a value") else { continue };
            about = r.line_of(&fields, "about");
            fields.get("default").and_then(|default| scalar(r, default, "`default`"))
        } else if value.is_null() {
            r.wrong_help(key.point(), format!("the value `{name}` has no default"), "give one; `\"\"` is the empty text");
            None
        } else {
            scalar(r, value, &format!("the value `{name}`"))
        };
        let Some(default) = default else { continue };
        if out.iter().any(|d| d.name == name) {
            r.wrong(key.point(), format!("the value `{name}` is declared twice"));
            continue;
        }
        out.push(Declared { name, default, about, at: key.point() });
    }
    out
}

fn scalar(r: &mut Reader, node: &Node, what: &str) -> Option<Scalar> {
    let scalar = Scalar::of(node);
    if scalar.is_none() && !node.is_null() {
        r.wrong_help(node.point(), format!("{what} cannot be {}", node.called()), "expected text, a number, `true` or `false`");
    }
    scalar
}

fn matrix(r: &mut Reader, node: &Node, folder: &ScenarioId, declared: &[Declared]) -> Vec<Row> {
    let items = r.list(node, "`matrix`");
    if items.is_empty() && matches!(node.kind, Kind::List(_)) {
        r.wrong_help(node.point(), "a matrix without rows", "without one there is nothing to run");
    }
    let mut out: Vec<Row> = Vec::new();
    for item in items {
        let Some(fields) = r.fields::<raw::RowFile>(item, "a row") else { continue };
        let Some((name, at)) = fields.get("row").and_then(|node| Some((r.line(node, "`row`")?, node.point()))) else { continue };
        let Some(id) = ScenarioId::new(format!("{folder}/{name}")).ok().filter(|_| is_value_name(&name)) else {
            let help = "expected lower-case letters, digits and `-`: it becomes the last part of a scenario's name";
            r.wrong_help(at, format!("`{name}` is no row's name"), help);
            continue;
        };
        let values = row_values(r, &fields, declared);
        if out.iter().any(|row| row.name == name) {
            r.wrong(at, format!("a second row is called `{name}`"));
        } else if let Some(same) = out.iter().find(|row| row.values == values) {
            r.wrong(at, format!("the row `{name}` gives what `{}` gives", same.name));
        } else {
            out.push(Row { id, name, values });
        }
    }
    out
}

fn row_values(r: &mut Reader, fields: &Fields<'_>, declared: &[Declared]) -> BTreeMap<String, Scalar> {
    let mut out = BTreeMap::new();
    let Some(node) = fields.get("values") else { return out };
    let Kind::Map(pairs) = &node.kind else {
        r.wrong_help(node.point(), format!("`values` cannot be {}", node.called()), "expected a map from declared name to value");
        return out;
    };
    for (key, value) in pairs {
        let Some(name) = r.line(key, "a value's name") else { continue };
        let Some(known) = declared.iter().find(|d| d.name == name) else {
            let help = suggest(&name, declared.iter().map(|d| d.name.as_str())).unwrap_or_else(|| "declare it under `values`".to_owned());
            r.wrong_help(key.point(), format!("the scenario declares no value `{name}`"), help);
            continue;
        };
        if value.is_null() {
            r.wrong(key.point(), format!("`{name}` has no value"));
            continue;
        }
        let Some(given) = scalar(r, value, &format!("`{name}`")) else { continue };
        if given.kind() != known.default.kind() {
            let help = format!("its default is {}", known.default.kind());
            r.wrong_help(value.point(), format!("`{name}` cannot be {}", value.called()), help);
        } else if out.insert(name.clone(), given).is_some() {
            r.wrong(key.point(), format!("`{name}` is given twice"));
        }
    }
    out
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
