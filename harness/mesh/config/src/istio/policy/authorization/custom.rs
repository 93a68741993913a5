//! The action CUSTOM: an external server decides (Istio: `pilot/pkg/security/authz/builder/{builder,extauthz}.go`).
//!
//! A pair of filters for each provider: RBAC notes which policy matched, and `ext_authz` asks the server if one did. Where istiod
//! cannot use the provider (nobody defines it, its service does not exist, one workload has several), it denies what the policies
//! match instead. Calls to such servers are not simulated: the envoy half refuses a listener that would make them, in these words, so
//! nothing is let through that a server might have refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Layer, Translation, aliases, is_trial, rbac};
use crate::istio::PushContext;
use crate::istio::model::{Direction, cluster_name, object};
use crate::istio::route::ProtoDuration;

/// Added to the name of a rule that denies since its provider cannot be asked.
const BAD: &str = "-deny-due-to-bad-CUSTOM-action";
/// The prefix under which RBAC notes what matched.
const NOTED: &str = "istio_ext_authz_";

/// Rules by their names: those in force, and those on trial.
type Rules = (Map<String, Value>, Map<String, Value>);

/// The filters for those policies of a proxy whose action is CUSTOM.
pub(super) fn filters(ctx: &PushContext, policies: &[&Value], layer: Layer, log: &mut Vec<String>) -> Vec<Value> {
    let aliases = aliases(ctx);
    let mut by_provider: BTreeMap<&str, Rules> = BTreeMap::new();
    for policy in policies.iter().filter(|policy| object::text(policy, "/spec/action") == "CUSTOM") {
        let provider = object::text(policy, "/spec/provider/name");
        let prefix = if provider.is_empty() { "istio-ext-authz-".to_owned() } else { format!("istio-ext-authz-{provider}-") };
        let (enforced, tried) = by_provider.entry(provider).or_default();
        // Rules are made as for DENY: what a layer cannot know is left out, which matches more.
        let translation = Translation { prefix: &prefix, layer, is_allow: false, aliases: &aliases };
        translation.add(policy, if is_trial(policy) { tried } else { enforced }, log);
    }
    let several = by_provider.len() > 1;
    if several {
        let names: Vec<&str> = by_provider.keys().copied().collect();
        log.push(format!("multiple CUSTOM authorization providers per workload requires PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS feature flag, found {} providers: {names:?}", names.len()));
    }
    let mut out = Vec::new();
    for (name, (enforced, tried)) in by_provider {
        let provider = if several { Err(String::new()) } else { Provider::find(ctx, name) };
        match provider {
            Err(reason) => {
                if !several {
                    log.push(format!("failed to process CUSTOM action for provider {name}, will generate deny configs: {reason}"));
                }
                let denied = enforced.into_iter().map(|(rule, policy)| (format!("{rule}{BAD}"), policy)).collect();
                out.push(rbac(layer, Some(denying(denied)), None, ""));
            }
            // A server by HTTP cannot be asked about bytes.
            Ok(provider) if layer == Layer::Tcp && !provider.is_grpc => {}
            Ok(provider) => {
                log.push(format!("not simulated: calls to the extension provider {name}; listeners that would make them are refused"));
                let tried = (!tried.is_empty()).then(|| denying(tried));
                out.push(rbac(layer, tried, Some(denying(enforced)), NOTED));
                out.push(provider.filter(name, layer));
            }
        }
    }
    out
}

fn denying(policies: Map<String, Value>) -> Value {
    let mut rules = Map::from_iter([("action".to_owned(), json!("DENY"))]);
    if !policies.is_empty() {
        rules.insert("policies".to_owned(), Value::Object(policies));
    }
    Value::Object(rules)
}

/// A provider of the mesh configuration that can be asked.
struct Provider<'a> {
    settings: &'a Value,
    is_grpc: bool,
    host: String,
    cluster: String,
}

impl<'a> Provider<'a> {
    /// The provider of a name, or why it cannot be asked (`processExtensionProvider`, `getExtAuthz`).
    fn find(ctx: &'a PushContext, name: &str) -> Result<Provider<'a>, String> {
        let all = object::list(&ctx.mesh.raw, "/extensionProviders").iter();
        let known: Vec<(&str, &Value, bool)> = all
            .filter_map(|provider| {
                let http = provider.get("envoyExtAuthzHttp").map(|settings| (settings, false));
                let (settings, is_grpc) = http.or_else(|| provider.get("envoyExtAuthzGrpc").map(|settings| (settings, true)))?;
                Some((object::text(provider, "/name"), settings, is_grpc))
            })
            .collect();
        let named: Vec<_> = known.iter().filter(|(of, ..)| *of == name).collect();
        let (settings, is_grpc) = match named.as_slice() {
            [] => {
                let names: Vec<&str> = known.iter().map(|(name, ..)| *name).collect();
                return Err(format!("available providers are {names:?} but found {name:?}"));
            }
            [(_, settings, is_grpc)] => (*settings, *is_grpc),
            _ => return Err(format!("found errors in provider {name}: extension provider name must be unique, found duplicate: {name}")),
        };
        let wrong = |reason: String| format!("found errors in provider {name}: {reason}");
        let is_label = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(is_label) || name.starts_with('-') || name.ends_with('-') {
            return Err(wrong(format!("invalid provider name {name:?}")));
        }
        let port = object::port(settings, "/port").filter(|port| *port > 0);
        let port = port.ok_or_else(|| wrong(format!("port must be in the range [1, 65535], found: {}", settings["port"])))?;
        let host = service(ctx, object::text(settings, "/service")).map_err(wrong)?;
        let prefix = object::text(settings, "/pathPrefix");
        if !is_grpc && !prefix.is_empty() && !prefix.starts_with('/') {
            return Err(wrong(format!("pathPrefix must begin with `/`, found: {prefix:?}")));
        }
        let status = object::text(settings, "/statusOnError");
        if !status.is_empty() && !status.parse::<u16>().is_ok_and(|code| (100..600).contains(&code)) {
            return Err(wrong(format!("unsupported statusOnError {status}")));
        }
        let lists = ["includeRequestHeadersInCheck", "headersToDownstreamOnDeny", "headersToDownstreamOnAllow", "headersToUpstreamOnAllow"];
        if let Some(field) = lists.iter().find(|field| !is_grpc && object::texts(settings, &format!("/{field}")).contains(&"*")) {
            return Err(wrong(format!("a single wildcard (\"*\") is not supported, change it to either prefix or suffix match: {field}")));
        }
        Ok(Provider { settings, is_grpc, cluster: cluster_name(Direction::Outbound, port, "", &host), host })
    }

    /// The filter that asks it whenever RBAC has noted one of its rules.
    fn filter(&self, name: &str, layer: Layer) -> Value {
        let text = |field: &str| object::text(self.settings, field);
        let wait = ProtoDuration::parse(text("/timeout")).map_or_else(|| "600s".to_owned(), |time| time.to_string());
        let (filter, noted_by, kind) = match layer {
            Layer::Http => ("envoy.filters.http.ext_authz", "envoy.filters.http.rbac", "http.ext_authz.v3.ExtAuthz"),
            Layer::Tcp => ("envoy.filters.network.ext_authz", "envoy.filters.network.rbac", "network.ext_authz.v3.ExtAuthz"),
        };
        let mut config = Map::new();
        let mut put = |field: &str, value: Value| drop(config.insert(field.to_owned(), value));
        put("@type", json!(format!("type.googleapis.com/envoy.extensions.filters.{kind}")));
        put("transport_api_version", json!("V3"));
        put(
            "filter_enabled_metadata",
            json!({
                "filter": noted_by,
                "path": [{"key": format!("{NOTED}shadow_effective_policy_id")}],
                "value": {"string_match": {"prefix": format!("istio-ext-authz-{name}")}},
            }),
        );
        if object::flag(self.settings, "/failOpen") {
            put("failure_mode_allow", json!(true));
        }
        if self.is_grpc {
            let grpc = json!({"envoy_grpc": {"authority": self.host, "cluster_name": self.cluster}, "timeout": wait});
            put("grpc_service", grpc);
        } else {
            put("http_service", self.http_service(&wait));
            let allowed = object::texts(self.settings, "/includeRequestHeadersInCheck");
            if !allowed.is_empty() {
                put("allowed_headers", patterns(&allowed));
            }
        }
        match layer {
            Layer::Tcp => put("stat_prefix", json!("tcp.")),
            Layer::Http => {
                if let Ok(status) = text("/statusOnError").parse::<u16>() {
                    put("status_on_error", json!({"code": status}));
                }
                if let Some(body) = self.settings.get("includeRequestBodyInCheck") {
                    put("with_request_body", buffer(body));
                }
            }
        }
        json!({"name": filter, "typed_config": config})
    }

    fn http_service(&self, wait: &str) -> Value {
        let mut service = Map::new();
        let uri = json!({"cluster": self.cluster, "timeout": wait, "uri": format!("http://{}", self.host)});
        service.insert("server_uri".to_owned(), uri);
        let prefix = object::text(self.settings, "/pathPrefix");
        if !prefix.is_empty() {
            service.insert("path_prefix".to_owned(), json!(prefix));
        }
        let added = self.settings.get("includeAdditionalHeadersInCheck").map(object::text_map).unwrap_or_default();
        if !added.is_empty() {
            let added: Vec<Value> = added.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            service.insert("authorization_request".to_owned(), json!({"headers_to_add": added}));
        }
        let mut answers = Map::new();
        for (field, said) in [
            ("allowed_upstream_headers", "/headersToUpstreamOnAllow"),
            ("allowed_client_headers", "/headersToDownstreamOnDeny"),
            ("allowed_client_headers_on_success", "/headersToDownstreamOnAllow"),
        ] {
            let said = object::texts(self.settings, said);
            if !said.is_empty() {
                answers.insert(field.to_owned(), patterns(&said));
            }
        }
        if !answers.is_empty() {
            service.insert("authorization_response".to_owned(), Value::Object(answers));
        }
        Value::Object(service)
    }
}

/// The host of the service that a provider names, as `NAMESPACE/HOST` or by its host if only one namespace has it (`LookupCluster`).
fn service(ctx: &PushContext, said: &str) -> Result<String, String> {
    if said.is_empty() {
        return Err("service must not be empty".to_owned());
    }
    let (namespace, host) = said.split_once('/').map_or((None, said), |(namespace, host)| (Some(namespace), host));
    let of_host = ctx.services.iter().filter(|service| service.host == host);
    let mut namespaces: Vec<&str> = of_host.map(|service| service.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    namespaces.retain(|of| namespace.is_none_or(|wanted| *of == wanted));
    match namespaces.as_slice() {
        [] => Err(format!("could not find service {said} in Istio service registry")),
        [_] => Ok(host.to_owned()),
        several => Err(format!(
            "found {said} in multiple namespaces {several:?}, specify the namespace explicitly in the format of <Namespace>/<Hostname>"
        )),
    }
}

/// Names of headers with a wildcard at either end (`generateHeaders`).
fn patterns(names: &[&str]) -> Value {
    let pattern = |name: &&str| match (name.strip_prefix('*'), name.strip_suffix('*')) {
        (Some(end), _) => json!({"ignore_case": true, "suffix": end}),
        (None, Some(start)) => json!({"ignore_case": true, "prefix": start}),
        (None, None) => json!({"exact": name, "ignore_case": true}),
    };
    json!({"patterns": names.iter().map(pattern).collect::<Vec<_>>()})
}

/// How much of a request's body the server gets.
fn buffer(body: &Value) -> Value {
    let mut out = Map::new();
    for (field, said) in
        [("max_request_bytes", "maxRequestBytes"), ("allow_partial_message", "allowPartialMessage"), ("pack_as_bytes", "packAsBytes")]
    {
        let is_set = |value: &&Value| value.as_bool() == Some(true) || value.as_u64().is_some_and(|number| number > 0);
        if let Some(value) = body.get(said).filter(is_set) {
            out.insert(field.to_owned(), value.clone());
        }
    }
    Value::Object(out)
}
