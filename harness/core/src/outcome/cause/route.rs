//! Which route of which VirtualService takes a call, and why none does.

use serde_json::Value;

use super::call::Call;
use super::configured::{Configured, ISTIO};
use super::destination::{Target, hidden};
use super::names::{Labels, covers, few, list, namespace, port, qualified, selects, text, texts, visible};
use super::{Cause, Layer, Place};
use crate::scenario::KubeObject;

/// The kinds of routes that a VirtualService may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Tls,
    Tcp,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Http, Self::Tls, Self::Tcp];

    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a call meets routes.
#[derive(Debug, Clone)]
pub(super) struct Meeting<'c> {
    /// The Gateway as VirtualServices name it, `NAMESPACE/NAME`; None in the mesh.
    pub(super) gateway: Option<&'c KubeObject>,
    /// The proxy's namespace.
    pub(super) namespace: String,
    /// The proxy's labels.
    pub(super) labels: Labels,
    /// The port that `match.port` is compared with: the Gateway's, or the one called.
    pub(super) port: u16,
    /// The kind of routes that count, and why, for people.
    pub(super) kind: Kind,
    /// Why that kind: `PASSTHROUGH leaves the TLS sealed`, …
    pub(super) because: String,
    /// What routes are chosen by: the Host, or the server name.
    pub(super) name: String,
    /// Of a Gateway: the server's place and its hosts as written, perhaps with the namespace of VirtualServices.
    pub(super) server: Option<(usize, Vec<String>)>,
}

impl Meeting<'_> {
    pub(super) fn at(&self) -> String {
        self.gateway.map_or_else(|| "mesh".to_owned(), |g| format!("{}/{}", namespace(g), g.key.name))
    }

    fn words(&self) -> String {
        self.gateway.map_or_else(|| "the mesh".to_owned(), |g| g.key.to_string())
    }
}

/// The names of the Gateways that a VirtualService is bound to, in full; `mesh` where it names none.
pub(super) fn bound(vs: &KubeObject) -> Vec<String> {
    let all = texts(&vs.value, "/spec/gateways");
    if all.is_empty() {
        return vec!["mesh".to_owned()];
    }
    all.into_iter().map(|name| full(name, namespace(vs))).collect()
}

fn full(gateway: &str, own: &str) -> String {
    match gateway.split_once('/') {
        _ if gateway == "mesh" => gateway.to_owned(),
        Some((".", name)) => format!("{own}/{name}"),
        Some(_) => gateway.to_owned(),
        None => format!("{own}/{gateway}"),
    }
}

/// Where the routes of a VirtualService are, by host.
pub(super) fn for_host<'c>(c: &'c Configured, name: &str) -> Vec<&'c KubeObject> {
    let is_for = |vs: &&KubeObject| texts(&vs.value, "/spec/hosts").iter().any(|h| covers(&qualified(h, namespace(vs)), name));
    c.all(ISTIO, "VirtualService").filter(is_for).collect()
}

/// What the routes do with a call: the destinations of the route that takes it, or why none does. `Err(None)` where the
/// configuration does not show it.
pub(super) fn routed<'c>(c: &'c Configured, at: &Meeting<'c>, call: &Call) -> Result<Vec<Target<'c>>, Option<Cause>> {
    if !c.knows(ISTIO, "VirtualService") {
        return Err(None);
    }
    let all = for_host(c, &at.name);
    let served = |vs: &&KubeObject| admitted(at, vs);
    let mine: Vec<&KubeObject> =
        all.iter().copied().filter(|vs| bound(vs).contains(&at.at()) && visible(vs, &at.namespace)).filter(served).collect();
    if mine.is_empty() {
        return Err(Some(none(c, at, &all)));
    }
    let of_kind: Vec<&KubeObject> = mine.iter().copied().filter(|vs| !list(&vs.value, &pointer(at.kind)).is_empty()).collect();
    if of_kind.is_empty() {
        let vs = mine[0];
        let other = Kind::ALL.into_iter().find(|k| !list(&vs.value, &pointer(*k)).is_empty()).ok_or(None)?;
        let (has, wants) = (other.field(), at.kind.field());
        let text = format!("{} has `{has}` routes for {}, but there only `{wants}` routes count: {}", vs.key, at.name, at.because);
        let cause = Cause::at(Layer::Proxy, text, Some(Place::new(vs, format!("spec.{has}"))));
        return Err(Some(at.gateway.map_or(cause.clone(), |g| cause.and(Place::new(g, "spec.servers")))));
    }
    for vs in &of_kind {
        for (i, route) in list(&vs.value, &pointer(at.kind)).iter().enumerate() {
            if takes(vs, route, at, call, Relaxed::Nothing) {
                return Ok(targets(vs, at.kind, i, route));
            }
        }
    }
    Err(Some(unmatched(&of_kind, at, call)))
}

pub(super) fn pointer(kind: Kind) -> String {
    format!("/spec/{}", kind.field())
}

/// Whether the server takes VirtualServices of that namespace for the name: `ns/host`, `./host`, `*/host`.
pub(super) fn admitted(at: &Meeting<'_>, vs: &KubeObject) -> bool {
    let (Some(gateway), Some((_, hosts))) = (at.gateway, &at.server) else { return true };
    hosts.iter().any(|written| {
        let (from, host) = written.split_once('/').unwrap_or(("*", written));
        covers(host, &at.name) && (from == "*" || from == namespace(vs) || (from == "." && namespace(gateway) == namespace(vs)))
    })
}

/// No VirtualService for the name has a say: the nearest miss.
fn none(c: &Configured, at: &Meeting<'_>, all: &[&KubeObject]) -> Cause {
    let (here, words, name) = (at.at(), at.words(), &at.name);
    if let Some(vs) = all.iter().find(|vs| bound(vs).contains(&here) && !visible(vs, &at.namespace)) {
        return hidden(vs, name, &at.namespace);
    }
    if let Some(vs) = all.iter().find(|vs| bound(vs).contains(&here)) {
        let text = format!("{words} takes VirtualServices for {name} from other namespaces only, and {} is in {}", vs.key, namespace(vs));
        let server = at.server.as_ref().map(|(i, _)| i.to_string()).unwrap_or_default();
        return Cause::at(Layer::Proxy, text, at.gateway.map(|g| Place::new(g, format!("spec.servers[{server}].hosts"))));
    }
    // One whose names do not exist was most likely meant for here.
    let lost = |vs: &KubeObject| -> Option<(usize, String)> {
        let names = bound(vs).into_iter().enumerate();
        let gone = |name: &str| name.split_once('/').is_some_and(|(ns, name)| c.find(ISTIO, "Gateway", ns, name).is_none());
        names.into_iter().find(|(_, name)| gone(name))
    };
    if c.knows(ISTIO, "Gateway")
        && at.gateway.is_some()
        && let Some((vs, (i, name_there))) = all.iter().find_map(|vs| Some((*vs, lost(vs)?)))
    {
        let text = format!("{} is bound to Gateway {name_there}, which does not exist; the one that serves {name} is {here}", vs.key);
        return Cause::at(Layer::Proxy, text, Some(Place::new(vs, format!("spec.gateways[{i}]"))));
    }
    if let Some(vs) = all.first() {
        let to = few(bound(vs));
        let text = match at.gateway {
            Some(_) if texts(&vs.value, "/spec/gateways").is_empty() => {
                format!("{} for {name} names no gateways, so it holds in the mesh only and not at {words}", vs.key)
            }
            Some(_) => format!("{} for {name} is bound to {to}, not to {here}", vs.key),
            None => format!("{} for {name} is bound to {to} and not to `mesh`, so callers' sidecars do not have it", vs.key),
        };
        return Cause::at(Layer::Proxy, text, Some(Place::new(vs, "spec.gateways")));
    }
    let bound_here: Vec<&KubeObject> = c.all(ISTIO, "VirtualService").filter(|vs| bound(vs).contains(&here)).collect();
    if let (Some(_), Some(first)) = (at.gateway, bound_here.first()) {
        let hosts = few(bound_here.iter().flat_map(|vs| texts(&vs.value, "/spec/hosts")).map(str::to_owned));
        let text = format!("no VirtualService has the host {name}; those bound to {words} are for {hosts}");
        return Cause::at(Layer::Proxy, text, Some(Place::new(first, "spec.hosts")));
    }
    let text = match at.gateway {
        Some(_) => format!("no VirtualService for {name} is bound to {words}"),
        None => format!("no VirtualService for {name} holds in the mesh"),
    };
    Cause::at(Layer::Proxy, text, None)
}

/// What is left out of a match, to see what it fails by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relaxed {
    Nothing,
    Gateways,
    Port,
    Names,
    Source,
}

pub(super) fn takes(vs: &KubeObject, route: &Value, at: &Meeting<'_>, call: &Call, relaxed: Relaxed) -> bool {
    let all = list(route, "/match");
    // A route of `tls` without a match takes nothing; Istio's webhook refuses it.
    (all.is_empty() && at.kind != Kind::Tls) || all.iter().any(|one| fits(vs, one, at, call, relaxed))
}

pub(super) fn fits(vs: &KubeObject, one: &Value, at: &Meeting<'_>, call: &Call, relaxed: Relaxed) -> bool {
    let gateways = texts(one, "/gateways");
    let here = gateways.is_empty() || gateways.iter().any(|name| full(name, namespace(vs)) == at.at());
    let port_fits = port(one, "/port").is_none_or(|wanted| wanted == at.port);
    let source = one.get("sourceLabels").is_none_or(|wanted| at.gateway.is_some() || selects(wanted, &at.labels))
        && text(one, "/sourceNamespace").is_none_or(|wanted| wanted == at.namespace);
    let names = match at.kind {
        Kind::Tls => texts(one, "/sniHosts").iter().any(|host| covers(host, &at.name)),
        Kind::Tcp => true,
        Kind::Http => http_fits(one, call),
    };
    (here || relaxed == Relaxed::Gateways)
        && (port_fits || relaxed == Relaxed::Port)
        && (source || relaxed == Relaxed::Source)
        && (names || relaxed == Relaxed::Names)
}

fn http_fits(one: &Value, call: &Call) -> bool {
    let path = call.path.split('?').next().unwrap_or_default();
    let ignore_case = one.get("ignoreUriCase").and_then(Value::as_bool).unwrap_or_default();
    let header = |name: &str| call.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let headers = one.get("headers").and_then(Value::as_object).into_iter().flatten();
    let without = one.get("withoutHeaders").and_then(Value::as_object).into_iter().flatten();
    let query = call.path.split_once('?').map_or("", |(_, query)| query);
    let parameter = |name: &str| query.split('&').find_map(|part| part.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v));
    let parameters = one.get("queryParams").and_then(Value::as_object).into_iter().flatten();
    let scheme = if call.tls { "https" } else { "http" };
    one.get("uri").is_none_or(|m| string(m, path, ignore_case))
        && one.get("method").is_none_or(|m| string(m, &call.method, false))
        && one.get("authority").is_none_or(|m| string(m, &call.host, false))
        && one.get("scheme").is_none_or(|m| string(m, scheme, false))
        && headers.into_iter().all(|(name, m)| header(name).is_some_and(|value| string(m, value, false)))
        && without.into_iter().all(|(name, m)| !header(name).is_some_and(|value| string(m, value, false)))
        && parameters.into_iter().all(|(name, m)| parameter(name).is_some_and(|value| string(m, value, false)))
}

/// Istio's StringMatch; an empty one only wants the thing to be there.
pub(super) fn string(wanted: &Value, value: &str, ignore_case: bool) -> bool {
    let fold = |text: &str| if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let value = fold(value);
    if let Some(exact) = text(wanted, "/exact") {
        return fold(exact) == value;
    }
    if let Some(prefix) = text(wanted, "/prefix") {
        return value.starts_with(&fold(prefix));
    }
    if let Some(pattern) = text(wanted, "/regex") {
        // What cannot be read here may well match there: no cause is made of it.
        return regex::Regex::new(&format!("^(?:{pattern})$")).map_or(true, |r| r.is_match(&value));
    }
    true
}

/// VirtualServices have a say, and none of their routes takes the call.
fn unmatched(all: &[&KubeObject], at: &Meeting<'_>, call: &Call) -> Cause {
    let kind = at.kind.field();
    let what = match at.kind {
        Kind::Http => format!("{} {} of {}", call.method, call.path, at.name),
        _ => format!("{} on port {}", at.name, at.port),
    };
    // A match that names this gateway is nearer than one for another; of paths it is not known which was meant.
    let nearest = match at.kind {
        Kind::Http => [Relaxed::Port, Relaxed::Source, Relaxed::Gateways, Relaxed::Names],
        _ => [Relaxed::Port, Relaxed::Names, Relaxed::Source, Relaxed::Gateways],
    };
    for relaxed in nearest {
        for vs in all {
            for (i, route) in list(&vs.value, &pointer(at.kind)).iter().enumerate() {
                let matches = list(route, "/match").iter().enumerate();
                let Some((j, one)) = matches.into_iter().find(|(_, one)| fits(vs, one, at, call, relaxed)) else { continue };
                let (part, says) = match relaxed {
                    Relaxed::Gateways => (
                        "gateways",
                        format!("is for gateways {}, not for {}", few(texts(one, "/gateways").into_iter().map(str::to_owned)), at.at()),
                    ),
                    Relaxed::Port => {
                        let whose = at.gateway.map(|g| format!(", the port of {}", g.key)).unwrap_or_default();
                        ("port", format!("is for port {}, not for {}{whose}", port(one, "/port").unwrap_or_default(), at.port))
                    }
                    Relaxed::Names if at.kind == Kind::Tls => {
                        ("sniHosts", format!("is for {}, not for {}", few(texts(one, "/sniHosts").into_iter().map(str::to_owned)), at.name))
                    }
                    Relaxed::Names => ("uri", format!("does not take {what}")),
                    _ => ("sourceLabels", "is for other callers".to_owned()),
                };
                // Of a match on paths it is not known which field was meant to take the call.
                let field = match (relaxed, at.kind) {
                    (Relaxed::Names, Kind::Http) => format!("spec.{kind}[].match"),
                    _ => format!("spec.{kind}[{i}].match[{j}].{part}"),
                };
                let text = match (relaxed, at.kind) {
                    (Relaxed::Names, Kind::Http) => format!("no route of {} takes {what}", vs.key),
                    _ => format!("the route of {} {says}", vs.key),
                };
                let cause = Cause::at(Layer::Proxy, text, Some(Place::new(vs, field)));
                // Either of the two may be the one that is wrong.
                return match (relaxed, at.gateway, &at.server) {
                    (Relaxed::Port, Some(gateway), Some((i, _))) => {
                        cause.and(Place::new(gateway, format!("spec.servers[{i}].port.number")))
                    }
                    _ => cause,
                };
            }
        }
    }
    Cause::at(Layer::Proxy, format!("no route of {} takes {what}", all[0].key), Some(Place::new(all[0], format!("spec.{kind}[].match"))))
}

pub(super) fn targets<'c>(vs: &'c KubeObject, kind: Kind, i: usize, route: &Value) -> Vec<Target<'c>> {
    let all = list(route, "/route").iter().enumerate();
    let one = |(j, entry): (usize, &Value)| {
        Target::of(vs, format!("spec.{}[{i}].route[{j}].destination", kind.field()), entry.get("destination")?)
    };
    all.filter_map(one).collect()
}

/// A field of the route that takes a call, such as `fault` or `timeout`.
pub(super) fn field_of_route<'c>(c: &'c Configured, at: &Meeting<'c>, call: &Call, name: &str) -> Option<(&'c KubeObject, String)> {
    for vs in for_host(c, &at.name).into_iter().filter(|vs| bound(vs).contains(&at.at()) && visible(vs, &at.namespace)) {
        for (i, route) in list(&vs.value, &pointer(at.kind)).iter().enumerate() {
            if takes(vs, route, at, call, Relaxed::Nothing) {
                return route.get(name).map(|_| (vs, format!("spec.{}[{i}].{name}", at.kind.field())));
            }
        }
    }
    None
}
