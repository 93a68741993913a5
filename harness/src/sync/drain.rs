//! What still serves an earlier configuration: filter chains that drain under open connections.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::names::Namespaced;

use super::{ENVOY_ADMIN_PORT, Gate, GateError, SyncStatus};

impl Gate {
    pub(super) async fn until_drained(&self, workloads: &[Namespaced], limit: Duration, began: Instant) -> Result<String, GateError> {
        let mut waited_for: BTreeSet<String> = BTreeSet::new();
        loop {
            let statuses = self.concerned(&self.istiod_pods().await?, workloads).await?;
            let looks = join_all(statuses.iter().map(|s| self.draining_under_connections(s))).await;
            let draining: Vec<String> =
                statuses.iter().zip(looks).filter(|(_, look)| !matches!(look, Ok(false))).map(|(s, _)| s.proxy.clone()).collect();
            if draining.is_empty() {
                return Ok(drained(&waited_for));
            }
            if began.elapsed() > limit {
                let missing = draining.iter().map(|p| format!("{p} drains filter chains under open connections")).collect();
                return Err(GateError::TimedOut { limit, missing });
            }
            waited_for.extend(draining);
            tokio::time::sleep(self.pace.pause(Duration::from_millis(50))).await;
        }
    }

    pub(super) async fn draining_under_connections(&self, status: &SyncStatus) -> Result<bool, GateError> {
        let path = "/stats?filter=%28listener_manager.total_.*_draining%7Clistener.*downstream_cx_active%29%24";
        let body = self.http.get(status.namespace(), status.pod(), ENVOY_ADMIN_PORT, path, Duration::from_secs(5)).await?;
        Ok(drains_under_connections(&String::from_utf8_lossy(&body)))
    }
}

/// For the report, when nothing drains any more.
pub(super) fn drained(waited_for: &BTreeSet<String>) -> String {
    if waited_for.is_empty() {
        return "no filter chain was draining under an open connection".to_owned();
    }
    let names: Vec<&str> = waited_for.iter().map(String::as_str).collect();
    format!("waited for draining filter chains with open connections in {}", names.join(", "))
}

/// Whether chains or listeners drain while a connection is open that could still be on one of them.
/// Istio's own listeners for health and metrics do not count. Where no listener's connections are counted, one may be open:
/// Istio's bootstrap keeps statistics of a few prefixes only, and `listener.` is none of them.
fn drains_under_connections(stats: &str) -> bool {
    let (mut draining, mut open, mut counted) = (0, 0, false);
    for line in stats.lines() {
        let Some((name, value)) = line.rsplit_once(": ") else { continue };
        let value: u64 = value.trim().parse().unwrap_or(0);
        if name.starts_with("listener_manager.total_") {
            draining += value;
        } else if !["listener.admin", "_15021", "_15090", "worker_"].iter().any(|own| name.contains(own)) {
            open += value;
            counted = true;
        }
    }
    draining > 0 && (open > 0 || !counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_matters_only_under_open_connections() {
        let chains = |draining: u32, open: u32| {
            format!(
                "listener_manager.total_filter_chains_draining: {draining}\nlistener.0.0.0.0_8443.downstream_cx_active: {open}\n\
                 listener.0.0.0.0_15021.downstream_cx_active: 3\nlistener.admin.downstream_cx_active: 1\n"
            )
        };
        assert!(!drains_under_connections(&chains(0, 5)));
        assert!(!drains_under_connections(&chains(2, 0)));
        assert!(drains_under_connections(&chains(2, 1)));
        // As Istio's proxies answer unless they are told to keep more.
        let uncounted = |chains: u32| {
            format!("listener_manager.total_filter_chains_draining: {chains}\nlistener_manager.total_listeners_draining: 0\n")
        };
        assert!(drains_under_connections(&uncounted(1)));
        assert!(!drains_under_connections(&uncounted(0)));
    }
}
