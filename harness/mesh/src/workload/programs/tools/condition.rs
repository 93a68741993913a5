//! `test` and `[`.

use super::super::{Container, Streams};
use super::complain;

/// `test`: 0 for true, 1 for false, 2 for what it does not know.
pub(super) fn test(container: &Container, name: &str, args: &[String], streams: &Streams) -> i32 {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let words = match (name, words.split_last()) {
        ("[", Some((&"]", rest))) => rest,
        ("[", _) => return complain(streams, 2, "sh: [: missing ]"),
        _ => words.as_slice(),
    };
    match expression(container, words) {
        Some(truth) => i32::from(!truth),
        None => complain(streams, 2, &format!("sh: {}: unknown operand", words.join(" "))),
    }
}

fn expression(container: &Container, words: &[&str]) -> Option<bool> {
    if let Some(at) = words.iter().position(|w| *w == "-o") {
        return Some(expression(container, words.get(..at)?)? || expression(container, words.get(at + 1..)?)?);
    }
    if let Some(at) = words.iter().position(|w| *w == "-a") {
        return Some(expression(container, words.get(..at)?)? && expression(container, words.get(at + 1..)?)?);
    }
    let files = &container.files;
    match words {
        [] => Some(false),
        ["!", rest @ ..] => expression(container, rest).map(|truth| !truth),
        [text] => Some(!text.is_empty()),
        [operator, operand] => Some(match *operator {
            "-n" => !operand.is_empty(),
            "-z" => operand.is_empty(),
            "-e" | "-r" | "-w" => files.read(operand).is_ok() || files.is_directory(operand),
            "-f" => files.read(operand).is_ok(),
            "-d" => files.is_directory(operand),
            "-s" => files.read(operand).is_ok_and(|data| !data.is_empty()),
            "-x" => super::program(container, operand).is_some() || files.is_directory(operand),
            "-L" | "-h" | "-p" | "-S" | "-t" => false,
            _ => return None,
        }),
        [a, operator, b] => {
            let numbers = || Some((a.trim().parse::<i64>().ok()?, b.trim().parse::<i64>().ok()?));
            Some(match *operator {
                "=" | "==" => a == b,
                "!=" => a != b,
                "-eq" => numbers().map(|(a, b)| a == b)?,
                "-ne" => numbers().map(|(a, b)| a != b)?,
                "-lt" => numbers().map(|(a, b)| a < b)?,
                "-le" => numbers().map(|(a, b)| a <= b)?,
                "-gt" => numbers().map(|(a, b)| a > b)?,
                "-ge" => numbers().map(|(a, b)| a >= b)?,
                _ => return None,
            })
        }
        _ => None,
    }
}
