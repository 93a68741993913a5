//! What happens in a run, told as it happens. The engine emits, everything else only listens.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use gateproof_core::names::ScenarioId;
use gateproof_core::report::{CheckRecord, RunRecord, StageRecord};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A line for people that belongs to no scenario: the provider and why it was chosen, for one.
    Note(String),
    /// Something that does not fit but does not stop the run.
    Warning(String),
    /// A step of provisioning or clean-up began.
    StepStarted(String),
    /// It ended.
    StepEnded(String, Duration),
    /// A scenario's first state is being prepared.
    ScenarioStarted(ScenarioId, String),
    /// A state stands and the proxies have it.
    StageReady(ScenarioId, Box<StageRecord>),
    /// A check has its outcome.
    CheckFinished(ScenarioId, Box<CheckRecord>),
    /// The run is over; the report is written.
    Finished(Box<RunRecord>, std::path::PathBuf),
}

/// Listens.
pub trait Listener: Send + Sync {
    /// Told of every event, in order, from one task.
    fn on(&self, event: &Event);
}

/// A state with a red check, which stands until a [`Pause`] is over.
#[derive(Debug, Clone)]
pub struct RedState {
    /// The scenario.
    pub scenario: ScenarioId,
    /// Its state.
    pub state: String,
    /// The checks that are red in it; never empty.
    pub red: Vec<CheckRecord>,
    /// Where the cluster's kubeconfig is.
    pub kubeconfig: PathBuf,
    /// The kubeconfig's context.
    pub context: String,
}

/// Holds a run up while somebody looks at a state in which a check is red.
pub trait Pause: fmt::Debug + Send + Sync {
    /// Comes back when the run may go on. The future may be dropped: the run was interrupted then.
    fn at<'a>(&'a self, red: &'a RedState) -> BoxFuture<'a, ()>;
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Deaf;

impl Listener for Deaf {
    fn on(&self, _: &Event) {}
}
