//! Which access logs a proxy writes (Istio: `pilot/pkg/model/telemetry.go`, `telemetry_logging.go`,
//! `pilot/pkg/networking/core/accesslog.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::selection::{attaches, is_narrow};
use crate::istio::PushContext;
use crate::istio::model::object;
use crate::{ProxyKind, ProxyNode};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerClass {
    /// Calls to the application beside a sidecar.
    SidecarInbound,
    /// Calls from it.
    SidecarOutbound,
    /// Calls through a gateway.
    Gateway,
}

impl ListenerClass {
    /// The class of what a proxy listens on: a gateway has one, a sidecar two.
    #[must_use]
    pub fn of(kind: ProxyKind, inbound: bool) -> ListenerClass {
        match (kind, inbound) {
            (ProxyKind::Router, _) => ListenerClass::Gateway,
            (ProxyKind::Sidecar, true) => ListenerClass::SidecarInbound,
            (ProxyKind::Sidecar, false) => ListenerClass::SidecarOutbound,
        }
    }

    /// How a Telemetry resource calls it: a gateway is a client (Istio: `workloadMode`).
    fn mode(self) -> &'static str {
        match self {
            ListenerClass::SidecarInbound => "SERVER",
            ListenerClass::SidecarOutbound | ListenerClass::Gateway => "CLIENT",
        }
    }
}

/// The default text format, with its newline (Istio: `EnvoyTextLogFormat`; as captured from a cluster).
const TEXT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
     %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
     %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
     \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
     %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// The default JSON format (Istio: `EnvoyJSONLogFormatIstio`).
const JSON_FORMAT: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// The provider that needs no entry in the mesh configuration: Envoy's file log on standard output.
const BUILT_IN: &str = "envoy";

/// The `access_log` of an HTTP connection manager or a TCP proxy; empty: none.
#[must_use]
pub fn access_log(ctx: &PushContext, node: &ProxyNode, class: ListenerClass) -> Vec<Value> {
    logs(ctx, node, class, None)
}

/// The `access_log` of a listener itself: for connections that no filter chain took, which nothing else would log
/// (Istio: `listenerAccessLogFilter`).
#[must_use]
pub fn listener_access_log(ctx: &PushContext, node: &ProxyNode, class: ListenerClass) -> Vec<Value> {
    if ctx.mesh.disable_listener_log {
        return Vec::new();
    }
    logs(ctx, node, class, Some(json!({"response_flag_filter": {"flags": ["NR"]}})))
}

fn logs(ctx: &PushContext, node: &ProxyNode, class: ListenerClass, filter: Option<Value>) -> Vec<Value> {
    let told = from_telemetry(ctx, node, class);
    if told.is_empty() {
        if ctx.mesh.access_log_file.is_empty() {
            return Vec::new();
        }
        let format = mesh_format(ctx);
        return vec![file_log(&ctx.mesh.access_log_file, format, filter)];
    }
    let shown = told.into_iter().filter(|(_, rule)| !rule.disabled);
    shown
        .map(|(provider, rule)| {
            let expression = rule.expression.map(|expression| {
                let config = json!({"@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", "expression": expression});
                json!({"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": config}})
            });
            let filter = match (filter.clone(), expression) {
                (Some(one), Some(other)) => Some(json!({"and_filter": {"filters": [one, other]}})),
                (one, other) => one.or(other),
            };
            file_log(&provider.path, provider.format, filter)
        })
        .collect()
}

/// A file log that a provider stands for.
struct Provider {
    path: String,
    format: Value,
}

/// What Telemetry resources say about one provider.
#[derive(Clone, Default)]
struct Rule {
    disabled: bool,
    expression: Option<String>,
}

/// What Telemetry resources and the mesh's default providers ask for, by provider; empty: they say nothing, and the mesh's
/// `accessLogFile` counts (Istio: `Telemetries.AccessLogging`).
fn from_telemetry(ctx: &PushContext, node: &ProxyNode, class: ListenerClass) -> Vec<(Provider, Rule)> {
    let levels = applicable(ctx, node);
    let defaults: Vec<String> = object::texts(&ctx.mesh.raw, "/defaultProviders/accessLogging").into_iter().map(str::to_owned).collect();
    let rules = merge(&levels, &defaults, class.mode());
    rules.into_iter().filter_map(|(name, rule)| Some((provider(ctx, &name)?, rule))).collect()
}

/// The `accessLogging` lists that count for a proxy, widest first: the root namespace's, its own namespace's, its own.
fn applicable<'a>(ctx: &'a PushContext, node: &ProxyNode) -> Vec<&'a [Value]> {
    let of = |namespace: &str| {
        let namespace = namespace.to_owned();
        ctx.objects("Telemetry").iter().filter(move |telemetry| object::namespace(telemetry) == namespace)
    };
    let mut found = Vec::new();
    found.extend(of(&ctx.root_namespace).find(|telemetry| !is_narrow(telemetry)));
    if node.namespace != ctx.root_namespace {
        found.extend(of(&node.namespace).find(|telemetry| !is_narrow(telemetry)));
    }
    found.extend(of(&node.namespace).filter(|telemetry| is_narrow(telemetry) && attaches(telemetry, node)));
    found.into_iter().map(|telemetry| object::list(telemetry, "/spec/accessLogging")).filter(|list| !list.is_empty()).collect()
}

/// Istio's `mergeLogs`: the narrowest level that names providers decides which there are; each entry then turns them on or off.
fn merge(levels: &[&[Value]], defaults: &[String], mode: &str) -> BTreeMap<String, Rule> {
    if levels.is_empty() {
        return defaults.iter().map(|name| (name.clone(), Rule::default())).collect();
    }
    let counts = |entry: &Value| match entry.pointer("/match") {
        None | Some(Value::Null) => true,
        Some(selector) => matches!(object::text(selector, "/mode"), "" | "CLIENT_AND_SERVER") || object::text(selector, "/mode") == mode,
    };
    let names = |entry: &Value| -> Vec<String> {
        let providers = object::list(entry, "/providers").iter();
        providers.map(|provider| object::text(provider, "/name").to_owned()).collect()
    };
    let mut in_scope: BTreeSet<String> = defaults.iter().cloned().collect();
    let mut filters: BTreeMap<String, Rule> = BTreeMap::new();
    for level in levels {
        let mut named = BTreeSet::new();
        for entry in level.iter().filter(|entry| counts(entry)) {
            for name in names(entry) {
                let expression = entry.pointer("/filter/expression").and_then(Value::as_str).map(str::to_owned);
                filters.insert(name.clone(), Rule { disabled: false, expression });
                named.insert(name);
            }
        }
        if !named.is_empty() {
            in_scope = named;
        }
    }
    let mut rules = BTreeMap::new();
    let mut inherited = defaults.to_vec();
    for entry in levels.iter().copied().flatten() {
        let own = names(entry);
        if !own.is_empty() {
            inherited = own;
        }
        for name in inherited.iter().filter(|name| in_scope.contains(*name) && counts(entry)) {
            let rule = match object::flag(entry, "/disabled") {
                true => Rule { disabled: true, expression: None },
                false => filters.get(name).cloned().unwrap_or_default(),
            };
            rules.insert(name.clone(), rule);
        }
    }
    rules
}

/// The file log that a provider's name stands for: of the mesh configuration, or the built-in one. Other kinds of providers log
/// elsewhere and are not simulated.
fn provider(ctx: &PushContext, name: &str) -> Option<Provider> {
    let mut all = object::list(&ctx.mesh.raw, "/extensionProviders").iter();
    let Some(entry) = all.find(|entry| object::text(entry, "/name").eq_ignore_ascii_case(name)) else {
        return name.eq_ignore_ascii_case(BUILT_IN).then(|| Provider { path: "/dev/stdout".to_owned(), format: mesh_format(ctx) });
    };
    let log = entry.get("envoyFileAccessLog")?;
    let path = match object::text(log, "/path") {
        "" => "/dev/stdout",
        path => path,
    };
    let omit = object::flag(log, "/omitEmptyValues");
    let own_format = log.get("logFormat").filter(|format| format.is_object());
    let mut format = match own_format {
        None if object::text(entry, "/name") == BUILT_IN && !omit => mesh_format(ctx),
        None => text_format(""),
        Some(format) => match format.get("labels") {
            Some(labels) => json_format(labels.as_object().filter(|labels| !labels.is_empty())),
            None => text_format(object::text(format, "/text")),
        },
    };
    if let Some(fields) = format.as_object_mut().filter(|_| omit) {
        fields.insert("omit_empty_values".to_owned(), Value::Bool(true));
    }
    Some(Provider { path: path.to_owned(), format })
}

/// The format that the mesh configuration asks for. JSON that cannot be read leaves the default.
fn mesh_format(ctx: &PushContext) -> Value {
    if !ctx.mesh.access_log_json {
        return text_format(&ctx.mesh.access_log_format);
    }
    let own: Option<Value> = serde_json::from_str(&ctx.mesh.access_log_format).ok();
    json_format(own.as_ref().and_then(Value::as_object))
}

fn text_format(format: &str) -> Value {
    let format = match format {
        "" => TEXT_FORMAT.to_owned(),
        text if text.ends_with('\n') => text.to_owned(),
        text => format!("{text}\n"),
    };
    let needs_formatter = format.contains(WITHOUT_QUERY);
    with_formatter(json!({"text_format_source": {"inline_string": format}}), needs_formatter)
}

fn json_format(own: Option<&Map<String, Value>>) -> Value {
    let fields = match own {
        Some(fields) => fields.clone(),
        None => JSON_FORMAT.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect(),
    };
    let needs_formatter = fields.values().filter_map(Value::as_str).any(|value| value.contains(WITHOUT_QUERY));
    with_formatter(json!({"json_format": fields, "json_format_options": {}}), needs_formatter)
}

/// The one command that Envoy only knows through an extension.
const WITHOUT_QUERY: &str = "%REQ_WITHOUT_QUERY";

fn with_formatter(mut format: Value, needed: bool) -> Value {
    if let Some(fields) = format.as_object_mut().filter(|_| needed) {
        let config = json!({"@type": "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"});
        fields.insert("formatters".to_owned(), json!([{"name": "envoy.formatter.req_without_query", "typed_config": config}]));
    }
    format
}

fn file_log(path: &str, format: Value, filter: Option<Value>) -> Value {
    let config =
        json!({"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": path, "log_format": format});
    let mut log = json!({"name": "envoy.access_loggers.file", "typed_config": config});
    if let (Some(fields), Some(filter)) = (log.as_object_mut(), filter) {
        fields.insert("filter".to_owned(), filter);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::istio::policy::testing::{context, node};

    const ON: &str = "accessLogFile: /dev/stdout";

    fn outbound(mesh: &str, objects: &str) -> Vec<Value> {
        access_log(&context(mesh, objects), &node("a", &[("app", "one")]), ListenerClass::SidecarOutbound)
    }

    #[test]
    fn the_mesh_turns_it_on_and_the_listener_logs_what_no_chain_took() {
        assert!(outbound("", "").is_empty());
        let own = outbound(ON, "");
        assert_eq!(own.len(), 1);
        assert_eq!(own[0]["typed_config"]["log_format"]["text_format_source"]["inline_string"], TEXT_FORMAT);
        let listener = listener_access_log(&context(ON, ""), &node("a", &[]), ListenerClass::Gateway);
        assert_eq!(listener[0]["filter"]["response_flag_filter"]["flags"], json!(["NR"]));
        assert!(TEXT_FORMAT.ends_with("%ROUTE_NAME%\n") && !TEXT_FORMAT.contains("  "));
    }

    #[test]
    fn a_format_of_ones_own_gets_its_newline_and_its_extension() {
        let log = outbound("{accessLogFile: /tmp/x, accessLogFormat: '%REQ_WITHOUT_QUERY(:PATH)%'}", "");
        assert_eq!(log[0]["typed_config"]["log_format"]["text_format_source"]["inline_string"], "%REQ_WITHOUT_QUERY(:PATH)%\n");
        assert_eq!(log[0]["typed_config"]["log_format"]["formatters"][0]["name"], "envoy.formatter.req_without_query");
        let log = outbound("{accessLogFile: /tmp/x, accessLogEncoding: JSON}", "");
        assert_eq!(log[0]["typed_config"]["log_format"]["json_format"]["route_name"], "%ROUTE_NAME%");
    }

    #[test]
    fn a_telemetry_of_the_workload_outranks_the_root_namespace() {
        let objects = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: mesh, namespace: istio-system}
spec: {accessLogging: [{providers: [{name: envoy}], filter: {expression: response.code >= 400}}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: quiet, namespace: a}
spec: {selector: {matchLabels: {app: one}}, accessLogging: [{providers: [{name: envoy}], match: {mode: CLIENT}, disabled: true}]}";
        assert!(outbound(ON, objects).is_empty());
        let inbound = access_log(&context("", objects), &node("a", &[("app", "one")]), ListenerClass::SidecarInbound);
        assert_eq!(inbound[0]["filter"]["extension_filter"]["typed_config"]["expression"], "response.code >= 400");
    }

    #[test]
    fn off_without_a_provider_leaves_the_meshs_own_log() {
        let objects = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: quiet, namespace: a}
spec: {accessLogging: [{disabled: true}]}";
        assert_eq!(outbound(ON, objects).len(), 1);
    }
}
