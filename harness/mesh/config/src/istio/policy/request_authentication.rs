//! Tokens that requests carry, checked by Envoy's `jwt_authn` (Istio: `pilot/pkg/security/authn/policy_applier.go`).
//!
//! The claims of a valid token go to the filter's own dynamic metadata, `envoy.filters.http.jwt_authn` / `payload`; that is where
//! the RBAC filter's rules about request principals and claims look (Istio dropped its own authentication filter in 1.23).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::selection::attaches;
use crate::istio::PushContext;
use crate::istio::model::object;
use crate::{ProxyKind, ProxyNode};

/// A key of which nobody has the private half, for providers whose keys istiod could not fetch: every token is refused
/// (Istio: `PublicOnlyJwks` in `pilot/pkg/model/jwks_resolver.go`).
const NOBODYS_KEY: &str = r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"oWrvcbUfx6OtMkF60C_onNTjZYw6NSYxYDWFbim2YmU1HIF3GAMEU8LGJs7nKBRFuCGg39QeUkXUUlc8EKQbhaapohXOekba5dIuKIG3uk1hfxNgHf-63wUdGzgSXUcog-98WuwHyKO8hD-28gvOCzC-5K4R-a6a4DwfYl14pKCmz1Ln9W-2TqvAcMXJMBmJtYGkotMxfrS_snOnrnXGeMZ09rLB-LpWkmz1jGchMNuOmxGXGIn3IZzDO7x7TURxKFhMbwwdydy0dO0g0gIarnVcN0kiXOwHdaI20dJNfMmfTCtrrGiqsGhuSV9KqwLKBIINBM_jLXOTnJcFvMHzXQ"}]}"#;

/// The filter that checks the tokens of a proxy's requests, if any RequestAuthentication is for it. For a sidecar it belongs to
/// inbound listeners, for a gateway to all.
///
/// `fetch_keys` says what istiod reads at a `jwksUri`, or nothing if it cannot.
#[must_use]
pub fn jwt_filter(ctx: &PushContext, node: &ProxyNode, fetch_keys: &dyn Fn(&str) -> Option<String>) -> Option<Value> {
    let is_near = |policy: &Value| object::namespace(policy) == node.namespace || object::namespace(policy) == ctx.root_namespace;
    let policies = ctx.objects("RequestAuthentication").iter().filter(|policy| is_near(policy) && attaches(policy, node));
    let mut rules: Vec<&Value> = policies.flat_map(|policy| object::list(policy, "/spec/jwtRules")).collect();
    rules.sort_by_key(|rule| object::text(rule, "/issuer"));
    if rules.is_empty() {
        return None;
    }
    let mut providers = Map::new();
    let mut any = Vec::new();
    let mut all = Vec::new();
    for (index, rule) in rules.into_iter().enumerate() {
        let name = format!("origins-{index}");
        providers.insert(name.clone(), provider(rule, node.kind, fetch_keys));
        all.push(json!({"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}}));
        any.push(json!({"provider_name": name}));
    }
    // Every token that is there must be good, and none need be. With several providers that read the same place, one that takes
    // the token is enough.
    let requires = match all.as_slice() {
        [only] => only.clone(),
        _ => {
            any.push(json!({"requires_all": {"requirements": all}}));
            json!({"requires_any": {"requirements": any}})
        }
    };
    let config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": providers,
        "rules": [{"match": {"prefix": "/"}, "requires": requires}],
        "bypass_cors_preflight": true,
    });
    Some(json!({"name": "envoy.filters.http.jwt_authn", "typed_config": config}))
}

fn provider(rule: &Value, kind: ProxyKind, fetch_keys: &dyn Fn(&str) -> Option<String>) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        let is_empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Bool(flag) => !flag,
            _ => false,
        };
        if !is_empty {
            fields.insert(key.to_owned(), value);
        }
    };
    put("issuer", json!(object::text(rule, "/issuer")));
    put("audiences", json!(object::texts(rule, "/audiences")));
    let keys = match (object::text(rule, "/jwks"), object::text(rule, "/jwksUri")) {
        ("", uri) => fetch_keys(uri).unwrap_or_else(|| NOBODYS_KEY.to_owned()),
        (inline, _) => inline.to_owned(),
    };
    put("local_jwks", json!({"inline_string": keys}));
    put("forward", json!(object::flag(rule, "/forwardOriginalToken")));
    let headers = object::list(rule, "/fromHeaders").iter().map(|header| {
        let mut value = json!({"name": object::text(header, "/name")});
        if let (Some(fields), prefix @ [_, ..]) = (value.as_object_mut(), object::text(header, "/prefix").as_bytes()) {
            fields.insert("value_prefix".to_owned(), json!(String::from_utf8_lossy(prefix)));
        }
        value
    });
    put("from_headers", headers.collect());
    put("from_params", json!(object::texts(rule, "/fromParams")));
    put("from_cookies", json!(object::texts(rule, "/fromCookies")));
    put("forward_payload_header", json!(object::text(rule, "/outputPayloadToHeader")));
    put("payload_in_metadata", json!("payload"));
    let claims: BTreeSet<&str> = object::texts(rule, "/spaceDelimitedClaims").into_iter().chain(["permission", "scope"]).collect();
    put("normalize_payload_in_metadata", json!({"space_delimited_claims": claims}));
    let copied = object::list(rule, "/outputClaimToHeaders").iter();
    let copied = copied.map(|one| json!({"header_name": object::text(one, "/header"), "claim_name": object::text(one, "/claim")}));
    put("claim_to_headers", copied.collect());
    put("clear_route_cache", json!(kind == ProxyKind::Router));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::istio::policy::testing::{context, node, router};

    const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: a}
spec:
  selector: {matchLabels: {app: one}}
  jwtRules:
  - {issuer: z, jwks: '{\"keys\":[]}', fromHeaders: [{name: x-token, prefix: 'Bearer '}], forwardOriginalToken: true}
  - {issuer: b, jwksUri: 'https://keys.example/jwks'}";

    #[test]
    fn providers_are_ordered_by_issuer_and_a_missing_token_is_allowed() {
        let filter = jwt_filter(&context("", POLICY), &node("a", &[("app", "one")]), &|_| None).expect("a filter");
        let config = &filter["typed_config"];
        assert_eq!(config["providers"]["origins-0"]["issuer"], "b");
        assert_eq!(config["providers"]["origins-0"]["local_jwks"]["inline_string"], NOBODYS_KEY);
        assert_eq!(config["providers"]["origins-1"]["from_headers"], json!([{"name": "x-token", "value_prefix": "Bearer "}]));
        assert_eq!(config["providers"]["origins-1"]["forward"], true);
        assert_eq!(config["rules"][0]["requires"]["requires_any"]["requirements"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn one_provider_is_asked_alone_and_a_gateway_routes_anew() {
        let one = POLICY.lines().filter(|line| !line.contains("issuer: z")).collect::<Vec<_>>().join("\n");
        let gateway = router("a", &[("app", "one")]);
        let filter = jwt_filter(&context("", &one), &gateway, &|uri| Some(format!("keys of {uri}"))).expect("a filter");
        let config = &filter["typed_config"];
        assert_eq!(config["providers"]["origins-0"]["clear_route_cache"], true);
        assert_eq!(config["providers"]["origins-0"]["local_jwks"]["inline_string"], "keys of https://keys.example/jwks");
        let wanted = json!({"requires_any": {"requirements": [{"provider_name": "origins-0"}, {"allow_missing": {}}]}});
        assert_eq!(config["rules"][0]["requires"], wanted);
        assert_eq!(jwt_filter(&context("", &one), &node("a", &[]), &|_| None), None);
    }
}
