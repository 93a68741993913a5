//! The Kubernetes API in memory.
//!
//! - [`Store`] holds the objects and does to them what an API server and its own controllers do: versions, generations,
//!   managed fields, finalizers, garbage collection, namespaces, watches. Other parts of the mesh use it directly.
//! - [`Server`] serves it over HTTP: to a [`kube::Client`] without a socket ([`Server::client`]), or on a TCP port for a
//!   person with kubectl ([`Server::serve`]). What needs a node (exec, logs, port-forward, proxy) goes to a [`Kubelet`].
//! - [`Admission`] has a say before a write is kept.

mod admission;
mod client;
mod error;
mod fields;
mod http;
mod kubelet;
mod registry;
mod selector;
mod store;
#[cfg(test)]
mod tests;

pub use admission::{Admission, AdmissionRequest, Denial, Operation, Reviewed};
pub use error::{ApiError, Cause, Details};
pub use http::{ApiBody, Server};
pub use kubelet::{Connection, ExecRequest, ExecStreams, Kubelet, LogRequest, NoKubelet, Stream};
pub use registry::{Registry, Resource};
pub use selector::Selector;
pub use store::{Action, Change, DeleteOptions, Options, Propagation, Store, Watch};
