//! gateproof: proves that Istio gateways do what their configuration says.

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
