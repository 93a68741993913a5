//! YAML text → a tree in which every node knows where it was written.
//!
//! Serde stops at the first thing that does not fit; a person wants all mistakes at once, each with
//! its place. So the parser's events become a small tree, and the reader walks that by hand.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

/// A node and its place in the text, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Range<usize>,
    pub(super) kind: Kind,
    /// Levels below this node; aliases could otherwise pile up a tree too deep to walk.
    height: usize,
    /// Nodes in this tree, itself included.
    size: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// `plain`: written without quotes, so it may stand for something else than text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order written, duplicates kept.
    Map(Vec<(Node, Node)>),
}

/// Where and why reading stopped.
#[derive(Debug, Clone)]
pub(super) struct SyntaxError {
    pub(super) at: usize,
    pub(super) message: String,
}

const MAX_HEIGHT: usize = 300;
const MAX_NODES: usize = 200_000;

/// The documents of a text; those before a syntax error are kept beside it.
pub(super) fn parse(text: &str) -> (Vec<Node>, Option<SyntaxError>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(pair) => pair,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(text.len());
                return (builder.documents, Some(SyntaxError { at, message: error.info() }));
            }
        };
        let at = span.byte_range().unwrap_or(0..0);
        if let Err(message) = builder.event(event, at.clone()) {
            return (builder.documents, Some(SyntaxError { at: at.start, message }));
        }
    }
    (builder.documents, None)
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

struct Open {
    start: usize,
    anchor: Option<usize>,
    children: Vec<Node>,
    map: bool,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Range<usize>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !tag.is_some_and(|t| t.is_yaml_core_schema_tag("str"));
                let kind = Kind::Scalar { text: text.into_owned(), plain };
                self.finished(Node { at, kind, height: 0, size: 1 }, (anchor > 0).then_some(anchor))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { start: at.start, anchor: (anchor > 0).then_some(anchor), children: Vec::new(), map: false });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open { start: at.start, anchor: (anchor > 0).then_some(anchor), children: Vec::new(), map: true });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let end = open.children.last().map_or(at.end, |last| last.at.end.max(open.start));
                let height = 1 + open.children.iter().map(|c| c.height).max().unwrap_or(0);
                let size = 1 + open.children.iter().map(|c| c.size).sum::<usize>();
                let kind = if open.map {
                    let mut pairs = Vec::with_capacity(open.children.len() / 2);
                    let mut children = open.children.into_iter();
                    while let (Some(key), Some(value)) = (children.next(), children.next()) {
                        pairs.push((key, value));
                    }
                    Kind::Map(pairs)
                } else {
                    Kind::List(open.children)
                };
                self.finished(Node { at: open.start..end, kind, height, size }, open.anchor)
            }
            Event::Alias(id) => {
                let Some(mut node) = self.anchors.get(&id).cloned() else {
                    return Err("an alias inside the node that it names".to_owned());
                };
                node.at = at;
                self.finished(node, None)
            }
            _ => Ok(()),
        }
    }

    fn finished(&mut self, node: Node, anchor: Option<usize>) -> Result<(), String> {
        self.nodes += node.size;
        if self.nodes > MAX_NODES || node.height + self.open.len() > MAX_HEIGHT {
            return Err("the document is too large or too deep once its aliases are put in".to_owned());
        }
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.documents.push(node),
        }
        Ok(())
    }
}

impl Node {
    /// A scalar that was written nowhere.
    pub(super) fn scalar_of(text: String, plain: bool) -> Self {
        Self { at: 0..0, kind: Kind::Scalar { text, plain }, height: 0, size: 1 }
    }

    /// Nothing was written, or `null`, or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar, however it was written.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The value of a key; the last one when it was written twice.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(pairs) => pairs.iter().rev().find(|(k, _)| k.scalar() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// A place that an excerpt can underline: of a collection only its beginning.
    pub(super) fn point(&self) -> Range<usize> {
        match &self.kind {
            Kind::Scalar { .. } => self.at.clone(),
            Kind::Map(pairs) => pairs.first().map_or(self.at.clone(), |(key, _)| key.point()),
            Kind::List(items) => items.first().map_or(self.at.clone(), Node::point),
        }
    }

    /// What a person would call this.
    pub(super) fn called(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, .. } => {
                let short: String = text.chars().take(40).collect();
                format!("`{}`", short.replace('\n', " "))
            }
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// The value by YAML 1.2's core schema: of plain scalars only `null`, `true`, `false` and numbers
    /// are anything but text. Keys are always text.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar { text, plain: false } => Value::String(text.clone()),
            Kind::Scalar { text, plain: true } => plain_value(text),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Kind::Map(pairs) => {
                let pairs = pairs.iter().filter_map(|(k, v)| Some((k.scalar()?.to_owned(), v.to_json())));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}

fn plain_value(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(number) = text.trim_start_matches('+').parse::<i64>() {
            return Value::Number(number.into());
        }
        if let Ok(number) = text.trim_start_matches('+').parse::<u64>() {
            return Value::Number(number.into());
        }
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(number) = text.strip_prefix(prefix).and_then(|d| u64::from_str_radix(d, radix).ok()) {
            return Value::Number(number.into());
        }
    }
    let float_like = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let number = if float_like { text.parse::<f64>().ok().and_then(Number::from_f64) } else { None };
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: Value) {
        let (documents, error) = parse(text);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(documents[0].to_json(), expected, "{text}");
    }

    #[test]
    fn scalars_are_what_yaml_1_2_says() {
        check("[on, off, yes, no, y]", json!(["on", "off", "yes", "no", "y"]));
        check("[true, False, ~, null, '']", json!([true, false, null, null, ""]));
        check(
            "[1, -1, +1, 0x10, 0o17, 017, 1.5, 1e3, .5, 1.2.3, 10s, 2/2]",
            json!([1, -1, 1, 16, 15, 17, 1.5, 1000.0, 0.5, "1.2.3", "10s", "2/2"]),
        );
        check("['1', \"true\", !!str 2]", json!(["1", "true", "2"]));
    }

    #[test]
    fn aliases_are_put_in_and_cannot_explode() {
        check("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}}));
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            bomb += &format!("a{i}: &a{i} [*a{0},*a{0},*a{0},*a{0},*a{0},*a{0},*a{0},*a{0}]\n", i - 1);
        }
        assert!(parse(&bomb).1.unwrap().message.contains("too large"));
        assert!(parse("&a [*a]").1.is_some());
    }

    #[test]
    fn places_are_bytes_of_the_scalar() {
        let text = "é: [b, cc]\n";
        let (documents, _) = parse(text);
        let Kind::List(items) = &documents[0].get("é").unwrap().kind else { panic!() };
        assert_eq!(&text[items[1].at.clone()], "cc");
    }
}
