//! A kube client without a socket.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::header::{HOST, HeaderValue, UPGRADE};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::duplex;
use tower::{BoxError, Service};

use super::http::{ApiBody, Server};

const PIPE: usize = 256 * 1024;

/// Hands requests to the server as they are; only upgrades go over a connection in memory, since hyper makes an upgraded
/// stream from nothing else.
#[derive(Clone)]
struct InProcess {
    server: Server,
}

impl Server {
    /// A client of this server. It must be made, and used, within a tokio runtime.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(InProcess { server: self.clone() }, "default")
    }
}

impl Service<Request<Body>> for InProcess {
    type Response = Response<ClientBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let server = self.server.clone();
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_static("kubernetes.default.svc"));
        }
        if request.headers().contains_key(UPGRADE) {
            return Box::pin(over_a_connection(server, request));
        }
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            Ok(server.handle(Request::from_parts(parts, body)).await.map(ClientBody::Direct))
        })
    }
}

async fn over_a_connection(server: Server, request: Request<Body>) -> Result<Response<ClientBody>, BoxError> {
    let (near, far) = duplex(PIPE);
    tokio::spawn(async move {
        if let Err(error) = server.serve_connection(far).await {
            tracing::debug!(%error, "a connection in memory broke");
        }
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender.send_request(request).await?.map(ClientBody::Connected))
}

/// A body of either way.
enum ClientBody {
    Direct(ApiBody),
    Connected(hyper::body::Incoming),
}

impl hyper::body::Body for ClientBody {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Direct(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Connected(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Direct(body) => body.is_end_stream(),
            Self::Connected(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Direct(body) => body.size_hint(),
            Self::Connected(body) => body.size_hint(),
        }
    }
}
