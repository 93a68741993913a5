//! Envoy's matchers of strings, headers, values and metadata.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::headers::Headers;
use super::refusal::Refusal;

/// A pattern that must match the whole string, as Envoy's RE2 `FullMatch` does. Two are equal when their texts are.
#[derive(Debug, Clone)]
pub struct FullRegex {
    source: String,
    regex: Regex,
}

impl PartialEq for FullRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct StringMatcher {
    /// What it looks for.
    pub pattern: StringPattern,
    /// Whether case is ignored; not for regular expressions.
    pub ignore_case: bool,
}

/// The ways in which a string can match.
#[derive(Debug, Clone, PartialEq)]
pub enum StringPattern {
    /// Equal.
    Exact(String),
    /// Begins so.
    Prefix(String),
    /// Ends so.
    Suffix(String),
    /// Has this in it.
    Contains(String),
    /// Matches as a whole.
    Regex(FullRegex),
}

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatcher {
    /// The header's name.
    pub name: String,
    /// What its value must be.
    pub pattern: HeaderPattern,
    /// The result is turned around.
    pub invert: bool,
    /// A missing header is looked at as an empty one.
    pub treat_missing_as_empty: bool,
}

/// What a header's value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderPattern {
    /// There is such a header, or there is none.
    Present(bool),
    /// A whole number from the first up to, and not including, the second.
    Range(i64, i64),
    /// A string.
    String(StringMatcher),
}

/// `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryMatcher {
    /// The parameter.
    pub name: String,
    /// What its value must be; none: it is there.
    pub pattern: Option<StringMatcher>,
}

/// `envoy.type.matcher.v3.ValueMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatcher {
    /// `null`.
    Null,
    /// A number in a range, or equal.
    Range(f64, f64),
    /// This number.
    Number(f64),
    /// A string.
    String(StringMatcher),
    /// `true` or `false`.
    Bool(bool),
    /// There is a value, or there is none.
    Present(bool),
    /// One element of a list.
    OneOf(Box<ValueMatcher>),
    /// Any of these.
    Or(Vec<ValueMatcher>),
}

/// `envoy.type.matcher.v3.MetadataMatcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataMatcher {
    /// The filter whose metadata it is.
    pub filter: String,
    /// Keys, one within the other.
    pub path: Vec<String>,
    /// What is to be there.
    pub value: ValueMatcher,
    /// The result is turned around.
    pub invert: bool,
}

/// A pattern that may match anywhere in a string, with a replacement in RE2's form (`\1`): `RegexMatchAndSubstitute`.
#[derive(Debug, Clone)]
pub struct Substitution {
    source: String,
    regex: Regex,
    replacement: String,
    template: String,
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.template == other.template
    }
}

impl FullRegex {
    /// Read a pattern.
    ///
    /// # Errors
    /// The pattern is none.
    pub fn new(source: &str) -> Result<Self, Refusal> {
        Ok(Self { source: source.to_owned(), regex: compile(&format!("^(?:{source})$"))? })
    }

    /// Whether the whole string matches.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// RE2 bounds the size of a program (`re2.max_program_size`); what is larger is refused here as well.
fn compile(pattern: &str) -> Result<Regex, Refusal> {
    RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| Refusal::rejected(error.to_string()))
}

impl Substitution {
    /// Read a pattern and its replacement.
    ///
    /// # Errors
    /// The pattern is none.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, Refusal> {
        let mut template = String::new();
        let mut characters = replacement.chars();
        while let Some(character) = characters.next() {
            match (character, character == '\\') {
                ('$', _) => template.push_str("$$"),
                (_, true) => match characters.next() {
                    Some(digit) if digit.is_ascii_digit() => template.push_str(&format!("${{{digit}}}")),
                    Some(other) => template.push(other),
                    None => {}
                },
                _ => template.push(character),
            }
        }
        Ok(Self { source: pattern.to_owned(), regex: compile(pattern)?, replacement: replacement.to_owned(), template })
    }

    /// Replace all that is found (`RE2::GlobalReplace`).
    pub fn replace(&self, text: &str) -> String {
        self.regex.replace_all(text, self.template.as_str()).into_owned()
    }

    /// Pattern and replacement as they were written.
    pub fn source(&self) -> (&str, &str) {
        (&self.source, &self.replacement)
    }
}

impl StringMatcher {
    /// One that wants exactly this.
    pub fn exact(text: impl Into<String>) -> Self {
        Self { pattern: StringPattern::Exact(text.into()), ignore_case: false }
    }

    /// Whether a string matches.
    pub fn matches(&self, text: &str) -> bool {
        let fold = |s: &str| if self.ignore_case { s.to_ascii_lowercase() } else { s.to_owned() };
        match &self.pattern {
            StringPattern::Exact(wanted) => fold(text) == fold(wanted),
            StringPattern::Prefix(wanted) => fold(text).starts_with(&fold(wanted)),
            StringPattern::Suffix(wanted) => fold(text).ends_with(&fold(wanted)),
            StringPattern::Contains(wanted) => fold(text).contains(&fold(wanted)),
            StringPattern::Regex(pattern) => pattern.matches(text),
        }
    }
}

impl HeaderMatcher {
    /// Whether the headers match. A missing header matches nothing but `present_match`, not even when inverted, unless it
    /// is treated as empty (`HeaderUtility::HeaderDataBaseImpl`).
    pub fn matches(&self, headers: &Headers) -> bool {
        let value = headers.joined(&self.name);
        if let HeaderPattern::Present(wanted) = &self.pattern {
            return (value.is_some() == *wanted) != self.invert;
        }
        let Some(value) = value.or_else(|| self.treat_missing_as_empty.then(String::new)) else { return false };
        let found = match &self.pattern {
            HeaderPattern::Present(_) => true,
            HeaderPattern::Range(start, end) => value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number)),
            HeaderPattern::String(matcher) => matcher.matches(&value),
        };
        found != self.invert
    }
}

impl QueryMatcher {
    /// Whether the query of a path matches: the first value of the parameter counts, still percent-encoded
    /// (`ConfigUtility::QueryParameterMatcher`).
    pub fn matches(&self, path: &str) -> bool {
        match (query_parameter(path, &self.name), &self.pattern) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(value), Some(matcher)) => matcher.matches(value),
        }
    }
}

/// The first value of a parameter, as it stands in the path.
pub(crate) fn query_parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// A path without query and fragment (`PathUtil::removeQueryAndFragment`).
pub(crate) fn without_query(path: &str) -> &str {
    path.find(['?', '#']).and_then(|end| path.get(..end)).unwrap_or(path)
}

impl ValueMatcher {
    /// Whether a value matches; nothing is no value.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Present(wanted), found) => found.is_some() == *wanted,
            (Self::Or(matchers), found) => matchers.iter().any(|m| m.matches(found)),
            (_, None) => false,
            (Self::Null, Some(found)) => found.is_null(),
            (Self::Range(start, end), Some(found)) => found.as_f64().is_some_and(|number| (*start..*end).contains(&number)),
            (Self::Number(wanted), Some(found)) => found.as_f64() == Some(*wanted),
            (Self::String(matcher), Some(found)) => found.as_str().is_some_and(|text| matcher.matches(text)),
            (Self::Bool(wanted), Some(found)) => found.as_bool() == Some(*wanted),
            (Self::OneOf(matcher), Some(found)) => found.as_array().is_some_and(|list| list.iter().any(|v| matcher.matches(Some(v)))),
        }
    }
}

impl MetadataMatcher {
    /// Whether metadata matches.
    pub fn matches(&self, metadata: &BTreeMap<String, Value>) -> bool {
        let mut value = metadata.get(&self.filter);
        for key in &self.path {
            value = value.and_then(|v| v.get(key));
        }
        self.value.matches(value) != self.invert
    }
}
