//! All that is known of one call: what lines are written from, and what rules look at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Flags;
use crate::envoy::headers::Headers;
use crate::envoy::network::Metadata;

/// What TLS says of one connection. Lists are in the certificate's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The other side showed a certificate.
    pub peer_presented: bool,
    /// And it was checked.
    pub peer_validated: bool,
    /// URI SANs of the other side.
    pub peer_uri_sans: Vec<String>,
    /// DNS SANs.
    pub peer_dns_sans: Vec<String>,
    /// IP SANs.
    pub peer_ip_sans: Vec<String>,
    /// Email SANs.
    pub peer_email_sans: Vec<String>,
    /// RFC 2253.
    pub peer_subject: String,
    /// RFC 2253.
    pub peer_issuer: String,
    /// Lower-case hex.
    pub peer_serial: String,
    /// SHA-256 in lower-case hex.
    pub peer_fingerprint_256: String,
    /// PEM, URL-encoded.
    pub peer_certificate: String,
    /// The whole chain, PEM, URL-encoded.
    pub peer_chain: String,
    /// Valid from.
    pub peer_valid_from: Option<Timestamp>,
    /// Valid to.
    pub peer_valid_to: Option<Timestamp>,
    /// URI SANs of this side.
    pub local_uri_sans: Vec<String>,
    /// DNS SANs of this side.
    pub local_dns_sans: Vec<String>,
    /// Subject of this side.
    pub local_subject: String,
    /// ALPN that was agreed upon.
    pub alpn: String,
}

/// The client's side.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Downstream {
    /// The client: after `x-forwarded-for` or a PROXY protocol header.
    pub remote: Option<SocketAddr>,
    /// The peer on the wire.
    pub direct_remote: Option<SocketAddr>,
    /// The (original) destination.
    pub local: Option<SocketAddr>,
    /// The listener's own address.
    pub direct_local: Option<SocketAddr>,
    /// SNI; empty: none.
    pub requested_server_name: String,
    /// `raw_buffer` or `tls`, as detected.
    pub transport_protocol: String,
    /// TLS that was terminated.
    pub tls: Option<TlsFacts>,
    /// Why a handshake failed.
    pub transport_failure: String,
    /// Envoy's number of the connection.
    pub connection_id: u64,
}

/// The upstream's side.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Upstream {
    /// The cluster that was chosen.
    pub cluster: Option<String>,
    /// Its `alt_stat_name`: `%UPSTREAM_CLUSTER%` writes it where there is one.
    pub cluster_alt_name: Option<String>,
    /// The endpoint, as `ip:port` or a path.
    pub host: Option<String>,
    /// The address that the connection was made from.
    pub local: Option<SocketAddr>,
    /// Why the transport failed; empty: it did not.
    pub transport_failure: String,
    /// Why the connection was closed locally; empty.
    pub local_close_reason: String,
    /// TLS to the upstream.
    pub tls: Option<TlsFacts>,
    /// How often it was tried; 0: never.
    pub attempts: u32,
    /// `HTTP/1.1` or `HTTP/2`; none for TCP.
    pub protocol: Option<String>,
    /// `cluster.metadata`.
    pub metadata: BTreeMap<String, Value>,
    /// Bytes on the wire.
    pub bytes_sent: u64,
    /// Bytes on the wire.
    pub bytes_received: u64,
}

/// One request, or one connection without HTTP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallRecord {
    /// When it began.
    pub start: Option<Timestamp>,
    /// How long all of it took.
    pub duration: Option<Duration>,
    /// Until the request was read.
    pub request_duration: Option<Duration>,
    /// Until the first byte from the upstream.
    pub response_duration: Option<Duration>,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`; none for TCP.
    pub protocol: Option<String>,
    /// The request; empty for TCP.
    pub request: Headers,
    /// The response; empty for TCP.
    pub response: Headers,
    /// Its trailers.
    pub trailers: Headers,
    /// The status; none for TCP, written as 0.
    pub response_code: Option<u16>,
    /// One of [`crate::envoy::details`].
    pub response_code_details: Option<String>,
    /// Why the connection was ended (`rbac_access_denied_matched_policy[...]` of a network filter).
    pub connection_termination_details: Option<String>,
    /// Flags.
    pub flags: Flags,
    /// The client's side.
    pub downstream: Downstream,
    /// The upstream's side.
    pub upstream: Upstream,
    /// The route's name; empty: none.
    pub route_name: String,
    /// The virtual host's name.
    pub virtual_host: String,
    /// The filter chain's name.
    pub filter_chain: String,
    /// Body bytes, or TCP bytes, from the client.
    pub bytes_received: u64,
    /// Body bytes, or TCP bytes, to the client.
    pub bytes_sent: u64,
    /// Dynamic metadata.
    pub metadata: Metadata,
    /// Metadata of the route.
    pub route_metadata: BTreeMap<String, Value>,
    /// Filter state as strings.
    pub filter_state: BTreeMap<String, String>,
    /// Whether it is a health check.
    pub health_check: bool,
    /// The proxy's host name: the pod.
    pub hostname: String,
    /// The proxy's environment, for `%ENVIRONMENT(X)%`.
    pub environment: BTreeMap<String, String>,
}
