//! What to type to have all of a report again.

use std::collections::{BTreeMap, BTreeSet};

use gateproof_core::report::ScenarioRecord;
use gateproof_core::scenario::{INTACT, ValueSource, value_variable};

/// The values that a scenario did not have by itself: those that have to be given again.
fn overridden(scenario: &ScenarioRecord) -> impl Iterator<Item = (&str, &str)> {
    let from_outside = |source: ValueSource| matches!(source, ValueSource::Environment | ValueSource::CommandLine);
    scenario.values.iter().filter(move |v| from_outside(v.source)).map(|v| (v.name.as_str(), v.value.as_str()))
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `--value` for each value of these scenarios that was overridden, with a blank after it.
fn flags<'s>(scenarios: impl IntoIterator<Item = &'s ScenarioRecord>) -> String {
    let flags =
        |s: &'s ScenarioRecord| overridden(s).map(move |(name, value)| format!("--value {} ", quoted(&format!("{}:{name}={value}", s.id))));
    scenarios.into_iter().flat_map(flags).collect()
}

/// The same for `cargo test`, which takes variables only. None where two scenarios were given different values of one name.
fn variables(scenarios: &[ScenarioRecord]) -> Option<String> {
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in scenarios.iter().flat_map(overridden) {
        all.entry(name).or_default().insert(value);
    }
    all.into_iter()
        .map(|(name, values)| {
            let one = values.first().filter(|_| values.len() == 1)?;
            Some(format!("{}={} ", value_variable(name), quoted(one)))
        })
        .collect()
}

/// The main job with the values that were given.
fn everything(scenarios: &[ScenarioRecord]) -> String {
    let names: Vec<String> = scenarios.iter().map(|s| s.id.to_string()).collect();
    match variables(scenarios) {
        Some(variables) => format!("{variables}cargo test --test scenarios"),
        None => format!("cargo run -- run {}{}", flags(scenarios), names.join(" ")),
    }
}

/// Commands that make the same cluster, run the same checks, and bring it into each state to repeat a check by hand.
pub(super) fn reproduce(scenarios: &[ScenarioRecord], context: Option<&str>) -> Vec<String> {
    let names: Vec<String> = scenarios.iter().map(|s| s.id.to_string()).collect();
    if let Some(context) = context {
        return vec![
            "git clone REPOSITORY gateproof && cd gateproof".to_owned(),
            format!("GATEPROOF_PROVIDER=existing GATEPROOF_CONTEXT={context} {}", everything(scenarios)),
            "# commands printed in this report speak to the current context; for this cluster".to_owned(),
            format!("alias kubectl='kubectl --context {context}' istioctl='istioctl --context {context}'"),
        ];
    }
    let mut lines = vec![
        "git clone REPOSITORY gateproof && cd gateproof".to_owned(),
        everything(scenarios),
        String::new(),
        "# the same scenarios on a cluster that is kept".to_owned(),
        format!("cargo run -- run --keep {}{}", flags(scenarios), names.join(" ")),
        String::new(),
        "# to repeat a check by hand: bring the kept cluster into the check's state, then use the command in its row".to_owned(),
    ];
    for scenario in scenarios {
        for stage in &scenario.stages {
            let state = if stage.state == INTACT { String::new() } else { format!(" '{}'", stage.state.replace('\'', r"'\''")) };
            lines.push(format!("eval \"$(cargo run -q -- hold {}{}{state})\"", flags([scenario]), scenario.id));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use gateproof_core::report::ValueRecord;
    use gateproof_core::scenario::{Catalogue, ScenarioValue, load_catalogue};

    use super::*;

    fn scenarios(catalogue: &Catalogue) -> Vec<ScenarioRecord> {
        catalogue.scenarios.iter().take(2).map(crate::run::engine::blank_scenario).collect()
    }

    #[test]
    fn values_from_outside_are_given_again_and_no_others() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut records = scenarios(&load_catalogue(&root));
        let value = |name: &str, value: &str, source| {
            ValueRecord::of(&ScenarioValue { name: name.to_owned(), value: value.to_owned(), source, about: String::new() })
        };
        records[0].values = vec![value("a-b", "it's", ValueSource::Environment), value("row", "1", ValueSource::Row)];
        records[1].values = vec![value("c", "2", ValueSource::CommandLine), value("d", "3", ValueSource::Default)];
        let (one, two) = (records[0].id.to_string(), records[1].id.to_string());
        let lines = reproduce(&records, None);
        assert_eq!(lines[1], r"GATEPROOF_VALUE_A_B='it'\''s' GATEPROOF_VALUE_C='2' cargo test --test scenarios");
        assert_eq!(lines[4], format!(r"cargo run -- run --keep --value '{one}:a-b=it'\''s' --value '{two}:c=2' {one} {two}"));
        assert!(reproduce(&records, Some("here"))[1].contains("GATEPROOF_VALUE_C='2' cargo test"));
        // One variable cannot have two values.
        records[0].values.push(value("c", "9", ValueSource::Environment));
        assert!(reproduce(&records, None)[1].starts_with("cargo run -- run --value "));
    }
}
