//! The chain that an outcome is, and the first link of it that broke.

use std::fmt;

use super::{CallSeen, EvidenceKind, HopSeen, Mismatch, Observation};
use crate::scenario::{Connection, Expectation};

/// What has to hold for a check to be green, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The API server and Istio's webhook took every object.
    Api,
    /// `istioctl analyze` has nothing to say.
    Analysis,
    /// The proxies have configuration that takes the call where it should go.
    Proxy,
    /// What it leads to has healthy endpoints.
    Endpoints,
    /// Connections are made, hop by hop.
    Connection,
    /// The answer is the one wanted.
    Response,
    /// The proxies logged what they should have.
    Log,
}

impl Layer {
    /// All, in order.
    pub const ALL: [Self; 7] = [Self::Api, Self::Analysis, Self::Proxy, Self::Endpoints, Self::Connection, Self::Response, Self::Log];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "accepted by the API",
            Self::Analysis => "analysis clean",
            Self::Proxy => "configuration in the proxy",
            Self::Endpoints => "endpoints healthy",
            Self::Connection => "connection made",
            Self::Response => "response as expected",
            Self::Log => "log as expected",
        })
    }
}

/// The sentence that begins a diagnosis.
pub(super) fn sentence(layer: Layer) -> String {
    let at = Layer::ALL.iter().position(|one| *one == layer).unwrap_or_default() + 1;
    let next = Layer::ALL.get(at).map(|next| format!("; what comes after it ({next}, …) was not reached as intended"));
    format!("First broken layer: {layer} ({at} of {}){}.", Layer::ALL.len(), next.unwrap_or_default())
}

/// The first broken layer, as far as an observation shows it by itself; None without a mismatch.
#[must_use]
pub fn first_broken(expect: &Expectation, seen: &Observation, mismatches: &[Mismatch]) -> Option<Layer> {
    // A push that was refused is put on every check of its state: whatever else differs comes after it.
    if mismatches.iter().any(|m| m.what == "configuration" && m.by == EvidenceKind::ProxyConfig) {
        return Some(Layer::Proxy);
    }
    let first = mismatches.first()?;
    Some(match seen {
        Observation::Analysis { .. } => Layer::Analysis,
        Observation::Config { .. } | Observation::ProxyStatus { .. } | Observation::Versions { .. } => Layer::Proxy,
        Observation::Pods { .. } => Layer::Endpoints,
        // An object may tell of any of them.
        Observation::Object { .. } => return None,
        Observation::Logs { .. } => Layer::Log,
        Observation::Call(call) => of_call(expect, call, mismatches).unwrap_or(match first.by {
            EvidenceKind::Log => Layer::Log,
            _ => Layer::Response,
        }),
    })
}

fn of_call(expect: &Expectation, seen: &CallSeen, mismatches: &[Mismatch]) -> Option<Layer> {
    let wanted: &[Connection] = match expect {
        Expectation::Call(call) => &call.connection,
        _ => &[],
    };
    if let Some(layer) = seen.hops.iter().rev().find_map(of_hop) {
        return Some(layer);
    }
    // Past every proxy's configuration, while another way was wanted.
    let unknown = |h: &HopSeen| matches!(h.entry.cluster.as_str(), "PassthroughCluster" | "BlackHoleCluster");
    let other_way = mismatches.iter().any(|m| m.what.ends_with(".cluster"));
    if other_way && seen.hops.iter().any(unknown) {
        return Some(Layer::Proxy);
    }
    match &seen.connection {
        Some(end) if *end != Connection::Answered && !wanted.contains(end) => Some(Layer::Connection),
        _ => None,
    }
}

/// What a proxy's line tells by its flags and details.
fn of_hop(hop: &HopSeen) -> Option<Layer> {
    let e = &hop.entry;
    for flag in e.flags.split(',') {
        match flag {
            "NR" | "NC" | "NFCF" => return Some(Layer::Proxy),
            "UH" | "LH" | "DF" => return Some(Layer::Endpoints),
            "UF" | "UO" | "UC" | "UR" | "LR" | "URX" | "UPE" | "UT" => return Some(Layer::Connection),
            "FI" | "RL" | "UAEX" | "RLSE" | "IH" | "DPE" | "DO" | "UDO" | "OM" => return Some(Layer::Response),
            _ => {}
        }
    }
    let denied = [&e.details, &e.termination].iter().any(|d| d.starts_with("rbac_access_denied") || d.starts_with("jwt_authn"));
    denied.then_some(Layer::Response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_in_order_and_said_in_words() {
        assert!(Layer::ALL.is_sorted());
        assert!(
            sentence(Layer::Endpoints).starts_with("First broken layer: endpoints healthy (4 of 7); what comes after it (connection made")
        );
        assert_eq!(sentence(Layer::Log), "First broken layer: log as expected (7 of 7).");
    }
}
