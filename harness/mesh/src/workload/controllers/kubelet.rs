//! What the API server asks of the node.

use std::io;
use std::sync::PoisonError;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Workloads;
use crate::api::{ApiError, Connection, ExecRequest, ExecStreams, Kubelet, LogRequest};
use crate::net::Caller;
use crate::workload::programs::{In, Streams, exec, pipe};

async fn copy_out(from: In, mut to: Box<dyn AsyncWrite + Send + Unpin>) {
    while let Some(bytes) = from.read_some().await {
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            from.close().await;
            return;
        }
    }
    let _ = to.shutdown().await;
}

impl Kubelet for Workloads {
    fn exec(&self, request: ExecRequest, streams: ExecStreams) -> BoxFuture<'static, Result<i32, ApiError>> {
        let here = self.controllers.here(&request.namespace, &request.pod);
        let container =
            here.and_then(|here| here.containers.lock().unwrap_or_else(PoisonError::into_inner).get(&request.container).cloned());
        Box::pin(async move {
            let container = container.ok_or_else(|| {
                ApiError::internal(format!("unable to upgrade connection: container not found ({:?})", request.container))
            })?;
            if request.command.is_empty() {
                return Err(ApiError::bad_request("attaching to what runs: this simulated mesh does not have it"));
            }
            let ExecStreams { mut stdin, stdout, stderr } = streams;
            let ((into, input), (out, output), (err, errors)) = (pipe(), pipe(), pipe());
            let feed = async move {
                let mut buffer = [0; 8192];
                while let Ok(n @ 1..) = stdin.read(&mut buffer).await {
                    if !into.write(buffer.get(..n).unwrap_or_default()) {
                        break;
                    }
                }
                drop(into);
                std::future::pending::<()>().await;
            };
            let run = async move {
                let streams = Streams { stdin: input, stdout: out, stderr: err };
                exec(&container, &request.command, &streams).await
            };
            let work = async { tokio::join!(run, copy_out(output, stdout), copy_out(errors, stderr)).0 };
            tokio::select! {
                outcome = work => outcome.map_err(ApiError::internal),
                () = feed => Err(ApiError::internal("standard input")),
            }
        })
    }

    fn logs(&self, request: LogRequest) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, ApiError>> {
        let log = self.controllers.logs.get(&request.namespace, &request.pod, &request.container);
        Box::pin(async move {
            if request.previous {
                let (container, pod) = (&request.container, &request.pod);
                return Err(ApiError::bad_request(format!("previous terminated container {container:?} in pod {pod:?} not found")));
            }
            let waiting = || {
                ApiError::bad_request(format!(
                    "container {:?} in pod {:?} is waiting to start: ContainerCreating",
                    request.container, request.pod
                ))
            };
            log.map(|log| log.read(&request)).ok_or_else(waiting)
        })
    }

    fn dial(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, io::Result<Connection>> {
        let conn = match self.controllers.here(namespace, pod) {
            Some(here) => here.host.connect_loopback(port).map(|c| Box::new(c) as Connection),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the pod is not on this node")),
        };
        Box::pin(std::future::ready(conn))
    }

    fn dial_from_node(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, io::Result<Connection>> {
        let conn = match self.controllers.here(namespace, pod) {
            Some(here) => self.controllers.node.connect(here.at(port), Caller::Proxy).map(|c| Box::new(c) as Connection),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the pod is not on this node")),
        };
        Box::pin(std::future::ready(conn))
    }
}
