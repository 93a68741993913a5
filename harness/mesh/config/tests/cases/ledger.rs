//! The committed score: what fails with its reason, what was not told, and below which numbers nothing may fall.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::check::Check;

/// What is committed beside the cases.
#[derive(Debug)]
pub(crate) struct Ledger {
    floor: BTreeMap<String, Score>,
    misses: Vec<Miss>,
    untold: Vec<Untold>,
}

/// A score of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Score {
    passed: usize,
    total: usize,
}

/// Checks that fail for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Miss {
    class: Class,
    reason: String,
    checks: Vec<String>,
}

/// What kind of reason it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Class {
    /// The simulation leaves it out.
    NotSimulated,
    /// What Istio's test says is not what a proxy does, or not what the release that is simulated does.
    Doubt,
    /// It should hold.
    Bug,
}

/// A case that is not among the files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Untold {
    case: String,
    reason: String,
}

/// What came of it.
pub(crate) struct Verdict {
    /// A table, then each miss.
    pub(crate) report: String,
    /// What makes the test fail.
    pub(crate) complaints: Vec<String>,
}

impl Ledger {
    /// Reads `floor.yaml`, `misses.yaml` and `untold.yaml`.
    pub(crate) fn read(folder: &Path) -> Self {
        fn of<T: for<'a> Deserialize<'a>>(folder: &Path, name: &str) -> T {
            let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
        }
        Self { floor: of(folder, "floor.yaml"), misses: of(folder, "misses.yaml"), untold: of(folder, "untold.yaml") }
    }

    /// Holds the checks against it.
    pub(crate) fn judge(&self, checks: &BTreeMap<String, Vec<Check>>) -> Verdict {
        let mut listed: BTreeMap<&str, (&Miss, bool)> = BTreeMap::new();
        let mut complaints = Vec::new();
        for miss in &self.misses {
            for id in &miss.checks {
                if listed.insert(id, (miss, false)).is_some() {
                    complaints.push(format!("listed twice: {id}"));
                }
            }
        }
        let (mut table, mut lines) = (String::new(), String::new());
        let mut all = Score::default();
        let mut all_asked = 0;
        let mut by_reason: BTreeMap<String, usize> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        for (file, checks) in checks {
            let mut score = Score { passed: 0, total: checks.len() };
            let asked = checks.iter().filter(|check| check.needs.is_none()).count();
            // By case and need: whether anything of it differs still.
            let mut needs: BTreeMap<(&str, &str), bool> = BTreeMap::new();
            for check in checks {
                if !ids.insert(check.id.as_str()) {
                    complaints.push(format!("two checks have one name: {}", check.id));
                }
                if let Some(need) = &check.needs {
                    *needs.entry((test_of(&check.id), need)).or_default() |= check.difference.is_some();
                    *by_reason.entry(format!("needs {need}")).or_default() += 1;
                    continue;
                }
                match (&check.difference, listed.get_mut(check.id.as_str())) {
                    (None, None) => score.passed += 1,
                    (None, Some((_, seen))) => {
                        score.passed += 1;
                        *seen = true;
                        complaints.push(format!("listed as a miss, and holds: {}", check.id));
                    }
                    (Some(difference), Some((miss, seen))) => {
                        *seen = true;
                        *by_reason.entry(format!("{:?}: {}", miss.class, miss.reason)).or_default() += 1;
                        let _ = writeln!(lines, "  {}\n    {difference}\n    {:?}: {}", check.id, miss.class, miss.reason);
                    }
                    (Some(difference), None) => complaints.push(format!("fails, and is not listed: {}\n    {difference}", check.id)),
                }
            }
            for ((test, need), differs) in needs {
                let _ = writeln!(lines, "  {test}: needs {need}");
                if !differs {
                    complaints.push(format!("holds in full, and is said to need {need}: {test}"));
                }
            }
            let floor = self.floor.get(file).copied().unwrap_or_default();
            if score.passed < floor.passed || score.total < floor.total {
                complaints
                    .push(format!("{file}: {} of {}, below the floor of {} of {}", score.passed, score.total, floor.passed, floor.total));
            }
            if score != floor {
                let _ = writeln!(lines, "  {file}: the floor may be {{passed: {}, total: {}}}", score.passed, score.total);
            }
            let _ = writeln!(table, "{}", line(file, score, asked));
            all_asked += asked;
            all.passed += score.passed;
            all.total += score.total;
        }
        complaints
            .extend(self.floor.keys().filter(|file| !checks.contains_key(*file)).map(|file| format!("no such file any more: {file}")));
        complaints.extend(listed.iter().filter(|(_, (_, seen))| !seen).map(|(id, _)| format!("listed as a miss, and is not asked: {id}")));
        let _ = writeln!(table, "{}", line("all", all, all_asked));
        let _ = writeln!(table, "\nnot told as data: {}", self.untold.len());
        for untold in &self.untold {
            let _ = writeln!(table, "  {}: {}", untold.case, untold.reason);
        }
        let mut reasons: Vec<(&String, &usize)> = by_reason.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let _ = writeln!(table, "\nmisses by reason:");
        for (reason, count) in reasons {
            let _ = writeln!(table, "{count:>5}  {reason}");
        }
        Verdict { report: format!("{table}\nmisses:\n{lines}"), complaints }
    }
}

/// `FILE/TEST` of a check.
fn test_of(id: &str) -> &str {
    let end = id.match_indices('/').nth(1).map_or(id.len(), |(at, _)| at);
    id.get(..end).unwrap_or(id)
}

/// A line of the table. What is asked leaves out what is not simulated on purpose.
fn line(name: &str, score: Score, asked: usize) -> String {
    let percent = |total: usize| (score.passed * 100).checked_div(total).unwrap_or(0);
    let Score { passed, total } = score;
    format!("{name:<22} {passed:>4} of {total:>4}  {:>3} %   of {asked:>4} asked  {:>3} %", percent(total), percent(asked))
}

#[test]
fn the_ledger_is_held_against_what_came() {
    let check = |id: &str, needs: Option<&str>, holds: bool| Check {
        id: format!("file/test/{id}"),
        needs: needs.map(str::to_owned),
        difference: (!holds).then(|| "differs".to_owned()),
    };
    let miss = |ids: &[&str]| Miss {
        class: Class::Doubt,
        reason: "a reason".to_owned(),
        checks: ids.iter().map(|id| format!("file/test/{id}")).collect(),
    };
    let judge = |misses: Vec<Miss>, passed: usize, checks: Vec<Check>| {
        let floor = BTreeMap::from([("file".to_owned(), Score { passed, total: checks.len() })]);
        Ledger { floor, misses, untold: Vec::new() }.judge(&BTreeMap::from([("file".to_owned(), checks)])).complaints
    };
    let checks = || vec![check("a", None, true), check("b", None, false), check("c", Some("d"), true), check("e", Some("d"), false)];
    assert_eq!(judge(vec![miss(&["b"])], 1, checks()), [""; 0]);
    assert_eq!(judge(vec![miss(&["b"])], 2, checks()), ["file: 1 of 4, below the floor of 2 of 4"]);
    assert_eq!(judge(vec![], 1, checks()), ["fails, and is not listed: file/test/b\n    differs"]);
    assert_eq!(judge(vec![miss(&["a", "b"])], 1, checks()), ["listed as a miss, and holds: file/test/a"]);
    assert_eq!(judge(vec![miss(&["b", "x"])], 1, checks()), ["listed as a miss, and is not asked: file/test/x"]);
    let met = vec![check("c", Some("d"), true), check("e", Some("d"), true)];
    assert_eq!(judge(vec![], 0, met), ["holds in full, and is said to need d: file/test"]);
    let twice = vec![check("a", None, true), check("a", None, true)];
    assert_eq!(judge(vec![], 2, twice), ["two checks have one name: file/test/a"]);
}
