//! `up`, `down`, `kubeconfig` and `report`.

use std::path::PathBuf;

use anstream::{eprintln, println};
use gateproof_core::report::{RunRecord, github_summary, html, junit, render, summary};

use super::asked::{catalogue, selected};
use super::run::{ProvideFlags, on_kind, options};
use super::{Common, EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, Lines, on_runtime};
use crate::provider::{self, Progress, ProviderError};
use crate::run::drive::unless_interrupted;
use crate::run::needs::needs;
use crate::run::{Event, Listener};

impl Progress for Lines {
    fn step_started(&self, name: &str) {
        self.on(&Event::StepStarted(name.to_owned()));
    }
    fn step_ended(&self, name: &str, took: std::time::Duration) {
        self.on(&Event::StepEnded(name.to_owned(), took));
    }
    fn warn(&self, text: &str) {
        self.on(&Event::Warning(text.to_owned()));
    }
}

/// Flags of `up`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct UpFlags {
    #[command(flatten)]
    provide: ProvideFlags,
}

/// Flags of `report`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReportFlags {
    /// The JSON record beside a report
    record: PathBuf,
    /// An earlier record to compare with
    #[arg(long)]
    previous: Option<PathBuf>,
    /// What to render
    #[arg(long, value_parser = ["markdown", "html", "junit", "github", "text"], default_value = "markdown")]
    format: String,
}

fn fail(error: &ProviderError) -> u8 {
    eprintln!("error: {error}");
    if error.is_input() { EXIT_INPUT } else { EXIT_CLUSTER }
}

fn name(common: &Common) -> String {
    common.cluster.clone().unwrap_or_else(|| provider::ProviderOptions::new("kind").cluster_name)
}

/// Brings up a kept cluster.
pub(super) fn up(common: &Common, flags: &UpFlags) -> u8 {
    let answer = || -> Result<u8, u8> {
        let plan = selected(&catalogue(common)?, &[])?;
        let mut options = on_kind(options(common, &flags.provide, &PathBuf::from("reports"))?)?.provider;
        options.keep = true;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (wanted, lines) = (needs(&plan, &plan), Lines::new(true));
        let lease = on_runtime(|| unless_interrupted(provider::up(&options, &wanted, &lines)));
        let lease = lease.ok_or(EXIT_INTERRUPTED)?.map_err(|e| fail(&e))?;
        println!("export KUBECONFIG={}", lease.kubeconfig.display());
        Ok(EXIT_GREEN)
    };
    answer().unwrap_or_else(|code| code)
}

/// Removes a kept cluster.
pub(super) fn down(common: &Common) -> u8 {
    match on_runtime(|| async { provider::delete(&name(common), &Lines::new(true)).await }) {
        Ok(true) => EXIT_GREEN,
        Ok(false) => {
            eprintln!("there is no cluster {} of gateproof's", name(common));
            EXIT_GREEN
        }
        Err(error) => fail(&error),
    }
}

/// Prints where the cluster's kubeconfig lies.
pub(super) fn kubeconfig(common: &Common) -> u8 {
    match provider::kubeconfig(&name(common)) {
        Ok(path) if path.exists() => {
            println!("{}", path.display());
            EXIT_GREEN
        }
        Ok(_) => {
            eprintln!("error: there is no cluster {}; `gateproof up` makes one", name(common));
            EXIT_CLUSTER
        }
        Err(error) => fail(&error),
    }
}

/// Renders a record again.
pub(super) fn report(flags: &ReportFlags) -> u8 {
    let read = |path: &PathBuf| -> Result<RunRecord, u8> {
        let text = std::fs::read_to_string(path).map_err(|e| (path, e.to_string()));
        let record = text.and_then(|t| serde_json::from_str(&t).map_err(|e| (path, e.to_string())));
        record.map_err(|(path, why)| {
            eprintln!("error: failed to read {}: {why}", path.display());
            EXIT_INPUT
        })
    };
    let answer = || -> Result<u8, u8> {
        let record = read(&flags.record)?;
        let previous = flags.previous.as_ref().map(read).transpose()?;
        let text = match flags.format.as_str() {
            "html" => html(&record, previous.as_ref()),
            "junit" => junit(&record),
            "github" => github_summary(&record),
            "text" => summary(&record, None),
            _ => render(&record, previous.as_ref()),
        };
        println!("{text}");
        Ok(EXIT_GREEN)
    };
    answer().unwrap_or_else(|code| code)
}
