//! Values of a scenario, and what overrides them from outside.
//!
//! A scenario declares values with defaults; its checks and manifests take them as `$(value:NAME)`. What is in force is, of
//! these, the last that says anything: the default, the environment, `--value NAME=…`, `--value SCENARIO:NAME=…`, the row
//! of the scenario's matrix, `--value SCENARIO/ROW:NAME=…`. An override that changes nothing anywhere is a mistake.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diagnose::{Mistake, suggest};
use crate::names::ScenarioId;

/// What a variable of the environment begins with that overrides a value.
pub const VALUE_VARIABLE: &str = "GATEPROOF_VALUE_";

/// Where the value in force comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueSource {
    /// The scenario's own default.
    Default,
    /// The row of its matrix.
    Row,
    /// A variable of the environment.
    Environment,
    /// `--value`.
    CommandLine,
}

impl ValueSource {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Row => "row of the matrix",
            Self::Environment => "environment",
            Self::CommandLine => "--value",
        }
    }
}

/// One value of a scenario as it was put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioValue {
    /// Its name: lower-case letters, digits and `-`.
    pub name: String,
    /// The text in force.
    pub value: String,
    /// Where that comes from.
    pub source: ValueSource,
    /// What the scenario says about it; empty where it says nothing.
    pub about: String,
}

/// Whether a text can be a value's name. Without `_`, so that a variable of the environment stands for one name only.
#[must_use]
pub fn is_value_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The variable that overrides a value: upper case, `_` for `-`.
#[must_use]
pub fn value_variable(name: &str) -> String {
    format!("{VALUE_VARIABLE}{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Overrides of values, in the order of their strength.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueOverrides {
    given: Vec<Override>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Override {
    /// The scenario, or one row of it; None for every scenario that declares the name.
    scenario: Option<String>,
    name: String,
    value: String,
    source: ValueSource,
    /// As people know it, without the value.
    shown: String,
}

impl ValueOverrides {
    /// Those among variables of the environment that begin with [`VALUE_VARIABLE`].
    #[must_use]
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut given: Vec<Override> = variables
            .into_iter()
            .filter_map(|(variable, value)| {
                let name = variable.strip_prefix(VALUE_VARIABLE)?;
                // One with lower-case letters stands for no name; kept as it is, it is told as unknown.
                let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
                let name = if plain { name.to_ascii_lowercase().replace('_', "-") } else { name.to_owned() };
                Some(Override { scenario: None, name, value, source: ValueSource::Environment, shown: variable })
            })
            .collect();
        given.sort_by(|a, b| a.shown.cmp(&b.shown));
        Self { given }
    }

    /// Adds one of `--value`: `NAME=VALUE`, or `SCENARIO:NAME=VALUE` for one scenario or one row.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let parsed = text.split_once('=').map(|(left, value)| match left.rsplit_once(':') {
            Some((scenario, name)) => (Some(scenario.to_owned()), name, value),
            None => (None, left, value),
        });
        match parsed {
            Some((scenario, name, value)) if is_value_name(name) && scenario.as_deref() != Some("") => {
                let shown = format!("--value {}", text.split('=').next().unwrap_or_default());
                let name = name.to_owned();
                self.given.push(Override { scenario, name, value: value.to_owned(), source: ValueSource::CommandLine, shown });
                Ok(())
            }
            _ => {
                let shown = text.split('=').next().unwrap_or_default();
                Err(format!(
                    "`--value {shown}` is not understood: expected NAME=VALUE or SCENARIO:NAME=VALUE, such as `host=shop.example.com`"
                ))
            }
        }
    }
}

/// Which overrides met something, while scenarios are read.
pub(super) struct Applied<'o> {
    overrides: &'o ValueOverrides,
    used: BTreeSet<usize>,
    /// Names that were declared, and those of them that a row kept for itself.
    declared: BTreeSet<(ScenarioId, String)>,
    /// Scenarios and rows that there are.
    known: BTreeSet<String>,
}

impl<'o> Applied<'o> {
    pub(super) fn new(overrides: &'o ValueOverrides) -> Self {
        Self { overrides, used: BTreeSet::new(), declared: BTreeSet::new(), known: BTreeSet::new() }
    }

    /// Tells of a scenario, or of one row of it.
    pub(super) fn there_is(&mut self, folder: &ScenarioId, id: &ScenarioId) {
        self.known.extend([folder.to_string(), id.to_string()]);
    }

    /// What overrides a declared value. `row`: the row's id, and whether it gives the value itself.
    pub(super) fn of(
        &mut self,
        folder: &ScenarioId,
        row: Option<(&ScenarioId, bool)>,
        name: &str,
    ) -> Option<(&'o str, ValueSource, &'o str)> {
        self.declared.insert((folder.clone(), name.to_owned()));
        // How near an override is to this row; the nearest counts, and of several the last.
        let near = |o: &Override| match &o.scenario {
            None if o.source == ValueSource::Environment => Some(0),
            None => Some(1),
            Some(scenario) if scenario == folder.as_str() => Some(2),
            Some(scenario) => row.filter(|(id, _)| id.as_str() == scenario).map(|_| 3),
        };
        let fitting = self.overrides.given.iter().enumerate().filter(|(_, o)| o.name == name);
        let mut fitting: Vec<_> = fitting.filter_map(|(i, o)| Some((near(o)?, i, o))).collect();
        if row.is_some_and(|(_, gives)| gives) {
            fitting.retain(|(near, ..)| *near == 3);
        }
        // One that a nearer one hides here has met its value all the same.
        self.used.extend(fitting.iter().map(|(_, i, _)| *i));
        fitting.into_iter().max_by_key(|(near, i, _)| (*near, *i)).map(|(_, _, o)| (o.value.as_str(), o.source, o.shown.as_str()))
    }

    /// A mistake for each override that met nothing.
    pub(super) fn unused(&self) -> Vec<Mistake> {
        let lost = self.overrides.given.iter().enumerate().filter(|(i, _)| !self.used.contains(i));
        lost.map(|(_, o)| {
            let (message, help) = self.why(o);
            Mistake::of_file(&*o.shown, message, help)
        })
        .collect()
    }

    fn why(&self, o: &Override) -> (String, Option<String>) {
        let declared = |in_scenario: &dyn Fn(&ScenarioId) -> bool| -> BTreeSet<&str> {
            self.declared.iter().filter(|(id, _)| in_scenario(id)).map(|(_, name)| name.as_str()).collect()
        };
        match &o.scenario {
            Some(scenario) if !self.known.contains(scenario) => {
                (format!("there is no scenario `{scenario}`"), suggest(scenario, self.known.iter().map(String::as_str)))
            }
            Some(scenario) => {
                let own = declared(&|id| id.as_str() == scenario || scenario.strip_prefix(id.as_str()).is_some_and(|r| r.starts_with('/')));
                if own.contains(o.name.as_str()) {
                    return self.kept(o);
                }
                (format!("`{scenario}` declares no value `{}`", o.name), suggest(&o.name, own))
            }
            None => {
                let all = declared(&|_| true);
                if all.contains(o.name.as_str()) {
                    return self.kept(o);
                }
                (format!("no scenario declares a value `{}`", o.name), suggest(&o.name, all))
            }
        }
    }

    fn kept(&self, o: &Override) -> (String, Option<String>) {
        let of = self.declared.iter().find(|(_, name)| *name == o.name).map_or("SCENARIO", |(id, _)| id.as_str());
        let help = format!("name the row: `--value {of}/ROW:{}=…`", o.name);
        (format!("every row of the matrix gives `{}` itself, so this changes nothing", o.name), Some(help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_stands_for_one_name() {
        assert_eq!(value_variable("shop-port"), "GATEPROOF_VALUE_SHOP_PORT");
        let vars = [("GATEPROOF_VALUE_SHOP_PORT", "1"), ("GATEPROOF_KEEP", "1"), ("GATEPROOF_VALUE_Shop", "2")];
        let overrides = ValueOverrides::from_environment(vars.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let names: Vec<&str> = overrides.given.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(names, ["shop-port", "Shop"]);
        for (name, good) in
            [("host", true), ("a-1", true), ("", false), ("a_b", false), ("1a", false), ("a-", false), ("A", false), ("é", false)]
        {
            assert_eq!(is_value_name(name), good, "{name}");
        }
    }

    #[test]
    fn the_command_line_names_a_value_and_perhaps_a_scenario() {
        let mut overrides = ValueOverrides::default();
        for good in ["host=a", "10-x:host=a=b:c", "10-x/row:host="] {
            overrides.add(good).unwrap();
        }
        let given: Vec<_> = overrides.given.iter().map(|o| (o.scenario.as_deref(), o.name.as_str(), o.value.as_str())).collect();
        assert_eq!(given, [(None, "host", "a"), (Some("10-x"), "host", "a=b:c"), (Some("10-x/row"), "host", "")]);
        for bad in ["host", "=a", ":host=a", "10-x:=a", "Host=a", "a_b=c"] {
            let why = overrides.add(bad).unwrap_err();
            assert!(why.contains("expected NAME=VALUE"), "{why}");
        }
        assert!(!overrides.add("a_b=hidden").unwrap_err().contains("hidden"), "a value may be a secret");
    }

    #[test]
    fn the_nearest_override_counts_and_a_row_keeps_its_own() {
        let id = |text: &str| ScenarioId::new(text).unwrap();
        let (folder, row) = (id("10-x"), id("10-x/a"));
        let mut overrides = ValueOverrides::from_environment([("GATEPROOF_VALUE_H".to_owned(), "env".to_owned())]);
        for text in ["10-x:h=scenario", "h=flag", "10-x/a:h=row", "30-y:h=other"] {
            overrides.add(text).unwrap();
        }
        let mut applied = Applied::new(&overrides);
        let mut value = |folder: &ScenarioId, row: Option<(&ScenarioId, bool)>| applied.of(folder, row, "h").map(|(v, ..)| v.to_owned());
        assert_eq!(value(&folder, None).as_deref(), Some("scenario"));
        assert_eq!(value(&folder, Some((&row, true))).as_deref(), Some("row"));
        assert_eq!(value(&folder, Some((&id("10-x/b"), true))), None);
        assert_eq!(value(&folder, Some((&id("10-x/b"), false))).as_deref(), Some("scenario"));
        assert_eq!(value(&id("20-z"), None).as_deref(), Some("flag"));
        applied.there_is(&folder, &row);
        let told: Vec<String> = applied.unused().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["--value 30-y:h: there is no scenario `30-y` (there is `10-x`, `10-x/a`)"]);
    }
}
