//! Calls from outside through the shared ingress gateway.

use serde_json::{Value, json};

use super::draft::{APPS, Draft, ROOT};
use super::prng::Prng;
use super::probes::{A, B, COMMON, INGRESS_CALLS};
use super::routes;

/// A Gateway and a VirtualService.
pub(super) fn draw(prng: &mut Prng, draft: &mut Draft) {
    draft.calls.extend(INGRESS_CALLS);
    draft.calls.push(COMMON[0]);
    let namespace = prng.pick([APPS, APPS, APPS, ROOT]);
    let (hosts, words) = match prng.below(8) {
        0 => (json!(["*"]), "any host"),
        1 => (json!(["*.drawn.example"]), "a wildcard"),
        2 => (json!([A, B]), "two hosts"),
        3 => (json!([format!("./{A}")]), "./HOST"),
        4 => (json!([format!("{APPS}/{A}")]), "NAMESPACE/HOST"),
        5 => (json!([format!("{APPS}/*")]), "NAMESPACE/*"),
        _ => (json!([A]), "one host"),
    };
    draft.about.push(format!("ingress for {words}"));
    let mut servers = Vec::new();
    let mode = prng.pick(["SIMPLE", "SIMPLE", "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH", "ISTIO_MUTUAL"]);
    let tls = prng.chance(70);
    if !tls || prng.chance(70) {
        let mut server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts});
        if tls && prng.chance(20) {
            server["tls"] = json!({"httpsRedirect": true});
            draft.about.push("httpsRedirect".to_owned());
        }
        servers.push(server);
    }
    let passthrough = tls && mode == "PASSTHROUGH";
    if tls {
        draft.about.push(format!("TLS {mode}"));
        servers.push(tls_server(mode, "tls", &hosts));
        if prng.chance(20) {
            servers.push(tls_server("SIMPLE", "tls-2", &json!(["b.drawn.example"])));
            draft.about.push("a second TLS server".to_owned());
        }
    }
    let mut gateway = json!({"selector": {"istio": "ingressgateway"}, "servers": servers});
    let from = if namespace == APPS { "drawn".to_owned() } else { format!("{namespace}/drawn") };
    let named = prng.pick_of(&[from, format!("{namespace}/drawn")]);
    let visible = prng.pick_of(&[json!([A]), json!([A]), json!(["*"]), json!([A, B]), json!(["*.drawn.example"])]);
    let mut service = json!({"hosts": visible, "gateways": [named]});
    if passthrough {
        service["tls"] = json!([{
            "match": [{"port": 443, "sniHosts": prng.pick_of(&[json!([A]), json!(["*.drawn.example"]), json!([B])])}],
            "route": [{"destination": {"host": "httpbin.org", "port": {"number": 443}}}],
        }]);
        // `sniHosts` have to lie within `hosts`.
        service["hosts"] = prng.pick_of(&[json!(["*.drawn.example"]), json!(["*"]), json!([A])]);
        let entry = json!({"hosts": ["httpbin.org"], "resolution": "DNS", "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]});
        draft.add("ServiceEntry", APPS, "drawn", &entry);
    }
    if !passthrough || prng.chance(50) {
        service["http"] = json!(routes::http(prng, draft));
    }
    if prng.chance(55) {
        if prng.chance(45) && !service["http"].is_null() {
            routes::bend(prng, draft, &mut service);
        } else {
            bend(prng, draft, &mut gateway, &mut service);
        }
    }
    draft.add("Gateway", namespace, "drawn", &gateway);
    draft.add("VirtualService", APPS, "drawn", &service);
}

fn tls_server(mode: &str, name: &str, hosts: &Value) -> Value {
    let protocol = if mode == "PASSTHROUGH" { "TLS" } else { "HTTPS" };
    let mut tls = json!({"mode": mode});
    if !matches!(mode, "PASSTHROUGH" | "ISTIO_MUTUAL") {
        tls["credentialName"] = json!("drawn-server");
    }
    json!({"port": {"number": 443, "name": name, "protocol": protocol}, "hosts": hosts, "tls": tls})
}

/// Bends the Gateway, or how the VirtualService names it.
fn bend(prng: &mut Prng, draft: &mut Draft, gateway: &mut Value, service: &mut Value) {
    let last = gateway["servers"].as_array().map_or(0, |s| s.len().saturating_sub(1));
    let server = &mut gateway["servers"][last];
    let words = match prng.below(15) {
        0 => {
            gateway["selector"] = json!({"istio": "nobody"});
            "a selector of nobody"
        }
        1 => {
            gateway["selector"] = json!({"istio": "egressgateway"});
            "the other gateway's selector"
        }
        2 => {
            if server["tls"]["mode"].is_string() {
                server["tls"] = json!({"mode": "SIMPLE", "credentialName": "drawn-missing"});
                server["port"]["protocol"] = json!("HTTPS");
            } else {
                server["port"]["number"] = json!(81);
            }
            "a credential that is not there, or an unserved port"
        }
        3 => {
            server["port"]["name"] = json!("grpc");
            "a port named for another protocol"
        }
        4 => {
            service["gateways"] = json!(["undrawn"]);
            "a Gateway's name that is not there"
        }
        5 => {
            service["gateways"] = json!(["mesh"]);
            "the sidecars instead of the Gateway"
        }
        6 => {
            server["hosts"] = json!([format!("nowhere/{A}")]);
            "hosts of another namespace"
        }
        7 => {
            server["port"]["protocol"] = json!("TCP");
            "protocol TCP"
        }
        8 => {
            server["port"]["protocol"] = json!("TLS");
            "protocol TLS"
        }
        9 => {
            routes::remove(server, &["tls"]);
            server["port"]["protocol"] = json!("HTTPS");
            "HTTPS without tls"
        }
        10 => {
            server["hosts"] = json!(["other.example"]);
            "hosts that nobody calls"
        }
        11 => {
            service["hosts"] = json!(["other.example"]);
            "a VirtualService for other hosts"
        }
        12 => {
            server["port"]["number"] = json!(8443);
            "the container's port"
        }
        13 => {
            let again = server.clone();
            if let Some(servers) = gateway["servers"].as_array_mut() {
                servers.push(again);
            }
            "the same server twice"
        }
        _ => {
            if server["tls"]["mode"].is_string() {
                server["tls"]["minProtocolVersion"] = json!("TLSV1_3");
                server["tls"]["credentialName"] = json!("drawn-elsewhere");
            } else {
                server["hosts"] = json!([]);
            }
            "a credential in another namespace, or no hosts"
        }
    };
    draft.bend(words);
}
