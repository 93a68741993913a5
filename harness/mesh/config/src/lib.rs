//! The configuration half of the simulated mesh, without input or output.
//!
//! Two halves meet at Envoy's own API in its JSON form and share no types beyond it:
//!
//! - `istio` turns a [`Snapshot`] (objects as the Kubernetes API holds them) into the listeners, routes, clusters and
//!   endpoints that istiod sends to one proxy; `gateway_api` turns Gateway API objects into Istio's first, as istiod does.
//! - `envoy` reads such resources, refuses what Envoy refuses, and decides what they do with a connection or a request.
//!
//! So the second half runs on a dump captured from a real proxy as well, and either can be checked without the other.

pub mod analyze;
pub mod envoy;
pub mod gateway_api;
pub mod istio;
mod snapshot;
pub mod validate;

pub use snapshot::{ProxyKind, ProxyNode, ProxyResources, Secret, Snapshot};
