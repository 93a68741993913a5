//! What is remembered of a cluster on this machine, and the lock that says whose it is now.
//!
//! A cluster whose lock is free and whose state does not say "kept" was left by a killed run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs4::FileExt;
use serde::{Deserialize, Serialize};

use crate::provider::{Progress, ProviderError};

/// The files of one cluster, below the user's state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

/// What is remembered of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) cluster: String,
    pub(crate) run: String,
    pub(crate) pid: u32,
    /// Of everything that makes the cluster what it is, but for its gateways and hosts.
    pub(crate) config_hash: String,
    /// Whether it is whole and outlives its run.
    pub(crate) kept: bool,
    /// Whether Docker's `kind` network was there before.
    pub(crate) network_before: bool,
    /// The pid of `kind create`, while it runs.
    pub(crate) creator: Option<u32>,
    /// Release → hash of its values, for each gateway.
    pub(crate) gateways: BTreeMap<String, String>,
    /// The stand-ins' public certificates, to be had again when a kept cluster is reused.
    pub(crate) ca_pem: String,
    /// Host → its leaf's fingerprint.
    pub(crate) fingerprints: BTreeMap<String, String>,
    /// Host ports that were chosen, by node port.
    pub(crate) host_ports: BTreeMap<u16, u16>,
}

/// `$XDG_STATE_HOME/gateproof/clusters`, or below `~/.local/state`.
pub(crate) fn root() -> Result<PathBuf, ProviderError> {
    let home = || std::env::var_os("HOME").filter(|h| !h.is_empty()).map(|h| PathBuf::from(h).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(home).ok_or_else(|| {
        ProviderError::Settings {
            file: "the environment".to_owned(),
            why: "neither XDG_STATE_HOME nor HOME is set; there is no place for the cluster's state".to_owned(),
        }
    })?;
    Ok(base.join("gateproof/clusters"))
}

impl StateDir {
    pub(crate) fn of(cluster: &str) -> Result<Self, ProviderError> {
        let dir = root()?.join(cluster);
        std::fs::create_dir_all(&dir).map_err(ProviderError::io(format!("make the folder {}", dir.display())))?;
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// The state, if there is one that can be read.
    pub(crate) fn read(&self) -> Option<State> {
        serde_json::from_slice(&std::fs::read(self.file()).ok()?).ok()
    }

    /// Replaces the state in one step.
    pub(crate) fn write(&self, state: &State) -> Result<(), ProviderError> {
        let failed = |e| ProviderError::Io { what: format!("write {}", self.file().display()), source: e };
        let mut temporary = tempfile::NamedTempFile::new_in(&self.0).map_err(failed)?;
        temporary.write_all(&serde_json::to_vec_pretty(state).unwrap_or_default()).map_err(failed)?;
        temporary.persist(self.file()).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// Forgets the cluster, its lock's file included: who waits for that sees that it is gone.
    pub(crate) fn clear(&self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }

    /// Forgets the cluster, to make another one under the same lock.
    pub(crate) fn clear_all_but_lock(&self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten().filter(|e| e.file_name() != "lock") {
            let _ = std::fs::remove_file(entry.path());
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, ProviderError> {
        std::fs::create_dir_all(&self.0).map_err(ProviderError::io(format!("make the folder {}", self.0.display())))?;
        let path = self.0.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(ProviderError::io(format!("open {}", path.display())))?;
        match FileExt::try_lock(&file) {
            // Removed together with its cluster between opening and locking: whoever comes next makes another.
            Ok(()) if !is_at(&file, &path) => Ok(None),
            Ok(()) => {
                let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
                Ok(Some(Lock(file)))
            }
            Err(fs4::TryLockError::WouldBlock) => Ok(None),
            Err(fs4::TryLockError::Error(e)) => Err(ProviderError::Io { what: format!("lock {}", path.display()), source: e }),
        }
    }

    /// Takes the lock, waiting for as long as another run holds it, and saying so once.
    pub(crate) async fn lock(&self, cluster: &str, progress: &dyn Progress) -> Result<Lock, ProviderError> {
        let mut said = false;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            let holder = self.holder();
            if let Some(pid) = holder.filter(|pid| !is_alive(*pid)) {
                // The run was killed; its `kind create` still holds the lock and makes what nobody wants.
                if let Some(creator) = self.read().and_then(|s| s.creator).filter(|c| is_kind_create(*c, cluster)) {
                    stop(creator);
                }
                tracing::debug!(pid, "the lock's holder is gone; waiting for its children");
            } else if !said {
                said = true;
                let who = holder.map_or_else(|| "another run".to_owned(), |pid| format!("another run (process {pid})"));
                progress.warn(&format!("{who} uses the cluster {cluster}; waiting until it ends (or name another cluster)"));
            }
            // A lock has no event to wait for that could be given up on Ctrl-C.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn holder(&self) -> Option<u32> {
        let mut text = String::new();
        File::open(self.0.join("lock")).ok()?.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

/// Held for as long as this, or a process that was given its file, lives.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// For a child that must be waited for should this process be killed.
    pub(crate) fn share(&self) -> std::io::Result<File> {
        self.0.try_clone()
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |m: std::fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata().map(identity), path.metadata().map(identity)), (Ok(a), Ok(b)) if a == b)
}

fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH))
}

fn is_kind_create(pid: u32, cluster: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<_> = line.split(|b| *b == 0).collect();
    words.contains(&b"create".as_slice()) && words.contains(&cluster.as_bytes())
}

fn stop(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_writing_and_is_cleared_with_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir(dir.path().to_owned());
        assert_eq!(state_dir.read(), None);
        let state = State { cluster: "a".into(), kept: true, host_ports: BTreeMap::from([(31080, 31080)]), ..State::default() };
        state_dir.write(&state).unwrap();
        assert_eq!(state_dir.read(), Some(state));
        let lock = state_dir.try_lock().unwrap();
        assert!(lock.is_some());
        assert!(state_dir.try_lock().unwrap().is_none(), "a second holder waits");
        assert_eq!(state_dir.holder(), Some(std::process::id()));
        state_dir.clear();
        assert_eq!(state_dir.read(), None);
        assert!(!dir.path().exists());
        drop(lock);
        assert!(state_dir.try_lock().unwrap().is_some());
    }
}
