//! Can this machine run a cluster? Asked before anything is touched.

use std::path::Path;

use bollard::Docker;
use gateproof_core::report::PreflightRecord;

use crate::provider::ProviderError;

/// Below this much free disk, the kubelet and image imports fail in ways that are hard to read.
const DISK_WANTED: u64 = 4 << 30;
/// The oldest Docker API that has what is used here.
const API_WANTED: (usize, usize) = (1, 40);

/// A client that speaks the version that the engine speaks.
pub(crate) async fn connect() -> Result<Docker, ProviderError> {
    let unreachable = |e: bollard::errors::Error| ProviderError::Preflight {
        what: "the Docker engine",
        seen: e.to_string(),
        todo: "start it, or let DOCKER_HOST name one that answers; `docker info` must work".to_owned(),
    };
    Docker::connect_with_defaults().map_err(unreachable)?.negotiate_version().await.map_err(unreachable)
}

/// Looks at engine, API version, disk and cgroup.
pub(crate) async fn preflight(docker: &Docker) -> Result<Vec<PreflightRecord>, ProviderError> {
    let info = docker.info().await.map_err(ProviderError::docker("ask the Docker engine about itself"))?;
    let mut seen = Vec::new();
    let mut note = |what: &str, observed: String| seen.push(PreflightRecord { what: what.to_owned(), observed, ok: true });

    let text = |v: &Option<String>| v.clone().unwrap_or_else(|| "unknown".to_owned());
    note(
        "Docker engine",
        format!(
            "{} on {}, {} CPUs, {:.1} GiB",
            text(&info.server_version),
            text(&info.operating_system),
            info.ncpu.unwrap_or(0),
            gib(info.mem_total.unwrap_or(0).try_into().unwrap_or(0))
        ),
    );

    let version = docker.client_version();
    let spoken = (version.major_version, version.minor_version);
    if spoken < API_WANTED {
        return Err(ProviderError::Preflight {
            what: "the Docker API version",
            seen: format!("{}.{}", spoken.0, spoken.1),
            todo: format!("update Docker to one that speaks {}.{} or later", API_WANTED.0, API_WANTED.1),
        });
    }
    note("Docker API", format!("{}.{}", spoken.0, spoken.1));

    match info.docker_root_dir.as_deref().map(|dir| (dir, fs4::available_space(Path::new(dir)))) {
        Some((dir, Ok(free))) if free < DISK_WANTED => {
            return Err(ProviderError::Preflight {
                what: "free disk",
                seen: format!("{:.1} GiB in {dir}, and {:.0} GiB are needed", gib(free), gib(DISK_WANTED)),
                todo: "make room, for instance with `docker system prune`".to_owned(),
            });
        }
        Some((dir, Ok(free))) => note("free disk", format!("{:.1} GiB in {dir}", gib(free))),
        // Docker Desktop's root is inside its virtual machine.
        Some((dir, Err(_))) => note("free disk", format!("{dir} cannot be seen from here")),
        None => note("free disk", "unknown".to_owned()),
    }

    note("cgroup", info.cgroup_version.map_or_else(|| "unknown".to_owned(), |v| format!("v{v}")));
    Ok(seen)
}

#[allow(clippy::cast_precision_loss)]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}
