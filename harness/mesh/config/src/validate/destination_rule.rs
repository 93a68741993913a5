//! What istiod says of a DestinationRule.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http_route::subset_name;
use super::names;
use super::problems::Problems;
use crate::istio::model::object;

pub(super) fn check(rule: &Value) -> Problems {
    let mut problems = Problems::new();
    let namespace = object::namespace(rule);
    problems.check(names::wildcard_domain(object::text(rule, "/spec/host")));
    problems.extend(rule.pointer("/spec/trafficPolicy").map(|policy| traffic_policy(policy, namespace)).unwrap_or_default());
    let mut seen = BTreeSet::new();
    for subset in object::list(rule, "/spec/subsets") {
        let name = object::text(subset, "/name");
        if !seen.insert(name) {
            problems.error(format!("duplicate subset names: {name}"));
        }
        problems.check(subset_name(name));
        problems.extend(names::tags(subset.get("labels")));
        // Warnings of a subset's policy are lost.
        let mut policy = subset.get("trafficPolicy").map(|policy| traffic_policy(policy, namespace)).unwrap_or_default();
        policy.warnings.clear();
        problems.extend(policy);
    }
    problems.extend(names::export_to(rule, false));
    problems.extend(names::selector(rule.pointer("/spec/workloadSelector")));
    problems
}

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|value| !value.is_null())
}

fn traffic_policy(policy: &Value, namespace: &str) -> Problems {
    let mut problems = Problems::new();
    let known =
        ["outlierDetection", "connectionPool", "loadBalancer", "tls", "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"];
    if !known.iter().any(|field| has(policy, field)) {
        problems.error("traffic policy must have at least one field");
        return problems;
    }
    if has(policy, "tunnel") && has(policy, "proxyProtocol") {
        problems.error("tunnel and proxyProtocol must not be set together");
        return problems;
    }
    problems.extend(settings(policy, namespace));
    for port in object::list(policy, "/portLevelSettings") {
        problems.error_if(!has(port, "port"), "portTrafficPolicy must have valid port");
        let known = ["outlierDetection", "connectionPool", "loadBalancer", "tls"];
        match known.iter().any(|field| has(port, field)) {
            true => problems.errors.extend(settings(port, namespace).errors),
            false => problems.error("port traffic policy must have at least one field"),
        }
    }
    if let Some(tunnel) = policy.get("tunnel").filter(|tunnel| tunnel.is_object()) {
        let protocol = object::text(tunnel, "/protocol");
        problems.error_if(!matches!(protocol, "" | "CONNECT" | "POST"), "tunnel protocol must be \"CONNECT\" or \"POST\"");
        let target = object::text(tunnel, "/targetHost");
        if let (Err(name), Err(ip)) = (names::fqdn(target), names::ip(target)) {
            problems.error(format!("tunnel target host must be valid FQDN or IP address: {name}; {ip}"));
        }
        if let Err(error) = names::port(names::number(tunnel, "/targetPort")) {
            problems.error(format!("tunnel target port is invalid: {error}"));
        }
    }
    problems
}

/// What a whole policy and that of a port have in common.
fn settings(policy: &Value, namespace: &str) -> Problems {
    let mut problems = Problems::new();
    let outlier = policy.get("outlierDetection").filter(|outlier| outlier.is_object());
    if let Some(outlier) = outlier {
        outlier_detection(outlier, &mut problems);
    }
    problems.extend(policy.get("connectionPool").map(connection_pool).unwrap_or_default());
    if let Some(balancer) = policy.get("loadBalancer").filter(|balancer| balancer.is_object()) {
        load_balancer(balancer, outlier, &mut problems);
    }
    if let Some(tls) = policy.get("tls").filter(|tls| tls.is_object()) {
        client_tls(tls, namespace, &mut problems);
    }
    problems
}

fn outlier_detection(outlier: &Value, problems: &mut Problems) {
    problems.check(names::duration(outlier, "/baseEjectionTime"));
    if names::number(outlier, "/consecutiveErrors") != 0 {
        let better = "use consecutiveGatewayErrors or consecutive5xxErrors instead";
        problems.warn(format!("outlier detection consecutive errors is deprecated, {better}"));
    }
    let is_split = object::flag(outlier, "/splitExternalLocalOriginErrors");
    let has_local = names::number(outlier, "/consecutiveLocalOriginFailures") > 0;
    let text = "outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false";
    problems.error_if(!is_split && has_local, text);
    problems.check(names::duration(outlier, "/interval"));
    for field in ["/maxEjectionPercent", "/minHealthPercent"] {
        let value = names::number(outlier, field);
        if !(0..=100).contains(&value) {
            problems.error(format!("percentage {value} is not in range 0..100"));
        }
    }
}

/// A connection pool; of a Sidecar too.
pub(super) fn connection_pool(pool: &Value) -> Problems {
    let mut problems = Problems::new();
    if !pool.is_object() {
        return problems;
    }
    if !has(pool, "http") && !has(pool, "tcp") {
        problems.error("connection pool must have at least one field");
        return problems;
    }
    for (field, name) in [
        ("/http/http1MaxPendingRequests", "http1 max pending requests"),
        ("/http/http2MaxRequests", "http2 max requests"),
        ("/http/maxRequestsPerConnection", "max requests per connection"),
        ("/http/maxRetries", "max retries"),
    ] {
        problems.error_if(names::number(pool, field) < 0, &format!("{name} must be non-negative"));
    }
    problems.check(names::duration(pool, "/http/idleTimeout"));
    let upgrades = object::text(pool, "/http/h2UpgradePolicy") == "UPGRADE" && object::flag(pool, "/http/useClientProtocol");
    problems.error_if(upgrades, "use client protocol must not be true when H2UpgradePolicy is UPGRADE");
    problems.error_if(names::number(pool, "/http/maxConcurrentStreams") < 0, "max concurrent streams must be non-negative");
    if let Some(keepalive) = pool.pointer("/http/http2KeepAlive").filter(|keepalive| keepalive.is_object()) {
        for field in ["interval", "timeout"] {
            match has(keepalive, field) {
                true => problems.check(names::duration(keepalive, &format!("/{field}"))),
                false => problems.error(format!("http2 keepalive {field} is required")),
            }
        }
    }
    problems.error_if(names::number(pool, "/tcp/maxConnections") < 0, "max connections must be non-negative");
    problems.check(names::duration(pool, "/tcp/connectTimeout"));
    problems.check(names::duration(pool, "/tcp/maxConnectionDuration"));
    // Zero turns this one off.
    if names::nanoseconds(object::text(pool, "/tcp/idleTimeout")).unwrap_or(0) / 1_000_000 != 0 {
        problems.check(names::duration(pool, "/tcp/idleTimeout"));
    }
    problems.check(names::duration(pool, "/tcp/tcpKeepalive/time"));
    problems.check(names::duration(pool, "/tcp/tcpKeepalive/interval"));
    problems
}

fn load_balancer(balancer: &Value, outlier: Option<&Value>, problems: &mut Problems) {
    if let Some(hash) = balancer.get("consistentHash").filter(|hash| hash.is_object()) {
        let cookie = hash.get("httpCookie").filter(|cookie| cookie.is_object());
        let is_nameless = cookie.is_some_and(|cookie| object::text(cookie, "/name").is_empty());
        problems.error_if(is_nameless, "name required for HttpCookie");
        if names::number(hash, "/minimumRingSize") != 0 {
            let better = "use ConsistentHashLB's RingHash configuration instead";
            problems.warn(format!("consistent hash MinimumRingSize is deprecated, {better}"));
            let has_other = has(hash, "ringHash") || has(hash, "maglev");
            problems.error_if(has_other, "only one of MinimumRingSize or Maglev/Ringhash can be specified");
        }
        if let Some(maglev) = hash.get("maglev").filter(|maglev| maglev.is_object()) {
            let size = names::number(maglev, "/tableSize");
            problems.error_if(size == 0, "tableSize must be set for maglev");
            problems.error_if(size >= 5_000_011, "tableSize must be less than 5000011 for maglev");
            problems.error_if(!is_prime(size), "tableSize must be a prime number for maglev");
        }
    }
    if let Some(locality) = balancer.get("localityLbSetting").filter(|locality| locality.is_object()) {
        let (distribute, failover) = (object::list(locality, "/distribute"), object::list(locality, "/failover"));
        let priority = object::list(locality, "/failoverPriority");
        problems.error_if(
            !distribute.is_empty() && (!failover.is_empty() || !priority.is_empty()),
            "can not simultaneously specify 'distribute' and 'failover' or 'failoverPriority'",
        );
        let needs_outlier = outlier.is_none() && (!failover.is_empty() || !priority.is_empty());
        if needs_outlier {
            problems.warn("outlier detection policy must be provided for failover");
        }
    }
    if let Some(warmup) = balancer.get("warmup").filter(|warmup| warmup.is_object()) {
        match has(warmup, "duration") {
            true => problems.check(names::duration(warmup, "/duration")),
            false => problems.error("duration is required"),
        }
        problems.error_if(names::number(warmup, "/minimumPercent") > 100, "minimumPercent value should be less than or equal to 100");
    }
}

fn is_prime(number: i64) -> bool {
    match number {
        1..=3 => true,
        _ if number % 2 == 0 => false,
        _ => (3..).step_by(2).take_while(|factor| factor * factor <= number).all(|factor| number % factor != 0),
    }
}

fn client_tls(tls: &Value, namespace: &str, problems: &mut Problems) {
    let has_text = |field: &str| !object::text(tls, field).is_empty();
    // A ConfigMap with CAs is only taken from the rule's own namespace (Istio: `ValidateTLS`).
    if let Some(path) = object::text(tls, "/credentialName").strip_prefix("configmap://") {
        let of = path.split_once('/').map_or(namespace, |(of, _)| of);
        let text = format!("invalid configmap:// credentialName: namespace must match the configuration namespace {namespace:?}");
        problems.error_if(of != namespace || namespace.is_empty(), &text);
    }
    let mode = object::text(tls, "/mode");
    let has_names = has(tls, "subjectAltNames");
    if object::flag(tls, "/insecureSkipVerify") {
        let is_simple = mode == "SIMPLE" && (has_text("/caCertificates") || has_text("/credentialName") || has_names);
        let text = "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true";
        problems.error_if(is_simple, text);
        let is_mutual = mode == "MUTUAL" && (has_text("/caCertificates") || has_names);
        problems.error_if(is_mutual, "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true");
    }
    if matches!(mode, "SIMPLE" | "MUTUAL") && has_text("/credentialName") {
        let files = ["/clientCertificate", "/caCertificates", "/privateKey", "/caCrl"];
        let text = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set";
        problems.error_if(files.iter().any(|file| has_text(file)), text);
        return;
    }
    if mode == "MUTUAL" {
        problems.error_if(!has_text("/clientCertificate"), "client certificate required for mutual tls");
        problems.error_if(!has_text("/privateKey"), "private key required for mutual tls");
    }
}
