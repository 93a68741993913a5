//! Gateways: their workloads, ports, secrets and each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Findings, Level, full_name, go_list, labels_at, selector_text};
use crate::istio::model::object;

pub(super) fn analyze(findings: &mut Findings) {
    let gateways = findings.objects.of("Gateway");
    for gateway in &gateways {
        ports_and_secrets(gateway, findings);
        conflicts(gateway, &gateways, findings);
        certificates(gateway, &gateways, findings);
    }
}

fn port(server: &Value) -> u64 {
    server.pointer("/port/number").and_then(Value::as_u64).unwrap_or(0)
}

fn ports_and_secrets(gateway: &Value, findings: &mut Findings) {
    let selector = labels_at(gateway, "/spec/selector");
    let pods = findings.objects.pods_with(&selector);
    let shown = selector_text(&selector);
    let Some(first) = pods.first() else {
        findings.not_found(gateway, "selector", &shown);
        return;
    };
    let mut known: BTreeSet<u64> = BTreeSet::new();
    for service in findings.objects.of("Service") {
        let own = labels_at(&service, "/spec/selector");
        let is_theirs =
            |pod: &Arc<Value>| object::namespace(pod) == object::namespace(&service) && object::selects(&own, &object::labels(pod));
        if !pods.iter().any(is_theirs) {
            continue;
        }
        for port in object::list(&service, "/spec/ports").iter().filter(|port| matches!(object::text(port, "/protocol"), "TCP" | "")) {
            let number = port.get("port").and_then(Value::as_u64).unwrap_or(0);
            // A port that is forwarded to a number counts under both.
            let target = port.get("targetPort").and_then(Value::as_u64).filter(|target| *target != 0);
            known.insert(number);
            known.extend(target);
        }
    }
    for server in object::list(gateway, "/spec/servers").iter().filter(|server| !known.contains(&port(server))) {
        let text = format!(
            "The gateway is listening on a target port (port {}) that is not defined in the Service associated with its workload \
             instances (Pod selector {shown}). If you need to access the gateway port through the gateway Service, it will not be \
             available.",
            port(server)
        );
        findings.add("IST0162", Level::Warning, gateway, text);
    }
    let namespace = object::namespace(first);
    for server in object::list(gateway, "/spec/servers") {
        let credential = object::text(server, "/tls/credentialName");
        if !credential.is_empty() && findings.objects.find("Secret", namespace, credential).is_none() {
            findings.not_found(gateway, "credentialName", credential);
        }
    }
}

/// Gateways for the same pods and port that have a host in common.
fn conflicts(gateway: &Value, all: &[Arc<Value>], findings: &mut Findings) {
    let selector = labels_at(gateway, "/spec/selector");
    let shown = selector_text(&selector);
    for server in object::list(gateway, "/spec/servers") {
        let number = port(server);
        let mut others = Vec::new();
        for other in all.iter().filter(|other| full_name(other) != full_name(gateway)) {
            let theirs = labels_at(other, "/spec/selector");
            let text = selector_text(&theirs);
            let overlaps = text == shown || ((text.contains(&shown) || shown.contains(&text)) && share_a_pod(&selector, &theirs, findings));
            // Of several servers for one port, istioctl remembers the last.
            let last = object::list(other, "/spec/servers").iter().rfind(|server| port(server) == number);
            let shares_host = |one: &Value| {
                let hosts = object::texts(one, "/hosts");
                let is_same_bind = object::text(one, "/bind") == object::text(server, "/bind");
                is_same_bind && object::texts(server, "/hosts").iter().any(|host| hosts.contains(host))
            };
            if overlaps && last.is_some_and(shares_host) {
                others.push(full_name(other));
            }
        }
        if !others.is_empty() {
            let hosts = object::texts(server, "/hosts").join(",");
            let text = format!("Conflict with gateways {} (workload selector {shown}, port {number}, hosts {hosts}).", others.join(","));
            findings.add("IST0145", Level::Error, gateway, text);
        }
    }
}

fn share_a_pod(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>, findings: &Findings) -> bool {
    let pods = findings.objects.pods_with(one);
    pods.iter().any(|pod| object::selects(other, &object::labels(pod)))
}

/// Gateways for the same pods that show the same certificate.
fn certificates(gateway: &Value, all: &[Arc<Value>], findings: &mut Findings) {
    let selector = labels_at(gateway, "/spec/selector");
    for other in all.iter().filter(|other| full_name(other) != full_name(gateway)) {
        if !object::selects(&selector, &labels_at(other, "/spec/selector")) {
            continue;
        }
        let tls = |gateway: &Value| -> Vec<Value> {
            object::list(gateway, "/spec/servers").iter().filter_map(|server| server.get("tls").cloned()).collect()
        };
        let theirs = tls(other);
        if tls(gateway).iter().any(|one| theirs.iter().any(|other| is_same_certificate(one, other))) {
            let names = go_list([full_name(gateway), full_name(other)]);
            let text = format!("Duplicate certificate in multiple gateways {names} may cause 404s if clients re-use HTTP2 connections.");
            findings.add("IST0138", Level::Warning, gateway, text);
        }
    }
}

fn is_same_certificate(one: &Value, other: &Value) -> bool {
    let pair = |field: &str| (object::text(one, field), object::text(other, field));
    let is_same = |field: &str| matches!(pair(field), (one, other) if !one.is_empty() && one == other);
    match pair("/credentialName") {
        ("", "") => is_same("/serverCertificate") && is_same("/privateKey"),
        _ => is_same("/credentialName"),
    }
}
