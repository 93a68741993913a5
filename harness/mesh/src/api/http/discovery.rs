//! What the API says of itself: versions, groups, resources, health.

use std::collections::BTreeMap;

use hyper::header::ACCEPT;
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::request::Call;
use super::{ApiBody, Server, respond};
use crate::api::error::ApiError;
use crate::api::registry::{Registry, Resource};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Server {
    pub(super) fn discover(&self, call: &Call, registry: &Registry, path: &[String]) -> Result<Response<ApiBody>, ApiError> {
        if call.method != Method::GET && call.method != Method::HEAD {
            return Err(ApiError::method_not_allowed());
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let accept = call.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Clients name what they like best first.
        let first = accept.split(',').next().unwrap_or_default();
        let aggregated = first.contains("as=APIGroupDiscoveryList") && first.contains("v=v2") && !first.contains("v2beta1");
        match path.as_slice() {
            ["version"] => Ok(respond::json(200, &self.version_info())),
            ["healthz" | "livez" | "readyz", ..] => Ok(respond::bytes(200, "text/plain; charset=utf-8", "ok")),
            ["api"] if aggregated => Ok(aggregate(registry, true)),
            ["apis"] if aggregated => Ok(aggregate(registry, false)),
            ["api"] => Ok(respond::json(200, &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}))),
            ["apis"] => {
                let groups: Vec<Value> = registry.groups().iter().map(|(name, versions)| group(name, versions)).collect();
                Ok(respond::json(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})))
            }
            ["apis", name] => {
                let groups = registry.groups();
                let versions = groups.get(*name).ok_or_else(ApiError::no_resource)?;
                let mut value = group(name, versions);
                value["kind"] = json!("APIGroup");
                value["apiVersion"] = json!("v1");
                Ok(respond::json(200, &value))
            }
            ["api", version] => resources(registry, "", version),
            ["apis", name, version] => resources(registry, name, version),
            ["openapi", "v2"] => {
                let info = json!({"title": "Kubernetes", "version": self.version.as_ref()});
                Ok(respond::json(200, &json!({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}})))
            }
            ["openapi", "v3"] => Ok(respond::json(200, &json!({"paths": {}}))),
            [] => {
                let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
                for (name, versions) in registry.groups() {
                    paths.push(format!("/apis/{name}"));
                    paths.extend(versions.iter().map(|v| format!("/apis/{name}/{v}")));
                }
                paths.extend(["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
                Ok(respond::json(200, &json!({"paths": paths})))
            }
            _ => Err(ApiError::no_resource()),
        }
    }

    fn version_info(&self) -> Value {
        let mut parts = self.version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("0"));
        json!({
            "major": major, "minor": minor, "gitVersion": self.version.as_ref(), "gitCommit": "gateproof", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none: simulated by gateproof", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        })
    }
}

fn group(name: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "preferredVersion": all.first(), "versions": all})
}

fn verbs(resource: &Resource) -> Vec<&'static str> {
    if resource.virtual_only { vec!["create"] } else { VERBS.to_vec() }
}

/// Subresource, its kind where that is another group's, its verbs.
fn subresources(resource: &Resource) -> Vec<(String, Value, Vec<&'static str>)> {
    let own = || json!({"group": "", "version": "", "kind": resource.kind});
    let mut all = Vec::new();
    if resource.status {
        all.push(("status".to_owned(), own(), vec!["get", "patch", "update"]));
    }
    if resource.scale {
        let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        all.push(("scale".to_owned(), scale, vec!["get", "patch", "update"]));
    }
    for name in &resource.subresources {
        let (kind, verbs): (Value, Vec<&'static str>) = match name.as_str() {
            "log" => (own(), vec!["get"]),
            "attach" => (json!({"group": "", "version": "", "kind": "PodAttachOptions"}), vec!["create", "get"]),
            "exec" => (json!({"group": "", "version": "", "kind": "PodExecOptions"}), vec!["create", "get"]),
            "portforward" => (json!({"group": "", "version": "", "kind": "PodPortForwardOptions"}), vec!["create", "get"]),
            "proxy" => {
                let kind = format!("{}ProxyOptions", resource.kind);
                (json!({"group": "", "version": "", "kind": kind}), vec!["create", "delete", "get", "patch", "update"])
            }
            "eviction" => (json!({"group": "policy", "version": "v1", "kind": "Eviction"}), vec!["create"]),
            "binding" => (json!({"group": "", "version": "", "kind": "Binding"}), vec!["create"]),
            _ => (own(), vec!["update"]),
        };
        all.push((name.clone(), kind, verbs));
    }
    all
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Response<ApiBody>, ApiError> {
    let served = |r: &&std::sync::Arc<Resource>| r.group == group && r.versions.iter().any(|v| v == version);
    let mut list = Vec::new();
    for resource in registry.iter().filter(served) {
        let mut one = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced, "kind": resource.kind,
            "verbs": verbs(resource),
        });
        if !resource.short_names.is_empty() {
            one["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            one["categories"] = json!(resource.categories);
        }
        list.push(one);
        for (name, kind, verbs) in subresources(resource) {
            let mut one = json!({
                "name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.namespaced,
                "kind": kind["kind"], "verbs": verbs,
            });
            if kind["group"] != "" {
                one["group"] = kind["group"].clone();
                one["version"] = kind["version"].clone();
            }
            list.push(one);
        }
    }
    if list.is_empty() {
        return Err(ApiError::no_resource());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(respond::json(200, &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})))
}

/// Source: KEP-3352, `apidiscovery.k8s.io/v2`.
fn aggregate(registry: &Registry, core: bool) -> Response<ApiBody> {
    let groups: BTreeMap<String, Vec<String>> =
        if core { BTreeMap::from([(String::new(), vec!["v1".to_owned()])]) } else { registry.groups() };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions.iter().map(|version| aggregate_version(registry, group, version)).collect();
            let metadata =
                if group.is_empty() { json!({"creationTimestamp": null}) } else { json!({"name": group, "creationTimestamp": null}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let body = list.to_string();
    respond::bytes(200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", body)
}

fn aggregate_version(registry: &Registry, group: &str, version: &str) -> Value {
    let served = |r: &&std::sync::Arc<Resource>| r.group == group && r.versions.iter().any(|v| v == version);
    let filled = |mut kind: Value| {
        if kind["version"] == "" {
            kind["group"] = json!(group);
            kind["version"] = json!(version);
        }
        kind
    };
    let one = |resource: &std::sync::Arc<Resource>| {
        let subresources: Vec<Value> = subresources(resource)
            .into_iter()
            .map(|(name, kind, verbs)| json!({"subresource": name, "responseKind": filled(kind), "verbs": verbs}))
            .collect();
        let mut value = json!({
            "resource": resource.plural,
            "responseKind": {"group": group, "version": version, "kind": resource.kind},
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": resource.singular,
            "verbs": verbs(resource),
            "shortNames": resource.short_names,
            "categories": resource.categories,
        });
        if !subresources.is_empty() {
            value["subresources"] = Value::Array(subresources);
        }
        value
    };
    let resources: Vec<Value> = registry.iter().filter(served).map(one).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}
