//! What goes into a push and what comes out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

/// The objects that istiod knows at one moment, as the Kubernetes API holds them (with `apiVersion`, `kind`, `metadata`,
/// `status`): Namespaces, Services, EndpointSlices, Pods, Nodes, Secrets, ConfigMaps, Istio's and Gateway API's kinds.
/// The mesh configuration is the ConfigMap `istio` of the root namespace, key `mesh`, in YAML, as in Istio.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The objects, in no particular order.
    pub objects: Vec<Arc<Value>>,
    /// Where istiod runs and mesh-wide objects live: `istio-system`.
    pub root_namespace: String,
    /// The DNS suffix of Services: `cluster.local`.
    pub domain: String,
}

/// How a proxy is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// Beside an application; it captures what goes in and out of the pod.
    Sidecar,
    /// On its own: a gateway.
    Router,
}

/// One proxy, as istiod knows it from its connection and its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyNode {
    /// Sidecar or gateway.
    pub kind: ProxyKind,
    /// The pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations (interception, bootstrap overrides).
    pub annotations: BTreeMap<String, String>,
    /// Its service account.
    pub service_account: String,
    /// Ports that its containers declare, other than the proxy's own.
    pub container_ports: Vec<u16>,
}

/// What a proxy is sent: Envoy's v3 resources in the JSON form of its `config_dump` (snake case, durations as `"10s"`,
/// `@type` within every `Any`), by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyResources {
    /// `envoy.config.listener.v3.Listener`.
    pub listeners: BTreeMap<String, Arc<Value>>,
    /// `envoy.config.route.v3.RouteConfiguration`, for listeners that ask for theirs by RDS.
    pub routes: BTreeMap<String, Arc<Value>>,
    /// `envoy.config.cluster.v3.Cluster`.
    pub clusters: BTreeMap<String, Arc<Value>>,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`, for clusters of type EDS.
    pub endpoints: BTreeMap<String, Arc<Value>>,
    /// By the name under which listeners and clusters ask for them. `default` and `ROOTCA` are the proxy's own and are
    /// not here. A name that is asked for and is missing leaves its listener or cluster waiting.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// What istiod writes to its log while it makes these, a line each without time and level.
    pub log: Vec<String>,
}

/// A certificate with its key, or a CA to trust, or both. Never part of a dump.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// The certificate chain in PEM form; empty for a CA alone.
    pub chain_pem: String,
    /// The private key in PEM form; empty for a CA alone.
    pub key_pem: String,
    /// Who is trusted to have signed the other side's certificate, in PEM form; empty for a certificate alone.
    pub ca_pem: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("chain", &!self.chain_pem.is_empty()).field("ca", &!self.ca_pem.is_empty()).finish_non_exhaustive()
    }
}
