//! A cluster that was there before us: a kubeconfig context, given by name. Nothing is installed in it, and what it lacks
//! is told all at once before anything is touched.

pub(crate) mod access;
mod context;
mod dns;
mod lock;
mod look;
mod read;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateproof_core::report::{PreflightRecord, ProviderRecord};
use gateproof_core::scenario::ClusterValues;

use super::{Bundle, Cluster, ClusterNeeds, ImageMap, Mesh, Pace, Progress, ProviderError, ProviderOptions, Settings, Tcp, Tools, step};
use crate::sync::Mark;

/// Which cluster, and what may be done to it.
#[derive(Debug, Clone, Default)]
pub struct ExistingOptions {
    /// The kubeconfig context. Never the current one by default.
    pub context: String,
    /// What the cluster calls what scenarios name.
    pub values: ClusterValues,
    /// The file that says so, for the commands that have the run again.
    pub values_file: Option<PathBuf>,
    /// Whether mesh-wide configuration and gateways' replicas may be changed for the length of a run.
    pub allow_mesh_changes: bool,
    /// Nothing is going to be applied: then nothing needs to be absent, and no right to write is needed.
    pub verify_only: bool,
}

/// The cluster for the length of a run.
pub(crate) struct Lease {
    cluster: Cluster,
    lock: Option<lock::Held>,
}

impl Deref for Lease {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Lease {
    /// Gives the cluster back: what the run applied is the run's to remove, so only the lock goes.
    pub(crate) async fn down(self) -> Result<(), ProviderError> {
        match self.lock {
            Some(lock) => lock.release().await,
            None => Ok(()),
        }
    }
}

/// Everything that was looked at; what is not `ok` is lacking.
pub(crate) struct Looked {
    pub(crate) records: Vec<PreflightRecord>,
    pub(crate) found: look::Found,
    /// Each permission, and whether it is granted.
    pub(crate) answers: Vec<(access::Permission, bool)>,
    client: kube::Client,
    cluster: String,
    tools: Tools,
}

/// Looks at the cluster without touching it.
pub(crate) async fn look(options: &ProviderOptions, existing: &ExistingOptions, needs: &ClusterNeeds) -> Result<Looked, ProviderError> {
    let (client, cluster) = context::connect(&existing.context).await?;
    let tools = tools(options)?;
    let found = look::look(&client, existing, needs, &tools).await?;
    let mut records = found.records.clone();
    let roles = access::Role::read(&options.kind)?;
    let wanted: Vec<access::Permission> = roles
        .iter()
        .filter(|r| existing.allow_mesh_changes || r.name != access::MESH_CHANGES)
        .flat_map(access::Role::permissions)
        .filter(|p| !existing.verify_only || !p.writes())
        .filter(|p| found.serves(&p.group))
        .collect();
    let answers = access::ask(&client, &wanted).await?;
    let refused: Vec<String> = answers.iter().filter(|(_, allowed)| !allowed).map(|(p, _)| p.to_string()).collect();
    let observed = if refused.is_empty() {
        format!("all {} of {} are granted", answers.len(), access::FILE)
    } else {
        format!("not granted: {} ({} lists what is needed)", refused.join(", "), access::FILE)
    };
    records.push(PreflightRecord { what: "permissions".to_owned(), observed, ok: refused.is_empty() });
    Ok(Looked { records, found, answers, client, cluster, tools })
}

/// Gives the cluster, if it has what is needed.
pub(crate) async fn up(
    options: &ProviderOptions,
    existing: &ExistingOptions,
    needs: &ClusterNeeds,
    progress: &dyn Progress,
) -> Result<Lease, ProviderError> {
    let looked = step(progress, "look at the cluster", look(options, existing, needs)).await?;
    let lacks: Vec<String> = looked.records.iter().filter(|r| !r.ok).map(|r| format!("{}: {}", r.what, r.observed)).collect();
    if !lacks.is_empty() {
        return Err(ProviderError::Lacks { context: existing.context.clone(), lacks });
    }
    looked.found.warnings.iter().for_each(|w| progress.warn(w));
    let lock = match existing.verify_only {
        true => None,
        false => Some(lock::take(&looked.client, &existing.values.root_namespace, options.patience, progress).await?),
    };
    match describe(options, existing, needs, looked, progress).await {
        Ok(cluster) => Ok(Lease { cluster, lock }),
        Err(error) => {
            if let Some(lock) = lock {
                let _ = lock.release().await;
            }
            Err(error)
        }
    }
}

async fn describe(
    options: &ProviderOptions,
    existing: &ExistingOptions,
    needs: &ClusterNeeds,
    looked: Looked,
    progress: &dyn Progress,
) -> Result<Cluster, ProviderError> {
    let Looked { records, found, client, cluster, tools, .. } = looked;
    let values = &existing.values;
    let versions = step(progress, "read versions", read::versions(&client, values, &found, &tools, progress)).await?;
    let fingerprints = step(progress, "look at hosts outside", read::fingerprints(&needs.outside, &found.outside, progress)).await;
    let outside_ca_pem = match &values.outside_ca {
        Some(file) => std::fs::read_to_string(file).map_err(ProviderError::io(format!("read {}", file.display())))?,
        None => String::new(),
    };
    let settings = Settings::read(&options.kind)?;
    let bundle = options.bundle.as_deref().map(Bundle::read).transpose()?;
    let proxies = found.gateways.iter().map(|g| g.at.clone()).collect();
    Ok(Cluster {
        name: cluster.clone(),
        client,
        // Tools are given the context; the user's kubeconfig is theirs to find, as it was ours.
        kubeconfig: PathBuf::new(),
        record: ProviderRecord {
            name: "existing".to_owned(),
            chosen: String::new(),
            cluster,
            context: existing.context.clone(),
            origin: "was there before; nothing was installed".to_owned(),
        },
        versions,
        gateways: found.gateways,
        outside: found.outside,
        preflight: records,
        images: bundle.map(|b| ImageMap::by_role(&settings.images, &b.workload_images)).unwrap_or_default(),
        outside_ca_pem,
        outside_fingerprints: fingerprints,
        analyst: tools.analyst(["--context".into(), existing.context.clone().into()]),
        dialler: Arc::new(Tcp),
        pace: Pace::REAL,
        entrances: found.entrances,
        mesh: Mesh {
            root_namespace: values.root_namespace.clone(),
            istiod: values.istiod.clone(),
            istiod_selector: found.istiod_selector,
            mark: if existing.allow_mesh_changes && !existing.verify_only { Mark::Written } else { Mark::None },
            ours: false,
            may_scale_gateways: existing.allow_mesh_changes,
            context: Some(existing.context.clone()),
            services: found.services,
            proxies: Some(proxies),
        },
    })
}

/// istioctl and kubectl of a bundle or the PATH; kind and Helm are not used.
fn tools(options: &ProviderOptions) -> Result<Tools, ProviderError> {
    let bundled = options.bundle.as_deref().map(Bundle::read).transpose()?.map(|b| b.bin);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = bundled.into_iter().chain(std::env::split_paths(&path)).collect();
    let find = |tool: &str| dirs.iter().map(|dir| dir.join(tool)).find(|p| is_program(p));
    Ok(Tools { kind: PathBuf::new(), helm: PathBuf::new(), istioctl: find("istioctl"), kubectl: find("kubectl") })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
