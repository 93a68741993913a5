//! What a connection manager does with a request before its filters see it: the client's address, the headers that say so,
//! and the form of the path (`source/common/http/conn_manager_utility.cc`, `path_utility.cc`).

use std::net::{IpAddr, SocketAddr};

use super::access_log::{Downstream, TlsFacts};
use super::hcm::{EscapedSlashes, ForwardClientCert, HttpConnectionManager};
use super::headers::Headers;

/// What was found out about who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The client. From `x-forwarded-for` it has port 0, as Envoy logs it.
    pub remote: Option<SocketAddr>,
    /// The request comes from outside: its request id is replaced unless that is configured otherwise.
    pub edge: bool,
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathVerdict {
    /// It is used in this form.
    Use(String),
    /// 400, details [`super::details::PATH_NORMALIZATION_FAILED`].
    Reject,
    /// 307 to this path.
    Redirect(String),
}

impl HttpConnectionManager {
    /// Set `x-forwarded-for`, `x-forwarded-proto`, `x-envoy-external-address` and `x-forwarded-client-cert`, and find the
    /// client. No address counts as internal, since none is configured so (`explicit_internal_address_config`).
    pub fn arrive(&self, headers: &mut Headers, connection: &Downstream) -> Arrival {
        let scheme = if connection.tls.is_some() { "https" } else { "http" };
        let hops = usize::try_from(self.xff_num_trusted_hops).unwrap_or(usize::MAX);
        let mut remote = connection.remote;
        if self.use_remote_address {
            if hops > 0 {
                remote = from_forwarded_for(headers, hops - 1).or(remote);
            }
            if let Some(peer) = connection.remote.filter(|_| !self.skip_xff_append) {
                let before = headers.joined("x-forwarded-for").map_or_else(String::new, |list| list + ",");
                headers.set("x-forwarded-for", format!("{before}{}", peer.ip()));
            }
            // What a hop says that is not trusted does not count.
            if hops == 0 || headers.get("x-forwarded-proto").is_none() {
                headers.set("x-forwarded-proto", scheme);
            }
            for name in EDGE_ONLY {
                headers.remove(name);
            }
            if let Some(remote) = remote {
                headers.set("x-envoy-external-address", remote.ip().to_string());
            }
        } else {
            remote = from_forwarded_for(headers, hops).or(remote);
            if headers.get("x-forwarded-proto").is_none() {
                headers.set("x-forwarded-proto", scheme);
            }
        }
        for name in INTERNAL_ONLY {
            headers.remove(name);
        }
        self.forward_certificate(headers, connection.tls.as_ref());
        Arrival { remote, edge: self.use_remote_address }
    }

    /// `x-forwarded-client-cert` (`mutateXfccRequestHeader`).
    fn forward_certificate(&self, headers: &mut Headers, tls: Option<&TlsFacts>) {
        const NAME: &str = "x-forwarded-client-cert";
        let shown = tls.filter(|tls| tls.peer_presented);
        let (how, Some(tls)) = (self.forward_client_cert, shown) else {
            if self.forward_client_cert != ForwardClientCert::AlwaysForwardOnly {
                headers.remove(NAME);
            }
            return;
        };
        match how {
            ForwardClientCert::AlwaysForwardOnly | ForwardClientCert::ForwardOnly => {}
            ForwardClientCert::Sanitize => {
                headers.remove(NAME);
            }
            ForwardClientCert::AppendForward => {
                let before = headers.joined(NAME).map_or_else(String::new, |list| list + ",");
                headers.set(NAME, before + &self.certificate_element(tls));
            }
            ForwardClientCert::SanitizeSet => headers.set(NAME, self.certificate_element(tls)),
        }
    }

    fn certificate_element(&self, tls: &TlsFacts) -> String {
        let wanted = self.client_cert_details;
        let mut parts: Vec<String> = tls.local_uri_sans.iter().map(|uri| format!("By={uri}")).collect();
        if !tls.peer_fingerprint_256.is_empty() {
            parts.push(format!("Hash={}", tls.peer_fingerprint_256));
        }
        if wanted.cert && !tls.peer_certificate.is_empty() {
            parts.push(format!("Cert=\"{}\"", tls.peer_certificate));
        }
        if wanted.chain && !tls.peer_chain.is_empty() {
            parts.push(format!("Chain=\"{}\"", tls.peer_chain));
        }
        if wanted.subject {
            parts.push(format!("Subject=\"{}\"", tls.peer_subject.replace('\\', "\\\\").replace('"', "\\\"")));
        }
        if wanted.uri {
            let none = tls.peer_uri_sans.is_empty().then(|| "URI=".to_owned());
            parts.extend(tls.peer_uri_sans.iter().map(|uri| format!("URI={uri}")).chain(none));
        }
        if wanted.dns {
            parts.extend(tls.peer_dns_sans.iter().map(|name| format!("DNS={name}")));
        }
        parts.join(";")
    }

    /// The form of a path in which it is routed and sent on.
    pub fn path(&self, path: &str) -> PathVerdict {
        if path.contains('#') {
            return PathVerdict::Reject;
        }
        let (mut bare, query) = match path.find('?').map(|at| path.split_at(at)) {
            Some((bare, query)) => (bare.to_owned(), query),
            None => (path.to_owned(), ""),
        };
        let mut redirect = false;
        if self.escaped_slashes != EscapedSlashes::Keep {
            let unescaped = ["%2F", "%2f"].iter().fold(bare.clone(), |text, code| text.replace(code, "/"));
            let unescaped = ["%5C", "%5c"].iter().fold(unescaped, |text, code| text.replace(code, "\\"));
            if unescaped != bare {
                if self.escaped_slashes == EscapedSlashes::Reject {
                    return PathVerdict::Reject;
                }
                redirect = self.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
                bare = unescaped;
            }
        }
        // `*` of OPTIONS, and the empty path of CONNECT, are no paths to normalise.
        if self.normalize_path && bare.starts_with(['/', '\\']) {
            bare = without_dots(&bare);
        }
        if self.merge_slashes {
            while bare.contains("//") {
                bare = bare.replace("//", "/");
            }
        }
        let new = bare + query;
        if redirect { PathVerdict::Redirect(new) } else { PathVerdict::Use(new) }
    }

    /// The host in which the virtual host is looked up, after what is configured to be taken off it.
    pub fn host<'a>(&self, authority: &'a str, listener_port: Option<u16>) -> std::borrow::Cow<'a, str> {
        let bare = super::route::without_port(authority);
        let port: Option<u16> = authority.get(bare.len()..).and_then(|rest| rest.strip_prefix(':')).and_then(|port| port.parse().ok());
        let strip = self.strip_any_host_port || (self.strip_matching_host_port && port.is_some() && port == listener_port);
        let (name, rest) = (bare, if strip { "" } else { authority.get(bare.len()..).unwrap_or_default() });
        match name.strip_suffix('.').filter(|_| self.strip_trailing_host_dot) {
            Some(name) => format!("{name}{rest}").into(),
            None if rest.is_empty() => name.into(),
            None => authority.into(),
        }
    }
}

/// Only another Envoy of the same mesh may send these; from outside they are dropped (`cleanInternalHeaders`).
const INTERNAL_ONLY: &[&str] = &[
    "x-envoy-internal",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
];

/// Dropped at the edge besides.
const EDGE_ONLY: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
    "x-envoy-original-host",
];

/// The address in `x-forwarded-for`, from the right, after so many (`Utility::getLastAddressFromXFF`).
fn from_forwarded_for(headers: &Headers, skip: usize) -> Option<SocketAddr> {
    let list = headers.joined("x-forwarded-for")?;
    let ip: IpAddr = list.rsplit(',').nth(skip)?.trim().parse().ok()?;
    Some(SocketAddr::new(ip, 0))
}

/// What RFC 3986, 2.3, calls unreserved is never encoded: `%61` is `a`. Chromium's canonicaliser decodes it and leaves the rest.
fn unreserved_decoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, code)) = rest.split_once('%') {
        out.push_str(before);
        let byte = code.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).map(char::from);
        match byte.filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)) {
            Some(c) => {
                out.push(c);
                rest = code.get(2..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = code;
            }
        }
    }
    out + rest
}

/// RFC 3986, 5.2.4, with `\` as a slash, as Chromium's canonicaliser has it.
fn without_dots(path: &str) -> String {
    let path = unreserved_decoded(path).replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    let joined: String = kept.iter().map(|segment| format!("/{segment}")).collect();
    if joined.is_empty() { "/".to_owned() } else { joined }
}
