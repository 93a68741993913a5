//! What other scenarios have in the cluster while one is asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use gateproof_core::names::ObjectKey;

/// The objects of all scenarios that run at the same time, seen by one of them.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Which of them is the own one.
    own: usize,
    all: Arc<Mutex<BTreeMap<usize, BTreeSet<String>>>>,
}

/// Objects of others, as an analysis names them: `Kind namespace/name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Theirs(BTreeSet<String>);

impl Theirs {
    /// Whether a message is about one of these: it begins with the object's name.
    pub(super) fn speaks_of(&self, message: &str) -> bool {
        message.split_once(": ").is_some_and(|(origin, _)| self.0.contains(origin))
    }
}

impl Beside {
    /// The same as seen by another of them.
    #[must_use]
    pub fn seen_by(&self, own: usize) -> Self {
        Self { own, all: self.all.clone() }
    }

    /// Notes the objects of the one that this is seen by, in place of those it had.
    pub fn have<'a>(&self, objects: impl Iterator<Item = &'a ObjectKey>) {
        let named = |key: &ObjectKey| match &key.namespace {
            Some(namespace) => format!("{} {namespace}/{}", key.kind, key.name),
            None => format!("{} {}", key.kind, key.name),
        };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(self.own, objects.map(named).collect());
    }

    /// Those of the others.
    pub(super) fn objects(&self) -> Theirs {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        Theirs(all.iter().filter(|(who, _)| **who != self.own).flat_map(|(_, objects)| objects.iter().cloned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_object_of_others_is_told_from_what_is_said_of_the_own() {
        let key = |namespace: Option<&str>, name: &str| ObjectKey {
            api_version: "networking.istio.io/v1".to_owned(),
            kind: "VirtualService".to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        };
        let mine = Beside::default();
        let other = mine.seen_by(1);
        mine.have([key(Some("a"), "mine")].iter());
        other.have([key(Some("a"), "theirs"), key(None, "wide")].iter());
        let theirs = mine.objects();
        assert!(theirs.speaks_of("VirtualService a/theirs: it refers to nothing") && theirs.speaks_of("VirtualService wide: m"));
        assert!(!theirs.speaks_of("VirtualService a/mine: it is hidden by VirtualService a/theirs: twice"));
        assert!(other.objects().speaks_of("VirtualService a/mine: m"));
        other.have([].iter());
        assert_eq!(mine.objects(), Theirs::default());
    }
}
