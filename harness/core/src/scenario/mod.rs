//! A scenario as the rest of gateproof sees it: checked, typed, without a trace of how it was written.
//!
//! [`load_catalogue`] turns directories into these types or into a list of every mistake in them.

mod cluster_values;
mod control_plane;
mod diagnose;
mod exceptions;
mod expand;
mod load;
mod made;
mod manifest;
mod raw;
mod raw_exceptions;
mod raw_given;
mod raw_values;
mod raw_words;
mod read;
mod read_cel;
mod read_check;
mod reader;
mod remap;
mod rules;
mod run_config;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod values;
mod workloads;
mod yaml;

pub use cluster_values::{ClusterValues, GatewayValues};
pub use control_plane::{ControlPlane, merge};
pub use diagnose::{Mistake, closest};
pub use exceptions::{Ending, Exceptions, Quarantine};
pub use load::{BrokenScenario, Catalogue, default_gateways, load_catalogue, load_catalogue_with};
pub use made::{Made, made_in};
pub use remap::remap;
pub use run_config::RUN_CONFIG_MAP;
pub use schema::{exceptions_schema, schema};
pub use types::*;
pub use values::{ScenarioValue, VALUE_VARIABLE, ValueOverrides, ValueSource, is_value_name, value_variable};
