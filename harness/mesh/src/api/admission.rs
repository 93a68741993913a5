//! What has a say before an object is kept.

use serde_json::Value;

use super::error::{ApiError, Cause};
use super::registry::Resource;
use super::store::Store;

/// What is about to happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It comes to be.
    Create,
    /// It changes.
    Update,
}

/// One write, before it is kept. Writes to subresources are not reviewed.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// The objects beside it; reading is allowed, and so is writing.
    pub store: &'a Store,
    /// Create or update.
    pub operation: Operation,
    /// The kind.
    pub resource: &'a Resource,
    /// The namespace, empty for objects of the cluster.
    pub namespace: &'a str,
    /// The name; with `generateName` it is already made.
    pub name: &'a str,
    /// The object as it would be kept, with defaults.
    pub object: &'a Value,
    /// The object before, for an update.
    pub old: Option<&'a Value>,
    /// Whether nothing will be kept.
    pub dry_run: bool,
}

/// What a review lets through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reviewed {
    /// The object to keep instead: defaulted, pruned, injected.
    pub object: Option<Value>,
    /// Words for the `Warning` headers.
    pub warnings: Vec<String>,
    /// Paths that the kind does not know: refused under `fieldValidation=Strict`, warned of under `Warn`.
    pub unknown_fields: Vec<String>,
}

/// Why a write is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// A webhook refuses: `admission webhook "NAME" denied the request: MESSAGE`, status 400 unless it says another.
    Webhook {
        /// The webhook's name.
        name: String,
        /// The status that it answered with; 0 for none.
        code: u16,
        /// Its words.
        message: String,
    },
    /// Server-side apply cannot read the object by its schema.
    Unreadable {
        /// The status.
        code: u16,
        /// All of the message.
        message: String,
    },
    /// The schema refuses: status 422.
    Invalid(Vec<Cause>),
    /// The server itself refuses: status 403, `… is forbidden: WORDS`.
    Forbidden(String),
}

impl Denial {
    pub(crate) fn into_error(self, resource: &Resource, name: &str) -> ApiError {
        match self {
            // Source: `apiserver/pkg/admission/plugin/webhook/errors/statuserror.go`, ToStatusErr.
            Self::Webhook { name: hook, code, message } => {
                let denied = format!("admission webhook {hook:?} denied the request");
                let message = if message.is_empty() { format!("{denied} without explanation") } else { format!("{denied}: {message}") };
                ApiError::new(if code < 400 { 400 } else { code }, "", message)
            }
            Self::Unreadable { code, message } => ApiError::new(code, "", message),
            Self::Invalid(causes) => ApiError::invalid(resource, name, causes),
            Self::Forbidden(why) => ApiError::forbidden(resource, name, &why),
        }
    }
}

/// Reviews every create and update, in the order in which the store was given them.
pub trait Admission: Send + Sync {
    /// Lets a write through, perhaps changed, or refuses it.
    ///
    /// # Errors
    /// When it refuses.
    fn review(&self, request: &AdmissionRequest<'_>) -> Result<Reviewed, Denial>;
}
