//! Events as plain lines, for terminals and logs.

use std::sync::Mutex;
use std::time::Instant;

use anstream::eprintln;
use gateproof_core::outcome::Outcome;

use crate::run::{Event, Listener};

/// Prints a line for each event worth one.
pub struct Lines {
    began: Instant,
    steps: bool,
    out: Mutex<()>,
}

impl Lines {
    /// From now on; `steps` also prints provisioning steps as they end.
    #[must_use]
    pub fn new(steps: bool) -> Self {
        Self { began: Instant::now(), steps, out: Mutex::default() }
    }

    fn line(&self, text: &str) {
        let _one_at_a_time = self.out.lock();
        eprintln!("{:7.2}s  {text}", self.began.elapsed().as_secs_f64());
    }
}

impl Listener for Lines {
    fn on(&self, event: &Event) {
        match event {
            Event::Note(text) => self.line(text),
            Event::Warning(text) => self.line(&format!("warning: {text}")),
            Event::StepStarted(_) => {}
            Event::StepEnded(name, took) if self.steps => self.line(&format!("{name} ({:.2} s)", took.as_secs_f64())),
            Event::StepEnded(..) => {}
            Event::ScenarioStarted(id, title) => self.line(&format!("{id}: {title}")),
            Event::StageReady(id, stage) => self.line(&format!(
                "{id}: state `{}` stands: {} applied, {} removed in {:.2} s, proxies have it after {:.2} s more",
                stage.state,
                stage.applied.len(),
                stage.removed.len(),
                stage.apply_took,
                stage.gate_took
            )),
            Event::CheckFinished(id, check) => {
                let word = match &check.outcome {
                    Outcome::Passed => "ok     ",
                    Outcome::Flaky => "FLAKY  ",
                    Outcome::Failed { .. } => "FAILED ",
                    Outcome::Error { .. } => "ERROR  ",
                    Outcome::Skipped { .. } => "skipped",
                };
                self.line(&format!("  {word} {id}::{} ({:.2} s)", check.name, check.took));
            }
            Event::Finished(..) => {}
        }
    }
}
