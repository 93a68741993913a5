//! What still serves an earlier configuration: filter chains that drain under open connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::facts::SyncStatus;

use super::concerned::Asked;
use super::{ENVOY_ADMIN_PORT, Gate, GateError};

impl Gate {
    pub(super) async fn until_drained(&self, asked: &Asked, limit: Duration, began: Instant) -> Result<String, GateError> {
        let mut waited_for: BTreeSet<String> = BTreeSet::new();
        loop {
            let statuses = self.proxies(asked, &self.istiod_pods().await?).await?.statuses;
            let unread = BTreeMap::new();
            let looks = join_all(statuses.iter().map(|s| self.draining_under_connections(s, &unread))).await;
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
            self.look_anew();
            tokio::time::sleep(self.pace.pause(Duration::from_millis(50))).await;
        }
    }

    /// `changed` is [`gateproof_core::facts::Dump::changed`] of a dump that was read before this; empty where none was.
    pub(super) async fn draining_under_connections(
        &self,
        status: &SyncStatus,
        changed: &BTreeMap<String, String>,
    ) -> Result<bool, GateError> {
        let path = "/stats?filter=%28listener_manager.total_.*_draining%7Clistener.*downstream_cx_active%29%24";
        let body = self.http.get(status.namespace(), status.pod(), ENVOY_ADMIN_PORT, path, Duration::from_secs(5)).await?;
        let stats = Stats::read(&String::from_utf8_lossy(&body));
        if stats.draining == 0 {
            self.settled.remember(&status.proxy, changed);
            return Ok(false);
        }
        Ok(stats.serve_earlier(self.settled.touched(&status.proxy, changed).as_ref()))
    }
}

/// When each listener of a proxy had changed last at a moment when nothing was draining: what drains now belongs to a
/// listener that has changed since, or is gone.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<HashMap<String, BTreeMap<String, String>>>);

impl Settled {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, BTreeMap<String, String>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn remember(&self, proxy: &str, changed: &BTreeMap<String, String>) {
        if !changed.is_empty() {
            self.lock().insert(proxy.to_owned(), changed.clone());
        }
    }

    /// The addresses whose listeners may have chains that drain; None when any may.
    fn touched(&self, proxy: &str, changed: &BTreeMap<String, String>) -> Option<BTreeSet<String>> {
        if changed.is_empty() {
            return None;
        }
        let known = self.lock();
        let before = known.get(proxy)?;
        let differs = |(address, time): &(&String, &String)| before.get(*address) != Some(*time);
        let gone = before.keys().filter(|address| !changed.contains_key(*address));
        Some(changed.iter().filter(differs).map(|(address, _)| address).chain(gone).cloned().collect())
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

/// What Envoy counts of its listeners, as far as it says.
#[derive(Debug, Default, PartialEq)]
struct Stats {
    /// Filter chains and whole listeners that drain, of any listener: Envoy does not tell of which.
    draining: u64,
    /// Open connections by listener, without Istio's own for health and metrics. None where no listener's are counted:
    /// Istio's bootstrap keeps statistics of a few prefixes only, and `listener.` is none of them.
    open: Option<BTreeMap<String, u64>>,
}

impl Stats {
    fn read(stats: &str) -> Self {
        let mut out = Self::default();
        for line in stats.lines() {
            let Some((name, value)) = line.rsplit_once(": ") else { continue };
            let value: u64 = value.trim().parse().unwrap_or(0);
            if name.starts_with("listener_manager.total_") {
                out.draining += value;
            } else if !["listener.admin", "_15021", "_15090", "worker_"].iter().any(|own| name.contains(own)) {
                let address = name.trim_start_matches("listener.").trim_end_matches(".downstream_cx_active");
                *out.open.get_or_insert_default().entry(address.to_owned()).or_default() += value;
            }
        }
        out
    }

    /// Whether a connection is open that could still be on a chain or listener that drains; `touched` says which listeners
    /// may have such, None that any may.
    fn serve_earlier(&self, touched: Option<&BTreeSet<String>>) -> bool {
        let may_drain = |address: &String| touched.is_none_or(|touched| touched.contains(address));
        self.draining > 0 && self.open.as_ref().is_none_or(|open| open.iter().any(|(address, n)| *n > 0 && may_drain(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drains(stats: &str) -> bool {
        Stats::read(stats).serve_earlier(None)
    }

    #[test]
    fn draining_matters_only_under_open_connections() {
        let chains = |draining: u32, open: u32| {
            format!(
                "listener_manager.total_filter_chains_draining: {draining}\nlistener.0.0.0.0_8443.downstream_cx_active: {open}\n\
                 listener.0.0.0.0_15021.downstream_cx_active: 3\nlistener.admin.downstream_cx_active: 1\n"
            )
        };
        assert!(!drains(&chains(0, 5)));
        assert!(!drains(&chains(2, 0)));
        assert!(drains(&chains(2, 1)));
        // As Istio's proxies answer unless they are told to keep more.
        let uncounted = |chains: u32| {
            format!("listener_manager.total_filter_chains_draining: {chains}\nlistener_manager.total_listeners_draining: 0\n")
        };
        assert!(drains(&uncounted(1)));
        assert!(!drains(&uncounted(0)));
    }

    #[test]
    fn a_connection_on_a_listener_that_did_not_change_is_not_on_a_chain_that_drains() {
        let at = |listeners: &[(&str, &str)]| listeners.iter().map(|(a, t)| ((*a).to_owned(), (*t).to_owned())).collect();
        let settled = Settled::default();
        let inbound = "listener_manager.total_filter_chains_draining: 1\nlistener.0.0.0.0_15006.downstream_cx_active: 2\n\
                       listener.0.0.0.0_443.downstream_cx_active: 0\nlistener.10.96.0.9_80.downstream_cx_active: 0\n";
        let before: BTreeMap<String, String> = at(&[("0.0.0.0_15006", "1"), ("0.0.0.0_443", "1"), ("10.96.0.9_80", "1")]);
        let stats = Stats::read(inbound);
        assert!(stats.serve_earlier(settled.touched("a.x", &before).as_ref()), "nothing was ever seen settled");
        settled.remember("a.x", &before);
        let outbound_only = at(&[("0.0.0.0_15006", "1"), ("0.0.0.0_443", "2"), ("0.0.0.0_80", "2")]);
        assert_eq!(
            settled.touched("a.x", &outbound_only),
            Some(["0.0.0.0_443", "0.0.0.0_80", "10.96.0.9_80"].map(str::to_owned).into()),
            "changed, new, gone"
        );
        assert!(!stats.serve_earlier(settled.touched("a.x", &outbound_only).as_ref()));
        let inbound_too = at(&[("0.0.0.0_15006", "2"), ("0.0.0.0_443", "2"), ("10.96.0.9_80", "1")]);
        assert!(stats.serve_earlier(settled.touched("a.x", &inbound_too).as_ref()));
        assert!(stats.serve_earlier(settled.touched("a.x", &BTreeMap::new()).as_ref()), "no dump: any may drain");
        assert!(stats.serve_earlier(settled.touched("b.x", &outbound_only).as_ref()), "another proxy");
    }
}
