//! The objects of a snapshot as the conversion looks them up.

use std::collections::BTreeMap;

use serde_json::Value;

use super::GROUP;
use crate::Snapshot;
use crate::istio::model::object;

/// Kinds of other groups that are looked up.
const OTHERS: [(&str, &str); 5] =
    [("", "Namespace"), ("", "Service"), ("", "Secret"), ("", "ConfigMap"), ("networking.istio.io", "ServiceEntry")];

pub(super) struct Objects<'a> {
    /// Gateway API's by their kind, oldest first.
    own: BTreeMap<&'a str, Vec<&'a Value>>,
    /// By kind, namespace and name.
    others: BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'a str, &'a Value>>>,
    /// EndpointSlices by namespace and Service.
    slices: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Value>>>,
    pub(super) domain: &'a str,
}

impl<'a> Objects<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Objects<'a> {
        let mut out = Objects { own: BTreeMap::new(), others: BTreeMap::new(), slices: BTreeMap::new(), domain: &snapshot.domain };
        for value in snapshot.objects.iter().map(AsRef::as_ref) {
            let group = object::text(value, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
            let (kind, namespace) = (object::text(value, "/kind"), object::namespace(value));
            if group == GROUP {
                out.own.entry(kind).or_default().push(value);
            } else if OTHERS.contains(&(group, kind)) {
                out.others.entry(kind).or_default().entry(namespace).or_default().insert(object::name(value), value);
            } else if (group, kind) == ("discovery.k8s.io", "EndpointSlice") {
                let service = object::text(value, "/metadata/labels/kubernetes.io~1service-name");
                out.slices.entry(namespace).or_default().entry(service).or_default().push(value);
            }
        }
        for list in out.own.values_mut() {
            list.sort_by_key(|value| (object::created(value), object::namespace(value), object::name(value)));
        }
        out
    }

    pub(super) fn is_without_gateway_api(&self) -> bool {
        self.own.is_empty()
    }

    /// Gateway API's objects of a kind, oldest first.
    pub(super) fn of(&self, kind: &str) -> &[&'a Value] {
        self.own.get(kind).map_or(&[], Vec::as_slice)
    }

    /// An object of another group.
    pub(super) fn find(&self, kind: &'static str, namespace: &str, name: &str) -> Option<&'a Value> {
        self.others.get(kind)?.get(namespace)?.get(name).copied()
    }

    pub(super) fn slices_of(&self, namespace: &str, service: &str) -> &[&'a Value] {
        self.slices.get(namespace).and_then(|of| of.get(service)).map_or(&[], Vec::as_slice)
    }

    /// Whether a host is that of a Service or ServiceEntry of this namespace.
    pub(super) fn has_host(&self, host: &str, namespace: &str) -> bool {
        self.service_of_host(host, namespace).is_some() || self.entry_of_host(host, namespace).is_some()
    }

    /// The Service whose full name in the cluster this is, of this namespace.
    pub(super) fn service_of_host(&self, host: &str, namespace: &str) -> Option<&'a Value> {
        let suffix = format!(".{namespace}.svc.{}", self.domain);
        self.find("Service", namespace, host.strip_suffix(&suffix)?)
    }

    /// The ServiceEntry of this namespace that has this host.
    pub(super) fn entry_of_host(&self, host: &str, namespace: &str) -> Option<&'a Value> {
        let mut entries = self.others.get("ServiceEntry")?.get(namespace)?.values();
        entries.find(|entry| object::texts(entry, "/spec/hosts").contains(&host)).copied()
    }

    /// Where a Service of this host and name is not, where else it is.
    pub(super) fn namespaces_of_host(&self, host: &str) -> Vec<&'a str> {
        let all = ["ServiceEntry", "Service"].into_iter().filter_map(|kind| self.others.get(kind)).flat_map(BTreeMap::keys);
        let mut all: Vec<&str> = all.copied().filter(|namespace| self.has_host(host, namespace)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All namespaces with their labels and the one that Kubernetes gives each, by name.
    pub(super) fn namespace_labels(&self) -> Vec<(&'a str, BTreeMap<String, String>)> {
        let all = self.others.get("Namespace").into_iter().flat_map(BTreeMap::values).flatten();
        let labelled = all.map(|(name, namespace)| {
            let mut labels = object::labels(namespace);
            labels.insert("kubernetes.io/metadata.name".to_owned(), (*name).to_owned());
            (*name, labels)
        });
        labelled.collect()
    }

    /// Whether a ReferenceGrant of the target's namespace lets a kind of another namespace name it. Within a namespace none is needed.
    pub(super) fn is_granted(&self, (from_kind, from_namespace): (&str, &str), to: &Target<'_>) -> bool {
        if from_namespace == to.namespace {
            return true;
        }
        let grants = self.of("ReferenceGrant").iter().filter(|grant| object::namespace(grant) == to.namespace);
        grants.into_iter().any(|grant| {
            let is_from = object::list(grant, "/spec/from").iter().any(|one| {
                let text = |field: &str| object::text(one, field);
                (text("/group"), text("/kind"), text("/namespace")) == (GROUP, from_kind, from_namespace)
            });
            let is_to = object::list(grant, "/spec/to").iter().any(|one| {
                // The core group has no name; `core` is that of no group (Istio: `NormalizeReference`).
                let is_core = object::text(one, "/group").is_empty();
                let named = one.get("name").and_then(Value::as_str);
                is_core && object::text(one, "/kind") == to.kind && named.is_none_or(|name| name == to.name)
            });
            is_from && is_to
        })
    }
}

/// What a reference names, in the core group.
pub(super) struct Target<'t> {
    pub(super) kind: &'t str,
    pub(super) namespace: &'t str,
    pub(super) name: &'t str,
}

/// Whether a label selector takes a set of labels (Kubernetes: `LabelSelectorAsSelector`); `None` if it is none.
pub(super) fn selected(selector: &Value, labels: &BTreeMap<String, String>) -> Option<bool> {
    let wanted = selector.get("matchLabels").map(object::text_map).unwrap_or_default();
    if !object::selects(&wanted, labels) {
        return Some(false);
    }
    for expression in object::list(selector, "/matchExpressions") {
        let found = labels.get(object::text(expression, "/key"));
        let values = object::texts(expression, "/values");
        let is_in = found.is_some_and(|value| values.contains(&value.as_str()));
        let fits = match object::text(expression, "/operator") {
            "In" if !values.is_empty() => is_in,
            "NotIn" if !values.is_empty() => !is_in,
            "Exists" if values.is_empty() => found.is_some(),
            "DoesNotExist" if values.is_empty() => found.is_none(),
            _ => return None,
        };
        if !fits {
            return Some(false);
        }
    }
    Some(true)
}
