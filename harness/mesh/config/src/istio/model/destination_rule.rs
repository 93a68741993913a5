//! DestinationRules: which one counts for a client and a service, and several for one host merged into one
//! (Istio: `pilot/pkg/model/destination_rule.go`, `push_context.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{host, object};

/// A named part of a service's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// The labels that its endpoints carry.
    pub labels: BTreeMap<String, String>,
    /// Its own policy over the rule's, as the object has it.
    pub traffic_policy: Option<Value>,
}

/// One DestinationRule, or several for the same host merged.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// The name of the oldest object in it.
    pub name: String,
    /// Their namespace.
    pub namespace: String,
    /// The full host, maybe with a wildcard.
    pub host: String,
    /// `exportTo` as written.
    pub export_to: Vec<String>,
    /// Which clients it is for (`workloadSelector.matchLabels`), all if not said.
    pub clients: Option<BTreeMap<String, String>>,
    /// The policy for the host, as the object has it.
    pub traffic_policy: Option<Value>,
    /// Its subsets, those of older objects first.
    pub subsets: Vec<Subset>,
}

impl DestinationRule {
    fn read(rule: &Value, domain: &str) -> DestinationRule {
        let namespace = object::namespace(rule);
        let clients = rule.pointer("/spec/workloadSelector");
        let clients = clients.map(|selector| selector.get("matchLabels").map(object::text_map).unwrap_or_default());
        let export_to = if clients.is_some() { vec!["."] } else { object::texts(rule, "/spec/exportTo") };
        DestinationRule {
            name: object::name(rule).to_owned(),
            namespace: namespace.to_owned(),
            host: host::resolve(object::text(rule, "/spec/host"), namespace, domain),
            export_to: export_to.into_iter().map(str::to_owned).collect(),
            clients,
            traffic_policy: rule.pointer("/spec/trafficPolicy").filter(|policy| !policy.is_null()).cloned(),
            subsets: object::list(rule, "/spec/subsets").iter().map(Subset::read).collect(),
        }
    }

    /// The subset of this name.
    #[must_use]
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }

    /// Takes what a younger rule for the same host adds: subsets with new names, and its policy if there was none.
    fn add(&mut self, younger: &DestinationRule) {
        for subset in &younger.subsets {
            if self.subset(&subset.name).is_none() {
                self.subsets.push(subset.clone());
            }
        }
        if self.traffic_policy.is_none() {
            self.traffic_policy.clone_from(&younger.traffic_policy);
        }
    }

    fn is_local(&self) -> bool {
        self.export_to.is_empty() || self.export_to.iter().any(|to| to == "*" || to == "." || *to == self.namespace)
    }

    fn is_private(&self, private_by_default: bool) -> bool {
        match self.export_to.as_slice() {
            [] => private_by_default,
            [only] => only == "." || *only == self.namespace,
            _ => false,
        }
    }

    fn is_exported_to(&self, namespace: &str) -> bool {
        self.export_to.is_empty() || self.export_to.iter().any(|to| to == "*" || to == namespace)
    }
}

impl Subset {
    fn read(subset: &Value) -> Subset {
        Subset {
            name: object::text(subset, "/name").to_owned(),
            labels: subset.get("labels").map(object::text_map).unwrap_or_default(),
            traffic_policy: subset.get("trafficPolicy").filter(|policy| !policy.is_null()).cloned(),
        }
    }
}

/// The rules of one pool by host.
type ByHost = BTreeMap<String, Vec<DestinationRule>>;

/// All DestinationRules, by who looks where.
#[derive(Debug, Clone, Default)]
pub(super) struct DestinationRules {
    /// By namespace: what its own proxies see.
    local: BTreeMap<String, ByHost>,
    /// By namespace: what it exports.
    exported: BTreeMap<String, ByHost>,
    /// Private rules of the root namespace.
    root_private: ByHost,
    root_namespace: String,
}

impl DestinationRules {
    /// From objects in order of their creation.
    pub(super) fn new(objects: &[Arc<Value>], domain: &str, root_namespace: &str, private_by_default: bool) -> DestinationRules {
        let mut rules = DestinationRules { root_namespace: root_namespace.to_owned(), ..DestinationRules::default() };
        let mut read: Vec<DestinationRule> = objects.iter().map(|object| DestinationRule::read(object, domain)).collect();
        // Istio sorts rules with a selector before those without (`sortConfigBySelectorAndCreationTime`).
        read.sort_by_key(|rule| rule.clients.is_none());
        for rule in read {
            let (namespace, is_private) = (rule.namespace.clone(), rule.is_private(private_by_default));
            if rule.is_local() {
                merge(rules.local.entry(namespace.clone()).or_default(), &rule);
            }
            if !is_private {
                merge(rules.exported.entry(namespace).or_default(), &rule);
            } else if namespace == root_namespace {
                merge(&mut rules.root_private, &rule);
            }
        }
        rules
    }

    /// The rules for a host that proxies of `client` call: those of the client's namespace, else what the service's exports, else
    /// what the root namespace exports. Several only if some have a selector.
    pub(super) fn find(&self, host: &str, client: &str, service: &str) -> Vec<&DestinationRule> {
        let own = if client == self.root_namespace { Some(&self.root_private) } else { self.local.get(client) };
        if let Some(rules) = own.and_then(|pool| most_specific(pool, host)) {
            return rules.iter().collect();
        }
        for namespace in [service, &self.root_namespace] {
            let rules = self.exported.get(namespace).and_then(|pool| most_specific(pool, host)).unwrap_or_default();
            let exported: Vec<_> = rules.iter().filter(|rule| rule.is_exported_to(client)).collect();
            if !exported.is_empty() {
                return exported;
            }
        }
        Vec::new()
    }
}

fn merge(pool: &mut ByHost, rule: &DestinationRule) {
    let rules = pool.entry(rule.host.clone()).or_default();
    let mut stands_alone = true;
    for older in rules.iter_mut() {
        if older.clients.is_some() && rule.clients.is_some() && older.clients != rule.clients {
            continue;
        }
        if older.clients == rule.clients {
            stands_alone = false;
        }
        older.add(rule);
    }
    if stands_alone {
        rules.push(rule.clone());
    }
}

fn most_specific<'a>(pool: &'a ByHost, name: &str) -> Option<&'a [DestinationRule]> {
    if let Some(rules) = pool.get(name) {
        return Some(rules);
    }
    let wildcards = pool.iter().filter(|(pattern, _)| pattern.starts_with('*') && host::subset_of(name, pattern));
    wildcards.min_by(|(one, _), (other, _)| host::by_specificity(one, other)).map(|(_, rules)| rules.as_slice())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(namespace: &str, name: &str, spec: Value) -> Arc<Value> {
        Arc::new(json!({"kind": "DestinationRule", "metadata": {"name": name, "namespace": namespace}, "spec": spec}))
    }

    fn names(rules: &[&DestinationRule]) -> Vec<String> {
        rules.iter().map(|rule| rule.name.clone()).collect()
    }

    #[test]
    fn the_clients_namespace_comes_first_then_the_services_then_the_root() {
        let objects = [
            rule("root", "mesh", json!({"host": "*.local"})),
            rule("b", "of-service", json!({"host": "s.b.svc.cluster.local"})),
            rule("a", "of-client", json!({"host": "s.b.svc.cluster.local"})),
        ];
        let rules = DestinationRules::new(&objects, "cluster.local", "root", false);
        assert_eq!(names(&rules.find("s.b.svc.cluster.local", "a", "b")), ["of-client"]);
        assert_eq!(names(&rules.find("s.b.svc.cluster.local", "c", "b")), ["of-service"]);
        assert_eq!(names(&rules.find("t.b.svc.cluster.local", "c", "b")), ["mesh"]);
        assert_eq!(names(&rules.find("s.b.svc.cluster.local", "root", "b")), ["of-service"]);
    }

    #[test]
    fn private_rules_stay_at_home() {
        let objects = [rule("b", "private", json!({"host": "s", "exportTo": ["."]}))];
        let rules = DestinationRules::new(&objects, "cluster.local", "root", false);
        assert_eq!(names(&rules.find("s.b.svc.cluster.local", "b", "b")), ["private"]);
        assert!(rules.find("s.b.svc.cluster.local", "c", "b").is_empty());
    }

    #[test]
    fn rules_for_one_host_are_merged() {
        let objects = [
            rule("b", "first", json!({"host": "s", "subsets": [{"name": "v1"}]})),
            rule("b", "second", json!({"host": "s", "subsets": [{"name": "v2"}], "trafficPolicy": {"tls": {"mode": "DISABLE"}}})),
        ];
        let rules = DestinationRules::new(&objects, "cluster.local", "root", false);
        let found = rules.find("s.b.svc.cluster.local", "b", "b");
        assert_eq!(found.len(), 1);
        assert!(found[0].subset("v1").is_some() && found[0].subset("v2").is_some() && found[0].traffic_policy.is_some());
    }
}
