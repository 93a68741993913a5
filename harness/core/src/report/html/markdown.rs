//! The small part of Markdown that scenarios and our own pages use, as HTML. Whatever is not understood is shown literally;
//! HTML in the text is text.

use std::fmt::Write as _;

use super::text::{block, escape};
use crate::report::text::{clean, url};

/// Deeper nesting is shown as plain text.
const DEPTH: usize = 6;

/// Markdown as HTML. Relative links lead to `base`, a path relative to the page that ends with `/`, or is empty.
pub(super) fn html(text: &str, base: &str) -> String {
    let text = clean(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    blocks(&mut out, &lines, base, 0);
    out
}

fn blocks(out: &mut String, lines: &[&str], base: &str, depth: usize) {
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        let indent = lines[at].len() - line.len();
        if line.is_empty() {
            at += 1;
        } else if let Some((mark, run)) = fence(line) {
            let end = (at + 1..lines.len()).find(|i| fence_ends(lines[*i], mark, run)).unwrap_or(lines.len());
            let inside: Vec<&str> = lines[at + 1..end].iter().map(|l| outdented(l, indent)).collect();
            out.push_str(&block(line[run..].trim(), &inside.join("\n")));
            at = end + 1;
        } else if let Some((level, title)) = heading(line) {
            let level = (level + 3).min(6);
            let _ = writeln!(out, "<h{level}>{}</h{level}>", inline(title, base, 0));
            at += 1;
        } else if is_rule(line) {
            out.push_str("<hr>\n");
            at += 1;
        } else if line.starts_with('|') && lines.get(at + 1).is_some_and(|l| is_divider(l)) {
            let end = (at + 2..lines.len()).find(|i| !lines[*i].trim_start().starts_with('|')).unwrap_or(lines.len());
            table(out, line, &lines[at + 2..end], base);
            at = end;
        } else if line.starts_with('>') && depth < DEPTH {
            let end = (at..lines.len()).find(|i| !lines[*i].trim_start().starts_with('>')).unwrap_or(lines.len());
            let inside: Vec<&str> = lines[at..end].iter().map(|l| unquoted(l)).collect();
            out.push_str("<blockquote>\n");
            blocks(out, &inside, base, depth + 1);
            out.push_str("</blockquote>\n");
            at = end;
        } else if item(line).is_some() && depth < DEPTH {
            at = list(out, lines, at, base, depth);
        } else {
            let end = (at + 1..lines.len()).find(|i| begins_another(lines, *i)).unwrap_or(lines.len());
            let text: Vec<&str> = lines[at..end].iter().map(|l| l.trim()).collect();
            let _ = writeln!(out, "<p>{}</p>", inline(&text.join(" "), base, 0));
            at = end;
        }
    }
}

/// Whether a line ends the paragraph before it.
fn begins_another(lines: &[&str], at: usize) -> bool {
    let line = lines[at].trim_start();
    line.is_empty() || fence(line).is_some() || heading(line).is_some() || item(line).is_some() || line.starts_with('>')
}

fn fence(line: &str) -> Option<(char, usize)> {
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let run = line.chars().take_while(|c| *c == mark).count();
    (run >= 3 && !(mark == '`' && line[run..].contains('`'))).then_some((mark, run))
}

fn fence_ends(line: &str, mark: char, run: usize) -> bool {
    let line = line.trim();
    line.chars().count() >= run && line.chars().all(|c| c == mark)
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|b| *b == b'#').count();
    ((1..=6).contains(&level) && line[level..].starts_with(' ')).then(|| (level, line[level..].trim()))
}

fn is_rule(line: &str) -> bool {
    let line = line.trim_end();
    line.len() >= 3 && ["-", "*", "_", "="].iter().any(|m| line.replace(' ', "").bytes().all(|b| b == m.as_bytes()[0]))
}

fn is_divider(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('|') && line.contains("---") && line.bytes().all(|b| b"|-: ".contains(&b))
}

fn unquoted(line: &str) -> &str {
    let line = line.trim_start().trim_start_matches('>');
    line.strip_prefix(' ').unwrap_or(line)
}

/// Without so many leading spaces, or all there are.
fn outdented(line: &str, indent: usize) -> &str {
    let spaces = line.len() - line.trim_start_matches(' ').len();
    &line[spaces.min(indent)..]
}

/// The text behind a list's mark, how wide the mark is, and whether it counts.
fn item(line: &str) -> Option<(&str, usize, bool)> {
    if let Some(rest) = ["- ", "* ", "+ "].iter().find_map(|m| line.strip_prefix(m)) {
        return Some((rest, 2, false));
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let rest = line[digits..].strip_prefix(". ").or_else(|| line[digits..].strip_prefix(") "))?;
    (1..=9).contains(&digits).then_some((rest, digits + 2, true))
}

/// A list from this line on; returns where it ends.
fn list(out: &mut String, lines: &[&str], from: usize, base: &str, depth: usize) -> usize {
    let indent_of = |line: &str| line.len() - line.trim_start().len();
    let indent = indent_of(lines[from]);
    let counts = item(lines[from].trim_start()).is_some_and(|(.., counts)| counts);
    let tag = if counts { "ol" } else { "ul" };
    let mut at = from;
    let _ = writeln!(out, "<{tag}>");
    while let Some((text, width, _)) = lines.get(at).filter(|l| indent_of(l) <= indent).and_then(|l| item(l.trim_start())) {
        let mut inside = vec![text];
        at += 1;
        while let Some(line) = lines.get(at) {
            let further = indent_of(line) > indent && !line.trim().is_empty();
            let lazy = !line.trim().is_empty() && !begins_another(lines, at);
            let blank_within = line.trim().is_empty() && lines.get(at + 1).is_some_and(|l| indent_of(l) > indent && !l.trim().is_empty());
            if !(further || lazy || blank_within) {
                break;
            }
            inside.push(outdented(line, indent + width));
            at += 1;
        }
        out.push_str("<li>");
        if let [one] = inside.as_slice() {
            out.push_str(&inline(one.trim(), base, 0));
        } else {
            blocks(out, &inside, base, depth + 1);
        }
        out.push_str("</li>\n");
    }
    let _ = writeln!(out, "</{tag}>");
    at
}

fn table(out: &mut String, head: &str, rows: &[&str], base: &str) {
    let row = |out: &mut String, tag: &str, line: &str| {
        out.push_str("<tr>");
        for cell in cells(line) {
            let _ = write!(out, "<{tag}>{}</{tag}>", inline(cell.trim(), base, 0));
        }
        out.push_str("</tr>\n");
    };
    out.push_str("<div class=\"wide\"><table><thead>");
    row(out, "th", head);
    out.push_str("</thead><tbody>\n");
    for line in rows {
        row(out, "td", line);
    }
    out.push_str("</tbody></table></div>\n");
}

/// Cells between pipes; an escaped pipe divides nothing.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line);
    let mut out = vec![String::new()];
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '|' if escaped => {
                // In a table the backslash before a pipe is the table's, also within code.
                let last = out.last_mut().map(|cell| cell.pop());
                debug_assert!(last.is_some());
                out.last_mut().into_iter().for_each(|cell| cell.push('|'));
            }
            '|' => out.push(String::new()),
            c => out.last_mut().into_iter().for_each(|cell| cell.push(c)),
        }
        escaped = c == '\\' && !escaped;
    }
    out
}

/// Text of one paragraph.
fn inline(text: &str, base: &str, depth: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let taken = match c {
            '\\' => after.chars().next().filter(char::is_ascii_punctuation).map(|next| {
                out.push_str(&escape(&next.to_string()));
                2
            }),
            '`' => code_span(&mut out, rest),
            '*' if depth < DEPTH => emphasis(&mut out, rest, base, depth),
            '[' if depth < DEPTH => link(&mut out, rest, base, depth),
            '&' => entity(rest).map(|(c, len)| {
                out.push_str(&escape(&c.to_string()));
                len
            }),
            '<' if rest.starts_with("<br>") => {
                out.push_str("<br>");
                Some("<br>".len())
            }
            _ => None,
        };
        match taken {
            Some(len) => rest = &rest[len..],
            None => {
                out.push_str(&escape(&c.to_string()));
                rest = after;
            }
        }
    }
    out
}

/// A code span at the start of the text; how long it is.
fn code_span(out: &mut String, text: &str) -> Option<usize> {
    let run = text.bytes().take_while(|b| *b == b'`').count();
    let marks = &text[..run];
    let mut at = run;
    loop {
        let found = at + text[at..].find(marks)?;
        let longer = text[found..].bytes().take_while(|b| *b == b'`').count();
        if longer == run {
            let code = &text[run..found];
            let _ = write!(out, "<code>{}</code>", escape(code.trim()));
            return Some(found + run);
        }
        at = found + longer;
    }
}

/// `**strong**` or `*emphasis*` at the start of the text.
fn emphasis(out: &mut String, text: &str, base: &str, depth: usize) -> Option<usize> {
    let (mark, tag) = if text.starts_with("**") { ("**", "strong") } else { ("*", "em") };
    let inside = &text[mark.len()..];
    let end = inside.match_indices(mark).map(|(i, _)| i).find(|i| !inside[..*i].ends_with('\\'))?;
    let text = &inside[..end];
    if text.is_empty() || text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return None;
    }
    let _ = write!(out, "<{tag}>{}</{tag}>", inline(text, base, depth + 1));
    Some(end + 2 * mark.len())
}

/// `[label](target)` at the start of the text. A target with a scheme other than HTTP leads nowhere.
fn link(out: &mut String, text: &str, base: &str, depth: usize) -> Option<usize> {
    let middle = text.find("](")?;
    let label = &text[1..middle];
    let target = &text[middle + 2..];
    let end = target.find(')')?;
    let target = &target[..end];
    if label.contains('[') || target.contains(char::is_whitespace) || target.is_empty() {
        return None;
    }
    let web = target.starts_with("https://") || target.starts_with("http://");
    let address = if web || target.starts_with('#') {
        target.to_owned()
    } else if target.contains(':') || target.starts_with('/') {
        return None;
    } else {
        format!("{}{target}", url(base))
    };
    let _ = write!(out, "<a href=\"{}\" rel=\"noreferrer\">{}</a>", escape(&address), inline(label, base, depth + 1));
    Some(middle + 2 + end + 1)
}

/// A character reference at the start of the text, and its length.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.char_indices().take(10).find(|(_, c)| *c == ';')?.0;
    let name = &text[1..end];
    let c = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        _ => name.strip_prefix('#')?.parse().ok().and_then(char::from_u32).filter(|c| !c.is_control())?,
    };
    Some((c, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_lists_and_code_are_those_of_markdown() {
        assert_eq!(html("a **b** `c<d`\ne", ""), "<p>a <strong>b</strong> <code>c&lt;d</code> e</p>\n");
        assert_eq!(html("- a\n- b\n  c\n\nd", ""), "<ul>\n<li>a</li>\n<li><p>b c</p>\n</li>\n</ul>\n<p>d</p>\n");
        assert_eq!(html("1. a\n2. b", ""), "<ol>\n<li>a</li>\n<li>b</li>\n</ol>\n");
        assert_eq!(
            html("# T\n```yaml\na: <b>\n```\n> q", ""),
            "<h4>T</h4>\n<pre><code>a: &lt;b&gt;</code></pre>\n<blockquote>\n<p>q</p>\n</blockquote>\n"
        );
        assert_eq!(
            html("| a | b |\n| --- | --- |\n| `x\\|y` | z<br>w |", ""),
            "<div class=\"wide\"><table><thead><tr><th>a</th><th>b</th></tr>\n</thead><tbody>\n<tr><td><code>x|y</code></td><td>z<br>w</td></tr>\n</tbody></table></div>\n"
        );
    }

    #[test]
    fn links_lead_to_files_and_to_the_web_and_nowhere_else() {
        assert_eq!(html("[g](gw.yaml)", "../s/x/"), "<p><a href=\"../s/x/gw.yaml\" rel=\"noreferrer\">g</a></p>\n");
        assert!(html("[g](https://a.b/c?d=\"e)", "").contains("href=\"https://a.b/c?d=&quot;e\""));
        for bad in ["[g](javascript:alert(1))", "[g](data:text/html,x)", "[g](//evil.example)", "[g](/etc)"] {
            assert!(!html(bad, "").contains("<a "), "{bad}");
        }
    }

    #[test]
    fn html_in_the_text_is_text_and_our_own_escapes_are_undone() {
        assert_eq!(html("<script>x</script>", ""), "<p>&lt;script&gt;x&lt;/script&gt;</p>\n");
        assert_eq!(html(r"a\*b &lt;c&gt; &#36;d \_e", ""), "<p>a*b &lt;c&gt; $d _e</p>\n");
    }

    #[test]
    fn a_fence_or_a_mark_that_is_left_open_ends_with_the_text() {
        assert_eq!(html("```\na", ""), "<pre><code>a</code></pre>\n");
        assert_eq!(html("**a `b [c](d", ""), "<p>**a `b [c](d</p>\n");
        let deep = "> ".repeat(500) + "x";
        assert!(html(&deep, "").contains('x'));
        let stars = "*".repeat(4000) + "a";
        assert!(html(&stars, "").contains('a'));
    }
}
