//! Which endpoints are called first, by where they are and by labels that they share with the caller (Istio:
//! `pilot/pkg/networking/core/loadbalancer`). Shares by `distribute` are not made, and neither is what a Service's
//! `trafficDistribution` asks for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::PushContext;
use super::endpoints::Endpoint;
use super::model::object;
use crate::ProxyNode;

/// The setting that holds for a cluster, for one proxy.
pub(super) struct Failover<'a> {
    setting: &'a Value,
    /// `region/zone/subzone` of the proxy.
    own: String,
    labels: BTreeMap<String, String>,
}

/// Endpoints of one locality and one priority.
pub(super) struct Group<'e> {
    /// `region/zone/subzone`.
    pub(super) locality: String,
    /// 0 is called first.
    pub(super) priority: u32,
    /// With what is written of each.
    pub(super) endpoints: Vec<(&'e Endpoint, Value)>,
}

impl<'a> Failover<'a> {
    /// The rule's setting, else the mesh's; nothing without outlier detection, since a priority is never left without it.
    pub(super) fn of(context: &'a PushContext, node: &ProxyNode, balancer: Option<&'a Value>, has_outliers: bool) -> Option<Failover<'a>> {
        let of_mesh = context.mesh.raw.get("localityLbSetting");
        let setting = balancer.and_then(|balancer| balancer.get("localityLbSetting")).or(of_mesh).unwrap_or(&Value::Null);
        let is_on = setting.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        if !is_on || !has_outliers || setting.get("distribute").is_some() {
            return None;
        }
        let own =
            context.pod_at(&node.ip.to_string()).map(|pod| context.locality_of(object::text(pod, "/spec/nodeName"))).unwrap_or_default();
        Some(Failover { setting, labels: with_topology(&node.labels, &own), own })
    }

    /// Whether the setting says anything of its own: then Envoy heeds the localities' weights.
    pub(super) fn is_said(&self) -> bool {
        ["failover", "failoverPriority"].iter().any(|field| self.setting.get(field).is_some())
    }

    /// Gives priorities to groups of one locality each (`ApplyLocalityLoadBalancer`).
    pub(super) fn apply<'e>(&self, groups: Vec<Group<'e>>) -> Vec<Group<'e>> {
        let wanted = object::texts(self.setting, "/failoverPriority");
        if wanted.is_empty() {
            return self.by_place(groups);
        }
        let groups = if self.labels.is_empty() { groups } else { self.by_labels(groups, &wanted) };
        if object::list(self.setting, "/failover").is_empty() { groups } else { self.by_place(groups) }
    }

    /// `applyLocalityFailover`: the same subzone, zone, region; then the region that the setting names; then the rest.
    fn by_place<'e>(&self, mut groups: Vec<Group<'e>>) -> Vec<Group<'e>> {
        let parts = |locality: &'_ str| -> [String; 3] {
            let mut parts = locality.splitn(3, '/').map(str::to_owned);
            std::array::from_fn(|_| parts.next().unwrap_or_default())
        };
        let own = parts(&self.own);
        let targets = object::list(self.setting, "/failover");
        let target = targets.iter().find(|target| object::text(target, "/from") == own[0]).map(|target| object::text(target, "/to"));
        for group in &mut groups {
            let there = parts(&group.locality);
            let same = own.iter().zip(&there).take_while(|(own, there)| own == there).count();
            let distance = match (same, target) {
                (0, Some(target)) if there[0] != target => 4,
                (0, _) => 3,
                (1, _) => 2,
                (2, _) => 1,
                _ => 0,
            };
            group.priority = group.priority * 5 + distance;
        }
        without_gaps(groups)
    }

    /// `applyFailoverPriorities`: by how many of the labels, from the first on, are the caller's. `label=value` asks for that value.
    fn by_labels<'e>(&self, groups: Vec<Group<'e>>, wanted: &[&str]) -> Vec<Group<'e>> {
        let lowest = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let of_network = wanted.first() == Some(&"topology.istio.io/network");
        let mut out = Vec::new();
        for group in groups {
            let mut by_priority: BTreeMap<u32, Vec<(&Endpoint, Value)>> = BTreeMap::new();
            for (endpoint, written) in group.endpoints {
                let labels = with_topology(&endpoint.labels, &endpoint.locality);
                let (mut priority, mut elsewhere) = (0, 0);
                for (rank, label) in (0..lowest).zip(wanted) {
                    let (label, value) = match label.split_once('=') {
                        Some((label, value)) if !value.contains('=') => (label, value),
                        Some((label, _)) => (label, self.value(label)),
                        None => (*label, self.value(label)),
                    };
                    if labels.get(label).map_or("", String::as_str) != value {
                        if rank == 0 && of_network {
                            elsewhere = lowest;
                            continue;
                        }
                        priority = lowest - rank;
                        break;
                    }
                }
                by_priority.entry(priority + elsewhere).or_default().push((endpoint, written));
            }
            let split = by_priority.into_iter();
            out.extend(split.map(|(priority, endpoints)| Group { locality: group.locality.clone(), priority, endpoints }));
        }
        without_gaps(out)
    }

    fn value(&self, label: &str) -> &str {
        self.labels.get(label).map_or("", String::as_str)
    }
}

/// Labels with those that istiod adds for the place.
fn with_topology(labels: &BTreeMap<String, String>, locality: &str) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    let names = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    for (name, part) in names.into_iter().zip(locality.splitn(3, '/')) {
        if !part.is_empty() {
            labels.insert(name.to_owned(), part.to_owned());
        }
    }
    labels
}

/// Priorities from 0 on, each taken.
fn without_gaps(mut groups: Vec<Group<'_>>) -> Vec<Group<'_>> {
    let mut known: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    known.sort_unstable();
    known.dedup();
    for group in &mut groups {
        group.priority = known.iter().take_while(|priority| **priority < group.priority).map(|_| 1).sum();
    }
    groups
}

impl Group<'_> {
    /// As `LocalityLbEndpoints`.
    pub(super) fn write(self) -> Value {
        let mut place = serde_json::Map::new();
        for (field, value) in ["region", "zone", "sub_zone"].into_iter().zip(self.locality.split('/')) {
            if !value.is_empty() {
                place.insert(field.to_owned(), json!(value));
            }
        }
        let weight: u64 = self.endpoints.iter().map(|(endpoint, _)| u64::from(endpoint.weight)).sum();
        let endpoints: Vec<Value> = self.endpoints.into_iter().map(|(_, written)| written).collect();
        let mut out = json!({"lb_endpoints": endpoints, "load_balancing_weight": weight, "locality": place});
        if self.priority > 0 {
            out["priority"] = json!(self.priority);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, locality: &str, labels: &[(&str, &str)]) -> Endpoint {
        Endpoint {
            address: address.to_owned(),
            port: 80,
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            namespace: "shop".to_owned(),
            identity: String::new(),
            has_sidecar: false,
            weight: 1,
            is_ready: true,
            locality: locality.to_owned(),
            workload: String::new(),
        }
    }

    /// Priorities by address, for a caller at `r1/z1/s1` with the label `version: v1`.
    fn priorities(setting: &Value, endpoints: &[Endpoint]) -> Vec<(String, u32)> {
        let labels = with_topology(&BTreeMap::from([("version".to_owned(), "v1".to_owned())]), "r1/z1/s1");
        let failover = Failover { setting, own: "r1/z1/s1".to_owned(), labels };
        let mut by_locality: BTreeMap<&str, Vec<(&Endpoint, Value)>> = BTreeMap::new();
        for endpoint in endpoints {
            by_locality.entry(&endpoint.locality).or_default().push((endpoint, Value::Null));
        }
        let groups = by_locality.into_iter().map(|(name, endpoints)| Group { locality: name.to_owned(), priority: 0, endpoints });
        let groups = failover.apply(groups.collect());
        let mut found: Vec<(String, u32)> =
            groups.iter().flat_map(|group| group.endpoints.iter().map(|(one, _)| (one.address.clone(), group.priority))).collect();
        found.sort();
        found
    }

    fn wanted(all: &[(&str, u32)]) -> Vec<(String, u32)> {
        all.iter().map(|(address, priority)| ((*address).to_owned(), *priority)).collect()
    }

    #[test]
    fn the_nearest_are_called_first_and_the_named_region_before_others() {
        let all = ["r1/z1/s1", "r1/z1/s2", "r1/z2", "r2/z1", "r3/z1", ""];
        let endpoints: Vec<Endpoint> = all.iter().map(|locality| endpoint(locality, locality, &[])).collect();
        let found = priorities(&Value::Null, &endpoints);
        assert_eq!(found, wanted(&[("", 3), ("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z2", 2), ("r2/z1", 3), ("r3/z1", 3)]));
        let to = json!({"failover": [{"from": "r1", "to": "r3"}]});
        let found = priorities(&to, &endpoints);
        assert_eq!(found, wanted(&[("", 4), ("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z2", 2), ("r2/z1", 4), ("r3/z1", 3)]));
        // No priority is left out.
        let found = priorities(&Value::Null, &endpoints[2..4]);
        assert_eq!(found, wanted(&[("r1/z2", 0), ("r2/z1", 1)]));
    }

    #[test]
    fn endpoints_that_share_more_labels_from_the_first_on_are_called_first() {
        let endpoints = [
            endpoint("both", "r1/z1", &[("version", "v1")]),
            endpoint("first", "r1/z2", &[("version", "v1")]),
            endpoint("second", "r1/z1", &[("version", "v2")]),
        ];
        let by = |labels: Value| priorities(&json!({"failoverPriority": labels}), &endpoints);
        assert_eq!(by(json!(["version", "topology.kubernetes.io/zone"])), wanted(&[("both", 0), ("first", 1), ("second", 2)]));
        assert_eq!(by(json!(["version=v2"])), wanted(&[("both", 1), ("first", 1), ("second", 0)]));
        // The network alone is weighed last.
        assert_eq!(by(json!(["topology.istio.io/network", "version"])), wanted(&[("both", 0), ("first", 0), ("second", 1)]));
    }
}
