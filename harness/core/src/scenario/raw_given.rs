//! What an author may write under `values` and `matrix`, documented; see [`super::raw`].
#![expect(dead_code, reason = "these types are read by schemars only")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::raw_words::{Text, ValueName};

/// Values by name.
#[derive(JsonSchema)]
#[schemars(transparent, extend("propertyNames" = {"pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"}))]
pub(super) struct ValuesFile(pub BTreeMap<String, ValueFile>);

/// A value: its default, or a map with the default and what it is for.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum ValueFile {
    /// The default.
    Plain(Text),
    /// The default, and what it is for.
    Full(FullValueFile),
}

/// A value with a line about it.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FullValueFile {
    /// What is used unless a row, the environment or `--value` says otherwise. A number stays a number, and so for `true` and `false`.
    pub default: Text,
    /// One line: what it is for. Reports show it.
    pub about: Option<Text>,
}

/// A row of the matrix: the scenario once more, with these values.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RowFile {
    /// The row's name; with the scenario's path before it, it is the name of a scenario of its own: `10-ingress/public`.
    pub row: ValueName,
    /// Values of declared names; for the others the defaults hold.
    pub values: Option<RowValues>,
}

/// A row's values by name.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct RowValues(pub BTreeMap<String, Text>);
