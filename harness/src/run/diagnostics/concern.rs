//! Which objects a red state is about: no more is collected than these.

use std::collections::BTreeSet;

use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::outcome::Outcome;
use gateproof_core::plan::{PlannedScenario, StateObjects};
use gateproof_core::report::CheckRecord;
use gateproof_core::scenario::{Check, KubeObject, Probe};
use k8s_openapi::api::apps::v1::Deployment;

/// Workloads and namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Concern {
    /// Deployments: callers, gateways, proxies of the path wanted and of the path seen, proxies that should be absent.
    pub(super) workloads: BTreeSet<Namespaced>,
    /// Namespaces that a check names by themselves.
    pub(super) namespaces: BTreeSet<String>,
}

/// What red checks are about.
pub(super) fn concern<'a>(red: impl IntoIterator<Item = (&'a Check, &'a CheckRecord)>) -> Concern {
    let mut out = Concern::default();
    for (check, record) in red {
        out.workloads.extend(check.workloads());
        match &check.probe {
            Probe::Analyze { namespaces } => out.namespaces.extend(namespaces.iter().cloned()),
            Probe::Object(key) => out.namespaces.extend(key.namespace.clone()),
            _ => {}
        }
        out.workloads.extend(record.hops.iter().map(|hop| hop.proxy.clone()));
    }
    out
}

/// All that red checks say, to look names up in.
pub(super) fn words(checks: &[&CheckRecord]) -> String {
    let mut out = String::new();
    for check in checks {
        match &check.outcome {
            Outcome::Failed { mismatches } => {
                for mismatch in mismatches {
                    out.push_str(&mismatch.observed);
                    out.push('\n');
                }
            }
            Outcome::Error { message } => {
                out.push_str(message);
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

/// Whether a proxy (`POD.NAMESPACE`) is named, and not only one whose name begins or ends alike.
pub(super) fn names(text: &str, proxy: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.match_indices(proxy).any(|(at, _)| !text[..at].ends_with(part) && !text[at + proxy.len()..].starts_with(part))
}

/// The objects of a state: the scenario's own as they stand in it, those that the state leaves out, those beneath.
/// Each once, with words for where it comes from.
pub(super) fn objects<'a>(planned: &'a PlannedScenario, target: &'a StateObjects) -> Vec<(&'a ObjectKey, String)> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    let mut add = |object: &'a KubeObject, whose: String| {
        if seen.insert(object.key.clone()) {
            out.push((&object.key, whose));
        }
    };
    let scenario = &planned.scenario;
    target.objects.iter().for_each(|o| add(o, format!("of {}", scenario.id)));
    let intact = scenario.manifests.iter().flat_map(|m| &m.objects);
    intact.for_each(|o| add(o, format!("of {}, left out in this state", scenario.id)));
    for beneath in &planned.beneath {
        beneath.manifests.iter().flat_map(|m| &m.objects).for_each(|o| add(o, format!("of {}, beneath", beneath.id)));
    }
    out
}

/// What a Deployment still lacks; None when it has rolled out.
pub(super) fn short_of(deployment: &Deployment) -> Option<String> {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    let current = status.observed_generation >= deployment.metadata.generation;
    if current && updated == wanted && available == wanted {
        return None;
    }
    Some(format!("{available} of {wanted} replicas available, {updated} of the newest template"))
}

#[cfg(test)]
mod tests {
    use gateproof_core::outcome::{EvidenceKind, Mismatch};
    use gateproof_core::scenario::{CallExpect, Expectation, HopExpect, INTACT, ProxyConfigProbe};

    use super::*;
    use crate::run::check;

    fn at(text: &str) -> Namespaced {
        Namespaced::parse(text).unwrap()
    }

    fn a_check(probe: Probe, expect: Expectation) -> Check {
        Check { name: "c".into(), proves: "p".into(), given: INTACT.into(), probe, expect }
    }

    #[test]
    fn a_call_concerns_its_caller_its_path_and_who_should_not_see_it() {
        let hop = HopExpect::any(at("istio-system/egw"));
        let expect = CallExpect { path: vec![hop], absent_from: vec![at("istio-system/other")], ..CallExpect::default() };
        let probe = gateproof_core::scenario::ExecProbe {
            workload: at("mesh-test/sleep"),
            container: None,
            command: vec!["curl".into()],
            timeout: std::time::Duration::from_secs(1),
        };
        let call = a_check(Probe::Exec(probe), Expectation::Call(Box::new(expect)));
        let config = ProxyConfigProbe {
            workload: at("mesh-test/httpbin"),
            section: gateproof_core::scenario::ConfigSection::Routes,
            name: "*".into(),
        };
        let config = a_check(Probe::ProxyConfig(config), Expectation::Config(gateproof_core::scenario::ConfigExpect::Absent));
        let analysis = a_check(
            Probe::Analyze { namespaces: vec!["shop".into()] },
            Expectation::Analysis(gateproof_core::scenario::AnalysisExpect::Clean),
        );
        let all = [call, config, analysis];
        let records: Vec<_> = all.iter().map(|c| check::unasked(c, Outcome::Error { message: "x".into() })).collect();
        let concern = concern(all.iter().zip(&records));
        let names: Vec<String> = concern.workloads.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["istio-system/egw", "istio-system/other", "mesh-test/httpbin", "mesh-test/sleep"]);
        assert_eq!(concern.namespaces, BTreeSet::from(["shop".to_owned()]));
    }

    #[test]
    fn a_proxy_is_named_as_a_whole() {
        let text = "the proxies do not have it: egw-1.istio-system: still missing; sleep-12.mesh-test refused Listener";
        assert!(names(text, "egw-1.istio-system") && names(text, "sleep-12.mesh-test"));
        assert!(!names(text, "gw-1.istio-system") && !names(text, "sleep-12.mesh") && !names(text, "sleep-1.mesh-test"));
        let mismatch = Mismatch { what: "w".into(), expected: "e".into(), observed: text.into(), by: EvidenceKind::ProxyConfig };
        let check = a_check(Probe::ProxyStatus, Expectation::VersionsAgree);
        let record = check::unasked(&check, Outcome::Failed { mismatches: vec![mismatch] });
        assert!(names(&words(&[&record]), "egw-1.istio-system"));
    }

    #[test]
    fn a_roll_out_is_done_when_the_newest_template_is_available() {
        let deployment = |available: i32, observed: i64| -> Deployment {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "d", "generation": 2},
                "spec": {"replicas": 1, "selector": {}, "template": {}},
                "status": {"observedGeneration": observed, "updatedReplicas": 1, "availableReplicas": available}
            }))
            .unwrap()
        };
        assert_eq!(short_of(&deployment(1, 2)), None);
        assert!(short_of(&deployment(0, 2)).unwrap().starts_with("0 of 1"));
        assert!(short_of(&deployment(1, 1)).is_some());
    }
}
