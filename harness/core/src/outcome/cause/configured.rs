//! The objects that stood when a call was made, and what a proxy finds among them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names::{Labels, covers, labels, list, namespace, port, qualified, selects, text, texts, visible};
use crate::names::Namespaced;
use crate::scenario::KubeObject;

/// The group of Istio's traffic objects.
pub(super) const ISTIO: &str = "networking.istio.io";
/// The group of Istio's policies.
pub(super) const SECURITY: &str = "security.istio.io";
/// The group of Gateway API.
pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Every object that may decide about a call, as the cluster has it.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    objects: Vec<KubeObject>,
    unread: BTreeSet<(String, String)>,
    root: String,
}

impl Configured {
    /// What a cause may be read off: (`apiVersion`, kind, plural).
    pub const KINDS: [(&str, &str, &str); 16] = [
        ("networking.istio.io/v1", "Gateway", "gateways"),
        ("networking.istio.io/v1", "VirtualService", "virtualservices"),
        ("networking.istio.io/v1", "DestinationRule", "destinationrules"),
        ("networking.istio.io/v1", "ServiceEntry", "serviceentries"),
        ("networking.istio.io/v1", "Sidecar", "sidecars"),
        ("security.istio.io/v1", "AuthorizationPolicy", "authorizationpolicies"),
        ("security.istio.io/v1", "PeerAuthentication", "peerauthentications"),
        ("gateway.networking.k8s.io/v1", "Gateway", "gateways"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes"),
        ("gateway.networking.k8s.io/v1", "TLSRoute", "tlsroutes"),
        ("v1", "Service", "services"),
        ("v1", "Pod", "pods"),
        ("v1", "Namespace", "namespaces"),
        ("v1", "Secret", "secrets"),
        ("apps/v1", "Deployment", "deployments"),
    ];

    /// These objects. Of `unread` kinds (group, kind) nothing is known: nothing is concluded from their absence. `root` is
    /// the namespace whose objects hold for the whole mesh. A Secret counts by its name alone.
    #[must_use]
    pub fn new(mut objects: Vec<KubeObject>, unread: BTreeSet<(String, String)>, root: &str) -> Self {
        // What is older comes first, then by name: Istio's order where objects compete.
        objects.sort_by(|a, b| {
            let made = |o: &KubeObject| text(&o.value, "/metadata/creationTimestamp").unwrap_or_default().to_owned();
            made(a).cmp(&made(b)).then_with(|| a.key.cmp(&b.key))
        });
        Self { objects, unread, root: root.to_owned() }
    }

    /// The mesh's root namespace.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Every object of a kind.
    pub(super) fn all<'c>(&'c self, group: &'c str, kind: &'c str) -> impl Iterator<Item = &'c KubeObject> {
        self.objects.iter().filter(move |o| o.key.kind == kind && o.key.group() == group)
    }

    /// Whether the absence of an object of this kind means anything.
    pub(super) fn knows(&self, group: &str, kind: &str) -> bool {
        !self.unread.iter().any(|(g, k)| g == group && k == kind)
    }

    /// One object.
    pub(super) fn find(&self, group: &str, kind: &str, at: &str, name: &str) -> Option<&KubeObject> {
        self.objects.iter().find(|o| o.key.kind == kind && o.key.group() == group && o.key.name == name && namespace(o) == at)
    }

    /// The labels of a Deployment's pods.
    pub(super) fn labels_of(&self, workload: &Namespaced) -> Option<Labels> {
        let deployment = self.find("apps", "Deployment", &workload.namespace, &workload.name)?;
        Some(labels(deployment.value.pointer("/spec/template/metadata/labels")))
    }

    /// Every pod of a namespace, or of all, with its labels.
    pub(super) fn pods<'c>(&'c self, at: Option<&'c str>) -> impl Iterator<Item = (&'c KubeObject, Labels)> {
        let all = self.all("", "Pod").filter(move |pod| at.is_none_or(|at| namespace(pod) == at));
        all.map(|pod| (pod, labels(pod.value.pointer("/metadata/labels"))))
    }

    /// Deployments of a namespace, or of all, whose pods a selector takes.
    pub(super) fn deployments(&self, at: Option<&str>, selector: &Value) -> Vec<&KubeObject> {
        let all = self.all("apps", "Deployment").filter(|d| at.is_none_or(|at| namespace(d) == at));
        all.filter(|d| selects(selector, &labels(d.value.pointer("/spec/template/metadata/labels")))).collect()
    }

    /// Whether a Deployment is a gateway: its pods are a proxy and nothing else.
    pub(super) fn is_gateway(&self, workload: &Namespaced) -> bool {
        let deployment = self.find("apps", "Deployment", &workload.namespace, &workload.name);
        deployment.is_some_and(|d| {
            let containers = list(&d.value, "/spec/template/spec/containers");
            !containers.is_empty() && containers.iter().all(|c| text(c, "/name") == Some("istio-proxy"))
        })
    }

    /// Whether the pods of a Deployment have a sidecar; None when no pod is known.
    pub(super) fn has_proxy(&self, workload: &Namespaced) -> Option<bool> {
        let labels = self.labels_of(workload)?;
        let selector = serde_json::to_value(labels).ok()?;
        let mut pods = self.pods(Some(&workload.namespace)).filter(|(_, l)| selects(&selector, l)).peekable();
        pods.peek()?;
        Some(pods.any(|(pod, _)| has_proxy(pod)))
    }

    /// Services and ServiceEntries with a host, whoever may see them.
    pub(super) fn hosts(&self, host: &str) -> Vec<&KubeObject> {
        let services = self.all("", "Service").filter(|s| service_host(s) == host);
        let entries = self.all(ISTIO, "ServiceEntry").filter(|e| texts(&e.value, "/spec/hosts").iter().any(|h| covers(h, host)));
        services.chain(entries).collect()
    }

    /// The full name of the host that an application names: a Service in one of its spellings, or the host as it is.
    pub(super) fn full_name(&self, host: &str, from: &str) -> String {
        let spelled = |service: &&KubeObject| {
            let (name, home) = (service.key.name.as_str(), namespace(service));
            (host == name && home == from)
                || [format!("{name}.{home}"), format!("{name}.{home}.svc"), service_host(service)].iter().any(|one| one == host)
        };
        self.all("", "Service").find(spelled).map_or_else(|| host.to_owned(), service_host)
    }

    /// The DestinationRule that proxies of `client` follow for a host that is declared in `home`: that of their own namespace,
    /// then of the host's, then of the root. Source: istio/istio `pilot/pkg/model/push_context.go`, `destinationRule`.
    pub(super) fn rules<'c>(&'c self, client: &str, home: &str, host: &str) -> Vec<&'c KubeObject> {
        let all: Vec<&KubeObject> = self.rules_for(host);
        for at in [client, home, &self.root] {
            let there: Vec<&KubeObject> = all.iter().copied().filter(|rule| namespace(rule) == at && visible(rule, client)).collect();
            if !there.is_empty() {
                return there;
            }
        }
        Vec::new()
    }

    /// Every DestinationRule for a host, whoever follows it.
    pub(super) fn rules_for(&self, host: &str) -> Vec<&KubeObject> {
        let is_for = |rule: &&KubeObject| text(&rule.value, "/spec/host").is_some_and(|h| covers(&qualified(h, namespace(rule)), host));
        self.all(ISTIO, "DestinationRule").filter(is_for).collect()
    }
}

/// Whether a pod has a proxy, as a container or as a native sidecar.
pub(super) fn has_proxy(pod: &KubeObject) -> bool {
    let named = |pointer: &str| list(&pod.value, pointer).iter().any(|c| text(c, "/name") == Some("istio-proxy"));
    named("/spec/containers") || named("/spec/initContainers")
}

/// Whether a pod is ready to be called.
pub(super) fn is_ready(pod: &KubeObject) -> bool {
    list(&pod.value, "/status/conditions").iter().any(|c| text(c, "/type") == Some("Ready") && text(c, "/status") == Some("True"))
}

/// The name of a Service in the mesh.
pub(super) fn service_host(service: &KubeObject) -> String {
    format!("{}.{}.svc.cluster.local", service.key.name, namespace(service))
}

/// One port of a Service or a ServiceEntry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// Where it stands in the list.
    pub(super) index: usize,
    /// Its number.
    pub(super) number: u16,
    /// Its protocol as Istio reads it: upper case; of a Service from `appProtocol` or the name's beginning; empty when unknown.
    pub(super) protocol: String,
    /// A number on the pods, or a container port's name.
    pub(super) target: Value,
}

/// The ports of a Service or a ServiceEntry.
pub(super) fn ports(object: &KubeObject) -> Vec<Port> {
    let is_service = object.key.kind == "Service";
    let one = |(index, value): (usize, &Value)| {
        let number = port(value, if is_service { "/port" } else { "/number" })?;
        let protocol = match is_service {
            true => text(value, "/appProtocol").or_else(|| text(value, "/name").map(|n| n.split('-').next().unwrap_or_default())),
            false => text(value, "/protocol"),
        };
        let target = value.get("targetPort").filter(|t| !t.is_null()).cloned().unwrap_or_else(|| number.into());
        Some(Port { index, number, protocol: protocol.unwrap_or_default().to_ascii_uppercase(), target })
    };
    list(&object.value, "/spec/ports").iter().enumerate().filter_map(one).collect()
}

/// The numbers of some ports, for people.
pub(super) fn numbers(ports: &[Port]) -> String {
    super::names::few(ports.iter().map(|p| p.number.to_string()))
}
