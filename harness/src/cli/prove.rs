//! `prove`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anstream::{eprintln, println};
use futures::future::join_all;
use gateproof_core::parity::{ProvedRun, compare_proofs, proofs_table};
use gateproof_core::plan::{Plan, mutations};

use super::asked::{catalogue, not_expired, selected};
use super::run::{ProvideFlags, exit_of, on_our_own, options};
use super::{Common, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::run::drive::unless_interrupted;
use crate::run::event::Deaf;
use crate::run::prove::{Noticed, Proved, Share, explained_in_vain, kept, prove as prove_scenario, table};
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
    /// Write what became of each mutation to this file, as JSON, to hold another provider's run against it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Hold this run against what another one kept with --json: are the same checks red?
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    provide: ProvideFlags,
}

/// So many simulated meshes share the mutations.
const MESHES: usize = 4;

/// Proves scenarios and prints the table.
pub(super) fn prove(common: &Common, flags: &ProveFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let catalogue = catalogue(common)?;
        not_expired(&catalogue)?;
        let plan = selected(&catalogue, &flags.filters)?;
        if let Some(part) = &flags.only
            && !plan.scenarios.iter().any(|p| mutations(&p.scenario).iter().any(|m| m.id.contains(part.as_str())))
        {
            eprintln!("error: no mutation of these scenarios has `{part}` in its id; without --only the table has every id");
            return Err(EXIT_INPUT);
        }
        let scratch = std::env::temp_dir().join(format!("gateproof-prove-{}", std::process::id()));
        let options = on_our_own(options(common, &flags.provide, &scratch)?)?;
        let against = flags.against.as_deref().map(read).transpose()?;
        let work = || async {
            let first = Session::begin(&options, &plan, Arc::new(Lines::new(true))).await?;
            let mut sessions = vec![first];
            // A simulated mesh costs little, and most of a mutation is waiting for a line that does not come: several share them.
            if sessions[0].is_simulated() {
                for _ in 1..MESHES {
                    sessions.push(Session::begin(&options, &plan, Arc::new(Deaf)).await?);
                }
            }
            let provider = sessions[0].provider().to_owned();
            let of = sessions.len();
            let wanted = |m: &gateproof_core::plan::Mutation| flags.only.as_ref().is_none_or(|part| m.id.contains(part));
            let shares = sessions.iter_mut().enumerate().map(|(nth, session)| prove_share(session, &plan, &wanted, Share { nth, of }));
            let mut all: Vec<(usize, usize, Proved)> = join_all(shares).await.concat();
            for session in sessions {
                session.finish(&Lines::new(true)).await?;
            }
            all.sort_by_key(|(scenario, place, _)| (*scenario, *place));
            Ok::<(String, Vec<Proved>), SessionError>((provider, all.into_iter().map(|(.., proved)| proved).collect()))
        };
        let (provider, all) = on_runtime(|| unless_interrupted(work())).ok_or(EXIT_INTERRUPTED)?.map_err(|error| {
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
        let run = kept(&provider, &all);
        if let Some(path) = &flags.json {
            let written = serde_json::to_string_pretty(&run).map_err(std::io::Error::from).and_then(|text| std::fs::write(path, text));
            if let Err(error) = written {
                eprintln!("warning: failed to write {}: {error}", path.display());
            }
        }
        let in_vain: Vec<String> = plan.scenarios.iter().flat_map(|planned| explained_in_vain(&planned.scenario, &all)).collect();
        for explained in &in_vain {
            println!("{explained}: the scenario says that no check notices this, and one does; take it out of `unnoticed`");
        }
        let mut differs = !in_vain.is_empty();
        if let Some(other) = against {
            let compared = compare_proofs(&other, &run);
            differs |= !compared.differing.is_empty();
            println!("{}", proofs_table(&compared, &other.provider, &run.provider));
        }
        Ok(if all.is_empty() || differs || all.iter().any(|p| p.verdict.is_hole()) { EXIT_RED } else { EXIT_GREEN })
    };
    answer().unwrap_or_else(|code| code)
}

fn read(path: &std::path::Path) -> Result<ProvedRun, u8> {
    let wrong = |why: String| {
        eprintln!("error: failed to read what `prove --json` kept in {}: {why}", path.display());
        EXIT_INPUT
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// Proves one session's share of every scenario; each result with the places of its scenario and of its mutation.
async fn prove_share(
    session: &mut Session,
    plan: &Plan,
    wanted: &dyn Fn(&gateproof_core::plan::Mutation) -> bool,
    share: Share,
) -> Vec<(usize, usize, Proved)> {
    let mut all = Vec::new();
    for (scenario, planned) in plan.scenarios.iter().enumerate() {
        match prove_scenario(session.engine(), planned, wanted, share, &mut |proved| line(proved)).await {
            Ok(proved) => all.extend(proved.into_iter().map(|(place, proved)| (scenario, place, proved))),
            Err(why) => {
                let id = format!("{}: the intact scenario", planned.scenario.id);
                let verdict = Noticed::NotByEvidence(format!("nothing can be proved: {why}"));
                let proved = Proved { id, about: "nothing was changed".to_owned(), verdict, red: BTreeSet::new(), took: 0.0 };
                line(&proved);
                all.push((scenario, share.nth, proved));
            }
        }
    }
    all
}

fn line(proved: &Proved) {
    let word = match &proved.verdict {
        Noticed::By(by) => format!("noticed by {}", by[0].0),
        Noticed::Refused(_) => "refused by the API".to_owned(),
        Noticed::NotByEvidence(why) => format!("NOT by evidence: {why}"),
        Noticed::No => "NOT NOTICED".to_owned(),
        Noticed::Explained { why, .. } => format!("not noticed, as the scenario says: {why}"),
    };
    eprintln!("  {:5.1}s  {}: {word}", proved.took, proved.id);
}
