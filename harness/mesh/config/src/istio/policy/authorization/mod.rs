//! Who may call a workload: AuthorizationPolicy as Envoy's RBAC filters (Istio: `pilot/pkg/security/authz/builder`).
//!
//! Actions come in the order AUDIT, DENY, ALLOW, one filter for each that any policy has. CUSTOM asks a server outside of the
//! mesh and is not simulated: the log says so, and the policy does nothing.

mod matcher;
mod rule;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::selection::attaches;
use crate::ProxyNode;
use crate::istio::PushContext;
use crate::istio::model::object;
use rule::{Aliases, Layer};

/// What a policy does with a request that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Audit,
    Deny,
    Allow,
}

impl Action {
    /// How Envoy calls it; the default is not shown.
    fn shown(self) -> Option<&'static str> {
        match self {
            Action::Audit => Some("LOG"),
            Action::Deny => Some("DENY"),
            Action::Allow => None,
        }
    }

    /// A policy's action; ALLOW if it does not say. Nothing for CUSTOM.
    fn of(policy: &Value) -> Option<Action> {
        match object::text(policy, "/spec/action") {
            "" | "ALLOW" => Some(Action::Allow),
            "DENY" => Some(Action::Deny),
            "AUDIT" => Some(Action::Audit),
            _ => None,
        }
    }
}

/// The RBAC filters of HTTP connection managers: on a gateway, and on a sidecar's inbound listeners.
#[must_use]
pub fn http_filters(ctx: &PushContext, node: &ProxyNode, log: &mut Vec<String>) -> Vec<Value> {
    filters(ctx, node, Layer::Http, log)
}

/// The RBAC filters before a TCP proxy: on a gateway, and on a sidecar's inbound listeners.
#[must_use]
pub fn network_filters(ctx: &PushContext, node: &ProxyNode, log: &mut Vec<String>) -> Vec<Value> {
    filters(ctx, node, Layer::Tcp, log)
}

fn filters(ctx: &PushContext, node: &ProxyNode, layer: Layer, log: &mut Vec<String>) -> Vec<Value> {
    let is_near = |policy: &Value| object::namespace(policy) == node.namespace || object::namespace(policy) == ctx.root_namespace;
    let all = ctx.objects("AuthorizationPolicy").iter().filter(|policy| is_near(policy) && attaches(policy, node));
    let policies: Vec<&Value> = all.map(|policy| &**policy).collect();
    for policy in policies.iter().filter(|policy| Action::of(policy).is_none()) {
        let (namespace, name) = (object::namespace(policy), object::name(policy));
        log.push(format!("not simulated: AuthorizationPolicy {namespace}/{name} has the action CUSTOM and does nothing here"));
    }
    let aliases = Aliases::new(&ctx.mesh.trust_domain, object::texts(&ctx.mesh.raw, "/trustDomainAliases"));
    let actions = [Action::Audit, Action::Deny, Action::Allow].into_iter();
    actions.filter_map(|action| filter(&policies, action, layer, &aliases, log)).collect()
}

/// The filter for one action, if any policy has it. One whose rules cannot apply here matches nothing: for ALLOW that denies all.
fn filter(policies: &[&Value], action: Action, layer: Layer, aliases: &Aliases, log: &mut Vec<String>) -> Option<Value> {
    let (mut enforced, mut tried) = (None, None);
    for policy in policies.iter().filter(|policy| Action::of(policy) == Some(action)) {
        let is_trial = matches!(object::annotation(policy, "istio.io/dry-run"), "true" | "True" | "TRUE" | "t" | "T" | "1");
        let rules = if is_trial { &mut tried } else { &mut enforced }.get_or_insert_with(Map::new);
        let (namespace, name) = (object::namespace(policy), object::name(policy));
        let id = |index: usize| format!("ns[{namespace}]-policy[{name}]-rule[{index}]");
        let own = object::list(policy, "/spec/rules");
        for (index, rule) in own.iter().enumerate() {
            match rule::policy(rule, namespace, layer, action == Action::Allow, aliases) {
                Ok(generated) => {
                    rules.insert(id(index), generated);
                }
                Err(rule::Skip::Invalid(reason)) => log.push(format!("skipped invalid rule {}: {reason}", id(index))),
                Err(rule::Skip::NotHere) => {}
            }
        }
        if own.is_empty() {
            rules.insert(id(0), never());
        }
    }
    if enforced.is_none() && tried.is_none() {
        return None;
    }
    // Of no rules at all on trial Envoy's default action is read, which is ALLOW (as captured).
    let prefix = match (&tried, action) {
        (None, _) | (Some(_), Action::Allow) => "istio_dry_run_allow_",
        (Some(_), Action::Deny) => "istio_dry_run_deny_",
        (Some(_), Action::Audit) => "",
    };
    let (name, kind) = match layer {
        Layer::Http => ("envoy.filters.http.rbac", "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"),
        Layer::Tcp => ("envoy.filters.network.rbac", "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"),
    };
    let mut config = Map::from_iter([("@type".to_owned(), json!(kind))]);
    for (key, policies) in [("rules", enforced), ("shadow_rules", tried)] {
        if let Some(policies) = policies {
            config.insert(key.to_owned(), rules(action, policies));
        }
    }
    if layer == Layer::Tcp {
        config.insert("stat_prefix".to_owned(), json!("tcp."));
    }
    if !prefix.is_empty() {
        config.insert("shadow_rules_stat_prefix".to_owned(), json!(prefix));
    }
    Some(json!({"name": name, "typed_config": config}))
}

fn rules(action: Action, policies: Map<String, Value>) -> Value {
    let mut rules = Map::new();
    if let Some(action) = action.shown() {
        rules.insert("action".to_owned(), json!(action));
    }
    if !policies.is_empty() {
        rules.insert("policies".to_owned(), Value::Object(policies));
    }
    Value::Object(rules)
}

/// A policy that matches nothing, for one without rules (Istio: `rbacPolicyMatchNever`).
fn never() -> Value {
    json!({"permissions": [{"not_rule": {"any": true}}], "principals": [{"not_id": {"any": true}}]})
}
