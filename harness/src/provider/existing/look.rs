//! What a cluster has and lacks of what a run needs. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures::future::join_all;
use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::report::{GatewayRecord, OutsideRecord, PreflightRecord};
use gateproof_core::scenario::{Gateway, GatewayService, OutsideHost};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::{ExistingOptions, dns};
use crate::kube_ext::Resources;
use crate::provider::{ClusterNeeds, Entrance, ProviderError, Tools};
use crate::sync::OWNER_LABEL;

/// What was found.
pub(crate) struct Found {
    pub(crate) records: Vec<PreflightRecord>,
    pub(crate) warnings: Vec<String>,
    pub(super) kubernetes: String,
    pub(super) istiod_selector: String,
    pub(super) gateways: Vec<GatewayRecord>,
    pub(super) entrances: BTreeMap<Namespaced, Entrance>,
    pub(super) services: BTreeMap<Namespaced, Namespaced>,
    pub(super) outside: Vec<OutsideRecord>,
    served: BTreeSet<String>,
}

impl Found {
    /// Whether the cluster has kinds of this API group at all; rights on others mean nothing.
    pub(crate) fn serves(&self, group: &str) -> bool {
        group.is_empty() || self.served.contains(group)
    }

    fn note(&mut self, what: impl Into<String>, seen: Result<String, String>) {
        let ok = seen.is_ok();
        let (Ok(observed) | Err(observed)) = seen;
        self.records.push(PreflightRecord { what: what.into(), observed, ok });
    }
}

/// The API's own words, which say who may not do what.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Looks at everything; only an API server that does not answer is an error.
pub(super) async fn look(client: &Client, existing: &ExistingOptions, needs: &ClusterNeeds, tools: &Tools) -> Result<Found, ProviderError> {
    let unreachable = |e: kube::Error| ProviderError::Context {
        why: format!("the cluster of the context `{}` does not answer: {}", existing.context, words(&e)),
    };
    let version = client.apiserver_version().await.map_err(unreachable)?;
    let groups = client.list_api_groups().await.map_err(unreachable)?;
    let mut found = Found {
        records: Vec::new(),
        warnings: Vec::new(),
        kubernetes: version.git_version.clone(),
        istiod_selector: String::new(),
        gateways: Vec::new(),
        entrances: BTreeMap::new(),
        services: BTreeMap::new(),
        outside: Vec::new(),
        served: groups.groups.into_iter().map(|g| g.name).collect(),
    };
    found.note("Kubernetes", Ok(version.git_version));
    control_plane(client, existing, &mut found).await;
    let resources = Resources::new(client.clone());
    kinds(&resources, needs, &mut found).await;
    injection(client, existing, needs, &mut found).await;
    for gateway in &needs.gateways {
        let seen = look_at_gateway(client, existing, gateway, &mut found).await;
        found.note(format!("gateway {}", gateway.at), seen);
    }
    namespaces(client, needs, &mut found).await;
    if !existing.verify_only {
        foreign_objects(&resources, needs, &mut found).await;
    }
    let mesh_wide: Vec<String> = needs.objects.iter().filter(|o| is_mesh_wide(o, existing)).map(ToString::to_string).collect();
    if !mesh_wide.is_empty() && !existing.allow_mesh_changes && !existing.verify_only {
        let why = format!("{} would hold for the whole mesh; allow it with --allow-mesh-changes", mesh_wide.join(", "));
        found.note("mesh-wide objects", Err(why));
    }
    if needs.istioctl {
        let why = "not on the PATH nor in a bundle, and scenarios ask for `analyze`".to_owned();
        found.note("istioctl", tools.istioctl.as_ref().map(|p| p.display().to_string()).ok_or(why));
    }
    for (host, seen) in join_all(needs.outside.iter().map(|host| look_outside(client, host))).await {
        match seen {
            Ok(record) => {
                found.note(format!("outside host {}", host.host), Ok(record.addresses.join(", ")));
                found.outside.push(record);
            }
            Err(why) => found.note(format!("outside host {}", host.host), Err(why)),
        }
    }
    Ok(found)
}

fn is_mesh_wide(key: &ObjectKey, existing: &ExistingOptions) -> bool {
    key.group().ends_with(".istio.io") && key.kind != "Gateway" && key.namespace.as_deref() == Some(&existing.values.root_namespace)
}

async fn control_plane(client: &Client, existing: &ExistingOptions, found: &mut Found) {
    let istiod = &existing.values.istiod;
    let api: Api<Deployment> = Api::namespaced(client.clone(), &istiod.namespace);
    let seen = match api.get_opt(&istiod.name).await {
        Ok(Some(deployment)) => {
            let spec = deployment.spec;
            let labels = spec.selector.match_labels.unwrap_or_default();
            found.istiod_selector = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
            let ready = deployment.status.and_then(|s| s.ready_replicas).unwrap_or(0);
            let line = format!("{istiod}, {ready} ready");
            if ready > 0 { Ok(line) } else { Err(format!("{istiod} has no ready replica")) }
        }
        Ok(None) => Err(format!("there is no Deployment {istiod}; `istiod` and `rootNamespace` in the values file say where it is")),
        Err(error) => Err(words(&error)),
    };
    found.note("istiod", seen);
}

async fn kinds(resources: &Resources, needs: &ClusterNeeds, found: &mut Found) {
    let mut one_of: BTreeMap<(String, String), &ObjectKey> = BTreeMap::new();
    for key in &needs.objects {
        one_of.entry((key.api_version.clone(), key.kind.clone())).or_insert(key);
    }
    let defined: Vec<String> =
        needs.objects.iter().filter(|k| k.kind == "CustomResourceDefinition").map(|k| k.name.to_lowercase()).collect();
    let answers = join_all(one_of.values().map(|key| resources.api_for(key))).await;
    let missing: Vec<String> = one_of
        .values()
        .zip(answers)
        .filter(|(key, answer)| answer.is_err() && !defined.iter().any(|d| d.starts_with(&key.kind.to_lowercase())))
        .map(|(key, _)| format!("{} of {}", key.kind, key.api_version))
        .collect();
    let seen = if missing.is_empty() {
        Ok(format!("{} that scenarios use are served", one_of.len()))
    } else {
        Err(format!("not served: {}; gateproof installs no resource definitions here", missing.join(", ")))
    };
    found.note("kinds", seen);
}

async fn injection(client: &Client, existing: &ExistingOptions, needs: &ClusterNeeds, found: &mut Found) {
    if !needs.objects.iter().any(|o| o.kind == "Namespace") {
        return;
    }
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let seen = match api.list(&ListParams::default()).await {
        Err(error) => Err(words(&error)),
        Ok(list) => injector(&list.items, existing.values.revision.as_deref()),
    };
    found.note("sidecar injection", seen);
}

/// The webhook that a namespace's label addresses, or which there are.
fn injector(all: &[MutatingWebhookConfiguration], revision: Option<&str>) -> Result<String, String> {
    let injects = |c: &&MutatingWebhookConfiguration| c.webhooks.iter().flatten().any(|w| w.name.ends_with("sidecar-injector.istio.io"));
    let label = |c: &MutatingWebhookConfiguration, key: &str| c.labels().get(key).cloned();
    let by_injection_label = |c: &&MutatingWebhookConfiguration| {
        c.webhooks.iter().flatten().filter_map(|w| w.namespace_selector.as_ref()).any(|s| {
            let by_label = s.match_labels.iter().flatten().any(|(k, v)| k == "istio-injection" && v == "enabled");
            let expressions = s.match_expressions.iter().flatten();
            by_label
                || expressions
                    .into_iter()
                    .any(|e| e.key == "istio-injection" && e.operator == "In" && e.values.iter().flatten().any(|v| v == "enabled"))
        })
    };
    let injectors: Vec<&MutatingWebhookConfiguration> = all.iter().filter(injects).collect();
    let revisions: BTreeSet<String> =
        injectors.iter().flat_map(|c| [label(c, "istio.io/rev"), label(c, "istio.io/tag")]).flatten().collect();
    let known = revisions.into_iter().collect::<Vec<_>>().join(", ");
    match revision {
        _ if injectors.is_empty() => Err("no webhook of Istio injects sidecars".to_owned()),
        Some(revision) => injectors
            .iter()
            .find(|c| ["istio.io/rev", "istio.io/tag"].iter().any(|key| label(c, key).as_deref() == Some(revision)))
            .map(|c| format!("{} for istio.io/rev={revision}", c.name_any()))
            .ok_or_else(|| format!("no webhook injects for istio.io/rev={revision}; there is {known}")),
        None => {
            injectors.iter().find(|c| by_injection_label(c)).map(|c| format!("{} for istio-injection=enabled", c.name_any())).ok_or_else(
                || format!("no webhook answers to istio-injection=enabled; name a `revision` in the values file: there is {known}"),
            )
        }
    }
}

async fn look_at_gateway(client: &Client, existing: &ExistingOptions, gateway: &Gateway, found: &mut Found) -> Result<String, String> {
    let at = &gateway.at;
    let hint = "name the cluster's under `gateways` in the values file (--cluster-values)";
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &at.namespace);
    let deployment =
        deployments.get_opt(&at.name).await.map_err(|e| words(&e))?.ok_or_else(|| format!("there is no such Deployment; {hint}"))?;
    let spec = deployment.spec;
    let labels = spec.template.metadata.and_then(|m| m.labels).unwrap_or_default();
    let missing: Vec<String> = gateway.labels.iter().filter(|(k, v)| labels.get(*k) != Some(*v)).map(|(k, v)| format!("{k}={v}")).collect();
    if !missing.is_empty() {
        return Err(format!(
            "its pods lack the label {}, by which it is selected; give its `labels` in the values file",
            missing.join(", ")
        ));
    }
    if deployment.status.and_then(|s| s.ready_replicas).unwrap_or(0) == 0 {
        return Err("it has no ready replica".to_owned());
    }
    let named = existing.values.gateways.values().find(|g| g.at == *at);
    let service_at = named.map_or_else(|| at.clone(), |g| g.service.clone());
    let services: Api<Service> = Api::namespaced(client.clone(), &service_at.namespace);
    let service = services
        .get_opt(&service_at.name)
        .await
        .map_err(|e| words(&e))?
        .ok_or_else(|| format!("there is no Service {service_at}; {hint}"))?;
    found.services.insert(at.clone(), service_at.clone());
    for (port, wanted) in [(80, 8080), (443, 8443)] {
        match service.spec.iter().flat_map(|s| s.ports.iter().flatten()).find(|p| p.port == port) {
            None => return Err(format!("its Service {service_at} has no port {port}")),
            Some(p) if !matches!(p.target_port, Some(IntOrString::Int(target)) if target == wanted) => found.warnings.push(format!(
                "port {port} of {service_at} does not lead to {wanted}: listeners and routes of {at} are called otherwise than scenarios expect"
            )),
            Some(_) => {}
        }
    }
    let mut reached = format!("{} {}", type_of(&service), service.spec.as_ref().and_then(|s| s.cluster_ip.clone()).unwrap_or_default());
    if gateway.service != GatewayService::ClusterIp {
        let address = |given: Option<&String>, port: u16| {
            let (service, spec, given) = (&service, &spec.selector.match_labels, given.cloned());
            async move {
                let text = match given {
                    Some(text) => text,
                    None => discovered(client, &at.namespace, service, spec.as_ref(), port).await?,
                };
                let mut all = tokio::net::lookup_host(&text).await.map_err(|e| format!("`{text}` cannot be resolved: {e}"))?;
                all.next().ok_or_else(|| format!("`{text}` has no address"))
            }
        };
        let http: SocketAddr = address(named.and_then(|g| g.http.as_ref()), 80).await?;
        let https = address(named.and_then(|g| g.https.as_ref()), 443).await?;
        reached = format!("{reached}, from outside {http} (80), {https} (443)");
        found.entrances.insert(at.clone(), Entrance { http, https });
    }
    let shown = if gateway.labels.is_empty() { &labels } else { &gateway.labels };
    let labels = shown.iter().map(|(k, v)| format!("{k}={v}")).collect();
    found.gateways.push(GatewayRecord { at: at.clone(), labels, reached: reached.clone() });
    Ok(reached)
}

fn type_of(service: &Service) -> String {
    service.spec.as_ref().and_then(|s| s.type_.clone()).unwrap_or_else(|| "ClusterIP".to_owned())
}

/// The load balancer's address, or a node port where a gateway's pod runs: `externalTrafficPolicy: Local` answers only there.
async fn discovered(
    client: &Client,
    namespace: &str,
    service: &Service,
    selector: Option<&BTreeMap<String, String>>,
    port: u16,
) -> Result<String, String> {
    let balanced = service.status.iter().flat_map(|s| s.load_balancer.iter()).flat_map(|l| l.ingress.iter().flatten()).next();
    if let Some(host) = balanced.and_then(|i| i.ip.clone().or_else(|| i.hostname.clone())) {
        return Ok(bracketed(&host, port));
    }
    let node_port =
        service.spec.iter().flat_map(|s| s.ports.iter().flatten()).find(|p| p.port == i32::from(port)).and_then(|p| p.node_port);
    let Some(node_port) = node_port.and_then(|p| u16::try_from(p).ok()) else {
        return Err("it is called from outside, and its Service has neither a load balancer nor node ports; give its address as `outside` in the values file".to_owned());
    };
    let labels = selector.into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(&labels).fields("status.phase=Running")).await.map_err(|e| words(&e))?;
    let node = list.items.into_iter().find_map(|p| p.status?.host_ip);
    node.map(|ip| bracketed(&ip, node_port)).ok_or_else(|| "no pod of it runs on a node".to_owned())
}

fn bracketed(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Namespaces that objects go into and that no scenario declares.
async fn namespaces(client: &Client, needs: &ClusterNeeds, found: &mut Found) {
    let declared: BTreeSet<&str> = needs.objects.iter().filter(|o| o.kind == "Namespace").map(|o| o.name.as_str()).collect();
    let used: BTreeSet<&str> = needs.objects.iter().filter_map(|o| o.namespace.as_deref()).filter(|n| !declared.contains(n)).collect();
    let api: Api<Namespace> = Api::all(client.clone());
    let answers = join_all(used.iter().map(|name| api.get_opt(name))).await;
    let missing: Vec<String> = used.iter().zip(answers).filter(|(_, a)| matches!(a, Ok(None))).map(|(n, _)| (*n).to_owned()).collect();
    let seen = if missing.is_empty() {
        Ok(format!("{} that scenarios do not declare are there", used.len()))
    } else {
        Err(format!("there is no {}, and no scenario declares it", missing.join(", ")))
    };
    found.note("namespaces", seen);
}

/// Objects of the same name that somebody else made.
async fn foreign_objects(resources: &Resources, needs: &ClusterNeeds, found: &mut Found) {
    let looks = join_all(needs.objects.iter().map(|key| async move {
        let api = resources.api_for(key).await.ok()?;
        let there = api.get_opt(&key.name).await.ok()??;
        (!there.labels().contains_key(OWNER_LABEL)).then(|| key.to_string())
    }))
    .await;
    let foreign: BTreeSet<String> = looks.into_iter().flatten().collect();
    let seen = if foreign.is_empty() {
        Ok(format!("{} that scenarios apply are absent or gateproof's own", needs.objects.len()))
    } else {
        let list = foreign.into_iter().collect::<Vec<_>>().join(", ");
        Err(format!("{list}: there already, and not made by gateproof; they are not overwritten"))
    };
    found.note("objects", seen);
}

async fn look_outside<'h>(client: &Client, host: &'h OutsideHost) -> (&'h OutsideHost, Result<OutsideRecord, String>) {
    let addresses = match dns::resolve(client, host.host.as_str()).await {
        Some(addresses) => addresses,
        // A DNS that cannot be asked from here: what this machine knows is the next best.
        None => tokio::net::lookup_host((host.host.as_str(), 443)).await.map(|all| all.map(|a| a.ip()).collect()).unwrap_or_default(),
    };
    if addresses.is_empty() {
        return (host, Err("it has no address in the cluster's DNS".to_owned()));
    }
    let record = OutsideRecord {
        host: host.host.to_string(),
        kind: "real".to_owned(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        served_by: "the host itself".to_owned(),
    };
    (host, Ok(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn webhook(name: &str, labels: serde_json::Value, selector: serde_json::Value) -> MutatingWebhookConfiguration {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "webhooks": [{
            "name": "namespace.sidecar-injector.istio.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {}, "namespaceSelector": selector}]}))
        .unwrap()
    }

    #[test]
    fn the_webhook_is_found_by_revision_tag_or_label() {
        let default = webhook(
            "istio-sidecar-injector",
            json!({"istio.io/rev": "default"}),
            json!({"matchExpressions": [{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]}),
        );
        let tagged = webhook("istio-revision-tag-stable", json!({"istio.io/rev": "1-30", "istio.io/tag": "stable"}), json!({}));
        assert!(injector(&[default.clone(), tagged.clone()], None).unwrap().starts_with("istio-sidecar-injector"));
        assert!(injector(std::slice::from_ref(&tagged), Some("stable")).is_ok());
        assert!(injector(std::slice::from_ref(&tagged), Some("canary")).unwrap_err().contains("there is 1-30, stable"));
        assert!(injector(&[tagged], None).unwrap_err().contains("name a `revision`"));
        assert!(injector(&[], None).is_err());
    }

    #[test]
    fn addresses_of_both_families_are_written_with_their_port() {
        assert_eq!((bracketed("10.0.0.1", 80).as_str(), bracketed("fd00::1", 80).as_str()), ("10.0.0.1:80", "[fd00::1]:80"));
    }
}
