//! The cluster's DNS is told the stand-ins' names, once and early.
//!
//! CoreDNS runs its plugins in an order that was fixed when it was built: within one server block,
//! `cache` always comes before `hosts`. So the names get a server block of their own, without a cache.

use bollard::Docker;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use super::Addresses;
use crate::provider::kind::node;
use crate::provider::{FIELD_MANAGER, ProviderError};

const BEGIN: &str = "# gateproof's stand-ins: begin";
const END: &str = "# gateproof's stand-ins: end";

/// The Corefile with a server block for the stand-ins, in the place of an earlier one.
pub(crate) fn with_stand_ins(corefile: &str, addresses: &Addresses) -> String {
    let mut text = match (corefile.find(BEGIN), corefile.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{}", &corefile[..begin], corefile[end + END.len()..].trim_start_matches('\n'))
        }
        _ => corefile.to_owned(),
    };
    if addresses.is_empty() {
        return text;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let zones: Vec<String> = addresses.keys().map(|host| format!("{host}:53")).collect();
    let lines: Vec<String> = addresses.iter().flat_map(|(host, all)| all.iter().map(move |a| format!("        {a} {host}\n"))).collect();
    // Names below a stand-in's are none of ours: they fall through to whoever knows them.
    text.push_str(&format!(
        "{BEGIN}\n{} {{\n    errors\n    hosts {{\n{}        ttl 1\n        fallthrough\n    }}\n    forward . /etc/resolv.conf\n}}\n{END}\n",
        zones.join(" "),
        lines.concat()
    ));
    text
}

/// CoreDNS as kubeadm would install it, to be installed by [`install`] in its stead: earlier, with the
/// stand-ins' names from the start, and with a readiness probe that does not wait 10 s after a miss.
/// None from a kubeadm that cannot print it (before Kubernetes 1.31).
pub(crate) async fn manifests(docker: &Docker, node: &str) -> Option<Vec<Value>> {
    let print = ["kubeadm", "init", "phase", "addon", "coredns", "--print-manifest", "--config", "/kind/kubeadm.conf"];
    let text = node::exec(docker, node, &print).await.inspect_err(|error| tracing::debug!(%error, "kubeadm prints no manifests")).ok()?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).ok()?;
    documents.iter().any(|d| d["kind"] == "Deployment").then_some(documents)
}

/// Installs CoreDNS with the stand-ins' names.
pub(crate) async fn install(
    client: &kube::Client,
    docker: &Docker,
    node: &str,
    manifests: Option<Vec<Value>>,
    addresses: &Addresses,
) -> Result<(), ProviderError> {
    let Some(manifests) = manifests else {
        node::exec(docker, node, &["kubeadm", "init", "phase", "addon", "coredns", "--config", "/kind/kubeadm.conf"]).await?;
        return tell(client, addresses).await;
    };
    try_join_all(manifests.into_iter().filter(Value::is_object).map(|m| apply(client, adapt(m, addresses)))).await.map(|_| ())
}

fn adapt(mut manifest: Value, addresses: &Addresses) -> Value {
    match manifest["kind"].as_str() {
        Some("ConfigMap") => {
            let corefile = with_stand_ins(manifest["data"]["Corefile"].as_str().unwrap_or_default(), addresses);
            manifest["data"]["Corefile"] = corefile.into();
        }
        Some("Deployment") => {
            manifest["spec"]["replicas"] = 1.into();
            manifest["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] = 1.into();
        }
        _ => {}
    }
    manifest
}

async fn apply(client: &kube::Client, manifest: Value) -> Result<(), ProviderError> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind, name, namespace) = (text("/apiVersion"), text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(&manifest))
        .await
        .map(|_| ())
        .map_err(ProviderError::kube(format!("install CoreDNS's {kind} {name}")))
}

/// Writes the names into the Corefile, where they are not there yet, and restarts CoreDNS.
pub(crate) async fn tell(client: &kube::Client, addresses: &Addresses) -> Result<(), ProviderError> {
    const WHAT: &str = "tell the cluster's DNS the stand-ins' names";
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let found = maps.get("coredns").await.map_err(ProviderError::kube(WHAT))?;
    let old = found.data.and_then(|mut d| d.remove("Corefile")).unwrap_or_default();
    let new = with_stand_ins(&old, addresses);
    if old == new {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"data": {"Corefile": new}}));
    maps.patch("coredns", &PatchParams::default(), &patch).await.map_err(ProviderError::kube(WHAT))?;
    restart(client).await
}

/// Replaces the pods that may have read the old file.
async fn restart(client: &kube::Client) -> Result<(), ProviderError> {
    const WHAT: &str = "restart the cluster's DNS";
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let old = pods.list(&ListParams::default().labels("k8s-app=kube-dns")).await.map_err(ProviderError::kube(WHAT))?;
    if old.items.is_empty() {
        return Ok(());
    }
    // They keep answering with the old file for as long as they wait to be taken out of service.
    let now = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    for name in old.items.iter().filter_map(|p| p.metadata.name.as_deref()) {
        match pods.delete(name, &now).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => drop(other.map_err(ProviderError::kube(WHAT))?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEADMS: &str = ".:53 {\n    errors\n    cache 30\n}\n";

    fn addresses(list: &[(&str, &[&str])]) -> Addresses {
        list.iter().map(|(host, all)| ((*host).to_owned(), all.iter().map(|a| a.parse().unwrap()).collect())).collect()
    }

    #[test]
    fn stand_ins_get_a_block_of_their_own_without_a_cache() {
        let text = with_stand_ins(KUBEADMS, &addresses(&[("a.org", &["172.18.0.3", "172.18.0.4"]), ("b.org", &["172.18.0.5"])]));
        let ours = &text[text.find(BEGIN).unwrap()..];
        assert!(text.starts_with(KUBEADMS));
        assert!(ours.contains("a.org:53 b.org:53 {"));
        assert!(ours.contains("172.18.0.3 a.org\n        172.18.0.4 a.org\n        172.18.0.5 b.org\n        ttl 1\n        fallthrough"));
        assert!(!ours.contains("cache"));
    }

    #[test]
    fn kubeadms_manifests_are_adapted() {
        let known = addresses(&[("a.org", &["1.1.1.1"])]);
        let map = adapt(json!({"kind": "ConfigMap", "data": {"Corefile": KUBEADMS}}), &known);
        assert!(map["data"]["Corefile"].as_str().unwrap().contains("1.1.1.1 a.org"));
        let deployment = json!({"kind": "Deployment", "spec": {"replicas": 2, "template": {"spec": {"containers": [{"readinessProbe": {"httpGet": {}}}]}}}});
        let deployment = adapt(deployment, &known);
        assert_eq!(deployment["spec"]["replicas"], 1);
        assert_eq!(
            deployment.pointer("/spec/template/spec/containers/0/readinessProbe"),
            Some(&json!({"httpGet": {}, "periodSeconds": 1}))
        );
        assert_eq!(adapt(json!({"kind": "Service"}), &known), json!({"kind": "Service"}));
    }

    #[test]
    fn a_second_time_replaces_the_first() {
        let once = with_stand_ins(KUBEADMS, &addresses(&[("a.org", &["1.1.1.1"])]));
        let twice = with_stand_ins(&once, &addresses(&[("b.org", &["2.2.2.2"])]));
        assert_eq!(twice.matches(BEGIN).count(), 1);
        assert!(!twice.contains("a.org"));
        assert_eq!(with_stand_ins(&twice, &Addresses::new()), KUBEADMS);
    }
}
