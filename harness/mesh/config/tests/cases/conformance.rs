//! Gateway API's own tests of HTTPRoutes: objects of Gateway API through their conversion, a request through the gateway.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use gateproof_mesh_config::envoy::simulate::{Call as Simulated, CallError, simulate};
use gateproof_mesh_config::envoy::{CallRecord, Decision, Headers, RequestFacts, RouteTable};
use gateproof_mesh_config::gateway_api::{Converted, convert};
use gateproof_mesh_config::istio::PushContext;
use gateproof_mesh_config::{ProxyKind, ProxyNode, ProxyResources, Snapshot};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::check::Check;

/// The namespace of gateways, and of what says no other.
const INFRA: &str = "gateway-conformance-infra";
/// The port of every backend.
const BACKEND_PORT: u16 = 8080;
/// The host that a request has that says no other.
const HOST: &str = "gateway.example";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(rename = "source")]
    _source: String,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    test: String,
    #[serde(default)]
    gateways: Vec<Gateway>,
    routes: Vec<Route>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    defaults: Map<String, Value>,
    #[serde(default)]
    calls: Vec<Map<String, Value>>,
    #[serde(default)]
    shares: Vec<Shares>,
    #[serde(default)]
    conditions: Vec<Condition>,
    /// By gateway and listener: how many routes it has.
    #[serde(default)]
    attached: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Gateway {
    name: String,
    from: Option<String>,
    /// In place of `from`: labels of namespaces.
    labels: Option<BTreeMap<String, String>>,
    listeners: Vec<Listener>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listener {
    name: String,
    port: Option<u16>,
    protocol: Option<String>,
    host: Option<String>,
    tls: Option<Value>,
    kinds: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    name: String,
    #[serde(rename = "in")]
    namespace: Option<String>,
    #[serde(default)]
    parents: Vec<Parent>,
    #[serde(default)]
    hosts: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parent {
    name: String,
    section: Option<String>,
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: Option<String>,
    #[serde(default)]
    when: Vec<When>,
    #[serde(default)]
    filters: Vec<Value>,
    to: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct When {
    exact: Option<String>,
    prefix: Option<String>,
    headers: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    method: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    name: String,
    #[serde(rename = "in")]
    namespace: String,
    from: String,
    from_group: Option<String>,
    from_kind: Option<String>,
    to_group: Option<String>,
    to_kind: Option<String>,
    service: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Call {
    gateway: Option<String>,
    port: Option<u16>,
    host: Option<String>,
    path: String,
    method: Option<String>,
    headers: BTreeMap<String, String>,
    /// The backend that gets it, `NAMESPACE/NAME` or a name of [`INFRA`].
    backend: Option<String>,
    /// The status of an answer that no backend gives.
    status: Option<u16>,
    /// `scheme`, `host`, `port` and `path` of where the caller is sent, as far as they are asked.
    location: BTreeMap<String, String>,
    /// What the backend gets, as far as it is asked.
    sent: Option<Sent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sent {
    host: Option<String>,
    path: Option<String>,
    headers: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shares {
    path: String,
    of: BTreeMap<String, usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    route: String,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
}

/// The files of a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<(String, File)> {
    super::told::read_all(folder)
}

/// Asks everything of a file.
pub(crate) fn run(name: &str, file: &File, out: &mut Vec<Check>) {
    for test in &file.tests {
        let world = World::new(test);
        let mut add = |what: String, difference| out.push(Check { id: format!("{name}/{}/{what}", test.test), needs: None, difference });
        for (index, told) in test.calls.iter().enumerate() {
            let mut fields = test.defaults.clone();
            fields.extend(told.clone());
            let call: Call = serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| panic!("{}: {error}", test.test));
            let method = call.method.as_deref().unwrap_or("GET");
            let what = format!("{index} {method} {}{}", call.host.as_deref().unwrap_or_default(), call.path);
            add(what, world.call_differs(&call));
        }
        for shares in &test.shares {
            add(format!("shares of {}", shares.path), world.shares_differ(shares));
        }
        for condition in &test.conditions {
            add(format!("{} of {}", condition.kind, condition.route), world.condition_differs(condition));
        }
        for (gateway, listeners) in &test.attached {
            add(format!("routes of {gateway}"), world.attached_differ(gateway, listeners));
        }
    }
}

struct World {
    snapshot: Snapshot,
    converted: Converted,
}

impl World {
    fn new(test: &Test) -> World {
        let mut objects = vec![json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "istio"}, "spec": {"controllerName": "istio.io/gateway-controller"},
        })];
        for (namespace, label, backends) in [
            (INFRA, "infra", ["infra-backend-v1", "infra-backend-v2", "infra-backend-v3"].as_slice()),
            ("gateway-conformance-app-backend", "backend", ["app-backend-v1", "app-backend-v2"].as_slice()),
            ("gateway-conformance-web-backend", "backend", ["web-backend"].as_slice()),
        ] {
            let labels = json!({"gateway-conformance": label});
            objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}));
            objects.extend(backends.iter().map(|name| service(namespace, name, &json!({"app": name}), &[BACKEND_PORT])));
        }
        let listener = |name: &str| Listener { name: name.to_owned(), ..Listener::default() };
        let base = [
            Gateway { name: "same-namespace".to_owned(), listeners: vec![listener("http")], ..Gateway::default() },
            Gateway { name: "all-namespaces".to_owned(), from: Some("All".to_owned()), listeners: vec![listener("http")], labels: None },
            Gateway {
                name: "backend-namespaces".to_owned(),
                from: Some("Selector".to_owned()),
                labels: Some(BTreeMap::from([("gateway-conformance".to_owned(), "backend".to_owned())])),
                listeners: vec![listener("http")],
            },
        ];
        for gateway in base.iter().chain(&test.gateways) {
            objects.extend(gateway.objects());
        }
        objects.extend(test.routes.iter().map(Route::object));
        objects.extend(test.grants.iter().map(Grant::object));
        let objects = objects.into_iter().map(Arc::new).collect();
        let mut snapshot = Snapshot { objects, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() };
        let converted = convert(&snapshot);
        snapshot.objects.extend(converted.objects.iter().cloned());
        World { snapshot, converted }
    }

    fn resources(&self, gateway: &str) -> ProxyResources {
        let node = ProxyNode {
            kind: ProxyKind::Router,
            pod: format!("{gateway}-istio"),
            namespace: INFRA.to_owned(),
            ip: IpAddr::from([10, 0, 0, 1]),
            labels: selector(gateway),
            annotations: BTreeMap::new(),
            service_account: format!("{gateway}-istio"),
            container_ports: Vec::new(),
        };
        PushContext::new(&self.snapshot).resources(&node)
    }

    /// What happens with a request, and its headers.
    fn decide(&self, call: &Call, random: u64, resources: &ProxyResources) -> Result<(Decision, Headers), String> {
        let host = call.host.as_deref().unwrap_or(HOST);
        let mut headers = Headers::new();
        for (name, value) in &call.headers {
            headers.set(name, value.clone());
        }
        let simulated = Simulated {
            port: call.port.unwrap_or(80),
            path: call.path.clone(),
            method: call.method.clone().unwrap_or_default(),
            host: host.to_owned(),
            headers: headers.clone(),
            random,
            ..Simulated::default()
        };
        let outcome = simulate(resources, &simulated);
        if let Some(error @ (CallError::NoListener | CallError::NoFilterChain | CallError::NoRouteTable | CallError::Refused(_))) =
            &outcome.error
        {
            return Err(format!("{error:?}"));
        }
        let table = outcome.route_table.as_ref().and_then(|name| resources.routes.get(name)).ok_or("no route table")?;
        let table = RouteTable::read(table).map_err(|refusal| refusal.to_string())?;
        for (name, value) in [(":method", simulated.method.as_str()), (":path", &call.path), (":authority", host), (":scheme", "http")] {
            headers.set(name, if name == ":method" && value.is_empty() { "GET" } else { value });
        }
        let record = CallRecord::default();
        let decision = table.route(&RequestFacts { headers: &headers, tls: false, internal: false, random, call: &record });
        Ok((decision, headers))
    }

    fn call_differs(&self, call: &Call) -> Option<String> {
        let resources = self.resources(call.gateway.as_deref().unwrap_or("same-namespace"));
        let (decision, mut headers) = match self.decide(call, 0, &resources) {
            Ok(decided) => decided,
            Err(error) => return Some(error),
        };
        let (mut status, mut backend, mut location) = (None, None, None);
        match &decision {
            Decision::NotFound { .. } => status = Some(404),
            Decision::TlsRedirect { location: to, .. } => (status, location) = (Some(301), Some(to.clone())),
            Decision::Redirect { status: with, location: to, .. } => (status, location) = (Some(*with), Some(to.clone())),
            Decision::DirectResponse { status: with, .. } => status = Some(*with),
            Decision::Forward { matched, cluster } => {
                if resources.clusters.contains_key(cluster) {
                    backend = Some(cluster.clone());
                } else {
                    status = missing_cluster_status(&resources, &matched.route.name);
                }
                matched.finalize_request(&mut headers, &CallRecord::default(), None);
            }
        }
        let mut differences = Vec::new();
        let mut differ = |what: &str, found: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
            if format!("{found:?}") != format!("{wanted:?}") {
                differences.push(format!("{what}: {found:?} for {wanted:?}"));
            }
        };
        differ("status", &status, &call.status);
        differ("backend", &backend, &call.backend.as_ref().map(|name| cluster(name)));
        for (part, wanted) in &call.location {
            differ(part, &location.as_deref().and_then(|location| part_of(location, part)), &Some(wanted.as_str()));
        }
        if let Some(sent) = &call.sent {
            if let Some(host) = &sent.host {
                differ("host", &headers.authority(), host);
            }
            if let Some(path) = &sent.path {
                differ("path", &headers.path(), path);
            }
            for (name, wanted) in &sent.headers {
                differ(name, &headers.joined(name).map(|value| value.replace(", ", ",")), wanted);
            }
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }

    /// Whether a hundred requests, spread evenly over what chance may say, come to the backends as is said.
    fn shares_differ(&self, shares: &Shares) -> Option<String> {
        let resources = self.resources("same-namespace");
        let call = Call { path: shares.path.clone(), ..Call::default() };
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for random in 0..100 {
            match self.decide(&call, random, &resources) {
                Ok((Decision::Forward { cluster, .. }, _)) => *found.entry(cluster).or_default() += 1,
                Ok((other, _)) => return Some(format!("{other:?}")),
                Err(error) => return Some(error),
            }
        }
        let wanted: BTreeMap<String, usize> = shares.of.iter().map(|(name, share)| (cluster(name), *share)).collect();
        (found != wanted).then(|| format!("{found:?} for {wanted:?}"))
    }

    fn condition_differs(&self, wanted: &Condition) -> Option<String> {
        let status = self.converted.statuses.iter().find(|status| status.kind == "HTTPRoute" && status.name == wanted.route);
        let conditions = status.and_then(|status| status.status.pointer("/parents/0/conditions")?.as_array());
        let Some(found) = conditions.and_then(|all| all.iter().find(|one| one["type"] == wanted.kind.as_str())) else {
            return Some("no such condition".to_owned());
        };
        let fits =
            found["status"] == wanted.status.as_str() && wanted.reason.as_ref().is_none_or(|reason| found["reason"] == reason.as_str());
        (!fits).then(|| found.to_string())
    }

    fn attached_differ(&self, gateway: &str, wanted: &BTreeMap<String, u64>) -> Option<String> {
        let status = self.converted.statuses.iter().find(|status| status.kind == "Gateway" && status.name == gateway);
        let listeners = status.and_then(|status| status.status.get("listeners")?.as_array()).cloned().unwrap_or_default();
        let of = |listener: &Value| Some((listener.get("name")?.as_str()?.to_owned(), listener.get("attachedRoutes")?.as_u64()?));
        let found: BTreeMap<String, u64> = listeners.iter().filter_map(of).collect();
        (found != *wanted).then(|| format!("{found:?} for {wanted:?}"))
    }
}

/// What a route answers whose cluster is not there.
fn missing_cluster_status(resources: &ProxyResources, route: &str) -> Option<u16> {
    let tables = resources.routes.values().filter_map(|table| table.get("virtual_hosts")?.as_array()).flatten();
    let mut routes = tables.filter_map(|host| host.get("routes")?.as_array()).flatten();
    let found = routes.find(|one| one.get("name").and_then(Value::as_str) == Some(route))?;
    let code = found.pointer("/route/cluster_not_found_response_code").and_then(Value::as_str);
    Some(if code == Some("INTERNAL_SERVER_ERROR") { 500 } else { 503 })
}

fn cluster(backend: &str) -> String {
    let (namespace, name) = backend.split_once('/').unwrap_or((INFRA, backend));
    format!("outbound|{BACKEND_PORT}||{name}.{namespace}.svc.cluster.local")
}

/// A part of `SCHEME://HOST[:PORT]PATH`.
fn part_of<'a>(location: &'a str, part: &str) -> Option<&'a str> {
    let (scheme, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match part {
        "scheme" => Some(scheme),
        "host" => Some(authority.split_once(':').map_or(authority, |(host, _)| host)),
        "port" => authority.split_once(':').map(|(_, port)| port),
        "path" => Some(path),
        other => panic!("a location has no {other}"),
    }
}

fn selector(gateway: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("gateway.networking.k8s.io/gateway-name".to_owned(), gateway.to_owned())])
}

fn service(namespace: &str, name: &str, selector: &Value, ports: &[u16]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"name": format!("http-{port}"), "port": port})).collect();
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": "10.1.0.1", "selector": selector, "ports": ports}})
}

impl Gateway {
    /// It, and the Service that istiod makes for it.
    fn objects(&self) -> [Value; 2] {
        let mut namespaces = json!({"from": self.from.as_deref().unwrap_or("Same")});
        if let Some(labels) = &self.labels {
            namespaces["selector"] = json!({"matchLabels": labels});
        }
        let mut ports: Vec<u16> = self.listeners.iter().map(|listener| listener.port.unwrap_or(80)).collect();
        ports.sort_unstable();
        ports.dedup();
        let listener = |listener: &Listener| {
            let mut allowed = json!({"namespaces": namespaces});
            if !listener.kinds.is_empty() {
                allowed["kinds"] = listener.kinds.iter().map(|kind| json!({"kind": kind})).collect();
            }
            let (port, protocol) = (listener.port.unwrap_or(80), listener.protocol.as_deref().unwrap_or("HTTP"));
            let mut out = json!({"name": listener.name, "port": port, "protocol": protocol, "allowedRoutes": allowed});
            for (field, value) in [("hostname", listener.host.clone().map(Value::from)), ("tls", listener.tls.clone())] {
                if let Some(value) = value {
                    out[field] = value;
                }
            }
            out
        };
        let listeners: Vec<Value> = self.listeners.iter().map(listener).collect();
        let metadata = json!({"name": self.name, "namespace": INFRA});
        let spec = json!({"gatewayClassName": "istio", "listeners": listeners});
        [
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}),
            service(INFRA, &format!("{}-istio", self.name), &json!(selector(&self.name)), &ports),
        ]
    }
}

impl Route {
    fn object(&self) -> Value {
        let parent = |parent: &Parent| {
            let mut out = json!({"name": parent.name, "namespace": INFRA});
            if let Some(section) = &parent.section {
                out["sectionName"] = json!(section);
            }
            if let Some(port) = parent.port {
                out["port"] = json!(port);
            }
            out
        };
        let mut parents: Vec<Value> = self.parents.iter().map(parent).collect();
        if parents.is_empty() {
            parents.push(json!({"name": "same-namespace", "namespace": INFRA}));
        }
        let mut spec = json!({"parentRefs": parents, "rules": self.rules.iter().map(Rule::object).collect::<Vec<_>>()});
        if !self.hosts.is_empty() {
            spec["hostnames"] = json!(self.hosts);
        }
        let metadata = json!({"name": self.name, "namespace": self.namespace.as_deref().unwrap_or(INFRA)});
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec})
    }
}

impl Rule {
    fn object(&self) -> Value {
        // As the API server does by the defaults of the definition: redirects are 302, a rule without a match has `/`.
        let mut filters = self.filters.clone();
        for redirect in filters.iter_mut().filter_map(|filter| filter.get_mut("requestRedirect")?.as_object_mut()) {
            redirect.entry("statusCode").or_insert(json!(302));
        }
        let mut out = json!({"filters": filters});
        let matches: Vec<Value> =
            if self.when.is_empty() { vec![When::default().object()] } else { self.when.iter().map(When::object).collect() };
        out["matches"] = Value::Array(matches);
        if let Some(name) = &self.name {
            out["name"] = json!(name);
        }
        if let Some(backends) = &self.to {
            let backend = |told: &Value| {
                let mut out = json!({"kind": "Service", "group": "", "port": BACKEND_PORT, "weight": 1});
                let own = told.as_object().cloned().unwrap_or_else(|| Map::from_iter([("name".to_owned(), told.clone())]));
                out.as_object_mut().expect("an object").extend(own);
                out
            };
            out["backendRefs"] = backends.iter().map(backend).collect();
        }
        out
    }
}

impl When {
    fn object(&self) -> Value {
        let path = match (&self.exact, &self.prefix) {
            (Some(path), _) => json!({"type": "Exact", "value": path}),
            (None, prefix) => json!({"type": "PathPrefix", "value": prefix.as_deref().unwrap_or("/")}),
        };
        let mut out = json!({"path": path});
        for (field, values) in [("headers", &self.headers), ("queryParams", &self.query)] {
            if !values.is_empty() {
                out[field] = values.iter().map(|(name, value)| json!({"name": name, "type": "Exact", "value": value})).collect();
            }
        }
        if let Some(method) = &self.method {
            out["method"] = json!(method);
        }
        out
    }
}

impl Grant {
    fn object(&self) -> Value {
        let metadata = json!({"name": self.name, "namespace": self.namespace});
        let or = |told: &Option<String>, usual: &str| told.clone().unwrap_or_else(|| usual.to_owned());
        let (group, kind) = (or(&self.from_group, "gateway.networking.k8s.io"), or(&self.from_kind, "HTTPRoute"));
        let from = json!([{"group": group, "kind": kind, "namespace": self.from}]);
        let (group, kind) = (or(&self.to_group, ""), or(&self.to_kind, "Service"));
        let spec = json!({"from": from, "to": [{"group": group, "kind": kind, "name": self.service}]});
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": metadata, "spec": spec})
    }
}
