//! Tokens: `envoy.extensions.filters.http.jwt_authn.v3`, without cryptography.

mod check;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use super::matchers::StringMatcher;
use super::route::PathMatch;

/// `JwtProvider`.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Its name within the filter.
    pub name: String,
    /// `iss`; empty: any.
    pub issuer: String,
    /// One of `aud` must be here; empty: any.
    pub audiences: Vec<String>,
    /// `sub`; none: any.
    pub subject: Option<StringMatcher>,
    /// The keys.
    pub jwks: JwksSource,
    /// The token goes on to the upstream.
    pub forward: bool,
    /// The payload goes on in this header, base64url; empty: it does not.
    pub forward_payload_header: String,
    /// Headers with the prefix before the token.
    pub from_headers: Vec<(String, String)>,
    /// Query parameters.
    pub from_params: Vec<String>,
    /// Cookies.
    pub from_cookies: Vec<String>,
    /// The key under which the payload goes into dynamic metadata; empty: it does not.
    pub payload_in_metadata: String,
    /// The key for the token's header.
    pub header_in_metadata: String,
    /// Claims of words with blanks between them that become lists in metadata (`scope`).
    pub space_delimited_claims: Vec<String>,
    /// How far clocks may be apart; default 60 s.
    pub clock_skew: Duration,
    /// Claims that go on in headers: header, claim.
    pub claim_to_headers: Vec<(String, String)>,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// JSON in the resource.
    Inline(String),
    /// Fetched through a cluster.
    Remote {
        /// The address.
        uri: String,
        /// The cluster.
        cluster: String,
        /// At most.
        timeout: Duration,
    },
}

/// `JwtRequirement`.
#[derive(Debug, Clone, PartialEq)]
pub enum Requirement {
    /// A valid token of this provider.
    Provider(String),
    /// The same with other audiences.
    ProviderAndAudiences(String, Vec<String>),
    /// Any of these.
    Any(Vec<Requirement>),
    /// All of these.
    All(Vec<Requirement>),
    /// Missing or failed are fine.
    AllowMissingOrFailed,
    /// Missing is fine, failed is not.
    AllowMissing,
}

/// `RequirementRule`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which requests.
    pub path: PathMatch,
    /// And these headers.
    pub headers: Vec<super::matchers::HeaderMatcher>,
    /// What is asked; none: nothing.
    pub requires: Option<Requirement>,
}

/// `JwtAuthentication`.
#[derive(Debug, Clone, Default)]
pub struct JwtAuthn {
    /// By name.
    pub providers: BTreeMap<String, Provider>,
    /// The first that matches counts.
    pub rules: Vec<Rule>,
    /// By name, for routes.
    pub requirement_map: BTreeMap<String, Requirement>,
    /// A preflight passes without a token.
    pub bypass_cors_preflight: bool,
}

/// What a route asks of the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PerRouteJwt {
    /// Nothing.
    Disabled,
    /// A requirement of the map.
    Requirement(String),
}

/// What the caller's cryptography is asked: is this signature by one of these keys?
#[derive(Debug, Clone, Copy)]
pub struct SignatureQuestion<'a> {
    /// `kid` of the token.
    pub kid: Option<&'a str>,
    /// `alg` of the token.
    pub alg: &'a str,
    /// Header and payload as they were signed: `BASE64URL.BASE64URL`.
    pub signed: &'a str,
    /// The signature.
    pub signature: &'a [u8],
    /// The provider, whose keys are to be used.
    pub provider: &'a Provider,
}

/// The caller's answer about a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAnswer {
    /// By one of the keys.
    Good,
    /// By none of them.
    Bad,
    /// No key has this `kid` or `alg`.
    NoKey,
    /// The keys could not be had.
    NoJwks,
}

/// What the filter does with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum JwtVerdict {
    /// It passes, with what is to be done to it.
    Pass {
        /// For `envoy.filters.http.jwt_authn` of the dynamic metadata.
        metadata: BTreeMap<String, serde_json::Value>,
        /// Headers to set.
        set: Vec<(String, String)>,
        /// Headers to take off.
        remove: Vec<String>,
        /// Query parameters to take out of `:path`.
        remove_parameters: Vec<String>,
    },
    /// It is answered.
    Refuse {
        /// 401 or 403.
        status: u16,
        /// Envoy's words, in the body and in the details as [`super::details::jwt_denied`].
        body: String,
        /// `www-authenticate`.
        www_authenticate: String,
    },
}
