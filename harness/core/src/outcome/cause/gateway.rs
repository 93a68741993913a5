//! A gateway's side: which Gateway's server takes a connection, and with what routes.

use serde_json::Value;

use super::call::Call;
use super::configured::{Configured, ISTIO, ports};
use super::destination::{Target, shown_of};
use super::names::{Labels, covers, few, list, namespace, port, selects, shown, text, texts};
use super::route::{Kind, Meeting, routed};
use super::{Cause, Layer, Place};
use crate::names::Namespaced;
use crate::scenario::KubeObject;

/// How a call comes to a gateway.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// The gateway's Deployment.
    pub(super) gateway: Namespaced,
    /// The port on its pods.
    pub(super) on: u16,
    /// The port of its Service that was called, where that is known, for people.
    pub(super) called: u16,
    /// The server name of the TLS that arrives; None for plain text.
    pub(super) sni: Option<String>,
    /// The Host, which is seen where the TLS is ended.
    pub(super) host: String,
    /// Whether a certificate of the caller comes with it.
    pub(super) certificate: bool,
    /// Whether a connection was taken and answered: then certificates are in order.
    pub(super) answered: bool,
}

impl Arrival {
    fn tls(&self) -> bool {
        self.sni.is_some()
    }

    /// What the listener goes by.
    fn name(&self) -> &str {
        self.sni.as_deref().unwrap_or(&self.host)
    }
}

/// One server of a Gateway.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'c> {
    pub(super) gateway: &'c KubeObject,
    pub(super) index: usize,
    value: &'c Value,
}

impl<'c> Server<'c> {
    fn number(&self) -> u16 {
        port(self.value, "/port/number").unwrap_or_default()
    }

    fn protocol(&self) -> String {
        text(self.value, "/port/protocol").unwrap_or_default().to_ascii_uppercase()
    }

    fn mode(&self) -> Option<&'c str> {
        // SIMPLE is no default: without a mode Istio reads PASSTHROUGH, the first of the enumeration.
        self.value.pointer("/tls").map(|_| text(self.value, "/tls/mode").unwrap_or("PASSTHROUGH"))
    }

    fn wants_tls(&self) -> bool {
        matches!(self.protocol().as_str(), "HTTPS" | "TLS")
    }

    fn has(&self, name: &str) -> bool {
        texts(self.value, "/hosts").iter().any(|h| covers(h.rsplit_once('/').map_or(h, |(_, host)| host), name))
    }

    fn field(&self, part: &str) -> Place {
        Place::new(self.gateway, format!("spec.servers[{}].{part}", self.index))
    }

    /// The routes that count here, and why. Source: istio/istio `pilot/pkg/networking/core/gateway.go`.
    fn kind(&self) -> (Kind, String) {
        let (protocol, mode) = (self.protocol(), self.mode().unwrap_or_default());
        match (protocol.as_str(), mode) {
            ("TLS" | "HTTPS", "PASSTHROUGH" | "AUTO_PASSTHROUGH") => (Kind::Tls, format!("{mode} leaves the TLS sealed")),
            ("HTTPS", _) => (Kind::Http, format!("the server is HTTPS and ends the TLS ({mode})")),
            ("TLS", _) => (Kind::Tcp, format!("the server is TLS and ends it ({mode})")),
            ("TCP" | "MONGO" | "MYSQL" | "REDIS", _) => (Kind::Tcp, format!("the server is {protocol}")),
            _ => (Kind::Http, format!("the server is {protocol}")),
        }
    }
}

fn servers<'c>(c: &'c Configured) -> Vec<Server<'c>> {
    let all = c.all(ISTIO, "Gateway");
    all.flat_map(|gateway| {
        list(&gateway.value, "/spec/servers").iter().enumerate().map(move |(index, value)| Server { gateway, index, value })
    })
    .collect()
}

/// The pod's port behind a port of the gateway's Service; the number itself where no Service has it.
pub(super) fn bind(c: &Configured, at: &Namespaced, labels: &Labels, number: u16) -> u16 {
    let of = c.all("", "Service").filter(|s| namespace(s) == at.namespace && takes_pods(s, labels));
    let found = of.flat_map(ports).find(|p| p.number == number);
    found.and_then(|p| p.target.as_u64()).and_then(|n| u16::try_from(n).ok()).unwrap_or(number)
}

fn takes_pods(service: &KubeObject, labels: &Labels) -> bool {
    let selector = service.value.pointer("/spec/selector");
    selector.is_some_and(|s| s.as_object().is_some_and(|m| !m.is_empty()) && selects(s, labels))
}

/// The gateway whose pods a host's Service takes, with the pod's port behind a port of it.
pub(super) fn behind(c: &Configured, host: &str, number: u16) -> Option<(Namespaced, u16)> {
    let service = c.hosts(host).into_iter().find(|o| o.key.kind == "Service")?;
    let selector = service.value.pointer("/spec/selector").filter(|s| s.as_object().is_some_and(|m| !m.is_empty()))?;
    let home = namespace(service);
    let named = |d: &&KubeObject| c.is_gateway(&Namespaced { namespace: home.to_owned(), name: d.key.name.clone() });
    let deployment = c.deployments(Some(home), selector).into_iter().find(named)?;
    let gateway = Namespaced { namespace: home.to_owned(), name: deployment.key.name.clone() };
    let target = ports(service).into_iter().find(|p| p.number == number)?.target.as_u64()?;
    Some((gateway, u16::try_from(target).ok()?))
}

/// Where a call goes from a gateway, or why it goes nowhere. `Err(None)` where the configuration does not show it.
pub(super) fn through<'c>(c: &'c Configured, to: &Arrival, call: &Call) -> Result<Vec<Target<'c>>, Option<Cause>> {
    let meetings = meetings(c, to)?;
    let mut why = None;
    for meeting in &meetings {
        match routed(c, meeting, call) {
            Ok(targets) => return Ok(targets),
            Err(cause) => why = why.or(cause),
        }
    }
    Err(why)
}

/// Why nothing listens where a call was to be refused for its name: what the names lack that are to be served there. None
/// where one of them is served, since then something listens.
pub(super) fn deaf(c: &Configured, to: &Arrival, call: &Call) -> Option<Cause> {
    let labels = c.labels_of(&to.gateway)?;
    if !c.knows(ISTIO, "Gateway") || labels.contains_key("gateway.networking.k8s.io/gateway-name") {
        return None;
    }
    // A Gateway for other pods says nothing here; one that selects nobody may have been meant for these.
    let selects_nobody = |selector: &Value| c.pods(None).all(|(_, l)| !selects(selector, &l)) && c.deployments(None, selector).is_empty();
    let near: Vec<Server<'_>> = servers(c)
        .into_iter()
        .filter(|server| server.wants_tls() == to.tls())
        .filter(|server| {
            let selector = server.gateway.value.pointer("/spec/selector").unwrap_or(&Value::Null);
            selects(selector, &labels) || (c.knows("", "Pod") && selects_nobody(selector))
        })
        .collect();
    let bound = c.all(ISTIO, "VirtualService").filter(|vs| {
        let here = |server: &Server<'_>| format!("{}/{}", namespace(server.gateway), server.gateway.key.name);
        let to = super::route::bound(vs);
        near.iter().any(|server| to.contains(&here(server)))
    });
    // What routes are for is what was meant to be served, however a server's host is spelled.
    let routed = bound.flat_map(|vs| texts(&vs.value, "/spec/hosts"));
    let served = near.iter().flat_map(|server| texts(server.value, "/hosts")).map(|h| h.rsplit_once('/').map_or(h, |(_, host)| host));
    let mut why = None;
    for name in routed.chain(served).filter(|name| !name.contains('*')) {
        let one = Arrival { sni: to.sni.as_ref().map(|_| name.to_owned()), host: name.to_owned(), ..to.clone() };
        match through(c, &one, call) {
            Ok(_) => return None,
            Err(cause) => why = why.or(cause),
        }
    }
    why.or_else(|| near.is_empty().then(|| through(c, to, call).err().flatten()).flatten())
}

/// The servers that a call meets, as routes see them; an error when there is none.
pub(super) fn meetings<'c>(c: &'c Configured, to: &Arrival) -> Result<Vec<Meeting<'c>>, Option<Cause>> {
    let labels = c.labels_of(&to.gateway).ok_or(None)?;
    if !c.knows(ISTIO, "Gateway") || labels.contains_key("gateway.networking.k8s.io/gateway-name") {
        return Err(None);
    }
    let all = servers(c);
    let mine: Vec<Server<'_>> =
        all.iter().copied().filter(|s| selects(s.gateway.value.pointer("/spec/selector").unwrap_or(&Value::Null), &labels)).collect();
    let on_port: Vec<Server<'_>> = mine.iter().copied().filter(|s| bind(c, &to.gateway, &labels, s.number()) == to.on).collect();
    if on_port.is_empty() {
        return Err(Some(no_listener(c, to, &labels, &all, &mine)));
    }
    let taken: Vec<Server<'_>> = on_port.iter().copied().filter(|s| s.has(to.name())).collect();
    if taken.is_empty() {
        return Err(Some(no_host(to, &labels, &all, &on_port, |s| bind(c, &to.gateway, &labels, s.number()))));
    }
    let speaks: Vec<Server<'_>> = taken.iter().copied().filter(|s| s.protocol() == "TCP" || s.wants_tls() == to.tls()).collect();
    if speaks.is_empty() {
        let (server, came) = (taken[0], if to.tls() { "TLS" } else { "plain text" });
        let text = format!(
            "{} serves {} on port {} as {}, and the call is {came}",
            server.gateway.key,
            to.name(),
            server.number(),
            server.protocol()
        );
        return Err(Some(Cause::at(Layer::Proxy, text, Some(server.field("port.protocol")))));
    }
    if !to.answered
        && let Some(cause) = speaks.iter().find_map(|server| no_secret(c, to, server).or_else(|| no_certificate(to, server)))
    {
        return Err(Some(cause));
    }
    let meeting = |server: &Server<'c>| {
        let (kind, because) = server.kind();
        Meeting {
            gateway: Some(server.gateway),
            namespace: to.gateway.namespace.clone(),
            labels: labels.clone(),
            port: server.number(),
            kind,
            because,
            name: if kind == Kind::Http { to.host.clone() } else { to.name().to_owned() },
            server: Some((server.index, texts(server.value, "/hosts").into_iter().map(str::to_owned).collect())),
        }
    };
    Ok(speaks.iter().map(meeting).collect())
}

/// Nothing listens on the port: the nearest miss.
fn no_listener(c: &Configured, to: &Arrival, labels: &Labels, all: &[Server<'_>], mine: &[Server<'_>]) -> Cause {
    let meant = |s: &&Server<'_>| s.has(to.name()) && (s.wants_tls() == to.tls() || s.protocol() == "TCP");
    let gateway = &to.gateway;
    if let Some(server) = mine.iter().find(meant) {
        let text = format!(
            "{} serves {} on port {}, and the call goes to port {} of {gateway}",
            server.gateway.key,
            to.name(),
            server.number(),
            to.called
        );
        return Cause::at(Layer::Proxy, text, Some(server.field("port.number")));
    }
    if let Some(server) = all.iter().find(meant).or_else(|| mine.is_empty().then(|| all.iter().find(|s| s.has(to.name()))).flatten()) {
        return unselected(c, to, labels, server);
    }
    let text = if mine.is_empty() {
        format!("no Gateway selects the pods of {gateway} ({}), so nothing listens there", shown_of(labels))
    } else {
        let numbers = few(mine.iter().map(|s| s.number().to_string()));
        format!("no Gateway that selects {gateway} has a server for port {}; they have {numbers}", to.called)
    };
    let place = mine.first().map(|server| server.field("port.number"));
    Cause::at(Layer::Proxy, text, place)
}

fn unselected(c: &Configured, to: &Arrival, labels: &Labels, server: &Server<'_>) -> Cause {
    let selector = server.gateway.value.pointer("/spec/selector").unwrap_or(&Value::Null);
    let nobody = c.knows("", "Pod") && c.pods(None).all(|(_, l)| !selects(selector, &l)) && c.deployments(None, selector).is_empty();
    let whom = if nobody { "matches no pod".to_owned() } else { format!("matches other pods than those of {}", to.gateway) };
    let text =
        format!("the selector ({}) of {} {whom}; pods of {} have {}", shown(selector), server.gateway.key, to.gateway, shown_of(labels));
    Cause::at(Layer::Proxy, text, Some(Place::new(server.gateway, "spec.selector")))
}

/// The port is served, but not for the name.
fn no_host(to: &Arrival, labels: &Labels, all: &[Server<'_>], on_port: &[Server<'_>], bind: impl Fn(&Server<'_>) -> u16) -> Cause {
    // Another Gateway that would serve it here, if it selected these pods; or this one, on another port.
    let others = || all.iter().filter(|s| s.has(to.name()) && s.wants_tls() == to.tls());
    let takes = |s: &Server<'_>| selects(s.gateway.value.pointer("/spec/selector").unwrap_or(&Value::Null), labels);
    if let Some(server) = others().find(|s| !takes(s) && bind(s) == to.on) {
        let selector = server.gateway.value.pointer("/spec/selector").unwrap_or(&Value::Null);
        let text = format!(
            "the selector ({}) of {}, which is for {}, does not match the pods of {} ({})",
            shown(selector),
            server.gateway.key,
            to.name(),
            to.gateway,
            shown_of(labels)
        );
        return Cause::at(Layer::Proxy, text, Some(Place::new(server.gateway, "spec.selector")));
    }
    if let Some(server) = others().find(|s| takes(s) && bind(s) != to.on) {
        let text =
            format!("{} serves {} on port {}, and the call goes to port {}", server.gateway.key, to.name(), server.number(), to.called);
        return Cause::at(Layer::Proxy, text, Some(server.field("port.number")));
    }
    let generated = to.name().starts_with("outbound_.");
    let hosts = few(on_port.iter().flat_map(|s| texts(s.value, "/hosts")).map(str::to_owned));
    let gateways = few(on_port.iter().map(|s| s.gateway.key.to_string()));
    let hint = if generated { "; callers send this one where their DestinationRule sets ISTIO_MUTUAL without `sni`" } else { "" };
    let text = format!("no server on port {} of {} is for {}; {gateways} has {hosts}{hint}", to.called, to.gateway, to.name());
    Cause::at(Layer::Proxy, text, Some(on_port[0].field("hosts")))
}

/// A certificate that is not there: `credentialName` is looked up beside the gateway's pods.
fn no_secret(c: &Configured, to: &Arrival, server: &Server<'_>) -> Option<Cause> {
    let name = text(server.value, "/tls/credentialName")?;
    let home = &to.gateway.namespace;
    if !c.knows("", "Secret") || name.contains("://") || c.find("", "Secret", home, name).is_some() {
        return None;
    }
    let elsewhere: Vec<String> = c.all("", "Secret").filter(|s| s.key.name == name).map(|s| namespace(s).to_owned()).collect();
    let hint = if elsewhere.is_empty() { String::new() } else { format!("; there is one in {}", few(elsewhere)) };
    let text = format!("{} wants the Secret {name}, which is not in {home}, the namespace of {}{hint}", server.gateway.key, to.gateway);
    Some(Cause::at(Layer::Proxy, text, Some(server.field("tls.credentialName"))))
}

/// A server that wants the caller's certificate, and a caller that has none.
fn no_certificate(to: &Arrival, server: &Server<'_>) -> Option<Cause> {
    let mode = server.mode().filter(|mode| ["MUTUAL", "ISTIO_MUTUAL"].contains(mode) && !to.certificate)?;
    let text = format!("{} wants a certificate of callers ({mode}), and the call presents none", server.gateway.key);
    Some(Cause::at(Layer::Connection, text, Some(server.field("tls.mode"))))
}

/// What Gateway API says of itself where it could not do what it was told: conditions of the gateway and of its routes for
/// the host.
pub(super) fn refused_route(c: &Configured, to: &Arrival) -> Option<Cause> {
    use super::configured::GATEWAY_API;
    let labels = c.labels_of(&to.gateway)?;
    let name = labels.get("gateway.networking.k8s.io/gateway-name")?;
    let gateway = c.find(GATEWAY_API, "Gateway", &to.gateway.namespace, name)?;
    let own = list(&gateway.value, "/status/conditions").iter().find(|one| text(one, "/status") == Some("False"));
    if let Some(condition) = own {
        return Some(condition_of(gateway, condition, "status.conditions"));
    }
    let routes: Vec<&KubeObject> = ["HTTPRoute", "GRPCRoute", "TLSRoute"]
        .into_iter()
        .flat_map(|kind| c.all(GATEWAY_API, kind))
        .filter(|route| {
            let hosts = texts(&route.value, "/spec/hostnames");
            hosts.is_empty() || hosts.iter().any(|h| covers(h, to.name()))
        })
        .collect();
    for route in &routes {
        for (i, parent) in list(&route.value, "/status/parents").iter().enumerate() {
            let bad = list(parent, "/conditions").iter().find(|one| text(one, "/status") == Some("False"));
            if let Some(condition) = bad {
                return Some(condition_of(route, condition, &format!("status.parents[{i}].conditions")));
            }
        }
    }
    let known = ["HTTPRoute", "GRPCRoute", "TLSRoute"].iter().all(|kind| c.knows(GATEWAY_API, kind));
    (routes.is_empty() && known).then(|| {
        let text = format!("no route of Gateway API has the host {}, as {} would need", to.name(), gateway.key);
        Cause::at(Layer::Proxy, text, Some(Place::new(gateway, "spec.listeners")))
    })
}

fn condition_of(object: &KubeObject, condition: &Value, field: &str) -> Cause {
    let part = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{} says {} False, {}: {}", object.key, part("type"), part("reason"), part("message"));
    Cause::at(Layer::Proxy, text, Some(Place::new(object, field)))
}
