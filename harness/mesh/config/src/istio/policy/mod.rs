//! What policies add to a proxy's resources: access logs, who may call, tokens, mutual TLS and patches.

mod access_log;
mod authorization;
mod envoy_filter;
mod peer;
mod request_authentication;
mod selection;
#[cfg(test)]
mod testing;

pub use access_log::{ListenerClass, access_log, listener_access_log};
pub use authorization::{custom_http_filters, http_filters, network_filters};
pub use envoy_filter::apply_envoy_filters;
pub use peer::{PeerMode, peer_mode};
pub use request_authentication::jwt_filter;
pub use selection::attaches;
