//! Where a run's socket, lock and log are, and who may be its owner.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs4::FileExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::watch::Watched;
use crate::provider::state_root;

/// Set for the process that is to be an owner.
const VARIABLE: &str = "GATEPROOF_OWNER";
/// So many logs of earlier runs are left.
const LOGS: usize = 20;
/// A socket's path has 104 bytes on macOS, 108 on Linux.
const LONGEST: usize = 100;

/// What a process that is to be an owner is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where its files are.
    pub(crate) place: Place,
    /// Whose end is its end.
    pub(crate) watched: Watched,
}

/// The order to be an owner, when this process was given one.
#[must_use]
pub fn order() -> Option<Order> {
    serde_json::from_str(&std::env::var(VARIABLE).ok()?).ok()
}

impl Order {
    /// As a variable of the environment.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        (VARIABLE, serde_json::to_string(self).unwrap_or_default())
    }
}

/// The files of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) log: PathBuf,
}

/// The last word of an owner: who it was, and for whom. It stays when the owner dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) owner: u32,
    pub(crate) watched: Watched,
}

impl Place {
    /// Of a nextest run: `gateproof/runs` in the user's state folder.
    pub(crate) fn of(run: &str) -> io::Result<Self> {
        Self::within(&state_root().map_err(io::Error::other)?.join("runs"), run)
    }

    pub(crate) fn within(dir: &Path, run: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let stem: String = Sha256::digest(run).iter().take(8).map(|b| format!("{b:02x}")).collect();
        let file = |ending: &str| dir.join(format!("{stem}.{ending}"));
        let mut socket = file("sock");
        if socket.as_os_str().len() > LONGEST {
            socket = std::env::temp_dir().join(format!("gateproof-{stem}.sock"));
        }
        Ok(Self { socket, lock: file("lock"), log: file("log") })
    }

    /// Takes the run's lock if it is free.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.lock)?;
            match FileExt::try_lock(&file) {
                Ok(()) => {}
                Err(fs4::TryLockError::WouldBlock) => return Ok(None),
                Err(fs4::TryLockError::Error(error)) => return Err(error),
            }
            // Somebody may have removed the file between opening and locking it: then this lock locks nothing.
            if fs::metadata(&self.lock).is_ok_and(|there| file.metadata().is_ok_and(|ours| there.ino() == ours.ino())) {
                return Ok(Some(file));
            }
        }
    }

    /// The owner's socket and lock go.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.lock);
    }

    /// Removes what owners left that were killed, once their nextest is gone too, and the oldest logs.
    pub(crate) fn sweep(&self) {
        let entries = |ending: &str| -> Vec<PathBuf> {
            let all = self.lock.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten().map(|e| e.path());
            all.filter(|path| path.extension().is_some_and(|e| e == ending)).collect()
        };
        for lock in entries("lock").into_iter().filter(|lock| *lock != self.lock) {
            let short = std::env::temp_dir().join(format!("gateproof-{}.sock", lock.file_stem().unwrap_or_default().to_string_lossy()));
            let left = Self { socket: lock.with_extension("sock"), log: lock.with_extension("log"), lock };
            let Ok(Some(mut held)) = left.try_lock() else { continue };
            if word(&mut held).is_none_or(|word| !word.watched.is_there()) {
                left.clear();
                let _ = fs::remove_file(short);
            }
        }
        let mut logs = entries("log");
        logs.sort_by_key(|log| fs::metadata(log).and_then(|m| m.modified()).ok());
        for log in logs.iter().rev().skip(LOGS) {
            let _ = fs::remove_file(log);
        }
    }
}

/// What an owner left in its lock's file.
pub(crate) fn word(lock: &mut File) -> Option<Word> {
    let mut text = String::new();
    lock.rewind().and_then(|()| lock.read_to_string(&mut text)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Leaves it there.
pub(crate) fn leave(lock: &mut File, word: &Word) -> io::Result<()> {
    lock.rewind()?;
    lock.set_len(0)?;
    lock.write_all(&serde_json::to_vec(word)?)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn gone() -> Watched {
        Watched { pid: std::process::id(), started: Some(0) }
    }

    #[test]
    fn a_run_has_one_lock_and_other_runs_have_others() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Place::within(dir.path(), "a").unwrap(), Place::within(dir.path(), "b").unwrap());
        let held = a.try_lock().unwrap();
        assert!(held.is_some());
        assert!(a.try_lock().unwrap().is_none());
        assert!(b.try_lock().unwrap().is_some());
        drop(held);
        assert!(a.try_lock().unwrap().is_some());
    }

    #[test]
    fn a_long_path_does_not_become_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(LONGEST));
        let place = Place::within(&deep, "a").unwrap();
        assert!(place.socket.starts_with(std::env::temp_dir()) && place.log.starts_with(&deep));
    }

    #[test]
    fn sweeping_leaves_owners_that_live_and_runs_that_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let [own, lives, died, goes_on] = ["own", "lives", "died", "on"].map(|run| Place::within(dir.path(), run).unwrap());
        let held = lives.try_lock().unwrap();
        for (place, watched) in [(&died, gone()), (&goes_on, Watched::of(std::process::id()))] {
            let mut lock = place.try_lock().unwrap().unwrap();
            leave(&mut lock, &Word { owner: 1, watched }).unwrap();
            fs::write(&place.socket, "").unwrap();
        }
        own.sweep();
        assert!(lives.lock.exists() && goes_on.lock.exists() && goes_on.socket.exists());
        assert!(!died.lock.exists() && !died.socket.exists());
        drop(held);
    }

    #[test]
    fn an_order_survives_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let order = Order { place: Place::within(dir.path(), "a").unwrap(), watched: gone() };
        assert_eq!(serde_json::from_str::<Order>(&order.variable().1).unwrap(), order);
    }
}
