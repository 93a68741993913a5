//! What is asked of a pod's node: looking pods and containers up, and logs.

use std::sync::Arc;

use futures::StreamExt;
use hyper::{Method, Response};
use jiff::Timestamp;
use serde_json::Value;

use super::request::{At, Call};
use super::{ApiBody, Server, respond};
use crate::api::error::ApiError;
use crate::api::kubelet::LogRequest;

impl Server {
    /// The pod, if it is on a node.
    pub(super) fn pod(&self, at: &At) -> Result<Arc<Value>, ApiError> {
        let pod = self.store.read(&at.resource, at.namespace(), at.name())?;
        if pod.pointer("/spec/nodeName").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", at.name())));
        }
        Ok(pod)
    }

    /// The container meant. Source: Kubernetes `registry/core/pod/strategy.go`, validateContainer.
    pub(super) fn container(&self, pod: &Value, name: &str, asked: &str) -> Result<String, ApiError> {
        let names = |list: &str| -> Vec<String> {
            let all = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
            all.into_iter().flatten().filter_map(|c| c.get("name").and_then(Value::as_str)).map(str::to_owned).collect()
        };
        let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
        if asked.is_empty() {
            return match containers.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
                many => {
                    let mut message = format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
                    if !init.is_empty() {
                        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                    }
                    Err(ApiError::bad_request(message))
                }
            };
        }
        if containers.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) {
            Ok(asked.to_owned())
        } else {
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")))
        }
    }

    pub(super) async fn log(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        if call.method != Method::GET {
            return Err(ApiError::method_not_allowed());
        }
        let pod = self.store.read(&at.resource, at.namespace(), at.name())?;
        let container = self.container(&pod, at.name(), call.get("container").unwrap_or_default())?;
        // A pod that is on no node yet has an empty log. Source: `registry/core/pod/rest/log.go`.
        if pod.pointer("/spec/nodeName").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Ok(respond::bytes(200, "text/plain", ""));
        }
        let since_time = match call.get("sinceTime").filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => {
                Some(text.parse::<Timestamp>().map_err(|_| ApiError::bad_request(format!("sinceTime: {text:?} is no time of RFC 3339")))?)
            }
        };
        let seconds: Option<u64> = call.number("sinceSeconds")?;
        let ago = seconds.and_then(|s| Timestamp::now().checked_sub(std::time::Duration::from_secs(s)).ok());
        let request = LogRequest {
            namespace: at.namespace().to_owned(),
            pod: at.name().to_owned(),
            container,
            follow: call.flag("follow"),
            previous: call.flag("previous"),
            since: since_time.or(ago),
            tail: call.number("tailLines")?,
            timestamps: call.flag("timestamps"),
            limit_bytes: call.number("limitBytes")?,
        };
        let mut lines = self.kubelet.logs(request).await?;
        if call.flag("follow") {
            return Ok(respond::stream("text/plain", lines));
        }
        let mut whole = Vec::new();
        while let Some(part) = lines.next().await {
            whole.extend_from_slice(&part);
        }
        Ok(respond::bytes(200, "text/plain", whole))
    }
}
