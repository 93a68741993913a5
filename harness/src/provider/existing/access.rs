//! The permissions that a run needs, read from the committed ClusterRole, and whether they are granted.

use std::collections::BTreeMap;
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::provider::{KindFiles, ProviderError};

/// Where the roles are committed.
pub(crate) const FILE: &str = "kind/existing-clusterrole.yaml";
/// The role that only mesh-wide changes need.
pub(crate) const MESH_CHANGES: &str = "gateproof-mesh-changes";

/// One verb on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Permission {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With its subresource: `pods/exec`.
    pub(crate) resource: String,
}

impl Permission {
    /// Whether it changes objects. Opening an exec or a port-forward is called `create` and changes none.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && !self.resource.starts_with("pods/")
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => write!(f, "{} {}", self.verb, self.resource),
            group => write!(f, "{} {}.{group}", self.verb, self.resource),
        }
    }
}

/// A committed ClusterRole.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) name: String,
    role: ClusterRole,
}

impl Role {
    /// The committed roles, which stand beside the other data of `kind/`.
    pub(crate) fn read(files: &KindFiles) -> Result<Vec<Self>, ProviderError> {
        const NAME: &str = "existing-clusterrole.yaml";
        let wrong = |why: String| ProviderError::Settings { file: files.shown(NAME), why };
        let text = files.text(NAME)?;
        let roles: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).map_err(|e| wrong(e.to_string()))?;
        let role = |value: serde_json::Value| {
            let role: ClusterRole = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
            Ok(Self { name: role.metadata.name.clone().unwrap_or_default(), role })
        };
        roles.into_iter().map(role).collect()
    }

    /// Each verb on each resource.
    pub(crate) fn permissions(&self) -> Vec<Permission> {
        let mut all = Vec::new();
        for rule in self.role.rules.iter().flatten() {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    all.extend(rule.verbs.iter().map(|verb| Permission {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                    }));
                }
            }
        }
        all
    }
}

/// Whether each is granted in every namespace.
pub(crate) async fn ask(client: &Client, wanted: &[Permission]) -> Result<Vec<(Permission, bool)>, ProviderError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let one = |permission: Permission| {
        let api = api.clone();
        async move {
            let (resource, subresource) = match permission.resource.split_once('/') {
                Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
                None => (permission.resource.clone(), None),
            };
            let attributes = ResourceAttributes {
                group: Some(permission.group.clone()),
                resource: Some(resource),
                subresource,
                verb: Some(permission.verb.clone()),
                ..ResourceAttributes::default()
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None },
                ..SelfSubjectAccessReview::default()
            };
            let answer = api.create(&PostParams::default(), &review).await;
            let answer = answer.map_err(ProviderError::kube("ask for this user's permissions"))?;
            Ok((permission, answer.status.is_some_and(|s| s.allowed)))
        }
    };
    stream::iter(wanted.iter().cloned().map(one)).buffered(16).try_collect().await
}

/// By resource: the verbs asked for, and those refused. For a table.
pub(crate) fn by_resource(answers: &[(Permission, bool)]) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut out: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (permission, allowed) in answers {
        let key =
            if permission.group.is_empty() { permission.resource.clone() } else { format!("{}.{}", permission.resource, permission.group) };
        let (asked, refused) = out.entry(key).or_default();
        asked.push(permission.verb.clone());
        if !allowed {
            refused.push(permission.verb.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use gateproof_core::scenario::load_catalogue;

    use super::*;

    #[test]
    fn the_committed_roles_are_read_and_name_verbs_one_by_one() {
        let roles = Role::read(&KindFiles::BuiltIn).unwrap();
        assert_eq!(roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["gateproof", MESH_CHANGES]);
        let all: Vec<Permission> = roles.iter().flat_map(Role::permissions).collect();
        assert!(all.iter().all(|p| !p.verb.contains('*') && !p.resource.contains('*') && !p.group.contains('*')));
        assert!(all.iter().any(|p| p.to_string() == "create pods/exec" && !p.writes()));
        assert!(all.iter().any(|p| p.to_string() == "patch deployments/scale.apps" && p.writes()));
        let mut sorted = all.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), all.len(), "no permission stands there twice");
    }

    #[test]
    fn the_committed_roles_allow_every_kind_that_the_catalogue_applies() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let roles = Role::read(&KindFiles::BuiltIn).unwrap();
        let granted: BTreeSet<String> = roles.iter().flat_map(Role::permissions).map(|p| p.to_string()).collect();
        let catalogue = load_catalogue(&top.join("scenarios"));
        // What is skipped as a whole is not applied to such a cluster either.
        let applied = catalogue.scenarios.iter().filter(|s| s.exceptions.whole.is_none());
        let manifests = applied.flat_map(|s| s.manifests.iter().chain(&s.extra_manifests));
        let mut lacking = BTreeSet::new();
        for object in manifests.flat_map(|m| &m.objects) {
            let kind = object.key.kind.to_lowercase();
            // As Kubernetes makes a resource's name of its kind (`meta.UnsafeGuessKindToResource`).
            let plural = match kind.as_str() {
                k if k.ends_with('y') && !k.ends_with("ay") => format!("{}ies", &k[..k.len() - 1]),
                k if k.ends_with('s') => format!("{k}es"),
                k => format!("{k}s"),
            };
            let group = object.key.group();
            let resource = if group.is_empty() { plural } else { format!("{plural}.{group}") };
            let wanted = ["get", "list", "watch", "create", "patch", "delete"].map(|verb| format!("{verb} {resource}"));
            lacking.extend(wanted.into_iter().filter(|permission| !granted.contains(permission)));
        }
        assert_eq!(lacking, BTreeSet::new());
    }

    #[test]
    fn a_table_has_a_row_for_each_resource() {
        let p = |verb: &str| Permission { verb: verb.into(), group: "apps".into(), resource: "deployments".into() };
        let rows = by_resource(&[(p("get"), true), (p("patch"), false)]);
        assert_eq!(rows["deployments.apps"], (vec!["get".to_owned(), "patch".to_owned()], vec!["patch".to_owned()]));
    }
}
