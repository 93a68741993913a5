//! `$((…))`: whole numbers (POSIX, "Arithmetic Expansion").

use std::iter::Peekable;
use std::str::Chars;

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    variable: &'a dyn Fn(&str) -> String,
    depth: usize,
}

/// Operators by how tightly they bind, loosest first.
const LEVELS: &[&[&str]] = &[&["||"], &["&&"], &["==", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

/// The value of an expression.
pub(super) fn evaluate(text: &str, variable: &dyn Fn(&str) -> String) -> Result<i64, String> {
    let mut reader = Reader { chars: text.chars().peekable(), variable, depth: 0 };
    let value = reader.level(0)?;
    reader.blanks();
    match reader.chars.next() {
        None => Ok(value),
        Some(_) => Err(format!("arithmetic syntax error: {text}")),
    }
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while self.chars.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn operator(&mut self, level: &[&'static str]) -> Option<&'static str> {
        self.blanks();
        let rest: String = self.chars.clone().take(2).collect();
        // `<` is not the beginning of `<=`.
        let all = LEVELS.iter().flat_map(|l| l.iter()).filter(|o| rest.starts_with(**o)).max_by_key(|o| o.len())?;
        let found = level.iter().find(|o| *o == all)?;
        for _ in 0..found.len() {
            self.chars.next();
        }
        Some(found)
    }

    fn level(&mut self, at: usize) -> Result<i64, String> {
        let Some(level) = LEVELS.get(at) else { return self.unary() };
        let mut left = self.level(at + 1)?;
        while let Some(operator) = self.operator(level) {
            let right = self.level(at + 1)?;
            let truth = |b: bool| i64::from(b);
            left = match operator {
                "||" => truth(left != 0 || right != 0),
                "&&" => truth(left != 0 && right != 0),
                "==" => truth(left == right),
                "!=" => truth(left != right),
                "<=" => truth(left <= right),
                ">=" => truth(left >= right),
                "<" => truth(left < right),
                ">" => truth(left > right),
                "+" => left.wrapping_add(right),
                "-" => left.wrapping_sub(right),
                "*" => left.wrapping_mul(right),
                _ if right == 0 => return Err("divide by zero".to_owned()),
                "/" => left.wrapping_div(right),
                _ => left.wrapping_rem(right),
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.depth += 1;
        if self.depth > 100 {
            return Err("arithmetic syntax error: nested too deep".to_owned());
        }
        self.blanks();
        let value = match self.chars.peek().copied() {
            Some('-') => {
                self.chars.next();
                self.unary()?.wrapping_neg()
            }
            Some('+') => {
                self.chars.next();
                self.unary()?
            }
            Some('!') => {
                self.chars.next();
                i64::from(self.unary()? == 0)
            }
            Some('(') => {
                self.chars.next();
                let value = self.level(0)?;
                self.blanks();
                if self.chars.next() != Some(')') {
                    return Err("arithmetic syntax error: missing )".to_owned());
                }
                value
            }
            _ => {
                self.chars.next_if_eq(&'$');
                let mut word = String::new();
                while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                if word.starts_with(|c: char| c.is_ascii_digit()) {
                    word.parse().map_err(|_| format!("arithmetic syntax error: {word}"))?
                } else if word.is_empty() {
                    return Err("arithmetic syntax error".to_owned());
                } else {
                    let text = (self.variable)(&word);
                    if text.is_empty() { 0 } else { text.trim().parse().map_err(|_| format!("Illegal number: {text}"))? }
                }
            }
        };
        self.depth -= 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reckoned() {
        let variable = |name: &str| if name == "i" { "7".to_owned() } else { String::new() };
        for (text, value) in [("1 + 2*3", 7), ("(1+2)*3", 9), ("i % 4 == 3", 1), ("$i<=6", 0), ("-i - unset", -7), ("!0 && 2 > 1", 1)] {
            assert_eq!(evaluate(text, &variable), Ok(value), "{text}");
        }
        for text in ["1/0", "1 +", "a b", "", "((1)"] {
            assert!(evaluate(text, &variable).is_err(), "{text}");
        }
    }
}
