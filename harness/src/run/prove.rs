//! Is every change noticed? Each manifest left out and each telling field bent, one at a time, on the intact state;
//! then the intact checks are asked, and at least one has to be red by traffic, a log, a proxy's configuration
//! or what an object says.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::{StreamExt, stream};
use gateproof_core::outcome::json_match::glob;
use gateproof_core::outcome::{EvidenceKind, Mismatch, Outcome};
use gateproof_core::parity::{ProvedMutation, ProvedRun, ProvedVerdict};
use gateproof_core::plan::{Mutation, PlannedScenario, StateObjects, changed, mutations};
use gateproof_core::report::CheckRecord;
use gateproof_core::scenario::{INTACT, Scenario};

use super::check::{self, Attempts};
use super::engine::{AT_ONCE, Engine};

/// What became of one mutation.
#[derive(Debug, Clone)]
pub struct Proved {
    /// The scenario and the mutation.
    pub id: String,
    /// What was done, for people.
    pub about: String,
    /// How it went.
    pub verdict: Noticed,
    /// Every check that was red, by evidence or not.
    pub red: BTreeSet<String>,
    /// Seconds, applying and asking included.
    pub took: f64,
}

/// How a mutation was noticed, if it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticed {
    /// By these checks, each with its first telling mismatch.
    By(Vec<(String, Mismatch)>),
    /// The API refused it: no state to notice anything in.
    Refused(String),
    /// Red by set-up, a time-out or an analysis alone, which does not count.
    NotByEvidence(String),
    /// Every check stayed green.
    No,
    /// A hole of which the scenario says why it is one.
    Explained {
        /// The reason.
        why: String,
        /// What it is.
        hole: Box<Noticed>,
    },
}

impl Noticed {
    /// Whether this is a hole in the scenario.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        matches!(self, Self::No | Self::NotByEvidence(_))
    }
}

/// The part of a scenario's mutations that one session takes where several share them: every `of`-th, from the `nth` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which part, from 0.
    pub nth: usize,
    /// Of how many.
    pub of: usize,
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self { nth: 0, of: 1 };

    /// The items that are this part's, with their places among all.
    fn of<T>(self, all: Vec<T>) -> Vec<(usize, T)> {
        all.into_iter().enumerate().filter(|(place, _)| place % self.of.max(1) == self.nth).collect()
    }
}

/// Proves one scenario, or a share of it; `report` is told of each mutation as it is done. The scenario's intact checks must be
/// green first. Each result comes with the mutation's place among the wanted ones.
///
/// # Errors
/// When the intact scenario cannot be brought up or is not green: then nothing can be said of its mutations.
pub async fn prove(
    engine: &mut Engine,
    planned: &PlannedScenario,
    wanted: &dyn Fn(&Mutation) -> bool,
    share: Share,
    report: &mut (dyn FnMut(&Proved) + Send),
) -> Result<Vec<(usize, Proved)>, String> {
    let scenario = planned.scenario.clone();
    let ours = share.of(mutations(&scenario).into_iter().filter(|m| wanted(m)).collect());
    if ours.is_empty() && share != Share::ALL {
        return Ok(Vec::new());
    }
    let intact = StateObjects::intact(&scenario);
    let (red, error) = attempt(engine, planned, INTACT, &intact, Attempts::default(), None).await;
    if let Some(error) = error {
        return Err(error);
    }
    if let Some(first) = red.iter().find(|c| !c.outcome.is_green()) {
        return Err(format!("the intact scenario is not green: `{}`: {:?}", first.name, first.outcome));
    }
    let limit = engine.world.line_limit;
    let declared: BTreeSet<String> = scenario.manifests.iter().flat_map(|m| &m.objects).map(|o| o.key.to_string()).collect();
    let mut all = Vec::new();
    for (place, mutation) in ours {
        let began = Instant::now();
        let mut red = BTreeSet::new();
        let verdict = match changed(&scenario, &mutation.changes) {
            Err(error) => Noticed::Refused(format!("the change does not fit: {error}")),
            Ok(target) => {
                // Red counts only when it is red again with the full wait: a line that came late is no evidence. Most
                // mutations are noticed by a line that never comes, so the first look waits for less.
                engine.world.line_limit = limit * 2 / 5;
                let once = Attempts { at_most: 1, ..Attempts::default() };
                let (checks, error) = attempt(engine, planned, &mutation.id, &target, once, None).await;
                engine.world.line_limit = limit;
                red = red_of(&checks);
                match verdict(&checks, error, &declared) {
                    Noticed::By(by) => {
                        let first: Vec<&str> = by.iter().take(3).map(|(name, _)| name.as_str()).collect();
                        let (again, error) = attempt(engine, planned, &mutation.id, &target, once, Some(&first)).await;
                        let still = red_of(&again);
                        red.retain(|name| still.contains(name) || !first.contains(&name.as_str()));
                        verdict(&again, error, &declared)
                    }
                    other => other,
                }
            }
        };
        let explained = scenario.unnoticed.iter().find(|u| verdict.is_hole() && glob(&u.change, &mutation.id));
        let verdict = match explained {
            Some(explained) => Noticed::Explained { why: explained.why.clone(), hole: Box::new(verdict) },
            None => verdict,
        };
        let id = format!("{}: {}", scenario.id, mutation.id);
        let proved = Proved { id, about: mutation.about, verdict, red, took: began.elapsed().as_secs_f64() };
        report(&proved);
        all.push((place, proved));
    }
    Ok(all)
}

fn red_of(checks: &[CheckRecord]) -> BTreeSet<String> {
    checks.iter().filter(|c| !c.outcome.is_green()).map(|c| c.name.clone()).collect()
}

/// What is kept of a run, to hold another provider's against it.
#[must_use]
pub fn kept(provider: &str, all: &[Proved]) -> ProvedRun {
    fn verdict(noticed: &Noticed) -> ProvedVerdict {
        match noticed {
            Noticed::By(_) => ProvedVerdict::Noticed,
            Noticed::Refused(_) => ProvedVerdict::Refused,
            Noticed::NotByEvidence(_) => ProvedVerdict::NotByEvidence,
            Noticed::No => ProvedVerdict::NotNoticed,
            Noticed::Explained { hole, .. } => verdict(hole),
        }
    }
    let mutations = all.iter().map(|p| ProvedMutation { id: p.id.clone(), verdict: verdict(&p.verdict), red: p.red.clone() });
    ProvedRun { provider: provider.to_owned(), mutations: mutations.collect() }
}

async fn attempt(
    engine: &mut Engine,
    planned: &PlannedScenario,
    state: &str,
    target: &StateObjects,
    attempts: Attempts,
    only: Option<&[&str]>,
) -> (Vec<CheckRecord>, Option<String>) {
    let (_, since, refusals) = match engine.enter(planned, state, "", target).await {
        Ok(standing) => standing,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let scenario = &planned.scenario;
    let wanted = |name: &str| only.is_none_or(|names| names.contains(&name));
    // A check that is seldom right on the intact scenario is no witness against a bent one.
    let excepted = |name: &String| scenario.exceptions.quarantined.contains_key(name) || scenario.exceptions.skipped.contains_key(name);
    let intact = scenario.checks.iter().filter(|c| c.given == INTACT && wanted(&c.name) && !excepted(&c.name));
    let asked = intact.map(|c| check::run(&engine.world, c, &since, &refusals, attempts));
    (stream::iter(asked).buffer_unordered(AT_ONCE).collect().await, None)
}

/// `declared` are the objects that the scenario's manifests have, in words.
fn verdict(checks: &[CheckRecord], error: Option<String>, declared: &BTreeSet<String>) -> Noticed {
    if let Some(error) = error {
        // The API's refusal is about the object, not about the mesh; anything else is a set-up that failed.
        let refused = error.contains("denied the request") || error.contains("is invalid");
        return if refused { Noticed::Refused(error) } else { Noticed::NotByEvidence(error) };
    }
    let mut by = Vec::new();
    let mut others = Vec::new();
    for check in checks {
        match &check.outcome {
            // A call that timed out leaves no lines either: nothing of such a check is evidence.
            Outcome::Failed { mismatches } if mismatches.iter().any(|m| m.observed.contains("timed out")) => {
                others.push(format!("`{}` timed out", check.name));
            }
            Outcome::Failed { mismatches } => match mismatches.iter().find(|m| is_evidence(m, declared)) {
                Some(mismatch) => by.push((check.name.clone(), mismatch.clone())),
                None => others.extend(mismatches.first().map(|m| format!("`{}`: {}: {}", check.name, m.what, m.observed))),
            },
            Outcome::Error { message } => others.push(format!("`{}`: {message}", check.name)),
            _ => {}
        }
    }
    match (by.is_empty(), others.is_empty()) {
        (false, _) => Noticed::By(by),
        (true, false) => Noticed::NotByEvidence(others.join("; ")),
        (true, true) => Noticed::No,
    }
}

fn is_evidence(mismatch: &Mismatch, declared: &BTreeSet<String>) -> bool {
    let kind = match mismatch.by {
        EvidenceKind::Traffic | EvidenceKind::Log | EvidenceKind::ProxyConfig => true,
        // A manifest that is read back says what was written into it; what a controller made of it is evidence.
        EvidenceKind::Object => {
            let own = declared.iter().find_map(|object| mismatch.what.strip_prefix(object.as_str())?.strip_prefix(' '));
            own.is_none_or(|at| at.starts_with("$.status") || (at == "cel" && mismatch.expected.contains("object.status")))
        }
        _ => false,
    };
    // A refused push is put on every check of the state; it is not what the check looked at.
    kind && mismatch.what != "configuration" && !mismatch.observed.contains("timed out")
}

/// The results as a Markdown table, holes first, with the score.
#[must_use]
pub fn table(all: &[Proved]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut rows: Vec<&Proved> = all.iter().collect();
    rows.sort_by_key(|p| !p.verdict.is_hole());
    let mut out = String::from("| mutation | noticed by | seen | took |\n| --- | --- | --- | --- |\n");
    for proved in rows {
        let (by, seen) = match &proved.verdict {
            Noticed::By(checks) => {
                let (name, first) = &checks[0];
                let more = if checks.len() > 1 { format!(" and {} more", checks.len() - 1) } else { String::new() };
                (format!("{name}{more}"), format!("{}: expected {}, observed {}", first.what, first.expected, first.observed))
            }
            Noticed::Refused(why) => ("the API refused it".to_owned(), why.clone()),
            Noticed::NotByEvidence(why) => ("**NOT by evidence**".to_owned(), why.clone()),
            Noticed::No => ("**NOT NOTICED**".to_owned(), "every check stayed green".to_owned()),
            Noticed::Explained { why, .. } => ("not noticed, as the scenario says".to_owned(), why.clone()),
        };
        let seen: String = seen.chars().take(260).collect();
        out.push_str(&format!(
            "| {} | {} | {} | {:.1} s |\n",
            cell(&format!("{} ({})", proved.id, proved.about)),
            cell(&by),
            cell(&seen),
            proved.took
        ));
    }
    let count = |f: fn(&Noticed) -> bool| all.iter().filter(|p| f(&p.verdict)).count();
    let refused = count(|v| matches!(v, Noticed::Refused(_)));
    let noticed = count(|v| matches!(v, Noticed::By(_)));
    let explained = count(|v| matches!(v, Noticed::Explained { .. }));
    out.push_str(&format!(
        "\n{noticed} of {} mutations noticed by evidence, {explained} explained, {refused} refused by the API\n",
        all.len() - refused
    ));
    out
}

/// Explanations of a scenario of which every mutation was tried and noticed: they are not true any more.
#[must_use]
pub fn explained_in_vain(scenario: &Scenario, all: &[Proved]) -> Vec<String> {
    let id = |mutation: &str| format!("{}: {mutation}", scenario.id);
    let made: Vec<String> = mutations(scenario).into_iter().map(|m| m.id).collect();
    let noticed = |mutation: &&String| all.iter().any(|p| p.id == id(mutation) && matches!(p.verdict, Noticed::By(_)));
    let in_vain = |change: &str| made.iter().filter(|m| glob(change, m)).all(|m| noticed(&m));
    scenario.unnoticed.iter().filter(|u| in_vain(&u.change)).map(|u| id(&u.change)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mismatch(by: EvidenceKind, observed: &str) -> Mismatch {
        Mismatch { what: "status".into(), expected: "200".into(), observed: observed.into(), by }
    }

    #[test]
    fn shares_are_all_of_it_once() {
        let all: Vec<char> = ('a'..='k').collect();
        let mut taken: Vec<(usize, char)> = (0..4).flat_map(|nth| Share { nth, of: 4 }.of(all.clone())).collect();
        taken.sort_unstable();
        assert_eq!(taken, all.iter().copied().enumerate().collect::<Vec<_>>());
        assert_eq!(Share::ALL.of(all.clone()).len(), all.len());
    }

    #[test]
    fn a_manifest_read_back_is_no_evidence_and_what_became_of_it_is() {
        let declared = BTreeSet::from(["Gateway a/b".to_owned()]);
        let says = |what: &str| {
            let mismatch = Mismatch { what: what.into(), ..mismatch(EvidenceKind::Object, "2") };
            is_evidence(&mismatch, &declared)
        };
        assert!(!says("Gateway a/b $.spec.listeners[0].port"));
        assert!(says("Gateway a/b $.status.conditions"));
        assert!(says("Deployment a/b-istio $.spec.replicas"), "istiod made it");
        assert!(!says("Gateway a/b cel") && !says("Gateway a/b $"));
        let mut read = mismatch(EvidenceKind::Object, "false");
        (read.what, read.expected) = ("Gateway a/b cel".into(), "true: object.status.addresses.size() == 1".into());
        assert!(is_evidence(&read, &declared));
    }

    #[test]
    fn an_explanation_is_in_vain_when_all_that_it_speaks_of_is_noticed() {
        let files = [
            ("s/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\n"),
            (
                "s/scenario.yaml",
                "title: t\nmanifests: [m.yaml]\nunnoticed: [{change: 'without *', why: w}]\n\
                 checks: [{name: a, proves: p, pods: {of: [istio-system/istiod]}, expect: {ready: 1/1}}]\n",
            ),
        ];
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("s")).unwrap();
        files.iter().for_each(|(path, text)| std::fs::write(dir.path().join(path), text).unwrap());
        let catalogue = gateproof_core::scenario::load_catalogue(dir.path());
        let scenario = &catalogue.scenarios[0];
        let proved = |verdict| Proved { id: "s: without m.yaml".into(), about: String::new(), verdict, red: BTreeSet::new(), took: 0.0 };
        let by = Noticed::By(vec![("a".into(), mismatch(EvidenceKind::Traffic, "503"))]);
        let explained = Noticed::Explained { why: "w".into(), hole: Box::new(Noticed::No) };
        assert_eq!(explained_in_vain(scenario, &[proved(by)]), ["s: without *"]);
        assert!(explained_in_vain(scenario, &[proved(explained)]).is_empty());
        assert!(explained_in_vain(scenario, &[]).is_empty(), "it was not tried");
    }

    #[test]
    fn an_analysis_or_a_time_out_alone_is_no_evidence() {
        let is_evidence = |mismatch: &Mismatch| is_evidence(mismatch, &BTreeSet::new());
        assert!(is_evidence(&mismatch(EvidenceKind::Traffic, "503")));
        assert!(!is_evidence(&mismatch(EvidenceKind::Analysis, "IST0101")));
        assert!(!is_evidence(&mismatch(EvidenceKind::State, "1/2")));
        assert!(!is_evidence(&mismatch(EvidenceKind::Traffic, "timed out")));
    }
}
