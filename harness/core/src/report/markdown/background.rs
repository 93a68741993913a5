//! The paths that were seen, and where the run began.

use std::fmt::Write as _;

use super::mermaid::Paths;
use super::{is_pre_check, scenario, scenario_anchor};
use crate::report::record::RunRecord;
use crate::report::text::{Cell, Table, prose};
use crate::report::verdict;

/// One flowchart of all paths of the run.
pub(super) fn paths(record: &RunRecord) -> String {
    let paths = Paths::of(verdict::checks(record).map(|(_, c)| c), &record.gateways);
    if paths.is_empty() {
        return "No access-log line of this run showed a path, so none is drawn.\n".to_owned();
    }
    let mut out = String::from(if record.provider.name == "embedded" {
        "Each path below was read from log lines that the simulated mesh wrote for this run's own calls. "
    } else {
        "Each path below was read from access-log lines that proxies wrote for this run's own calls. "
    });
    out.push_str("Nothing is drawn that no line showed. An arrow out of a proxy carries the upstream cluster in that proxy's line. ");
    out.push_str("A hexagon is where a path ended without an upstream.");
    if paths.has_variations() {
        out.push_str(" Dashed arrows were seen only while a scenario was changed on purpose.");
    }
    let _ = write!(out, "\n\n{}", paths.render());
    out
}

/// Preflight, and the scenarios that show where the run began.
pub(super) fn pre_checks(record: &RunRecord) -> String {
    let mut out = String::new();
    let mut table = Table::new(["looked at before anything was touched", "seen", "good enough"]);
    for look in &record.preflight {
        let ok = if look.ok { "✅ yes" } else { "❌ **no**" };
        table.row([Cell::prose(&look.what), Cell::prose(&look.observed), Cell::ours(ok)]);
    }
    out.push_str(&table.finish());
    for (at, s) in record.scenarios.iter().enumerate().filter(|(_, s)| is_pre_check(s)) {
        let _ = write!(
            out,
            "\n<a id=\"{}\"></a>\n\n### {}: {}\n\n{}",
            scenario_anchor(at),
            prose(s.id.as_str()),
            prose(&s.title),
            scenario::body(record, at, s, 4)
        );
    }
    if out.is_empty() { "None were made.\n".to_owned() } else { out }
}
