//! Sidecar injection: what istiod's webhook does to a pod that is made.
//!
//! Sources: Istio `pkg/kube/inject` (`inject.go`, `webhook.go`), `manifests/charts/istio-control/istio-discovery/files`
//! (`injection-template.yaml`, `gateway-injection-template.yaml`), and pods of a real cluster.

use serde_json::{Value, json};

use super::view::{annotation, label, list, put, text, texts};
use crate::api::{Admission, AdmissionRequest, Denial, Operation, Reviewed};

const STATUS: &str = "sidecar.istio.io/status";
const INJECT: &str = "sidecar.istio.io/inject";
const TEMPLATES: &str = "inject.istio.io/templates";
/// The mount of a service account's token.
pub(super) const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Source: Istio `pkg/kube/inject/inject.go`, `IgnoredNamespaces`.
const IGNORED: &[&str] = &["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What is injected.
#[derive(Debug, Clone)]
pub struct InjectionSettings {
    /// The image of `istio-init` and `istio-proxy`.
    pub proxy_image: String,
    /// The revision of the control plane.
    pub revision: String,
    /// The DNS suffix of Services.
    pub domain: String,
    /// Where istiod runs.
    pub root_namespace: String,
    /// The mesh's default proxy configuration, as JSON.
    pub proxy_config: String,
}

impl Default for InjectionSettings {
    fn default() -> Self {
        Self {
            proxy_image: "docker.io/istio/proxyv2:simulated".to_owned(),
            revision: "default".to_owned(),
            domain: "cluster.local".to_owned(),
            root_namespace: "istio-system".to_owned(),
            proxy_config: "{}".to_owned(),
        }
    }
}

/// Injects into pods as they are made.
#[derive(Debug, Clone, Default)]
pub struct Injector {
    settings: InjectionSettings,
}

impl Injector {
    /// With these settings.
    #[must_use]
    pub fn new(settings: InjectionSettings) -> Self {
        Self { settings }
    }
}

impl Admission for Injector {
    fn review(&self, request: &AdmissionRequest<'_>) -> Result<Reviewed, Denial> {
        if request.operation != Operation::Create || request.resource.kind != "Pod" || !request.resource.group.is_empty() {
            return Ok(Reviewed::default());
        }
        let mut pod = request.object.clone();
        let home = request.store.get("Namespace", "", request.namespace);
        if home.as_ref().is_some_and(|ns| is_wanted(&pod, ns, &self.settings)) {
            inject(&mut pod, request.namespace, &self.settings);
            return Ok(Reviewed { object: Some(pod), ..Reviewed::default() });
        }
        Ok(Reviewed::default())
    }
}

/// Whether a pod of this namespace is to be injected.
#[must_use]
pub fn is_wanted(pod: &Value, namespace: &Value, settings: &InjectionSettings) -> bool {
    if pod["spec"]["hostNetwork"] == true || annotation(pod, STATUS).is_some() || IGNORED.contains(&text(namespace, "/metadata/name")) {
        return false;
    }
    let own = label(pod, INJECT).or_else(|| annotation(pod, INJECT));
    if own == Some("false") {
        return false;
    }
    let revision = label(namespace, "istio.io/rev");
    match (label(namespace, "istio-injection"), revision) {
        (Some("enabled"), _) => settings.revision == "default" || revision == Some(&settings.revision),
        (Some(_), _) => false,
        (None, Some(revision)) => revision == settings.revision,
        (None, None) => match label(pod, "istio.io/rev") {
            Some(revision) => revision == settings.revision,
            None => label(pod, INJECT) == Some("true") && settings.revision == "default",
        },
    }
}

/// Puts the proxy into a pod: beside the application, or with the gateway template in the place of its container.
pub fn inject(pod: &mut Value, namespace: &str, settings: &InjectionSettings) {
    let templates = annotation(pod, TEMPLATES).unwrap_or("sidecar").to_owned();
    let is_gateway = templates.split(',').any(|t| t.trim() == "gateway");
    let containers: Vec<Value> = list(pod, "/spec/containers").to_vec();
    let (added_init, added) = if is_gateway {
        let replaced: Vec<Value> =
            containers.iter().map(|c| if text(c, "/name") == "istio-proxy" { gateway(c, settings) } else { c.clone() }).collect();
        put(pod, &["spec", "containers"], json!(replaced));
        (Value::Null, json!(["istio-proxy"]))
    } else {
        beside(pod, namespace, &containers, settings)
    };
    let mut volumes = proxy_volumes(is_gateway);
    let names: Vec<Value> = volumes.iter().map(|v| v["name"].clone()).collect();
    volumes.extend(list(pod, "/spec/volumes").iter().filter(|v| !names.contains(&v["name"])).cloned());
    put(pod, &["spec", "volumes"], json!(volumes));
    labels(pod, is_gateway);
    let status = format!(
        "{{\"initContainers\":{added_init},\"containers\":{added},\"volumes\":{},\"imagePullSecrets\":null,\"revision\":{:?}}}",
        Value::from(names),
        settings.revision
    );
    let annotations = [
        ("istio.io/rev", settings.revision.as_str()),
        ("prometheus.io/path", "/stats/prometheus"),
        ("prometheus.io/port", "15020"),
        ("prometheus.io/scrape", "true"),
        (STATUS, status.as_str()),
    ];
    for (key, value) in annotations {
        put(pod, &["metadata", "annotations", key], json!(value));
    }
}

fn labels(pod: &mut Value, is_gateway: bool) {
    let have = texts(pod, "/metadata/labels");
    let get = |key: &str| have.get(key).filter(|v| !v.is_empty()).cloned();
    let name = get("service.istio.io/canonical-name").or_else(|| get("app.kubernetes.io/name")).or_else(|| get("app"));
    let name = name.unwrap_or_else(|| workload_name(pod));
    let version = get("service.istio.io/canonical-revision").or_else(|| get("app.kubernetes.io/version")).or_else(|| get("version"));
    put(pod, &["metadata", "labels", "service.istio.io/canonical-name"], json!(name));
    put(pod, &["metadata", "labels", "service.istio.io/canonical-revision"], json!(version.unwrap_or_else(|| "latest".to_owned())));
    if !is_gateway && get("security.istio.io/tlsMode").is_none() {
        put(pod, &["metadata", "labels", "security.istio.io/tlsMode"], json!("istio"));
    }
}

/// The Deployment of a ReplicaSet's pod, else the owner, else the pod.
fn workload_name(pod: &Value) -> String {
    let owner = list(pod, "/metadata/ownerReferences").iter().find(|o| o["controller"] == true);
    let Some(owner) = owner else { return text(pod, "/metadata/name").to_owned() };
    let name = text(owner, "/name");
    match label(pod, "pod-template-hash").and_then(|hash| name.strip_suffix(&format!("-{hash}"))) {
        Some(deployment) if text(owner, "/kind") == "ReplicaSet" => deployment.to_owned(),
        _ => name.to_owned(),
    }
}

fn proxy_volumes(is_gateway: bool) -> Vec<Value> {
    let mut volumes = vec![
        json!({"emptyDir": {}, "name": "workload-socket"}),
        json!({"emptyDir": {}, "name": "credential-socket"}),
        json!({"emptyDir": {}, "name": "workload-certs"}),
        json!({"emptyDir": {"medium": "Memory"}, "name": "istio-envoy"}),
        json!({"emptyDir": {}, "name": "istio-data"}),
        json!({"name": "istio-podinfo", "downwardAPI": {"defaultMode": 420, "items": [
            {"path": "labels", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}},
            {"path": "annotations", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.annotations"}}]}}),
        json!({"name": "istio-token", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}}]}}),
        json!({"name": "istiod-ca-cert", "configMap": {"defaultMode": 420, "name": "istio-ca-root-cert"}}),
    ];
    if !is_gateway {
        volumes.push(json!({"name": "istio-ca-crl", "configMap": {"defaultMode": 420, "name": "istio-ca-crl", "optional": true}}));
    }
    volumes
}

fn proxy_mounts(is_gateway: bool) -> Vec<Value> {
    let mut mounts = vec![
        ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
        ("credential-socket", "/var/run/secrets/credential-uds"),
        ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
        ("istiod-ca-cert", "/var/run/secrets/istio"),
    ];
    if !is_gateway {
        mounts.push(("istio-ca-crl", "/var/run/secrets/istio/crl"));
    }
    mounts.extend([
        ("istio-data", "/var/lib/istio/data"),
        ("istio-envoy", "/etc/istio/proxy"),
        ("istio-token", "/var/run/secrets/tokens"),
        ("istio-podinfo", "/etc/istio/pod"),
    ]);
    mounts.iter().map(|(name, path)| json!({"name": name, "mountPath": path})).collect()
}

fn readiness() -> Value {
    json!({"failureThreshold": 4, "httpGet": {"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"}, "periodSeconds": 1,
        "successThreshold": 1, "timeoutSeconds": 3})
}

fn security(uid: i64, privileged_network: bool) -> Value {
    let capabilities =
        if privileged_network { json!({"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}) } else { json!({"drop": ["ALL"]}) };
    json!({"allowPrivilegeEscalation": false, "capabilities": capabilities, "privileged": false, "readOnlyRootFilesystem": !privileged_network,
        "runAsGroup": uid, "runAsNonRoot": uid != 0, "runAsUser": uid})
}

fn arguments(role: &str, settings: &InjectionSettings) -> Value {
    json!([
        "proxy",
        role,
        "--domain",
        format!("$(POD_NAMESPACE).svc.{}", settings.domain),
        "--proxyLogLevel=warning",
        "--proxyComponentLogLevel=misc:error",
        "--log_output_level=default:info"
    ])
}

fn environment(app_containers: &[Value], settings: &InjectionSettings) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let ports: Vec<Value> = app_containers.iter().flat_map(|c| list(c, "/ports")).cloned().collect();
    let names: Vec<&str> = app_containers.iter().map(|c| text(c, "/name")).collect();
    vec![
        value("PILOT_CERT_PROVIDER", "istiod"),
        value("CA_ADDR", &format!("istiod.{}.svc:15012", settings.root_namespace)),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        value("PROXY_CONFIG", &settings.proxy_config),
        value("ISTIO_META_POD_PORTS", &Value::from(ports).to_string()),
        value("ISTIO_META_APP_CONTAINERS", &names.join(",")),
        value("ISTIO_META_CLUSTER_ID", "Kubernetes"),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        value("TRUST_DOMAIN", "cluster.local"),
    ]
}

fn gateway(container: &Value, settings: &InjectionSettings) -> Value {
    let mut out = container.clone();
    let set = |out: &mut Value, key: &str, value: Value| put(out, &[key], value);
    if ["", "auto"].contains(&text(container, "/image")) {
        set(&mut out, "image", json!(settings.proxy_image));
    }
    set(&mut out, "args", arguments("router", settings));
    let mut env = environment(&[], settings);
    let own = list(container, "/env");
    env.retain(|e| !own.iter().any(|o| o["name"] == e["name"]));
    env.extend(own.iter().cloned());
    set(&mut out, "env", json!(env));
    if container.get("readinessProbe").is_none() {
        set(&mut out, "readinessProbe", readiness());
    }
    let mut ports = list(container, "/ports").to_vec();
    if !ports.iter().any(|p| p["containerPort"] == 15090) {
        ports.push(json!({"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}));
    }
    set(&mut out, "ports", json!(ports));
    let mut security = security(1337, false);
    if let (Some(all), Some(own)) = (security.as_object_mut(), container["securityContext"].as_object()) {
        all.extend(own.clone());
    }
    set(&mut out, "securityContext", security);
    let mut mounts = proxy_mounts(true);
    mounts.extend(list(container, "/volumeMounts").iter().cloned());
    set(&mut out, "volumeMounts", json!(mounts));
    out
}

/// `istio-init` and `istio-proxy`, a sidecar of Kubernetes' own kind, before all other init containers.
fn beside(pod: &mut Value, namespace: &str, containers: &[Value], settings: &InjectionSettings) -> (Value, Value) {
    let get = |key: &str| annotation(pod, key).map(str::to_owned);
    let or = |key: &str, default: &str| get(key).unwrap_or_else(|| default.to_owned());
    let excluded_in = match get("traffic.sidecar.istio.io/excludeInboundPorts") {
        Some(own) if !own.is_empty() => format!("15090,15021,15020,{own}"),
        _ => "15090,15021,15020".to_owned(),
    };
    let mut rules = vec![
        "istio-iptables".to_owned(),
        "-p".to_owned(),
        "15001".to_owned(),
        "-z".to_owned(),
        "15006".to_owned(),
        "-u".to_owned(),
        "1337".to_owned(),
        "-m".to_owned(),
        or("sidecar.istio.io/interceptionMode", "REDIRECT"),
        "-i".to_owned(),
        or("traffic.sidecar.istio.io/includeOutboundIPRanges", "*"),
        "-x".to_owned(),
        or("traffic.sidecar.istio.io/excludeOutboundIPRanges", ""),
        "-b".to_owned(),
        or("traffic.sidecar.istio.io/includeInboundPorts", "*"),
        "-d".to_owned(),
        excluded_in,
    ];
    if let Some(ports) = get("traffic.sidecar.istio.io/excludeOutboundPorts").filter(|p| !p.is_empty()) {
        rules.extend(["-o".to_owned(), ports]);
    }
    rules.push("--log_output_level=default:info".to_owned());
    let resources = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "10m", "memory": "64Mi"}});
    let image = get("sidecar.istio.io/proxyImage").unwrap_or_else(|| settings.proxy_image.clone());
    let init = json!({"name": "istio-init", "image": image, "args": rules, "resources": resources, "securityContext": security(0, true)});
    let (rewritten, probers) = rewrite_probes(containers, get("sidecar.istio.io/rewriteAppHTTPProbers").as_deref() != Some("false"));
    let workload = workload_name(pod);
    let mut env = environment(containers, settings);
    env.extend([
        json!({"name": "ISTIO_META_INTERCEPTION_MODE", "value": or("sidecar.istio.io/interceptionMode", "REDIRECT")}),
        json!({"name": "ISTIO_META_WORKLOAD_NAME", "value": workload}),
        json!({"name": "ISTIO_META_OWNER", "value": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}")}),
        json!({"name": "ISTIO_META_MESH_ID", "value": "cluster.local"}),
    ]);
    if !probers.is_empty() {
        env.push(json!({"name": "ISTIO_KUBE_APP_PROBERS", "value": Value::from(probers).to_string()}));
    }
    let mut startup = readiness();
    put(&mut startup, &["failureThreshold"], json!(600));
    let proxy = json!({"name": "istio-proxy", "image": image, "args": arguments("sidecar", settings), "env": env,
        "lifecycle": {"preStop": {"exec": {"command": ["pilot-agent", "request", "--debug-port=15020", "POST", "drain"]}}},
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "readinessProbe": readiness(), "startupProbe": startup, "resources": resources, "restartPolicy": "Always",
        "securityContext": security(1337, false), "volumeMounts": proxy_mounts(false)});
    let mut all = vec![init, proxy];
    all.extend(list(pod, "/spec/initContainers").iter().cloned());
    let first = containers.first().map(|c| text(c, "/name").to_owned()).unwrap_or_default();
    for key in ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"] {
        if annotation(pod, key).is_none() {
            put(pod, &["metadata", "annotations", key], json!(first));
        }
    }
    put(pod, &["spec", "initContainers"], json!(all));
    put(pod, &["spec", "containers"], json!(rewritten));
    (json!(["istio-init", "istio-proxy"]), Value::Null)
}

/// HTTP and TCP probes go to the agent, which asks the application past the proxy.
/// Source: Istio `pkg/kube/inject/app_probe.go`.
fn rewrite_probes(containers: &[Value], enabled: bool) -> (Vec<Value>, serde_json::Map<String, Value>) {
    let mut probers = serde_json::Map::new();
    let mut out = containers.to_vec();
    if !enabled {
        return (out, probers);
    }
    for container in &mut out {
        let name = text(container, "/name").to_owned();
        for (kind, path) in [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")] {
            let probe = container[kind].clone();
            let how = ["httpGet", "tcpSocket"].iter().find(|how| probe.get(**how).is_some_and(Value::is_object));
            let Some(how) = how else { continue };
            let at = format!("/app-health/{name}/{path}");
            let mut target = probe[*how].clone();
            if let Some(number) = target["port"].as_str().and_then(|wanted| {
                let found = list(container, "/ports").iter().find(|p| text(p, "/name") == wanted)?;
                found["containerPort"].as_i64()
            }) {
                put(&mut target, &["port"], json!(number));
            }
            probers.insert(at.clone(), json!({*how: target, "timeoutSeconds": probe["timeoutSeconds"].as_i64().unwrap_or(1)}));
            let mut rewritten = probe;
            if let Some(map) = rewritten.as_object_mut() {
                map.remove("tcpSocket");
            }
            put(&mut rewritten, &["httpGet"], json!({"path": at, "port": 15020, "scheme": "HTTP"}));
            put(container, &[kind], rewritten);
        }
    }
    (out, probers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> InjectionSettings {
        InjectionSettings::default()
    }

    fn home(labels: Value) -> Value {
        json!({"metadata": {"name": "shop", "labels": labels}})
    }

    fn pod(labels: Value) -> Value {
        json!({"metadata": {"name": "p", "labels": labels}, "spec": {"containers": [{"name": "app", "image": "go-httpbin",
            "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": {"httpGet": {"path": "/x", "port": "http"}, "timeoutSeconds": 1}}]}})
    }

    #[test]
    fn the_namespace_asks_and_the_pod_may_refuse() {
        let enabled = home(json!({"istio-injection": "enabled"}));
        let wanted = |pod: &Value, home: &Value| is_wanted(pod, home, &settings());
        assert!(wanted(&pod(json!({})), &enabled));
        assert!(!wanted(&pod(json!({"sidecar.istio.io/inject": "false"})), &enabled));
        assert!(!wanted(&pod(json!({})), &home(json!({}))));
        assert!(wanted(&pod(json!({"sidecar.istio.io/inject": "true"})), &home(json!({}))));
        assert!(!wanted(&pod(json!({"sidecar.istio.io/inject": "true"})), &home(json!({"istio-injection": "disabled"}))));
        assert!(wanted(&pod(json!({})), &home(json!({"istio.io/rev": "default"}))));
        assert!(!wanted(&pod(json!({})), &home(json!({"istio.io/rev": "canary"}))));
    }

    #[test]
    fn the_sidecar_is_an_init_container_that_stays_and_probes_go_through_the_agent() {
        let mut pod = pod(json!({"app": "web", "version": "v1"}));
        inject(&mut pod, "shop", &settings());
        let names: Vec<&str> = list(&pod, "/spec/initContainers").iter().map(|c| text(c, "/name")).collect();
        assert_eq!(names, ["istio-init", "istio-proxy"]);
        assert_eq!(pod["spec"]["initContainers"][1]["restartPolicy"], "Always");
        assert_eq!(
            pod["spec"]["containers"][0]["readinessProbe"]["httpGet"],
            json!({"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP"})
        );
        let env = list(&pod, "/spec/initContainers/1/env");
        let probers = env.iter().find(|e| e["name"] == "ISTIO_KUBE_APP_PROBERS").unwrap();
        assert_eq!(probers["value"], r#"{"/app-health/app/readyz":{"httpGet":{"path":"/x","port":8080},"timeoutSeconds":1}}"#);
        assert_eq!(label(&pod, "service.istio.io/canonical-revision"), Some("v1"));
        assert_eq!(label(&pod, "security.istio.io/tlsMode"), Some("istio"));
        let status: Value = serde_json::from_str(annotation(&pod, STATUS).unwrap()).unwrap();
        assert_eq!(status["initContainers"], json!(["istio-init", "istio-proxy"]));
        assert!(!is_wanted(&pod, &home(json!({"istio-injection": "enabled"})), &settings()), "once is enough");
    }

    #[test]
    fn a_gateway_takes_the_place_of_its_container() {
        let mut pod = json!({"metadata": {"labels": {"app": "gw"}, "annotations": {"inject.istio.io/templates": "gateway"}},
            "spec": {"containers": [{"name": "istio-proxy", "image": "auto", "securityContext": {"runAsNonRoot": true}}]}});
        inject(&mut pod, "edge", &settings());
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["image"], settings().proxy_image);
        assert_eq!(container["args"][1], "router");
        assert_eq!(container["readinessProbe"]["httpGet"]["port"], 15021);
        assert!(pod["spec"].get("initContainers").is_none());
        assert_eq!(label(&pod, "security.istio.io/tlsMode"), None);
    }
}
