//! HTTPRoutes and GRPCRoutes: a VirtualService for each listener and host, or for each host of the mesh
//! (Istio: `HTTPRouteCollection`, `GRPCRouteCollection`, `mergeHTTPRoutes`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::backend::Source;
use super::listener::Listener;
use super::parent::{Attached, Parent, Place, hosts, parents, status, taken};
use super::{Converted, Fault, Objects, grpc_rule, http_rule};
use crate::istio::model::object;

/// A rule of a VirtualService.
pub(super) type Rule = Map<String, Value>;

/// What the rules of a route come to.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) all: Vec<Value>,
    pub(super) fault: Option<Fault>,
}

impl Rules {
    /// Rules one by one; what leaves one of them out leaves out all.
    pub(super) fn of(each: impl Iterator<Item = Result<(Vec<Value>, Option<Fault>), Fault>>) -> Rules {
        let mut out = Rules::default();
        for one in each {
            match one {
                Ok((rules, fault)) => {
                    out.all.extend(rules);
                    out.fault = fault.or(out.fault);
                }
                Err(fault) => return Rules { all: Vec::new(), fault: Some(fault) },
            }
        }
        out
    }

    /// Those for Gateways and those for the mesh, as far as there are such parents.
    pub(super) fn of_both(parents: &[Parent<'_, '_>], source: Source<'_, '_>, make: impl Fn(Source<'_, '_>) -> Rules) -> (Rules, Rules) {
        let of = |is_mesh: bool| {
            let is_wanted = parents.iter().any(|parent| parent.is_mesh() == is_mesh);
            if is_wanted { make(Source { is_mesh, ..source }) } else { Rules::default() }
        };
        (of(false), of(true))
    }
}

/// Rules of one route for one listener and host.
struct Part<'a> {
    /// Created, namespace, name and number: their order.
    order: (&'a str, &'a str, &'a str, usize),
    gateway: String,
    host: String,
    parent: String,
    rules: Vec<Value>,
}

pub(super) fn convert<'a>(objects: &Objects<'a>, listeners: &[Listener<'a>], attached: &mut Attached, out: &mut Converted) {
    let mut parts: BTreeMap<String, Vec<Part<'a>>> = BTreeMap::new();
    for kind in ["HTTPRoute", "GRPCRoute"] {
        for route in objects.of(kind).iter().copied() {
            let parents = parents(objects, listeners, route, kind);
            let (namespace, name) = (object::namespace(route), object::name(route));
            let source = Source { objects, kind, namespace, name, is_mesh: false };
            let (of_gateway, of_mesh) = Rules::of_both(&parents, source, |source| rules(source, route));
            let mut number = 0;
            for parent in taken(&parents, route, kind, attached) {
                let (key, hosts, mut rules) = match &parent.place {
                    Place::Listener(listener) => {
                        (listener.key(), hosts(route).into_iter().map(str::to_owned).collect(), of_gateway.all.clone())
                    }
                    Place::Mesh(hosts) => match parent.port() {
                        None => (namespace.to_owned(), hosts.clone(), of_mesh.all.clone()),
                        Some(port) => (format!("{namespace}/{port}"), hosts.clone(), with_port(&of_mesh.all, port, "match")),
                    },
                };
                if rules.is_empty() {
                    continue;
                }
                sort(&mut rules);
                for host in hosts.into_iter().filter(|host| parent.has_host(host)) {
                    let key = format!("{key}/{host}");
                    let order = (object::created(route), namespace, name, number);
                    let of = format!("{kind}/{name}.{namespace}");
                    parts.entry(key).or_default().push(Part { order, gateway: parent.gateway(), host, parent: of, rules: rules.clone() });
                    number += 1;
                }
            }
            status(&parents, route, kind, (of_gateway.fault.as_ref(), of_mesh.fault.as_ref()), out);
        }
    }
    out.objects.extend(parts.into_iter().filter_map(|(key, parts)| merged(&key, parts)).map(Arc::new));
}

/// What several routes say of one listener and host, in the order that Gateway API wants.
fn merged(key: &str, mut parts: Vec<Part<'_>>) -> Option<Value> {
    parts.sort_by(|one, other| one.order.cmp(&other.order));
    let of: Vec<&str> = parts.iter().map(|part| part.parent.as_str()).collect();
    let first = parts.first()?;
    let (created, namespace, ..) = first.order;
    let mut rules: Vec<Value> = parts.iter().flat_map(|part| part.rules.iter().cloned()).collect();
    sort(&mut rules);
    let of = of.join(",");
    Some(virtual_service(
        &key.replace('/', "~"),
        namespace,
        created,
        &of,
        json!({"gateways": [first.gateway], "hosts": [first.host], "http": rules}),
    ))
}

/// A VirtualService with what istiod notes of its origin.
pub(super) fn virtual_service(name: &str, namespace: &str, created: &str, parents: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "annotations": {"internal.istio.io/parents": parents, "internal.istio.io/route-semantics": "gateway"},
        },
        "spec": spec,
    })
}

/// Rules for calls to one port.
pub(super) fn with_port(rules: &[Value], port: u64, field: &str) -> Vec<Value> {
    let mut rules = rules.to_vec();
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        match rule.get_mut(field).and_then(Value::as_array_mut).filter(|matches| !matches.is_empty()) {
            Some(matches) => matches.iter_mut().filter_map(Value::as_object_mut).for_each(|one| {
                one.insert("port".to_owned(), json!(port));
            }),
            None => {
                rule.insert(field.to_owned(), json!([{"port": port}]));
            }
        }
    }
    rules
}

/// All rules as Istio's, one for each match.
fn rules(source: Source<'_, '_>, route: &Value) -> Rules {
    Rules::of(object::list(route, "/spec/rules").iter().enumerate().map(|(index, rule)| {
        let name = match object::text(rule, "/name") {
            "" => format!("{}.{}.{index}", source.namespace, source.name),
            name => name.to_owned(),
        };
        let is_grpc = source.kind == "GRPCRoute";
        let (converted, fault) = if is_grpc { grpc_rule::rule(source, rule, name)? } else { http_rule::rule(source, rule, name)? };
        let mut all = Vec::new();
        for one in object::list(rule, "/matches") {
            let matching = if is_grpc { grpc_rule::matching(one)? } else { http_rule::matching(one) };
            let mut copy = converted.clone();
            copy.insert("match".to_owned(), json!([matching]));
            all.push(Value::Object(copy));
        }
        if all.is_empty() {
            all.push(Value::Object(converted));
        }
        Ok((all, fault))
    }))
}

/// Exact before prefix before regular expression, then the longer, then one with a method, then by the number of headers and of
/// parameters; one without a match last (Istio: `sortHTTPRoutes`).
fn sort(rules: &mut [Value]) {
    rules.sort_by_key(|rule| {
        let Some(one) = object::list(rule, "/match").first() else {
            return (true, 0, 0, 0, 0, 0);
        };
        let of = |kind: &str| one.pointer(&format!("/uri/{kind}")).and_then(Value::as_str).map(str::len);
        let (rank, length) = match (of("exact"), of("prefix"), of("regex")) {
            (Some(length), ..) => (3, length),
            (_, Some(length), _) => (2, length),
            (_, _, length) => (1, length.unwrap_or(0)),
        };
        let count = |field: &str| one.get(field).and_then(Value::as_object).map_or(0, Map::len) as i64;
        let method = i64::from(one.get("method").is_some());
        (false, -rank, -(length as i64), -method, -count("headers"), -count("queryParams"))
    });
}
