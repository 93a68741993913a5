use serde_json::{Value, json};

use crate::istio::testing::{DATABASE, context, node};
use crate::{ProxyKind, ProxyResources};

const DB: &str = "outbound|80||db.shop.svc.cluster.local";

fn resources(kind: ProxyKind, documents: &str) -> ProxyResources {
    context("", documents).resources(&node(kind))
}

fn with(more: &str) -> ProxyResources {
    resources(ProxyKind::Sidecar, &format!("{DATABASE}{more}"))
}

fn rule(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: db, namespace: shop}}\nspec: {{host: db, {policy}}}\n---\n"
    )
}

fn entry(spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: out, namespace: shop}}\nspec: {spec}\n---\n")
}

/// Address, health and TLS of each endpoint of a cluster.
fn endpoints(resources: &ProxyResources, cluster: &str) -> Vec<(String, String, bool)> {
    let assignment = resources.endpoints.get(cluster).expect("an assignment");
    let localities = assignment["endpoints"].as_array().cloned().unwrap_or_default();
    let all = localities.iter().flat_map(|locality| locality["lb_endpoints"].as_array().cloned().unwrap_or_default());
    all.map(|endpoint| {
        let address = &endpoint["endpoint"]["address"]["socket_address"];
        let mutual = endpoint["metadata"]["filter_metadata"]["envoy.transport_socket_match"]["tlsMode"] == "istio";
        let text = format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"]);
        (text, endpoint["health_status"].as_str().unwrap_or_default().to_owned(), mutual)
    })
    .collect()
}

#[test]
fn endpoints_say_their_health_and_whether_a_sidecar_takes_tls() {
    let found = endpoints(&with(""), DB);
    let wanted = [("10.0.0.2:8080", "HEALTHY", true), ("10.0.0.3:8080", "UNHEALTHY", false)];
    assert_eq!(found, wanted.map(|(address, health, mutual)| (address.to_owned(), health.to_owned(), mutual)));
}

#[test]
fn a_subset_has_the_endpoints_with_its_labels() {
    let made = with(&rule("subsets: [{name: two, labels: {v: two}}]"));
    let found = endpoints(&made, "outbound|80|two|db.shop.svc.cluster.local");
    assert_eq!(found.iter().map(|(address, ..)| address.as_str()).collect::<Vec<_>>(), ["10.0.0.3:8080"]);
}

#[test]
fn a_rule_turns_mutual_tls_off_or_on_for_all_endpoints() {
    let made = with(&rule("trafficPolicy: {tls: {mode: DISABLE}}"));
    let cluster = &made.clusters[DB];
    assert!(cluster.get("transport_socket").is_none() && cluster.get("transport_socket_matches").is_none());
    assert!(endpoints(&made, DB).iter().all(|(.., mutual)| !mutual));
    let made = with(&rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: other.example}}"));
    let context = &made.clusters[DB]["transport_socket"]["typed_config"];
    assert_eq!(context["sni"], "other.example");
    assert_eq!(
        context["common_tls_context"]["combined_validation_context"]["default_validation_context"],
        json!({"match_subject_alt_names": [{"exact": "spiffe://cluster.local/ns/shop/sa/db"}]})
    );
}

#[test]
fn a_namespace_without_mutual_tls_gets_plaintext() {
    let made = with(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: off, namespace: shop}\nspec: {mtls: {mode: DISABLE}}\n",
    );
    assert!(made.clusters[DB].get("transport_socket_matches").is_none());
    assert!(endpoints(&made, DB).iter().all(|(.., mutual)| !mutual));
}

#[test]
fn tls_to_an_external_host_is_validated_unless_told_otherwise() {
    let entry =
        entry("{hosts: [db], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, subjectAltNames: [other.example]}");
    let made = |policy: &str| {
        let documents = format!("{entry}{}", rule(&format!("trafficPolicy: {{tls: {policy}}}")).replace("host: db", "host: '*'"));
        let cluster = resources(ProxyKind::Router, &documents).clusters["outbound|80||db"].clone();
        (cluster["transport_socket"]["typed_config"].clone(), cluster["typed_extension_protocol_options"].clone())
    };
    let (context, options) = made("{mode: SIMPLE}");
    let validation = &context["common_tls_context"]["combined_validation_context"];
    assert_eq!(validation["validation_context_sds_secret_config"]["name"], "file-root:system");
    assert_eq!(validation["default_validation_context"], json!({"match_subject_alt_names": [{"exact": "other.example"}]}));
    let options = &options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    assert_eq!(options["upstream_http_protocol_options"], json!({"auto_sni": true, "auto_san_validation": true}));
    assert_eq!(options["explicit_http_config"], json!({"http_protocol_options": {}}));

    let (context, _) = made("{mode: SIMPLE, sni: a.example, insecureSkipVerify: true}");
    assert_eq!(context["sni"], "a.example");
    assert_eq!(context["common_tls_context"]["validation_context"], json!({}));
    assert!(context["common_tls_context"].get("combined_validation_context").is_none());

    let (context, _) = made("{mode: MUTUAL, credentialName: client}");
    let common = &context["common_tls_context"];
    assert_eq!(common["tls_certificate_sds_secret_configs"][0]["name"], "kubernetes://client");
    assert_eq!(common["combined_validation_context"]["validation_context_sds_secret_config"]["name"], "kubernetes://client-cacert");
    let (context, _) = made("{mode: MUTUAL}");
    assert_eq!(context, Value::Null, "without a certificate there is no TLS");
}

#[test]
fn limits_and_outliers_are_those_of_the_port() {
    let made = with(&rule(
        "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}, portLevelSettings: [{port: {number: 80}, \
         connectionPool: {tcp: {maxConnections: 2, connectTimeout: 500ms}, http: {http1MaxPendingRequests: 3, maxRequestsPerConnection: 4}}, \
         outlierDetection: {consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}, \
         loadBalancer: {simple: ROUND_ROBIN}}]}",
    ));
    let cluster = &made.clusters[DB];
    let limits = &cluster["circuit_breakers"]["thresholds"][0];
    assert_eq!(
        (&limits["max_connections"], &limits["max_pending_requests"], &limits["max_requests"]),
        (&json!(2), &json!(3), &json!(u32::MAX))
    );
    assert_eq!(cluster["connect_timeout"], "0.500s");
    assert_eq!(
        cluster["outlier_detection"],
        json!({"consecutive_5xx": 5, "enforcing_consecutive_5xx": 100, "enforcing_success_rate": 0, "interval": "1s",
            "base_ejection_time": "180s", "max_ejection_percent": 100})
    );
    assert!(cluster.get("lb_policy").is_none(), "round robin is Envoy's default");
    let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    assert_eq!(options["common_http_protocol_options"], json!({"max_requests_per_connection": 4}));
}

#[test]
fn a_service_entry_is_resolved_as_it_says() {
    let ports = "ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]";
    let kind = |proxy: ProxyKind, resolution: &str, more: &str| {
        let documents = entry(&format!("{{hosts: [a.example], {ports}, resolution: {resolution}{more}}}"));
        let made = resources(proxy, &documents);
        made.clusters.get("outbound|443||a.example").map(|cluster| (**cluster).clone())
    };
    let none = kind(ProxyKind::Sidecar, "NONE", "").expect("a cluster");
    assert_eq!((&none["type"], &none["lb_policy"]), (&json!("ORIGINAL_DST"), &json!("CLUSTER_PROVIDED")));
    assert_eq!(none["original_dst_lb_config"], json!({"upstream_port_override": 8443}));
    assert_eq!(kind(ProxyKind::Router, "NONE", "").expect("a cluster")["type"], "EDS");
    let fixed = kind(ProxyKind::Sidecar, "STATIC", ", endpoints: [{address: 1.2.3.4}]").expect("a cluster");
    assert_eq!(fixed["type"], "EDS");
    let named = kind(ProxyKind::Sidecar, "DNS", ", endpoints: [{address: b.example, ports: {tls: 9443}}]").expect("a cluster");
    let address = &named["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
    assert_eq!(address, &json!({"address": "b.example", "port_value": 9443}));
    assert!(named.get("transport_socket_matches").is_none(), "nobody outside takes the mesh's certificates");
}

#[test]
fn a_service_entry_selects_pods() {
    let documents = format!(
        "{DATABASE}{}",
        entry(
            "{hosts: [in.example], location: MESH_INTERNAL, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], \
               resolution: STATIC, workloadSelector: {labels: {v: one}}}"
        )
    );
    let found = endpoints(&resources(ProxyKind::Sidecar, &documents), "outbound|80||in.example");
    assert_eq!(found.iter().map(|(address, _, mutual)| (address.as_str(), *mutual)).collect::<Vec<_>>(), [("10.0.0.2:8080", true)]);
}

#[test]
fn a_gateway_that_passes_mutual_tls_on_has_clusters_named_by_sni() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: shop}\n\
         spec: {selector: {app: web}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}]}\n";
    let made = resources(ProxyKind::Router, &format!("{DATABASE}{gateway}"));
    let name = "outbound_.80_._.db.shop.svc.cluster.local";
    assert!(made.clusters[name].get("transport_socket_matches").is_none());
    assert_eq!(endpoints(&made, name).len(), 1, "endpoints without a sidecar could not end the TLS");
}

#[test]
fn namespaces_that_discovery_leaves_out_are_not_known() {
    let namespace =
        |labels: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n---\n{DATABASE}");
    let mesh = "discoverySelectors: [{matchLabels: {mesh: 'on'}}]";
    let knows = |labels: &str| context(mesh, &namespace(labels)).resources(&node(ProxyKind::Sidecar)).clusters.contains_key(DB);
    assert!(knows("mesh: 'on'") && !knows("mesh: 'off'"));
}
