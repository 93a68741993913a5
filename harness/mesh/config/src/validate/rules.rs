//! Rules in CEL of Istio's resource definitions: those that a whole object can break.

use serde_json::Value;

use super::Cause;
use super::names;
use crate::istio::model::object;

/// The rules that an object breaks, as the API server names them.
pub(super) fn broken(object: &Value) -> Vec<Cause> {
    let mut found = Found(Vec::new());
    let spec = object::spec(object);
    match object::text(object, "/kind") {
        "AuthorizationPolicy" | "RequestAuthentication" | "Telemetry" => {
            let ways = ["selector", "targetRef", "targetRefs"];
            found.when(count(spec, &ways) > 1, "spec", "object", "only one of targetRefs or selector can be set");
        }
        "EnvoyFilter" => {
            let ways = ["workloadSelector", "targetRefs"];
            found.when(count(spec, &ways) > 1, "spec", "object", "only one of targetRefs or workloadSelector can be set");
        }
        "ServiceEntry" => service_entry(spec, &mut found),
        "PeerAuthentication" => {
            let has_labels = spec.pointer("/selector/matchLabels").and_then(Value::as_object).is_some_and(|labels| !labels.is_empty());
            let ports = spec.get("portLevelMtls").and_then(Value::as_object);
            found.when(ports.is_some() && !has_labels, "spec", "object", "portLevelMtls requires selector");
            let is_port = |key: &String| key.parse::<i64>().is_ok_and(|port| names::port(port).is_ok());
            let is_bad = ports.is_some_and(|ports| !ports.keys().all(is_port));
            found.when(is_bad, "spec.portLevelMtls", "object", "port must be between 1-65535");
            if ports.is_some_and(serde_json::Map::is_empty) {
                found.unfit("spec.portLevelMtls", "0", "should have at least 1 properties");
            }
        }
        "Gateway" => {
            for (index, server) in object::list(spec, "/servers").iter().enumerate() {
                server_tls(server.get("tls"), &format!("spec.servers[{index}].tls"), &mut found);
            }
        }
        "Sidecar" => {
            for (index, ingress) in object::list(spec, "/ingress").iter().enumerate() {
                server_tls(ingress.get("tls"), &format!("spec.ingress[{index}].tls"), &mut found);
            }
        }
        _ => {}
    }
    match object::text(object, "/kind") {
        "RequestAuthentication" => jwt_rules(spec, &mut found),
        "AuthorizationPolicy" => sources(spec, &mut found),
        "Telemetry" => {
            for (index, tracing) in object::list(spec, "/tracing").iter().enumerate() {
                let field = format!("spec.tracing[{index}].randomSamplingPercentage");
                match tracing.get("randomSamplingPercentage").and_then(Value::as_f64) {
                    Some(share) if share > 100.0 => found.unfit(&field, &share.to_string(), "should be less than or equal to 100"),
                    Some(share) if share < 0.0 => found.unfit(&field, &share.to_string(), "should be greater than or equal to 0"),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    for (field, at) in [("selector", "/selector/matchLabels"), ("workloadSelector", "/workloadSelector/matchLabels")] {
        let labels = spec.pointer(at).map(object::text_map).unwrap_or_default();
        let path = format!("spec.{field}.matchLabels");
        let has_star = labels.keys().any(|key| key.contains('*'));
        found.when(has_star, &path, "object", "wildcard not allowed in label key match");
        found.when(labels.contains_key(""), &path, "object", "key must not be empty");
        for (key, _) in labels.iter().filter(|(_, value)| value.contains('*')) {
            found.when(true, &format!("{path}[{key}]"), "string", "wildcard not allowed in label value match");
        }
    }
    let labels = spec.pointer("/workloadSelector/labels").map(object::text_map).unwrap_or_default();
    for (key, _) in labels.iter().filter(|(_, value)| value.contains('*')) {
        found.when(true, &format!("spec.workloadSelector.labels[{key}]"), "string", "wildcard is not supported in selector");
    }
    let single = spec.get("targetRef").map(|target| ("spec.targetRef".to_owned(), target));
    let many = object::list(spec, "/targetRefs").iter().enumerate();
    for (path, target) in single.into_iter().chain(many.map(|(index, target)| (format!("spec.targetRefs[{index}]"), target))) {
        let is_foreign = !object::text(target, "/namespace").is_empty();
        let text = "cross namespace referencing is not currently supported";
        found.when(is_foreign, &format!("{path}.namespace"), "string", text);
    }
    found.0
}

struct Found(Vec<Cause>);

impl Found {
    /// A bound of the schema itself.
    fn unfit(&mut self, field: &str, value: &str, rule: &str) {
        let message = format!("Invalid value: {value}: {field} in body {rule}");
        self.0.push(Cause { reason: "FieldValueInvalid", message, field: field.to_owned() });
    }

    fn when(&mut self, is_broken: bool, field: &str, kind: &str, message: &str) {
        if is_broken {
            let message = format!("Invalid value: {kind:?}: {message}");
            self.0.push(Cause { reason: "FieldValueInvalid", message, field: field.to_owned() });
        }
    }
}

/// How many of these fields are there.
fn count(value: &Value, fields: &[&str]) -> usize {
    fields.iter().filter(|field| value.get(**field).is_some_and(|value| !value.is_null())).count()
}

fn server_tls(tls: Option<&Value>, path: &str, found: &mut Found) {
    let Some(tls) = tls else {
        return;
    };
    for (one, other, text) in [
        ("credentialNames", "tlsCertificates", "only one of credentialNames or tlsCertificates can be set"),
        ("credentialName", "credentialNames", "only one of credentialName or credentialNames can be set"),
        ("credentialName", "tlsCertificates", "only one of credentialName or tlsCertificates can be set"),
    ] {
        found.when(count(tls, &[one, other]) > 1, path, "object", text);
    }
}

fn service_entry(spec: &Value, found: &mut Found) {
    let ways = ["workloadSelector", "endpoints"];
    found.when(count(spec, &ways) > 1, "spec", "object", "only one of WorkloadSelector or Endpoints can be set");
    let resolution = object::text(spec, "/resolution");
    let has_range = object::texts(spec, "/addresses").iter().any(|address| address.contains('/'));
    let is_static = matches!(resolution, "" | "NONE" | "STATIC");
    let text = "CIDR addresses are allowed only for NONE/STATIC resolution types";
    found.when(has_range && !is_static, "spec", "object", text);
    let endpoints = object::list(spec, "/endpoints");
    let is_none = matches!(resolution, "" | "NONE") && !endpoints.is_empty();
    found.when(is_none, "spec", "object", "NONE mode cannot set endpoints");
    let is_round_robin = resolution == "DNS_ROUND_ROBIN" && endpoints.len() > 1;
    found.when(is_round_robin, "spec", "object", "DNS_ROUND_ROBIN mode cannot have multiple endpoints");
    for (index, _) in object::texts(spec, "/hosts").iter().enumerate().filter(|(_, host)| **host == "*") {
        found.when(true, &format!("spec.hosts[{index}]"), "string", "hostname cannot be wildcard");
    }
    let ports: Vec<i64> = object::list(spec, "/ports").iter().map(|port| names::number(port, "/number")).collect();
    let has_twins = ports.iter().enumerate().any(|(index, port)| ports.iter().skip(index + 1).any(|other| other == port));
    found.when(has_twins, "spec.ports", "array", "port number cannot be duplicated");
    for (index, port) in object::list(spec, "/ports").iter().enumerate() {
        for field in ["number", "targetPort"] {
            let is_bad = port.get(field).and_then(Value::as_i64).is_some_and(|port| names::port(port).is_err());
            found.when(is_bad, &format!("spec.ports[{index}].{field}"), "integer", "port must be between 1-65535");
        }
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        found.when(count(endpoint, &["address", "network"]) == 0, &path, "object", "Address is required");
        let address = object::text(endpoint, "/address");
        let has_ports = endpoint.get("ports").is_some();
        found.when(address.starts_with("unix://") && has_ports, &path, "object", "UDS may not include ports");
        for (name, port) in endpoint.get("ports").and_then(Value::as_object).into_iter().flatten() {
            let is_bad = names::port(port.as_i64().unwrap_or(0)).is_err();
            found.when(is_bad, &format!("{path}.ports[{name}]"), "integer", "port must be between 1-65535");
        }
    }
}

/// Sources that name service accounts beside what those stand for.
fn sources(spec: &Value, found: &mut Found) {
    for (index, rule) in object::list(spec, "/rules").iter().enumerate() {
        for (place, from) in object::list(rule, "/from").iter().enumerate() {
            let source = from.get("source").unwrap_or(&Value::Null);
            let accounts = count(source, &["serviceAccounts", "notServiceAccounts"]);
            let others = count(source, &["principals", "notPrincipals", "namespaces", "notNamespaces"]);
            let field = format!("spec.rules[{index}].from[{place}].source");
            let text = "Cannot set serviceAccounts with namespaces or principals";
            found.when(accounts > 0 && others > 0, &field, "object", text);
        }
    }
}

fn jwt_rules(spec: &Value, found: &mut Found) {
    for (index, rule) in object::list(spec, "/jwtRules").iter().enumerate() {
        let path = format!("spec.jwtRules[{index}]");
        let ways = ["jwksUri", "jwks_uri", "jwks"];
        found.when(count(rule, &ways) > 1, &path, "object", "only one of jwks or jwksUri can be set");
        for (place, copy) in object::list(rule, "/outputClaimToHeaders").iter().enumerate() {
            let header = object::text(copy, "/header");
            if !header.is_empty() && !header.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter)) {
                let field = format!("{path}.outputClaimToHeaders[{place}].header");
                found.unfit(&field, &format!("{header:?}"), "should match '^[-_A-Za-z0-9]+$'");
            }
        }
        for field in ["jwksUri", "jwks_uri"] {
            let uri = rule.get(field).and_then(Value::as_str).unwrap_or_default();
            let is_bad = !uri.is_empty() && !uri.starts_with("http://") && !uri.starts_with("https://");
            found.when(is_bad, &format!("{path}.{field}"), "string", "url must have scheme http:// or https://");
        }
    }
}
