//! The objects of a scenario in one of its states.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::names::{Namespaced, ObjectKey};
use crate::scenario::{Change, ControlPlane, Edit, INTACT, KubeObject, Scenario};

/// What a state consists of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateObjects {
    /// The objects, in the order of manifests; order means nothing to whoever applies them.
    pub objects: Vec<KubeObject>,
    /// Deployments whose replicas the state sets.
    pub scale: BTreeMap<Namespaced, u32>,
    /// What the state sets in the mesh configuration and in istiod's environment.
    pub control_plane: ControlPlane,
}

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Neither `intact` nor a variation.
    #[error("the scenario has no state `{0}`")]
    NoSuchState(String),
    /// A manifest that is not among the scenario's, or left out already.
    #[error("there is no manifest `{0}` to leave out")]
    NoSuchManifest(String),
    /// A manifest that no scenario file names.
    #[error("there is no manifest `{0}` to add")]
    NothingToAdd(String),
    /// An object that is not there when its change is due.
    #[error("{0} is not there at this point")]
    NoSuchObject(Box<ObjectKey>),
    /// A manifest adds an object that is there.
    #[error("{0} is there already: leave it out first")]
    AlreadyThere(Box<ObjectKey>),
    /// A JSON pointer that leads nowhere in the object.
    #[error("`{pointer}` points nowhere in {key}: {why}")]
    PointsNowhere {
        /// The object.
        key: Box<ObjectKey>,
        /// As written.
        pointer: String,
        /// How far it leads.
        why: String,
        /// Which edit of the patch it is.
        edit: usize,
    },
    /// An edit may change what an object says, not which object it is.
    #[error("`{pointer}` would make another object of {key}")]
    AnotherObject {
        /// The object.
        key: Box<ObjectKey>,
        /// As written.
        pointer: String,
        /// Which edit of the patch it is.
        edit: usize,
    },
}

impl StateError {
    /// Which edit of a patch is wrong.
    #[must_use]
    pub fn edit(&self) -> Option<usize> {
        match self {
            Self::PointsNowhere { edit, .. } | Self::AnotherObject { edit, .. } => Some(*edit),
            _ => None,
        }
    }
}

impl StateObjects {
    /// Nothing departs.
    #[must_use]
    pub fn intact(scenario: &Scenario) -> Self {
        Self { objects: scenario.manifests.iter().flat_map(|m| m.objects.iter().cloned()).collect(), ..Self::default() }
    }
}

/// The objects that stand in a state: [`INTACT`] or a variation's name.
///
/// # Errors
/// When there is no such state, or a change does not fit (the loader has checked that all do).
pub fn objects_in(scenario: &Scenario, state: &str) -> Result<StateObjects, StateError> {
    if state == INTACT {
        return Ok(StateObjects::intact(scenario));
    }
    let variation = scenario.variations.iter().find(|v| v.name == state);
    changed(scenario, &variation.ok_or_else(|| StateError::NoSuchState(state.to_owned()))?.changes)
}

/// The intact objects with some changes made, as of a [mutation](crate::plan::Mutation).
///
/// # Errors
/// When a change does not fit.
pub fn changed(scenario: &Scenario, changes: &[Change]) -> Result<StateObjects, StateError> {
    let mut objects = StateObjects::intact(scenario);
    changes.iter().try_for_each(|change| apply(scenario, &mut objects, change))?;
    Ok(objects)
}

/// Makes one change.
pub(crate) fn apply(scenario: &Scenario, state: &mut StateObjects, change: &Change) -> Result<(), StateError> {
    match change {
        Change::WithoutAll => state.objects.clear(),
        Change::Without { file } => {
            let manifest = scenario.manifests.iter().find(|m| m.file == *file);
            let gone = &manifest.ok_or_else(|| StateError::NoSuchManifest(file.clone()))?.objects;
            let before = state.objects.len();
            state.objects.retain(|object| gone.iter().all(|g| g.key != object.key));
            if state.objects.len() == before {
                return Err(StateError::NoSuchManifest(file.clone()));
            }
        }
        Change::WithoutObject { key } => {
            let place = state.objects.iter().position(|o| o.key == *key).ok_or_else(|| StateError::NoSuchObject(key.clone().into()))?;
            state.objects.remove(place);
        }
        Change::With { file } => {
            let manifest = scenario.extra_manifests.iter().find(|m| m.file == *file);
            for object in &manifest.ok_or_else(|| StateError::NothingToAdd(file.clone()))?.objects {
                if state.objects.iter().any(|o| o.key == object.key) {
                    return Err(StateError::AlreadyThere(object.key.clone().into()));
                }
                state.objects.push(object.clone());
            }
        }
        Change::Patch { key, edits } => {
            let object = state.objects.iter_mut().find(|o| o.key == *key).ok_or_else(|| StateError::NoSuchObject(key.clone().into()))?;
            for (i, edit) in edits.iter().enumerate() {
                let (Edit::Set { pointer, .. } | Edit::Remove { pointer }) = edit;
                if ["/apiVersion", "/kind", "/metadata", "/metadata/name", "/metadata/namespace"].contains(&pointer.as_str()) {
                    return Err(StateError::AnotherObject { key: key.clone().into(), pointer: pointer.clone(), edit: i });
                }
                apply_edit(&mut object.value, edit).map_err(|why| StateError::PointsNowhere {
                    key: key.clone().into(),
                    pointer: pointer.clone(),
                    why,
                    edit: i,
                })?;
            }
        }
        Change::Scale { workload, replicas } => {
            state.scale.insert(workload.clone(), *replicas);
        }
        Change::ControlPlane(change) => state.control_plane.add(change),
    }
    Ok(())
}

/// Makes one edit at an RFC 6901 pointer; on an error nothing has changed, and it says how far the pointer leads.
///
/// # Errors
/// A phrase that says where the pointer stops.
pub fn apply_edit(value: &mut Value, edit: &Edit) -> Result<(), String> {
    let (Edit::Set { pointer, .. } | Edit::Remove { pointer }) = edit;
    let (parent, last) = pointer.rsplit_once('/').ok_or("a pointer begins with `/`")?;
    let Some(parent_value) = value.pointer_mut(parent) else { return Err(missing(value, parent)) };
    let last = last.replace("~1", "/").replace("~0", "~");
    let shown = if parent.is_empty() { "the object" } else { parent };
    match (parent_value, edit) {
        (Value::Object(map), Edit::Set { value, .. }) => drop(map.insert(last, value.clone())),
        (Value::Object(map), Edit::Remove { .. }) => drop(map.remove(&last).ok_or_else(|| format!("`{shown}` has no `{last}`"))?),
        (Value::Array(items), Edit::Set { value, .. }) if last == "-" => items.push(value.clone()),
        (Value::Array(items), edit) => {
            let index: Option<usize> =
                if last.starts_with('+') || (last.len() > 1 && last.starts_with('0')) { None } else { last.parse().ok() };
            let length = items.len();
            let index = index.filter(|i| *i < length).ok_or_else(|| format!("`{shown}` has {length} elements, none is `{last}`"))?;
            match edit {
                Edit::Set { value, .. } => items[index] = value.clone(),
                Edit::Remove { .. } => drop(items.remove(index)),
            }
        }
        _ => return Err(format!("`{shown}` is neither a map nor a list")),
    }
    Ok(())
}

/// The first part of a pointer that leads nowhere.
fn missing(value: &Value, pointer: &str) -> String {
    let ends = pointer.char_indices().filter(|(i, c)| *c == '/' && *i > 0).map(|(i, _)| i).chain([pointer.len()]);
    for end in ends {
        if value.pointer(&pointer[..end]).is_none() {
            return format!("there is no `{}`", &pointer[..end]);
        }
    }
    format!("there is no `{pointer}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(edit: Edit, expected: Result<Value, &str>) {
        let mut value = json!({"spec": {"servers": [{"port": 1}, {"port": 2}], "a/b": 1}});
        let before = value.clone();
        match (apply_edit(&mut value, &edit), expected) {
            (Ok(()), Ok(expected)) => assert_eq!(value["spec"], expected, "{edit:?}"),
            (Err(why), Err(expected)) => {
                assert_eq!(why, expected, "{edit:?}");
                assert_eq!(value, before);
            }
            (got, expected) => panic!("{edit:?}: {got:?}, expected {expected:?}"),
        }
    }

    fn set(pointer: &str, value: Value) -> Edit {
        Edit::Set { pointer: pointer.to_owned(), value }
    }

    fn remove(pointer: &str) -> Edit {
        Edit::Remove { pointer: pointer.to_owned() }
    }

    #[test]
    fn edits_follow_rfc_6901() {
        check(set("/spec/servers/1/port", json!(3)), Ok(json!({"servers": [{"port": 1}, {"port": 3}], "a/b": 1})));
        check(set("/spec/servers/-", json!(3)), Ok(json!({"servers": [{"port": 1}, {"port": 2}, 3], "a/b": 1})));
        check(set("/spec/new", json!([])), Ok(json!({"servers": [{"port": 1}, {"port": 2}], "a/b": 1, "new": []})));
        check(remove("/spec/a~1b"), Ok(json!({"servers": [{"port": 1}, {"port": 2}]})));
        check(remove("/spec/servers/0"), Ok(json!({"servers": [{"port": 2}], "a/b": 1})));
        check(remove("/spec/x"), Err("`/spec` has no `x`"));
        check(set("/spec/x/y/z", json!(1)), Err("there is no `/spec/x`"));
        check(set("/spec/servers/2", json!(1)), Err("`/spec/servers` has 2 elements, none is `2`"));
        check(set("/spec/servers/01", json!(1)), Err("`/spec/servers` has 2 elements, none is `01`"));
        check(set("/spec/servers/0/port/x", json!(1)), Err("`/spec/servers/0/port` is neither a map nor a list"));
    }
}
