//! Whether a workload takes plaintext, mutual TLS or both (Istio: `ComposePeerAuthentication`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::istio::PushContext;
use crate::istio::model::object;

/// What a workload takes on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerMode {
    /// Mutual TLS alone.
    Strict,
    /// Both.
    Permissive,
    /// Plaintext alone: TLS is the application's own.
    Disable,
}

/// The mode of a port of a workload: the narrowest PeerAuthentication that says one (port, workload, namespace, mesh), the oldest
/// of a level; permissive if none does. A workload's port is the one that its application listens on.
#[must_use]
pub fn peer_mode(ctx: &PushContext, namespace: &str, labels: &BTreeMap<String, String>, port: u16) -> PeerMode {
    let mut mode = PeerMode::Permissive;
    let all = || ctx.objects("PeerAuthentication").iter();
    let wide = |of: &str| {
        let of = of.to_owned();
        all().find(move |policy| object::namespace(policy) == of && selector(policy).is_empty())
    };
    let mut levels = vec![wide(&ctx.root_namespace)];
    let mut own = None;
    if namespace != ctx.root_namespace {
        own = all().find(|policy| {
            let selector = selector(policy);
            object::namespace(policy) == namespace && !selector.is_empty() && object::selects(&selector, labels)
        });
        levels.extend([wide(namespace), own]);
    }
    for policy in levels.into_iter().flatten() {
        mode = said(policy.pointer("/spec/mtls")).unwrap_or(mode);
    }
    let ports = own.and_then(|policy| policy.pointer("/spec/portLevelMtls"));
    said(ports.and_then(|ports| ports.get(port.to_string()))).unwrap_or(mode)
}

fn selector(policy: &Value) -> BTreeMap<String, String> {
    policy.pointer("/spec/selector/matchLabels").map(object::text_map).unwrap_or_default()
}

/// The mode that `mtls` says, unless it leaves it to the wider level.
fn said(mtls: Option<&Value>) -> Option<PeerMode> {
    match object::text(mtls?, "/mode") {
        "STRICT" => Some(PeerMode::Strict),
        "PERMISSIVE" => Some(PeerMode::Permissive),
        "DISABLE" => Some(PeerMode::Disable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::istio::policy::testing::context;

    const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mesh, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: late, namespace: a, creationTimestamp: '2026-01-02T00:00:00Z'}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: early, namespace: a, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {mtls: {mode: DISABLE}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: one, namespace: a}
spec: {selector: {matchLabels: {app: one}}, mtls: {mode: UNSET}, portLevelMtls: {'8080': {mode: PERMISSIVE}, '9090': {mode: UNSET}}}";

    #[test]
    fn the_narrowest_that_says_one_decides() {
        let ctx = context("", POLICIES);
        let one = BTreeMap::from([("app".to_owned(), "one".to_owned())]);
        let other = BTreeMap::new();
        assert_eq!(peer_mode(&ctx, "b", &other, 80), PeerMode::Strict);
        assert_eq!(peer_mode(&ctx, "a", &other, 80), PeerMode::Disable);
        assert_eq!(peer_mode(&ctx, "a", &one, 8080), PeerMode::Permissive);
        assert_eq!(peer_mode(&ctx, "a", &one, 9090), PeerMode::Disable);
        assert_eq!(peer_mode(&context("", ""), "a", &one, 80), PeerMode::Permissive);
    }
}
