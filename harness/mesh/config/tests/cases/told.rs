//! The format of the case files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A file of cases: what one source file of Istio's tests asks, or a part of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Where the cases come from, within istio/istio.
    #[serde(rename = "source")]
    _source: String,
    /// The test functions.
    pub(crate) tests: Vec<Test>,
}

/// A test function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    /// Its name.
    pub(crate) test: String,
    /// What it is about.
    #[serde(rename = "about")]
    _about: String,
    /// What has to be simulated before any of it can hold.
    pub(crate) needs: Option<String>,
    /// The proxy, unless a case says another.
    pub(crate) proxy: Option<Proxy>,
    /// Whether the original does not ask if Envoy would take the resources.
    #[serde(default)]
    pub(crate) unchecked: bool,
    /// Fields of every call that does not say otherwise.
    #[serde(default)]
    pub(crate) defaults: Map<String, Value>,
    /// Objects that cases share.
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, Vec<Value>>,
    /// What is asked.
    pub(crate) cases: Vec<Case>,
}

/// Objects with what is asked of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Its name in the original.
    pub(crate) name: String,
    /// What has to be simulated before it can hold.
    pub(crate) needs: Option<String>,
    /// Another proxy than the test's.
    pub(crate) proxy: Option<Proxy>,
    /// As in [`Test`].
    #[serde(default)]
    pub(crate) unchecked: bool,
    /// The mesh configuration.
    pub(crate) mesh: Option<Value>,
    /// Names of groups of objects.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// Objects of its own.
    #[serde(default)]
    pub(crate) objects: Vec<Value>,
    /// The same calls with further groups, by name.
    #[serde(default)]
    pub(crate) variants: BTreeMap<String, Variant>,
    /// Calls, with fields of [`Call`].
    #[serde(default)]
    pub(crate) calls: Vec<Map<String, Value>>,
    /// The clusters for the application's ports: these and no others.
    pub(crate) inbound_clusters: Option<BTreeMap<String, InboundCluster>>,
    /// How many listeners a port has.
    #[serde(default)]
    pub(crate) listeners: Vec<Listeners>,
    /// Fields of resources.
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    /// Rules for hosts, written once as VirtualServices and once as HTTPRoutes.
    #[serde(default)]
    pub(crate) rules: Vec<Rule>,
    /// A Sidecar with this egress.
    pub(crate) scope: Option<Scope>,
    /// The route table that `routes` is about.
    pub(crate) table: Option<String>,
    /// Hosts with the clusters of their virtual host, or nothing where there is to be none.
    pub(crate) routes: Option<Hosts>,
    /// The same for HTTPRoutes where it differs, or `unsupported`.
    pub(crate) httproute: Option<HttpRoute>,
}

/// Hosts with the clusters of their virtual host.
pub(crate) type Hosts = BTreeMap<String, Option<Vec<String>>>;

/// What the rules lead to as HTTPRoutes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum HttpRoute {
    /// Something else.
    Other(Hosts),
    /// The original does not ask.
    Skipped(String),
}

/// Further objects for the same calls.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// Names of groups.
    pub(crate) groups: Vec<String>,
}

/// A proxy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxy {
    /// `sidecar` or `gateway`.
    pub(crate) kind: String,
    /// `default`, unless said.
    pub(crate) namespace: Option<String>,
    /// `1.1.1.1`, unless said.
    pub(crate) ip: Option<String>,
    /// Further addresses, which this simulation does not know.
    #[serde(rename = "more_ips")]
    _more_ips: Vec<String>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A call and what it comes to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Call {
    /// What it is called.
    pub(crate) name: String,
    /// Where to; nothing: to some address of no service.
    pub(crate) address: Option<String>,
    /// The port.
    pub(crate) port: Option<u16>,
    /// The same call to each of these ports.
    pub(crate) ports: Vec<u16>,
    /// `inbound`, `outbound` or `gateway`; by the proxy's kind unless said.
    pub(crate) mode: String,
    /// `http`, `http2` or `tcp`.
    pub(crate) protocol: String,
    /// `tls` or `mtls`; nothing: plain.
    pub(crate) tls: String,
    /// The host asked for.
    pub(crate) host: String,
    /// The path.
    pub(crate) path: String,
    /// The server name.
    pub(crate) sni: String,
    /// The application protocol.
    pub(crate) alpn: String,
    /// The certificate that makes a chain one for mutual TLS.
    pub(crate) own_certificate: String,
    /// What it comes to.
    pub(crate) expect: Option<Expect>,
    /// What it comes to in each variant.
    pub(crate) each: BTreeMap<String, Expect>,
}

/// What a call comes to. What is not said is not asked, but for the error.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// Whether what is not said has to be absent.
    pub(crate) only: bool,
    /// Why it comes to nothing.
    pub(crate) error: Option<String>,
    /// The listener.
    pub(crate) listener: Option<String>,
    /// The filter chain.
    pub(crate) filter_chain: Option<String>,
    /// The route table.
    pub(crate) table: Option<String>,
    /// The virtual host.
    pub(crate) virtual_host: Option<String>,
    /// The route.
    pub(crate) route: Option<String>,
    /// The cluster.
    pub(crate) cluster: Option<String>,
    /// Fields of the filter chain by their pointer.
    pub(crate) chain: BTreeMap<String, Value>,
}

/// A cluster for a port of the application.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InboundCluster {
    /// Where it leads; nothing: to where the caller wanted.
    pub(crate) endpoints: Option<Vec<String>>,
    /// The services that it says it is of.
    pub(crate) services: Option<Vec<String>>,
}

/// How many listeners a port has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listeners {
    /// What it is called.
    pub(crate) name: String,
    /// The port.
    pub(crate) port: u16,
    /// No fewer.
    pub(crate) at_least: usize,
    /// No more.
    pub(crate) at_most: Option<usize>,
}

/// A field of a listener or a cluster.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    /// What it is called.
    pub(crate) name: String,
    /// The listener.
    pub(crate) listener: Option<String>,
    /// Or the cluster.
    pub(crate) cluster: Option<String>,
    /// Where in it.
    pub(crate) at: String,
    /// What is there; null: nothing.
    #[serde(default)]
    pub(crate) is: Value,
    /// Or whether anything is.
    #[serde(default)]
    pub(crate) is_there: bool,
}

/// A rule for hosts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Its namespace.
    #[serde(rename = "in")]
    pub(crate) namespace: String,
    /// For which hosts.
    pub(crate) hosts: Vec<String>,
    /// Where to.
    pub(crate) to: String,
    /// To which port.
    pub(crate) port: Option<u16>,
    /// For calls to which port.
    pub(crate) match_port: Option<u16>,
    /// The year of its creation; 2020, unless said.
    pub(crate) year: Option<u16>,
}

/// A Sidecar.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    /// Its namespace.
    #[serde(rename = "in")]
    pub(crate) namespace: String,
    /// Its egress hosts.
    pub(crate) egress: Vec<String>,
}

/// The files of a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<(String, File)> {
    read_all(folder)
}

/// The YAML files of a folder in a form, by name.
pub(crate) fn read_all<T: for<'a> Deserialize<'a>>(folder: &Path) -> Vec<(String, T)> {
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a file of cases");
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let file = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (name, file)
    };
    paths.iter().map(read).collect()
}
