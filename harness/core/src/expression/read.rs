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
            let mut fields = BTreeSet::new();
            let whole = element_fields(&c.loop_step, &c.iter_var, &mut fields);
            if let (Some(place), false) = (found.get_mut(before), whole)
                && std::ptr::eq(place.expr, &c.iter_range)
            {
                place.fields = fields;
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

/// Gathers the fields of a loop's element that are read; true where the element as a whole is.
fn element_fields(expr: &IdedExpr, element: &str, fields: &mut BTreeSet<String>) -> bool {
    match &expr.expr {
        Expr::Ident(name) => name == element,
        Expr::Select(select) => {
            if matches!(&select.operand.expr, Expr::Ident(name) if name == element) {
                fields.insert(select.field.clone());
                return false;
            }
            element_fields(&select.operand, element, fields)
        }
        Expr::Call(call) => {
            let parts = call.target.iter().map(AsRef::as_ref).chain(&call.args);
            parts.fold(false, |whole, part| element_fields(part, element, fields) || whole)
        }
        Expr::List(list) => list.elements.iter().fold(false, |whole, part| element_fields(part, element, fields) || whole),
        Expr::Comprehension(c) => {
            let parts = [&c.iter_range, &c.loop_step];
            parts.into_iter().fold(false, |whole, part| element_fields(part, element, fields) || whole)
        }
        Expr::Map(_) => true,
        Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}
