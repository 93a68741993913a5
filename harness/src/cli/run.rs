//! `run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::{eprintln, println};
use gateproof_core::plan::Plan;
use gateproof_core::report::{RunRecord, Tally, summary};

use super::asked::{catalogue, selected};
use super::provide::ProviderFlags;
use super::{Common, EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, on_runtime};
use crate::provider::Choice;
use crate::run::choose::Environment;
use crate::run::drive::{Ended, drive};
use crate::run::trials::trial_name;
use crate::run::{SessionError, SessionOptions};

/// Flags of `run`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RunFlags {
    /// Parts of check names, such as `10-ingress` or `20-egress::before`; all checks when there is none
    pub filters: Vec<String>,
    #[command(flatten)]
    pub provide: ProvideFlags,
    /// Where reports go
    #[arg(long, env = "GATEPROOF_REPORTS", default_value = "reports")]
    pub reports: PathBuf,
    /// Apply and remove nothing: check what is deployed
    #[arg(long, env = "GATEPROOF_VERIFY_ONLY", value_parser = clap::builder::BoolishValueParser::new())]
    pub verify_only: bool,
    /// Run so many times in a row on one kept cluster, and compare the outcomes
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
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
    let invoked = std::env::args().collect::<Vec<_>>().join(" ");
    let mut options = environment.session(&gateproof_core::outcome::redact(&invoked)).map_err(|error| {
        eprintln!("error: {error}");
        EXIT_INPUT
    })?;
    options.provider.kind_dir.clone_from(&common.kind_dir);
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
        let catalogue = options.provider.choice.adapt(catalogue(&common.scenarios)?);
        let plan = selected(&catalogue, &flags.filters)?;
        options.provider.keep |= flags.repeat > 1;
        let mut records = Vec::new();
        for n in 1..=flags.repeat.max(1) {
            if flags.repeat > 1 {
                eprintln!("run {n} of {}", flags.repeat);
            }
            match once(&options, &plan, flags) {
                Ok(ended) if ended.interrupted => return Err(EXIT_INTERRUPTED),
                Ok(ended) => records.extend(ended.record),
                Err(error) => {
                    eprintln!("error: {error}");
                    return Err(exit_of(&error));
                }
            }
        }
        if flags.repeat > 1 {
            println!("{}", repeats(&records));
        }
        let green = !records.is_empty() && records.iter().all(|r| r.ended_early.is_none() && tally(r).is_green());
        Ok(if green && same_outcomes(&records) { EXIT_GREEN } else { EXIT_RED })
    };
    answer().unwrap_or_else(|code| code)
}

fn once(options: &SessionOptions, plan: &Plan, flags: &RunFlags) -> Result<Ended, SessionError> {
    let ended = on_runtime(|| drive(options, plan, Arc::new(Lines::new(true))))?;
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

fn tally(record: &RunRecord) -> Tally {
    Tally::of(record.scenarios.iter().flat_map(|s| &s.checks))
}

fn outcomes(record: &RunRecord) -> Vec<(String, std::mem::Discriminant<gateproof_core::outcome::Outcome>)> {
    let checks = record.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
    checks.map(|(s, c)| (trial_name(&s.id, &c.name), std::mem::discriminant(&c.outcome))).collect()
}

fn same_outcomes(records: &[RunRecord]) -> bool {
    records.windows(2).all(|pair| outcomes(&pair[0]) == outcomes(&pair[1]))
}

/// A line for each run, and whether any outcome differs.
fn repeats(records: &[RunRecord]) -> String {
    let mut out = String::from("run | passed | flaky | failed | not judged | seconds\n");
    for (n, record) in records.iter().enumerate() {
        let t = tally(record);
        let seconds = match (record.started.parse::<jiff::Timestamp>(), record.finished.as_deref().map(str::parse::<jiff::Timestamp>)) {
            (Ok(began), Some(Ok(ended))) => (ended - began).total(jiff::Unit::Second).unwrap_or_default(),
            _ => f64::NAN,
        };
        out.push_str(&format!("{} | {} | {} | {} | {} | {seconds:.1}\n", n + 1, t.passed, t.flaky, t.failed, t.errors));
    }
    let same = if same_outcomes(records) { "no outcome differs" } else { "OUTCOMES DIFFER" };
    out.push_str(&format!("{} runs: {same}", records.len()));
    out
}
