//! `exportTo`: which namespaces may see an object (Istio: `pkg/config/visibility`).

use std::collections::BTreeSet;

/// The namespaces that may see an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// `*`.
    Public,
    /// `~`: nobody, not even its own namespace.
    Nobody,
    /// These; `.` is replaced by the object's own.
    Namespaces(BTreeSet<String>),
}

impl Visibility {
    /// Reads `exportTo` of an object of `namespace`; an empty list is the mesh's default.
    #[must_use]
    pub fn read<'a>(export_to: impl IntoIterator<Item = &'a str>, namespace: &str, default: &Visibility) -> Visibility {
        let said: BTreeSet<&str> = export_to.into_iter().map(str::trim).filter(|word| !word.is_empty()).collect();
        if said.is_empty() {
            return default.clone().within(namespace);
        }
        if said.contains("*") {
            return Visibility::Public;
        }
        if said.contains("~") {
            return Visibility::Nobody;
        }
        Visibility::Namespaces(said.into_iter().map(str::to_owned).collect()).within(namespace)
    }

    /// Whether an object with this visibility counts for proxies of `namespace`.
    #[must_use]
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Visibility::Public => true,
            Visibility::Nobody => false,
            Visibility::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }

    /// With `.` replaced by `namespace`.
    fn within(self, namespace: &str) -> Visibility {
        let Visibility::Namespaces(mut namespaces) = self else { return self };
        if namespaces.remove(".") {
            namespaces.insert(namespace.to_owned());
        }
        Visibility::Namespaces(namespaces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_is_the_own_namespace() {
        let seen = Visibility::read([".", "b"], "a", &Visibility::Public);
        assert!(seen.includes("a") && seen.includes("b") && !seen.includes("c"));
        assert!(Visibility::read([], "a", &Visibility::Public).includes("c"));
        assert!(!Visibility::read(["~"], "a", &Visibility::Public).includes("a"));
    }
}
