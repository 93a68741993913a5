//! A Gateway as an object gives it. Names and meaning of the fields are those of Istio's API reference.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::istio::model::Protocol;
use crate::istio::route::Meta;
use crate::istio::route::meta::without_nulls;

/// A Gateway with what its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Name, namespace, annotations.
    pub meta: Meta,
    /// What the object says.
    pub spec: GatewaySpec,
}

impl Gateway {
    /// Reads an object; `None` where it is no Gateway of Istio's or its specification cannot be read, which istiod leaves out of
    /// account too.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        if object.get("kind").and_then(Value::as_str) != Some("Gateway") {
            return None;
        }
        let spec = match object.get("spec") {
            Some(spec) => serde_json::from_value(without_nulls(spec)).ok()?,
            None => GatewaySpec::default(),
        };
        Some(Self { meta: Meta::of(object), spec })
    }
}

/// `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct GatewaySpec {
    pub selector: BTreeMap<String, String>,
    pub servers: Vec<Server>,
}

/// One of `spec.servers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Server {
    pub port: Option<Port>,
    pub bind: String,
    pub hosts: Vec<String>,
    pub tls: Option<Tls>,
    pub name: String,
}

/// `server.port`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Port {
    pub number: u16,
    pub name: String,
    pub protocol: String,
}

impl Port {
    /// Whether requests can be read without ending TLS.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.parsed().is_http() || self.protocol.eq_ignore_ascii_case("http_proxy")
    }

    /// The protocol.
    #[must_use]
    pub fn parsed(&self) -> Protocol {
        Protocol::parse(&self.protocol)
    }
}

/// `server.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct Tls {
    pub https_redirect: bool,
    pub mode: TlsMode,
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
    pub credential_name: String,
    pub credential_names: Vec<String>,
    pub ca_cert_credential_name: String,
    pub tls_certificates: Vec<TlsCertificate>,
    pub subject_alt_names: Vec<String>,
    pub verify_certificate_spki: Vec<String>,
    pub verify_certificate_hash: Vec<String>,
    pub min_protocol_version: TlsVersion,
    pub max_protocol_version: TlsVersion,
    pub cipher_suites: Vec<String>,
    pub insecure_skip_verify: bool,
}

/// One of `tls.tlsCertificates`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of Istio's reference")]
pub struct TlsCertificate {
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
}

/// `tls.mode`; the first is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the values are those of Istio's reference")]
pub enum TlsMode {
    #[default]
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

/// `tls.minProtocolVersion` and `maxProtocolVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[expect(missing_docs, reason = "the values are those of Istio's reference")]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    #[serde(rename = "TLSV1_0")]
    V10,
    #[serde(rename = "TLSV1_1")]
    V11,
    #[serde(rename = "TLSV1_2")]
    V12,
    #[serde(rename = "TLSV1_3")]
    V13,
}

impl TlsVersion {
    /// Envoy's name for it; `None` for its own choice.
    #[must_use]
    pub fn envoy(self) -> Option<&'static str> {
        match self {
            Self::Auto => None,
            Self::V10 => Some("TLSv1_0"),
            Self::V11 => Some("TLSv1_1"),
            Self::V12 => Some("TLSv1_2"),
            Self::V13 => Some("TLSv1_3"),
        }
    }
}

/// What a server does with a connection (`pkg/config/gateway`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads requests as they come, also where `tls` says to redirect them.
    Http,
    /// Ends TLS and reads requests.
    Https,
    /// Passes bytes on, with or without ending TLS.
    Bytes,
    /// Passes TLS on by its server name.
    Passthrough,
}

impl Server {
    /// The role that port and `tls` give it.
    #[must_use]
    pub fn role(&self, port: &Port) -> Role {
        let passthrough = matches!(self.tls.as_ref().map(|tls| tls.mode), Some(TlsMode::Passthrough | TlsMode::AutoPassthrough));
        match port.parsed() {
            _ if port.is_http() => Role::Http,
            _ if passthrough => Role::Passthrough,
            Protocol::Https if self.tls.is_some() => Role::Https,
            _ => Role::Bytes,
        }
    }

    /// Whether its requests are redirected to HTTPS.
    #[must_use]
    pub fn redirects(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// With hosts as the rest reads them: `./h` with the Gateway's namespace, `*/h` without one, `*/*` alone
    /// (`sanitizeServerHostNamespace`).
    #[must_use]
    pub fn with_plain_hosts(&self, namespace: &str) -> Self {
        let mut out = self.clone();
        if self.hosts.iter().any(|host| host == "*/*") {
            out.hosts = vec!["*".to_owned()];
            return out;
        }
        for host in &mut out.hosts {
            *host = match host.split_once('/') {
                Some((".", name)) => format!("{namespace}/{name}"),
                Some(("*", name)) => name.to_owned(),
                _ => continue,
            };
        }
        out
    }

    /// The server names of its filter chain, each once and in order.
    #[must_use]
    pub fn sni_hosts(&self) -> Vec<String> {
        let names: std::collections::BTreeSet<&str> =
            self.hosts.iter().map(|host| host.split_once('/').map_or(host.as_str(), |(_, name)| name)).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}
