//! One cluster of one port of a service, or of one of its subsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::tls;
use super::traffic_policy::{self, Policy};
use crate::istio::endpoints::{self, Selection};
use crate::istio::locality::Failover;
use crate::istio::model::{
    DestinationRule, Protocol, PushContext, Registry, Resolution, Service, ServicePort, Subset, TargetPort, object, sni_name,
};
use crate::istio::policy::{PeerMode, peer_mode};
use crate::istio::route::ProtoDuration;
use crate::{ProxyKind, ProxyNode};

/// The type of a cluster.
pub(super) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Under which name a cluster has its HTTP options.
pub(super) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Their type.
pub(super) const HTTP_OPTIONS_TYPE: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What a cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// Connections and requests of this proxy's own routes.
    Normal,
    /// Mutual TLS that a gateway passes on by its SNI.
    SniDnat,
}

/// What a cluster depends on of the proxy that it is for, so that proxies alike in this can share what was made for one of them.
/// Only where endpoints are called by how near they are does it depend on more ([`Builder::is_for_one_proxy`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// Sidecar or gateway.
    pub(super) kind: ProxyKind,
    /// Whether its address is one of IPv4.
    pub(super) is_ipv4: bool,
}

impl Client {
    /// As this proxy.
    pub(super) fn of(node: &ProxyNode) -> Client {
        Client { kind: node.kind, is_ipv4: node.ip.is_ipv4() }
    }
}

/// A port of a service as one proxy calls it.
pub(super) struct Builder<'a> {
    pub(super) context: &'a PushContext,
    pub(super) client: Client,
    /// For how near endpoints are, and nothing else.
    pub(super) node: &'a ProxyNode,
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) rule: Option<&'a DestinationRule>,
    pub(super) identities: &'a [String],
}

/// `connectTimeout` of the mesh.
pub(super) fn connect_timeout(context: &PushContext) -> String {
    ProtoDuration::parse(&context.mesh.connect_timeout).map(|time| time.to_string()).unwrap_or_else(|| "10s".to_owned())
}

/// How Istio's telemetry names a service.
pub(super) fn service_metadata(service: &Service) -> Value {
    json!({"host": service.host, "name": service.name, "namespace": service.namespace})
}

impl Builder<'_> {
    /// The cluster and, if it is of type EDS, its endpoints. None if it would have no place to go to by DNS.
    pub(super) fn build(&self, name: &str, subset: Option<&Subset>, mode: Mode) -> Option<(Value, Option<Arc<Value>>)> {
        let policy = self.policy(subset);
        let mut cluster = Map::new();
        let mut options = Map::new();
        cluster.insert("@type".to_owned(), json!(CLUSTER));
        cluster.insert("name".to_owned(), json!(name));
        cluster.insert("alt_stat_name".to_owned(), json!(format!("{name};")));
        cluster.insert("connect_timeout".to_owned(), json!(connect_timeout(self.context)));
        let kind = if mode == Mode::SniDnat { "EDS" } else { self.discovery() };
        cluster.insert("type".to_owned(), json!(kind));
        if matches!(kind, "STRICT_DNS" | "LOGICAL_DNS") {
            self.resolve(name, subset, &policy, kind, &mut cluster)?;
        }
        let is_entry = self.service.registry == Registry::External && kind == "ORIGINAL_DST";
        if let TargetPort::Number(target) = self.port.target
            && is_entry
            && target != self.port.number
        {
            cluster.insert("original_dst_lb_config".to_owned(), json!({"upstream_port_override": target}));
        }
        self.speak(&mut options);
        self.apply(&policy, &mut cluster, &mut options);
        if mode == Mode::Normal {
            let subset_name = subset.map_or("", |subset| subset.name.as_str());
            self.secure(&policy, subset, &sni_name(self.port.number, subset_name, &self.service.host), &mut cluster, &mut options);
        }
        cluster.insert("metadata".to_owned(), json!({"filter_metadata": {"istio": self.metadata(&policy, subset)}}));
        if !options.is_empty() {
            // Envoy wants a choice of protocol beside any of these; Istio's is HTTP/1.1 (`clusterWrapper.build`).
            if !options.contains_key("explicit_http_config") && !options.contains_key("use_downstream_protocol_config") {
                options.insert("explicit_http_config".to_owned(), json!({"http_protocol_options": {}}));
            }
            options.insert("@type".to_owned(), json!(HTTP_OPTIONS_TYPE));
            cluster.insert("typed_extension_protocol_options".to_owned(), json!({HTTP_OPTIONS: options}));
        }
        let is_eds = cluster.get("type").and_then(Value::as_str) == Some("EDS");
        let endpoints = is_eds.then(|| {
            let eds = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
            cluster.insert("eds_cluster_config".to_owned(), json!({"eds_config": eds, "service_name": name}));
            // What is passed on as mutual TLS can only go where that is taken.
            let endpoints = self.context.endpoints_of(self.service, self.port).iter();
            let endpoints = endpoints.filter(|endpoint| mode == Mode::Normal || endpoint.has_sidecar);
            let failover = self.failover(&policy);
            endpoints::assignment(self.context, name, endpoints, selection(subset.map(|subset| &subset.labels), &policy, failover.as_ref()))
        });
        Some((Value::Object(cluster), endpoints))
    }

    fn policy(&self, subset: Option<&Subset>) -> Policy {
        let rule_policy = self.rule.and_then(|rule| rule.traffic_policy.as_ref());
        Policy::of(rule_policy, subset.and_then(|subset| subset.traffic_policy.as_ref()), self.port.number)
    }

    /// Whether the cluster depends on where the proxy is and on its labels. That takes outlier detection, which only a rule brings.
    pub(super) fn is_for_one_proxy(&self, subset: Option<&Subset>) -> bool {
        self.rule.is_some() && self.failover(&self.policy(subset)).is_some()
    }

    /// How Envoy finds the endpoints (Istio: `convertResolution`).
    fn discovery(&self) -> &'static str {
        match self.service.resolution {
            Resolution::Dns => "STRICT_DNS",
            Resolution::DnsRoundRobin => "LOGICAL_DNS",
            // A gateway has no original destination.
            Resolution::Passthrough if self.client.kind == ProxyKind::Sidecar => "ORIGINAL_DST",
            _ => "EDS",
        }
    }

    fn resolve(&self, name: &str, subset: Option<&Subset>, policy: &Policy, kind: &str, cluster: &mut Map<String, Value>) -> Option<()> {
        let endpoints = self.context.endpoints_of(self.service, self.port).iter();
        let endpoints = endpoints.filter(|endpoint| subset.is_none_or(|subset| object::selects(&subset.labels, &endpoint.labels)));
        // By `LOGICAL_DNS` Envoy takes one name; Istio keeps the first.
        let endpoints = endpoints.take(if kind == "LOGICAL_DNS" { 1 } else { usize::MAX });
        let failover = self.failover(policy);
        let localities = endpoints::localities(self.context, endpoints, selection(None, policy, failover.as_ref()));
        if localities.is_empty() {
            return None;
        }
        let family = if self.client.is_ipv4 { "V4_ONLY" } else { "V6_ONLY" };
        let refresh =
            ProtoDuration::parse(&self.context.mesh.dns_refresh_rate).map(|time| time.to_string()).unwrap_or_else(|| "60s".to_owned());
        for (field, value) in [
            ("load_assignment", json!({"cluster_name": name, "endpoints": localities})),
            ("dns_jitter", json!("0.100s")),
            ("dns_lookup_family", json!(family)),
            ("dns_refresh_rate", json!(refresh)),
            ("respect_dns_ttl", json!(true)),
            (
                "typed_dns_resolver_config",
                json!({"name": "envoy.network.dns_resolver.cares", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                    "udp_max_queries": 100,
                }}),
            ),
        ] {
            cluster.insert(field.to_owned(), value);
        }
        Some(())
    }

    fn failover<'p>(&'p self, policy: &'p Policy) -> Option<Failover<'p>> {
        Failover::of(self.context, self.node, policy.balancer.as_ref(), policy.outliers.is_some())
    }

    /// Which HTTP the endpoints get (Istio: `setUpstreamProtocol`).
    fn speak(&self, options: &mut Map<String, Value>) {
        if self.port.protocol.is_http2() {
            traffic_policy::use_http2(options);
        } else if self.port.protocol == Protocol::Auto && self.client.kind == ProxyKind::Sidecar {
            traffic_policy::use_downstream_protocol(options);
        }
    }

    fn apply(&self, policy: &Policy, cluster: &mut Map<String, Value>, options: &mut Map<String, Value>) {
        let mesh_upgrades = object::text(&self.context.mesh.raw, "/h2UpgradePolicy") == "UPGRADE";
        if traffic_policy::upgrades_to_http2(policy.pool.as_ref(), self.port.protocol.is_http(), mesh_upgrades) {
            options.remove("use_downstream_protocol_config");
            traffic_policy::use_http2(options);
        }
        traffic_policy::apply_pool(cluster, options, policy.pool.as_ref());
        if let Some(outliers) = &policy.outliers {
            cluster.insert("outlier_detection".to_owned(), traffic_policy::outliers(outliers));
        }
        // Set even when it is 0: otherwise Envoy would call endpoints that are not ready when half of them are not.
        let percent = policy.min_health_percent();
        let threshold = if percent == 0 { json!({}) } else { json!({"value": percent}) };
        let mut balancing = json!({"healthy_panic_threshold": threshold});
        if self.failover(policy).is_some_and(|failover| failover.is_said()) {
            balancing["locality_weighted_lb_config"] = json!({});
        }
        cluster.insert("common_lb_config".to_owned(), balancing);
        traffic_policy::apply_balancer(cluster, policy.balancer.as_ref());
    }

    /// Writes the transport socket (Istio: `buildUpstreamTLSSettings`, `applyUpstreamTLSSettings`).
    fn secure(
        &self,
        policy: &Policy,
        subset: Option<&Subset>,
        default_sni: &str,
        cluster: &mut Map<String, Value>,
        options: &mut Map<String, Value>,
    ) {
        let is_http2 = options.contains_key("explicit_http_config");
        let Some(settings) = &policy.tls else {
            let is_elsewhere = cluster.get("type").and_then(Value::as_str) == Some("ORIGINAL_DST");
            if self.takes_auto_mutual(policy, subset) {
                let mutual = tls::mutual_of_mesh(self.identities, default_sni, is_http2);
                if is_elsewhere {
                    cluster.insert("transport_socket".to_owned(), mutual);
                } else {
                    cluster.insert("transport_socket_matches".to_owned(), tls::by_endpoint(mutual));
                }
            }
            return;
        };
        let socket = match policy.tls_mode() {
            Some("ISTIO_MUTUAL") => {
                let said: Vec<String> = object::texts(settings, "/subjectAltNames").into_iter().map(str::to_owned).collect();
                let identities = if said.is_empty() { self.identities } else { &said };
                let sni = object::text(settings, "/sni");
                Some(tls::mutual_of_mesh(identities, if sni.is_empty() { default_sni } else { sni }, is_http2))
            }
            Some(mode @ ("SIMPLE" | "MUTUAL")) => self.originate(settings, mode == "MUTUAL", is_http2, options),
            _ => None,
        };
        if let Some(socket) = socket {
            cluster.insert("transport_socket".to_owned(), socket);
        }
    }

    fn originate(&self, settings: &Value, is_mutual: bool, is_http2: bool, options: &mut Map<String, Value>) -> Option<Value> {
        let credential = object::text(settings, "/credentialName");
        let has_selector = self.rule.is_some_and(|rule| rule.clients.is_some());
        // A sidecar gets Secrets only by a rule that selects it, since every client would get them otherwise.
        if self.client.kind == ProxyKind::Sidecar && !credential.is_empty() && !credential.starts_with("configmap://") && !has_selector {
            return None;
        }
        let external = if self.service.registry == Registry::External { self.service.subject_alt_names.as_slice() } else { &[] };
        let originated = tls::originate(settings, is_mutual, external, is_http2)?;
        let mut automatic = Map::new();
        if originated.auto_sni {
            automatic.insert("auto_sni".to_owned(), json!(true));
        }
        if originated.auto_san_validation {
            automatic.insert("auto_san_validation".to_owned(), json!(true));
        }
        if !automatic.is_empty() {
            options.insert("upstream_http_protocol_options".to_owned(), Value::Object(automatic));
        }
        Some(originated.socket)
    }

    /// Whether endpoints with a sidecar get mutual TLS without a DestinationRule that says so
    /// (Istio: `BestEffortInferServiceMTLSMode`).
    fn takes_auto_mutual(&self, policy: &Policy, subset: Option<&Subset>) -> bool {
        if self.service.external || !self.context.mesh.auto_mtls {
            return false;
        }
        let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
        let own_passes = own.is_some_and(|own| object::text(own, "/loadBalancer/simple") == "PASSTHROUGH");
        let passes = self.service.resolution == Resolution::Passthrough
            || own_passes
            || (subset.is_none() && policy.simple_balancer() == "PASSTHROUGH");
        if passes {
            let endpoints = self.context.endpoints_of(self.service, self.port);
            if endpoints.is_empty() || endpoints.iter().any(|endpoint| !endpoint.has_sidecar) {
                return false;
            }
        }
        peer_mode(self.context, &self.service.namespace, &BTreeMap::new(), 0) != PeerMode::Disable
    }

    fn metadata(&self, policy: &Policy, subset: Option<&Subset>) -> Value {
        let mut fields = Map::new();
        fields.insert("services".to_owned(), json!([service_metadata(self.service)]));
        if self.service.external {
            fields.insert("external".to_owned(), json!(true));
        }
        if let Some(rule) = self.rule {
            fields.insert("config".to_owned(), json!(rule_path(rule)));
            if matches!(policy.tls_mode(), Some("SIMPLE" | "MUTUAL")) {
                fields.insert("alpn_override".to_owned(), json!("false"));
            }
        }
        if let Some(subset) = subset {
            // A subset of an external service is not marked as such.
            fields.remove("external");
            fields.insert("subset".to_owned(), json!(subset.name));
        }
        Value::Object(fields)
    }
}

/// How Istio writes a rule into a cluster's metadata.
pub(super) fn rule_path(rule: &DestinationRule) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/{}/destination-rule/{}", rule.namespace, rule.name)
}

fn selection<'a>(labels: Option<&'a BTreeMap<String, String>>, policy: &Policy, failover: Option<&'a Failover<'a>>) -> Selection<'a> {
    let said_mutual = policy.tls_mode().map(|mode| mode == "ISTIO_MUTUAL");
    Selection { labels, said_mutual, with_unready: policy.min_health_percent() == 0, failover }
}
