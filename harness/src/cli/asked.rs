//! What a command is asked for: scenarios without a mistake, and of their checks those that were named.

use std::io::IsTerminal;
use std::path::Path;

use anstream::eprintln;
use gateproof_core::names::ScenarioId;
use gateproof_core::plan::{Plan, Shard, Tags, plan};
use gateproof_core::scenario::{Catalogue, ValueOverrides, load_catalogue_with};

use super::{Common, EXIT_INPUT};
use crate::run::trials::{today, trial_name};

/// Which checks.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct SelectFlags {
    /// Parts of check names, such as `10-ingress` or `20-egress::before`; all checks when there is none
    pub filters: Vec<String>,
    /// Only scenarios with this tag; several mean any of them, and `!TAG` means without it
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Only scenarios without this tag
    #[arg(long = "not-tag", value_name = "TAG", value_delimiter = ',')]
    pub not_tags: Vec<String>,
    /// One part of several of all that, such as `2/5`, for several machines: all parts are everything, and none is in two.
    /// A scenario is not divided; what it needs stands beneath it in any part
    #[arg(long, value_name = "INDEX/COUNT")]
    pub shard: Option<Shard>,
}

/// Every scenario, or exit code 2 with every mistake printed: nothing is touched before the input is right.
pub(super) fn catalogue(common: &Common) -> Result<Catalogue, u8> {
    catalogue_with(&common.scenarios, &common.overrides()?)
}

/// The same of a folder, with these values.
pub(super) fn catalogue_with(root: &Path, overrides: &ValueOverrides) -> Result<Catalogue, u8> {
    let catalogue = load_catalogue_with(root, overrides);
    let colour = std::io::stderr().is_terminal();
    let mut mistakes = 0;
    for mistake in catalogue.mistakes() {
        mistakes += 1;
        eprintln!("{}\n", mistake.render(colour));
    }
    if mistakes > 0 {
        let all = catalogue.broken.len() + catalogue.scenarios.len();
        // Where no scenario was found there is nothing to count.
        if all > 0 {
            eprintln!("{} in {} of {}", counted(mistakes, "mistake"), catalogue.broken.len(), counted(all, "scenario"));
        }
        return Err(EXIT_INPUT);
    }
    if catalogue.scenarios.is_empty() {
        eprintln!("no scenario below {}: a scenario is a directory with a scenario.yaml", root.display());
        return Err(EXIT_INPUT);
    }
    Ok(catalogue)
}

/// So many of something.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A plan of the checks that some filter hits.
pub(super) fn selected(catalogue: &Catalogue, filters: &[String]) -> Result<Plan, u8> {
    known(catalogue, filters)?;
    let hits = |scenario: &ScenarioId, check: &str| {
        let name = trial_name(scenario, check);
        filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()))
    };
    Ok(plan(catalogue, &hits))
}

/// Exit code 2 where a filter is in no check's name.
fn known(catalogue: &Catalogue, filters: &[String]) -> Result<(), u8> {
    for filter in filters {
        let lost = !catalogue.scenarios.iter().any(|s| s.checks.iter().any(|c| trial_name(&s.id, &c.name).contains(filter.as_str())));
        if lost {
            eprintln!("error: no check's name has `{filter}` in it; `gateproof list` prints them all");
            return Err(EXIT_INPUT);
        }
    }
    Ok(())
}

/// The same by tags and shard too. A shard may be empty, where there are fewer scenarios than shards.
pub(super) fn select(catalogue: &Catalogue, flags: &SelectFlags) -> Result<Plan, u8> {
    let tags = Tags::new(&flags.tags, &flags.not_tags, catalogue).map_err(|why| {
        eprintln!("error: {why}");
        EXIT_INPUT
    })?;
    // Names that nothing has are told before tags take anything away.
    known(catalogue, &flags.filters)?;
    let hits = |id: &ScenarioId, check: &str| {
        let name = trial_name(id, check);
        let named = flags.filters.is_empty() || flags.filters.iter().any(|f| name.contains(f.as_str()));
        named && catalogue.get(id).is_some_and(|scenario| tags.select(scenario))
    };
    let whole = plan(catalogue, &hits);
    if whole.scenarios.is_empty() && whole.skipped.is_empty() {
        eprintln!("error: no check with that name is in a scenario with those tags");
        return Err(EXIT_INPUT);
    }
    let Some(shard) = flags.shard else { return Ok(whole) };
    let ids = shard.of(&whole);
    Ok(plan(catalogue, &|id, check| ids.contains(id) && hits(id, check)))
}

/// Tells of every quarantine whose last day is past: it has to be looked at before anything is run.
pub(super) fn not_expired(catalogue: &Catalogue) -> Result<(), u8> {
    let colour = std::io::stderr().is_terminal();
    let past = catalogue.expired(today());
    past.iter().for_each(|mistake| eprintln!("{}\n", mistake.render(colour)));
    if past.is_empty() { Ok(()) } else { Err(EXIT_INPUT) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(plan: &Plan) -> BTreeSet<String> {
        let planned = plan.scenarios.iter().flat_map(|p| p.selected_checks().map(move |i| (&p.scenario, i)));
        planned.map(|(s, i)| trial_name(&s.id, &s.checks[i].name)).collect()
    }

    #[test]
    fn filters_tags_and_shards_go_together_over_the_repositorys_scenarios() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let catalogue = gateproof_core::scenario::load_catalogue(&root);
        let tags = vec!["ingress".to_owned(), "!isolation".to_owned(), "egress".to_owned()];
        let flags = SelectFlags { tags, ..SelectFlags::default() };
        let whole = names(&select(&catalogue, &flags).unwrap());
        assert!(whole.iter().any(|n| n.starts_with("10-ingress::")) && !whole.iter().any(|n| n.starts_with("20-egress/dual-gateway::")));
        let mut together = BTreeSet::new();
        for shard in ["1/3", "2/3", "3/3"] {
            let part = names(&select(&catalogue, &SelectFlags { shard: shard.parse().ok(), ..flags.clone() }).unwrap());
            assert!(together.is_disjoint(&part), "{shard}");
            together.extend(part);
        }
        assert_eq!(together, whole);
        let none = SelectFlags { filters: vec!["10-ingress".to_owned()], not_tags: vec!["ingress".to_owned()], ..SelectFlags::default() };
        assert_eq!(select(&catalogue, &none).unwrap_err(), EXIT_INPUT);
    }
}
