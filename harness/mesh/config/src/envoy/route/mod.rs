//! Routes: from a request to a cluster, a redirect or an answer.

mod domains;
mod matching;
mod retry;
mod rewriting;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use domains::{Domains, without_port};
pub use retry::Reset;
pub use types::*;

use super::access_log::CallRecord;
use super::headers::Headers;
use super::http_filter::PerFilter;
use super::matchers::without_query;
use super::refusal::Refusal;

/// What the route table looks at.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The request, after normalisation of its path, with pseudo headers.
    pub headers: &'a Headers,
    /// Whether the client's connection is TLS; `x-forwarded-proto` overrides it.
    pub tls: bool,
    /// Whether the request is internal, for `require_tls: EXTERNAL_ONLY`.
    pub internal: bool,
    /// The caller's random value, for weights and fractions.
    pub random: u64,
    /// The rest that is known (SNI and certificate for `tls_context`, dynamic metadata).
    pub call: &'a CallRecord,
}

/// What was found: the names for logs, and the settings of all levels.
#[derive(Debug, Clone)]
pub struct Matched {
    /// The route configuration.
    pub table: Arc<TableSettings>,
    /// The virtual host.
    pub virtual_host: Arc<VirtualHost>,
    /// The route.
    pub route: Arc<Route>,
    /// The entry of weighted clusters that was drawn.
    pub weighted: Option<Arc<WeightedCluster>>,
}

/// What happens with a request.
#[derive(Debug, Clone)]
pub enum Decision {
    /// 404, flag NR, [`super::details::ROUTE_NOT_FOUND`]: no virtual host, or none of its routes.
    NotFound {
        /// The virtual host that had no route for it.
        virtual_host: Option<Arc<VirtualHost>>,
    },
    /// `require_tls`: 301 to the same place with `https`, without a route's name.
    TlsRedirect {
        /// `location`.
        location: String,
        /// The virtual host that asks for it.
        virtual_host: Arc<VirtualHost>,
    },
    /// To a cluster, which may not exist (503, flag NC, [`super::details::CLUSTER_NOT_FOUND`]).
    Forward {
        /// What was found.
        matched: Box<Matched>,
        /// The cluster.
        cluster: String,
    },
    /// A redirect, with details [`super::details::DIRECT_RESPONSE`].
    Redirect {
        /// What was found.
        matched: Box<Matched>,
        /// The status.
        status: u16,
        /// `location`.
        location: String,
    },
    /// An answer, with details [`super::details::DIRECT_RESPONSE`].
    DirectResponse {
        /// What was found.
        matched: Box<Matched>,
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
}

impl RouteTable {
    /// Read a route configuration as `config_dump` prints it.
    ///
    /// # Errors
    /// What Envoy refuses, or what is not simulated.
    pub fn read(routes: &Value) -> Result<Self, Refusal> {
        super::read::routes(routes)
    }

    /// The virtual host of a request's `:authority`.
    pub fn virtual_host(&self, authority: &str) -> Option<&Arc<VirtualHost>> {
        self.domains.find(authority, self.ignore_port_in_host_matching).and_then(|index| self.virtual_hosts.get(index))
    }

    /// What happens with a request (`VirtualHostImpl::getRouteFromEntries`).
    pub fn route(&self, request: &RequestFacts<'_>) -> Decision {
        let headers = request.headers;
        let Some(virtual_host) = self.virtual_host(headers.authority()).cloned() else {
            return Decision::NotFound { virtual_host: None };
        };
        let secure = headers.get("x-forwarded-proto").or(headers.get(":scheme")).map_or(request.tls, |scheme| scheme == "https");
        let redirect = match virtual_host.require_tls {
            RequireTls::None => false,
            RequireTls::ExternalOnly => !request.internal,
            RequireTls::All => true,
        };
        if redirect && !secure {
            let location = format!("https://{}{}", headers.authority(), headers.path());
            return Decision::TlsRedirect { location, virtual_host };
        }
        let Some(route) = virtual_host.routes.iter().find(|route| route.matches.matches(request)).cloned() else {
            return Decision::NotFound { virtual_host: Some(virtual_host) };
        };
        let matched = |weighted| Box::new(Matched { table: self.settings.clone(), virtual_host, route: route.clone(), weighted });
        match &route.action {
            Action::NonForwarding => Decision::NotFound { virtual_host: Some(matched(None).virtual_host) },
            Action::Direct(answer) => Decision::DirectResponse { matched: matched(None), status: answer.status, body: answer.body.clone() },
            Action::Redirect(redirect) => {
                let location = redirect.location(headers, &route.matches, request.tls);
                Decision::Redirect { matched: matched(None), status: redirect.status, location }
            }
            Action::Forward(forward) => {
                let (cluster, weighted) = forward.cluster.choose(headers, request.random);
                Decision::Forward { matched: matched(weighted), cluster }
            }
        }
    }
}

impl ClusterChoice {
    /// The cluster, by the caller's random value where there are weights.
    fn choose(&self, headers: &Headers, random: u64) -> (String, Option<Arc<WeightedCluster>>) {
        let named = |header: &str| headers.get(header).unwrap_or_default().to_owned();
        match self {
            Self::Cluster(name) => (name.clone(), None),
            Self::Header(header) => (named(header), None),
            Self::Weighted { clusters, total } => {
                let mut left = random % (*total).max(1);
                for entry in clusters {
                    match left.checked_sub(u64::from(entry.weight)) {
                        Some(rest) => left = rest,
                        None if entry.name.is_empty() => return (named(&entry.cluster_header), Some(entry.clone())),
                        None => return (entry.name.clone(), Some(entry.clone())),
                    }
                }
                (String::new(), None)
            }
        }
    }
}

impl Matched {
    /// Rewrite path and host, and change headers, of the request that goes to the upstream: headers first, from the drawn
    /// weighted cluster's over the route's and the virtual host's to the table's, then host, then path
    /// (`RouteEntryImplBase::finalizeRequestHeaders`). Where `endpoint` is given, `auto_host_rewrite` uses it.
    pub fn finalize_request(&self, headers: &mut Headers, call: &CallRecord, endpoint: Option<&str>) {
        for mutations in self.mutations() {
            mutations.apply_request(headers, call);
        }
        let Action::Forward(action) = &self.route.action else { return };
        if let Some(host) = self.new_host(action, headers, endpoint) {
            if action.append_x_forwarded_host && host != headers.authority() {
                let before = headers.joined("x-forwarded-host").map_or_else(String::new, |list| list + ",");
                headers.set("x-forwarded-host", before + headers.authority());
            }
            if host != headers.authority() {
                headers.set("x-envoy-original-host", headers.authority().to_owned());
            }
            headers.set(":authority", host);
        }
        if let Some(rewrite) = &action.rewrite {
            let path = headers.path().to_owned();
            let new = rewrite.apply(&path, &self.route.matches);
            headers.set("x-envoy-original-path", path);
            headers.set(":path", new);
        }
    }

    fn new_host(&self, action: &RouteAction, headers: &Headers, endpoint: Option<&str>) -> Option<String> {
        if let Some(host) = self.weighted.as_ref().and_then(|weighted| weighted.host_rewrite.clone()) {
            return Some(host);
        }
        match action.host_rewrite.as_ref()? {
            HostRewrite::Literal(host) => Some(host.clone()),
            HostRewrite::Auto => endpoint.filter(|name| !name.is_empty()).map(str::to_owned),
            HostRewrite::Header(name) => headers.get(name).filter(|host| !host.is_empty()).map(str::to_owned),
            HostRewrite::PathRegex(substitution) => Some(substitution.replace(without_query(headers.path()))),
        }
    }

    /// Change headers of the response, in the same order.
    pub fn finalize_response(&self, headers: &mut Headers, call: &CallRecord) {
        for mutations in self.mutations() {
            mutations.apply_response(headers, call);
        }
    }

    /// From the most specific level to the least, or the other way round: what is applied later wins.
    fn mutations(&self) -> Vec<&Mutations> {
        let weighted = self.weighted.as_ref().map(|weighted| &weighted.mutations);
        let mut levels: Vec<_> = weighted.into_iter().collect();
        levels.extend([&self.route.mutations, &self.virtual_host.mutations, &self.table.mutations]);
        if self.table.most_specific_header_mutations_wins {
            levels.reverse();
        }
        levels
    }

    /// The most specific settings of a filter: weighted cluster, route, virtual host, table.
    pub fn per_filter(&self, name: &str) -> Option<&PerFilter> {
        let weighted = self.weighted.as_ref().and_then(|weighted| weighted.per_filter.get(name));
        let levels = [&self.route.per_filter, &self.virtual_host.per_filter, &self.table.per_filter];
        weighted.or_else(|| levels.into_iter().find_map(|config| config.get(name)))
    }
}
