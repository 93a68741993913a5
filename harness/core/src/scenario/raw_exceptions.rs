//! What may be written in `exceptions.yaml`, documented; see [`super::raw`] for how it is used.
#![expect(dead_code, reason = "these types are read by schemars only")]

use schemars::JsonSchema;

use super::raw::{ScenarioPath, Text};

/// Checks that do not count for now, and checks that cannot be asked: `exceptions.yaml` in the scenarios folder.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExceptionsFile {
    /// Checks that run as ever, but whose failure does not make the run red. Each ends on a day.
    pub quarantine: Option<Vec<QuarantineFile>>,
    /// Checks that are not asked, on any provider.
    pub skip: Option<Vec<SkipFile>>,
}

/// A check, or every check of a scenario, whose failure does not count until a day. Exactly one of `check` and `scenario`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct QuarantineFile {
    /// The check, as `gateproof list` names it: `10-ingress::catch-all route`.
    pub check: Option<Text>,
    /// The scenario: `10-ingress`.
    pub scenario: Option<ScenarioPath>,
    /// Why, and who looks into it.
    pub reason: Text,
    /// The last day on which it holds, such as `2026-12-31`. After it, `lint` and every run fail until the entry is gone.
    pub until: Text,
}

/// A check, or a whole scenario, that is not asked. Exactly one of `check` and `scenario`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SkipFile {
    /// The check, as `gateproof list` names it: `10-ingress::catch-all route`.
    pub check: Option<Text>,
    /// The scenario. It is not brought up, and neither is any that needs it.
    pub scenario: Option<ScenarioPath>,
    /// Why it cannot be asked anywhere: an image that cannot be had, for one.
    pub reason: Text,
}
