//! `docs`.

use std::path::{Path, PathBuf};

use anstream::{eprintln, print};
use gateproof_core::report::catalogue_page;
use gateproof_core::scenario::ValueOverrides;

use super::asked::catalogue_with;
use super::{EXIT_GREEN, EXIT_INPUT};

/// Flags of `docs`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DocsFlags {
    /// Write to this file instead of printing. Its links lead from a folder beside the scenarios, such as docs/
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write nothing, and fail when the file that --out names is not what would be written
    #[arg(long, requires = "out")]
    check: bool,
}

/// Makes one page of all scenarios.
pub(super) fn docs(root: &Path, flags: &DocsFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let folder = root.file_name().map_or_else(|| "scenarios".to_owned(), |n| n.to_string_lossy().into_owned());
        let page = catalogue_page(&catalogue_with(root, &ValueOverrides::default())?, &folder);
        let Some(out) = &flags.out else {
            print!("{page}");
            return Ok(EXIT_GREEN);
        };
        let failed = |what: &str, error: std::io::Error| {
            eprintln!("error: failed to {what} {}: {error}", out.display());
            EXIT_INPUT
        };
        if flags.check {
            let there = std::fs::read_to_string(out).map_err(|e| failed("read", e))?;
            if there != page {
                eprintln!("error: {} is not the page of these scenarios; `gateproof docs --out {0}` writes it anew", out.display());
                return Err(super::EXIT_RED);
            }
        } else {
            if let Some(folder) = out.parent() {
                std::fs::create_dir_all(folder).map_err(|e| failed("make the folder of", e))?;
            }
            std::fs::write(out, page).map_err(|e| failed("write", e))?;
            eprintln!("{}", out.display());
        }
        Ok(EXIT_GREEN)
    };
    answer().unwrap_or_else(|code| code)
}
