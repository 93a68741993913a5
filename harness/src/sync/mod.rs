//! The gate: do the proxies have what was applied, and have they lost what was removed?
//!
//! Istio acknowledges no single object, so these facts together are the proof (ARCHITECTURE.md, "The gate"):
//!
//! 1. istiod's store (`/debug/configz`) holds every applied Istio object at its applied generation, and no removed one, of Gateway
//!    API neither; nor what istiod made of those.
//! 2. After that is seen, a *mark* is written: an EnvoyFilter in the root namespace that adds one cluster without
//!    traffic, carrying a fresh value. istiod handles it after the objects of step 1, so a push that carries the mark
//!    carries them, and the push that was still being debounced does not pass for it.
//! 3. istiod's own configuration for the proxy (`/debug/config_dump`) carries the mark, and Envoy's (`/config_dump`) equals
//!    it: clusters, listeners, routes, endpoints. Endpoints of Services are those that Kubernetes has as ready.
//!    Nothing is warming.
//! 4. No filter chain is draining under an open connection: pooled connections would keep the old policy.
//!
//! A refused push (NACK) is reported as soon as istiod knows of it, not waited out.

mod ask;
mod concerned;
mod drain;
mod left_behind;
mod store;
mod unmarked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::facts::{Dump, Known, KnownConfig, MARK_CLUSTER, SyncStatus};
use gateproof_core::names::{Namespaced, ObjectKey};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

pub use unmarked::{Before, Mark};

use concerned::{Asked, Proxies};
use drain::{Settled, drained};
use left_behind::LeftBehind;
use store::{is_listed, lacks};

use crate::kube_ext::{PodHttp, PodHttpError, Resources};
use crate::provider::Pace;

/// The field manager of everything that gateproof applies.
pub const FIELD_MANAGER: &str = "gateproof";
/// The label on every object that gateproof applies; its value names the scenario.
pub const OWNER_LABEL: &str = "gateproof.io/scenario";

/// Envoy's admin interface, on the pod's loopback.
pub const ENVOY_ADMIN_PORT: u16 = 15000;
/// A refusal that is still there after so long is the answer to the push at hand.
const REFUSAL_STAYS: Duration = Duration::from_millis(300);
/// A difference between istiod and a proxy that has not moved for so long is one that istiod does not know of.
const LEFT_BEHIND: Duration = Duration::from_secs(3);
/// How often istiod is made to push again; what stands after that stands.
const PUSHED_AGAIN_AT_MOST: usize = 3;
/// Between two looks at istiod. Each goes through the API server, the kubelet and a port-forward, and takes some milliseconds of
/// the processor that istiod needs for its push: looking more often makes the answer come later.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// Which state of an object: its identity and how often its specification has changed.
///
/// Not the resource version: istiod writes into the status of ServiceEntries, which moves that and says nothing
/// of the specification. The uid tells an object from one of the same name that was deleted before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0 for kinds without one.
    pub generation: i64,
}

/// What must have arrived.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Objects with the revision that the API server gave.
    pub applied: Vec<(ObjectKey, Revision)>,
    /// Objects that are gone.
    pub removed: Vec<ObjectKey>,
    /// Whether an Istio object is among what was applied or removed just now.
    pub changed: bool,
    /// Deployments whose proxies are waited for where not all are.
    pub workloads: Vec<Namespaced>,
    /// Beside them the gateways, and whatever else has a proxy, that are concerned; None for every connected proxy, or those that the gate was made for.
    pub gateways: Option<Vec<Namespaced>>,
    /// From [`Gate::before`].
    pub before: Before,
}

/// A push that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// `POD.NAMESPACE`.
    pub proxy: String,
    /// `Listener`, `Cluster`, …
    pub resource_type: String,
    /// Envoy's message.
    pub message: String,
}

/// What was seen when the gate opened.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// A line each, for the report.
    pub facts: Vec<String>,
    /// Pushes that proxies refused; the proxies then run what they had.
    pub refusals: Vec<Refusal>,
    /// What istiod did not do by itself, a line each.
    pub notices: Vec<String>,
}

/// Why the gate did not open.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A pod could not be asked.
    #[error("asking for the proxies' state: {0}")]
    Ask(#[from] PodHttpError),
    /// The Kubernetes API refused.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// A debug endpoint answered something else than expected.
    #[error("reading {what}: {why}")]
    Unreadable {
        /// Which endpoint of which pod.
        what: String,
        /// What did not fit.
        why: String,
    },
    /// The time was up.
    #[error("not within {limit:?}; still missing: {}", missing.join("; "))]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What was missing at the last look.
        missing: Vec<String>,
    },
}

/// Asks istiod and the proxies.
#[derive(Clone)]
pub struct Gate {
    client: Client,
    http: PodHttp,
    resources: Resources,
    root_namespace: String,
    istiod_selector: String,
    mark: Mark,
    /// The name of the mark, and of the cluster that carries it.
    mark_name: String,
    /// The gateways whose proxies are waited for; None for every connected proxy.
    gateways: Option<Vec<Namespaced>>,
    pace: Pace,
    known: Arc<Known>,
    /// istiod's pods, as seen in this opening.
    istiods: Arc<Mutex<Option<Vec<String>>>>,
    settled: Arc<Settled>,
    off: bool,
}

/// The groups whose objects `/debug/configz` lists.
pub(crate) fn is_istio(key: &ObjectKey) -> bool {
    key.group().ends_with(".istio.io")
}

impl Gate {
    /// Over this client; `root_namespace` is where istiod runs and mesh-wide objects live.
    #[must_use]
    pub fn new(client: Client, http: PodHttp, resources: Resources, root_namespace: &str) -> Self {
        Self {
            client,
            http,
            resources,
            root_namespace: root_namespace.to_owned(),
            istiod_selector: "app=istiod".to_owned(),
            mark: Mark::Written,
            mark_name: MARK_CLUSTER.to_owned(),
            gateways: None,
            pace: Pace::REAL,
            known: Arc::default(),
            istiods: Arc::default(),
            settled: Arc::default(),
            off: false,
        }
    }

    /// A gate that waits for nothing, to show what a harness without one sees. No run is made behind it.
    #[must_use]
    pub fn switched_off(mut self) -> Self {
        self.off = true;
        self
    }

    /// A gate for changes that are made at the same time by somebody else in this process, with a mark of its own; 0 is the first.
    #[must_use]
    pub fn beside(mut self, number: usize) -> Self {
        if number > 0 {
            self.mark_name = format!("{MARK_CLUSTER}-{}", number + 1);
        }
        // What drains is judged by what this gate has seen.
        self.settled = Arc::default();
        self.istiods = Arc::default();
        self
    }

    /// Where istiod runs and mesh-wide objects live.
    #[must_use]
    pub fn root_namespace(&self) -> &str {
        &self.root_namespace
    }

    /// On a cluster of this pace.
    #[must_use]
    pub fn at(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// In a mesh that is not ours alone: istiod's pods by these labels, only these gateways' proxies (and those of the
    /// state's own workloads) waited for, and no mark unless it may be written.
    #[must_use]
    pub fn in_a_mesh_of_others(mut self, istiod_selector: &str, mark: Mark, gateways: Option<Vec<Namespaced>>) -> Self {
        istiod_selector.clone_into(&mut self.istiod_selector);
        self.mark = mark;
        self.gateways = gateways;
        self
    }

    /// Waits until every connected proxy that is concerned has what is wanted.
    ///
    /// # Errors
    /// When the state cannot be asked, or is not reached within `limit`.
    pub async fn open(&self, wanted: &Wanted, limit: Duration) -> Result<Opened, GateError> {
        let began = Instant::now();
        let mut opened = Opened::default();
        if self.off {
            opened.facts.push("the gate is switched off: nothing was waited for".to_owned());
            return Ok(opened);
        }
        self.look_anew();
        self.until(limit, began, || self.store_lacks(wanted)).await?;
        let (applied, removed) = wanted.istio_objects();
        opened.facts.push(format!(
            "istiod's store holds {applied} applied and none of {removed} removed Istio objects ({:.2} s)",
            began.elapsed().as_secs_f64()
        ));
        if self.mark == Mark::None {
            self.open_unmarked(wanted, limit, began, &mut opened).await?;
            opened.facts.push(self.until_drained(&self.asked(wanted).await?, limit, began).await?);
            return Ok(opened);
        }
        let asked = self.asked(wanted).await?;
        let before = self.proxies(&asked, &self.istiod_pods().await?).await?.statuses;
        let mut mark = self.write_mark().await?;
        let mut marks = mark.clone();
        self.until_pushed(&before).await?;
        let mut done: BTreeSet<String> = BTreeSet::new();
        let mut refused: BTreeSet<Refusal> = BTreeSet::new();
        let mut refusing: BTreeMap<String, Instant> = BTreeMap::new();
        let mut draining: BTreeSet<String> = BTreeSet::new();
        let mut left_behind = LeftBehind::default();
        let mut seen = 0;
        loop {
            let istiods = self.istiod_pods().await?;
            let (Proxies { statuses, unconnected }, endpoints) = tokio::try_join!(self.proxies(&asked, &istiods), self.ready_endpoints())?;
            seen = seen.max(statuses.len());
            let mut missing: Vec<String> = unconnected.iter().map(|id| format!("{id}: not connected to istiod")).collect();
            let open: Vec<&SyncStatus> = statuses.iter().filter(|s| !done.contains(&s.proxy)).collect();
            let looks = join_all(open.iter().map(|s| self.proxy_lacks(s, &istiods, &mark, &endpoints))).await;
            let mut differ = Vec::new();
            for (status, look) in open.iter().zip(looks) {
                match look {
                    Ok(Look::Has(has)) => {
                        opened
                            .facts
                            .extend(has.awaited.into_iter().map(|what| format!("{}: {what}, and Envoy waits no longer", status.proxy)));
                        done.insert(status.proxy.clone());
                    }
                    // The refusal of an earlier push stands until the next acknowledgement: believed only when it stays.
                    Ok(Look::Refused(refusals)) => {
                        let since = refusing.entry(status.proxy.clone()).or_insert_with(Instant::now);
                        if since.elapsed() < self.pace.pause(REFUSAL_STAYS) {
                            missing.push(format!("{}: it refused a push", status.proxy));
                        } else {
                            refused.extend(refusals);
                            done.insert(status.proxy.clone());
                        }
                    }
                    Ok(Look::Lacks(what)) => {
                        refusing.remove(&status.proxy);
                        missing.push(format!("{}: {what}", status.proxy));
                    }
                    Ok(Look::Differs(what)) => {
                        refusing.remove(&status.proxy);
                        missing.push(format!("{}: {what}", status.proxy));
                        differ.push(format!("{}: {what}", status.proxy));
                    }
                    Ok(Look::Drains) => {
                        missing.push(format!("{} drains filter chains under open connections", status.proxy));
                        draining.insert(status.proxy.clone());
                    }
                    // A pod may be going away while it is asked; if it stays, it is asked again.
                    Err(error) => missing.push(format!("{}: {error}", status.proxy)),
                }
            }
            if missing.is_empty() {
                break;
            }
            if began.elapsed() > limit {
                return Err(GateError::TimedOut { limit, missing });
            }
            // istiod has pushed the mark and thinks itself done. It was seen to leave clusters of a deleted Service in proxies: where
            // another push comes between its registry's losing the Service and its event, no proxy is thought concerned (1.31-alpha).
            let all_that_is_missing = if differ.len() == missing.len() { &differ[..] } else { &[] };
            if left_behind.has_stood(all_that_is_missing, LEFT_BEHIND, Instant::now()) {
                mark = self.write_mark().await?;
                marks.push_str(&format!(", then {mark}"));
                opened.notices.push(format!(
                    "istiod did not push again by itself, and still differed from proxies after {:.1} s; it was made to by another mark: {}",
                    began.elapsed().as_secs_f64(),
                    differ.join("; ")
                ));
            }
            self.look_anew();
            tokio::time::sleep(self.pace.pause(Duration::from_millis(20))).await;
        }
        // A proxy that refused a push may have taken up a part of it.
        let drained = if refused.is_empty() { drained(&draining) } else { self.until_drained(&asked, limit, began).await? };
        let these = if matches!(asked, Asked::All) { "proxies" } else { "proxies that this state concerns" };
        opened.facts.push(format!(
            "{seen} {these} carry mark {marks}; their clusters, listeners, routes and endpoints equal istiod's, nothing is warming ({:.2} s)",
            began.elapsed().as_secs_f64()
        ));
        opened.facts.push(drained);
        opened.refusals = refused.into_iter().collect();
        Ok(opened)
    }

    /// Waits until istiod has lost these objects: whoever writes a mark after that has pushes without them.
    ///
    /// # Errors
    /// When istiod cannot be asked, or still has one after `limit`.
    pub async fn until_lost(&self, removed: &[ObjectKey], limit: Duration) -> Result<(), GateError> {
        let wanted = Wanted { removed: removed.to_vec(), ..Wanted::default() };
        if self.off {
            return Ok(());
        }
        self.look_anew();
        self.until(limit, Instant::now(), || self.store_lacks(&wanted)).await
    }

    /// Takes the mark away.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn remove_mark(&self) -> Result<(), GateError> {
        if self.mark == Mark::None {
            return Ok(());
        }
        let (key, api) = self.mark_api().await?;
        match api.delete(&key.name, &kube::api::DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(GateError::Api { doing: format!("deleting {key}"), source: Box::new(source) }),
        }
    }

    async fn until<F, Fut>(&self, limit: Duration, began: Instant, look: F) -> Result<(), GateError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Vec<String>, GateError>>,
    {
        loop {
            let missing = look().await?;
            if missing.is_empty() {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(GateError::TimedOut { limit, missing });
            }
            self.look_anew();
            tokio::time::sleep(self.pace.pause(BETWEEN_LOOKS)).await;
        }
    }

    async fn store_lacks(&self, wanted: &Wanted) -> Result<Vec<String>, GateError> {
        if !wanted.applied.iter().any(|(k, _)| is_istio(k)) && !wanted.removed.iter().any(is_listed) {
            return Ok(vec![]);
        }
        let mut missing = Vec::new();
        for pod in self.istiod_pods().await? {
            let known = self.ask_istiod(&pod, "/debug/configz", KnownConfig::list).await?;
            missing.extend(lacks(&pod, &known, wanted));
        }
        Ok(missing)
    }

    /// Waits, for a moment only, until clusters have been pushed to these and answered anew: the mark is one.
    /// This saves reading dumps that cannot be right yet, and decides nothing.
    async fn until_pushed(&self, before: &[SyncStatus]) -> Result<(), GateError> {
        let began = Instant::now();
        let istiods = self.istiod_pods().await?;
        while began.elapsed() < Duration::from_secs(1) {
            let now = self.sync_status_of(&istiods).await?;
            let moved =
                |b: &SyncStatus| now.iter().all(|s| s.proxy != b.proxy || ![b.clusters_answered(), ""].contains(&s.clusters_answered()));
            if before.iter().all(moved) {
                break;
            }
            tokio::time::sleep(self.pace.pause(BETWEEN_LOOKS)).await;
        }
        Ok(())
    }

    async fn proxy_lacks(
        &self,
        status: &SyncStatus,
        istiods: &[String],
        mark: &str,
        endpoints: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Look, GateError> {
        // Both at once: what Envoy runs is right when it is equal and bears the mark, whichever was read first.
        let (intended, envoy) = tokio::join!(self.intended(status, istiods), self.runs(status));
        let Some(intended) = intended else {
            return Ok(Look::Lacks("istiod has no configuration for it yet".to_owned()));
        };
        if intended.mark(&self.mark_name) != Some(mark) {
            return Ok(Look::Lacks("istiod has not pushed since the change".to_owned()));
        }
        let stale = intended.stale_endpoints(endpoints);
        if !stale.is_empty() {
            return Ok(Look::Lacks(stale.join(", ")));
        }
        let look = self.proxy_equals(status, envoy?, &intended).await?;
        if let Look::Has(has) = &look
            && self.draining_under_connections(status, &has.changed).await?
        {
            return Ok(Look::Drains);
        }
        Ok(look)
    }

    /// Whether Envoy has what istiod intends for it, or refused it.
    async fn proxy_equals(&self, status: &SyncStatus, envoy: Dump, intended: &Dump) -> Result<Look, GateError> {
        let mut differences = envoy.differences_from(intended);
        let still = envoy.unsettled.is_empty();
        differences.extend(envoy.unsettled.iter().cloned());
        if differences.is_empty() {
            return Ok(Look::Has(Has { awaited: envoy.awaited, changed: envoy.changed }));
        }
        // Only now: a refusal of an earlier push is cleared by the next acknowledgement.
        let refusals: Vec<Refusal> = self
            .sync_status_of(&self.istiod_pods().await?)
            .await?
            .iter()
            .filter(|s| s.proxy == status.proxy)
            .flat_map(|s| s.refusals())
            // That of a secret outlives the secret: it stands until another one is acknowledged.
            .filter(|(resource_type, _)| resource_type != "Secret")
            .map(|(resource_type, message)| Refusal { proxy: status.proxy.clone(), resource_type, message })
            .collect();
        Ok(match (refusals.is_empty(), still) {
            (false, _) => Look::Refused(refusals),
            (true, true) => Look::Differs(differences.join(", ")),
            (true, false) => Look::Lacks(differences.join(", ")),
        })
    }

    async fn mark_api(&self) -> Result<(ObjectKey, Api<DynamicObject>), GateError> {
        let key = ObjectKey {
            api_version: "networking.istio.io/v1alpha3".to_owned(),
            kind: "EnvoyFilter".to_owned(),
            namespace: Some(self.root_namespace.clone()),
            name: self.mark_name.clone(),
        };
        let api = self
            .resources
            .api_for(&key)
            .await
            .map_err(|e| GateError::Api { doing: "looking up EnvoyFilter".to_owned(), source: Box::new(e) })?;
        Ok((key, api))
    }

    /// Writes a fresh mark, and says which.
    async fn write_mark(&self) -> Result<String, GateError> {
        let mark = format!("m{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos()));
        let (key, api) = self.mark_api().await?;
        let object = json!({
            "apiVersion": key.api_version, "kind": key.kind,
            "metadata": {
                "name": key.name, "namespace": key.namespace, "labels": {OWNER_LABEL: "gateproof"},
                // `istioctl analyze` warns of every EnvoyFilter; this one is ours and no part of what is tested.
                "annotations": {"galley.istio.io/analyze-suppress": "IST0133"}},
            "spec": {"configPatches": [{
                "applyTo": "CLUSTER",
                "match": {"context": "ANY"},
                "patch": {"operation": "ADD", "value": {
                    "name": self.mark_name, "type": "STATIC", "connect_timeout": "1s",
                    "metadata": {"filter_metadata": {"gateproof": {"mark": mark}}}}},
            }]},
        });
        api.patch(&key.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object))
            .await
            .map_err(|e| GateError::Api { doing: format!("writing {key}"), source: Box::new(e) })?;
        Ok(mark)
    }
}

/// What was seen of a proxy that has all.
struct Has {
    /// Secrets that it still lacks, in words.
    awaited: Vec<String>,
    /// As [`Dump::changed`].
    changed: BTreeMap<String, String>,
}

enum Look {
    Has(Has),
    Lacks(String),
    /// istiod has pushed since the change, and Envoy's configuration, in which nothing is warming, is not what istiod intends.
    Differs(String),
    /// All of it, and filter chains of an earlier one drain under open connections.
    Drains,
    Refused(Vec<Refusal>),
}
