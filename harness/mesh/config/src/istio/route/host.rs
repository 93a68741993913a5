//! Lists of host names, of which some begin with a `*` or with the namespace that may use them.

use crate::istio::model::host::subset_of;

/// The narrower name of each overlapping pair, each once, in the order of the first list (Istio: `host.Names.Intersection`).
#[must_use]
pub fn intersection(ours: &[String], theirs: &[String]) -> Vec<String> {
    let mut result: Vec<String> = Vec::new();
    for our in ours {
        for their in theirs {
            let narrower = if subset_of(our, their) {
                our
            } else if subset_of(their, our) {
                their
            } else {
                continue;
            };
            if !result.contains(narrower) {
                result.push(narrower.clone());
            }
        }
    }
    result
}

/// The hosts of a Gateway's server that a VirtualService of this namespace may use, without their namespaces
/// (Istio: `host.NamesForNamespace`).
#[must_use]
pub fn for_namespace(hosts: &[String], namespace: &str) -> Vec<String> {
    hosts
        .iter()
        .filter_map(|host| match host.split_once('/') {
            Some((of, name)) => (of == namespace || of == "*").then(|| name.to_owned()),
            None => Some(host.clone()),
        })
        .collect()
}

/// `host:port`, with brackets around an IPv6 address (Go's `net.JoinHostPort`).
#[must_use]
pub fn with_port(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_name_of_a_pair_is_served() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(intersection(&names(&["foo.com", "*.net"]), &names(&["*.com", "bar.net"])), names(&["foo.com", "bar.net"]));
        assert_eq!(intersection(&names(&["foo.com", "*.net"]), &names(&["*.bar.net"])), names(&["*.bar.net"]));
        assert_eq!(intersection(&names(&["*"]), &names(&["*"])), names(&["*"]));
        assert!(intersection(&[], &names(&["bar.com"])).is_empty());
        assert_eq!(for_namespace(&names(&["ns1/foo.com", "*/bar.com", "baz.com"]), "ns2"), names(&["bar.com", "baz.com"]));
    }

    #[test]
    fn an_ipv6_host_stands_in_brackets() {
        assert_eq!(with_port("::1", 80), "[::1]:80");
        assert_eq!(with_port("a.example", 80), "a.example:80");
    }
}
