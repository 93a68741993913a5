//! Calls to hosts outside the mesh, straight from the sidecar.

use serde_json::{Value, json};

use super::draft::{APPS, Draft};
use super::prng::Prng;
use super::probes::{COMMON, OUTSIDE_CALLS};
use super::routes;

/// A ServiceEntry, a Sidecar, a DestinationRule, a VirtualService: at least one of the first two.
pub(super) fn draw(prng: &mut Prng, draft: &mut Draft) {
    draft.calls.extend(OUTSIDE_CALLS);
    draft.calls.extend(COMMON);
    let parts = prng.below(3);
    if parts != 0 {
        entry(prng, draft);
    }
    if parts != 1 {
        sidecar(prng, draft);
    }
    if parts != 0 && prng.chance(35) {
        origination(prng, draft);
    }
    if parts != 0 && prng.chance(25) {
        draft.about.push("a VirtualService for httpbin.org".to_owned());
        let mut spec = json!({"hosts": ["httpbin.org"], "http": [{
            "match": [{"uri": {"prefix": "/get"}}], "timeout": "3s",
            "route": [{"destination": {"host": "httpbin.org", "port": {"number": 80}}}],
        }]});
        if prng.chance(50) {
            spec["http"] = json!([{"fault": {"abort": {"httpStatus": 429, "percentage": {"value": 100}}},
                "route": [{"destination": {"host": "httpbin.org"}}]}]);
        }
        if prng.chance(30) {
            routes::bend(prng, draft, &mut spec);
        }
        draft.add("VirtualService", APPS, "drawn-outside", &spec);
    }
}

fn entry(prng: &mut Prng, draft: &mut Draft) {
    let tls = prng.pick(["TLS", "TLS", "HTTPS", "HTTP", "TCP"]);
    let plain = prng.pick(["HTTP", "HTTP", "HTTP", "TCP"]);
    let resolution = prng.pick(["DNS", "DNS", "DNS", "NONE", "STATIC"]);
    draft.about.push(format!("a ServiceEntry with {resolution}, {plain} and {tls}"));
    let mut ports = vec![json!({"number": 443, "name": "tls", "protocol": tls})];
    if prng.chance(70) {
        ports.push(json!({"number": 80, "name": "plain", "protocol": plain}));
    }
    let mut spec = json!({"hosts": ["httpbin.org"], "location": "MESH_EXTERNAL", "resolution": resolution, "ports": ports});
    if resolution == "STATIC" {
        // Nobody listens there.
        spec["endpoints"] = json!([{"address": "127.0.0.1"}]);
    }
    if prng.chance(30) {
        spec["exportTo"] = json!([prng.pick(["*", ".", "istio-system"])]);
    }
    if prng.chance(35) {
        let words = match prng.below(9) {
            0 => {
                spec["exportTo"] = json!(["nowhere"]);
                "exportTo a namespace that is not there"
            }
            1 => {
                spec["hosts"] = json!(["*.org"]);
                "a wildcard with its resolution"
            }
            2 => {
                spec["ports"][0]["number"] = json!(8443);
                "a port that nobody calls"
            }
            3 => {
                spec["location"] = json!("MESH_INTERNAL");
                "a host said to be inside"
            }
            4 => {
                spec["ports"] = json!([]);
                "no ports"
            }
            5 => {
                spec["ports"][0]["protocol"] = json!("HTTTP");
                "a protocol that is none"
            }
            6 => {
                spec["endpoints"] = json!([{"address": "example.org"}]);
                "the other host's address"
            }
            7 => {
                spec["ports"][0]["targetPort"] = json!(80);
                "the plain port behind the TLS port"
            }
            _ => {
                spec["hosts"] = json!(["httpbin.org", "example.org"]);
                "two hosts in one entry"
            }
        };
        draft.bend(words);
    }
    draft.add("ServiceEntry", APPS, "drawn", &spec);
}

fn sidecar(prng: &mut Prng, draft: &mut Draft) {
    let mode = prng.pick(["REGISTRY_ONLY", "REGISTRY_ONLY", "ALLOW_ANY", ""]);
    draft.about.push(format!("a Sidecar{}", if mode.is_empty() { String::new() } else { format!(" with {mode}") }));
    let mut spec = json!({});
    if !mode.is_empty() {
        spec["outboundTrafficPolicy"] = json!({"mode": mode});
    }
    if prng.chance(50) {
        spec["workloadSelector"] = json!({"labels": {"app": "sleep"}});
    }
    spec["egress"] = match prng.below(6) {
        0 => json!([{"hosts": ["istio-system/*"]}]),
        1 => json!([{"hosts": ["./*"]}]),
        2 => json!([{"hosts": ["./httpbin.mesh-test.svc.cluster.local", "istio-system/*"]}]),
        3 => json!([{"hosts": ["~/*"]}]),
        4 => json!([{"hosts": ["*/httpbin.org"]}]),
        _ => Value::Null,
    };
    if spec["egress"].is_null() {
        routes::remove(&mut spec, &["egress"]);
    }
    if prng.chance(20) {
        let words = match prng.below(4) {
            0 => {
                spec["egress"] = json!([{"hosts": ["httpbin.org"]}]);
                "an egress host without a namespace"
            }
            1 => {
                spec["egress"] = json!([{"hosts": []}]);
                "no egress hosts"
            }
            2 => {
                spec["workloadSelector"] = json!({"labels": {"app": "nobody"}});
                "a Sidecar for nobody"
            }
            _ => {
                spec["outboundTrafficPolicy"] = json!({"mode": "DENY"});
                "a mode that is none"
            }
        };
        draft.bend(words);
    }
    draft.add("Sidecar", APPS, "drawn", &spec);
}

fn origination(prng: &mut Prng, draft: &mut Draft) {
    let mode = prng.pick(["SIMPLE", "SIMPLE", "DISABLE", "ISTIO_MUTUAL"]);
    draft.about.push(format!("a DestinationRule for httpbin.org with {mode}"));
    let mut tls = json!({"mode": mode});
    if mode == "SIMPLE" {
        tls["sni"] = json!("httpbin.org");
        if prng.chance(60) {
            tls["insecureSkipVerify"] = json!(true);
        } else {
            draft.bend("TLS to a host whose CA the proxy does not know");
        }
    }
    draft.add("DestinationRule", APPS, "drawn-outside", &json!({"host": "httpbin.org", "trafficPolicy": {"tls": tls}}));
    if let Some(entry) = draft.objects.iter_mut().find(|o| o.key.kind == "ServiceEntry")
        && entry.value["spec"]["ports"][1].is_object()
        && prng.chance(70)
    {
        entry.value["spec"]["ports"][1]["targetPort"] = json!(443);
    }
}
