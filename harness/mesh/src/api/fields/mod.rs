//! Who owns which field: what server-side apply rests on.
//!
//! Sources: Kubernetes `apimachinery/pkg/util/managedfields`; `sigs.k8s.io/structured-merge-diff/v4` (`merge/update.go`,
//! `typed/`, `fieldpath/`).

mod managers;
mod merge;
mod schema;
mod set;
#[cfg(test)]
mod tests;

pub(crate) use managers::{Manager, Managers, apply};
pub(crate) use schema::{Listing, Schema};
