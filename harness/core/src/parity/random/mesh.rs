//! Calls inside the mesh.

use serde_json::{Value, json};

use super::draft::{APPS, Draft, HTTPBIN, ROOT};
use super::prng::Prng;
use super::probes::MESH_CALLS;
use super::{routes, security};

/// A VirtualService and a DestinationRule for httpbin, either or both.
pub(super) fn draw(prng: &mut Prng, draft: &mut Draft) {
    draft.calls.extend(MESH_CALLS);
    let bent = prng.chance(50);
    let both = prng.below(4);
    if both != 0 {
        draft.about.push("a VirtualService for httpbin".to_owned());
        let mut spec = json!({
            "hosts": [prng.pick([HTTPBIN, "httpbin", "httpbin.mesh-test.svc.cluster.local"])],
            "http": routes::http(prng, draft),
        });
        if prng.chance(20) {
            spec["gateways"] = json!(["mesh"]);
        }
        if prng.chance(25) {
            let subset = prng.pick(["v1", "v2"]);
            spec["http"][0]["route"] = json!([{"destination": {"host": HTTPBIN, "subset": subset, "port": {"number": 8000}}}]);
            routes::remove(&mut spec["http"][0], &["redirect", "directResponse"]);
        }
        if bent && prng.chance(60) {
            routes::bend(prng, draft, &mut spec);
        }
        draft.add("VirtualService", APPS, "drawn", &spec);
    }
    if both != 1 {
        rule(prng, draft, bent);
    }
    if prng.chance(25) {
        security::draw(prng, draft);
    }
}

fn rule(prng: &mut Prng, draft: &mut Draft, bent: bool) {
    let mode = prng.pick(["", "DISABLE", "ISTIO_MUTUAL", "SIMPLE"]);
    draft.about.push(format!("a DestinationRule for httpbin{}", if mode.is_empty() { String::new() } else { format!(" with {mode}") }));
    let mut spec = json!({
        "host": prng.pick([HTTPBIN, HTTPBIN, "httpbin"]),
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
    });
    if !mode.is_empty() {
        spec["trafficPolicy"] = json!({"tls": {"mode": mode}});
        if prng.chance(25) {
            spec["trafficPolicy"] = json!({"portLevelSettings": [{"port": {"number": 8000}, "tls": {"mode": mode}}]});
        }
    }
    let mut namespace = APPS;
    if bent {
        let words = match prng.below(8) {
            0 => {
                spec["exportTo"] = json!(["istio-system"]);
                "a rule for the gateways only"
            }
            1 => {
                spec["host"] = json!("httpbin.mesh-test");
                "a host that is neither short nor long"
            }
            2 => {
                spec["host"] = json!("*.mesh-test.svc.cluster.local");
                "a wildcard rule"
            }
            3 => {
                namespace = ROOT;
                spec["host"] = json!(HTTPBIN);
                "a rule in the root namespace"
            }
            4 => {
                spec["subsets"][0]["trafficPolicy"] = json!({"tls": {"mode": prng.pick(["DISABLE", "SIMPLE"])}});
                "TLS of a subset"
            }
            5 => {
                spec["workloadSelector"] = json!({"matchLabels": {"app": prng.pick(["sleep", "other"])}});
                "a rule for one caller"
            }
            6 => {
                spec["trafficPolicy"] = json!({"tls": {"mode": "MUTUAL"}});
                "MUTUAL without a certificate"
            }
            _ => {
                spec["subsets"][1]["name"] = Value::from("v1");
                "two subsets of one name"
            }
        };
        draft.bend(words);
    }
    draft.add("DestinationRule", namespace, "drawn", &spec);
}
