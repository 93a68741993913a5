//! New paths, locations and headers.

use super::{AppendAction, HeaderMutation, Mutations, PathMatch, PathRewrite, Redirect, RouteMatcher};
use crate::envoy::access_log::CallRecord;
use crate::envoy::headers::Headers;
use crate::envoy::matchers::without_query;

impl PathRewrite {
    /// A path after the rewrite; its query stays.
    pub(super) fn apply(&self, path: &str, matches: &RouteMatcher) -> String {
        let bare = without_query(path);
        let rest = path.get(bare.len()..).unwrap_or_default();
        match self {
            // A prefix match replaces the prefix, any other the whole path (`RouteEntryImplBase::finalizePathHeader`).
            Self::Prefix(to) => match &matches.path {
                PathMatch::Prefix(prefix) | PathMatch::PathSeparatedPrefix(prefix) => {
                    format!("{to}{}{rest}", bare.get(prefix.len()..).unwrap_or_default())
                }
                _ => format!("{to}{rest}"),
            },
            Self::Regex(substitution) => substitution.replace(bare) + rest,
            Self::Full(to) if to.contains('?') => to.clone(),
            Self::Full(to) => format!("{to}{rest}"),
        }
    }
}

impl Redirect {
    /// `location` (`RouteEntryImplBase::newUri`).
    pub(super) fn location(&self, headers: &Headers, matches: &RouteMatcher, tls: bool) -> String {
        let came = if tls { "https" } else { "http" };
        let came = headers.get("x-forwarded-proto").or(headers.get(":scheme")).unwrap_or(came);
        let scheme = self.scheme.as_deref().unwrap_or(headers.get(":scheme").unwrap_or(came));
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let host = match &self.host {
            Some(host) => host.as_str(),
            None => host_without_port(headers.authority(), scheme, came, !port.is_empty()),
        };
        let path = headers.path();
        let mut new = self.path.as_ref().map_or_else(|| path.to_owned(), |rewrite| rewrite.apply(path, matches));
        let own_query = matches!(&self.path, Some(PathRewrite::Full(to)) if to.contains('?'));
        if self.strip_query && !own_query {
            new.truncate(new.find('?').unwrap_or(new.len()));
        }
        format!("{scheme}://{host}{port}{new}")
    }
}

/// The port goes when there is a new one, or when it was the default one of a scheme that changes (`processRequestHost`).
fn host_without_port<'a>(host: &'a str, scheme: &str, came: &str, new_port: bool) -> &'a str {
    let colon = if host.starts_with('[') { host.rfind("]:").map(|at| at + 1) } else { host.rfind(':') };
    let Some(colon) = colon else { return host };
    let port = host.get(colon..).unwrap_or_default();
    let default = (came == "https" && port == ":443") || (came == "http" && port == ":80");
    if new_port || (scheme != came && default) { host.get(..colon).unwrap_or(host) } else { host }
}

impl Mutations {
    pub(super) fn apply_request(&self, headers: &mut Headers, call: &CallRecord) {
        apply(&self.request_remove, &self.request_add, headers, call);
    }

    pub(super) fn apply_response(&self, headers: &mut Headers, call: &CallRecord) {
        apply(&self.response_remove, &self.response_add, headers, call);
    }
}

/// Removals come first (`HeaderParser::evaluateHeaders`).
fn apply(remove: &[String], add: &[HeaderMutation], headers: &mut Headers, call: &CallRecord) {
    for name in remove {
        headers.remove(name);
    }
    for mutation in add {
        mutation.apply(headers, call);
    }
}

impl HeaderMutation {
    /// Add or change one header.
    pub fn apply(&self, headers: &mut Headers, call: &CallRecord) {
        let value = self.value.render(call);
        if value.is_empty() && !self.keep_empty {
            return;
        }
        let there = headers.get(&self.name).is_some();
        match self.action {
            AppendAction::AppendIfExistsOrAdd => headers.append(&self.name, value),
            AppendAction::AddIfAbsent if !there => headers.append(&self.name, value),
            AppendAction::OverwriteIfExistsOrAdd => headers.set(&self.name, value),
            AppendAction::OverwriteIfExists if there => headers.set(&self.name, value),
            AppendAction::AddIfAbsent | AppendAction::OverwriteIfExists => {}
        }
    }
}
