//! One engine for a run: it schedules, changes the cluster, asks and writes down. Trials only wait for their outcome.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, stream};
use gateproof_core::names::{Namespaced, ScenarioId};
use gateproof_core::outcome::{Outcome, diagnose_not_reached};
use gateproof_core::plan::{Plan, PlannedScenario, Stage, StateObjects, objects_in};
use gateproof_core::report::{CheckRecord, ManifestRecord, RunRecord, ScenarioRecord, ValueRecord};
use gateproof_core::scenario::{Change, INTACT, Probe, Scenario};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Mutex;

use super::check::{self, Attempts};
use super::diagnostics::{Diagnostics, Red};
use super::digests;
use super::event::{Event, Listener, Pause, RedState};
use super::links;
use super::look::Look;
use super::state::Ground;
use crate::probe::World;
use crate::probe::pods::Pods;
use crate::sync::Refusal;

/// Checks of one state are independent of one another and asked at once, at most so many.
pub(super) const AT_ONCE: usize = 8;

/// Runs plans on a cluster that stands.
pub struct Engine {
    /// What probes may ask.
    pub world: World,
    /// What stands.
    pub ground: Ground,
    /// How often a check is asked.
    pub attempts: Attempts,
    /// Applies and removes nothing, checks only what is deployed.
    pub verify_only: bool,
    /// Whether states that scale a gateway or change the control plane are entered.
    pub may_scale_gateways: bool,
    /// Collects what red states leave, where that is wanted.
    pub diagnostics: Option<Arc<Mutex<Diagnostics>>>,
    /// Where every proxy's configuration is to be written down: who stands at which address outside.
    pub observe: Option<BTreeMap<IpAddr, String>>,
    /// Ends the run after the first state in which a check is red, but for those in quarantine.
    pub fail_fast: bool,
    /// Waits in each such state before anything is changed.
    pub pause: Option<Arc<dyn Pause>>,
    /// For who looks at a state that stands: the kubeconfig and its context.
    pub reached_by: (PathBuf, String),
    /// The state of which scenario stands, where the last one was reached.
    pub(super) stands: Option<(ScenarioId, String)>,
    /// Why nothing can be brought into any state, where it is known.
    pub(super) blocked: Option<String>,
    listener: Arc<dyn Listener>,
}

impl Engine {
    /// On this cluster.
    #[must_use]
    pub fn new(world: World, ground: Ground, listener: Arc<dyn Listener>) -> Self {
        Self {
            world,
            ground,
            attempts: Attempts::default(),
            verify_only: false,
            may_scale_gateways: true,
            diagnostics: None,
            observe: None,
            fail_fast: false,
            pause: None,
            reached_by: Default::default(),
            stands: None,
            blocked: None,
            listener,
        }
    }

    /// One that runs a scenario while others do theirs, with the gate and the answers of its own number.
    pub(super) fn beside(&self, number: usize) -> Self {
        let world = World {
            gate: self.world.gate.clone().beside(number),
            beside: self.world.beside.seen_by(number),
            pods: Arc::new(Pods::new(self.world.client.clone())),
            ..self.world.clone()
        };
        let ground = self.ground.beneath(&world, &[]);
        Self {
            world,
            ground,
            attempts: self.attempts,
            verify_only: self.verify_only,
            may_scale_gateways: self.may_scale_gateways,
            diagnostics: self.diagnostics.clone(),
            observe: self.observe.clone(),
            fail_fast: self.fail_fast,
            pause: self.pause.clone(),
            reached_by: self.reached_by.clone(),
            stands: None,
            blocked: None,
            listener: self.listener.clone(),
        }
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, event: &Event) {
        self.listener.on(event);
    }

    /// The folder of what red states left, once there is something in it.
    pub(super) fn diagnostics_folder(&self) -> Option<String> {
        // Whoever collects just now will say it when that is done.
        self.diagnostics.as_ref()?.try_lock().ok()?.folder()
    }

    /// Runs every stage of a plan; `save` is called whenever the record has grown. Says why, when it ended before the last.
    pub async fn run(&mut self, plan: &Plan, record: &mut RunRecord, save: &(dyn Fn(&RunRecord) + Sync)) -> Option<String> {
        self.skip(plan, record);
        let last = plan.scenarios.last().and_then(|p| Some((&p.scenario.id, &p.stages.last()?.state)));
        let mut stopped = None;
        for planned in &plan.scenarios {
            self.listener.on(&Event::ScenarioStarted(planned.scenario.id.clone(), planned.scenario.title.clone()));
            let at = scenario_record(record, &planned.scenario);
            for stage in &planned.stages {
                let before = record.scenarios[at].checks.len();
                self.stage(planned, stage, &mut record.scenarios[at]).await;
                record.diagnostics = self.diagnostics_folder();
                save(record);
                let red: Vec<&CheckRecord> = record.scenarios[at].checks[before..].iter().filter(|c| c.counts_red()).collect();
                let Some(first) = red.first() else { continue };
                self.pause(planned, stage, &red).await;
                if self.fail_fast && last != Some((&planned.scenario.id, &stage.state)) {
                    stopped = Some(format!("--fail-fast, and `{}::{}` is red", planned.scenario.id, first.name));
                    break;
                }
            }
            in_order(&planned.scenario, &mut record.scenarios[at]);
            if stopped.is_some() {
                break;
            }
        }
        stopped
    }

    /// Writes down the selected checks that are not to be asked.
    pub(super) fn skip(&self, plan: &Plan, record: &mut RunRecord) {
        for skipped in &plan.skipped {
            let (scenario, check) = (&skipped.scenario, &skipped.scenario.checks[skipped.check]);
            let at = scenario_record(record, scenario);
            // Asked again by another test process, it has its record already.
            if record.scenarios[at].checks.iter().all(|c| c.name != check.name) {
                let reason = format!("in exceptions.yaml: {}", skipped.reason);
                let done = check::unasked(check, Outcome::Skipped { reason });
                self.listener.on(&Event::CheckFinished(scenario.id.clone(), Box::new(done.clone())));
                record.scenarios[at].checks.push(done);
                in_order(scenario, &mut record.scenarios[at]);
            }
        }
    }

    async fn pause(&self, planned: &PlannedScenario, stage: &Stage, red: &[&CheckRecord]) {
        let Some(pause) = &self.pause else { return };
        let (kubeconfig, context) = self.reached_by.clone();
        let red = RedState {
            scenario: planned.scenario.id.clone(),
            state: stage.state.clone(),
            red: red.iter().map(|c| (*c).clone()).collect(),
            kubeconfig,
            context,
        };
        pause.at(&red).await;
    }

    pub(super) async fn stage(&mut self, planned: &PlannedScenario, stage: &Stage, record: &mut ScenarioRecord) {
        let (since, before) = (Timestamp::now(), record.checks.len());
        let not_reached = self.ask(planned, stage, record).await;
        let checks: Vec<_> = record.checks[before..].iter().filter(|c| !c.outcome.is_green()).collect();
        if let Some(diagnostics) = self.diagnostics.as_ref().filter(|_| !checks.is_empty()) {
            let mut diagnostics = diagnostics.lock().await;
            let began = Instant::now();
            let name = format!("collect diagnostics of `{}`, state `{}`", planned.scenario.id, stage.state);
            self.listener.on(&Event::StepStarted(name.clone()));
            diagnostics.collect(&self.world, &Red { planned, stage, checks, not_reached: not_reached.as_deref(), since }).await;
            self.listener.on(&Event::StepEnded(name, began.elapsed()));
        }
    }

    /// Brings the cluster into a state and asks its checks; says why, when it could not be reached.
    async fn ask(&mut self, planned: &PlannedScenario, stage: &Stage, record: &mut ScenarioRecord) -> Option<String> {
        let scenario = &planned.scenario;
        let mut not_reached = None;
        let fail =
            |outcome: Outcome| -> Vec<_> { stage.checks.iter().map(|i| check::unasked(&scenario.checks[*i], outcome.clone())).collect() };
        let done = if self.verify_only && stage.state != INTACT {
            fail(Outcome::Skipped { reason: format!("--verify-only: the state `{}` would have to be applied", stage.state) })
        } else if let Some(gateway) = self.forbidden_scale(scenario, &stage.state) {
            let reason =
                format!("the state `{}` scales {gateway}, which is not gateproof's; allow it with --allow-mesh-changes", stage.state);
            fail(Outcome::Skipped { reason })
        } else if !self.may_scale_gateways && changes_control_plane(scenario, &stage.state) {
            let state = &stage.state;
            let reason = format!("the state `{state}` changes the control plane, for the whole mesh; allow it with --allow-mesh-changes");
            fail(Outcome::Skipped { reason })
        } else {
            match self.prepare(planned, stage).await {
                Err(message) => {
                    not_reached = Some(message.clone());
                    let told = diagnose_not_reached(&message);
                    let all = fail(Outcome::Error { message });
                    all.into_iter().map(|check| CheckRecord { diagnosis: told.clone(), ..check }).collect()
                }
                Ok((mut stage_record, since, refusals)) => {
                    if let Some(outside) = &self.observe {
                        stage_record.proxies = digests::of_all(&self.world, outside).await;
                    }
                    self.listener.on(&Event::StageReady(scenario.id.clone(), Box::new(stage_record.clone())));
                    // Asked again in a state that stood already: nothing was done that the report does not tell yet.
                    let stood = stage_record.applied.is_empty() && stage_record.removed.is_empty();
                    if !(stood && record.stages.last().is_some_and(|last| last.state == stage_record.state)) {
                        record.stages.push(stage_record);
                    }
                    let accepted = scenario.variations.iter().any(|v| v.name == stage.state && v.refused);
                    let refusals = if accepted { Vec::new() } else { refusals };
                    let mut order: Vec<usize> = stage.checks.clone();
                    // What takes longest begins first, so that it does not run alone in the end. The record has its own order.
                    order.sort_by_key(|i| match scenario.checks[*i].probe {
                        Probe::Analyze { .. } => 0,
                        Probe::Logs(_) => 1,
                        _ => 2,
                    });
                    let look = Look::new(&self.world);
                    let ask = |one| check::run_looking(&self.world, one, &since, &refusals, self.attempts, Some(&look));
                    let asked = order.iter().map(|i| ask(&scenario.checks[*i]));
                    let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
                    while let Some(done) = asked.next().await {
                        let done = check::marked(scenario, done);
                        self.listener.on(&Event::CheckFinished(scenario.id.clone(), Box::new(done.clone())));
                        record.checks.push(done);
                    }
                    return None;
                }
            }
        };
        for check in done.into_iter().map(|check| check::marked(scenario, check)) {
            self.listener.on(&Event::CheckFinished(scenario.id.clone(), Box::new(check.clone())));
            record.checks.push(check);
        }
        not_reached
    }

    /// A gateway that a state scales though it may not be.
    fn forbidden_scale(&self, scenario: &Scenario, state: &str) -> Option<Namespaced> {
        let variation = scenario.variations.iter().find(|v| v.name == state).filter(|_| !self.may_scale_gateways)?;
        variation.changes.iter().find_map(|change| match change {
            Change::Scale { workload, .. } if self.ground.gateways.contains(workload) => Some(workload.clone()),
            _ => None,
        })
    }

    async fn prepare(
        &mut self,
        planned: &PlannedScenario,
        stage: &Stage,
    ) -> Result<(gateproof_core::report::StageRecord, crate::probe::logs::Since, Vec<crate::sync::Refusal>), String> {
        if let Some(why) = &self.blocked {
            return Err(why.clone());
        }
        let target = objects_in(&planned.scenario, &stage.state).map_err(|e| format!("failed to prepare: {e}"))?;
        let about = planned.scenario.variations.iter().find(|v| v.name == stage.state).map_or("", |v| v.about.as_str());
        self.enter(planned, &stage.state, about, &target).await
    }

    /// Brings the cluster into a state, or says in words why not.
    ///
    /// # Errors
    /// The words.
    pub async fn enter(
        &mut self,
        planned: &PlannedScenario,
        state: &str,
        about: &str,
        target: &StateObjects,
    ) -> Result<(gateproof_core::report::StageRecord, crate::probe::logs::Since, Vec<crate::sync::Refusal>), String> {
        if self.verify_only {
            self.world.pods.forget();
            let since = self.world.logs.now();
            let record = gateproof_core::report::StageRecord {
                state: state.to_owned(),
                about: "as it is deployed; nothing was applied".to_owned(),
                applied: vec![],
                removed: vec![],
                notices: vec![],
                apply_took: 0.0,
                gate_took: 0.0,
                proxies: BTreeMap::new(),
                gate_facts: vec!["not waited for: nothing was applied".to_owned()],
            };
            return Ok((record, since, vec![]));
        }
        let failed = |error| format!("failed to bring `{}` into the state `{state}`: {error}", planned.scenario.id);
        let id = &planned.scenario.id;
        let stood = self.stands.take();
        // Who refuses a change keeps what it had, and what that was is part of the state: it is the intact scenario.
        let refused = planned.scenario.variations.iter().any(|v| v.name == state && v.refused);
        if refused && !stood.is_some_and(|(of, stood)| of == *id && (stood == INTACT || stood == state)) {
            let intact = StateObjects::intact(&planned.scenario);
            let standing = self.ground.enter(&self.world, planned, INTACT, "", &intact).await.map_err(failed)?;
            if let Some(refusal) = standing.refusals.first() {
                let Refusal { proxy, resource_type, message } = refusal;
                return Err(format!("the intact `{id}`, which stands before `{state}`, is refused: {proxy}: {resource_type}: {message}"));
            }
        }
        let standing = self.ground.enter(&self.world, planned, state, about, target).await.map_err(failed)?;
        if state != INTACT || *target == StateObjects::intact(&planned.scenario) {
            self.stands = Some((id.clone(), state.to_owned()));
        }
        Ok((standing.record, standing.since, standing.refusals))
    }

    /// Takes away what the run applied; everything is tried, and what failed is told in words.
    pub async fn clear(&mut self) -> Vec<String> {
        let removed = self.ground.clear().await.map_err(|error| format!("failed to remove what was applied: {error}"));
        let mark = self.world.gate.remove_mark().await.map_err(|error| format!("failed to remove the gate's mark: {error}"));
        removed.err().into_iter().chain(mark.err()).collect()
    }
}

fn changes_control_plane(scenario: &Scenario, state: &str) -> bool {
    let mut changes = scenario.variations.iter().filter(|v| v.name == state).flat_map(|v| &v.changes);
    changes.any(|change| matches!(change, Change::ControlPlane(_)))
}

/// Where the scenario's record stands; made when the scenario is met for the first time.
pub(super) fn scenario_record(record: &mut RunRecord, scenario: &Scenario) -> usize {
    if let Some(at) = record.scenarios.iter().position(|s| s.id == scenario.id) {
        return at;
    }
    record.scenarios.push(blank_scenario(scenario));
    record.scenarios.len() - 1
}

/// Puts a record's checks into the scenario's order.
pub(super) fn in_order(scenario: &Scenario, record: &mut ScenarioRecord) {
    record.checks.sort_by_key(|c| scenario.checks.iter().position(|known| known.name == c.name));
}

/// A scenario's record before anything ran.
#[must_use]
pub fn blank_scenario(scenario: &Scenario) -> ScenarioRecord {
    ScenarioRecord {
        id: scenario.id.clone(),
        title: scenario.title.clone(),
        mechanism: scenario.mechanism.clone(),
        tags: scenario.tags.clone(),
        needs: scenario.needs.clone(),
        folder: links::on_disk(&scenario.dir),
        values: scenario.values.iter().map(ValueRecord::of).collect(),
        manifests: scenario
            .manifests
            .iter()
            .map(|m| ManifestRecord { file: m.file.clone(), objects: m.objects.iter().map(|o| o.key.to_string()).collect() })
            .collect(),
        stages: Vec::new(),
        checks: Vec::new(),
        not_tested: scenario.not_tested.iter().map(|n| (n.what.clone(), n.why.clone())).collect(),
        corrections: scenario.corrections.iter().map(|c| (c.claim.clone(), c.instead.clone())).collect(),
        key_points: scenario.key_points.clone(),
        might_be_missing: scenario.might_be_missing.clone(),
        next_work: scenario.next_work.clone(),
    }
}
