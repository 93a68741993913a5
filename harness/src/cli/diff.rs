//! `diff`: two runs, compared.

use std::path::{Path, PathBuf};

use anstream::{eprintln, println};
use gateproof_core::report::{diff, diff_text};

use super::parity::read;
use super::{EXIT_GREEN, EXIT_INPUT, EXIT_RED};
use crate::run::reporter::records;

/// Flags of `diff`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DiffFlags {
    /// The records of two runs (the JSON beside a report), the earlier one first; the newest two of one provider when there is none
    #[arg(value_name = "RECORD", num_args = 0..=2)]
    records: Vec<PathBuf>,
    /// Where reports are
    #[arg(long, env = "GATEPROOF_REPORTS", default_value = "reports")]
    reports: PathBuf,
    /// Print the comparison as JSON, with every difference
    #[arg(long)]
    json: bool,
}

/// Prints what differs.
pub(super) fn run(flags: &DiffFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let [before, after] = two(flags)?;
        let found = diff(&read(&before)?, &read(&after)?);
        if flags.json {
            let text = serde_json::to_string_pretty(&found).map_err(|error| {
                eprintln!("error: failed to write the comparison as JSON: {error}");
                EXIT_INPUT
            })?;
            println!("{text}");
        } else {
            println!("{}\n{}\n", before.display(), after.display());
            println!("{}", diff_text(&found).trim_end());
        }
        Ok(if found.same_outcomes { EXIT_GREEN } else { EXIT_RED })
    };
    answer().unwrap_or_else(|code| code)
}

fn two(flags: &DiffFlags) -> Result<[PathBuf; 2], u8> {
    match flags.records.as_slice() {
        [before, after] => Ok([json(before), json(after)]),
        [_] => {
            eprintln!("error: a comparison takes two records, or none for the newest two");
            Err(EXIT_INPUT)
        }
        _ => newest_two(&flags.reports).ok_or_else(|| {
            eprintln!("error: {} has no two records of runs on one provider; `gateproof run` writes one", flags.reports.display());
            EXIT_INPUT
        }),
    }
}

fn newest_two(reports: &Path) -> Option<[PathBuf; 2]> {
    let mut newest = records(reports, None).into_iter().map(|(path, _)| path);
    let after = newest.next()?;
    Some([newest.next()?, after])
}

/// A report's page stands for the record beside it.
fn json(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|e| e == "md") { path.with_extension("json") } else { path.to_owned() }
}
