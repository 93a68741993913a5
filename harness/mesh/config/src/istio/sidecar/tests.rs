use serde_json::{Value, json};

use crate::istio::testing::{DATABASE, context, node};
use crate::{ProxyKind, ProxyResources};

fn resources(mesh: &str, documents: &str) -> ProxyResources {
    context(mesh, documents).resources(&node(ProxyKind::Sidecar))
}

fn entry(name: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n")
}

/// Conditions and cluster or kind of each filter chain.
fn chains(listener: &Value) -> Vec<(Value, String)> {
    let list = listener["filter_chains"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|chain| {
            let filter = &chain["filters"].as_array().and_then(|filters| filters.last()).cloned().unwrap_or_default();
            let what = filter["typed_config"]["cluster"].as_str().or(filter["name"].as_str()).unwrap_or_default().to_owned();
            (chain["filter_chain_match"].clone(), what)
        })
        .collect()
}

fn tcp_service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n")
}

#[test]
fn what_no_service_knows_goes_on_or_nowhere() {
    let catch_all = |mesh: &str, documents: &str| {
        let made = resources(mesh, documents);
        let of_http = made.listeners.get("0.0.0.0_80").expect("a listener");
        let default = of_http["default_filter_chain"]["filters"][0]["typed_config"]["cluster"].clone();
        let names = made.routes["80"]["virtual_hosts"].as_array().map(|hosts| hosts.last().cloned().unwrap_or_default());
        let outbound = chains(&made.listeners["virtualOutbound"]).pop().expect("a chain").1;
        (outbound, default, names.unwrap_or_default()["name"].clone())
    };
    let any = ("PassthroughCluster".to_owned(), json!("PassthroughCluster"), json!("allow_any"));
    let none = ("BlackHoleCluster".to_owned(), json!("BlackHoleCluster"), json!("block_all"));
    assert_eq!(catch_all("", DATABASE), any);
    assert_eq!(catch_all("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", DATABASE), none);
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: shop}\n\
         spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n";
    assert_eq!(catch_all("", &format!("{DATABASE}{sidecar}")), none);
}

#[test]
fn tcp_without_an_address_takes_its_port_and_with_a_network_that_network() {
    let made = resources("", &entry("a", "{hosts: [a.example], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS}"));
    assert_eq!(chains(&made.listeners["0.0.0.0_9000"]), [(Value::Null, "outbound|9000||a.example".to_owned())]);
    let spec = "{hosts: [a.example], addresses: [10.9.0.0/16], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: NONE}";
    let made = resources("", &entry("a", spec));
    let listener = &made.listeners["0.0.0.0_9000"];
    let matching = json!({"prefix_ranges": [{"address_prefix": "10.9.0.0", "prefix_len": 16}]});
    assert_eq!(chains(listener), [(matching, "outbound|9000||a.example".to_owned())]);
    assert_eq!(listener["default_filter_chain"]["name"], "PassthroughFilterChain");
}

#[test]
fn http_and_tcp_on_one_port_are_told_apart_by_looking() {
    let entries = [
        entry("a", "{hosts: [a.example], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS}"),
        entry("b", "{hosts: [b.example], ports: [{number: 9000, name: http, protocol: HTTP}], resolution: DNS}"),
        entry("c", "{hosts: [c.example], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS}"),
    ];
    let made = resources("", &entries.concat());
    let listener = &made.listeners["0.0.0.0_9000"];
    assert_eq!(listener["default_filter_chain"]["filters"][0]["typed_config"]["cluster"], "outbound|9000||a.example");
    let http = json!({"application_protocols": ["http/1.1", "h2c"], "transport_protocol": "raw_buffer"});
    assert_eq!(chains(listener), [(http, "envoy.filters.network.http_connection_manager".to_owned())]);
    assert_eq!(listener["listener_filters"][0]["name"], "envoy.filters.listener.http_inspector");
    assert!(made.routes.contains_key("9000"));
}

#[test]
fn a_protocol_that_is_not_said_is_looked_for_on_the_services_own_address() {
    let made = resources("", &tcp_service("plain", "{clusterIP: 10.1.0.9, ports: [{name: web, port: 7000}], selector: {app: x}}"));
    assert!(made.routes.contains_key("plain.shop.svc.cluster.local:7000"), "{:?}", made.routes.keys());
    let options = &made.clusters["outbound|7000||plain.shop.svc.cluster.local"]["typed_extension_protocol_options"];
    assert!(options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].get("use_downstream_protocol_config").is_some());
}

#[test]
fn pods_of_a_headless_service_are_listened_for_one_by_one() {
    let headless = DATABASE.replace("clusterIP: 10.1.0.1", "clusterIP: None").replace("name: http", "name: tcp");
    let made = resources("", &headless);
    assert!(made.listeners.contains_key("10.0.0.2_80") && !made.listeners.contains_key("0.0.0.0_80"), "{:?}", made.listeners.keys());
    assert_eq!(made.clusters["outbound|80||db.shop.svc.cluster.local"]["type"], "ORIGINAL_DST");
}

#[test]
fn a_sidecar_object_narrows_what_is_reached() {
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: shop}\n\
         spec: {workloadSelector: {labels: {app: web}}, egress: [{hosts: ['./a.example', 'other/*']}]}\n---\n";
    let entries = [
        entry("a", "{hosts: [a.example], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS}"),
        entry("b", "{hosts: [b.example], ports: [{number: 9001, name: tcp, protocol: TCP}], resolution: DNS}"),
    ];
    let made = resources("", &format!("{sidecar}{}", entries.concat()));
    assert!(made.clusters.contains_key("outbound|9000||a.example") && !made.clusters.contains_key("outbound|9001||b.example"));
    assert!(!made.listeners.contains_key("0.0.0.0_9001"));
}

#[test]
fn what_others_keep_for_themselves_is_not_there() {
    let spec = "{hosts: [a.example], ports: [{number: 9000, name: tcp, protocol: TCP}], resolution: DNS, exportTo: [.]}";
    let foreign = entry("a", spec).replace("namespace: shop", "namespace: other");
    assert!(!resources("", &foreign).clusters.contains_key("outbound|9000||a.example"));
    assert!(resources("", &entry("a", spec)).clusters.contains_key("outbound|9000||a.example"));
}

/// The inbound chains of port 8080 of a pod behind a Service, with a PeerAuthentication.
fn inbound(port_name: &str, peer: &str) -> Vec<(Value, bool)> {
    let service = format!("{{clusterIP: 10.1.0.9, ports: [{{name: {port_name}, port: 80, targetPort: 8080}}], selector: {{app: web}}}}");
    let peer = format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{app: web}}}}, {peer}}}\n"
    );
    let made = resources("", &format!("{}{peer}", tcp_service("web", &service)));
    let list = made.listeners["virtualInbound"]["filter_chains"].as_array().cloned().unwrap_or_default();
    let of_port = list.into_iter().filter(|chain| chain["filter_chain_match"]["destination_port"] == 8080);
    of_port.map(|chain| (chain["filter_chain_match"].clone(), chain.get("transport_socket").is_some())).collect()
}

#[test]
fn a_strict_port_takes_mutual_tls_alone() {
    let tls = json!({"destination_port": 8080, "transport_protocol": "tls"});
    let raw = json!({"destination_port": 8080, "transport_protocol": "raw_buffer"});
    assert_eq!(inbound("http", "mtls: {mode: STRICT}"), [(tls.clone(), true)]);
    assert_eq!(inbound("tcp", "mtls: {mode: STRICT}"), [(tls.clone(), true)]);
    assert_eq!(inbound("http", "mtls: {mode: DISABLE}"), [(raw.clone(), false)]);
    assert_eq!(inbound("http", "mtls: {mode: STRICT}, portLevelMtls: {'8080': {mode: DISABLE}}"), [(raw, false)]);
    let permissive = inbound("tcp", "mtls: {mode: PERMISSIVE}");
    assert_eq!(permissive.len(), 3);
    assert!(permissive.contains(&(tls, false)), "TLS that is not of the mesh goes on to the application");
}

#[test]
fn a_port_that_no_service_has_can_have_a_mode_of_its_own() {
    let peer = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n\
         spec: {selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {'9999': {mode: STRICT}}}\n";
    let made = resources("", peer);
    let of_port: Vec<_> =
        chains(&made.listeners["virtualInbound"]).into_iter().filter(|(matching, _)| matching["destination_port"] == 9999).collect();
    assert_eq!(of_port.len(), 2, "HTTP and bytes, both within mutual TLS");
    assert!(of_port.iter().all(|(matching, _)| matching["transport_protocol"] == "tls"));
    assert_eq!(of_port[1].1, "InboundPassthroughCluster");
}

#[test]
fn a_target_port_can_be_a_container_ports_name() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\n\
         spec: {containers: [{name: c, ports: [{name: h, containerPort: 8081}]}]}\nstatus: {podIP: 10.0.0.1}\n---\n";
    let service = tcp_service("web", "{clusterIP: 10.1.0.9, ports: [{name: http, port: 80, targetPort: h}], selector: {app: web}}");
    let made = resources("", &format!("{pod}{service}"));
    assert!(made.clusters.contains_key("inbound|8081||"), "{:?}", made.clusters.keys());
}

#[test]
fn a_sidecars_ingress_stands_for_all_that_services_say() {
    let service = tcp_service("web", "{selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}");
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: shop}\nspec:\n  ingress:\n\
         \x20 - {port: {number: 9080, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:80'}\n\
         \x20 - {port: {number: 9090, name: tcp, protocol: TCP}, defaultEndpoint: 'unix:///app'}\n\
         \x20 - {port: {number: 8080, name: http, protocol: HTTP}}\n";
    let made = resources("", &format!("{service}{sidecar}"));
    let leads = |port: u16| {
        let cluster = &made.clusters[&format!("inbound|{port}||")];
        let address = cluster.pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address").cloned();
        (cluster["type"].clone(), address, cluster.get("upstream_bind_config").is_some(), cluster.get("metadata").is_some())
    };
    let localhost = json!({"socket_address": {"address": "127.0.0.1", "port_value": 80}});
    assert_eq!(leads(9080), (json!("STATIC"), Some(localhost), false, false));
    assert_eq!(leads(9090), (json!("STATIC"), Some(json!({"pipe": {"path": "/app"}})), true, false));
    assert_eq!(leads(8080), (json!("ORIGINAL_DST"), None, true, true));
    let names = made.listeners["virtualInbound"]["filter_chains"].as_array().cloned().unwrap_or_default();
    assert!(names.iter().any(|chain| chain["name"] == "10.0.0.1_9080"), "{names:?}");
}

#[test]
fn an_endpoint_that_a_service_entry_lists_may_be_the_pod_itself() {
    let spec = "{hosts: [a.example], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {http: 7070}}], \
         ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, targetPort: 7071, name: tcp, protocol: TCP}]}";
    let made = resources("", &entry("a", spec));
    let inbound: Vec<&str> = made.clusters.keys().map(String::as_str).filter(|name| name.starts_with("inbound|")).collect();
    assert_eq!(inbound, ["inbound|7070||", "inbound|7071||"]);
    let elsewhere = resources("", &entry("a", &spec.replace("10.0.0.1", "10.0.0.2")));
    assert!(!elsewhere.clusters.keys().any(|name| name.starts_with("inbound|")));
}

#[test]
fn the_mesh_may_send_what_comes_in_to_localhost() {
    let service = tcp_service("web", "{selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}");
    let made = resources("inboundTrafficPolicy: {mode: LOCALHOST}", &service);
    let cluster = &made.clusters["inbound|8080||"];
    let address = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
    assert_eq!(address, &json!({"socket_address": {"address": "127.0.0.1", "port_value": 8080}}));
    assert_eq!((&cluster["type"], cluster.get("upstream_bind_config")), (&json!("STATIC"), None));
}

#[test]
fn networks_that_differ_beyond_their_prefix_are_one() {
    let spec = |host: &str, network: &str| {
        format!("{{hosts: [{host}], addresses: [{network}], ports: [{{number: 9000, name: tcp, protocol: TCP}}]}}")
    };
    let two = entry("a", &spec("a.example", "10.9.1.1/16")) + &entry("b", &spec("b.example", "10.9.2.2/16"));
    let matching = json!({"prefix_ranges": [{"address_prefix": "10.9.1.1", "prefix_len": 16}]});
    assert_eq!(chains(&resources("", &two).listeners["0.0.0.0_9000"]), [(matching, "outbound|9000||a.example".to_owned())]);
}
