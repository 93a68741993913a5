//! A run, written down: [`RunRecord`] is everything the report says; rendering is pure.
//!
//! Every text of a record reaches a page through the functions of `text`, and each of them takes
//! secrets out first. A renderer that formats a field of the record by itself is a mistake.

mod again;
mod catalogue_page;
mod diff;
mod drift;
mod history;
mod html;
mod json;
mod junit;
mod markdown;
mod name;
mod normalise;
mod record;
mod redaction;
mod schema;
mod summary;
mod text;
mod verdict;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use catalogue_page::catalogue_page;
pub use diff::{RunDiff, diff, diff_text};
pub use drift::{Drift, ResourceDrift, drift};
pub use history::{PastRun, needs_history, note_history};
pub use html::html;
pub use json::record_json;
pub use junit::junit;
pub use markdown::render;
pub use name::file_stem;
pub use normalise::stable_lines;
pub use record::*;
pub use schema::record_schema;
pub use summary::{GITHUB_SUMMARY_LIMIT, github_summary, summary};
