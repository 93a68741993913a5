//! Where a rule sends its requests (Istio: `buildDestination`).

use serde_json::{Map, Value, json};

use super::filter::headers;
use super::objects::Target;
use super::{Fault, Objects};
use crate::istio::model::object;

/// The route that rules are converted of.
#[derive(Clone, Copy)]
pub(super) struct Source<'o, 'a> {
    pub(super) objects: &'o Objects<'a>,
    pub(super) kind: &'static str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// In the mesh, a route may send to another namespace without a ReferenceGrant.
    pub(super) is_mesh: bool,
}

/// A destination, with what is wrong with it where there is one nonetheless: an empty one, or one that does not exist; or the fault
/// that leaves none.
pub(super) type Found = Result<(Value, Option<Fault>), Fault>;

pub(super) fn weight(backend: &Value) -> u64 {
    backend.get("weight").and_then(Value::as_u64).unwrap_or(1)
}

/// Whether nothing is sent anywhere.
pub(super) fn is_none(backends: &[Value]) -> bool {
    backends.iter().map(weight).sum::<u64>() == 0
}

/// The destinations of a rule with their weights. The fault is of one that cannot be had, which keeps its share.
pub(super) fn destinations(source: Source<'_, '_>, backends: &[Value]) -> Result<(Vec<Value>, Option<Fault>), Fault> {
    let used: Vec<&Value> = backends.iter().filter(|one| weight(one) > 0).collect();
    let (mut all, mut fault) = (Vec::new(), None);
    for backend in &used {
        let (destination, wrong) = destination(source, backend)?;
        fault = wrong.or(fault);
        let mut route = Map::from_iter([("destination".to_owned(), destination)]);
        // The weight of an only one is not said.
        if used.len() > 1 {
            route.insert("weight".to_owned(), json!(weight(backend)));
        }
        let filters = object::list(backend, "/filters");
        let known = |filter: &&Value| matches!(object::text(filter, "/type"), "RequestHeaderModifier" | "ResponseHeaderModifier");
        if let Some(other) = filters.iter().find(|filter| !known(filter)) {
            return Err(Fault::new("InvalidFilter", format!("unsupported filter type {:?}", object::text(other, "/type"))));
        }
        if let Some(changed) = headers(filters)? {
            route.insert("headers".to_owned(), changed);
        }
        all.push(Value::Object(route));
    }
    Ok((all, fault))
}

/// A backend as Istio's destination.
pub(super) fn destination(source: Source<'_, '_>, backend: &Value) -> Found {
    let (objects, own) = (source.objects, source.namespace);
    let name = object::text(backend, "/name");
    let elsewhere = backend.get("namespace").and_then(Value::as_str);
    let namespace = elsewhere.unwrap_or(own);
    let (group, kind) = (object::text(backend, "/group"), backend.get("kind").and_then(Value::as_str).unwrap_or("Service"));
    let is_service = (group, kind) == ("", "Service");
    if !source.is_mesh && namespace != own {
        // Grants are for Services; no other kind of another namespace can be had.
        if !is_service || !objects.is_granted((source.kind, own), &Target { kind: "Service", namespace, name }) {
            let what = format!("backendRef {name}/{namespace} not accessible to a {} in namespace {own:?}", source.kind);
            return Ok((json!({}), Some(Fault::new("RefNotPermitted", format!("{what} (missing a ReferenceGrant?)")))));
        }
    }
    let invalid = |message: &str| Err(Fault::new("InvalidDestination", message));
    let (host, is_there) = match (group, kind) {
        ("", "Service") if name.contains('.') => {
            return invalid("service name invalid; the name of the Service must be used, not the hostname.");
        }
        // Services of other clusters count as those of this one.
        ("", "Service") | ("multicluster.x-k8s.io", "ServiceImport") => {
            (format!("{name}.{namespace}.svc.{}", objects.domain), objects.find("Service", namespace, name).is_some())
        }
        ("networking.istio.io", "Hostname") if elsewhere.is_some() => return invalid("namespace may not be set with Hostname type"),
        ("networking.istio.io", "Hostname") => (name.to_owned(), objects.has_host(name, namespace)),
        _ => {
            let (group, kind) = (object::text(backend, "/group"), object::text(backend, "/kind"));
            let text = format!("referencing unsupported backendRef: group {group:?} kind {kind:?}");
            return Ok((json!({}), Some(Fault::new("InvalidKind", text))));
        }
    };
    let Some(port) = backend.get("port").and_then(Value::as_u64) else { return invalid("port is required in backendRef") };
    let fault = (!is_there).then(|| Fault::new("BackendNotFound", format!("backend({host}) not found")));
    Ok((json!({"host": host, "port": {"number": port}}), fault))
}
