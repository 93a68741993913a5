//! The likely cause of a failed call, read off the configuration that stood when it was made. Pure.
//!
//! The last proxy that has trouble with the call says what kind it is (no route, no cluster, no endpoint, …). From there the
//! configuration is followed as Istio reads it, from the proxy's side and for this call, up to the first place where it does
//! not lead on. Only that place is told, and only where it explains what was seen: where everything leads on there is no
//! cause, and a call that fails as its check wants it has none either.
//!
//! Sources: Istio's API reference for each kind; istio/istio `pilot/pkg/model` (gateways, push context, visibility) and
//! `pilot/pkg/networking/core` (which routes count where).

mod call;
mod configured;
mod destination;
mod gateway;
#[cfg(test)]
mod harbour;
#[cfg(test)]
mod ingress_tests;
mod missed;
mod names;
mod policy;
mod proxyless;
#[cfg(test)]
mod reach_tests;
mod route;
mod sidecar;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;

pub use call::Call;
pub use configured::Configured;

use self::destination::Target;
use self::gateway::Arrival;
use super::judge_path::hop_mismatches;
use super::layer::Layer;
use super::{CallSeen, HopSeen, Mismatch};
use crate::names::Namespaced;
use crate::scenario::{CallExpect, Connection, Expectation, HopExpect, KubeObject};

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `KIND NAMESPACE/NAME`.
    pub object: String,
    /// The field, such as `spec.servers[0].port.number`.
    pub field: String,
}

impl Place {
    fn new(object: &KubeObject, field: impl Into<String>) -> Self {
        Self { object: object.key.to_string(), field: field.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}", self.field, self.object)
    }
}

/// Why a call likely failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The link of the chain that it breaks.
    pub layer: Layer,
    /// What is wrong, in a sentence without its end.
    pub text: String,
    /// Where to look, the likeliest first; empty when an object is missing.
    pub places: Vec<Place>,
}

impl Cause {
    fn at(layer: Layer, text: String, place: Option<Place>) -> Self {
        Self { layer, text, places: place.into_iter().collect() }
    }

    fn and(mut self, place: Place) -> Self {
        self.places.push(place);
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Likely cause: {}.", self.text)?;
        let places: Vec<String> = self.places.iter().map(ToString::to_string).collect();
        if places.is_empty() { Ok(()) } else { write!(f, " Look at {}.", places.join(" and ")) }
    }
}

/// The likely cause of a call that was not as expected; None where the configuration shows none.
#[must_use]
pub fn likely_cause(c: &Configured, call: &Call, expect: &Expectation, seen: &CallSeen, mismatches: &[Mismatch]) -> Option<Cause> {
    let Expectation::Call(expect) = expect else { return None };
    // A refused push is named by itself; proxies then have something else than what is configured.
    if mismatches.is_empty() || mismatches.iter().any(|m| m.what == "configuration") {
        return None;
    }
    let told = match seen.hops.iter().rev().find_map(|hop| Some((hop, Trouble::of(hop)?))) {
        Some((hop, _)) if wanted(expect, seen, hop) => None,
        Some((hop, Trouble::Failed)) if refusal_unheard(expect, seen).is_some() => turned_away(c, call, hop),
        Some((hop, trouble)) => at_hop(c, call, hop, &trouble).or_else(|| before(c, call, seen, hop, &trouble)),
        // Without an address there was no call, whatever proxies there are.
        None if seen.connection == Some(Connection::DnsFailure) => quiet(c, call, expect, seen),
        None => {
            let first = proxyless::first_missing(c, call, expect, seen).or_else(|| trust::untrusted(c, call, expect, seen));
            first.or_else(|| quiet(c, call, expect, seen)).or_else(|| elsewhere(c, call, expect, seen))
        }
    };
    told.or_else(|| proxyless::any_missing(c, expect, seen))
}

/// The proxy that was to refuse the call, and that has no line of it.
fn refusal_unheard<'e>(expect: &'e CallExpect, seen: &CallSeen) -> Option<&'e Namespaced> {
    let silent = |h: &&HopExpect| fails(h) && !seen.hops.iter().any(|s| s.proxy == h.proxy);
    expect.path.iter().find(silent).map(|h| &h.proxy)
}

/// A call that a gateway was to refuse by name, and that found nobody listening: what is to listen there is missing.
fn turned_away(c: &Configured, call: &Call, hop: &HopSeen) -> Option<Cause> {
    let from = hop.proxy.namespace.as_str();
    let told = |t: &Target<'_>| match t.port.and_then(|port| gateway::behind(c, &t.host, port)) {
        Some((gateway, on)) => gateway::deaf(c, &onward(c, call, from, t, gateway, on), call),
        None => failed(c, call, from, t),
    };
    targets(c, call, hop).map_or_else(|cause| cause, |all| all.iter().find_map(told))
}

/// A destination that took no plain text: the proxy before it may have been told to send that.
fn before(c: &Configured, call: &Call, seen: &CallSeen, last: &HopSeen, trouble: &Trouble) -> Option<Cause> {
    if *trouble != Trouble::NoRoute || !matches!(side(c, call, last), Side::Destination) {
        return None;
    }
    let sent = |hop: &&HopSeen| hop.proxy != last.proxy && Trouble::of(hop) == Some(Trouble::Failed);
    seen.hops.iter().rev().find(sent).and_then(|hop| at_hop(c, call, hop, &Trouble::Failed))
}

/// A proxy took another route of the host than the one that its hop wants.
fn elsewhere(c: &Configured, call: &Call, expect: &CallExpect, seen: &CallSeen) -> Option<Cause> {
    expect.path.iter().find_map(|want| {
        let hop = seen.hops.iter().find(|hop| hop.proxy == want.proxy)?;
        let wrong = hop_mismatches(want, hop);
        if !wrong.iter().any(|(what, ..)| ["route", "cluster"].contains(what)) {
            return None;
        }
        let meetings = match side(c, call, hop) {
            Side::Caller => sidecar::meets(c, &hop.proxy, call).into_iter().collect(),
            Side::Gateway => gateway::meetings(c, &arrival(call, hop)).ok()?,
            Side::Destination => return None,
        };
        meetings.iter().find_map(|at| missed::passed_over(c, at, call, want))
    })
}

/// What a proxy's line tells of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// A policy refused, with Envoy's details.
    Denied(String),
    /// No chain, virtual host or route.
    NoRoute,
    /// The route's cluster is not there.
    NoCluster,
    /// The cluster has no healthy endpoint.
    NoEndpoint,
    /// Connecting failed, or the connection broke before an answer.
    Failed,
    /// A limit was reached.
    Overflow,
    /// A fault rule, or a time-out of a route: the field that does it.
    Rule(&'static str),
}

impl Trouble {
    fn of(hop: &HopSeen) -> Option<Self> {
        let e = &hop.entry;
        if let Some(details) = [&e.details, &e.termination].into_iter().find(|d| d.starts_with("rbac_access_denied")) {
            return Some(Self::Denied(details.clone()));
        }
        let flags: Vec<&str> = e.flags.split(',').collect();
        let has = |flag: &str| flags.contains(&flag);
        let of = [
            ("NR", Self::NoRoute),
            ("NC", Self::NoCluster),
            ("UH", Self::NoEndpoint),
            ("UO", Self::Overflow),
            ("FI", Self::Rule("fault")),
            ("UT", Self::Rule("timeout")),
            ("UF", Self::Failed),
            ("UC", Self::Failed),
            ("UR", Self::Failed),
        ];
        of.into_iter().find(|(flag, _)| has(flag)).map(|(_, trouble)| trouble)
    }
}

/// Whether the call failed there as its check wants it: then what is amiss is something else.
fn wanted(expect: &CallExpect, seen: &CallSeen, hop: &HopSeen) -> bool {
    if let Some(want) = expect.path.iter().find(|h| h.proxy == hop.proxy && fails(h)) {
        return hop_mismatches(want, hop).iter().all(|(what, ..)| !["flags", "details", "termination"].contains(what));
    }
    // It was to fail at a proxy that it did not come to.
    if refusal_unheard(expect, seen).is_some() {
        return false;
    }
    let status = expect.status.filter(|s| *s >= 400).is_some_and(|s| seen.status == Some(s));
    status || seen.connection.as_ref().is_some_and(|end| expect.connection.contains(end) && *end != Connection::Answered)
}

/// Whether a hop is to tell of a failure.
fn fails(hop: &HopExpect) -> bool {
    hop.flags.as_deref().is_some_and(|f| f != "-") || hop.details.is_some() || hop.termination.is_some()
}

/// Where a line was written.
enum Side {
    Caller,
    Gateway,
    Destination,
}

fn side(c: &Configured, call: &Call, hop: &HopSeen) -> Side {
    if c.is_gateway(&hop.proxy) || call.gateway.as_ref() == Some(&hop.proxy) {
        Side::Gateway
    } else if call.caller.as_ref() == Some(&hop.proxy) && !hop.entry.cluster.starts_with("inbound|") {
        Side::Caller
    } else {
        Side::Destination
    }
}

/// How the call came to a gateway, by the gateway's own line.
fn arrival(call: &Call, hop: &HopSeen) -> Arrival {
    let e = &hop.entry;
    let given = |text: &str| (text != "-" && !text.is_empty()).then(|| text.to_owned());
    let on = e.downstream_local.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(call.port);
    let authority = given(&e.authority).map(|a| a.rsplit_once(':').map_or(a.clone(), |(host, _)| host.to_owned()));
    Arrival {
        gateway: hop.proxy.clone(),
        on,
        called: if call.gateway.as_ref() == Some(&hop.proxy) { call.port } else { on },
        sni: given(&e.sni).or_else(|| call.sni.clone().filter(|_| e.request.is_none())),
        host: authority.unwrap_or_else(|| call.host.clone()),
        certificate: true,
        answered: e.request.is_some(),
    }
}

/// Where the configuration of the proxy that wrote a line leads this call.
fn targets<'c>(c: &'c Configured, call: &Call, hop: &HopSeen) -> Result<Vec<Target<'c>>, Option<Cause>> {
    let walked = match side(c, call, hop) {
        Side::Caller => sidecar::through(c, &hop.proxy, call, false),
        Side::Gateway => gateway::through(c, &arrival(call, hop), call),
        Side::Destination => return Err(None),
    };
    // The line names the cluster that was taken, where there was one.
    let Some(logged) = Target::of_cluster(&hop.entry.cluster) else { return walked };
    let same = walked.ok().and_then(|all| all.into_iter().find(|t| t.is_cluster(&hop.entry.cluster)));
    Ok(vec![same.map_or(logged.clone(), |t| Target { port: logged.port, ..t })])
}

fn at_hop(c: &Configured, call: &Call, hop: &HopSeen, trouble: &Trouble) -> Option<Cause> {
    let from = hop.proxy.namespace.as_str();
    let first = |what: &dyn Fn(&Target<'_>) -> Option<Cause>| match targets(c, call, hop) {
        Ok(all) => all.iter().find_map(what),
        Err(cause) => cause,
    };
    match trouble {
        Trouble::Denied(details) => policy::denied(c, details, &hop.proxy),
        Trouble::NoRoute => match side(c, call, hop) {
            Side::Caller => sidecar::through(c, &hop.proxy, call, true).err().flatten(),
            Side::Gateway => {
                let to = arrival(call, hop);
                gateway::through(c, &to, call).err().flatten().or_else(|| gateway::refused_route(c, &to))
            }
            Side::Destination => plain_call(c, call),
        },
        Trouble::NoCluster => first(&|t| destination::missing_cluster(c, from, t)),
        Trouble::NoEndpoint => first(&|t| destination::no_endpoint(c, from, t)),
        Trouble::Overflow => first(&|t| sidecar::limit(c, from, t)),
        Trouble::Failed => match side(c, call, hop) {
            Side::Destination => destination::wrong_inbound_port(c, &hop.proxy, &hop.entry.cluster)
                .or_else(|| destination::nobody_listens(c, &hop.proxy, &hop.entry)),
            _ => first(&|t| failed(c, call, from, t)),
        },
        Trouble::Rule(field) => rule(c, call, hop, field),
    }
}

/// Why a connection to a target failed.
fn failed(c: &Configured, call: &Call, from: &str, target: &Target<'_>) -> Option<Cause> {
    let mode = destination::tls_mode(c, from, target);
    if let Some((gateway, on)) = target.port.and_then(|port| gateway::behind(c, &target.host, port)) {
        let to = onward(c, call, from, target, gateway, on);
        return gateway::through(c, &to, call).err().flatten().or_else(|| gateway::refused_route(c, &to));
    }
    if let Some(cause) = destination::wrong_target_port(c, from, target).or_else(|| destination::no_endpoint(c, from, target)) {
        return Some(cause);
    }
    let service = c.hosts(&target.host).into_iter().find(|o| o.key.kind == "Service")?;
    let port = configured::ports(service).into_iter().find(|p| target.port.is_none_or(|n| n == p.number))?.target;
    let (mode, rule, field) = mode?;
    if mode == "DISABLE" {
        let because = format!("{} says {mode}", rule.key);
        let cause = policy::plain_to_strict(c, service, &format!("the proxy in {from}"), &because, &port)?;
        return Some(Cause { places: [vec![Place::new(rule, field)], cause.places].concat(), ..cause });
    }
    let selector = service.value.pointer("/spec/selector")?;
    let mut pods = c.pods(service.key.namespace.as_deref()).filter(|(_, labels)| names::selects(selector, labels)).peekable();
    pods.peek()?;
    (mode == "ISTIO_MUTUAL" && pods.all(|(pod, _)| !configured::has_proxy(pod))).then(|| {
        let text = format!("{} says {mode} for {}, whose pods have no sidecar to end it", rule.key, target.host);
        Cause::at(Layer::Connection, text, Some(Place::new(rule, field)))
    })
}

/// How a call comes to a gateway behind a target: with TLS of the proxy's own where a DestinationRule says so.
fn onward(c: &Configured, call: &Call, from: &str, target: &Target<'_>, gateway: Namespaced, on: u16) -> Arrival {
    let mode = destination::tls_mode(c, from, target);
    let own = mode.filter(|(mode, ..)| mode != "DISABLE").map(|(_, rule, field)| {
        let at = format!("/{}", field.replace(".mode", ".sni").replace(['.', '['], "/").replace(']', ""));
        let port = target.port.unwrap_or_default();
        let generated = || format!("outbound_.{port}_.{}_.{}", target.subset.as_deref().unwrap_or("_"), target.host);
        names::text(&rule.value, &at).map_or_else(generated, str::to_owned)
    });
    Arrival {
        gateway,
        on,
        called: target.port.unwrap_or(on),
        certificate: own.is_some() || call.certificate,
        sni: own.or_else(|| call.sni.clone()),
        host: call.host.clone(),
        answered: false,
    }
}

/// The field of the route that did it.
fn rule(c: &Configured, call: &Call, hop: &HopSeen, field: &'static str) -> Option<Cause> {
    let meetings = match side(c, call, hop) {
        Side::Caller => sidecar::meets(c, &hop.proxy, call).into_iter().collect(),
        Side::Gateway => gateway::meetings(c, &arrival(call, hop)).ok()?,
        Side::Destination => return None,
    };
    let (vs, at) = meetings.iter().find_map(|meeting| route::field_of_route(c, meeting, call, field))?;
    let text = format!("the route of {} that takes this call has a {field}", vs.key);
    Some(Cause::at(Layer::Response, text, Some(Place::new(vs, at))))
}

/// A caller without a sidecar, to a workload that takes mutual TLS only.
fn plain_call(c: &Configured, call: &Call) -> Option<Cause> {
    let caller = call.caller.as_ref()?;
    if c.has_proxy(caller)? {
        return None;
    }
    let host = c.full_name(call.connects_to.as_deref().unwrap_or(&call.host), &caller.namespace);
    let service = c.hosts(&host).into_iter().find(|o| o.key.kind == "Service")?;
    let port = configured::ports(service).into_iter().find(|p| p.number == call.port)?.target;
    policy::plain_to_strict(c, service, &caller.to_string(), "it has no sidecar", &port)
}

/// No proxy's line tells of trouble: the call did not reach one, or went another way than the one wanted.
fn quiet(c: &Configured, call: &Call, expect: &CallExpect, seen: &CallSeen) -> Option<Cause> {
    let end = seen.connection.as_ref();
    let ended = end.is_some_and(|end| *end != Connection::Answered && !expect.connection.contains(end));
    if end == Some(&Connection::DnsFailure) {
        return ended.then(|| sidecar::no_such_service(c, call.caller.as_ref(), call)).flatten();
    }
    let own =
        call.caller.as_ref().and_then(|caller| seen.hops.iter().find(|h| h.proxy == *caller && matches!(side(c, call, h), Side::Caller)));
    if let (Some(caller), Some(hop), None) = (&call.caller, own, &call.gateway) {
        return left(c, call, expect, seen, caller, hop, ended);
    }
    if let Some(gateway) = &call.gateway {
        let unseen = !seen.hops.iter().any(|h| h.proxy == *gateway);
        // With no line at all the answer alone tells that the gateway had no way to go on.
        let helpless = seen.status.is_some_and(|s| [404, 503].contains(&s) && expect.status != Some(s));
        // What was to be refused for its name found nobody: that is why others are not served either.
        let refused = refusal_unheard(expect, seen) == Some(gateway) || expect.status.is_some_and(|s| s >= 400);
        let deaf = (refused && unseen && !helpless && end.is_some())
            .then(|| arriving(c, call, gateway, seen.status).and_then(|to| gateway::deaf(c, &to, call)))
            .flatten();
        return deaf.or_else(|| (ended || (unseen && helpless)).then(|| unheard(c, call, gateway, seen.status)).flatten());
    }
    (ended && seen.hops.is_empty()).then(|| directly(c, call)).flatten()
}

/// The caller's sidecar let the call go, but not where it was wanted.
fn left(
    c: &Configured,
    call: &Call,
    expect: &CallExpect,
    seen: &CallSeen,
    caller: &Namespaced,
    hop: &HopSeen,
    ended: bool,
) -> Option<Cause> {
    let cluster = hop.entry.cluster.as_str();
    let want = expect.path.iter().find(|h| h.proxy == *caller);
    let elsewhere = want.is_some_and(|w| hop_mismatches(w, hop).iter().any(|(what, ..)| *what == "cluster"));
    let expected_on = expect.path.iter().any(|h| h.proxy != *caller && !seen.hops.iter().any(|s| s.proxy == h.proxy));
    // Under REGISTRY_ONLY plain HTTP to an unknown host is answered by a route of the sidecar's own.
    let blocked = hop.entry.route == "block_all";
    if !(elsewhere || expected_on || ended || blocked) {
        return None;
    }
    if blocked || ["PassthroughCluster", "BlackHoleCluster"].contains(&cluster) {
        let meant = want.and_then(|w| w.cluster.as_deref()).is_some_and(|w| w == cluster);
        return (!meant)
            .then(|| sidecar::known(c, caller, call).err().flatten().or_else(|| sidecar::other_protocol(c, caller, call)))
            .flatten();
    }
    let target = Target::of_cluster(cluster)?;
    if let Some((gateway, on)) = target.port.and_then(|port| gateway::behind(c, &target.host, port)) {
        let to = onward(c, call, &caller.namespace, &target, gateway, on);
        return ended.then(|| gateway::through(c, &to, call).err().flatten()).flatten();
    }
    // It went to the host itself, while routes were to lead it elsewhere.
    let itself = target.host == sidecar::destination(c, caller, call);
    (itself && (elsewhere || expected_on)).then(|| sidecar::through(c, caller, call, true).err().flatten()).flatten()
}

/// A call as it comes to a gateway that left no line of it.
fn arriving(c: &Configured, call: &Call, gateway: &Namespaced, status: Option<u16>) -> Option<Arrival> {
    let labels = c.labels_of(gateway)?;
    Some(Arrival {
        gateway: gateway.clone(),
        on: gateway::bind(c, gateway, &labels, call.port),
        called: call.port,
        sni: call.sni.clone(),
        host: call.host.clone(),
        certificate: call.certificate,
        answered: status.is_some(),
    })
}

/// A gateway without a line of the call.
fn unheard(c: &Configured, call: &Call, gateway: &Namespaced, status: Option<u16>) -> Option<Cause> {
    let to = arriving(c, call, gateway, status)?;
    match gateway::through(c, &to, call) {
        Err(cause) => cause.or_else(|| gateway::refused_route(c, &to)),
        Ok(all) if status == Some(503) => {
            let from = gateway.namespace.as_str();
            all.iter().find_map(|t| destination::missing_cluster(c, from, t).or_else(|| destination::no_endpoint(c, from, t)))
        }
        Ok(_) => None,
    }
}

/// A call past all proxies, straight to a Service.
fn directly(c: &Configured, call: &Call) -> Option<Cause> {
    let caller = call.caller.as_ref()?;
    if let Some(cause) = plain_call(c, call) {
        return Some(cause);
    }
    let host = c.full_name(call.connects_to.as_deref().unwrap_or(&call.host), &caller.namespace);
    let service = c.hosts(&host).into_iter().find(|o| o.key.kind == "Service")?;
    let ports = configured::ports(service);
    if !ports.iter().any(|p| p.number == call.port) {
        let text = format!("the call goes to port {}, but {} serves {}", call.port, service.key, configured::numbers(&ports));
        return Some(Cause::at(Layer::Connection, text, Some(Place::new(service, "spec.ports"))));
    }
    let target = Target { host, port: Some(call.port), subset: None, by: None };
    let from = caller.namespace.as_str();
    destination::no_endpoint(c, from, &target).or_else(|| destination::wrong_target_port(c, from, &target))
}
