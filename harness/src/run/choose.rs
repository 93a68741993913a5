//! Which provider, and why: named by a flag or the environment, or the one that this machine allows.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use gateproof_core::outcome::redact;
use gateproof_core::scenario::{ClusterValues, Mistake, VALUE_VARIABLE, ValueOverrides};

use super::check::Attempts;
use super::reproduce::word;
use super::session::SessionOptions;
use crate::provider::{Choice, ExistingOptions, Internet, KIND_DIR_VARIABLE, KindFiles, ProviderOptions};

/// Settings that `cargo test` cannot pass as flags: each has a variable of the environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The repository's root.
    pub root: PathBuf,
}

/// A variable of the environment that has a meaning nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    /// A variable.
    #[error(transparent)]
    Variable(#[from] BadVariable),
    /// The values of an existing cluster.
    #[error("{}", .0.iter().map(|m| m.render(false)).collect::<Vec<_>>().join("\n\n"))]
    Values(Vec<Mistake>),
}

/// How many scenarios may be run at once.
pub const PARALLEL: RangeInclusive<usize> = 1..=16;

/// See [`BadSetting::Variable`].
#[derive(Debug, thiserror::Error)]
#[error("{name}={value} is not understood: {expected}")]
pub struct BadVariable {
    name: &'static str,
    value: String,
    expected: &'static str,
}

/// The values of scenarios that variables of the environment give: `GATEPROOF_VALUE_NAME`. One that is no text is not read.
#[must_use]
pub fn values_of_the_environment() -> ValueOverrides {
    ValueOverrides::from_environment(variables())
}

/// Every variable that is text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Variables that change what a run asks or where; where its report goes, and which folder replaces the internet, do not.
const TELLING: [&str; 11] = [
    "GATEPROOF_ALLOW_MESH_CHANGES",
    "GATEPROOF_CLUSTER",
    "GATEPROOF_CLUSTER_VALUES",
    "GATEPROOF_CONTEXT",
    "GATEPROOF_INTERNET",
    "GATEPROOF_KEEP",
    KIND_DIR_VARIABLE,
    "GATEPROOF_PARALLEL",
    "GATEPROOF_PROVIDER",
    "GATEPROOF_SCENARIOS",
    "GATEPROOF_VERIFY_ONLY",
];

/// Those of these variables without which the command line would mean another run, each with a blank after it, by name.
fn variables_before(variables: impl Iterator<Item = (String, String)>) -> String {
    let telling = |name: &str| TELLING.contains(&name) || name.starts_with(VALUE_VARIABLE);
    let mut found: Vec<(String, String)> = variables.filter(|(name, value)| telling(name) && !value.is_empty()).collect();
    found.sort();
    found.iter().map(|(name, value)| format!("{name}={} ", word(value))).collect()
}

impl Environment {
    /// The folder with the scenarios (`GATEPROOF_SCENARIOS`).
    #[must_use]
    pub fn scenarios(&self) -> PathBuf {
        std::env::var_os("GATEPROOF_SCENARIOS").map_or_else(|| self.root.join("scenarios"), PathBuf::from)
    }

    /// What a run is asked to be, by `GATEPROOF_PROVIDER`, `GATEPROOF_KEEP`, `GATEPROOF_BUNDLE` (or `KINDLAB`),
    /// `GATEPROOF_REPORTS`, `GATEPROOF_KIND_DIR`, `GATEPROOF_CLUSTER`, `GATEPROOF_INTERNET`, `GATEPROOF_PARALLEL` and `GATEPROOF_VERIFY_ONLY`; for an existing cluster
    /// `GATEPROOF_CONTEXT`, `GATEPROOF_CLUSTER_VALUES` and `GATEPROOF_ALLOW_MESH_CHANGES`.
    ///
    /// # Errors
    /// When one of them has a value that is not understood, or the cluster's values have mistakes.
    pub fn session(&self, invoked: &str) -> Result<SessionOptions, BadSetting> {
        let text = |name: &'static str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let flag = |name: &'static str| match text(name).as_deref() {
            None | Some("0" | "false" | "no") => Ok(false),
            Some("1" | "true" | "yes") => Ok(true),
            Some(value) => Err(BadVariable { name, value: value.to_owned(), expected: "1 or 0" }),
        };
        let chosen = match text("GATEPROOF_PROVIDER").as_deref() {
            None => "the default".to_owned(),
            Some("kind" | "embedded" | "existing") => "named by GATEPROOF_PROVIDER".to_owned(),
            Some(value) => {
                let expected = "this version has `kind`, `embedded` and `existing`";
                return Err(BadVariable { name: "GATEPROOF_PROVIDER", value: value.to_owned(), expected }.into());
            }
        };
        let named = text(KIND_DIR_VARIABLE).map(PathBuf::from);
        let mut provider =
            ProviderOptions { kind: KindFiles::find(named.as_deref(), &self.root), ..ProviderOptions::new(self.root.join("kind")) };
        provider.keep = flag("GATEPROOF_KEEP")?;
        provider.bundle = ProviderOptions::bundle_from_environment();
        if let Some(name) = text("GATEPROOF_CLUSTER") {
            provider.cluster_name = name;
        }
        provider.internet = match text("GATEPROOF_INTERNET").as_deref() {
            None | Some("stand-ins") => Internet::StandIns,
            Some("real") => Internet::Real,
            Some(value) => {
                return Err(BadVariable { name: "GATEPROOF_INTERNET", value: value.to_owned(), expected: "stand-ins or real" }.into());
            }
        };
        let parallel = match text("GATEPROOF_PARALLEL") {
            None => 1,
            Some(value) => value.parse().ok().filter(|n| PARALLEL.contains(n)).ok_or(BadVariable {
                name: "GATEPROOF_PARALLEL",
                value,
                expected: "how many scenarios may run at once, from 1 to 16",
            })?,
        };
        let verify_only = flag("GATEPROOF_VERIFY_ONLY")?;
        provider.reuse_only = verify_only;
        provider.choice = match text("GATEPROOF_PROVIDER").as_deref() {
            Some("kind") => Choice::Kind,
            Some("embedded") => Choice::Embedded,
            _ => Choice::Unnamed,
        };
        if text("GATEPROOF_PROVIDER").as_deref() == Some("existing") {
            let values = text("GATEPROOF_CLUSTER_VALUES").map(PathBuf::from);
            provider.choice = Choice::Existing(ExistingOptions {
                context: text("GATEPROOF_CONTEXT").unwrap_or_default(),
                values: values.as_deref().map(ClusterValues::read).transpose().map_err(BadSetting::Values)?.unwrap_or_default(),
                values_file: values,
                allow_mesh_changes: flag("GATEPROOF_ALLOW_MESH_CHANGES")?,
                verify_only,
            });
        }
        Ok(SessionOptions {
            reports: text("GATEPROOF_REPORTS").map_or_else(|| self.root.join("reports"), PathBuf::from),
            provider,
            chosen,
            invoked: redact(&format!("{}{invoked}", variables_before(variables()))),
            verify_only,
            observe_proxies: false,
            fail_fast: false,
            pause: None,
            parallel,
            attempts: Attempts { at_most: 3, pause: Duration::from_millis(400) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_of_a_report_has_the_variables_that_it_stood_under() {
        let set = [
            ("PATH", "/bin"),
            ("GATEPROOF_VALUE_HOST", "a b"),
            ("GATEPROOF_SCENARIOS", "mine"),
            ("GATEPROOF_REPORTS", "elsewhere"),
            ("GATEPROOF_KEEP", ""),
        ];
        let set = set.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables_before(set), "GATEPROOF_SCENARIOS=mine GATEPROOF_VALUE_HOST='a b' ");
    }
}
