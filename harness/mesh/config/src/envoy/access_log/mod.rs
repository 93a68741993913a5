//! Access logs: which lines are written, and how.

mod filter;
mod flags;
mod format;
mod operators;
mod record;

pub use flags::{Flag, Flags};
pub use format::Format;
pub use record::{CallRecord, Downstream, TlsFacts, Upstream};

use super::http_filter::Fraction;
use super::matchers::{HeaderMatcher, MetadataMatcher};

/// One access log of a listener, a TCP proxy or a connection manager.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Which calls; none: all.
    pub filter: Option<LogFilter>,
    /// Where lines go: a path such as `/dev/stdout`, or a name such as `stderr`.
    pub sink: LogSink,
    /// How they look.
    pub format: Format,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSink {
    /// A file: `/dev/stdout` is the container's log.
    File(String),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Somewhere this simulation does not write to (gRPC, OpenTelemetry), by name.
    Ignored(String),
}

/// `envoy.config.accesslog.v3.AccessLogFilter`.
#[derive(Debug, Clone)]
pub enum LogFilter {
    /// Any of these flags; none named: any flag at all.
    Flags(Vec<Flag>),
    /// A comparison of the status.
    Status(Comparison, u64),
    /// A comparison of the duration in milliseconds.
    Duration(Comparison, u64),
    /// Not a health check.
    NotHealthCheck,
    /// Traced only.
    Traceable,
    /// A share.
    Runtime(Fraction),
    /// All of these.
    And(Vec<LogFilter>),
    /// Any of these.
    Or(Vec<LogFilter>),
    /// A header.
    Header(HeaderMatcher),
    /// Dynamic metadata; the second says what is done without it.
    Metadata(Option<MetadataMatcher>, bool),
}

/// `ComparisonFilter.Op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// At least.
    Ge,
    /// At most.
    Le,
    /// Not equal.
    Ne,
}

impl AccessLog {
    /// Whether a call is written, by the caller's random value.
    pub fn writes(&self, call: &CallRecord, random: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds(call, random))
    }
}
