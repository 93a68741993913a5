//! `parity --random`: configurations drawn from a seed instead of those of the scenarios folder.

use std::collections::BTreeSet;
use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::parity::random::{self, Agreement, Drawn, NOT_REACHED, agreements, agreements_table};
use gateproof_core::plan::{Plan, plan};
use gateproof_core::report::RunRecord;

use super::{ParityFlags, read};
use crate::cli::asked::catalogue;
use crate::cli::run::{exit_of, on_our_own};
use crate::cli::{Common, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::provider::Choice;
use crate::run::drive::unless_interrupted;
use crate::run::{Attempts, Session, SessionError, SessionOptions};

/// How often a configuration that differs is looked at again, as often as a check is.
const LOOKS_MORE: usize = 2;

/// Flags for drawn configurations.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct RandomFlags {
    /// Draw so many configurations instead of running scenarios
    #[arg(long, requires = "seed", conflicts_with = "filters", value_name = "N")]
    random: Option<u32>,
    /// What the configurations are drawn from: the same seed gives the same ones anywhere
    #[arg(long)]
    seed: Option<u64>,
    /// Only the configuration with this index; may be given again
    #[arg(long, value_name = "INDEX", requires = "seed", conflicts_with = "filters")]
    only: Vec<u32>,
    /// Run on this provider alone, and compare nothing
    #[arg(long, value_parser = ["kind", "embedded"], requires = "seed")]
    provider_only: Option<String>,
    /// Print the manifests of the configurations and run nothing
    #[arg(long, requires = "seed")]
    print: bool,
}

impl RandomFlags {
    /// Whether configurations are to be drawn.
    pub(super) fn is_asked(&self) -> bool {
        self.random.is_some() || !self.only.is_empty()
    }
}

/// Draws, runs and compares.
pub(super) fn run(common: &Common, flags: &ParityFlags, options: SessionOptions) -> Result<u8, u8> {
    let random = &flags.random;
    let seed = random.seed.unwrap_or_default();
    let indices: Vec<u32> = if random.only.is_empty() { (0..random.random.unwrap_or_default()).collect() } else { random.only.clone() };
    let drawn: Vec<Drawn> = indices.iter().filter_map(|index| random::draw(seed, *index)).collect();
    if random.print {
        for one in &drawn {
            println!("# {}: {}", one.scenario.id, one.scenario.title);
            one.scenario.manifests.iter().for_each(|m| println!("{}", m.text));
        }
        return Ok(EXIT_GREEN);
    }
    let Some(catalogue) = random::catalogue(&catalogue(common)?, &drawn) else {
        eprintln!("error: drawn configurations stand on the scenario 00-sample-apps, which is not below {}", common.scenarios.display());
        return Err(EXIT_INPUT);
    };
    let plan = plan(&catalogue, &|id, _| id.as_str().starts_with(random::PREFIX));
    let options = on_our_own(options)?;
    let one = |choice, plan: &Plan| once(&options, choice, plan);
    let (left, right) = match (random.provider_only.as_deref(), &flags.against) {
        (Some("kind"), _) => return Ok(alone(&one(Choice::Kind, &plan)?, &drawn, seed)),
        (Some(_), _) => return Ok(alone(&one(Choice::Embedded, &plan)?, &drawn, seed)),
        (None, Some(file)) => (read(file)?, one(Choice::Embedded, &plan)?),
        (None, None) => (one(Choice::Kind, &plan)?, one(Choice::Embedded, &plan)?),
    };
    let mut all = agreements(&drawn, &left, &right);
    // A log line may come too late on a real cluster, an alert be lost in a reset: what differs is asked again, on both.
    for _ in 0..LOOKS_MORE {
        let differing: BTreeSet<u32> = all.iter().filter(|one| !one.differences.is_empty()).map(|one| one.index).collect();
        if flags.against.is_some() || differing.is_empty() {
            break;
        }
        let drawn: Vec<Drawn> = drawn.iter().filter(|d| differing.contains(&d.index)).cloned().collect();
        let mut plan = plan.clone();
        plan.scenarios.retain(|s| drawn.iter().any(|d| d.scenario.id == s.scenario.id));
        let second = agreements(&drawn, &one(Choice::Kind, &plan)?, &one(Choice::Embedded, &plan)?);
        let looked_at_again = |first: Agreement| match second.iter().find(|s| s.index == first.index) {
            Some(second) => first.looked_at_again(second.clone()),
            None => first,
        };
        all = all.into_iter().map(looked_at_again).collect();
    }
    let text = agreements_table(&all, &drawn, [&left.provider.name, &right.provider.name], seed);
    println!("{text}");
    if let Some(file) = &flags.output
        && let Err(error) = std::fs::write(file, &text)
    {
        eprintln!("error: failed to write {}: {error}", file.display());
        return Err(EXIT_INPUT);
    }
    let agree = !all.is_empty() && all.iter().all(|one| one.differences.is_empty());
    Ok(if agree { EXIT_GREEN } else { EXIT_RED })
}

/// What one provider gave, compared with nothing: every configuration has to have come to an outcome.
fn alone(record: &RunRecord, drawn: &[Drawn], seed: u64) -> u8 {
    let name = &record.provider.name;
    let all = agreements(drawn, record, record);
    println!("{}", agreements_table(&all, drawn, [name, name], seed));
    let reached = all.iter().filter(|one| one.came_to != NOT_REACHED).count();
    println!("{reached} of {} came to an outcome on {name}", all.len());
    if !all.is_empty() && reached == all.len() { EXIT_GREEN } else { EXIT_RED }
}

fn once(options: &SessionOptions, choice: Choice, plan: &Plan) -> Result<RunRecord, u8> {
    let mut options = options.clone();
    options.provider.choice = choice;
    options.chosen = "parity runs on both".to_owned();
    // Nothing is expected, so asking again would change nothing but the time.
    options.attempts = Attempts { at_most: 1, ..Attempts::default() };
    let work = || async {
        let mut session = Session::begin(&options, plan, Arc::new(Lines::new(true))).await?;
        // A configuration that is refused is an outcome here, no mishap.
        session.engine().diagnostics = None;
        session.run(plan).await?;
        let (record, _) = session.finish(&Lines::new(true)).await?;
        Ok::<RunRecord, SessionError>(record)
    };
    on_runtime(|| unless_interrupted(work())).ok_or(EXIT_INTERRUPTED)?.map_err(|error| {
        eprintln!("error: {error}");
        exit_of(&error)
    })
}
