//! Validated names. A value of one of these types has been checked once, where it entered.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a name was refused: what was given and what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct NameError {
    /// The text as written.
    pub given: String,
    /// A phrase that fits after "is not".
    pub expected: &'static str,
}

fn is_dns_label(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= 63
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !s.starts_with('-')
        && !s.ends_with('-')
}

/// An RFC 1123 subdomain: dot-separated labels of lower-case letters, digits and `-`.
/// Source: Kubernetes, `metadata.name` of most kinds.
pub fn is_dns_subdomain(s: &str) -> bool {
    s.len() <= 253 && s.split('.').all(is_dns_label)
}

/// Where a scenario lives below the scenarios root, with `/` between parts: `20-egress/dual-gateway`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ScenarioId(String);

impl ScenarioId {
    /// Checks the text: one or more parts of `[A-Za-z0-9._-]`, separated by `/`, none of them `.` or `..`.
    ///
    /// # Errors
    /// When a part is empty, a dot directory, or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let good = |part: &str| {
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !text.is_empty() && text.split('/').all(good) {
            Ok(Self(text))
        } else {
            Err(NameError { given: text, expected: "a scenario's path below the scenarios folder, such as `20-egress/dual-gateway`" })
        }
    }

    /// The path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `NAMESPACE/NAME`: a workload (Deployment), a gateway, a secret or a ConfigMap in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Namespaced {
    /// The namespace, an RFC 1123 label.
    pub namespace: String,
    /// The object's name, an RFC 1123 subdomain.
    pub name: String,
}

impl Namespaced {
    /// Parses `namespace/name`.
    ///
    /// # Errors
    /// When there is not exactly one `/`, or either side is not a Kubernetes name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((ns, name)) if is_dns_label(ns) && is_dns_subdomain(name) => Ok(Self { namespace: ns.to_owned(), name: name.to_owned() }),
            _ => Err(NameError { given: text.to_owned(), expected: "a NAMESPACE/NAME such as `mesh-test/sleep`" }),
        }
    }
}

/// A host name as in DNS: an RFC 1123 subdomain, no wildcard, no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// Checks the text.
    ///
    /// # Errors
    /// When it is not an RFC 1123 subdomain.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if is_dns_subdomain(&text) {
            Ok(Self(text))
        } else {
            Err(NameError { given: text, expected: "a host name such as `httpbin.example.com` (lower case, no wildcard, no port)" })
        }
    }

    /// The host as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! string_like {
    ($type:ty, $parse:expr) => {
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                ($parse)(text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                ($parse)(text.to_owned())
            }
        }
    };
}
string_like!(ScenarioId, ScenarioId::new);
string_like!(HostName, HostName::new);
string_like!(Namespaced, |t: String| Namespaced::parse(&t));

impl fmt::Display for ScenarioId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What identifies a Kubernetes object across applies: its API group, kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// `group/version` as written in the manifest (`v1` for the core group).
    pub api_version: String,
    /// The kind, in Pascal case.
    pub kind: String,
    /// None for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{} {ns}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenario_ids_are_relative_paths() {
        assert!(ScenarioId::new("20-egress/dual-gateway").is_ok());
        for bad in ["", "/", "a//b", "../x", "a/.b", "a b"] {
            assert!(ScenarioId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaced_wants_exactly_one_slash_and_kubernetes_names() {
        assert_eq!(Namespaced::parse("mesh-test/sleep").unwrap().to_string(), "mesh-test/sleep");
        for bad in ["sleep", "a/b/c", "/x", "x/", "Mesh/x", "a/-b"] {
            assert!(Namespaced::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_no_wildcards() {
        assert!(HostName::new("www.wikipedia.org").is_ok());
        assert!(HostName::new("*.example.com").is_err());
        assert!(HostName::new("example.com:443").is_err());
    }
}
