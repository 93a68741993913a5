//! A node for tests: a shell of few words, a log that goes on, ports that echo.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::api::{ApiError, Connection, ExecRequest, ExecStreams, Kubelet, LogRequest};

/// Echoes; port 1 refuses, port 2 says goodbye; from the node it answers HTTP.
pub(super) struct Node;

impl Node {
    pub(super) fn server(store: &crate::api::Store) -> crate::api::Server {
        crate::api::Server::new(store.clone(), Arc::new(Self))
    }
}

impl Kubelet for Node {
    fn exec(&self, request: ExecRequest, mut streams: ExecStreams) -> BoxFuture<'static, Result<i32, ApiError>> {
        Box::pin(async move {
            let io = |e: io::Error| ApiError::internal(e);
            match request.command.first().map(String::as_str) {
                Some("fail") => {
                    streams.stdout.write_all(b"out").await.map_err(io)?;
                    streams.stderr.write_all(b"err").await.map_err(io)?;
                    Ok(7)
                }
                Some("cat") => {
                    let mut all = Vec::new();
                    streams.stdin.read_to_end(&mut all).await.map_err(io)?;
                    streams.stdout.write_all(&all).await.map_err(io)?;
                    Ok(0)
                }
                Some("much") => {
                    streams.stdout.write_all(&vec![b'x'; 1_000_000]).await.map_err(io)?;
                    Ok(0)
                }
                _ => Err(ApiError::internal("exec: \"nothing\": executable file not found in $PATH: unknown")),
            }
        })
    }

    fn logs(&self, request: LogRequest) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, ApiError>> {
        Box::pin(async move {
            if request.previous {
                let message = format!("previous terminated container {:?} in pod {:?} not found", request.container, request.pod);
                return Err(ApiError::bad_request(message));
            }
            let lines = stream::iter((0..3).map(move |n| Bytes::from(format!("line {n} since {}\n", request.since.is_some()))));
            // Followed, it never ends by itself.
            Ok(if request.follow { lines.chain(stream::pending()).boxed() } else { lines.boxed() })
        })
    }

    fn dial(&self, _: &str, _: &str, port: u16) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async move {
            if port == 1 {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let (near, mut far) = duplex(1024);
            if port == 2 {
                tokio::spawn(async move { far.write_all(b"bye").await });
                return Ok(Box::new(near) as Connection);
            }
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
            Ok(Box::new(near) as Connection)
        })
    }

    fn dial_from_node(&self, namespace: &str, pod: &str, port: u16) -> BoxFuture<'static, io::Result<Connection>> {
        let place = format!("{namespace}/{pod}:{port}");
        Box::pin(async move {
            if place.ends_with(":1") {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let (near, far) = duplex(1024);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let agent = request.headers().get("user-agent").and_then(|v| v.to_str().ok()).unwrap_or_default();
                    let text = format!("{place} {} {} {agent}", request.method(), request.uri());
                    async move { Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::new(Bytes::from(text)))) }
                });
                let stream = hyper_util::rt::TokioIo::new(far);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
            });
            Ok(Box::new(near) as Connection)
        })
    }
}
