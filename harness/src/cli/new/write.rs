//! Files of a new scenario on disk: none of them replaces another.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::File;

/// The schema's file in a scenarios folder.
pub(super) const SCHEMA: &str = "scenario.schema.json";

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write {}: {source}; what was written before it is taken away again", .path.display())]
pub(super) struct NotWritten {
    path: PathBuf,
    source: io::Error,
}

/// Writes all of them or none.
pub(super) fn all(root: &Path, files: &[File]) -> Result<Vec<PathBuf>, NotWritten> {
    let mut written: Vec<PathBuf> = Vec::new();
    for (name, text) in files {
        let path = root.join(name);
        if let Err(source) = one(&path, text) {
            written.iter().for_each(|path| drop(std::fs::remove_file(path)));
            // Folders that are empty now; the first that is not ends it, and the scenarios folder itself stays.
            for folder in written.iter().chain([&path]).filter_map(|path| path.parent()) {
                let above = folder.ancestors().take_while(|dir| *dir != root);
                above.take_while(|dir| std::fs::remove_dir(dir).is_ok()).for_each(drop);
            }
            return Err(NotWritten { path, source });
        }
        written.push(path);
    }
    Ok(written)
}

fn one(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Created anew or not at all: an editor may have written a file of that name a moment ago.
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
