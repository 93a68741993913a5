//! Envoy's resources read into types, and what they do with a connection or a request.
//!
//! Everything is read from the JSON form of a `config_dump` and refused where Envoy refuses. Nothing here opens a socket,
//! takes the time or draws a random number: the caller gives those.

pub mod access_log;
pub mod address;
pub mod arrival;
pub mod balance;
mod chain;
pub mod cluster;
pub mod details;
pub mod hcm;
pub mod headers;
pub mod http_filter;
pub mod jwt;
pub mod listener;
pub mod matchers;
pub mod network;
pub mod push;
pub mod rbac;
mod read;
mod refusal;
pub mod route;
pub mod simulate;
pub mod tls;

pub use access_log::{AccessLog, CallRecord, Flag, Flags, Format};
pub use address::{Address, Cidr};
pub use cluster::{Cluster, Endpoint, Endpoints};
pub use hcm::HttpConnectionManager;
pub use headers::Headers;
pub use http_filter::{HttpFilter, HttpFilterKind};
pub use listener::{ConnectionFacts, FilterChain, Listener};
pub use network::{NetworkFilter, TcpProxy};
pub use refusal::Refusal;
pub use route::{Decision, Matched, RequestFacts, RouteTable};
pub use tls::{DownstreamTls, UpstreamSocket, UpstreamTls};

#[cfg(test)]
mod tests;
