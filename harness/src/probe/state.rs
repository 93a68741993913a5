//! Pods, proxies, versions, configuration, analysis: what stands, as the cluster tells it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use gateproof_core::facts::short_type;
use gateproof_core::names::Namespaced;
use gateproof_core::outcome::{AnalysisMessage, ConfigSeen, PodSeen, ProxySeen, VersionSeen};
use gateproof_core::scenario::{ConfigSection, ProxyConfigProbe};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::Value;
use tokio::time::timeout;

use super::exec::{glance_at, pods_of};
use super::{ProbeError, World};
use crate::provider::Analyst;
use crate::sync::Gate;

/// Each pod of these Deployments, and the Deployments that have none.
pub(super) async fn pods(client: &Client, workloads: &[Namespaced]) -> Result<(Vec<PodSeen>, Vec<Namespaced>), ProbeError> {
    let (mut seen, mut without) = (Vec::new(), Vec::new());
    for workload in workloads {
        let pods = match pods_of(client, workload).await {
            Ok(pods) => pods,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        if pods.is_empty() {
            without.push(workload.clone());
        }
        seen.extend(pods.iter().map(|pod| pod_seen(workload, pod)));
    }
    Ok((seen, without))
}

/// A native sidecar is an init container that restarts always: it counts among the 2/2.
fn pod_seen(workload: &Namespaced, pod: &Pod) -> PodSeen {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let native: Vec<String> =
        spec.init_containers.into_iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name).collect();
    let sidecars = status.init_container_statuses.into_iter().flatten().filter(|s| native.contains(&s.name));
    let statuses: Vec<_> = sidecars.chain(status.container_statuses.into_iter().flatten()).collect();
    let waiting = statuses.iter().find_map(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    PodSeen {
        workload: workload.clone(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        phase: waiting.or(status.phase).unwrap_or_else(|| "Unknown".to_owned()),
        ready: u32::try_from(statuses.iter().filter(|s| s.ready).count()).unwrap_or(0),
        of: u32::try_from(spec.containers.len() + native.len()).unwrap_or(0),
    }
}

/// What istiod says of each connected proxy, and the pods with a proxy that it does not speak of.
pub(super) async fn proxies(gate: &Gate) -> Result<(Vec<ProxySeen>, Vec<String>), ProbeError> {
    // Pods first: one that comes while istiod is asked has not failed to connect.
    let pods = gate.pods_with_proxy().await?;
    let statuses = gate.sync_status().await?;
    let connected: BTreeSet<&str> = statuses.iter().map(|s| s.proxy.as_str()).collect();
    let unconnected = unconnected(&pods, &connected);
    let seen = statuses
        .into_iter()
        .map(|status| {
            let refusals = status.refusals();
            let types: Vec<(String, String)> = status
                .resources
                .iter()
                .map(|(url, s)| {
                    let name = short_type(url).to_owned();
                    let said = match refusals.iter().find(|(t, _)| *t == name) {
                        Some((_, words)) => format!("REFUSED: {words}"),
                        None if s.sent.is_empty() => "NOT SENT".to_owned(),
                        None if s.sent == s.acked => "SYNCED".to_owned(),
                        None => "STALE".to_owned(),
                    };
                    (name, said)
                })
                .collect();
            let synced = types.iter().all(|(_, said)| said == "SYNCED" || said == "NOT SENT");
            ProxySeen { id: status.proxy.clone(), types, synced }
        })
        .collect();
    Ok((seen, unconnected))
}

/// Pods that ought to be connected and are not. Those of another revision are another istiod's.
fn unconnected(pods: &[Pod], connected: &BTreeSet<&str>) -> Vec<String> {
    let id = |pod: &Pod| {
        let (name, namespace) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
        format!("{}.{}", name.unwrap_or_default(), namespace.unwrap_or_default())
    };
    let revision = |pod: &Pod| pod.metadata.annotations.as_ref().and_then(|a| a.get("istio.io/rev").cloned());
    let (there, not_there): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| connected.contains(id(pod).as_str()));
    let ours: BTreeSet<Option<String>> = there.into_iter().map(revision).collect();
    let is_done = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| ["Succeeded", "Failed"].contains(&p));
    let due =
        |pod: &&&Pod| pod.metadata.deletion_timestamp.is_none() && !is_done(pod) && (ours.is_empty() || ours.contains(&revision(pod)));
    not_there.iter().filter(due).map(|pod| id(pod)).collect()
}

/// Versions of the control plane, each proxy and the client.
pub(super) async fn versions(world: &World) -> Result<Vec<VersionSeen>, ProbeError> {
    let mut seen = vec![VersionSeen { who: "istiod".to_owned(), version: world.control_plane_version.clone() }];
    for status in world.gate.sync_status().await? {
        seen.push(VersionSeen { who: format!("proxy {}", status.proxy), version: status.istio_version });
    }
    if let Some(version) = &world.istioctl_version {
        seen.push(VersionSeen { who: "istioctl".to_owned(), version: version.clone() });
    }
    Ok(seen)
}

/// What every replica of a workload has in one section.
pub(super) async fn config(world: &World, probe: &ProxyConfigProbe) -> Result<Vec<ConfigSeen>, ProbeError> {
    let pods = glance_at(&world.client, &probe.workload).await?;
    let names: Vec<String> = pods.into_iter().filter(|pod| !pod.is_leaving()).map(|p| p.metadata.name).collect();
    let looks = join_all(names.iter().map(|pod| async {
        let dump = world.gate.envoy_dump(&probe.workload.namespace, pod).await?;
        section_of(pod, &dump, probe.section, &probe.name)
    }))
    .await;
    looks.into_iter().collect()
}

/// The entries of a section of Envoy's dump whose name matches, and all names in it. Static ones count too. A dump without
/// the section says nothing of what is in it: that is an error, and not an absence.
fn section_of(pod: &str, dump: &Value, section: ConfigSection, pattern: &str) -> Result<ConfigSeen, ProbeError> {
    let (kind, lists, path): (&str, &[&str], &[&str]) = match section {
        ConfigSection::Listeners => ("ListenersConfigDump", &["static_listeners", "dynamic_listeners"], &["listener"]),
        ConfigSection::Routes => ("RoutesConfigDump", &["static_route_configs", "dynamic_route_configs"], &["route_config"]),
        ConfigSection::Clusters => ("ClustersConfigDump", &["static_clusters", "dynamic_active_clusters"], &["cluster"]),
        ConfigSection::Endpoints => ("EndpointsConfigDump", &["static_endpoint_configs", "dynamic_endpoint_configs"], &["endpoint_config"]),
        ConfigSection::Secrets => ("SecretsConfigDump", &["static_secrets", "dynamic_active_secrets"], &["secret"]),
    };
    let mut seen = ConfigSeen { pod: pod.to_owned(), entries: Vec::new(), all_names: Vec::new() };
    let sections = dump["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts: Vec<&Value> = sections.iter().filter(|s| s["@type"].as_str().is_some_and(|t| t.ends_with(kind))).collect();
    if parts.is_empty() {
        let why = format!("it has no {kind}");
        return Err(ProbeError::Broken { doing: format!("reading the configuration of Envoy in {pod}"), why });
    }
    for part in parts {
        for entry in lists.iter().flat_map(|list| part[*list].as_array().map(Vec::as_slice).unwrap_or_default()) {
            let holder = entry.get("active_state").unwrap_or(entry);
            let value = &holder[path[0]];
            let name = value["name"].as_str().or_else(|| value["cluster_name"].as_str()).or_else(|| entry["name"].as_str());
            let Some(name) = name else { continue };
            if value.is_null() {
                continue;
            }
            seen.all_names.push(name.to_owned());
            if gateproof_core::outcome::json_match::glob(pattern, name) {
                seen.entries.push((name.to_owned(), value.clone()));
            }
        }
    }
    seen.all_names.sort();
    Ok(seen)
}

/// What an analysis says of namespaces, each message once.
pub(super) async fn analyze(analyst: &Analyst, namespaces: &[String]) -> Result<Vec<AnalysisMessage>, ProbeError> {
    let mut all: Vec<AnalysisMessage> = Vec::new();
    let messages = match analyst {
        Analyst::Nobody => {
            let why = "istioctl is needed for `analyze` and is not on the PATH; install it, or name a bundle";
            return Err(ProbeError::Missing(why.to_owned()));
        }
        Analyst::Istioctl { path, access } => analyze_by_istioctl(path, access, namespaces).await?,
        Analyst::Mesh(analysis) => {
            let looks =
                namespaces.iter().map(|ns| analysis(ns).map_err(|why| ProbeError::Broken { doing: format!("analysing {ns}"), why }));
            looks.collect::<Result<Vec<_>, _>>()?.concat()
        }
    };
    for message in messages {
        if !all.contains(&message) {
            all.push(message);
        }
    }
    Ok(all)
}

/// `istioctl analyze` over namespaces.
async fn analyze_by_istioctl(istioctl: &Path, access: &[OsString; 2], namespaces: &[String]) -> Result<Vec<AnalysisMessage>, ProbeError> {
    let runs = namespaces.iter().map(|ns| async move {
        let doing = || format!("running istioctl analyze -n {ns}");
        let mut command = tokio::process::Command::new(istioctl);
        command.args(["analyze", "-n", ns, "-o", "json"]).args(access);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(Duration::from_secs(60), command.output())
            .await
            .map_err(|_| ProbeError::Broken { doing: doing(), why: "not done within 60 s".to_owned() })?
            .map_err(|e| ProbeError::Broken { doing: doing(), why: e.to_string() })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let messages: Value = match text.trim() {
            // Exit codes tell only that there are messages; the JSON tells which.
            "" | "null" if output.status.success() => Value::Array(vec![]),
            text => serde_json::from_str(text).map_err(|_| ProbeError::Broken {
                doing: doing(),
                why: String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect(),
            })?,
        };
        read_messages(&messages).ok_or_else(|| ProbeError::Broken {
            doing: doing(),
            why: format!("it answered no list of messages: {}", messages.to_string().chars().take(300).collect::<String>()),
        })
    });
    let looks: Result<Vec<_>, ProbeError> = join_all(runs).await.into_iter().collect();
    Ok(looks?.concat())
}

fn read_messages(messages: &Value) -> Option<Vec<AnalysisMessage>> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let messages = messages.as_array()?.iter();
    let messages = messages
        .map(|m| AnalysisMessage {
            level: text(&m["level"]),
            code: text(&m["code"]),
            text: format!("{}: {}", text(&m["origin"]), text(&m["message"])),
        })
        .collect();
    Some(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_section_is_read_by_pattern_and_keeps_all_names() {
        let dump = json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "dynamic_listeners": [
                {"name": "0.0.0.0_8443", "active_state": {"listener": {"name": "0.0.0.0_8443", "x": 1}}},
                {"name": "0.0.0.0_8080", "warming_state": {"listener": {"name": "0.0.0.0_8080"}}}]}]});
        let seen = section_of("p", &dump, ConfigSection::Listeners, "*_8443").unwrap();
        assert_eq!(seen.entries.len(), 1);
        assert_eq!(seen.all_names, ["0.0.0.0_8443"]);
    }

    #[test]
    fn a_section_that_is_not_there_is_no_absence() {
        let dump = json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump"}]});
        assert!(section_of("p", &dump, ConfigSection::Listeners, "x").is_ok_and(|seen| seen.entries.is_empty()));
        let error = section_of("p", &dump, ConfigSection::Routes, "x").unwrap_err();
        assert_eq!(error.to_string(), "reading the configuration of Envoy in p: it has no RoutesConfigDump");
    }

    #[test]
    fn an_analysis_that_is_no_list_is_not_clean() {
        assert!(read_messages(&json!({"error": "x"})).is_none());
        assert!(read_messages(&json!([])).is_some_and(|m| m.is_empty()));
    }

    #[test]
    fn a_pod_of_this_revision_that_is_not_connected_is_named() {
        let pod = |name: &str, revision: &str, more: Value| -> Pod {
            let mut pod = json!({"metadata": {"name": name, "namespace": "n", "annotations": {"istio.io/rev": revision}}});
            pod["status"] = more;
            serde_json::from_value(pod).unwrap()
        };
        let mut leaving = pod("leaving", "default", json!({}));
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let pods = [
            pod("a", "default", json!({})),
            pod("b", "default", json!({"phase": "Pending"})),
            pod("done", "default", json!({"phase": "Succeeded"})),
            pod("other", "canary", json!({})),
            leaving,
        ];
        assert_eq!(unconnected(&pods, &BTreeSet::from(["a.n"])), ["b.n"]);
    }

    #[test]
    fn messages_of_an_analysis_are_read() {
        let messages = read_messages(
            &json!([{"code": "IST0101", "level": "Error", "origin": "VirtualService a/b", "message": "Referenced host not found"}]),
        )
        .unwrap();
        assert_eq!(messages[0].code, "IST0101");
        assert_eq!(messages[0].text, "VirtualService a/b: Referenced host not found");
    }
}
