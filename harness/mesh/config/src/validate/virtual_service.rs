//! What istiod says of a VirtualService (Istio: `pkg/config/validation/virtualservice.go`).

use serde_json::Value;

use super::http_route;
use super::names;
use super::problems::Problems;
use super::reach::{Reach, reach};
use crate::istio::model::object;

pub(super) fn check(service: &Value) -> Problems {
    let mut problems = Problems::new();
    let hosts = object::texts(service, "/spec/hosts");
    let gateways = object::texts(service, "/spec/gateways");
    let (http, tls, tcp) = (object::list(service, "/spec/http"), object::list(service, "/spec/tls"), object::list(service, "/spec/tcp"));
    let is_delegate = hosts.is_empty();
    if is_delegate {
        problems.error_if(!gateways.is_empty(), "delegate virtual service must have no gateways specified");
        problems.error_if(!tls.is_empty(), "delegate virtual service must have no tls route specified");
        problems.error_if(!tcp.is_empty(), "delegate virtual service must have no tcp route specified");
    }
    problems.extend(gateway_names(&gateways));
    let for_gateway = !gateways.is_empty() && !gateways.contains(&"mesh");
    if !for_gateway {
        let matches = http.iter().flat_map(|route| object::list(route, "/match"));
        let headers = matches.flat_map(|one| [one.get("headers"), one.get("withoutHeaders")]).flatten();
        for key in headers.filter_map(Value::as_object).flat_map(serde_json::Map::keys).filter(|key| is_claim(key)) {
            let shown = gateways.join(" ");
            let why = format!("is only supported for gateway, found no gateways: [{shown}]");
            problems.error(format!("JWT claim based routing (key: {key}) {why}"));
        }
    }
    check_hosts(&hosts, for_gateway, has_sni(tls), &mut problems);
    if http.is_empty() && tcp.is_empty() && tls.is_empty() {
        problems.error("http, tcp or tls must be provided in virtual service");
    }
    for route in http {
        problems.extend(http_route::check(route, is_delegate));
    }
    for route in tls {
        check_tls(route, &hosts, for_gateway, &mut problems);
    }
    for route in tcp {
        for one in object::list(route, "/match") {
            check_l4_match(one, &mut problems);
        }
        problems.error_if(object::list(route, "/route").is_empty(), "TCP route is required");
        problems.extend(http_route::destinations(object::list(route, "/route"), false));
    }
    problems.extend(names::export_to(service, false));
    for finding in reach(service) {
        problems.warn(match finding {
            Reach::Unreachable { rule, reason } => format!("virtualService rule {rule} not used ({reason})"),
            Reach::Ineffective { rule, part, other } => {
                format!("virtualService rule {rule} match {part} is not used (duplicate/overlapping match in rule {other})")
            }
        });
    }
    problems
}

/// A header's name that means a claim of a token.
pub(crate) fn is_claim(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("@request.auth.claims.") || (name.starts_with("@request.auth.claims[") && name.ends_with(']'))
}

fn has_sni(tls: &[Value]) -> bool {
    tls.iter().flat_map(|route| object::list(route, "/match")).any(|one| !object::list(one, "/sniHosts").is_empty())
}

fn check_hosts(hosts: &[&str], for_gateway: bool, has_sni: bool, problems: &mut Problems) {
    let mut all_good = true;
    for host in hosts {
        let result = if for_gateway { names::gateway_domain(has_sni, host) } else { names::wildcard_domain(host) };
        match result {
            Err(_) if names::is_ip(host) => {}
            Err(error) => {
                problems.error(error);
                all_good = false;
            }
            Ok(()) if !for_gateway && *host == "*" => {
                problems.error("wildcard host * is not allowed for virtual services bound to the mesh gateway");
                all_good = false;
            }
            Ok(()) => {}
        }
    }
    if !all_good {
        return;
    }
    for (index, one) in hosts.iter().enumerate() {
        for other in hosts.iter().skip(index + 1).filter(|other| names::hosts_overlap(one, other)) {
            problems.error(format!("duplicate hosts in virtual service: {one} & {other}"));
        }
    }
}

/// Names of Gateways: `NAMESPACE/NAME`, `NAME`, or a domain name as in old times. Checking ends at the first without a slash.
pub(super) fn gateway_names(all: &[&str]) -> Problems {
    let mut problems = Problems::new();
    for name in all {
        let Some((namespace, short)) = name.split_once('/') else {
            let parts: Vec<&str> = name.split('.').collect();
            if let [first, second, ..] = parts.as_slice() {
                let better = format!("{second}/{first}");
                problems.warn(format!("using legacy gatewayName format {name:?}; prefer the <namespace>/<name> format: {better:?}"));
            }
            problems.check(names::fqdn(name));
            return problems;
        };
        problems.error_if(namespace.is_empty() || short.is_empty(), "config namespace and gateway name cannot be empty");
        if !names::is_label(namespace) {
            problems.error(format!("invalid value for namespace: {namespace:?}"));
        }
        if !names::is_label(short) {
            problems.error(format!("invalid value for gateway name: {short:?}"));
        }
    }
    problems
}

fn check_tls(route: &Value, hosts: &[&str], for_gateway: bool, problems: &mut Problems) {
    let matches = object::list(route, "/match");
    problems.error_if(matches.is_empty(), "TLS route must have at least one match condition");
    for one in matches {
        let sni = object::texts(one, "/sniHosts");
        problems.error_if(sni.is_empty(), "TLS match must have at least one SNI host");
        for host in sni {
            let result = if for_gateway { names::gateway_domain(true, host) } else { names::wildcard_domain(host) };
            if let Err(error) = result {
                match names::is_ip(host) {
                    true => {
                        let why = "goes against SNI spec and most clients do not support this";
                        problems.warn(format!("using an IP address ({host:?}) {why}"));
                    }
                    false => problems.error(error),
                }
            } else if !hosts.iter().any(|own| names::host_within(host, own)) {
                let own = hosts.join(", ");
                let why = format!("is not a compatible subset of any of the virtual service hosts: [{own}]");
                problems.error(format!("SNI host {host:?} {why}"));
            }
        }
        check_l4_match(one, problems);
    }
    problems.error_if(object::list(route, "/route").is_empty(), "TLS route is required");
    problems.extend(http_route::destinations(object::list(route, "/route"), false));
}

fn check_l4_match(one: &Value, problems: &mut Problems) {
    for subnet in object::texts(one, "/destinationSubnets") {
        problems.check(names::subnet(subnet));
    }
    let port = names::number(one, "/port");
    if port != 0 {
        problems.check(names::port(port));
    }
    problems.extend(names::tags(one.get("sourceLabels")));
    problems.extend(gateway_names(&object::texts(one, "/gateways")));
}
