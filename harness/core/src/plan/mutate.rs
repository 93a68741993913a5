//! Departures that a scenario's checks have to notice: every manifest left out, every telling field bent.
//!
//! A bend stays acceptable to the API wherever it can, so that what notices it is a check and not a refusal.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::mutate_gateway;
use super::refs::{GATEWAY_API, ISTIO, walk};
use super::state::changed;
use crate::scenario::{Change, Edit, KubeObject, Scenario};

/// One departure from the intact scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// Unique in the scenario and the same from run to run.
    pub id: String,
    /// What was done, for people.
    pub about: String,
    /// To be applied to the intact objects, with [`changed`].
    pub changes: Vec<Change>,
}

/// Every departure, in the order of manifests, objects and fields.
#[must_use]
pub fn mutations(scenario: &Scenario) -> Vec<Mutation> {
    let mut out = Vec::new();
    for manifest in &scenario.manifests {
        out.push(Mutation {
            id: format!("without {}", manifest.file),
            about: format!("{} is left out", manifest.file),
            changes: vec![Change::Without { file: manifest.file.clone() }],
        });
        for object in &manifest.objects {
            let mut bends = Bends::of(object);
            match (object.key.group(), object.key.kind.as_str()) {
                (GATEWAY_API, _) => mutate_gateway::bend(&mut bends),
                (ISTIO, "Gateway") => bends.gateway(),
                (ISTIO, "VirtualService") => bends.virtual_service(),
                (ISTIO, "DestinationRule") => bends.destination_rule(),
                (ISTIO, "ServiceEntry") => bends.service_entry(),
                ("security.istio.io", "AuthorizationPolicy") => bends.authorization_policy(),
                _ => {}
            }
            out.extend(bends.out);
        }
    }
    let mut seen = BTreeSet::new();
    out.retain(|m| seen.insert(m.id.clone()) && changed(scenario, &m.changes).is_ok());
    out
}

/// An object, and how it was bent.
pub(super) struct Bends<'o> {
    object: &'o KubeObject,
    pub(super) out: Vec<Mutation>,
}

/// `x.org` → `bent-x.org`, also behind a `*.` or a `namespace/`.
pub(super) fn bent_host(host: &str) -> String {
    if let Some((namespace, host)) = host.split_once('/') {
        return format!("{namespace}/{}", bent_host(host));
    }
    match host.strip_prefix("*.") {
        Some(suffix) => format!("*.bent-{suffix}"),
        None if host == "*" => "bent.invalid".to_owned(),
        None => format!("bent-{host}"),
    }
}

/// The next port, or the one before the last possible.
pub(super) fn bent_port(port: u64) -> u64 {
    if port >= 65535 { 65534 } else { port + 1 }
}

fn set(pointer: impl Into<String>, value: impl Into<Value>) -> Edit {
    Edit::Set { pointer: pointer.into(), value: value.into() }
}

fn short(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl<'o> Bends<'o> {
    pub(super) fn of(object: &'o KubeObject) -> Self {
        Self { object, out: Vec::new() }
    }

    pub(super) fn kind(&self) -> &'o str {
        &self.object.key.kind
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.object.value.pointer(pointer).and_then(Value::as_str)
    }

    pub(super) fn list(&self, pointer: &str) -> &[Value] {
        self.object.value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn push(&mut self, what: &str, edits: Vec<Edit>) {
        self.out.push(Mutation {
            id: format!("{}: {what}", self.object.key),
            about: format!("{}: {what}", self.object.key),
            changes: vec![Change::Patch { key: self.object.key.clone(), edits }],
        });
    }

    /// One field gets another value.
    pub(super) fn bend(&mut self, pointer: &str, to: impl Into<Value>) {
        self.bend_with(pointer, to, Vec::new());
    }

    /// One field gets another value, and others follow it so that the object stays valid.
    fn bend_with(&mut self, pointer: &str, to: impl Into<Value>, mut along: Vec<Edit>) {
        let to = to.into();
        let what = match self.object.value.pointer(pointer) {
            Some(from) => format!("{pointer} {} → {}", short(from), short(&to)),
            None => format!("{pointer} → {}", short(&to)),
        };
        along.insert(0, set(pointer, to));
        self.push(&what, along);
    }

    /// Every scalar below `/spec` with its pointer, and the pointer's parts.
    fn leaves(&self) -> Vec<(String, Value)> {
        let mut out = Vec::new();
        walk(self.object.value.get("spec").unwrap_or(&Value::Null), "/spec", &mut |pointer, _, value| match value {
            Value::Object(_) => {}
            Value::Array(items) => {
                let scalars = items.iter().enumerate().filter(|(_, i)| !i.is_object() && !i.is_array());
                out.extend(scalars.map(|(i, item)| (format!("{pointer}/{i}"), item.clone())));
            }
            scalar => out.push((pointer.to_owned(), scalar.clone())),
        });
        out
    }

    /// Calls back with pointer, its parts after `spec`, and the value, for text and for numbers.
    pub(super) fn each(&mut self, mut visit: impl FnMut(&mut Self, &str, &[&str], &str, Option<u64>)) {
        for (pointer, value) in self.leaves() {
            let parts: Vec<&str> = pointer.split('/').skip(2).collect();
            visit(self, &pointer, &parts, value.as_str().unwrap_or_default(), value.as_u64());
        }
    }

    fn gateway(&mut self) {
        self.each(|b, pointer, parts, text, number| match parts {
            ["selector", _] => b.bend(pointer, format!("bent-{text}")),
            ["servers", _, "port", "number"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
            ["servers", i, "port", "protocol"] => {
                let tls = format!("/spec/servers/{i}/tls");
                let mode = b.text(&format!("{tls}/mode")).unwrap_or_default();
                match (text.to_ascii_uppercase().as_str(), mode) {
                    // HTTPS passes through just as TLS does: only another layer is another behaviour.
                    ("TLS" | "HTTPS", "PASSTHROUGH") => b.bend_with(pointer, "TCP", vec![Edit::Remove { pointer: tls }]),
                    ("TLS", _) => b.bend(pointer, "HTTPS"),
                    ("HTTPS", _) => b.bend(pointer, "TLS"),
                    ("TCP", _) => b.bend(pointer, "HTTP"),
                    // A plain server may have `tls` only to redirect.
                    (_, _) if b.object.value.pointer(&tls).is_some() => b.bend_with(pointer, "TCP", vec![Edit::Remove { pointer: tls }]),
                    _ => b.bend(pointer, "TCP"),
                }
            }
            ["servers", i, "tls", "mode"] => {
                let credential = b.text(&format!("/spec/servers/{i}/tls/credentialName")).is_some();
                match text {
                    "PASSTHROUGH" if credential => {}
                    "PASSTHROUGH" => b.bend(pointer, "ISTIO_MUTUAL"),
                    "SIMPLE" | "OPTIONAL_MUTUAL" if credential => b.bend(pointer, "MUTUAL"),
                    "MUTUAL" => b.bend(pointer, "SIMPLE"),
                    _ => b.bend(pointer, "PASSTHROUGH"),
                }
            }
            ["servers", _, "tls", "credentialName"] => b.bend(pointer, format!("bent-{text}")),
            ["servers", _, "tls", "httpsRedirect"] => {
                let redirects = b.object.value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default();
                b.bend(pointer, !redirects);
            }
            ["servers", _, "hosts", _] => b.bend(pointer, bent_host(text)),
            _ => {}
        });
    }

    fn virtual_service(&mut self) {
        let leaves = self.leaves();
        self.each(|b, pointer, parts, text, number| match parts {
            ["hosts", _] => {
                // sniHosts have to be among the hosts.
                let names_it = |(p, v): &&(String, Value)| p.contains("/sniHosts/") && v.as_str() == Some(text);
                let along = leaves.iter().filter(names_it).map(|(p, _)| set(p.as_str(), bent_host(text))).collect();
                b.bend_with(pointer, bent_host(text), along);
            }
            [.., "match", _, "sniHosts", _] => {
                let known = b.list("/spec/hosts").iter().any(|h| h.as_str() == Some(&bent_host(text)));
                let along = if known { Vec::new() } else { vec![set("/spec/hosts/-", bent_host(text))] };
                b.bend_with(pointer, bent_host(text), along);
            }
            ["gateways", _] | [.., "match", _, "gateways", _] => {
                let bent = text.rsplit_once('/').map_or_else(|| format!("bent-{text}"), |(ns, name)| format!("{ns}/bent-{name}"));
                b.bend(pointer, bent);
            }
            ["http", _, "match", _, "uri", how @ ("exact" | "prefix" | "regex")] => {
                let rest = text.strip_prefix('/').unwrap_or(text);
                b.bend(pointer, if *how == "regex" { format!("/bent{text}") } else { format!("/bent-{rest}") });
            }
            [.., "match", _, "port"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
            [.., "destination", "host"] => b.bend(pointer, bent_host(text)),
            [.., "destination", "port", "number"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
            [.., "destination", "subset"] => b.bend(pointer, format!("bent-{text}")),
            _ => {}
        });
        for (from, to) in [("tls", "tcp"), ("tls", "http"), ("tcp", "tls"), ("http", "tls")] {
            self.route_type(from, to);
        }
        for kind in ["http", "tls", "tcp"] {
            let routes = self.list(&format!("/spec/{kind}")).to_vec();
            if (1..routes.len()).any(|i| routes[..i].iter().any(|other| compete(other, &routes[i]))) {
                let reversed: Vec<Value> = routes.into_iter().rev().collect();
                self.push(&format!("/spec/{kind} in reverse order"), vec![set(format!("/spec/{kind}"), reversed)]);
            }
        }
        self.export_to();
    }

    /// The same destinations under another kind of route.
    fn route_type(&mut self, from: &str, to: &str) {
        let old = self.list(&format!("/spec/{from}"));
        let hosts = self.list("/spec/hosts").to_vec();
        let mut routes: Vec<Value> = self.list(&format!("/spec/{to}")).to_vec();
        for route in old {
            let mut matches: Vec<Value> = Vec::new();
            for old in route.get("match").and_then(Value::as_array).into_iter().flatten() {
                let mut kept: Map<String, Value> = old.as_object().cloned().unwrap_or_default();
                kept.retain(|key, _| ["port", "gateways", "sourceLabels", "sourceNamespace"].contains(&key.as_str()));
                matches.push(Value::Object(kept));
            }
            if to == "tls" {
                if matches.is_empty() {
                    matches.push(json!({}));
                }
                for one in matches.iter_mut().filter_map(Value::as_object_mut) {
                    one.insert("sniHosts".to_owned(), Value::Array(hosts.clone()));
                }
            }
            matches.retain(|m| m.as_object().is_some_and(|m| !m.is_empty()));
            let destinations: Vec<Value> =
                route.get("route").and_then(Value::as_array).into_iter().flatten().filter_map(plain_destination).collect();
            if destinations.is_empty() {
                continue;
            }
            let mut bent = Map::from_iter([("route".to_owned(), Value::Array(destinations))]);
            if !matches.is_empty() {
                bent.insert("match".to_owned(), Value::Array(matches));
            }
            routes.push(Value::Object(bent));
        }
        if !old.is_empty() && !routes.is_empty() {
            let edits = vec![set(format!("/spec/{to}"), routes), Edit::Remove { pointer: format!("/spec/{from}") }];
            self.push(&format!("/spec/{from} routes as {to}"), edits);
        }
    }

    fn destination_rule(&mut self) {
        self.each(|b, pointer, parts, text, number| match parts {
            ["host"] => b.bend(pointer, bent_host(text)),
            ["subsets", _, "name"] => b.bend(pointer, format!("bent-{text}")),
            ["subsets", _, "labels", _] => b.bend(pointer, format!("bent-{text}")),
            [.., "trafficPolicy", "tls", "mode"] | [.., "portLevelSettings", _, "tls", "mode"] => {
                let bent = match text {
                    "DISABLE" => "ISTIO_MUTUAL",
                    "MUTUAL" => "SIMPLE",
                    _ => "DISABLE",
                };
                b.bend(pointer, bent);
            }
            [.., "tls", "sni"] => b.bend(pointer, bent_host(text)),
            [.., "portLevelSettings", _, "port", "number"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
            _ => {}
        });
        self.export_to();
    }

    fn service_entry(&mut self) {
        let wildcard = self.list("/spec/hosts").iter().any(|h| h.as_str().is_some_and(|h| h.contains('*')));
        let endpoints = !self.list("/spec/endpoints").is_empty();
        self.each(|b, pointer, parts, text, number| match parts {
            ["hosts", _] => b.bend(pointer, bent_host(text)),
            ["ports", _, "number"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
            ["ports", _, "protocol"] => b.bend(pointer, if text.eq_ignore_ascii_case("HTTP") { "TLS" } else { "HTTP" }),
            ["resolution"] => match text {
                "NONE" if wildcard => {}
                "NONE" => b.bend(pointer, "DNS"),
                _ if endpoints => {}
                _ => b.bend(pointer, "NONE"),
            },
            ["location"] => b.bend(pointer, if text == "MESH_INTERNAL" { "MESH_EXTERNAL" } else { "MESH_INTERNAL" }),
            _ => {}
        });
        self.export_to();
    }

    fn authorization_policy(&mut self) {
        if !self.list("/spec/rules").is_empty() {
            let bent = if self.text("/spec/action") == Some("DENY") { "ALLOW" } else { "DENY" };
            self.bend("/spec/action", bent);
        }
        self.each(|b, pointer, parts, text, _| match parts {
            [.., "principals" | "notPrincipals", _] => b.bend(pointer, format!("{}-bent", text.trim_end_matches('*'))),
            ["selector", "matchLabels", _] => b.bend(pointer, format!("bent-{text}")),
            _ => {}
        });
    }

    /// Seen by others than intended, and not seen by those intended.
    fn export_to(&mut self) {
        let entries: Vec<Value> = self.list("/spec/exportTo").to_vec();
        if entries.is_empty() {
            return;
        }
        // A host that more proxies know stands in their configuration. Routes and rules that more namespaces see change
        // nothing where nobody calls from there: of those only the narrowing is a departure that a check can notice.
        if self.object.key.kind == "ServiceEntry" && !entries.contains(&json!("*")) {
            self.bend("/spec/exportTo", json!(["*"]));
        }
        let own = self.object.key.namespace.clone().unwrap_or_default();
        for (i, entry) in entries.iter().enumerate() {
            let bent = match entry.as_str().unwrap_or_default() {
                "." => format!("bent-{own}"),
                "*" => ".".to_owned(),
                other => format!("bent-{other}"),
            };
            self.bend(&format!("/spec/exportTo/{i}"), bent);
        }
    }
}

/// Whether the order of two routes can matter: some gateway has both. A route whose every match names gateways is only theirs.
fn compete(a: &Value, b: &Value) -> bool {
    let gateways = |route: &Value| -> Option<BTreeSet<String>> {
        let matches = route.get("match")?.as_array()?;
        let mut all = BTreeSet::new();
        for one in matches {
            all.extend(one.get("gateways")?.as_array()?.iter().filter_map(|g| g.as_str().map(str::to_owned)));
        }
        Some(all)
    };
    match (gateways(a), gateways(b)) {
        (Some(a), Some(b)) if a.is_disjoint(&b) => false,
        _ => !for_others(a, b),
    }
}

/// Whether no workload has the labels of both routes: each match of one wants another value of some label than each of the other.
fn for_others(a: &Value, b: &Value) -> bool {
    let matches = |route: &Value| route.get("match").and_then(Value::as_array).cloned().unwrap_or_default();
    let labels = |one: &Value| one.get("sourceLabels").and_then(Value::as_object).cloned().unwrap_or_default();
    let differ = |a: &Value, b: &Value| {
        let others = labels(b);
        labels(a).iter().any(|(key, value)| others.get(key).is_some_and(|other| other != value))
    };
    let (a, b) = (matches(a), matches(b));
    !a.is_empty() && !b.is_empty() && a.iter().all(|a| b.iter().all(|b| differ(a, b)))
}

/// Destination and weight: what every kind of route has.
fn plain_destination(old: &Value) -> Option<Value> {
    let mut kept = old.as_object()?.clone();
    kept.retain(|key, _| ["destination", "weight"].contains(&key.as_str()));
    Some(Value::Object(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_different_workloads_do_not_compete() {
        let route = |labels: Value| json!({"match": [{"port": 443, "sourceLabels": labels}]});
        let (a, b) = (route(json!({"app": "a"})), route(json!({"app": "b", "tier": "x"})));
        assert!(!compete(&a, &b) && compete(&a, &a));
        assert!(compete(&a, &route(json!({"tier": "x"}))), "a workload may have both");
        assert!(compete(&a, &json!({"match": [{"port": 443}]})) && compete(&a, &json!({})));
        let either = json!({"match": [{"sourceLabels": {"app": "b"}}, {"sourceLabels": {"app": "a"}}]});
        assert!(compete(&a, &either));
    }

    #[test]
    fn routes_of_different_gateways_do_not_compete() {
        let of = |gateway: &str| json!({"match": [{"gateways": [gateway]}]});
        assert!(!compete(&of("mesh"), &of("g")) && compete(&of("g"), &of("g")) && compete(&of("g"), &json!({})));
    }
}
