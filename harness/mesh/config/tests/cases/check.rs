//! What a case asks, one by one.

use std::collections::BTreeMap;

use gateproof_mesh_config::envoy::push::Push;
use gateproof_mesh_config::envoy::simulate::{self, CallError, CallProtocol, CallTls, Mode, Outcome, simulate};
use gateproof_mesh_config::{ProxyKind, ProxyNode, ProxyResources};
use serde_json::{Map, Value};

use super::told::{Call, Case, Expect, Field, Hosts, HttpRoute, InboundCluster, Listeners, Test};
use super::world::{self, Form};

/// One thing that was asked.
#[derive(Debug)]
pub(crate) struct Check {
    /// `FILE/TEST/CASE/WHAT`.
    pub(crate) id: String,
    /// What has to be simulated before it can hold.
    pub(crate) needs: Option<String>,
    /// Nothing, or how the answer differs.
    pub(crate) difference: Option<String>,
}

/// Asks everything of a test.
pub(crate) fn run(file: &str, test: &Test, out: &mut Vec<Check>) {
    for case in &test.cases {
        let node = world::node(test, case);
        let needs = case.needs.as_ref().or(test.needs.as_ref());
        let before = format!("{file}/{}/{}", test.test, case.name);
        if let Some(routes) = &case.routes {
            let rules = Form::VirtualService;
            run_routes(&before, needs, rules, routes, &node, test, case, out);
            match &case.httproute {
                Some(HttpRoute::Skipped(word)) => assert_eq!(word, "unsupported"),
                Some(HttpRoute::Other(routes)) => run_routes(&before, needs, Form::HttpRoute, routes, &node, test, case, out),
                None => run_routes(&before, needs, Form::HttpRoute, routes, &node, test, case, out),
            }
        } else if case.variants.is_empty() {
            run_once(&before, needs, None, &node, test, case, out);
        } else {
            for variant in case.variants.keys() {
                run_once(&format!("{before}/{variant}"), needs, Some(variant), &node, test, case, out);
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one place calls it, with what it has at hand")]
fn run_routes(
    before: &str,
    needs: Option<&String>,
    form: Form,
    routes: &Hosts,
    node: &ProxyNode,
    test: &Test,
    case: &Case,
    out: &mut Vec<Check>,
) {
    let resources = world::resources(node, test, case, None, form);
    let word = if form == Form::HttpRoute { "httproute" } else { "virtualservice" };
    let table = case.table.as_deref().expect("the table of routes");
    let mut add = |what: &str, difference| out.push(Check { id: format!("{before}/{word}/{what}"), needs: needs.cloned(), difference });
    add("accepted", refusals(&resources));
    add("routes", routes_differ(&resources, table, routes));
}

fn run_once(before: &str, needs: Option<&String>, variant: Option<&str>, node: &ProxyNode, test: &Test, case: &Case, out: &mut Vec<Check>) {
    let resources = world::resources(node, test, case, variant, Form::VirtualService);
    let mut add = |what: &str, difference| out.push(Check { id: format!("{before}/{what}"), needs: needs.cloned(), difference });
    if !test.unchecked && !case.unchecked {
        add("accepted", refusals(&resources));
    }
    for told in &case.calls {
        let mut fields: Map<String, Value> = test.defaults.clone();
        fields.extend(told.clone());
        let call: Call = serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| panic!("{before}: {error}"));
        let expect = match variant {
            Some(name) => call.each.get(name),
            None => call.expect.as_ref(),
        };
        let expect = expect.unwrap_or_else(|| panic!("{before}/{}: nothing is expected", call.name));
        if call.ports.is_empty() {
            add(&call.name, call_differs(&resources, node, &call, call.port.expect("a port"), expect));
        }
        for port in &call.ports {
            add(&format!("{} {port}", call.name), call_differs(&resources, node, &call, *port, expect));
        }
    }
    if let Some(clusters) = &case.inbound_clusters {
        add("inbound clusters", inbound_clusters_differ(&resources, clusters));
    }
    for listeners in &case.listeners {
        add(&listeners.name, listeners_differ(&resources, listeners));
    }
    for field in &case.fields {
        add(&field.name, field_differs(&resources, field));
    }
}

/// What Envoy would not take.
fn refusals(resources: &ProxyResources) -> Option<String> {
    let push = Push::read(resources);
    let mut refused = push.listeners.refused;
    refused.extend(push.routes.refused);
    refused.extend(push.clusters.refused);
    refused.extend(push.endpoints.refused);
    let (name, refusal) = refused.first()?;
    Some(format!("{} refused, first {name}: {refusal}", refused.len()))
}

fn call_differs(resources: &ProxyResources, node: &ProxyNode, told: &Call, port: u16, expect: &Expect) -> Option<String> {
    let call = simulate::Call {
        address: told.address.as_ref().map(|address| address.parse().expect("an address")),
        port,
        path: told.path.clone(),
        protocol: match told.protocol.as_str() {
            "http" => CallProtocol::Http,
            "http2" => CallProtocol::Http2,
            "tcp" => CallProtocol::Tcp,
            other => panic!("{}: no protocol {other:?}", told.name),
        },
        tls: match told.tls.as_str() {
            "" => CallTls::Plaintext,
            "tls" => CallTls::Tls,
            "mtls" => CallTls::Mtls,
            other => panic!("{}: no TLS {other:?}", told.name),
        },
        host: told.host.clone(),
        sni: told.sni.clone(),
        alpn: told.alpn.clone(),
        mode: match told.mode.as_str() {
            "" if node.kind == ProxyKind::Router => Mode::Gateway,
            "" | "outbound" => Mode::Outbound,
            "inbound" => Mode::Inbound,
            other => panic!("{}: no mode {other:?}", told.name),
        },
        mtls_secret_name: told.own_certificate.clone(),
        ..simulate::Call::default()
    };
    let outcome = simulate(resources, &call);
    let mut differences = Vec::new();
    let error = outcome.error.as_ref().and_then(word);
    if error != expect.error {
        differences.push(format!("error: {} for {}", shown(error.as_ref()), shown(expect.error.as_ref())));
    }
    let fields = [
        ("listener", &outcome.listener, &expect.listener),
        ("filter chain", &outcome.filter_chain, &expect.filter_chain),
        ("table", &outcome.route_table, &expect.table),
        ("virtual host", &outcome.virtual_host, &expect.virtual_host),
        ("route", &outcome.route, &expect.route),
        ("cluster", &outcome.cluster, &expect.cluster),
    ];
    for (what, found, expected) in fields {
        // Names that are empty in Envoy's resources are as good as absent; the original says so of an empty route.
        let found = found.as_ref().filter(|name| !name.is_empty());
        if found != expected.as_ref() && (expect.only || expected.is_some()) {
            differences.push(format!("{what}: {} for {}", shown(found), shown(expected.as_ref())));
        }
    }
    for (pointer, expected) in &expect.chain {
        let found = chain(resources, &outcome).and_then(|chain| chain.pointer(pointer));
        if found.unwrap_or(&Value::Null) != expected {
            differences.push(format!("{pointer}: {} for {expected}", shown(found)));
        }
    }
    told_of(differences)
}

/// The filter chain that a call met.
fn chain<'a>(resources: &'a ProxyResources, outcome: &Outcome) -> Option<&'a Value> {
    let listener = resources.listeners.get(outcome.listener.as_ref()?)?;
    let name = outcome.filter_chain.as_ref()?;
    let mut named =
        listener.get("filter_chains")?.as_array()?.iter().filter(|chain| chain.get("name").and_then(Value::as_str) == Some(name));
    named.find(|chain| chain.get("transport_socket").is_some())
}

/// The error in the words of the case files. The original does not ask whether a cluster is there.
fn word(error: &CallError) -> Option<String> {
    let word = match error {
        CallError::NoCluster => return None,
        CallError::NoListener => "no_listener",
        CallError::NoFilterChain => "no_filter_chain",
        CallError::NoRouteTable => "no_route_table",
        CallError::NoVirtualHost => "no_virtual_host",
        CallError::NoRoute => "no_route",
        CallError::TlsRedirect => "tls_redirect",
        CallError::ProtocolError => "protocol",
        CallError::TlsError => "tls",
        CallError::MtlsError => "mtls",
        // Where Envoy has two chains for one connection, it does not take the listener at all.
        CallError::Refused(refusal) if refusal.to_string().contains("matching rules") => "several_filter_chains",
        CallError::Refused(refusal) => return Some(format!("refused: {refusal}")),
    };
    Some(word.to_owned())
}

fn inbound_clusters_differ(resources: &ProxyResources, expected: &BTreeMap<String, InboundCluster>) -> Option<String> {
    let mut differences = Vec::new();
    let found: Vec<&String> = resources.clusters.keys().filter(|name| name.starts_with("inbound")).collect();
    if !found.iter().copied().eq(expected.keys()) {
        differences.push(format!("clusters: {found:?} for {:?}", expected.keys().collect::<Vec<_>>()));
    }
    for (name, expected) in expected {
        let Some(cluster) = resources.clusters.get(name) else { continue };
        let endpoints = endpoints(cluster);
        if endpoints != expected.endpoints {
            differences.push(format!("{name} leads to {endpoints:?} for {:?}", expected.endpoints));
        }
        let services = cluster.pointer("/metadata/filter_metadata/istio/services").and_then(Value::as_array);
        let host = |service: &Value| service.get("host").and_then(Value::as_str).unwrap_or_default().to_owned();
        let services: Option<Vec<String>> = services.map(|services| services.iter().map(host).collect());
        if services != expected.services {
            differences.push(format!("{name} is of {services:?} for {:?}", expected.services));
        }
        // The original also asks that a call to the cluster's port comes there.
        let port = name.split('|').nth(1).and_then(|port| port.parse().ok()).expect("a cluster's port");
        let address = Some([1, 2, 3, 4].into());
        let outcome = simulate(resources, &simulate::Call { address, port, mode: Mode::Inbound, ..simulate::Call::default() });
        if outcome.cluster.as_ref() != Some(name) || outcome.error.is_some() {
            differences.push(format!("a call to {port} comes to {} ({:?})", shown(outcome.cluster.as_ref()), outcome.error));
        }
    }
    told_of(differences)
}

fn endpoints(cluster: &Value) -> Option<Vec<String>> {
    let groups = cluster.pointer("/load_assignment/endpoints")?.as_array()?;
    let all = groups.iter().filter_map(|group| group.get("lb_endpoints")?.as_array()).flatten();
    let written = all.filter_map(|endpoint| {
        let address = endpoint.pointer("/endpoint/address")?;
        if let Some(path) = address.pointer("/pipe/path") {
            return path.as_str().map(str::to_owned);
        }
        let socket = address.get("socket_address")?;
        Some(format!("{}:{}", socket.get("address")?.as_str()?, socket.get("port_value")?))
    });
    Some(written.collect())
}

fn listeners_differ(resources: &ProxyResources, expected: &Listeners) -> Option<String> {
    let port = |listener: &Value| listener.pointer("/address/socket_address/port_value").and_then(Value::as_u64);
    let found = resources.listeners.values().filter(|listener| port(listener) == Some(u64::from(expected.port))).count();
    let fits = found >= expected.at_least && expected.at_most.is_none_or(|most| found <= most);
    (!fits).then(|| format!("{found} listeners on {}", expected.port))
}

fn field_differs(resources: &ProxyResources, field: &Field) -> Option<String> {
    let resource = match (&field.listener, &field.cluster) {
        (Some(name), _) => resources.listeners.get(name),
        (None, Some(name)) => resources.clusters.get(name),
        (None, None) => panic!("{}: of what?", field.name),
    };
    let Some(resource) = resource else { return Some("no such resource".to_owned()) };
    let found = resource.pointer(&field.at).filter(|value| !value.is_null());
    let fits = if field.is_there { found.is_some() } else { found.unwrap_or(&Value::Null) == &field.is };
    (!fits).then(|| format!("{}: {} for {}", field.at, shown(found), field.is))
}

fn routes_differ(resources: &ProxyResources, table: &str, expected: &Hosts) -> Option<String> {
    let Some(table) = resources.routes.get(table) else { return (!expected.is_empty()).then(|| "no such table".to_owned()) };
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in list(table, "virtual_hosts") {
        let routes = list(&host, "routes");
        let mut clusters: Vec<String> =
            routes.iter().filter(|route| route.get("route").is_some()).map(|route| text(route.pointer("/route/cluster"))).collect();
        clusters.sort();
        for domain in list(&host, "domains") {
            found.insert(text(Some(&domain)), clusters.clone());
        }
    }
    let differs = expected.iter().filter(|(host, clusters)| found.get(*host) != clusters.as_ref());
    told_of(differs.map(|(host, clusters)| format!("{host}: {:?} for {clusters:?}", found.get(host))).collect())
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn told_of(differences: Vec<String>) -> Option<String> {
    (!differences.is_empty()).then(|| differences.join("; "))
}

fn shown<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
