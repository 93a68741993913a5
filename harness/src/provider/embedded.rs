//! A simulated mesh in this process: no engine, no privileges, no network, no downloads.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use futures::future::BoxFuture;
use gateproof_core::outcome::AnalysisMessage;
use gateproof_core::report::{GatewayRecord, OutsideRecord, PreflightRecord, ProviderRecord, VersionRecord};
use gateproof_core::scenario::{Gateway, GatewayService};
use gateproof_mesh::install::{GatewayRelease, Reach, ServicePort};
use gateproof_mesh::net::{Caller, Host};
use gateproof_mesh::{Mesh, MeshError, Options, OutsideServer};
use serde_json::Value;

use super::settings::parse;
use super::{
    Analyst, Choice, Cluster, ClusterNeeds, Dialled, Dialler, Entrance, ImageMap, Internet, Pace, Progress, ProviderError, ProviderOptions,
    Settings, step,
};
use crate::install::gateways;
use crate::outside::certificates;

/// Pauses that are made for a real cluster are so many times shorter here.
const FASTER: u32 = 60;
/// Where hosts outside the mesh begin, as on Docker's networks.
const OUTSIDE: [u8; 3] = [172, 18, 1];

/// A mesh for the length of a run. Dropping it ends it.
pub(crate) struct Lease {
    cluster: Cluster,
    mesh: Mesh,
    all: Vec<Gateway>,
}

impl Deref for Lease {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Calls from outside go over the virtual network.
struct FromOutside(Host);

impl Dialler for FromOutside {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Dialled>> {
        let host = self.0.clone();
        Box::pin(async move {
            let conn = host.connect(to, Caller::Proxy)?;
            let local = Some(conn.local_addr());
            Ok(Dialled { stream: Box::new(conn), local })
        })
    }
}

fn failed(what: &str) -> impl FnOnce(MeshError) -> ProviderError {
    let what = what.to_owned();
    move |error| ProviderError::Command { what, seen: error.to_string() }
}

/// Starts a mesh with what is needed.
pub(crate) async fn up(options: &ProviderOptions, needs: &ClusterNeeds, progress: &dyn Progress) -> Result<Lease, ProviderError> {
    if options.internet == Internet::Real {
        return Err(ProviderError::Command {
            what: "use the real hosts of the internet".to_owned(),
            seen: "the simulated mesh has no network; name another provider, or leave out --internet real".to_owned(),
        });
    }
    if options.reuse_only {
        return Err(ProviderError::Command {
            what: "use a cluster as it stands".to_owned(),
            seen: "the simulated mesh is made anew in each process: there is nothing deployed in it to verify".to_owned(),
        });
    }
    let settings = Settings::read(&options.kind)?;
    let all = gateways::merge(&settings.gateways, &needs.gateways)?;
    let istio = options.istio.as_deref().unwrap_or(&settings.istio);
    let values: Value = parse(&settings.files.shown("values/istiod.yaml"), settings.values_of("istiod"))?;
    let mesh = Options {
        istio_version: format!("{istio}-simulated"),
        kubernetes_version: format!("v{}", settings.kubernetes.trim_start_matches('v')),
        mesh_config: values["meshConfig"].clone(),
        ..Options::default()
    };
    let mesh = step(progress, "start the simulated mesh", Mesh::start(mesh)).await.map_err(failed("start the simulated mesh"))?;
    let what = "install the gateways";
    step(progress, what, install(&mesh, &all, needs)).await.map_err(failed(what))?;

    let names: Vec<String> = needs.outside.iter().map(|h| h.host.to_string()).collect();
    let (ca_pem, leaves) = if names.is_empty() { (String::new(), Vec::new()) } else { certificates::sign(&names)? };
    let mut outside = Vec::new();
    let mut next = 1;
    for (host, leaf) in needs.outside.iter().zip(&leaves) {
        let addresses: Vec<IpAddr> = (0..host.addresses.max(1))
            .map(|_| {
                next += 1;
                IpAddr::V4(Ipv4Addr::new(OUTSIDE[0], OUTSIDE[1], OUTSIDE[2], next))
            })
            .collect();
        let server = OutsideServer {
            name: leaf.host.clone(),
            addresses: addresses.clone(),
            chain_pem: leaf.certificate_pem.clone(),
            key_pem: leaf.key_pem.clone(),
        };
        mesh.add_outside(server).map_err(failed("start the hosts outside the mesh"))?;
        outside.push(OutsideRecord {
            host: leaf.host.clone(),
            kind: "stand-in".to_owned(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            served_by: "a simulated httpbin".to_owned(),
        });
    }
    // What is simulated is simulated after what is declared: there is nothing that could differ.
    let version = |what: &str, observed: &str| VersionRecord { what: what.to_owned(), observed: observed.to_owned(), declared: None };
    let analysed = mesh.clone();
    let cluster = Cluster {
        name: "embedded".to_owned(),
        client: mesh.client(),
        kubeconfig: std::path::PathBuf::new(),
        record: ProviderRecord {
            name: "embedded".to_owned(),
            chosen: String::new(),
            cluster: Choice::Embedded.name().to_owned(),
            context: "none: it lives in the process of the run".to_owned(),
            origin: "made in this process for this run".to_owned(),
        },
        versions: vec![
            version("Kubernetes", &format!("{} (simulated)", mesh.kubernetes_version())),
            version("Istio control plane", mesh.istio_version()),
        ],
        gateways: records(&mesh, &all),
        outside,
        preflight: vec![PreflightRecord {
            what: "simulated mesh".to_owned(),
            observed: "needs nothing of this machine".to_owned(),
            ok: true,
        }],
        images: ImageMap::default(),
        outside_ca_pem: ca_pem,
        outside_fingerprints: leaves.into_iter().map(|l| (l.host, l.fingerprint)).collect(),
        analyst: Analyst::Mesh(Arc::new(move |namespace| Ok(analyse(&analysed, namespace)))),
        dialler: Arc::new(FromOutside(mesh.outside().clone())),
        pace: Pace::faster(FASTER),
        entrances: entrances(&mesh, &all),
        mesh: super::Mesh::default(),
    };
    Ok(Lease { cluster, mesh, all })
}

impl Lease {
    /// Adds gateways that are needed.
    pub(crate) async fn extend(&mut self, options: &ProviderOptions, needs: &ClusterNeeds) -> Result<(), ProviderError> {
        let settings = Settings::read(&options.kind)?;
        let own: Vec<Gateway> = settings.gateways.into_iter().chain(self.all.iter().cloned()).collect();
        let all = gateways::merge(&own, &needs.gateways)?;
        let new: Vec<Gateway> = all.iter().filter(|g| !self.all.contains(g)).cloned().collect();
        install(&self.mesh, &new, needs).await.map_err(failed("install the gateways"))?;
        self.cluster.gateways = records(&self.mesh, &all);
        self.cluster.entrances = entrances(&self.mesh, &all);
        self.all = all;
        Ok(())
    }
}

async fn install(mesh: &Mesh, gateways: &[Gateway], needs: &ClusterNeeds) -> Result<(), MeshError> {
    for namespace in &needs.namespaces {
        mesh.apply(&namespace.value)?;
    }
    let releases: Vec<GatewayRelease> = gateways.iter().map(release).collect();
    mesh.install_gateways(&releases).await
}

fn release(gateway: &Gateway) -> GatewayRelease {
    let port = |name: &str, port, target| ServicePort { name: name.to_owned(), port, target };
    GatewayRelease {
        namespace: gateway.at.namespace.clone(),
        name: gateway.at.name.clone(),
        labels: gateway.labels.clone(),
        reach: match gateway.service {
            GatewayService::ClusterIp => Reach::ClusterIp,
            GatewayService::NodePort { http, https } => Reach::NodePort { http, https },
        },
        ports: vec![port("http2", 80, 8080), port("https", 443, 8443)],
    }
}

fn entrances(mesh: &Mesh, gateways: &[Gateway]) -> BTreeMap<gateproof_core::names::Namespaced, Entrance> {
    let at = |port: u16| SocketAddr::new(mesh.node_ip(), port);
    let entrance = |g: &Gateway| match g.service {
        GatewayService::ClusterIp => None,
        GatewayService::NodePort { http, https } => Some((g.at.clone(), Entrance { http: at(http), https: at(https) })),
    };
    gateways.iter().filter_map(entrance).collect()
}

fn records(mesh: &Mesh, gateways: &[Gateway]) -> Vec<GatewayRecord> {
    let record = |g: &Gateway| GatewayRecord {
        at: g.at.clone(),
        labels: g.labels.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        reached: match g.service {
            GatewayService::ClusterIp => "ClusterIP of the simulated mesh".to_owned(),
            GatewayService::NodePort { http, https } => {
                let node = mesh.node_ip();
                format!("NodePort {node}:{http} (80), {node}:{https} (443)")
            }
        },
    };
    gateways.iter().map(record).collect()
}

fn analyse(mesh: &Mesh, namespace: &str) -> Vec<AnalysisMessage> {
    let message = |m: gateproof_mesh::Message| AnalysisMessage { level: m.level, code: m.code, text: m.text };
    mesh.analyze(namespace).into_iter().map(message).collect()
}
