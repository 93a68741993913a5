//! gateproof: proves that Istio gateways do what their configuration says.

/// A run on the simulated mesh makes and drops trees of small values all the time, on several threads: a quarter of its time was
/// the system's allocator, and this one takes half as much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod apply;
#[cfg(test)]
mod architecture;
pub mod cli;
pub mod install;
pub mod kube_ext;
pub mod outside;
pub mod probe;
pub mod provider;
pub mod run;
pub mod sync;
