//! What a plan wants of its cluster.

use std::collections::{BTreeMap, BTreeSet};

use gateproof_core::names::ObjectKey;
use gateproof_core::plan::{Plan, PlannedScenario};
use gateproof_core::scenario::{KubeObject, Probe};

use crate::probe::RUN_CONFIG_MAP;
use crate::provider::ClusterNeeds;

/// Every object that a plan may apply.
pub(super) fn objects_of(plan: &Plan) -> impl Iterator<Item = &KubeObject> {
    let scenarios = plan.scenarios.iter().flat_map(|s| s.beneath.iter().chain([&s.scenario]));
    scenarios.flat_map(|s| s.manifests.iter().chain(&s.extra_manifests)).flat_map(|m| &m.objects)
}

/// What a plan wants of its cluster: its gateways with their homes, and every host outside that `all` declares.
#[must_use]
pub fn needs(plan: &Plan, all: &Plan) -> ClusterNeeds {
    let homes: BTreeSet<&str> = plan.gateways.iter().map(|g| g.at.namespace.as_str()).collect();
    let scenarios = plan.scenarios.iter().flat_map(|s| s.beneath.iter().chain([&s.scenario]));
    let mut namespaces: BTreeMap<String, KubeObject> = BTreeMap::new();
    for object in scenarios.flat_map(|s| &s.manifests).flat_map(|m| &m.objects) {
        if object.key.kind == "Namespace" && homes.contains(object.key.name.as_str()) {
            namespaces.insert(object.key.name.clone(), object.clone());
        }
    }
    let mut objects: BTreeSet<ObjectKey> = objects_of(plan).map(|o| o.key.clone()).collect();
    let core = |kind: &str, namespace: &str, name: &str| ObjectKey {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    objects.extend(plan.certificates.iter().map(|c| core("Secret", &c.secret.namespace, &c.secret.name)));
    let scenarios = || plan.scenarios.iter().flat_map(|s| s.beneath.iter().chain([&s.scenario]));
    objects.extend(scenarios().flat_map(|s| &s.run_config).map(|ns| core("ConfigMap", ns, RUN_CONFIG_MAP)));
    let analyzes = |s: &PlannedScenario| s.selected_checks().any(|i| matches!(s.scenario.checks[i].probe, Probe::Analyze { .. }));
    ClusterNeeds {
        gateways: plan.gateways.clone(),
        outside: all.outside.clone(),
        namespaces: namespaces.into_values().collect(),
        objects: objects.into_iter().collect(),
        istioctl: plan.scenarios.iter().any(analyzes),
    }
}
