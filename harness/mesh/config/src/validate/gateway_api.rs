//! Whether an object of Gateway API fits its definition: what the API server says, there being no webhook.
//!
//! `gateway_api.json` has the types, patterns and limits of the definitions (standard channel, v1.6.0). Of their CEL rules those of
//! listeners, backends, filters and paths are here; the others (parents that are named twice, `substring` of paths beside one another,
//! the number of matches in all rules, addresses, time-outs) let pass what a cluster refuses.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::schema::{COMMON, json_type, mismatch, refuse};
use super::{Cause, Refusal};
use crate::istio::model::object;

/// The group of all these kinds.
const GROUP: &str = "gateway.networking.k8s.io";
/// What a text may be where a path is matched exactly or by prefix.
const PATH: &str = "^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$";

/// Schemas by kind, and those that others refer to (`$ref`).
struct Table {
    schemas: Map<String, Value>,
    patterns: BTreeMap<String, Regex>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let schemas: Map<String, Value> = serde_json::from_str(include_str!("gateway_api.json")).unwrap_or_default();
    let mut patterns = BTreeMap::new();
    schemas.values().for_each(|schema| compile(schema, &mut patterns));
    patterns.extend(Regex::new(PATH).ok().map(|regex| (PATH.to_owned(), regex)));
    Table { schemas, patterns }
});

fn compile(value: &Value, out: &mut BTreeMap<String, Regex>) {
    match value {
        Value::Object(fields) => {
            if let Some(pattern) = fields.get("pattern").and_then(Value::as_str) {
                out.extend(Regex::new(pattern).ok().map(|regex| (pattern.to_owned(), regex)));
            }
            fields.values().for_each(|inner| compile(inner, out));
        }
        Value::Array(list) => list.iter().for_each(|inner| compile(inner, out)),
        _ => {}
    }
}

/// The schema of an object's specification, if it is of a kind that is looked at here.
fn schema(of: &Value) -> Option<&'static Value> {
    let group = object::text(of, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = object::text(of, "/kind");
    // Names of what others refer to are no kinds.
    (group == GROUP && kind.starts_with(|first: char| first.is_ascii_uppercase())).then(|| TABLE.schemas.get(kind)).flatten()
}

/// Whether a cluster takes the object, as far as this knows.
pub(super) fn review(of: &Value) -> Result<(), Refusal> {
    let Some(schema) = schema(of) else { return Ok(()) };
    declared(schema, of)?;
    let mut found = Findings::default();
    found.walk(schema, object::spec(of), "spec");
    if found.is_blocked {
        let text = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing \
                    errors to complete validation";
        found.causes.push(Cause { reason: "FieldValueInvalid", message: text.to_owned(), field: "<nil>".to_owned() });
    } else {
        rules(of, &mut found.causes);
    }
    refuse(of, found.causes)
}

/// What server-side apply cannot read: fields that are not there, elements of one key, values of another type.
fn declared(schema: &Value, of: &Value) -> Result<(), Refusal> {
    let top = of.as_object().into_iter().flatten().map(|(key, _)| key);
    let mut told: Vec<String> =
        top.filter(|key| !COMMON.contains(&key.as_str())).map(|key| format!(".{key}: field not declared in schema")).collect();
    let mut found = Findings::default();
    found.walk(schema, object::spec(of), "spec");
    told.extend(found.undeclared);
    let reasons = match told.as_slice() {
        [] => return Ok(()),
        [only] => only.clone(),
        many => format!("errors:{}", many.iter().map(|reason| format!("\n  {reason}")).collect::<String>()),
    };
    let (namespace, name) = (object::namespace(of), object::name(of));
    let whole = format!("{namespace}/{name}; {}, Kind={}", object::text(of, "/apiVersion"), object::text(of, "/kind"));
    let message = format!("failed to create typed patch object ({whole}): {reasons}");
    Err(Refusal { code: 500, reason: "", message, causes: Vec::new() })
}

#[derive(Default)]
struct Findings {
    /// In the words of server-side apply.
    undeclared: Vec<String>,
    causes: Vec<Cause>,
    /// Whether CEL rules are not looked at.
    is_blocked: bool,
}

/// The schema that stands here, or the one that is referred to.
fn resolved(schema: &Value) -> &Value {
    let named = schema.get("$ref").and_then(Value::as_str);
    named.and_then(|name| TABLE.schemas.get(name)).unwrap_or(schema)
}

fn limit(schema: &Value, name: &str) -> Option<u64> {
    schema.get(name)?.as_u64()
}

impl Findings {
    fn blocking(&mut self, path: &str, reason: &'static str, message: String) {
        self.is_blocked = true;
        self.causes.push(Cause { reason, message, field: path.to_owned() });
    }

    fn invalid(&mut self, path: &str, shown: &Value, rule: &str) {
        let message = format!("Invalid value: {shown}: {path} in body {rule}");
        self.causes.push(Cause { reason: "FieldValueInvalid", message, field: path.to_owned() });
    }

    fn walk(&mut self, schema: &Value, value: &Value, path: &str) {
        let schema = resolved(schema);
        let wanted = schema.get("type").and_then(Value::as_str);
        match (wanted, value) {
            // Null is as good as absent.
            (_, Value::Null) | (None, _) | (Some("boolean"), Value::Bool(_)) => {}
            (Some("string"), Value::String(text)) => self.text(schema, text, path),
            (Some("integer"), Value::Number(number)) if !number.is_f64() => self.number(schema, value, path),
            (Some("number"), Value::Number(_)) => self.number(schema, value, path),
            (Some("array"), Value::Array(list)) => self.list(schema, list, path),
            (Some("object"), Value::Object(fields)) => self.object(schema, fields, path),
            (Some(wanted), _) => {
                let words = mismatch(known(wanted), value);
                if !words.is_empty() {
                    self.undeclared.push(format!(".{path}: {words}"));
                }
                let shown = json_type(value);
                let message = format!("Invalid value: {shown:?}: {path} in body must be of type {wanted}: {shown:?}");
                self.blocking(path, "FieldValueTypeInvalid", message);
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let shown = Value::from(text);
        let length = text.chars().count() as u64;
        if let Some(least) = limit(schema, "minLength").filter(|least| length < *least) {
            self.invalid(path, &shown, &format!("should be at least {least} chars long"));
        }
        if let Some(most) = limit(schema, "maxLength").filter(|most| length > *most) {
            self.blocking(path, "FieldValueTooLong", format!("Too long: may not be more than {most} bytes"));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && TABLE.patterns.get(pattern).is_some_and(|regex| !regex.is_match(text))
        {
            self.invalid(path, &shown, &format!("should match '{pattern}'"));
        }
        let names = object::texts(schema, "/enum");
        if !names.is_empty() && !names.contains(&text) {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let message = format!("Unsupported value: {text:?}: supported values: {}", names.join(", "));
            self.blocking(path, "FieldValueNotSupported", message);
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let number = value.as_f64().unwrap_or_default();
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.invalid(path, value, &format!("should be greater than or equal to {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.invalid(path, value, &format!("should be less than or equal to {most}"));
        }
    }

    fn list(&mut self, schema: &Value, list: &[Value], path: &str) {
        let count = list.len() as u64;
        if let Some(least) = limit(schema, "minItems").filter(|least| count < *least) {
            self.invalid(path, &Value::from(count), &format!("should have at least {least} items"));
        }
        if let Some(most) = limit(schema, "maxItems").filter(|most| count > *most) {
            self.blocking(path, "FieldValueTooMany", format!("Too many: {count}: must have at most {most} items"));
        }
        let keys = object::texts(schema, "/keys");
        let mut seen: Vec<String> = Vec::new();
        for (index, one) in list.iter().enumerate() {
            if !keys.is_empty() {
                let shown: Vec<String> = keys.iter().map(|key| format!("{key}={}", one.get(*key).unwrap_or(&Value::Null))).collect();
                let shown = format!("[{}]", shown.join(","));
                if seen.contains(&shown) {
                    self.undeclared.push(format!(".{path}: duplicate entries for key {shown}"));
                }
                seen.push(shown);
            }
            self.walk(schema.get("items").unwrap_or(&Value::Null), one, &format!("{path}[{index}]"));
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        if let Some(element) = schema.get("additionalProperties") {
            if let Some(most) = limit(schema, "maxProperties").filter(|most| fields.len() as u64 > *most) {
                self.blocking(path, "FieldValueTooMany", format!("Too many: {}: must have at most {most} items", fields.len()));
            }
            fields.iter().for_each(|(name, one)| self.walk(element, one, &format!("{path}.{name}")));
            return;
        }
        let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
        for (name, one) in fields {
            match known.get(name) {
                Some(schema) => self.walk(schema, one, &format!("{path}.{name}")),
                None => self.undeclared.push(format!(".{path}.{name}: field not declared in schema")),
            }
        }
        for name in object::texts(schema, "/required") {
            if fields.get(name).is_none_or(Value::is_null) {
                self.blocking(&format!("{path}.{name}"), "FieldValueRequired", "Required value".to_owned());
            }
        }
    }
}

/// A type's name that lasts.
fn known(wanted: &str) -> &'static str {
    ["string", "integer", "number", "boolean", "array"].into_iter().find(|name| *name == wanted).unwrap_or("object")
}

/// What breaks a CEL rule.
fn rules(of: &Value, out: &mut Vec<Cause>) {
    let mut broken = |field: &str, kind: &str, message: &str| {
        let message = format!("Invalid value: {kind:?}: {message}");
        out.push(Cause { reason: "FieldValueInvalid", message, field: field.to_owned() });
    };
    let spec = object::spec(of);
    if object::text(of, "/kind") == "Gateway" {
        listeners(object::list(spec, "/listeners"), &mut broken);
        return;
    }
    for (index, rule) in object::list(spec, "/rules").iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        let backends = object::list(rule, "/backendRefs");
        for (index, backend) in backends.iter().enumerate() {
            port(backend, &format!("{at}.backendRefs[{index}]"), &mut broken);
            filters(of, object::list(backend, "/filters"), &format!("{at}.backendRefs[{index}].filters"), &mut broken);
        }
        let own = object::list(rule, "/filters");
        filters(of, own, &format!("{at}.filters"), &mut broken);
        if !backends.is_empty() && own.iter().any(|filter| filter.get("requestRedirect").is_some()) {
            broken(&at, "object", "RequestRedirect filter must not be used together with backendRefs");
        }
        if object::text(of, "/kind") == "HTTPRoute" {
            for (index, matching) in object::list(rule, "/matches").iter().enumerate() {
                if let Some(path) = matching.get("path") {
                    matched_path(path, &format!("{at}.matches[{index}].path"), &mut broken);
                }
            }
        }
    }
}

type Broken<'a> = dyn FnMut(&str, &str, &str) + 'a;

fn port(backend: &Value, at: &str, broken: &mut Broken<'_>) {
    let is_service = object::text(backend, "/group").is_empty() && matches!(object::text(backend, "/kind"), "" | "Service");
    if is_service && backend.get("port").is_none_or(Value::is_null) {
        broken(at, "object", "Must have port for Service reference");
    }
}

fn filters(of: &Value, list: &[Value], at: &str, broken: &mut Broken<'_>) {
    let kind_of = |filter: &Value| object::text(filter, "/type").to_owned();
    let all = [
        ("CORS", "cors"),
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
        ("RequestMirror", "requestMirror"),
        ("RequestRedirect", "requestRedirect"),
        ("URLRewrite", "urlRewrite"),
        ("ExtensionRef", "extensionRef"),
    ];
    let count = |kind: &str| list.iter().filter(|filter| object::text(filter, "/type") == kind).count();
    if object::text(of, "/kind") == "HTTPRoute" && count("RequestRedirect") > 0 && count("URLRewrite") > 0 {
        broken(at, "array", "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both");
    }
    for (kind, _) in all.iter().filter(|(kind, _)| !matches!(*kind, "RequestMirror" | "ExtensionRef") && count(kind) > 1) {
        broken(at, "array", &format!("{kind} filter cannot be repeated"));
    }
    for (index, filter) in list.iter().enumerate() {
        let at = format!("{at}[{index}]");
        for (kind, field) in all {
            let is_there = filter.get(field).is_some_and(|value| !value.is_null());
            if is_there && kind_of(filter) != kind {
                broken(&at, "object", &format!("filter.{field} must be nil if the filter.type is not {kind}"));
            }
            if !is_there && kind_of(filter) == kind {
                broken(&at, "object", &format!("filter.{field} must be specified for {kind} filter.type"));
            }
        }
        if let Some(backend) = filter.pointer("/requestMirror/backendRef") {
            port(backend, &format!("{at}.requestMirror.backendRef"), broken);
        }
    }
}

fn matched_path(path: &Value, at: &str, broken: &mut Broken<'_>) {
    if !matches!(object::text(path, "/type"), "" | "Exact" | "PathPrefix") {
        return;
    }
    let Some(value) = path.get("value").and_then(Value::as_str) else { return };
    let kinds = "when type one of ['Exact', 'PathPrefix']";
    if !value.starts_with('/') {
        broken(at, "object", &format!("value must be an absolute path and start with '/' {kinds}"));
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"].into_iter().filter(|part| value.contains(part)) {
        broken(at, "object", &format!("must not contain '{part}' {kinds}"));
    }
    for end in ["/..", "/."].into_iter().filter(|end| value.ends_with(end)) {
        broken(at, "object", &format!("must not end with '{end}' {kinds}"));
    }
    if TABLE.patterns.get(PATH).is_some_and(|regex| !regex.is_match(value)) {
        broken(at, "object", &format!("must only contain valid characters (matching {PATH}) for types ['Exact', 'PathPrefix']"));
    }
}

fn listeners(all: &[Value], broken: &mut Broken<'_>) {
    let protocol = |listener: &Value| object::text(listener, "/protocol").to_owned();
    let has = |listener: &Value, field: &str| listener.get(field).is_some_and(|value| !value.is_null());
    let mut when = |is_broken: bool, message: &str| {
        if is_broken {
            broken("spec.listeners", "array", message);
        }
    };
    let bare = |listener: &&Value| matches!(protocol(listener).as_str(), "HTTP" | "TCP" | "UDP");
    when(all.iter().any(|one| bare(&one) && has(one, "tls")), "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']");
    let mode = |listener: &Value| object::text(listener, "/tls/mode").to_owned();
    // The mode is `Terminate` where `tls` does not say one.
    let ends = |one: &Value| matches!(mode(one).as_str(), "" | "Terminate");
    let passes = all.iter().any(|one| protocol(one) == "HTTPS" && has(one, "tls") && !ends(one));
    when(passes, "tls mode must be Terminate for protocol HTTPS");
    when(all.iter().any(|one| protocol(one) == "TLS" && !has(one, "tls")), "tls mode must be set for protocol TLS");
    let named = |one: &Value| matches!(protocol(one).as_str(), "TCP" | "UDP") && !object::text(one, "/hostname").is_empty();
    when(all.iter().any(named), "hostname must not be specified for protocols ['TCP', 'UDP']");
    let place = |one: &Value| [one.get("port"), one.get("protocol"), one.get("hostname")].map(Option::<&Value>::cloned);
    let twice = all.iter().enumerate().any(|(index, one)| all.iter().take(index).any(|other| place(one) == place(other)));
    when(twice, "Combination of port, protocol and hostname must be unique for each listener");
    for (index, listener) in all.iter().enumerate().filter(|(_, one)| has(one, "tls")) {
        let filled = |at: &str| match listener.pointer(at) {
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            _ => false,
        };
        if ends(listener) && !filled("/tls/certificateRefs") && !filled("/tls/options") {
            let message = "certificateRefs or options must be specified when mode is Terminate";
            broken(&format!("spec.listeners[{index}].tls"), "object", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(), Refusal> {
        let (kind, spec) = text.split_once(' ').expect("a kind and a specification");
        let spec: Value = serde_saphyr::from_str(spec).expect("YAML");
        let metadata = serde_json::json!({"name": "filters", "namespace": "a"});
        review(&serde_json::json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}))
    }

    fn message(text: &str) -> String {
        of(text).expect_err("refused").message
    }

    #[test]
    fn the_table_can_be_read_and_every_pattern_compiled() {
        for kind in ["GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "ReferenceGrant"] {
            assert!(TABLE.schemas.contains_key(kind), "{kind}");
        }
        let patterns = include_str!("gateway_api.json").matches("\"pattern\"").count();
        assert!(patterns > 10 && TABLE.patterns.len() > 5);
        assert!(!TABLE.schemas.values().any(|schema| schema.to_string().contains("(?=")));
    }

    /// As a cluster said it (Kubernetes 1.34, Gateway API 1.6.0).
    #[test]
    fn a_name_that_does_not_match_its_pattern_is_refused_in_the_captured_words() {
        let text = message("HTTPRoute {rules: [{}, {name: rewrite prefix, backendRefs: [{name: one, port: 80}]}]}");
        let wanted = "HTTPRoute.gateway.networking.k8s.io \"filters\" is invalid: spec.rules[1].name: Invalid value: \"rewrite prefix\": \
                      spec.rules[1].name in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_fits_passes() {
        for text in [
            "HTTPRoute {parentRefs: [{name: g}], hostnames: ['*.x.y'], rules: [{matches: [{path: {value: /a}}], filters: [{type: URLRewrite, urlRewrite: {hostname: b.c}}], backendRefs: [{name: one, port: 80}], timeouts: {request: 1s}}]}",
            "Gateway {gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}, {name: t, port: 9, protocol: TLS, tls: {mode: Passthrough}}]}",
            "TCPRoute {parentRefs: [{name: g}], rules: [{backendRefs: [{name: one, port: 80}]}]}",
            "ReferenceGrant {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: '', kind: Service}]}",
            "InferencePool {anything: goes}",
        ] {
            assert_eq!(of(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, wanted) in [
            ("HTTPRoute {rules: [{nosuch: 1}]}", ".spec.rules[0].nosuch: field not declared in schema"),
            ("HTTPRoute {rules: 1}", ".spec.rules: expected list"),
            (
                "Gateway {gatewayClassName: istio, listeners: [{name: a, port: 1, protocol: HTTP}, {name: a, port: 2, protocol: HTTP}]}",
                "duplicate entries for key [name=\"a\"]",
            ),
            ("Gateway {listeners: [{name: a, port: 1, protocol: HTTP}]}", "spec.gatewayClassName: Required value"),
            (
                "Gateway {gatewayClassName: istio, listeners: [{name: a, port: 70000, protocol: HTTP}]}",
                "spec.listeners[0].port in body should be less than or equal to 65535",
            ),
            (
                "Gateway {gatewayClassName: istio, listeners: [{name: a, port: 1, protocol: HTTP, hostname: 'A b'}]}",
                "spec.listeners[0].hostname in body should match",
            ),
            (
                "Gateway {gatewayClassName: istio, listeners: [{name: a, port: 1, protocol: HTTP}, {name: b, port: 1, protocol: HTTP}]}",
                "spec.listeners: Invalid value: \"array\": Combination of port, protocol and hostname must be unique for each listener",
            ),
            (
                "HTTPRoute {rules: [{backendRefs: [{name: one}]}]}",
                "spec.rules[0].backendRefs[0]: Invalid value: \"object\": Must have port for Service reference",
            ),
            (
                "HTTPRoute {rules: [{matches: [{method: FETCH}]}]}",
                "spec.rules[0].matches[0].method: Unsupported value: \"FETCH\": supported values: \"GET\"",
            ),
            ("HTTPRoute {rules: [{matches: [{path: {value: a//b}}]}]}", "value must be an absolute path and start with '/'"),
            ("HTTPRoute {rules: [{filters: [{type: URLRewrite}]}]}", "filter.urlRewrite must be specified for URLRewrite filter.type"),
        ] {
            let text = message(text);
            assert!(text.contains(wanted), "{text}");
        }
    }
}
