//! `envoy.config.route.v3`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::envoy::access_log::Format;
use crate::envoy::http_filter::{Fraction, PerFilterConfig};
use crate::envoy::matchers::{FullRegex, HeaderMatcher, MetadataMatcher, QueryMatcher, Substitution};

/// `RouteConfiguration`.
#[derive(Debug, Clone)]
pub struct RouteTable {
    /// Its name.
    pub name: String,
    /// In order.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Settings for all of them.
    pub settings: Arc<TableSettings>,
    /// The port in `host` is not looked at.
    pub ignore_port_in_host_matching: bool,
    /// A missing cluster refuses the table; for tables in a listener. RDS tables are not checked.
    pub validate_clusters: Option<bool>,
    pub(crate) domains: super::domains::Domains,
}

/// Settings of a whole table.
#[derive(Debug, Clone, Default)]
pub struct TableSettings {
    /// Header changes.
    pub mutations: Mutations,
    /// Filters.
    pub per_filter: PerFilterConfig,
    /// These headers of a response stay within.
    pub internal_only_headers: Vec<String>,
    /// `most_specific_header_mutations_wins`: the order of levels is turned around.
    pub most_specific_header_mutations_wins: bool,
}

/// `VirtualHost.TlsRequirementType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireTls {
    /// None.
    #[default]
    None,
    /// From outside.
    ExternalOnly,
    /// All.
    All,
}

/// `VirtualHost`.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// Its domains.
    pub domains: Vec<String>,
    /// Its routes in order.
    pub routes: Vec<Arc<Route>>,
    /// Whether plain HTTP is redirected.
    pub require_tls: RequireTls,
    /// Header changes.
    pub mutations: Mutations,
    /// Filters.
    pub per_filter: PerFilterConfig,
    /// Retries for routes that have none of their own.
    pub retry: Option<RetryPolicy>,
    /// `x-envoy-attempt-count` is added to requests.
    pub include_request_attempt_count: bool,
    /// And to responses.
    pub include_attempt_count_in_response: bool,
}

/// How a path is matched.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatch {
    /// Begins so.
    Prefix(String),
    /// Is this, without query.
    Exact(String),
    /// Matches as a whole, without query.
    Regex(FullRegex),
    /// Is this, or begins with this and `/`.
    PathSeparatedPrefix(String),
    /// A CONNECT request.
    Connect,
    /// `uri_template`: segments, `*`, `**` and variables, as a regular expression.
    Template(FullRegex),
}

/// `RouteMatch`.
#[derive(Debug, Clone)]
pub struct RouteMatcher {
    /// The path.
    pub path: PathMatch,
    /// Whether its case counts; default true.
    pub case_sensitive: bool,
    /// All of these headers.
    pub headers: Vec<HeaderMatcher>,
    /// All of these parameters.
    pub query: Vec<QueryMatcher>,
    /// Only this share.
    pub fraction: Option<Fraction>,
    /// gRPC only.
    pub grpc: bool,
    /// The client showed a certificate, or did not.
    pub certificate_presented: Option<bool>,
    /// The client's certificate was checked, or was not.
    pub certificate_validated: Option<bool>,
    /// Dynamic metadata.
    pub metadata: Vec<MetadataMatcher>,
}

/// `Route`.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name; may be empty.
    pub name: String,
    /// Which requests.
    pub matches: RouteMatcher,
    /// What is done.
    pub action: Action,
    /// Header changes.
    pub mutations: Mutations,
    /// Filters.
    pub per_filter: PerFilterConfig,
    /// `metadata.filter_metadata`.
    pub metadata: BTreeMap<String, Value>,
    /// `decorator.operation`.
    pub operation: String,
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends on.
    Forward(Box<RouteAction>),
    /// Redirects.
    Redirect(Box<Redirect>),
    /// Answers.
    Direct(DirectResponse),
    /// `non_forwarding_action`: nothing; 404 from the router.
    NonForwarding,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum ClusterChoice {
    /// There.
    Cluster(String),
    /// Where this header says; 503 without it.
    Header(String),
    /// One by weight.
    Weighted {
        /// The entries.
        clusters: Vec<Arc<WeightedCluster>>,
        /// The sum of weights.
        total: u64,
    },
}

/// `WeightedCluster.ClusterWeight`.
#[derive(Debug, Clone, Default)]
pub struct WeightedCluster {
    /// The cluster; empty: [`Self::cluster_header`] says.
    pub name: String,
    /// A header that names it.
    pub cluster_header: String,
    /// Its weight.
    pub weight: u32,
    /// Header changes.
    pub mutations: Mutations,
    /// Filters.
    pub per_filter: PerFilterConfig,
    /// `host_rewrite_literal`.
    pub host_rewrite: Option<String>,
}

/// A new path.
#[derive(Debug, Clone, PartialEq)]
pub enum PathRewrite {
    /// The matched prefix becomes this.
    Prefix(String),
    /// What a pattern finds becomes something else.
    Regex(Substitution),
    /// The whole path, without query (`path_redirect`, for redirects).
    Full(String),
}

/// A new host.
#[derive(Debug, Clone, PartialEq)]
pub enum HostRewrite {
    /// This.
    Literal(String),
    /// The endpoint's name.
    Auto,
    /// The value of a header.
    Header(String),
    /// Made from the path without query.
    PathRegex(Substitution),
}

/// `RetryPolicy`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetryPolicy {
    /// Conditions: `connect-failure`, `refused-stream`, `unavailable`, `cancelled`, `retriable-status-codes`, `5xx`,
    /// `gateway-error`, `reset`, `reset-before-request`, `retriable-4xx`, `retriable-headers`, `envoy-ratelimited`, ...
    pub retry_on: Vec<String>,
    /// How often; default 1.
    pub num_retries: u32,
    /// Bound of each attempt.
    pub per_try_timeout: Option<Duration>,
    /// Bound of each attempt without bytes.
    pub per_try_idle_timeout: Option<Duration>,
    /// For `retriable-status-codes`.
    pub retriable_status_codes: Vec<u16>,
    /// For `retriable-headers`.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// Only these requests.
    pub retriable_request_headers: Vec<HeaderMatcher>,
    /// An endpoint that was tried is not tried again.
    pub previous_hosts: bool,
    /// Attempts to find such an endpoint.
    pub host_selection_attempts: u32,
    /// The first wait; default 25 ms.
    pub base_interval: Duration,
    /// The longest; default ten times the first.
    pub max_interval: Duration,
}

/// `RequestMirrorPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Where copies go.
    pub cluster: String,
    /// The share.
    pub fraction: Option<Fraction>,
    /// No `-shadow` is added to the host.
    pub disable_shadow_host_suffix: bool,
}

/// `RouteAction`.
#[derive(Debug, Clone)]
pub struct RouteAction {
    /// Where.
    pub cluster: ClusterChoice,
    /// A status for a missing cluster; default 503.
    pub cluster_not_found_status: u16,
    /// A new path.
    pub rewrite: Option<PathRewrite>,
    /// A new host.
    pub host_rewrite: Option<HostRewrite>,
    /// `append_x_forwarded_host`.
    pub append_x_forwarded_host: bool,
    /// How long a response may take; none: for ever (`0s`). Default 15 s.
    pub timeout: Option<Duration>,
    /// A stream without bytes.
    pub idle_timeout: Option<Duration>,
    /// `max_stream_duration.max_stream_duration`.
    pub max_stream_duration: Option<Duration>,
    /// `max_grpc_timeout` or `grpc_timeout_header_max`: `Some(0)` takes what the client says.
    pub max_grpc_timeout: Option<Duration>,
    /// Retries.
    pub retry: Option<RetryPolicy>,
    /// Copies.
    pub mirrors: Vec<Mirror>,
    /// Upgrades, on or off, by type.
    pub upgrades: BTreeMap<String, bool>,
}

/// `RedirectAction`.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// `https` (or none: as it came).
    pub scheme: Option<String>,
    /// A new host.
    pub host: Option<String>,
    /// A new port.
    pub port: Option<u16>,
    /// A new path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The query is dropped.
    pub strip_query: bool,
}

/// `DirectResponseAction`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// The body; may be empty.
    pub body: String,
}

/// `HeaderValueOption.HeaderAppendAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendAction {
    /// Another value.
    #[default]
    AppendIfExistsOrAdd,
    /// Only where there is none.
    AddIfAbsent,
    /// Instead of what is there.
    OverwriteIfExistsOrAdd,
    /// Instead of what is there, and nothing where nothing is.
    OverwriteIfExists,
}

/// `HeaderValueOption`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMutation {
    /// The name.
    pub name: String,
    /// The value, with `%OPERATORS%`.
    pub value: Format,
    /// How.
    pub action: AppendAction,
    /// An empty value is written too.
    pub keep_empty: bool,
}

/// Header changes of one level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mutations {
    /// `request_headers_to_add`.
    pub request_add: Vec<HeaderMutation>,
    /// `request_headers_to_remove`.
    pub request_remove: Vec<String>,
    /// `response_headers_to_add`.
    pub response_add: Vec<HeaderMutation>,
    /// `response_headers_to_remove`.
    pub response_remove: Vec<String>,
}
