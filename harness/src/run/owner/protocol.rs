//! What test processes and the owner say to each other: one JSON value per line.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use gateproof_core::report::CheckRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The id of the nextest run that this process is a test of; None when one process runs all tests. `variable` reads the
/// environment.
#[must_use]
pub fn nextest_run(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let alone = variable("NEXTEST_EXECUTION_MODE").is_some_and(|mode| mode == "process-per-test");
    variable("NEXTEST_RUN_ID").filter(|id| alone && !id.is_empty())
}

/// What a test process asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its check, by its name as a test.
    pub check: String,
}

/// What the owner answers: first [`Answer::Welcome`], then one of the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The request was heard; its answer may take as long as a cluster takes to make.
    Welcome {
        /// The owner.
        pid: u32,
        /// What it prints.
        log: PathBuf,
    },
    /// The check's outcome.
    Outcome {
        /// The outcome.
        record: Box<CheckRecord>,
        /// The report that has it.
        report: Option<PathBuf>,
    },
    /// There will be none.
    Refused(Refusal),
}

/// Why a check has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// In words.
    pub reason: String,
    /// What the test process exits with.
    pub exit: u8,
}

/// Writes one value as one line.
///
/// # Errors
/// When the other side is gone.
pub(super) fn write_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(line(value)?.as_bytes())?;
    to.flush()
}

/// One value as one line, with its end.
///
/// # Errors
/// When the value has no form in JSON.
pub(super) fn line(value: &impl Serialize) -> io::Result<String> {
    // Line ends within strings are escaped by JSON itself.
    Ok(format!("{}\n", serde_json::to_string(value)?))
}

/// Reads one line as a value; None when the other side has closed, also in the middle of a line.
///
/// # Errors
/// When the line is none of ours.
pub(super) fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut text = String::new();
    if from.read_line(&mut text)? == 0 || !text.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&text)?))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn only_a_process_per_test_needs_an_owner() {
        let of = |pairs: &'static [(&str, &str)]| {
            nextest_run(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("NEXTEST_RUN_ID", "a")]), None);
        assert_eq!(of(&[("NEXTEST_RUN_ID", "a"), ("NEXTEST_EXECUTION_MODE", "something-new")]), None);
        assert_eq!(of(&[("NEXTEST_RUN_ID", ""), ("NEXTEST_EXECUTION_MODE", "process-per-test")]), None);
        assert_eq!(of(&[("NEXTEST_RUN_ID", "a"), ("NEXTEST_EXECUTION_MODE", "process-per-test")]), Some("a".to_owned()));
    }

    #[test]
    fn a_value_is_one_line_whatever_is_in_it_and_half_a_line_is_nothing() {
        let asked = [Request { check: "a::b\nc \"d\"".to_owned() }, Request { check: "größer".to_owned() }];
        let mut wire = Vec::new();
        for request in &asked {
            write_line(&mut wire, request).unwrap();
        }
        assert_eq!(wire.iter().filter(|b| **b == b'\n').count(), 2);
        let half = &wire[..wire.len() - 3];
        let mut read = half;
        assert_eq!(read_line::<Request>(&mut read).unwrap().as_ref(), Some(&asked[0]));
        assert_eq!(read_line::<Request>(&mut read).unwrap(), None);
        assert!(read_line::<Request>(&mut b"GET / HTTP/1.1\n".as_slice()).is_err());
    }
}
