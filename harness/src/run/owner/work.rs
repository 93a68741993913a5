//! The owner's process: from its order to its last file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gateproof_core::names::ScenarioId;
use gateproof_core::plan::{Plan, PlannedScenario, plan};
use gateproof_core::scenario::Catalogue;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::place::{Order, Place, Word, leave};
use super::protocol::Refusal;
use super::server::{Desk, Ending, Runner, serve};
use super::watch::Watched;
use crate::cli::{EXIT_CLUSTER, EXIT_GREEN, EXIT_RED, Lines};
use crate::run::drive::{ENGINE_STACK, runtime};
use crate::run::trials::{trial_name, trial_names};
use crate::run::{Event, Listener, Session, SessionError, SessionOptions};

/// nextest starts its next test some ten milliseconds after one has ended.
const GATHER: Duration = Duration::from_millis(150);
/// An owner that watches process 1 cannot tell whether that is nextest (in a container) or has inherited an orphan.
const IDLE: Duration = Duration::from_secs(120);

/// What an owner works with.
#[derive(Debug)]
pub struct Given {
    /// Every scenario.
    pub catalogue: Catalogue,
    /// What the run is asked to be.
    pub options: SessionOptions,
}

/// Is the owner of a run until that has ended.
#[must_use]
pub fn own(order: &Order, given: Given) -> ExitCode {
    let lock = match detach(order) {
        Ok(lock) => lock,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_RED);
        }
    };
    let place = order.place.clone();
    place.sweep();
    let watched = order.watched.clone();
    let run = move || {
        let runtime = runtime()?;
        runtime.block_on(whole(&place, &watched, given))
    };
    // Futures are large in debug builds.
    let thread = std::thread::Builder::new().name("owner".to_owned()).stack_size(ENGINE_STACK).spawn(run);
    let ended = thread.map(std::thread::JoinHandle::join);
    let _ = std::fs::remove_file(&order.place.socket);
    if !order.watched.is_there() {
        order.place.clear();
    }
    drop(lock);
    match ended {
        Ok(Ok(Ok(()))) => ExitCode::from(EXIT_GREEN),
        Ok(Ok(Err(error))) | Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_RED)
        }
        // The panic has printed itself.
        Ok(Err(_)) => ExitCode::from(EXIT_RED),
    }
}

/// Out of nextest's reach: a session of its own, so that Ctrl-C and the end of a test do not end it half-way. Gives the
/// run's lock, which came as the standard input, and leaves this process's word in it.
fn detach(order: &Order) -> io::Result<File> {
    let mut lock = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Neither a terminal nor the lock is for the commands that this process starts.
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    // Refused to the leader of a process group, which then is in no test's group either.
    let _ = nix::unistd::setsid();
    leave(&mut lock, &Word { owner: std::process::id(), watched: order.watched.clone() })?;
    Ok(lock)
}

async fn whole(place: &Place, watched: &Watched, given: Given) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let desk = Arc::new(Desk::new(trial_names(&given.catalogue).iter().map(|(scenario, check)| trial_name(scenario, check))));
    let listener: Arc<dyn Listener> = Arc::new(Both(desk.clone(), Lines::new(true)));
    listener.on(&Event::Note(format!("process {} owns the cluster while process {} runs", std::process::id(), watched.pid)));
    let mut work = Work::new(given, desk.clone(), listener.clone());
    let socket = listen(&place.socket)?;
    let end = async {
        let idle = async {
            if watched.pid != 1 {
                std::future::pending::<()>().await;
            }
            let mut quiet = tokio::time::Instant::now();
            while quiet.elapsed() < IDLE {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if !desk.asked().is_empty() {
                    quiet = tokio::time::Instant::now();
                }
            }
        };
        tokio::select! {
            () = watched.gone() => "nextest has ended".to_owned(),
            _ = terminate.recv() => "the cluster's owner was ended by SIGTERM".to_owned(),
            _ = interrupt.recv() => "the cluster's owner was ended by SIGINT".to_owned(),
            () = idle => format!("nobody asked for anything in {IDLE:?}"),
        }
    };
    let ending = serve(socket, &place.log, &desk, &mut work, GATHER, end).await;
    listener.on(&Event::Note(ending.why.clone()));
    work.finish(&ending).await.map_err(io::Error::other)
}

/// For this user alone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // One that was killed has left it; who holds the lock may remove it.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

struct Both(Arc<Desk>, Lines);

impl Listener for Both {
    fn on(&self, event: &Event) {
        self.1.on(event);
        self.0.on(event);
    }
}

/// The engine, asked for one state's checks at a time.
struct Work {
    given: Given,
    /// Every check of every scenario.
    all: Plan,
    /// Whatever was asked so far.
    asked: BTreeSet<String>,
    session: Option<Session>,
    /// What stands: the scenario and its state.
    stands: Option<(ScenarioId, String)>,
    /// Why no check is carried out any more.
    broken: Option<String>,
    desk: Arc<Desk>,
    listener: Arc<dyn Listener>,
}

impl Work {
    fn new(given: Given, desk: Arc<Desk>, listener: Arc<dyn Listener>) -> Self {
        let all = plan(&given.catalogue, &|_, _| true);
        Self { given, all, asked: BTreeSet::new(), session: None, stands: None, broken: None, desk, listener }
    }

    fn planned(&self, asked: &BTreeSet<String>) -> Plan {
        plan(&self.given.catalogue, &|scenario, check| asked.contains(&trial_name(scenario, check)))
    }

    /// The cluster, with all that was asked of it so far.
    async fn session(&mut self) -> Result<&mut Session, SessionError> {
        let so_far = self.planned(&self.asked);
        match &mut self.session {
            Some(session) => session.extend(&self.given.options.provider, &so_far, &self.all).await?,
            None => {
                // Which scenarios the report will have is known to nobody at this point.
                let name: Vec<ScenarioId> = ScenarioId::new("nextest").into_iter().collect();
                let begun = Session::begin_open(&self.given.options, &so_far, &self.all, &name, self.listener.clone());
                let session = Box::pin(begun).await?;
                self.desk.reported(session.report());
                self.session = Some(session);
            }
        }
        Ok(self.session.as_mut().expect("it was just made"))
    }

    /// Writes the report and gives the cluster back.
    async fn finish(mut self, ending: &Ending) -> Result<(), SessionError> {
        let Some(mut session) = self.session.take() else { return Ok(()) };
        if let Some(why) = &self.broken {
            session.ended_early(why);
        } else if !ending.unfinished.is_empty() {
            let names: Vec<&str> = ending.unfinished.iter().map(String::as_str).collect();
            session.ended_early(&format!("{} before these checks had their outcome: {}", ending.why, names.join(", ")));
        }
        let (_, report) = session.finish(&*self.listener).await?;
        self.listener.on(&Event::Note(format!("report: {}", report.display())));
        Ok(())
    }
}

impl Runner for Work {
    async fn run(&mut self, asked: &BTreeSet<String>) -> Result<BTreeSet<String>, Refusal> {
        self.asked.extend(asked.iter().cloned());
        let mut next = self.planned(asked);
        let mut taken: BTreeSet<String> =
            next.skipped.iter().map(|s| trial_name(&s.scenario.id, &s.scenario.checks[s.check].name)).collect();
        let mut stands = self.stands.clone();
        match choose(&next.scenarios, self.stands.as_ref()) {
            Some((at, stage)) => {
                let chosen = next.scenarios.swap_remove(at);
                let stage = chosen.stages[stage].clone();
                taken.extend(stage.checks.iter().map(|i| trial_name(&chosen.scenario.id, &chosen.scenario.checks[*i].name)));
                stands = Some((chosen.scenario.id.clone(), stage.state.clone()));
                next.scenarios = vec![PlannedScenario { stages: vec![stage], ..chosen }];
            }
            // Nothing but checks that are to be skipped, which is written down.
            None if !taken.is_empty() => next.scenarios.clear(),
            None => return Ok(BTreeSet::new()),
        }

        let refused = |error: &SessionError| Refusal { reason: error.to_string(), exit: EXIT_CLUSTER };
        let result = async {
            let session = self.session().await?;
            Box::pin(session.run(&next)).await?;
            session.save();
            Ok(())
        };
        if let Err(error) = result.await {
            self.broken = Some(SessionError::to_string(&error));
            return Err(refused(&error));
        }
        self.stands = stands;
        Ok(taken)
    }
}

/// Which stage is next: the one that stands, else one of the scenario that stands, else the first.
fn choose(planned: &[PlannedScenario], stands: Option<&(ScenarioId, String)>) -> Option<(usize, usize)> {
    let at = stands.and_then(|(id, _)| planned.iter().position(|p| p.scenario.id == *id)).unwrap_or(0);
    let stages = &planned.get(at)?.stages;
    let stage = stands.filter(|(id, _)| planned[at].scenario.id == *id).and_then(|(_, s)| stages.iter().position(|x| x.state == *s));
    Some((at, stage.unwrap_or(0)))
}
