//! The pure half of gateproof: scenario files, the plan, outcomes and the report.
//!
//! Data flows one way: files → [`scenario`] → [`plan`] → (the harness runs it) → [`outcome`] → [`report`].
//! Nothing here does I/O except reading scenario directories, and this crate's dependency tree
//! knows no Kubernetes client, no async runtime and no Docker client: the compiler keeps the boundary.

pub mod expression;
pub mod facts;
pub mod names;
pub mod outcome;
pub mod parity;
pub mod plan;
pub mod report;
pub mod scenario;
