//! The owner's side of the socket: requests are gathered, carried out together, and answered as outcomes come.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gateproof_core::report::CheckRecord;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::protocol::{Answer, Refusal, Request, line};
use crate::run::event::{Event, Listener};
use crate::run::trials::trial_name;

/// Test processes that were let go are waited for so long: they only have to read.
const FAREWELL: Duration = Duration::from_secs(2);

/// Carries out what is asked.
pub trait Runner {
    /// Carries out some of the checks, at least one; their outcomes go to the [`Desk`]. Gives those that it took up. The
    /// future may be dropped at any point.
    ///
    /// # Errors
    /// When no check can be carried out any more, whichever it is.
    fn run(&mut self, asked: &BTreeSet<String>) -> impl Future<Output = Result<BTreeSet<String>, Refusal>>;
}

/// Where requests wait and outcomes are kept.
#[derive(Debug)]
pub struct Desk {
    known: BTreeSet<String>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Asked and without outcome, with how many wait.
    waiting: BTreeMap<String, usize>,
    done: BTreeMap<String, CheckRecord>,
    /// Taken up and left without outcome.
    lost: BTreeMap<String, Refusal>,
    /// Asked by nobody any more and without outcome: its test process was ended.
    left: BTreeSet<String>,
    over: Option<Refusal>,
    report: Option<PathBuf>,
}

impl Desk {
    /// For checks of these names.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = String>) -> Self {
        Self { known: known.into_iter().collect(), state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// Says where the report is.
    pub fn reported(&self, path: PathBuf) {
        self.change(|state| state.report = Some(path));
    }

    /// Says that no outcome will come any more. The first reason counts.
    pub fn close(&self, why: Refusal) {
        self.change(|state| {
            state.over.get_or_insert(why);
        });
    }

    /// What is asked and has no outcome yet.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<String> {
        self.state().waiting.keys().cloned().collect()
    }

    /// What was asked and has no outcome, whether somebody still waits for it or not.
    fn unfinished(&self) -> BTreeSet<String> {
        let state = self.state();
        state.waiting.keys().chain(&state.left).cloned().collect()
    }

    /// What is asked, once there is something.
    async fn some_asked(&self) -> BTreeSet<String> {
        let mut changed = self.changed.subscribe();
        loop {
            let asked = self.asked();
            if !asked.is_empty() {
                return asked;
            }
            let _ = changed.changed().await;
        }
    }

    /// Whatever of these has no outcome will have none.
    fn settle(&self, taken: &BTreeSet<String>) {
        self.change(|state| {
            for name in taken.iter().filter(|name| !state.done.contains_key(*name)) {
                let reason = "the run left this check without an outcome; this is a bug of gateproof".to_owned();
                state.waiting.remove(name);
                state.lost.insert(name.clone(), Refusal { reason, exit: crate::cli::EXIT_RED });
            }
        });
    }

    /// A check's outcome, or why there is none. Asked twice, it is answered from its record.
    async fn answer(&self, check: &str) -> Answer {
        if !self.known.contains(check) {
            let reason = format!("no scenario has a check `{check}`");
            return Answer::Refused(Refusal { reason, exit: crate::cli::EXIT_INPUT });
        }
        let mut changed = self.changed.subscribe();
        let _waits = Waits::new(self, check);
        loop {
            {
                let state = self.state();
                if let Some(record) = state.done.get(check) {
                    return Answer::Outcome { record: Box::new(record.clone()), report: state.report.clone() };
                }
                if let Some(refusal) = state.lost.get(check).or(state.over.as_ref()) {
                    return Answer::Refused(refusal.clone());
                }
            }
            let _ = changed.changed().await;
        }
    }
}

impl Listener for Desk {
    fn on(&self, event: &Event) {
        if let Event::CheckFinished(scenario, record) = event {
            let name = trial_name(scenario, &record.name);
            self.change(|state| {
                state.waiting.remove(&name);
                state.left.remove(&name);
                state.done.insert(name, (**record).clone());
            });
        }
    }
}

/// One that waits for a check. A test process that was ended waits no more, and what nobody waits for is not begun.
struct Waits<'a>(&'a Desk, &'a str);

impl<'a> Waits<'a> {
    fn new(desk: &'a Desk, check: &'a str) -> Self {
        desk.change(|state| {
            if !state.done.contains_key(check) && !state.lost.contains_key(check) && state.over.is_none() {
                state.left.remove(check);
                *state.waiting.entry(check.to_owned()).or_default() += 1;
            }
        });
        Self(desk, check)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.change(|state| {
            if let Some(waiting) = state.waiting.get_mut(self.1) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 {
                    state.waiting.remove(self.1);
                    state.left.insert(self.1.to_owned());
                }
            }
        });
    }
}

/// How serving ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why, in words.
    pub why: String,
    /// Checks that were asked and have no outcome.
    pub unfinished: BTreeSet<String>,
}

/// Answers on the socket until `end` comes back with a reason. `gather` is how long a request waits for others that come
/// with it.
pub async fn serve(
    listener: UnixListener,
    log: &Path,
    desk: &Arc<Desk>,
    runner: &mut impl Runner,
    gather: Duration,
    end: impl Future<Output = String>,
) -> Ending {
    let mut talks = JoinSet::new();
    let why = {
        let work = work(desk, runner, gather);
        tokio::pin!(work, end);
        loop {
            tokio::select! {
                biased;
                why = &mut end => break why,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(talks.spawn(talk(stream, log.to_owned(), desk.clone()))),
                    // No more descriptors, most likely; some will be closed.
                    Err(error) => {
                        eprintln!("warning: a connection could not be taken: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = talks.join_next() => {}
                never = &mut work => match never {},
            }
        }
    };
    let unfinished = desk.unfinished();
    drop(listener);
    desk.close(Refusal { reason: why.clone(), exit: crate::cli::EXIT_INTERRUPTED });
    let farewell = async { while talks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    Ending { why, unfinished }
}

async fn work(desk: &Desk, runner: &mut impl Runner, gather: Duration) -> Infallible {
    loop {
        desk.some_asked().await;
        tokio::time::sleep(gather).await;
        let asked = desk.asked();
        if asked.is_empty() {
            continue;
        }
        let taken = runner.run(&asked).await;
        match taken {
            Ok(taken) => desk.settle(if taken.is_empty() { &asked } else { &taken }),
            Err(refusal) => {
                eprintln!("error: {}", refusal.reason);
                desk.close(refusal);
                // Whoever still comes is answered with the same.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// One test process: heard, answered, or gone before that.
async fn talk(stream: UnixStream, log: PathBuf, desk: Arc<Desk>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut text = String::new();
    if read.read_line(&mut text).await.is_err() {
        return;
    }
    let answer = match serde_json::from_str::<Request>(&text) {
        Err(error) => Answer::Refused(Refusal { reason: format!("not understood: {error}"), exit: crate::cli::EXIT_INPUT }),
        Ok(request) => {
            let welcome = Answer::Welcome { pid: std::process::id(), log };
            if send(&mut write, &welcome).await.is_err() {
                return;
            }
            tokio::select! {
                answer = desk.answer(&request.check) => answer,
                // Test processes say nothing more: what can be read is their end.
                _ = read.read_u8() => return,
            }
        }
    };
    let _ = send(&mut write, &answer).await;
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> std::io::Result<()> {
    to.write_all(line(answer)?.as_bytes()).await?;
    to.flush().await
}
