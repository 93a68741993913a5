//! `metadata.managedFields`, and the merge of an applied configuration.

use serde_json::{Value, json};

use super::merge::Walk;
use super::schema::Schema;
use super::set::FieldSet;
use crate::api::error::{ApiError, Cause};

/// Fields that nobody manages. Source: `apimachinery/pkg/util/managedfields/internal/stripmeta.go`.
const UNMANAGED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
];

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manager {
    /// The name.
    pub(crate) name: String,
    /// Whether by server-side apply.
    pub(crate) applies: bool,
    /// The version written in.
    pub(crate) api_version: String,
    /// `status`, `scale`, or empty.
    pub(crate) subresource: String,
}

#[derive(Debug, Clone)]
struct Entry {
    manager: Manager,
    time: Option<String>,
    set: FieldSet,
}

impl Entry {
    fn is(&self, other: &Manager) -> bool {
        let mine = &self.manager;
        mine.name == other.name
            && mine.applies == other.applies
            && mine.subresource == other.subresource
            && (mine.applies || mine.api_version == other.api_version)
    }

    /// As messages name it. Source: `managedfields/internal/conflict.go`.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager.name);
        if !self.manager.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.manager.subresource));
        }
        if !self.manager.applies {
            text.push_str(&format!(" using {}", self.manager.api_version));
            if let Some(time) = &self.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }
}

/// The managers of one object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Managers {
    entries: Vec<Entry>,
}

impl Managers {
    /// From `metadata.managedFields`.
    pub(crate) fn read(object: &Value) -> Self {
        let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let entry = |value: &Value| {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            Entry {
                manager: Manager {
                    name: text("manager"),
                    applies: text("operation") == "Apply",
                    api_version: text("apiVersion"),
                    subresource: text("subresource"),
                },
                time: value.get("time").and_then(Value::as_str).map(str::to_owned),
                set: value.get("fieldsV1").map(FieldSet::from_json).unwrap_or_default(),
            }
        };
        Self { entries: list.into_iter().flatten().map(entry).collect() }
    }

    /// Into `metadata.managedFields`.
    pub(crate) fn write(&self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        let one = |entry: &Entry| {
            let mut value = json!({
                "manager": entry.manager.name,
                "operation": if entry.manager.applies { "Apply" } else { "Update" },
                "apiVersion": entry.manager.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.set.to_json(),
            });
            if let Some(time) = &entry.time {
                value["time"] = json!(time);
            }
            if !entry.manager.subresource.is_empty() {
                value["subresource"] = json!(entry.manager.subresource);
            }
            value
        };
        metadata.insert("managedFields".to_owned(), self.entries.iter().map(one).collect());
    }

    /// After a write that was no apply: the writer owns what it changed, and others no longer do.
    pub(crate) fn updated(&mut self, schema: Schema<'_>, old: &Value, new: &Value, by: &Manager, now: &str) {
        let difference = Walk { schema }.difference(old, new);
        let changed = difference.changed.without(UNMANAGED);
        let removed = difference.removed.without(UNMANAGED);
        if changed.is_empty() && removed.is_empty() {
            return;
        }
        for entry in self.entries.iter_mut().filter(|e| !e.is(by)) {
            entry.set = entry.set.minus(&changed).minus(&removed);
        }
        if !self.entries.iter().any(|e| e.is(by)) && !changed.is_empty() {
            self.entries.push(Entry { manager: by.clone(), time: None, set: FieldSet::default() });
        }
        if let Some(entry) = self.entries.iter_mut().find(|e| e.is(by)) {
            entry.set = entry.set.union(&changed).minus(&removed);
            entry.time = Some(now.to_owned());
        }
        self.entries.retain(|e| !e.set.is_empty());
    }
}

/// What an apply gives.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The merged object, without new `managedFields`.
    pub(crate) object: Value,
    /// Its managers.
    pub(crate) managers: Managers,
}

/// Merges an applied configuration into the live object.
///
/// # Errors
/// When another manager owns a field at another value and `force` is not said.
pub(crate) fn apply(
    schema: Schema<'_>,
    live: &Value,
    configuration: &Value,
    by: &Manager,
    force: bool,
    ignored: &[&[&str]],
    now: &str,
) -> Result<Applied, ApiError> {
    let walk = Walk { schema };
    let set = walk.set_of(configuration).without(UNMANAGED).without(ignored);
    let mut managers = Managers::read(live);
    let merged = walk.merged(live, configuration);
    let changed = walk.difference(live, &merged).changed.without(UNMANAGED).without(ignored);
    let conflicts: Vec<(String, Vec<String>)> = managers
        .entries
        .iter()
        .filter(|e| !e.is(by))
        .map(|e| (e.shown(), e.set.intersection(&changed).paths()))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for entry in managers.entries.iter_mut().filter(|e| !e.is(by)) {
        entry.set = entry.set.minus(&changed);
    }
    let before = managers.entries.iter().find(|e| e.is(by)).map(|e| e.set.clone()).unwrap_or_default();
    let mut others = FieldSet::default();
    for entry in managers.entries.iter().filter(|e| !e.is(by)) {
        others = others.union(&entry.set);
    }
    // An item that another manager has a field in stays, and so does its key.
    let gone = keep_items_of(&before.minus(&set), &others).minus(&others).pruned();
    let object = walk.without(&merged, &gone);
    if before != set {
        match managers.entries.iter_mut().find(|e| e.is(by)) {
            Some(entry) => {
                entry.set = set;
                entry.time = Some(now.to_owned());
                entry.manager.api_version.clone_from(&by.api_version);
            }
            // Applied configurations stand before updates. Source: `managedfields/internal/managedfields.go`, sortEncodedManagedFields.
            None => managers.entries.insert(0, Entry { manager: by.clone(), time: Some(now.to_owned()), set }),
        }
    }
    managers.entries.retain(|e| !e.set.is_empty());
    Ok(Applied { object, managers })
}

/// The set to remove, without items that others have something in.
fn keep_items_of(gone: &FieldSet, others: &FieldSet) -> FieldSet {
    let mut out = FieldSet { member: gone.member, children: Default::default() };
    for (element, child) in &gone.children {
        let theirs = others.children.get(element);
        let mut kept = theirs.map_or_else(|| child.clone(), |t| keep_items_of(child, t));
        if element.starts_with("k:") && theirs.is_some_and(|t| !t.is_empty()) {
            kept.member = false;
            if let Ok(Value::Object(keys)) = serde_json::from_str(element.trim_start_matches("k:")) {
                keys.keys().for_each(|key| drop(kept.children.remove(&format!("f:{key}"))));
            }
        }
        out.children.insert(element.clone(), kept);
    }
    out
}

/// In Kubernetes's words. Source: `managedfields/internal/conflict.go`.
fn conflict(conflicts: &[(String, Vec<String>)]) -> ApiError {
    let count: usize = conflicts.iter().map(|(_, paths)| paths.len()).sum();
    let message = match conflicts {
        [(manager, paths)] if paths.len() == 1 => {
            format!("Apply failed with 1 conflict: conflict with {manager}: {}", paths.concat())
        }
        _ => {
            let lines: Vec<String> = conflicts
                .iter()
                .flat_map(|(manager, paths)| {
                    std::iter::once(format!("conflicts with {manager}:")).chain(paths.iter().map(|p| format!("- {p}")))
                })
                .collect();
            format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
        }
    };
    let mut error = ApiError::new(409, "Conflict", message);
    for (manager, paths) in conflicts {
        error.details.causes.extend(paths.iter().map(|path| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {manager}"),
            field: path.clone(),
        }));
    }
    error
}
