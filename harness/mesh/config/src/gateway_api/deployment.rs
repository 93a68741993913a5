//! The workload of a Gateway (Istio: `gatewaycommon/deploymentcontroller.go`; `files/kube-gateway.yaml` of istiod's chart).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Objects, class};
use crate::Snapshot;
use crate::istio::model::object;

/// A label that everything has which istiod made for a Gateway.
const MANAGED: &str = "gateway.istio.io/managed";
const CONTROLLER: &str = "istio.io-gateway-controller";
/// Annotations that are istiod's own and not for the workload.
const OWN_ANNOTATIONS: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "gateway.istio.io/name-override",
    "gateway.istio.io/service-account",
    "gateway.istio.io/controller-version",
];

/// What istiod wants to be there for the Gateways that it deploys: for each a ServiceAccount, a Deployment with a proxy of `image`,
/// and a Service, owned by the Gateway. One that is there already and is not istiod's is left alone.
///
/// What a ConfigMap of `spec.infrastructure.parametersRef` would change is not looked at; with one that is not there nothing is made.
#[must_use]
pub fn deployments(snapshot: &Snapshot, image: &str) -> Vec<Arc<Value>> {
    let objects = Objects::new(snapshot);
    let foreign: BTreeSet<(&str, &str, &str)> = snapshot
        .objects
        .iter()
        .filter(|value| matches!(object::text(value, "/kind"), "ServiceAccount" | "Deployment" | "Service"))
        .filter(|value| !object::labels(value).contains_key(MANAGED))
        .map(|value| (object::text(value, "/kind"), object::namespace(value), object::name(value)))
        .collect();
    let wanted =
        class::gateways(&objects).filter(|gateway| is_deployed(&objects, gateway)).flat_map(|gateway| of(gateway, image, &snapshot.domain));
    wanted.filter(|one| !foreign.contains(&(object::text(one, "/kind"), object::namespace(one), object::name(one)))).map(Arc::new).collect()
}

fn is_deployed(objects: &Objects<'_>, gateway: &Value) -> bool {
    let parameters = gateway.pointer("/spec/infrastructure/parametersRef");
    let are_there = |reference: &Value| {
        let is_map = (object::text(reference, "/group"), object::text(reference, "/kind")) == ("", "ConfigMap");
        is_map && objects.find("ConfigMap", object::namespace(gateway), object::text(reference, "/name")).is_some()
    };
    class::is_managed(gateway) && gateway.pointer("/metadata/deletionTimestamp").is_none() && parameters.is_none_or(are_there)
}

/// Labels or annotations for all that is made: those for the infrastructure, where it says any, or else the Gateway's own.
fn infrastructure(gateway: &Value, what: &str) -> BTreeMap<String, String> {
    match gateway.pointer(&format!("/spec/infrastructure/{what}")) {
        Some(said) => {
            let mut said = object::text_map(said);
            said.retain(|key, _| !key.starts_with("gateway.networking.k8s.io/"));
            said
        }
        None => gateway.pointer(&format!("/metadata/{what}")).map(object::text_map).unwrap_or_default(),
    }
}

fn of(gateway: &Value, image: &str, domain: &str) -> [Value; 3] {
    let (namespace, name) = (object::namespace(gateway), object::name(gateway));
    let class = object::text(gateway, "/spec/gatewayClassName");
    let (deployment, account) = (class::deployment_name(gateway), class::service_account(gateway));
    let mut labels = infrastructure(gateway, "labels");
    labels.insert("gateway.networking.k8s.io/gateway-name".to_owned(), name.to_owned());
    labels.insert("gateway.networking.k8s.io/gateway-class-name".to_owned(), class.to_owned());
    labels.insert(MANAGED.to_owned(), CONTROLLER.to_owned());
    let mut annotations = infrastructure(gateway, "annotations");
    annotations.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str()));
    let owner = json!([{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": name, "uid": object::text(gateway, "/metadata/uid")}]);
    let metadata =
        |own: &str| json!({"name": own, "namespace": namespace, "labels": labels, "annotations": annotations, "ownerReferences": owner});
    let selector = json!({"gateway.networking.k8s.io/gateway-name": name});
    let mut service = json!({"ports": ports(gateway), "selector": selector, "type": service_type(gateway)});
    if let (Some(address), "LoadBalancer") = (object::list(gateway, "/spec/addresses").first(), service_type(gateway)) {
        service["loadBalancerIP"] = json!(object::text(address, "/value"));
    }
    let spec = json!({
        "selector": {"matchLabels": selector},
        "template": {"metadata": pod_metadata(&deployment, &labels, &annotations), "spec": pod(&account, image, domain)},
    });
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(&account)}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(&deployment), "spec": spec}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&deployment), "spec": service}),
    ]
}

fn service_type(gateway: &Value) -> &str {
    match object::annotation(gateway, "networking.istio.io/service-type") {
        "" => "LoadBalancer",
        named => named,
    }
}

/// The ports of the listeners, each once, after that of the proxy's own state (`extractServicePorts`).
fn ports(gateway: &Value) -> Vec<Value> {
    let mut out = vec![json!({"name": "status-port", "port": 15021, "protocol": "TCP", "appProtocol": "tcp"})];
    let mut numbers = BTreeSet::new();
    let mut names = BTreeSet::from(["status-port".to_owned()]);
    for (index, listener) in object::list(gateway, "/spec/listeners").iter().enumerate() {
        let Some(number) = object::port(listener, "/port").filter(|number| numbers.insert(*number)) else { continue };
        let protocol = object::text(listener, "/protocol").to_ascii_lowercase();
        let mut name: String = object::text(listener, "/name").replace('.', "-").chars().take(63).collect();
        if name.is_empty() {
            name = format!("{protocol}-{index}");
        }
        let mut own = name.clone();
        let mut suffix = format!("-{number}");
        while !names.insert(own.clone()) {
            own = name.chars().take(63_usize.saturating_sub(suffix.len())).chain(suffix.chars()).collect();
            suffix.push('x');
        }
        out.push(json!({"name": own, "port": number, "protocol": "TCP", "appProtocol": protocol}));
    }
    out
}

fn pod_metadata(deployment: &str, labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Value {
    let texts =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>();
    let mut pod_labels = texts(&[
        ("sidecar.istio.io/inject", "false"),
        ("service.istio.io/canonical-name", deployment),
        ("service.istio.io/canonical-revision", "latest"),
    ]);
    pod_labels.extend(labels.clone());
    let mut pod_annotations = annotations.clone();
    pod_annotations.extend(texts(&[
        ("istio.io/rev", "default"),
        ("prometheus.io/path", "/stats/prometheus"),
        ("prometheus.io/port", "15020"),
        ("prometheus.io/scrape", "true"),
    ]));
    json!({"labels": pod_labels, "annotations": pod_annotations})
}

fn pod(account: &str, image: &str, domain: &str) -> Value {
    let port = |number: u16, name: &str| json!({"containerPort": number, "name": name, "protocol": "TCP"});
    json!({
        "serviceAccountName": account,
        "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        "containers": [{
            "name": "istio-proxy",
            "image": image,
            "args": ["proxy", "router", "--domain", format!("$(POD_NAMESPACE).svc.{domain}")],
            "ports": [port(15020, "metrics"), port(15021, "status-port"), port(15090, "http-envoy-prom")],
            "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"}, "periodSeconds": 15},
        }],
    })
}
