//! `parity`: the same scenarios on two providers, compared.

mod random;

use std::path::PathBuf;
use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::parity::{compare, table};
use gateproof_core::plan::Plan;
use gateproof_core::report::RunRecord;

use super::asked::{catalogue, not_expired, selected};
use super::run::{ProvideFlags, exit_of, options};
use super::{Common, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::provider::Choice;
use crate::run::SessionOptions;
use crate::run::drive::drive;

/// Flags of `parity`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ParityFlags {
    /// Parts of check names; all checks when there is none
    pub filters: Vec<String>,
    #[command(flatten)]
    pub provide: ProvideFlags,
    /// Where the table goes too
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Where the reports of both runs go
    #[arg(long, env = "GATEPROOF_REPORTS", default_value = "reports")]
    pub reports: PathBuf,
    /// Compare with this record of an earlier run (JSON) instead of running on kind
    #[arg(long)]
    pub against: Option<PathBuf>,
    #[command(flatten)]
    pub random: random::RandomFlags,
}

/// Runs on kind and embedded, and prints what agrees and what differs.
pub(super) fn parity(common: &Common, flags: &ParityFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let mut options = options(common, &flags.provide, &flags.reports)?;
        if flags.random.is_asked() {
            return random::run(common, flags, options);
        }
        options.observe_proxies = true;
        let catalogue = catalogue(common)?;
        not_expired(&catalogue)?;
        let plan = selected(&catalogue, &flags.filters)?;
        let left = match &flags.against {
            Some(file) => read(file)?,
            None => once(&options, Choice::Kind, &plan)?,
        };
        let right = once(&options, Choice::Embedded, &plan)?;
        let parity = compare(&left, &right);
        let text = table(&parity);
        println!("{text}");
        if let Some(file) = &flags.output
            && let Err(error) = std::fs::write(file, &text)
        {
            eprintln!("error: failed to write {}: {error}", file.display());
            return Err(EXIT_INPUT);
        }
        Ok(if parity.is_complete() { EXIT_GREEN } else { EXIT_RED })
    };
    answer().unwrap_or_else(|code| code)
}

/// Reads a run's record.
pub(super) fn read(file: &std::path::Path) -> Result<RunRecord, u8> {
    let wrong = |why: String| {
        eprintln!("error: failed to read the record {}: {why}", file.display());
        EXIT_INPUT
    };
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

fn once(options: &SessionOptions, choice: Choice, plan: &Plan) -> Result<RunRecord, u8> {
    let mut options = options.clone();
    options.provider.choice = choice;
    options.chosen = "parity runs on both".to_owned();
    let ended = on_runtime(|| drive(&options, plan, Arc::new(Lines::new(true)))).map_err(|error| {
        eprintln!("error: {error}");
        exit_of(&error)
    })?;
    if ended.interrupted {
        return Err(EXIT_INTERRUPTED);
    }
    ended.record.ok_or(EXIT_INTERRUPTED)
}
