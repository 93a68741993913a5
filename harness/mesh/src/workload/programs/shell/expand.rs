//! What words stand for (POSIX, "Word Expansions").

use super::super::Streams;
use super::super::streams::pipe;
use super::arithmetic::evaluate;
use super::syntax::{Part, Word};
use super::{Flow, Shell};

/// A piece of a word: whether it was quoted, so that it is neither split nor a pattern.
struct Piece {
    text: String,
    quoted: bool,
    /// Splits at blanks: the outcome of an expansion that was not quoted.
    splits: bool,
}

/// Why a word stands for nothing.
pub(super) struct Broken(pub(super) String);

impl Shell {
    /// A variable's value; None when it is not set.
    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.status.to_string()),
            "$" => Some("1".to_owned()),
            "!" => self.last_background.map(|id| id.to_string()),
            "#" => Some(self.positional.len().to_string()),
            "@" | "*" => (!self.positional.is_empty()).then(|| self.positional.join(" ")),
            "0" => Some(self.name.clone()),
            "-" => Some(String::new()),
            number if number.bytes().all(|b| b.is_ascii_digit()) => {
                let at = number.parse::<usize>().ok()?.checked_sub(1)?;
                self.positional.get(at).cloned()
            }
            name => self.variables.get(name).cloned(),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        self.variables.insert(name.to_owned(), value);
    }

    async fn pieces(&mut self, word: &Word, streams: &Streams) -> Result<Vec<Piece>, Broken> {
        let mut pieces = Vec::new();
        for (at, part) in word.0.iter().enumerate() {
            match part {
                Part::Literal(text) => {
                    let text = match text.strip_prefix('~') {
                        Some(rest) if at == 0 && (rest.is_empty() || rest.starts_with('/')) => {
                            format!("{}{rest}", self.lookup("HOME").unwrap_or_else(|| "/".to_owned()))
                        }
                        _ => text.clone(),
                    };
                    pieces.push(Piece { text, quoted: false, splits: false });
                }
                Part::Quoted(text) => pieces.push(Piece { text: text.clone(), quoted: true, splits: false }),
                Part::Variable { name, operation, quoted } => {
                    let text = self.variable(name, operation.as_ref(), streams).await?;
                    pieces.push(Piece { text, quoted: *quoted, splits: !quoted });
                }
                Part::Output { list, quoted } => {
                    let (out, input) = pipe();
                    let mut inner = self.fork();
                    let within = Streams { stdout: out, ..streams.clone() };
                    let flow = Box::pin(inner.list(list, &within)).await;
                    drop(within);
                    self.status = match flow {
                        Flow::Exit(code) => code,
                        _ => inner.status,
                    };
                    drop(inner);
                    let text = String::from_utf8_lossy(&input.read_all().await).trim_end_matches('\n').to_owned();
                    pieces.push(Piece { text, quoted: *quoted, splits: !quoted });
                }
                Part::Arithmetic { text, quoted } => {
                    let value = evaluate(text, &|name| self.lookup(name).unwrap_or_default()).map_err(Broken)?;
                    pieces.push(Piece { text: value.to_string(), quoted: *quoted, splits: false });
                }
            }
        }
        Ok(pieces)
    }

    async fn variable(&mut self, name: &str, operation: Option<&(String, Word)>, streams: &Streams) -> Result<String, Broken> {
        let value = self.lookup(name);
        let Some((operator, word)) = operation else {
            return match value {
                None if self.unset_is_error && name != "@" && name != "*" => Err(Broken(format!("{name}: parameter not set"))),
                value => Ok(value.unwrap_or_default()),
            };
        };
        if operator == "#len" {
            return Ok(value.unwrap_or_default().chars().count().to_string());
        }
        // With a colon, empty counts as not set.
        let is_set = value.as_ref().is_some_and(|v| !operator.starts_with(':') || !v.is_empty());
        let value = value.unwrap_or_default();
        match operator.trim_start_matches(':') {
            "-" if is_set => Ok(value),
            "=" if is_set => Ok(value),
            "?" if is_set => Ok(value),
            "+" if !is_set => Ok(String::new()),
            "-" | "+" => Box::pin(self.one(word, streams)).await,
            "=" => {
                let text = Box::pin(self.one(word, streams)).await?;
                self.set(name, text.clone());
                Ok(text)
            }
            "?" => {
                let text = Box::pin(self.one(word, streams)).await?;
                Err(Broken(format!("{name}: {}", if text.is_empty() { "parameter not set" } else { &text })))
            }
            how => {
                let pattern = Box::pin(self.one(word, streams)).await?;
                Ok(cut(&value, &pattern, how))
            }
        }
    }

    /// A word as one text: nothing is split, nothing is a pattern.
    pub(super) async fn one(&mut self, word: &Word, streams: &Streams) -> Result<String, Broken> {
        Ok(self.pieces(word, streams).await?.into_iter().map(|p| p.text).collect())
    }

    /// A word as the fields that it stands for.
    pub(super) async fn fields(&mut self, word: &Word, streams: &Streams) -> Result<Vec<String>, Broken> {
        if let [Part::Variable { name, operation: None, quoted: true }] =
            word.0.iter().filter(|p| **p != Part::Quoted(String::new())).collect::<Vec<_>>().as_slice()
            && name == "@"
        {
            return Ok(self.positional.clone());
        }
        let mut fields: Vec<(String, bool)> = Vec::new();
        let mut current: Option<(String, bool)> = None;
        for piece in self.pieces(word, streams).await? {
            let is_pattern = |text: &str| !piece.quoted && text.contains(['*', '?']);
            if !piece.splits {
                let (text, pattern) = current.get_or_insert_with(Default::default);
                text.push_str(&piece.text);
                *pattern |= is_pattern(&piece.text);
                continue;
            }
            if piece.text.starts_with(char::is_whitespace) {
                fields.extend(current.take());
            }
            let mut first = true;
            for field in piece.text.split_whitespace() {
                if !first {
                    fields.extend(current.take());
                }
                first = false;
                let (text, pattern) = current.get_or_insert_with(Default::default);
                text.push_str(field);
                *pattern |= is_pattern(field);
            }
            if piece.text.ends_with(char::is_whitespace) {
                fields.extend(current.take());
            }
        }
        fields.extend(current);
        let mut out = Vec::new();
        for (field, is_pattern) in fields {
            let found = if is_pattern { self.files_like(&field) } else { Vec::new() };
            if found.is_empty() {
                out.push(field);
            } else {
                out.extend(found);
            }
        }
        Ok(out)
    }

    /// Files whose last part fits a pattern.
    fn files_like(&self, pattern: &str) -> Vec<String> {
        let (directory, last) = pattern.rsplit_once('/').map_or((".", pattern), |(d, l)| (if d.is_empty() { "/" } else { d }, l));
        let names = self.container.files.list(directory).unwrap_or_default();
        let prefix = pattern.strip_suffix(last).unwrap_or_default();
        names
            .into_iter()
            .filter(|n| (!n.starts_with('.') || last.starts_with('.')) && like(last, n))
            .map(|n| format!("{prefix}{n}"))
            .collect()
    }

    /// The environment of a command: exported variables and its own.
    pub(super) fn environment(&self, own: &[(String, String)]) -> std::collections::BTreeMap<String, String> {
        let exported = self.exported.iter().filter_map(|name| Some((name.clone(), self.variables.get(name)?.clone())));
        exported.chain(own.iter().cloned()).collect()
    }
}

/// `*` and `?` of a pattern.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`.
fn cut(value: &str, pattern: &str, how: &str) -> String {
    let ends: Vec<usize> = value.char_indices().map(|(i, _)| i).chain([value.len()]).collect();
    let find = |at: &usize| {
        let (head, tail) = value.split_at_checked(*at)?;
        match how {
            "#" | "##" if like(pattern, head) => Some(tail.to_owned()),
            "%" | "%%" if like(pattern, tail) => Some(head.to_owned()),
            _ => None,
        }
    };
    let found = if matches!(how, "#" | "%%") { ends.iter().find_map(find) } else { ends.iter().rev().find_map(find) };
    found.unwrap_or_else(|| value.to_owned())
}
