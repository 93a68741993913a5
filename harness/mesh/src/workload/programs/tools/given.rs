//! Command lines of small tools.

/// Flags joined or apart, and the words after them. `with_value` are letters that take the next word.
pub(super) struct Given {
    pub(super) flags: String,
    pub(super) values: Vec<(char, String)>,
    pub(super) words: Vec<String>,
}

pub(super) fn given(args: &[String], with_value: &str) -> Given {
    let mut out = Given { flags: String::new(), values: Vec::new(), words: Vec::new() };
    let mut words = args.iter();
    let mut only_words = false;
    while let Some(word) = words.next() {
        if only_words || !word.starts_with('-') || word.len() < 2 {
            out.words.push(word.clone());
        } else if word == "--" {
            only_words = true;
        } else if word.starts_with("--") {
            out.flags.push('?');
            out.values.push(('?', word.clone()));
        } else {
            let letters = word.get(1..).unwrap_or_default();
            for (at, letter) in letters.char_indices() {
                if with_value.contains(letter) {
                    let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                    let value = if rest.is_empty() { words.next().cloned().unwrap_or_default() } else { rest.to_owned() };
                    out.values.push((letter, value));
                    break;
                }
                out.flags.push(letter);
            }
        }
    }
    out
}

impl Given {
    pub(super) fn has(&self, letter: char) -> bool {
        self.flags.contains(letter)
    }

    pub(super) fn value(&self, letter: char) -> Option<&str> {
        self.values.iter().rev().find(|(l, _)| *l == letter).map(|(_, v)| v.as_str())
    }

    /// The first flag that is none of these.
    pub(super) fn unknown(&self, known: &str) -> Option<String> {
        let letter = self.flags.chars().find(|c| !known.contains(*c))?;
        Some(if letter == '?' { self.value('?').unwrap_or_default().to_owned() } else { format!("-{letter}") })
    }
}
