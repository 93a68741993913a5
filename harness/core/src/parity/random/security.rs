//! Who may call, and how.

use serde_json::{Value, json};

use super::draft::{APPS, Draft, ROOT};
use super::prng::Prng;

const SLEEP: &str = "cluster.local/ns/mesh-test/sa/sleep";

/// A PeerAuthentication, an AuthorizationPolicy, or both.
pub(super) fn draw(prng: &mut Prng, draft: &mut Draft) {
    if draft.objects.iter().any(|o| matches!(o.key.kind.as_str(), "PeerAuthentication" | "AuthorizationPolicy")) {
        return;
    }
    let parts = prng.below(3);
    if parts != 0 {
        peers(prng, draft);
    }
    if parts != 1 {
        policy(prng, draft);
    }
}

fn peers(prng: &mut Prng, draft: &mut Draft) {
    let mode = prng.pick(["STRICT", "STRICT", "PERMISSIVE", "DISABLE"]);
    draft.about.push(format!("{mode} peers"));
    let mut spec = json!({"mtls": {"mode": mode}});
    if prng.chance(50) {
        spec["selector"] = json!({"matchLabels": {"app": "httpbin"}});
        if prng.chance(40) {
            let port = prng.pick(["8080", "8080", "8000"]);
            spec["portLevelMtls"] = json!({port: {"mode": prng.pick(["DISABLE", "STRICT", "PERMISSIVE"])}});
            if port == "8000" {
                draft.bend("peers at the Service's port");
            }
        }
    } else if prng.chance(15) {
        spec["portLevelMtls"] = json!({"8080": {"mode": "DISABLE"}});
        draft.bend("peers at a port of no workload");
    }
    draft.add("PeerAuthentication", APPS, "drawn", &spec);
}

fn policy(prng: &mut Prng, draft: &mut Draft) {
    let action = prng.pick(["ALLOW", "ALLOW", "DENY"]);
    let ingress = prng.chance(20);
    draft.about.push(format!("{action} at {}", if ingress { "the ingress gateway" } else { "httpbin" }));
    let (namespace, app) = if ingress { (ROOT, "istio-ingressgateway") } else { (APPS, "httpbin") };
    let mut rule = json!({});
    for _ in 0..=prng.below(2) {
        part(prng, ingress, &mut rule);
    }
    let mut spec = json!({"action": action, "selector": {"matchLabels": {"app": app}}, "rules": [rule]});
    if prng.chance(15) {
        let mut second = json!({});
        part(prng, ingress, &mut second);
        if let Some(rules) = spec["rules"].as_array_mut() {
            rules.push(second);
        }
    }
    if prng.chance(30) {
        let words = match prng.below(7) {
            0 => {
                spec["rules"] = json!([]);
                "a policy without rules"
            }
            1 => {
                spec["rules"] = json!([{}]);
                "a rule without conditions"
            }
            2 => {
                spec["selector"] = json!({"matchLabels": {"app": "nobody"}});
                "a policy for nobody"
            }
            3 => {
                spec["rules"] = json!([{"to": [{"operation": {"ports": ["8000"]}}]}]);
                "a policy for the Service's port"
            }
            4 => {
                spec["action"] = json!("FORBID");
                "an action that is none"
            }
            5 => {
                spec["rules"] = json!([{"from": [{"source": {"principals": [format!("spiffe://{SLEEP}")]}}]}]);
                "a principal with its scheme"
            }
            _ => {
                spec["rules"] = json!([{"to": [{}]}]);
                "an empty operation"
            }
        };
        draft.bend(words);
    }
    draft.add("AuthorizationPolicy", namespace, "drawn", &spec);
}

fn part(prng: &mut Prng, ingress: bool, rule: &mut Value) {
    let set = |rule: &mut Value, path: (&str, &str), value: Value| {
        let (list, field) = path;
        let inner = if list == "from" { "source" } else { "operation" };
        if !rule[list].is_array() {
            rule[list] = json!([{inner: {}}]);
        }
        rule[list][0][inner][field] = value;
    };
    match prng.below(11) {
        0 => set(rule, ("to", "paths"), json!(["/get"])),
        1 => set(rule, ("to", "paths"), json!(["/status/*"])),
        2 => set(rule, ("to", "notPaths"), json!(["/get", "/headers"])),
        3 => set(rule, ("to", "methods"), json!(["GET"])),
        4 => set(rule, ("to", "ports"), json!(["8080"])),
        5 => set(rule, ("to", "hosts"), if ingress { json!(["a.drawn.example", "a.drawn.example:*"]) } else { json!(["httpbin:8000"]) }),
        6 => set(rule, ("from", "principals"), json!([SLEEP])),
        7 => set(rule, ("from", "namespaces"), json!([prng.pick([APPS, ROOT])])),
        8 => set(rule, ("from", "notPrincipals"), json!([SLEEP])),
        9 => rule["when"] = json!([{"key": "request.headers[x-drawn]", "values": ["1"]}]),
        _ => rule["when"] = json!([{"key": "source.principal", "notValues": [SLEEP]}]),
    }
}
