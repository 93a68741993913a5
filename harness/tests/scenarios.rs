//! Every check of every scenario as a test: `cargo test --test scenarios`.
//!
//! One engine runs the checks in an order of its own; a trial only waits for its outcome. So filters, `--list`, `--exact`
//! and any number of threads work, there is one cluster and one report for the run, and listing touches nothing. Under
//! cargo-nextest, where each trial is a process, the engine is in a process of its own: see [`gateproof::run::owner`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use gateproof::cli::{EXIT_CLUSTER, EXIT_GREEN, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_RED, Lines, exit_of};
use gateproof::run::choose::{Environment, values_of_the_environment};
use gateproof::run::drive::{ENGINE_STACK, Ended, drive, runtime};
use gateproof::run::owner::{self, Reply};
use gateproof::run::trials::{Filter, Outcomes, failure_text, today, trial_name, trial_names};
use gateproof::run::{Event, Listener, SessionError, SessionOptions};
use gateproof_core::plan::{Plan, plan};
use gateproof_core::scenario::{Catalogue, load_catalogue_with};
use libtest_mimic::{Arguments, Failed, Trial};

struct Both(Arc<Outcomes>, Lines);

impl Listener for Both {
    fn on(&self, event: &Event) {
        self.1.on(event);
        self.0.on(event);
    }
}

type Run = JoinHandle<Result<Ended, SessionError>>;

fn main() -> ExitCode {
    if let Some(order) = owner::order() {
        return own(&order);
    }
    let arguments = Arguments::from_args();
    let environment = Environment { root: repository() };
    let filter = Filter { filter: arguments.filter.clone(), exact: arguments.exact, skip: arguments.skip.clone() };
    let options = match environment.session("cargo test --test scenarios") {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_INPUT);
        }
    };
    let catalogue = options.provider.choice.adapt(load_catalogue_with(&environment.scenarios(), &values_of_the_environment()));
    let selected = plan(&catalogue, &|scenario, check| filter.selects(&trial_name(scenario, check)));
    let mut trials = broken_trials(&catalogue);
    if let Some(run) = owner::nextest_run(|name| std::env::var(name).ok()) {
        let exit = Arc::new(AtomicU8::new(EXIT_INPUT));
        trials.extend(owned_trials(&catalogue, &run, &exit));
        let failed = libtest_mimic::run(&arguments, trials).has_failed();
        return ExitCode::from(if failed { exit.load(Ordering::SeqCst) } else { EXIT_GREEN });
    }
    let outcomes: Arc<Outcomes> = Arc::default();
    let run: Arc<OnceLock<Run>> = Arc::default();
    trials.extend(check_trials(&catalogue, &selected, &options, &outcomes, &run));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let ended = Arc::into_inner(run).and_then(OnceLock::into_inner).map(JoinHandle::join);
    ExitCode::from(exit_code(ended, conclusion.has_failed()))
}

fn exit_code(ended: Option<std::thread::Result<Result<Ended, SessionError>>>, failed: bool) -> u8 {
    match ended {
        None if failed => EXIT_INPUT,
        None => EXIT_GREEN,
        Some(Err(_)) => EXIT_RED,
        Some(Ok(Err(error))) => {
            eprintln!("error: {error}");
            exit_of(&error)
        }
        Some(Ok(Ok(ended))) => {
            if let Some(report) = &ended.report {
                eprintln!("report: {}", report.display());
            }
            match (ended.interrupted, failed || !ended.is_green()) {
                (true, _) => EXIT_INTERRUPTED,
                (false, true) => EXIT_RED,
                (false, false) => EXIT_GREEN,
            }
        }
    }
}

/// A broken scenario is one failing trial; the others run.
fn broken_trials(catalogue: &Catalogue) -> Vec<Trial> {
    let broken = catalogue.broken.iter().map(|scenario| {
        let text: Vec<String> = scenario.mistakes.iter().map(|m| m.render(false)).collect();
        (format!("{}::scenario.yaml is valid", scenario.id), text.join("\n\n"))
    });
    let root: Vec<String> = catalogue.root_mistakes.iter().map(|m| m.render(false)).collect();
    let root = (!root.is_empty()).then(|| ("scenarios::every file and every value belongs to a scenario".to_owned(), root.join("\n\n")));
    let past: Vec<String> = catalogue.expired(today()).iter().map(|m| m.render(false)).collect();
    let past = (!past.is_empty()).then(|| ("scenarios::no quarantine is past its last day".to_owned(), past.join("\n\n")));
    broken.chain(root).chain(past).map(|(name, text)| Trial::test(name, move || Err(Failed::from(text)))).collect()
}

fn check_trials(
    catalogue: &Catalogue,
    selected: &Plan,
    options: &SessionOptions,
    outcomes: &Arc<Outcomes>,
    run: &Arc<OnceLock<Run>>,
) -> Vec<Trial> {
    let selected = Arc::new(selected.clone());
    trial_names(catalogue)
        .into_iter()
        .map(|(scenario, check)| {
            let name = trial_name(&scenario, &check);
            let (run, outcomes, options, selected) = (run.clone(), outcomes.clone(), options.clone(), selected.clone());
            Trial::test(name.clone(), move || {
                // The first trial that really runs starts the engine: `--list` never comes here.
                run.get_or_init(|| start(options, selected, outcomes.clone()));
                let record = outcomes.wait(&name).map_err(Failed::from)?;
                failure_text(&record).map_or(Ok(()), |text| Err(Failed::from(text)))
            })
        })
        .collect()
}

/// The trials of one process of many: the run's owner is asked.
fn owned_trials(catalogue: &Catalogue, run: &str, exit: &Arc<AtomicU8>) -> Vec<Trial> {
    let names = trial_names(catalogue).into_iter().map(|(scenario, check)| trial_name(&scenario, &check));
    names
        .map(|name| {
            let (run, exit) = (run.to_owned(), exit.clone());
            Trial::test(name.clone(), move || {
                let none = |code: u8, why: String| {
                    exit.store(code, Ordering::SeqCst);
                    Err(Failed::from(why))
                };
                match owner::ask(&run, &name, &|text| eprintln!("{text}")) {
                    Err(error) => none(EXIT_CLUSTER, error.to_string()),
                    Ok(Reply::Refused(refusal)) => none(refusal.exit, refusal.reason),
                    Ok(Reply::Outcome(record, report)) => {
                        if let Some(report) = report {
                            eprintln!("report: {}", report.display());
                        }
                        failure_text(&record).map_or(Ok(()), |text| none(EXIT_RED, text))
                    }
                }
            })
        })
        .collect()
}

/// This process is the owner of a nextest run.
fn own(order: &owner::Order) -> ExitCode {
    let environment = Environment { root: repository() };
    match environment.session("cargo nextest run --test scenarios") {
        Ok(options) => {
            let catalogue = options.provider.choice.adapt(load_catalogue_with(&environment.scenarios(), &values_of_the_environment()));
            owner::own(order, owner::Given { catalogue, options })
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_INPUT)
        }
    }
}

fn start(options: SessionOptions, selected: Arc<Plan>, outcomes: Arc<Outcomes>) -> Run {
    // Futures are large in debug builds; the default of 2 MiB is not enough for the engine's.
    let thread = std::thread::Builder::new().name("engine".to_owned()).stack_size(ENGINE_STACK);
    let work = move || {
        let runtime = runtime().expect("a runtime can be made");
        let listener: Arc<dyn Listener> = Arc::new(Both(outcomes.clone(), Lines::new(true)));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(drive(&options, &selected, listener))));
        // Trials that wait must not wait for ever, whatever happened.
        let why = match &ended {
            Ok(Ok(ended)) if ended.interrupted => "the run was interrupted".to_owned(),
            Ok(Ok(_)) => "the run ended without this check's outcome".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the engine panicked; this is a bug of gateproof".to_owned(),
        };
        outcomes.close(&why);
        match ended {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    };
    thread.spawn(work).expect("a thread can be made")
}

fn repository() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness).to_owned()
}
