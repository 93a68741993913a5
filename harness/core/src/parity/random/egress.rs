//! Calls to a host outside the mesh, through the shared egress gateway.

use serde_json::{Value, json};

use super::draft::{APPS, Draft};
use super::prng::Prng;
use super::probes::{COMMON, OUTSIDE_CALLS};
use super::routes::remove;

const GATEWAY: &str = "istio-egressgateway.istio-system.svc.cluster.local";

/// The four objects of a way through the gateway, one field of them bent.
struct Way {
    entry: Value,
    gateway: Value,
    rule: Value,
    service: Value,
}

/// A way of one of three kinds.
pub(super) fn draw(prng: &mut Prng, draft: &mut Draft) {
    draft.calls.extend(OUTSIDE_CALLS);
    draft.calls.push(COMMON[0]);
    let mut way = match prng.below(3) {
        0 => {
            draft.about.push("egress of plain HTTP".to_owned());
            plain(prng.chance(40))
        }
        1 => {
            draft.about.push("egress by ISTIO_MUTUAL".to_owned());
            mutual()
        }
        _ => {
            draft.about.push("egress by PASSTHROUGH".to_owned());
            passthrough()
        }
    };
    let left_out = if prng.chance(80) { bend(prng, draft, &mut way) } else { "" };
    let objects =
        [("ServiceEntry", &way.entry), ("Gateway", &way.gateway), ("DestinationRule", &way.rule), ("VirtualService", &way.service)];
    for (kind, spec) in objects.into_iter().filter(|(kind, _)| *kind != left_out) {
        draft.add(kind, APPS, "drawn", spec);
    }
}

fn selected(server: &Value) -> Value {
    json!({"selector": {"istio": "egressgateway"}, "servers": [server]})
}

fn to_gateway(port: u16) -> Value {
    json!([{"destination": {"host": GATEWAY, "subset": "drawn", "port": {"number": port}}}])
}

fn to_host(port: u16) -> Value {
    json!([{"destination": {"host": "httpbin.org", "port": {"number": port}}}])
}

fn passthrough() -> Way {
    Way {
        entry: json!({"hosts": ["httpbin.org"], "resolution": "DNS", "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]}),
        gateway: selected(&json!({
            "port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["httpbin.org"], "tls": {"mode": "PASSTHROUGH"},
        })),
        rule: json!({"host": GATEWAY, "subsets": [{"name": "drawn"}]}),
        service: json!({"hosts": ["httpbin.org"], "gateways": ["mesh", "drawn"], "tls": [
            {"match": [{"gateways": ["mesh"], "port": 443, "sniHosts": ["httpbin.org"]}], "route": to_gateway(443)},
            {"match": [{"gateways": ["drawn"], "port": 443, "sniHosts": ["httpbin.org"]}], "route": to_host(443)},
        ]}),
    }
}

fn mutual() -> Way {
    Way {
        gateway: selected(&json!({
            "port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["httpbin.org"], "tls": {"mode": "ISTIO_MUTUAL"},
        })),
        rule: json!({"host": GATEWAY, "subsets": [{"name": "drawn", "trafficPolicy": {"portLevelSettings": [
            {"port": {"number": 443}, "tls": {"mode": "ISTIO_MUTUAL", "sni": "httpbin.org"}},
        ]}}]}),
        service: json!({"hosts": ["httpbin.org"], "gateways": ["mesh", "drawn"],
            "tls": [{"match": [{"gateways": ["mesh"], "port": 443, "sniHosts": ["httpbin.org"]}], "route": to_gateway(443)}],
            "tcp": [{"match": [{"gateways": ["drawn"], "port": 443}], "route": to_host(443)}],
        }),
        ..passthrough()
    }
}

fn plain(originates: bool) -> Way {
    let mut port = json!({"number": 80, "name": "plain", "protocol": "HTTP"});
    if originates {
        port["targetPort"] = json!(80);
    }
    Way {
        entry: json!({"hosts": ["httpbin.org"], "resolution": "DNS", "ports": [port]}),
        gateway: selected(&json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["httpbin.org"]})),
        rule: json!({"host": GATEWAY, "subsets": [{"name": "drawn"}]}),
        service: json!({"hosts": ["httpbin.org"], "gateways": ["mesh", "drawn"], "http": [
            {"match": [{"gateways": ["mesh"], "port": 80}], "route": to_gateway(80)},
            {"match": [{"gateways": ["drawn"], "port": 80}], "route": to_host(80)},
        ]}),
    }
}

/// Bends one field; gives the kind that is left out instead.
fn bend(prng: &mut Prng, draft: &mut Draft, way: &mut Way) -> &'static str {
    let legs = ["tls", "http"].into_iter().find(|f| way.service[f].is_array()).unwrap_or("tls");
    let words = match prng.below(20) {
        0 => {
            draft.bend("no ServiceEntry");
            return "ServiceEntry";
        }
        1 => {
            draft.bend("no Gateway");
            return "Gateway";
        }
        2 => {
            draft.bend("no DestinationRule");
            return "DestinationRule";
        }
        3 => {
            draft.bend("no VirtualService");
            return "VirtualService";
        }
        4 => {
            way.entry["ports"][0]["protocol"] = json!(prng.pick(["HTTP", "HTTPS", "TCP", "TLS"]));
            "the entry's protocol"
        }
        5 => {
            way.entry["exportTo"] = json!(["."]);
            "an entry for its own namespace only"
        }
        6 => {
            way.entry["resolution"] = json!("NONE");
            "an entry without resolution"
        }
        7 => {
            way.gateway["selector"]["istio"] = json!("ingressgateway");
            "the other gateway's selector"
        }
        8 => {
            way.gateway["servers"][0]["hosts"] = json!(["example.org"]);
            "a Gateway for another host"
        }
        9 => {
            way.gateway["servers"][0]["port"]["number"] = json!(8443);
            "a Gateway at another port"
        }
        10 => {
            way.gateway["servers"][0]["tls"] = json!({"mode": "SIMPLE", "credentialName": "drawn-server"});
            "a Gateway that ends the TLS"
        }
        11 => {
            way.gateway["servers"][0]["port"]["protocol"] = json!(prng.pick(["HTTP", "HTTPS", "TCP", "TLS"]));
            "the Gateway's protocol"
        }
        12 => {
            way.rule["subsets"][0]["name"] = json!("undrawn");
            "a subset of another name"
        }
        13 => {
            way.rule["host"] = json!("istio-egressgateway");
            "a rule's host without its namespace"
        }
        14 => {
            way.rule["trafficPolicy"] = json!({"tls": {"mode": prng.pick(["DISABLE", "ISTIO_MUTUAL", "SIMPLE"])}});
            "the rule's TLS"
        }
        15 => {
            way.service["gateways"] = json!(["drawn"]);
            "a VirtualService that the sidecars do not read"
        }
        16 => {
            way.service["gateways"] = json!(["mesh"]);
            "a VirtualService that the gateway does not read"
        }
        17 => {
            way.service["exportTo"] = json!(["."]);
            "routes for their own namespace only"
        }
        18 => {
            if legs == "tls" {
                way.service["tls"][0]["match"][0]["sniHosts"] = json!(["example.org"]);
            } else {
                remove(&mut way.service["http"][0]["match"][0], &["gateways"]);
            }
            "the first leg's match"
        }
        _ => {
            if let Some(rules) = way.service[legs].as_array_mut() {
                rules.truncate(1);
            }
            "no second leg"
        }
    };
    draft.bend(words);
    ""
}
