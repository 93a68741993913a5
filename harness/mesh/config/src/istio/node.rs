//! A proxy, read from its pod as the injector made it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::model::object;
use crate::{ProxyKind, ProxyNode};

/// The container that the injector adds, or that a gateway is.
const PROXY_CONTAINER: &str = "istio-proxy";

impl ProxyNode {
    /// The proxy in this pod, or nothing if it has none or has no address yet.
    ///
    /// The container `istio-proxy` (a native sidecar is an init container) says what it is by its arguments `proxy sidecar` or
    /// `proxy router` (Istio: pilot-agent's `proxy` command).
    #[must_use]
    pub fn from_pod(pod: &Value) -> Option<ProxyNode> {
        let containers = || ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(|at| object::list(pod, at));
        let proxy = containers().find(|container| object::text(container, "/name") == PROXY_CONTAINER)?;
        let words: Vec<&str> = object::list(proxy, "/args").iter().filter_map(Value::as_str).collect();
        let kind = match words.as_slice() {
            ["proxy", "router", ..] => ProxyKind::Router,
            ["proxy", "sidecar", ..] | ["proxy"] => ProxyKind::Sidecar,
            _ => return None,
        };
        let ip: IpAddr = object::text(pod, "/status/podIP").parse().ok()?;
        let container_ports = containers()
            .filter(|container| object::text(container, "/name") != PROXY_CONTAINER)
            .flat_map(|container| object::list(container, "/ports"))
            .filter_map(|port| object::port(port, "/containerPort"))
            .collect();
        let service_account = match object::text(pod, "/spec/serviceAccountName") {
            "" => "default",
            name => name,
        };
        Some(ProxyNode {
            kind,
            pod: object::name(pod).to_owned(),
            namespace: object::namespace(pod).to_owned(),
            ip,
            labels: object::labels(pod),
            annotations: texts(pod.pointer("/metadata/annotations")),
            service_account: service_account.to_owned(),
            container_ports,
        })
    }
}

fn texts(map: Option<&Value>) -> BTreeMap<String, String> {
    map.map(object::text_map).unwrap_or_default()
}
