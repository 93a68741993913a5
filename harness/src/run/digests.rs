//! The configuration of every proxy in a state, in a form that can be compared with that of another cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::future::join_all;
use gateproof_core::parity::{Digest, Places, digest};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{Api, ListParams};

use crate::probe::World;

/// Of each connected proxy, by `NAMESPACE/APP`; what cannot be asked is left out, and then differs from where it could.
pub(super) async fn of_all(world: &World, outside: &BTreeMap<IpAddr, String>) -> BTreeMap<String, Digest> {
    let (places, apps) = places(world, outside).await;
    let statuses = world.gate.sync_status().await.unwrap_or_default();
    let looks = join_all(statuses.iter().map(|s| world.gate.envoy_dump(s.namespace(), s.pod()))).await;
    let named = statuses.iter().zip(looks).filter_map(|(status, look)| {
        let app = apps.get(&status.proxy).cloned().unwrap_or_else(|| status.pod().to_owned());
        Some((format!("{}/{app}", status.namespace()), digest(&look.ok()?, &places)))
    });
    named.collect()
}

/// What stands at each address, and the `app` of each `POD.NAMESPACE`.
async fn places(world: &World, outside: &BTreeMap<IpAddr, String>) -> (Places, BTreeMap<String, String>) {
    let all = ListParams::default();
    let (services, pods, nodes): (Api<Service>, Api<Pod>, Api<Node>) =
        (Api::all(world.client.clone()), Api::all(world.client.clone()), Api::all(world.client.clone()));
    let (services, pods, nodes) = tokio::join!(services.list(&all), pods.list(&all), nodes.list(&all));
    let mut places: Places = outside.iter().map(|(ip, host)| (ip.to_string(), format!("outside {host}"))).collect();
    let mut apps = BTreeMap::new();
    for node in nodes.into_iter().flatten() {
        for address in node.status.into_iter().flat_map(|s| s.addresses.unwrap_or_default()) {
            places.insert(address.address, "the node".to_owned());
        }
    }
    for service in services.into_iter().flatten() {
        let name = format!("{}.{}", service.metadata.name.unwrap_or_default(), service.metadata.namespace.unwrap_or_default());
        if let Some(ip) = service.spec.and_then(|s| s.cluster_ip).filter(|ip| ip != "None") {
            places.insert(ip, format!("Service {name}"));
        }
    }
    for pod in pods.into_iter().flatten() {
        let labels = pod.metadata.labels.unwrap_or_default();
        let name = pod.metadata.name.unwrap_or_default();
        let app = ["app", "k8s-app", "gateway.networking.k8s.io/gateway-name"].iter().find_map(|label| labels.get(*label));
        let app = app.cloned().unwrap_or_else(|| name.clone());
        let namespace = pod.metadata.namespace.unwrap_or_default();
        if let Some(ip) = pod.status.and_then(|s| s.pod_ip) {
            places.entry(ip).or_insert_with(|| format!("pod of {app}.{namespace}"));
        }
        apps.insert(format!("{name}.{namespace}"), app);
    }
    (places, apps)
}
