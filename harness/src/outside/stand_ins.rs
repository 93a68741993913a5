//! Containers on kind's network that answer for names outside the mesh.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, InspectContainerOptions, ListContainersOptions, UploadToContainerOptions};
use futures::future::try_join_all;
use gateproof_core::scenario::OutsideHost;

use super::certificates::{self, Leaf};
use super::{Addresses, CLUSTER_LABEL, HOST_LABEL, StandIns};
use crate::provider::ProviderError;
use crate::provider::kind::remove::NETWORK;

/// Stand-ins of a cluster that are there.
pub(crate) async fn existing(docker: &Docker, cluster: &str) -> Result<Addresses, ProviderError> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{CLUSTER_LABEL}={cluster}"), HOST_LABEL.to_owned()])]);
    let options = ListContainersOptions { filters: Some(filters), ..Default::default() };
    let found = docker.list_containers(Some(options)).await.map_err(ProviderError::docker("list the hosts outside the mesh"))?;
    let mut addresses = Addresses::new();
    for container in found {
        let host = container.labels.and_then(|l| l.get(HOST_LABEL).cloned());
        let address = container.network_settings.and_then(|n| n.networks).and_then(|n| n.get(NETWORK)?.ip_address.clone());
        if let (Some(host), Some(Ok(address))) = (host, address.map(|a| a.to_string().parse())) {
            addresses.entry(host).or_default().push(address);
        }
    }
    addresses.values_mut().for_each(|all| all.sort());
    Ok(addresses)
}

/// Starts stand-ins for the hosts, each address a container of its own, all at once.
pub(crate) async fn start(docker: &Docker, cluster: &str, image: &str, hosts: &[OutsideHost]) -> Result<StandIns, ProviderError> {
    if hosts.is_empty() {
        return Ok(StandIns::default());
    }
    let names: Vec<String> = hosts.iter().map(|h| h.host.to_string()).collect();
    let (ca_pem, leaves) = certificates::sign(&names)?;
    let each = hosts
        .iter()
        .zip(&leaves)
        .flat_map(|(host, leaf)| (1..=host.addresses.max(1)).map(move |number| start_one(docker, cluster, image, leaf, number)));
    let mut addresses = Addresses::new();
    for (host, address) in try_join_all(each).await? {
        addresses.entry(host).or_default().push(address);
    }
    addresses.values_mut().for_each(|all| all.sort());
    Ok(StandIns { addresses, ca_pem, fingerprints: leaves.into_iter().map(|l| (l.host, l.fingerprint)).collect() })
}

/// HTTPS on 443 in a container that holds the address, HTTP on 80 in one that shares its network.
async fn start_one(docker: &Docker, cluster: &str, image: &str, leaf: &Leaf, number: u8) -> Result<(String, IpAddr), ProviderError> {
    let what = format!("start a stand-in for {}", leaf.host);
    let failed = || ProviderError::docker(what.clone());
    let name = format!("{cluster}-outside-{}-{number}", leaf.host);
    let labels = HashMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_owned()), (HOST_LABEL.to_owned(), leaf.host.clone())]);
    let holder = create(docker, &name, image, &environment(Serves::Tls), labels, NETWORK).await.map_err(failed())?;
    let files = archive(leaf).map_err(ProviderError::io(&what))?;
    let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
    docker.upload_to_container(&holder, Some(options), bollard::body_full(files.into())).await.map_err(failed())?;
    docker.start_container(&holder, None).await.map_err(failed())?;

    let labels = HashMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_owned())]);
    let plain = create(docker, &format!("{name}-http"), image, &environment(Serves::Plain), labels, &format!("container:{holder}"))
        .await
        .map_err(failed())?;
    docker.start_container(&plain, None).await.map_err(failed())?;

    let seen = docker.inspect_container(&holder, None::<InspectContainerOptions>).await.map_err(failed())?;
    let address = seen.network_settings.and_then(|n| n.networks).and_then(|n| n.get(NETWORK)?.ip_address.clone());
    match address.map(|a| a.to_string().parse()) {
        Some(Ok(address)) => Ok((leaf.host.clone(), address)),
        _ => Err(ProviderError::Command {
            what,
            seen: format!("container {name} has no address on the network {NETWORK}; see `docker logs {name}`"),
        }),
    }
}

/// What a stand-in's container serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Plain,
    Tls,
}

/// go-httpbin's configuration.
fn environment(serves: Serves) -> Vec<&'static str> {
    // By default go-httpbin gives a caller 1 s to send its headers, and Go's TLS server gives the whole handshake no longer than
    // that. A proxy on a busy machine may take longer; the caller then has its half of the handshake, has sent its request,
    // and sees the connection end under it (curl 18). An outside host's patience is no part of any check, and every call has
    // a limit of its own.
    let mut all = vec!["HOST=0.0.0.0", "SRV_READ_HEADER_TIMEOUT=60s", "SRV_READ_TIMEOUT=60s"];
    all.extend(match serves {
        Serves::Plain => ["PORT=80"].as_slice(),
        Serves::Tls => &["PORT=443", "HTTPS_CERT_FILE=/stand-in/tls.crt", "HTTPS_KEY_FILE=/stand-in/tls.key"],
    });
    all
}

async fn create(
    docker: &Docker,
    name: &str,
    image: &str,
    env: &[&str],
    labels: HashMap<String, String>,
    network: &str,
) -> Result<String, bollard::errors::Error> {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        env: Some(env.iter().map(|e| (*e).to_owned()).collect()),
        // The key is readable by root alone, and upstream's image may name another user.
        user: Some("0:0".to_owned()),
        labels: Some(labels),
        host_config: Some(HostConfig { network_mode: Some(network.to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
    Ok(docker.create_container(Some(options), body).await?.id)
}

fn archive(leaf: &Leaf) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text, mode) in [("stand-in/tls.crt", &leaf.certificate_pem, 0o644), ("stand-in/tls.key", &leaf.key_pem, 0o600)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_is_more_patient_than_any_call() {
        for serves in [Serves::Plain, Serves::Tls] {
            for name in ["SRV_READ_HEADER_TIMEOUT", "SRV_READ_TIMEOUT"] {
                let seconds =
                    environment(serves).iter().find_map(|e| e.strip_prefix(name)?.strip_prefix('=')?.strip_suffix('s')?.parse().ok());
                assert!(seconds.is_some_and(|s: u32| s >= 60), "{serves:?} {name}");
            }
        }
    }
}
