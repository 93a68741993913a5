//! How much an expression may do. CEL has no endless loops, but loops within loops over a large structure, or a text that is
//! doubled again and again, come to the same. So each round of a loop and each value that is put together is paid for.
//!
//! The interpreter has no such bound. It evaluates a tree, so the tree is changed before: within a loop what is evaluated
//! becomes `@round() ? … : false`, and what puts values together becomes `@made(…)`, two functions that only count. The shapes
//! by which the interpreter knows its loops (`@result && …`, `@result + […]`) stay as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::CelBool;
use cel::{Context, DeclarationError, ExecutionError, Value};

/// Rounds, and parts of values that are put together.
const MOST: usize = 200_000;
/// A round may be a long one: the clock is looked at, too.
const LONGEST: Duration = Duration::from_secs(3);

/// Functions whose answer may be larger than what they are given. All others choose, compare or cut.
const GROWING: &[&str] = &["bytes", "format", "join", "quote", "replace", "split", "string"];

/// Bytes of a text that is put together. It is paid for when it is there, and the next step may multiply it by itself.
const LONGEST_TEXT: usize = 16 * 1024;

const ROUND: &str = "@round";
const MADE: &str = "@made";

/// Makes a tree count what it does.
pub(super) fn bound(expr: &mut IdedExpr) {
    match &mut expr.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| bound(target));
            call.args.iter_mut().for_each(bound);
            if call.func_name == operators::ADD || GROWING.contains(&call.func_name.as_str()) {
                wrap(expr, |inner| call_of(MADE, vec![inner]));
            }
        }
        Expr::List(list) => {
            list.elements.iter_mut().for_each(bound);
            wrap(expr, |inner| call_of(MADE, vec![inner]));
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    bound(&mut entry.key);
                    bound(&mut entry.value);
                }
            }
            wrap(expr, |inner| call_of(MADE, vec![inner]));
        }
        Expr::Select(select) => bound(&mut select.operand),
        Expr::Comprehension(c) => {
            bound(&mut c.iter_range);
            step(&mut c.loop_step);
            bound(&mut c.result);
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => {}
    }
}

/// The step of a loop: what is the author's is bounded and paid for, what is the loop's own keeps its shape.
fn step(expr: &mut IdedExpr) {
    let Expr::Call(call) = &mut expr.expr else { return round(expr) };
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [own, theirs]) if is_own(own) => round(theirs),
        (operators::ADD, [own, list]) if is_own(own) => append(list),
        (operators::CONDITIONAL, [theirs, step, own]) if is_own(own) => {
            round(theirs);
            if let Expr::Call(call) = &mut step.expr
                && let (operators::ADD, [own, list]) = (call.func_name.as_str(), call.args.as_mut_slice())
                && is_own(own)
            {
                append(list);
            }
        }
        _ => round(expr),
    }
}

fn append(list: &mut IdedExpr) {
    match &mut list.expr {
        Expr::List(list) => list.elements.iter_mut().for_each(round),
        // `+ 1`, where a loop counts.
        Expr::Literal(_) => {}
        _ => round(list),
    }
}

fn is_own(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::Ident(name) if name.starts_with('@'))
}

fn round(expr: &mut IdedExpr) {
    bound(expr);
    wrap(expr, |inner| {
        let no = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Boolean(CelBool::from(false))) };
        call_of(operators::CONDITIONAL, vec![IdedExpr { id: 0, expr: call_of(ROUND, Vec::new()) }, inner, no])
    });
}

fn call_of(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

fn wrap(expr: &mut IdedExpr, around: impl FnOnce(IdedExpr) -> Expr) {
    let inner = std::mem::take(expr);
    *expr = IdedExpr { id: inner.id, expr: around(inner) };
}

/// Gives a context the functions that count.
pub(super) fn allow(context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
    let spent = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + LONGEST;
    let too_much = |function: &str| ExecutionError::function_error(function, "it does too much: narrow down what it goes through");
    let paid = Arc::clone(&spent);
    context.add_function(ROUND, move || -> Result<Value, ExecutionError> {
        let rounds = paid.fetch_add(1, Ordering::Relaxed);
        if rounds > MOST || Instant::now() > until { Err(too_much("loop")) } else { Ok(Value::Bool(true)) }
    })?;
    context.add_function(MADE, move |value: Value| -> Result<Value, ExecutionError> {
        pay(&value, &spent);
        let long = matches!(&value, Value::String(text) if text.len() > LONGEST_TEXT);
        if long || spent.load(Ordering::Relaxed) > MOST || Instant::now() > until { Err(too_much("value")) } else { Ok(value) }
    })
}

/// Counts the parts of a value, no further than they may be paid for.
fn pay(value: &Value, spent: &AtomicUsize) {
    let size = match value {
        Value::String(text) => 1 + text.len() / 64,
        Value::Bytes(bytes) => 1 + bytes.len() / 64,
        _ => 1,
    };
    if spent.fetch_add(size, Ordering::Relaxed) > MOST {
        return;
    }
    match value {
        Value::List(items) => items.iter().for_each(|item| pay(item, spent)),
        Value::Map(map) => map.map.values().for_each(|item| pay(item, spent)),
        _ => {}
    }
}
