//! What istiod says of a Sidecar.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::destination_rule::connection_pool;
use super::gateway::{check_tls, unix_address};
use super::names::{self, Spoken};
use super::problems::Problems;
use crate::istio::model::object;

pub(super) fn check(sidecar: &Value) -> Problems {
    let mut problems = Problems::new();
    let spec = object::spec(sidecar);
    if let Err(bad) = names::workload_selector(spec, "sidecar", &mut problems) {
        return bad;
    }
    let (ingress, egress) = (object::list(spec, "/ingress"), object::list(spec, "/egress"));
    let has = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    if ingress.is_empty() && egress.is_empty() && !has("outboundTrafficPolicy") && !has("inboundConnectionPool") {
        return Problems { errors: vec!["sidecar: empty configuration provided".to_owned()], ..Problems::new() };
    }
    check_ingress(ingress, &mut problems);
    problems.extend(spec.get("inboundConnectionPool").map(connection_pool).unwrap_or_default());
    check_egress(egress, object::namespace(sidecar), &mut problems);
    if let Some(policy) = spec.get("outboundTrafficPolicy").filter(|policy| policy.is_object()) {
        check_outbound(policy, &mut problems);
    }
    problems
}

fn check_ingress(ingress: &[Value], problems: &mut Problems) {
    let mut ports = BTreeSet::new();
    for one in ingress {
        let Some(port) = one.get("port").filter(|port| port.is_object()) else {
            problems.error("sidecar: port is required for ingress listeners");
            continue;
        };
        problems.error_if(names::number(port, "/targetPort") > 0, "targetPort has no impact on Sidecars");
        let name = object::text(port, "/name");
        if !name.is_empty() {
            problems.check(names::port_name(name));
        }
        let number = names::number(port, "/number");
        problems.check(names::protocol(object::text(port, "/protocol")));
        problems.check(names::port(number));
        let bind = object::text(one, "/bind");
        if !bind.is_empty() {
            problems.check(names::ip(bind));
        }
        problems.error_if(!ports.insert(number), "sidecar: ports on IP bound listeners must be unique");
        check_default_endpoint(object::text(one, "/defaultEndpoint"), problems);
        if let Some(tls) = one.get("tls").filter(|tls| tls.is_object()) {
            check_ingress_tls(tls, object::text(port, "/protocol"), problems);
        }
        problems.extend(one.get("connectionPool").map(connection_pool).unwrap_or_default());
    }
}

fn check_default_endpoint(endpoint: &str, problems: &mut Problems) {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        problems.check(unix_address(path));
        return;
    }
    if endpoint.is_empty() {
        return;
    }
    let Some((host, port)) = endpoint.rsplit_once(':') else {
        problems.error(format!("address {endpoint}: missing port in address"));
        problems.error("sidecar: defaultEndpoint port () is not a number: strconv.Atoi: parsing \"\": invalid syntax");
        return;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let text = "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset";
    problems.error_if(!matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::"), text);
    match port.parse() {
        Ok(port) => problems.check(names::port(port)),
        Err(_) => {
            let why = format!("strconv.Atoi: parsing {port:?}: invalid syntax");
            problems.error(format!("sidecar: defaultEndpoint port ({port}) is not a number: {why}"));
        }
    }
}

fn check_ingress_tls(tls: &Value, protocol: &str, problems: &mut Problems) {
    let has_list = |field: &str| !object::list(tls, field).is_empty();
    problems.error_if(has_list("/subjectAltNames"), "sidecar: subjectAltNames is not supported in ingress tls");
    problems.error_if(object::flag(tls, "/httpsRedirect"), "sidecar: httpsRedirect is not supported");
    let has_credential = !object::text(tls, "/credentialName").is_empty();
    problems.error_if(has_credential, "sidecar: credentialName is not currently supported");
    problems.error_if(has_list("/credentialNames"), "sidecar: credentialNames is not currently supported");
    problems.error_if(has_list("/tlsCertificates"), "sidecar: tls_certificates is not currently supported");
    let mode = object::text(tls, "/mode");
    if matches!(mode, "ISTIO_MUTUAL" | "AUTO_PASSTHROUGH") {
        problems.error(format!("configuration is invalid: cannot set mode to {mode} in sidecar ingress tls"));
    }
    let is_tls = names::spoken(protocol) == Spoken::Tls;
    problems.error_if(!is_tls, "server cannot have TLS settings for non HTTPS/TLS ports");
    problems.extend(check_tls(tls));
}

fn check_egress(egress: &[Value], namespace: &str, problems: &mut Problems) {
    let (mut ports, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for (index, one) in egress.iter().enumerate() {
        let bind = object::text(one, "/bind");
        match one.get("port").filter(|port| port.is_object()) {
            None => {
                let is_last = index + 1 == egress.len();
                problems.error_if(!is_last, "sidecar: the egress listener with empty port should be the last listener in the list");
            }
            Some(port) => {
                problems.error_if(names::number(port, "/targetPort") > 0, "targetPort has no impact on Sidecars");
                check_egress_port(port, bind, object::text(one, "/captureMode"), problems);
                let number = names::number(port, "/number");
                if number == 0 {
                    let text = "sidecar: unix domain socket values for listeners must be unique";
                    problems.error_if(!sockets.insert(bind), text);
                } else {
                    problems.error_if(!ports.insert(number), "sidecar: ports on IP bound listeners must be unique");
                }
            }
        }
        check_hosts(&object::texts(one, "/hosts"), namespace, problems);
    }
}

fn check_egress_port(port: &Value, bind: &str, capture: &str, problems: &mut Problems) {
    let name = object::text(port, "/name");
    if !name.is_empty() {
        problems.check(names::port_name(name));
    }
    problems.check(names::protocol(object::text(port, "/protocol")));
    let number = names::number(port, "/number");
    if number != 0 {
        problems.check(names::port(number));
        if !bind.is_empty() {
            problems.check(names::ip(bind));
        }
        return;
    }
    match bind.strip_prefix("unix://") {
        Some(path) => problems.check(unix_address(path)),
        None => problems.error("sidecar: ports with 0 value must have a unix domain socket bind address"),
    }
    let is_captured = !matches!(capture, "" | "DEFAULT" | "NONE");
    problems.error_if(is_captured, "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners");
}

fn check_hosts(hosts: &[&str], namespace: &str, problems: &mut Problems) {
    problems.error_if(hosts.is_empty(), "sidecar: egress listener must contain at least one host");
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for host in hosts {
        if let Some((of, name)) = host.split_once('/').filter(|(of, _)| !of.starts_with('~')) {
            let names = seen.entry(if of == "." { namespace } else { of }).or_default();
            let is_twice = if name == "*" { !names.is_empty() } else { names.contains(name) || names.contains("*") };
            if is_twice {
                problems.warn(format!("duplicated egress host: {host}"));
            }
            names.insert(name);
        }
        problems.extend(names::namespaced_host(host, false));
    }
    if seen.len() > 1 && seen.get("*").is_some_and(|names| names.contains("*")) {
        problems.warn("`*/*` host select all resources, no other hosts can be added");
    }
}

fn check_outbound(policy: &Value, problems: &mut Problems) {
    let Some(proxy) = policy.get("egressProxy").filter(|proxy| proxy.is_object()) else {
        return;
    };
    if object::text(policy, "/mode") != "ALLOW_ANY" {
        problems.error("sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode");
        return;
    }
    problems.check(names::fqdn(object::text(proxy, "/host")));
    match proxy.get("port").is_some_and(Value::is_object) {
        true => problems.check(names::port(names::number(proxy, "/port/number"))),
        false => problems.error("sidecar: egress_proxy port must be non-nil"),
    }
}
