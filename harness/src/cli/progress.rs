//! Events for people: live on a terminal, plain lines elsewhere, groups and annotations on GitHub.

mod github;
mod live;

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Instant;

use anstream::eprintln;
use gateproof_core::outcome::Outcome;
use gateproof_core::report::CheckRecord;

use self::github::Annotations;
use self::live::Live;
use crate::run::{Event, Listener};

/// Prints a line for each event worth one; with [`Lines::live`] a terminal shows instead what is under way.
pub struct Lines {
    began: Instant,
    steps: bool,
    live: Option<Live>,
    /// On GitHub: what marks a failure at its place in the change.
    annotations: Option<Annotations>,
    out: Mutex<()>,
}

impl Lines {
    /// Plain lines from now on; `steps` also prints provisioning steps as they end. On GitHub failures are annotated too.
    #[must_use]
    pub fn new(steps: bool) -> Self {
        let on_github = std::env::var("GITHUB_ACTIONS").is_ok_and(|v| v == "true");
        let annotations = on_github.then(|| Annotations::new(false));
        Self { began: Instant::now(), steps, live: None, annotations, out: Mutex::default() }
    }

    /// The same for a command that prints nothing beside: a terminal shows each scenario and step while it is under way, and
    /// GitHub folds the lines of each scenario.
    #[must_use]
    pub fn live(steps: bool) -> Self {
        let mut lines = Self::new(steps);
        let plain = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        if lines.annotations.is_some() {
            lines.annotations = Some(Annotations::new(true));
        } else if std::io::stderr().is_terminal() && !plain("CI") && std::env::var("TERM").as_deref() != Ok("dumb") {
            lines.live = Some(Live::new(!plain("NO_COLOR")));
        }
        lines
    }

    /// The same for scenarios beside one another, whose lines come in between each other: nothing is folded.
    #[must_use]
    pub fn side_by_side(mut self) -> Self {
        self.annotations = self.annotations.map(|_| Annotations::new(false));
        self
    }

    fn line(&self, text: &str) {
        let text = format!("{:7.2}s  {text}", self.began.elapsed().as_secs_f64());
        match &self.live {
            Some(live) => live.above(&text),
            None => {
                let _one_at_a_time = self.out.lock();
                eprintln!("{text}");
            }
        }
    }

    fn raw(&self, lines: &[String]) {
        let _one_at_a_time = self.out.lock();
        lines.iter().for_each(|line| eprintln!("{line}"));
    }
}

/// The word for an outcome, as wide as any other.
fn word(check: &CheckRecord) -> &'static str {
    match &check.outcome {
        Outcome::Failed { .. } | Outcome::Error { .. } if check.quarantined.is_some() => "quarantined",
        Outcome::Passed => "ok     ",
        Outcome::Flaky => "FLAKY  ",
        Outcome::Failed { .. } => "FAILED ",
        Outcome::Error { .. } => "ERROR  ",
        Outcome::Skipped { .. } => "skipped",
    }
}

impl Listener for Lines {
    fn on(&self, event: &Event) {
        if let Some(annotations) = &self.annotations {
            self.raw(&annotations.before(event));
        }
        if let Some(live) = &self.live {
            live.on(event);
        }
        // A terminal that shows what is under way needs a line only for what should be read.
        let terse = self.live.is_some();
        match event {
            Event::Note(text) => self.line(text),
            Event::Warning(text) => self.line(&format!("warning: {text}")),
            Event::StepEnded(name, took) if self.steps && (!terse || took.as_secs_f64() >= 1.0) => {
                self.line(&format!("{name} ({:.2} s)", took.as_secs_f64()));
            }
            Event::ScenarioStarted(id, title) if !terse => self.line(&format!("{id}: {title}")),
            Event::StageReady(id, stage) if !terse => self.line(&format!(
                "{id}: state `{}` stands: {} applied, {} removed in {:.2} s, proxies have it after {:.2} s more",
                stage.state,
                stage.applied.len(),
                stage.removed.len(),
                stage.apply_took,
                stage.gate_took
            )),
            Event::CheckFinished(id, check) if !terse || !matches!(check.outcome, Outcome::Passed | Outcome::Skipped { .. }) => {
                self.line(&format!("  {} {id}::{} ({:.2} s)", word(check), check.name, check.took));
            }
            _ => {}
        }
        if let Some(annotations) = &self.annotations {
            self.raw(&annotations.after(event));
        }
    }
}
