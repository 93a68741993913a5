//! Refusals that are meant as such: AuthorizationPolicy, and mutual TLS that a caller does not speak.

use serde_json::Value;

use super::configured::{Configured, SECURITY};
use super::names::{Labels, few, list, namespace, selects, text, texts};
use super::{Cause, Layer, Place};
use crate::names::Namespaced;
use crate::scenario::KubeObject;

/// The policies of a kind that hold for a workload: of its namespace and of the root, by selector.
fn holding<'c>(c: &'c Configured, kind: &'c str, at: &str, labels: &Labels) -> Vec<&'c KubeObject> {
    let holds = |policy: &&KubeObject| {
        (namespace(policy) == at || namespace(policy) == c.root())
            && policy.value.pointer("/spec/selector/matchLabels").is_none_or(|wanted| selects(wanted, labels))
    };
    c.all(SECURITY, kind).filter(holds).collect()
}

/// Which policy refused, from Envoy's details: `rbac_access_denied_matched_policy[ns[N]-policy[P]-rule[I]]`, or `[none]`.
pub(super) fn denied(c: &Configured, details: &str, proxy: &Namespaced) -> Option<Cause> {
    let inside = |key: &str| -> Option<String> {
        let (_, rest) = details.split_once(&format!("{key}["))?;
        Some(rest.split(']').next().unwrap_or_default().to_owned())
    };
    if let (Some(at), Some(name)) = (inside("ns"), inside("-policy")) {
        let policy = c.find(SECURITY, "AuthorizationPolicy", &at, &name)?;
        let rule = inside("rule").unwrap_or_default();
        let text = format!("rule {rule} of {} (DENY) takes this call", policy.key);
        return Some(Cause::at(Layer::Response, text, Some(Place::new(policy, format!("spec.rules[{rule}]")))));
    }
    let labels = c.labels_of(proxy)?;
    let all = holding(c, "AuthorizationPolicy", &proxy.namespace, &labels);
    let allowing: Vec<&&KubeObject> = all.iter().filter(|p| text(&p.value, "/spec/action").unwrap_or("ALLOW") == "ALLOW").collect();
    let policy = allowing.iter().find(|p| list(&p.value, "/spec/rules").is_empty()).or(allowing.first())?;
    let why = match (list(&policy.value, "/spec/rules").len(), allowing.len()) {
        (0, _) => format!("{} allows nothing: it has no rules", policy.key),
        (_, 1) => format!("{} allows only {}, and none of its rules takes this call", policy.key, whom(policy)),
        (_, n) => format!("{n} policies allow calls to {proxy}, and none of their rules takes this one; the first is {}", policy.key),
    };
    Some(Cause::at(Layer::Response, why, Some(Place::new(policy, "spec.rules"))))
}

/// Whom rules speak of, in short.
fn whom(policy: &KubeObject) -> String {
    let mut all = Vec::new();
    for rule in list(&policy.value, "/spec/rules") {
        for (list_at, item, keys) in [
            ("/from", "source", ["principals", "namespaces", "ipBlocks", "remoteIpBlocks", "requestPrincipals"]),
            ("/to", "operation", ["methods", "paths", "hosts", "ports", "notPaths"]),
        ] {
            for one in list(rule, list_at) {
                for key in keys {
                    let values = texts(one, &format!("/{item}/{key}"));
                    if !values.is_empty() {
                        all.push(format!("{key} {}", values.join(" or ")));
                    }
                }
            }
        }
    }
    if all.is_empty() { "what its rules name".to_owned() } else { few(all) }
}

/// The PeerAuthentication that makes a workload take mutual TLS only, with the field; None when it takes plain text too.
/// A workload's own goes before the namespace's, and that before the root's; a port's mode before all.
pub(super) fn strict<'c>(c: &'c Configured, at: &str, labels: &Labels, port: Option<u16>) -> Option<(&'c KubeObject, String)> {
    let all = holding(c, "PeerAuthentication", at, labels);
    let rank = |policy: &KubeObject| match (policy.value.pointer("/spec/selector/matchLabels").is_some(), namespace(policy) == at) {
        (true, true) => 0,
        (false, true) => 1,
        _ => 2,
    };
    let mut ranked: Vec<&KubeObject> = all.into_iter().filter(|p| rank(p) < 2 || p.value.pointer("/spec/selector").is_none()).collect();
    ranked.sort_by_key(|policy| rank(policy));
    for policy in ranked {
        let of_port = port.and_then(|port| text(&policy.value, &format!("/spec/portLevelMtls/{port}/mode")).map(|m| (m, port)));
        let mode = of_port.map(|(m, _)| m).or_else(|| text(&policy.value, "/spec/mtls/mode")).filter(|m| *m != "UNSET");
        match mode {
            Some("STRICT") => {
                let field = of_port.map_or_else(|| "spec.mtls.mode".to_owned(), |(_, port)| format!("spec.portLevelMtls.{port}.mode"));
                return Some((policy, field));
            }
            Some(_) => return None,
            None => {}
        }
    }
    None
}

/// Plain text that a workload does not take.
pub(super) fn plain_to_strict(c: &Configured, service: &KubeObject, caller: &str, because: &str, port: &Value) -> Option<Cause> {
    let selector = service.value.pointer("/spec/selector").filter(|s| s.is_object())?;
    let home = namespace(service);
    let (pod, labels) = c.pods(Some(home)).find(|(_, l)| selects(selector, l))?;
    if !super::configured::has_proxy(pod) {
        return None;
    }
    let port = port.as_u64().and_then(|n| u16::try_from(n).ok());
    let (policy, field) = strict(c, home, &labels, port)?;
    let text =
        format!("{} wants mutual TLS (STRICT) of callers of {}, and {caller} calls in plain text: {because}", policy.key, service.key);
    Some(Cause::at(Layer::Connection, text, Some(Place::new(policy, field))))
}
