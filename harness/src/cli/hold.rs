//! `hold`.

use std::path::PathBuf;
use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::plan::objects_in;
use gateproof_core::scenario::INTACT;

use super::asked::{catalogue, selected};
use super::run::{ProvideFlags, exit_of, on_kind, options};
use super::{Common, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::run::drive::unless_interrupted;
use crate::run::{Session, SessionError};

/// Flags of `hold`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct HoldFlags {
    /// The scenario, such as `10-ingress`
    scenario: String,
    /// The state: `intact`, or a variation's name
    #[arg(default_value = INTACT)]
    state: String,
    #[command(flatten)]
    provide: ProvideFlags,
}

/// Brings a kept cluster into a state and leaves it there, for commands by hand.
pub(super) fn hold(common: &Common, flags: &HoldFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let plan = selected(&catalogue(common)?, &[format!("{}::", flags.scenario)])?;
        let planned = plan.scenarios.iter().find(|p| p.scenario.id.as_str() == flags.scenario);
        let Some(planned) = planned else {
            eprintln!("error: there is no scenario `{}`; `gateproof list` names them", flags.scenario);
            return Err(EXIT_INPUT);
        };
        let target = objects_in(&planned.scenario, &flags.state).map_err(|error| {
            let known: Vec<&str> = planned.scenario.variations.iter().map(|v| v.name.as_str()).collect();
            eprintln!("error: {error}; the states are {INTACT}, {}", known.join(", "));
            EXIT_INPUT
        })?;
        let scratch = std::env::temp_dir().join(format!("gateproof-hold-{}", std::process::id()));
        let mut options = on_kind(options(common, &flags.provide, &PathBuf::from(&scratch))?)?;
        options.provider.keep = true;
        let work = || async {
            let mut session = Session::begin(&options, &plan, Arc::new(Lines::new(true))).await?;
            let entered = session.engine().enter(planned, &flags.state, "", &target).await;
            let kubeconfig = session.leave().await?;
            Ok::<_, SessionError>((entered.map(|(stage, _, _)| stage), kubeconfig))
        };
        let answer = on_runtime(|| unless_interrupted(work()));
        let _ = std::fs::remove_dir_all(&scratch);
        let answer = answer.ok_or(EXIT_INTERRUPTED)?;
        let (entered, kubeconfig) = answer.map_err(|error| {
            eprintln!("error: {error}");
            exit_of(&error)
        })?;
        match entered {
            Ok(stage) => {
                for line in stage.notices.iter().chain(&stage.gate_facts) {
                    eprintln!("  {line}");
                }
                println!("export KUBECONFIG={}", kubeconfig.display());
                Ok(EXIT_GREEN)
            }
            Err(why) => {
                eprintln!("error: {why}");
                Ok(EXIT_RED)
            }
        }
    };
    answer().unwrap_or_else(|code| code)
}
