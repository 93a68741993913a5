//! Namespaces, their pods, and annotations.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Findings, Level, containers, full_name, go_list};
use crate::istio::model::object;

/// Annotations that Istio knows (istio/api: `annotation/annotations.yaml`), by the domain that they share.
const ANNOTATIONS: &[(&str, &[&str])] = &[
    ("alpha.istio.io", &["canonical-serviceaccounts", "kubernetes-serviceaccounts"]),
    ("ambient.istio.io", &["bypass-inbound-capture", "dns-capture", "redirection", "waypoint-inbound-binding"]),
    ("galley.istio.io", &["analyze-suppress"]),
    ("gateway.istio.io", &["controller-version", "name-override", "service-account"]),
    ("inject.istio.io", &["templates"]),
    (
        "istio.io",
        &[
            "autoRegistrationGroup",
            "connectedAt",
            "disconnectedAt",
            "dry-run",
            "reroute-virtual-interfaces",
            "rev",
            "use-waypoint-canary-weight",
            "workloadController",
        ],
    ),
    ("networking.istio.io", &["exportTo", "service-type", "traffic-distribution"]),
    ("prometheus.istio.io", &["merge-metrics"]),
    ("proxy.istio.io", &["config", "overrides"]),
    ("readiness.status.sidecar.istio.io", &["applicationPorts", "failureThreshold", "initialDelaySeconds", "periodSeconds"]),
    (
        "sidecar.istio.io",
        &[
            "agentLogLevel",
            "bootstrapOverride",
            "componentLogLevel",
            "discoveryAddress",
            "extraStatTags",
            "inject",
            "interceptionMode",
            "logLevel",
            "nativeSidecar",
            "proxyCPU",
            "proxyCPULimit",
            "proxyImage",
            "proxyImageType",
            "proxyMemory",
            "proxyMemoryLimit",
            "rewriteAppHTTPProbers",
            "statsCompression",
            "statsEvictionInterval",
            "statsFlushInterval",
            "statsHistogramBins",
            "statsHistogramBuckets",
            "statsInclusionPrefixes",
            "statsInclusionRegexps",
            "statsInclusionSuffixes",
            "status",
            "userVolume",
            "userVolumeMount",
        ],
    ),
    ("status.sidecar.istio.io", &["port"]),
    ("topology.istio.io", &["controlPlaneClusters"]),
    ("traffic.istio.io", &["nodeSelector"]),
    (
        "traffic.sidecar.istio.io",
        &[
            "excludeInboundPorts",
            "excludeInterfaces",
            "excludeOutboundIPRanges",
            "excludeOutboundPorts",
            "includeInboundPorts",
            "includeOutboundIPRanges",
            "includeOutboundPorts",
            "kubevirtInterfaces",
        ],
    ),
];

pub(super) fn analyze(findings: &mut Findings) {
    for object in findings.objects.kinds(&["Namespace", "Service", "Pod", "Deployment"]) {
        annotations(&object, findings);
    }
    let mut injected = BTreeSet::new();
    for namespace in findings.objects.of("Namespace") {
        let name = object::name(&namespace);
        if name == findings.objects.root_namespace {
            continue;
        }
        let labels = object::labels(&namespace);
        let injection = labels.get("istio-injection").map(String::as_str);
        let mut asked: Vec<String> = injection.map(|value| format!("istio-injection={value}")).into_iter().collect();
        for label in ["istio.io/rev", "istio.io/dataplane-mode"] {
            if let Some(value) = labels.get(label).filter(|_| matches!(injection, None | Some("enabled"))) {
                asked.push(format!("{label}={value}"));
            }
        }
        if asked.len() > 1 {
            let why = "which may lead to undefined behavior. Make sure only one injection label exists.";
            let text = format!("The namespace has more than one type of injection labels {}, {why}", go_list(&asked));
            findings.add("IST0123", Level::Warning, &namespace, text);
        }
        if labels.get("istio.io/dataplane-mode").map(String::as_str) == Some("ambient") {
            continue;
        }
        if injection.unwrap_or_default().is_empty() && !labels.contains_key("istio.io/rev") {
            let text = format!(
                "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} istio-injection=enabled' to enable \
                 it, or 'kubectl label namespace {name} istio-injection=disabled' to explicitly mark it as not needing injection."
            );
            findings.add("IST0102", Level::Info, &namespace, text);
        } else if injection == Some("enabled") {
            injected.insert(name.to_owned());
        }
    }
    for pod in findings.objects.of("Pod").iter().filter(|pod| injected.contains(object::namespace(pod))) {
        let label = object::labels(pod).get("sidecar.istio.io/inject").cloned();
        let wish = label.unwrap_or_else(|| object::annotation(pod, "sidecar.istio.io/inject").to_owned());
        if wish.eq_ignore_ascii_case("false") || object::flag(pod, "/spec/hostNetwork") {
            continue;
        }
        let is_proxy = |container: &Value| object::text(container, "/name") == "istio-proxy";
        if !containers(object::spec(pod)).any(is_proxy) {
            let name = full_name(pod);
            let hint = "This can often be resolved by restarting or redeploying the workload.";
            findings.add("IST0103", Level::Warning, pod, format!("The pod {name} is missing the Istio proxy. {hint}"));
        }
    }
}

fn annotations(object: &Value, findings: &mut Findings) {
    let all = object.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    for (key, _) in all {
        let (domain, name) = key.split_once('/').unwrap_or((key, ""));
        let is_known = ANNOTATIONS.iter().any(|(known, names)| *known == domain && names.contains(&name));
        if domain.ends_with("istio.io") && !is_known {
            findings.add("IST0108", Level::Warning, object, format!("Unknown annotation: {key}"));
        }
    }
}
