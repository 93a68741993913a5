//! Flags that say who gives the cluster.

use std::path::PathBuf;

use anstream::eprintln;
use gateproof_core::scenario::ClusterValues;

use super::EXIT_INPUT;
use crate::provider::{Choice, ExistingOptions};

/// Who gives the cluster.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProviderFlags {
    /// Who gives the cluster: `kind` makes a real one, `embedded` simulates one in this process, `existing` uses the one
    /// of a kubeconfig context; where none is named, kind if it is possible here, else embedded
    #[arg(long, env = "GATEPROOF_PROVIDER", value_parser = ["kind", "embedded", "existing"])]
    pub provider: Option<String>,
    /// The kubeconfig context of an existing cluster
    #[arg(long, env = "GATEPROOF_CONTEXT")]
    pub context: Option<String>,
    /// A file that says what an existing cluster calls its gateways
    #[arg(long, env = "GATEPROOF_CLUSTER_VALUES")]
    pub cluster_values: Option<PathBuf>,
    /// Allow mesh-wide changes on an existing cluster; they are restored
    #[arg(long, env = "GATEPROOF_ALLOW_MESH_CHANGES", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_mesh_changes: bool,
    /// A folder that replaces the internet
    #[arg(long, env = "GATEPROOF_BUNDLE")]
    pub bundle: Option<PathBuf>,
}

impl ProviderFlags {
    /// The provider asked for; None when none was named.
    pub(super) fn choice(&self, verify_only: bool) -> Result<Option<Choice>, u8> {
        match self.provider.as_deref() {
            None => Ok(None),
            Some("existing") => {
                let values = self.cluster_values.as_deref().map(ClusterValues::read).transpose().map_err(|mistakes| {
                    mistakes.iter().for_each(|m| eprintln!("{}\n", m.render(false)));
                    EXIT_INPUT
                })?;
                Ok(Some(Choice::Existing(ExistingOptions {
                    context: self.context.clone().unwrap_or_default(),
                    values: values.unwrap_or_default(),
                    values_file: self.cluster_values.clone(),
                    allow_mesh_changes: self.allow_mesh_changes,
                    verify_only,
                })))
            }
            Some("embedded") => Ok(Some(Choice::Embedded)),
            Some(_) => Ok(Some(Choice::Kind)),
        }
    }
}
