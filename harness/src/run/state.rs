//! From the state that stands to the state that is wanted: what goes, what comes, what is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateproof_core::names::{Namespaced, ObjectKey, ScenarioId};
use gateproof_core::plan::{GATEWAY_API, Plan, PlannedScenario, StateObjects, any_text, apply_waves, dangling, gateways_concerned};
use gateproof_core::report::StageRecord;
use gateproof_core::scenario::{ControlPlane, KubeObject, Scenario};

use super::gateways::{self, deployment_of};
use super::secrets::{filled, run_config};
use crate::apply::{Applier, ApplyError, Istiod};
use crate::probe::logs::Since;
use crate::probe::{ProbeError, World};
use crate::provider::Pace;
use crate::sync::{GateError, Refusal, Wanted, is_istio};

/// How long a state may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Roll-outs and removals, each.
    pub ready: Duration,
    /// The gate.
    pub gate: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ready: Duration::from_secs(120), gate: Duration::from_secs(45) }
    }
}

/// Why a state was not reached.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Applying or removing failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The proxies did not follow.
    #[error("the proxies do not have the configuration: {0}")]
    Gate(#[from] GateError),
    /// Logs could not be followed.
    #[error("following logs: {0}")]
    Logs(#[from] ProbeError),
}

/// A state that stands.
pub struct Standing {
    /// For the report.
    pub record: StageRecord,
    /// Where the logs stood before anything was changed.
    pub since: Since,
    /// Pushes that proxies refused.
    pub refusals: Vec<Refusal>,
}

/// The cluster's side of a run: what stands in it, and how to change that.
pub struct Ground {
    /// Objects.
    pub applier: Applier,
    /// Generated TLS secrets, by the secret's place.
    pub secrets: BTreeMap<Namespaced, KubeObject>,
    /// Deployments whose replicas a state has set, with what they had.
    pub scaled: BTreeMap<Namespaced, u32>,
    /// The control plane, with what a state has set in it.
    pub control_plane: Istiod,
    /// Deployments that have been seen rolled out since they were last applied.
    pub rolled_out: BTreeSet<ObjectKey>,
    /// Gateways, whose logs are always followed.
    pub gateways: Vec<Namespaced>,
    /// The root namespace's istiod Deployment.
    pub istiod: Namespaced,
    /// Whether the cluster is ours, so that gateways that a killed run left without replicas are scaled up again.
    pub ours: bool,
    /// Whether every proxy is waited for, not only those that a state concerns: what all of them have is written down.
    pub every_proxy: bool,
    /// Time limits.
    pub limits: Limits,
    /// The proxies that were seen to have all that stands.
    pub known: Option<Covered>,
}

/// The proxies of which the gate said last that they have everything, while nothing has changed since.
#[derive(Debug)]
pub struct Covered {
    gateways: Option<BTreeSet<Namespaced>>,
    workloads: BTreeSet<Namespaced>,
}

impl Covered {
    fn by(wanted: Wanted) -> Self {
        Self { gateways: wanted.gateways.map(BTreeSet::from_iter), workloads: wanted.workloads.into_iter().collect() }
    }

    /// Whether these are among them.
    fn covers(&self, wanted: &Wanted) -> bool {
        let gateways = match (&self.gateways, &wanted.gateways) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(known), Some(wanted)) => wanted.iter().all(|gateway| known.contains(gateway)),
        };
        gateways && wanted.workloads.iter().all(|workload| self.workloads.contains(workload))
    }
}

/// What came of applying.
struct Brought {
    /// A roll-out was waited for.
    rolled_out: bool,
    /// istiod has not said of something what it makes of it.
    unnoticed: bool,
}

/// Whether a proxy's configuration can depend on this object by itself. A ConfigMap is istiod's own in its namespace, and elsewhere
/// what another object makes of it ([`is_named`]); disruption budgets are no part of any proxy's configuration.
fn reaches_proxies(key: &ObjectKey, root_namespace: &str) -> bool {
    match (key.group(), key.kind.as_str()) {
        ("", "ConfigMap") => key.namespace.as_deref() == Some(root_namespace),
        ("policy", _) => false,
        _ => true,
    }
}

/// Whether another object has the name of this one somewhere: a Gateway its CA or its parameters, a Deployment a volume.
fn is_named(key: &ObjectKey, desired: &Desired) -> bool {
    desired.iter().any(|(other, (object, _))| other != key && any_text(&object.value, &|text| text == key.name))
}

/// Whether the proxies that this object brings, if any, are those of a Deployment that is known by name. Of others it is not
/// known which they are, and all are waited for: pods without a Deployment, and Gateways that another class deploys.
fn has_known_proxies(object: &KubeObject) -> bool {
    let is_gateway = object.key.group() == GATEWAY_API && object.key.kind == "Gateway";
    (!is_workload(&object.key) || object.key.kind == "Deployment") && (!is_gateway || deployment_of(object).is_some())
}

/// Kinds that scenarios are made of, beside those of the plan at hand.
const OF_ANY_SCENARIO: [(&str, &str); 19] = [
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("telemetry.istio.io/v1", "Telemetry"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("gateway.networking.k8s.io/v1", "TLSRoute"),
    ("gateway.networking.k8s.io/v1", "TCPRoute"),
    ("gateway.networking.k8s.io/v1", "ReferenceGrant"),
];

type Desired = BTreeMap<ObjectKey, (KubeObject, ScenarioId)>;

fn deployments(desired: &Desired) -> Vec<Namespaced> {
    let declared = desired.keys().filter(|k| k.kind == "Deployment").cloned();
    let deployed = desired.values().filter_map(|(object, _)| deployment_of(object));
    declared.chain(deployed).filter_map(|key| gateways::workload(&key)).collect()
}

impl Ground {
    /// Everything that stands in a state: the scenarios beneath, what the harness provides, and the state's own objects.
    fn desired(&self, world: &World, planned: &PlannedScenario, target: &StateObjects) -> Desired {
        let mut desired = self.made(world, &planned.scenario);
        desired.extend(self.whole(world, planned.beneath.iter().map(Arc::as_ref)));
        desired.extend(target.objects.iter().map(|o| (o.key.clone(), (filled(o, &world.secrets), planned.scenario.id.clone()))));
        desired
    }

    /// What the harness provides for a scenario.
    fn made(&self, world: &World, scenario: &Scenario) -> Desired {
        let secrets = scenario.certificates.iter().filter_map(|c| self.secrets.get(&c.secret)).map(|s| filled(s, &world.secrets));
        let configs = scenario.run_config.iter().map(|namespace| filled(&run_config(namespace, &world.secrets), &world.secrets));
        secrets.chain(configs).map(|object| (object.key.clone(), (object, scenario.id.clone()))).collect()
    }

    /// All of these scenarios, intact.
    fn whole<'a>(&self, world: &World, scenarios: impl Iterator<Item = &'a Scenario>) -> Desired {
        let mut desired = Desired::new();
        for scenario in scenarios {
            desired.extend(self.made(world, scenario));
            let objects = scenario.manifests.iter().flat_map(|m| &m.objects);
            desired.extend(objects.map(|o| (o.key.clone(), (filled(o, &world.secrets), scenario.id.clone()))));
        }
        desired
    }

    /// Has these scenarios stand, intact, and takes away whatever none of those needs that run at the same time. What the proxies
    /// make of it, the next gate will say. Whether anything was applied or removed.
    ///
    /// # Errors
    /// As [`Ground::enter`].
    pub async fn stand(
        &mut self,
        world: &World,
        scenarios: &[Arc<Scenario>],
        kept: &BTreeMap<ScenarioId, Arc<Scenario>>,
    ) -> Result<bool, StateError> {
        self.known = None;
        // What a scenario that could not be left had set.
        self.unscale(&BTreeMap::new()).await?;
        self.control_plane.set(&ControlPlane::default(), self.limits.ready).await?;
        let removed = self.remove_all_but(&self.whole(world, kept.values().map(Arc::as_ref))).await?;
        world.gate.until_lost(&removed, self.limits.gate).await?;
        let desired = self.whole(world, scenarios.iter().map(Arc::as_ref));
        let mut record = StageRecord::default();
        self.apply(&desired, world.pace, &mut record).await?;
        Ok(!(removed.is_empty() && record.applied.is_empty()))
    }

    /// For a scenario that is run beside others: it knows what stands beneath it, and nothing of what others have.
    #[must_use]
    pub fn beneath(&self, world: &World, scenarios: &[Arc<Scenario>]) -> Self {
        let desired = self.whole(world, scenarios.iter().map(Arc::as_ref));
        Self {
            applier: self.applier.knowing(|key| desired.contains_key(key)),
            secrets: self.secrets.clone(),
            scaled: BTreeMap::new(),
            control_plane: self.control_plane.untouched(),
            rolled_out: self.rolled_out.clone(),
            gateways: self.gateways.clone(),
            istiod: self.istiod.clone(),
            ours: self.ours,
            every_proxy: self.every_proxy,
            limits: self.limits,
            known: None,
        }
    }

    /// Leaves a scenario: what it set is as it was before, and its own objects are gone, unless others stand on them.
    ///
    /// # Errors
    /// When the API refuses, or something does not follow. Everything is tried.
    pub async fn leave(&mut self, world: &World, planned: &PlannedScenario, is_needed: bool) -> Result<(), StateError> {
        self.known = None;
        let unscaled = self.unscale(&BTreeMap::new()).await;
        let unset = self.control_plane.set(&ControlPlane::default(), self.limits.ready).await;
        let own = is_needed.then_some(&planned.scenario);
        let desired = self.whole(world, planned.beneath.iter().chain(own).map(Arc::as_ref));
        let removed = self.remove_all_but(&desired).await;
        let lost = match &removed {
            Ok(removed) => world.gate.until_lost(removed, self.limits.gate).await,
            Err(_) => Ok(()),
        };
        // Others stand on it as it is intact.
        let applied = self.apply(&desired, world.pace, &mut StageRecord::default()).await;
        unscaled?;
        unset?;
        removed?;
        lost?;
        applied?;
        Ok(())
    }

    /// Takes over what another knows to stand and has set.
    pub fn take_over(&mut self, other: &mut Self) {
        self.known = None;
        self.applier.take_over(&mut other.applier);
        self.rolled_out.append(&mut other.rolled_out);
        for (workload, before) in std::mem::take(&mut other.scaled) {
            // What was noted first is how it was before anything.
            self.scaled.entry(workload).or_insert(before);
        }
        if other.control_plane.is_touched() {
            self.control_plane = std::mem::replace(&mut other.control_plane, self.control_plane.untouched());
        }
    }

    /// Brings the cluster into a state and waits until the proxies have it.
    ///
    /// # Errors
    /// When an object is refused, something does not become ready or does not go, or the proxies do not follow in time.
    pub async fn enter(
        &mut self,
        world: &World,
        planned: &PlannedScenario,
        state: &str,
        about: &str,
        target: &StateObjects,
    ) -> Result<Standing, StateError> {
        let began = Instant::now();
        let since = world.logs.now();
        world.pods.forget();
        let before = world.gate.before().await?;
        let desired = self.desired(world, planned, target);
        let mut record = StageRecord {
            state: state.to_owned(),
            about: about.to_owned(),
            applied: Vec::new(),
            removed: Vec::new(),
            notices: {
                let own: Vec<&KubeObject> = target.objects.iter().collect();
                dangling(&own, &planned.known())
            },
            apply_took: 0.0,
            gate_took: 0.0,
            proxies: BTreeMap::new(),
            gate_facts: Vec::new(),
        };
        // Until the gate has opened again nothing is known of what the proxies have, whatever breaks off in between.
        let known = std::mem::take(&mut self.known);
        let removed = self.remove_all_but(&desired).await?;
        record.removed = removed.iter().map(ToString::to_string).collect();
        let unscaled = self.unscale(&target.scale).await?;
        let set = self.control_plane.set(&target.control_plane, self.limits.ready).await?;
        // istiod makes one VirtualService of all routes for a host. Where one route goes and another comes for the same host at the
        // same moment, it was seen to keep what it had made of the first for as long as nothing else changed (1.31-alpha; its
        // collections race, as in istio/istio#58014). So what goes is gone before anything comes.
        let routes: Vec<ObjectKey> = removed.iter().filter(|key| key.group() == GATEWAY_API).cloned().collect();
        if !routes.is_empty() {
            world.gate.until_lost(&routes, self.limits.gate).await?;
        }
        let due = self.apply(&desired, world.pace, &mut record).await?;
        let other = unscaled || due.rolled_out || !set.is_empty() || !target.scale.is_empty();
        record.applied.extend(set);
        for (workload, replicas) in &target.scale {
            // Noted before it is done: a run that is broken off in between scales back all the same.
            if !self.scaled.contains_key(workload) {
                self.scaled.insert(workload.clone(), self.applier.replicas(workload).await?);
            }
            self.applier.scale(workload, *replicas, self.limits.ready).await?;
            record.applied.push(format!("Deployment {workload} scaled to {replicas}"));
        }
        record.apply_took = began.elapsed().as_secs_f64();

        let gate_began = Instant::now();
        let applied = self.applier.standing().iter().map(|(key, standing)| (key.clone(), standing.revision.clone())).collect();
        let names: BTreeSet<&str> = record.applied.iter().map(String::as_str).collect();
        let standing = self.applier.standing().keys().filter(|key| names.contains(key.to_string().as_str()));
        let touched: Vec<&ObjectKey> = removed.iter().chain(standing).collect();
        let changed = touched.iter().any(|key| is_istio(key) || key.group() == GATEWAY_API);
        let root = world.gate.root_namespace();
        let untouched = !(other || touched.iter().any(|key| reaches_proxies(key, root) || is_named(key, &desired)));
        // In a cluster of ours the gateways of other scenarios have nothing to do with this state.
        let of_this = self.ours && !self.every_proxy && desired.values().all(|(object, _)| has_known_proxies(object));
        let concerned = of_this.then(|| gateways_concerned(planned, target)).flatten();
        let gateways = concerned.map(|concerned| concerned.into_iter().collect());
        let wanted = Wanted { applied, removed, changed, workloads: deployments(&desired), gateways, before };
        let covered = known.filter(|known| untouched && known.covers(&wanted));
        if let Some(known) = covered {
            self.known = Some(known);
            record.gate_facts =
                vec!["nothing that reaches a proxy was applied or removed since the proxies were seen to have all".to_owned()];
            record.gate_took = gate_began.elapsed().as_secs_f64();
            return Ok(Standing { record, since, refusals: vec![] });
        }
        // Everything has rolled out, so the pods whose logs are followed are those that the gate asks. Checks look again: opening takes
        // a while, and what istiod deploys for a Gateway may be rolled out once more meanwhile.
        let (opened, followed) = tokio::join!(world.gate.open(&wanted, self.limits.gate), self.follow(world, &desired));
        world.pods.forget();
        let opened = opened?;
        record.gate_facts = opened.facts;
        record.gate_took = gate_began.elapsed().as_secs_f64();
        record.notices.extend(opened.notices);
        record.notices.extend(opened.refusals.iter().map(|r| format!("{} refused {}: {}", r.proxy, r.resource_type, r.message)));
        followed?;
        // What istiod has not spoken of may still come.
        self.known = Some(Covered::by(wanted)).filter(|_| opened.refusals.is_empty() && !due.unnoticed);
        Ok(Standing { record, since, refusals: opened.refusals })
    }

    async fn remove_all_but(&mut self, desired: &Desired) -> Result<Vec<ObjectKey>, ApplyError> {
        let gone: Vec<KubeObject> = self
            .applier
            .standing()
            .iter()
            .filter(|(key, _)| !desired.contains_key(*key))
            .map(|(key, standing)| KubeObject { key: key.clone(), value: standing.declared.clone(), line: 0 })
            .collect();
        let refs: Vec<&KubeObject> = gone.iter().collect();
        let mut waves: Vec<Vec<ObjectKey>> =
            apply_waves(&refs).waves.iter().rev().map(|wave| wave.iter().map(|i| gone[*i].key.clone()).collect()).collect();
        // A namespace waits 5 s before it goes (Kubernetes' namespaceDeletionGracePeriod), whatever is in it:
        // its deletion is begun together with that of its workloads, after the configuration that names them.
        if let Some(first) = waves.iter().position(|wave| wave.iter().any(is_workload))
            && waves.iter().flatten().any(|key| key.kind == "Namespace")
        {
            let together = waves.split_off(first).concat();
            waves.push(together);
        }
        for keys in waves {
            self.rolled_out.retain(|key| !keys.contains(key));
            self.applier.remove_all(&keys, self.limits.ready).await?;
        }
        // What istiod deployed for a Gateway goes after it, by Kubernetes' own collector.
        let left: Vec<ObjectKey> = gone.iter().filter_map(deployment_of).collect();
        self.rolled_out.retain(|key| !left.contains(key));
        self.applier.until_gone(&left, self.limits.ready).await?;
        Ok(gone.into_iter().map(|object| object.key).collect())
    }

    /// Whether anything was scaled back.
    async fn unscale(&mut self, keep: &BTreeMap<Namespaced, u32>) -> Result<bool, ApplyError> {
        let back: Vec<(Namespaced, u32)> =
            self.scaled.iter().filter(|(w, _)| !keep.contains_key(*w)).map(|(w, n)| (w.clone(), *n)).collect();
        let any = !back.is_empty();
        for (workload, replicas) in back {
            self.applier.scale(&workload, replicas, self.limits.ready).await?;
            self.scaled.remove(&workload);
        }
        Ok(any)
    }

    /// Applies what is not there as it is desired, and writes it down.
    async fn apply(&mut self, desired: &Desired, pace: Pace, record: &mut StageRecord) -> Result<Brought, ApplyError> {
        let changed: Vec<&(KubeObject, ScenarioId)> = desired
            .values()
            .filter(|(object, _)| self.applier.standing().get(&object.key).is_none_or(|s| s.declared != object.value))
            .collect();
        let objects: Vec<&KubeObject> = changed.iter().map(|(object, _)| object).collect();
        let waves = apply_waves(&objects).waves;
        let mut waiting = Vec::new();
        for wave in waves {
            let mut by_scenario: BTreeMap<&ScenarioId, Vec<_>> = BTreeMap::new();
            for i in wave {
                let (object, scenario) = changed[i];
                by_scenario.entry(scenario).or_default().push((object.key.clone(), object.value.clone()));
            }
            for (scenario, batch) in by_scenario {
                self.applier.apply_all(&batch, scenario).await?;
                record.applied.extend(batch.iter().map(|(key, _)| key.to_string()));
                let (crds, rest): (Vec<_>, Vec<_>) =
                    batch.into_iter().map(|(key, _)| key).partition(|k| k.kind == "CustomResourceDefinition");
                self.applier.until_ready(&crds, self.limits.ready, pace).await?;
                waiting.extend(rest);
            }
        }
        // Those that an earlier state waited for in vain are waited for again: a state stands when all of it does.
        for key in &waiting {
            self.rolled_out.remove(key);
        }
        let unnoticed = self.applier.until_noticed(&waiting, pace).await?;
        record.notices.extend(
            unnoticed.iter().map(|key| format!("istiod has not said what it makes of {key}; what follows may meet the state before")),
        );
        for deployment in changed.iter().filter_map(|(object, _)| deployment_of(object)) {
            self.rolled_out.remove(&deployment);
        }
        let declared = desired.keys().filter(|k| k.kind == "Deployment").cloned();
        let deployed = desired.values().filter_map(|(object, _)| deployment_of(object));
        let due: Vec<ObjectKey> = declared.chain(deployed).filter(|key| !self.rolled_out.contains(key)).collect();
        self.applier.until_ready(&due, self.limits.ready, pace).await?;
        let brought = Brought { rolled_out: !due.is_empty(), unnoticed: !unnoticed.is_empty() };
        self.rolled_out.extend(due);
        Ok(brought)
    }

    async fn follow(&self, world: &World, desired: &Desired) -> Result<(), ProbeError> {
        let deployments = deployments(desired).into_iter().map(|workload| (workload, None));
        let gateways = self.gateways.iter().map(|g| (g.clone(), None));
        let istiod = std::iter::once((self.istiod.clone(), Some("discovery".to_owned())));
        let all: Vec<(Namespaced, Option<String>)> = deployments.chain(gateways).chain(istiod).collect();
        world.pods.look(&all.iter().map(|(workload, _)| workload.clone()).collect()).await?;
        world.logs.follow(&world.pods, &all).await
    }

    /// Removes what a killed run left on a kept cluster, and scales its gateways up again.
    ///
    /// # Errors
    /// When the API refuses, or something stays.
    pub async fn remove_leftovers(&mut self, plan: &Plan) -> Result<Vec<ObjectKey>, ApplyError> {
        let mut kinds: BTreeSet<(String, String)> =
            [("v1", "Secret"), ("v1", "ConfigMap")].map(|(v, k)| (v.to_owned(), k.to_owned())).into();
        // A killed run may have been of other scenarios. In a mesh of others only the plan's kinds may be listable.
        if self.ours {
            kinds.extend(OF_ANY_SCENARIO.map(|(v, k)| (v.to_owned(), k.to_owned())));
        }
        for scenario in plan.scenarios.iter().flat_map(|s| s.beneath.iter().chain([&s.scenario])) {
            let manifests = scenario.manifests.iter().chain(&scenario.extra_manifests);
            kinds.extend(manifests.flat_map(|m| &m.objects).map(|o| (o.key.api_version.clone(), o.key.kind.clone())));
        }
        let left = self.applier.remove_leftovers(&kinds.into_iter().collect::<Vec<_>>(), self.limits.ready).await?;
        for gateway in self.gateways.iter().filter(|_| self.ours) {
            self.applier.at_least_one(gateway, self.limits.ready).await?;
        }
        Ok(left)
    }

    /// Takes away everything that this run applied, and waits until it is gone.
    ///
    /// # Errors
    /// When the API refuses, or something stays.
    pub async fn clear(&mut self) -> Result<Vec<ObjectKey>, ApplyError> {
        self.known = None;
        // Whatever one step meets, the others are done.
        let unscaled = self.unscale(&BTreeMap::new()).await;
        let unset = self.control_plane.set(&ControlPlane::default(), self.limits.ready).await;
        let removed = self.remove_all_but(&Desired::new()).await;
        unscaled?;
        unset?;
        removed
    }
}

/// Whether an object runs pods.
fn is_workload(key: &ObjectKey) -> bool {
    matches!(key.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" | "Pod" | "ReplicaSet")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(gateways: Option<&[&str]>, workloads: &[&str]) -> Wanted {
        let all = |names: &[&str]| names.iter().map(|name| Namespaced::parse(name).unwrap()).collect();
        Wanted { gateways: gateways.map(all), workloads: all(workloads), ..Wanted::default() }
    }

    #[test]
    fn what_was_seen_of_some_proxies_says_nothing_of_others() {
        let all = Covered::by(wanted(None, &["a/w"]));
        assert!(all.covers(&wanted(Some(&["g/x"]), &["a/w"])) && all.covers(&wanted(None, &[])));
        let some = Covered::by(wanted(Some(&["g/x"]), &["a/w"]));
        assert!(some.covers(&wanted(Some(&["g/x"]), &[])));
        assert!(!some.covers(&wanted(None, &[])), "every proxy");
        assert!(!some.covers(&wanted(Some(&["g/y"]), &[])), "another gateway");
        assert!(!some.covers(&wanted(Some(&[]), &["a/v"])), "another workload");
    }

    #[test]
    fn what_no_proxy_reads_leaves_the_gate_open() {
        let key = |api_version: &str, kind: &str, namespace: &str| ObjectKey {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: "n".to_owned(),
        };
        let reaches = |key: &ObjectKey| reaches_proxies(key, "istio-system");
        assert!(!reaches(&key("v1", "ConfigMap", "a")) && !reaches(&key("policy/v1", "PodDisruptionBudget", "a")));
        assert!(reaches(&key("v1", "ConfigMap", "istio-system")), "the mesh's configuration");
        assert!(reaches(&key("v1", "Secret", "a")) && reaches(&key("apps/v1", "Deployment", "a")));
        assert!(reaches(&key("networking.istio.io/v1", "Sidecar", "a")) && reaches(&key("rbac.authorization.k8s.io/v1", "Role", "a")));
        let map = key("v1", "ConfigMap", "a");
        let naming = |name: &str| {
            let value = serde_json::json!({"spec": {"tls": {"caCertificateRefs": [{"kind": "ConfigMap", "name": name}]}}});
            let object = KubeObject { key: key("gateway.networking.k8s.io/v1", "BackendTLSPolicy", "a"), value, line: 0 };
            Desired::from([(object.key.clone(), (object, ScenarioId::new("s").unwrap()))])
        };
        assert!(is_named(&map, &naming("n")) && !is_named(&map, &naming("other")), "a CA that a policy refers to");
    }

    #[test]
    fn pods_of_no_deployment_have_every_proxy_waited_for() {
        let object = |api_version: &str, kind: &str, spec: serde_json::Value| KubeObject {
            key: ObjectKey { api_version: api_version.into(), kind: kind.into(), namespace: Some("a".into()), name: "n".into() },
            value: serde_json::json!({"spec": spec}),
            line: 0,
        };
        let gateway = |class: &str| object("gateway.networking.k8s.io/v1", "Gateway", serde_json::json!({"gatewayClassName": class}));
        assert!(has_known_proxies(&object("apps/v1", "Deployment", serde_json::json!({}))));
        assert!(!has_known_proxies(&object("apps/v1", "StatefulSet", serde_json::json!({}))));
        assert!(has_known_proxies(&gateway("istio")) && !has_known_proxies(&gateway("istio-waypoint")));
        assert!(has_known_proxies(&object("networking.istio.io/v1", "Gateway", serde_json::json!({}))));
    }
}
