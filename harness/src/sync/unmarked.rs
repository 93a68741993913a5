//! The gate without its mark, for a mesh in which nothing mesh-wide may be written.
//!
//! Only the proxies that the run concerns are looked at. For each, istiod's own configuration must have moved past the
//! version seen before the change (each full push has a new one), must then stay as it is, version and content, for two
//! debounce windows, and Envoy's must equal it. Weaker than the mark in one case: a mesh in which other events follow one
//! another faster than the debounce window, for seconds, while an earlier push has already moved the version.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::facts::Dump;

use super::{Gate, GateError, Look, Opened, Wanted, is_istio};

/// istiod's `PILOT_DEBOUNCE_AFTER`, unless somebody changed it.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// istiod's `PILOT_DEBOUNCE_MAX`: by then a push that was due has been made.
const DEBOUNCE_MAX: Duration = Duration::from_secs(10);

/// Whether the gate writes into the root namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// An EnvoyFilter with a fresh value, which each proxy must then carry.
    Written,
    /// Nothing is written.
    None,
}

/// The version of each proxy's configuration before a change.
#[derive(Debug, Clone, Default)]
pub struct Before(BTreeMap<String, String>);

/// One proxy on its way.
struct Seen {
    dump: Dump,
    since: Instant,
}

/// Whether a proxy's configuration can be taken as that of the change.
fn is_settled(moved: bool, changed: bool, quiet: Duration) -> bool {
    quiet >= 2 * DEBOUNCE && (moved || !changed || quiet >= DEBOUNCE_MAX)
}

impl Gate {
    /// What there is before a change; nothing is asked where the mark tells.
    ///
    /// # Errors
    /// When istiod cannot be asked.
    pub async fn before(&self) -> Result<Before, GateError> {
        if self.mark == Mark::Written {
            return Ok(Before::default());
        }
        self.look_anew();
        let istiods = self.istiod_pods().await?;
        let statuses = self.proxies(&self.asked(&Wanted::default()).await?, &istiods).await?.statuses;
        let dumps = join_all(statuses.iter().map(|s| self.intended(s, &istiods))).await;
        Ok(Before(statuses.iter().zip(dumps).filter_map(|(s, d)| Some((s.proxy.clone(), d?.version))).collect()))
    }

    pub(super) async fn open_unmarked(
        &self,
        wanted: &Wanted,
        limit: Duration,
        began: Instant,
        opened: &mut Opened,
    ) -> Result<(), GateError> {
        let mut proxies: BTreeMap<String, Seen> = BTreeMap::new();
        let asked = self.asked(wanted).await?;
        loop {
            let istiods = self.istiod_pods().await?;
            let statuses = self.proxies(&asked, &istiods).await?.statuses;
            let looks = join_all(statuses.iter().map(|s| self.intended(s, &istiods))).await;
            let mut missing = Vec::new();
            let mut refused = BTreeSet::new();
            let mut waited_long = false;
            for (status, look) in statuses.iter().zip(looks) {
                let Some(dump) = look else {
                    missing.push(format!("{}: istiod has no configuration for it yet", status.proxy));
                    continue;
                };
                let same = proxies.get(&status.proxy).is_some_and(|s| s.dump == dump);
                if !same {
                    proxies.insert(status.proxy.clone(), Seen { dump, since: Instant::now() });
                }
                let seen = &proxies[&status.proxy];
                let moved = wanted.before.0.get(&status.proxy) != Some(&seen.dump.version);
                let quiet = seen.since.elapsed();
                let look = match self.runs(status).await {
                    Ok(envoy) => self.proxy_equals(status, envoy, &seen.dump).await,
                    Err(error) => Err(error),
                };
                match look {
                    Ok(Look::Has(_)) if is_settled(moved, wanted.changed, quiet) => waited_long |= wanted.changed && !moved,
                    Ok(Look::Has(_)) if moved || !wanted.changed => {
                        missing.push(format!("{}: not yet still for {:?}", status.proxy, 2 * DEBOUNCE))
                    }
                    Ok(Look::Has(_)) => missing.push(format!("{}: istiod has not pushed since the change", status.proxy)),
                    Ok(Look::Refused(refusals)) if is_settled(moved, wanted.changed, quiet) => refused.extend(refusals),
                    Ok(Look::Refused(_)) => missing.push(format!("{}: it refused a push", status.proxy)),
                    Ok(Look::Drains) => missing.push(format!("{} drains filter chains under open connections", status.proxy)),
                    Ok(Look::Lacks(what) | Look::Differs(what)) => missing.push(format!("{}: {what}", status.proxy)),
                    // A pod may be going away while it is asked; if it stays, it is asked again.
                    Err(error) => missing.push(format!("{}: {error}", status.proxy)),
                }
            }
            if missing.is_empty() {
                opened.facts.push(format!(
                    "no mark was written (mesh-wide changes are not allowed): of the {} proxies that this run concerns, istiod's configuration {} and stayed the same for {:?}; their clusters, listeners, routes and endpoints equal it, nothing is warming ({:.2} s)",
                    statuses.len(),
                    match (wanted.changed, waited_long) {
                        (false, _) => "had no Istio object to follow",
                        (true, false) => "moved past the version seen before the change",
                        (true, true) => "did not move for the longest debounce",
                    },
                    2 * DEBOUNCE,
                    began.elapsed().as_secs_f64()
                ));
                opened.refusals = refused.into_iter().collect();
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(GateError::TimedOut { limit, missing });
            }
            self.look_anew();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
}

impl Wanted {
    /// How many applied Istio objects, and how many removed.
    pub(super) fn istio_objects(&self) -> (usize, usize) {
        (self.applied.iter().filter(|(k, _)| is_istio(k)).count(), self.removed.iter().filter(|k| is_istio(k)).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_believed_only_after_a_push_and_two_quiet_windows() {
        let quiet = 2 * DEBOUNCE;
        assert!(is_settled(true, true, quiet));
        assert!(!is_settled(true, true, DEBOUNCE), "the push that is still debounced");
        assert!(!is_settled(false, true, quiet), "no push since the change");
        assert!(is_settled(false, false, quiet), "nothing for istiod to push");
        assert!(is_settled(false, true, DEBOUNCE_MAX), "a push that was due would have been made");
    }
}
