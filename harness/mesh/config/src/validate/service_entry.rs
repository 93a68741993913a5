//! What istiod says of a ServiceEntry.

use std::collections::BTreeSet;

use serde_json::Value;

use super::gateway::unix_address;
use super::names::{self, Spoken};
use super::problems::Problems;
use crate::istio::model::object;

pub(super) fn check(entry: &Value) -> Problems {
    let mut problems = Problems::new();
    let spec = object::spec(entry);
    if let Err(bad) = names::workload_selector(spec, "service entry", &mut problems) {
        return bad;
    }
    let hosts = object::texts(spec, "/hosts");
    let resolution = match object::text(spec, "/resolution") {
        "" => "NONE",
        resolution => resolution,
    };
    problems.error_if(hosts.is_empty(), "service entry must have at least one host");
    for host in &hosts {
        if *host == "*" {
            problems.error("invalid host *");
            continue;
        }
        problems.check(names::wildcard_domain(host));
        if resolution != "DYNAMIC_DNS"
            && let Err(warning) = names::partial_wildcard(host)
        {
            problems.warn(warning);
        }
    }
    let addresses = object::texts(spec, "/addresses");
    for address in &addresses {
        problems.check(names::subnet(address));
    }
    let has_range = addresses.iter().any(|address| address.contains('/'));
    let text = "CIDR addresses are allowed only for NONE/STATIC resolution types";
    problems.error_if(has_range && !matches!(resolution, "NONE" | "STATIC"), text);
    let port_names = check_ports(entry, addresses.is_empty(), &mut problems);
    match resolution {
        "STATIC" => {
            for endpoint in object::list(spec, "/endpoints") {
                check_static(endpoint, &port_names, &mut problems);
            }
        }
        "DNS" | "DNS_ROUND_ROBIN" => check_dns(spec, resolution, &hosts, &port_names, &mut problems),
        "DYNAMIC_DNS" => check_dynamic(spec, &hosts, &mut problems),
        _ => {
            let has_endpoints = !object::list(spec, "/endpoints").is_empty();
            problems.error_if(has_endpoints, "no endpoints should be provided for resolution type none");
            if spec.get("workloadSelector").is_some_and(Value::is_object) {
                problems.warn("workloadSelector should not be set when resolution mode is NONE");
            }
        }
    }
    let is_plain = |port: &Value| !matches!(protocol(port), Spoken::Http | Spoken::Tls);
    if resolution != "NONE" && hosts.len() > 1 && object::list(spec, "/ports").iter().any(is_plain) {
        problems.error("multiple hosts provided with non-HTTP, non-TLS ports");
    }
    problems.extend(names::export_to(entry, true));
    problems
}

fn protocol(port: &Value) -> Spoken {
    names::spoken(object::text(port, "/protocol"))
}

/// Whether istiod gives a ServiceEntry without addresses one of its own (Istio: `ShouldV2AutoAllocateIPFromConfig`).
fn is_auto_allocated(entry: &Value) -> bool {
    let label = entry.pointer("/metadata/labels").and_then(|labels| labels.get("networking.istio.io/enable-autoallocate-ip"));
    let is_off = label.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case("false"));
    let resolution = object::text(entry, "/spec/resolution");
    !is_off && !matches!(resolution, "" | "NONE" | "DYNAMIC_DNS")
}

fn check_ports<'a>(entry: &'a Value, has_no_address: bool, problems: &mut Problems) -> BTreeSet<&'a str> {
    let is_allocated = is_auto_allocated(entry);
    let (mut port_names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in object::list(entry, "/spec/ports") {
        let (name, number) = (object::text(port, "/name"), names::number(port, "/number"));
        if !port_names.insert(name) {
            problems.error(format!("service entry port name {name:?} already defined"));
        }
        if !numbers.insert(number) {
            problems.error(format!("service entry port {number} already defined"));
        }
        let target = names::number(port, "/targetPort");
        if target != 0 {
            problems.check(names::port(target));
        }
        if has_no_address && !is_allocated && matches!(object::text(port, "/protocol"), "" | "TCP") {
            let when = "when IP Autoallocation is not enabled";
            problems.warn(format!("addresses are required for ports serving TCP (or unset) protocol {when}"));
        }
        problems.check(names::port_name(name));
        problems.check(names::protocol(object::text(port, "/protocol")));
        problems.check(names::port(number));
    }
    port_names
}

fn check_endpoint_ports(endpoint: &Value, port_names: &BTreeSet<&str>, problems: &mut Problems) {
    for (name, port) in endpoint.get("ports").and_then(Value::as_object).into_iter().flatten() {
        if !port_names.contains(name.as_str()) {
            problems.error(format!("endpoint port {port} is not defined by the service entry"));
        }
        problems.check(names::port_name(name));
        problems.check(names::port(port.as_i64().unwrap_or(0)));
    }
}

fn check_static(endpoint: &Value, port_names: &BTreeSet<&str>, problems: &mut Problems) {
    let address = object::text(endpoint, "/address");
    let network = object::text(endpoint, "/network");
    if address.is_empty() {
        if network.is_empty() {
            problems.error("address is required");
            return;
        }
        problems.warn(format!("address is unset with network {network:?}"));
    }
    let unix = address.strip_prefix("unix://");
    if let Some(path) = unix {
        problems.check(unix_address(path));
        if endpoint.get("ports").and_then(Value::as_object).is_some_and(|ports| !ports.is_empty()) {
            problems.error(format!("unix endpoint {address} must not include ports"));
        }
    } else if !address.is_empty() && !names::is_ip(address) {
        problems.error(format!("endpoint address {address:?} is not a valid IP address"));
    }
    check_endpoint_ports(endpoint, port_names, problems);
    problems.extend(names::tags(endpoint.get("labels")));
    problems.error_if(unix.is_some() && port_names.len() != 1, "exactly 1 service port required for unix endpoints");
}

fn check_dns(spec: &Value, resolution: &str, hosts: &[&str], port_names: &BTreeSet<&str>, problems: &mut Problems) {
    let endpoints = object::list(spec, "/endpoints");
    if endpoints.is_empty()
        && let Some(error) = hosts.iter().find_map(|host| names::fqdn(host).err())
    {
        let need = "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided";
        problems.error(format!("{need} for resolution mode {resolution}, {error}"));
    }
    if resolution == "DNS_ROUND_ROBIN" && endpoints.len() > 1 {
        problems.error(format!("there must only be 0 or 1 endpoint for resolution mode {resolution}"));
    }
    for endpoint in endpoints {
        let address = object::text(endpoint, "/address");
        if !names::is_ip(address) && names::fqdn(address).is_err() {
            problems.error(format!("endpoint address {address:?} is not a valid FQDN or an IP address"));
        }
        problems.extend(names::tags(endpoint.get("labels")));
        check_endpoint_ports(endpoint, port_names, problems);
    }
    let has_tcp = object::list(spec, "/ports").iter().any(|port| protocol(port) == Spoken::Tcp);
    if !object::list(spec, "/addresses").is_empty() && has_tcp && hosts.len() > 1 {
        problems.warn("service entry can not have more than one host specified simultaneously with address and tcp port");
    }
}

fn check_dynamic(spec: &Value, hosts: &[&str], problems: &mut Problems) {
    let of = "resolution type DYNAMIC_DNS";
    problems.error_if(hosts.is_empty(), &format!("at least one wildcard host must be provided for {of}"));
    for _ in hosts.iter().filter(|host| !host.starts_with('*')) {
        problems.error("host must be wildcarded for resolution mode DYNAMIC_DNS");
    }
    if !object::list(spec, "/addresses").is_empty() {
        let why = "HTTP route domains will only be generatedfrom the hosts field values";
        problems.error(format!("addresses cannot be set for {of}. {why}"));
    }
    if !object::list(spec, "/endpoints").is_empty() {
        problems.error(format!("endpoints cannot be set for {of}. Destination IP address determined from hostsfield values"));
    }
    for port in object::list(spec, "/ports") {
        let protocol = object::text(port, "/protocol").to_ascii_uppercase();
        if !matches!(protocol.as_str(), "HTTP" | "TLS" | "GRPC" | "HTTP2") {
            problems.error(format!("only HTTP, TLS, GRPC, and HTTP2 protocols are supported for {of}"));
        }
    }
}
