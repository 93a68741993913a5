//! `rounds`.

use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::names::Namespaced;
use gateproof_core::scenario::default_gateways;

use super::asked::{catalogue, selected};
use super::run::{ProvideFlags, exit_of, on_our_own, options};
use super::{Common, EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::run::drive::unless_interrupted;
use crate::run::rounds::{Half, Place, rounds as go, table};
use crate::run::{Session, SessionError};

/// Flags of `rounds`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RoundsFlags {
    /// How many; half of them change a route, half a policy
    #[arg(default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    rounds: u32,
    /// Wait for nothing after the API has taken a change: shows that the rounds can see a stale answer
    #[arg(long)]
    without_gate: bool,
    #[command(flatten)]
    provide: ProvideFlags,
}

/// The scenario whose server is asked.
const SCENARIO: &str = "00-sample-apps";

/// Goes through the rounds and prints the table.
pub(super) fn rounds(common: &Common, flags: &RoundsFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let plan = selected(&catalogue(common)?, &[format!("{SCENARIO}::")])?;
        let Some(planned) = plan.scenarios.iter().find(|p| p.scenario.id.as_str() == SCENARIO) else {
            eprintln!("error: the rounds ask the server of `{SCENARIO}`, and {} has no such scenario", common.scenarios.display());
            return Err(EXIT_INPUT);
        };
        let place = place().ok_or(EXIT_INPUT)?;
        let scratch = std::env::temp_dir().join(format!("gateproof-rounds-{}", std::process::id()));
        let options = on_our_own(options(common, &flags.provide, &scratch)?)?;
        let work = || async {
            let mut session = Session::begin(&options, &plan, Arc::new(Lines::new(true))).await?;
            let gated = !flags.without_gate;
            let halves = go(session.engine(), planned, &place, flags.rounds as usize, gated, &mut |half| line(half)).await;
            session.finish(&Lines::new(true)).await?;
            Ok::<_, SessionError>(halves)
        };
        let halves = on_runtime(|| unless_interrupted(work()));
        let _ = std::fs::remove_dir_all(&scratch);
        let halves = halves.ok_or(EXIT_INTERRUPTED)?.map_err(|error| {
            eprintln!("error: {error}");
            exit_of(&error)
        })?;
        let halves = halves.map_err(|why| {
            eprintln!("error: {why}");
            EXIT_CLUSTER
        })?;
        anstream::print!("{}", table(&halves));
        let stale: usize = halves.iter().map(|h| h.stale).sum();
        let gate: f64 = halves.iter().map(|h| h.gate.as_secs_f64()).sum::<f64>() / f64::from(flags.rounds);
        println!(
            "{} rounds {}: {stale} stale observations; the gate took {gate:.2} s a round",
            flags.rounds,
            if flags.without_gate { "without the gate" } else { "behind the gate" }
        );
        Ok(if stale == 0 { EXIT_GREEN } else { EXIT_RED })
    };
    answer().unwrap_or_else(|code| code)
}

/// The ingress gateway that every cluster of ours has, and the sample applications' server.
fn place() -> Option<Place> {
    let gateway = default_gateways().into_iter().find(|g| g.at.name.contains("ingress"))?;
    let labels = gateway.labels.iter().map(|(k, v)| (k.clone(), serde_json::Value::from(v.as_str()))).collect();
    let at = Namespaced { namespace: gateway.at.namespace.clone(), name: gateway.at.name.clone() };
    Some(Place { gateway: at, labels, namespace: "mesh-test".to_owned(), server: "httpbin".to_owned(), port: 8000 })
}

fn line(half: &Half) {
    if half.stale > 0 {
        let late = half.late.map_or(0.0, |late| late.as_secs_f64());
        let done = if half.applied { "applied" } else { "removed" };
        eprintln!("  round {}, {done}: {} stale of {:?}, right after {late:.2} s", half.round + 1, half.stale, half.seen);
    } else if !half.applied && (half.round + 1).is_multiple_of(20) {
        eprintln!("  round {} done", half.round + 1);
    }
}
