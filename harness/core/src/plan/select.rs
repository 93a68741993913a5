//! Which checks, beside their names: by their scenario's tags, and by a part of the whole for one of several machines.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::Plan;
use crate::names::ScenarioId;
use crate::scenario::{Catalogue, Scenario, closest};

/// Tags that a scenario must have one of, and tags that it may have none of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// One of these, where there is any.
    pub any_of: BTreeSet<String>,
    /// None of these.
    pub none_of: BTreeSet<String>,
}

impl Tags {
    /// From `--tag` (a name, or `!NAME` for scenarios without it) and `--not-tag`.
    ///
    /// # Errors
    /// When one is no tag of any scenario: what nobody has would select nothing, or leave nothing out, without a word.
    pub fn new(tags: &[String], not: &[String], catalogue: &Catalogue) -> Result<Self, String> {
        let known: BTreeSet<&str> = catalogue.scenarios.iter().flat_map(|s| &s.tags).map(String::as_str).collect();
        let mut out = Self::default();
        for (text, negated) in tags.iter().map(|t| (t.as_str(), false)).chain(not.iter().map(|t| (t.as_str(), true))) {
            let (name, negated) = text.strip_prefix('!').map_or((text, negated), |name| (name, !negated));
            if !known.contains(name) {
                let near = closest(name, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
                let all = || format!("; there is {}", known.iter().copied().collect::<Vec<_>>().join(", "));
                return Err(format!("no scenario has the tag `{name}`{}", near.unwrap_or_else(all)));
            }
            if negated { &mut out.none_of } else { &mut out.any_of }.insert(name.to_owned());
        }
        Ok(out)
    }

    /// Whether a scenario is selected.
    #[must_use]
    pub fn select(&self, scenario: &Scenario) -> bool {
        let has = |tags: &BTreeSet<String>| scenario.tags.iter().any(|t| tags.contains(t));
        (self.any_of.is_empty() || has(&self.any_of)) && !has(&self.none_of)
    }
}

/// One of several parts of a run: `2/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    index: usize,
    of: usize,
}

/// More parts than anybody has machines.
const SHARDS: usize = 1000;

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((index, of)) if index >= 1 && index <= of && of <= SHARDS => Ok(Self { index, of }),
            _ => Err(format!("expected INDEX/COUNT such as `2/5`, counted from 1, and at most {SHARDS} parts")),
        }
    }
}

impl Shard {
    /// The scenarios of a plan that belong to this part. All parts together are all scenarios, and none is in two.
    ///
    /// A scenario is not divided: its states follow one another on one cluster. What it needs stands beneath it in whatever
    /// part it is, and the checks of what it needs are asked in one part only. The heaviest goes to the part that has
    /// least so far, so that all take about as long; the same files and filters give the same parts on every machine.
    #[must_use]
    pub fn of(self, plan: &Plan) -> BTreeSet<ScenarioId> {
        let mut weights: Vec<(usize, &ScenarioId)> = plan
            .scenarios
            .iter()
            .map(|p| {
                // Bringing a state about costs about as much as asking four checks in it.
                let checks = p.selected_checks().count();
                (checks + 4 * p.stages.len(), &p.scenario.id)
            })
            .collect();
        let unasked: BTreeSet<&ScenarioId> = plan.skipped.iter().map(|s| &s.scenario.id).collect();
        weights.extend(unasked.into_iter().filter(|id| plan.scenarios.iter().all(|p| p.scenario.id != **id)).map(|id| (0, id)));
        weights.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
        let mut parts: Vec<(usize, BTreeSet<ScenarioId>)> = vec![Default::default(); self.of];
        for (weight, id) in weights {
            // What is only skipped goes where something is asked: a part of nothing else would bring up a cluster for it.
            let somewhere = weight == 0 && parts.iter().any(|(sum, _)| *sum > 0);
            if let Some(least) = parts.iter_mut().filter(|(sum, _)| !somewhere || *sum > 0).min_by_key(|(sum, _)| *sum) {
                least.0 += weight;
                least.1.insert(id.clone());
            }
        }
        parts.into_iter().nth(self.index - 1).map(|(_, ids)| ids).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::plan;
    use crate::scenario::tests::load;

    fn catalogue(scenarios: &[(usize, &str)]) -> Catalogue {
        let texts: Vec<(String, String)> = scenarios
            .iter()
            .enumerate()
            .map(|(n, (checks, tags))| {
                let mut text = format!("title: t\ntags: [{tags}]\n");
                if n > 0 {
                    text.push_str("needs: [s0]\n");
                }
                text.push_str("checks:\n");
                for c in 0..*checks {
                    let _ = writeln!(text, "- {{name: c{c}, proves: p, versions: , expect: {{agree: true}}}}");
                }
                (format!("s{n}/scenario.yaml"), text)
            })
            .collect();
        let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let catalogue = load(&files);
        assert_eq!(catalogue.mistakes().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        catalogue
    }

    fn tagged(tags: &[&str], not: &[&str]) -> Result<Vec<String>, String> {
        let catalogue = catalogue(&[(1, "ingress"), (1, "ingress, slow"), (1, "egress")]);
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let tags = Tags::new(&owned(tags), &owned(not), &catalogue)?;
        Ok(catalogue.scenarios.iter().filter(|s| tags.select(s)).map(|s| s.id.to_string()).collect())
    }

    #[test]
    fn any_wanted_tag_selects_and_any_unwanted_leaves_out() {
        assert_eq!(tagged(&[], &[]).unwrap(), ["s0", "s1", "s2"]);
        assert_eq!(tagged(&["ingress"], &[]).unwrap(), ["s0", "s1"]);
        assert_eq!(tagged(&["slow", "egress"], &[]).unwrap(), ["s1", "s2"]);
        assert_eq!(tagged(&["ingress", "!slow"], &[]).unwrap(), ["s0"]);
        assert_eq!(tagged(&["ingress"], &["slow"]).unwrap(), ["s0"]);
        assert_eq!(tagged(&["!slow"], &[]).unwrap(), ["s0", "s2"]);
    }

    #[test]
    fn a_tag_that_nobody_has_is_told() {
        assert_eq!(tagged(&["ingres"], &[]).unwrap_err(), "no scenario has the tag `ingres`; did you mean `ingress`?");
        assert!(tagged(&["!quick"], &[]).unwrap_err().contains("there is egress, ingress, slow"));
    }

    #[test]
    fn a_shard_is_written_from_one() {
        assert!("1/1".parse::<Shard>().is_ok() && "5/5".parse::<Shard>().is_ok());
        for bad in ["0/5", "6/5", "1/0", "1", "a/b", "-1/2", ""] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn all_shards_are_everything_and_none_has_a_scenario_twice(sizes in prop::collection::vec(1usize..9, 1..12), of in 1usize..8) {
            let scenarios: Vec<(usize, &str)> = sizes.iter().map(|n| (*n, "t")).collect();
            let plan = plan(&catalogue(&scenarios), &|_, _| true);
            let parts: Vec<BTreeSet<ScenarioId>> = (1..=of).map(|index| Shard { index, of }.of(&plan)).collect();
            let mut all: Vec<ScenarioId> = parts.iter().flatten().cloned().collect();
            all.sort();
            let wanted: BTreeSet<ScenarioId> = plan.scenarios.iter().map(|p| p.scenario.id.clone()).collect();
            prop_assert_eq!(all, wanted.into_iter().collect::<Vec<_>>());
            // None has more than the lightest and one scenario beside.
            let weight = |ids: &BTreeSet<ScenarioId>| plan.scenarios.iter().filter(|p| ids.contains(&p.scenario.id)).map(|p| p.selected_checks().count() + 4).sum::<usize>();
            let (least, most) = (parts.iter().map(weight).min().unwrap(), parts.iter().map(weight).max().unwrap());
            prop_assert!(most <= least + 12, "{} and {}", least, most);
        }
    }
}
