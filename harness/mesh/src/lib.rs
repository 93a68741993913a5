//! A simulated Istio mesh in one process: a Kubernetes API, a control plane and a data plane over a virtual network.
//!
//! It is not Istio and does not claim to be; how far it agrees with the real one is measured by `gateproof parity`.

pub mod api;
pub mod control;
pub mod install;
mod mesh;
pub mod net;
pub mod proxy;
pub mod workload;

pub use mesh::{Mesh, MeshError, Message, Options, OutsideServer};
