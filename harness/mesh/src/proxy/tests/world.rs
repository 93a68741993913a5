//! Hosts, certificates, resources and callers for tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateproof_mesh_config::{ProxyKind, ProxyNode, ProxyResources, Secret};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::super::{Identity, Interception, Proxy, Refusal, Settings, Setup};
use crate::net::{Bind, Caller, Conn, Host, Network};

/// Istio's default format.
pub(super) const FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A CA.
pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for DNS names and URIs, with its key.
    pub(super) fn issue(&self, names: &[&str]) -> (String, String) {
        let mut params = CertificateParams::default();
        let san = |name: &&str| match name.contains("://") {
            true => SanType::URI((*name).try_into().expect("a URI")),
            false => SanType::DnsName((*name).try_into().expect("a name")),
        };
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names.iter().map(san).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    pub(super) fn identity(&self, account: &str) -> Identity {
        let (chain_pem, key_pem) = self.issue(&[&format!("spiffe://cluster.local/ns/shop/sa/{account}")]);
        Identity { chain_pem, key_pem, root_pem: self.pem() }
    }

    pub(super) fn secret(&self, names: &[&str]) -> Arc<Secret> {
        let (chain_pem, key_pem) = self.issue(names);
        Arc::new(Secret { chain_pem, key_pem, ca_pem: String::new() })
    }
}

/// A proxy on a host, with what it logs.
pub(super) struct Side {
    pub(super) host: Host,
    pub(super) proxy: Proxy,
    pub(super) identity: watch::Sender<Option<Identity>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Side {
    pub(super) fn new(network: &Network, address: &str, identity: Option<Identity>, interception: Option<Interception>) -> Self {
        let settings = Settings {
            drain_time: Duration::from_millis(300),
            log_flush_delay: Duration::from_millis(2),
            initial_fetch_timeout: Duration::from_millis(150),
            ..Settings::default()
        };
        let host = network.add(ip(address)).expect("a free address");
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, names) = (log.clone(), network.names().clone());
        let (sender, identity) = watch::channel(identity);
        let proxy = Proxy::start(Setup {
            host: host.clone(),
            resolve: Arc::new(move |name| names.resolve(name)),
            log: Arc::new(move |line| lines.lock().unwrap().push(line.to_owned())),
            identity,
            node: ProxyNode {
                kind: ProxyKind::Router,
                pod: "gateway-0".to_owned(),
                namespace: "shop".to_owned(),
                ip: ip(address),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                service_account: "gateway".to_owned(),
                container_ports: Vec::new(),
            },
            interception,
            settings,
            seed: 7,
        });
        Self { host, proxy, identity: sender, log }
    }

    /// Gives it resources that it must take.
    pub(super) fn give(&self, resources: &Resources) {
        assert_eq!(self.try_give(resources), []);
    }

    pub(super) fn try_give(&self, resources: &Resources) -> Vec<Refusal> {
        self.proxy.update(&Arc::new(resources.0.clone()))
    }

    /// The lines of the access log, once there are so many, without time and durations.
    pub(super) async fn lines(&self, n: usize) -> Vec<String> {
        for _ in 0..400 {
            let lines = self.log.lock().unwrap().clone();
            if lines.len() >= n {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("fewer than {n} lines: {:#?}", self.log.lock().unwrap());
    }

    /// The only line.
    pub(super) async fn line(&self) -> String {
        let lines = self.lines(1).await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    }

    /// What its admin interface answers.
    pub(super) async fn admin(&self, path: &str) -> (u16, String) {
        let conn = self.host.connect_loopback(15000).expect("the admin interface");
        let (status, _, body) = get(conn, "localhost", path, &[]).await.expect("an answer");
        (status, body)
    }

    pub(super) async fn dump(&self) -> Value {
        serde_json::from_str(&self.admin("/config_dump?include_eds").await.1).expect("JSON")
    }
}

/// Resources, put together.
#[derive(Clone, Default)]
pub(super) struct Resources(pub(super) ProxyResources);

impl Resources {
    pub(super) fn listener(mut self, name: &str, port: u16, chains: Value) -> Self {
        self.0.listeners.insert(name.to_owned(), Arc::new(listener(name, port, chains)));
        self
    }

    pub(super) fn raw_listener(mut self, listener: Value) -> Self {
        self.0.listeners.insert(listener["name"].as_str().unwrap().to_owned(), Arc::new(listener));
        self
    }

    pub(super) fn cluster(mut self, cluster: Value) -> Self {
        self.0.clusters.insert(cluster["name"].as_str().unwrap().to_owned(), Arc::new(cluster));
        self
    }

    pub(super) fn routes(mut self, name: &str, routes: Value) -> Self {
        let table = json!({"name": name, "virtual_hosts": [{"name": "web.example:80", "domains": ["web.example"], "routes": routes, "include_request_attempt_count": true}],
            "validate_clusters": false, "ignore_port_in_host_matching": true});
        self.0.routes.insert(name.to_owned(), Arc::new(table));
        self
    }

    pub(super) fn secret(mut self, name: &str, secret: Arc<Secret>) -> Self {
        self.0.secrets.insert(name.to_owned(), secret);
        self
    }
}

pub(super) fn access_log() -> Value {
    json!([{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/stdout", "log_format": {"text_format_source": {"inline_string": FORMAT}}}}])
}

/// A gateway's listener, which logs connections that no chain takes.
pub(super) fn listener(name: &str, port: u16, chains: Value) -> Value {
    let mut log = access_log();
    log[0]["filter"] = json!({"response_flag_filter": {"flags": ["NR"]}});
    json!({"name": name, "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": chains, "traffic_direction": "OUTBOUND", "access_log": log,
        "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]})
}

/// A filter that copies bytes to a cluster.
pub(super) fn tcp(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": cluster, "cluster": cluster, "access_log": access_log()}})
}

/// A filter that speaks HTTP with routes by name, and HTTP filters before the router.
pub(super) fn http(routes: &str, filters: Value) -> Value {
    let mut filters = filters.as_array().cloned().unwrap_or_default();
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}));
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound_0.0.0.0_8080;",
        "rds": {"config_source": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}, "route_config_name": routes},
        "http_filters": filters, "server_name": "istio-envoy", "use_remote_address": true, "access_log": access_log(),
        "upgrade_configs": [{"upgrade_type": "websocket"}], "normalize_path": true,
        "forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"subject": true, "uri": true, "dns": true}}})
}

/// A route for all paths to a cluster.
pub(super) fn to(cluster: &str) -> Value {
    json!({"match": {"prefix": "/"}, "name": "all", "route": {"cluster": cluster, "timeout": "0s"}})
}

/// A cluster of these endpoints.
pub(super) fn cluster(name: &str, endpoints: &[&str]) -> Value {
    let endpoint = |e: &&str| {
        let e = at(e);
        json!({"endpoint": {"address": {"socket_address": {"address": e.ip().to_string(), "port_value": e.port()}}}})
    };
    json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": name,
        "endpoints": [{"lb_endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}]}})
}

/// A secret by its SDS name.
pub(super) fn sds(name: &str) -> Value {
    json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}})
}

/// TLS that a chain ends: with a certificate, and with clients' certificates of a CA.
pub(super) fn downstream_tls(certificate: &str, ca: Option<&str>) -> Value {
    let mut common = json!({"alpn_protocols": ["h2", "http/1.1"], "tls_certificate_sds_secret_configs": [sds(certificate)]});
    if let Some(ca) = ca {
        common["combined_validation_context"] = json!({"default_validation_context": {}, "validation_context_sds_secret_config": sds(ca)});
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": common, "require_client_certificate": ca.is_some()}})
}

/// The mesh's TLS towards an endpoint whose certificate names this account.
pub(super) fn mesh_tls(account: &str, sni: &str, alpn: &[&str]) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": sni, "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": alpn, "tls_certificate_sds_secret_configs": [sds("default")],
            "combined_validation_context": {
                "default_validation_context": {"match_subject_alt_names": [{"exact": format!("spiffe://cluster.local/ns/shop/sa/{account}")}]},
                "validation_context_sds_secret_config": sds("ROOTCA")}}}})
}

/// A server that answers each request with what it was asked, or as the path says: `/status/N`, `/slow`, `/reset`.
pub(super) fn echo(host: &Host, port: u16) {
    let mut listener = host.listen(Bind::Any, port).expect("a free port");
    tokio::spawn(async move {
        loop {
            tokio::spawn(serve_echo(listener.accept().await));
        }
    });
}

async fn serve_echo(conn: Conn) {
    let first = conn.peek(3).await.unwrap_or_default();
    let service = service_fn(|request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        if path == "/slow" {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        if path == "/reset" {
            return Err("reset");
        }
        let status = path.strip_prefix("/status/").and_then(|s| s.parse().ok()).unwrap_or(200);
        let headers: BTreeMap<String, String> =
            request.headers().iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
        let (method, uri) = (request.method().to_string(), request.uri().to_string());
        let host = request.uri().authority().map(ToString::to_string).or_else(|| headers.get("host").cloned());
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body = json!({"method": method, "uri": uri, "host": host, "headers": headers, "body": String::from_utf8_lossy(&body)});
        let trailers =
            (path == "/trailers").then(|| HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), 0.into())]));
        let body = Full::<bytes::Bytes>::from(body.to_string()).with_trailers(async move { trailers.map(Ok) });
        let mut response = Response::new(body);
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
        Ok::<_, &str>(response)
    });
    let io = TokioIo::new(conn);
    if first.starts_with(b"PRI") {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

/// A caller's TLS: who it trusts, what it shows, which version and protocol.
pub(super) struct CallerTls<'a> {
    pub(super) ca: &'a Ca,
    pub(super) shows: Option<(String, String)>,
    pub(super) most: &'static rustls::SupportedProtocolVersion,
    pub(super) alpn: &'a [&'a str],
}

impl<'a> CallerTls<'a> {
    pub(super) fn trusting(ca: &'a Ca) -> Self {
        Self { ca, shows: None, most: &rustls::version::TLS13, alpn: &[] }
    }
}

pub(super) async fn tls(conn: Conn, name: &str, tls: &CallerTls<'_>) -> std::io::Result<tokio_rustls::client::TlsStream<Conn>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(tls.ca.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[tls.most])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match &tls.shows {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = tls.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name.to_owned().try_into().unwrap(), conn).await
}

pub(super) fn dial(from: &Host, to: &str) -> Conn {
    from.connect(at(to), Caller::Application).expect("a connection")
}

/// A GET by HTTP/1.1: status, headers, body.
pub(super) async fn get<S>(stream: S, host: &str, path: &str, headers: &[(&str, &str)]) -> hyper::Result<(u16, HeaderMap, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let mut request = Request::get(path).header("host", host).header("user-agent", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(sender.send_request(request.body(Full::<bytes::Bytes>::default()).unwrap()).await?).await
}

pub(super) async fn answer(response: Response<Incoming>) -> hyper::Result<(u16, HeaderMap, String)> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((parts.status.as_u16(), parts.headers, String::from_utf8_lossy(&body).into_owned()))
}

/// What a caller by plain TCP gets to see: what it reads until the end, or how the connection failed.
pub(super) async fn say(mut conn: Conn, words: &[u8]) -> Result<Vec<u8>, std::io::ErrorKind> {
    conn.write_all(words).await.map_err(|e| e.kind())?;
    conn.shutdown().await.map_err(|e| e.kind())?;
    let mut all = Vec::new();
    conn.read_to_end(&mut all).await.map_err(|e| e.kind())?;
    Ok(all)
}
