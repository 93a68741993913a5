//! Which Deployments a check names.

use std::collections::BTreeSet;

use super::{Caller, Check, Expectation, HopExpect, Probe};
use crate::names::Namespaced;

impl Check {
    /// The Deployments that it names: who calls, what is asked, what a call passes and what it must not.
    #[must_use]
    pub fn workloads(&self) -> BTreeSet<Namespaced> {
        let mut all: BTreeSet<Namespaced> = match &self.probe {
            Probe::Exec(probe) => BTreeSet::from([probe.workload.clone()]),
            Probe::Http(probe) => {
                let caller = match &probe.from {
                    Caller::Workload(workload) => Some(workload.clone()),
                    Caller::Outside => None,
                };
                probe.gateway.iter().cloned().chain(caller).collect()
            }
            Probe::Logs(probe) => BTreeSet::from([probe.workload.clone()]),
            Probe::ProxyConfig(probe) => BTreeSet::from([probe.workload.clone()]),
            Probe::Pods { workloads } => workloads.iter().cloned().collect(),
            Probe::Analyze { .. } | Probe::ProxyStatus | Probe::Versions | Probe::Object(_) => BTreeSet::new(),
        };
        match &self.expect {
            Expectation::Call(call) => {
                all.extend(call.path.iter().map(|hop| hop.proxy.clone()));
                all.extend(call.absent_from.iter().cloned());
            }
            Expectation::InSync { workloads } => all.extend(workloads.iter().cloned()),
            Expectation::Observe { watched } => all.extend(watched.iter().cloned()),
            _ => {}
        }
        all
    }
}

impl HopExpect {
    /// Any line of this proxy.
    #[must_use]
    pub fn any(proxy: Namespaced) -> Self {
        Self { proxy, request: None, cluster: None, flags: None, route: None, sni: None, details: None, termination: None, code: None }
    }
}
