//! Who may call a workload: AuthorizationPolicy as Envoy's RBAC filters (Istio: `pilot/pkg/security/authz/builder`).
//!
//! Actions come in the order CUSTOM, AUDIT, DENY, ALLOW, one filter for each of the last three that any policy has. CUSTOM comes
//! before tokens are checked, so it has functions of its own.

mod custom;
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

/// The filters of HTTP connection managers that ask an external server, before those that check tokens.
#[must_use]
pub fn custom_http_filters(ctx: &PushContext, node: &ProxyNode, log: &mut Vec<String>) -> Vec<Value> {
    custom::filters(ctx, &policies(ctx, node), Layer::Http, log)
}

/// The filters before a TCP proxy: on a gateway, and on a sidecar's inbound listeners.
#[must_use]
pub fn network_filters(ctx: &PushContext, node: &ProxyNode, log: &mut Vec<String>) -> Vec<Value> {
    let mut all = custom::filters(ctx, &policies(ctx, node), Layer::Tcp, log);
    all.extend(filters(ctx, node, Layer::Tcp, log));
    all
}

/// The policies for a proxy.
fn policies<'a>(ctx: &'a PushContext, node: &ProxyNode) -> Vec<&'a Value> {
    let is_near = |policy: &Value| object::namespace(policy) == node.namespace || object::namespace(policy) == ctx.root_namespace;
    let all = ctx.objects("AuthorizationPolicy").iter().filter(|policy| is_near(policy) && attaches(policy, node));
    all.map(|policy| &**policy).collect()
}

fn aliases(ctx: &PushContext) -> Aliases<'_> {
    Aliases::new(&ctx.mesh.trust_domain, object::texts(&ctx.mesh.raw, "/trustDomainAliases"))
}

fn filters(ctx: &PushContext, node: &ProxyNode, layer: Layer, log: &mut Vec<String>) -> Vec<Value> {
    let (policies, aliases) = (policies(ctx, node), aliases(ctx));
    let actions = [Action::Audit, Action::Deny, Action::Allow].into_iter();
    actions.filter_map(|action| filter(&policies, action, layer, &aliases, log)).collect()
}

/// The filter for one action, if any policy has it. One whose rules cannot apply here matches nothing: for ALLOW that denies all.
fn filter(policies: &[&Value], action: Action, layer: Layer, aliases: &Aliases, log: &mut Vec<String>) -> Option<Value> {
    let (mut enforced, mut tried) = (None, None);
    for policy in policies.iter().filter(|policy| Action::of(policy) == Some(action)) {
        let rules = if is_trial(policy) { &mut tried } else { &mut enforced }.get_or_insert_with(Map::new);
        let translation = Translation { prefix: "", layer, is_allow: action == Action::Allow, aliases };
        translation.add(policy, rules, log);
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
    Some(rbac(layer, enforced.map(|policies| rules(action, policies)), tried.map(|policies| rules(action, policies)), prefix))
}

/// Whether a policy is only tried (Istio: `isDryRun`).
fn is_trial(policy: &Value) -> bool {
    matches!(object::annotation(policy, "istio.io/dry-run"), "true" | "True" | "TRUE" | "t" | "T" | "1")
}

/// How the rules of policies become those of Envoy.
struct Translation<'a> {
    /// Before the name of each.
    prefix: &'a str,
    layer: Layer,
    is_allow: bool,
    aliases: &'a Aliases<'a>,
}

impl Translation<'_> {
    /// Adds the rules of a policy by their names.
    fn add(&self, policy: &Value, rules: &mut Map<String, Value>, log: &mut Vec<String>) {
        let (namespace, name) = (object::namespace(policy), object::name(policy));
        let id = |index: usize| format!("{}ns[{namespace}]-policy[{name}]-rule[{index}]", self.prefix);
        let own = object::list(policy, "/spec/rules");
        for (index, rule) in own.iter().enumerate() {
            match rule::policy(rule, namespace, self.layer, self.is_allow, self.aliases) {
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
}

/// An RBAC filter of a layer.
fn rbac(layer: Layer, enforced: Option<Value>, tried: Option<Value>, prefix: &str) -> Value {
    let (name, kind) = match layer {
        Layer::Http => ("envoy.filters.http.rbac", "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"),
        Layer::Tcp => ("envoy.filters.network.rbac", "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"),
    };
    let mut config = Map::from_iter([("@type".to_owned(), json!(kind))]);
    for (key, rules) in [("rules", enforced), ("shadow_rules", tried)] {
        if let Some(rules) = rules {
            config.insert(key.to_owned(), rules);
        }
    }
    if layer == Layer::Tcp {
        config.insert("stat_prefix".to_owned(), json!("tcp."));
    }
    if !prefix.is_empty() {
        config.insert("shadow_rules_stat_prefix".to_owned(), json!(prefix));
    }
    json!({"name": name, "typed_config": config})
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
