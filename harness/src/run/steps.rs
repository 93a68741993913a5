//! Steps of a run, into its record and to the listener.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateproof_core::report::{RunRecord, StepRecord};

use super::event::{Event, Listener};
use crate::provider::Progress;

/// Those that are under way, and those that are done.
pub(super) struct Steps {
    began: Instant,
    listener: Arc<dyn Listener>,
    open: Mutex<BTreeMap<String, f64>>,
    done: Mutex<Vec<StepRecord>>,
    warnings: Mutex<Vec<String>>,
}

impl Progress for Steps {
    fn step_started(&self, name: &str) {
        self.open.lock().expect("no panic holds this lock").insert(name.to_owned(), self.began.elapsed().as_secs_f64());
        self.listener.on(&Event::StepStarted(name.to_owned()));
    }
    fn step_ended(&self, name: &str, took: Duration) {
        let began = self.open.lock().expect("no panic holds this lock").remove(name).unwrap_or_default();
        let step = StepRecord { name: name.to_owned(), began, took: took.as_secs_f64() };
        self.done.lock().expect("no panic holds this lock").push(step);
        self.listener.on(&Event::StepEnded(name.to_owned(), took));
    }
    fn warn(&self, text: &str) {
        self.warnings.lock().expect("no panic holds this lock").push(text.to_owned());
        self.listener.on(&Event::Warning(text.to_owned()));
    }
}

impl Steps {
    /// None yet.
    pub(super) fn new(listener: Arc<dyn Listener>) -> Self {
        Self { began: Instant::now(), listener, open: Mutex::default(), done: Mutex::default(), warnings: Mutex::default() }
    }

    /// One that has ended, and of which it was not known before whether there was anything to do.
    pub(super) fn was(&self, name: &str, since: Instant) {
        self.step_started(name);
        let began = since.duration_since(self.began).as_secs_f64();
        self.open.lock().expect("no panic holds this lock").insert(name.to_owned(), began);
        self.step_ended(name, since.elapsed());
    }

    /// Steps and warnings so far.
    pub(super) fn write_into(&self, record: &mut RunRecord) {
        record.steps = self.done.lock().expect("no panic holds this lock").clone();
        record.warnings = self.warnings.lock().expect("no panic holds this lock").clone();
    }
}
