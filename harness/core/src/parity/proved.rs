//! What `prove` found on two providers: does a change make the same checks red on both?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What became of the mutations of one run of `prove`, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvedRun {
    /// On which provider.
    pub provider: String,
    /// In the order in which they were made.
    pub mutations: Vec<ProvedMutation>,
}

/// What became of one mutation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvedMutation {
    /// `SCENARIO: MUTATION`.
    pub id: String,
    /// Whether it was noticed.
    pub verdict: ProvedVerdict,
    /// Every check that was red under it.
    pub red: BTreeSet<String>,
}

/// Whether a mutation was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProvedVerdict {
    /// By traffic, a log or a configuration.
    Noticed,
    /// The API refused it.
    Refused,
    /// Red by set-up, a time-out or an analysis alone.
    NotByEvidence,
    /// Every check stayed green.
    NotNoticed,
}

/// Two runs, held against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedProofs {
    /// How many mutations both runs made and came to the same by.
    pub agreeing: usize,
    /// A line for each that differs, or that one run lacks.
    pub differing: Vec<String>,
}

/// Holds two runs against each other, mutation by mutation.
#[must_use]
pub fn compare_proofs(left: &ProvedRun, right: &ProvedRun) -> ComparedProofs {
    let by_id = |run: &ProvedRun| -> BTreeMap<String, ProvedMutation> { run.mutations.iter().map(|m| (m.id.clone(), m.clone())).collect() };
    let (a, b) = (by_id(left), by_id(right));
    let mut out = ComparedProofs { agreeing: 0, differing: Vec::new() };
    for id in a.keys().chain(b.keys().filter(|id| !a.contains_key(*id))) {
        match (a.get(id), b.get(id)) {
            (Some(x), Some(y)) => match difference(x, y, &left.provider, &right.provider) {
                None => out.agreeing += 1,
                Some(words) => out.differing.push(format!("{id}: {words}")),
            },
            (x, _) => {
                let only = if x.is_some() { &left.provider } else { &right.provider };
                out.differing.push(format!("{id}: made on {only} only"));
            }
        }
    }
    out
}

fn difference(a: &ProvedMutation, b: &ProvedMutation, left: &str, right: &str) -> Option<String> {
    if a.verdict != b.verdict {
        return Some(format!("{:?} on {left}, {:?} on {right}", a.verdict, b.verdict));
    }
    let only = |x: &ProvedMutation, y: &ProvedMutation| x.red.difference(&y.red).cloned().collect::<Vec<_>>().join(", ");
    let sides: Vec<String> = [(left, only(a, b)), (right, only(b, a))]
        .into_iter()
        .filter(|(_, checks)| !checks.is_empty())
        .map(|(provider, checks)| format!("red on {provider} only: {checks}"))
        .collect();
    (!sides.is_empty()).then(|| sides.join("; "))
}

/// For people: what differs, and the sum.
#[must_use]
pub fn proofs_table(compared: &ComparedProofs, left: &str, right: &str) -> String {
    let mut out = String::new();
    for line in &compared.differing {
        let _ = writeln!(out, "- {line}");
    }
    let all = compared.agreeing + compared.differing.len();
    let _ = writeln!(out, "{} of {all} mutations make the same checks red on {left} and {right}", compared.agreeing);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(provider: &str, mutations: &[(&str, ProvedVerdict, &[&str])]) -> ProvedRun {
        let mutation = |(id, verdict, red): &(&str, ProvedVerdict, &[&str])| ProvedMutation {
            id: (*id).to_owned(),
            verdict: *verdict,
            red: red.iter().map(|c| (*c).to_owned()).collect(),
        };
        ProvedRun { provider: provider.to_owned(), mutations: mutations.iter().map(mutation).collect() }
    }

    #[test]
    fn mutations_agree_when_the_same_checks_are_red() {
        use ProvedVerdict::{NotNoticed, Noticed, Refused};
        let kind = run("kind", &[("a", Noticed, &["x", "y"]), ("b", Noticed, &["x"]), ("c", Refused, &[]), ("d", Noticed, &["x"])]);
        let mesh = run("embedded", &[("a", Noticed, &["y", "x"]), ("b", Noticed, &["z"]), ("c", NotNoticed, &[]), ("e", Refused, &[])]);
        let compared = compare_proofs(&kind, &mesh);
        assert_eq!(compared.agreeing, 1);
        assert_eq!(
            compared.differing,
            [
                "b: red on kind only: x; red on embedded only: z",
                "c: Refused on kind, NotNoticed on embedded",
                "d: made on kind only",
                "e: made on embedded only",
            ]
        );
        assert!(proofs_table(&compared, "kind", "embedded").ends_with("1 of 5 mutations make the same checks red on kind and embedded\n"));
    }

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let run = run("kind", &[("a", ProvedVerdict::NotByEvidence, &["x"])]);
        let text = serde_json::to_string(&run).unwrap();
        assert!(text.contains("notByEvidence"), "{text}");
        assert_eq!(serde_json::from_str::<ProvedRun>(&text).unwrap(), run);
    }
}
