//! The rules of a VirtualService, for gateways and for sidecars alike.

use serde_json::{Value, json};

use super::draft::{Draft, HTTPBIN};
use super::prng::Prng;

/// A destination that is httpbin.
pub(super) fn httpbin(prng: &mut Prng) -> Value {
    let host = prng.pick([HTTPBIN, "httpbin", HTTPBIN]);
    json!({"host": host, "port": {"number": 8000}})
}

/// One to three rules.
pub(super) fn http(prng: &mut Prng, draft: &mut Draft) -> Vec<Value> {
    let count = 1 + prng.below(3);
    (0..count)
        .map(|i| {
            let mut rule = json!({"name": format!("rule-{i}")});
            // A rule without a condition hides those behind it, which is one of the things to see.
            if prng.chance(if i + 1 == count { 35 } else { 85 }) {
                rule["match"] = json!([condition(prng)]);
                if prng.chance(15) {
                    rule["match"] = json!([condition(prng), condition(prng)]);
                }
            }
            action(prng, draft, &mut rule);
            rule
        })
        .collect()
}

fn condition(prng: &mut Prng) -> Value {
    match prng.below(12) {
        0 | 1 => json!({"uri": {"prefix": "/status"}}),
        2 => json!({"uri": {"exact": "/get"}}),
        3 => json!({"uri": {"regex": "/(get|status/4[0-9]+)"}}),
        4 => json!({"uri": {"regex": "/stat"}}),
        5 => json!({"headers": {"x-drawn": {"exact": "1"}}}),
        6 => json!({"withoutHeaders": {"x-drawn": {}}, "uri": {"prefix": "/"}}),
        7 => json!({"method": {"exact": "POST"}}),
        8 => json!({"uri": {"exact": "/GET"}, "ignoreUriCase": true}),
        9 => json!({"authority": {"prefix": "a."}}),
        10 => json!({"scheme": {"exact": "http"}}),
        _ => json!({"uri": {"prefix": "/"}}),
    }
}

fn action(prng: &mut Prng, draft: &mut Draft, rule: &mut Value) {
    match prng.below(12) {
        0 => {
            rule["redirect"] = prng_redirect(prng);
            draft.about.push("a redirect".to_owned());
            return;
        }
        1 => {
            rule["directResponse"] = json!({"status": prng.pick([202, 404, 503]), "body": {"string": "drawn"}});
            draft.about.push("a direct response".to_owned());
            return;
        }
        2 => rule["rewrite"] = prng.pick_of(&[json!({"uri": "/status/204"}), json!({"uri": "/"}), json!({"authority": "else.example"})]),
        3 => {
            rule["fault"] = json!({"abort": {"httpStatus": prng.pick([418, 503]), "percentage": {"value": 100}}});
            draft.about.push("an abort".to_owned());
        }
        4 => rule["timeout"] = json!(prng.pick(["2s", "10s", "0s"])),
        5 => rule["headers"] = json!({"request": {"set": {"x-drawn-set": "1"}}, "response": {"remove": ["date"]}}),
        6 => rule["retries"] = json!({"attempts": prng.pick([0, 2]), "perTryTimeout": "1s", "retryOn": "5xx"}),
        _ => {}
    }
    rule["route"] = if prng.chance(15) {
        draft.about.push("weights".to_owned());
        json!([
            {"destination": httpbin(prng), "weight": 100},
            {"destination": {"host": HTTPBIN, "subset": "none", "port": {"number": 8000}}, "weight": 0},
        ])
    } else {
        json!([{"destination": httpbin(prng)}])
    };
}

fn prng_redirect(prng: &mut Prng) -> Value {
    match prng.below(3) {
        0 => json!({"uri": "/elsewhere", "redirectCode": 302}),
        1 => json!({"authority": "else.example"}),
        _ => json!({"scheme": "https", "redirectCode": 308}),
    }
}

/// Bends a VirtualService with `http` rules in one place.
pub(super) fn bend(prng: &mut Prng, draft: &mut Draft, spec: &mut Value) {
    let words = match prng.below(16) {
        0 => {
            spec["http"][0]["route"] = json!([{"destination": {"host": HTTPBIN, "subset": "v9", "port": {"number": 8000}}}]);
            remove(&mut spec["http"][0], &["redirect", "directResponse"]);
            "a subset that nobody declares"
        }
        1 => {
            spec["http"][0]["route"] = json!([{"destination": {"host": "missing.mesh-test.svc.cluster.local", "port": {"number": 8000}}}]);
            remove(&mut spec["http"][0], &["redirect", "directResponse"]);
            "a host that is not there"
        }
        2 => {
            spec["http"][0]["route"] = json!([{"destination": {"host": HTTPBIN, "port": {"number": 8001}}}]);
            remove(&mut spec["http"][0], &["redirect", "directResponse"]);
            "a port that the Service does not have"
        }
        3 => {
            spec["exportTo"] = json!(["istio-system"]);
            "exportTo the gateways' namespace"
        }
        4 => {
            spec["exportTo"] = json!(["."]);
            "exportTo its own namespace"
        }
        5 => {
            spec["exportTo"] = json!(["nowhere"]);
            "exportTo a namespace that is not there"
        }
        6 => {
            spec["http"][0]["match"] = json!([{"sourceLabels": {"app": "sleep"}}]);
            "sourceLabels of sleep"
        }
        7 => {
            spec["http"][0]["match"] = json!([{"sourceLabels": {"app": "nobody"}}]);
            "sourceLabels of nobody"
        }
        8 => {
            spec["http"][0]["match"] = json!([{"uri": {"regex": "/(get"}}]);
            "a pattern that is no regular expression"
        }
        9 => {
            spec["http"][0]["redirect"] = json!({"uri": "/elsewhere"});
            spec["http"][0]["route"] = json!([{"destination": {"host": HTTPBIN}}]);
            "a redirect and a route"
        }
        10 => {
            remove(spec, &["http"]);
            "no rule at all"
        }
        11 => {
            remove(spec, &["hosts"]);
            "no hosts"
        }
        12 => {
            if let Some(rules) = spec["http"].as_array_mut() {
                rules.reverse();
                rules.insert(0, json!({"name": "first", "route": [{"destination": {"host": HTTPBIN, "port": {"number": 8000}}}]}));
            }
            "a catch-all before the others"
        }
        13 => {
            spec["http"][0]["match"] = json!([{"port": 8443}]);
            "a match on the wrong port"
        }
        14 => {
            spec["http"][0]["match"] = json!([{"uri": {"prefix": ""}}]);
            "an empty prefix"
        }
        _ => {
            spec["http"][0]["timeout"] = json!("never");
            "a time-out that is no duration"
        }
    };
    draft.bend(words);
}

pub(super) fn remove(value: &mut Value, fields: &[&str]) {
    if let Some(map) = value.as_object_mut() {
        fields.iter().for_each(|f| drop(map.remove(*f)));
    }
}
