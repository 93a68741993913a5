//! What the Kubernetes client lacks: HTTP to a pod's port, resources by kind, and pods at a glance.

pub mod glance;
mod pod_http;
mod resources;
mod status;

pub use pod_http::{PodHttp, PodHttpError, open_port};
pub use resources::Resources;
pub use status::is_settled;
