//! HTTP to a port inside a pod, through the API server's port-forward.
//!
//! istiod answers its debug endpoints without a token only when asked from localhost, and Envoy's
//! admin interface listens on localhost: a port-forward ends in the pod's own network namespace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Why a pod could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PodHttpError {
    /// The port-forward could not be opened.
    #[error("port-forward to pod {pod} port {port}: {source}")]
    Forward {
        /// NAMESPACE/POD.
        pod: String,
        /// The port asked for.
        port: u16,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// The connection broke, or the answer was not 200.
    #[error("GET {path} from pod {pod} port {port}: {what}")]
    Http {
        /// NAMESPACE/POD.
        pod: String,
        /// The port asked.
        port: u16,
        /// The path asked for.
        path: String,
        /// What was seen.
        what: String,
    },
}

/// Namespace, pod, port.
type Port = (String, String, u16);
type Sender = Arc<Mutex<Option<SendRequest<Empty<Bytes>>>>>;

/// Asks pods over HTTP, keeping one connection for each pod and port.
#[derive(Clone)]
pub struct PodHttp {
    client: Client,
    pool: Arc<Mutex<HashMap<Port, Sender>>>,
}

/// A raw stream to a pod's port; the other end is on the pod's loopback.
///
/// # Errors
/// When the API server refuses the port-forward.
pub async fn open_port(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, PodHttpError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let failed = |source| PodHttpError::Forward { pod: format!("{namespace}/{pod}"), port, source: Box::new(source) };
    let mut forward = api.portforward(pod, &[port]).await.map_err(failed)?;
    let stream = forward.take_stream(port).expect("the port was asked for and not taken before");
    // The forwarder's tasks live as long as the stream is open; dropping the handle does not abort them.
    tokio::spawn(async move {
        let _ = forward.join().await;
    });
    Ok(stream)
}

impl PodHttp {
    /// Over this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, pool: Arc::default() }
    }

    /// The body of `GET path`, which must be answered with 200 within `limit`.
    ///
    /// # Errors
    /// When the pod cannot be reached, answers otherwise, or not in time.
    pub async fn get(&self, namespace: &str, pod: &str, port: u16, path: &str, limit: Duration) -> Result<Bytes, PodHttpError> {
        let key = (namespace.to_owned(), pod.to_owned(), port);
        let slot = self.pool.lock().await.entry(key).or_default().clone();
        let mut slot = slot.lock().await;
        let failed = |what: String| PodHttpError::Http { pod: format!("{namespace}/{pod}"), port, path: path.to_owned(), what };
        // A kept connection may have been closed by the other side since: one fresh try.
        let reused = slot.is_some();
        match timeout(limit, self.ask(&mut slot, namespace, pod, port, path)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) if reused => {
                *slot = None;
                match timeout(limit, self.ask(&mut slot, namespace, pod, port, path)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(failed(format!("no answer within {limit:?}"))),
                }
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                *slot = None;
                Err(failed(format!("no answer within {limit:?}")))
            }
        }
    }

    async fn ask(
        &self,
        slot: &mut Option<SendRequest<Empty<Bytes>>>,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> Result<Bytes, PodHttpError> {
        let failed = |what: String| PodHttpError::Http { pod: format!("{namespace}/{pod}"), port, path: path.to_owned(), what };
        if slot.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = open_port(&self.client, namespace, pod, port).await?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
            tokio::spawn(async move {
                let _ = connection.await;
            });
            *slot = Some(sender);
        }
        let sender = slot.as_mut().expect("just filled");
        let request = hyper::Request::get(path).header("host", "localhost").body(Empty::new()).map_err(|e| failed(e.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| failed(e.to_string()))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|e| failed(e.to_string()))?.to_bytes();
            if status != hyper::StatusCode::OK {
                let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                return Err(failed(format!("answered {status}: {}", text.trim())));
            }
            Ok(body)
        }
        .await;
        if answer.is_err() {
            *slot = None;
        }
        answer
    }
}
