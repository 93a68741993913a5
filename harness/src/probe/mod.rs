//! Questions put to the world. A probe brings back an [`Observation`] and judges nothing: it never sees what is expected,
//! only which proxies' logs are to be read ([`Witnesses`]).

mod beside;
mod call;
pub mod certificate;
pub mod curl;
mod entrance;
pub mod exec;
mod follow;
pub mod logs;
mod object;
pub mod outside;
pub mod pods;
mod sentinel;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateproof_core::names::Namespaced;
use gateproof_core::outcome::Observation;
use gateproof_core::scenario::Probe;
use kube::Client;

pub use beside::Beside;

use crate::kube_ext::PodHttp;
use crate::provider::{Analyst, Dialler, Pace};
use crate::sync::{Gate, GateError};

/// Why a question could not be put; the answer is then neither pass nor fail.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The Kubernetes API refused.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// No pod can be used.
    #[error("{workload} has no ready pod (of {pods}); `kubectl -n {} describe deployment {}` says why", workload.namespace, workload.name)]
    NoPod {
        /// The Deployment.
        workload: Namespaced,
        /// How many pods it has.
        pods: usize,
    },
    /// It began and broke off.
    #[error("{doing}: {why}")]
    Broken {
        /// What was being done.
        doing: String,
        /// What was seen.
        why: String,
    },
    /// istiod or a proxy could not be asked.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// Something that the probe needs is not there.
    #[error("{0}")]
    Missing(String),
}

impl ProbeError {
    pub(crate) fn api(doing: String, source: kube::Error) -> Self {
        Self::Api { doing, source: Box::new(source) }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404))
    }
}

/// What a run knows that its calls need.
#[derive(Clone, Default)]
pub struct RunSecrets {
    /// This run's random token.
    pub token: String,
    /// CAs that signed stand-ins and declared secrets.
    pub roots_pem: String,
    /// The CA of this run alone.
    pub authority_pem: String,
    /// Generated secrets: the certificate and key to present as a client.
    pub identities: BTreeMap<Namespaced, outside::Identity>,
    /// Fingerprints by `NAMESPACE/SECRET` and by outside host.
    pub fingerprints: BTreeMap<String, String>,
}

/// How long a log is given to tell of what was just done, before it is read.
const LOG_SETTLE: Duration = Duration::from_millis(300);

/// The namespace and name of the ConfigMap with the run's CAs, for commands printed in reports.
pub const RUN_CONFIG_MAP: &str = gateproof_core::scenario::RUN_CONFIG_MAP;

/// A gateway's entrances from outside: (gateway, service port) → address.
pub type Entrances = BTreeMap<(Namespaced, u16), SocketAddr>;

/// Everything that probes may ask.
#[derive(Clone)]
pub struct World {
    /// The Kubernetes API.
    pub client: Client,
    /// Pods' ports.
    pub http: PodHttp,
    /// istiod and the proxies.
    pub gate: Gate,
    /// Followed logs.
    pub logs: Arc<logs::LogTaps>,
    /// The pods of the state that stands.
    pub pods: Arc<pods::Pods>,
    /// Where gateways are reached from outside.
    pub entrances: Entrances,
    /// This run's token, CAs and certificates.
    pub secrets: RunSecrets,
    /// How they are reached.
    pub dialler: Arc<dyn Dialler>,
    /// How fast the cluster is.
    pub pace: Pace,
    /// Gateway → its Service, where that has another name.
    pub services: BTreeMap<Namespaced, Namespaced>,
    /// Who analyses configurations.
    pub analyst: Analyst,
    /// The version of istioctl, where there is one.
    pub istioctl_version: Option<String>,
    /// istiod's version.
    pub control_plane_version: String,
    /// The namespace of a ConfigMap with the run's CAs, for printed commands.
    pub run_config_namespace: Option<String>,
    /// How long a log line is waited for. Envoy flushes once a second unless told otherwise, and a line is written at close.
    pub line_limit: Duration,
    /// What other scenarios have in the cluster at the same time: no part of what is asked about this one.
    pub beside: Beside,
    pub(crate) calls: Arc<AtomicU64>,
}

/// Which proxies' logs belong to the question.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// A line of the call is waited for in each of these.
    pub path: Vec<Namespaced>,
    /// For each of these it is shown that there is none.
    pub absent: Vec<Namespaced>,
}

impl World {
    /// A token that no other call has.
    pub(crate) fn next_token(&self) -> String {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        let run: String = self.secrets.token.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!("gp-{run}-{n}")
    }

    /// Puts a question. `since` is where the logs stood when the state under test was applied.
    ///
    /// # Errors
    /// When it cannot be put.
    pub async fn ask(&self, probe: &Probe, witnesses: &Witnesses, since: &logs::Since) -> Result<Observation, ProbeError> {
        match probe {
            Probe::Exec(probe) => Ok(Observation::Call(Box::new(call::exec(self, probe, witnesses).await?))),
            Probe::Http(probe) => Ok(Observation::Call(Box::new(call::http(self, probe, witnesses).await?))),
            Probe::Logs(probe) => {
                let container = probe.container.as_deref();
                self.pods.look(&BTreeSet::from([probe.workload.clone()])).await?;
                self.logs.follow(&self.pods, &[(probe.workload.clone(), container.map(str::to_owned))]).await?;
                // A log that lacks a line proves little while the line may still come: a moment for what was just done.
                tokio::time::sleep(self.pace.pause(LOG_SETTLE)).await;
                let wanted = |workload: &Namespaced, of: &str| *workload == probe.workload && container.is_none_or(|c| c == of);
                Ok(Observation::Logs { lines: self.logs.lines(since, wanted).into_iter().map(|(_, line)| line).collect() })
            }
            Probe::ProxyConfig(probe) => Ok(Observation::Config { replicas: state::config(self, probe).await? }),
            Probe::Object(key) => {
                Ok(Observation::Object { name: key.to_string(), value: object::read(&self.client, key, self.pace).await? })
            }
            Probe::Analyze { namespaces } => {
                let before = self.beside.objects();
                let mut messages = state::analyze(&self.analyst, namespaces).await?;
                let theirs = [before, self.beside.objects()];
                messages.retain(|message| !theirs.iter().any(|objects| objects.speaks_of(&message.text)));
                Ok(Observation::Analysis { messages })
            }
            Probe::Pods { workloads } => {
                let (pods, without_pods) = state::pods(&self.client, workloads).await?;
                Ok(Observation::Pods { pods, without_pods })
            }
            Probe::ProxyStatus => {
                let (proxies, unconnected) = state::proxies(&self.gate).await?;
                Ok(Observation::ProxyStatus { proxies, unconnected })
            }
            Probe::Versions => Ok(Observation::Versions { seen: state::versions(self).await? }),
        }
    }

    /// A command that repeats a question by hand.
    #[must_use]
    pub fn repeat_command(&self, probe: &Probe) -> String {
        call::repeat_command(self, probe)
    }
}
