//! HTTP filters.

use std::collections::BTreeMap;
use std::time::Duration;

use super::headers::Headers;
use super::jwt::JwtAuthn;
use super::matchers::{HeaderMatcher, StringMatcher};
use super::network::TokenBucket;
use super::rbac::Rbac;
use super::route::HeaderMutation;

/// One HTTP filter of a connection manager.
#[derive(Debug, Clone)]
pub struct HttpFilter {
    /// Its name: the key of per-route settings.
    pub name: String,
    /// What it does.
    pub kind: HttpFilterKind,
    /// `disabled`: runs only where a route says so.
    pub disabled: bool,
}

/// What an HTTP filter does.
#[derive(Debug, Clone)]
pub enum HttpFilterKind {
    /// Lets requests in or answers 403.
    Rbac(Box<HttpRbac>),
    /// Delays and aborts.
    Fault(Box<Fault>),
    /// Answers preflights and adds CORS headers; the policy comes from the route.
    Cors,
    /// Checks tokens.
    JwtAuthn(Box<JwtAuthn>),
    /// Answers 429 above a rate.
    LocalRateLimit(Box<LocalRateLimit>),
    /// Waits for a whole request of at most so many bytes, else 413.
    Buffer(Option<u32>),
    /// Writes filter state.
    SetFilterState(Vec<super::network::FilterStateValue>),
    /// Finds out where the host of a request is, for clusters that go there.
    DynamicForwardProxy,
    /// Sends the request; terminal.
    Router(Router),
    /// Without effect on what is decided (telemetry), by name.
    Ignored,
}

/// `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Router {
    /// No `x-envoy-*` headers are added.
    pub suppress_envoy_headers: bool,
}

/// `envoy.extensions.filters.http.rbac.v3.RBAC`.
#[derive(Debug, Clone, Default)]
pub struct HttpRbac {
    /// The rules; none: all pass.
    pub rules: Option<Rbac>,
    /// Rules that write metadata and do not act.
    pub shadow_rules: Option<Rbac>,
    /// `shadow_rules_stat_prefix`: the prefix of the metadata's keys.
    pub shadow_prefix: String,
}

/// `envoy.type.v3.FractionalPercent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// So many ...
    pub numerator: u32,
    /// ... of 100, 10 000 or 1 000 000.
    pub denominator: u32,
}

/// A status that a fault answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status, in a response with HTTP status 200.
    Grpc(u32),
}

/// `envoy.extensions.filters.http.fault.v3.HTTPFault`. Settings of a route replace the filter's.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// Wait so long for this share.
    pub delay: Option<(Duration, Fraction)>,
    /// Answer this for this share.
    pub abort: Option<(Abort, Fraction)>,
    /// Only requests with these headers.
    pub headers: Vec<HeaderMatcher>,
    /// Only requests to this cluster; empty: any.
    pub upstream_cluster: String,
}

/// `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Origins that may ask.
    pub allow_origins: Vec<StringMatcher>,
    /// `access-control-allow-methods`.
    pub allow_methods: String,
    /// `access-control-allow-headers`.
    pub allow_headers: String,
    /// `access-control-expose-headers`.
    pub expose_headers: String,
    /// `access-control-max-age`.
    pub max_age: String,
    /// `access-control-allow-credentials`.
    pub allow_credentials: bool,
    /// `access-control-allow-private-network`.
    pub allow_private_network: bool,
    /// `forward_not_matching_preflights`; default true: an OPTIONS of a foreign origin goes to the upstream.
    pub forward_not_matching_preflights: bool,
    /// `filter_enabled`; default all.
    pub enabled: Option<Fraction>,
}

/// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.
#[derive(Debug, Clone)]
pub struct LocalRateLimit {
    /// The bucket; none: nothing is limited.
    pub bucket: Option<TokenBucket>,
    /// The status; default 429.
    pub status: u16,
    /// Share of requests that are counted; none: no request.
    pub enabled: Option<Fraction>,
    /// Share of requests that are refused; none: no request.
    pub enforced: Option<Fraction>,
    /// Added to refusals.
    pub response_headers: Vec<HeaderMutation>,
    /// A bucket per connection rather than one for all.
    pub per_connection: bool,
}

/// What a CORS filter does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsVerdict {
    /// Nothing: no origin, no policy, or an origin that does not match.
    Pass,
    /// A preflight: 200 with these headers and details [`super::details::CORS_PREFLIGHT`].
    Preflight(Headers),
    /// A matching request: these are added to the response.
    Annotate(Headers),
}

/// Settings of one filter for a route (`typed_per_filter_config`).
#[derive(Debug, Clone)]
pub enum PerFilter {
    /// The filter does not run.
    Disabled,
    /// Faults.
    Fault(Box<Fault>),
    /// CORS.
    Cors(Box<Cors>),
    /// RBAC; none: RBAC does not act here.
    Rbac(Option<Box<HttpRbac>>),
    /// JWT: a requirement by its name, or none.
    Jwt(super::jwt::PerRouteJwt),
    /// A rate limit.
    LocalRateLimit(Box<LocalRateLimit>),
    /// Buffer: a limit, or none where it is disabled.
    Buffer(Option<u32>),
    /// Of a filter that has no effect here.
    Ignored,
}

/// Per-route settings by the filter's name.
pub type PerFilterConfig = BTreeMap<String, PerFilter>;

/// What a fault filter does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultVerdict {
    /// It waits so long first: flag DI.
    pub delay: Option<Duration>,
    /// It is answered so, with body `fault filter abort`, flag FI and details [`super::details::FAULT_ABORT`].
    pub abort: Option<Abort>,
}

impl Fault {
    /// What is done with a request to a cluster, by the caller's two random values.
    pub fn check(&self, headers: &Headers, cluster: &str, delay: u64, abort: u64) -> FaultVerdict {
        let meant = self.upstream_cluster.is_empty() || self.upstream_cluster == cluster;
        if !meant || !self.headers.iter().all(|matcher| matcher.matches(headers)) {
            return FaultVerdict::default();
        }
        FaultVerdict {
            delay: self.delay.filter(|(_, share)| share.draws(delay)).map(|(time, _)| time),
            abort: self.abort.filter(|(_, share)| share.draws(abort)).map(|(what, _)| what),
        }
    }
}

/// Whether a request is a preflight: OPTIONS with an origin and a method that is asked for.
pub fn is_preflight(headers: &Headers) -> bool {
    let said = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
    headers.method() == "OPTIONS" && said("origin") && said("access-control-request-method")
}

impl Cors {
    /// What is done with a request (`CorsFilter::decodeHeaders`), by the caller's random value.
    pub fn check(&self, request: &Headers, random: u64) -> CorsVerdict {
        let origin = request.get("origin").unwrap_or_default();
        if origin.is_empty() || !self.enabled.is_none_or(|share| share.draws(random)) {
            return CorsVerdict::Pass;
        }
        let preflight = is_preflight(request);
        // `*` written as a value allows all.
        let allowed = self.allow_origins.iter().any(|matcher| matcher.matches("*") || matcher.matches(origin));
        if !allowed && (!preflight || self.forward_not_matching_preflights) {
            return CorsVerdict::Pass;
        }
        let mut headers = Headers::new();
        // A preflight of another origin that is not passed on gets the same answer without this one (seen on kind).
        if allowed {
            headers.append("access-control-allow-origin", origin);
        }
        if self.allow_credentials {
            headers.append("access-control-allow-credentials", "true");
        }
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                headers.append(name, value);
            }
        };
        if !preflight {
            add("access-control-expose-headers", &self.expose_headers);
            return CorsVerdict::Annotate(headers);
        }
        add("access-control-allow-methods", &self.allow_methods);
        add("access-control-allow-headers", &self.allow_headers);
        add("access-control-max-age", &self.max_age);
        if self.allow_private_network && request.get("access-control-request-private-network") == Some("true") {
            add("access-control-allow-private-network", "true");
        }
        CorsVerdict::Preflight(headers)
    }
}
