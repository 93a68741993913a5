//! `doctor`: can a cluster be had, and does it have what a run needs? Touches nothing.

use anstream::{eprintln, println};
use gateproof_core::plan::plan;
use gateproof_core::report::PreflightRecord;
use gateproof_core::scenario::{ValueOverrides, load_catalogue_with};

use super::{EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT};
use crate::provider::{self, Choice, ExistingOptions, ProviderError, ProviderOptions, access};
use crate::run::needs::needs;

/// Looks as the flags say.
pub(super) fn run(common: &super::Common, flags: &super::provide::ProviderFlags) -> u8 {
    let mut options = ProviderOptions { kind: common.kind(), ..ProviderOptions::new("kind") };
    options.bundle = flags.bundle.clone().or_else(ProviderOptions::bundle_from_environment);
    match flags.choice(false) {
        Ok(choice) => options.choice = choice.unwrap_or(options.choice),
        Err(code) => return code,
    }
    match common.overrides() {
        Ok(overrides) => doctor(&common.scenarios, &overrides, &options),
        Err(code) => code,
    }
}

/// Looks and prints a table; scenarios are read for what they need of an existing cluster.
pub(super) fn doctor(scenarios: &std::path::Path, overrides: &ValueOverrides, options: &ProviderOptions) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start a runtime: {error}");
            return EXIT_CLUSTER;
        }
    };
    let looked = match &options.choice {
        Choice::Kind | Choice::Unnamed => runtime.block_on(kind(options)),
        Choice::Embedded => {
            println!("the simulated mesh runs in this process and needs nothing");
            Ok(true)
        }
        Choice::Existing(existing) => runtime.block_on(the_existing(scenarios, overrides, options, existing)),
    };
    match looked {
        Ok(true) => EXIT_GREEN,
        Ok(false) => EXIT_CLUSTER,
        Err(error) => {
            eprintln!("error: {error}");
            if error.is_input() { EXIT_INPUT } else { EXIT_CLUSTER }
        }
    }
}

async fn kind(options: &ProviderOptions) -> Result<bool, ProviderError> {
    let settings = provider::Settings::read(&options.kind)?;
    let bundle = options.bundle.as_deref().map(provider::Bundle::read).transpose()?;
    let mut rows = match provider::kind::look().await {
        Ok(rows) => rows,
        Err(error) => vec![PreflightRecord { what: "this machine".to_owned(), observed: error.to_string(), ok: false }],
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = bundle.map(|b| b.bin).into_iter().chain(std::env::split_paths(&path)).collect();
    for tool in ["kind", "helm", "istioctl"] {
        let found = dirs.iter().map(|dir| dir.join(tool)).find(|p| p.is_file());
        let observed = found.map_or_else(|| provider::kind::not_here(tool, &settings), |p| p.display().to_string());
        rows.push(PreflightRecord { what: tool.to_owned(), observed, ok: true });
    }
    println!("provider kind\n");
    anstream::print!("{}", table(&rows));
    Ok(verdict(&rows))
}

async fn the_existing(
    scenarios: &std::path::Path,
    overrides: &ValueOverrides,
    options: &ProviderOptions,
    existing: &ExistingOptions,
) -> Result<bool, ProviderError> {
    let catalogue = options.choice.adapt(load_catalogue_with(scenarios, overrides));
    let plan = plan(&catalogue, &|_, _| true);
    let looked = provider::look_at_existing(options, existing, &needs(&plan, &plan)).await?;
    println!("provider existing, context {}\n", existing.context);
    anstream::print!("{}", table(&looked.records));
    println!("\npermissions, as {} lists them\n", access::FILE);
    let rows: Vec<PreflightRecord> = access::by_resource(&looked.answers)
        .into_iter()
        .map(|(what, (asked, refused))| {
            let lack = if refused.is_empty() { String::new() } else { format!("; NOT GRANTED: {}", refused.join(", ")) };
            PreflightRecord { what, observed: format!("{}{lack}", asked.join(", ")), ok: refused.is_empty() }
        })
        .collect();
    anstream::print!("{}", table(&rows));
    for warning in &looked.found.warnings {
        println!("\nwarning: {warning}");
    }
    if catalogue.scenarios.is_empty() {
        println!("\nwarning: no scenario was read below {}, so nothing was looked at for one", scenarios.display());
    }
    for broken in &catalogue.broken {
        println!("\nwarning: {} is broken and was not looked at; `gateproof lint` says why", broken.id);
    }
    Ok(verdict(&looked.records))
}

fn verdict(rows: &[PreflightRecord]) -> bool {
    let lacks = rows.iter().filter(|r| !r.ok).count();
    match lacks {
        0 => println!("\nnothing lacks"),
        1 => println!("\none thing lacks"),
        n => println!("\n{n} things lack"),
    }
    lacks == 0
}

/// Aligned columns: a mark, what was looked at, what was seen.
fn table(rows: &[PreflightRecord]) -> String {
    let width = rows.iter().map(|r| r.what.chars().count()).max().unwrap_or(0);
    let line =
        |r: &PreflightRecord| format!("{:<5} {:<width$}  {}\n", if r.ok { "ok" } else { "LACKS" }, r.what, r.observed.replace('\n', " "));
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_stands_out_in_an_aligned_table() {
        let row = |what: &str, ok| PreflightRecord { what: what.to_owned(), observed: "seen".to_owned(), ok };
        assert_eq!(table(&[row("a", true), row("long", false)]), "ok    a     seen\nLACKS long  seen\n");
    }
}
