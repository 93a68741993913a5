//! Envoy's configuration for people: a page that says where calls go, and what points at nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Entries of one section, static and dynamic, each with the part that Envoy holds now.
fn entries<'a>(dump: &'a Value, kind: &str, lists: &[&str], part: &str) -> Vec<(&'a Value, &'a Value)> {
    let sections = list(&dump["configs"]).iter().filter(|s| s["@type"].as_str().is_some_and(|t| t.ends_with(kind)));
    let all = sections.flat_map(|s| lists.iter().flat_map(|l| list(&s[*l])));
    all.map(|entry| (entry, &entry.get("active_state").unwrap_or(entry)[part])).collect()
}

/// Every cluster that this part of the configuration sends to.
fn targets(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|v| targets(v, into)),
        Value::Object(map) => {
            if let Some(Value::String(name)) = map.get("cluster") {
                into.insert(name.clone());
            }
            for weighted in map.get("weighted_clusters").map(|w| list(&w["clusters"])).unwrap_or_default() {
                into.extend(weighted["name"].as_str().map(str::to_owned));
            }
            map.values().for_each(|v| targets(v, into));
        }
        _ => {}
    }
}

/// A page about one proxy, and what stands out in it.
pub(super) fn page(dump: &Value) -> (String, Vec<String>) {
    let (mut out, mut odd) = (String::new(), Vec::new());
    let listeners = entries(dump, "ListenersConfigDump", &["dynamic_listeners", "static_listeners"], "listener");
    let routes = entries(dump, "RoutesConfigDump", &["dynamic_route_configs", "static_route_configs"], "route_config");
    let clusters = entries(dump, "ClustersConfigDump", &["dynamic_active_clusters", "static_clusters"], "cluster");
    let warming = entries(dump, "ClustersConfigDump", &["dynamic_warming_clusters"], "cluster");
    let endpoints = entries(dump, "EndpointsConfigDump", &["dynamic_endpoint_configs", "static_endpoint_configs"], "endpoint_config");
    let known: BTreeSet<&str> = clusters.iter().chain(&warming).filter_map(|(_, c)| c["name"].as_str()).collect();
    let gone = |used: &BTreeSet<String>| -> Vec<String> { used.iter().filter(|c| !known.contains(c.as_str())).cloned().collect() };

    out.push_str("Listeners\n");
    for (entry, listener) in &listeners {
        let name = listener["name"].as_str().or_else(|| entry["name"].as_str()).unwrap_or("-");
        let _ = writeln!(out, "  {name}");
        let mut state = |what: &str| {
            let _ = writeln!(out, "    {what}");
            odd.push(format!("listener {name}: {what}"));
        };
        if let Some(error) = entry.get("error_state").filter(|e| !e.is_null()) {
            state(&format!("REFUSED: {}", text(&error["details"])));
        }
        if entry.get("warming_state").is_some_and(|w| !w.is_null()) {
            state("WARMING: it waits for something, such as a secret");
        }
        if entry.get("draining_state").is_some_and(|w| !w.is_null()) {
            state("DRAINING: an older version still has connections");
        }
        for chain in list(&listener["filter_chains"]) {
            let names: Vec<&str> = list(&chain["filter_chain_match"]["server_names"]).iter().map(text).collect();
            let names = if names.is_empty() { "any server name".to_owned() } else { format!("server name {}", names.join(", ")) };
            let tls = if chain.get("transport_socket").is_some() { ", TLS" } else { "" };
            let last = list(&chain["filters"]).last().map(|f| &f["typed_config"]).unwrap_or(&Value::Null);
            let mut used = BTreeSet::new();
            targets(last, &mut used);
            let way = match last["rds"]["route_config_name"].as_str() {
                Some(route) => format!("routes {route}"),
                None => used.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            };
            let _ = writeln!(out, "    {names}{tls} → {way}");
            odd.extend(
                gone(&used).iter().map(|c| format!("listener {name}, {names}: sends to cluster {c}, which the proxy does not have")),
            );
        }
    }
    // Those for health and metrics are there without any Gateway.
    let own = |entry: &Value, listener: &Value| {
        let name = listener["name"].as_str().or_else(|| entry["name"].as_str()).unwrap_or_default();
        name.ends_with("_15021") || name.ends_with("_15090")
    };
    if listeners.iter().all(|(entry, listener)| own(entry, listener)) {
        odd.push("no listener but those for health and metrics: for a gateway, no Gateway's selector hits its pods".to_owned());
    }
    out.push_str("\nRoutes\n");
    for (_, config) in &routes {
        let name = text(&config["name"]);
        let _ = writeln!(out, "  {name}");
        for host in list(&config["virtual_hosts"]) {
            let domains: Vec<&str> = list(&host["domains"]).iter().map(text).take(4).collect();
            let _ = writeln!(out, "    {}", domains.join(", "));
            for route in list(&host["routes"]) {
                let mut used = BTreeSet::new();
                targets(&route["route"], &mut used);
                let what = match (&route["direct_response"]["status"], &route["redirect"]) {
                    (Value::Number(status), _) => format!("answers {status} itself"),
                    (_, Value::Object(_)) => "redirects".to_owned(),
                    _ => used.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                };
                let _ = writeln!(out, "      {} {} → {what}", route["name"].as_str().unwrap_or("(no name)"), matcher(&route["match"]));
                odd.extend(gone(&used).iter().map(|c| {
                    format!(
                        "route {} of {name}: sends to cluster {c}, which the proxy does not have",
                        route["name"].as_str().unwrap_or("-")
                    )
                }));
            }
        }
    }
    out.push_str("\nClusters, with endpoints healthy of all\n");
    let counts: BTreeMap<&str, (usize, usize)> = endpoints.iter().map(|(_, e)| (text(&e["cluster_name"]), healthy(e))).collect();
    for (_, cluster) in &clusters {
        let name = text(&cluster["name"]);
        let service = cluster["eds_cluster_config"]["service_name"].as_str().unwrap_or(name);
        let count = counts.get(service).or_else(|| counts.get(name));
        let count = count.map_or(String::new(), |(up, all)| format!("  {up} of {all}"));
        let _ = writeln!(out, "  {name}  {}{count}", text(&cluster["type"]));
    }
    for (_, cluster) in &warming {
        let name = text(&cluster["name"]);
        let _ = writeln!(out, "  {name}  WARMING");
        odd.push(format!("cluster {name} is warming"));
    }
    out.push_str("\nSecrets\n");
    for (list, state) in [("dynamic_active_secrets", "has come"), ("dynamic_warming_secrets", "HAS NOT COME")] {
        for (entry, _) in entries(dump, "SecretsConfigDump", &[list], "secret") {
            let name = text(&entry["name"]);
            let _ = writeln!(out, "  {name}  {state}");
            if list.contains("warming") {
                odd.push(format!("secret {name} has not come"));
            }
        }
    }
    // Many virtual hosts share a route to nothing; each is said once.
    let mut said = BTreeSet::new();
    odd.retain(|line| said.insert(line.clone()));
    (out, odd)
}

fn matcher(value: &Value) -> String {
    for kind in ["prefix", "path", "path_separated_prefix"] {
        if let Some(text) = value[kind].as_str() {
            return format!("{kind} {text}");
        }
    }
    value["safe_regex"]["regex"].as_str().map_or_else(|| "any".to_owned(), |r| format!("regex {r}"))
}

fn healthy(assignment: &Value) -> (usize, usize) {
    let all: Vec<&Value> = list(&assignment["endpoints"]).iter().flat_map(|l| list(&l["lb_endpoints"])).collect();
    let up = all.iter().filter(|e| matches!(e["health_status"].as_str(), None | Some("HEALTHY" | "UNKNOWN"))).count();
    (up, all.len())
}

/// The dump as JSON of at most so many bytes: sections that do not fit are left out whole, so that it stays JSON. Returns
/// their names too. The bootstrap goes first: it says least of what was applied.
pub(super) fn within(mut dump: Value, limit: usize) -> (String, Vec<String>) {
    let mut gone = Vec::new();
    let rank = |section: &Value| -> usize {
        let kind = text(&section["@type"]);
        ["ListenersConfigDump", "RoutesConfigDump", "ClustersConfigDump", "EndpointsConfigDump", "SecretsConfigDump"]
            .iter()
            .position(|k| kind.ends_with(k))
            .unwrap_or(5)
    };
    loop {
        let whole = serde_json::to_string_pretty(&dump).unwrap_or_default();
        let Some(sections) = dump["configs"].as_array_mut() else { return (super::tidy::first(&whole, limit), gone) };
        if whole.len() <= limit || sections.is_empty() {
            return (whole, gone);
        }
        let last = (0..sections.len()).max_by_key(|i| rank(&sections[*i])).unwrap_or(0);
        let section = sections.remove(last);
        gone.push(text(&section["@type"]).rsplit('.').next().unwrap_or("-").to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dump() -> Value {
        json!({"configs": [
            {"@type": "x.BootstrapConfigDump", "bootstrap": {"long": "b".repeat(400)}},
            {"@type": "x.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": {"name": "outbound|80||a", "type": "EDS"}}]},
            {"@type": "x.ListenersConfigDump", "dynamic_listeners": [
                {"name": "0.0.0.0_8443", "error_state": {"details": "boom"}, "active_state": {"listener": {"name": "0.0.0.0_8443", "filter_chains": [
                    {"filter_chain_match": {"server_names": ["a.test"]}, "filters": [{"typed_config": {"cluster": "outbound|443||gone"}}]}]}}}]},
            {"@type": "x.RoutesConfigDump", "dynamic_route_configs": [{"route_config": {"name": "http.8080", "virtual_hosts": [
                {"domains": ["a.test"], "routes": [
                    {"name": "one", "match": {"prefix": "/"}, "route": {"cluster": "outbound|80||a"}},
                    {"name": "two", "match": {"path": "/x"}, "route": {"weighted_clusters": {"clusters": [{"name": "outbound|80|v9|a"}]}}}]}]}}]},
            {"@type": "x.EndpointsConfigDump", "dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": "outbound|80||a",
                "endpoints": [{"lb_endpoints": [{"health_status": "HEALTHY"}, {"health_status": "UNHEALTHY"}]}]}}]},
            {"@type": "x.SecretsConfigDump", "dynamic_warming_secrets": [{"name": "kubernetes://gone"}]},
        ]})
    }

    #[test]
    fn a_page_says_where_calls_go_and_what_points_at_nothing() {
        let (page, odd) = page(&dump());
        for wanted in ["one prefix / → outbound|80||a", "server name a.test → outbound|443||gone", "outbound|80||a  EDS  1 of 2"] {
            assert!(page.contains(wanted), "{wanted} is not in {page}");
        }
        assert_eq!(
            odd,
            [
                "listener 0.0.0.0_8443: REFUSED: boom",
                "listener 0.0.0.0_8443, server name a.test: sends to cluster outbound|443||gone, which the proxy does not have",
                "route two of http.8080: sends to cluster outbound|80|v9|a, which the proxy does not have",
                "secret kubernetes://gone has not come",
            ]
        );
    }

    #[test]
    fn a_gateway_that_no_gateway_selects_has_nothing_to_listen_with() {
        let listener = |port: u16| json!({"active_state": {"listener": {"name": format!("0.0.0.0_{port}")}}});
        let dump = |ports: &[u16]| {
            let all: Vec<Value> = ports.iter().map(|p| listener(*p)).collect();
            json!({"configs": [{"@type": "x.ListenersConfigDump", "dynamic_listeners": all}]})
        };
        assert_eq!(page(&dump(&[15021, 15090])).1.len(), 1);
        assert!(page(&dump(&[15021, 8443])).1.is_empty());
    }

    #[test]
    fn a_dump_that_is_too_long_loses_whole_sections() {
        let whole = serde_json::to_string_pretty(&dump()).unwrap().len();
        assert_eq!(within(dump(), whole).1, Vec::<String>::new());
        let (text, gone) = within(dump(), whole - 1);
        assert_eq!(gone, ["BootstrapConfigDump"]);
        assert!(text.len() < whole && serde_json::from_str::<Value>(&text).is_ok());
    }
}
