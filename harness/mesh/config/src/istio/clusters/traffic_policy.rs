//! What a DestinationRule's traffic policy makes of a cluster (Istio: `cluster_traffic_policy.go`).

use serde_json::{Map, Value, json};

use crate::istio::model::object;
use crate::istio::route::ProtoDuration;

/// The parts of a traffic policy that hold for one port.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Policy {
    pub(super) pool: Option<Value>,
    pub(super) outliers: Option<Value>,
    pub(super) balancer: Option<Value>,
    pub(super) tls: Option<Value>,
}

impl Policy {
    /// The policy for a port and a subset: port level settings replace the host's wholly, a subset's fields replace the rule's
    /// (Istio: `GetPortLevelTrafficPolicy`, `MergeSubsetTrafficPolicy`).
    pub(super) fn of(rule: Option<&Value>, subset: Option<&Value>, port: u16) -> Policy {
        let (base, _) = rule.map_or((Policy::default(), false), |rule| for_port(rule, port));
        let Some(subset) = subset else { return base };
        let (own, is_port_level) = for_port(subset, port);
        if is_port_level {
            return own;
        }
        Policy {
            pool: own.pool.or(base.pool),
            outliers: own.outliers.or(base.outliers),
            balancer: own.balancer.or(base.balancer),
            tls: own.tls.or(base.tls),
        }
    }

    /// The TLS mode, if the policy says one. Settings without a mode mean `DISABLE`, the first of the enumeration.
    pub(super) fn tls_mode(&self) -> Option<&str> {
        let mode = object::text(self.tls.as_ref()?, "/mode");
        Some(if mode.is_empty() { "DISABLE" } else { mode })
    }

    /// `loadBalancer.simple`.
    pub(super) fn simple_balancer(&self) -> &str {
        self.balancer.as_ref().map_or("", |balancer| object::text(balancer, "/simple"))
    }

    /// `outlierDetection.minHealthPercent`.
    pub(super) fn min_health_percent(&self) -> u64 {
        self.outliers.as_ref().and_then(|outliers| outliers.get("minHealthPercent")?.as_u64()).unwrap_or(0)
    }
}

fn for_port(policy: &Value, port: u16) -> (Policy, bool) {
    let mut levels = object::list(policy, "/portLevelSettings").iter();
    let level = levels.find(|level| object::port(level, "/port/number") == Some(port));
    let source = level.unwrap_or(policy);
    let field = |name: &str| source.get(name).filter(|value| !value.is_null()).cloned();
    let policy =
        Policy { pool: field("connectionPool"), outliers: field("outlierDetection"), balancer: field("loadBalancer"), tls: field("tls") };
    (policy, level.is_some())
}

/// Limits that a cluster has unless something says others: none.
pub(super) fn no_limits() -> Map<String, Value> {
    let names = ["max_connections", "max_pending_requests", "max_requests", "max_retries"];
    names.into_iter().map(|name| (name.to_owned(), json!(u32::MAX))).collect()
}

/// Writes `connectionPool` into a cluster; `options` are its HTTP options.
pub(super) fn apply_pool(cluster: &mut Map<String, Value>, options: &mut Map<String, Value>, pool: Option<&Value>) {
    let mut limits = no_limits();
    let number = |pointer: &str| pool.and_then(|pool| pool.pointer(pointer)?.as_u64()).filter(|number| *number > 0);
    let time = |pointer: &str| pool.and_then(|pool| pool.pointer(pointer)?.as_str()).and_then(duration);
    for (limit, pointer) in [
        ("max_connections", "/tcp/maxConnections"),
        ("max_pending_requests", "/http/http1MaxPendingRequests"),
        ("max_requests", "/http/http2MaxRequests"),
        ("max_retries", "/http/maxRetries"),
    ] {
        if let Some(number) = number(pointer) {
            limits.insert(limit.to_owned(), json!(number));
        }
    }
    cluster.insert("circuit_breakers".to_owned(), json!({"thresholds": [limits]}));
    if let Some(timeout) = time("/tcp/connectTimeout") {
        cluster.insert("connect_timeout".to_owned(), json!(timeout));
    }
    if let Some(keepalive) = pool.and_then(|pool| pool.pointer("/tcp/tcpKeepalive")) {
        cluster.insert("upstream_connection_options".to_owned(), json!({"tcp_keepalive": tcp_keepalive(keepalive)}));
    }
    let mut common = Map::new();
    if let Some(time) = time("/http/idleTimeout").or_else(|| time("/tcp/idleTimeout")) {
        common.insert("idle_timeout".to_owned(), json!(time));
    }
    if let Some(time) = time("/tcp/maxConnectionDuration") {
        common.insert("max_connection_duration".to_owned(), json!(time));
    }
    if let Some(number) = number("/http/maxRequestsPerConnection") {
        common.insert("max_requests_per_connection".to_owned(), json!(number));
    }
    if !common.is_empty() {
        options.insert("common_http_protocol_options".to_owned(), Value::Object(common));
    }
    let http2 = options.get_mut("explicit_http_config").and_then(|explicit| explicit.get_mut("http2_protocol_options"));
    if let (Some(number), Some(http2)) = (number("/http/maxConcurrentStreams"), http2) {
        *http2 = json!({"max_concurrent_streams": number});
    }
    if pool.is_some_and(|pool| object::flag(pool, "/http/useClientProtocol")) {
        use_downstream_protocol(options);
    }
}

fn tcp_keepalive(settings: &Value) -> Value {
    let mut fields = Map::new();
    if let Some(probes) = settings.get("probes").and_then(Value::as_u64).filter(|probes| *probes > 0) {
        fields.insert("keepalive_probes".to_owned(), json!(probes));
    }
    for (from, to) in [("time", "keepalive_time"), ("interval", "keepalive_interval")] {
        if let Some(time) = settings.get(from).and_then(Value::as_str).and_then(ProtoDuration::parse) {
            fields.insert(to.to_owned(), json!(time.0.as_secs()));
        }
    }
    Value::Object(fields)
}

/// HTTP/2 to the endpoints.
pub(super) fn use_http2(options: &mut Map<String, Value>) {
    options.insert("explicit_http_config".to_owned(), json!({"http2_protocol_options": {}}));
}

/// To the endpoints what the client speaks.
pub(super) fn use_downstream_protocol(options: &mut Map<String, Value>) {
    options.remove("explicit_http_config");
    options.insert("use_downstream_protocol_config".to_owned(), json!({"http2_protocol_options": {}, "http_protocol_options": {}}));
}

/// Whether requests are to go as HTTP/2 although the port does not say so (Istio: `shouldH2Upgrade`).
pub(super) fn upgrades_to_http2(pool: Option<&Value>, port_is_http: bool, mesh_upgrades: bool) -> bool {
    let http = pool.and_then(|pool| pool.get("http"));
    if http.is_some_and(|http| object::flag(http, "/useClientProtocol")) {
        return false;
    }
    match http.map_or("", |http| object::text(http, "/h2UpgradePolicy")) {
        "UPGRADE" => true,
        "DO_NOT_UPGRADE" => false,
        _ => port_is_http && mesh_upgrades,
    }
}

/// `outlierDetection` as Envoy has it.
pub(super) fn outliers(settings: &Value) -> Value {
    let mut fields = Map::new();
    fields.insert("enforcing_success_rate".to_owned(), json!(0));
    let number = |name: &str| settings.get(name).and_then(Value::as_u64);
    for (from, to, enforcing) in [
        ("consecutive5xxErrors", "consecutive_5xx", "enforcing_consecutive_5xx"),
        ("consecutiveGatewayErrors", "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure"),
    ] {
        if let Some(count) = number(from) {
            fields.insert(to.to_owned(), json!(count));
            fields.insert(enforcing.to_owned(), json!(if count > 0 { 100 } else { 0 }));
        }
    }
    for (from, to) in [("interval", "interval"), ("baseEjectionTime", "base_ejection_time")] {
        if let Some(time) = settings.get(from).and_then(Value::as_str).and_then(duration) {
            fields.insert(to.to_owned(), json!(time));
        }
    }
    if let Some(percent) = number("maxEjectionPercent").filter(|percent| *percent > 0) {
        fields.insert("max_ejection_percent".to_owned(), json!(percent));
    }
    if object::flag(settings, "/splitExternalLocalOriginErrors") {
        fields.insert("split_external_local_origin_errors".to_owned(), json!(true));
        fields.insert("enforcing_local_origin_success_rate".to_owned(), json!(0));
        if let Some(count) = number("consecutiveLocalOriginFailures").filter(|count| *count > 0) {
            fields.insert("consecutive_local_origin_failure".to_owned(), json!(count));
            fields.insert("enforcing_consecutive_local_origin_failure".to_owned(), json!(100));
        }
    }
    Value::Object(fields)
}

/// Writes the load balancer. A cluster that goes where the client was going chooses nothing.
pub(super) fn apply_balancer(cluster: &mut Map<String, Value>, balancer: Option<&Value>) {
    if cluster.get("type").and_then(Value::as_str) == Some("ORIGINAL_DST") {
        cluster.insert("lb_policy".to_owned(), json!("CLUSTER_PROVIDED"));
        return;
    }
    let policy = match balancer.map_or("", |balancer| object::text(balancer, "/simple")) {
        "RANDOM" => Some("RANDOM"),
        // Envoy's default, which a dump does not print.
        "ROUND_ROBIN" => None,
        "PASSTHROUGH" => {
            cluster.insert("type".to_owned(), json!("ORIGINAL_DST"));
            cluster.remove("load_assignment");
            Some("CLUSTER_PROVIDED")
        }
        _ => Some("LEAST_REQUEST"),
    };
    if let Some(policy) = policy {
        cluster.insert("lb_policy".to_owned(), json!(policy));
    }
    let Some(hash) = balancer.and_then(|balancer| balancer.get("consistentHash")) else { return };
    if let Some(maglev) = hash.get("maglev") {
        cluster.insert("lb_policy".to_owned(), json!("MAGLEV"));
        if let Some(size) = maglev.get("tableSize").and_then(Value::as_u64) {
            cluster.insert("maglev_lb_config".to_owned(), json!({"table_size": size}));
        }
        return;
    }
    let size = hash.pointer("/ringHash/minimumRingSize").or_else(|| hash.get("minimumRingSize")).and_then(Value::as_u64).unwrap_or(1024);
    cluster.insert("lb_policy".to_owned(), json!("RING_HASH"));
    cluster.insert("ring_hash_lb_config".to_owned(), json!({"minimum_ring_size": size}));
}

/// A duration as Envoy's dump prints it.
fn duration(text: &str) -> Option<String> {
    ProtoDuration::parse(text).map(|time| time.to_string())
}
