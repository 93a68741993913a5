//! What an author may write in `scenario.yaml`, documented. The JSON schema is generated from these
//! types and the reader asks them which keys there are; nobody builds a value of them.
#![expect(dead_code, reason = "these types are read by schemars only")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::raw_given::{RowFile, ValuesFile};
pub(super) use super::raw_words::{Host, NamespacedName, ObjectName, ScenarioPath, Structure, Text, Time};

/// A gateproof scenario: manifests, and checks that prove what they do.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ScenarioFile {
    /// One line, shown in lists and as the report's heading.
    pub title: Text,
    /// Markdown: how the thing under test works, and why it is set up so.
    pub mechanism: Option<Text>,
    /// Free labels for selection.
    pub tags: Option<Vec<Text>>,
    /// Values that the other fields and the manifests take as `$(value:NAME)`: a default by name. `--value NAME=…` and
    /// `GATEPROOF_VALUE_NAME` (upper case, `_` for `-`) override them.
    pub values: Option<ValuesFile>,
    /// The same scenario once for each row, with other values. A row is a scenario of its own, called by this scenario's path and its name.
    #[schemars(length(min = 1))]
    pub matrix: Option<Vec<RowFile>>,
    /// Scenarios (their paths below the scenarios folder) whose manifests stand while this one runs.
    pub needs: Option<Vec<ScenarioPath>>,
    /// Gateways that this scenario brings beside the cluster's `istio-system/istio-ingressgateway` and
    /// `istio-system/istio-egressgateway`.
    pub gateways: Option<Vec<GatewayFile>>,
    /// Hosts outside the mesh that must answer: a name, or a map with the number of its addresses.
    pub outside: Option<Vec<OutsideFile>>,
    /// TLS secrets to generate for the run. None is ever kept in the repository.
    pub certificates: Option<Vec<CertificateFile>>,
    /// Namespaces that get the ConfigMap `gateproof-run` with this run's `token` and `ca.crt`. A caller that is to trust the run's
    /// certificates mounts it, and leads curl to `ca.crt` by `CURL_CA_BUNDLE`.
    pub run_config: Option<Vec<Text>>,
    /// The manifests of the intact scenario, beside this file. The order decides nothing.
    pub manifests: Option<Vec<Text>>,
    /// Deliberate departures from the intact scenario; a check names one in `given`.
    pub variations: Option<Vec<VariationFile>>,
    /// What is asked and what is expected. At least one.
    #[schemars(length(min = 1))]
    pub checks: Vec<CheckFile>,
    /// What was left out on purpose, for the report.
    pub not_tested: Option<Vec<NotTestedFile>>,
    /// Changes that `gateproof prove` makes and that no check of this scenario can notice, each with the reason.
    pub unnoticed: Option<Vec<UnnoticedFile>>,
    /// Places where an earlier document was wrong, for the report.
    pub corrections: Option<Vec<CorrectionFile>>,
    /// Sentences for the report's "key points".
    pub key_points: Option<Vec<Text>>,
    /// Sentences for the report's "what a reader might be missing".
    pub might_be_missing: Option<Vec<Text>>,
    /// Sentences for the report's "next work".
    pub next_work: Option<Vec<Text>>,
}

/// A gateway deployment: one Helm release of Istio's `gateway` chart.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GatewayFile {
    /// `NAMESPACE/NAME` of the release, its Deployment and its Service.
    pub at: NamespacedName,
    /// Pod labels beside the chart's own; an Istio Gateway's selector names these.
    pub labels: Option<BTreeMap<String, Text>>,
    /// How the gateway is reached. Ports are always 80→8080 and 443→8443. Default: `clusterIp`.
    pub service: Option<ServiceFile>,
}

/// The Service in front of a gateway.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) enum ServiceFile {
    /// Reached inside the cluster only.
    ClusterIp,
    /// Also reached at the node, on these ports.
    NodePort(NodePortFile),
}

/// Node ports of a gateway.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodePortFile {
    /// The node port of 80.
    #[schemars(range(min = 30000, max = 32767))]
    pub http: u16,
    /// The node port of 443.
    #[schemars(range(min = 30000, max = 32767))]
    pub https: u16,
}

/// A host outside the mesh.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum OutsideFile {
    /// A host name with one address.
    Name(Host),
    /// A host name and the number of its addresses.
    Full(OutsideHostFile),
}

/// A host outside the mesh with a number of addresses.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OutsideHostFile {
    /// The name that callers use.
    pub host: Host,
    /// How many addresses the name has, each a stand-in of its own. Default: 1.
    #[schemars(range(min = 1, max = 8))]
    pub addresses: Option<u8>,
}

/// A TLS secret generated for the run.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CertificateFile {
    /// `NAMESPACE/NAME` of the secret.
    pub secret: NamespacedName,
    /// The certificate's DNS names.
    #[schemars(length(min = 1))]
    pub hosts: Vec<Host>,
}

/// A deliberate departure from the intact scenario.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VariationFile {
    /// Unique in the scenario; `intact` is taken.
    pub name: Text,
    /// One line: what departs and why.
    pub about: Text,
    /// Applied to the intact set of objects, in order.
    #[schemars(length(min = 1))]
    pub changes: Vec<ChangeFile>,
    /// Whether proxies are expected to refuse a part of this state (a NACK). Otherwise a refusal fails every check in it.
    /// Who refuses keeps what it had: the intact scenario, which stands before such a state.
    pub refused: Option<bool>,
}

/// One change to the scenario's objects.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) enum ChangeFile {
    /// Leaves out every object of the scenario; those of its `needs` stay.
    WithoutAll,
    /// Leaves out a manifest.
    Without(Text),
    /// Leaves out one object, written as `KIND NAMESPACE/NAME`.
    WithoutObject(ObjectName),
    /// Adds a manifest that is not among `manifests`.
    With(Text),
    /// Edits one object.
    Patch(PatchFile),
    /// Sets a Deployment's replicas while the variation stands.
    Scale(ScaleFile),
    /// Sets parts of the mesh configuration and of istiod's environment while the variation stands. Both hold for the whole mesh;
    /// what was there before is put back afterwards. In a cluster that is not gateproof's own it takes `--allow-mesh-changes`.
    ControlPlane(super::control_plane::ControlPlaneFile),
}

/// Edits of one object, at RFC 6901 JSON pointers such as `/spec/servers/0/tls/mode`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PatchFile {
    /// The object, written as `KIND NAMESPACE/NAME`.
    pub object: ObjectName,
    /// Pointer to value; replaces what is there or adds it. `-` as the last part appends to a list.
    pub set: Option<BTreeMap<String, Value>>,
    /// Pointers of what is taken away, after `set`.
    pub remove: Option<Vec<Text>>,
}

/// A Deployment and its replicas.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ScaleFile {
    /// `NAMESPACE/NAME` of the Deployment.
    pub workload: NamespacedName,
    /// How many.
    pub replicas: u32,
}

/// One probe and what is expected of it. Exactly one of `exec`, `http`, `logs`, `proxyConfig`, `analyze`,
/// `pods`, `proxyStatus`, `versions`, `object` is given, and `expect` fits it.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("oneOf" = fitting()))]
pub(super) struct CheckFile {
    /// Unique in the scenario.
    pub name: Text,
    /// One sentence: what a green outcome shows.
    pub proves: Text,
    /// The state it holds in: a variation's name. Default: `intact`.
    pub given: Option<Text>,
    /// A command in a pod. `curl` is understood: its connection, certificate and path are observed too.
    pub exec: Option<ExecFile>,
    /// An HTTP call, over TLS for `https`.
    pub http: Option<HttpFile>,
    /// A container's log since the state under test was applied.
    pub logs: Option<LogsFile>,
    /// A proxy's configuration as Envoy itself reports it.
    pub proxy_config: Option<ProxyConfigFile>,
    /// `istioctl analyze` over namespaces.
    pub analyze: Option<AnalyzeFile>,
    /// The pods of Deployments and their ready containers.
    pub pods: Option<PodsFile>,
    /// What istiod says of each connected proxy.
    pub proxy_status: Option<NoSettings>,
    /// Versions of client, control plane and proxies.
    pub versions: Option<NoSettings>,
    /// An object of the Kubernetes API as it stands, its status included.
    pub object: Option<ObjectFile>,
    /// The answer wanted. Every field that is given must hold; at least one is.
    pub expect: ExpectFile,
}

/// The probes, and which expectation fits each.
pub(super) const PROBES: &[(&str, &str)] = &[
    ("exec", "CallExpectFile"),
    ("http", "CallExpectFile"),
    ("logs", "LogsExpectFile"),
    ("proxyConfig", "ConfigExpectFile"),
    ("analyze", "AnalysisExpectFile"),
    ("pods", "PodsExpectFile"),
    ("proxyStatus", "SyncExpectFile"),
    ("versions", "VersionsExpectFile"),
    ("object", "ConfigExpectFile"),
];

fn fitting() -> Value {
    let branch =
        |(probe, expect): &(&str, &str)| json!({"required": [probe], "properties": {"expect": {"$ref": format!("#/$defs/{expect}")}}});
    PROBES.iter().map(branch).collect()
}

/// A command in a pod.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExecFile {
    /// `NAMESPACE/NAME` of the Deployment; its first ready pod is used.
    pub r#in: NamespacedName,
    /// The container. Default: the first that is not `istio-proxy`.
    pub container: Option<Text>,
    /// The command and its arguments.
    #[schemars(length(min = 1))]
    pub command: Vec<Text>,
    /// How long it may take. Default: 15s.
    pub timeout: Option<Time>,
}

/// An HTTP call.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpFile {
    /// Who calls: `outside` (the machine that runs gateproof) or the `NAMESPACE/NAME` of a Deployment.
    pub from: Text,
    /// `NAMESPACE/NAME` of the gateway to connect to instead of what the host resolves to. Required from `outside`.
    pub gateway: Option<NamespacedName>,
    /// `http://` or `https://`, host, optional port, path and query.
    #[schemars(regex(pattern = r"^https?://[^\s#]+$|\$\(value:"))]
    pub url: String,
    /// The SNI to send instead of the host.
    pub sni: Option<Host>,
    /// The method. Default: GET.
    pub method: Option<Text>,
    /// Further request headers. `Host` and `User-Agent` are gateproof's own.
    pub headers: Option<BTreeMap<String, Text>>,
    /// A request body.
    pub body: Option<Text>,
    /// Whether the server's certificate is verified. Default: `runCas`. From a pod it is its own curl that verifies, against what the
    /// pod trusts: see `runConfig`.
    pub verify: Option<VerifyFile>,
    /// `NAMESPACE/NAME` of a declared certificate to present. In a pod, `sh` is needed beside curl.
    pub client_certificate: Option<NamespacedName>,
    /// How long it may take. Default: 10s.
    pub timeout: Option<Time>,
}

/// How a server's certificate is verified.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) enum VerifyFile {
    /// Against the CAs that signed stand-ins and declared secrets; from a pod against what its curl trusts.
    RunCas,
    /// Not at all (`curl -k`); the certificate is still observed.
    Insecure,
}

/// A container's log.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogsFile {
    /// `NAMESPACE/NAME` of the Deployment; all its replicas are read.
    pub of: NamespacedName,
    /// The container. Default: the only one, or `istio-proxy`.
    pub container: Option<Text>,
}

/// A part of a proxy's configuration. Exactly one section is given; `*` in a name stands for any text.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProxyConfigFile {
    /// `NAMESPACE/NAME` of the Deployment whose proxies are read, every replica.
    pub of: NamespacedName,
    /// A listener's name, such as `0.0.0.0_8443`.
    pub listeners: Option<Text>,
    /// A route configuration's name, such as `http.8080`.
    pub routes: Option<Text>,
    /// A cluster's name, such as `outbound|443||httpbin.org`.
    pub clusters: Option<Text>,
    /// The name of the cluster that the endpoints belong to.
    pub endpoints: Option<Text>,
    /// A secret's name, such as `kubernetes://httpbin-tls`.
    pub secrets: Option<Text>,
}

/// `istioctl analyze`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AnalyzeFile {
    /// The namespaces.
    #[schemars(length(min = 1))]
    pub namespaces: Vec<Text>,
}

/// Pods of Deployments.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodsFile {
    /// `NAMESPACE/NAME` of each Deployment.
    #[schemars(length(min = 1))]
    pub of: Vec<NamespacedName>,
}

/// An object of the Kubernetes API. What controllers write into it is waited for, a few seconds at most.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ObjectFile {
    /// `GROUP/VERSION`, or `v1` for the core group.
    pub api_version: Text,
    /// The kind, such as `HTTPRoute`.
    pub kind: Text,
    /// `NAMESPACE/NAME`, or `NAME` alone where the kind has no namespace.
    pub name: Text,
}

/// A probe without settings: `{}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct NoSettings {}

/// The answer wanted; which fields there are depends on the probe.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum ExpectFile {
    Call(CallExpectFile),
    Logs(LogsExpectFile),
    Config(ConfigExpectFile),
    Analysis(AnalysisExpectFile),
    Pods(PodsExpectFile),
    Sync(SyncExpectFile),
    Versions(VersionsExpectFile),
}

/// Of `exec` and `http`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
pub(super) struct CallExpectFile {
    /// Of exec: standard output. A plain text must be equal after trimming.
    pub stdout: Option<TextPattern>,
    /// Of exec: standard error.
    pub stderr: Option<TextPattern>,
    /// Of exec: the exit code.
    pub exit_code: Option<i32>,
    /// The response's status.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// How the connection ended; of a list, any one.
    pub connection: Option<OneOrMany<ConnectionFile>>,
    /// The certificate that the caller saw.
    pub certificate: Option<CertificateExpectFile>,
    /// Response headers by name.
    pub headers: Option<BTreeMap<String, TextPattern>>,
    /// The response's body.
    pub body: Option<TextPattern>,
    /// The body holds this run's token: it came from the server that this run deployed.
    pub run_token: Option<bool>,
    /// Short for a `path` of one hop: the gateway called, by its route's name.
    pub route: Option<Text>,
    /// The proxies that the call went through, in order, each shown by its log line of this very call.
    pub path: Option<Vec<HopFile>>,
    /// Proxies whose log has no line of this call, though it has a later one of ours.
    pub absent_from: Option<Vec<NamespacedName>>,
}

/// How a connection ended, as far as the caller can tell.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) enum ConnectionFile {
    /// An HTTP response came.
    Answered,
    /// The peer closed in order (FIN) before it answered.
    Closed,
    /// The peer reset (RST).
    Reset,
    /// Nobody listens.
    Refused,
    /// Nothing came in time.
    Timeout,
    /// The name has no address.
    DnsFailure,
    /// The server's certificate was not accepted by the caller.
    CertificateRejected,
    /// The peer sent a TLS alert, by its RFC 8446 name: `certificate required`, `unrecognized name`, ….
    TlsAlert(Text),
}

/// The certificate wanted, byte for byte.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) enum CertificateExpectFile {
    /// The one in this declared secret, `NAMESPACE/NAME`.
    Secret(NamespacedName),
    /// The one of this declared host outside the mesh.
    Outside(Host),
}

/// One hop of a path. `*` stands for any text; all given fields must hold.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HopFile {
    /// `NAMESPACE/NAME` of the proxy's Deployment.
    pub proxy: NamespacedName,
    /// Method, path and protocol of the request in the log, such as `GET /get HTTP/2`; `- - -` for TCP.
    pub request: Option<Text>,
    /// The upstream cluster, such as `outbound|443||httpbin.org`.
    pub cluster: Option<Text>,
    /// The response flags; `-` for none.
    pub flags: Option<Text>,
    /// The route's name.
    pub route: Option<Text>,
    /// The requested server name.
    pub sni: Option<Text>,
    /// The response code details, such as `via_upstream` or `filter_chain_not_found`.
    pub details: Option<Text>,
    /// The connection's termination details, where a policy on TCP leaves its mark: `rbac_access_denied*`.
    pub termination: Option<Text>,
    /// The response code in the log; 0 for TCP.
    pub code: Option<u16>,
}

/// Of `logs`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
pub(super) struct LogsExpectFile {
    /// Each is matched by some line. A plain text must be a part of the line.
    pub contains: Option<OneOrMany<TextPattern>>,
    /// None is matched by any line. A plain text must not be a part of any line.
    pub lacks: Option<OneOrMany<TextPattern>>,
}

/// Of `proxyConfig`, in every replica, and of `object`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
pub(super) struct ConfigExpectFile {
    /// No entry has that name. Stands alone.
    pub absent: Option<bool>,
    /// Some entry has that name.
    pub present: Option<bool>,
    /// Partial structures that some entry has: maps by subset, and each element of a list matches some
    /// element there. In a proxy, names are Envoy's own (snake case).
    pub contains: Option<OneOrMany<Structure>>,
    /// Partial structures that must not be there.
    pub lacks: Option<OneOrMany<Structure>>,
    /// Expressions in CEL that are true of it, such as `object.spec.listeners.all(l, l.protocol == 'HTTPS')`: `object` is the
    /// object, or an entry of the proxy's configuration (names as above); the entry that has what `contains` says has this too.
    pub cel: Option<OneOrMany<Text>>,
}

/// Of `analyze`: one of both.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct AnalysisExpectFile {
    /// No Error and no Warning. Info is shown.
    pub clean: Option<bool>,
    /// These codes, such as `IST0101`, are among the messages.
    pub codes: Option<Vec<Text>>,
}

/// Of `pods`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodsExpectFile {
    /// So many of so many containers ready in every pod, native sidecars included: `2/2`.
    #[schemars(regex(pattern = r"^\d+/\d+$|\$\(value:"))]
    pub ready: String,
}

/// Of `proxyStatus`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SyncExpectFile {
    /// Deployments whose proxies must be connected and have acknowledged all that was sent; `true` or an
    /// empty list: all that are connected.
    pub synced: SyncedFile,
}

/// `true`, or Deployments.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum SyncedFile {
    /// All connected proxies.
    All(bool),
    /// These.
    Of(Vec<NamespacedName>),
}

/// Of `versions`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VersionsExpectFile {
    /// Proxies and control plane say the same version.
    pub agree: bool,
}

/// Something that was deliberately not tested.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NotTestedFile {
    /// The subject.
    pub what: Text,
    /// The reason.
    pub why: Text,
}

/// A change that no check can notice.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UnnoticedFile {
    /// The change as `gateproof prove` names it, without the scenario: `without namespace.yaml`, or
    /// `ServiceEntry mesh-test/x: /spec/location *`. `*` stands for any text.
    pub change: Text,
    /// The reason.
    pub why: Text,
}

/// A claim of an earlier document that the cluster does not bear out.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CorrectionFile {
    /// The claim, in our words.
    pub claim: Text,
    /// What is so instead, and which check shows it.
    pub instead: Text,
}

/// One thing, or a list of such.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// How a text is compared: plain, or one of these.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum TextPattern {
    Plain(Text),
    How(TextHow),
}

/// How a text is compared.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) enum TextHow {
    /// Equal after trimming white space at both ends.
    Equals(Text),
    /// Has this part.
    Contains(Text),
    /// Matches this regular expression somewhere.
    Matches(Text),
}
