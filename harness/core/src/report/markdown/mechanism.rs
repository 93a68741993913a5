//! A scenario's own Markdown, made safe to stand inside a larger page.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::report::text::{clean, url};

static LINK: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used)]
    Regex::new(r"\]\(([^)\s#:/][^)\s:]*)\)").expect("a constant pattern")
});

/// A fence right behind a list's or a quote's mark: where it ends depends on more than its own line.
static FENCE_IN_CONTAINER: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used)]
    Regex::new(r"^(\s*(?:(?:[-*+>]|\d+[.)])\s*)+)(```|~~~)").expect("a constant pattern")
});

/// An open fence: its mark, its length, its indentation.
#[derive(Clone, Copy)]
struct Fence(char, usize, usize);

/// The text with its headings below `level`, its relative links led from the report to the scenario's
/// folder, no HTML, and no fence left open.
pub(in crate::report) fn embed(text: &str, level: usize, folder: &str) -> String {
    let text = clean(text);
    let text = text.trim();
    // Code spans keep their `<` only where every span begins and ends on one line with one backtick.
    let plain_spans = text.lines().all(|l| l.contains("```") || (l.matches('`').count() % 2 == 0 && !l.contains("``")));
    let mut out = String::with_capacity(text.len() + 32);
    let mut open: Option<Fence> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let mark = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'));
        let run = mark.map_or(0, |m| trimmed.chars().take_while(|c| *c == m).count());
        match (open, mark) {
            (None, Some(m)) if run >= 3 && !(m == '`' && trimmed[run..].contains('`')) => {
                open = Some(Fence(m, run, indent));
                out.push_str(line);
            }
            (None, _) => out.push_str(&outside(line, level, folder, plain_spans)),
            (Some(Fence(m, n, wanted)), found) => {
                // A line that stands further out would end the list that holds the fence.
                out.push_str(&" ".repeat(wanted.saturating_sub(indent)));
                out.push_str(line);
                if found == Some(m) && run >= n && trimmed[run..].trim().is_empty() {
                    open = None;
                }
            }
        }
        out.push('\n');
    }
    if let Some(Fence(mark, run, indent)) = open {
        out.push_str(&" ".repeat(indent));
        out.extend(std::iter::repeat_n(mark, run));
        out.push('\n');
    }
    out
}

/// A line outside fences.
fn outside(line: &str, level: usize, folder: &str, plain_spans: bool) -> String {
    let trimmed = line.trim();
    // `---` or `===` below a sentence would make it a heading of the page.
    if !trimmed.is_empty() && (trimmed.bytes().all(|b| b == b'=') || trimmed.bytes().all(|b| b == b'-')) {
        return "\n* * *\n".to_owned();
    }
    let hashes = trimmed.bytes().take_while(|b| *b == b'#').count();
    let line = if (1..=6).contains(&hashes) && trimmed[hashes..].starts_with([' ', '\t']) {
        format!("{} {}", "#".repeat((level + hashes).min(6)), trimmed[hashes..].trim())
    } else {
        FENCE_IN_CONTAINER.replace(line, r"$1\$2").into_owned()
    };
    let line = LINK.replace_all(&line, |found: &Captures<'_>| format!("](../{}/{})", url(folder), &found[1]));
    // An HTML element left open would swallow the rest of the page.
    let escape = |(i, part): (usize, &str)| if i % 2 == 1 && plain_spans { part.to_owned() } else { part.replace('<', "&lt;") };
    line.split('`').enumerate().map(escape).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::embed;

    #[test]
    fn nothing_of_it_reaches_beyond_its_place() {
        assert_eq!(embed("# A\ntext <details>\n```yaml\n# kept", 3, "s/x"), "#### A\ntext &lt;details>\n```yaml\n# kept\n```\n");
        assert_eq!(embed("see [it](gw.yaml) and [web](https://x.y)", 3, "s/x"), "see [it](../s/x/gw.yaml) and [web](https://x.y)\n");
        assert_eq!(embed("`a<b>` c<d", 3, "s"), "`a<b>` c&lt;d\n");
        assert_eq!(embed("an odd ` <b>\n` <i>`", 3, "s"), "an odd ` &lt;b>\n` &lt;i>`\n");
        assert_eq!(embed("- x\n  ```\na", 3, "s"), "- x\n  ```\n  a\n  ```\n");
    }
}
