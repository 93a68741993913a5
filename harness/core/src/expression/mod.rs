//! Expressions of CEL, the Common Expression Language, over one structure: what a scenario wants of an object or of an entry of
//! a proxy's configuration. The language and its functions are those of <https://github.com/google/cel-spec>, without times
//! and durations, with its extension for strings; Kubernetes uses it in definitions of resources and in admission policies.
//!
//! An expression is checked when a scenario is loaded: its syntax, its names, its size. When it is asked, what it may do is
//! bounded (`bound.rs`), and an answer other than `true` says what was read (`read.rs`).

mod bound;
mod read;

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, Value as CelValue};
use serde_json::Value;

use crate::outcome::clip;
use crate::scenario::closest;

/// The name under which an expression knows the structure.
pub const SUBJECT: &str = "object";
/// Longest expression, in bytes.
const LONGEST: usize = 2000;
/// Deepest tree of an expression: it is walked by recursion.
const DEEPEST: usize = 48;
/// Loops within loops.
const LOOPS: usize = 4;

/// Functions and operators that there are, beside those that the parser itself makes (`@in`, `_+_`, …).
const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "format",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "quote",
    "replace",
    "reverse",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "value",
];
/// Macros: the parser has replaced those that are written well.
const MACROS: &[&str] = &["all", "exists", "exists_one", "filter", "has", "map", "optMap", "optFlatMap"];
/// Names that stand for types and for families of functions.
const WORDS: &[&str] = &["bool", "bytes", "double", "int", "list", "map", "null_type", "optional", "string", "strings", "type", "uint"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // The extension declares names that the standard library has not, so it cannot clash; without it there are fewer functions.
    let _ = env.add_extension(cel::extensions::strings);
    Arc::new(env)
});

/// An expression that was checked.
#[derive(Clone)]
pub struct CelExpression {
    source: String,
    expr: Arc<IdedExpr>,
    /// The same with its loops counted.
    bounded: Arc<IdedExpr>,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CelError {
    /// The place in the text, in bytes.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
}

/// Why an expression does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CelMiss {
    /// `false`, or why it could not be answered.
    pub answer: String,
    /// What it read, and what is there: `object.spec.port is 80`.
    pub read: Vec<String>,
}

impl fmt::Display for CelMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)?;
        if self.read.is_empty() { Ok(()) } else { write!(f, ": {}", self.read.join("; ")) }
    }
}

impl fmt::Debug for CelExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CelExpression").field(&self.source).finish()
    }
}

impl PartialEq for CelExpression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl CelExpression {
    /// Reads a text.
    ///
    /// # Errors
    /// When it is not of the language, names what there is not, reads nothing of [`SUBJECT`], or is too large.
    pub fn parse(text: &str) -> Result<Self, CelError> {
        let whole = |message: &str, help: String| CelError { at: 0..text.len(), message: message.to_owned(), help };
        if text.len() > LONGEST {
            return Err(whole(
                "the expression is too long",
                format!("expected at most {LONGEST} bytes; several expressions can stand in a list"),
            ));
        }
        let parser = PrattParser::new().enable_optional_syntax(true).enable_ident_escape_syntax(true).max_recursion_depth(24);
        let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse(text)));
        let Ok(parsed) = parsed else { return Err(whole("the expression cannot be read", String::new())) };
        let expr = parsed
            .map_err(|errors| errors.errors.first().map_or_else(|| whole("not CEL", String::new()), |e| syntax(text, e.pos, &e.msg)))?;
        let mut seen = Seen { subject: false, wrong: None };
        look(&expr, &mut Vec::new(), (0, 0), &mut seen);
        if let Some((message, help)) = seen.wrong {
            let at = name_in(text, &message);
            return Err(CelError { at, message, help });
        }
        if !seen.subject {
            return Err(whole(
                "the expression reads nothing",
                format!("what it is about is called `{SUBJECT}`; without it the answer is always the same"),
            ));
        }
        let mut bounded = expr.clone();
        bound::bound(&mut bounded);
        Ok(Self { source: text.to_owned(), expr: Arc::new(expr), bounded: Arc::new(bounded) })
    }

    /// The text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is true of a structure.
    ///
    /// # Errors
    /// When it is not: false, no truth value, not to be answered (a field that is not there), or more than the bound allows.
    pub fn holds(&self, subject: &Value) -> Result<(), CelMiss> {
        // The interpreter is not ours: whatever a structure makes it do, a run goes on.
        catch_unwind(AssertUnwindSafe(|| self.ask(subject)))
            .unwrap_or_else(|_| Err(CelMiss { answer: "it could not be evaluated".to_owned(), read: Vec::new() }))
    }

    fn ask(&self, subject: &Value) -> Result<(), CelMiss> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        let lost = |what: &dyn fmt::Display| CelMiss { answer: format!("it could not be evaluated, {what}"), read: Vec::new() };
        bound::allow(&mut context).map_err(|e| lost(&e))?;
        context.add_variable_from_value(SUBJECT, cel_value(subject));
        let answer = match CelValue::resolve(&self.bounded, &context) {
            Ok(CelValue::Bool(true)) => return Ok(()),
            Ok(CelValue::Bool(false)) => "it is false".to_owned(),
            Ok(other) => format!("it is {}, which is neither true nor false", clip(&json(&other).to_string(), 120)),
            Err(ExecutionError::NoSuchKey(key)) => format!("there is no `{key}` (`has(…)` asks whether there is)"),
            Err(error) => format!("it has no answer, {}", clip(&error.to_string(), 200)),
        };
        Err(CelMiss { answer, read: read::read(&self.expr, &context) })
    }
}

struct Seen {
    subject: bool,
    wrong: Option<(String, String)>,
}

impl Seen {
    fn wrong(&mut self, message: String, help: String) {
        self.wrong.get_or_insert((message, help));
    }
}

/// Names that there are not, and sizes that are too large. `around`: how deep, and in how many loops.
fn look<'e>(expr: &'e IdedExpr, loops: &mut Vec<&'e str>, (depth, around): (usize, usize), seen: &mut Seen) {
    if depth > DEEPEST || around > LOOPS {
        return seen.wrong(
            "the expression goes too deep".to_owned(),
            format!("expected at most {LOOPS} loops within each other; several expressions can stand in a list"),
        );
    }
    let inner = (depth + 1, around);
    match &expr.expr {
        Expr::Ident(name) if name == SUBJECT => seen.subject = true,
        Expr::Ident(name) if name.starts_with('@') || loops.contains(&name.as_str()) || WORDS.contains(&name.as_str()) => {}
        Expr::Ident(name) => {
            let known = loops.iter().copied().filter(|l| !l.starts_with('@')).chain([SUBJECT]);
            let near = closest(name, known).unwrap_or(SUBJECT);
            seen.wrong(format!("there is no `{name}` in an expression"), format!("there is `{near}`"));
        }
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
                let help = match closest(name, FUNCTIONS.iter().chain(MACROS).copied()) {
                    Some(near) if near == name => format!("expected as in `{SUBJECT}.items.exists(i, i.name == 'a')`"),
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there is {}", FUNCTIONS.iter().chain(MACROS).map(|f| format!("`{f}`")).collect::<Vec<_>>().join(", ")),
                };
                seen.wrong(format!("there is no function `{name}`"), help);
            }
            call.target.iter().for_each(|target| look(target, loops, inner, seen));
            call.args.iter().for_each(|arg| look(arg, loops, inner, seen));
        }
        Expr::Comprehension(c) => {
            look(&c.iter_range, loops, inner, seen);
            loops.extend([c.iter_var.as_str(), c.accu_var.as_str()]);
            loops.extend(c.iter_var2.as_deref());
            for part in [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result] {
                look(part, loops, (depth + 1, around + 1), seen);
            }
            loops.truncate(loops.len() - 2 - usize::from(c.iter_var2.is_some()));
        }
        Expr::List(list) => list.elements.iter().for_each(|e| look(e, loops, inner, seen)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    look(&entry.key, loops, inner, seen);
                    look(&entry.value, loops, inner, seen);
                }
            }
        }
        Expr::Select(select) => look(&select.operand, loops, inner, seen),
        Expr::Struct(s) => seen.wrong(format!("there is no type `{}`", s.type_name), "expected a map such as `{'a': 1}`".to_owned()),
        Expr::Unspecified => seen.wrong("not CEL".to_owned(), String::new()),
        Expr::Literal(_) => {}
    }
}

/// Where the name that a message is about stands.
fn name_in(text: &str, message: &str) -> Range<usize> {
    let name = message.split('`').nth(1).unwrap_or_default();
    text.find(name).filter(|_| !name.is_empty()).map_or(0..text.len(), |at| at..at + name.len())
}

/// The parser's words, made readable; its lines and columns count from 1, and columns in bytes.
fn syntax(text: &str, (line, column): (isize, isize), message: &str) -> CelError {
    let begin: usize = text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    let at = (begin + usize::try_from(column - 1).unwrap_or(0)).min(text.len());
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    // The parser's own word for what is missing has no article.
    let message = &message.replace("expecting expression", "expecting an expression");
    let words = match message.strip_prefix("mismatched input ").and_then(|rest| rest.split_once(" expecting ")) {
        Some(("'<EOF>' " | "'<EOF>'" | "<EOF>", wanted)) => format!("it ends where {wanted} was expected"),
        Some((found, "<EOF>")) => format!("{found} is one too many"),
        Some((found, wanted)) => format!("{found} where {wanted} was expected"),
        None => message.to_owned(),
    };
    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    CelError {
        at: at..end,
        message: format!("not CEL: {words}"),
        help: "an expression such as `object.status.conditions.exists(c, c.type == 'Ready')`".to_owned(),
    }
}

/// Whole numbers are `int`, as they are in Kubernetes; only those above its range are `uint`.
fn cel_value(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(int), _) => CelValue::Int(int),
            (None, Some(uint)) => CelValue::UInt(uint),
            (None, None) => CelValue::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(cel_value).collect())),
        Value::Object(map) => {
            let map: std::collections::HashMap<String, CelValue> = map.iter().map(|(k, v)| (k.clone(), cel_value(v))).collect();
            CelValue::Map(map.into())
        }
    }
}

/// For people: what has no JSON is named.
fn json(value: &CelValue) -> Value {
    match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(b) => Value::Bool(*b),
        CelValue::Int(n) => (*n).into(),
        CelValue::UInt(n) => (*n).into(),
        CelValue::Float(n) => (*n).into(),
        CelValue::String(text) => Value::String(text.to_string()),
        CelValue::List(items) => items.iter().map(json).collect(),
        CelValue::Map(map) => Value::Object(map.map.iter().map(|(k, v)| (k.to_string(), json(v))).collect()),
        other => Value::String(format!("a value of the type {}", other.type_of())),
    }
}

#[cfg(test)]
mod tests;
