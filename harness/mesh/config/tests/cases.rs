//! Cases that Istio's and Gateway API's own tests hold, told as data under `cases/` (see the README there), run against this
//! crate: from objects to what a proxy is sent, and a call through that.
//!
//! The score is committed. It may not fall below `cases/floor.yaml`; a check that fails has to be in `cases/misses.yaml` with a
//! reason, or in a case that says what it needs; and what is listed there and holds has to leave the list.

#[path = "cases/check.rs"]
mod check;
#[path = "cases/conformance.rs"]
mod conformance;
#[path = "cases/ledger.rs"]
mod ledger;
#[path = "cases/told.rs"]
mod told;
#[path = "cases/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use check::Check;
use ledger::Ledger;

#[test]
fn cases_of_others_hold_as_far_as_is_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut checks: BTreeMap<String, Vec<Check>> = BTreeMap::new();
    for (name, file) in told::files(&folder.join("istio")) {
        let of_file = checks.entry(name.clone()).or_default();
        for test in &file.tests {
            check::run(&name, test, of_file);
        }
    }
    for (name, file) in conformance::files(&folder.join("gateway-api")) {
        conformance::run(&name, &file, checks.entry(name.clone()).or_default());
    }
    let verdict = Ledger::read(&folder).judge(&checks);
    println!("{}", verdict.report);
    assert!(verdict.complaints.is_empty(), "{}\n{}", verdict.report, verdict.complaints.join("\n"));
}
