//! What a Secret in a manifest takes from a certificate that is made for the run.
//!
//! A declared certificate is a whole secret. Where a scenario needs one that departs from it (another content later on, no
//! CA, another CA), a manifest has the Secret, and its `stringData` says what to put there:
//! `$(certificate:NAMESPACE/NAME)`, `$(key:NAMESPACE/NAME)`, `$(authority)`. No key is ever written down.

use serde_json::Value;

use super::types::KubeObject;
use crate::names::Namespaced;

/// What a value stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// The certificate of this declared secret.
    Certificate(Namespaced),
    /// Its private key.
    Key(Namespaced),
    /// The certificate of the run's CA.
    Authority,
}

impl Made {
    /// Reads a value; None when it is text like any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix("$(")?.strip_suffix(')')?;
        match inner.split_once(':') {
            None => (inner == "authority").then_some(Self::Authority),
            Some((what, name)) => {
                let name = Namespaced::parse(name).ok()?;
                match what {
                    "certificate" => Some(Self::Certificate(name)),
                    "key" => Some(Self::Key(name)),
                    _ => None,
                }
            }
        }
    }

    /// The declared secret that it takes from.
    #[must_use]
    pub fn of(&self) -> Option<&Namespaced> {
        match self {
            Self::Certificate(name) | Self::Key(name) => Some(name),
            Self::Authority => None,
        }
    }
}

/// The values of a Secret's `stringData` that are made for the run, by key. Empty for any other object.
#[must_use]
pub fn made_in(object: &KubeObject) -> Vec<(String, Made)> {
    if object.key.kind != "Secret" {
        return Vec::new();
    }
    let data = object.value.get("stringData").and_then(Value::as_object);
    data.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), Made::parse(value.as_str()?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_only_in_its_three_forms() {
        let at = Namespaced::parse("istio-system/web").unwrap();
        assert_eq!(Made::parse("$(certificate:istio-system/web)"), Some(Made::Certificate(at.clone())));
        assert_eq!(Made::parse(" $(key:istio-system/web)\n"), Some(Made::Key(at.clone())));
        assert_eq!(Made::parse("$(authority)"), Some(Made::Authority));
        for other in ["", "$(HOME)", "$(key:web)", "$(keys:istio-system/web)", "$(key:istio-system/web", "-----BEGIN", "$(authority:x/y)"] {
            assert_eq!(Made::parse(other), None, "{other}");
        }
        assert_eq!((Made::Key(at.clone()).of(), Made::Authority.of()), (Some(&at), None));
    }
}
