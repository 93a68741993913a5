//! What runs on the simulated cluster: the programs in containers, and those who start and stop them.
//!
//! - [`programs`]: httpbin, curl, a shell, echo servers, chosen by the name of the image; hosts outside of the cluster.
//! - [`Workloads`]: controllers, scheduler, kube-proxy, cluster DNS and a kubelet over the Kubernetes API in memory.
//! - [`Injector`]: the webhook that puts the proxy into pods.

mod controllers;
pub mod programs;

pub use controllers::{
    InjectionSettings, Injector, LogSink, Proxies, ProxyHandle, Setup, SetupError, WorkloadSettings, Workloads, inject, is_wanted,
};
