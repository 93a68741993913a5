//! Refusals, in the words and with the reasons of a real API server.
//!
//! Source: Kubernetes `apimachinery/pkg/api/errors/errors.go`.

use std::fmt;

use serde_json::{Map, Value, json};

use super::registry::Resource;

/// One cause among the details of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, `ExitCode`, …
    pub reason: String,
    /// For a person.
    pub message: String,
    /// The path of the field, empty when there is none.
    pub field: String,
}

/// Why a request is refused: what becomes a `metav1.Status` of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub code: u16,
    /// The machine's word (`NotFound`, …); empty where Kubernetes gives none, as for most webhooks.
    pub reason: String,
    /// The words for a person.
    pub message: String,
    /// What it is about; empty when about no object.
    pub details: Box<Details>,
}

/// What a refusal is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The API group.
    pub group: String,
    /// The plural, or the kind where Kubernetes says the kind.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// What is wrong, field by field.
    pub causes: Vec<Cause>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// A refusal that is about no object.
    #[must_use]
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: Box::default() }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details.group.clone_from(&resource.group);
        self.details.kind.clone_from(&resource.plural);
        name.clone_into(&mut self.details.name);
        self
    }

    /// There is no such object.
    #[must_use]
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", resource.group_resource())).about(resource, name)
    }

    /// The namespace does not exist.
    #[must_use]
    pub fn no_namespace(name: &str) -> Self {
        let mut error = Self::new(404, "NotFound", format!("namespaces \"{name}\" not found"));
        "namespaces".clone_into(&mut error.details.kind);
        name.clone_into(&mut error.details.name);
        error
    }

    /// No such path.
    #[must_use]
    pub fn no_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// The name is taken.
    #[must_use]
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", resource.group_resource())).about(resource, name)
    }

    /// The object is not as the caller thinks it is.
    #[must_use]
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.group_resource());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// The object was changed since the caller read it.
    #[must_use]
    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(resource, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// Not allowed.
    #[must_use]
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{} \"{name}\" is forbidden: {why}", resource.group_resource())).about(resource, name)
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The object is not valid; one cause for each field.
    #[must_use]
    pub fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let words: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let words = match words.as_slice() {
            [] => "<nil>".to_owned(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let kind = if resource.group.is_empty() { resource.kind.clone() } else { format!("{}.{}", resource.kind, resource.group) };
        let mut error = Self::new(422, "Invalid", format!("{kind} \"{name}\" is invalid: {words}")).about(resource, name);
        error.details.kind.clone_from(&resource.kind);
        error.details.causes = causes;
        error
    }

    /// The method is not served there.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// A failure of the server itself.
    #[must_use]
    pub fn internal(why: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {why}"))
    }

    /// The back end of a proxy cannot be reached.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The watch asks for what has been forgotten.
    #[must_use]
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// Whether it says that the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// Whether it says that the object was changed meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// As a `metav1.Status`.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        let mut details = Map::new();
        for (key, value) in [("name", &self.details.name), ("group", &self.details.group), ("kind", &self.details.kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), json!(value));
            }
        }
        if !self.details.causes.is_empty() {
            let one = |c: &Cause| {
                let mut cause = json!({"reason": c.reason, "message": c.message});
                if !c.field.is_empty() {
                    cause["field"] = json!(c.field);
                }
                cause
            };
            details.insert("causes".to_owned(), self.details.causes.iter().map(one).collect());
        }
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }
}

impl Cause {
    /// A value that a field must not have. Source: `field.Invalid` of `apimachinery/pkg/util/validation/field`.
    #[must_use]
    pub fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self { reason: "FieldValueInvalid".to_owned(), message: format!("Invalid value: {value}: {why}"), field: field.to_owned() }
    }

    /// A field that must be there.
    #[must_use]
    pub fn required(field: &str, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired".to_owned(), message, field: field.to_owned() }
    }
}
