//! Ports of pods, over WebSocket.
//!
//! Source: Kubernetes `kubelet/pkg/cri/streaming/portforward/websocket.go`: for the nth port channel 2n carries data and
//! 2n+1 an error; each begins with the port, two bytes, little end first.

use futures::future::join_all;
use hyper::Response;
use tokio::io::{AsyncWriteExt, split};

use super::request::{At, Call};
use super::websocket::{self, Incoming, Receiver, Sender};
use super::{ApiBody, Server};
use crate::api::error::ApiError;

impl Server {
    pub(super) fn port_forward(&self, call: &mut Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        self.pod(at)?;
        let ports: Result<Vec<u16>, ApiError> = call
            .all("ports")
            .iter()
            .chain(&call.all("port"))
            .flat_map(|list| list.split(','))
            .map(|p| p.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| ApiError::bad_request(format!("port {p:?} is no port"))))
            .collect();
        let ports = ports?;
        if ports.is_empty() || ports.len() > 100 {
            return Err(ApiError::bad_request("query parameter \"port\" is required"));
        }
        let (response, upgrade, protocol) = websocket::agree(call)?.split();
        let server = self.clone();
        let (namespace, pod) = (at.namespace().to_owned(), at.name().to_owned());
        tokio::spawn(async move {
            match websocket::open(upgrade, protocol).await {
                Ok((sender, receiver)) => forward(&server, &namespace, &pod, &ports, &sender, receiver).await,
                Err(error) => tracing::debug!(%error, "an upgrade for a port-forward broke"),
            }
        });
        Ok(response)
    }
}

async fn forward(server: &Server, namespace: &str, pod: &str, ports: &[u16], sender: &Sender, mut receiver: Receiver) {
    for (channel, port) in (0..=u8::MAX).step_by(2).zip(ports) {
        for channel in [channel, channel.saturating_add(1)] {
            if !sender.send(channel, &port.to_le_bytes()).await {
                return;
            }
        }
    }
    let dialled = join_all(ports.iter().map(|port| server.kubelet.dial(namespace, pod, *port))).await;
    let mut inputs = Vec::new();
    let mut works = Vec::new();
    for ((channel, port), dialled) in (0..=u8::MAX).step_by(2).zip(ports).zip(dialled) {
        let (output, input, error) = match dialled {
            Ok(connection) => {
                let (output, input) = split(connection);
                (Some(output), Some(input), None)
            }
            Err(error) => (None, None, Some(error)),
        };
        inputs.push(input);
        works.push(async move {
            if let Some(error) = error {
                let message = format!(
                    "error forwarding port {port} to pod {pod}, uid : failed to connect to localhost:{port} inside the pod: {error}"
                );
                sender.send(channel.saturating_add(1), message.as_bytes()).await;
            }
            // Done is a port when all that came from the pod is sent.
            if let Some(output) = output {
                sender.pump(channel, output).await;
            }
        });
    }
    let feed = async {
        loop {
            match receiver.next().await {
                Incoming::Data(channel, data) if channel % 2 == 0 => {
                    if let Some(slot) = inputs.get_mut(usize::from(channel / 2))
                        && let Some(input) = slot
                        && input.write_all(&data).await.is_err()
                    {
                        *slot = None;
                    }
                }
                Incoming::End(channel) => {
                    if let Some(Some(input)) = inputs.get_mut(usize::from(channel / 2)) {
                        let _ = input.shutdown().await;
                    }
                }
                Incoming::Data(..) => {}
                Incoming::Closed => return,
            }
        }
    };
    tokio::select! {
        _ = join_all(works) => {}
        () = feed => {}
    }
    sender.close().await;
}
