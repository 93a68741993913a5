//! Scenarios into an ordered plan.
//!
//! [`plan()`] decides which scenarios run in which states; [`apply_waves`] decides in which order the objects
//! of a state are applied; [`mutations`] lists the departures that a scenario's checks have to notice.

mod claims;
mod concerned;
mod mutate;
mod mutate_gateway;
mod order;
mod refs;
mod schedule;
mod select;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use claims::{Claim, Claims};
pub use concerned::{any_text, gateways_concerned};
pub use mutate::{Mutation, mutations};
pub use order::{Known, Waves, apply_waves, dangling};
pub use refs::GATEWAY_API;
pub use schedule::{Schedule, Unit};
pub use select::{Shard, Tags};
pub use state::{StateError, StateObjects, apply_edit, changed, objects_in};

use crate::names::ScenarioId;
use crate::scenario::{Catalogue, Certificate, Change, Gateway, INTACT, OutsideHost, Scenario, default_gateways};

/// What is going to be run, in order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Scenarios with a selected check, those that are needed first.
    pub scenarios: Vec<PlannedScenario>,
    /// Gateways that planned scenarios and those beneath bring, sorted; the cluster's own are not among them.
    pub gateways: Vec<Gateway>,
    /// Hosts outside that they declare, sorted.
    pub outside: Vec<OutsideHost>,
    /// Secrets that they declare, sorted.
    pub certificates: Vec<Certificate>,
    /// Selected checks that are not asked, since `exceptions.yaml` says so of them, or of a scenario that they stand on.
    pub skipped: Vec<SkippedCheck>,
}

/// A selected check that is not asked.
#[derive(Debug, Clone)]
pub struct SkippedCheck {
    /// Its scenario.
    pub scenario: Arc<Scenario>,
    /// Its place among the scenario's checks.
    pub check: usize,
    /// Why, for people.
    pub reason: String,
}

/// A scenario, its selected checks, and what stands beneath it.
#[derive(Debug, Clone)]
pub struct PlannedScenario {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// What it needs, transitively, each after its own needs: their intact objects stand while it runs.
    pub beneath: Vec<Arc<Scenario>>,
    /// Its states with selected checks, in order. Never empty.
    pub stages: Vec<Stage>,
}

impl PlannedScenario {
    /// Indices of the selected checks, in the order that they run.
    pub fn selected_checks(&self) -> impl Iterator<Item = usize> {
        self.stages.iter().flat_map(|s| s.checks.iter().copied())
    }

    /// What its references may point to beside its own objects, for [`dangling`].
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        let members = || self.beneath.iter().chain([&self.scenario]);
        Known {
            gateways: default_gateways().into_iter().chain(members().flat_map(|s| s.gateways.iter().cloned())).collect(),
            secrets: members().flat_map(|s| s.certificates.iter().map(|c| c.secret.clone())).collect(),
            beneath: self.beneath.iter().flat_map(|s| &s.manifests).flat_map(|m| &m.objects).collect(),
        }
    }
}

/// A state of a scenario and the checks that hold in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// [`INTACT`] or a variation's name.
    pub state: String,
    /// Indices into the scenario's checks, in the order written. Never empty.
    pub checks: Vec<usize>,
}

/// Plans the checks that `selected` picks by scenario and name, but for those that are to be skipped.
pub fn plan(catalogue: &Catalogue, selected: &dyn Fn(&ScenarioId, &str) -> bool) -> Plan {
    let shared: BTreeMap<&ScenarioId, Arc<Scenario>> = catalogue.scenarios.iter().map(|s| (&s.id, Arc::new(s.clone()))).collect();
    let mut order: Vec<&Scenario> = Vec::new();
    let mut seen = BTreeSet::new();
    for scenario in &catalogue.scenarios {
        let with_needs = catalogue.beneath(scenario).into_iter().chain([scenario]);
        order.extend(with_needs.filter(|s| seen.insert(&s.id)));
    }
    let mut plan = Plan::default();
    let (mut gateways, mut outside, mut certificates) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for scenario in order {
        let whole = without(scenario, &catalogue.beneath(scenario));
        let reason = |check: &str| whole.clone().or_else(|| scenario.exceptions.skipped.get(check).cloned());
        for (check, about) in scenario.checks.iter().enumerate().filter(|(_, c)| selected(&scenario.id, &c.name)) {
            if let Some(reason) = reason(&about.name) {
                plan.skipped.push(SkippedCheck { scenario: Arc::clone(&shared[&scenario.id]), check, reason });
            }
        }
        let stages = stages(scenario, &|id, check| selected(id, check) && reason(check).is_none());
        if stages.is_empty() {
            continue;
        }
        let beneath: Vec<_> = catalogue.beneath(scenario).into_iter().filter_map(|s| shared.get(&s.id).cloned()).collect();
        let scenario = Arc::clone(&shared[&scenario.id]);
        for member in beneath.iter().chain([&scenario]) {
            gateways.extend(member.gateways.iter().map(|g| (g.at.clone(), g.clone())));
            outside.extend(member.outside.iter().map(|o| (o.host.clone(), o.clone())));
            certificates.extend(member.certificates.iter().map(|c| (c.secret.clone(), c.clone())));
        }
        plan.scenarios.push(PlannedScenario { scenario, beneath, stages });
    }
    plan.gateways = gateways.into_values().collect();
    plan.outside = outside.into_values().collect();
    plan.certificates = certificates.into_values().collect();
    plan
}

/// Why a scenario cannot be brought up, where it or one that it stands on is skipped as a whole.
fn without(scenario: &Scenario, beneath: &[&Scenario]) -> Option<String> {
    let needed = || beneath.iter().find_map(|s| Some(format!("it needs `{}`, which is skipped: {}", s.id, s.exceptions.whole.as_ref()?)));
    scenario.exceptions.whole.clone().or_else(needed)
}

/// From nothing to something, then intact, then the departures.
fn stages(scenario: &Scenario, selected: &dyn Fn(&ScenarioId, &str) -> bool) -> Vec<Stage> {
    let from_nothing = |starts: bool| {
        let names = scenario.variations.iter().filter(move |v| (v.changes.first() == Some(&Change::WithoutAll)) == starts);
        names.map(|v| v.name.as_str())
    };
    let states = from_nothing(true).chain([INTACT]).chain(from_nothing(false));
    let stage = |state: &str| {
        let checks = scenario.checks.iter().enumerate().filter(|(_, c)| c.given == state && selected(&scenario.id, &c.name));
        Stage { state: state.to_owned(), checks: checks.map(|(i, _)| i).collect() }
    };
    states.map(stage).filter(|s| !s.checks.is_empty()).collect()
}
