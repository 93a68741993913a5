//! Expressions of CEL in an expectation, and where in the file their mistakes are.

use std::ops::Range;

use super::reader::{Fields, Reader};
use super::yaml::Node;
use crate::expression::{CelError, CelExpression};

/// The expressions of `cel`; those with a mistake are left out.
pub(super) fn cel(r: &mut Reader, fields: &Fields<'_>) -> Vec<CelExpression> {
    let Some(node) = fields.get("cel") else { return Vec::new() };
    let mut out = Vec::new();
    for item in r.list_or_one(node, "`cel`") {
        let Some(text) = r.line(item, "an expression") else { continue };
        match CelExpression::parse(&text) {
            Ok(expression) => out.push(expression),
            Err(error) => {
                let at = place(r, item, &text, &error);
                r.wrong_help(at, error.message, error.help);
            }
        }
    }
    out
}

/// In the expression where it stands in the file as it was read; else, as in a folded text, where it begins.
fn place(r: &Reader, item: &Node, text: &str, error: &CelError) -> Range<usize> {
    let written = r.source.text.get(item.at.clone()).and_then(|written| written.find(text));
    written.map_or(item.point(), |i| item.at.start + i + error.at.start..item.at.start + i + error.at.end)
}
