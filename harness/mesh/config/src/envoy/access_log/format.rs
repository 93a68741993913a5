//! Formats: Envoy's substitution strings (`source/common/formatter/substitution_format_utility.cc`).

use serde_json::{Map, Value};

use super::CallRecord;
use super::operators::{Found, Operator};
use crate::envoy::refusal::Refusal;

/// A format, of text or JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    source: String,
    shape: Shape,
    omit_empty: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Text(Vec<Piece>),
    Json(Template),
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(String),
    Operator { operator: Operator, limit: Option<usize> },
}

#[derive(Debug, Clone, PartialEq)]
enum Template {
    Text(Vec<Piece>),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
    Value(Value),
}

/// Formats nest only so deep.
const DEPTH: usize = 32;

impl Format {
    /// Read a text format (`text_format_source.inline_string`).
    ///
    /// # Errors
    /// An operator that Envoy does not know, in its words.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(Self { source: text.to_owned(), shape: Shape::Text(pieces(text)?), omit_empty: false })
    }

    /// Read the value of a header: as [`Self::parse`], and what is missing becomes nothing rather than `-`.
    ///
    /// # Errors
    /// An operator that Envoy does not know, in its words.
    pub fn parse_value(text: &str) -> Result<Self, Refusal> {
        Self::parse(text).map(Self::omitting_empty)
    }

    /// Read a JSON format (`json_format`).
    ///
    /// # Errors
    /// An operator that Envoy does not know, in its words.
    pub fn parse_json(format: &Value) -> Result<Self, Refusal> {
        Ok(Self { source: format.to_string(), shape: Shape::Json(template(format, 0)?), omit_empty: false })
    }

    /// `omit_empty_values`: what is missing becomes nothing.
    pub(crate) fn omitting_empty(self) -> Self {
        Self { omit_empty: true, ..self }
    }

    /// The text as it was configured.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The line for a call, with the line break that the format has (JSON always ends in one).
    pub fn render(&self, call: &CallRecord) -> String {
        match &self.shape {
            Shape::Text(pieces) => text(pieces, call, if self.omit_empty { "" } else { "-" }),
            Shape::Json(template) => value(template, call).to_string() + "\n",
        }
    }
}

/// Cut a text at its operators: `%NAME%`, `%NAME(parameters)%`, `%NAME(parameters):LIMIT%`, `%%`.
fn pieces(text: &str) -> Result<Vec<Piece>, Refusal> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("%%") {
            literal.push('%');
            rest = after;
            continue;
        }
        let position = text.len() - from.len();
        let (operator, limit, after) = command(from)?.ok_or_else(|| {
            Refusal::rejected(format!("Incorrect configuration: {text}. Couldn't find valid command at position {position}"))
        })?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Operator { operator, limit });
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

type Command<'a> = (Operator, Option<usize>, &'a str);

/// One operator at the beginning of a text, and what follows it.
fn command(text: &str) -> Result<Option<Command<'_>>, Refusal> {
    let Some(inner) = text.strip_prefix('%') else { return Ok(None) };
    let end = inner.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(inner.len());
    let (name, mut rest) = inner.split_at(end);
    if name.is_empty() {
        return Ok(None);
    }
    let mut parameters = None;
    if let Some(open) = rest.strip_prefix('(') {
        // Parameters end at the first `)` after which the operator ends.
        let Some(close) = open.match_indices(')').map(|(at, _)| at).find(|at| open.get(at + 1..).is_some_and(ends)) else {
            return Ok(None);
        };
        parameters = open.get(..close);
        rest = open.get(close + 1..).unwrap_or_default();
    }
    let mut limit = None;
    if let Some(number) = rest.strip_prefix(':') {
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(digits);
        limit = digits.parse().ok();
        if limit.is_none() {
            return Ok(None);
        }
        rest = after;
    }
    let Some(after) = rest.strip_prefix('%') else { return Ok(None) };
    Ok(Some((Operator::new(name, parameters, limit)?, limit, after)))
}

fn ends(text: &str) -> bool {
    let limit = text.strip_prefix(':').map(|t| t.trim_start_matches(|c: char| c.is_ascii_digit()));
    limit.unwrap_or(text).starts_with('%')
}

fn template(format: &Value, depth: usize) -> Result<Template, Refusal> {
    if depth > DEPTH {
        return Err(Refusal::rejected("json format: too deep"));
    }
    Ok(match format {
        Value::String(text) => Template::Text(pieces(text)?),
        Value::Array(list) => Template::List(list.iter().map(|inner| template(inner, depth + 1)).collect::<Result<_, _>>()?),
        Value::Object(map) => Template::Object(
            map.iter().map(|(key, inner)| Ok((key.clone(), template(inner, depth + 1)?))).collect::<Result<Vec<_>, Refusal>>()?,
        ),
        other => Template::Value(other.clone()),
    })
}

fn cut(mut text: String, limit: Option<usize>) -> String {
    if let Some(end) = limit.filter(|limit| *limit < text.len()) {
        // Envoy cuts bytes; here the last whole character before is the end.
        let end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text
}

fn text(pieces: &[Piece], call: &CallRecord, missing: &str) -> String {
    let mut line = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => line.push_str(text),
            Piece::Operator { operator, limit } => match operator.evaluate(call) {
                None => line.push_str(missing),
                Some(found) => line.push_str(&cut(found.into_text(), *limit)),
            },
        }
    }
    line
}

/// A lone operator keeps its type; a mixture is text (`JsonFormatterImpl`). Keys are in order, as Envoy's are.
fn value(template: &Template, call: &CallRecord) -> Value {
    match template {
        Template::Value(value) => value.clone(),
        Template::List(list) => Value::Array(list.iter().map(|inner| value(inner, call)).collect()),
        Template::Object(entries) => {
            let sorted: std::collections::BTreeMap<_, _> = entries.iter().map(|(key, inner)| (key.clone(), value(inner, call))).collect();
            Value::Object(sorted.into_iter().collect::<Map<_, _>>())
        }
        Template::Text(pieces) => match pieces.as_slice() {
            [Piece::Operator { operator, limit }] => match operator.evaluate(call) {
                None => Value::Null,
                Some(Found::Text(text)) => Value::String(cut(text, *limit)),
                Some(Found::Number(number)) => Value::from(number),
                Some(Found::Json(value)) => value,
            },
            pieces => Value::String(text(pieces, call, "-")),
        },
    }
}
