//! Which of the cluster's gateways a state concerns: their proxies are waited for, those of others are not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::order::selected;
use super::{PlannedScenario, StateObjects};
use crate::names::Namespaced;
use crate::scenario::{Check, Gateway, KubeObject, Probe, default_gateways};

/// The gateways that traffic of this state can meet, beside whatever else its checks name: those that the scenario or one beneath brings, and of the cluster's own
/// those that a check names, an Istio Gateway selects, or an object or command sends to. None for all: a check asks of every
/// proxy there is.
///
/// Whatever the other gateways have, no call of this scenario reaches a listener there: a gateway listens where a Gateway
/// selects it, and nobody sends to one that he does not name.
#[must_use]
pub fn gateways_concerned(planned: &PlannedScenario, target: &StateObjects) -> Option<BTreeSet<Namespaced>> {
    let checks = || planned.selected_checks().map(|i| &planned.scenario.checks[i]);
    if checks().any(|check| matches!(check.probe, Probe::ProxyStatus | Probe::Versions)) {
        return None;
    }
    let members = || planned.beneath.iter().chain([&planned.scenario]);
    let mut concerned: BTreeSet<Namespaced> = members().flat_map(|s| &s.gateways).map(|g| g.at.clone()).collect();
    concerned.extend(checks().flat_map(Check::workloads));
    concerned.extend(target.scale.keys().cloned());
    let known = planned.known();
    // What another state of the scenario has may still be going away.
    let declared = members().flat_map(|s| s.manifests.iter().chain(&s.extra_manifests)).flat_map(|m| &m.objects);
    let objects: Vec<&KubeObject> = declared.chain(&target.objects).collect();
    for object in objects.iter().filter(|o| o.key.kind == "Gateway" && o.value.pointer("/spec/selector").is_some()) {
        concerned.extend(selected(object, &known).into_iter().map(|g| g.at.clone()));
    }
    let left: Vec<Gateway> = default_gateways().into_iter().filter(|g| !concerned.contains(&g.at)).collect();
    for gateway in left {
        let host = format!("{}.{}", gateway.at.name, gateway.at.namespace);
        let commanded = checks().any(|check| match &check.probe {
            Probe::Exec(probe) => probe.command.iter().any(|word| word.contains(&gateway.at.name)),
            Probe::Http(probe) => probe.host.as_str().contains(&host),
            _ => false,
        });
        if commanded || objects.iter().any(|o| any_text(&o.value, &|text| text.contains(&host))) {
            concerned.insert(gateway.at);
        }
    }
    Some(concerned)
}

/// Whether this holds of a text somewhere within a value; names of fields are none.
pub fn any_text(value: &Value, holds: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => holds(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, holds)),
        Value::Object(map) => map.values().any(|item| any_text(item, holds)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{objects_in, plan};
    use crate::scenario::tests::load;

    const CALL: &str = "expect: {status: 200}";

    fn concerned(manifest: &str, scenario: &str) -> Option<Vec<String>> {
        let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n---\n{manifest}");
        let scenario = format!("title: t\nmanifests: [m.yaml]\n{scenario}");
        let other = "title: o\ngateways: [{at: x/theirs}]\nchecks: [{name: a, proves: p, versions: , expect: {agree: true}}]\n";
        let catalogue = load(&[("s/m.yaml", &manifest), ("s/scenario.yaml", &scenario), ("o/scenario.yaml", other)]);
        assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        let plan = plan(&catalogue, &|_, _| true);
        let planned = plan.scenarios.iter().find(|p| p.scenario.id.to_string() == "s").unwrap();
        let target = objects_in(&planned.scenario, "intact").unwrap();
        gateways_concerned(planned, &target).map(|all| all.iter().map(ToString::to_string).collect())
    }

    fn outside_call() -> String {
        format!(
            "checks: [{{name: a, proves: p, http: {{from: outside, gateway: istio-system/istio-ingressgateway, url: 'http://a.org/'}}, {CALL}}}]"
        )
    }

    #[test]
    fn a_gateway_is_concerned_that_a_check_names_an_object_selects_or_sends_to() {
        let ingress = "istio-system/istio-ingressgateway";
        let egress = "istio-system/istio-egressgateway";
        assert_eq!(concerned("", &outside_call()).unwrap(), [ingress]);
        let selecting = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: x}\n\
             spec: {selector: {istio: egressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: [a.org]}]}\n";
        assert_eq!(concerned(selecting, &outside_call()).unwrap(), [egress, ingress]);
        let sending = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: x}\n\
             spec: {host: istio-egressgateway.istio-system.svc.cluster.local}\n";
        assert_eq!(concerned(sending, &outside_call()).unwrap(), [egress, ingress]);
        let brought = format!("gateways: [{{at: x/mine}}]\n{}", outside_call());
        assert_eq!(concerned("", &brought).unwrap(), [ingress, "x/mine"]);
    }

    #[test]
    fn a_check_that_asks_of_every_proxy_concerns_all() {
        assert_eq!(concerned("", "checks: [{name: a, proves: p, proxyStatus: , expect: {synced: true}}]"), None);
    }
}
