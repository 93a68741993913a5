//! Envoy's order of looking for a filter chain: at each step the most specific branch that exists is taken, and there is no
//! way back from it (`FilterChainManagerImpl::findFilterChain`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::Cidr;
use super::listener::{ConnectionFacts, FilterChain, SourceType};

type Ports = BTreeMap<u16, usize>;
type SourceTypes = BTreeMap<SourceType, Prefixes<Ports>>;
type Applications = BTreeMap<String, Prefixes<SourceTypes>>;
type Transports = BTreeMap<String, Applications>;
type ServerNames = BTreeMap<String, Transports>;

/// The nested maps. Port 0, an empty name and no prefix stand for any.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChainTree(BTreeMap<u16, Prefixes<ServerNames>>);

/// By prefix; the longest one counts.
#[derive(Debug, Clone)]
struct Prefixes<T>(BTreeMap<Option<Cidr>, T>);

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Prefixes<T> {
    fn find(&self, ip: IpAddr) -> Option<&T> {
        let ranges = self.0.iter().filter(|(range, _)| range.is_none_or(|range| range.contains(ip)));
        // A range of length 0 and no range at all are the same to Envoy's trie; the range is taken, as it is longer here.
        ranges.max_by_key(|(range, _)| range.map(|range| range.0.prefix_len())).map(|(_, found)| found)
    }
}

/// Chains that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// A `*` that does not stand for a whole first label.
    PartialWildcard,
    /// The later and the earlier chain have the same match.
    Same(usize, usize),
    /// They share a connection.
    Partly,
}

fn or_any<T: Clone>(list: &[T], any: T) -> Vec<T> {
    if list.is_empty() { vec![any] } else { list.to_vec() }
}

fn some_or_any(list: &[Cidr]) -> Vec<Option<Cidr>> {
    if list.is_empty() { vec![None] } else { list.iter().copied().map(Some).collect() }
}

impl ChainTree {
    pub(crate) fn new(chains: &[FilterChain]) -> Result<Self, Overlap> {
        let mut tree = Self::default();
        for (index, chain) in chains.iter().enumerate() {
            if let Some(earlier) = chains.iter().take(index).position(|other| other.matches == chain.matches) {
                return Err(Overlap::Same(index, earlier));
            }
            tree.add(index, chain)?;
        }
        Ok(tree)
    }

    fn add(&mut self, index: usize, chain: &FilterChain) -> Result<(), Overlap> {
        let wanted = &chain.matches;
        let mut names = Vec::new();
        for name in &wanted.server_names {
            let suffix = name.strip_prefix("*.");
            if name.contains('*') && suffix.is_none() {
                return Err(Overlap::PartialWildcard);
            }
            names.push(suffix.map_or_else(|| name.to_ascii_lowercase(), |suffix| format!(".{}", suffix.to_ascii_lowercase())));
        }
        let by_ip = self.0.entry(wanted.destination_port.unwrap_or_default()).or_default();
        for ip in some_or_any(&wanted.prefix_ranges) {
            let by_name = by_ip.0.entry(ip).or_default();
            for name in or_any(&names, String::new()) {
                let by_transport = by_name.entry(name).or_default();
                let by_application = by_transport.entry(wanted.transport_protocol.clone()).or_default();
                for application in or_any(&wanted.application_protocols, String::new()) {
                    let by_direct = by_application.entry(application).or_default();
                    for direct in some_or_any(&wanted.direct_source_prefix_ranges) {
                        let by_source = by_direct.0.entry(direct).or_default().entry(wanted.source_type).or_default();
                        for source in some_or_any(&wanted.source_prefix_ranges) {
                            let by_port = by_source.0.entry(source).or_default();
                            for port in or_any(&wanted.source_ports, 0) {
                                if by_port.insert(port, index).is_some() {
                                    return Err(Overlap::Partly);
                                }
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The index of the chain.
    pub(crate) fn find(&self, facts: &ConnectionFacts) -> Option<usize> {
        // A port that is named hides the chains for any port, even when none of its chains takes the connection.
        let by_ip = self.0.get(&facts.destination.port()).or_else(|| self.0.get(&0))?;
        let by_name = by_ip.find(facts.destination.ip())?;
        let by_transport = server_name(by_name, &facts.server_name.to_ascii_lowercase())?;
        let transport = if facts.transport_protocol.is_empty() { "raw_buffer" } else { &facts.transport_protocol };
        let by_application = by_transport.get(transport).or_else(|| by_transport.get(""))?;
        let named = facts.application_protocols.iter().find_map(|name| by_application.get(name));
        let by_direct = named.or_else(|| by_application.get(""))?;
        let by_type = by_direct.find(facts.direct_source.ip())?;
        let (source, destination) = (facts.source.ip(), facts.destination.ip());
        let kind = if source == destination || source.is_loopback() { SourceType::SameIpOrLoopback } else { SourceType::External };
        let by_source = by_type.get(&kind).or_else(|| by_type.get(&SourceType::Any))?;
        let by_port = by_source.find(source)?;
        by_port.get(&facts.source.port()).or_else(|| by_port.get(&0)).copied()
    }
}

/// The exact name, then the suffixes from long to short, then any.
fn server_name<'a>(names: &'a ServerNames, name: &str) -> Option<&'a Transports> {
    let suffixes = name.char_indices().skip(1).filter(|(_, c)| *c == '.').filter_map(|(at, _)| name.get(at..)).filter(|s| s.len() > 1);
    names.get(name).or_else(|| suffixes.into_iter().find_map(|suffix| names.get(suffix))).or_else(|| names.get(""))
}
