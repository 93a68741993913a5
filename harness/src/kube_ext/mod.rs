//! What the Kubernetes client lacks: HTTP to a pod's port, and resources by kind.

mod pod_http;
mod resources;

pub use pod_http::{PodHttp, PodHttpError, open_port};
pub use resources::Resources;
