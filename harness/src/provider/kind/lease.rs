//! A cluster for the length of a run: had, used, given back.

use std::ops::Deref;

use bollard::Docker;

use super::build::{self, Plan};
use super::remove::{self, KIND_LABEL, cleanup_blocking};
use super::state::{Lock, State, StateDir};
use super::{node, preflight, tools};
use crate::provider::{Cluster, ClusterNeeds, Progress, ProviderError, ProviderOptions, Tools, step};

/// A cluster that is ours until it is given back. Dropping it without [`Lease::down`] removes it too,
/// unless it is kept.
pub struct Lease {
    cluster: Cluster,
    tools: Tools,
    guard: Guard,
}

impl Deref for Lease {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Lease {
    /// Adds what is needed beyond what the cluster has: gateways and hosts. What stands stays as it is, so `needs` names
    /// all that the run has needed so far.
    ///
    /// # Errors
    /// When it cannot be had; the cluster stays ours.
    pub async fn extend(&mut self, options: &ProviderOptions, needs: &ClusterNeeds, progress: &dyn Progress) -> Result<(), ProviderError> {
        let plan = Plan::read(options, needs)?;
        let (docker, dir) = (&self.guard.docker, &self.guard.dir);
        let gone = || ProviderError::Command {
            what: format!("extend the cluster {}", self.guard.cluster),
            seen: "its state is gone; somebody removed it".to_owned(),
        };
        let state = dir.read().ok_or_else(gone)?;
        let mut cluster = build::reuse("extend the cluster", docker, dir, &self.tools, &plan, state, progress).await?;
        cluster.preflight.clone_from(&self.cluster.preflight);
        cluster.record = self.cluster.record.clone();
        self.cluster = cluster;
        Ok(())
    }

    /// Gives the cluster back: it is removed, unless it is kept.
    ///
    /// # Errors
    /// When Docker refuses; what is left is removed by the next run.
    pub async fn down(mut self, progress: &dyn Progress) -> Result<(), ProviderError> {
        self.guard.release(progress).await
    }
}

/// Removes the cluster when dropped, while it is armed. Holds its lock.
struct Guard {
    docker: Docker,
    dir: StateDir,
    cluster: String,
    armed: bool,
    _lock: Lock,
}

impl Guard {
    async fn release(&mut self, progress: &dyn Progress) -> Result<(), ProviderError> {
        if let Some(state) = self.dir.read().filter(|_| self.armed) {
            step(progress, "remove the cluster", remove::remove(&self.docker, &self.dir, &state)).await?;
        }
        self.armed = false;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Errors have nowhere to go here; the state stays, and the next run removes what is left.
        if self.armed
            && let Err(error) = cleanup_blocking(&self.cluster)
        {
            tracing::warn!(%error, cluster = self.cluster, "clean-up failed; the next run repeats it");
        }
    }
}

/// Gives a cluster that has what is needed: a kept one whose configuration is the same, or a new one.
///
/// # Errors
/// When it cannot be had; then nothing of it is left.
pub async fn up(options: &ProviderOptions, needs: &ClusterNeeds, progress: &dyn Progress) -> Result<Lease, ProviderError> {
    let name = &options.cluster_name;
    let mut plan = Plan::read(options, needs)?;
    let docker = preflight::connect().await?;
    let looked = step(progress, "preflight", preflight::preflight(&docker)).await?;
    let tools = tools::provide(&plan.settings, plan.bundle.as_ref(), progress).await?;
    let dir = StateDir::of(name)?;
    let lock = dir.lock(name, progress).await?;
    remove::reap(&docker, name, progress).await?;

    let stands = dir.read().is_some_and(|s| s.kept && s.config_hash == plan.hash) && node::find(&docker, name).await.is_some();
    if options.reuse_only && !stands {
        return Err(ProviderError::Command {
            what: format!("use the cluster {name} as it stands"),
            seen: "there is none that was kept with these versions and values and runs; without --verify-only one is made".to_owned(),
        });
    }
    let reused = match dir.read() {
        Some(state) => keep_or_remove(&docker, &dir, state, &plan, progress).await?,
        None if remove::containers(&docker, KIND_LABEL, Some(name)).await?.is_empty() => {
            remove::remove_strays(&docker, name).await?;
            None
        }
        None => {
            let todo =
                format!("choose another name for gateproof's cluster, or delete it yourself with `kind delete cluster --name {name}`");
            return Err(ProviderError::NotOurs { what: format!("a kind cluster {name}"), todo });
        }
    };
    let mut guard = Guard { docker: docker.clone(), dir: dir.clone(), cluster: name.clone(), armed: reused.is_none(), _lock: lock };
    let made = match reused {
        Some(state) => build::reuse("check the kept cluster", &docker, &dir, &tools, &plan, state, progress).await,
        None => {
            plan.network_before = remove::network_exists(&docker).await;
            let lock = guard._lock.share().map_err(ProviderError::io("share the cluster's lock"))?;
            build::create(&docker, &dir, &tools, &plan, lock, progress).await
        }
    };
    match made {
        Ok(mut cluster) => {
            cluster.preflight = looked;
            guard.armed = guard.armed && !options.keep;
            Ok(Lease { cluster, tools, guard })
        }
        Err(error) => {
            // What stopped the run matters more than what stops the clean-up.
            let _ = guard.release(progress).await;
            Err(error)
        }
    }
}

/// A kept cluster that fits is reused; any other of ours is removed.
async fn keep_or_remove(
    docker: &Docker,
    dir: &StateDir,
    state: State,
    plan: &Plan<'_>,
    progress: &dyn Progress,
) -> Result<Option<State>, ProviderError> {
    let name = &plan.options.cluster_name;
    if state.kept && state.config_hash == plan.hash && node::find(docker, name).await.is_some() {
        return Ok(Some(state));
    }
    if state.kept {
        let why = if state.config_hash == plan.hash { "its node does not run" } else { "it was made with other versions or values" };
        progress.warn(&format!("the kept cluster {name} cannot be reused, since {why}; making it anew"));
    }
    step(progress, "remove the earlier cluster", remove::remove_from_engine(docker, &state)).await?;
    dir.clear_all_but_lock();
    Ok(None)
}

/// Removes a cluster that was kept. Gives whether there was one.
///
/// # Errors
/// When Docker refuses.
pub async fn delete(cluster: &str, progress: &dyn Progress) -> Result<bool, ProviderError> {
    let docker = preflight::connect().await?;
    let dir = StateDir::of(cluster)?;
    let _lock = dir.lock(cluster, progress).await?;
    match dir.read() {
        Some(state) => step(progress, "remove the cluster", remove::remove(&docker, &dir, &state)).await.map(|()| true),
        None => Ok(false),
    }
}
