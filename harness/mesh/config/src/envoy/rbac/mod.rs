//! Role-based access control: `envoy.config.rbac.v3`, for requests and for connections.

use std::collections::BTreeMap;

use super::access_log::{CallRecord, TlsFacts};
use super::address::Cidr;
use super::matchers::{FullRegex, HeaderMatcher, MetadataMatcher, StringMatcher, without_query};

/// `RBAC.Action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Only what matches passes.
    #[default]
    Allow,
    /// What matches does not pass.
    Deny,
    /// All pass; what matches is noted.
    Log,
}

/// `envoy.config.rbac.v3.RBAC`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rbac {
    /// What a match means.
    pub action: Action,
    /// By name; the first that matches in the order of names counts (`RoleBasedAccessControlEngineImpl` keeps a `std::map`).
    pub policies: BTreeMap<String, Policy>,
}

/// `envoy.config.rbac.v3.Policy`: any of the permissions and any of the principals.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What may be done.
    pub permissions: Vec<Permission>,
    /// By whom.
    pub principals: Vec<Principal>,
}

/// `envoy.config.rbac.v3.Permission`.
#[derive(Debug, Clone, PartialEq)]
pub enum Permission {
    /// Anything.
    Any,
    /// All of these.
    And(Vec<Permission>),
    /// One of these.
    Or(Vec<Permission>),
    /// Not this.
    Not(Box<Permission>),
    /// A header.
    Header(HeaderMatcher),
    /// The path without query and fragment.
    UrlPath(StringMatcher),
    /// The address on which the connection arrived.
    DestinationIp(Cidr),
    /// Its port.
    DestinationPort(u16),
    /// Its port from the first up to, and not including, the second.
    DestinationPortRange(u32, u32),
    /// SNI.
    RequestedServerName(StringMatcher),
    /// Dynamic metadata.
    Metadata(MetadataMatcher),
    /// Metadata of the route.
    RouteMetadata(MetadataMatcher),
    /// A path template, such as Istio's `{*}`.
    UriTemplate(FullRegex),
}

/// `envoy.config.rbac.v3.Principal`.
#[derive(Debug, Clone, PartialEq)]
pub enum Principal {
    /// Anyone.
    Any,
    /// All of these.
    And(Vec<Principal>),
    /// One of these.
    Or(Vec<Principal>),
    /// Not this.
    Not(Box<Principal>),
    /// TLS whose certificate has a URI SAN, DNS SAN or subject that is this; none: any TLS connection.
    Authenticated(Option<StringMatcher>),
    /// `source_ip` and `direct_remote_ip`: who is on the wire.
    DirectRemoteIp(Cidr),
    /// The client, after `x-forwarded-for` or a PROXY protocol header.
    RemoteIp(Cidr),
    /// A header.
    Header(HeaderMatcher),
    /// The path without query and fragment.
    UrlPath(StringMatcher),
    /// Dynamic metadata.
    Metadata(MetadataMatcher),
    /// `mtls_authenticated`: a certificate that was checked, of which a SAN is this; none: any.
    MtlsAuthenticated(Option<StringMatcher>),
    /// Metadata of the route.
    RouteMetadata(MetadataMatcher),
    /// Filter state as a string.
    FilterState(String, StringMatcher),
}

/// What rules say of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it passes.
    pub allowed: bool,
    /// The policy that matched.
    pub policy: Option<String>,
}

impl Rbac {
    /// Judge a request or a connection by what is known of it. With `LOG` all pass, and the policy says what matched.
    pub fn check(&self, call: &CallRecord) -> Verdict {
        let policy = self.policies.iter().find(|(_, policy)| policy.matches(call)).map(|(name, _)| name.clone());
        let allowed = match self.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        Verdict { allowed, policy }
    }
}

impl Policy {
    fn matches(&self, call: &CallRecord) -> bool {
        self.permissions.iter().any(|p| p.matches(call)) && self.principals.iter().any(|p| p.matches(call))
    }
}

/// The path without query, if there is one: a connection has none.
fn path(call: &CallRecord) -> Option<&str> {
    call.request.get(":path").map(without_query)
}

impl Permission {
    fn matches(&self, call: &CallRecord) -> bool {
        let local = call.downstream.local;
        match self {
            Self::Any => true,
            Self::And(rules) => rules.iter().all(|rule| rule.matches(call)),
            Self::Or(rules) => rules.iter().any(|rule| rule.matches(call)),
            Self::Not(rule) => !rule.matches(call),
            Self::Header(matcher) => matcher.matches(&call.request),
            Self::UrlPath(matcher) => path(call).is_some_and(|path| matcher.matches(path)),
            Self::UriTemplate(pattern) => path(call).is_some_and(|path| pattern.matches(path)),
            Self::DestinationIp(range) => local.is_some_and(|local| range.contains(local.ip())),
            Self::DestinationPort(port) => local.is_some_and(|local| local.port() == *port),
            Self::DestinationPortRange(start, end) => local.is_some_and(|local| (*start..*end).contains(&u32::from(local.port()))),
            Self::RequestedServerName(matcher) => matcher.matches(&call.downstream.requested_server_name),
            Self::Metadata(matcher) => matcher.matches(&call.metadata),
            Self::RouteMetadata(matcher) => matcher.matches(&call.route_metadata),
        }
    }
}

impl Principal {
    fn matches(&self, call: &CallRecord) -> bool {
        let down = &call.downstream;
        match self {
            Self::Any => true,
            Self::And(ids) => ids.iter().all(|id| id.matches(call)),
            Self::Or(ids) => ids.iter().any(|id| id.matches(call)),
            Self::Not(id) => !id.matches(call),
            Self::Authenticated(matcher) => down.tls.as_ref().is_some_and(|tls| authenticated(tls, matcher.as_ref())),
            Self::MtlsAuthenticated(matcher) => down.tls.as_ref().is_some_and(|tls| {
                let sans = || tls.peer_uri_sans.iter().chain(&tls.peer_dns_sans);
                tls.peer_presented && tls.peer_validated && matcher.as_ref().is_none_or(|m| sans().any(|san| m.matches(san)))
            }),
            Self::DirectRemoteIp(range) => down.direct_remote.is_some_and(|remote| range.contains(remote.ip())),
            Self::RemoteIp(range) => down.remote.is_some_and(|remote| range.contains(remote.ip())),
            Self::Header(matcher) => matcher.matches(&call.request),
            Self::UrlPath(matcher) => path(call).is_some_and(|path| matcher.matches(path)),
            Self::Metadata(matcher) => matcher.matches(&call.metadata),
            Self::RouteMetadata(matcher) => matcher.matches(&call.route_metadata),
            Self::FilterState(key, matcher) => call.filter_state.get(key).is_some_and(|value| matcher.matches(value)),
        }
    }
}

/// A URI SAN, else a DNS SAN, else the subject (`AuthenticatedMatcher`; each is tried in turn).
fn authenticated(tls: &TlsFacts, matcher: Option<&StringMatcher>) -> bool {
    let Some(matcher) = matcher else { return true };
    tls.peer_uri_sans.iter().chain(&tls.peer_dns_sans).any(|san| matcher.matches(san)) || matcher.matches(&tls.peer_subject)
}
