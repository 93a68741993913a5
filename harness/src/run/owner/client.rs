//! A test process: finds the run's owner or starts it, asks, waits.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateproof_core::report::CheckRecord;

use super::place::{self, Order, Place};
use super::protocol::{Answer, Refusal, Request, read_line, write_line};
use super::watch::Watched;

/// An owner answers its socket as soon as it has read the scenarios.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the owner told.
#[derive(Debug)]
pub enum Reply {
    /// The outcome, and the report that has it.
    Outcome(Box<CheckRecord>, Option<PathBuf>),
    /// There is none.
    Refused(Refusal),
}

/// Why the owner told nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It cannot be started.
    #[error("the process that is to own the cluster cannot be started: {0}")]
    Start(#[source] io::Error),
    /// It ended at once, or does not answer.
    #[error("the process that owns the cluster {how}; its log is {}", log.display())]
    Silent {
        /// What was seen.
        how: String,
        /// What it printed.
        log: PathBuf,
    },
    /// It ended while this check waited, or before.
    #[error(
        "the process that owned the cluster and the report (pid {pid}) has ended before this check had its outcome; its log is {}. \
         What it left is removed by the next run",
        log.display()
    )]
    Died {
        /// Its pid.
        pid: u32,
        /// What it printed.
        log: PathBuf,
    },
}

/// Asks the owner of a nextest run for a check's outcome, and starts the owner where there is none. `say` is told where the
/// log is, as soon as that is known.
///
/// # Errors
/// When no owner can be had, or it died.
pub fn ask(run: &str, check: &str, say: &dyn Fn(&str)) -> Result<Reply, AskError> {
    let place = Place::of(run).map_err(AskError::Start)?;
    let stream = connect(&place, &|lock| start(&place, run, lock))?;
    converse(stream, check, &place.log, say)
}

/// One question and its answer over a connection.
pub(super) fn converse(stream: UnixStream, check: &str, log: &Path, say: &dyn Fn(&str)) -> Result<Reply, AskError> {
    let mut pid = 0;
    let silent = |error: io::Error| AskError::Silent { how: format!("was not understood: {error}"), log: log.to_owned() };
    // An owner that is gone already shows when its answer is read.
    let _ = write_line(&mut &stream, &Request { check: check.to_owned() });
    let mut reader = BufReader::new(&stream);
    loop {
        match read_line(&mut reader) {
            Ok(Some(Answer::Welcome { pid: owner, log })) => {
                pid = owner;
                say(&format!("the cluster of this nextest run belongs to process {owner}, which prints to {}", log.display()));
            }
            Ok(Some(Answer::Outcome { record, report })) => return Ok(Reply::Outcome(record, report)),
            Ok(Some(Answer::Refused(refusal))) => return Ok(Reply::Refused(refusal)),
            Ok(None) => return Err(AskError::Died { pid, log: log.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(silent(error)),
            Err(_) => return Err(AskError::Died { pid, log: log.to_owned() }),
        }
    }
}

/// Connects to the owner. Of several processes that find none, the one that gets the lock calls `start` with it.
pub(super) fn connect(place: &Place, start: &dyn Fn(File) -> io::Result<Child>) -> Result<UnixStream, AskError> {
    let silent = |how: String| AskError::Silent { how, log: place.log.clone() };
    let deadline = Instant::now() + PATIENCE;
    let mut started: Option<Child> = None;
    loop {
        if let Ok(stream) = UnixStream::connect(&place.socket) {
            return Ok(stream);
        }
        if let Some(child) = &mut started {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(silent(format!("ended at once with {status}")));
            }
        } else if let Some(mut lock) = place.try_lock().map_err(AskError::Start)? {
            if let Some(word) = place::word(&mut lock) {
                return Err(AskError::Died { pid: word.owner, log: place.log.clone() });
            }
            started = Some(start(lock).map_err(AskError::Start)?);
        }
        if Instant::now() > deadline {
            return Err(silent(format!("does not answer within {PATIENCE:?}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// This executable again, with the run's lock as its standard input: so there is no moment at which nobody holds it.
fn start(place: &Place, run: &str, lock: File) -> io::Result<Child> {
    let order = Order { place: place.clone(), watched: Watched::nextest(run) };
    let (name, value) = order.variable();
    let log = OpenOptions::new().create(true).append(true).open(&place.log)?;
    Command::new(std::env::current_exe()?)
        .env(name, value)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .spawn()
}
