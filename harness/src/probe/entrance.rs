//! Where a gateway is reached from outside.

use std::net::{IpAddr, SocketAddr};

use gateproof_core::names::Namespaced;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::api::ListParams;

use super::{ProbeError, World};

/// As the cluster was made with; or, for a gateway that came with a scenario, the node port of its Service at a node's own address.
/// From the machine that runs gateproof such an address is reached where containers' addresses are, that is on Linux.
pub(super) async fn find(world: &World, gateway: &Namespaced, port: u16) -> Result<SocketAddr, ProbeError> {
    if let Some(address) = world.entrances.get(&(gateway.clone(), port)) {
        return Ok(*address);
    }
    let named = world.services.get(gateway).unwrap_or(gateway);
    let services: Api<Service> = Api::namespaced(world.client.clone(), &named.namespace);
    let failed = |error| ProbeError::api(format!("reading the Service {named}"), error);
    let service = services.get_opt(&named.name).await.map_err(failed)?;
    let Some(node_port) = service.and_then(|service| node_port(&service, port)) else {
        return Err(ProbeError::Missing(format!("{gateway} is not reached from outside at port {port}; it needs a nodePort service")));
    };
    let nodes: Api<Node> = Api::all(world.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.map_err(|e| ProbeError::api("listing the nodes".to_owned(), e))?;
    let ip = nodes.items.iter().find_map(internal_ip);
    let ip = ip.ok_or_else(|| ProbeError::Missing("no node tells an address of its own (InternalIP)".to_owned()))?;
    Ok(SocketAddr::new(ip, node_port))
}

fn node_port(service: &Service, port: u16) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let wanted = ports.iter().find(|p| p.port == i32::from(port))?;
    wanted.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn internal_ip(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|a| a.type_ == "InternalIP")?.address.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_port_is_that_of_the_port_asked_for() {
        let service = |ports: serde_json::Value| -> Service { serde_json::from_value(json!({"spec": {"ports": ports}})).unwrap() };
        let both = service(json!([{"port": 15021, "nodePort": 31000}, {"port": 80, "nodePort": 31001}]));
        assert_eq!((node_port(&both, 80), node_port(&both, 443)), (Some(31001), None));
        assert_eq!(node_port(&service(json!([{"port": 80}])), 80), None);
    }
}
