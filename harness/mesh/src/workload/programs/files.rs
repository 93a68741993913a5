//! A container's file system, in memory: what it has of its own, and volumes mounted into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files by path relative to where they are mounted. Clones are the same volume.
#[derive(Clone, Default)]
pub struct Volume(Arc<Mutex<Tree>>);

/// What a file holds. It outlives the file's name for whoever has it open.
type Content = Arc<Mutex<Arc<Vec<u8>>>>;

#[derive(Default)]
struct Tree {
    files: BTreeMap<String, Content>,
    directories: BTreeSet<String>,
}

/// Where a volume is mounted.
#[derive(Clone)]
struct Mount {
    at: String,
    volume: Volume,
    /// The part of the volume that is mounted, if not all of it.
    sub_path: String,
    read_only: bool,
}

/// All that a container sees. Clones are the same.
#[derive(Clone, Default)]
pub struct Files {
    own: Volume,
    mounts: Arc<Mutex<Vec<Mount>>>,
    /// What a process has open beyond its standard streams, by number: `/proc/self/fd`.
    open: Volume,
    /// Where relative paths begin.
    directory: String,
}

/// Where a process finds what it has open.
const OPEN: &str = "proc/self/fd";

/// Why a file cannot be read or written, in the words of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("No such file or directory")]
    NotFound,
    /// It is a directory.
    #[error("Is a directory")]
    IsDirectory,
    /// It is a file.
    #[error("Not a directory")]
    NotADirectory,
    /// It is there already.
    #[error("File exists")]
    Exists,
    /// The volume is mounted read-only.
    #[error("Read-only file system")]
    ReadOnly,
}

fn content(data: Vec<u8>) -> Content {
    Arc::new(Mutex::new(Arc::new(data)))
}

fn inside(content: &Content) -> MutexGuard<'_, Arc<Vec<u8>>> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volume {
    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all that it has, at one moment, as a ConfigMap's volume is.
    pub fn replace(&self, files: BTreeMap<String, Vec<u8>>) {
        let mut tree = self.lock();
        tree.directories.clear();
        tree.files = files.into_iter().map(|(path, data)| (path.trim_start_matches('/').to_owned(), content(data))).collect();
    }
}

impl Tree {
    fn is_directory(&self, path: &str) -> bool {
        let within = format!("{path}/");
        path.is_empty()
            || self.directories.contains(path)
            || self.files.range(within.clone()..).next().is_some_and(|(p, _)| p.starts_with(&within))
            || self.directories.range(within.clone()..).next().is_some_and(|p| p.starts_with(&within))
    }
}

/// An absolute path without `.`, `..` and doubled slashes, without the leading slash.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn join(a: &str, b: &str) -> String {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.to_owned(),
        (_, true) => a.to_owned(),
        _ => format!("{a}/{b}"),
    }
}

impl Files {
    /// Mounts a volume, or the part of it at `sub_path`, which may be one file.
    pub fn mount(&self, at: &str, volume: Volume, sub_path: &str, read_only: bool) {
        let mount = Mount { at: normal(at), volume, sub_path: normal(sub_path), read_only };
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.retain(|m| m.at != mount.at);
        mounts.push(mount);
        // The deepest mount is the one that counts.
        mounts.sort_by_key(|m| std::cmp::Reverse(m.at.len()));
    }

    /// The same files, with relative paths beginning at another directory.
    #[must_use]
    pub fn at(&self, directory: &str) -> Self {
        Self { directory: self.absolute(directory), ..self.clone() }
    }

    /// Where relative paths begin.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("/{}", normal(&self.directory))
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { normal(path) } else { normal(&format!("{}/{path}", self.directory)) }
    }

    /// The same files for a new process: what it opens and closes is its own.
    #[must_use]
    pub fn of_new_process(&self) -> Self {
        let files = self.open.lock().files.clone();
        Self { open: Volume(Arc::new(Mutex::new(Tree { files, directories: BTreeSet::new() }))), ..self.clone() }
    }

    /// Opens a file to read and write under a number, and makes it if there is none.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn open(&self, number: u32, path: &str) -> Result<(), FileError> {
        self.write(path, b"", true)?;
        let (volume, inner, _) = self.place(path);
        let file = volume.lock().files.get(&inner).cloned().ok_or(FileError::NotFound)?;
        self.open.lock().files.insert(number.to_string(), file);
        Ok(())
    }

    /// Lets go of what is open under a number.
    pub fn close(&self, number: u32) {
        self.open.lock().files.remove(&number.to_string());
    }

    /// The volume that holds a path, the path in it, and whether it may not be written.
    fn place(&self, path: &str) -> (Volume, String, bool) {
        let path = self.absolute(path);
        if let Some(number) = path.strip_prefix(OPEN).and_then(|rest| rest.strip_prefix('/')) {
            return (self.open.clone(), number.to_owned(), false);
        }
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        for mount in mounts.iter() {
            let rest = if path == mount.at { Some("") } else { path.strip_prefix(&format!("{}/", mount.at)) };
            if let Some(rest) = rest {
                return (mount.volume.clone(), join(&mount.sub_path, rest), mount.read_only);
            }
        }
        (self.own.clone(), path, false)
    }

    /// A file's content.
    ///
    /// # Errors
    /// When there is none, or it is a directory.
    pub fn read(&self, path: &str) -> Result<Arc<Vec<u8>>, FileError> {
        let (volume, inner, _) = self.place(path);
        let tree = volume.lock();
        match tree.files.get(&inner) {
            Some(data) => Ok(inside(data).clone()),
            None if tree.is_directory(&inner) => Err(FileError::IsDirectory),
            None => Err(FileError::NotFound),
        }
    }

    /// Writes a file, whose directory must exist, or appends to it.
    ///
    /// # Errors
    /// When the directory is not there, the path is a directory, or the volume is read-only.
    pub fn write(&self, path: &str, data: &[u8], append: bool) -> Result<(), FileError> {
        let (volume, inner, read_only) = self.place(path);
        if read_only {
            return Err(FileError::ReadOnly);
        }
        let mut tree = volume.lock();
        if tree.is_directory(&inner) {
            return Err(FileError::IsDirectory);
        }
        if let Some((parent, _)) = inner.rsplit_once('/')
            && !tree.is_directory(parent)
        {
            return Err(if tree.files.contains_key(parent) { FileError::NotADirectory } else { FileError::NotFound });
        }
        let mut file = inside(tree.files.entry(inner).or_default());
        if append {
            Arc::make_mut(&mut file).extend_from_slice(data);
        } else {
            *file = Arc::new(data.to_vec());
        }
        Ok(())
    }

    /// Writes a file of the image, with the directories on the way.
    pub fn install(&self, path: &str, data: &[u8]) {
        self.own.lock().files.insert(normal(path), content(data.to_vec()));
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// When something is there already, or its parent is not.
    pub fn make_directory(&self, path: &str, with_parents: bool) -> Result<(), FileError> {
        let (volume, inner, read_only) = self.place(path);
        if read_only {
            return Err(FileError::ReadOnly);
        }
        let mut tree = volume.lock();
        if tree.files.contains_key(&inner) || (tree.is_directory(&inner) && !with_parents) {
            return Err(FileError::Exists);
        }
        if let Some((parent, _)) = inner.rsplit_once('/')
            && !with_parents
            && !tree.is_directory(parent)
        {
            return Err(FileError::NotFound);
        }
        tree.directories.insert(inner);
        Ok(())
    }

    /// Removes a file, or with `all` whatever is there.
    ///
    /// # Errors
    /// When there is nothing, or a directory that was not asked for.
    pub fn remove(&self, path: &str, all: bool) -> Result<(), FileError> {
        let (volume, inner, read_only) = self.place(path);
        if read_only {
            return Err(FileError::ReadOnly);
        }
        let mut tree = volume.lock();
        if tree.files.remove(&inner).is_some() {
            return Ok(());
        }
        if !tree.is_directory(&inner) {
            return Err(FileError::NotFound);
        }
        if !all {
            return Err(FileError::IsDirectory);
        }
        let within = format!("{inner}/");
        tree.files.retain(|p, _| !p.starts_with(&within));
        tree.directories.retain(|p| *p != inner && !p.starts_with(&within));
        Ok(())
    }

    /// Whether there is a directory.
    #[must_use]
    pub fn is_directory(&self, path: &str) -> bool {
        let (volume, inner, _) = self.place(path);
        let here = volume.lock().is_directory(&inner);
        here || self.mounts_below(path).next().is_some()
    }

    fn mounts_below(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let path = self.absolute(path);
        let within = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        mounts.into_iter().filter_map(move |m| m.at.strip_prefix(&within).filter(|r| !r.is_empty()).map(str::to_owned))
    }

    /// The names in a directory, in order.
    ///
    /// # Errors
    /// When there is none.
    pub fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        if !self.is_directory(path) {
            return Err(if self.read(path).is_ok() { FileError::NotADirectory } else { FileError::NotFound });
        }
        let (volume, inner, _) = self.place(path);
        let within = if inner.is_empty() { String::new() } else { format!("{inner}/") };
        let first = |rest: &str| rest.split('/').next().unwrap_or(rest).to_owned();
        let mut names: BTreeSet<String> = self.mounts_below(path).map(|rest| first(&rest)).collect();
        let tree = volume.lock();
        names.extend(tree.files.keys().chain(&tree.directories).filter_map(|p| p.strip_prefix(&within)).map(first));
        names.remove("");
        Ok(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_may_be_read_only() {
        let files = Files::default();
        files.install("/etc/hosts", b"own");
        let config = Volume::default();
        config.replace([("ca.crt".to_owned(), b"one".to_vec())].into());
        files.mount("/etc/config", config.clone(), "", true);
        files.mount("/etc/one.crt", config.clone(), "ca.crt", true);
        assert_eq!(**files.read("/etc/hosts").unwrap(), *b"own");
        assert_eq!(**files.read("/etc/config/../config/ca.crt").unwrap(), *b"one");
        assert_eq!(files.write("/etc/config/x", b"", false), Err(FileError::ReadOnly));
        config.replace([("ca.crt".to_owned(), b"two".to_vec())].into());
        assert_eq!(**files.read("/etc/one.crt").unwrap(), *b"two");
        assert_eq!(files.list("/etc").unwrap(), ["config", "hosts", "one.crt"]);
    }

    #[test]
    fn what_is_open_outlives_its_name_and_is_its_processs_own() {
        let files = Files::default();
        files.make_directory("/tmp", false).unwrap();
        let process = files.of_new_process();
        process.open(3, "/tmp/x").unwrap();
        process.remove("/tmp/x", false).unwrap();
        process.write("/proc/self/fd/3", b"secret", true).unwrap();
        assert_eq!(**process.of_new_process().read("/proc/self/fd/3").unwrap(), *b"secret");
        assert_eq!(files.read("/proc/self/fd/3"), Err(FileError::NotFound));
        assert_eq!(files.read("/tmp/x"), Err(FileError::NotFound));
        process.close(3);
        assert_eq!(process.read("/proc/self/fd/3"), Err(FileError::NotFound));
    }

    #[test]
    fn files_are_written_where_there_is_a_directory() {
        let files = Files::default();
        assert_eq!(files.write("/tmp/x", b"1", false), Err(FileError::NotFound));
        files.make_directory("/tmp", false).unwrap();
        files.write("/tmp/x", b"1", false).unwrap();
        files.write("/tmp/x", b"2", true).unwrap();
        assert_eq!(**files.read("/tmp/x").unwrap(), *b"12");
        assert_eq!(files.read("/tmp"), Err(FileError::IsDirectory));
        assert_eq!(files.remove("/tmp", false), Err(FileError::IsDirectory));
        files.remove("/tmp/x", false).unwrap();
        assert_eq!(files.read("/tmp/x"), Err(FileError::NotFound));
    }
}
