//! Removal of what a run made: by labels and state, so that it works without the run's memory.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptions, RemoveContainerOptions};
use futures::future::join_all;

use super::state::{self, State, StateDir};
use crate::outside::CLUSTER_LABEL;
use crate::provider::{Progress, ProviderError, step};

/// kind's own label on node containers.
pub(crate) const KIND_LABEL: &str = "io.x-k8s.kind.cluster";
/// Docker's network for kind.
pub(crate) const NETWORK: &str = "kind";

/// Containers with this label.
pub(crate) async fn containers(docker: &Docker, label: &str, value: Option<&str>) -> Result<Vec<String>, ProviderError> {
    let wanted = value.map_or_else(|| label.to_owned(), |v| format!("{label}={v}"));
    let options =
        ListContainersOptions { all: true, filters: Some(HashMap::from([("label".to_owned(), vec![wanted])])), ..Default::default() };
    let found = docker.list_containers(Some(options)).await.map_err(ProviderError::docker("list containers"))?;
    Ok(found.into_iter().filter_map(|c| c.id).collect())
}

/// Removes the cluster and its files.
pub(crate) async fn remove(docker: &Docker, dir: &StateDir, state: &State) -> Result<(), ProviderError> {
    remove_from_engine(docker, state).await?;
    dir.clear();
    Ok(())
}

/// Removes the cluster's node and stand-ins, and the network if it came with them.
pub(crate) async fn remove_from_engine(docker: &Docker, state: &State) -> Result<(), ProviderError> {
    // A `kind create` that was just killed may have asked Docker for a container that is still coming.
    let looks = if state.creator.is_some() { 2 } else { 1 };
    let mut empty = 0;
    let mut last = Ok(());
    for _ in 0..20 {
        let mut ids = containers(docker, KIND_LABEL, Some(&state.cluster)).await?;
        ids.extend(containers(docker, CLUSTER_LABEL, Some(&state.cluster)).await?);
        empty = if ids.is_empty() { empty + 1 } else { 0 };
        if empty == looks {
            last = Ok(());
            break;
        }
        last = remove_containers(docker, &ids).await;
        tokio::time::sleep(Duration::from_millis(if ids.is_empty() { 300 } else { 20 })).await;
    }
    last?;
    if !state.network_before {
        remove_network_if_unused(docker).await;
    }
    Ok(())
}

async fn remove_containers(docker: &Docker, ids: &[String]) -> Result<(), ProviderError> {
    let options = || RemoveContainerOptions { force: true, v: true, link: false };
    let removed = join_all(ids.iter().map(|id| docker.remove_container(id, Some(options())))).await;
    removed
        .into_iter()
        .find(|r| matches!(r, Err(e) if !is_gone(e)))
        .unwrap_or(Ok(()))
        .map_err(ProviderError::docker("remove the cluster's containers"))
}

/// Removes stand-ins whose cluster has no state any more: their label says that they are ours.
pub(crate) async fn remove_strays(docker: &Docker, cluster: &str) -> Result<(), ProviderError> {
    remove_containers(docker, &containers(docker, CLUSTER_LABEL, Some(cluster)).await?).await
}

/// "No such container", or "removal already in progress": as good as removed.
fn is_gone(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. })
}

async fn remove_network_if_unused(docker: &Docker) {
    // Stopped containers count too: another kind cluster may be resting, and could not start again without its network.
    let filters = HashMap::from([("network".to_owned(), vec![NETWORK.to_owned()])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    if docker.list_containers(Some(options)).await.is_ok_and(|on_it| on_it.is_empty()) {
        let _ = docker.remove_network(NETWORK).await;
    }
}

/// Whether Docker has kind's network.
pub(crate) async fn network_exists(docker: &Docker) -> bool {
    docker.inspect_network(NETWORK, None::<InspectNetworkOptions>).await.is_ok()
}

/// Removes clusters whose run was killed: not kept, and nobody holds their lock. The cluster `but` is
/// left to the caller, who holds its lock.
pub(crate) async fn reap(docker: &Docker, but: &str, progress: &dyn Progress) -> Result<(), ProviderError> {
    let Ok(entries) = std::fs::read_dir(state::root()?) else { return Ok(()) };
    for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|name| name != but) {
        let dir = StateDir::of(&name)?;
        let Some(_lock) = dir.try_lock()? else { continue };
        match dir.read() {
            Some(state) if state.kept || state.cluster != name => {}
            Some(state) => step(progress, &format!("remove {name}, left by a killed run"), remove(docker, &dir, &state)).await?,
            None => dir.clear(),
        }
    }
    Ok(())
}

/// Removes a cluster from outside any runtime: for a panic, or a second Ctrl-C. Does nothing to a
/// cluster that is kept, or that has no state of ours.
///
/// # Errors
/// When Docker refuses; what is left is removed by the next run.
pub fn cleanup_blocking(cluster: &str) -> Result<(), ProviderError> {
    let cluster = cluster.to_owned();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ProviderError::io("start a runtime"))?;
        runtime.block_on(async {
            let dir = StateDir::of(&cluster)?;
            match dir.read() {
                Some(state) if !state.kept => remove(&super::preflight::connect().await?, &dir, &state).await,
                _ => Ok(()),
            }
        })
    };
    // A thread of its own, since this one may be inside a runtime.
    std::thread::spawn(work).join().unwrap_or(Ok(()))
}
