//! What istiod's webhook and the resource definitions refuse, in their words.
//!
//! A real cluster asks in this order, and so does [`review`]: does the schema know every field (server-side apply), does the object
//! fit the schema (types, required fields, enumerations, choices, the definitions' CEL rules), what does istiod's webhook say
//! (Istio: `pkg/config/validation`). The words were compared with those of a kind cluster with Istio 1.31-alpha.

mod authorization_policy;
mod destination_rule;
mod envoy_filter;
mod gateway;
mod gateway_api;
mod http_route;
mod names;
mod problems;
mod reach;
mod request_authentication;
mod rules;
mod schema;
mod service_entry;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;
mod virtual_service;

use serde_json::Value;

use crate::istio::model::object;
pub(crate) use names::{Spoken, hosts_overlap, spoken};
use problems::Problems;
pub use reach::{Reach, reach};
pub use schema::unknown_fields;
pub(crate) use virtual_service::is_claim;

/// What the webhook lets pass but says to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

/// One field that does not fit, as `Status.details.causes` holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, `FieldValueNotSupported` or `FieldValueTypeInvalid`.
    pub reason: &'static str,
    /// What is wrong, without the field's name.
    pub message: String,
    /// The field's path; `<nil>` where the API server knows none.
    pub field: String,
}

/// Why an object is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status: 400 of the webhook, 422 of the schema, 500 of server-side apply.
    pub code: u16,
    /// `Status.reason`; empty if there is none.
    pub reason: &'static str,
    /// `Status.message`.
    pub message: String,
    /// `Status.details.causes`.
    pub causes: Vec<Cause>,
}

/// The kinds whose objects are looked at; all others pass.
pub const REVIEWED: &[&str] = &[
    "AuthorizationPolicy",
    "DestinationRule",
    "EnvoyFilter",
    "Gateway",
    "PeerAuthentication",
    "RequestAuthentication",
    "ServiceEntry",
    "Sidecar",
    "Telemetry",
    "VirtualService",
];

/// Whether this is one of Istio's kinds that are looked at (Gateway API has a `Gateway` too).
fn is_reviewed(object: &Value) -> bool {
    let group = object::text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    group.ends_with(".istio.io") && REVIEWED.contains(&object::text(object, "/kind"))
}

/// Whether a cluster with Istio and Gateway API takes this object from a server-side apply, and what it says besides.
///
/// # Errors
///
/// What the API server answers instead.
pub fn review(object: &Value) -> Result<Vec<Warning>, Refusal> {
    if !is_reviewed(object) {
        return gateway_api::review(object).map(|()| Vec::new());
    }
    schema::declared(object)?;
    schema::fits(object)?;
    let problems = webhook(object);
    match problems.summary() {
        None => Ok(problems.warnings.into_iter().map(Warning).collect()),
        Some(error) => {
            let message = format!("admission webhook \"validation.istio.io\" denied the request: configuration is invalid: {error}");
            Err(Refusal { code: 400, reason: "", message, causes: Vec::new() })
        }
    }
}

/// What istiod finds in an object that fits the schema; `istioctl analyze` says the same as `IST0106`.
pub(crate) fn webhook(object: &Value) -> Problems {
    if !is_reviewed(object) {
        return Problems::default();
    }
    match object::text(object, "/kind") {
        "AuthorizationPolicy" => authorization_policy::check(object),
        "DestinationRule" => destination_rule::check(object),
        "EnvoyFilter" => envoy_filter::check(object),
        "Gateway" => gateway::check(object),
        "PeerAuthentication" => authorization_policy::check_peer(object),
        "RequestAuthentication" => request_authentication::check(object),
        "ServiceEntry" => service_entry::check(object),
        "Sidecar" => sidecar::check(object),
        "Telemetry" => telemetry::check(object),
        _ => virtual_service::check(object),
    }
}
