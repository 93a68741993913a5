//! The node: made by kind, reached before kind has finished.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::{DownloadFromContainerOptions, InspectContainerOptions};
use futures::TryStreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::remove::NETWORK;
use super::tools;
use crate::provider::{ProviderError, Tools};

/// Docker and a booting API server have no event to wait for; asking costs a millisecond.
const POLL: Duration = Duration::from_millis(50);

/// The container that is the cluster's one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) container: String,
    pub(crate) address: IpAddr,
    pub(crate) api_port: u16,
}

pub(crate) fn container_name(cluster: &str) -> String {
    format!("{cluster}-control-plane")
}

pub(crate) fn context_name(cluster: &str) -> String {
    format!("kind-{cluster}")
}

/// kind's configuration with the gateways' node ports mapped to host ports.
pub(crate) fn config_with_ports(template: &Value, ports: &BTreeMap<u16, u16>) -> Value {
    let mut config = template.clone();
    let mappings: Vec<Value> = ports
        .iter()
        .map(|(node, host)| json!({"containerPort": node, "hostPort": host, "listenAddress": "127.0.0.1", "protocol": "TCP"}))
        .collect();
    if let Some(node) = config.pointer_mut("/nodes/0").and_then(Value::as_object_mut) {
        node.insert("extraPortMappings".to_owned(), Value::Array(mappings));
    }
    config
}

/// The same port on the host where it is free, another one where it is taken.
pub(crate) fn choose_host_port(wanted: u16) -> u16 {
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).and_then(|l| l.local_addr()).map(|a| a.port());
    free(wanted).or_else(|_| free(0)).unwrap_or(wanted)
}

/// Starts `kind create cluster`. It gets the lock's file, so that the lock is not free before it has
/// ended, should this process be killed.
pub(crate) fn start_create(
    tools: &Tools,
    cluster: &str,
    image: &str,
    config: &Path,
    scratch: &Path,
    lock: File,
) -> Result<tokio::process::Child, ProviderError> {
    let mut command = tokio::process::Command::new(&tools.kind);
    command.args(["create", "cluster", "--name", cluster, "--image", image, "--config"]).arg(config);
    command.arg("--kubeconfig").arg(scratch).env("KIND_EXPERIMENTAL_PROVIDER", "docker").env_remove("KUBECONFIG");
    command.stdin(Stdio::from(lock)).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(ProviderError::io("start `kind create cluster`"))
}

/// Waits for `kind create cluster` to end well.
pub(crate) async fn finish_create(child: tokio::process::Child) -> Result<(), ProviderError> {
    tools::finish("create the kind cluster", child).await.map(|_| ())
}

/// The node's container, if it runs and has its addresses.
pub(crate) async fn find(docker: &Docker, cluster: &str) -> Option<Node> {
    let seen = docker.inspect_container(&container_name(cluster), None::<InspectContainerOptions>).await.ok()?;
    if seen.state.as_ref()?.running != Some(true) {
        return None;
    }
    let network = seen.network_settings?;
    let address = network.networks?.get(NETWORK)?.ip_address.clone()?.to_string().parse().ok()?;
    let binding = network.ports?.get("6443/tcp")?.as_ref()?.first()?.host_port.clone()?;
    Some(Node { container: seen.id?, address, api_port: binding.parse().ok()? })
}

/// Waits until there is one.
pub(crate) async fn wait(docker: &Docker, cluster: &str) -> Node {
    loop {
        if let Some(node) = find(docker, cluster).await {
            return node;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Writes a kubeconfig as soon as kubeadm has written the node's own, seconds before kind gives it out.
pub(crate) async fn write_kubeconfig(docker: &Docker, cluster: &str, node: &Node, target: &Path) -> Result<(), ProviderError> {
    let admin = loop {
        // kubeadm does not write it in one step: what does not parse is not finished.
        if let Some(config) =
            read_file(docker, &node.container, "/etc/kubernetes/admin.conf").await.and_then(|t| Kubeconfig::from_yaml(&t).ok())
            && config.auth_infos.first().is_some_and(|a| a.auth_info.is_some())
        {
            break config;
        }
        tokio::time::sleep(POLL).await;
    };
    let text = rewrite_kubeconfig(admin, cluster, node.api_port)?;
    write_private(target, &text).map_err(ProviderError::io(format!("write {}", target.display())))
}

/// The node's kubeconfig with the address and the names that kind gives.
fn rewrite_kubeconfig(mut config: Kubeconfig, cluster: &str, port: u16) -> Result<String, ProviderError> {
    let name = context_name(cluster);
    for entry in &mut config.clusters {
        entry.name.clone_from(&name);
        if let Some(c) = &mut entry.cluster {
            c.server = Some(format!("https://127.0.0.1:{port}"));
        }
    }
    for entry in &mut config.auth_infos {
        entry.name.clone_from(&name);
    }
    for entry in &mut config.contexts {
        entry.name.clone_from(&name);
        if let Some(c) = &mut entry.context {
            c.cluster.clone_from(&name);
            c.user = Some(name.clone());
        }
    }
    config.current_context = Some(name);
    serde_saphyr::to_string(&config).map_err(|e| ProviderError::Command { what: "write the kubeconfig".to_owned(), seen: e.to_string() })
}

fn write_private(target: &Path, text: &str) -> std::io::Result<()> {
    // NamedTempFile makes files that only their owner can read.
    let mut file = tempfile::NamedTempFile::new_in(target.parent().unwrap_or(Path::new(".")))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(target).map_err(|e| e.error)?;
    Ok(())
}

async fn read_file(docker: &Docker, container: &str, path: &str) -> Option<String> {
    let options = DownloadFromContainerOptions { path: path.to_owned() };
    let archive: Vec<bytes::Bytes> = docker.download_from_container(container, Some(options)).try_collect().await.ok()?;
    let archive = archive.concat();
    let mut text = String::new();
    tar::Archive::new(archive.as_slice()).entries().ok()?.next()?.ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Runs a command in the node and gives its standard output.
pub(crate) async fn exec(docker: &Docker, container: &str, command: &[&str]) -> Result<String, ProviderError> {
    let what = format!("run `{}` in the node", command.join(" "));
    let failed = || ProviderError::docker(what.clone());
    let config = ExecConfig {
        cmd: Some(command.iter().map(|w| (*w).to_owned()).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let id = docker.create_exec(container, config).await.map_err(failed())?.id;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    if let StartExecResults::Attached { mut output, .. } = docker.start_exec(&id, None).await.map_err(failed())? {
        while let Some(part) = output.try_next().await.map_err(failed())? {
            match part {
                LogOutput::StdOut { message } => out.extend_from_slice(&message),
                other => err.extend_from_slice(&other.into_bytes()),
            }
        }
    }
    match docker.inspect_exec(&id).await.map_err(failed())?.exit_code {
        Some(0) => Ok(String::from_utf8_lossy(&out).into_owned()),
        code => Err(ProviderError::Command { what, seen: format!("exit {code:?}: {}", String::from_utf8_lossy(&err).trim()) }),
    }
}

/// A client for the kubeconfig.
pub(crate) async fn connect(kubeconfig: &Path, cluster: &str) -> Result<kube::Client, ProviderError> {
    let broken = |e: &dyn std::fmt::Display| ProviderError::Settings { file: kubeconfig.display().to_string(), why: e.to_string() };
    let file = Kubeconfig::read_from(kubeconfig).map_err(|e| broken(&e))?;
    let options = KubeConfigOptions { context: Some(context_name(cluster)), ..Default::default() };
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| broken(&e))?;
    kube::Client::try_from(config).map_err(ProviderError::kube("make a client"))
}

/// Waits until the API server answers and has its own namespaces.
pub(crate) async fn wait_for_api(client: &kube::Client) {
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
    while !matches!(namespaces.get_opt("kube-system").await, Ok(Some(_))) {
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ports_are_mapped() {
        let config = config_with_ports(&json!({"nodes": [{"role": "control-plane"}]}), &BTreeMap::from([(31080, 40001)]));
        assert_eq!(
            config["nodes"][0]["extraPortMappings"][0],
            json!({"containerPort": 31080, "hostPort": 40001, "listenAddress": "127.0.0.1", "protocol": "TCP"})
        );
        assert_eq!(config["nodes"][0]["role"], "control-plane");
    }

    #[test]
    fn a_taken_port_gives_way() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap().port();
        assert_ne!(choose_host_port(wanted), wanted);
    }

    #[test]
    fn the_nodes_kubeconfig_gets_the_hosts_address() {
        let admin = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: 'https://c:6443', certificate-authority-data: QQ==}\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\ncurrent-context: x\nusers:\n- name: u\n  user: {client-certificate-data: QQ==, client-key-data: Qg==}\n";
        let text = rewrite_kubeconfig(Kubeconfig::from_yaml(admin).unwrap(), "gp", 1234).unwrap();
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(value["current-context"], "kind-gp");
        assert_eq!(value["clusters"][0]["cluster"]["server"], "https://127.0.0.1:1234");
        assert_eq!(value["contexts"][0]["context"], json!({"cluster": "kind-gp", "user": "kind-gp"}));
        assert_eq!(value["users"][0]["user"]["client-key-data"], "Qg==");
    }
}
