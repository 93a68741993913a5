//! Mistakes in files: where, what, and what was expected instead.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};

/// A file's name as shown to people, and its text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: Arc<str>,
    pub(super) text: Arc<str>,
}

/// One mistake in one place of one file.
#[derive(Clone)]
pub struct Mistake {
    /// The file, as a path that an editor can open.
    pub file: String,
    /// 1-based; 0 when the mistake is not in the text (a missing or unreadable file).
    pub line: usize,
    /// 1-based, in characters; 0 as with `line`.
    pub column: usize,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What would have been right, or how to get there.
    pub help: Option<String>,
    excerpt: Option<Excerpt>,
}

#[derive(Clone)]
struct Excerpt {
    /// Whole lines around the place.
    text: String,
    first_line: usize,
    at: Range<usize>,
}

impl Mistake {
    /// A mistake that has no place in a text.
    pub(super) fn of_file(file: impl Into<String>, message: impl Into<String>, help: Option<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, message: message.into(), help: help.filter(|h| !h.is_empty()), excerpt: None }
    }

    pub(super) fn at(source: &Source, at: Range<usize>, message: impl Into<String>, help: Option<String>) -> Self {
        let text = &*source.text;
        let boundary = |mut i: usize| {
            i = i.min(text.len());
            while !text.is_char_boundary(i) {
                i -= 1;
            }
            i
        };
        let start = boundary(at.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let end = boundary(at.end).clamp(start, line_end);
        let line = 1 + text[..start].matches('\n').count();
        let column = 1 + text[line_start..start].chars().count();
        // One line before and one after are enough to recognise the place.
        let window_start = text[..line_start].trim_end_matches('\n').rfind('\n').map_or(0, |i| i + 1).min(line_start);
        let window_end = text[line_end..].match_indices('\n').nth(1).map_or(text.len(), |(i, _)| line_end + i);
        let excerpt = Excerpt {
            text: text[window_start..window_end].to_owned(),
            first_line: 1 + text[..window_start].matches('\n').count(),
            at: start - window_start..end - window_start,
        };
        Self {
            file: source.file.to_string(),
            line,
            column,
            message: message.into(),
            help: help.filter(|h| !h.is_empty()),
            excerpt: Some(excerpt),
        }
    }

    /// Whether it says the same of the same place.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        (&self.file, self.line, self.column, &self.message, &self.help)
            == (&other.file, other.line, other.column, &other.message, &other.help)
    }

    /// For people: the message, an excerpt with the place underlined, and the help.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut group = Level::ERROR.primary_title(self.message.as_str()).elements(Vec::<annotate_snippets::Element<'_>>::new());
        group = match &self.excerpt {
            Some(excerpt) => group.element(
                Snippet::source(excerpt.text.as_str())
                    .line_start(excerpt.first_line)
                    .fold(false)
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(excerpt.at.clone())),
            ),
            None => group.element(annotate_snippets::Origin::path(self.file.as_str())),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }
}

impl fmt::Display for Mistake {
    /// One line: `file:line:column: message (help)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The candidate that a misspelt name was probably meant to be.
#[must_use]
pub fn closest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Of one or two letters every other name is near.
    let limit = name.chars().count() / 3;
    let near = |c: &&str| distance(&name.to_lowercase(), &c.to_lowercase());
    candidates.into_iter().map(|c| (near(&c), c)).filter(|(d, _)| *d <= limit).min().map(|(_, c)| c)
}

/// `did you mean …?`, or else the whole choice.
pub(super) fn suggest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> Option<String> {
    if let Some(near) = closest(name, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<_> = candidates.into_iter().map(|c| format!("`{c}`")).collect();
    (!all.is_empty()).then(|| format!("there is {}", all.join(", ")))
}

/// Insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        let keys = ["manifests", "variations", "checks"];
        assert_eq!(closest("manifest", keys), Some("manifests"));
        assert_eq!(closest("chekcs", keys), Some("checks"));
        assert_eq!(closest("colour", keys), None);
    }

    #[test]
    fn an_excerpt_at_any_offset_renders() {
        let source = Source { file: "f.yaml".into(), text: "a: é\n\n\tb\u{0}: \u{1F600}\r\n\n".into() };
        for start in 0..source.text.len() + 3 {
            for end in start..source.text.len() + 3 {
                let _ = Mistake::at(&source, start..end, "wrong", Some("help".to_owned())).render(true);
            }
        }
    }
}
