//! What to type to have all of a report again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gateproof_core::plan::Plan;
use gateproof_core::report::{AgainRecord, ScenarioRecord};
use gateproof_core::scenario::{INTACT, Scenario, ValueSource, value_variable};

use crate::provider::{Choice, Internet, KindFiles, ProviderOptions};

/// A word for a shell, in quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A word for a shell, in quotes where it needs them.
#[must_use]
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

/// A value that was given from outside: whose, its name, and what it was.
type Given = (String, String, String);

/// What of a scenario was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    id: String,
    /// The checks that were asked, where those are not all of it.
    only: Vec<String>,
    states: Vec<String>,
    /// Values that it, or what it stands on, did not have by itself: those that have to be given again.
    given: Vec<Given>,
}

impl Asked {
    /// A scenario as the record has it and as it was planned.
    fn of(record: &ScenarioRecord, plans: &[Plan]) -> Self {
        let planned = plans.iter().flat_map(|p| &p.scenarios).find(|p| p.scenario.id == record.id);
        let all: Vec<&Scenario> = planned.into_iter().flat_map(|p| p.beneath.iter().chain([&p.scenario])).map(AsRef::as_ref).collect();
        let from_outside = |source: ValueSource| matches!(source, ValueSource::Environment | ValueSource::CommandLine);
        let given = all.iter().flat_map(|s| {
            let given = s.values.iter().filter(move |v| from_outside(v.source));
            given.map(|v| (s.id.to_string(), v.name.clone(), v.value.clone()))
        });
        let checks = planned.map_or(0, |p| p.scenario.checks.len());
        let is_part = record.checks.len() < checks;
        Self {
            id: record.id.to_string(),
            only: record.checks.iter().filter(|_| is_part).map(|c| c.name.clone()).collect(),
            states: record.stages.iter().map(|s| s.state.clone()).collect(),
            given: given.collect(),
        }
    }

    /// What `run` is given to ask the same: the scenario, or each check.
    fn names(&self) -> Vec<String> {
        if self.only.is_empty() {
            return vec![word(&self.id)];
        }
        self.only.iter().map(|check| word(&format!("{}::{check}", self.id))).collect()
    }
}

/// `--value` for each value of these scenarios that was given, once, with a blank before it.
fn values<'a>(scenarios: impl IntoIterator<Item = &'a Asked>) -> String {
    let all: BTreeSet<&Given> = scenarios.into_iter().flat_map(|s| &s.given).collect();
    all.into_iter().map(|(id, name, value)| format!(" --value {}", quoted(&format!("{id}:{name}={value}")))).collect()
}

/// The same for `cargo test`, which takes variables only. None where two scenarios were given different values of one name.
fn variables(scenarios: &[Asked]) -> Option<String> {
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, name, value) in scenarios.iter().flat_map(|s| &s.given) {
        all.entry(name).or_default().insert(value);
    }
    all.into_iter()
        .map(|(name, values)| {
            let one = values.first().filter(|_| values.len() == 1)?;
            Some(format!("{}={} ", value_variable(name), quoted(one)))
        })
        .collect()
}

/// How the run was called, in what matters to have it again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Calling {
    /// With the scenarios and the `kind/` of a clone of gateproof's own repository.
    clone: bool,
    /// Flags that say where things are and which versions, with a blank before each.
    flags: String,
}

impl Calling {
    /// As these options and plans have it.
    pub(super) fn of(options: &ProviderOptions, plans: &[Plan]) -> Self {
        let root = plans.iter().flat_map(|p| &p.scenarios).find_map(|p| root_of(&p.scenario));
        let clone = root.as_deref().is_some_and(|root| is_a_clone(&options.kind, root));
        let mut flags = String::new();
        let mut flag = |name: &str, value: &str| flags.push_str(&format!(" {name} {}", word(value)));
        if !clone {
            if let Some(root) = root.as_deref().filter(|root| *root != Path::new("scenarios")) {
                flag("--scenarios", &root.display().to_string());
            }
            if let KindFiles::Folder(folder) = &options.kind
                && folder != Path::new("kind")
            {
                flag("--kind-dir", &folder.display().to_string());
            }
        }
        if options.cluster_name != "gateproof" {
            flag("--cluster", &options.cluster_name);
        }
        for (name, value) in [("--istio", &options.istio), ("--node-image", &options.node_image)] {
            if let Some(value) = value {
                flag(name, value);
            }
        }
        if options.internet == Internet::Real {
            flag("--internet", "real");
        }
        if let Choice::Existing(existing) = &options.choice {
            flag("--context", &existing.context);
            if let Some(file) = &existing.values_file {
                flag("--cluster-values", &file.display().to_string());
            }
            for (name, is_set) in [("--allow-mesh-changes", existing.allow_mesh_changes), ("--verify-only", existing.verify_only)] {
                if is_set {
                    flags.push_str(&format!(" {name}"));
                }
            }
        }
        Self { clone, flags }
    }

    fn program(&self, quiet: bool) -> &'static str {
        match (self.clone, quiet) {
            (true, true) => "cargo run -q --",
            (true, false) => "cargo run --",
            (false, _) => "gateproof",
        }
    }

    /// Where the commands of a report cannot be typed, because the mesh ended with the run: what asks a check again, and what
    /// brings a cluster to which they can be typed into its state. A check's or a state's name comes after each.
    pub(super) fn again(&self, scenarios: &[ScenarioRecord], plans: &[Plan]) -> AgainRecord {
        let asked: Vec<Asked> = scenarios.iter().map(|s| Asked::of(s, plans)).collect();
        let rest = format!("{}{}", self.flags, values(&asked));
        AgainRecord {
            run: format!("{} run --provider embedded{rest}", self.program(false)),
            hold: format!("{} hold --provider kind{rest}", self.program(true)),
        }
    }
}

/// The folder below which a scenario was found.
fn root_of(scenario: &Scenario) -> Option<PathBuf> {
    let depth = Path::new(scenario.folder()).components().count();
    scenario.dir.ancestors().nth(depth).map(Path::to_owned)
}

/// Whether scenarios and `kind/` lie side by side in a checkout of gateproof.
fn is_a_clone(kind: &KindFiles, scenarios: &Path) -> bool {
    let KindFiles::Folder(folder) = kind else { return false };
    let Some(top) = folder.parent() else { return false };
    let same = top.join("scenarios").canonicalize().ok().zip(scenarios.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    same && top.join("harness/core/Cargo.toml").is_file()
}

/// Which cluster the run had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On<'a> {
    Kind,
    Embedded,
    /// One that was there, by its context.
    Existing(&'a str),
}

/// The main job with the values that were given.
fn everything(scenarios: &[Asked]) -> String {
    let names: Vec<String> = scenarios.iter().map(|s| s.id.clone()).collect();
    match variables(scenarios) {
        Some(variables) => format!("{variables}cargo test --test scenarios"),
        None => format!("cargo run -- run{} {}", values(scenarios), names.join(" ")),
    }
}

/// Commands that make the same cluster, run the same checks, and bring it into each state to repeat a check by hand.
pub(super) fn reproduce(scenarios: &[ScenarioRecord], plans: &[Plan], calling: &Calling, on: On<'_>) -> Vec<String> {
    commands(&scenarios.iter().map(|s| Asked::of(s, plans)).collect::<Vec<_>>(), calling, on)
}

fn commands(scenarios: &[Asked], calling: &Calling, on: On<'_>) -> Vec<String> {
    let names = scenarios.iter().flat_map(Asked::names).collect::<Vec<_>>().join(" ");
    let flags = format!("{}{}", calling.flags, values(scenarios));
    let program = calling.program(false);
    let mut lines = Vec::new();
    if calling.clone {
        lines.push("git clone REPOSITORY gateproof && cd gateproof".to_owned());
    }
    match on {
        On::Existing(context) => {
            let context = &word(context);
            let by_tests = calling.clone && (calling.flags.is_empty() || calling.flags == format!(" --context {context}"));
            lines.push(match by_tests {
                true => format!("GATEPROOF_PROVIDER=existing GATEPROOF_CONTEXT={context} {}", everything(scenarios)),
                false => format!("{program} run --provider existing{flags} {names}"),
            });
            lines.extend([
                "# commands printed in this report speak to the current context; for this cluster".to_owned(),
                format!("alias kubectl='kubectl --context {context}' istioctl='istioctl --context {context}'"),
            ]);
            return lines;
        }
        On::Embedded => lines.push(format!("{program} run --provider embedded{flags} {names}")),
        On::Kind if calling.clone && calling.flags.is_empty() => lines.extend([
            everything(scenarios),
            String::new(),
            "# the same scenarios on a cluster that is kept".to_owned(),
            format!("{program} run --keep{flags} {names}"),
        ]),
        On::Kind => {
            lines.extend(["# on a cluster that is kept".to_owned(), format!("{program} run --provider kind --keep{flags} {names}")])
        }
    }
    lines.extend([
        String::new(),
        match on {
            On::Embedded => {
                "# to repeat the command of a check by hand, on kind: bring a kept cluster into its state, then type it".to_owned()
            }
            _ => "# to repeat a check by hand: bring the kept cluster into its state, then use the command in its row".to_owned(),
        },
    ]);
    let provider = if on == On::Embedded { " --provider kind" } else { "" };
    for scenario in scenarios {
        for state in &scenario.states {
            let state = if state == INTACT { String::new() } else { format!(" {}", quoted(state)) };
            let flags = format!("{provider}{}{}", calling.flags, values([scenario]));
            lines.push(format!("eval \"$({} hold{flags} {}{state})\"", calling.program(true), scenario.id));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use gateproof_core::plan::plan;
    use gateproof_core::scenario::{Catalogue, ScenarioValue, load_catalogue};

    use super::*;
    use crate::provider::ExistingOptions;

    fn asked(id: &str, given: &[(&str, &str)]) -> Asked {
        Asked {
            id: id.to_owned(),
            only: vec![],
            states: vec![INTACT.to_owned(), "it's bent".to_owned()],
            given: given.iter().map(|(name, value)| (id.to_owned(), (*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn in_a_clone() -> Calling {
        Calling { clone: true, flags: String::new() }
    }

    fn catalogue() -> Catalogue {
        load_catalogue(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"))
    }

    #[test]
    fn values_from_outside_are_given_again_and_no_others() {
        let mut all = [asked("one", &[("a-b", "it's")]), asked("two", &[("c", "2")])];
        let lines = commands(&all, &in_a_clone(), On::Kind);
        assert_eq!(lines[1], r"GATEPROOF_VALUE_A_B='it'\''s' GATEPROOF_VALUE_C='2' cargo test --test scenarios");
        assert_eq!(lines[4], r"cargo run -- run --keep --value 'one:a-b=it'\''s' --value 'two:c=2' one two");
        assert!(lines.contains(&r#"eval "$(cargo run -q -- hold --value 'two:c=2' two 'it'\''s bent')""#.to_owned()), "{lines:#?}");
        assert!(commands(&all, &in_a_clone(), On::Existing("here"))[1].contains("GATEPROOF_VALUE_C='2' cargo test"));
        // One variable cannot have two values.
        all[0].given.push(("one".to_owned(), "c".to_owned(), "9".to_owned()));
        assert!(commands(&all, &in_a_clone(), On::Kind)[1].starts_with("cargo run -- run --value "));
    }

    #[test]
    fn values_of_the_scenarios_beneath_are_given_again_too() {
        let mut catalogue = catalogue();
        let value = |name: &str, source| ScenarioValue { name: name.to_owned(), value: "v".to_owned(), source, about: String::new() };
        let sources = [("by-default", ValueSource::Default), ("by-row", ValueSource::Row), ("by-variable", ValueSource::Environment)];
        let base = catalogue.scenarios.iter_mut().find(|s| s.id.as_str() == "00-sample-apps").unwrap();
        base.values = sources.map(|(name, source)| value(name, source)).to_vec();
        let plan = plan(&catalogue, &|id, check| id.as_str() == "10-ingress" && check == "catch-all route");
        let mut record = crate::run::engine::blank_scenario(&plan.scenarios[0].scenario);
        record.checks = vec![crate::run::check::unasked(
            plan.scenarios[0].scenario.checks.iter().find(|c| c.name == "catch-all route").unwrap(),
            gateproof_core::outcome::Outcome::Passed,
        )];
        let asked = Asked::of(&record, std::slice::from_ref(&plan));
        assert_eq!(asked.given, [("00-sample-apps".to_owned(), "by-variable".to_owned(), "v".to_owned())]);
        assert_eq!(asked.names(), ["'10-ingress::catch-all route'"], "a part is a part again");
    }

    #[test]
    fn a_run_in_the_process_is_repeated_in_the_process_and_its_commands_on_kind() {
        let own = Calling { clone: false, flags: " --scenarios mine".to_owned() };
        let lines = commands(&[asked("30-invoices", &[])], &own, On::Embedded);
        assert_eq!(lines[0], "gateproof run --provider embedded --scenarios mine 30-invoices");
        assert_eq!(lines[3], r#"eval "$(gateproof hold --provider kind --scenarios mine 30-invoices)""#);
        assert!(lines.iter().all(|line| !line.contains("cargo") && !line.contains("git clone")), "{lines:#?}");
        let kind = commands(&[asked("30-invoices", &[])], &own, On::Kind);
        assert_eq!(kind[1], "gateproof run --provider kind --keep --scenarios mine 30-invoices");
        let clone = commands(&[asked("10-ingress", &[])], &in_a_clone(), On::Embedded);
        assert_eq!(clone[..2], ["git clone REPOSITORY gateproof && cd gateproof", "cargo run -- run --provider embedded 10-ingress"]);
    }

    #[test]
    fn flags_say_where_things_are_when_they_are_not_a_clones() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let plans = [plan(&catalogue(), &|id, _| id.as_str() == "20-egress/registry-only")];
        let mut options = ProviderOptions::new(root.join("kind"));
        assert_eq!(Calling::of(&options, &plans), in_a_clone());
        options.kind = KindFiles::BuiltIn;
        options.istio = Some("1.29.0".to_owned());
        let calling = Calling::of(&options, &plans);
        let scenarios = root.join("scenarios").display().to_string();
        assert_eq!(calling.flags, format!(" --scenarios {} --istio 1.29.0", word(&scenarios)));
        assert!(!calling.clone);
    }

    #[test]
    fn what_an_existing_cluster_calls_its_gateways_is_told_again() {
        let mut options = ProviderOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kind"));
        let existing = ExistingOptions { context: "staging".to_owned(), values_file: Some("ours.yaml".into()), ..Default::default() };
        options.choice = Choice::Existing(existing);
        let plans = [plan(&catalogue(), &|id, _| id.as_str() == "10-ingress")];
        let calling = Calling::of(&options, &plans);
        assert_eq!(calling.flags, " --context staging --cluster-values ours.yaml");
        let lines = commands(&[asked("10-ingress", &[])], &calling, On::Existing("staging"));
        assert_eq!(lines[1], "cargo run -- run --provider existing --context staging --cluster-values ours.yaml 10-ingress");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(word("10-ingress::a"), "10-ingress::a");
        for (text, shown) in [("a b", "'a b'"), ("", "''"), ("$x", "'$x'"), ("it's", r"'it'\''s'"), ("!slow", "'!slow'")] {
            assert_eq!(word(text), shown);
        }
    }
}
