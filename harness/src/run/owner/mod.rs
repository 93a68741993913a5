//! A run under cargo-nextest, which gives every test a process of its own.
//!
//! No test process lives as long as the run, so none of them can have the cluster. The first one that really runs starts an
//! *owner*: this same executable, in a session of its own, without a terminal. It provides the cluster, runs the engine,
//! writes the one report and gives the cluster back. Test processes connect to its socket, say which check they are, and
//! are told the outcome. Listing starts nothing.
//!
//! - **Which run?** nextest gives each run an id; socket, lock and log are named by its hash.
//! - **One owner.** It holds the run's lock from before it is started until it is gone. An owner that died leaves its word
//!   in the lock's file, and the run gets no second one: the tests that are left fail and say where the log is. What it
//!   left in the cluster engine is removed by the next run, as after any killed run.
//! - **The end.** nextest tells nobody which test is the last. The owner watches the nextest process (pid and start time,
//!   against pids that are used again) and ends when that is gone, however it went: done, Ctrl-C, `kill -9`.
//! - **What the cluster has.** Gateways come as checks ask for them. Hosts outside and certificates are those of every
//!   scenario from the start: pods read the CAs once, when they begin, and would not see one that came later.
//! - **The order.** Requests that wait are planned together. Those for the state that stands go first, so that few changes of
//!   state are needed, however nextest orders its tests. More test threads than processors help: test processes only wait.

mod client;
mod place;
mod protocol;
mod server;
#[cfg(test)]
mod tests;
mod watch;
mod work;

pub use client::{AskError, Reply, ask};
pub use place::{Order, order};
pub use protocol::{Answer, Refusal, Request, nextest_run};
pub use server::{Desk, Ending, Runner, serve};
pub use watch::Watched;
pub use work::{Given, own};
