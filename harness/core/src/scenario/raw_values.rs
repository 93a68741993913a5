//! What may be written in an existing cluster's values file, documented; see [`super::raw`] for how it is used.
#![expect(dead_code, reason = "these types are read by schemars only")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::raw::Text;

/// What an existing cluster calls the things that scenarios name (`--cluster-values`).
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClusterValuesFile {
    /// Istio's root namespace: where istiod runs and mesh-wide objects live. By default `istio-system`.
    pub root_namespace: Option<Text>,
    /// The control plane's revision or tag. Namespaces that scenarios create then carry `istio.io/rev`
    /// with this value instead of `istio-injection: enabled`.
    pub revision: Option<Text>,
    /// istiod's Deployment, `NAMESPACE/NAME`. By default `istiod` in the root namespace.
    pub istiod: Option<Text>,
    /// A file, relative to this one, with the certificates (PEM) of the authorities of hosts outside,
    /// where the system's own do not do: behind a proxy that ends TLS, for one.
    pub outside_ca: Option<Text>,
    /// Gateways whose name, labels or address are not those that scenarios and `kind/gateways.yaml` give.
    pub gateways: Option<Vec<GatewayValuesFile>>,
}

/// One gateway as an existing cluster has it.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GatewayValuesFile {
    /// The gateway as scenarios name it: `istio-system/istio-ingressgateway`.
    #[schemars(rename = "for")]
    pub for_: Text,
    /// The cluster's Deployment, `NAMESPACE/NAME`.
    pub at: Text,
    /// Its Service, `NAMESPACE/NAME`. By default of the Deployment's name.
    pub service: Option<Text>,
    /// The labels by which an Istio Gateway's selector finds its pods. By default those that scenarios use.
    pub labels: Option<BTreeMap<String, Text>>,
    /// Where it is reached from the machine that runs gateproof. By default the Service's load balancer or node ports.
    pub outside: Option<OutsideAddressFile>,
}

/// See `outside` of a gateway in the cluster's values.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OutsideAddressFile {
    /// `HOST:PORT` of port 80.
    pub http: Option<Text>,
    /// `HOST:PORT` of port 443.
    pub https: Option<Text>,
}
