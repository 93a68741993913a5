//! Bends of Gateway API's objects.

use serde_json::{Value, json};

use super::mutate::{Bends, bent_host, bent_port};

/// Every telling field of an object of Gateway API, bent.
pub(super) fn bend(bends: &mut Bends<'_>) {
    match bends.kind() {
        "Gateway" => gateway(bends),
        "ReferenceGrant" => grant(bends),
        kind if kind.ends_with("Route") => route(bends),
        _ => {}
    }
}

fn gateway(bends: &mut Bends<'_>) {
    bends.each(|b, pointer, parts, text, number| match parts {
        ["listeners", _, "port"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
        ["listeners", _, "hostname"] => b.bend(pointer, bent_host(text)),
        ["listeners", _, "allowedRoutes", "namespaces", "from"] => {
            b.bend(pointer, if text == "Same" { "All" } else { "Same" });
        }
        ["listeners", _, "allowedRoutes", "namespaces", "selector", "matchLabels", _] => b.bend(pointer, format!("bent-{text}")),
        ["listeners", _, "tls", "certificateRefs", _, "name"] => b.bend(pointer, format!("bent-{text}")),
        ["listeners", _, "tls", "options", "gateway.istio.io~1tls-terminate-mode"] => b.bend(pointer, "SIMPLE"),
        _ => {}
    });
}

fn grant(bends: &mut Bends<'_>) {
    bends.each(|b, pointer, parts, text, _| match parts {
        ["from", _, "namespace"] | ["to", _, "name"] => b.bend(pointer, format!("bent-{text}")),
        ["from", _, "kind"] => b.bend(pointer, if text == "TCPRoute" { "HTTPRoute" } else { "TCPRoute" }),
        _ => {}
    });
}

fn route(bends: &mut Bends<'_>) {
    bends.each(|b, pointer, parts, text, number| match parts {
        ["parentRefs", _, "name" | "sectionName"] => b.bend(pointer, format!("bent-{text}")),
        ["hostnames", _] => b.bend(pointer, bent_host(text)),
        ["rules", _, "matches", _, "path", "value"] if text != "/" => {
            let rest = text.strip_prefix('/').unwrap_or(text);
            b.bend(pointer, format!("/bent-{rest}"));
        }
        ["rules", _, "matches", _, "method"] => b.bend(pointer, if text == "PUT" { "PATCH" } else { "PUT" }),
        ["rules", _, "matches", _, "method", "service" | "method"] => b.bend(pointer, format!("bent{text}")),
        ["rules", _, "matches", _, "headers" | "queryParams", _, "name" | "value"] => b.bend(pointer, format!("bent-{text}")),
        ["rules", _, "backendRefs", _, "name"] => b.bend(pointer, format!("bent-{text}")),
        ["rules", _, "backendRefs", _, "port"] => b.bend(pointer, bent_port(number.unwrap_or_default())),
        ["rules", _, "filters", _, "requestMirror", "backendRef", "name"] => b.bend(pointer, format!("bent-{text}")),
        ["rules", _, "filters", _, "requestRedirect", "hostname"] | ["rules", _, "filters", _, "urlRewrite", "hostname"] => {
            b.bend(pointer, bent_host(text));
        }
        ["rules", _, "filters", _, _, "path", "replacePrefixMatch" | "replaceFullPath"] => b.bend(pointer, format!("{text}-bent")),
        ["rules", _, "filters", _, _, "set" | "add", _, "value"] => b.bend(pointer, format!("{text}-bent")),
        ["rules", _, "timeouts", _] => b.bend(pointer, "50s"),
        _ => {}
    });
    // A backend without weight gets one, and one with a weight loses it.
    let rules = bends.list("/spec/rules").to_vec();
    for (i, rule) in rules.iter().enumerate() {
        let backends = rule.get("backendRefs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (j, backend) in backends.iter().enumerate() {
            if let Some(weight) = backend.get("weight").and_then(Value::as_u64) {
                bends.bend(&format!("/spec/rules/{i}/backendRefs/{j}/weight"), json!(u64::from(weight == 0)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mutate::Bends;
    use super::bend;
    use crate::names::ObjectKey;
    use crate::scenario::KubeObject;
    use serde_json::{Value, json};

    fn bent(kind: &str, spec: Value) -> Vec<String> {
        let key = ObjectKey {
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            kind: kind.to_owned(),
            namespace: Some("n".to_owned()),
            name: "o".to_owned(),
        };
        let object = KubeObject { key, value: json!({"spec": spec}), line: 1 };
        let prefix = format!("{kind} n/o: ");
        let mut bends = Bends::of(&object);
        bend(&mut bends);
        let mut found: Vec<String> = bends.out.into_iter().map(|m| m.id.strip_prefix(&prefix).unwrap_or(&m.id).to_owned()).collect();
        found.sort();
        found
    }

    #[test]
    fn telling_fields_of_a_gateway_are_bent() {
        let listener = json!({"name": "a", "port": 80, "protocol": "HTTP", "hostname": "*.a.example",
            "allowedRoutes": {"namespaces": {"from": "Same"}}});
        let tls = json!({"name": "b", "port": 443, "tls": {"certificateRefs": [{"name": "c"}],
            "options": {"gateway.istio.io/tls-terminate-mode": "MUTUAL"}}});
        assert_eq!(
            bent("Gateway", json!({"gatewayClassName": "istio", "listeners": [listener, tls]})),
            [
                "/spec/listeners/0/allowedRoutes/namespaces/from Same → All",
                "/spec/listeners/0/hostname *.a.example → *.bent-a.example",
                "/spec/listeners/0/port 80 → 81",
                "/spec/listeners/1/port 443 → 444",
                "/spec/listeners/1/tls/certificateRefs/0/name c → bent-c",
                "/spec/listeners/1/tls/options/gateway.istio.io~1tls-terminate-mode MUTUAL → SIMPLE",
            ]
        );
    }

    #[test]
    fn telling_fields_of_a_route_are_bent() {
        let rule = json!({"matches": [{"path": {"type": "PathPrefix", "value": "/a"}, "headers": [{"name": "x", "value": "y"}]}],
            "filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"replacePrefixMatch": "/b"}}}],
            "backendRefs": [{"name": "s", "port": 1, "weight": 0}]});
        let spec = json!({"parentRefs": [{"name": "g"}], "hostnames": ["a.example"], "rules": [rule]});
        let found = bent("HTTPRoute", spec);
        for wanted in [
            "/spec/parentRefs/0/name g → bent-g",
            "/spec/hostnames/0 a.example → bent-a.example",
            "/spec/rules/0/matches/0/path/value /a → /bent-a",
            "/spec/rules/0/matches/0/headers/0/value y → bent-y",
            "/spec/rules/0/filters/0/urlRewrite/path/replacePrefixMatch /b → /b-bent",
            "/spec/rules/0/backendRefs/0/name s → bent-s",
            "/spec/rules/0/backendRefs/0/port 1 → 2",
            "/spec/rules/0/backendRefs/0/weight 0 → 1",
        ] {
            assert!(found.iter().any(|id| id == wanted), "{wanted} {found:?}");
        }
    }

    #[test]
    fn telling_fields_of_a_grant_are_bent() {
        let spec = json!({"from": [{"group": "g", "kind": "HTTPRoute", "namespace": "a"}], "to": [{"group": "", "kind": "Service"}]});
        assert_eq!(bent("ReferenceGrant", spec), ["/spec/from/0/kind HTTPRoute → TCPRoute", "/spec/from/0/namespace a → bent-a"]);
    }
}
