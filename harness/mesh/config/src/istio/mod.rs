//! From a snapshot to what istiod sends to one proxy.

#[cfg(test)]
mod captured_tests;
pub mod clusters;
pub mod endpoints;
mod features;
pub mod gateway;
mod ingress;
mod locality;
pub mod mesh_config;
pub mod model;
mod node;
pub mod policy;
mod push;
pub mod route;
mod secrets;
pub mod sidecar;
#[cfg(test)]
mod testing;

pub use features::Features;
pub use mesh_config::MeshConfig;
pub use model::PushContext;
