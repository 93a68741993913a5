//! Which endpoint is next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use gateproof_mesh_config::envoy::Cluster;

use super::{Members, UpstreamHost};

/// Where the turn stands: what each endpoint is owed.
#[derive(Debug, Default)]
pub(super) struct Turn(BTreeMap<SocketAddr, f64>);

/// The endpoint whose turn it is among those that the cluster's rules leave, by the weights of localities and endpoints.
/// The least-request policy differs from this only under load; hashes are not simulated.
pub(super) fn choose(
    cluster: &Cluster,
    members: &Members,
    avoid: &[SocketAddr],
    turn: &mut Turn,
    random: u64,
) -> Option<Arc<UpstreamHost>> {
    let out = |index: usize| members.hosts.get(index).is_some_and(|h| h.ejected());
    let candidates = cluster.candidates(&members.endpoints, members.overprovisioning, &out, random);
    let all: Vec<&Arc<UpstreamHost>> = candidates.into_iter().filter_map(|i| members.hosts.get(i)).collect();
    let fresh: Vec<&Arc<UpstreamHost>> = all.iter().copied().filter(|h| !avoid.contains(&h.address)).collect();
    next(if fresh.is_empty() { &all } else { &fresh }, turn).cloned()
}

/// Smooth weighted round robin: with equal weights, in order.
fn next<'a>(hosts: &[&'a Arc<UpstreamHost>], turn: &mut Turn) -> Option<&'a Arc<UpstreamHost>> {
    let weight = |host: &UpstreamHost| {
        let own = f64::from(host.endpoint.weight.max(1));
        let Some(locality) = host.endpoint.locality_weight else { return own };
        let others = hosts.iter().filter(|h| h.endpoint.locality == host.endpoint.locality);
        own * f64::from(locality) / others.map(|h| f64::from(h.endpoint.weight.max(1))).sum::<f64>()
    };
    turn.0.retain(|address, _| hosts.iter().any(|h| h.address == *address));
    let mut total = 0.0;
    let mut best: Option<(&Arc<UpstreamHost>, f64)> = None;
    for host in hosts {
        let weight = weight(host);
        total += weight;
        let owed = turn.0.entry(host.address).or_default();
        *owed += weight;
        if weight > 0.0 && best.is_none_or(|(_, most)| *owed > most) {
            best = Some((host, *owed));
        }
    }
    let (host, _) = best?;
    if let Some(owed) = turn.0.get_mut(&host.address) {
        *owed -= total;
    }
    Some(host)
}
