//! What two runs of drawn configurations have in common, configuration by configuration.

use std::fmt::Write;

use super::{Drawn, PREFIX};
use crate::outcome::Outcome;
use crate::parity::{ComparedCheck, Facts, Parity, compare};
use crate::report::{RunRecord, ScenarioRecord};

/// What a configuration came to that neither stood nor was refused.
pub const NOT_REACHED: &str = "not reached";

/// One configuration on two providers.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Its place in the sequence.
    pub index: u32,
    /// What it is.
    pub about: String,
    /// What came of it, where both agree: `8 calls`, `refused by the API`, …
    pub came_to: String,
    /// A line for each thing that differs.
    pub differences: Vec<String>,
    /// What differed at the first look and not at the second: a log line that came too late, say.
    pub at_first: Vec<String>,
}

impl Agreement {
    /// With what a second look at the same configuration showed: what differs again differs, the rest was luck and is told.
    #[must_use]
    pub fn looked_at_again(self, second: Self) -> Self {
        match second.differences.is_empty() {
            true => Self { at_first: self.differences, ..second },
            false => self,
        }
    }
}

/// The drawn configurations of two runs, in their order.
#[must_use]
pub fn agreements(drawn: &[Drawn], left: &RunRecord, right: &RunRecord) -> Vec<Agreement> {
    let parity = compare(left, right);
    drawn.iter().map(|d| agreement(d, &parity, left, right)).collect()
}

fn agreement(drawn: &Drawn, parity: &Parity, left: &RunRecord, right: &RunRecord) -> Agreement {
    let id = &drawn.scenario.id;
    let find = |run: &RunRecord| run.scenarios.iter().find(|s| s.id == *id).map(State::of).unwrap_or_default();
    let (a, b) = (find(left), find(right));
    let mut differences = Vec::new();
    if a.not_reached != b.not_reached {
        let words = |state: &State| state.not_reached.clone().unwrap_or_else(|| "accepted".to_owned());
        differences.push(format!("state: {} | {}", words(&a), words(&b)));
    }
    if a.refusals != b.refusals {
        differences.push(format!("refused by proxies: {:?} | {:?}", a.refusals, b.refusals));
    }
    let of_this = format!("{id}::");
    if a.not_reached.is_none() && b.not_reached.is_none() {
        let calls = parity.checks.iter().filter(|c| c.name.starts_with(&of_this));
        differences.extend(calls.filter(|c| !same_call(c)).map(|c| {
            let [x, y] = c.seen.each_ref().map(|seen| match seen {
                Some(facts) => format!("{} {} [{}]", facts.outcome, facts.answer, facts.hops.join(" > ")),
                None => "not asked".to_owned(),
            });
            format!("{}: {x} | {y}", c.name.trim_start_matches(&of_this))
        }));
    }
    let came_to = match (&a.not_reached, a.refusals.len()) {
        (Some(words), _) if is_refusal(words) => "refused by the API".to_owned(),
        (Some(_), _) => NOT_REACHED.to_owned(),
        (None, 0) => format!("{} calls", a.calls),
        (None, n) => format!("{} calls, {n} pushes refused by proxies", a.calls),
    };
    Agreement { index: drawn.index, about: drawn.scenario.title.clone(), came_to, differences, at_first: Vec::new() }
}

/// Whether both saw the same. A connection that a proxy closes at once ends with a FIN or a RST, depending on whether the
/// caller's first bytes were there already: on a real cluster two calls of one battery differ in it.
fn same_call(call: &ComparedCheck) -> bool {
    let closed = |facts: &Facts| {
        let answer = if facts.answer == "reset" { "closed".to_owned() } else { facts.answer.clone() };
        Facts { answer, ..facts.clone() }
    };
    match &call.seen {
        [Some(a), Some(b)] => closed(a) == closed(b),
        _ => false,
    }
}

/// What became of a configuration before any call.
#[derive(Debug, Default)]
struct State {
    not_reached: Option<String>,
    refusals: Vec<String>,
    calls: usize,
}

impl State {
    fn of(scenario: &ScenarioRecord) -> Self {
        let not_reached = scenario.checks.iter().find_map(|c| match &c.outcome {
            Outcome::Error { message } if c.attempts.is_empty() => Some(message.clone()),
            _ => None,
        });
        let notices = scenario.stages.iter().flat_map(|s| &s.notices).filter(|n| n.contains(" refused "));
        let mut refusals: Vec<String> = notices.map(|n| on_any_cluster(n)).collect();
        refusals.sort();
        refusals.dedup();
        Self { not_reached, refusals, calls: scenario.checks.len() }
    }
}

/// Whether the words of a state that was not reached are the API's, about an object.
#[must_use]
fn is_refusal(words: &str) -> bool {
    words.contains("denied the request") || words.contains(" is invalid") || words.contains("Invalid value")
}

/// A proxy's refusal without the two parts of a pod's name that are made up: `POD.NAMESPACE refused …`.
fn on_any_cluster(notice: &str) -> String {
    let Some((proxy, rest)) = notice.split_once(' ') else { return notice.to_owned() };
    let Some((pod, namespace)) = proxy.rsplit_once('.') else { return notice.to_owned() };
    let deployment = pod.rsplitn(3, '-').nth(2).unwrap_or(pod);
    format!("{namespace}/{deployment} {rest}")
}

/// The table, what differs with its configuration, and the sum.
#[must_use]
pub fn agreements_table(all: &[Agreement], drawn: &[Drawn], providers: [&str; 2], seed: u64) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut out = format!("# Configurations drawn from the seed {seed}, on {} and {}\n\n", providers[0], providers[1]);
    out.push_str("| index | configuration | outcome |\n| --- | --- | --- |\n");
    for one in all {
        let outcome = match (one.differences.len(), one.at_first.len()) {
            (0, 0) => one.came_to.clone(),
            (0, _) => format!("{}, when asked again", one.came_to),
            (n, _) => format!("**{n} differ**"),
        };
        let _ = writeln!(out, "| {} | {} | {} |", one.index, cell(&one.about), cell(&outcome));
    }
    for one in all.iter().filter(|a| !a.differences.is_empty()) {
        let _ = writeln!(out, "\n## {PREFIX}{seed}-{:04}: {}\n\n{} | {}\n", one.index, one.about, providers[0], providers[1]);
        for difference in &one.differences {
            let _ = writeln!(out, "- {difference}");
        }
        let text = drawn.iter().find(|d| d.index == one.index).and_then(|d| d.scenario.manifests.first()).map(|m| m.text.as_str());
        let _ = writeln!(out, "\n```yaml\n{}```", text.unwrap_or_default());
    }
    let again: Vec<&Agreement> = all.iter().filter(|a| !a.at_first.is_empty()).collect();
    for one in &again {
        let _ = writeln!(out, "\nIndex {} agrees when asked again. At first:\n", one.index);
        for difference in &one.at_first {
            let _ = writeln!(out, "- {difference}");
        }
    }
    let agreeing = all.iter().filter(|a| a.differences.is_empty()).count();
    let _ = write!(out, "\n{agreeing} of {} configurations agree", all.len());
    out.push_str(&if again.is_empty() { "\n".to_owned() } else { format!(", {} of them when asked again\n", again.len()) });
    out
}
