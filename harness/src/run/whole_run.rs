//! Whole runs for tests: a folder of scenarios on the simulated mesh, each check asked once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateproof_core::plan::plan;
use gateproof_core::report::RunRecord;
use gateproof_core::scenario::load_catalogue;

use super::event::Deaf;
use super::{Attempts, Session, SessionOptions};
use crate::provider::{Choice, ProviderOptions};

/// Runs every scenario of a folder, in which there has to be no mistake; `prepare` may change the engine before.
pub(super) fn whole_run(scenarios: &Path, reports: PathBuf, provider: ProviderOptions, prepare: fn(&mut Session)) -> RunRecord {
    let options = SessionOptions {
        reports,
        provider: ProviderOptions { choice: Choice::Embedded, ..provider },
        chosen: "a test".to_owned(),
        invoked: "a test".to_owned(),
        verify_only: false,
        observe_proxies: false,
        fail_fast: false,
        pause: None,
        parallel: 1,
        attempts: Attempts { at_most: 1, ..Attempts::default() },
    };
    let catalogue = load_catalogue(scenarios);
    let mistakes: Vec<String> = catalogue.mistakes().map(|m| m.render(false)).collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    let plan = plan(&catalogue, &|_, _| true);
    crate::cli::on_runtime(|| async {
        let mut session = Session::begin(&options, &plan, Arc::new(Deaf)).await.unwrap();
        prepare(&mut session);
        session.run(&plan).await.unwrap();
        session.finish(&Deaf).await.unwrap().0
    })
}
