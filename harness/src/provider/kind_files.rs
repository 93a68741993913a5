//! Where versions, gateways, Helm values and the cluster's template are read from: a folder, or what is built in.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::ProviderError;

/// The files of the repository's `kind/`, as they were when this program was built.
const BUILT_IN: [(&str, &str); 6] = [
    ("versions.yaml", include_str!("../../../kind/versions.yaml")),
    ("gateways.yaml", include_str!("../../../kind/gateways.yaml")),
    ("cluster.yaml", include_str!("../../../kind/cluster.yaml")),
    ("existing-clusterrole.yaml", include_str!("../../../kind/existing-clusterrole.yaml")),
    ("values/istiod.yaml", include_str!("../../../kind/values/istiod.yaml")),
    ("values/gateway.yaml", include_str!("../../../kind/values/gateway.yaml")),
];

/// The variable that names the folder, as `--kind-dir` does.
pub const KIND_DIR_VARIABLE: &str = "GATEPROOF_KIND_DIR";

/// What declares versions, gateways and Helm values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindFiles {
    /// A folder with the files of the repository's `kind/`.
    Folder(PathBuf),
    /// Those that were built into this program.
    BuiltIn,
}

impl KindFiles {
    /// The folder that was named, whether or not it is there; else `kind/` below `root` where that has versions; else what is
    /// built in. So a user's own repository needs no `kind/`, and a folder that was named is never silently replaced.
    #[must_use]
    pub fn find(named: Option<&Path>, root: &Path) -> Self {
        match named {
            Some(folder) => Self::Folder(folder.to_owned()),
            None => {
                let folder = root.join("kind");
                if folder.join("versions.yaml").is_file() { Self::Folder(folder) } else { Self::BuiltIn }
            }
        }
    }

    /// A file's name as messages show it.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::BuiltIn => format!("kind/{name} (built in)"),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn text(&self, name: &str) -> Result<Cow<'static, str>, ProviderError> {
        let wrong = |why: String| ProviderError::Settings { file: self.shown(name), why };
        match self {
            Self::Folder(folder) => std::fs::read_to_string(folder.join(name)).map(Cow::Owned).map_err(|error| {
                wrong(format!("{error}; --kind-dir or {KIND_DIR_VARIABLE} names the folder, and without either what is built in is used"))
            }),
            Self::BuiltIn => {
                let found = BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| Cow::Borrowed(*text));
                found.ok_or_else(|| wrong("no such file is built in".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn what_is_built_in_is_every_file_of_the_folder() {
        fn below(dir: &Path, prefix: &str, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                if entry.path().is_dir() { below(&entry.path(), &format!("{name}/"), out) } else { out.push(name) }
            }
        }
        let folder = KindFiles::find(None, &repository());
        assert_eq!(folder, KindFiles::Folder(repository().join("kind")));
        let mut there = Vec::new();
        below(&repository().join("kind"), "", &mut there);
        there.sort();
        let mut built_in: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        built_in.sort_unstable();
        assert_eq!(there, built_in);
        for name in there {
            assert_eq!(KindFiles::BuiltIn.text(&name).unwrap(), folder.text(&name).unwrap(), "{name}");
        }
    }

    #[test]
    fn a_folder_that_was_named_is_not_replaced_and_one_that_is_not_there_is() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(KindFiles::find(None, empty.path()), KindFiles::BuiltIn);
        // A folder of that name with other things in it is somebody else's.
        std::fs::create_dir(empty.path().join("kind")).unwrap();
        assert_eq!(KindFiles::find(None, empty.path()), KindFiles::BuiltIn);
        let named = KindFiles::find(Some(Path::new("elsewhere")), empty.path());
        let said = named.text("versions.yaml").unwrap_err().to_string();
        assert!(said.contains("elsewhere/versions.yaml") && said.contains("GATEPROOF_KIND_DIR"), "{said}");
    }
}
