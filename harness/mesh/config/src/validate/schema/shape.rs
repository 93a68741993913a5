//! The shapes of specifications, read from `kinds.txt`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Any,
    Bool,
    Number,
    Int,
    Unsigned,
    Text,
    FilledText,
    Duration,
    Enum(Vec<String>),
    List { element: Box<Shape>, filled: bool, key: String },
    Map(Box<Shape>),
    Object { fields: BTreeMap<String, (bool, Shape)>, choices: Vec<Vec<String>> },
}

static SHAPES: LazyLock<BTreeMap<String, Shape>> = LazyLock::new(|| read(include_str!("kinds.txt")).unwrap_or_default());

/// The shape of a kind's specification.
pub(super) fn spec_shape(kind: &str) -> Option<&'static Shape> {
    SHAPES.get(kind)
}

/// Reads all definitions. Named types (`@name = ...`) stand in for themselves wherever they are used.
fn read(text: &str) -> Option<BTreeMap<String, Shape>> {
    let mut raw: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(" = ").filter(|_| !line.starts_with(' ')) {
            Some((name, body)) => {
                last = name.to_owned();
                raw.insert(last.clone(), body.to_owned());
            }
            None => raw.entry(last.clone()).or_default().push_str(line),
        }
    }
    raw.remove("");
    let kinds = raw.iter().filter(|(name, _)| !name.starts_with('@'));
    kinds.map(|(name, body)| Some((name.clone(), Reader { rest: body, raw: &raw, depth: 0 }.shape()?))).collect()
}

struct Reader<'a> {
    rest: &'a str,
    raw: &'a BTreeMap<String, String>,
    depth: usize,
}

impl Reader<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    /// Words between bars.
    fn words(&mut self) -> Vec<String> {
        let mut all = vec![self.word()];
        while self.eat("|") {
            all.push(self.word());
        }
        all
    }

    fn shape(&mut self) -> Option<Shape> {
        if self.eat("[") {
            let element = Box::new(self.shape()?);
            let is_closed = self.eat("]");
            let filled = self.eat("+");
            let key = if self.eat("#") { self.word() } else { String::new() };
            return is_closed.then_some(Shape::List { element, filled, key });
        }
        if self.eat("<") {
            let element = Box::new(self.shape()?);
            return self.eat(">").then_some(Shape::Map(element));
        }
        if self.eat("@") {
            let name = format!("@{}", self.word());
            // No definition holds itself; a deeper nesting than this is a mistake in the table.
            let body = self.raw.get(&name).filter(|_| self.depth < 16)?;
            return Reader { rest: body, raw: self.raw, depth: self.depth + 1 }.shape();
        }
        if self.eat("{") {
            return self.object();
        }
        Some(match self.word().as_str() {
            "any" => Shape::Any,
            "bool" => Shape::Bool,
            "number" => Shape::Number,
            "int" => Shape::Int,
            "uint" => Shape::Unsigned,
            "text" => Shape::Text,
            "text1" => Shape::FilledText,
            "duration" => Shape::Duration,
            "enum" => {
                let names = if self.eat("(") { self.words() } else { return None };
                return self.eat(")").then_some(Shape::Enum(names));
            }
            _ => return None,
        })
    }

    fn object(&mut self) -> Option<Shape> {
        let (mut fields, mut choices) = (BTreeMap::new(), Vec::new());
        while !self.eat("}") {
            if self.eat("^") {
                choices.push(self.words());
            } else {
                let name = self.word();
                let is_required = self.eat("!");
                if name.is_empty() || !self.eat(":") {
                    return None;
                }
                fields.insert(name, (is_required, self.shape()?));
            }
            self.eat(",");
        }
        Some(Shape::Object { fields, choices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read_and_has_every_kind() {
        for kind in crate::validate::REVIEWED {
            assert!(matches!(spec_shape(kind), Some(Shape::Object { .. })), "{kind}");
        }
    }
}
