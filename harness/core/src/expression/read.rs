//! What an expression read: for a reader who is told that it is false, and wants to know why.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, Value as CelValue};
use serde_json::{Map, Value};

use super::{SUBJECT, json};
use crate::outcome::clip;

/// Most places that are shown, and the longest of what is there.
const PLACES: usize = 6;
const LONGEST: usize = 400;

/// The places of the structure that the expression names, outermost first, and what is there.
pub(super) fn read(expr: &IdedExpr, context: &Context<'_, '_>) -> Vec<String> {
    let mut found = Vec::new();
    places(expr, &mut found);
    let mut seen = BTreeSet::new();
    found.retain(|place: &Place<'_>| seen.insert(place.shown.clone()));
    found.iter().take(PLACES).map(|place| place.told(context)).collect()
}

/// A place, and of a list that is gone through the fields that are looked at in its elements.
struct Place<'e> {
    shown: String,
    expr: &'e IdedExpr,
    fields: BTreeSet<String>,
}

impl Place<'_> {
    fn told(&self, context: &Context<'_, '_>) -> String {
        match CelValue::resolve(self.expr, context) {
            Ok(value) => {
                let value = json(&value);
                let value = if self.fields.is_empty() { value } else { only(&value, &self.fields) };
                format!("{} is {}", self.shown, clip(&value.to_string(), LONGEST))
            }
            Err(_) => format!("{} is not there", self.shown),
        }
    }
}

/// Of each element, the fields that are looked at.
fn only(value: &Value, fields: &BTreeSet<String>) -> Value {
    let one = |item: &Value| match item {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| fields.contains(*key)).map(|(key, v)| (key.clone(), v.clone()));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        other => other.clone(),
    };
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        other => other.clone(),
    }
}

fn places<'e>(expr: &'e IdedExpr, found: &mut Vec<Place<'e>>) {
    if let Some((SUBJECT, shown)) = chain(expr).as_ref().map(|(root, shown)| (root.as_str(), shown)) {
        // The whole structure would fill pages, and is among the evidence.
        if shown != SUBJECT {
            found.push(Place { shown: shown.clone(), expr, fields: BTreeSet::new() });
        }
        return;
    }
    match &expr.expr {
        Expr::Select(select) => places(&select.operand, found),
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).for_each(|part| places(part, found)),
        Expr::List(list) => list.elements.iter().for_each(|part| places(part, found)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    places(&entry.key, found);
                    places(&entry.value, found);
                }
            }
        }
        Expr::Comprehension(c) => {
            let before = found.len();
            places(&c.iter_range, found);
            let mut element = Element { name: &c.iter_var, fields: BTreeSet::new(), whole: false };
            element.read_by(&c.loop_step);
            if let Some(place) = found.get_mut(before)
                && !element.whole
                && std::ptr::eq(place.expr, &c.iter_range)
            {
                place.fields = element.fields;
            }
            places(&c.loop_step, found);
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

/// `object.a.b[0]['c']`: its root, and how it is written. `has(object.a)` is the place asked about.
fn chain(expr: &IdedExpr) -> Option<(String, String)> {
    match &expr.expr {
        Expr::Ident(name) => Some((name.clone(), name.clone())),
        Expr::Select(select) => {
            let (root, shown) = chain(&select.operand)?;
            Some((root, if select.test { format!("has({shown}.{})", select.field) } else { format!("{shown}.{}", select.field) }))
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [operand, index] = call.args.as_slice() else { return None };
            let index = match &index.expr {
                Expr::Literal(LiteralValue::Int(n)) => n.inner().to_string(),
                Expr::Literal(LiteralValue::String(text)) => format!("'{}'", text.inner()),
                _ => return None,
            };
            let (root, shown) = chain(operand)?;
            Some((root, format!("{shown}[{index}]")))
        }
        _ => None,
    }
}

/// What is read of a loop's element.
struct Element<'e> {
    name: &'e str,
    fields: BTreeSet<String>,
    /// The element itself is, and not its fields alone.
    whole: bool,
}

impl Element<'_> {
    fn is(&self, expr: &IdedExpr) -> bool {
        matches!(&expr.expr, Expr::Ident(name) if name == self.name)
    }

    fn read_by(&mut self, expr: &IdedExpr) {
        match &expr.expr {
            Expr::Ident(_) => self.whole |= self.is(expr),
            Expr::Select(select) if self.is(&select.operand) => drop(self.fields.insert(select.field.clone())),
            Expr::Select(select) => self.read_by(&select.operand),
            Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).for_each(|part| self.read_by(part)),
            Expr::List(list) => list.elements.iter().for_each(|part| self.read_by(part)),
            Expr::Comprehension(c) => [&c.iter_range, &c.loop_step].into_iter().for_each(|part| self.read_by(part)),
            Expr::Map(_) => self.whole = true,
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
        }
    }
}
