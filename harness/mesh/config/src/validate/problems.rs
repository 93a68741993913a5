//! Errors and warnings, collected and said as istiod says them.

/// What was found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
    /// Whether even a single error is shown as a list: where Istio starts a list of its own.
    pub(crate) always_list: bool,
}

impl Problems {
    pub(crate) fn new() -> Problems {
        Problems::default()
    }

    pub(crate) fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// An error with which Istio starts a list, shown as one even if nothing follows.
    pub(crate) fn listed(&mut self, is_wrong: bool, text: &str) {
        self.always_list |= is_wrong;
        self.error_if(is_wrong, text);
    }

    /// An error where the condition holds.
    pub(crate) fn error_if(&mut self, is_wrong: bool, text: &str) {
        if is_wrong {
            self.error(text);
        }
    }

    pub(crate) fn check(&mut self, result: Result<(), String>) {
        if let Err(error) = result {
            self.error(error);
        }
    }

    pub(crate) fn extend(&mut self, other: Problems) {
        self.errors.extend(other.errors);
        self.warnings.extend(other.warnings);
        self.always_list |= other.always_list;
    }

    /// All errors as one: a single one as it is, several as a list (hashicorp/go-multierror's default format).
    pub(crate) fn error_text(errors: &[String], always_list: bool) -> Option<String> {
        match errors {
            [] => None,
            [only] if !always_list => Some(only.clone()),
            many => {
                let points: Vec<String> = many.iter().map(|error| format!("* {error}")).collect();
                let count = if many.len() == 1 { "1 error".to_owned() } else { format!("{} errors", many.len()) };
                Some(format!("{count} occurred:\n\t{}\n\n", points.join("\n\t")))
            }
        }
    }

    pub(crate) fn summary(&self) -> Option<String> {
        Problems::error_text(&self.errors, self.always_list)
    }
}
