//! Two views of one proxy's configuration, made comparable.
//!
//! istiod regenerates, on request, what its last push gave a proxy (`/debug/config_dump?proxyID=`);
//! Envoy says what it runs (`/config_dump?include_eds`). Both are the same protobuf messages in JSON,
//! written by two libraries: one in camel case, one in snake case, `10s` here and `10.000s` there.
//! Seen on a cluster: after that difference is taken out, the resources are equal, field by field.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::outcome::json_match::first_difference;

/// One proxy's resources by section and name, in comparable form.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Dump {
    /// CDS.
    pub clusters: BTreeMap<String, Arc<Value>>,
    /// LDS.
    pub listeners: BTreeMap<String, Arc<Value>>,
    /// RDS.
    pub routes: BTreeMap<String, Arc<Value>>,
    /// EDS: cluster name → `address:port` with its health and TLS mode.
    pub endpoints: BTreeMap<String, BTreeSet<String>>,
    /// SDS: names of active secrets.
    pub secrets: BTreeMap<String, Arc<Value>>,
    /// Anything warming or in error, in words.
    pub unsettled: Vec<String>,
    /// Secrets that Envoy waits for, in words. A listener or cluster that needs one warms until it comes or until Envoy
    /// gives up (15 s, `initial_fetch_timeout`), and is among the unsettled as long; what waits after that waits for ever.
    pub awaited: Vec<String>,
    /// The newest version that its sections bear.
    pub version: String,
    /// When each listener was made or changed last, as Envoy says it, by the address that its statistics bear. Empty in istiod's view.
    pub changed: BTreeMap<String, String>,
}

/// The cluster in whose metadata the gate's mark stands (ARCHITECTURE.md, "The gate"). Gates beside the first have a number behind it.
pub const MARK_CLUSTER: &str = "gateproof-mark";

/// Resources that were read before, by their text: most of a dump is the same from one look to the next, and putting a
/// resource into comparable form costs far more than recognising it.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<Box<str>, Arc<Value>>>);

/// Beyond so many, all are forgotten and read anew.
const KNOWN_AT_MOST: usize = 20_000;

impl Known {
    fn comparable(&self, text: &RawValue) -> Result<Arc<Value>, serde_json::Error> {
        let text = text.get();
        let lock = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = lock().get(text) {
            return Ok(known.clone());
        }
        let value = Arc::new(comparable(&serde_json::from_str(text)?));
        let mut known = lock();
        if known.len() >= KNOWN_AT_MOST {
            known.clear();
        }
        known.insert(text.into(), value.clone());
        Ok(value)
    }
}

/// A dump as far as it is compared, in either spelling, with the resources left as text: one pass over a large text.
#[derive(Deserialize)]
struct RawDump<'a> {
    #[serde(borrow, default)]
    configs: Option<Vec<Section<'a>>>,
}

/// Any of a dump's sections: each has its own lists.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Section<'a> {
    #[serde(alias = "versionInfo")]
    version_info: Option<String>,
    #[serde(borrow, alias = "dynamicActiveClusters")]
    dynamic_active_clusters: Option<Vec<Entry<'a>>>,
    #[serde(borrow, alias = "dynamicWarmingClusters")]
    dynamic_warming_clusters: Option<Vec<Entry<'a>>>,
    #[serde(borrow, alias = "dynamicListeners")]
    dynamic_listeners: Option<Vec<ListenerEntry<'a>>>,
    #[serde(borrow, alias = "dynamicRouteConfigs")]
    dynamic_route_configs: Option<Vec<Entry<'a>>>,
    #[serde(borrow, alias = "dynamicEndpointConfigs")]
    dynamic_endpoint_configs: Option<Vec<Entry<'a>>>,
    #[serde(borrow, alias = "dynamicActiveSecrets")]
    dynamic_active_secrets: Option<Vec<Entry<'a>>>,
    #[serde(borrow, alias = "dynamicWarmingSecrets")]
    dynamic_warming_secrets: Option<Vec<Entry<'a>>>,
}

/// One resource of a list.
#[derive(Deserialize)]
struct Entry<'a> {
    name: Option<String>,
    #[serde(
        borrow,
        alias = "cluster",
        alias = "route_config",
        alias = "routeConfig",
        alias = "endpoint_config",
        alias = "endpointConfig",
        alias = "secret"
    )]
    resource: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ListenerEntry<'a> {
    name: Option<String>,
    #[serde(borrow, alias = "activeState")]
    active_state: Option<ActiveState<'a>>,
    #[serde(alias = "warmingState")]
    warming_state: Option<IgnoredAny>,
    #[serde(alias = "errorState")]
    error_state: Option<ErrorState>,
}

#[derive(Deserialize)]
struct ActiveState<'a> {
    #[serde(borrow)]
    listener: Option<&'a RawValue>,
    // In Envoy's spelling only: what istiod regenerates has no such time.
    last_updated: Option<String>,
}

#[derive(Deserialize)]
struct ErrorState {
    details: Option<String>,
}

impl Dump {
    /// Reads a dump of either side. Unknown sections are left alone.
    ///
    /// # Errors
    /// When it is not the JSON of a dump.
    pub fn read(dump: &[u8], known: &Known) -> Result<Self, serde_json::Error> {
        let mut out = Self::default();
        let dump: RawDump<'_> = serde_json::from_slice(dump)?;
        for section in dump.configs.unwrap_or_default() {
            let version = section.version_info.unwrap_or_default();
            if age(&version) > age(&out.version) {
                out.version = version;
            }
            take(section.dynamic_active_clusters, known, &mut out.clusters)?;
            take(section.dynamic_route_configs, known, &mut out.routes)?;
            take(section.dynamic_active_secrets, known, &mut out.secrets)?;
            for entry in section.dynamic_warming_clusters.unwrap_or_default() {
                let cluster = entry.resource.map(|c| known.comparable(c)).transpose()?;
                let name = cluster.as_ref().and_then(|c| c["name"].as_str()).unwrap_or("?");
                out.unsettled.push(format!("cluster {name} is warming"));
            }
            for entry in section.dynamic_listeners.unwrap_or_default() {
                out.read_listener(entry, known)?;
            }
            for entry in section.dynamic_endpoint_configs.unwrap_or_default() {
                out.read_endpoints(&entry, known)?;
            }
            for entry in section.dynamic_warming_secrets.unwrap_or_default() {
                out.awaited.push(format!("secret {} has not come", entry.name.as_deref().unwrap_or("?")));
            }
        }
        Ok(out)
    }

    fn read_listener(&mut self, entry: ListenerEntry<'_>, known: &Known) -> Result<(), serde_json::Error> {
        let name = entry.name.unwrap_or_else(|| "?".to_owned());
        if let Some((state, listener)) = entry.active_state.and_then(|state| Some((state.last_updated, state.listener?))) {
            let listener = known.comparable(listener)?;
            if let (Some(time), Some(address)) = (state, statistics_address(&listener)) {
                self.changed.entry(address).or_default().push_str(&time);
            }
            let name = listener["name"].as_str().map_or_else(|| name.clone(), str::to_owned);
            self.listeners.insert(name, listener);
        }
        if entry.warming_state.is_some() {
            self.unsettled.push(format!("listener {name} is warming"));
        }
        if let Some(error) = entry.error_state {
            self.unsettled.push(format!("listener {name} was refused: {}", error.details.as_deref().unwrap_or("no details")));
        }
        Ok(())
    }

    fn read_endpoints(&mut self, entry: &Entry<'_>, known: &Known) -> Result<(), serde_json::Error> {
        let Some(assignment) = entry.resource.map(|c| known.comparable(c)).transpose()? else { return Ok(()) };
        let Some(cluster) = assignment["clustername"].as_str() else { return Ok(()) };
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
        Ok(())
    }

    /// The mark that this configuration carries in a cluster of this name, if any.
    #[must_use]
    pub fn mark(&self, cluster: &str) -> Option<&str> {
        self.clusters.get(cluster)?["metadata"]["filtermetadata"]["gateproof"]["mark"].as_str()
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
                // What was recognised by its text on both sides is the same without a look.
                if let Some(wanted) = theirs.get(name).filter(|wanted| !Arc::ptr_eq(wanted, value) && *wanted != value) {
                    out.push(format!("{what} {name} is older: {}", difference(value, wanted)));
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

/// What stands between `listener.` and the counter in the names of a listener's statistics.
/// Envoy's `ListenerImpl`: the prefix that the configuration gives, else its first address, with colons replaced.
fn statistics_address(listener: &Value) -> Option<String> {
    if let Some(prefix) = listener["statprefix"].as_str().filter(|p| !p.is_empty()) {
        return Some(prefix.replace(':', "_"));
    }
    let address = &listener["address"]["socketaddress"];
    let (ip, port) = (address["address"].as_str()?, address["portvalue"].as_u64()?);
    Some(if ip.contains(':') { format!("[{}]_{port}", ip.replace(':', "_")) } else { format!("{ip}_{port}") })
}

/// Orders istiod's versions, `TIME/COUNT`: the count is a number, so that 10 comes after 9.
fn age(version: &str) -> (&str, usize, &str) {
    (version.split('/').next().unwrap_or_default(), version.len(), version)
}

/// The resource of each entry of a list, by its name.
fn take(list: Option<Vec<Entry<'_>>>, known: &Known, into: &mut BTreeMap<String, Arc<Value>>) -> Result<(), serde_json::Error> {
    for resource in list.into_iter().flatten().filter_map(|entry| entry.resource) {
        let resource = known.comparable(resource)?;
        if let Some(name) = resource["name"].as_str() {
            into.insert(name.to_owned(), resource.clone());
        }
    }
    Ok(())
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

fn difference(a: &Value, b: &Value) -> String {
    let (at, a, b) = first_difference(a, b);
    let short = |v: &Value| v.to_string().chars().take(120).collect::<String>();
    format!("{at} is {}, istiod sent {}", short(a), short(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(dump: &Value) -> Dump {
        Dump::read(dump.to_string().as_bytes(), &Known::default()).unwrap()
    }

    fn dump(clusters: Value) -> Dump {
        read(&json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": clusters}]}))
    }

    #[test]
    fn the_two_spellings_of_one_message_are_equal() {
        let envoy = dump(
            json!([{"cluster": {"name": "a", "connect_timeout": "10s", "dns_jitter": "0.100s", "proxy_100_continue": true}, "last_updated": "x"}]),
        );
        let istiod = read(&json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
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
        let dump = read(&json!({"configs": [
            {"@type": "x.ClustersConfigDump", "dynamic_warming_clusters": [{"cluster": {"name": "w"}}]},
            {"@type": "x.ListenersConfigDump", "dynamic_listeners": [
                {"name": "0.0.0.0_8443", "error_state": {"details": "duplicate filter chain"}}]}]}));
        assert_eq!(dump.unsettled, ["cluster w is warming", "listener 0.0.0.0_8443 was refused: duplicate filter chain"]);
    }

    #[test]
    fn when_a_listener_changed_is_known_by_the_name_of_its_statistics() {
        let listener = |address: &str, port: u32| json!({"socket_address": {"address": address, "port_value": port}});
        let dump = read(&json!({"configs": [{"@type": "x.ListenersConfigDump", "dynamic_listeners": [
            {"name": "a", "active_state": {"last_updated": "t1", "listener": {"name": "a", "address": listener("0.0.0.0", 8443)}}},
            {"name": "b", "active_state": {"last_updated": "t2", "listener": {"name": "b", "address": listener("::", 80)}}},
            {"name": "c", "active_state": {"last_updated": "t3", "listener": {"name": "c", "stat_prefix": "c:d", "address": listener("::", 81)}}},
            // As istiod writes it: without a time.
            {"name": "d", "activeState": {"listener": {"name": "d", "address": {"socketAddress": {"address": "0.0.0.0", "portValue": 1}}}}},
        ]}]}));
        let changed: Vec<(&str, &str)> = dump.changed.iter().map(|(a, t)| (a.as_str(), t.as_str())).collect();
        assert_eq!(changed, [("0.0.0.0_8443", "t1"), ("[__]_80", "t2"), ("c_d", "t3")]);
    }

    #[test]
    fn a_secret_that_never_comes_is_awaited_and_holds_nothing_up() {
        let dump =
            read(&json!({"configs": [{"@type": "x.SecretsConfigDump", "dynamic_warming_secrets": [{"name": "kubernetes://gone"}]}]}));
        assert_eq!(dump.awaited, ["secret kubernetes://gone has not come"]);
        assert!(dump.unsettled.is_empty());
    }

    #[test]
    fn the_newest_version_counts_and_the_tenth_push_is_after_the_ninth() {
        let version = |versions: [&str; 2]| read(&json!({"configs": versions.map(|v| json!({"versionInfo": v}))})).version;
        assert_eq!(version(["2026-01-01T00:00:00Z/9", "2026-01-01T00:00:00Z/10"]), "2026-01-01T00:00:00Z/10");
        assert_eq!(version(["2026-01-02T00:00:00Z/1", "2026-01-01T00:00:00Z/10"]), "2026-01-02T00:00:00Z/1");
        assert_eq!(read(&json!({})).version, "");
    }

    #[test]
    fn the_mark_is_read_from_metadata() {
        let d = dump(json!([{"cluster": {"name": MARK_CLUSTER, "metadata": {"filter_metadata": {"gateproof": {"mark": "m-1"}}}}}]));
        assert_eq!((d.mark(MARK_CLUSTER), d.mark("gateproof-mark-2")), (Some("m-1"), None));
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
            read(&json!({"configs": [{"@type": "x.EndpointsConfigDump", "dynamic_endpoint_configs": [{"endpoint_config":
                {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": ip, "port_value": 80}}}}]}]}}]}]}))
        };
        assert!(with("10.0.0.1").differences_from(&with("10.0.0.1")).is_empty());
        assert_eq!(with("10.0.0.1").differences_from(&with("10.0.0.2")).len(), 1);
    }
}
