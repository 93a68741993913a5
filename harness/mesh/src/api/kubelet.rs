//! What the API server asks of a node.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::ApiError;

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a port of a pod.
pub type Connection = Box<dyn Stream>;

/// A command to be run in a container that is there: pod and container have been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// The program and its arguments; empty to attach to what runs.
    pub command: Vec<String>,
    /// Whether it is given a terminal.
    pub tty: bool,
}

/// The streams of a command. Those that the client did not ask for are empty or swallow what is written.
pub struct ExecStreams {
    /// Standard input.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Standard output; its end is seen when it is dropped.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Standard error; its end is seen when it is dropped.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Which part of which log is wanted; pod and container have been looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether lines are sent as they come, until the container ends.
    pub follow: bool,
    /// Of the container before its last restart.
    pub previous: bool,
    /// Only lines of this time or later.
    pub since: Option<jiff::Timestamp>,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<usize>,
}

/// A node's agent: runs commands, keeps logs, reaches into pods.
pub trait Kubelet: Send + Sync {
    /// Runs a command to its end and gives its exit code. Dropping the future is how a client that has gone is noticed.
    fn exec(&self, request: ExecRequest, streams: ExecStreams) -> BoxFuture<'static, Result<i32, ApiError>>;

    /// The log of a container.
    fn logs(&self, request: LogRequest) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, ApiError>>;

    /// A connection from the pod's own loopback.
    fn dial(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, io::Result<Connection>>;

    /// A connection from the node to the pod's address.
    fn dial_from_node(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, io::Result<Connection>>;
}

/// A node that runs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKubelet;

fn nothing_runs() -> ApiError {
    ApiError::internal("no node runs pods here")
}

impl Kubelet for NoKubelet {
    fn exec(&self, _: ExecRequest, _: ExecStreams) -> BoxFuture<'static, Result<i32, ApiError>> {
        Box::pin(async { Err(nothing_runs()) })
    }

    fn logs(&self, _: LogRequest) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, ApiError>> {
        Box::pin(async { Err(nothing_runs()) })
    }

    fn dial(&self, _: &str, _: &str, _: u16) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) })
    }

    fn dial_from_node(&self, _: &str, _: &str, _: u16) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) })
    }
}
