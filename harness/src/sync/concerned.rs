//! Which proxies the gate asks: every connected one, or those that a state concerns.

use std::collections::BTreeSet;

use gateproof_core::facts::{PodGlance, SyncStatus};
use gateproof_core::names::Namespaced;

use super::{Gate, GateError, Wanted};
use crate::kube_ext::glance::Selectors;

/// The proxies that are asked.
pub(super) enum Asked {
    /// Every one that is connected, and every ready pod that has one.
    All,
    /// Those of these Deployments.
    Of(Selectors),
}

/// The proxies at one moment.
#[derive(Default)]
pub(super) struct Proxies {
    /// What istiod says of those that are asked.
    pub(super) statuses: Vec<SyncStatus>,
    /// Ready pods with a proxy that istiod does not list, as it would call them: a lost stream, or another istiod has just begun.
    pub(super) unconnected: Vec<String>,
}

fn id(pod: &PodGlance) -> String {
    format!("{}.{}", pod.metadata.name, pod.metadata.namespace)
}

impl Gate {
    /// The proxies of the state's own workloads, and of the gateways that it concerns: by the state itself, or by who made this gate.
    pub(super) async fn asked(&self, wanted: &Wanted) -> Result<Asked, GateError> {
        let Some(gateways) = wanted.gateways.as_ref().or(self.gateways.as_ref()) else { return Ok(Asked::All) };
        let workloads: BTreeSet<Namespaced> = gateways.iter().chain(&wanted.workloads).cloned().collect();
        let failed = |e| GateError::Api { doing: "looking up the workloads that a state concerns".to_owned(), source: Box::new(e) };
        Ok(Asked::Of(Selectors::read(&self.client, &workloads).await.map_err(failed)?))
    }

    /// What istiod says of them, and what it does not.
    pub(super) async fn proxies(&self, asked: &Asked, istiods: &[String]) -> Result<Proxies, GateError> {
        let pods = async {
            match asked {
                Asked::All => self.all_pods().await,
                Asked::Of(selectors) => {
                    let failed = |e| GateError::Api { doing: "listing pods".to_owned(), source: Box::new(e) };
                    Ok(selectors.pods(&self.client).await.map_err(failed)?.into_values().flatten().collect())
                }
            }
        };
        let (mut statuses, pods): (_, Vec<PodGlance>) = tokio::try_join!(self.sync_status_of(istiods), pods)?;
        let there = || pods.iter().filter(|pod| !pod.is_leaving());
        if let Asked::Of(_) = asked {
            let ids: BTreeSet<String> = there().map(id).collect();
            statuses.retain(|status| ids.contains(&status.proxy));
        }
        let should = there().filter(|pod| pod.is_ready() && pod.all_containers().any(|name| name == "istio-proxy")).map(id);
        let unconnected = should.filter(|id| statuses.iter().all(|status| status.proxy != *id)).collect();
        Ok(Proxies { statuses, unconnected })
    }
}
