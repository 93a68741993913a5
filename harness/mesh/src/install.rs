//! The objects that Istio's charts make, as far as anything here reads them: the control plane and gateways.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How a gateway's Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From inside the cluster.
    ClusterIp,
    /// From outside too, at these ports of the node, for 80 and 443.
    NodePort {
        /// For port 80.
        http: u16,
        /// For port 443.
        https: u16,
    },
}

/// One release of Istio's `gateway` chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRelease {
    /// Its namespace.
    pub namespace: String,
    /// Its name: that of its Deployment, Service and service account, and its label `app`.
    pub name: String,
    /// Labels of its pods beside `app`.
    pub labels: BTreeMap<String, String>,
    /// How it is reached.
    pub reach: Reach,
    /// Which port of the pod each port of the Service leads to.
    pub ports: Vec<ServicePort>,
}

/// A port of a gateway's Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// The pod's port.
    pub target: u16,
}

/// A service account, a Service and a Deployment for each gateway.
#[must_use]
pub fn gateway(release: &GatewayRelease) -> Vec<Value> {
    let (namespace, name) = (&release.namespace, &release.name);
    let mut labels = release.labels.clone();
    labels.insert("app".to_owned(), name.clone());
    let mut all = labels.clone();
    all.insert("app.kubernetes.io/name".to_owned(), name.clone());
    all.insert("istio.io/dataplane-mode".to_owned(), "none".to_owned());
    let mut pod_labels = all.clone();
    pod_labels.insert("sidecar.istio.io/inject".to_owned(), "true".to_owned());
    let node_port = |port: u16| match release.reach {
        Reach::NodePort { http, https } => match port {
            80 => Some(http),
            443 => Some(https),
            _ => None,
        },
        Reach::ClusterIp => None,
    };
    let ports: Vec<Value> = release
        .ports
        .iter()
        .map(|p| {
            let mut port = json!({"name": p.name, "port": p.port, "protocol": "TCP", "targetPort": p.target});
            if let Some(node_port) = node_port(p.port) {
                port["nodePort"] = node_port.into();
            }
            port
        })
        .collect();
    let mut spec = json!({"selector": labels, "ports": ports});
    match release.reach {
        Reach::ClusterIp => spec["type"] = json!("ClusterIP"),
        Reach::NodePort { .. } => {
            spec["type"] = json!("NodePort");
            spec["externalTrafficPolicy"] = json!("Local");
        }
    }
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace, "labels": all}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": all}, "spec": spec}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace, "labels": all},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": pod_labels, "annotations": {"inject.istio.io/templates": "gateway", "sidecar.istio.io/inject": "true"}},
                "spec": {"serviceAccountName": name, "terminationGracePeriodSeconds": 3,
                    "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
                    "containers": [{"name": "istio-proxy", "image": "auto",
                        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}]}]}}}}),
    ]
}

/// istiod with its Service, and the mesh's configuration: `mesh` is that of `meshConfig` in the chart's values, in YAML.
#[must_use]
pub fn control_plane(root_namespace: &str, image: &str, mesh: &str) -> Vec<Value> {
    let labels = json!({"app": "istiod", "istio": "pilot"});
    let ports = [("grpc-xds", 15010, 15010), ("https-dns", 15012, 15012), ("https-webhook", 443, 15017), ("http-monitoring", 15014, 15014)];
    let ports: Vec<Value> =
        ports.iter().map(|(name, port, target)| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": target})).collect();
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": root_namespace,
            "labels": {"istio.io/rev": "default"}}, "data": {"mesh": mesh, "meshNetworks": "networks: {}"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "istiod", "namespace": root_namespace}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": root_namespace,
            "labels": {"app": "istiod", "istio": "pilot", "istio.io/rev": "default"}}, "spec": {"selector": labels, "ports": ports}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod", "namespace": root_namespace,
            "labels": {"app": "istiod", "istio": "pilot", "istio.io/rev": "default"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": {"app": "istiod", "istio": "pilot", "istio.io/rev": "default", "sidecar.istio.io/inject": "false"}},
                "spec": {"serviceAccountName": "istiod", "containers": [{"name": "discovery", "image": image}]}}}}),
    ]
}

/// What every cluster has beside: the API server's own Service, and its DNS with a pod that does nothing (names resolve
/// without it).
#[must_use]
pub fn platform(node_ip: std::net::IpAddr) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": [{"addresses": [node_ip.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "coredns", "namespace": "kube-system"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "coredns", "namespace": "kube-system"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}, "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {"serviceAccountName": "coredns",
                    "containers": [{"name": "coredns", "image": "busybox", "command": ["sleep", "infinity"]}]}}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system",
                "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
            "spec": {"clusterIP": "10.96.0.10", "selector": {"k8s-app": "kube-dns"}, "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153}]}}),
    ]
}
