//! The API over HTTP.
//!
//! Source: Kubernetes `apiserver/pkg/endpoints`.

mod discovery;
mod exec;
mod node;
mod port_forward;
mod proxy;
mod request;
mod respond;
mod texts;
mod verbs;
mod watch;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::ApiError;
use super::kubelet::Kubelet;
use super::store::Store;

use request::{Call, Place};

/// What a response carries: whole, or as it comes.
pub type ApiBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Serves a store over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(super) store: Store,
    pub(super) kubelet: Arc<dyn Kubelet>,
    version: Arc<str>,
    texts: Arc<texts::Texts>,
}

impl Server {
    /// Serves the store; what is asked of pods goes to the kubelet.
    #[must_use]
    pub fn new(store: Store, kubelet: Arc<dyn Kubelet>) -> Self {
        Self { store, kubelet, version: "v1.34.0".into(), texts: Arc::default() }
    }

    /// Says another Kubernetes version, such as `v1.33.1`.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// The store that is served.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Answers one request. An upgrade is answered with 101 and goes on in a task of its own, which needs the request to
    /// come from a hyper connection with upgrades.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<ApiBody> {
        let call = match Call::read(request) {
            Ok(call) => call,
            Err(error) => return respond::error(&error),
        };
        match self.answer(call).await {
            Ok(response) => response,
            Err(error) => respond::error(&error),
        }
    }

    async fn answer(&self, mut call: Call) -> Result<Response<ApiBody>, ApiError> {
        let registry = self.store.registry();
        match call.place(&registry)? {
            Place::Objects(at) => match at.subresource.as_deref() {
                Some("exec" | "attach") => self.exec(&mut call, &at),
                Some("portforward") => self.port_forward(&mut call, &at),
                Some("log") => self.log(&call, &at).await,
                Some("proxy") => self.proxy(call, &at).await,
                _ => self.objects(&call, &at),
            },
            Place::Info(path) => self.discover(&call, &registry, &path),
        }
    }

    /// Serves one connection, plain HTTP/1.1, until it ends.
    ///
    /// # Errors
    /// When the connection breaks or does not speak HTTP.
    pub async fn serve_connection<S>(&self, stream: S) -> Result<(), hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let server = self.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = match body.collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) => return Ok::<_, Infallible>(respond::error(&ApiError::bad_request(error.to_string()))),
                };
                Ok(server.handle(Request::from_parts(parts, body)).await)
            }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await
    }

    /// Serves on a TCP port in plain HTTP, for a person with kubectl (`kubectl --server http://ADDRESS`), until it is
    /// dropped. No authentication: bind it to the loopback.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(&self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let server = self.clone();
            connections.spawn(async move {
                if let Err(error) = server.serve_connection(stream).await {
                    tracing::debug!(%error, "a connection to the API broke");
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }
}
