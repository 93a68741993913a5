//! What a transport socket asks of TLS.

use super::matchers::StringMatcher;

/// `envoy.extensions.transport_sockets.tls.v3.TlsParameters.TlsProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0
    V1_0,
    /// 1.1
    V1_1,
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// Bytes that a resource gives inline or by a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The text or the bytes themselves.
    Inline(String),
    /// A file of the proxy's.
    File(String),
}

/// Where a certificate and its key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// A secret by its SDS name: `default` is the proxy's own, `kubernetes://NAME` a Secret in its namespace.
    Sds(String),
    /// In the resource.
    Inline {
        /// PEM.
        chain: DataSource,
        /// PEM.
        key: DataSource,
    },
}

/// Which field of a certificate a SAN matcher looks at; `match_subject_alt_names` (untyped) looks at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanType {
    /// Any of DNS, URI, email and IP.
    Any,
    /// DNS names.
    Dns,
    /// URIs.
    Uri,
    /// IP addresses.
    Ip,
    /// Email addresses.
    Email,
    /// Something else.
    OtherName,
}

/// One accepted subject alternative name.
#[derive(Debug, Clone, PartialEq)]
pub struct SanMatcher {
    /// The field.
    pub san_type: SanType,
    /// What it must be.
    pub matcher: StringMatcher,
}

/// `CertificateValidationContext`, with what SDS adds named: the two halves of a combined context are merged as
/// `MergeFrom` does (`source/common/tls/context_config_impl.cc`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    /// The SDS name of the CA (`ROOTCA` is the mesh's; `file-root:PATH`, `system`, `kubernetes://NAME-cacert`).
    pub sds: Option<String>,
    /// The CA in the resource.
    pub trusted_ca: Option<DataSource>,
    /// `system_root_certs`.
    pub system_roots: bool,
    /// The other side's certificate must carry one of these; empty: any.
    pub subject_alt_names: Vec<SanMatcher>,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
    /// Whether a revocation list is configured.
    pub crl: bool,
    /// SPKI pins.
    pub spki: Vec<String>,
    /// SHA-256 pins.
    pub hashes: Vec<String>,
}

/// `CommonTlsContext`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommonTls {
    /// Certificates to show.
    pub certificates: Vec<CertificateSource>,
    /// What is asked of the other side's certificate; none: nothing.
    pub validation: Option<Validation>,
    /// ALPN, in order of preference.
    pub alpn: Vec<String>,
    /// The least version; none: Envoy's default (server 1.2, client 1.2).
    pub min_version: Option<TlsVersion>,
    /// The greatest version; none: Envoy's default (server 1.3, client 1.2 since it does not know better; 1.3 from 1.33 on).
    pub max_version: Option<TlsVersion>,
    /// OpenSSL names; empty: defaults.
    pub cipher_suites: Vec<String>,
}

/// `DownstreamTlsContext`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DownstreamTls {
    /// Certificates, validation, ALPN, versions.
    pub common: CommonTls,
    /// A client without a certificate is refused.
    pub require_client_certificate: bool,
    /// `require_sni`.
    pub require_sni: bool,
}

/// `UpstreamTlsContext`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpstreamTls {
    /// Certificates, validation, ALPN, versions.
    pub common: CommonTls,
    /// The SNI to send; empty: none, unless one of the next two gives one.
    pub sni: String,
    /// `auto_host_sni`: the name of the endpoint is the SNI.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`.
    pub auto_sni_san_validation: bool,
}

/// How bytes go to an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum UpstreamSocket {
    /// As they are.
    Raw,
    /// In TLS.
    Tls(Box<UpstreamTls>),
}
