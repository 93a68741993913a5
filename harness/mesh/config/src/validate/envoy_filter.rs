//! What istiod says of an EnvoyFilter. Whether a patch's value is what Envoy's API has there is not asked: that needs the API's
//! descriptors. The proxy refuses what Envoy would.

use serde_json::Value;

use super::names;
use super::problems::Problems;
use crate::istio::model::object;

const HTTP_MANAGER: &str = "envoy.filters.network.http_connection_manager";

pub(super) fn check(filter: &Value) -> Problems {
    let mut problems = Problems::new();
    let caution = "Prefer other APIs if possible, and exercise extreme caution, especially around upgrades.";
    problems.warn(format!("EnvoyFilter exposes internal implementation details that may change at any time. {caution}"));
    let spec = object::spec(filter);
    if let Err(bad) = names::workload_selector(spec, "Envoy filter", &mut problems) {
        return bad;
    }
    for patch in object::list(spec, "/configPatches") {
        match check_patch(patch, &mut problems) {
            Ok(()) => check_config(patch, &mut problems),
            Err(error) => problems.error(format!("Envoy filter: {error}")),
        }
    }
    problems
}

/// A filter that is known by its name alone.
fn check_config(entry: &Value, problems: &mut Problems) {
    let is_filter = matches!(object::text(entry, "/applyTo"), "HTTP_FILTER" | "NETWORK_FILTER" | "LISTENER_FILTER");
    let Some(value) = entry.pointer("/patch/value").filter(|value| is_filter && value.is_object()) else {
        return;
    };
    let has_one = ["typed_config", "typedConfig", "config_discovery", "configDiscovery"].iter().any(|field| value.get(*field).is_some());
    if !has_one {
        problems.warn(format!("using deprecated types by name without typed_config; {}", object::text(value, "/name")));
    }
}

/// The first thing that is wrong with a patch.
fn check_patch(entry: &Value, problems: &mut Problems) -> Result<(), String> {
    let fail = |text: &str| Err(text.to_owned());
    if object::text(entry, "/match/context") == "WAYPOINT" {
        return Ok(());
    }
    let apply_to = object::text(entry, "/applyTo");
    if matches!(apply_to, "" | "INVALID") {
        return fail("missing applyTo");
    }
    let Some(patch) = entry.get("patch").filter(|patch| patch.is_object()) else {
        return fail("missing patch");
    };
    let operation = object::text(patch, "/operation");
    if matches!(operation, "" | "INVALID") {
        return fail("missing patch operation");
    }
    if operation != "REMOVE" && !patch.get("value").is_some_and(Value::is_object) {
        return fail("missing patch value for non-remove operation");
    }
    let version = object::text(entry, "/match/proxy/proxyVersion");
    if version.len() > 1024 {
        problems.warn("Envoy filter: proxyVersion match exceeds 1024 characters and will be ignored");
    } else if regex::Regex::new(version).is_err() {
        return Err(format!("invalid regex for proxy version, [error parsing regexp: {version}]"));
    }
    let kinds = ["listener", "routeConfiguration", "cluster"];
    let asked = kinds.into_iter().find(|kind| entry.get("match").and_then(|one| one.get(*kind)).is_some_and(Value::is_object));
    match apply_to {
        "LISTENER" | "FILTER_CHAIN" | "NETWORK_FILTER" | "HTTP_FILTER" => {
            if asked.is_some_and(|kind| kind != "listener") {
                return fail("applyTo for listener class objects cannot have non listener match");
            }
            match entry.pointer("/match/listener/filterChain/filter").filter(|filter| filter.is_object()) {
                Some(wanted) => check_filter(apply_to, wanted, problems),
                None => Ok(()),
            }
        }
        "ROUTE_CONFIGURATION" | "VIRTUAL_HOST" | "HTTP_ROUTE" if asked.is_some_and(|kind| kind != "routeConfiguration") => {
            fail("applyTo for http route class objects cannot have non route configuration match")
        }
        "CLUSTER" if asked.is_some_and(|kind| kind != "cluster") => fail("applyTo for cluster class objects cannot have non cluster match"),
        _ => Ok(()),
    }
}

fn check_filter(apply_to: &str, wanted: &Value, problems: &mut Problems) -> Result<(), String> {
    if matches!(apply_to, "LISTENER" | "FILTER_CHAIN") {
        problems.warn(format!("Envoy filter: filter match has no effect when used with {apply_to}"));
    }
    let name = object::text(wanted, "/name");
    if name.is_empty() {
        return Err("filter match has no name to match on".to_owned());
    }
    let Some(sub) = wanted.get("subFilter").filter(|sub| sub.is_object()) else {
        return Ok(());
    };
    if apply_to != "HTTP_FILTER" {
        return Err("subfilter match can be used with applyTo HTTP_FILTER only".to_owned());
    }
    if !matches!(name, HTTP_MANAGER | "envoy.http_connection_manager") {
        return Err(format!("subfilter match requires filter match with {HTTP_MANAGER}"));
    }
    if object::text(sub, "/name").is_empty() {
        return Err("subfilter match has no name to match on".to_owned());
    }
    Ok(())
}
