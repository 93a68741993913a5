//! The resources of Kubernetes, Istio and the Gateway API.
//!
//! Sources: `kubectl api-resources` of Kubernetes 1.34; Istio `manifests/charts/base/files/crd-all.gen.yaml`; Gateway API
//! `config/crd/{standard,experimental}`.

use super::Resource;

/// What one row of the table says, one letter each.
const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const SCALE: u8 = 4;
/// Counts generations.
const COUNTED: u8 = 8;
/// Answered, never kept.
const VIRTUAL: u8 = 16;

/// Group, versions, flags; then the kinds: kind, plural, short names, further flags.
type Row = (&'static str, &'static str, &'static str, u8);

const CORE: &[Row] = &[
    ("Namespace", "namespaces", "ns", STATUS),
    ("Node", "nodes", "no", STATUS),
    ("PersistentVolume", "persistentvolumes", "pv", STATUS),
    ("Pod", "pods", "po", NAMESPACED | STATUS | COUNTED),
    ("Service", "services", "svc", NAMESPACED | STATUS),
    ("Endpoints", "endpoints", "ep", NAMESPACED),
    ("ConfigMap", "configmaps", "cm", NAMESPACED),
    ("Secret", "secrets", "", NAMESPACED),
    ("ServiceAccount", "serviceaccounts", "sa", NAMESPACED),
    ("Event", "events", "ev", NAMESPACED),
    ("PersistentVolumeClaim", "persistentvolumeclaims", "pvc", NAMESPACED | STATUS),
    ("LimitRange", "limitranges", "limits", NAMESPACED),
    ("ResourceQuota", "resourcequotas", "quota", NAMESPACED | STATUS),
    ("ReplicationController", "replicationcontrollers", "rc", NAMESPACED | STATUS | SCALE | COUNTED),
    ("PodTemplate", "podtemplates", "", NAMESPACED | COUNTED),
];
const APPS: &[Row] = &[
    ("Deployment", "deployments", "deploy", NAMESPACED | STATUS | SCALE | COUNTED),
    ("ReplicaSet", "replicasets", "rs", NAMESPACED | STATUS | SCALE | COUNTED),
    ("StatefulSet", "statefulsets", "sts", NAMESPACED | STATUS | SCALE | COUNTED),
    ("DaemonSet", "daemonsets", "ds", NAMESPACED | STATUS | COUNTED),
    ("ControllerRevision", "controllerrevisions", "", NAMESPACED),
];
const BATCH: &[Row] = &[("Job", "jobs", "", NAMESPACED | STATUS | COUNTED), ("CronJob", "cronjobs", "cj", NAMESPACED | STATUS | COUNTED)];
const DISCOVERY: &[Row] = &[("EndpointSlice", "endpointslices", "", NAMESPACED | COUNTED)];
const RBAC: &[Row] = &[
    ("ClusterRole", "clusterroles", "", 0),
    ("ClusterRoleBinding", "clusterrolebindings", "", 0),
    ("Role", "roles", "", NAMESPACED),
    ("RoleBinding", "rolebindings", "", NAMESPACED),
];
const AUTOSCALING: &[Row] = &[("HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", NAMESPACED | STATUS)];
const POLICY: &[Row] = &[("PodDisruptionBudget", "poddisruptionbudgets", "pdb", NAMESPACED | STATUS | COUNTED)];
const COORDINATION: &[Row] = &[("Lease", "leases", "", NAMESPACED)];
const EXTENSIONS: &[Row] = &[("CustomResourceDefinition", "customresourcedefinitions", "crd,crds", STATUS | COUNTED)];
const KUBERNETES_NETWORKING: &[Row] = &[
    ("Ingress", "ingresses", "ing", NAMESPACED | STATUS | COUNTED),
    ("IngressClass", "ingressclasses", "", COUNTED),
    ("NetworkPolicy", "networkpolicies", "netpol", NAMESPACED | COUNTED),
];
const STORAGE: &[Row] = &[("StorageClass", "storageclasses", "sc", 0)];
const SCHEDULING: &[Row] = &[("PriorityClass", "priorityclasses", "pc", COUNTED)];
const AUTHORIZATION: &[Row] = &[
    ("SelfSubjectAccessReview", "selfsubjectaccessreviews", "", VIRTUAL),
    ("SelfSubjectRulesReview", "selfsubjectrulesreviews", "", VIRTUAL),
    ("SubjectAccessReview", "subjectaccessreviews", "", VIRTUAL),
];
const AUTHENTICATION: &[Row] = &[("TokenReview", "tokenreviews", "", VIRTUAL)];
const ADMISSION: &[Row] = &[
    ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "", COUNTED),
    ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "", COUNTED),
    ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", "", STATUS | COUNTED),
    ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "", COUNTED),
];

/// Namespaced, with status, counted: what nearly every custom resource is.
const CUSTOM: u8 = NAMESPACED | STATUS | COUNTED;
const CUSTOM_OF_CLUSTER: u8 = STATUS | COUNTED;

const ISTIO_NETWORKING: &[Row] = &[
    ("DestinationRule", "destinationrules", "dr", CUSTOM),
    ("Gateway", "gateways", "gw", CUSTOM),
    ("ServiceEntry", "serviceentries", "se", CUSTOM),
    ("Sidecar", "sidecars", "", CUSTOM),
    ("VirtualService", "virtualservices", "vs", CUSTOM),
    ("WorkloadEntry", "workloadentries", "we", CUSTOM),
    ("WorkloadGroup", "workloadgroups", "wg", CUSTOM),
];
const ENVOY_FILTER: &[Row] = &[("EnvoyFilter", "envoyfilters", "", CUSTOM)];
const PROXY_CONFIG: &[Row] = &[("ProxyConfig", "proxyconfigs", "", CUSTOM)];
const ISTIO_SECURITY: &[Row] = &[
    ("AuthorizationPolicy", "authorizationpolicies", "ap", CUSTOM),
    ("PeerAuthentication", "peerauthentications", "pa", CUSTOM),
    ("RequestAuthentication", "requestauthentications", "ra", CUSTOM),
];
const ISTIO_TELEMETRY: &[Row] = &[("Telemetry", "telemetries", "telemetry", CUSTOM)];
const ISTIO_EXTENSIONS: &[Row] = &[("WasmPlugin", "wasmplugins", "", CUSTOM)];
const GATEWAY_CLASS: &[Row] = &[("GatewayClass", "gatewayclasses", "gc", CUSTOM_OF_CLUSTER)];
const GATEWAY: &[Row] = &[("Gateway", "gateways", "gtw", CUSTOM), ("HTTPRoute", "httproutes", "", CUSTOM)];
const GRPC_ROUTE: &[Row] = &[("GRPCRoute", "grpcroutes", "", CUSTOM)];
const REFERENCE_GRANT: &[Row] = &[("ReferenceGrant", "referencegrants", "refgrant", NAMESPACED | COUNTED)];
const TLS_ROUTE: &[Row] = &[("TLSRoute", "tlsroutes", "", CUSTOM)];
const TCP_ROUTE: &[Row] = &[("TCPRoute", "tcproutes", "", CUSTOM), ("UDPRoute", "udproutes", "", CUSTOM)];
const BACKEND_TLS: &[Row] = &[("BackendTLSPolicy", "backendtlspolicies", "btlspolicy", CUSTOM)];
const LISTENER_SET: &[Row] = &[("ListenerSet", "listenersets", "lset", CUSTOM)];

/// Group, versions (the preferred first), rows, category.
const GROUPS: &[(&str, &[&str], &[Row], &str)] = &[
    ("", &["v1"], CORE, ""),
    ("apps", &["v1"], APPS, "all"),
    ("batch", &["v1"], BATCH, "all"),
    ("discovery.k8s.io", &["v1"], DISCOVERY, ""),
    ("rbac.authorization.k8s.io", &["v1"], RBAC, ""),
    ("autoscaling", &["v2"], AUTOSCALING, "all"),
    ("policy", &["v1"], POLICY, ""),
    ("coordination.k8s.io", &["v1"], COORDINATION, ""),
    ("apiextensions.k8s.io", &["v1"], EXTENSIONS, "api-extensions"),
    ("networking.k8s.io", &["v1"], KUBERNETES_NETWORKING, ""),
    ("storage.k8s.io", &["v1"], STORAGE, ""),
    ("scheduling.k8s.io", &["v1"], SCHEDULING, ""),
    ("authorization.k8s.io", &["v1"], AUTHORIZATION, ""),
    ("authentication.k8s.io", &["v1"], AUTHENTICATION, ""),
    ("admissionregistration.k8s.io", &["v1"], ADMISSION, "api-extensions"),
    ("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], ISTIO_NETWORKING, "istio-io"),
    ("networking.istio.io", &["v1alpha3"], ENVOY_FILTER, "istio-io"),
    ("networking.istio.io", &["v1beta1"], PROXY_CONFIG, "istio-io"),
    ("security.istio.io", &["v1", "v1beta1"], ISTIO_SECURITY, "istio-io"),
    ("telemetry.istio.io", &["v1", "v1alpha1"], ISTIO_TELEMETRY, "istio-io"),
    ("extensions.istio.io", &["v1alpha1"], ISTIO_EXTENSIONS, "istio-io"),
    ("gateway.networking.k8s.io", &["v1", "v1beta1"], GATEWAY_CLASS, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1", "v1beta1"], GATEWAY, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1"], GRPC_ROUTE, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1", "v1beta1"], REFERENCE_GRANT, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1", "v1alpha3", "v1alpha2"], TLS_ROUTE, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1", "v1alpha2"], TCP_ROUTE, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1", "v1alpha3"], BACKEND_TLS, "gateway-api"),
    ("gateway.networking.k8s.io", &["v1"], LISTENER_SET, "gateway-api"),
];

pub(super) fn resources() -> Vec<Resource> {
    let mut all = Vec::new();
    for (group, versions, rows, category) in GROUPS {
        for (kind, plural, short, flags) in *rows {
            let has = |flag: u8| flags & flag != 0;
            let subresources: &[&str] = match *plural {
                "pods" if group.is_empty() => &["attach", "binding", "eviction", "exec", "log", "portforward", "proxy"],
                "services" if group.is_empty() => &["proxy"],
                "namespaces" if group.is_empty() => &["finalize"],
                _ => &[],
            };
            all.push(Resource {
                group: (*group).to_owned(),
                versions: versions.iter().map(|v| (*v).to_owned()).collect(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                singular: kind.to_lowercase(),
                short_names: short.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
                categories: if category.is_empty() { Vec::new() } else { vec![(*category).to_owned()] },
                namespaced: has(NAMESPACED),
                status: has(STATUS),
                scale: has(SCALE),
                generation: has(COUNTED),
                virtual_only: has(VIRTUAL),
                subresources: subresources.iter().map(|s| (*s).to_owned()).collect(),
                custom: false,
            });
        }
    }
    all
}
