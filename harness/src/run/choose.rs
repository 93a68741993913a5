//! Which provider, and why: named by a flag or the environment, or the one that this machine allows.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use gateproof_core::scenario::{ClusterValues, Mistake, ValueOverrides};

use super::check::Attempts;
use super::session::SessionOptions;
use crate::provider::{Choice, ExistingOptions, Internet, ProviderOptions};

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
    ValueOverrides::from_environment(
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

impl Environment {
    /// The folder with the scenarios (`GATEPROOF_SCENARIOS`).
    #[must_use]
    pub fn scenarios(&self) -> PathBuf {
        std::env::var_os("GATEPROOF_SCENARIOS").map_or_else(|| self.root.join("scenarios"), PathBuf::from)
    }

    /// What a run is asked to be, by `GATEPROOF_PROVIDER`, `GATEPROOF_KEEP`, `GATEPROOF_BUNDLE` (or `KINDLAB`),
    /// `GATEPROOF_REPORTS`, `GATEPROOF_CLUSTER`, `GATEPROOF_INTERNET`, `GATEPROOF_PARALLEL` and `GATEPROOF_VERIFY_ONLY`; for an existing cluster
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
        let mut provider = ProviderOptions::new(self.root.join("kind"));
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
                values: values.map(|file| ClusterValues::read(&file)).transpose().map_err(BadSetting::Values)?.unwrap_or_default(),
                allow_mesh_changes: flag("GATEPROOF_ALLOW_MESH_CHANGES")?,
                verify_only,
            });
        }
        Ok(SessionOptions {
            reports: text("GATEPROOF_REPORTS").map_or_else(|| self.root.join("reports"), PathBuf::from),
            provider,
            chosen,
            invoked: invoked.to_owned(),
            verify_only,
            observe_proxies: false,
            fail_fast: false,
            pause: None,
            parallel,
            attempts: Attempts { at_most: 3, pause: Duration::from_millis(400) },
        })
    }
}
