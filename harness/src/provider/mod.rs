//! Who gives the cluster. A provider hands out a client, the addresses at which a gateway is reached
//! from outside, and what lies outside the mesh; it never sees what is expected of them.

mod analyst;
mod bundle;
mod dial;
mod embedded;
mod error;
mod existing;
pub mod kind;
mod kind_files;
mod lease;
mod pace;
mod settings;
mod settle;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::report::{GatewayRecord, OutsideRecord, PreflightRecord, ProviderRecord, VersionRecord};
use gateproof_core::scenario::{Catalogue, Gateway, KubeObject, OutsideHost, remap};

pub use analyst::{Analysis, Analyst};
pub use bundle::{Bundle, ImageMap};
pub use dial::{Dialled, Dialler, Stream, Tcp};
pub use error::ProviderError;
pub use existing::ExistingOptions;
pub(crate) use existing::{access, look as look_at_existing};
pub(crate) use kind::state_root;
pub use kind::{cleanup_blocking, delete};
pub use kind_files::{KIND_DIR_VARIABLE, KindFiles};
pub use lease::{Lease, up};
pub use pace::Pace;
pub use settings::Settings;
pub use settle::settle;

use crate::sync::Mark;

/// Where the kubeconfig of gateproof's cluster of that name lies, whether or not it exists.
///
/// # Errors
/// When the state folder cannot be told.
pub fn kubeconfig(cluster: &str) -> Result<PathBuf, ProviderError> {
    Ok(kind::state::StateDir::of(cluster)?.kubeconfig())
}

pub use crate::sync::FIELD_MANAGER;

/// What a run wants of its cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterNeeds {
    /// Gateways beside those of `kind/gateways.yaml`; one that repeats theirs must be equal.
    pub gateways: Vec<Gateway>,
    /// Hosts outside the mesh.
    pub outside: Vec<OutsideHost>,
    /// Namespace objects that scenarios declare, applied before anything goes into them.
    pub namespaces: Vec<KubeObject>,
    /// Every object that scenarios may apply.
    pub objects: Vec<ObjectKey>,
    /// Whether a check asks for an analysis.
    pub istioctl: bool,
}

/// Which provider.
#[derive(Debug, Clone, Default)]
pub enum Choice {
    /// A real cluster of our own.
    #[default]
    Kind,
    /// One that is there already.
    Existing(ExistingOptions),
    /// A simulated mesh in this process.
    Embedded,
    /// Kind where this machine can have it, else the simulated mesh; see [`settle`].
    Unnamed,
}

impl Choice {
    /// Its name, as reports show it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Existing(_) => "existing",
            Self::Embedded => "embedded (simulated mesh)",
            Self::Unnamed => "not settled yet",
        }
    }

    /// Scenarios in the words of its cluster.
    #[must_use]
    pub fn adapt(&self, catalogue: Catalogue) -> Catalogue {
        match self {
            Self::Kind | Self::Embedded | Self::Unnamed => catalogue,
            Self::Existing(existing) => remap(&catalogue, &existing.values),
        }
    }
}

/// How to provide it.
#[derive(Debug, Clone)]
pub struct ProviderOptions {
    /// Who provides.
    pub choice: Choice,
    /// The kind cluster's name.
    pub cluster_name: String,
    /// Whether the cluster outlives the run.
    pub keep: bool,
    /// Whether only a cluster that stands already will do: none is made, and none is made anew.
    pub reuse_only: bool,
    /// A folder that replaces the internet; see [`ProviderOptions::bundle_from_environment`].
    pub bundle: Option<PathBuf>,
    /// Versions, gateways and Helm values: the repository's `kind/`, or what is built in.
    pub kind: KindFiles,
    /// Who answers for the hosts outside the mesh.
    pub internet: Internet,
    /// Whether the Gateway API's resource definitions are installed.
    pub gateway_api: bool,
    /// An Istio version other than that of `kind/versions.yaml`.
    pub istio: Option<String>,
    /// A node image other than that of `kind/versions.yaml`.
    pub node_image: Option<String>,
    /// The longest that any single step may take.
    pub patience: Duration,
}

impl ProviderOptions {
    /// The defaults for a `kind/` folder; [`ProviderOptions::kind`] takes what is built in as well.
    #[must_use]
    pub fn new(kind_dir: impl Into<PathBuf>) -> Self {
        Self {
            choice: Choice::Kind,
            cluster_name: "gateproof".to_owned(),
            keep: false,
            reuse_only: false,
            bundle: None,
            kind: KindFiles::Folder(kind_dir.into()),
            internet: Internet::StandIns,
            gateway_api: true,
            istio: None,
            node_image: None,
            patience: Duration::from_secs(300),
        }
    }

    /// The bundle that the environment names: `GATEPROOF_BUNDLE`, else `KINDLAB`.
    #[must_use]
    pub fn bundle_from_environment() -> Option<PathBuf> {
        ["GATEPROOF_BUNDLE", "KINDLAB"].iter().find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
    }
}

/// Who answers for the hosts outside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internet {
    /// Containers beside the cluster, with certificates made for it.
    StandIns,
    /// The hosts themselves.
    Real,
}

/// Told what happens while a cluster is made or removed. Steps may overlap.
pub trait Progress: Send + Sync {
    /// A step began.
    fn step_started(&self, name: &str);
    /// A step ended, well or not.
    fn step_ended(&self, name: &str, took: Duration);
    /// Something does not fit, though it does not stop the run.
    fn warn(&self, text: &str);
}

/// Runs `work` as a named step.
pub(crate) async fn step<T>(progress: &dyn Progress, name: &str, work: impl Future<Output = T>) -> T {
    progress.step_started(name);
    let began = Instant::now();
    let result = work.await;
    progress.step_ended(name, began.elapsed());
    result
}

/// The command line tools in use.
#[derive(Debug, Clone)]
pub struct Tools {
    /// kind.
    pub kind: PathBuf,
    /// Helm.
    pub helm: PathBuf,
    /// istioctl, where there is one.
    pub istioctl: Option<PathBuf>,
    /// kubectl, where there is one.
    pub kubectl: Option<PathBuf>,
}

impl Tools {
    /// istioctl as the one who analyses, with this access to the cluster.
    pub(crate) fn analyst(&self, access: [std::ffi::OsString; 2]) -> Analyst {
        self.istioctl.clone().map_or(Analyst::Nobody, |path| Analyst::Istioctl { path, access })
    }
}

/// A cluster to test on.
#[derive(Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// A client with all rights.
    pub client: kube::Client,
    /// A kubeconfig of its own; the user's is never touched.
    pub kubeconfig: PathBuf,
    /// Provider, context and origin.
    pub record: ProviderRecord,
    /// Versions as read, beside those declared.
    pub versions: Vec<VersionRecord>,
    /// Its gateways.
    pub gateways: Vec<GatewayRecord>,
    /// Hosts outside the mesh.
    pub outside: Vec<OutsideRecord>,
    /// What was looked at before anything was touched.
    pub preflight: Vec<PreflightRecord>,
    /// From the images that manifests name to those that are here.
    pub images: ImageMap,
    /// Certificates of the CA that signed the stand-ins (empty with the real internet).
    pub outside_ca_pem: String,
    /// Host → SHA-256 of its leaf certificate's DER, in lower-case hex.
    pub outside_fingerprints: BTreeMap<String, String>,
    /// Who analyses configurations.
    pub analyst: Analyst,
    /// How a gateway is reached from outside.
    pub dialler: Arc<dyn Dialler>,
    /// How fast it is.
    pub pace: Pace,
    pub(crate) entrances: BTreeMap<Namespaced, Entrance>,
    pub(crate) mesh: Mesh,
}

/// The mesh of a cluster, and what may be done to it.
#[derive(Debug, Clone)]
pub(crate) struct Mesh {
    pub(crate) root_namespace: String,
    /// istiod's Deployment.
    pub(crate) istiod: Namespaced,
    /// The labels of its pods.
    pub(crate) istiod_selector: String,
    pub(crate) mark: Mark,
    /// Whether everything in the cluster is ours to remove and to scale.
    pub(crate) ours: bool,
    pub(crate) may_scale_gateways: bool,
    /// For printed commands: the context to use, instead of a kubeconfig of our own.
    pub(crate) context: Option<String>,
    /// Gateway → its Service, where that has another name.
    pub(crate) services: BTreeMap<Namespaced, Namespaced>,
    /// The gateways whose proxies concern a run; None when all proxies do.
    pub(crate) proxies: Option<Vec<Namespaced>>,
}

impl Default for Mesh {
    /// As in the clusters that gateproof makes.
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".to_owned(),
            istiod: Namespaced { namespace: "istio-system".to_owned(), name: "istiod".to_owned() },
            istiod_selector: "app=istiod".to_owned(),
            mark: Mark::Written,
            ours: true,
            may_scale_gateways: true,
            context: None,
            services: BTreeMap::new(),
            proxies: None,
        }
    }
}

/// Where a NodePort gateway is reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entrance {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Cluster {
    /// Where to connect from outside for port 80 or 443 of a gateway.
    ///
    /// # Errors
    /// When the gateway is unknown or reached from inside only, or the port is another.
    pub fn outside_address(&self, gateway: &Namespaced, port: u16) -> Result<SocketAddr, ProviderError> {
        let entrance = self.entrances.get(gateway).ok_or_else(|| ProviderError::Unreachable {
            gateway: gateway.to_string(),
            why: "it has no node port; of the gateways here, only those with `nodePort` are reached from outside".to_owned(),
        })?;
        match port {
            80 => Ok(entrance.http),
            443 => Ok(entrance.https),
            other => {
                Err(ProviderError::Unreachable { gateway: gateway.to_string(), why: format!("port {other} is not served; 80 and 443 are") })
            }
        }
    }
}
