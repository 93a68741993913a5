//! Patches to lists where order counts: filters of a chain, filters of HTTP, routes.

use serde_json::Value;

use super::Operation;

/// Changes a list by one patch that is not a merge. `is_anchor` says which elements the patch names; nothing if it names none.
///
/// Without an anchor, after is at the end and before is at the start. What is named and not there changes nothing
/// (Istio: `patchHTTPFilters`).
pub(super) fn patch(list: &mut Vec<Value>, operation: Operation, value: &Value, is_anchor: Option<&dyn Fn(&Value) -> bool>) {
    let found = is_anchor.map(|is_anchor| list.iter().position(is_anchor));
    match (operation, found) {
        (Operation::Add, _) | (Operation::InsertAfter, None) => list.push(value.clone()),
        (Operation::InsertFirst, _) | (Operation::InsertBefore, None) => list.insert(0, value.clone()),
        (Operation::InsertAfter, Some(Some(index))) => list.insert(index + 1, value.clone()),
        (Operation::InsertBefore, Some(Some(index))) => list.insert(index, value.clone()),
        (Operation::Replace, Some(Some(index))) => {
            if let Some(element) = list.get_mut(index) {
                *element = value.clone();
            }
        }
        (Operation::Remove, _) => {
            if let Some(is_anchor) = is_anchor {
                list.retain(|element| !is_anchor(element));
            }
        }
        _ => {}
    }
}

/// The list at a field, made if it is not there.
pub(super) fn list_at<'a>(owner: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    owner.as_object_mut()?.entry(field).or_insert_with(|| Value::Array(Vec::new())).as_array_mut()
}
