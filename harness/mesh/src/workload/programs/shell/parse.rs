//! The shell's grammar, as far as it goes (POSIX, "Shell Command Language").

use super::syntax::{AndOr, Command, Item, List, Part, Pipeline, Redirect, Simple, Target, Word};

/// Why a text is no program: syntax that is wrong, or that this shell does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError(pub(super) String);

type Result<T> = std::result::Result<T, SyntaxError>;

/// Words that mean something where a command may begin.
const RESERVED: &[&str] =
    &["if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "in", "{", "}", "!", "function"];

pub(super) struct Parser {
    text: Vec<char>,
    at: usize,
    depth: usize,
}

/// How deep commands may nest.
const MAX_DEPTH: usize = 64;

/// Reads a whole program.
pub(super) fn parse(text: &str) -> Result<List> {
    let mut parser = Parser { text: text.replace("\\\n", "").chars().collect(), at: 0, depth: 0 };
    let list = parser.list(&[])?;
    parser.blanks(true);
    match parser.peek() {
        None => Ok(list),
        Some(_) => Err(parser.unexpected()),
    }
}

fn missing(what: &str) -> SyntaxError {
    SyntaxError(format!("{what}: this simulated shell does not have it"))
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let fits = text.chars().enumerate().all(|(i, c)| self.peek_at(i) == Some(c));
        if fits {
            self.at += text.chars().count();
        }
        fits
    }

    fn unexpected(&self) -> SyntaxError {
        let rest: String = self.text.iter().skip(self.at).take_while(|c| !c.is_whitespace()).take(20).collect();
        SyntaxError(match rest.as_str() {
            "" => "syntax error: unexpected end of file".to_owned(),
            rest => format!("syntax error: unexpected \"{rest}\""),
        })
    }

    /// Skips blanks and comments, and line ends too where they mean nothing.
    fn blanks(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' => self.at += 1,
                '\n' if lines => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    /// The reserved word that stands here.
    fn reserved(&self) -> Option<&'static str> {
        let word: String = self.text.iter().skip(self.at).take_while(|c| !c.is_whitespace() && !";&|()<>".contains(**c)).collect();
        RESERVED.iter().find(|r| **r == word).copied()
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        self.blanks(true);
        if self.reserved() == Some(word) {
            self.at += word.chars().count();
            return Ok(());
        }
        Err(SyntaxError(format!("{} (expecting \"{word}\")", self.unexpected().0)))
    }

    /// Commands up to one of these reserved words, a `)`, or the end.
    fn list(&mut self, ends: &[&str]) -> Result<List> {
        let mut items = Vec::new();
        loop {
            self.blanks(true);
            if self.peek().is_none() || self.peek() == Some(')') || self.reserved().is_some_and(|r| ends.contains(&r)) {
                return Ok(List(items));
            }
            let and_or = self.and_or()?;
            self.blanks(false);
            let background = self.peek() == Some('&') && self.peek_at(1) != Some('&');
            let separated = match self.peek() {
                Some(';') if self.peek_at(1) == Some(';') => return Err(missing(";;")),
                Some('&' | ';' | '\n') => {
                    self.at += 1;
                    true
                }
                _ => false,
            };
            items.push(Item { and_or, background });
            if !separated {
                self.blanks(true);
                if self.peek().is_none() || self.peek() == Some(')') || self.reserved().is_some_and(|r| ends.contains(&r)) {
                    return Ok(List(items));
                }
                return Err(self.unexpected());
            }
        }
    }

    fn and_or(&mut self) -> Result<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks(false);
            let and = if self.eat("&&") {
                true
            } else if self.eat("||") {
                false
            } else {
                return Ok(AndOr { first, rest });
            };
            self.blanks(true);
            rest.push((and, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline> {
        self.blanks(false);
        let mut negated = false;
        while self.reserved() == Some("!") {
            self.at += 1;
            negated = !negated;
            self.blanks(false);
        }
        let mut commands = vec![self.command()?];
        loop {
            self.blanks(false);
            if self.peek() == Some('|') && self.peek_at(1) != Some('|') {
                self.at += 1;
                if self.peek() == Some('&') {
                    return Err(missing("|&"));
                }
                self.blanks(true);
                commands.push(self.command()?);
            } else {
                return Ok(Pipeline { commands, negated });
            }
        }
    }

    fn command(&mut self) -> Result<Command> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError("syntax error: commands are nested too deep".to_owned()));
        }
        let command = self.command_here();
        self.depth -= 1;
        command
    }

    fn command_here(&mut self) -> Result<Command> {
        let body = match self.reserved() {
            Some("if") => self.conditional()?,
            Some("for") => self.for_loop()?,
            Some(word @ ("while" | "until")) => {
                self.expect(word)?;
                let condition = self.list(&["do"])?;
                Command::Loop { until: word == "until", condition, body: self.body()? }
            }
            Some("{") => {
                self.expect("{")?;
                let list = self.list(&["}"])?;
                self.expect("}")?;
                Command::Group(list)
            }
            Some(word @ ("case" | "function")) => return Err(missing(word)),
            Some(_) => return Err(self.unexpected()),
            None if self.peek() == Some('(') => {
                if self.peek_at(1) == Some('(') {
                    return Err(missing("(("));
                }
                self.at += 1;
                let list = self.list(&[])?;
                self.blanks(true);
                if self.next() != Some(')') {
                    return Err(SyntaxError("syntax error: unexpected end of file (expecting \")\")".to_owned()));
                }
                Command::Subshell(list)
            }
            None => return self.simple().map(Command::Simple),
        };
        let mut redirects = Vec::new();
        loop {
            self.blanks(false);
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => break,
            }
        }
        Ok(if redirects.is_empty() { body } else { Command::Redirected(Box::new(body), redirects) })
    }

    fn body(&mut self) -> Result<List> {
        self.expect("do")?;
        let body = self.list(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn conditional(&mut self) -> Result<Command> {
        self.expect("if")?;
        let mut branches = Vec::new();
        loop {
            let condition = self.list(&["then"])?;
            self.expect("then")?;
            branches.push((condition, self.list(&["elif", "else", "fi"])?));
            self.blanks(true);
            match self.reserved() {
                Some("elif") => self.expect("elif")?,
                Some("else") => {
                    self.expect("else")?;
                    let otherwise = self.list(&["fi"])?;
                    self.expect("fi")?;
                    return Ok(Command::If { branches, otherwise: Some(otherwise) });
                }
                _ => {
                    self.expect("fi")?;
                    return Ok(Command::If { branches, otherwise: None });
                }
            }
        }
    }

    fn for_loop(&mut self) -> Result<Command> {
        self.expect("for")?;
        self.blanks(false);
        if self.peek() == Some('(') {
            return Err(missing("for (("));
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.unexpected());
        }
        self.blanks(true);
        let mut words = None;
        if self.reserved() == Some("in") {
            self.expect("in")?;
            let mut all = Vec::new();
            loop {
                self.blanks(false);
                match self.word()? {
                    Some(word) => all.push(word),
                    None => break,
                }
            }
            words = Some(all);
        }
        self.blanks(false);
        if matches!(self.peek(), Some(';' | '\n')) {
            self.at += 1;
        }
        Ok(Command::For { name, words, body: self.body()? })
    }

    fn name(&mut self) -> String {
        let name: String = self.text.iter().skip(self.at).take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            return String::new();
        }
        self.at += name.len();
        name
    }

    fn simple(&mut self) -> Result<Simple> {
        let mut simple = Simple::default();
        loop {
            self.blanks(false);
            if let Some(redirect) = self.redirect()? {
                simple.redirects.push(redirect);
                continue;
            }
            if simple.words.is_empty() {
                let before = self.at;
                let name = self.name();
                if !name.is_empty() && self.peek() == Some('=') {
                    self.at += 1;
                    simple.assignments.push((name, self.word()?.unwrap_or_default()));
                    continue;
                }
                self.at = before;
            }
            match self.word()? {
                Some(word) => simple.words.push(word),
                None => break,
            }
            if simple.words.len() == 1 && self.peek() == Some('(') {
                return Err(missing("a function of one's own"));
            }
        }
        if simple.words.is_empty() && simple.assignments.is_empty() && simple.redirects.is_empty() {
            return Err(self.unexpected());
        }
        Ok(simple)
    }

    /// A redirection, if one stands here.
    fn redirect(&mut self) -> Result<Option<Redirect>> {
        let digits: String = self.text.iter().skip(self.at).take_while(|c| c.is_ascii_digit()).collect();
        let mark = self.peek_at(digits.len());
        if !matches!(mark, Some('<' | '>')) {
            if self.peek() == Some('&') && self.peek_at(1) == Some('>') {
                return Err(missing("&>"));
            }
            return Ok(None);
        }
        self.at += digits.len();
        let descriptor: Option<u32> = digits.parse().ok();
        let both = self.eat("<>");
        for unknown in ["<<<", "<<", "<(", ">("] {
            if self.eat(unknown) {
                return Err(missing(unknown));
            }
        }
        let (input, append) = if both {
            (true, false)
        } else if self.eat(">>") {
            (false, true)
        } else if self.eat(">|") || self.eat(">") {
            (false, false)
        } else {
            self.at += 1;
            (true, false)
        };
        let descriptor = descriptor.unwrap_or(u32::from(!input));
        // What a program may open beyond its streams is one file to read and write, by `exec`.
        if descriptor > 9 || (descriptor > 2 && !both && self.peek() != Some('&')) {
            return Err(missing(&format!("file descriptor {descriptor}")));
        }
        if both && descriptor < 3 {
            return Err(missing("<> of a standard stream"));
        }
        if !both && self.eat("&") {
            let to: String = self.text.iter().skip(self.at).take_while(|c| c.is_ascii_digit() || **c == '-').collect();
            self.at += to.len();
            let target = match to.as_str() {
                "-" => Target::Closed,
                "0" | "1" | "2" if descriptor < 3 => Target::Descriptor(to.parse().unwrap_or(1)),
                "3" | "4" | "5" | "6" | "7" | "8" | "9" if !input && descriptor < 3 => Target::Descriptor(to.parse().unwrap_or(1)),
                _ => return Err(missing(&format!(">&{to}"))),
            };
            return Ok(Some(Redirect { descriptor, target }));
        }
        self.blanks(false);
        let word = self.word()?.ok_or_else(|| self.unexpected())?;
        let target = match (both, input) {
            (true, _) => Target::Both(word),
            (false, true) => Target::Read(word),
            (false, false) => Target::Write { word, append },
        };
        Ok(Some(Redirect { descriptor, target }))
    }

    /// A word, if one stands here.
    fn word(&mut self) -> Result<Option<Word>> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut any = false;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => {
                    self.at += 1;
                    let mut text = String::new();
                    loop {
                        match self.next() {
                            Some('\'') => break,
                            Some(c) => text.push(c),
                            None => return Err(SyntaxError("syntax error: unterminated quoted string".to_owned())),
                        }
                    }
                    flush(&mut literal, &mut parts);
                    parts.push(Part::Quoted(text));
                }
                '"' => {
                    self.at += 1;
                    flush(&mut literal, &mut parts);
                    self.double_quoted(&mut parts)?;
                }
                '\\' => {
                    self.at += 1;
                    flush(&mut literal, &mut parts);
                    parts.push(Part::Quoted(self.next().map(String::from).unwrap_or_default()));
                }
                '$' | '`' => {
                    flush(&mut literal, &mut parts);
                    parts.push(self.dollar(false)?);
                }
                c => {
                    self.at += 1;
                    literal.push(c);
                }
            }
            any = true;
        }
        flush(&mut literal, &mut parts);
        Ok(any.then_some(Word(parts)))
    }

    fn double_quoted(&mut self, parts: &mut Vec<Part>) -> Result<()> {
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(SyntaxError("syntax error: unterminated quoted string".to_owned())),
                Some('"') => {
                    self.at += 1;
                    parts.push(Part::Quoted(text));
                    return Ok(());
                }
                Some('\\') if matches!(self.peek_at(1), Some('$' | '`' | '"' | '\\' | '\n')) => {
                    self.at += 1;
                    text.extend(self.next());
                }
                Some('$' | '`') => {
                    parts.push(Part::Quoted(std::mem::take(&mut text)));
                    let part = self.dollar(true)?;
                    parts.push(part);
                }
                Some(c) => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
    }

    /// What a `$` or a backquote stands for.
    fn dollar(&mut self, quoted: bool) -> Result<Part> {
        if self.peek() == Some('`') {
            return Err(missing("`…` (write $(…))"));
        }
        self.at += 1;
        match self.peek() {
            Some('(') if self.peek_at(1) == Some('(') => {
                self.at += 2;
                let mut depth = 0_usize;
                let mut text = String::new();
                loop {
                    match self.next() {
                        None => return Err(SyntaxError("syntax error: missing '))'".to_owned())),
                        Some(')') if depth == 0 => {
                            return if self.next() == Some(')') {
                                Ok(Part::Arithmetic { text, quoted })
                            } else {
                                Err(SyntaxError("syntax error: missing '))'".to_owned()))
                            };
                        }
                        Some(c) => {
                            depth = match c {
                                '(' => depth + 1,
                                ')' => depth - 1,
                                _ => depth,
                            };
                            text.push(c);
                        }
                    }
                }
            }
            Some('(') => {
                self.at += 1;
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(SyntaxError("syntax error: commands are nested too deep".to_owned()));
                }
                let list = self.list(&[])?;
                self.depth -= 1;
                self.blanks(true);
                if self.next() != Some(')') {
                    return Err(SyntaxError("syntax error: unexpected end of file (expecting \")\")".to_owned()));
                }
                Ok(Part::Output { list, quoted })
            }
            Some('{') => {
                self.at += 1;
                self.parameter(quoted)
            }
            Some(c) if "?$!#@*0123456789".contains(c) => {
                self.at += 1;
                Ok(Part::Variable { name: c.to_string(), operation: None, quoted })
            }
            Some('\'') if !quoted => Err(missing("$'…'")),
            _ => {
                let name = self.name();
                if name.is_empty() { Ok(Part::Quoted("$".to_owned())) } else { Ok(Part::Variable { name, operation: None, quoted }) }
            }
        }
    }

    fn parameter(&mut self, quoted: bool) -> Result<Part> {
        let is_length = self.peek() == Some('#') && self.peek_at(1) != Some('}');
        if is_length {
            self.at += 1;
        }
        let mut name = self.name();
        if name.is_empty()
            && let Some(c) = self.peek().filter(|c| "?$!#@*0123456789".contains(*c))
        {
            self.at += 1;
            name.push(c);
        }
        let mut operator = String::new();
        while let Some(c) = self.peek().filter(|c| ":-=+?#%/^,".contains(*c)) {
            if operator.len() >= 2 || (!operator.is_empty() && operator != ":" && !operator.ends_with(c)) {
                break;
            }
            self.at += 1;
            operator.push(c);
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(SyntaxError("syntax error: missing '}'".to_owned())),
                Some('}') => {
                    self.at += 1;
                    break;
                }
                Some('$') => {
                    parts.push(Part::Quoted(std::mem::take(&mut text)));
                    parts.push(self.dollar(true)?);
                }
                Some('"') if !quoted => {
                    self.at += 1;
                    parts.push(Part::Quoted(std::mem::take(&mut text)));
                    self.double_quoted(&mut parts)?;
                }
                Some('\\') => {
                    self.at += 1;
                    text.extend(self.next());
                }
                Some(c) => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
        parts.push(Part::Quoted(text));
        let word = Word(parts);
        let operation = match operator.as_str() {
            "" if is_length => Some(("#len".to_owned(), word)),
            "" => None,
            ":-" | "-" | ":=" | "=" | ":+" | "+" | ":?" | "?" | "#" | "##" | "%" | "%%" => Some((operator, word)),
            other => return Err(missing(&format!("${{{name}{other}…}}"))),
        };
        if name.is_empty() {
            return Err(SyntaxError("syntax error: bad substitution".to_owned()));
        }
        Ok(Part::Variable { name, operation, quoted })
    }
}

fn flush(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}
