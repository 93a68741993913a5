//! Whether istiod's store has what was applied and has lost what was removed.

use std::collections::BTreeMap;

use gateproof_core::facts::KnownConfig;
use gateproof_core::names::ObjectKey;
use gateproof_core::plan::GATEWAY_API;

use super::{Wanted, is_istio};

/// What istiod notes on objects that it makes of others: `KIND/NAME.NAMESPACE` of these, and `Gateway/NAME/LISTENER.NAMESPACE` of a
/// Gateway. Source: istio/istio `pkg/config/constants`, `InternalParentNames`.
const PARENTS: &str = "internal.istio.io/parents";

/// Whether `/debug/configz` lists objects of this kind. Of Gateway API it does, too; which of them istiod has is known by their
/// status, but of those that are gone by this alone.
pub(super) fn is_listed(key: &ObjectKey) -> bool {
    is_istio(key) || key.group() == GATEWAY_API
}

/// What is missing in one istiod's store, a line each.
pub(super) fn lacks(pod: &str, known: &[KnownConfig], wanted: &Wanted) -> Vec<String> {
    let mut missing = Vec::new();
    // The same names occur in several groups and namespaces; looked up by name, the list is walked once.
    let mut by_name: BTreeMap<&str, Vec<&KnownConfig>> = BTreeMap::new();
    for config in known {
        by_name.entry(config.metadata.name.as_str()).or_default().push(config);
    }
    let find = |key: &ObjectKey| {
        let is_it = |c: &&&KnownConfig| {
            let group = c.api_version.split_once('/').is_none_or(|(group, _)| group == key.group());
            group && c.kind == key.kind && c.metadata.namespace == key.namespace.as_deref().unwrap_or_default()
        };
        by_name.get(key.name.as_str())?.iter().find(is_it).copied()
    };
    for (key, revision) in wanted.applied.iter().filter(|(k, _)| is_istio(k)) {
        match find(key) {
            None => missing.push(format!("{pod} does not know {key}")),
            Some(have) if have.metadata.uid != revision.uid => missing.push(format!("{pod} knows an earlier {key}")),
            Some(have) if have.metadata.generation < revision.generation => {
                missing.push(format!("{pod} knows {key} at generation {}, applied was {}", have.metadata.generation, revision.generation));
            }
            Some(_) => {}
        }
    }
    // Applied again as another version, it is there, and rightly.
    let again = |key: &ObjectKey| {
        let same = |k: &ObjectKey| (k.group(), &k.kind, &k.namespace, &k.name) == (key.group(), &key.kind, &key.namespace, &key.name);
        wanted.applied.iter().any(|(k, _)| same(k))
    };
    let removed: Vec<&ObjectKey> = wanted.removed.iter().filter(|key| is_listed(key) && !again(key)).collect();
    for key in &removed {
        if find(key).is_some() {
            missing.push(format!("{pod} still knows {key}"));
        }
    }
    // What istiod makes of a route or a Gateway it makes by itself, later than it hears of them.
    for key in removed.into_iter().filter(|k| k.group() == GATEWAY_API) {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let is_parent = |parent: &str| {
            let rest = parent.trim().strip_prefix(key.kind.as_str()).and_then(|rest| rest.strip_prefix('/'));
            rest.and_then(|rest| rest.strip_suffix(namespace)?.strip_suffix('.'))
                .is_some_and(|name| name == key.name || name.strip_prefix(key.name.as_str()).is_some_and(|rest| rest.starts_with('/')))
        };
        let made = known.iter().find(|c| c.metadata.annotations.get(PARENTS).is_some_and(|parents| parents.split(',').any(is_parent)));
        if let Some(made) = made {
            missing.push(format!("{pod} still has {} {}, which it made of {key}", made.kind, made.metadata.name));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Revision;
    use super::*;

    fn key(api_version: &str, kind: &str, name: &str) -> ObjectKey {
        ObjectKey { api_version: api_version.into(), kind: kind.into(), namespace: Some("a".into()), name: name.into() }
    }

    fn known(entries: serde_json::Value) -> Vec<KnownConfig> {
        serde_json::from_value(entries).unwrap()
    }

    #[test]
    fn an_object_is_known_by_its_identity_and_its_generation() {
        let service = key("networking.istio.io/v1", "VirtualService", "v");
        let revision = Revision { uid: "1".into(), generation: 2 };
        let wanted = Wanted { applied: vec![(service, revision)], ..Wanted::default() };
        let with = |uid: &str, generation: u8, group: &str| {
            let metadata = json!({"name": "v", "namespace": "a", "uid": uid, "generation": generation});
            lacks("p", &known(json!([{"apiVersion": format!("{group}/v1"), "kind": "VirtualService", "metadata": metadata}])), &wanted)
        };
        let group = "networking.istio.io";
        assert!(with("1", 2, group).is_empty() && with("1", 3, group).is_empty());
        assert!(with("1", 1, group)[0].contains("generation 1"));
        assert!(with("0", 2, group)[0].contains("an earlier"));
        assert!(with("1", 2, "other.io")[0].contains("does not know"));
    }

    #[test]
    fn what_is_made_of_a_removed_route_has_to_be_gone_too() {
        let route = key("gateway.networking.k8s.io/v1", "GRPCRoute", "greeter");
        let gateway = key("gateway.networking.k8s.io/v1", "Gateway", "web");
        let made = |parents: &str| {
            let metadata = json!({"name": "web~autogenerated", "namespace": "a", "annotations": {PARENTS: parents}});
            known(json!([{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata}]))
        };
        let left = |key: &ObjectKey, parents: &str| {
            let wanted = Wanted { removed: vec![key.clone()], ..Wanted::default() };
            lacks("p", &made(parents), &wanted).len()
        };
        assert_eq!(left(&route, "GRPCRoute/greeter.a"), 1);
        assert_eq!(left(&route, "HTTPRoute/hello.a,GRPCRoute/greeter.a"), 1, "one of several that were merged");
        assert_eq!(left(&gateway, "Gateway/web/http.a"), 1, "a listener");
        for other in ["HTTPRoute/greeter.a", "GRPCRoute/greeter.b", "GRPCRoute/greeter-two.a", "GRPCRoute/greeter.b.a"] {
            assert_eq!(left(&route, other), 0, "{other}");
        }
        assert_eq!(left(&gateway, "Gateway/web-two/http.a"), 0);
    }

    #[test]
    fn a_removed_route_is_gone_when_the_store_has_lost_it() {
        let route = key("gateway.networking.k8s.io/v1", "HTTPRoute", "r");
        let wanted = Wanted { removed: vec![route], ..Wanted::default() };
        let metadata = json!({"name": "r", "namespace": "a"});
        let there = known(json!([{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata}]));
        assert_eq!(lacks("p", &there, &wanted).len(), 1);
        assert!(lacks("p", &[], &wanted).is_empty());
    }
}
