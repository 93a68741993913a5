//! The typed scenario. Only the loader builds these, so a value here has passed every check.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::control_plane::ControlPlane;
use super::exceptions::Exceptions;
use super::values::ScenarioValue;
use crate::expression::CelExpression;
use crate::names::{HostName, Namespaced, ObjectKey, ScenarioId};

/// A directory with `scenario.yaml` and its manifests.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its path below the scenarios root.
    pub id: ScenarioId,
    /// The directory on disk.
    pub dir: PathBuf,
    /// The row of the directory's matrix that this is, which is then the last part of the id.
    pub row: Option<String>,
    /// The values that were put in, by name.
    pub values: Vec<ScenarioValue>,
    /// One line, shown in lists and as the report's heading.
    pub title: String,
    /// Markdown: how the thing under test works, and why it is set up so.
    pub mechanism: String,
    /// Free labels for selection.
    pub tags: Vec<String>,
    /// Scenarios whose intact manifests stand while this one runs, transitively.
    pub needs: Vec<ScenarioId>,
    /// Gateways that this scenario brings beside the cluster's own.
    pub gateways: Vec<Gateway>,
    /// Hosts outside the mesh that must answer.
    pub outside: Vec<OutsideHost>,
    /// TLS secrets to generate before the manifests are applied.
    pub certificates: Vec<Certificate>,
    /// Namespaces that get the ConfigMap `gateproof-run` (`token`: this run's random token,
    /// `ca.crt`: the certificates of the CAs that signed stand-ins and declared secrets).
    pub run_config: Vec<String>,
    /// The manifests of the intact scenario, in the order written (which decides nothing).
    pub manifests: Vec<Manifest>,
    /// Manifests that only variations name.
    pub extra_manifests: Vec<Manifest>,
    /// Deliberate departures from the intact scenario, in the order written.
    pub variations: Vec<Variation>,
    /// What is asked and expected, in the order written.
    pub checks: Vec<Check>,
    /// What was left out on purpose.
    pub not_tested: Vec<NotTested>,
    /// Changes of [`mutations`](crate::plan::mutations) that no check can notice.
    pub unnoticed: Vec<Unnoticed>,
    /// Sentences for the report's "key points".
    pub key_points: Vec<String>,
    /// Sentences for "what a reader might be missing".
    pub might_be_missing: Vec<String>,
    /// Sentences for "next work".
    pub next_work: Vec<String>,
    /// Places where an earlier document was wrong: what it claimed and what is so.
    pub corrections: Vec<Correction>,
    /// What `exceptions.yaml` says of its checks.
    pub exceptions: Exceptions,
}

impl Scenario {
    /// Its directory below the scenarios root: the id, without the row.
    #[must_use]
    pub fn folder(&self) -> &str {
        let id = self.id.as_str();
        self.row.as_ref().and_then(|row| id.strip_suffix(row.as_str())?.strip_suffix('/')).unwrap_or(id)
    }
}

/// A claim of an earlier document that the cluster does not bear out.
#[derive(Debug, Clone)]
pub struct Correction {
    /// The claim, in our words.
    pub claim: String,
    /// What is so instead, and which check shows it.
    pub instead: String,
}

/// A change that no check can notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnoticed {
    /// A pattern of ids of mutations, in which `*` stands for any text; at least one has it (the loader checks that).
    pub change: String,
    /// The reason.
    pub why: String,
}

/// Something that was deliberately not tested.
#[derive(Debug, Clone)]
pub struct NotTested {
    /// The subject.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// A gateway deployment: one Helm release of Istio's `gateway` chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Namespace and release name; the Deployment and Service carry the same name.
    pub at: Namespaced,
    /// Pod labels beside the chart's own; an Istio Gateway's selector names these.
    pub labels: BTreeMap<String, String>,
    /// How the gateway is reached.
    pub service: GatewayService,
}

/// The Service in front of a gateway. Ports are always 80→8080 and 443→8443:
/// an unprivileged pod cannot bind below 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayService {
    /// Reached inside the cluster only.
    ClusterIp,
    /// Also reached at the node, on these ports.
    NodePort {
        /// The node port of 80.
        http: u16,
        /// The node port of 443.
        https: u16,
    },
}

/// A host outside the mesh, and what must answer for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideHost {
    /// The name that callers use.
    pub host: HostName,
    /// How many addresses the name has (each a stand-in of its own).
    pub addresses: u8,
}

/// A TLS secret generated for the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Where the secret is put.
    pub secret: Namespaced,
    /// The certificate's DNS names.
    pub hosts: Vec<HostName>,
}

/// One manifest file.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its path below the scenario's directory.
    pub file: String,
    /// Its text, as on disk.
    pub text: String,
    /// The objects in it.
    pub objects: Vec<KubeObject>,
}

/// A Kubernetes object as written in a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeObject {
    /// What identifies it.
    pub key: ObjectKey,
    /// The whole object.
    pub value: Value,
    /// The 1-based line in the manifest where it begins.
    pub line: usize,
}

/// The name of the state in which nothing departs from the manifests.
pub const INTACT: &str = "intact";

/// A deliberate departure from the intact scenario; checks name it in `given`.
#[derive(Debug, Clone)]
pub struct Variation {
    /// Unique in the scenario; never [`INTACT`].
    pub name: String,
    /// One line: what departs and why.
    pub about: String,
    /// Applied to the intact set of objects, in order.
    pub changes: Vec<Change>,
    /// Whether proxies are expected to refuse a part of this state (a NACK); otherwise a refusal fails its checks. They keep what
    /// they had then, so the intact scenario stands before it.
    pub refused: bool,
}

/// One change to a set of objects.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Leaves out every object of the scenario (those of its `needs` stay).
    WithoutAll,
    /// Leaves out a manifest.
    Without {
        /// The manifest's file, as in [`Manifest::file`].
        file: String,
    },
    /// Leaves out one object.
    WithoutObject {
        /// Which.
        key: ObjectKey,
    },
    /// Adds a manifest of [`Scenario::extra_manifests`].
    With {
        /// The manifest's file.
        file: String,
    },
    /// Edits one object.
    Patch {
        /// Which object, of this scenario's manifests.
        key: ObjectKey,
        /// The edits, in order.
        edits: Vec<Edit>,
    },
    /// Sets a Deployment's replicas (a gateway's, for one) while the variation stands.
    Scale {
        /// The Deployment.
        workload: Namespaced,
        /// How many.
        replicas: u32,
    },
    /// Sets parts of the mesh configuration and of istiod's environment while the variation stands.
    ControlPlane(ControlPlane),
}

/// An edit at an RFC 6901 JSON pointer.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Puts a value there, replacing what was; `-` as the last part appends to an array.
    Set {
        /// The place.
        pointer: String,
        /// The value.
        value: Value,
    },
    /// Takes away what is there.
    Remove {
        /// The place.
        pointer: String,
    },
}

/// One probe and what is expected of it.
#[derive(Debug, Clone)]
pub struct Check {
    /// Unique in the scenario.
    pub name: String,
    /// One sentence: what a green outcome shows.
    pub proves: String,
    /// The state it holds in: [`INTACT`] or a variation's name.
    pub given: String,
    /// The question.
    pub probe: Probe,
    /// The answer wanted. The loader guarantees that it fits the probe.
    pub expect: Expectation,
}

/// A question put to the world. It judges nothing.
#[derive(Debug, Clone)]
pub enum Probe {
    /// A command in a pod. `curl` is understood: its connection, certificate and path are observed too.
    Exec(ExecProbe),
    /// An HTTP call, over TLS for `https`.
    Http(HttpProbe),
    /// A container's log since the state under test was applied.
    Logs(LogsProbe),
    /// A proxy's configuration as Envoy itself reports it.
    ProxyConfig(ProxyConfigProbe),
    /// `istioctl analyze` over namespaces.
    Analyze {
        /// The namespaces; never empty.
        namespaces: Vec<String>,
    },
    /// The pods of Deployments and their ready containers.
    Pods {
        /// The Deployments; never empty.
        workloads: Vec<Namespaced>,
    },
    /// What istiod says of each connected proxy.
    ProxyStatus,
    /// Versions of client, control plane and proxies.
    Versions,
    /// An object of the Kubernetes API as it stands, its status included.
    Object(ObjectKey),
}

/// See [`Probe::Exec`].
#[derive(Debug, Clone)]
pub struct ExecProbe {
    /// The Deployment; its first ready pod is used.
    pub workload: Namespaced,
    /// The container; by default the first that is not `istio-proxy`.
    pub container: Option<String>,
    /// The command and its arguments; never empty.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The machine that runs gateproof.
    Outside,
    /// A Deployment's pod, by curl in its first container that is not `istio-proxy`.
    Workload(Namespaced),
}

/// The scheme of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// See [`Probe::Http`].
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// Who calls.
    pub from: Caller,
    /// The gateway to connect to instead of what the host resolves to. Always given for [`Caller::Outside`].
    pub gateway: Option<Namespaced>,
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The URL's host: Host header, and SNI unless `sni` says otherwise.
    pub host: HostName,
    /// The URL's port; 80 or 443 where the URL names none.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The SNI to send instead of the host. Only with [`Scheme::Https`].
    pub sni: Option<HostName>,
    /// The method, upper case.
    pub method: String,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// A request body.
    pub body: Option<String>,
    /// Whether the server's certificate is verified against the run's CAs.
    pub verify: Verify,
    /// A declared certificate to present.
    pub client_certificate: Option<Namespaced>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Whether a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Against the CAs that signed stand-ins and declared secrets.
    RunCas,
    /// Not at all (curl's `-k`); the certificate is still observed.
    Insecure,
}

/// See [`Probe::Logs`].
#[derive(Debug, Clone)]
pub struct LogsProbe {
    /// The Deployment; all its replicas are read.
    pub workload: Namespaced,
    /// The container; by default the only one, or `istio-proxy`.
    pub container: Option<String>,
}

/// See [`Probe::ProxyConfig`].
#[derive(Debug, Clone)]
pub struct ProxyConfigProbe {
    /// The Deployment whose proxies are read, every replica.
    pub workload: Namespaced,
    /// Which part of the configuration.
    pub section: ConfigSection,
    /// The entry's name; `*` stands for any text.
    pub name: String,
}

/// A part of Envoy's configuration dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSection {
    /// By listener name, such as `0.0.0.0_8443`.
    Listeners,
    /// By route configuration name, such as `http.8080`.
    Routes,
    /// By cluster name, such as `outbound|443||httpbin.org`.
    Clusters,
    /// By cluster name.
    Endpoints,
    /// By secret name, such as `kubernetes://httpbin-tls`.
    Secrets,
}

/// What is wanted of an answer. Its kind fits the probe's.
#[derive(Debug, Clone)]
pub enum Expectation {
    /// Of `exec` and `http`.
    Call(Box<CallExpect>),
    /// Of `logs`.
    Logs(LogsExpect),
    /// Of `proxyConfig`.
    Config(ConfigExpect),
    /// Of `object`: the same, of one object instead of a proxy's entries.
    Object(ConfigExpect),
    /// Of `analyze`.
    Analysis(AnalysisExpect),
    /// Of `pods`: so many of so many containers ready in every pod, such as 2 of 2.
    PodsReady {
        /// Ready containers, native sidecars included.
        ready: u32,
        /// All containers, native sidecars included.
        of: u32,
    },
    /// Of `proxyStatus`: these proxies (all connected ones when empty) have acknowledged all that was sent.
    InSync {
        /// Deployments whose proxies must be among the connected ones.
        workloads: Vec<Namespaced>,
    },
    /// Of `versions`: proxies and control plane say the same version.
    VersionsAgree,
    /// Of `exec` and `http`: nothing, the answer is only written down. Parity compares what two providers gave; a scenario's
    /// file cannot say this, for a check that accepts anything proves nothing.
    Observe {
        /// Proxies whose logs are read past the call, so that each of its lines there is seen.
        watched: Vec<Namespaced>,
    },
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextMatch {
    /// Equal after trimming white space at both ends.
    Equals(String),
    /// Has this part.
    Contains(String),
    /// Matches this regular expression somewhere (checked by the loader).
    Matches(String),
}

impl TextMatch {
    /// Whether a text is as wanted. A pattern that is no regular expression holds for nothing (the loader refuses one).
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Equals(all) => text.trim() == all.trim(),
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Matches(pattern) => regex::Regex::new(pattern).is_ok_and(|r| r.is_match(text)),
        }
    }
}

/// What is wanted of a call. Every field that is given must hold; at least one is.
#[derive(Debug, Clone, Default)]
pub struct CallExpect {
    /// Of exec: standard output.
    pub stdout: Option<TextMatch>,
    /// Of exec: standard error.
    pub stderr: Option<TextMatch>,
    /// Of exec: the exit code.
    pub exit_code: Option<i32>,
    /// The response's status.
    pub status: Option<u16>,
    /// How the connection ended; any one of these.
    pub connection: Vec<Connection>,
    /// The certificate that the caller saw.
    pub certificate: Option<CertificateExpect>,
    /// Response headers, by lower-case name.
    pub headers: BTreeMap<String, TextMatch>,
    /// The response's body.
    pub body: Option<TextMatch>,
    /// The body holds this run's token: it came from the server that this run deployed.
    pub run_token: bool,
    /// The proxies that the call went through, in order, each shown by its log line of this very call.
    pub path: Vec<HopExpect>,
    /// Proxies whose log has no line of this call, though it has a later one of ours.
    pub absent_from: Vec<Namespaced>,
}

/// One hop of a path. Patterns: `*` stands for any text; all given fields must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopExpect {
    /// The proxy's Deployment.
    pub proxy: Namespaced,
    /// Method, path and protocol of the request (`- - -` for TCP).
    pub request: Option<String>,
    /// The upstream cluster.
    pub cluster: Option<String>,
    /// The response flags (`-` for none).
    pub flags: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// The requested server name.
    pub sni: Option<String>,
    /// The response code details.
    pub details: Option<String>,
    /// The connection's termination details.
    pub termination: Option<String>,
    /// The response code in the log (0 for TCP).
    pub code: Option<u16>,
}

/// How a connection ended, as far as the caller can tell.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
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
    /// The peer sent a TLS alert, with its RFC 8446 name (`certificate required`, `unrecognized name`, …).
    TlsAlert(String),
    /// The server's certificate was not accepted by the caller.
    CertificateRejected,
    /// Something else, such as a command that curl does not understand. No expectation matches it.
    Other(String),
}

/// What is wanted of the certificate that the caller saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateExpect {
    /// The one in this generated secret, byte for byte.
    Secret(Namespaced),
    /// The one of this host outside the mesh, byte for byte.
    Outside(HostName),
}

/// What is wanted of a log. At least one field is given.
#[derive(Debug, Clone, Default)]
pub struct LogsExpect {
    /// Each is matched by some line.
    pub contains: Vec<TextMatch>,
    /// None is matched by any line.
    pub lacks: Vec<TextMatch>,
}

/// What is wanted of a proxy's configuration, in every replica.
#[derive(Debug, Clone)]
pub enum ConfigExpect {
    /// No entry has that name.
    Absent,
    /// At least one entry has that name, and some entry satisfies all of this.
    Present {
        /// Partial structures: maps by subset; every element given of a list matches some element.
        /// Names are Envoy's own (snake case).
        contains: Vec<Value>,
        /// Partial structures, in the same way, that must not be there.
        lacks: Vec<Value>,
        /// Expressions that are true of the entry.
        cel: Vec<CelExpression>,
    },
}

/// What is wanted of an analysis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnalysisExpect {
    /// No Error and no Warning. Info is shown.
    Clean,
    /// These codes (such as `IST0101`) are among the messages.
    Codes(Vec<String>),
}
