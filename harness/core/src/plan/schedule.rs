//! Which scenarios run beside one another: those that do not get in each other's way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::claims::Claims;
use super::{Plan, PlannedScenario, Stage};
use crate::names::ScenarioId;
use crate::scenario::Scenario;

/// A scenario in some of its states, run in one go.
#[derive(Debug)]
pub struct Unit {
    /// The scenario, with these states only.
    pub planned: PlannedScenario,
    claims: Claims,
    beneath: BTreeSet<ScenarioId>,
    /// It has the mesh alone, and nobody stands on its scenario: it comes last.
    last: bool,
    at: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waits,
    Runs,
    Done,
}

/// All units of a plan, and how far they are.
///
/// States of a scenario that nobody can run beside are a unit of their own, which runs when all others have, so that the others
/// need not wait for them; but a scenario that others stand on comes before those.
#[derive(Debug)]
pub struct Schedule {
    units: Vec<Unit>,
    /// What each scenario that others stand on claims by standing.
    floors: BTreeMap<ScenarioId, Claims>,
}

impl Schedule {
    /// Of a plan, before anything has run.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut units = Vec::new();
        let mut of_the_mesh = Vec::new();
        let mut floors = BTreeMap::new();
        for planned in &plan.scenarios {
            for scenario in &planned.beneath {
                floors.entry(scenario.id.clone()).or_insert_with(|| Claims::beneath(scenario, &planned.known()));
            }
            let (alone, beside): (Vec<&Stage>, Vec<&Stage>) =
                planned.stages.iter().partition(|stage| Claims::of(planned, &[stage]).is_of_the_mesh());
            let is_stood_on = plan.scenarios.iter().any(|p| p.beneath.iter().any(|s| s.id == planned.scenario.id));
            units.extend(unit(planned, &beside, false));
            let into = if is_stood_on { &mut units } else { &mut of_the_mesh };
            into.extend(unit(planned, &alone, !is_stood_on));
        }
        units.extend(of_the_mesh);
        Self { units, floors }
    }

    /// The units, in the order in which they would run one after another.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Begins the next unit that can run beside those that do.
    pub fn begin(&mut self) -> Option<(usize, PlannedScenario)> {
        let next = (0..self.units.len()).find(|i| self.may_begin(*i))?;
        self.units[next].at = Progress::Runs;
        Some((next, self.units[next].planned.clone()))
    }

    /// A unit has come to its end.
    pub fn end(&mut self, unit: usize) {
        self.units[unit].at = Progress::Done;
    }

    /// Whether every unit has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.units.iter().all(|unit| unit.at == Progress::Done)
    }

    /// The scenarios that running units stand on.
    #[must_use]
    pub fn stood_on(&self) -> BTreeMap<ScenarioId, Arc<Scenario>> {
        let running = self.units.iter().filter(|u| u.at == Progress::Runs);
        running.flat_map(|u| &u.planned.beneath).map(|scenario| (scenario.id.clone(), scenario.clone())).collect()
    }

    /// Whether a unit that runs or is still to come stands on this scenario.
    #[must_use]
    pub fn is_needed(&self, scenario: &ScenarioId) -> bool {
        self.units.iter().any(|u| u.at != Progress::Done && u.beneath.contains(scenario))
    }

    /// Why two units do not run beside each other; None when they may.
    #[must_use]
    pub fn clash(&self, a: usize, b: usize) -> Option<String> {
        let (a, b) = (&self.units[a], &self.units[b]);
        if a.id() == b.id() {
            return Some("they are of one scenario".to_owned());
        }
        for (above, below) in [(a, b), (b, a)] {
            if above.beneath.contains(below.id()) {
                return Some(format!("{} stands on {}", above.id(), below.id()));
            }
        }
        if let Some(claim) = a.claims.clash(&b.claims) {
            return Some(claim.to_string());
        }
        // What only one of them stands on is there while the other runs.
        let only = |one: &Unit, other: &Unit| -> Vec<&Claims> {
            one.beneath.difference(&other.beneath).filter_map(|id| self.floors.get(id)).collect()
        };
        let (of_a, of_b) = (only(a, b), only(b, a));
        let floors = of_a.iter().flat_map(|x| of_b.iter().map(move |y| (*x, *y)));
        let pairs = of_a.iter().map(|floor| (*floor, &b.claims)).chain(of_b.iter().map(|floor| (*floor, &a.claims))).chain(floors);
        pairs.into_iter().find_map(|(x, y)| x.clash(y).map(ToString::to_string))
    }

    fn may_begin(&self, i: usize) -> bool {
        let unit = &self.units[i];
        if unit.at != Progress::Waits {
            return false;
        }
        let is_first = |other: &Unit| !other.last && (unit.last || unit.beneath.contains(other.id()));
        self.units.iter().enumerate().filter(|(j, _)| *j != i).all(|(j, other)| match other.at {
            Progress::Done => true,
            Progress::Waits => !is_first(other),
            Progress::Runs => self.clash(i, j).is_none(),
        })
    }
}

impl Unit {
    /// Whether nothing can run at the same time.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.claims.is_of_the_mesh()
    }

    fn id(&self) -> &ScenarioId {
        &self.planned.scenario.id
    }
}

fn unit(planned: &PlannedScenario, stages: &[&Stage], last: bool) -> Option<Unit> {
    if stages.is_empty() {
        return None;
    }
    let some = PlannedScenario { stages: stages.iter().map(|stage| (*stage).clone()).collect(), ..planned.clone() };
    let beneath = planned.beneath.iter().map(|scenario| scenario.id.clone()).collect();
    Some(Unit { claims: Claims::of(&some, stages), planned: some, beneath, last, at: Progress::Waits })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::plan;
    use crate::scenario::load_catalogue;

    fn shipped() -> Plan {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
        plan(&load_catalogue(&root), &|_, _| true)
    }

    #[test]
    fn every_state_is_run_once_and_none_beside_one_that_it_clashes_with() {
        let plan = shipped();
        let mut schedule = Schedule::of(&plan);
        let mut running: Vec<usize> = Vec::new();
        let mut seen: Vec<(ScenarioId, String)> = Vec::new();
        let (mut most, mut turn) = (0, 0);
        loop {
            while running.len() < 4
                && let Some((unit, planned)) = schedule.begin()
            {
                for other in &running {
                    assert_eq!(schedule.clash(unit, *other), None);
                }
                for scenario in &planned.beneath {
                    assert!(schedule.is_needed(&scenario.id) && schedule.stood_on().contains_key(&scenario.id));
                    let states = plan.scenarios.iter().filter(|p| p.scenario.id == scenario.id).flat_map(|p| &p.stages);
                    assert!(states.into_iter().all(|s| seen.contains(&(scenario.id.clone(), s.state.clone()))), "needed ones come first");
                }
                seen.extend(planned.stages.iter().map(|s| (planned.scenario.id.clone(), s.state.clone())));
                running.push(unit);
            }
            most = most.max(running.len());
            if running.is_empty() {
                break;
            }
            // One or another ends first.
            turn += 1;
            schedule.end(running.remove(turn % running.len()));
        }
        let mut all: Vec<(ScenarioId, String)> =
            plan.scenarios.iter().flat_map(|p| p.stages.iter().map(|s| (p.scenario.id.clone(), s.state.clone()))).collect();
        all.sort();
        seen.sort();
        assert_eq!(seen, all);
        assert!(most >= 3, "scenarios of ingress, egress and others go beside each other: {most}");
    }
}
