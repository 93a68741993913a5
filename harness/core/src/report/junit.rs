//! A run as JUnit XML, for CI systems.

use std::fmt::Write as _;

use super::again::with_commands;
use super::record::{AttemptRecord, CheckRecord, RunRecord, ScenarioRecord, Tally};
use super::text::{clean, joined};
use super::verdict::{self, Verdict};
use crate::outcome::Outcome;

/// One `testsuite` for each scenario, one `testcase` for each check. A run that is red for a reason
/// other than a check (it did not end, nothing was asked) has a suite `run` with an error.
#[must_use]
pub fn junit(record: &RunRecord) -> String {
    let record = &*with_commands(record);
    let tally = verdict::tally(record);
    let trouble = trouble(record);
    let extra = usize::from(trouble.is_some());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"gateproof\" {} time=\"{}\">",
        counts(tally, extra),
        seconds(verdict::checks(record).map(|(_, c)| c.took).sum())
    );
    for scenario in &record.scenarios {
        suite(&mut out, record, scenario);
    }
    if let Some(message) = trouble {
        let _ = writeln!(out, "  <testsuite name=\"run\" {} time=\"0.000\">", counts(Tally::default(), 1));
        let _ = writeln!(out, "    <testcase classname=\"run\" name=\"the run is complete\" time=\"0.000\">");
        let _ = writeln!(out, "      <error message=\"{}\" type=\"incomplete\"/>", escape(&message));
        out.push_str("    </testcase>\n  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Why a run is red although no check may say so.
fn trouble(record: &RunRecord) -> Option<String> {
    match (&record.ended_early, &record.finished) {
        (Some(why), _) => Some(format!("the run ended early: {why}")),
        (None, None) => Some("the run did not end".to_owned()),
        (None, Some(_)) => (Verdict::of_run(record) == Verdict::NothingAsked).then(|| "no check was asked".to_owned()),
    }
}

fn suite(out: &mut String, record: &RunRecord, scenario: &ScenarioRecord) {
    let time = seconds(scenario.checks.iter().map(|c| c.took).sum());
    let name = escape(scenario.id.as_str());
    let _ = writeln!(
        out,
        "  <testsuite name=\"{name}\" {} time=\"{time}\" timestamp=\"{}\">",
        counts(Tally::of(&scenario.checks), 0),
        escape(&record.started)
    );
    out.push_str("    <properties>\n");
    for (key, value) in
        [("title", scenario.title.as_str()), ("provider", &verdict::provider(record)), ("cluster", &record.provider.cluster)]
    {
        let _ = writeln!(out, "      <property name=\"{key}\" value=\"{}\"/>", escape(value));
    }
    out.push_str("    </properties>\n");
    for check in &scenario.checks {
        case(out, &name, check);
    }
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, class: &str, check: &CheckRecord) {
    let _ = write!(out, "    <testcase classname=\"{class}\" name=\"{}\" time=\"{}\"", escape(&check.name), seconds(check.took));
    let mut inside = String::new();
    if let Some(quarantine) = verdict::quarantine(check) {
        let _ = writeln!(
            inside,
            "      <properties>\n        <property name=\"quarantined\" value=\"{}\"/>\n      </properties>",
            escape(&quarantine)
        );
    }
    match &check.outcome {
        // JUnit knows no quarantine; a failure would make the build red.
        Outcome::Failed { .. } | Outcome::Error { .. } if check.quarantined.is_some() => {
            let quarantine = verdict::quarantine(check).unwrap_or_default();
            let _ = writeln!(
                inside,
                "      <skipped message=\"{}\"/>",
                escape(&format!("{}; {}", verdict::check_word(check), first_words(check, &quarantine)))
            );
        }
        Outcome::Passed => {}
        Outcome::Flaky => {
            let wrong = |a: &AttemptRecord| if a.wrong.is_empty() { String::new() } else { format!(" ({})", a.wrong.join("; ")) };
            let mut seen: Vec<String> =
                check.attempts.iter().map(|a| format!("after {} s: {}{}", seconds(a.after), a.seen, wrong(a))).collect();
            seen.extend(verdict::history(check));
            let message = format!("as expected only at attempt {}", check.attempts.len());
            let _ = writeln!(
                inside,
                "      <flakyFailure message=\"{}\" type=\"flaky\">{}</flakyFailure>",
                escape(&message),
                escape_text(&joined(&seen))
            );
        }
        Outcome::Failed { mismatches } => {
            let lines: Vec<String> =
                mismatches.iter().map(|m| format!("{}: expected {}, observed {}", m.what, m.expected, m.observed)).collect();
            let first = lines.first().cloned().unwrap_or_else(|| "not as expected".to_owned());
            // Who sees the message only is to see why, before what.
            let message = check.cause.as_ref().map_or_else(|| first.clone(), |cause| format!("{} ({first})", cause.text));
            let mut text: Vec<String> = check.cause.iter().map(|cause| format!("cause: {}", cause.sentences())).collect();
            text.extend(lines);
            text.extend(check.diagnosis.iter().map(|d| format!("diagnosis: {d}")));
            text.extend(verdict::history(check));
            text.extend((!check.command.is_empty()).then(|| format!("repeat: {}", check.command)));
            let kind = mismatches.first().map_or("traffic", |m| kind(m.by));
            let _ = writeln!(
                inside,
                "      <failure message=\"{}\" type=\"{kind}\">{}</failure>",
                escape(&message),
                escape_text(&joined(&text))
            );
        }
        Outcome::Error { message } => {
            let mut text = vec![message.clone()];
            text.extend(check.diagnosis.iter().map(|d| format!("diagnosis: {d}")));
            let _ = writeln!(
                inside,
                "      <error message=\"{}\" type=\"not-judged\">{}</error>",
                escape(message),
                escape_text(&joined(&text))
            );
        }
        Outcome::Skipped { reason } => {
            let _ = writeln!(inside, "      <skipped message=\"{}\"/>", escape(reason));
        }
    }
    if inside.is_empty() {
        out.push_str("/>\n");
    } else {
        let _ = write!(out, ">\n{inside}    </testcase>\n");
    }
}

/// The quarantine, and what of the check was not as expected.
fn first_words(check: &CheckRecord, quarantine: &str) -> String {
    let what = match &check.outcome {
        Outcome::Failed { mismatches } => {
            mismatches.first().map(|m| format!("{}: expected {}, observed {}", m.what, m.expected, m.observed))
        }
        Outcome::Error { message } => Some(message.clone()),
        _ => None,
    };
    what.map_or_else(|| quarantine.to_owned(), |what| format!("{quarantine}; {what}"))
}

fn kind(by: crate::outcome::EvidenceKind) -> &'static str {
    use crate::outcome::EvidenceKind as K;
    match by {
        K::Traffic => "traffic",
        K::Log => "log",
        K::ProxyConfig => "proxy-config",
        K::Object => "object",
        K::Analysis => "analysis",
        K::State => "state",
    }
}

fn counts(tally: Tally, extra_errors: usize) -> String {
    let skipped = tally.skipped + tally.quarantined;
    let tests = tally.passed + tally.flaky + tally.failed + tally.errors + skipped + extra_errors;
    format!("tests=\"{tests}\" failures=\"{}\" errors=\"{}\" skipped=\"{skipped}\"", tally.failed, tally.errors + extra_errors)
}

fn seconds(s: f64) -> String {
    format!("{:.3}", if s.is_finite() && s > 0.0 { s } else { 0.0 })
}

/// Text for an attribute: cleaned (which takes out what XML does not allow), line ends kept as references.
fn escape(text: &str) -> String {
    escape_text(text).replace('"', "&quot;").replace('\n', "&#10;").replace('\t', "&#9;")
}

/// Text between tags.
fn escape_text(text: &str) -> String {
    clean(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_forbids_is_gone_and_the_rest_is_escaped() {
        assert_eq!(escape("a\u{0}\u{1b}[31m<b> & \"c\"\n\u{fffe}d"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;d");
    }
}
