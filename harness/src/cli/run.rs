//! `run`.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::plan::Plan;
use gateproof_core::report::summary;

use super::asked::{SelectFlags, catalogue, not_expired, select};
use super::pause;
use super::provide::ProviderFlags;
use super::repeat::{Line, all_well, another, table};
use super::{Common, EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::provider::Choice;
use crate::run::choose::Environment;
use crate::run::drive::{Ended, drive};
use crate::run::{SessionError, SessionOptions, word};

/// Flags of `run`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RunFlags {
    #[command(flatten)]
    pub select: SelectFlags,
    #[command(flatten)]
    pub provide: ProvideFlags,
    /// Where reports go
    #[arg(long, env = "GATEPROOF_REPORTS", default_value = "reports")]
    pub reports: PathBuf,
    /// Apply and remove nothing: check what is deployed
    #[arg(long, env = "GATEPROOF_VERIFY_ONLY", value_parser = clap::builder::BoolishValueParser::new())]
    pub verify_only: bool,
    /// Run so many times in a row on one kept cluster, and compare the outcomes
    #[arg(long, value_name = "TIMES")]
    pub repeat: Option<u32>,
    /// Run again and again on one kept cluster until a check is red or flaky (exit code 1); with --repeat at most so often
    #[arg(long)]
    pub until_failure: bool,
    /// End the run after the first state in which a check is red; the checks after it are recorded as not reached
    #[arg(long)]
    pub fail_fast: bool,
    /// Run at most so many scenarios at once, where they do not get in each other's way (`plan --parallel` says which those are);
    /// on clusters of gateproof's own
    #[arg(long, env = "GATEPROOF_PARALLEL", value_name = "SCENARIOS", default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=16), conflicts_with = "pause_on_failure")]
    pub parallel: u8,
    /// Leave each state in which a check is red standing until Enter is pressed, and say how to look at it; on a terminal
    #[arg(long)]
    pub pause_on_failure: bool,
    /// Write down every proxy's configuration in each state, so that the next report and `diff` show drift; records become large
    #[arg(long)]
    pub observe: bool,
    /// Print the final JUnit report to this file too
    #[arg(long)]
    pub junit: Option<PathBuf>,
}

/// Flags of every command that needs a cluster.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProvideFlags {
    /// Keep the cluster; a later run with the same configuration reuses it
    #[arg(long, env = "GATEPROOF_KEEP", value_parser = clap::builder::BoolishValueParser::new())]
    pub keep: bool,
    #[command(flatten)]
    pub provider: ProviderFlags,
    /// Use the real outside hosts instead of stand-ins
    #[arg(long, value_parser = ["stand-ins", "real"])]
    pub internet: Option<String>,
    /// An Istio version other than that of kind/versions.yaml
    #[arg(long)]
    pub istio: Option<String>,
    /// A node image other than that of kind/versions.yaml
    #[arg(long)]
    pub node_image: Option<String>,
}

/// What the flags and the environment ask for.
pub(super) fn options(common: &Common, flags: &ProvideFlags, reports: &Path) -> Result<SessionOptions, u8> {
    let environment = Environment { root: PathBuf::from(".") };
    let invoked = std::env::args().map(|arg| word(&arg)).collect::<Vec<_>>().join(" ");
    let mut options = environment.session(&invoked).map_err(|error| {
        eprintln!("error: {error}");
        EXIT_INPUT
    })?;
    options.provider.kind = common.kind();
    options.provider.keep |= flags.keep;
    if let Some(name) = &common.cluster {
        options.provider.cluster_name.clone_from(name);
    }
    if flags.provider.bundle.is_some() {
        options.provider.bundle.clone_from(&flags.provider.bundle);
    }
    if let Some(choice) = flags.provider.choice(options.verify_only)? {
        options.provider.choice = choice;
        options.chosen = "named by --provider or GATEPROOF_PROVIDER".to_owned();
    }
    options.provider.istio.clone_from(&flags.istio);
    options.provider.node_image.clone_from(&flags.node_image);
    match flags.internet.as_deref() {
        Some("real") => options.provider.internet = crate::provider::Internet::Real,
        Some(_) => options.provider.internet = crate::provider::Internet::StandIns,
        None => {}
    }
    options.reports = reports.to_owned();
    Ok(options)
}

/// Refuses an existing cluster: commands that leave states standing or bend them are for clusters of our own.
pub(super) fn on_our_own(options: SessionOptions) -> Result<SessionOptions, u8> {
    if matches!(options.provider.choice, Choice::Existing(_)) {
        eprintln!(
            "error: this command changes what stands in a cluster and works on clusters of our own only; use `run` on an existing one"
        );
        return Err(EXIT_INPUT);
    }
    Ok(options)
}

/// The same for commands whose cluster outlives them, which one in this process cannot.
pub(super) fn on_kind(options: SessionOptions) -> Result<SessionOptions, u8> {
    let mut options = on_our_own(options)?;
    match options.provider.choice {
        Choice::Embedded => {
            eprintln!("error: this command leaves a cluster behind, and the embedded one ends with the process; it works on kind only");
            Err(EXIT_INPUT)
        }
        _ => {
            options.provider.choice = Choice::Kind;
            Ok(options)
        }
    }
}

/// Runs and reports.
pub(super) fn run(common: &Common, flags: &RunFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let mut options = options(common, &flags.provide, &flags.reports)?;
        options.verify_only |= flags.verify_only;
        options.provider.reuse_only = options.verify_only;
        if let Choice::Existing(existing) = &mut options.provider.choice {
            existing.verify_only = options.verify_only;
        }
        options.fail_fast = flags.fail_fast;
        options.parallel = usize::from(flags.parallel);
        options.observe_proxies = flags.observe;
        if flags.pause_on_failure {
            pause::possible(&mut options.provider.choice, pause::at_a_terminal()).map_err(|why| {
                eprintln!("error: {why}");
                EXIT_INPUT
            })?;
            options.pause = Some(Arc::new(pause::AtTerminal));
        }
        let catalogue = catalogue(common)?;
        not_expired(&catalogue)?;
        // Some hundred thousand small things that go with the process: freeing them one by one first takes longer than it sounds.
        let catalogue = ManuallyDrop::new(options.provider.choice.adapt(catalogue));
        let plan = ManuallyDrop::new(select(&catalogue, &flags.select)?);
        if plan.scenarios.is_empty() && plan.skipped.is_empty() {
            println!("this shard has no scenario: there are fewer scenarios than shards");
            return Ok(EXIT_GREEN);
        }
        repeatedly(&mut options, &plan, flags)
    };
    answer().unwrap_or_else(|code| code)
}

/// As often as asked.
fn repeatedly(options: &mut SessionOptions, plan: &Plan, flags: &RunFlags) -> Result<u8, u8> {
    let several = flags.until_failure || flags.repeat.is_some_and(|n| n > 1);
    options.provider.keep |= several;
    let mut lines: Vec<Line> = Vec::new();
    while another(&lines, flags.repeat, flags.until_failure) {
        if several {
            let of = flags.repeat.map(|n| format!(" of {}{n}", if flags.until_failure { "at most " } else { "" })).unwrap_or_default();
            eprintln!("run {}{of}", lines.len() + 1);
        }
        match once(options, plan, flags) {
            Ok(ended) if ended.interrupted => {
                // Ctrl-C is how a hunt without an end ends; what it saw so far is worth as much.
                if several && !lines.is_empty() {
                    println!("{}", table(&lines));
                }
                return Err(EXIT_INTERRUPTED);
            }
            Ok(ended) => lines.extend(ended.record.as_ref().map(Line::of)),
            Err(error) => {
                eprintln!("error: {error}");
                return Err(exit_of(&error));
            }
        }
    }
    if several {
        println!("{}", table(&lines));
    }
    Ok(if all_well(&lines, flags.until_failure) { EXIT_GREEN } else { EXIT_RED })
}

fn once(options: &SessionOptions, plan: &Plan, flags: &RunFlags) -> Result<Ended, SessionError> {
    let lines = if options.parallel > 1 { Lines::live(true).side_by_side() } else { Lines::live(true) };
    let ended = on_runtime(|| drive(options, plan, Arc::new(lines)))?;
    if let Some(record) = &ended.record {
        let report = ended.report.as_ref().map(|p| p.display().to_string());
        println!("{}", summary(record, report.as_deref()));
        if let Some(junit) = &flags.junit
            && let Err(error) = std::fs::write(junit, gateproof_core::report::junit(record))
        {
            eprintln!("warning: failed to write {}: {error}", junit.display());
        }
    }
    Ok(ended)
}

/// The exit code for a run that could not begin or end.
#[must_use]
pub fn exit_of(error: &SessionError) -> u8 {
    match error {
        SessionError::Provider(error) if error.is_input() => EXIT_INPUT,
        _ => EXIT_CLUSTER,
    }
}
