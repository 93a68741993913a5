//! Services and Deployments.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Findings, Level, full_name, go_list, labels_at};
use crate::istio::model::object;
use crate::validate::{Spoken, spoken};

/// Values of `gateway.istio.io/managed` on what istiod deploys for Gateways of Gateway API.
const MANAGED: [&str; 3] = ["istio.io-gateway-controller", "istio.io-mesh-controller", "istio.io-eastwest-controller"];

pub(super) fn analyze(findings: &mut Findings) {
    for service in findings.objects.of("Service") {
        port_names(&service, findings);
    }
    for deployment in findings.objects.of("Deployment") {
        let template = deployment.pointer("/spec/template").unwrap_or(&Value::Null);
        let metadata = template.get("metadata").unwrap_or(&Value::Null);
        let is_waypoint = object::labels(&deployment).get("gateway.istio.io/managed").map(String::as_str) == Some(MANAGED[1]);
        if !is_waypoint && findings.objects.in_mesh(object::namespace(&deployment), metadata, object::spec(template)) {
            services_of(&deployment, findings);
        }
    }
}

/// Ports whose names do not say a protocol. What belongs to Istio itself is left out.
fn port_names(service: &Value, findings: &mut Findings) {
    let labels = object::labels(service);
    let is_control_plane = labels.contains_key("istio") || labels.get("release").map(String::as_str) == Some("istio");
    let is_managed = labels.get("gateway.istio.io/managed").is_some_and(|value| MANAGED.contains(&value.as_str()));
    if is_control_plane || is_managed {
        return;
    }
    let is_external = object::text(service, "/spec/type") == "ExternalName";
    for port in object::list(service, "/spec/ports") {
        let name = object::text(port, "/name");
        let number = port.get("port").and_then(Value::as_u64).unwrap_or(0);
        if says_protocol(port, number) && !(name == "tcp" && is_external) {
            continue;
        }
        if is_external {
            let text = "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for ports \
                        serving TCP protocol from being forwarded correctly";
            findings.add("IST0150", Level::Warning, service, text.to_owned());
        } else {
            let target = target_port(port).unwrap_or_else(|| "0".to_owned());
            let why = "doesn't follow the naming convention of Istio port.";
            let text = format!("Port name {name} (port: {number}, targetPort: {target}) {why}");
            findings.add("IST0118", Level::Info, service, text);
        }
    }
}

/// Whether Istio knows a port's protocol (Istio: `kube.ConvertProtocol`).
fn says_protocol(port: &Value, number: u64) -> bool {
    if object::text(port, "/protocol") == "UDP" {
        return true;
    }
    let own = port.get("appProtocol").and_then(Value::as_str);
    if matches!(own, Some("kubernetes.io/h2c" | "kubernetes.io/ws" | "kubernetes.io/wss")) {
        return true;
    }
    let name = own.unwrap_or_else(|| object::text(port, "/name"));
    let start = name.split('-').next().unwrap_or_default();
    // Ports where a server speaks first.
    let is_well_known = matches!(number, 25 | 53 | 3306 | 27017);
    name.to_ascii_lowercase().starts_with("grpc-web") || spoken(start) != Spoken::Unknown || is_well_known
}

fn target_port(port: &Value) -> Option<String> {
    match port.get("targetPort")? {
        Value::String(name) => Some(name.clone()),
        number => number.as_u64().map(|number| number.to_string()),
    }
}

/// Services of one Deployment that do not agree about a port.
fn services_of(deployment: &Value, findings: &mut Findings) {
    let labels = labels_at(deployment, "/spec/template/metadata/labels");
    let services: Vec<Arc<Value>> = findings
        .objects
        .of("Service")
        .into_iter()
        .filter(|service| {
            let selector = labels_at(service, "/spec/selector");
            object::namespace(service) == object::namespace(deployment) && !selector.is_empty() && object::selects(&selector, &labels)
        })
        .collect();
    let mut protocols: BTreeMap<u64, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut targets: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for service in &services {
        for port in object::list(service, "/spec/ports") {
            let number = port.get("port").and_then(Value::as_u64).unwrap_or(0);
            let protocol = match object::text(port, "/protocol") {
                "" => "TCP",
                protocol => protocol,
            };
            protocols.entry(number).or_default().entry(protocol.to_owned()).or_default().push(full_name(service));
            let target = target_port(port).filter(|target| !matches!(target.as_str(), "" | "0")).unwrap_or_else(|| number.to_string());
            targets.entry(target).or_default().insert(number, full_name(service));
        }
    }
    let name = object::name(deployment);
    for (port, by_protocol) in protocols.iter().filter(|(_, by_protocol)| by_protocol.len() > 1) {
        let mut names: Vec<&String> = by_protocol.values().flatten().collect();
        names.sort();
        let what = format!("is associated with multiple services using port {port} but different protocols: {}", go_list(names));
        findings.add("IST0116", Level::Warning, deployment, format!("This deployment {name} {what}"));
    }
    for (target, by_port) in targets.iter().filter(|(_, by_port)| by_port.len() > 1) {
        let mut names: Vec<&String> = by_port.values().collect();
        names.sort();
        let ports = go_list(by_port.keys().map(u64::to_string));
        let what =
            format!("is associated with multiple services {} using targetPort {target:?} but different ports: {ports}.", go_list(names));
        findings.add("IST0137", Level::Warning, deployment, format!("This deployment {name} {what}"));
    }
}
