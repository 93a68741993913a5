//! `exceptions.yaml` in the scenarios folder: checks in quarantine, and checks that are not asked.
//!
//! An exception that nobody remembers hides a failure for ever. So each names something that is there, gives a reason, and
//! a quarantine ends on a day.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::civil::Date;

use super::diagnose::{Mistake, Source, suggest};
use super::load::Catalogue;
use super::raw_exceptions as raw;
use super::reader::{Fields, Reader};
use super::types::Scenario;
use super::yaml::{self, Node};
use crate::names::ScenarioId;

/// The file's name in the scenarios folder.
pub(super) const EXCEPTIONS_FILE: &str = "exceptions.yaml";

/// Why a failure does not count, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Why.
    pub reason: String,
    /// The last day on which it holds.
    pub until: Date,
}

/// What the file says of one scenario's checks, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Checks whose failure does not make the run red.
    pub quarantined: BTreeMap<String, Quarantine>,
    /// Checks that are not asked, with the reason.
    pub skipped: BTreeMap<String, String>,
    /// Why the whole scenario is not brought up.
    pub whole: Option<String>,
}

/// An entry that ends on a day, and where it is written.
#[derive(Debug, Clone)]
pub struct Ending {
    source: Source,
    at: Range<usize>,
    what: String,
    until: Date,
}

impl Catalogue {
    /// A mistake for each quarantine whose last day is before `today`.
    #[must_use]
    pub fn expired(&self, today: Date) -> Vec<Mistake> {
        let past = self.ending.iter().filter(|entry| entry.until < today);
        past.map(|entry| {
            let help = "mend it and take the entry away, or give it another day with a reason".to_owned();
            let message = format!("the quarantine of `{}` ended on {}, and today is {today}", entry.what, entry.until);
            Mistake::at(&entry.source, entry.at.clone(), message, Some(help))
        })
        .collect()
    }
}

/// What an entry names.
enum Named {
    Check(ScenarioId, String),
    Scenario(ScenarioId),
}

impl Named {
    fn shown(&self) -> String {
        match self {
            Self::Check(id, check) => format!("{id}::{check}"),
            Self::Scenario(id) => id.to_string(),
        }
    }
}

/// Reads the file, and writes what it says into the scenarios; mistakes become the catalogue's.
pub(super) fn apply(catalogue: &mut Catalogue, source: Source) {
    let (documents, error) = yaml::parse(&source.text);
    let mut r = Reader { source: source.clone(), mistakes: Vec::new() };
    if let Some(error) = error {
        r.wrong(error.at..error.at + 1, format!("not YAML: {}", error.message));
    } else if let Some(document) = documents.first().filter(|d| !d.is_null()) {
        if let Some(second) = documents.get(1) {
            r.wrong(second.point(), "the exceptions are one YAML document");
        }
        if let Some(file) = r.fields::<raw::ExceptionsFile>(document, "the exceptions") {
            read(&mut r, catalogue, &file, &source);
        }
    }
    catalogue.root_mistakes.append(&mut r.mistakes);
}

fn read(r: &mut Reader, catalogue: &mut Catalogue, file: &Fields<'_>, source: &Source) {
    for item in r.list_of(file, "skip") {
        let Some(fields) = r.fields::<raw::SkipFile>(item, "a skip") else { continue };
        let (named, reason) = (named(r, catalogue, &fields), reason(r, &fields));
        let (Some(named), Some(reason)) = (named, reason) else { continue };
        let twice = format!("`{}` is skipped twice", named.shown());
        let Some(scenario) = scenario(catalogue, &named) else { continue };
        let exceptions = &mut scenario.exceptions;
        let known = match named {
            Named::Check(_, check) => exceptions.skipped.insert(check, reason).is_some(),
            Named::Scenario(_) => exceptions.whole.replace(reason).is_some(),
        };
        if known {
            r.wrong(fields.at.clone(), twice);
        }
    }
    for item in r.list_of(file, "quarantine") {
        let Some(fields) = r.fields::<raw::QuarantineFile>(item, "a quarantine") else { continue };
        let (named, reason, until) = (named(r, catalogue, &fields), reason(r, &fields), until(r, &fields));
        let (Some(named), Some(reason), Some(until)) = (named, reason, until) else { continue };
        let what = named.shown();
        let Some(scenario) = scenario(catalogue, &named) else { continue };
        let checks: Vec<String> = match named {
            Named::Check(_, check) => vec![check],
            Named::Scenario(_) => scenario.checks.iter().map(|c| c.name.clone()).collect(),
        };
        let exceptions = &mut scenario.exceptions;
        for check in checks {
            let skipped = exceptions.whole.is_some() || exceptions.skipped.contains_key(&check);
            let quarantine = Quarantine { reason: reason.clone(), until };
            if skipped {
                r.wrong_help(fields.at.clone(), format!("`{check}` is skipped and in quarantine"), "one of the two says enough");
            } else if exceptions.quarantined.insert(check.clone(), quarantine).is_some() {
                r.wrong(fields.at.clone(), format!("`{check}` is in quarantine twice"));
            }
        }
        catalogue.ending.push(Ending { source: source.clone(), at: fields.at.clone(), what, until });
    }
}

/// None for one that is broken: what it has is not known then.
fn scenario<'c>(catalogue: &'c mut Catalogue, named: &Named) -> Option<&'c mut Scenario> {
    let (Named::Check(id, _) | Named::Scenario(id)) = named;
    catalogue.scenarios.iter_mut().find(|s| s.id == *id)
}

fn reason(r: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let text = r.line_of(fields, "reason");
    (!text.is_empty()).then_some(text)
}

fn until(r: &mut Reader, fields: &Fields<'_>) -> Option<Date> {
    let node = fields.get("until")?;
    let text = r.line(node, "`until`")?;
    let date = text.parse::<Date>().ok().filter(|_| text.len() == 10);
    if date.is_none() {
        r.wrong_help(node.point(), format!("`until` cannot be `{text}`"), "expected a day such as `2026-12-31`");
    }
    date
}

/// What an entry names, if that is there: an exception for nothing is a mistake.
fn named(r: &mut Reader, catalogue: &Catalogue, fields: &Fields<'_>) -> Option<Named> {
    match (fields.get("check"), fields.get("scenario")) {
        (Some(node), None) => {
            let text = r.line(node, "`check`")?;
            let Some((id, check)) = text.split_once("::") else {
                let help = "expected SCENARIO::CHECK, as `gateproof list` prints it";
                r.wrong_help(node.point(), format!("`{text}` is no check's name"), help);
                return None;
            };
            let id = known_scenario(r, catalogue, node, id)?;
            let check = check.to_owned();
            if let Some(scenario) = catalogue.get(&id)
                && !scenario.checks.iter().any(|c| c.name == check)
            {
                let help = suggest(&check, scenario.checks.iter().map(|c| c.name.as_str())).unwrap_or_default();
                r.wrong_help(node.point(), format!("`{id}` has no check `{check}`"), help);
                return None;
            }
            Some(Named::Check(id, check))
        }
        (None, Some(node)) => {
            let text = r.line(node, "`scenario`")?;
            known_scenario(r, catalogue, node, &text).map(Named::Scenario)
        }
        _ => {
            r.wrong_help(fields.at.clone(), "which check?", "expected exactly one of `check` and `scenario`");
            None
        }
    }
}

fn known_scenario(r: &mut Reader, catalogue: &Catalogue, node: &Node, text: &str) -> Option<ScenarioId> {
    let all = || catalogue.scenarios.iter().map(|s| &s.id).chain(catalogue.broken.iter().map(|b| &b.id));
    // A row of a scenario that is broken may be there once it is mended.
    let row_of = |id: &ScenarioId| text.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('/'));
    let broken = || catalogue.broken.iter().find(|b| row_of(&b.id)).and_then(|_| ScenarioId::new(text).ok());
    let found = all().find(|id| id.as_str() == text).cloned().or_else(broken);
    if found.is_none() {
        let help = suggest(text, all().map(ScenarioId::as_str).collect::<Vec<_>>()).unwrap_or_default();
        r.wrong_help(node.point(), format!("there is no scenario `{text}`"), help);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    const A: (&str, &str) = (
        "a/scenario.yaml",
        "title: t\nchecks: [{name: one, proves: p, versions: , expect: {agree: true}}, {name: two, proves: p, versions: , expect: {agree: true}}]\n",
    );
    const B: (&str, &str) =
        ("b/scenario.yaml", "title: t\nneeds: [a]\nchecks: [{name: one, proves: p, versions: , expect: {agree: true}}]\n");

    fn with(text: &str) -> Catalogue {
        load(&[A, B, ("exceptions.yaml", text)])
    }

    fn told(text: &str) -> Vec<String> {
        with(text).mistakes().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_file_says_stands_in_the_scenarios() {
        let catalogue = with(
            "quarantine:\n- {check: 'a::one', reason: seldom red, until: 2026-12-31}\nskip:\n- {scenario: b, reason: no image}\n- {check: 'a::two', reason: r}\n",
        );
        assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        let a = catalogue.get(&ScenarioId::new("a").unwrap()).unwrap();
        assert_eq!(a.exceptions.quarantined["one"].reason, "seldom red");
        assert_eq!(a.exceptions.skipped["two"], "r");
        let b = catalogue.get(&ScenarioId::new("b").unwrap()).unwrap();
        assert_eq!(b.exceptions.whole.as_deref(), Some("no image"));
    }

    #[test]
    fn a_scenario_in_quarantine_is_each_of_its_checks() {
        let catalogue = with("quarantine: [{scenario: a, reason: r, until: 2026-12-31}]\n");
        let a = catalogue.get(&ScenarioId::new("a").unwrap()).unwrap();
        assert_eq!(a.exceptions.quarantined.keys().collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn an_empty_file_says_nothing_and_elsewhere_the_name_means_nothing() {
        assert_eq!(told("# nothing\n"), Vec::<String>::new());
        assert_eq!(told("quarantine: []\nskip: []\n"), Vec::<String>::new());
        assert!(load(&[A, ("a/exceptions.yaml", "skip: []\n")]).mistakes().count() > 0);
    }

    #[test]
    fn an_exception_names_something_that_is_there_once_and_says_why() {
        for (text, wanted) in [
            ("skip: [{check: 'a::onee', reason: r}]", "`a` has no check `onee` (did you mean `one`?)"),
            ("skip: [{check: 'c::one', reason: r}]", "there is no scenario `c`"),
            ("skip: [{check: one, reason: r}]", "`one` is no check's name"),
            ("skip: [{scenario: c, reason: r}]", "there is no scenario `c`"),
            ("skip: [{check: 'a::one'}]", "a skip lacks `reason`"),
            ("skip: [{reason: r}]", "exactly one of `check` and `scenario`"),
            ("skip: [{check: 'a::one', scenario: a, reason: r}]", "exactly one of `check` and `scenario`"),
            ("skip: [{check: 'a::one', reason: r}, {check: 'a::one', reason: q}]", "skipped twice"),
            ("quarantine: [{check: 'a::one', reason: r}]", "a quarantine lacks `until`"),
            ("quarantine: [{check: 'a::one', reason: r, until: soon}]", "`until` cannot be `soon`"),
            ("quarantine: [{check: 'a::one', reason: r, until: 2026-02-30}]", "`until` cannot be `2026-02-30`"),
            (
                "quarantine: [{scenario: a, reason: r, until: 2026-12-31}, {check: 'a::one', reason: r, until: 2026-12-31}]",
                "in quarantine twice",
            ),
            (
                "skip: [{check: 'a::one', reason: r}]\nquarantine: [{check: 'a::one', reason: r, until: 2026-12-31}]",
                "skipped and in quarantine",
            ),
            ("skips: []", "did you mean `skip`?"),
        ] {
            let told = told(text);
            assert!(told.iter().any(|m| m.starts_with("scenarios/exceptions.yaml:") && m.contains(wanted)), "{text}: {told:#?}");
        }
    }

    #[test]
    fn an_entry_for_a_broken_scenario_is_no_second_mistake() {
        let catalogue = load(&[("a/scenario.yaml", "title: t\n"), ("exceptions.yaml", "skip: [{check: 'a::one', reason: r}]\n")]);
        assert_eq!(catalogue.root_mistakes.len(), 0, "{:?}", catalogue.root_mistakes);
    }

    #[test]
    fn a_quarantine_holds_to_the_end_of_its_last_day() {
        let catalogue = with("quarantine:\n- {check: 'a::one', reason: r, until: 2026-11-21}\n");
        let day = |text: &str| text.parse::<Date>().unwrap();
        assert!(catalogue.expired(day("2026-11-21")).is_empty());
        let past: Vec<String> = catalogue.expired(day("2026-11-22")).iter().map(ToString::to_string).collect();
        assert_eq!(past.len(), 1);
        assert!(
            past[0].starts_with("scenarios/exceptions.yaml:2:") && past[0].contains("quarantine of `a::one` ended on 2026-11-21"),
            "{past:?}"
        );
    }

    #[test]
    fn the_format_is_the_schema() {
        let validator = jsonschema::validator_for(&super::super::exceptions_schema()).unwrap();
        let value = |text: &str| yaml::parse(text).0[0].to_json();
        assert!(validator.is_valid(&value("skip: [{check: 'a::one', reason: r}]")));
        assert!(!validator.is_valid(&value("skip: [{check: 'a::one', because: r}]")));
    }

    #[test]
    fn the_committed_schema_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/exceptions.schema.json");
        let current = format!("{:#}\n", super::super::exceptions_schema());
        if std::env::var_os("GATEPROOF_BLESS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "scenarios/exceptions.schema.json is out of date: run with GATEPROOF_BLESS=1");
    }
}
