//! Which virtual host a request's host belongs to (`RouteMatcher::findVirtualHost`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::VirtualHost;
use crate::envoy::refusal::Refusal;

/// Domains in lower case with the index of their virtual host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domains {
    exact: BTreeMap<String, usize>,
    /// `*.suffix` without the `*`.
    suffixes: BTreeMap<String, usize>,
    /// `prefix.*` without the `*`.
    prefixes: BTreeMap<String, usize>,
    any: Option<usize>,
}

impl Domains {
    pub(crate) fn new(table: &str, hosts: &[Arc<VirtualHost>]) -> Result<Self, Refusal> {
        let mut domains = Self::default();
        for (index, host) in hosts.iter().enumerate() {
            for written in &host.domains {
                let domain = written.to_ascii_lowercase();
                let twice = if domain == "*" {
                    if domains.any.replace(index).is_some() {
                        return Err(Refusal::rejected(format!("Only a single wildcard domain is permitted in route {table}")));
                    }
                    None
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    domains.suffixes.insert(suffix.to_owned(), index)
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    domains.prefixes.insert(prefix.to_owned(), index)
                } else {
                    domains.exact.insert(domain.clone(), index)
                };
                if twice.is_some() {
                    return Err(Refusal::rejected(format!(
                        "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {table}"
                    )));
                }
            }
        }
        Ok(domains)
    }

    /// Exact, then the longest suffix, then the longest prefix, then any. A wildcard stands for at least one character.
    pub(crate) fn find(&self, authority: &str, ignore_port: bool) -> Option<usize> {
        let host = authority.to_ascii_lowercase();
        let host = if ignore_port { without_port(&host) } else { &host };
        let longest = |map: &BTreeMap<String, usize>, fits: &dyn Fn(&str) -> bool| {
            map.iter().filter(|(part, _)| part.len() < host.len() && fits(part)).max_by_key(|(part, _)| part.len()).map(|(_, index)| *index)
        };
        self.exact
            .get(host)
            .copied()
            .or_else(|| longest(&self.suffixes, &|suffix| host.ends_with(suffix)))
            .or_else(|| longest(&self.prefixes, &|prefix| host.starts_with(prefix)))
            .or(self.any)
    }
}

/// `HeaderUtility::getPortStart`: the last colon, if digits follow it and it is not within brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            let bare_v6 = name.contains(':') && !name.ends_with(']');
            if bare_v6 { host } else { name }
        }
        _ => host,
    }
}
