//! `prove`.

use std::path::PathBuf;
use std::sync::Arc;

use anstream::{eprintln, println};

use super::asked::{catalogue, selected};
use super::run::{ProvideFlags, exit_of, on_our_own, options};
use super::{Common, EXIT_GREEN, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::run::drive::unless_interrupted;
use crate::run::prove::{Noticed, Proved, prove as prove_scenario, table};
use crate::run::{Session, SessionError};

/// Flags of `prove`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProveFlags {
    /// Scenarios, by a part of their name; all when there is none
    filters: Vec<String>,
    /// Only mutations whose id has this part
    #[arg(long)]
    only: Option<String>,
    /// Write the table to this file too
    #[arg(long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    provide: ProvideFlags,
}

/// Proves scenarios and prints the table.
pub(super) fn prove(common: &Common, flags: &ProveFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let catalogue = catalogue(&common.scenarios)?;
        let plan = selected(&catalogue, &flags.filters)?;
        let scratch = std::env::temp_dir().join(format!("gateproof-prove-{}", std::process::id()));
        let options = on_our_own(options(common, &flags.provide, &scratch)?)?;
        let work = || async {
            let mut session = Session::begin(&options, &plan, Arc::new(Lines::new(true))).await?;
            let mut all = Vec::new();
            for planned in &plan.scenarios {
                let wanted = |m: &gateproof_core::plan::Mutation| flags.only.as_ref().is_none_or(|part| m.id.contains(part));
                match prove_scenario(session.engine(), planned, &wanted, &mut |proved| line(proved)).await {
                    Ok(proved) => all.extend(proved),
                    Err(why) => {
                        let id = format!("{}: the intact scenario", planned.scenario.id);
                        let verdict = Noticed::NotByEvidence(format!("nothing can be proved: {why}"));
                        all.push(Proved { id, about: "nothing was changed".to_owned(), verdict, took: 0.0 });
                        line(&all[all.len() - 1]);
                    }
                }
            }
            session.finish(&Lines::new(true)).await?;
            Ok::<Vec<Proved>, SessionError>(all)
        };
        let all = on_runtime(|| unless_interrupted(work())).ok_or(EXIT_INTERRUPTED)?.map_err(|error| {
            eprintln!("error: {error}");
            exit_of(&error)
        })?;
        let _ = std::fs::remove_dir_all(&scratch);
        let text = table(&all);
        println!("{text}");
        if let Some(path) = &flags.output
            && let Err(error) = std::fs::write(path, &text)
        {
            eprintln!("warning: failed to write {}: {error}", path.display());
        }
        Ok(if all.is_empty() || all.iter().any(|p| p.verdict.is_hole()) { EXIT_RED } else { EXIT_GREEN })
    };
    answer().unwrap_or_else(|code| code)
}

fn line(proved: &Proved) {
    let word = match &proved.verdict {
        Noticed::By(by) => format!("noticed by {}", by[0].0),
        Noticed::Refused(_) => "refused by the API".to_owned(),
        Noticed::NotByEvidence(why) => format!("NOT by evidence: {why}"),
        Noticed::No => "NOT NOTICED".to_owned(),
    };
    eprintln!("  {:5.1}s  {}: {word}", proved.took, proved.id);
}
