//! Scenarios beside one another: each in a lane of its own, with a gate and a mark of its own, on what stands beneath all of them.
//!
//! Which may run at the same time is decided before anything does ([`Schedule`]). A lane knows the objects of its own scenario and
//! of those beneath it. What stands beneath is the engine's own ground, changed by one lane at a time: a lane that begins has it
//! hold exactly what the running scenarios stand on, and one that ends gives it what is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gateproof_core::names::ScenarioId;
use gateproof_core::plan::{Plan, PlannedScenario, Schedule};
use gateproof_core::report::{CheckRecord, RunRecord, ScenarioRecord};

use super::engine::{Engine, blank_scenario, in_order};
use super::event::Event;
use super::state::Ground;
use super::steps::Steps;

/// Where one scenario after another is run while other lanes have theirs.
struct Lane {
    engine: Engine,
    /// Of the scenario at hand. It is here so that it is not lost when the run is broken off.
    record: Option<ScenarioRecord>,
}

/// All lanes of a run.
pub(super) struct Lanes {
    count: usize,
    steps: Arc<Steps>,
    lanes: Vec<Lane>,
}

/// What lanes share while they run.
struct Shared<'a> {
    floor: tokio::sync::Mutex<&'a mut Ground>,
    schedule: Mutex<Schedule>,
    record: Mutex<&'a mut RunRecord>,
    stopped: Mutex<Option<String>>,
    /// Whether a state was not entered for that.
    left_out: Mutex<bool>,
    plan: &'a Plan,
    save: &'a (dyn Fn(&RunRecord) + Sync),
    /// What is brought up and taken away between scenarios is of no single one of them.
    steps: &'a Steps,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lanes {
    /// So many at most.
    pub(super) fn new(count: usize, steps: Arc<Steps>) -> Self {
        Self { count, steps, lanes: Vec::new() }
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        self.count > 1
    }

    /// As [`Engine::run`], with the same outcomes.
    pub(super) async fn run(
        &mut self,
        engine: &mut Engine,
        plan: &Plan,
        record: &mut RunRecord,
        save: &(dyn Fn(&RunRecord) + Sync),
    ) -> Option<String> {
        engine.skip(plan, record);
        self.lanes = (0..self.count).map(|number| Lane { engine: engine.beside(number), record: None }).collect();
        let shared = Shared {
            floor: tokio::sync::Mutex::new(&mut engine.ground),
            schedule: Mutex::new(Schedule::of(plan)),
            record: Mutex::new(record),
            stopped: Mutex::default(),
            left_out: Mutex::default(),
            plan,
            save,
            steps: &self.steps,
        };
        let mut free: Vec<&mut Lane> = self.lanes.iter_mut().rev().collect();
        let mut running = FuturesUnordered::new();
        loop {
            while !free.is_empty() && lock(&shared.stopped).is_none() {
                let Some((unit, planned)) = lock(&shared.schedule).begin() else { break };
                let Some(lane) = free.pop() else { break };
                running.push(shared.carry_out(lane, unit, planned));
            }
            let Some((lane, unit)) = running.next().await else { break };
            lock(&shared.schedule).end(unit);
            free.push(lane);
        }
        drop((running, free));
        // A red check in the very last states ended nothing early.
        let all = !*lock(&shared.left_out) && lock(&shared.schedule).is_done();
        shared.stopped.into_inner().unwrap_or_else(PoisonError::into_inner).filter(|_| !all)
    }

    /// Gives the engine what lanes still have: after a run that was broken off, what they had in the cluster and the outcomes
    /// of the scenarios that they were about.
    pub(super) fn give_back(&mut self, engine: &mut Engine, record: &mut RunRecord) {
        for lane in &mut self.lanes {
            engine.ground.take_over(&mut lane.engine.ground);
            if let Some(scenario) = lane.record.take() {
                put(record, scenario, &[]);
            }
        }
    }

    /// Takes the lanes' marks away; says what failed.
    pub(super) async fn clear(&mut self) -> Vec<String> {
        let mut failed = Vec::new();
        for lane in &self.lanes {
            failed.extend(lane.engine.world.gate.remove_mark().await.err().map(|e| format!("failed to remove the mark of a gate: {e}")));
        }
        failed
    }
}

impl Shared<'_> {
    /// Runs a scenario, or a part of its states, in a lane.
    async fn carry_out<'l>(&self, lane: &'l mut Lane, unit: usize, planned: PlannedScenario) -> (&'l mut Lane, usize) {
        let scenario = &planned.scenario;
        let Lane { engine, record } = lane;
        let earlier = lock(&self.record).scenarios.iter().find(|s| s.id == scenario.id).cloned();
        let record = record.insert(earlier.unwrap_or_else(|| blank_scenario(scenario)));
        let manifests = scenario.manifests.iter().chain(&scenario.extra_manifests);
        engine.world.beside.have(manifests.flat_map(|m| &m.objects).map(|o| &o.key));
        engine.tell(&Event::ScenarioStarted(scenario.id.clone(), scenario.title.clone()));
        {
            let mut floor = self.floor.lock().await;
            let stood_on = lock(&self.schedule).stood_on();
            let began = Instant::now();
            let stands = floor.stand(&engine.world, &planned.beneath, &stood_on).await;
            if !matches!(stands, Ok(false)) {
                self.steps.was(&format!("bring up what `{}` stands on", scenario.id), began);
            }
            engine.blocked = stands.err().map(|e| format!("failed to bring up what `{}` needs: {e}", scenario.id));
            engine.ground = floor.beneath(&engine.world, &planned.beneath);
            engine.stands = None;
        }
        for stage in &planned.stages {
            if lock(&self.stopped).is_some() {
                *lock(&self.left_out) = true;
                break;
            }
            let before = record.checks.len();
            engine.stage(&planned, stage, record).await;
            let red = record.checks[before..].iter().find(|c| c.counts_red()).map(|c: &CheckRecord| c.name.clone());
            self.keep(engine, &planned, record);
            if let Some(name) = red.filter(|_| engine.fail_fast) {
                lock(&self.stopped).get_or_insert_with(|| format!("--fail-fast, and `{}::{name}` is red", scenario.id));
            }
        }
        let is_needed = lock(&self.schedule).is_needed(&scenario.id);
        let began = Instant::now();
        if let Err(error) = engine.ground.leave(&engine.world, &planned, is_needed).await {
            // What is left, and what is still set, is the floor's now: the next scenario that begins tries again.
            engine.tell(&Event::Warning(format!("`{}` could not be taken away: {error}", scenario.id)));
        }
        let id = &scenario.id;
        self.steps.was(&if is_needed { format!("have `{id}` intact for others") } else { format!("take away `{id}`") }, began);
        self.floor.lock().await.take_over(&mut engine.ground);
        engine.world.beside.have(std::iter::empty());
        lane.record = None;
        (lane, unit)
    }

    /// Puts what there is of a scenario into the run's record, and has it written.
    fn keep(&self, engine: &Engine, planned: &PlannedScenario, scenario: &mut ScenarioRecord) {
        in_order(&planned.scenario, scenario);
        let whole = self.plan.scenarios.iter().find(|p| p.scenario.id == planned.scenario.id).unwrap_or(planned);
        scenario.stages.sort_by_key(|stage| whole.stages.iter().position(|s| s.state == stage.state));
        let order: Vec<&ScenarioId> = self.plan.scenarios.iter().map(|p| &p.scenario.id).collect();
        let mut record = lock(&self.record);
        record.diagnostics = engine.diagnostics_folder().or(record.diagnostics.take());
        put(&mut record, scenario.clone(), &order);
        (self.save)(&record);
    }
}

/// Puts a scenario's record where it belongs; those of earlier plans come first.
fn put(record: &mut RunRecord, scenario: ScenarioRecord, order: &[&ScenarioId]) {
    match record.scenarios.iter_mut().find(|s| s.id == scenario.id) {
        Some(there) => *there = scenario,
        None => record.scenarios.push(scenario),
    }
    let places: BTreeMap<&ScenarioId, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    if !places.is_empty() {
        record.scenarios.sort_by_key(|s| places.get(&s.id).copied());
    }
}
