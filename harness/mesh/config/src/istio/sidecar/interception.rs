//! Which connections of a pod go through its sidecar: what the injector would tell `istio-iptables`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{ProxyKind, ProxyNode};

/// Ports of the proxy itself that are never redirected: health, metrics, merged metrics.
const OWN_PORTS: [u16; 3] = [15090, 15021, 15020];

/// Ports: all, or these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Every port.
    All,
    /// These alone.
    Only(BTreeSet<u16>),
}

impl Ports {
    fn read(text: Option<&String>, default: Ports) -> Ports {
        match text.map(|text| text.trim()) {
            None => default,
            Some("*") => Ports::All,
            Some(list) => Ports::Only(ports(list)),
        }
    }

    /// Whether a port is among them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Ports::All => true,
            Ports::Only(ports) => ports.contains(&port),
        }
    }
}

/// What is redirected to the proxy (annotations `traffic.sidecar.istio.io/…` of the pod, with the injection template's defaults).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// `includeInboundPorts`.
    pub inbound: Ports,
    /// `excludeInboundPorts`, with the proxy's own.
    pub inbound_excluded: BTreeSet<u16>,
    /// `includeOutboundIPRanges`; none: all.
    pub outbound: Option<Vec<IpNet>>,
    /// `excludeOutboundIPRanges`.
    pub outbound_excluded: Vec<IpNet>,
    /// `includeOutboundPorts`: redirected whatever the address.
    pub outbound_ports: BTreeSet<u16>,
    /// `excludeOutboundPorts`.
    pub outbound_ports_excluded: BTreeSet<u16>,
}

impl Interception {
    /// What is redirected in this proxy's pod; nothing for a gateway.
    #[must_use]
    pub fn of(node: &ProxyNode) -> Option<Interception> {
        if node.kind != ProxyKind::Sidecar || node.annotations.get("sidecar.istio.io/interceptionMode").is_some_and(|mode| mode == "NONE") {
            return None;
        }
        let said = |name: &str| node.annotations.get(&format!("traffic.sidecar.istio.io/{name}"));
        let list = |name: &str| said(name).map(|text| ports(text)).unwrap_or_default();
        let mut inbound_excluded = list("excludeInboundPorts");
        inbound_excluded.extend(OWN_PORTS);
        let outbound = said("includeOutboundIPRanges").filter(|text| text.trim() != "*");
        Some(Interception {
            inbound: Ports::read(said("includeInboundPorts"), Ports::All),
            inbound_excluded,
            outbound: outbound.map(|text| networks(text)),
            outbound_excluded: said("excludeOutboundIPRanges").map(|text| networks(text)).unwrap_or_default(),
            outbound_ports: list("includeOutboundPorts"),
            outbound_ports_excluded: list("excludeOutboundPorts"),
        })
    }

    /// Whether a connection to this port of the pod comes to the proxy first.
    #[must_use]
    pub fn takes_inbound(&self, port: u16) -> bool {
        self.inbound.contains(port) && !self.inbound_excluded.contains(&port)
    }

    /// Whether a connection of the application goes to the proxy first. What stays within the pod does not.
    #[must_use]
    pub fn takes_outbound(&self, address: IpAddr, port: u16) -> bool {
        if address.is_loopback() || self.outbound_ports_excluded.contains(&port) {
            return false;
        }
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        if within(&self.outbound_excluded) {
            return false;
        }
        self.outbound_ports.contains(&port) || self.outbound.as_deref().is_none_or(within)
    }
}

fn ports(text: &str) -> BTreeSet<u16> {
    text.split(',').filter_map(|word| word.trim().parse().ok()).collect()
}

fn networks(text: &str) -> Vec<IpNet> {
    let words = text.split(',').map(str::trim);
    words.filter_map(|word| word.parse::<IpNet>().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn node(annotations: &[(&str, &str)]) -> ProxyNode {
        let annotations = annotations.iter().map(|(name, value)| (format!("traffic.sidecar.istio.io/{name}"), (*value).to_owned()));
        ProxyNode {
            kind: ProxyKind::Sidecar,
            pod: "p".to_owned(),
            namespace: "n".to_owned(),
            ip: IpAddr::from([10, 0, 0, 1]),
            labels: BTreeMap::new(),
            annotations: annotations.collect(),
            service_account: "s".to_owned(),
            container_ports: Vec::new(),
        }
    }

    #[test]
    fn everything_but_the_proxys_own_ports_is_taken_by_default() {
        let interception = Interception::of(&node(&[])).expect("a sidecar");
        assert!(interception.takes_inbound(8080) && !interception.takes_inbound(15021));
        assert!(interception.takes_outbound(IpAddr::from([1, 2, 3, 4]), 443));
        assert!(!interception.takes_outbound(IpAddr::from([127, 0, 0, 1]), 443));
        assert!(Interception::of(&ProxyNode { kind: ProxyKind::Router, ..node(&[]) }).is_none());
    }

    #[test]
    fn annotations_leave_ports_and_networks_out() {
        let said = [("excludeOutboundIPRanges", "1.2.0.0/16"), ("includeInboundPorts", ""), ("excludeOutboundPorts", "25, 26")];
        let interception = Interception::of(&node(&said)).expect("a sidecar");
        assert!(!interception.takes_inbound(8080));
        assert!(!interception.takes_outbound(IpAddr::from([1, 2, 3, 4]), 443));
        assert!(!interception.takes_outbound(IpAddr::from([1, 3, 3, 4]), 25));
        let said = [("includeOutboundIPRanges", "10.0.0.0/8"), ("includeOutboundPorts", "443")];
        let interception = Interception::of(&node(&said)).expect("a sidecar");
        assert!(!interception.takes_outbound(IpAddr::from([1, 3, 3, 4]), 80));
        assert!(interception.takes_outbound(IpAddr::from([1, 3, 3, 4]), 443));
    }
}
