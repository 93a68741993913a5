//! Versions, and the certificates of hosts outside, as they are found.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use gateproof_core::report::{OutsideRecord, VersionRecord};
use gateproof_core::scenario::{Caller, ClusterValues, HttpProbe, OutsideHost, Scheme, Verify};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::look::Found;
use crate::kube_ext::PodHttp;
use crate::probe::outside;
use crate::provider::kind::versions::{istioctl, skew, version_in};
use crate::provider::{Progress, ProviderError, Tcp, Tools};

/// Kubernetes', istiod's and istioctl's; proxies are read by the run, each by itself.
pub(super) async fn versions(
    client: &Client,
    values: &ClusterValues,
    found: &Found,
    tools: &Tools,
    progress: &dyn Progress,
) -> Result<Vec<VersionRecord>, ProviderError> {
    let row = |what: &str, observed: String| VersionRecord { what: what.to_owned(), observed, declared: None };
    let istiod = istiod(client, values, &found.istiod_selector).await?;
    let mut rows = vec![row("Kubernetes", found.kubernetes.clone()), row("Istio control plane", istiod.clone())];
    if let Some(version) = istioctl(tools).await {
        if let Some(warning) = skew(&version, &istiod) {
            progress.warn(&warning);
        }
        rows.push(row("istioctl", version));
    }
    Ok(rows)
}

async fn istiod(client: &Client, values: &ClusterValues, selector: &str) -> Result<String, ProviderError> {
    let failed = |seen: String| ProviderError::Command { what: "read istiod's version".to_owned(), seen };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &values.istiod.namespace);
    let list = pods.list(&ListParams::default().labels(selector).fields("status.phase=Running")).await;
    let pod = list.map_err(ProviderError::kube("list istiod's pods"))?.items.into_iter().next();
    let pod = pod.ok_or_else(|| failed(format!("no pod of {} runs", values.istiod)))?.name_any();
    let http = PodHttp::new(client.clone());
    let said =
        http.get(&values.istiod.namespace, &pod, 15014, "/version", Duration::from_secs(10)).await.map_err(|e| failed(e.to_string()))?;
    Ok(version_in(&String::from_utf8_lossy(&said)))
}

/// The certificate that each host shows to this machine at an address that the cluster knows: what a call through the
/// mesh must show too.
pub(super) async fn fingerprints(hosts: &[OutsideHost], records: &[OutsideRecord], progress: &dyn Progress) -> BTreeMap<String, String> {
    let looks = join_all(hosts.iter().map(|host| async move {
        let record = records.iter().find(|r| r.host == host.host.as_str())?;
        let address: IpAddr = record.addresses.first()?.parse().ok()?;
        let probe = HttpProbe {
            from: Caller::Outside,
            gateway: None,
            scheme: Scheme::Https,
            host: host.host.clone(),
            port: 443,
            path: "/".to_owned(),
            sni: None,
            method: "HEAD".to_owned(),
            headers: vec![],
            body: None,
            verify: Verify::Insecure,
            client_certificate: None,
            timeout: Duration::from_secs(10),
        };
        let seen = outside::call(&Tcp, &probe, SocketAddr::new(address, 443), "", None, "gateproof").await;
        Some((host.host.to_string(), seen.certificate?.sha256))
    }))
    .await;
    let known: BTreeMap<String, String> = looks.into_iter().flatten().collect();
    for host in hosts.iter().filter(|h| !known.contains_key(h.host.as_str())) {
        progress.warn(&format!("{} shows no certificate to this machine: checks that compare it cannot pass", host.host));
    }
    known
}
