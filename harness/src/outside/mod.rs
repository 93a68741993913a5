//! Hosts outside the mesh: stand-ins beside the cluster, or the real ones.

pub(crate) mod certificates;
pub(crate) mod coredns;
mod stand_ins;

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateproof_core::report::OutsideRecord;
use gateproof_core::scenario::OutsideHost;

pub(crate) use stand_ins::{existing, start};

/// On every container that stands in for a host: the cluster it belongs to.
pub const CLUSTER_LABEL: &str = "io.gateproof.cluster";
/// The host that it answers for.
pub(crate) const HOST_LABEL: &str = "io.gateproof.host";

/// Host → its addresses.
pub(crate) type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// Stand-ins that answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct StandIns {
    pub(crate) addresses: Addresses,
    /// The certificate of the CA that signed theirs.
    pub(crate) ca_pem: String,
    /// Host → SHA-256 of its certificate.
    pub(crate) fingerprints: BTreeMap<String, String>,
}

/// For the report: hosts that containers answer for.
pub(crate) fn stand_in_records(addresses: &Addresses, image: &str) -> Vec<OutsideRecord> {
    let record = |(host, addresses): (&String, &Vec<IpAddr>)| OutsideRecord {
        host: host.clone(),
        kind: "stand-in".to_owned(),
        addresses: addresses.iter().map(IpAddr::to_string).collect(),
        served_by: image.to_owned(),
    };
    addresses.iter().map(record).collect()
}

/// For the report: the hosts themselves, as this machine resolves them.
pub(crate) async fn real_records(hosts: &[OutsideHost]) -> Vec<OutsideRecord> {
    let mut records = Vec::new();
    for host in hosts {
        let found = tokio::net::lookup_host((host.host.as_str(), 443)).await.map(|all| all.map(|a| a.ip().to_string()).collect());
        records.push(OutsideRecord {
            host: host.host.to_string(),
            kind: "real".to_owned(),
            addresses: found.unwrap_or_default(),
            served_by: "the host itself".to_owned(),
        });
    }
    records
}
