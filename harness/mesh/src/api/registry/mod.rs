//! Which resources are served, in which versions.

mod builtin;
mod custom;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use custom::from_definition;

/// A kind of objects and how the API serves it. The same object is served in all of its versions, as on a cluster whose
/// definitions convert nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// The API group, empty for the core.
    pub group: String,
    /// The versions, the preferred one first; objects are kept in that one.
    pub versions: Vec<String>,
    /// `Deployment`.
    pub kind: String,
    /// `deployments`.
    pub plural: String,
    /// `deployment`.
    pub singular: String,
    /// `deploy`.
    pub short_names: Vec<String>,
    /// `all`, `istio-io`, …
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether `status` is a subresource: then it is written there and only there.
    pub status: bool,
    /// Whether there is a `scale` subresource over `spec.replicas`.
    pub scale: bool,
    /// Whether `metadata.generation` counts changes of the specification.
    pub generation: bool,
    /// Whether it is only answered and never kept (reviews).
    pub virtual_only: bool,
    /// Subresources beside `status` and `scale`: `log`, `exec`, …
    pub subresources: Vec<String>,
    /// Whether a definition made it, so that the definition's end is its end.
    pub custom: bool,
}

impl Resource {
    /// `deployments.apps`, `pods`: how messages name it.
    #[must_use]
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `apps/v1`, in the version that objects are kept in.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.in_version(self.versions.first().map_or("v1", String::as_str))
    }

    /// `apps/VERSION`.
    #[must_use]
    pub fn in_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// `apps/Deployment`, `Pod`: the name that [`super::Store`] takes.
    #[must_use]
    pub fn group_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}/{}", self.group, self.kind) }
    }

    /// Whether a cluster serves it by a definition, not by itself: no strategic merge, nulls are kept.
    pub(crate) fn is_defined(&self) -> bool {
        self.custom || self.group.ends_with("istio.io") || self.group == "gateway.networking.k8s.io"
    }

    /// What identifies it.
    pub(crate) fn id(&self) -> ResourceId {
        ResourceId { group: self.group.as_str().into(), plural: self.plural.as_str().into() }
    }
}

/// Group and plural.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResourceId {
    group: Arc<str>,
    plural: Arc<str>,
}

impl ResourceId {
    pub(crate) fn namespaces() -> Self {
        Self { group: "".into(), plural: "namespaces".into() }
    }
}

/// The resources that are served.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    resources: BTreeMap<ResourceId, Arc<Resource>>,
    by_kind: BTreeMap<String, Arc<Resource>>,
}

impl Registry {
    /// What a cluster with Istio and the Gateway API serves.
    #[must_use]
    pub fn builtin() -> Self {
        let mut registry = Self::default();
        builtin::resources().into_iter().for_each(|r| registry.add(r));
        registry
    }

    /// Serves a resource; one of the same group and plural is replaced.
    pub fn add(&mut self, resource: Resource) {
        let resource = Arc::new(resource);
        self.by_kind.insert(resource.group_kind(), resource.clone());
        self.resources.insert(resource.id(), resource);
    }

    pub(crate) fn remove(&mut self, id: &ResourceId) {
        if let Some(gone) = self.resources.remove(id) {
            self.by_kind.remove(&gone.group_kind());
        }
    }

    /// By `GROUP/KIND`, or `KIND` for the core group.
    #[must_use]
    pub fn kind(&self, group_kind: &str) -> Option<Arc<Resource>> {
        self.by_kind.get(group_kind).cloned()
    }

    /// By an object's `apiVersion` and `kind`.
    #[must_use]
    pub fn of(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = if group.is_empty() { self.kind(kind) } else { self.kind(&format!("{group}/{kind}")) };
        found.filter(|r| r.versions.iter().any(|v| v == version))
    }

    /// By the parts of a path.
    #[must_use]
    pub fn at(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let id = ResourceId { group: group.into(), plural: plural.into() };
        self.resources.get(&id).filter(|r| r.versions.iter().any(|v| v == version)).cloned()
    }

    pub(crate) fn by_id(&self, id: &ResourceId) -> Option<&Arc<Resource>> {
        self.resources.get(id)
    }

    /// All, by group and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Each group but the core with its versions, the preferred first.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in self.resources.values().filter(|r| !r.group.is_empty()) {
            let versions = groups.entry(resource.group.clone()).or_default();
            versions.extend(resource.versions.iter().cloned());
        }
        for versions in groups.values_mut() {
            versions.sort_by(|a, b| priority(b).cmp(&priority(a)).then_with(|| a.cmp(b)));
            versions.dedup();
        }
        groups
    }
}

/// GA before beta before alpha, then the higher number. Source: `apimachinery/pkg/version/helpers.go`.
pub(crate) fn priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let number = |text: &str| text.parse::<u32>().ok();
    for (word, rank) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (number(major), number(minor)) {
                (Some(major), Some(minor)) => (rank, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}
