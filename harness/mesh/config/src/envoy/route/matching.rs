//! Whether a route matches a request (`RouteEntryImplBase::matchRoute`).

use super::{PathMatch, RequestFacts, RouteMatcher};
use crate::envoy::headers::Headers;
use crate::envoy::matchers::without_query;

impl PathMatch {
    /// Whether a path matches; its query does not count.
    pub fn matches(&self, headers: &Headers, case_sensitive: bool) -> bool {
        let fold = |text: &str| if case_sensitive { text.to_owned() } else { text.to_ascii_lowercase() };
        let path = without_query(headers.path());
        match self {
            Self::Connect => headers.method() == "CONNECT",
            Self::Prefix(prefix) => fold(path).starts_with(&fold(prefix)),
            Self::Exact(wanted) => fold(path) == fold(wanted),
            Self::Regex(pattern) | Self::Template(pattern) => pattern.matches(path),
            Self::PathSeparatedPrefix(prefix) => {
                let (path, prefix) = (fold(path), fold(prefix));
                path.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl RouteMatcher {
    pub(super) fn matches(&self, request: &RequestFacts<'_>) -> bool {
        let headers = request.headers;
        let tls = request.call.downstream.tls.as_ref();
        let certificate = |wanted: Option<bool>, is: Option<bool>| wanted.is_none_or(|wanted| is.unwrap_or_default() == wanted);
        self.fraction.is_none_or(|share| share.draws(request.random))
            && self.path.matches(headers, self.case_sensitive)
            && (!self.grpc || is_grpc(headers))
            && self.headers.iter().all(|matcher| matcher.matches(headers))
            && self.query.iter().all(|matcher| matcher.matches(headers.path()))
            && certificate(self.certificate_presented, tls.map(|tls| tls.peer_presented))
            && certificate(self.certificate_validated, tls.map(|tls| tls.peer_validated))
            && self.metadata.iter().all(|matcher| matcher.matches(&request.call.metadata))
    }
}

/// `Grpc::Common::isGrpcRequestHeaders`.
fn is_grpc(headers: &Headers) -> bool {
    let kind = headers.get("content-type").unwrap_or_default();
    kind == "application/grpc" || kind.starts_with("application/grpc+")
}
