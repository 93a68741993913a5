//! Carrying out a plan: one engine, its events, its record and its report.

pub mod check;
pub mod choose;
pub mod diagnostics;
mod digests;
pub mod drive;
pub mod engine;
pub mod event;
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
pub mod trials;
mod unreached;

pub use check::Attempts;
pub use event::{Event, Listener};
pub use session::{Session, SessionError, SessionOptions};
