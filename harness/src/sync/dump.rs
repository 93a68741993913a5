//! Two views of one proxy's configuration, made comparable. Pure.
//!
//! istiod regenerates, on request, what its last push gave a proxy (`/debug/config_dump?proxyID=`);
//! Envoy says what it runs (`/config_dump?include_eds`). Both are the same protobuf messages in JSON,
//! written by two libraries: one in camel case, one in snake case, `10s` here and `10.000s` there.
//! Seen on a cluster: after that difference is taken out, the resources are equal, field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One proxy's resources by section and name, in comparable form.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Dump {
    /// CDS.
    pub clusters: BTreeMap<String, Value>,
    /// LDS.
    pub listeners: BTreeMap<String, Value>,
    /// RDS.
    pub routes: BTreeMap<String, Value>,
    /// EDS: cluster name → `address:port` with its health and TLS mode.
    pub endpoints: BTreeMap<String, BTreeSet<String>>,
    /// SDS: names of active secrets.
    pub secrets: BTreeMap<String, Value>,
    /// Anything warming or in error, in words.
    pub unsettled: Vec<String>,
    /// Secrets that Envoy waits for, in words. A listener or cluster that needs one warms until it comes or until Envoy
    /// gives up (15 s, `initial_fetch_timeout`), and is among the unsettled as long; what waits after that waits for ever.
    pub awaited: Vec<String>,
}

/// Where gateproof's mark stands in a cluster's metadata; see [`crate::sync`].
pub const MARK_CLUSTER: &str = "gateproof-mark";

impl Dump {
    /// Reads a dump of either side. Unknown sections are left alone.
    #[must_use]
    pub fn read(dump: &Value) -> Self {
        let mut out = Self::default();
        for section in dump["configs"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let kind = section["@type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
            // A dump is large: only what is compared is put into comparable form.
            let wanted = ["ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump", "EndpointsConfigDump", "SecretsConfigDump"];
            if !wanted.contains(&kind.as_str()) {
                continue;
            }
            let section = comparable(section);
            match kind.as_str() {
                "ClustersConfigDump" => {
                    out.take(&section, "dynamicactiveclusters", |e| e["cluster"].clone(), |d| &mut d.clusters);
                    out.unsettled(&section, "dynamicwarmingclusters", "cluster", "warming");
                }
                "ListenersConfigDump" => out.read_listeners(&section),
                "RoutesConfigDump" => {
                    out.take(&section, "dynamicrouteconfigs", |e| e["routeconfig"].clone(), |d| &mut d.routes);
                }
                "EndpointsConfigDump" => out.read_endpoints(&section),
                "SecretsConfigDump" => {
                    out.take(&section, "dynamicactivesecrets", |e| e["secret"].clone(), |d| &mut d.secrets);
                    for entry in section["dynamicwarmingsecrets"].as_array().map(Vec::as_slice).unwrap_or_default() {
                        out.awaited.push(format!("secret {} has not come", entry["name"].as_str().unwrap_or("?")));
                    }
                }
                _ => {}
            }
        }
        out
    }

    fn take(
        &mut self,
        section: &Value,
        list: &str,
        pick: impl Fn(&Value) -> Value,
        into: impl Fn(&mut Self) -> &mut BTreeMap<String, Value>,
    ) {
        for entry in section[list].as_array().map(Vec::as_slice).unwrap_or_default() {
            let resource = pick(entry);
            if let Some(name) = resource["name"].as_str() {
                into(self).insert(name.to_owned(), resource.clone());
            }
        }
    }

    fn unsettled(&mut self, section: &Value, list: &str, what: &str, how: &str) {
        for entry in section[list].as_array().map(Vec::as_slice).unwrap_or_default() {
            let name = entry[what]["name"].as_str().or_else(|| entry["name"].as_str()).unwrap_or("?");
            self.unsettled.push(format!("{what} {name} is {how}"));
        }
    }

    fn read_listeners(&mut self, section: &Value) {
        for entry in section["dynamiclisteners"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let name = entry["name"].as_str().unwrap_or("?").to_owned();
            if let Some(listener) = entry.get("activestate").map(|s| s["listener"].clone()).filter(|l| !l.is_null()) {
                let name = listener["name"].as_str().map_or(name.clone(), str::to_owned);
                self.listeners.insert(name, listener);
            }
            if entry.get("warmingstate").is_some() {
                self.unsettled.push(format!("listener {name} is warming"));
            }
            if let Some(error) = entry.get("errorstate") {
                self.unsettled.push(format!("listener {name} was refused: {}", error["details"].as_str().unwrap_or("no details")));
            }
        }
    }

    fn read_endpoints(&mut self, section: &Value) {
        for entry in section["dynamicendpointconfigs"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let assignment = &entry["endpointconfig"];
            let Some(cluster) = assignment["clustername"].as_str() else { continue };
            let mut found = BTreeSet::new();
            for locality in assignment["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default() {
                for endpoint in locality["lbendpoints"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    let address = &endpoint["endpoint"]["address"]["socketaddress"];
                    let tls = endpoint["metadata"]["filtermetadata"]["envoy.transport_socket_match"]["tlsmode"].as_str().unwrap_or("-");
                    if let (Some(ip), Some(port)) = (address["address"].as_str(), address["portvalue"].as_u64()) {
                        let health = endpoint["healthstatus"].as_str().unwrap_or("HEALTHY");
                        found.insert(format!("{ip}:{port} {health} tls={tls}"));
                    }
                }
            }
            self.endpoints.insert(cluster.to_owned(), found);
        }
    }

    /// The mark that this configuration carries, if any.
    #[must_use]
    pub fn mark(&self) -> Option<&str> {
        self.clusters.get(MARK_CLUSTER)?["metadata"]["filtermetadata"]["gateproof"]["mark"].as_str()
    }

    /// Services whose endpoints here are not those that are ready (by Service host), a line each.
    /// Subsets are left alone: they have a part of them.
    #[must_use]
    pub fn stale_endpoints(&self, ready: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
        let mut out = Vec::new();
        for (cluster, endpoints) in &self.endpoints {
            let ["outbound", _, "", host] = cluster.split('|').collect::<Vec<_>>()[..] else { continue };
            let Some(wanted) = ready.get(host) else { continue };
            let have: BTreeSet<String> =
                endpoints.iter().filter_map(|e| Some(e.split(' ').next()?.rsplit_once(':')?.0.to_owned())).collect();
            if have != *wanted {
                out.push(format!("istiod's endpoints of {cluster} are {have:?}, Kubernetes has {wanted:?} ready"));
            }
        }
        out
    }

    /// In what this (Envoy's view) differs from `intended` (istiod's view), a line each; empty when the proxy has it all.
    ///
    /// Endpoints are compared for the clusters that istiod serves by EDS. Secrets are not: istiod lists them
    /// under another form; a listener whose secret is missing is found by its warming state or by the secret's own check.
    #[must_use]
    pub fn differences_from(&self, intended: &Self) -> Vec<String> {
        let mut out = Vec::new();
        for (what, mine, theirs) in [
            ("cluster", &self.clusters, &intended.clusters),
            ("listener", &self.listeners, &intended.listeners),
            ("route", &self.routes, &intended.routes),
        ] {
            for name in theirs.keys().filter(|n| !mine.contains_key(*n)) {
                out.push(format!("{what} {name} has not arrived"));
            }
            for name in mine.keys().filter(|n| !theirs.contains_key(*n)) {
                out.push(format!("{what} {name} is still there"));
            }
            for (name, value) in mine {
                if let Some(wanted) = theirs.get(name).filter(|wanted| *wanted != value) {
                    out.push(format!("{what} {name} is older: {}", first_difference("", value, wanted)));
                }
            }
        }
        for (cluster, wanted) in &intended.endpoints {
            let have = self.endpoints.get(cluster).cloned().unwrap_or_default();
            if &have != wanted {
                out.push(format!("endpoints of {cluster} are {have:?}, istiod sent {wanted:?}"));
            }
        }
        out
    }
}

/// Keys without case and underscores, durations without trailing zeros: the same message written by
/// either JSON library becomes the same value.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (comparable_key(k), comparable(v))).collect()),
        Value::Array(items) => Value::Array(items.iter().map(comparable).collect()),
        Value::String(text) => Value::String(comparable_duration(text).unwrap_or_else(|| text.clone())),
        other => other.clone(),
    }
}

fn comparable_key(key: &str) -> String {
    // Map keys such as `envoy.transport_socket_match` are data, not field names; so is `@type`.
    if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        key.bytes().filter(|b| *b != b'_').map(|b| char::from(b.to_ascii_lowercase())).collect()
    } else {
        key.to_owned()
    }
}

fn comparable_duration(text: &str) -> Option<String> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { format!("{whole}s") } else { format!("{whole}.{fraction}s") })
}

fn first_difference(at: &str, a: &Value, b: &Value) -> String {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for key in x.keys().chain(y.keys()) {
                let (va, vb) = (x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null));
                if va != vb {
                    return first_difference(&format!("{at}.{key}"), va, vb);
                }
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (va, vb)) in x.iter().zip(y).enumerate() {
                if va != vb {
                    return first_difference(&format!("{at}[{i}]"), va, vb);
                }
            }
        }
        _ => {}
    }
    let short = |v: &Value| v.to_string().chars().take(120).collect::<String>();
    format!("{at} is {}, istiod sent {}", short(a), short(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dump(clusters: Value) -> Dump {
        Dump::read(
            &json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": clusters}]}),
        )
    }

    #[test]
    fn the_two_spellings_of_one_message_are_equal() {
        let envoy = dump(
            json!([{"cluster": {"name": "a", "connect_timeout": "10s", "dns_jitter": "0.100s", "proxy_100_continue": true}, "last_updated": "x"}]),
        );
        let istiod = Dump::read(&json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "dynamicActiveClusters": [{"cluster": {"name": "a", "connectTimeout": "10.0s", "dnsJitter": "0.1s", "proxy100Continue": true}}]}]}));
        assert_eq!(envoy.differences_from(&istiod), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let envoy = dump(json!([{"cluster": {"name": "a", "type": "EDS"}}, {"cluster": {"name": "old"}}]));
        let istiod = dump(json!([{"cluster": {"name": "a", "type": "STATIC"}}, {"cluster": {"name": "new"}}]));
        let differences = envoy.differences_from(&istiod);
        assert_eq!(
            differences,
            ["cluster new has not arrived", "cluster old is still there", "cluster a is older: .type is \"EDS\", istiod sent \"STATIC\""]
        );
    }

    #[test]
    fn warming_and_refused_resources_are_unsettled() {
        let dump = Dump::read(&json!({"configs": [
            {"@type": "x.ClustersConfigDump", "dynamic_warming_clusters": [{"cluster": {"name": "w"}}]},
            {"@type": "x.ListenersConfigDump", "dynamic_listeners": [
                {"name": "0.0.0.0_8443", "error_state": {"details": "duplicate filter chain"}}]}]}));
        assert_eq!(dump.unsettled, ["cluster w is warming", "listener 0.0.0.0_8443 was refused: duplicate filter chain"]);
    }

    #[test]
    fn a_secret_that_never_comes_is_awaited_and_holds_nothing_up() {
        let dump =
            Dump::read(&json!({"configs": [{"@type": "x.SecretsConfigDump", "dynamic_warming_secrets": [{"name": "kubernetes://gone"}]}]}));
        assert_eq!(dump.awaited, ["secret kubernetes://gone has not come"]);
        assert!(dump.unsettled.is_empty());
    }

    #[test]
    fn the_mark_is_read_from_metadata() {
        let d = dump(json!([{"cluster": {"name": MARK_CLUSTER, "metadata": {"filter_metadata": {"gateproof": {"mark": "m-1"}}}}}]));
        assert_eq!(d.mark(), Some("m-1"));
    }

    #[test]
    fn endpoints_that_kubernetes_has_no_more_are_stale() {
        let dump = Dump {
            endpoints: BTreeMap::from([(
                "outbound|80||a.x.svc.cluster.local".to_owned(),
                BTreeSet::from(["10.0.0.1:80 HEALTHY tls=-".to_owned()]),
            )]),
            ..Dump::default()
        };
        let ready = |ip: &str| BTreeMap::from([("a.x.svc.cluster.local".to_owned(), BTreeSet::from([ip.to_owned()]))]);
        assert!(dump.stale_endpoints(&ready("10.0.0.1")).is_empty());
        assert_eq!(dump.stale_endpoints(&ready("10.0.0.2")).len(), 1);
    }

    #[test]
    fn endpoints_compare_by_address_and_tls_mode() {
        let with = |ip: &str| {
            Dump::read(&json!({"configs": [{"@type": "x.EndpointsConfigDump", "dynamic_endpoint_configs": [{"endpoint_config":
                {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": ip, "port_value": 80}}}}]}]}}]}]}))
        };
        assert!(with("10.0.0.1").differences_from(&with("10.0.0.1")).is_empty());
        assert_eq!(with("10.0.0.1").differences_from(&with("10.0.0.2")).len(), 1);
    }
}
