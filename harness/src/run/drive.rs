//! A whole run, with signals heard: from a plan to a report.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use gateproof_core::plan::Plan;
use gateproof_core::report::{RunRecord, Tally};
use tokio::runtime::Runtime;

use super::event::Listener;
use super::session::{Session, SessionError, SessionOptions};

/// Futures are large in debug builds; a thread's default of 2 MiB is not enough for the engine's.
pub const ENGINE_STACK: usize = 16 << 20;

/// What an engine runs on.
///
/// Work that would hold up others is done on threads of its own. Most of it needs a processor, so that more threads than a few for
/// each would end nothing sooner, and each keeps the memory that it has had.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    let aside = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(aside).thread_stack_size(ENGINE_STACK).build()
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its record; None when it was interrupted before it had a cluster.
    pub record: Option<RunRecord>,
    /// Its report.
    pub report: Option<PathBuf>,
    /// Whether a signal ended it.
    pub interrupted: bool,
}

impl Ended {
    /// Whether every check that was asked was as expected, and at least one was.
    #[must_use]
    pub fn is_green(&self) -> bool {
        let Some(record) = &self.record else { return false };
        !self.interrupted && record.ended_early.is_none() && Tally::of(record.scenarios.iter().flat_map(|s| &s.checks)).is_green()
    }
}

/// Provides the cluster, carries out the plan, writes the report and gives the cluster back; Ctrl-C and SIGTERM
/// end it early with the same clean-up.
///
/// # Errors
/// When the cluster cannot be had or the report cannot be written.
pub async fn drive(options: &SessionOptions, plan: &Plan, listener: Arc<dyn Listener>) -> Result<Ended, SessionError> {
    let mut session = tokio::select! {
        session = Box::pin(Session::begin(options, plan, listener.clone())) => session?,
        () = signal() => return Ok(Ended { record: None, report: None, interrupted: true }),
    };
    // A panic would leave what was applied on a cluster that stays: it is taken back first, and the report written.
    let mut panicked = None;
    let interrupted = tokio::select! {
        result = Box::pin(AssertUnwindSafe(session.run(plan)).catch_unwind()) => match result {
            Ok(result) => { result?; false }
            Err(panic) => { panicked = Some(panic); false }
        },
        () = signal() => true,
    };
    if interrupted {
        session.ended_early("interrupted by a signal");
    }
    if panicked.is_some() {
        session.ended_early("gateproof panicked, which is a mistake in it");
    }
    let finished = session.finish(&*listener).await;
    if let Some(panic) = panicked {
        std::panic::resume_unwind(panic);
    }
    let (record, report) = finished?;
    Ok(Ended { record: Some(record), report: Some(report), interrupted })
}

/// Does some work until it is done or a signal comes: None then. What the work held is dropped, and a lease that is
/// dropped gives its cluster back.
pub async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = Box::pin(work) => Some(done),
        () = signal() => None,
    }
}

/// Ctrl-C or SIGTERM.
async fn signal() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut stream) => drop(stream.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
