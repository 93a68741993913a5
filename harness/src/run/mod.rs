//! Carrying out a plan: one engine, its events, its record and its report.

#[cfg(test)]
mod cause_tests;
pub mod check;
pub mod choose;
pub mod diagnostics;
mod digests;
pub mod drive;
pub mod engine;
pub mod event;
mod gateways;
#[cfg(test)]
mod hopeless_tests;
mod lanes;
#[cfg(test)]
mod lanes_tests;
mod links;
pub mod look;
pub mod needs;
#[cfg(unix)]
pub mod owner;
pub mod prove;
pub mod reporter;
mod reproduce;
pub mod rounds;
pub mod secrets;
pub mod session;
pub mod state;
mod steps;
#[cfg(test)]
mod tests;
pub mod trials;
mod unreached;
#[cfg(test)]
mod whole_run;

pub use check::Attempts;
pub use event::{Event, Listener, Pause, RedState};
pub(crate) use reproduce::word;
pub use session::{Session, SessionError, SessionOptions};
