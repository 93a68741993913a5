//! Pods without a proxy where one was expected to log the call, or to lead it.

use super::call::Call;
use super::configured::Configured;
use super::names::text;
use super::{Cause, Layer, Place, gateway};
use crate::names::Namespaced;
use crate::outcome::CallSeen;
use crate::scenario::{CallExpect, KubeObject};

/// The label, or the older annotation, by which a pod says whether it wants a sidecar; the label is read first.
/// Source: istio/istio `pkg/kube/inject/inject.go`, `injectRequired`.
const INJECT: &str = "sidecar.istio.io~1inject";

/// The first proxy of the path that logged nothing is one that is not there.
pub(super) fn first_missing(c: &Configured, call: &Call, expect: &CallExpect, seen: &CallSeen) -> Option<Cause> {
    let first = expect.path.iter().map(|hop| &hop.proxy).find(|proxy| !logged(seen, proxy))?;
    lacking(c, first).or_else(|| uncaptured(c, call, first, seen))
}

/// Any proxy that was to log something, or whose log was to be shown to be without the call, is not there.
pub(super) fn any_missing(c: &Configured, expect: &CallExpect, seen: &CallSeen) -> Option<Cause> {
    let silent = expect.path.iter().map(|hop| &hop.proxy).filter(|proxy| !logged(seen, proxy));
    let unshown = |proxy: &&Namespaced| seen.absences.iter().any(|a| a.proxy == **proxy && a.shown_by.is_none());
    silent.chain(expect.absent_from.iter().filter(unshown)).find_map(|proxy| lacking(c, proxy))
}

fn logged(seen: &CallSeen, proxy: &Namespaced) -> bool {
    seen.hops.iter().any(|hop| hop.proxy == *proxy)
}

/// Whether a workload is known to have pods, and all of them to be without a proxy.
fn is_without(c: &Configured, workload: &Namespaced) -> bool {
    c.knows("", "Pod") && c.has_proxy(workload) == Some(false)
}

/// That a workload has no proxy, and why.
fn lacking(c: &Configured, workload: &Namespaced) -> Option<Cause> {
    is_without(c, workload).then(|| told(c, workload, "so no proxy logs its calls")).flatten()
}

/// A caller without a sidecar, that was to be led to a gateway and connects to something else itself.
fn uncaptured(c: &Configured, call: &Call, wanted: &Namespaced, seen: &CallSeen) -> Option<Cause> {
    let caller = call.caller.as_ref()?;
    if !(seen.hops.is_empty() && call.gateway.is_none() && c.is_gateway(wanted) && is_without(c, caller)) {
        return None;
    }
    let host = c.full_name(call.connects_to.as_deref().unwrap_or(&call.host), &caller.namespace);
    if gateway::behind(c, &host, call.port).is_some() {
        return None;
    }
    told(c, caller, &format!("so nothing leads its call to {wanted}"))
}

fn told(c: &Configured, workload: &Namespaced, so: &str) -> Option<Cause> {
    let deployment = c.find("apps", "Deployment", &workload.namespace, &workload.name)?;
    let head = format!("{workload} has no istio-proxy container, {so}");
    let (why, place) = why(c, deployment, workload);
    let text = if why.is_empty() { head } else { format!("{head}: {why}") };
    Some(Cause::at(Layer::Proxy, text, Some(place)))
}

/// Why the pods got none, and where that stands.
fn why(c: &Configured, deployment: &KubeObject, workload: &Namespaced) -> (String, Place) {
    for part in ["labels", "annotations"] {
        if let Some(said) = text(&deployment.value, &format!("/spec/template/metadata/{part}/{INJECT}")) {
            let place = Place::new(deployment, format!("spec.template.metadata.{part}[sidecar.istio.io/inject]"));
            // The webhook takes nothing but these two for a label; an annotation is read as YAML's words for yes and no.
            if said == "true" {
                let why =
                    "its pod template says sidecar.istio.io/inject: \"true\", so no injector took its pods, or they are older than that";
                return (why.to_owned(), place);
            }
            return (format!("its pod template says sidecar.istio.io/inject: {said:?}"), place);
        }
    }
    if deployment.value.pointer("/spec/template/spec/hostNetwork").and_then(serde_json::Value::as_bool) == Some(true) {
        let place = Place::new(deployment, "spec.template.spec.hostNetwork");
        return ("pods on the node's network are not injected".to_owned(), place);
    }
    let home = &workload.namespace;
    let found = c.all("", "Namespace").find(|namespace| namespace.key.name == *home).filter(|_| c.knows("", "Namespace"));
    let Some(namespace) = found else { return (String::new(), Place::new(deployment, "spec.template.metadata")) };
    let label = |key: &str| text(&namespace.value, &format!("/metadata/labels/{key}"));
    // Source: istio/istio `manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml`.
    let why = match (label("istio-injection"), label("istio.io~1rev")) {
        (None, None) => format!("Namespace {home} lacks the label istio-injection=enabled (or istio.io/rev)"),
        (Some(other), _) if other != "enabled" => format!("Namespace {home} says istio-injection={other}, which is not `enabled`"),
        (injection, revision) => {
            let label =
                injection.map_or_else(|| format!("istio.io/rev={}", revision.unwrap_or_default()), |v| format!("istio-injection={v}"));
            format!("Namespace {home} has {label} now, so its pods are older than that, or no injector took them")
        }
    };
    (why, Place::new(namespace, "metadata.labels"))
}
