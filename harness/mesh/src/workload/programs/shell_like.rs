//! Patterns as old tools write them.

/// A basic regular expression as an extended one: `\(`, `\|`, `\+` mean what `(`, `|`, `+` mean there, and the other
/// way round (POSIX, "Regular Expressions").
pub(super) fn basic_to_extended(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) if "(){}|+?".contains(c) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push_str("\\\\"),
            },
            c if "(){}|+?".contains(c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
