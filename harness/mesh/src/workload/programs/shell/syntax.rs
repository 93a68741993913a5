//! What a shell's program consists of.

/// Commands, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) and_or: AndOr,
    pub(super) background: bool,
}

/// Pipelines joined by `&&` (true) and `||` (false).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AndOr {
    pub(super) first: Pipeline,
    pub(super) rest: Vec<(bool, Pipeline)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pipeline {
    pub(super) commands: Vec<Command>,
    pub(super) negated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Simple(Simple),
    If { branches: Vec<(List, List)>, otherwise: Option<List> },
    For { name: String, words: Option<Vec<Word>>, body: List },
    Loop { until: bool, condition: List, body: List },
    Group(List),
    Subshell(List),
    Redirected(Box<Command>, Vec<Redirect>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub(super) assignments: Vec<(String, Word)>,
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) descriptor: u32,
    pub(super) target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Read(Word),
    /// To read and to write.
    Both(Word),
    Write {
        word: Word,
        append: bool,
    },
    Descriptor(u32),
    Closed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word(pub(super) Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// May be a pattern of file names.
    Literal(String),
    Quoted(String),
    /// With what `${NAME…}` does to it.
    Variable {
        name: String,
        operation: Option<(String, Word)>,
        quoted: bool,
    },
    /// `$(…)`.
    Output {
        list: List,
        quoted: bool,
    },
    /// `$((…))`.
    Arithmetic {
        text: String,
        quoted: bool,
    },
}
