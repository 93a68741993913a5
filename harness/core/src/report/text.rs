//! The gate between a record's texts and a page: secrets out, control characters out, then escaped for the place.

use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use super::redaction::{is_suspect, scrub};

static ANSI: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used)]
    Regex::new(r"\x1b\[[0-9;?]*[A-Za-z]").expect("a constant pattern")
});

/// The characters that [`clean`] replaces or leaves out.
static ODD: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used)]
    Regex::new(r"[\x00-\x08\x0b-\x1f\x7f-\u{9f}\u{2028}\u{2029}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{feff}\u{fffe}\u{ffff}]")
        .expect("a constant pattern")
});

/// Without secrets, terminal colours, control characters and marks that turn the reading direction; line ends are `\n`.
pub(super) fn clean(text: &str) -> String {
    // Nearly every text: a report has some hundred thousand.
    if !is_suspect(text) && !ODD.is_match(text) {
        return text.to_owned();
    }
    cleaned(text)
}

fn cleaned(text: &str) -> String {
    let text = scrub(&text.replace("\r\n", "\n"));
    let text = ANSI.replace_all(&text, "");
    text.chars()
        .filter_map(|c| match c {
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
            '\n' | '\t' => Some(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => None,
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect()
}

/// Lines of one field, cleaned together: a PEM block may span them.
pub(super) fn joined(lines: &[String]) -> String {
    clean(&lines.join("\n"))
}

/// One line of plain text, for terminals and file formats that escape by themselves.
pub(super) fn plain(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines after the first set in, so that a text of several lines stays one item in a terminal.
pub(super) fn hanging(text: &str, indent: usize) -> String {
    clean(text).trim().replace('\n', &format!("\n{}", " ".repeat(indent)))
}

/// At most so many characters, with `…` where it was cut.
pub(super) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

/// Where a piece of Markdown stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Page,
    Cell,
}

/// A sentence on one line: backticked code stays code, everything else is literal.
pub(super) fn prose(text: &str) -> String {
    line(&plain(text), Place::Page)
}

/// Escapes one line whose text is already clean.
fn line(text: &str, place: Place) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(open) = rest.find('`') {
        let after = &rest[open + 1..];
        match after.find('`') {
            Some(close) if close > 0 && !after[..close].trim().is_empty() && !after[close + 1..].starts_with('`') => {
                literal(&mut out, &rest[..open]);
                out.push_str(&code_span(&after[..close], place));
                rest = &after[close + 1..];
            }
            _ => {
                literal(&mut out, &rest[..open]);
                let run = rest[open..].len() - rest[open..].trim_start_matches('`').len();
                out.push_str(&"\\`".repeat(run));
                rest = &rest[open + run..];
            }
        }
    }
    literal(&mut out, rest);
    if place == Place::Page {
        // What would begin a list, a heading or a rule at the start of a line.
        let digits = out.bytes().take_while(u8::is_ascii_digit).count();
        let after = &out[digits..];
        if out.starts_with(['-', '+', '#', '=']) {
            out.insert(0, '\\');
        } else if digits > 0 && after.starts_with(['.', ')']) && (after.len() == 1 || after[1..].starts_with(' ')) {
            out.insert(digits, '\\');
        }
    }
    out
}

/// Appends text so that Markdown shows it as it is.
fn literal(out: &mut String, text: &str) {
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let inside_word = before.is_alphanumeric() && chars.peek().is_some_and(|n| n.is_alphanumeric());
        match c {
            '_' if inside_word => out.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '$' => out.push_str("&#36;"),
            c => out.push(c),
        }
        before = c;
    }
}

/// A code span. In a table a pipe is written `\|`, which GitHub's tables turn back; a text that
/// backticks cannot hold there becomes a `<code>` element.
fn code_span(text: &str, place: Place) -> String {
    let needs_element = text.contains('`') || text.starts_with(' ') || text.ends_with(' ') || (place == Place::Cell && text.contains('\\'));
    if needs_element {
        return format!("<code>{}</code>", entities(text));
    }
    match place {
        Place::Page => format!("`{text}`"),
        Place::Cell => format!("`{}`", text.replace('|', "\\|")),
    }
}

/// Every character that means something to Markdown or HTML, as an entity.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' | '$' | '@' | '!' | '#' | ':' => {
                let _ = write!(out, "&#{};", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// Text inside an HTML element such as `<summary>`, on one line.
pub(super) fn html(text: &str) -> String {
    entities(&plain(text))
}

/// One line for a code span.
fn code_line(text: &str) -> String {
    clean(text).trim().replace(['\n', '\t'], " ")
}

/// A code span outside tables.
pub(super) fn code(text: &str) -> String {
    let text = code_line(text);
    if text.is_empty() { String::new() } else { code_span(&text, Place::Page) }
}

/// A fenced block, closed by a longer fence than any in the text. Ends with a newline.
pub(super) fn fence(language: &str, text: &str) -> String {
    let text = clean(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let known = language.len() <= 16 && language.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b));
    let language = if known { language } else { "text" };
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}

/// A link. The target is percent-encoded where Markdown or a URL needs it.
pub(super) fn link(label: &str, target: &str) -> String {
    format!("[{}]({})", code(label), url(target))
}

/// A relative URL of a path.
pub(super) fn url(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in clean(path).bytes() {
        if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// A YAML scalar on one line, quoted unless it is plainly a word.
pub(super) fn yaml(text: &str) -> String {
    let text = plain(text);
    let word = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if word && !reserved { text } else { serde_json::Value::String(text).to_string() }
}

/// A table cell whose text is already fit to stand between two pipes.
pub(super) struct Cell(String);

impl Cell {
    /// Our own words, without pipes or line ends.
    pub(super) fn ours(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A sentence; its lines are kept apart.
    pub(super) fn prose(text: &str) -> Self {
        Self(clean(text).trim().lines().map(|l| line(l.trim(), Place::Cell)).collect::<Vec<_>>().join("<br>"))
    }

    /// Lines, at most so many and so long; `more` is added where something was left out.
    pub(super) fn lines(lines: &[String], more: &str) -> Self {
        let text = joined(lines);
        let all: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let cut = all.len() > 8 || all.iter().any(|l| l.chars().count() > 200);
        let mut shown: Vec<String> = all.iter().take(8).map(|l| line(&shorten(l, 200), Place::Cell)).collect();
        if cut {
            shown.push(more.to_owned());
        }
        Self(shown.join("<br>"))
    }

    /// A code span.
    pub(super) fn code(text: &str) -> Self {
        let text = code_line(text);
        Self(if text.is_empty() { String::new() } else { code_span(&text, Place::Cell) })
    }

    /// Both, one below the other.
    pub(super) fn below(self, other: Cell) -> Self {
        match (self.0.is_empty(), other.0.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self(format!("{}<br>{}", self.0, other.0)),
        }
    }
}

/// A table with a fixed number of columns.
pub(super) struct Table<const N: usize> {
    out: String,
    rows: usize,
}

impl<const N: usize> Table<N> {
    /// With these headings.
    pub(super) fn new(head: [&str; N]) -> Self {
        Self { out: format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(N)), rows: 0 }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.out.push('|');
        for cell in cells {
            let _ = write!(self.out, " {} |", if cell.0.is_empty() { "–" } else { &cell.0 });
        }
        self.out.push('\n');
        self.rows += 1;
    }

    /// The Markdown; empty when there is no row.
    pub(super) fn finish(self) -> String {
        if self.rows == 0 { String::new() } else { self.out }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_looks_clean_at_first_sight_is(
            text in "(\\PC|\\p{C}|\\p{Cc}|[\n\r\t\u{7f}\u{80}\u{85}\u{9f}\u{a0}\u{2027}-\u{202f}\u{2065}-\u{206a}\u{feff}\u{fffd}]|\u{1b}\\[1m|Bearer |eyJ|[ -~]){0,20}"
        ) {
            prop_assert_eq!(clean(&text), cleaned(&text));
        }
    }

    #[test]
    fn each_character_is_judged_alike_at_first_sight() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            assert_eq!(clean(&text), cleaned(&text), "{}", c.escape_unicode());
        }
    }

    #[test]
    fn code_in_a_table_escapes_the_pipe_and_outside_does_not() {
        assert_eq!(Cell::code("outbound|443||httpbin.org").0, r"`outbound\|443\|\|httpbin.org`");
        assert_eq!(code("outbound|443||httpbin.org"), "`outbound|443||httpbin.org`");
        assert_eq!(Cell::code(r"grep a\|b").0, "<code>grep a&#92;&#124;b</code>");
    }

    #[test]
    fn sentences_keep_their_code_and_nothing_else() {
        assert_eq!(prose("the /* route of `a*b` wins <b>"), r"the /\* route of `a*b` wins &lt;b&gt;");
        assert_eq!(prose("an odd ` one"), r"an odd \` one");
        assert_eq!(prose("1. is no list, a_b is no emphasis"), r"1\. is no list, a_b is no emphasis");
        assert_eq!(Cell::prose("a|b\nc").0, r"a\|b<br>c");
    }

    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        assert_eq!(fence("js `on", "a\n````\nb"), "`````text\na\n````\nb\n`````\n");
    }
}
