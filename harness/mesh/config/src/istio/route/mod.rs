//! VirtualServices: what they say, which of them count, and the routes that they become.

pub(in crate::istio) mod backends;
#[cfg(test)]
mod captured_tests;
mod delegate;
pub mod destination;
mod duration;
mod filters;
mod headers;
pub mod host;
mod http;
#[cfg(test)]
mod http_tests;
pub mod l4;
pub(in crate::istio) mod matching;
pub(in crate::istio) mod meta;
mod retry;
pub mod sidecar;
#[cfg(test)]
mod sidecar_tests;
pub mod spec;
mod store;
#[cfg(test)]
pub(in crate::istio) mod testing;

pub use duration::ProtoDuration;
pub(crate) use filters::GRPC_CODES;
pub use http::{HttpContext, routes};
pub use l4::{Chain, tcp_proxy, tcp_proxy_to, tcp_routes, tls_matches};
pub use meta::Meta;
pub(in crate::istio) use sidecar::{DYNAMIC_DNS, DYNAMIC_DNS_CLUSTER, config, everything_else};
pub use sidecar::{Egress, route_config as sidecar_route_config};
pub use spec::VirtualService;
pub use store::{MESH, VirtualServices};
