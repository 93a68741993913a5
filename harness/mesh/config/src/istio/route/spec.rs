//! A VirtualService as an object gives it. Names and meaning of the fields are those of Istio's API reference.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::duration::ProtoDuration;
use super::meta::{Meta, without_nulls};

/// How a VirtualService that istiod made itself wants to be read (annotation `internal.istio.io/route-semantics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Semantics {
    /// As Istio's reference says: a prefix is a prefix of the text.
    #[default]
    Istio,
    /// Made from an Ingress: a prefix ends at a segment of the path.
    Ingress,
    /// Made from a route of Gateway API: likewise, and a missing backend answers 500.
    Gateway,
}

/// The annotation that gives the [`Semantics`].
pub const ROUTE_SEMANTICS: &str = "internal.istio.io/route-semantics";

/// A VirtualService with what its metadata says.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// Name, namespace, age.
    pub meta: Meta,
    /// How prefixes and missing backends are meant.
    pub semantics: Semantics,
    /// What the object says.
    pub spec: VirtualServiceSpec,
}

impl VirtualService {
    /// Reads an object; `None` where it is no VirtualService or its specification cannot be read, which istiod leaves out
    /// of account too.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        if object.get("kind").and_then(Value::as_str) != Some("VirtualService") {
            return None;
        }
        let meta = Meta::of(object);
        let semantics = match meta.annotations.get(ROUTE_SEMANTICS).map(String::as_str) {
            Some("gateway") => Semantics::Gateway,
            Some("ingress") => Semantics::Ingress,
            _ => Semantics::Istio,
        };
        let spec = match object.get("spec") {
            Some(spec) => serde_json::from_value(without_nulls(spec)).ok()?,
            None => VirtualServiceSpec::default(),
        };
        Some(Self { meta, semantics, spec })
    }

    /// Where Envoy's dump says a route comes from.
    #[must_use]
    pub fn config_path(&self) -> String {
        format!("/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}", self.meta.namespace, self.meta.name)
    }
}

/// `spec`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct VirtualServiceSpec {
    pub hosts: Vec<String>,
    pub gateways: Vec<String>,
    pub http: Vec<HttpRoute>,
    pub tls: Vec<TlsRoute>,
    pub tcp: Vec<TcpRoute>,
    pub export_to: Vec<String>,
}

/// One of `spec.http`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct HttpRoute {
    pub name: String,
    pub r#match: Vec<HttpMatch>,
    pub route: Vec<HttpDestination>,
    pub redirect: Option<Redirect>,
    pub direct_response: Option<DirectResponse>,
    pub delegate: Option<Delegate>,
    pub rewrite: Option<Rewrite>,
    pub timeout: Option<ProtoDuration>,
    pub retries: Option<Retries>,
    pub fault: Option<Fault>,
    pub mirror: Option<Destination>,
    pub mirrors: Vec<Mirror>,
    pub mirror_percent: Option<u32>,
    pub mirror_percentage: Option<Percent>,
    pub cors_policy: Option<CorsPolicy>,
    pub headers: Option<Headers>,
}

/// One of `spec.http[].match`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct HttpMatch {
    pub name: String,
    pub uri: Option<StringMatch>,
    pub scheme: Option<StringMatch>,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    pub headers: BTreeMap<String, StringMatch>,
    pub port: u32,
    pub source_labels: BTreeMap<String, String>,
    pub gateways: Vec<String>,
    pub query_params: BTreeMap<String, StringMatch>,
    pub ignore_uri_case: bool,
    pub without_headers: BTreeMap<String, StringMatch>,
    pub source_namespace: String,
    pub stat_prefix: String,
}

/// How a text is compared; at most one of the three is set, and none means "is there at all".
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct StringMatch {
    pub exact: Option<String>,
    pub prefix: Option<String>,
    pub regex: Option<String>,
}

/// `destination`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Destination {
    pub host: String,
    pub subset: String,
    pub port: Option<PortSelector>,
}

/// `destination.port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct PortSelector {
    pub number: u32,
}

/// One of `spec.http[].route`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct HttpDestination {
    pub destination: Destination,
    pub weight: i64,
    pub headers: Option<Headers>,
}

/// One of `spec.tls[].route` or `spec.tcp[].route`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct RouteDestination {
    pub destination: Destination,
    pub weight: i64,
}

/// One of `spec.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct TlsRoute {
    pub r#match: Vec<TlsMatch>,
    pub route: Vec<RouteDestination>,
}

/// One of `spec.tcp`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct TcpRoute {
    pub r#match: Vec<L4Match>,
    pub route: Vec<RouteDestination>,
}

/// One of `spec.tls[].match`: an [`L4Match`] with server names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct TlsMatch {
    pub sni_hosts: Vec<String>,
    #[serde(flatten)]
    pub l4: L4Match,
}

/// One of `spec.tcp[].match`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct L4Match {
    pub destination_subnets: Vec<String>,
    pub port: u32,
    pub source_labels: BTreeMap<String, String>,
    pub gateways: Vec<String>,
    pub source_namespace: String,
}

/// `redirect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Redirect {
    pub uri: String,
    pub authority: String,
    pub port: Option<u32>,
    pub derive_port: Option<DerivePort>,
    pub scheme: String,
    pub redirect_code: u32,
    /// Not in Istio's CRD: istiod sets it for Gateway API's `replacePrefixMatch`.
    pub prefix_rewrite: String,
}

/// `redirect.derivePort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the values are those of Istio's reference")]
pub enum DerivePort {
    FromProtocolDefault,
    FromRequestPort,
}

/// `directResponse`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct DirectResponse {
    pub status: u32,
    pub body: Option<DirectBody>,
}

/// `directResponse.body`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct DirectBody {
    pub string: Option<String>,
    /// Base64.
    pub bytes: Option<String>,
}

/// `delegate`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Delegate {
    pub name: String,
    pub namespace: String,
}

/// `rewrite`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Rewrite {
    pub uri: String,
    pub authority: String,
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// `rewrite.uriRegexRewrite`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct RegexRewrite {
    pub r#match: String,
    pub rewrite: String,
}

/// `retries`; also the mesh's `defaultHttpRetryPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Retries {
    pub attempts: i64,
    pub per_try_timeout: Option<ProtoDuration>,
    pub retry_on: String,
    pub retry_remote_localities: Option<bool>,
    pub retry_ignore_previous_hosts: Option<bool>,
    pub backoff: Option<ProtoDuration>,
}

/// `fault`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

/// `fault.delay`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Delay {
    pub fixed_delay: Option<ProtoDuration>,
    pub percentage: Option<Percent>,
    pub percent: u32,
}

/// `fault.abort`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Abort {
    pub http_status: Option<u32>,
    pub grpc_status: Option<String>,
    pub percentage: Option<Percent>,
}

/// A share of 100.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Percent {
    pub value: f64,
}

/// One of `mirrors`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Mirror {
    pub destination: Option<Destination>,
    pub percentage: Option<Percent>,
}

/// `corsPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct CorsPolicy {
    pub allow_origin: Vec<String>,
    pub allow_origins: Vec<StringMatch>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub max_age: Option<ProtoDuration>,
    pub allow_credentials: Option<bool>,
    pub unmatched_preflights: String,
}

/// `headers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Headers {
    pub request: HeaderOperations,
    pub response: HeaderOperations,
}

/// `headers.request` and `headers.response`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct HeaderOperations {
    pub set: BTreeMap<String, String>,
    pub add: BTreeMap<String, String>,
    pub remove: Vec<String>,
}
