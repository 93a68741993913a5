//! One check: asked until it is as expected or the attempts are used up, then written down.

use std::time::{Duration, Instant};

use gateproof_core::names::Namespaced;
use gateproof_core::outcome::cause::{Call, likely_cause};
use gateproof_core::outcome::{
    CallSeen, EvidenceKind, Mismatch, Observation, Outcome, connection_words, describe_expectation, describe_observation, diagnose_with,
    difference, judge_check, redact,
};
use gateproof_core::report::{AttemptRecord, CauseRecord, CheckRecord, EvidenceRecord, QuarantineRecord};
use gateproof_core::scenario::{Caller, Check, Expectation, Probe, Scenario};
use jiff::Timestamp;

use super::look::Look;
use crate::probe::logs::Since;
use crate::probe::{ProbeError, Witnesses, World};
use crate::sync::Refusal;

/// How often a check is asked.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// At most so many times; at least once.
    pub at_most: u32,
    /// The pause between two.
    pub pause: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { at_most: 3, pause: Duration::from_millis(400) }
    }
}

/// Asks and judges one check in the state that stands.
pub async fn run(world: &World, check: &Check, since: &Since, refusals: &[Refusal], attempts: Attempts) -> CheckRecord {
    run_looking(world, check, since, refusals, attempts, None).await
}

/// The same, and of a call that fails the likely cause is read off what the cluster has then.
pub async fn run_looking(
    world: &World,
    check: &Check,
    since: &Since,
    refusals: &[Refusal],
    attempts: Attempts,
    look: Option<&Look<'_>>,
) -> CheckRecord {
    let began = Instant::now();
    let mut failed = None;
    let witnesses = witnesses(&check.expect);
    let mut record = blank(world, check);
    for attempt in 1..=attempts.at_most.max(1) {
        let (after, at) = (began.elapsed().as_secs_f64(), Timestamp::now().to_string());
        match answer_in_time(world, check, &witnesses, since).await {
            Err(error) => {
                let message = format!("failed to ask: {error}");
                record.attempts.push(AttemptRecord { after, seen: message.clone(), at, wrong: vec![] });
                record.outcome = Outcome::Error { message };
            }
            Ok(observation) => {
                let mut mismatches = judge_check(check, &observation);
                mismatches.extend(refusals.iter().map(refused));
                let observed = describe_observation(&observation, &check.expect);
                let wrong = mismatches.iter().map(|m| redact(&format!("{}: expected {}, observed {}", m.what, m.expected, m.observed)));
                record.attempts.push(AttemptRecord { after, seen: redact(&observed.join("; ")), at, wrong: wrong.collect() });
                take(&mut record, check, &observation, observed);
                record.outcome = match (mismatches.is_empty(), attempt) {
                    (true, 1) => Outcome::Passed,
                    (true, _) => Outcome::Flaky,
                    (false, _) => Outcome::Failed { mismatches },
                };
                failed = Some(observation);
            }
        }
        if record.outcome.is_green() || attempt == attempts.at_most.max(1) {
            break;
        }
        tokio::time::sleep(world.pace.pause(attempts.pause)).await;
        world.pods.forget();
    }
    if let (Outcome::Failed { mismatches }, Some(observation)) = (&record.outcome, &failed) {
        (record.diagnosis, record.cause) = explain(check, observation, mismatches, look).await;
    }
    record.took = began.elapsed().as_secs_f64();
    record
}

/// Puts the question. A line that a log is to have and does not have yet is waited for as one of a call is: somebody else's call may be
/// on its way, and Envoy flushes when it likes.
async fn answer_in_time(world: &World, check: &Check, witnesses: &Witnesses, since: &Since) -> Result<Observation, ProbeError> {
    const BETWEEN: Duration = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        let observation = world.ask(&check.probe, witnesses, since).await?;
        let waits = matches!(check.probe, Probe::Logs(_)) && began.elapsed() < world.line_limit;
        if !(waits && only_lacks_lines(&judge_check(check, &observation))) {
            return Ok(observation);
        }
        tokio::time::sleep(world.pace.pause(BETWEEN)).await;
    }
}

/// Whether all that is wrong is that something has not been written yet.
fn only_lacks_lines(mismatches: &[Mismatch]) -> bool {
    !mismatches.is_empty() && mismatches.iter().all(|m| m.by == EvidenceKind::Log && m.what.starts_with("contains"))
}

/// What is said of a check that failed: its first broken layer, what proxies logged; and the likely cause.
async fn explain(
    check: &Check,
    observation: &Observation,
    mismatches: &[Mismatch],
    look: Option<&Look<'_>>,
) -> (Vec<String>, Option<CauseRecord>) {
    let mut cause = None;
    if let (Observation::Call(seen), Some(call), Some(look)) = (observation, Call::of(&check.probe), look) {
        cause = likely_cause(look.configured().await, &call, &check.expect, seen, mismatches);
    }
    let lines = diagnose_with(&check.expect, observation, mismatches, cause.as_ref());
    (lines.iter().map(|line| redact(line)).collect(), cause.as_ref().map(CauseRecord::of))
}

/// A record without an outcome of its own yet.
pub(super) fn blank(world: &World, check: &Check) -> CheckRecord {
    CheckRecord {
        command: redact(&world.repeat_command(&check.probe)),
        ..unasked(check, Outcome::Skipped { reason: "not asked".to_owned() })
    }
}

/// A record of a check that was not put to the cluster.
pub(super) fn unasked(check: &Check, outcome: Outcome) -> CheckRecord {
    CheckRecord {
        name: check.name.clone(),
        proves: check.proves.clone(),
        given: check.given.clone(),
        command: String::new(),
        expected: describe_expectation(&check.expect),
        observed: Vec::new(),
        answer: None,
        outcome,
        attempts: Vec::new(),
        took: 0.0,
        hops: Vec::new(),
        caller: caller(&check.probe),
        destination: None,
        evidence: Vec::new(),
        diagnosis: Vec::new(),
        cause: None,
        quarantined: None,
        history: None,
    }
}

/// Says of a scenario's record whether its check is in quarantine.
pub(super) fn marked(scenario: &Scenario, record: CheckRecord) -> CheckRecord {
    let quarantine = scenario.exceptions.quarantined.get(&record.name);
    let quarantined = quarantine.map(|q| QuarantineRecord { reason: q.reason.clone(), until: q.until.to_string() });
    CheckRecord { quarantined, ..record }
}

fn refused(refusal: &Refusal) -> Mismatch {
    Mismatch {
        what: "configuration".to_owned(),
        expected: "accepted by every proxy".to_owned(),
        observed: format!("{} refused {}: {}", refusal.proxy, refusal.resource_type, refusal.message),
        by: EvidenceKind::ProxyConfig,
    }
}

fn witnesses(expect: &Expectation) -> Witnesses {
    let call = match expect {
        Expectation::Call(call) => call,
        Expectation::Observe { watched } => return Witnesses { path: Vec::new(), absent: watched.clone() },
        _ => return Witnesses::default(),
    };
    let mut path: Vec<Namespaced> = call.path.iter().map(|hop| hop.proxy.clone()).collect();
    path.dedup();
    Witnesses { path, absent: call.absent_from.clone() }
}

fn caller(probe: &Probe) -> Option<String> {
    match probe {
        Probe::Exec(probe) => Some(probe.workload.to_string()),
        Probe::Http(probe) => Some(match &probe.from {
            Caller::Outside => "outside".to_owned(),
            Caller::Workload(workload) => workload.to_string(),
        }),
        _ => None,
    }
}

fn take(record: &mut CheckRecord, check: &Check, observation: &Observation, observed: Vec<String>) {
    record.observed = observed.iter().map(|line| redact(line)).collect();
    record.evidence = evidence(check, observation);
    record.hops.clear();
    record.destination = None;
    record.answer = None;
    if let Observation::Call(call) = observation {
        record.answer = Some(answer(call));
        record.command = redact(&call.command);
        record.hops = call.hops.clone();
        record.destination = match call.hops.last() {
            Some(hop) if hop.entry.upstream_host != "-" => Some(hop.entry.upstream_host.clone()),
            Some(_) => None,
            None => call.remote.map(|address| address.to_string()),
        };
    }
}

/// How a call ended, in words that hold on any cluster.
fn answer(call: &CallSeen) -> String {
    let mut parts = Vec::new();
    match (call.status, &call.connection) {
        (Some(status), _) => parts.push(format!("status {status}")),
        (None, Some(connection)) => parts.push(connection_words(connection)),
        (None, None) => {}
    }
    if let Some(code) = call.exit_code {
        parts.push(format!("exit code {code}"));
    }
    parts.join(", ")
}

fn evidence(check: &Check, observation: &Observation) -> Vec<EvidenceRecord> {
    let mut out = Vec::new();
    let mut add = |title: &str, language: &str, text: String| {
        if !text.trim().is_empty() {
            out.push(EvidenceRecord { title: title.to_owned(), language: language.to_owned(), text: cut(&redact(&text), 6000) });
        }
    };
    add("What was wanted, and what is there", "diff", difference(&check.expect, observation).unwrap_or_default());
    match observation {
        Observation::Call(call) => {
            add("Standard output", "text", call.stdout.clone().unwrap_or_default());
            add("Standard error", "text", call.stderr.clone().unwrap_or_default());
            let headers: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            add("Response headers", "text", headers.join("\n"));
            add("Response body", "text", cut(&call.body.clone().unwrap_or_default(), 1500));
            if let Some(seen) = &call.certificate {
                let names = seen.names.join(", ");
                add(
                    "Certificate seen by the caller",
                    "text",
                    format!(
                        "subject {}\nissuer {}\nnames {names}\nsha256 {}\nvalid until {}",
                        seen.subject, seen.issuer, seen.sha256, seen.not_after
                    ),
                );
            }
            let addresses = [("local", call.local), ("remote", call.remote)];
            let lines: Vec<String> = addresses.iter().filter_map(|(what, a)| a.map(|a| format!("{what} {a}"))).collect();
            add("The caller's connection", "text", lines.join("\n"));
            let absences: Vec<String> = call
                .absences
                .iter()
                .map(|a| format!("{}: {}", a.proxy, a.shown_by.clone().unwrap_or_else(|| "not shown".to_owned())))
                .collect();
            add("What shows the absence", "text", absences.join("\n"));
        }
        Observation::Logs { lines } => {
            let Expectation::Logs(expect) = &check.expect else { return out };
            let hit = |text: &str| expect.contains.iter().chain(&expect.lacks).any(|wanted| wanted.holds(text));
            let hits: Vec<String> = lines.iter().filter(|l| hit(&l.text)).take(20).map(|l| format!("{}: {}", l.pod, l.text)).collect();
            add("Matching lines", "text", hits.join("\n"));
            add("Lines read", "text", format!("{} since the state was applied", lines.len()));
        }
        Observation::Config { replicas } => {
            for replica in replicas {
                if replica.entries.is_empty() {
                    add(&format!("Names in {}", replica.pod), "text", replica.all_names.join("\n"));
                }
                for (name, value) in &replica.entries {
                    add(&format!("{name} in {}", replica.pod), "json", serde_json::to_string_pretty(value).unwrap_or_default());
                }
            }
        }
        Observation::Object { name, value } => {
            add(name, "json", value.as_ref().and_then(|v| serde_json::to_string_pretty(v).ok()).unwrap_or_default());
        }
        Observation::Analysis { messages } => {
            let lines: Vec<String> = messages.iter().map(|m| format!("{} [{}] {}", m.level, m.code, m.text)).collect();
            add("Messages", "text", if lines.is_empty() { "no message".to_owned() } else { lines.join("\n") });
        }
        Observation::Pods { pods, .. } => {
            let lines: Vec<String> = pods.iter().map(|p| format!("{} {}/{} {}", p.pod, p.ready, p.of, p.phase)).collect();
            add("Pods", "text", lines.join("\n"));
        }
        Observation::ProxyStatus { proxies, unconnected } => {
            let line = |p: &gateproof_core::outcome::ProxySeen| {
                let types: Vec<String> = p.types.iter().map(|(t, said)| format!("{t} {said}")).collect();
                format!("{}: {}", p.id, types.join(", "))
            };
            let lines = proxies.iter().map(line).chain(unconnected.iter().map(|id| format!("{id}: not connected")));
            add("Proxies", "text", lines.collect::<Vec<_>>().join("\n"));
        }
        Observation::Versions { seen } => {
            add("Versions", "text", seen.iter().map(|v| format!("{}: {}", v.who, v.version)).collect::<Vec<_>>().join("\n"));
        }
    }
    out
}

fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}\n… {} more bytes", &text[..at], text.len() - at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_missing_may_come_and_one_that_is_there_does_not_go() {
        let log = |what: &str| Mismatch { what: what.into(), expected: String::new(), observed: String::new(), by: EvidenceKind::Log };
        assert!(only_lacks_lines(&[log("contains[0]"), log("contains[1]")]));
        assert!(!only_lacks_lines(&[log("contains[0]"), log("lacks[0]")]));
        assert!(!only_lacks_lines(&[]));
    }
}
