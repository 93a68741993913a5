//! What a red state leaves for people: collected before anything is changed, of the objects concerned only, in one folder
//! that the report links. Never fails a run, and never holds it up for long.

mod concern;
mod describe;
mod envoy;
mod gather;
mod index;
mod tidy;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateproof_core::names::Namespaced;
use gateproof_core::plan::{PlannedScenario, Stage};
use gateproof_core::report::CheckRecord;
use k8s_openapi::jiff::Timestamp;

use crate::kube_ext::Resources;
use crate::probe::World;

/// How much is collected.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For one state, in all.
    pub time: Duration,
    /// States of a run; the others are named.
    pub states: usize,
    /// Bytes of one file.
    pub file: usize,
    /// Bytes of one state.
    pub state: usize,
    /// Workloads of one state.
    pub workloads: usize,
    /// Pods of one workload.
    pub pods: usize,
    /// Lines of one container's log.
    pub lines: i64,
    /// Events of one namespace.
    pub events: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { time: Duration::from_secs(15), states: 10, file: 4 << 20, state: 24 << 20, workloads: 12, pods: 3, lines: 400, events: 100 }
    }
}

/// A state that turned out red.
pub(super) struct Red<'a> {
    /// Its scenario.
    pub(super) planned: &'a PlannedScenario,
    /// It, with all checks that were asked in it.
    pub(super) stage: &'a Stage,
    /// Those that are red.
    pub(super) checks: Vec<&'a CheckRecord>,
    /// Why it was not reached, when it was not.
    pub(super) not_reached: Option<&'a str>,
    /// When the cluster began to be brought into it.
    pub(super) since: Timestamp,
}

/// Collects for one run.
pub struct Diagnostics {
    reports: PathBuf,
    folder: String,
    began: Timestamp,
    resources: Resources,
    istiod: Namespaced,
    bounds: Bounds,
    asked: usize,
    contents: Vec<index::State>,
}

impl Diagnostics {
    /// Into a folder beside the report; `began` is when the run did.
    #[must_use]
    pub fn new(reports: &Path, folder: String, began: Timestamp, resources: Resources, istiod: Namespaced) -> Self {
        let bounds = Bounds::default();
        Self { reports: reports.to_owned(), folder, began, resources, istiod, bounds, asked: 0, contents: Vec::new() }
    }

    /// The folder's name beside the report, once there is something in it.
    #[must_use]
    pub fn folder(&self) -> Option<String> {
        self.contents.iter().any(|s| s.place.is_some()).then(|| format!("{}/", self.folder))
    }

    /// Collects what one red state leaves. What cannot be had is named in the state's index instead.
    pub(super) async fn collect(&mut self, world: &World, red: &Red<'_>) {
        self.asked += 1;
        let checks: Vec<String> = red.checks.iter().map(|c| c.name.clone()).collect();
        let mut state = index::State { scenario: red.planned.scenario.id.clone(), state: red.stage.state.clone(), checks, place: None };
        if self.asked <= self.bounds.states {
            match self.place(red) {
                Ok(place) => {
                    let dir = self.reports.join(&self.folder).join(&place);
                    let scope =
                        gather::Scope { world, resources: &self.resources, istiod: &self.istiod, began: self.began, bounds: self.bounds };
                    let gathered = gather::gather(&scope, red, &dir).await;
                    let page = index::of_state(red, &gathered, self.bounds);
                    if std::fs::write(dir.join(index::FILE), tidy::clean(&page)).is_ok() {
                        state.place = Some(place);
                    }
                }
                Err(error) => tracing::warn!("no folder for diagnostics below {}: {error}", self.reports.display()),
            }
        }
        self.contents.push(state);
        if self.folder().is_some() {
            let page = index::of_run(&self.contents, self.bounds.states);
            if let Err(error) = std::fs::write(self.reports.join(&self.folder).join(index::FILE), tidy::clean(&page)) {
                tracing::warn!("the index of diagnostics could not be written: {error}");
            }
        }
    }

    /// A new folder for this state, below the run's.
    fn place(&self, red: &Red<'_>) -> io::Result<String> {
        let scenario = red.planned.scenario.id.as_str().replace('/', "_");
        let parent = self.reports.join(&self.folder).join(&scenario);
        std::fs::create_dir_all(&parent)?;
        let slug = tidy::slug(&red.stage.state);
        // States of alike names, and a state that was asked twice.
        for n in 1.. {
            let name = if n == 1 { slug.clone() } else { format!("{slug}-{n}") };
            match std::fs::create_dir(parent.join(&name)) {
                Ok(()) => return Ok(format!("{scenario}/{name}")),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n < 1000 => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by itself")
    }
}
