//! From objects of a cluster to the draft of a scenario: pure. What cannot be drafted is said, not passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use gateproof_core::names::{HostName, Namespaced, ScenarioId};
use gateproof_core::scenario::{Catalogue, default_gateways};
use serde_json::Value;

use super::File;
use super::template::schema_line;

/// What was read from a cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    /// The namespace that was asked for.
    pub(super) namespace: String,
    /// Its Namespace object.
    pub(super) home: Value,
    /// Its objects of the kinds that a draft has.
    pub(super) objects: Vec<Value>,
    /// Istio's Gateways of every namespace, for routes that are bound to one elsewhere.
    pub(super) gateways: Vec<Value>,
    /// Deployments with the labels of their pods.
    pub(super) workloads: Vec<(Namespaced, BTreeMap<String, String>)>,
}

/// What one call answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The status, where a response came.
    pub(super) status: Option<u16>,
    /// Else how the connection ended, as `expect.connection` has it; None where that cannot be expected.
    pub(super) ended: Option<String>,
    /// Route and cluster in the gateway's log line.
    pub(super) hop: Option<(String, String)>,
    /// Why nothing was seen.
    pub(super) why_not: Option<String>,
}

/// A check without its expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Its name.
    pub(super) name: String,
    /// Which object asks for it.
    pub(super) of: String,
    /// `outside` or a Deployment.
    pub(super) from: String,
    /// The gateway that is called.
    pub(super) gateway: Option<Namespaced>,
    url: String,
    method: Option<String>,
    headers: BTreeMap<String, String>,
    insecure: bool,
    /// Something that the draft had to guess.
    note: Option<String>,
}

/// A draft: everything of a scenario but what is expected.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    namespace: String,
    needs: Vec<ScenarioId>,
    gateways: BTreeMap<Namespaced, BTreeMap<String, String>>,
    outside: BTreeSet<String>,
    certificates: BTreeMap<String, BTreeSet<String>>,
    manifests: Vec<(String, String)>,
    /// The calls, in the order of the objects.
    pub(super) calls: Vec<Call>,
    left_out: Vec<(String, String)>,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    items(value, pointer).iter().filter_map(Value::as_str).collect()
}

fn title(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

/// A YAML scalar that is read back as this text.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The object as somebody would have written it: without status, and without what the API server and its clients keep.
pub(super) fn cleaned(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in
            ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "ownerReferences", "finalizers"]
        {
            meta.remove(key);
        }
        for key in ["annotations", "labels"] {
            let Some(held) = meta.get_mut(key).and_then(Value::as_object_mut) else { continue };
            held.retain(|name, _| {
                !name.starts_with("kubectl.kubernetes.io/") && name != "kubernetes.io/metadata.name" && !name.contains("gateproof")
            });
            if held.is_empty() {
                meta.remove(key);
            }
        }
    }
    if text(&object, "/kind") == "Namespace" {
        object.as_object_mut().map(|map| map.remove("spec"));
    }
    object
}

/// Drafts. `known` are the scenarios beside it: what they declare, the draft stands on.
pub(super) fn draft(live: &Live, known: &Catalogue, caller: Option<&Namespaced>) -> Draft {
    let mut draft = Draft { namespace: live.namespace.clone(), ..Draft::default() };
    for object in &live.objects {
        let kind = text(object, "/kind").to_ascii_lowercase();
        let mut file = format!("{kind}-{}.yaml", text(object, "/metadata/name"));
        // Both APIs have a Gateway, and a move from one to the other keeps its name.
        if draft.manifests.iter().any(|(taken, _)| *taken == file) {
            let group = text(object, "/apiVersion").split('/').next().unwrap_or_default();
            file = format!("{kind}-{group}-{}.yaml", text(object, "/metadata/name"));
        }
        match serde_saphyr::to_string(&cleaned(object)) {
            Ok(yaml) => draft.manifests.push((file, yaml)),
            Err(error) => draft.left_out.push((title(object), format!("it could not be written as YAML: {error}"))),
        }
        match text(object, "/kind") {
            "VirtualService" => virtual_service(&mut draft, live, object),
            "HTTPRoute" => http_route(&mut draft, live, object),
            "ServiceEntry" => service_entry(&mut draft, object, caller),
            _ => {}
        }
    }
    stand_on(&mut draft, live, known, caller);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for call in &mut draft.calls {
        let times = seen.entry(call.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            call.name = format!("{} ({times})", call.name);
        }
    }
    draft
}

/// Needs, and the namespace where no need has it.
fn stand_on(draft: &mut Draft, live: &Live, known: &Catalogue, caller: Option<&Namespaced>) {
    let declares = |kind: &str, namespace: Option<&str>, name: &str| {
        let has = |s: &&gateproof_core::scenario::Scenario| {
            let mut objects = s.manifests.iter().flat_map(|m| &m.objects);
            objects.any(|o| o.key.kind == kind && o.key.name == name && o.key.namespace.as_deref() == namespace)
        };
        // Of several, the one that stands on nothing: the others bring their own routes.
        known.scenarios.iter().filter(has).min_by_key(|s| s.needs.len()).map(|s| s.id.clone())
    };
    let mut needs: BTreeSet<ScenarioId> = declares("Namespace", None, &live.namespace).into_iter().collect();
    if needs.is_empty()
        && !live.home.is_null()
        && let Ok(yaml) = serde_saphyr::to_string(&cleaned(&live.home))
    {
        draft.manifests.insert(0, ("namespace.yaml".to_owned(), yaml));
    }
    needs.extend(caller.and_then(|c| declares("Deployment", Some(&c.namespace), &c.name)));
    let backends: BTreeSet<(String, String)> = live.objects.iter().flat_map(|o| backends(o, &live.namespace)).collect();
    for (namespace, name) in backends {
        match declares("Service", Some(&namespace), &name) {
            Some(id) => drop(needs.insert(id)),
            None if default_gateways().iter().any(|g| g.at.namespace == namespace && g.at.name == name) => {}
            None => draft.left_out.push((
                format!("Service {namespace}/{name} and what is behind it"),
                "no scenario declares it. Add its manifests, or run with --verify-only on the cluster that has it.".to_owned(),
            )),
        }
    }
    draft.needs = needs.into_iter().collect();
}

/// Services that an object's routes lead to.
fn backends(object: &Value, home: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for kind in ["http", "tls", "tcp"] {
        for route in items(object, &format!("/spec/{kind}")).iter().flat_map(|r| items(r, "/route")) {
            let parts: Vec<&str> = text(route, "/destination/host").split('.').collect();
            match parts.as_slice() {
                [name] if !name.is_empty() => out.push((home.to_owned(), (*name).to_owned())),
                [name, namespace, "svc", ..] => out.push(((*namespace).to_owned(), (*name).to_owned())),
                _ => {}
            }
        }
    }
    for backend in items(object, "/spec/rules").iter().flat_map(|r| items(r, "/backendRefs")) {
        let namespace = if text(backend, "/namespace").is_empty() { home } else { text(backend, "/namespace") };
        out.push((namespace.to_owned(), text(backend, "/name").to_owned()));
    }
    out
}

/// The Deployment that an Istio Gateway selects.
fn workload_of(live: &Live, gateway: &Value) -> Option<Namespaced> {
    let wanted = gateway.pointer("/spec/selector")?.as_object()?;
    let hit = |labels: &BTreeMap<String, String>| wanted.iter().all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str());
    let mut found = live.workloads.iter().filter(|(_, labels)| hit(labels)).map(|(at, _)| at.clone());
    found.next().filter(|_| !wanted.is_empty())
}

/// A name for a host that may be a pattern.
fn concrete(host: &str) -> Option<String> {
    let host = host.rsplit('/').next().unwrap_or(host);
    let host = if host == "*" { "any.example.com".to_owned() } else { host.replace("*.", "any.") };
    HostName::new(host).ok().map(|h| h.to_string())
}

/// Whether a Gateway's host takes a route's host in.
fn takes(server: &str, host: &str) -> bool {
    let server = server.rsplit('/').next().unwrap_or(server);
    server == "*"
        || server == host
        || host == "*"
        || server.strip_prefix('*').is_some_and(|end| host.trim_start_matches('*').ends_with(end))
}

/// A gateway that stands in no scenario has to be declared in this one.
fn declare(draft: &mut Draft, at: &Namespaced, gateway: &Value) {
    if default_gateways().iter().any(|g| g.at == *at) {
        return;
    }
    let labels = gateway.pointer("/spec/selector").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
    draft.gateways.insert(at.clone(), labels.collect());
}

fn virtual_service(draft: &mut Draft, live: &Live, object: &Value) {
    for name in texts(object, "/spec/gateways") {
        if name == "mesh" {
            continue;
        }
        let (namespace, name) = name.split_once('/').unwrap_or((text(object, "/metadata/namespace"), name));
        let is_it = |g: &&Value| text(g, "/metadata/name") == name && text(g, "/metadata/namespace") == namespace;
        let Some(gateway) = live.gateways.iter().find(is_it) else {
            draft.left_out.push((format!("{} at Gateway {namespace}/{name}", title(object)), "there is no such Gateway".to_owned()));
            continue;
        };
        let Some(at) = workload_of(live, gateway) else {
            let why = "its selector matches no Deployment's pods".to_owned();
            draft.left_out.push((format!("{} at Gateway {namespace}/{name}", title(object)), why));
            continue;
        };
        if namespace != live.namespace {
            let why = "it is in another namespace and was not exported; add its manifest".to_owned();
            draft.left_out.push((format!("Gateway {namespace}/{name}"), why));
        }
        declare(draft, &at, gateway);
        for server in items(gateway, "/spec/servers") {
            for host in texts(object, "/spec/hosts") {
                if texts(server, "/hosts").iter().any(|s| takes(s, host)) {
                    at_server(draft, object, gateway, server, &at, host);
                }
            }
        }
    }
}

/// The calls for one host of one VirtualService at one server of one Gateway.
fn at_server(draft: &mut Draft, object: &Value, gateway: &Value, server: &Value, at: &Namespaced, host: &str) {
    let what = format!("{} for {host}", title(object));
    let Some(host) = concrete(host) else { return };
    let (protocol, mode) = (text(server, "/port/protocol").to_ascii_uppercase(), text(server, "/tls/mode"));
    let number = server.pointer("/port/number").and_then(Value::as_u64).unwrap_or_default();
    let scheme = match (protocol.as_str(), mode) {
        ("HTTP" | "HTTP2" | "GRPC", _) => "http",
        ("HTTPS", _) | ("TLS", _) => "https",
        _ => {
            draft.left_out.push((what, format!("port {number} speaks {protocol}, for which no call is drafted")));
            return;
        }
    };
    let reached_as = if scheme == "http" { 80 } else { 443 };
    if number != reached_as {
        draft.left_out.push((what, format!("port {number} of the gateway is not reached from outside; 80 and 443 are")));
        return;
    }
    let secret = text(server, "/tls/credentialName");
    if !secret.is_empty() && !matches!(mode, "PASSTHROUGH" | "AUTO_PASSTHROUGH") {
        draft.certificates.entry(format!("{}/{secret}", at.namespace)).or_default().insert(host.clone());
    }
    if mode == "MUTUAL" {
        let why = "the gateway asks for a client certificate; the call is made without one. Add `clientCertificate`.".to_owned();
        draft.left_out.push((what.clone(), why));
    }
    let call = |name: String, path: &str| Call {
        name,
        of: format!("{} at {}", title(object), title(gateway)),
        from: "outside".to_owned(),
        gateway: Some(at.clone()),
        url: format!("{scheme}://{host}{path}"),
        method: None,
        headers: BTreeMap::new(),
        insecure: scheme == "https",
        note: None,
    };
    if matches!(mode, "PASSTHROUGH" | "AUTO_PASSTHROUGH") {
        draft.calls.push(call(format!("{host} is passed through"), "/"));
    } else {
        for (n, route) in items(object, "/spec/http").iter().enumerate() {
            let label = if text(route, "/name").is_empty() { format!("route {}", n + 1) } else { text(route, "/name").to_owned() };
            let matched = items(route, "/match").first().cloned().unwrap_or_default();
            let (path, guessed) = path_of(&matched["uri"]);
            let mut one = call(format!("{scheme} {host}: {label}"), &path);
            one.note = guessed;
            one.method = matched.pointer("/method/exact").and_then(Value::as_str).map(str::to_owned);
            let headers = matched["headers"].as_object().into_iter().flatten();
            for (name, wanted) in headers.filter(|(name, _)| !name.starts_with(':')) {
                match wanted["exact"].as_str().or(wanted["prefix"].as_str()) {
                    Some(value) => drop(one.headers.insert(name.clone(), value.to_owned())),
                    None => one.note = Some(format!("the route wants the header {name} in a way that has to be written by hand")),
                }
            }
            draft.calls.push(one);
        }
    }
    let mut nobody = call(format!("{scheme}: a host that nobody declared"), "/");
    nobody.url = format!("{scheme}://not-declared.gateproof.example/");
    nobody.of = format!("{}, for what it does not serve", title(gateway));
    if !draft.calls.iter().any(|c| c.url == nobody.url && c.gateway == nobody.gateway) {
        draft.calls.push(nobody);
    }
}

/// A path that a match takes, and what had to be guessed.
fn path_of(uri: &Value) -> (String, Option<String>) {
    let path = uri["exact"].as_str().or(uri["prefix"].as_str());
    match (path, uri["regex"].as_str()) {
        (Some(path), _) if path.starts_with('/') && !path.contains([' ', '#', '\n', '"']) => (path.to_owned(), None),
        (Some(path), _) => ("/".to_owned(), Some(format!("`{path}` cannot be called as it is; write a path that it takes"))),
        (None, Some(regex)) => ("/".to_owned(), Some(format!("the route wants a path like /{regex}/; write one"))),
        (None, None) => ("/".to_owned(), None),
    }
}

fn http_route(draft: &mut Draft, live: &Live, object: &Value) {
    for parent in items(object, "/spec/parentRefs") {
        let namespace =
            if text(parent, "/namespace").is_empty() { text(object, "/metadata/namespace") } else { text(parent, "/namespace") };
        let is_it = |g: &&Value| text(g, "/metadata/name") == text(parent, "/name") && text(g, "/metadata/namespace") == namespace;
        let of_api = |g: &&Value| text(g, "/apiVersion").starts_with("gateway.networking.k8s.io/");
        let what = format!("{} at Gateway {namespace}/{}", title(object), text(parent, "/name"));
        let Some(gateway) = live.objects.iter().filter(of_api).find(is_it) else {
            draft.left_out.push((what, "its Gateway is not in this namespace".to_owned()));
            continue;
        };
        // A Gateway that names a Service is served by its pods; any other gets a Deployment of its own from Istio.
        let named = items(gateway, "/spec/addresses").iter().find_map(|a| {
            let mut parts = text(a, "/value").split('.');
            let (name, namespace) = (parts.next()?, parts.next()?);
            let at = Namespaced::parse(&format!("{namespace}/{name}")).ok()?;
            live.workloads.iter().any(|(w, _)| *w == at).then_some(at)
        });
        let Some(at) = named else {
            draft
                .left_out
                .push((what, "the gateway's Deployment is made by Istio and has no port outside; write a call from a pod".to_owned()));
            continue;
        };
        for host in texts(object, "/spec/hostnames").iter().filter_map(|h| concrete(h)) {
            for (n, rule) in items(object, "/spec/rules").iter().enumerate() {
                let matched = items(rule, "/matches").first().cloned().unwrap_or_default();
                let (kind, value) = (matched.pointer("/path/type").and_then(Value::as_str), text(&matched, "/path/value"));
                let path = if value.starts_with('/') && kind != Some("RegularExpression") { value } else { "/" };
                let note = (kind == Some("RegularExpression")).then(|| format!("the route wants a path like /{value}/; write one"));
                draft.calls.push(Call {
                    name: format!("http {host}: rule {}", n + 1),
                    of: what.clone(),
                    from: "outside".to_owned(),
                    gateway: Some(at.clone()),
                    url: format!("http://{host}{path}"),
                    method: matched["method"].as_str().map(str::to_owned),
                    headers: BTreeMap::new(),
                    insecure: false,
                    note,
                });
            }
        }
    }
}

fn service_entry(draft: &mut Draft, object: &Value, caller: Option<&Namespaced>) {
    for host in texts(object, "/spec/hosts") {
        let Ok(host) = HostName::new(host) else {
            draft.left_out.push((format!("{} for {host}", title(object)), "a pattern has no address of its own".to_owned()));
            continue;
        };
        draft.outside.insert(host.to_string());
        for port in items(object, "/spec/ports") {
            let (number, protocol) = (port["number"].as_u64().unwrap_or_default(), text(port, "/protocol").to_ascii_uppercase());
            let scheme = match (number, protocol.as_str()) {
                (80, "HTTP") => "http",
                (443, "TLS" | "HTTPS") => "https",
                _ => {
                    let what = format!("{} for {host}:{number}", title(object));
                    draft.left_out.push((what, format!("no call is drafted for {protocol} on this port; stand-ins serve 80 and 443")));
                    continue;
                }
            };
            let Some(caller) = caller else {
                let why = "nobody was named who calls it; draft again with --caller NAMESPACE/NAME, or write an `http` check".to_owned();
                draft.left_out.push((format!("{} for {scheme}://{host}", title(object)), why));
                continue;
            };
            draft.calls.push(Call {
                name: format!("{scheme} {host} from {}", caller.name),
                of: title(object),
                from: caller.to_string(),
                gateway: None,
                url: format!("{scheme}://{host}/"),
                method: None,
                headers: BTreeMap::new(),
                insecure: false,
                note: None,
            });
        }
    }
}

impl Draft {
    /// The files, with what each call answered; a call without an answer expects `TODO`, which is no status, so that `lint`
    /// names it and nothing runs before somebody has decided.
    pub(super) fn files(&self, id: &ScenarioId, answers: &[Option<Seen>], when: &str) -> Vec<File> {
        let mut out = vec![(format!("{id}/scenario.yaml"), self.scenario(id, answers, when))];
        out.extend(self.manifests.iter().map(|(file, text)| (format!("{id}/{file}"), text.clone())));
        out
    }

    fn scenario(&self, id: &ScenarioId, answers: &[Option<Seen>], when: &str) -> String {
        let mut out = schema_line(id);
        let _ = write!(
            out,
            "# Drafted from what stood in the namespace {ns}. What is expected below is what was seen once: it says how things are, not\n\
             # how they should be. Confirm or correct each line, say in `proves` what it shows, and take these comments away.\n\
             title: The gateway configuration of {ns}\ntags: [draft]\n",
            ns = self.namespace
        );
        let needs: Vec<&str> = self.needs.iter().map(ScenarioId::as_str).collect();
        if !needs.is_empty() {
            let _ = writeln!(out, "needs: [{}]", needs.join(", "));
        }
        if !self.gateways.is_empty() {
            out.push_str("gateways:\n");
            for (at, labels) in &self.gateways {
                let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{}: {}", quoted(k), quoted(v))).collect();
                let _ = writeln!(out, "  - {{at: {at}, labels: {{{}}}}}", labels.join(", "));
            }
        }
        if !self.outside.is_empty() {
            let _ = writeln!(out, "outside: [{}]", self.outside.iter().cloned().collect::<Vec<_>>().join(", "));
        }
        if !self.certificates.is_empty() {
            out.push_str("certificates:\n  # Made for a run on a cluster of gateproof's own; the cluster's secrets were not read.\n");
            for (secret, hosts) in &self.certificates {
                let _ = writeln!(out, "  - {{secret: {secret}, hosts: [{}]}}", hosts.iter().cloned().collect::<Vec<_>>().join(", "));
            }
        }
        out.push_str("manifests:\n");
        for (file, _) in &self.manifests {
            let _ = writeln!(out, "  - {}", quoted(file));
        }
        out.push_str("\nchecks:\n");
        for (n, call) in self.calls.iter().enumerate() {
            check(&mut out, call, answers.get(n).and_then(Option::as_ref), when);
        }
        if self.calls.is_empty() {
            out.push_str("  []    # TODO: nothing here could be drafted as a call; notTested below says why\n");
        }
        if !self.left_out.is_empty() {
            out.push_str("\nnotTested:\n");
            for (what, why) in &self.left_out {
                let _ = writeln!(out, "  - what: {}\n    why: {}", quoted(what), quoted(why));
            }
        }
        out
    }
}

fn check(out: &mut String, call: &Call, seen: Option<&Seen>, when: &str) {
    let _ = writeln!(out, "  - name: {}", quoted(&call.name));
    let about = match seen.and_then(|s| s.status) {
        Some(status) => format!("{} as it was on {when}: {} answers {status}.", call.of, call.url),
        None => format!("{}: what {} answers.", call.of, call.url),
    };
    let _ = writeln!(out, "    proves: {}", quoted(&about));
    if let Some(note) = &call.note {
        let _ = writeln!(out, "    # TODO: {}", note.replace('\n', " "));
    }
    let mut parts = vec![format!("from: {}", call.from)];
    parts.extend(call.gateway.as_ref().map(|g| format!("gateway: {g}")));
    parts.push(format!("url: {}", quoted(&call.url)));
    parts.extend(call.method.as_ref().map(|m| format!("method: {}", quoted(m))));
    if !call.headers.is_empty() {
        let headers: Vec<String> = call.headers.iter().map(|(k, v)| format!("{}: {}", quoted(k), quoted(v))).collect();
        parts.push(format!("headers: {{{}}}", headers.join(", ")));
    }
    if call.insecure {
        parts.push("verify: insecure".to_owned());
    }
    let _ = writeln!(out, "    http: {{{}}}", parts.join(", "));
    let path = || {
        let (gateway, (route, cluster)) = (call.gateway.as_ref()?, seen?.hop.as_ref()?);
        let field = |name: &str, value: &str| (!matches!(value, "" | "-")).then(|| format!(", {name}: {}", quoted(value)));
        let fields = [field("route", route), field("cluster", cluster)].into_iter().flatten().collect::<String>();
        Some(format!("\n      path: [{{proxy: {gateway}{fields}}}]"))
    };
    let path = path().unwrap_or_default();
    let _ = match seen {
        Some(Seen { status: Some(status), .. }) => {
            writeln!(out, "    # Seen once, on {when}. Is it what you want?\n    expect:\n      status: {status}{path}")
        }
        Some(Seen { ended: Some(ended), .. }) => {
            writeln!(out, "    # Seen once, on {when}. Is it what you want?\n    expect:\n      connection: {ended}{path}")
        }
        Some(Seen { why_not: Some(why), .. }) => {
            writeln!(out, "    # {}\n    expect: {{status: TODO}}", why.replace('\n', " "))
        }
        _ => writeln!(out, "    # No call was made. Which status is right?\n    expect: {{status: TODO}}"),
    };
}
