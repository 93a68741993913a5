//! Istio's and Gateway API's validation, as the API server and istiod's webhook do it.

use gateproof_mesh_config::validate;

use crate::api::{Admission, AdmissionRequest, Cause, Denial, Reviewed};

/// Refuses what a cluster with Istio would refuse, in its words.
#[derive(Debug, Clone, Copy, Default)]
pub struct Webhook;

const DENIED: &str = "denied the request: ";

impl Admission for Webhook {
    fn review(&self, request: &AdmissionRequest<'_>) -> Result<Reviewed, Denial> {
        match validate::review(request.object) {
            Ok(warnings) => Ok(Reviewed { warnings: warnings.into_iter().map(|w| w.0).collect(), ..Reviewed::default() }),
            Err(refusal) if refusal.causes.is_empty() && refusal.code >= 500 => {
                Err(Denial::Unreadable { code: refusal.code, message: refusal.message })
            }
            Err(refusal) if refusal.causes.is_empty() => {
                // The API server writes the frame around a webhook's words itself.
                let message = refusal.message.split_once(DENIED).map_or(refusal.message.as_str(), |(_, words)| words).to_owned();
                Err(Denial::Webhook { name: "validation.istio.io".to_owned(), code: refusal.code, message })
            }
            Err(refusal) => Err(Denial::Invalid(
                refusal.causes.into_iter().map(|c| Cause { reason: c.reason.into(), message: c.message, field: c.field }).collect(),
            )),
        }
    }
}
