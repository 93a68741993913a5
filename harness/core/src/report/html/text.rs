//! The gate between a record's texts and an HTML page: secrets out, control characters out, then escaped.
//!
//! What these functions return is HTML. Nothing else may put a text of the record into the page.

use std::fmt::Write as _;

use crate::report::text::{clean, joined, plain};

/// Escapes text that is clean already; fit for an element's content and for an attribute between double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// One line, literally.
pub(super) fn line(text: &str) -> String {
    escape(&plain(text))
}

/// One line, in which backticked parts are code.
pub(super) fn prose(text: &str) -> String {
    ticked(&plain(text))
}

/// Clean text with backticks → code elements; an odd backtick stays one.
fn ticked(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        match after.split_once('`') {
            Some((code, behind)) if !code.trim().is_empty() => {
                let _ = write!(out, "{}<code>{}</code>", escape(before), escape(code));
                rest = behind;
            }
            _ => {
                let _ = write!(out, "{}`", escape(before));
                rest = after;
            }
        }
    }
    out.push_str(&escape(rest));
    out
}

/// A code element on one line; nothing for an empty text.
pub(super) fn code(text: &str) -> String {
    let text = clean(text).trim().replace(['\n', '\t'], " ");
    if text.is_empty() { String::new() } else { format!("<code>{}</code>", escape(&text)) }
}

/// A block of literal text. A difference has its lines marked.
pub(super) fn block(language: &str, text: &str) -> String {
    let text = clean(text);
    let text = text.trim_end_matches('\n');
    if language != "diff" {
        return format!("<pre><code>{}</code></pre>\n", escape(text));
    }
    let mut out = String::from("<pre class=\"diff\"><code>");
    for line in text.lines() {
        let class = match line.as_bytes().first() {
            Some(b'+') => "plus",
            Some(b'-') => "minus",
            Some(b'@') => "place",
            _ => "same",
        };
        let _ = writeln!(out, "<span class=\"{class}\">{}</span>", escape(line));
    }
    out.push_str("</code></pre>\n");
    out
}

/// Lines of one field as a list; cleaned together, for a secret may span them.
pub(super) fn list(lines: &[String]) -> String {
    let text = joined(lines);
    let items: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| format!("<li>{}</li>", ticked(l))).collect();
    if items.is_empty() { "<p class=\"muted\">nothing</p>\n".to_owned() } else { format!("<ul class=\"lines\">{}</ul>\n", items.concat()) }
}

/// A folded part.
pub(super) fn folded(summary: &str, body: &str) -> String {
    if body.trim().is_empty() { String::new() } else { format!("<details class=\"fold\"><summary>{summary}</summary>\n{body}</details>\n") }
}

/// A table with these headings; empty without a row. Cells are HTML already.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let cells = |tag: &str, cells: &[String]| cells.iter().map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
    let rows: Vec<String> = rows.into_iter().map(|row| format!("<tr>{}</tr>\n", cells("td", &row))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = cells("th", &head.map(str::to_owned));
    format!("<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>\n{}</tbody></table></div>\n", rows.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_escaped_and_only_code_is_marked_up() {
        assert_eq!(prose("a `b<c` & \"d\""), "a <code>b&lt;c</code> &amp; &quot;d&quot;");
        assert_eq!(prose("an odd ` <i>"), "an odd ` &lt;i&gt;");
        assert_eq!(
            block("diff", "-a\n+<b>"),
            "<pre class=\"diff\"><code><span class=\"minus\">-a</span>\n<span class=\"plus\">+&lt;b&gt;</span>\n</code></pre>\n"
        );
        assert_eq!(table(["a"], Vec::<[String; 1]>::new()), "");
    }
}
