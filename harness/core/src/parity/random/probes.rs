//! The fixed battery of calls to a drawn configuration, which expects nothing.

use std::time::Duration;

use crate::names::Namespaced;
use crate::scenario::{Caller, Check, Expectation, HttpProbe, INTACT, Probe, Scheme, Verify};

/// A host that drawn Gateways and routes may name.
pub(super) const A: &str = "a.drawn.example";
/// Another one.
pub(super) const B: &str = "b.drawn.example";
/// One that only wildcards cover.
pub(super) const C: &str = "c.drawn.example";
/// The shared ingress gateway.
pub(super) const INGRESS: &str = "istio-system/istio-ingressgateway";
const EGRESS: &str = "istio-system/istio-egressgateway";
const SERVER: &str = "mesh-test/httpbin";

/// A call of the battery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// `outside`, or the Deployment in the applications' namespace.
    from: &'static str,
    /// As in a scenario.
    url: &'static str,
    sni: Option<&'static str>,
    method: &'static str,
    header: bool,
    certificate: bool,
    /// Proxies whose logs are read past the call.
    watch: &'static [&'static str],
}

const fn call(from: &'static str, url: &'static str, watch: &'static [&'static str]) -> Call {
    Call { from, url, sni: None, method: "GET", header: false, certificate: false, watch }
}

/// From outside, through the ingress gateway.
pub(super) const INGRESS_CALLS: [Call; 9] = [
    call("outside", "http://a.drawn.example/get", &[INGRESS, SERVER]),
    call("outside", "http://a.drawn.example/status/418", &[INGRESS, SERVER]),
    Call { header: true, ..call("outside", "http://b.drawn.example/headers", &[INGRESS, SERVER]) },
    call("outside", "http://nowhere.example/get", &[INGRESS, SERVER]),
    call("outside", "https://a.drawn.example/get", &[INGRESS, SERVER]),
    Call { certificate: true, ..call("outside", "https://a.drawn.example/status/418", &[INGRESS, SERVER]) },
    Call { sni: Some(A), ..call("outside", "https://b.drawn.example/get", &[INGRESS, SERVER]) },
    call("outside", "https://c.drawn.example/get", &[INGRESS, SERVER]),
    call("outside", "https://nowhere.example/get", &[INGRESS, SERVER]),
];

/// Inside the mesh, to httpbin.
pub(super) const MESH_CALLS: [Call; 7] = [
    call("sleep", "http://httpbin:8000/get", &[SERVER]),
    call("sleep", "http://httpbin.mesh-test.svc.cluster.local:8000/status/418", &[SERVER]),
    Call { header: true, ..call("sleep", "http://httpbin:8000/headers", &[SERVER]) },
    Call { method: "POST", ..call("sleep", "http://httpbin:8000/post", &[SERVER]) },
    call("other", "http://httpbin:8000/get", &[SERVER]),
    call("plain", "http://httpbin:8000/get", &[SERVER]),
    call("plain", "http://httpbin:8000/status/418", &[SERVER]),
];

/// To hosts outside.
pub(super) const OUTSIDE_CALLS: [Call; 6] = [
    call("sleep", "http://httpbin.org/get", &[EGRESS]),
    call("sleep", "https://httpbin.org/get", &[EGRESS]),
    call("sleep", "http://example.org/", &[EGRESS]),
    call("sleep", "https://example.org/", &[EGRESS]),
    call("other", "https://httpbin.org/get", &[EGRESS]),
    call("plain", "https://httpbin.org/get", &[EGRESS]),
];

/// The two that every configuration gets, whatever it is about.
pub(super) const COMMON: [Call; 2] =
    [call("sleep", "http://httpbin:8000/status/202", &[SERVER]), call("plain", "http://httpbin:8000/status/202", &[SERVER])];

/// The calls as checks that observe.
pub(super) fn checks(calls: &[Call]) -> Vec<Check> {
    calls.iter().filter_map(check).collect()
}

fn check(call: &Call) -> Option<Check> {
    let (scheme, rest) = call.url.split_once("://")?;
    let (authority, path) = rest.split_once('/')?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let standard = if scheme == Scheme::Https { 443 } else { 80 };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, standard),
    };
    let outside = call.from == "outside";
    let workload = |name: &str| Namespaced::parse(&format!("mesh-test/{name}")).ok();
    let probe = HttpProbe {
        from: if outside { Caller::Outside } else { Caller::Workload(workload(call.from)?) },
        gateway: if outside { Namespaced::parse(INGRESS).ok() } else { None },
        scheme,
        host: host.parse().ok()?,
        port,
        path: format!("/{path}"),
        sni: call.sni.map(str::parse).transpose().ok()?,
        method: call.method.to_owned(),
        headers: if call.header { vec![("x-drawn".to_owned(), "1".to_owned())] } else { Vec::new() },
        body: None,
        verify: Verify::Insecure,
        client_certificate: if call.certificate { Namespaced::parse("istio-system/drawn-client").ok() } else { None },
        timeout: Duration::from_secs(5),
    };
    let mut name = format!("{} {} {}", call.from, call.method, call.url);
    name.extend(call.sni.map(|sni| format!(" for {sni}")));
    name.push_str(if call.header { " with x-drawn" } else { "" });
    name.push_str(if call.certificate { " with a certificate" } else { "" });
    let watched = call.watch.iter().filter_map(|p| Namespaced::parse(p).ok()).collect();
    Some(Check {
        name,
        proves: "Both providers give the same.".to_owned(),
        given: INTACT.to_owned(),
        probe: Probe::Http(probe),
        expect: Expectation::Observe { watched },
    })
}
