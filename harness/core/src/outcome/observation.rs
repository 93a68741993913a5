//! What probes bring back.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::Namespaced;
use crate::scenario::Connection;

/// The answer to a probe. Its kind is the probe's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Observation {
    /// Of `exec` and `http`.
    Call(Box<CallSeen>),
    /// Of `logs`.
    Logs {
        /// Each replica's lines since the state under test was applied.
        lines: Vec<LogLine>,
    },
    /// Of `proxyConfig`.
    Config {
        /// What each replica has under that name.
        replicas: Vec<ConfigSeen>,
    },
    /// Of `object`.
    Object {
        /// Kind, namespace and name.
        name: String,
        /// The object without its managed fields; None where it is not there.
        value: Option<Value>,
    },
    /// Of `analyze`.
    Analysis {
        /// All messages, Info included.
        messages: Vec<AnalysisMessage>,
    },
    /// Of `pods`.
    Pods {
        /// Each pod of each Deployment; a Deployment without pods has none.
        pods: Vec<PodSeen>,
        /// Deployments that do not exist or have no pod.
        without_pods: Vec<Namespaced>,
    },
    /// Of `proxyStatus`.
    ProxyStatus {
        /// Each connected proxy.
        proxies: Vec<ProxySeen>,
        /// Pods with a proxy that istiod does not list, as it would call them.
        #[serde(default)]
        unconnected: Vec<String>,
    },
    /// Of `versions`.
    Versions {
        /// Who says what: istiod, each proxy, the client.
        seen: Vec<VersionSeen>,
    },
}

/// What was seen of a call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CallSeen {
    /// A command that repeats it by hand.
    pub command: String,
    /// Of exec: standard output, without anything the harness added to the command.
    pub stdout: Option<String>,
    /// Of exec: standard error.
    pub stderr: Option<String>,
    /// Of exec: the exit code.
    pub exit_code: Option<i32>,
    /// How the connection ended; None when the command was not a call.
    pub connection: Option<Connection>,
    /// The caller's own words about a failed connection (curl's message, a TLS error).
    pub connection_detail: Option<String>,
    /// The response's status.
    pub status: Option<u16>,
    /// Response headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The response's body, at most 64 KiB of it, as text.
    pub body: Option<String>,
    /// The certificate the server showed.
    pub certificate: Option<CertificateSeen>,
    /// The caller's own address of the connection.
    pub local: Option<SocketAddr>,
    /// The address the caller connected to.
    pub remote: Option<SocketAddr>,
    /// This run's token, for comparison with the body.
    pub run_token: String,
    /// SHA-256 fingerprints of the certificates that were generated: by `NAMESPACE/SECRET` and by outside host.
    pub known_certificates: BTreeMap<String, String>,
    /// Every log line of this call, from every replica of the proxies asked about, in path order.
    pub hops: Vec<HopSeen>,
    /// For each proxy whose absence was asked: what shows it.
    pub absences: Vec<AbsenceSeen>,
    /// Proxies of the expected path whose log had no line of this call, with what was looked for.
    pub missing_hops: Vec<MissingHop>,
}

/// A server certificate, identified without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSeen {
    /// Subject, as an RFC 4514-like text.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// DNS and URI subject alternative names.
    pub names: Vec<String>,
    /// SHA-256 of the DER form, lower-case hex.
    pub sha256: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
}

/// One log line that belongs to the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HopSeen {
    /// The proxy's Deployment.
    pub proxy: Namespaced,
    /// The replica.
    pub pod: String,
    /// The parsed line.
    pub entry: AccessLogEntry,
    /// How the line is known to be of this call: `token in User-Agent`, `addresses 10.1.0.5:4711`, …
    pub joined_by: String,
}

/// A hop that left no line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingHop {
    /// The proxy's Deployment.
    pub proxy: Namespaced,
    /// What was looked for and how long.
    pub looked_for: String,
}

/// Whether a proxy's log is without a line of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsenceSeen {
    /// The proxy's Deployment.
    pub proxy: Namespaced,
    /// Lines of this call that were there after all.
    pub lines: Vec<HopSeen>,
    /// For each replica, what shows that its log had been read past the call: the sentinel's line,
    /// or that nothing listens there. None: the sentinel did not arrive, so absence is not shown.
    pub shown_by: Option<String>,
}

/// A line of Istio's default text access log, read field by field.
/// Source: istio/istio `pilot/pkg/model/telemetry_logging.go`, `EnvoyTextLogFormat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AccessLogEntry {
    /// The whole line.
    pub line: String,
    /// START_TIME, as written.
    pub start: String,
    /// Method, path and protocol; None for TCP (`- - -`).
    pub request: Option<String>,
    /// RESPONSE_CODE; 0 for TCP and where no response was sent.
    pub code: u16,
    /// RESPONSE_FLAGS; `-` for none.
    pub flags: String,
    /// RESPONSE_CODE_DETAILS.
    pub details: String,
    /// CONNECTION_TERMINATION_DETAILS.
    pub termination: String,
    /// UPSTREAM_TRANSPORT_FAILURE_REASON.
    pub upstream_failure: String,
    /// BYTES_RECEIVED.
    pub received: u64,
    /// BYTES_SENT.
    pub sent: u64,
    /// DURATION in milliseconds.
    pub duration_ms: u64,
    /// USER-AGENT.
    pub user_agent: String,
    /// X-REQUEST-ID.
    pub request_id: String,
    /// :AUTHORITY.
    pub authority: String,
    /// UPSTREAM_HOST, an address or `-`.
    pub upstream_host: String,
    /// UPSTREAM_CLUSTER.
    pub cluster: String,
    /// UPSTREAM_LOCAL_ADDRESS.
    pub upstream_local: String,
    /// DOWNSTREAM_LOCAL_ADDRESS.
    pub downstream_local: String,
    /// DOWNSTREAM_REMOTE_ADDRESS.
    pub downstream_remote: String,
    /// REQUESTED_SERVER_NAME.
    pub sni: String,
    /// ROUTE_NAME.
    pub route: String,
}

/// A line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The pod.
    pub pod: String,
    /// The line without its end.
    pub text: String,
}

/// What one replica's Envoy has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigSeen {
    /// The pod.
    pub pod: String,
    /// Entries of that section under that name, name and value.
    pub entries: Vec<(String, Value)>,
    /// All names in that section: shown when nothing matched.
    pub all_names: Vec<String>,
}

/// One message of an analysis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisMessage {
    /// `Error`, `Warning` or `Info`.
    pub level: String,
    /// Such as `IST0101`.
    pub code: String,
    /// The object and the text.
    pub text: String,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSeen {
    /// Its Deployment.
    pub workload: Namespaced,
    /// Its name.
    pub pod: String,
    /// Its phase, or the reason why a container waits.
    pub phase: String,
    /// Ready containers, native sidecars included.
    pub ready: u32,
    /// All containers, native sidecars included.
    pub of: u32,
}

/// One connected proxy, as istiod sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySeen {
    /// `POD.NAMESPACE`, istiod's name for it.
    pub id: String,
    /// Each resource type with `SYNCED`, `STALE`, `NOT SENT` or the error of the last refusal.
    pub types: Vec<(String, String)>,
    /// Whether all that was sent is acknowledged and nothing is refused.
    pub synced: bool,
}

/// Who says which version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSeen {
    /// `istiod`, `proxy POD.NAMESPACE`, `istioctl`, …
    pub who: String,
    /// As it says.
    pub version: String,
}
