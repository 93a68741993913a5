//! Counters and gauges under Envoy's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};

use super::{read, write};

/// One number.
#[derive(Clone, Default)]
pub(super) struct Stat(Arc<AtomicI64>);

impl Stat {
    pub(super) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn inc(&self) {
        self.add(1);
    }

    pub(super) fn set(&self, n: usize) {
        self.0.store(i64::try_from(n).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, as long as what is returned lives.
    pub(super) fn held(&self) -> Held {
        self.inc();
        Held(self.clone())
    }
}

/// Takes one off a gauge when it is dropped.
pub(super) struct Held(Stat);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// All of them.
#[derive(Clone, Default)]
pub(super) struct Stats(Arc<RwLock<BTreeMap<String, Stat>>>);

impl Stats {
    /// The number of this name; it begins at 0.
    pub(super) fn stat(&self, name: &str) -> Stat {
        if let Some(stat) = read(&self.0).get(name) {
            return stat.clone();
        }
        write(&self.0).entry(name.to_owned()).or_default().clone()
    }

    /// Forgets those of something that is gone.
    pub(super) fn forget(&self, prefix: &str) {
        write(&self.0).retain(|name, _| !name.starts_with(prefix));
    }

    /// As `/stats` prints them, a line each, in order.
    pub(super) fn text(&self, wanted: impl Fn(&str) -> bool, used_only: bool) -> String {
        let mut out = String::new();
        for (name, stat) in read(&self.0).iter() {
            let value = stat.get();
            if (!used_only || value != 0) && wanted(name) {
                let _ = writeln!(out, "{name}: {value}");
            }
        }
        out
    }

    /// As `/stats?format=json` prints them.
    pub(super) fn json(&self, wanted: impl Fn(&str) -> bool, used_only: bool) -> serde_json::Value {
        let all = read(&self.0);
        let entries = all.iter().map(|(n, s)| (n, s.get())).filter(|(n, v)| (!used_only || *v != 0) && wanted(n));
        serde_json::json!({"stats": entries.map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect::<Vec<_>>()})
    }
}
