//! Which lists are merged by key, and which maps are taken as a whole.
//!
//! Source: `x-kubernetes-list-type`, `x-kubernetes-map-type` of Kubernetes' OpenAPI (`api/openapi-spec/v3`) and of the
//! definitions of Istio and the Gateway API. What is not named here is atomic, as in an OpenAPI schema without a mark.

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// Replaced as a whole.
    Atomic,
    /// Each value stands for itself.
    Set,
    /// Each item is known by these keys.
    Keyed(&'static [&'static str]),
}

/// The merge rules of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a> {
    /// The API group.
    pub(crate) group: &'a str,
    /// The kind.
    pub(crate) kind: &'a str,
}

const NAME: Listing = Listing::Keyed(&["name"]);
const TYPE: Listing = Listing::Keyed(&["type"]);

impl Schema<'_> {
    /// How the list at this path of field names (list items add none) is merged.
    pub(crate) fn list(&self, path: &[&str]) -> Listing {
        match path {
            ["metadata", "finalizers"] => return Listing::Set,
            ["metadata", "ownerReferences"] => return Listing::Keyed(&["uid"]),
            ["status", "conditions"] => return TYPE,
            _ => {}
        }
        match (self.group, self.kind, path) {
            ("", "Pod", ["spec", rest @ ..]) => pod_spec(rest),
            ("", "PodTemplate", ["template", "spec", rest @ ..])
            | ("apps" | "batch", _, ["spec", "template", "spec", rest @ ..])
            | ("", "ReplicationController", ["spec", "template", "spec", rest @ ..])
            | ("batch", "CronJob", ["spec", "jobTemplate", "spec", "template", "spec", rest @ ..]) => pod_spec(rest),
            ("", "Service", ["spec", "ports"]) => Listing::Keyed(&["port", "protocol"]),
            ("", "Service" | "Pod", ["status", "conditions"]) => TYPE,
            ("", "Pod", ["status", "podIPs"]) => Listing::Keyed(&["ip"]),
            ("", "ServiceAccount", ["secrets"]) => NAME,
            ("", "ServiceAccount", ["imagePullSecrets"]) => Listing::Atomic,
            ("", "Namespace" | "Node", ["spec", "finalizers" | "podCIDRs"]) => Listing::Set,
            ("admissionregistration.k8s.io", _, ["webhooks"]) => NAME,
            ("gateway.networking.k8s.io", "Gateway" | "ListenerSet", ["spec" | "status", "listeners"]) => NAME,
            ("gateway.networking.k8s.io", "Gateway" | "ListenerSet", ["status", "listeners", "conditions"]) => TYPE,
            ("gateway.networking.k8s.io", "GatewayClass", ["status", "supportedFeatures"]) => NAME,
            ("networking.istio.io", "ServiceEntry", ["spec", "ports"]) => NAME,
            _ => Listing::Atomic,
        }
    }

    /// Whether the map at this path is replaced as a whole.
    pub(crate) fn atomic_map(&self, path: &[&str]) -> bool {
        match path {
            // A LabelSelector and a Service's selector.
            ["spec", "selector"] => {
                matches!((self.group, self.kind), ("apps" | "policy" | "batch", _) | ("", "Service" | "ReplicationController"))
            }
            [.., "nodeSelector"] => true,
            [.., "labelSelector" | "podSelector" | "namespaceSelector"] => self.group.is_empty() || self.group.ends_with("k8s.io"),
            [.., "valueFrom", "configMapKeyRef" | "secretKeyRef" | "fieldRef" | "resourceFieldRef"] => true,
            [.., "configMapRef" | "secretRef" | "claimRef" | "targetRef"] => self.group.is_empty(),
            _ => false,
        }
    }
}

/// Lists within a PodSpec, by their last names.
fn pod_spec(path: &[&str]) -> Listing {
    match path {
        ["containers" | "initContainers" | "ephemeralContainers" | "volumes" | "imagePullSecrets" | "resourceClaims"] => NAME,
        ["hostAliases"] => Listing::Keyed(&["ip"]),
        ["topologySpreadConstraints"] => Listing::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        ["containers" | "initContainers" | "ephemeralContainers", "env"] => NAME,
        ["containers" | "initContainers" | "ephemeralContainers", "ports"] => Listing::Keyed(&["containerPort", "protocol"]),
        ["containers" | "initContainers" | "ephemeralContainers", "volumeMounts"] => Listing::Keyed(&["mountPath"]),
        ["containers" | "initContainers" | "ephemeralContainers", "volumeDevices"] => Listing::Keyed(&["devicePath"]),
        _ => Listing::Atomic,
    }
}
