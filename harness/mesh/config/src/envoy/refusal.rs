//! Why a resource is not taken.

/// A resource was not taken. A refused resource leaves the version that the proxy already had, and the others of the same
/// push are taken (`source/extensions/config_subscription/grpc`; `LdsApiImpl::onConfigUpdate`, `CdsApiHelper`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Envoy itself refuses. The text is what it says of the resource, without the `Error adding/updating ...` before it.
    #[error("{0}")]
    Rejected(String),
    /// A real Envoy takes it, and this one cannot act on it.
    #[error("not simulated: {0}")]
    Unsupported(String),
}

impl Refusal {
    /// Envoy refuses, in these words.
    pub fn rejected(words: impl Into<String>) -> Self {
        Self::Rejected(words.into())
    }

    /// This simulation cannot do this.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }
}
