//! Arguments, progress, exit codes: the only place that prints or exits.

mod asked;
mod cluster;
mod completions;
mod diff;
mod docs;
mod doctor;
mod hold;
mod lint;
mod new;
mod parity;
mod pause;
mod progress;
mod prove;
mod provide;
mod repeat;
mod rounds;
mod run;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateproof_core::scenario::ValueOverrides;

pub use progress::Lines;
pub use run::exit_of;

use crate::provider::KindFiles;
use crate::run::choose::values_of_the_environment;
use crate::run::drive::{ENGINE_STACK, runtime};
use crate::run::word;

/// All passed.
pub const EXIT_GREEN: u8 = 0;
/// A check failed.
pub const EXIT_RED: u8 = 1;
/// The input is wrong.
pub const EXIT_INPUT: u8 = 2;
/// The cluster could not be had.
pub const EXIT_CLUSTER: u8 = 3;
/// Interrupted.
pub const EXIT_INTERRUPTED: u8 = 130;

#[derive(Debug, Parser)]
#[command(
    name = "gateproof",
    version,
    about = "Proves that Istio gateways do what their configuration says",
    after_help = "Exit codes: 0 all passed, 1 a check failed, 2 the input is wrong, 3 the cluster could not be had, 130 interrupted."
)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// The folder with the scenarios
    #[arg(long, global = true, env = "GATEPROOF_SCENARIOS", default_value = "scenarios")]
    scenarios: PathBuf,
    /// The folder that declares versions, gateways and Helm values; without it `kind` where that is there, else what is built in
    #[arg(long, global = true, env = "GATEPROOF_KIND_DIR")]
    kind_dir: Option<PathBuf>,
    /// The name of the cluster that is made or reused
    #[arg(long, global = true, env = "GATEPROOF_CLUSTER")]
    cluster: Option<String>,
    /// A value of scenarios other than its default; also `GATEPROOF_VALUE_NAME`, upper case with `_` for `-`. SCENARIO may be one row
    #[arg(long = "value", global = true, value_name = "[SCENARIO:]NAME=VALUE")]
    values: Vec<String>,
}

impl Common {
    /// What declares versions, gateways and Helm values.
    fn kind(&self) -> KindFiles {
        KindFiles::find(self.kind_dir.as_deref(), Path::new(""))
    }

    /// The flags that another command has to be given to mean the same scenarios, with a blank before each.
    fn again(&self) -> String {
        let mut out = String::new();
        if self.scenarios != Path::new("scenarios") {
            out.push_str(&format!(" --scenarios {}", word(&self.scenarios.display().to_string())));
        }
        if let Some(dir) = &self.kind_dir {
            out.push_str(&format!(" --kind-dir {}", word(&dir.display().to_string())));
        }
        if let Some(cluster) = &self.cluster {
            out.push_str(&format!(" --cluster {}", word(cluster)));
        }
        out
    }

    /// The values that the environment and the flags give.
    fn overrides(&self) -> Result<ValueOverrides, u8> {
        let mut overrides = values_of_the_environment();
        for value in &self.values {
            overrides.add(value).map_err(|why| {
                anstream::eprintln!("error: {why}");
                EXIT_INPUT
            })?;
        }
        Ok(overrides)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios and write a report
    #[command(after_help = "Examples:\n  gateproof run                          every scenario\n  \
        gateproof run 10-ingress               one scenario and what it needs\n  \
        gateproof run '10-ingress::another'    checks whose name has this part\n  \
        gateproof run --tag egress --tag '!slow'  by the scenarios' tags\n  \
        gateproof run --shard 2/5              the second of five parts, for five machines\n  \
        gateproof run 10-ingress --value host=shop.example.com  with another value of the scenario\n  \
        gateproof run --repeat 20              twenty runs on one kept cluster, compared\n  \
        gateproof run --until-failure          until a check is red or flaky; with --repeat, at most so often\n  \
        gateproof run --fail-fast --pause-on-failure  stop at the first red state, and look at it while it stands")]
    Run(run::RunFlags),
    /// Leave out every manifest and bend every telling field, one at a time, and show which check notices
    #[command(after_help = "Examples:\n  gateproof prove 10-ingress --keep\n  gateproof prove --only 'exportTo' --keep\n  \
        gateproof prove --provider kind --keep --json kind.json && gateproof prove --provider embedded --against kind.json")]
    Prove(prove::ProveFlags),
    /// Run on kind and on the simulated mesh, and compare every check and every proxy's configuration
    #[command(after_help = "Examples:\n  gateproof parity\n  gateproof parity 20-egress --keep --output parity.md")]
    Parity(parity::ParityFlags),
    /// Apply, probe, remove, probe, again and again: does the gate ever open too early?
    #[command(after_help = "Examples:\n  gateproof rounds 200 --keep\n  gateproof rounds 200 --keep --without-gate")]
    Rounds(rounds::RoundsFlags),
    /// Bring a kept cluster into a scenario's state and leave it there, to repeat a report's commands by hand
    #[command(after_help = "Examples:\n  eval \"$(gateproof hold 10-ingress)\"\n  gateproof hold 10-ingress 'routes in reverse order'")]
    Hold(hold::HoldFlags),
    /// Read every scenario and list every mistake, each with file, line and column
    Lint,
    /// List every check by its name
    List,
    /// Print what a run would do, in order, without a cluster
    #[command(after_help = "Examples:\n  gateproof plan 20-egress\n  gateproof plan --shard 1/3")]
    Plan(lint::PlanFlags),
    /// Print a JSON schema: of scenario.yaml, of exceptions.yaml, or of the record beside a report
    #[command(after_help = "Examples:\n  gateproof schema\n  gateproof schema record")]
    Schema {
        /// Of what
        #[arg(value_parser = ["scenario", "exceptions", "record"], default_value = "scenario")]
        of: String,
    },
    /// Bring up a cluster that is kept, with the gateways and outside hosts of every scenario
    Up(cluster::UpFlags),
    /// Remove a kept cluster
    Down,
    /// Print the path of the kubeconfig of gateproof's cluster
    Kubeconfig,
    /// Render a report again from its JSON record
    #[command(after_help = "Examples:\n  gateproof report --format html reports/2026-11-21-kind-4-scenarios.json > page.html\n  \
        gateproof report --format github FILE.json >> \"$GITHUB_STEP_SUMMARY\"")]
    Report(cluster::ReportFlags),
    /// Write a scenario that runs as it stands, or a draft of what stands in a cluster
    #[command(
        after_help = "Examples:\n  gateproof new 30-shop                                  a host that the ingress gateway serves\n  \
        gateproof new 40-bank --egress --host api.bank.test    a host outside, through the egress gateway\n  \
        gateproof new 50-prod --from-cluster shop --context homelab\n\n\
        A draft has a check for each route of the namespace, with what it answered once; nothing is changed there."
    )]
    New(new::NewFlags),
    /// Run on the simulated mesh whatever a saved file touches, until Ctrl-C
    #[command(after_help = "Examples:\n  gateproof watch                every scenario once, then what is saved\n  \
        gateproof watch 10-ingress     only checks whose name has this part")]
    Watch(watch::WatchFlags),
    /// Make one page of Markdown from the scenarios: what each proves, by which checks, and where a feature is found
    #[command(after_help = "Examples:\n  gateproof docs --out docs/scenarios.md\n  \
        gateproof docs --out docs/scenarios.md --check    fail when the page is not up to date")]
    Docs(docs::DocsFlags),
    /// Print the script that completes commands and flags in a shell
    #[command(after_help = "Examples:\n  source <(gateproof completions bash)\n  \
        gateproof completions fish > ~/.config/fish/completions/gateproof.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Compare two runs: outcomes, versions, answers, paths, the proxies' configuration and time
    #[command(after_help = "Examples:\n  gateproof diff                                the newest two runs of one provider\n  \
        gateproof diff old.json new.json --json\n  \
        gateproof run --observe --istio 1.29.0; gateproof run --observe; gateproof diff   what an upgrade changes\n\n\
        Exit codes: 0 every check has the same outcome in both, 1 some have not or only one run has them, 2 no two records.")]
    Diff(diff::DiffFlags),
    /// Look whether a cluster can be had and has what the scenarios need, without touching it
    Doctor(provide::ProviderFlags),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Silent unless RUST_LOG asks: what people need to know is said in words of our own.
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let common = arguments.common;
    let code = match arguments.command {
        Command::Run(flags) => run::run(&common, &flags),
        Command::Prove(flags) => prove::prove(&common, &flags),
        Command::Parity(flags) => parity::parity(&common, &flags),
        Command::Rounds(flags) => rounds::rounds(&common, &flags),
        Command::Hold(flags) => hold::hold(&common, &flags),
        Command::Lint => lint::lint(&common),
        Command::List => lint::list(&common),
        Command::Plan(flags) => lint::plan(&common, &flags),
        Command::Schema { of } => lint::schema(&of),
        Command::Diff(flags) => diff::run(&flags),
        Command::Up(flags) => cluster::up(&common, &flags),
        Command::Down => cluster::down(&common),
        Command::Kubeconfig => cluster::kubeconfig(&common),
        Command::Report(flags) => cluster::report(&flags),
        Command::New(flags) => new::new(&common, &flags),
        Command::Watch(flags) => watch::watch(&common, &flags),
        Command::Docs(flags) => docs::docs(&common.scenarios, &flags),
        Command::Completions { shell } => completions::completions(shell),
        Command::Doctor(flags) => doctor::run(&common, &flags),
    };
    ExitCode::from(code)
}

/// Makes a future and runs it on an engine's runtime, on a thread with a large stack.
pub(crate) fn on_runtime<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> T {
    let run = || {
        let runtime = runtime().expect("a runtime can be made");
        let value = runtime.block_on(work());
        // Whatever had to be ended was waited for: what still runs goes with the process.
        runtime.shutdown_background();
        value
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("engine".to_owned()).stack_size(ENGINE_STACK);
        match thread.spawn_scoped(scope, run).expect("a thread can be made").join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_of_every_command_fit_together() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn another_command_is_given_the_flags_that_say_where_things_are() {
        use std::path::PathBuf;
        let plain = super::Common { scenarios: PathBuf::from("scenarios"), kind_dir: None, cluster: None, values: Vec::new() };
        assert_eq!(plain.again(), "");
        let own = super::Common {
            scenarios: PathBuf::from("my tests"),
            kind_dir: Some(PathBuf::from("k")),
            cluster: Some("c".to_owned()),
            values: Vec::new(),
        };
        assert_eq!(own.again(), " --scenarios 'my tests' --kind-dir k --cluster c");
    }
}
