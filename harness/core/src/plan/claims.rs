//! What a scenario has to have for itself while it runs, and what it only uses: whether another can run beside it.
//!
//! Claims are wide on purpose. Two scenarios that could run beside each other and do not cost time; two that disturb each other
//! cost the belief in every outcome.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::order::selected;
use super::refs::{GATEWAY_API, ISTIO, Target, qualified, references};
use super::{Known, PlannedScenario, Stage, StateObjects, objects_in};
use crate::names::{Namespaced, ObjectKey};
use crate::scenario::{Caller, Check, Expectation, HopExpect, KubeObject, Probe, Scenario};

/// Where objects hold for the whole mesh.
const ROOT: &str = "istio-system";

/// Something that scenarios may get in each other's way over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The whole mesh: every scenario uses it, one that sets what holds for all has it alone.
    Mesh,
    /// What holds for all workloads of a namespace.
    Namespace(String),
    /// What a gateway listens for and does.
    Gateway(Namespaced),
    /// A workload: how many pods it has, what its log says.
    Workload(Namespaced),
    /// A host as callers in the mesh know it; the first label may be `*`.
    Host(String),
    /// A port on which callers in the mesh meet every host at once, by what is spoken there.
    Port(u64, &'static str),
    /// An object of the Kubernetes API; of its version, the group alone.
    Object(ObjectKey),
}

impl Claim {
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => hosts_meet(a, b),
            // Hosts share a port as long as they speak the same on it.
            (Self::Port(a, speaks), Self::Port(b, other)) => a == b && speaks != other,
            _ => self == other,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh => f.write_str("the whole mesh"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Gateway(at) => write!(f, "gateway {at}"),
            Self::Workload(at) => write!(f, "workload {at}"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Port(port, speaks) => write!(f, "{speaks} on port {port}"),
            Self::Object(key) => write!(f, "{key}"),
        }
    }
}

/// A host, whichever of its names is used: `httpbin.mesh-test` and `httpbin.mesh-test.svc.cluster.local` are one.
fn host(name: &str, namespace: &str) -> Claim {
    let name = qualified(name, namespace);
    let short = [".svc.cluster.local", ".svc"].iter().find_map(|suffix| name.strip_suffix(suffix));
    // `*.local` covers Services, whose names are short here.
    let short = short.or_else(|| ".svc.cluster.local".ends_with(name.strip_prefix('*')?).then_some("*"));
    Claim::Host(short.unwrap_or(&name).to_ascii_lowercase())
}

fn object(key: &ObjectKey) -> Claim {
    Claim::Object(ObjectKey { api_version: key.group().to_owned(), ..key.clone() })
}

/// Whether two hosts, each of them perhaps with `*` as its first label, can be the same.
fn hosts_meet(a: &str, b: &str) -> bool {
    let covers = |wild: &str, host: &str| wild.strip_prefix('*').is_some_and(|rest| host.trim_start_matches('*').ends_with(rest));
    a == b || covers(a, b) || covers(b, a)
}

/// What a scenario claims in some of its states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    alone: BTreeSet<Claim>,
    shared: BTreeSet<Claim>,
}

impl Claims {
    /// Of a scenario in these of its states.
    #[must_use]
    pub fn of(planned: &PlannedScenario, stages: &[&Stage]) -> Self {
        let mut claims = Self::of_objects(planned);
        let known = planned.known();
        for stage in stages {
            match objects_in(&planned.scenario, &stage.state) {
                Ok(target) => claims.add_state(&target, &known),
                // The engine will say why; until then nobody is disturbed.
                Err(_) => claims.have_alone(Claim::Mesh),
            }
            if planned.scenario.variations.iter().any(|v| v.name == stage.state && v.refused) {
                claims.have_alone(Claim::Mesh);
            }
            for check in stage.checks.iter().map(|i| &planned.scenario.checks[*i]) {
                claims.add_check(check, &known);
            }
        }
        claims
    }

    /// Of what stands beneath others: its objects, as they are declared.
    #[must_use]
    pub fn beneath(scenario: &Scenario, known: &Known<'_>) -> Self {
        let mut claims = Self::default();
        claims.add_state(&StateObjects::intact(scenario), known);
        claims.add_made(scenario);
        claims
    }

    /// Whether one state of the mesh cannot be shared with anybody.
    #[must_use]
    pub fn is_of_the_mesh(&self) -> bool {
        self.alone.contains(&Claim::Mesh)
    }

    /// What two scenarios would disturb each other over, the first thing; None when they can run beside each other.
    #[must_use]
    pub fn clash<'a>(&'a self, other: &'a Self) -> Option<&'a Claim> {
        let of = |alone: &'a BTreeSet<Claim>, other: &'a Self| {
            alone.iter().find(|claim| other.alone.iter().chain(&other.shared).any(|there| claim.meets(there)))
        };
        of(&self.alone, other).or_else(|| of(&other.alone, self))
    }

    fn of_objects(planned: &PlannedScenario) -> Self {
        let mut claims = Self { shared: BTreeSet::from([Claim::Mesh]), ..Self::default() };
        claims.add_made(&planned.scenario);
        for object in planned.beneath.iter().flat_map(|s| &s.manifests).flat_map(|m| &m.objects) {
            claims.use_object(&object.key);
        }
        claims
    }

    /// What the harness makes for a scenario.
    fn add_made(&mut self, scenario: &Scenario) {
        for gateway in &scenario.gateways {
            self.have_alone(Claim::Gateway(gateway.at.clone()));
        }
        let made = |kind: &str, namespace: &str, name: &str| {
            let (namespace, name) = (Some(namespace.to_owned()), name.to_owned());
            object(&ObjectKey { api_version: "v1".to_owned(), kind: kind.to_owned(), namespace, name })
        };
        for certificate in &scenario.certificates {
            self.have_alone(made("Secret", &certificate.secret.namespace, &certificate.secret.name));
        }
        for namespace in &scenario.run_config {
            self.have_alone(made("ConfigMap", namespace, "gateproof-run"));
        }
    }

    fn have_alone(&mut self, claim: Claim) {
        self.alone.insert(claim);
    }

    fn share(&mut self, claim: Claim) {
        self.shared.insert(claim);
    }

    /// An object that is there for it, and that others may use too.
    fn use_object(&mut self, key: &ObjectKey) {
        self.share(object(key));
        let Some(namespace) = &key.namespace else { return };
        self.share(Claim::Namespace(namespace.clone()));
        let at = Namespaced { namespace: namespace.clone(), name: key.name.clone() };
        match key.kind.as_str() {
            "Deployment" | "StatefulSet" => self.share(Claim::Workload(at)),
            "Service" => self.share(host(&key.name, namespace)),
            _ => {}
        }
    }

    fn add_state(&mut self, target: &StateObjects, known: &Known<'_>) {
        for object in &target.objects {
            self.add_object(object, &target.objects, known);
        }
        for workload in target.scale.keys() {
            self.have_alone(Claim::Workload(workload.clone()));
            self.have_alone(Claim::Gateway(workload.clone()));
        }
        if !target.control_plane.is_empty() {
            self.have_alone(Claim::Mesh);
        }
    }

    fn add_object(&mut self, declared: &KubeObject, own: &[KubeObject], known: &Known<'_>) {
        let key = &declared.key;
        self.have_alone(object(key));
        for target in references(declared).into_iter().map(|r| r.target) {
            if let Target::Host { host: name, .. } = target {
                self.share(host(&name, ""));
            }
        }
        let Some(namespace) = &key.namespace else {
            if key.kind == "Namespace" {
                self.have_alone(Claim::Namespace(key.name.clone()));
            }
            return;
        };
        self.share(Claim::Namespace(namespace.clone()));
        let at = Namespaced { namespace: namespace.clone(), name: key.name.clone() };
        let spec = declared.value.get("spec").unwrap_or(&Value::Null);
        match (key.group(), key.kind.as_str()) {
            (ISTIO, "Gateway") => self.add_selected(declared, known),
            (ISTIO, "VirtualService") => self.add_virtual_service(declared, spec, own, known),
            (ISTIO, "DestinationRule") => {
                let claim = host(spec.get("host").and_then(Value::as_str).unwrap_or("*"), namespace);
                // A gateway's Service: who is sent through it notices.
                let gateways = known.gateways.iter().filter(|g| host(&g.at.name, &g.at.namespace).meets(&claim));
                let gateways: Vec<Namespaced> = gateways.map(|g| g.at.clone()).collect();
                gateways.into_iter().for_each(|at| self.have_alone(Claim::Gateway(at)));
                self.have_alone(claim);
            }
            (ISTIO, "ServiceEntry") => self.add_service_entry(spec, namespace),
            (GATEWAY_API, "Gateway") => self.add_deployed(at, spec, known),
            (GATEWAY_API, kind) if kind.ends_with("Route") => self.add_route(spec, namespace),
            (group, _) if group == ISTIO || group.ends_with(".istio.io") => self.add_policy(declared, known, namespace),
            // A grant, or a policy of Gateway API: what it makes of others' references is not followed up.
            (GATEWAY_API, _) => self.have_alone(Claim::Namespace(namespace.clone())),
            ("", "Service") => self.add_service(&key.name, namespace, spec),
            ("", "ConfigMap") if namespace == ROOT => self.have_alone(Claim::Mesh),
            ("apps" | "batch", _) | ("", "Pod") => self.add_workload(at, &declared.value, known),
            ("autoscaling", _) => {
                let name = spec.pointer("/scaleTargetRef/name").and_then(Value::as_str).unwrap_or(&key.name).to_owned();
                let target = Namespaced { namespace: namespace.clone(), name };
                self.have_alone(Claim::Workload(target.clone()));
                self.have_alone(Claim::Gateway(target));
            }
            ("" | "policy" | "rbac.authorization.k8s.io", _) => {}
            // Ingress, slices of endpoints, listener sets, whatever else there is: what they do is not followed up.
            _ => self.have_alone(Claim::Mesh),
        }
    }

    /// A Gateway that istiod deploys, or one on a gateway that is there. Its Deployment has the class behind its name.
    fn add_deployed(&mut self, at: Namespaced, spec: &Value, known: &Known<'_>) {
        for address in spec.get("addresses").and_then(Value::as_array).into_iter().flatten() {
            let name = host(address.get("value").and_then(Value::as_str).unwrap_or_default(), &at.namespace);
            let borrowed = known.gateways.iter().filter(|g| host(&g.at.name, &g.at.namespace).meets(&name));
            borrowed.for_each(|g| self.have_alone(Claim::Gateway(g.at.clone())));
        }
        self.have_alone(Claim::Gateway(at));
    }

    fn add_service(&mut self, name: &str, namespace: &str, spec: &Value) {
        self.have_alone(host(name, namespace));
        for port in spec.get("ports").and_then(Value::as_array).into_iter().flatten() {
            let named = port.get("appProtocol").or_else(|| port.get("name")).and_then(Value::as_str).unwrap_or_default();
            let is_http = ["http", "grpc"].iter().any(|p| named.starts_with(p)) && !named.starts_with("https");
            // Others have a listener at the Service's own address.
            if let Some(number) = port.get("port").and_then(Value::as_u64).filter(|_| is_http) {
                self.have_alone(Claim::Port(number, "HTTP"));
            }
        }
    }

    /// Pods, which may be endpoints of a Service that others call.
    fn add_workload(&mut self, at: Namespaced, declared: &Value, known: &Known<'_>) {
        let labels = declared.pointer("/spec/template/metadata/labels").or_else(|| declared.pointer("/metadata/labels"));
        for service in known.beneath.iter().filter(|o| o.key.kind == "Service" && o.key.namespace.as_ref() == Some(&at.namespace)) {
            let wanted = service.value.pointer("/spec/selector").and_then(Value::as_object).filter(|wanted| !wanted.is_empty());
            if wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))) {
                self.have_alone(host(&service.key.name, &at.namespace));
            }
        }
        self.have_alone(Claim::Workload(at));
    }

    /// A policy, a Sidecar, an EnvoyFilter: of the gateways that it selects, of its namespace, of the whole mesh.
    fn add_policy(&mut self, object: &KubeObject, known: &Known<'_>, namespace: &str) {
        let labels = ["/spec/selector/matchLabels", "/spec/workloadSelector/labels"].iter().find_map(|at| object.value.pointer(at));
        let selects = labels.and_then(Value::as_object).is_some_and(|labels| !labels.is_empty());
        match (selects, namespace == ROOT) {
            (true, _) => {
                let wanted = serde_json::json!({"spec": {"selector": labels}});
                let gateway = KubeObject { key: object.key.clone(), value: wanted, line: object.line };
                self.add_selected(&gateway, known);
                if namespace != ROOT {
                    self.have_alone(Claim::Namespace(namespace.to_owned()));
                }
            }
            (false, true) => self.have_alone(Claim::Mesh),
            (false, false) => self.have_alone(Claim::Namespace(namespace.to_owned())),
        }
    }

    /// The gateways whose pods an object selects. Where it selects none that is known, the pods may be anywhere: a Gateway's
    /// selector holds in every namespace, and so does that of a policy in the root namespace.
    fn add_selected(&mut self, object: &KubeObject, known: &Known<'_>) {
        let gateways: Vec<Namespaced> = selected(object, known).into_iter().map(|g| g.at.clone()).collect();
        if gateways.is_empty() && (object.key.kind == "Gateway" || object.key.namespace.as_deref() == Some(ROOT)) {
            self.have_alone(Claim::Mesh);
        }
        gateways.into_iter().for_each(|at| self.have_alone(Claim::Gateway(at)));
    }

    fn add_virtual_service(&mut self, object: &KubeObject, spec: &Value, own: &[KubeObject], known: &Known<'_>) {
        let namespace = object.key.namespace.as_deref().unwrap_or("default");
        let listed = spec.get("gateways").and_then(Value::as_array);
        if texts(spec.get("hosts")).next().is_none() {
            // A delegate: where its root holds is not followed up.
            self.have_alone(Claim::Mesh);
        }
        let in_mesh = listed.is_none_or(|list| list.is_empty() || list.iter().any(|g| g == "mesh"));
        if in_mesh {
            for name in texts(spec.get("hosts")) {
                self.have_alone(host(name, namespace));
            }
        }
        for target in references(object).into_iter().map(|r| r.target) {
            let Target::Object { group, kind, at } = target else { continue };
            if (group, kind.as_str()) != (ISTIO, "Gateway") {
                continue;
            }
            let is_it = |o: &&KubeObject| {
                o.key.group() == ISTIO
                    && o.key.kind == "Gateway"
                    && o.key.namespace.as_ref() == Some(&at.namespace)
                    && o.key.name == at.name
            };
            if let Some(gateway) = own.iter().find(is_it).or_else(|| known.beneath.iter().copied().find(is_it)) {
                self.add_selected(gateway, known);
            }
        }
    }

    fn add_service_entry(&mut self, spec: &Value, namespace: &str) {
        for name in texts(spec.get("hosts")) {
            self.have_alone(host(name, namespace));
        }
        // What is told apart by no host takes a whole port: other hosts' calls would go to it. HTTP on 443 is such a one, too.
        let speaks = |protocol: &str, port: u64| match protocol {
            "HTTP" | "HTTP2" | "GRPC" if port != 443 => Some("HTTP"),
            "HTTPS" | "TLS" => Some("TLS"),
            _ => None,
        };
        for port in spec.get("ports").and_then(Value::as_array).into_iter().flatten() {
            let number = port.get("number").and_then(Value::as_u64).unwrap_or_default();
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
            let only_here = spec.get("exportTo").is_some() && texts(spec.get("exportTo")).all(|to| to == ".");
            self.have_alone(match speaks(&protocol, number) {
                Some(speaks) => Claim::Port(number, speaks),
                None if only_here => Claim::Namespace(namespace.to_owned()),
                None => Claim::Mesh,
            });
        }
    }

    fn add_route(&mut self, spec: &Value, namespace: &str) {
        for parent in spec.get("parentRefs").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| parent.get(key).and_then(Value::as_str);
            let at = text("namespace").unwrap_or(namespace).to_owned();
            let name = text("name").unwrap_or_default().to_owned();
            self.have_alone(match text("kind") {
                Some("Service") => host(&name, &at),
                _ => Claim::Gateway(Namespaced { namespace: at, name }),
            });
        }
    }

    fn add_check(&mut self, check: &Check, known: &Known<'_>) {
        for workload in check.workloads() {
            // What istiod deploys for a Gateway has its name, and the class behind it.
            if let Some(name) = workload.name.strip_suffix("-istio") {
                self.share(Claim::Gateway(Namespaced { name: name.to_owned(), ..workload.clone() }));
            }
            self.share(Claim::Workload(workload.clone()));
            self.share(Claim::Gateway(workload));
        }
        if let Expectation::Call(call) = &check.expect {
            let unmatched =
                |hop: &HopExpect| hop.cluster.as_deref().is_some_and(|c| ["PassthroughCluster", "BlackHoleCluster"].contains(&c));
            // Whether a server name is read of what no host takes depends on every host of the port.
            if call.path.iter().any(|hop| unmatched(hop) && hop.sni.is_some()) {
                self.have_alone(Claim::Mesh);
            }
        }
        match &check.probe {
            Probe::ProxyStatus | Probe::Versions => self.have_alone(Claim::Mesh),
            Probe::Logs(probe) => {
                let at = &probe.workload;
                let is_gateway = known.gateways.iter().any(|g| g.at == *at);
                // istiod's log speaks of everything.
                self.have_alone(match (is_gateway, at.namespace == ROOT) {
                    (true, _) => Claim::Gateway(at.clone()),
                    (false, true) => Claim::Mesh,
                    (false, false) => Claim::Workload(at.clone()),
                });
            }
            Probe::Exec(probe) => {
                for name in probe.command.iter().flat_map(|word| hosts_of_words(word)) {
                    self.share(host(&name, &probe.workload.namespace));
                }
            }
            Probe::Http(probe) => {
                let namespace = match &probe.from {
                    Caller::Workload(workload) => workload.namespace.as_str(),
                    Caller::Outside => "",
                };
                for name in [Some(&probe.host), probe.sni.as_ref()].into_iter().flatten() {
                    self.share(host(name.as_str(), namespace));
                }
            }
            Probe::Object(key) => {
                self.share(object(key));
                // Its status tells of what others attach to it.
                if let (GATEWAY_API, "Gateway", Some(namespace)) = (key.group(), key.kind.as_str(), &key.namespace) {
                    self.share(Claim::Gateway(Namespaced { namespace: namespace.clone(), name: key.name.clone() }));
                }
            }
            Probe::ProxyConfig(probe) => {
                // `outbound|443|subset|host`, perhaps with `*` for any text.
                if let Some((_, name)) = probe.name.rsplit_once('|') {
                    self.share(host(name, &probe.workload.namespace));
                }
            }
            Probe::Pods { .. } | Probe::Analyze { .. } => {}
        }
    }
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whatever in a command may be the name of a host.
fn hosts_of_words(text: &str) -> Vec<String> {
    let stops = |c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '*');
    let of_urls = text.split("://").skip(1).filter_map(|rest| rest.split(stops).next());
    let dotted = text.split(stops).filter(|word| word.contains('.') && word.contains(|c: char| c.is_ascii_alphabetic()));
    of_urls.chain(dotted).map(|name| name.trim_matches('.').to_owned()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Schedule, plan};
    use crate::scenario::tests::load;

    /// What two scenarios clash over; each is a manifest, and what stands in its scenario.yaml below the manifests.
    fn clash(a: (&str, &str), b: (&str, &str)) -> Option<String> {
        let scenario = |more: &str| format!("title: t\nneeds: [base]\nmanifests: [m.yaml]\n{more}");
        let base = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: caller, namespace: x}\n\
                    ---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: x}\nspec: {selector: {app: web}}\n";
        let whole = format!("title: b\nmanifests: [m.yaml]\n{CHECK}");
        let catalogue = load(&[
            ("base/m.yaml", base),
            ("base/scenario.yaml", &whole),
            ("a/m.yaml", a.0),
            ("a/scenario.yaml", &scenario(a.1)),
            ("b/m.yaml", b.0),
            ("b/scenario.yaml", &scenario(b.1)),
        ]);
        assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        let schedule = Schedule::of(&plan(&catalogue, &|id, _| id.as_str() != "base"));
        assert_eq!(schedule.units().len(), 2);
        schedule.clash(0, 1)
    }

    const CHECK: &str = "checks: [{name: a, proves: p, pods: {of: [x/caller]}, expect: {ready: 1/1}}]";

    fn entry(host: &str, protocol: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: x}}\nspec: {{hosts: ['{host}'], \
             ports: [{{number: 443, name: p, protocol: {protocol}}}]}}\n",
            name = host.replace(['.', '*'], "-").trim_matches('-')
        )
    }

    fn gateway(name: &str, selects: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: x}}\nspec: {{selector: {{istio: {selects}}}, \
             servers: [{{port: {{number: 80, name: h, protocol: HTTP}}, hosts: [{name}.org]}}]}}\n"
        )
    }

    fn object(kind: &str, group: &str, spec: &str) -> String {
        format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: o, namespace: x}}\nspec: {spec}\n")
    }

    #[test]
    fn hosts_gateways_and_namespaces_keep_scenarios_apart_and_nothing_else_does() {
        let on = |a: &str, b: &str| clash((a, CHECK), (b, CHECK));
        assert_eq!(on(&entry("a.org", "TLS"), &entry("b.org", "TLS")), None);
        assert_eq!(on(&entry("a.org", "TLS"), &gateway("g", "ingressgateway")), None);
        assert_eq!(on(&gateway("g", "egressgateway"), &gateway("h", "ingressgateway")), None);
        assert_eq!(on(&gateway("g", "egressgateway"), &gateway("h", "egressgateway")).unwrap(), "gateway istio-system/istio-egressgateway");
        let wide = on(&entry("*.b.org", "TLS"), &entry("a.b.org", "TLS").replace("name: a-b-org", "name: other")).unwrap();
        assert!(wide.starts_with("host "), "{wide}");
        let strict = object("PeerAuthentication", "security.istio.io", "{mtls: {mode: STRICT}}");
        assert_eq!(on(&strict, &entry("b.org", "TLS")).unwrap(), "namespace x");
        let rule = object("DestinationRule", "networking.istio.io", "{host: web}");
        let calls =
            "checks: [{name: a, proves: p, exec: {in: x/caller, command: [curl, 'http://web:80/']}, expect: {stdout: {equals: x}}}]";
        assert_eq!(clash((&rule, CHECK), (&entry("b.org", "TLS"), calls)).unwrap(), "host web.x");
        let full = calls.replace("http://web:80/", "http://web.x.svc.cluster.local/");
        assert_eq!(clash((&rule, CHECK), (&entry("b.org", "TLS"), &full)).unwrap(), "host web.x");
    }

    #[test]
    fn hosts_share_a_port_on_which_they_speak_the_same() {
        let on = |a: &str, b: &str| {
            let entry = |host: &str, protocol: &str| entry(host, protocol).replace("number: 443", "number: 8443");
            clash((&entry("a.org", a), CHECK), (&entry("b.org", b), CHECK))
        };
        assert_eq!([on("TLS", "HTTPS"), on("HTTP", "GRPC")], [None, None]);
        assert_eq!(on("TLS", "HTTP").unwrap(), "TLS on port 8443");
    }

    #[test]
    fn pods_of_a_service_beneath_have_it_alone() {
        let pods = |app: &str| {
            let labels = format!("{{metadata: {{labels: {{app: {app}}}}}}}");
            object("Deployment", "apps", &format!("{{selector: {{}}, template: {labels}}}"))
        };
        let calls = "checks: [{name: a, proves: p, exec: {in: x/caller, command: [curl, 'http://web/']}, expect: {stdout: {equals: x}}}]";
        assert_eq!(clash((&pods("web"), CHECK), (&entry("b.org", "TLS"), calls)).unwrap(), "host web.x");
        assert_eq!(clash((&pods("other"), CHECK), (&entry("b.org", "TLS"), calls)), None);
    }

    #[test]
    fn a_port_without_hosts_is_everybodys() {
        let on = |protocol: &str| clash((&entry("a.org", protocol), CHECK), (&entry("b.org", "TLS"), CHECK));
        assert_eq!([on("TLS"), on("HTTPS")], [None, None]);
        assert_eq!([on("TCP"), on("HTTP")], [Some("the whole mesh".to_owned()), Some("the whole mesh".to_owned())]);
    }

    #[test]
    fn a_log_is_read_alone_and_what_concerns_all_is_asked_alone() {
        let with = |check: &str| {
            let check = format!("checks: [{{name: a, proves: p, {check}}}]");
            clash((&entry("a.org", "TLS"), &check), (&entry("b.org", "TLS"), CHECK))
        };
        assert_eq!(with("logs: {of: x/caller}, expect: {contains: x}").unwrap(), "workload x/caller");
        assert_eq!(with("logs: {of: istio-system/istiod, container: discovery}, expect: {contains: x}").unwrap(), "the whole mesh");
        assert_eq!(with("proxyStatus: , expect: {synced: true}").unwrap(), "the whole mesh");
        assert_eq!(with("proxyConfig: {of: x/caller, clusters: 'outbound|443||a.org'}, expect: {absent: true}"), None);
        assert_eq!(with("proxyConfig: {of: x/caller, clusters: 'outbound|443||*.org'}, expect: {absent: true}").unwrap(), "host b.org");
        let hop = "exec: {in: x/caller, command: [curl, 'https://c.org/']}, expect: {path: [{proxy: x/caller, cluster: PassthroughCluster, sni: '-'}]}";
        assert_eq!(with(hop).unwrap(), "the whole mesh");
    }

    #[test]
    fn wildcards_meet_what_they_cover() {
        for (a, b, meet) in [
            ("a.org", "a.org", true),
            ("*.org", "a.org", true),
            ("*", "a.org", true),
            ("*.a.org", "*.org", true),
            ("*.a.org", "a.org", false),
            ("*.a.org", "b.org", false),
        ] {
            assert_eq!([hosts_meet(a, b), hosts_meet(b, a)], [meet; 2], "{a} {b}");
        }
    }

    #[test]
    fn hosts_are_found_in_commands() {
        assert_eq!(hosts_of_words("curl -s http://web:8000/get"), ["web"]);
        assert_eq!(hosts_of_words("a.org:443:web.x:443"), ["a.org", "web.x"]);
        assert_eq!(hosts_of_words("%{http_code} 10.0.0.1 -o/dev/null"), Vec::<String>::new());
    }
}
