//! What a route wants to attach to, and whether it may (Istio: `extractParentReferenceInfo`, `referenceAllowed`, `createRouteStatus`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::condition::{among, good};
use super::listener::Listener;
use super::{CONTROLLER, Converted, Fault, GROUP, Objects, Status};
use crate::istio::model::{host, object};

/// Which routes are attached to which listener: the listener's key, and kind, namespace and name of the route.
#[derive(Default)]
pub(super) struct Attached(BTreeSet<(String, &'static str, String, String)>);

impl Attached {
    pub(super) fn count(&self, listener: &Listener<'_>) -> usize {
        let key = listener.key();
        self.0.iter().filter(|(attached, ..)| *attached == key).count()
    }
}

/// What a reference leads to.
pub(super) enum Place<'l, 'a> {
    Listener(&'l Listener<'a>),
    /// Calls within the mesh to these hosts.
    Mesh(Vec<String>),
}

/// A reference of a route to one parent. One to a Gateway is as many as that has listeners.
pub(super) struct Parent<'l, 'a> {
    pub(super) place: Place<'l, 'a>,
    /// The reference as it is written, and where among all of the route.
    pub(super) reference: &'a Value,
    index: usize,
    denied: Option<Fault>,
    /// Hosts of other listeners of the same port, which are theirs alone.
    banned: Vec<&'a str>,
}

impl Parent<'_, '_> {
    /// The name of Istio's Gateway.
    pub(super) fn gateway(&self) -> String {
        match &self.place {
            Place::Listener(listener) => listener.key(),
            Place::Mesh(_) => "mesh".to_owned(),
        }
    }

    pub(super) fn is_mesh(&self) -> bool {
        matches!(self.place, Place::Mesh(_))
    }

    /// The port that the reference names.
    pub(super) fn port(&self) -> Option<u64> {
        self.reference.get("port").and_then(Value::as_u64)
    }

    /// Whether a host of the route is this listener's, and not rather one's with a longer host (`hostnameAllowedByIsolation`).
    pub(super) fn has_host(&self, of_route: &str) -> bool {
        let Place::Listener(listener) = &self.place else { return true };
        let own = listener.hostname;
        if !own.is_empty() && !own.starts_with('*') {
            return true;
        }
        if !own.is_empty() && !host::overlap(of_route, own) {
            return false;
        }
        !self.banned.iter().any(|other| own.len() <= other.len() && !other.is_empty() && host::subset_of(of_route, other))
    }
}

/// All parents of a route, in the order of its references as text.
pub(super) fn parents<'l, 'a>(
    objects: &Objects<'a>,
    listeners: &'l [Listener<'a>],
    route: &'a Value,
    kind: &'static str,
) -> Vec<Parent<'l, 'a>> {
    let mut all = Vec::new();
    for (index, reference) in object::list(route, "/spec/parentRefs").iter().enumerate() {
        let group = reference.get("group").and_then(Value::as_str).unwrap_or(GROUP);
        let parent_kind = reference.get("kind").and_then(Value::as_str).unwrap_or("Gateway");
        let (name, namespace) = (object::text(reference, "/name"), namespace_of(reference, route));
        match (group, parent_kind) {
            (GROUP, "Gateway") => {
                let is_parent = |listener: &&Listener<'_>| {
                    listener.is_served() && object::namespace(listener.gateway) == namespace && object::name(listener.gateway) == name
                };
                let of_gateway: Vec<&Listener<'a>> = listeners.iter().filter(is_parent).collect();
                for listener in &of_gateway {
                    let beside = |other: &&&Listener<'_>| {
                        !std::ptr::eq(**other, *listener) && other.port == listener.port && other.protocol == listener.protocol
                    };
                    let banned = of_gateway.iter().filter(beside).map(|other| other.hostname).filter(|one| *one != listener.hostname);
                    let denied = denied(route, reference, listener, kind);
                    all.push(Parent { place: Place::Listener(listener), reference, index, denied, banned: banned.collect() });
                }
            }
            ("" | "core", "Service") => {
                let is_there = objects.find("Service", namespace, name).is_some();
                let denied = (!is_there).then(|| Fault::new("NoMatchingParent", format!("parent service: {name:?} not found")));
                let place = Place::Mesh(vec![format!("{name}.{namespace}.svc.{}", objects.domain)]);
                all.push(Parent { place, reference, index, denied, banned: Vec::new() });
            }
            ("networking.istio.io", "ServiceEntry") => {
                let entry = objects.find("ServiceEntry", namespace, name);
                let denied = entry.is_none().then(|| Fault::new("NoMatchingParent", format!("parent service entry: {name:?} not found")));
                let hosts = entry.map(|entry| object::texts(entry, "/spec/hosts")).unwrap_or_default();
                let place = Place::Mesh(hosts.into_iter().map(str::to_owned).collect());
                all.push(Parent { place, reference, index, denied, banned: Vec::new() });
            }
            // Somebody else's.
            _ => {}
        }
    }
    all.sort_by_key(|parent| shown(parent.reference, route));
    all
}

/// The parents that take the route, by the name of Istio's Gateway; they are counted.
pub(super) fn taken<'p, 'l, 'a>(
    parents: &'p [Parent<'l, 'a>],
    route: &Value,
    kind: &'static str,
    attached: &mut Attached,
) -> Vec<&'p Parent<'l, 'a>> {
    let mut taken: Vec<&Parent<'l, 'a>> = parents.iter().filter(|parent| parent.denied.is_none()).collect();
    taken.sort_by_key(|parent| parent.gateway());
    for parent in &taken {
        if let Place::Listener(listener) = &parent.place {
            attached.0.insert((listener.key(), kind, object::namespace(route).to_owned(), object::name(route).to_owned()));
        }
    }
    taken
}

fn namespace_of<'t>(reference: &'t Value, route: &'t Value) -> &'t str {
    match object::text(reference, "/namespace") {
        "" => object::namespace(route),
        namespace => namespace,
    }
}

/// Hosts of a route; without any, all.
pub(super) fn hosts(route: &Value) -> Vec<&str> {
    match object::texts(route, "/spec/hostnames") {
        hosts if hosts.is_empty() => vec!["*"],
        hosts => hosts,
    }
}

/// Why a listener does not take a route.
fn denied(route: &Value, reference: &Value, listener: &Listener<'_>, kind: &'static str) -> Option<Fault> {
    let section = object::text(reference, "/sectionName");
    let port = reference.get("port").and_then(Value::as_u64).filter(|port| *port != 0);
    if let Some(port) = port.filter(|port| *port != listener.port) {
        return Some(Fault::new("NoMatchingParent", format!("port {port} not found")));
    }
    if !section.is_empty() && section != listener.section {
        return Some(Fault::new("NoMatchingParent", format!("sectionName {section:?} not found")));
    }
    // TCPRoutes have no hosts.
    let hosts = if kind == "TCPRoute" { vec!["*"] } else { hosts(route) };
    let (shown, own) = (listener.hostname, object::namespace(route));
    if !hosts.iter().any(|one| host::overlap(listener.host(), one)) {
        return Some(Fault::new("NoMatchingListenerHostname", format!("no hostnames matched parent hostname {shown:?}")));
    }
    if !listener.admits(own) {
        let text = format!("hostnames matched parent hostname {shown:?}, but namespace {own:?} is not allowed by the parent");
        return Some(Fault::new("NotAllowedByListeners", text));
    }
    (!listener.kinds.contains(&kind)).then(|| Fault::new("NotAllowedByListeners", format!("kind {GROUP}/v1/{kind} is not allowed")))
}

/// A reference as text, by which they are put in order.
fn shown(reference: &Value, route: &Value) -> String {
    let or = |field: &str, other: &'static str| reference.get(field).and_then(Value::as_str).unwrap_or(other).to_owned();
    let port = reference.get("port").and_then(Value::as_u64).unwrap_or(0);
    let (group, kind, section) = (or("group", GROUP), or("kind", "Gateway"), or("sectionName", ""));
    format!("{group}/{kind}/{}/{section}/{port}.{}", object::text(reference, "/name"), namespace_of(reference, route))
}

/// The status of a route, with what is wrong with its rules for parents that are Gateways and for those in the mesh.
pub(super) fn status(
    parents: &[Parent<'_, '_>],
    route: &Value,
    kind: &'static str,
    faults: (Option<&Fault>, Option<&Fault>),
    out: &mut Converted,
) {
    let mut ours: Vec<(String, Value)> = Vec::new();
    let indices: BTreeSet<usize> = parents.iter().map(|parent| parent.index).collect();
    let there = object::list(route, "/status/parents");
    for index in indices {
        let own: Vec<&Parent<'_, '_>> = parents.iter().filter(|parent| parent.index == index).collect();
        let Some(first) = own.first() else { continue };
        let name = shown(first.reference, route);
        let accepted = own.iter().filter(|parent| parent.denied.is_none()).count();
        let message = if accepted > 1 { format!("Route was valid, bound to {accepted} parents") } else { "Route was valid".to_owned() };
        let denied = nearest(&own);
        let fault = if first.is_mesh() { faults.1 } else { faults.0 };
        let conditions = vec![
            good(route, "Accepted", "Accepted", &message, denied.as_ref()),
            good(route, "ResolvedRefs", "ResolvedRefs", "All references resolved", fault),
        ];
        let before = there.iter().find(|one| is_ours(one) && shown(parent_ref(one), route) == name);
        let before = before.map_or(&[] as &[Value], |before| object::list(before, "/conditions"));
        let entry = json!({"controllerName": CONTROLLER, "parentRef": first.reference, "conditions": among(before, conditions, &[])});
        ours.push((name, entry));
    }
    // Those of other controllers stay; ours stay in their place, and go when the route does not name them any more.
    let mut all = Vec::new();
    for one in there {
        if !is_ours(one) {
            all.push(one.clone());
        } else if let Some(at) = ours.iter().position(|(name, _)| *name == shown(parent_ref(one), route)) {
            all.push(ours.remove(at).1);
        }
    }
    ours.sort_by(|one, other| other.0.cmp(&one.0));
    all.extend(ours.into_iter().map(|(_, entry)| entry));
    let (namespace, name) = (object::namespace(route).to_owned(), object::name(route).to_owned());
    out.statuses.push(Status { kind, namespace, name, status: json!({"parents": all}) });
}

fn is_ours(parent: &Value) -> bool {
    object::text(parent, "/controllerName") == CONTROLLER
}

fn parent_ref(parent: &Value) -> &Value {
    parent.get("parentRef").unwrap_or(&Value::Null)
}

/// Why none of several listeners takes a route: the words of those that came nearest to it.
fn nearest(parents: &[&Parent<'_, '_>]) -> Option<Fault> {
    let rank = |fault: &Fault| match fault.reason {
        "NotAllowedByListeners" => 1,
        "NoMatchingListenerHostname" => 2,
        _ => 4,
    };
    let faults: Option<Vec<&Fault>> = parents.iter().map(|parent| parent.denied.as_ref()).collect();
    let faults = faults?;
    let least = faults.iter().map(|fault| rank(fault)).min()?;
    let mut nearest = faults.into_iter().filter(|fault| rank(fault) == least);
    let mut first = nearest.next()?.clone();
    for other in nearest {
        first.message = format!("{}; {}", first.message, other.message);
    }
    Some(first)
}
