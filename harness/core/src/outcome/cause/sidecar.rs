//! A caller's side: what its sidecar knows of the host, and which routes of the mesh take the call.

use super::call::Call;
use super::configured::{Configured, ISTIO, Port, numbers, ports};
use super::destination::{Target, entry_hosts, hidden};
use super::names::{Labels, covers, few, list, namespace, qualified, selects, text, texts, visible};
use super::route::{Kind, Meeting, routed};
use super::{Cause, Layer, Place};
use crate::names::Namespaced;
use crate::scenario::KubeObject;

/// The host that a call's sidecar looks up: for plain HTTP the Host header, for all else what was connected to.
pub(super) fn destination(c: &Configured, caller: &Namespaced, call: &Call) -> String {
    c.full_name(call.name(), &caller.namespace)
}

/// What the caller's sidecar knows the host and port by, or why it does not.
pub(super) fn known<'c>(c: &'c Configured, caller: &Namespaced, call: &Call) -> Result<(&'c KubeObject, Port), Option<Cause>> {
    if !(c.knows(ISTIO, "ServiceEntry") && c.knows("", "Service")) {
        return Err(None);
    }
    let host = destination(c, caller, call);
    let from = &caller.namespace;
    let all = c.hosts(&host);
    let with_port = |o: &&KubeObject| ports(o).iter().any(|p| p.number == call.port);
    let seen: Vec<&KubeObject> = all.iter().copied().filter(|o| visible(o, from)).collect();
    let Some(object) = seen.iter().copied().find(with_port) else {
        if let Some(object) = seen.first() {
            let served: Vec<Port> = seen.iter().flat_map(|o| ports(o)).collect();
            let text = format!("the call goes to port {} of {host}, but {} serves {}", call.port, object.key, numbers(&served));
            return Err(Some(Cause::at(Layer::Proxy, text, Some(Place::new(object, "spec.ports")))));
        }
        if let Some(object) = all.first() {
            return Err(Some(hidden(object, &host, from)));
        }
        let near: Vec<&KubeObject> = c.all(ISTIO, "ServiceEntry").filter(with_port).collect();
        let hint = match near.first() {
            Some(_) => format!("; entries with port {} are for {}", call.port, few(near.iter().map(|e| entry_hosts(e)))),
            None => String::new(),
        };
        let text = format!("no ServiceEntry or Service has the host {host}, so sidecars do not know it{hint}");
        return Err(Some(Cause::at(Layer::Proxy, text, near.first().map(|e| Place::new(e, "spec.hosts")))));
    };
    if let Some(cause) = beyond(c, caller, &host, object) {
        return Err(Some(cause));
    }
    let port = ports(object).into_iter().find(|p| p.number == call.port).ok_or(None)?;
    Ok((object, port))
}

/// A Sidecar resource that leaves the host out of what the caller's proxy has.
fn beyond(c: &Configured, caller: &Namespaced, host: &str, object: &KubeObject) -> Option<Cause> {
    let labels = c.labels_of(caller)?;
    let of = |at: &str, selected: bool| {
        let at = at.to_owned();
        c.all(ISTIO, "Sidecar").find(|s| {
            let selector = s.value.pointer("/spec/workloadSelector/labels");
            namespace(s) == at && selector.map_or(!selected, |wanted| selected && selects(wanted, &labels))
        })
    };
    let sidecar = of(&caller.namespace, true).or_else(|| of(&caller.namespace, false)).or_else(|| of(c.root(), false))?;
    let egress = list(&sidecar.value, "/spec/egress");
    if egress.is_empty() {
        return None;
    }
    let home = namespace(object);
    let imports = |written: &str| {
        let (from, wanted) = written.split_once('/').unwrap_or(("*", written));
        covers(wanted, host) && (from == "*" || from == home || (from == "." && home == caller.namespace))
    };
    if egress.iter().flat_map(|e| texts(e, "/hosts")).any(imports) {
        return None;
    }
    let hosts = few(egress.iter().flat_map(|e| texts(e, "/hosts")).map(str::to_owned));
    let text = format!("{} lets the proxy of {caller} have {hosts} only; {host} of {} is not among them", sidecar.key, object.key);
    Some(Cause::at(Layer::Proxy, text, Some(Place::new(sidecar, "spec.egress[].hosts"))))
}

/// The port is for another protocol than the call speaks, so no filter chain of the sidecar takes it.
pub(super) fn other_protocol(c: &Configured, caller: &Namespaced, call: &Call) -> Option<Cause> {
    let (object, port) = known(c, caller, call).ok()?;
    let http = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB"].contains(&port.protocol.as_str());
    let tls = ["HTTPS", "TLS"].contains(&port.protocol.as_str());
    let came = if call.tls { "TLS" } else { "plain HTTP" };
    ((http && call.tls) || (tls && !call.tls)).then(|| {
        let text = format!(
            "port {} of {} is {}, and the call is {came}, which no chain of the sidecar takes",
            port.number, object.key, port.protocol
        );
        Cause::at(Layer::Proxy, text, Some(Place::new(object, format!("spec.ports[{}].protocol", port.index))))
    })
}

fn meeting(c: &Configured, caller: &Namespaced, call: &Call, port: &Port) -> Meeting<'static> {
    let labels: Labels = c.labels_of(caller).unwrap_or_default();
    let is_http = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB"].contains(&port.protocol.as_str());
    let kind = match (call.tls, is_http) {
        (true, _) => Kind::Tls,
        (false, true) => Kind::Http,
        (false, false) if port.protocol.is_empty() => Kind::Http,
        (false, false) => Kind::Tcp,
    };
    Meeting {
        gateway: None,
        namespace: caller.namespace.clone(),
        labels,
        port: call.port,
        kind,
        because: match kind {
            Kind::Tls => "the application speaks TLS, of which a sidecar sees the server name".to_owned(),
            _ => format!("port {} is {}", call.port, if port.protocol.is_empty() { "plain" } else { port.protocol.as_str() }),
        },
        name: destination(c, caller, call),
        server: None,
    }
}

/// Where the mesh's routes lead a call; the host itself where no VirtualService has a say and none was `wanted`.
pub(super) fn through<'c>(c: &'c Configured, caller: &Namespaced, call: &Call, wanted: bool) -> Result<Vec<Target<'c>>, Option<Cause>> {
    let (_, port) = known(c, caller, call)?;
    let meeting = meeting(c, caller, call, &port);
    match routed(c, &meeting, call) {
        Ok(targets) => Ok(targets),
        Err(cause) if wanted => Err(cause),
        // A VirtualService without a route that fits: for HTTP a 404, for all else as if it were not there.
        Err(cause) if meeting.kind == Kind::Http && holds(c, &meeting) => Err(cause),
        Err(_) => Ok(vec![Target { host: meeting.name, port: Some(call.port), subset: None, by: None }]),
    }
}

fn holds(c: &Configured, at: &Meeting<'_>) -> bool {
    c.all(ISTIO, "VirtualService").any(|vs| {
        super::route::bound(vs).iter().any(|name| name == "mesh")
            && visible(vs, &at.namespace)
            && texts(&vs.value, "/spec/hosts").iter().any(|h| covers(&qualified(h, namespace(vs)), &at.name))
            && !list(&vs.value, "/spec/http").is_empty()
    })
}

/// The route that takes a call in the mesh, for its other fields.
pub(super) fn meets(c: &Configured, caller: &Namespaced, call: &Call) -> Option<Meeting<'static>> {
    let (_, port) = known(c, caller, call).ok()?;
    Some(meeting(c, caller, call, &port))
}

/// A name inside the cluster that DNS does not have.
pub(super) fn no_such_service(c: &Configured, caller: Option<&Namespaced>, call: &Call) -> Option<Cause> {
    let name = call.connects_to.as_deref().unwrap_or(&call.host);
    let from = caller.map_or("default", |c| c.namespace.as_str());
    let inside = !name.contains('.') || name.ends_with(".svc") || name.ends_with(".svc.cluster.local");
    if !inside || !c.knows("", "Service") {
        return None;
    }
    let full = c.full_name(name, from);
    if c.all("", "Service").any(|s| super::configured::service_host(s) == full) {
        return None;
    }
    let first = name.split('.').next().unwrap_or_default();
    let elsewhere: Vec<&KubeObject> = c.all("", "Service").filter(|s| s.key.name == first).collect();
    let hint = match elsewhere.as_slice() {
        [] => String::new(),
        some => format!("; there is {}", few(some.iter().map(|s| s.key.to_string()))),
    };
    let text = format!("no Service is called {name} as seen from namespace {from}{hint}");
    Some(Cause::at(Layer::Connection, text, elsewhere.first().map(|s| Place::new(s, "metadata.name"))))
}

/// A limit of a DestinationRule that was overflown (flag UO).
pub(super) fn limit(c: &Configured, client: &str, target: &Target<'_>) -> Option<Cause> {
    let home = c.hosts(&target.host).first().map_or(client, |o| namespace(o)).to_owned();
    let rules = c.rules(client, &home, &target.host);
    let rule = rules.into_iter().find(|rule| serde_json::to_string(&rule.value["spec"]).is_ok_and(|s| s.contains("\"connectionPool\"")))?;
    let most = text(&rule.value, "/spec/host").unwrap_or_default();
    let pool = rule.value.pointer("/spec/trafficPolicy/connectionPool").map(ToString::to_string).unwrap_or_default();
    let shown = if pool.is_empty() { String::new() } else { format!(" ({pool})") };
    let said = format!("{} limits connections to {most}{shown}, and the limit was reached", rule.key);
    Some(Cause::at(Layer::Connection, said, Some(Place::new(rule, "spec.trafficPolicy.connectionPool"))))
}
