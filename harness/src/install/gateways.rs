//! Gateways: one release of Istio's `gateway` chart each.

use std::collections::BTreeMap;

use gateproof_core::names::Namespaced;
use gateproof_core::report::GatewayRecord;
use gateproof_core::scenario::{Gateway, GatewayService};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::{Value, json};

use crate::provider::ProviderError;

/// The cluster's own gateways and those of scenarios, each once.
pub(crate) fn merge(own: &[Gateway], wanted: &[Gateway]) -> Result<Vec<Gateway>, ProviderError> {
    let mut all: BTreeMap<Namespaced, Gateway> = BTreeMap::new();
    for gateway in own.iter().chain(wanted) {
        if let Some(other) = all.insert(gateway.at.clone(), gateway.clone())
            && other != *gateway
        {
            return Err(ProviderError::Settings {
                file: format!("gateway {}", gateway.at),
                why: "it is declared twice with different labels or ports; one cluster can have it only once".to_owned(),
            });
        }
    }
    let mut ports: BTreeMap<u16, &Namespaced> = BTreeMap::new();
    for (at, gateway) in &all {
        for port in node_ports(gateway.service) {
            if let Some(other) = ports.insert(port, at) {
                return Err(ProviderError::Settings {
                    file: format!("gateway {at}"),
                    why: format!("its node port {port} is also {other}'s"),
                });
            }
        }
    }
    Ok(all.into_values().collect())
}

/// The node ports of 80 and 443, if any.
pub(crate) fn node_ports(service: GatewayService) -> Vec<u16> {
    match service {
        GatewayService::ClusterIp => Vec::new(),
        GatewayService::NodePort { http, https } => vec![http, https],
    }
}

/// The chart's values for one gateway.
pub(crate) fn values(gateway: &Gateway) -> Value {
    let mut http = json!({"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 8080});
    let mut https = json!({"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443});
    let mut service = match gateway.service {
        GatewayService::ClusterIp => json!({"type": "ClusterIP"}),
        GatewayService::NodePort { http: a, https: b } => {
            http["nodePort"] = a.into();
            https["nodePort"] = b.into();
            // Local: the gateway sees its caller's own address and port, by which log lines are joined.
            json!({"type": "NodePort", "externalTrafficPolicy": "Local"})
        }
    };
    service["ports"] = json!([http, https]);
    json!({"name": gateway.at.name, "labels": gateway.labels, "service": service})
}

/// For the report: how each is reached.
pub(crate) async fn records(
    client: &kube::Client,
    gateways: &[Gateway],
    node: std::net::IpAddr,
) -> Result<Vec<GatewayRecord>, ProviderError> {
    let mut records = Vec::new();
    for gateway in gateways {
        let services: Api<Service> = Api::namespaced(client.clone(), &gateway.at.namespace);
        let service =
            services.get(&gateway.at.name).await.map_err(ProviderError::kube(format!("read the Service of gateway {}", gateway.at)))?;
        let reached = match gateway.service {
            GatewayService::ClusterIp => format!("ClusterIP {}", service.spec.and_then(|s| s.cluster_ip).unwrap_or_default()),
            GatewayService::NodePort { http, https } => format!("NodePort {node}:{http} (80), {node}:{https} (443)"),
        };
        let labels = gateway.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        records.push(GatewayRecord { at: gateway.at.clone(), labels, reached });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(at: &str, service: GatewayService) -> Gateway {
        Gateway { at: Namespaced::parse(at).unwrap(), labels: BTreeMap::from([("istio".to_owned(), "x".to_owned())]), service }
    }

    #[test]
    fn the_same_gateway_twice_is_one_and_a_different_one_is_refused() {
        let own = [gateway("a/b", GatewayService::ClusterIp)];
        assert_eq!(merge(&own, &own).unwrap().len(), 1);
        assert!(merge(&own, &[gateway("a/b", GatewayService::NodePort { http: 1, https: 2 })]).is_err());
        let taken = gateway("a/c", GatewayService::NodePort { http: 1, https: 2 });
        assert!(merge(&[taken], &[gateway("a/d", GatewayService::NodePort { http: 3, https: 2 })]).is_err());
    }

    #[test]
    fn ports_are_mapped_to_what_an_unprivileged_pod_can_bind() {
        let values = values(&gateway("a/b", GatewayService::NodePort { http: 31080, https: 31443 }));
        assert_eq!(
            values["service"]["ports"][0],
            json!({"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 31080})
        );
        assert_eq!(values["service"]["externalTrafficPolicy"], "Local");
        assert_eq!(super::values(&gateway("a/b", GatewayService::ClusterIp))["service"]["type"], "ClusterIP");
    }
}
