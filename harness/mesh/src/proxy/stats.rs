//! Counters and gauges under Envoy's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use regex::Regex;

use super::{lock, read, write};

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
pub(super) struct Stats(Arc<All>);

#[derive(Default)]
struct All {
    by_name: RwLock<BTreeMap<String, Stat>>,
    /// How often a name came or went.
    moves: AtomicU64,
    found: Mutex<BTreeMap<String, Found>>,
}

/// What a filter found: the same few are asked for over and over, and there are thousands of names.
struct Found {
    filter: Regex,
    moves: u64,
    stats: Named,
}

/// Numbers with their names.
type Named = Arc<Vec<(String, Stat)>>;

/// So many filters are remembered.
const FILTERS: usize = 16;

impl Stats {
    /// The number of this name; it begins at 0.
    pub(super) fn stat(&self, name: &str) -> Stat {
        if let Some(stat) = read(&self.0.by_name).get(name) {
            return stat.clone();
        }
        let mut all = write(&self.0.by_name);
        self.0.moves.fetch_add(1, Ordering::SeqCst);
        all.entry(name.to_owned()).or_default().clone()
    }

    /// Forgets those of something that is gone.
    pub(super) fn forget(&self, prefix: &str) {
        let mut all = write(&self.0.by_name);
        self.0.moves.fetch_add(1, Ordering::SeqCst);
        all.retain(|name, _| !name.starts_with(prefix));
    }

    /// Those whose name a regular expression finds; all without one.
    fn wanted(&self, filter: Option<&str>) -> Result<Named, regex::Error> {
        let named = |all: &BTreeMap<String, Stat>, filter: Option<&Regex>| -> Named {
            let wanted = all.iter().filter(|(name, _)| filter.is_none_or(|f| f.is_match(name)));
            Arc::new(wanted.map(|(name, stat)| (name.clone(), stat.clone())).collect())
        };
        let Some(text) = filter else { return Ok(named(&read(&self.0.by_name), None)) };
        let mut found = lock(&self.0.found);
        if !found.contains_key(text) {
            if found.len() >= FILTERS {
                found.clear();
            }
            found.insert(text.to_owned(), Found { filter: Regex::new(text)?, moves: u64::MAX, stats: Named::default() });
        }
        let Some(found) = found.get_mut(text) else { return Ok(Named::default()) };
        let all = read(&self.0.by_name);
        let moves = self.0.moves.load(Ordering::SeqCst);
        if found.moves != moves {
            found.stats = named(&all, Some(&found.filter));
            found.moves = moves;
        }
        Ok(found.stats.clone())
    }

    /// As `/stats` prints them, a line each, in order.
    ///
    /// # Errors
    /// When the filter is no regular expression.
    pub(super) fn text(&self, filter: Option<&str>, used_only: bool) -> Result<String, regex::Error> {
        let mut out = String::new();
        for (name, stat) in self.wanted(filter)?.iter() {
            let value = stat.get();
            if !used_only || value != 0 {
                let _ = writeln!(out, "{name}: {value}");
            }
        }
        Ok(out)
    }

    /// As `/stats?format=json` prints them.
    ///
    /// # Errors
    /// As [`Stats::text`].
    pub(super) fn json(&self, filter: Option<&str>, used_only: bool) -> Result<serde_json::Value, regex::Error> {
        let all = self.wanted(filter)?;
        let entries = all.iter().map(|(n, s)| (n, s.get())).filter(|(_, v)| !used_only || *v != 0);
        Ok(serde_json::json!({"stats": entries.map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect::<Vec<_>>()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_finds_what_came_since_and_not_what_went() {
        let stats = Stats::default();
        stats.stat("cluster.a.up").inc();
        stats.stat("cluster.b.up");
        let up = |used_only| stats.text(Some("^cluster.*up$"), used_only).unwrap();
        assert_eq!(up(false), "cluster.a.up: 1\ncluster.b.up: 0\n");
        assert_eq!(up(true), "cluster.a.up: 1\n");
        stats.stat("cluster.c.up").set(3);
        assert_eq!(up(true), "cluster.a.up: 1\ncluster.c.up: 3\n");
        stats.forget("cluster.a.");
        assert_eq!(up(false), "cluster.b.up: 0\ncluster.c.up: 3\n");
        assert!(stats.text(Some("("), false).is_err());
    }
}
