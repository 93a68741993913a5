//! A command in a pod, through the API server.

use std::time::Duration;

use gateproof_core::facts::PodGlance;
use gateproof_core::names::Namespaced;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, ListParams};
use kube::{Api, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::ProbeError;
use super::pods::Pods;
use crate::kube_ext::glance;

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// The exit code.
    pub exit_code: i32,
}

/// A pod and the container to use in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
}

/// The Deployment's pods that are not going away.
pub(crate) async fn pods_of(client: &Client, workload: &Namespaced) -> Result<Vec<Pod>, ProbeError> {
    let mut pods = all_pods_of(client, workload).await?;
    pods.retain(|p| p.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

/// The same at a glance, those that are going away included.
pub(crate) async fn glance_at(client: &Client, workload: &Namespaced) -> Result<Vec<PodGlance>, ProbeError> {
    glance::pods_of(client, workload).await.map_err(|e| ProbeError::api(format!("looking up the pods of {workload}"), e))
}

/// The Deployment's pods, those that are going away included.
async fn all_pods_of(client: &Client, workload: &Namespaced) -> Result<Vec<Pod>, ProbeError> {
    let doing = || format!("looking up the pods of {workload}");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let deployment = deployments.get(&workload.name).await.map_err(|e| ProbeError::api(doing(), e))?;
    let labels = deployment.spec.selector.match_labels.unwrap_or_default();
    let selector = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &workload.namespace);
    let list = pods.list(&ListParams::default().labels(&selector)).await.map_err(|e| ProbeError::api(doing(), e))?;
    Ok(list.items)
}

/// The first ready pod of a Deployment, and the named container or its first that is not the proxy.
///
/// # Errors
/// When the Deployment does not exist or no pod of it is ready.
pub async fn target(pods: &Pods, workload: &Namespaced, container: Option<&str>) -> Result<Target, ProbeError> {
    let mut pods = pods.of(workload).await?;
    pods.retain(|pod| !pod.is_leaving());
    let Some(pod) = pods.iter().find(|pod| pod.is_ready()) else {
        return Err(ProbeError::NoPod { workload: workload.clone(), pods: pods.len() });
    };
    let containers: Vec<&str> = pod.containers().collect();
    let container = container.or_else(|| containers.iter().find(|c| **c != "istio-proxy").copied()).unwrap_or("istio-proxy");
    Ok(Target { namespace: workload.namespace.clone(), pod: pod.metadata.name.clone(), container: container.to_owned() })
}

/// Runs a command to its end.
///
/// # Errors
/// When the API refuses, the connection breaks, or the command is not done within `limit`.
pub async fn run(client: &Client, target: &Target, command: &[String], limit: Duration) -> Result<Finished, ProbeError> {
    run_with_input(client, target, command, None, limit).await
}

/// As [`run`], with something for its standard input, which is in no message. The input is not closed before the command ends.
///
/// # Errors
/// As [`run`].
pub async fn run_with_input(
    client: &Client,
    target: &Target,
    command: &[String],
    input: Option<&[u8]>,
    limit: Duration,
) -> Result<Finished, ProbeError> {
    let doing = || format!("running `{}` in pod {}/{}", command.join(" "), target.namespace, target.pod);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &target.namespace);
    let parameters = AttachParams::default().container(&target.container).stdin(input.is_some()).stdout(true).stderr(true);
    let parameters = parameters.max_stdout_buf_size(64 * 1024);
    let work = async {
        let mut process = pods.exec(&target.pod, command, &parameters).await.map_err(|e| ProbeError::api(doing(), e))?;
        let mut stdout = process.stdout().expect("stdout was asked for");
        let mut stderr = process.stderr().expect("stderr was asked for");
        let status = process.take_status().expect("status is taken once");
        let mut stdin = process.stdin();
        if let (Some(stdin), Some(input)) = (&mut stdin, input) {
            let written = stdin.write_all(input).await;
            written.and(stdin.flush().await).map_err(|e| ProbeError::Broken { doing: doing(), why: e.to_string() })?;
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (a, b, status) = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err), status);
        a.and(b).map_err(|e| ProbeError::Broken { doing: doing(), why: e.to_string() })?;
        let status = status.ok_or_else(|| ProbeError::Broken { doing: doing(), why: "the API server sent no status".to_owned() })?;
        let exit_code = match status.status.as_deref() {
            Some("Success") => 0,
            _ => status
                .details
                .and_then(|d| d.causes)
                .into_iter()
                .flatten()
                .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
                .and_then(|cause| cause.message?.parse().ok())
                .ok_or_else(|| ProbeError::Broken {
                    doing: doing(),
                    why: status.message.unwrap_or_else(|| "it was not started".to_owned()),
                })?,
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Finished { stdout: text(out), stderr: text(err), exit_code })
    };
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::Broken { doing: doing(), why: format!("not done within {limit:?}") }),
    }
}
