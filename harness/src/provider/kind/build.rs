//! Making a cluster. Everything that does not need something else runs beside it: images are loaded
//! and stand-ins started while the control plane boots, and Istio is installed before kind is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::Docker;
use futures::future::{join_all, try_join_all};
use gateproof_core::report::{OutsideRecord, ProviderRecord};
use gateproof_core::scenario::{Gateway, GatewayService, OutsideHost};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};

use super::node::{self, Node};
use super::state::{State, StateDir};
use super::tools::{HexDigest, download};
use super::versions::{self, Declared};
use super::{images, remove};
use crate::install::helm::{self, Charts, Release};
use crate::install::{self, SYSTEM, crds, gateways, wait};
use crate::outside::{self, Addresses, StandIns, coredns};
use crate::provider::{
    Bundle, Cluster, ClusterNeeds, Entrance, ImageMap, Internet, Mesh, Pace, Progress, ProviderError, ProviderOptions, Settings, Tcp,
    Tools, step,
};

/// All that decides what the cluster becomes.
pub(crate) struct Plan<'a> {
    pub(crate) options: &'a ProviderOptions,
    pub(crate) needs: &'a ClusterNeeds,
    pub(crate) settings: Settings,
    pub(crate) bundle: Option<Bundle>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) node_image: String,
    pub(crate) istio: String,
    pub(crate) images: ImageMap,
    /// Of versions, values and the node's configuration; not of gateways and hosts, which can be added.
    pub(crate) hash: String,
    pub(crate) network_before: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn read(options: &'a ProviderOptions, needs: &'a ClusterNeeds) -> Result<Self, ProviderError> {
        check_name(&options.cluster_name)?;
        let settings = Settings::read(&options.kind)?;
        let bundle = options.bundle.as_deref().map(Bundle::read).transpose()?;
        let gateways = gateways::merge(&settings.gateways, &needs.gateways)?;
        let bundled_node = bundle.as_ref().map(|b| b.node_image.clone());
        let node_image = options.node_image.clone().or(bundled_node).unwrap_or_else(|| settings.node_image.clone());
        let istio = options.istio.clone().unwrap_or_else(|| settings.istio.clone());
        let images = bundle.as_ref().map(|b| ImageMap::by_role(&settings.images, &b.workload_images)).unwrap_or_default();
        let hash = config_hash(options, &settings, bundle.as_ref(), &node_image, &istio)?;
        Ok(Self { options, needs, settings, bundle, gateways, node_image, istio, images, hash, network_before: true })
    }

    fn node_ports(&self) -> BTreeSet<u16> {
        self.gateways.iter().flat_map(|g| gateways::node_ports(g.service)).collect()
    }

    fn stand_in_image(&self) -> Result<&str, ProviderError> {
        let declared = self.settings.images.get("httpbin");
        let missing = || ProviderError::Settings {
            file: self.settings.files.shown("versions.yaml"),
            why: "`images` has no `httpbin`, which stands in for hosts outside".to_owned(),
        };
        declared.map(|image| self.images.resolve(image)).ok_or_else(missing)
    }

    fn cluster(&self) -> &str {
        &self.options.cluster_name
    }
}

/// kind's node is called NAME-control-plane, and a container's name has 63 characters at most.
fn check_name(name: &str) -> Result<(), ProviderError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.is_empty() && name.len() <= 40 && name.bytes().all(good) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    let why = format!("`{name}` is not up to 40 lower-case letters, digits and `-`");
    Err(ProviderError::Settings { file: "the cluster's name".to_owned(), why })
}

fn config_hash(
    options: &ProviderOptions,
    settings: &Settings,
    bundle: Option<&Bundle>,
    node_image: &str,
    istio: &str,
) -> Result<String, ProviderError> {
    let text = |file: PathBuf| std::fs::read_to_string(&file).map_err(ProviderError::io(format!("read {}", file.display())));
    let all = json!({
        // Counted up when what gateproof itself puts beside the mesh changes, so that a kept cluster without it is made anew.
        "layout": 2,
        "cluster": settings.cluster,
        "node": node_image,
        "istio": istio,
        "charts": settings.chart_repository,
        "istiod": settings.values_of("istiod"),
        "gateway": settings.values_of("gateway"),
        "images": settings.images,
        "bundle": bundle.map(|b| text(b.dir.join("bundle.yaml"))).transpose()?,
        "real internet": options.internet == Internet::Real,
        "gateway api": options.gateway_api,
    });
    Ok(hash_of(&all))
}

fn hash_of(value: &Value) -> String {
    format!("{:x}", HexDigest(Sha256::digest(value.to_string()).to_vec()))
}

/// Makes the cluster.
pub(crate) async fn create(
    docker: &Docker,
    dir: &StateDir,
    tools: &Tools,
    plan: &Plan<'_>,
    lock: File,
    progress: &dyn Progress,
) -> Result<Cluster, ProviderError> {
    let name = plan.cluster();
    let mut state = State {
        cluster: name.to_owned(),
        run: format!("{}-{}", jiff::Timestamp::now(), std::process::id()),
        pid: std::process::id(),
        config_hash: plan.hash.clone(),
        network_before: plan.network_before,
        host_ports: plan.node_ports().into_iter().map(|p| (p, node::choose_host_port(p))).collect(),
        ..State::default()
    };
    // Before anything is made, so that a killed run leaves a trace of what it was about to make.
    dir.write(&state)?;
    let config = dir.path().join("kind.json");
    std::fs::write(&config, node::config_with_ports(&plan.settings.cluster, &state.host_ports).to_string())
        .map_err(ProviderError::io(format!("write {}", config.display())))?;

    if let Some(bundle) = &plan.bundle {
        images::ensure_in_engine(docker, &plan.node_image, bundle.node_archive.as_deref()).await?;
    }
    let scratch = dir.path().join("kubeconfig.kind");
    let child = node::start_create(tools, name, &plan.node_image, &config, &scratch, lock)?;
    state.creator = child.id();
    dir.write(&state)?;

    let (node_found, node_wanted) = oneshot::channel::<Node>();
    let (told, mut addresses) = watch::channel::<Option<Addresses>>(None);
    let make_node = step(progress, "create the kind cluster", node::finish_create(child));
    let (imported, images_loaded) = watch::channel(false);
    let load = async {
        let node = step(progress, "start the node", node::wait(docker, name)).await;
        let _ = node_found.send(node.clone());
        if let Some(bundle) = &plan.bundle {
            let wanted =
                ["istiod", "proxy", "httpbin", "curl"].iter().filter_map(|role| bundle.workload_images.get(*role).cloned()).collect();
            let import = images::import_into_node(docker, &node.container, &bundle.workload_archive, wanted);
            step(progress, "load images into the node", import).await?;
        }
        imported.send_replace(true);
        Ok::<_, ProviderError>(())
    };
    let stand_in = async {
        let started = start_outside(docker, plan, &plan.needs.outside, progress).await?;
        told.send_replace(Some(started.addresses.clone()));
        Ok::<_, ProviderError>(started)
    };
    let kubeconfig = dir.kubeconfig();
    let install = async {
        let Ok(node) = node_wanted.await else { return std::future::pending().await };
        let (client, dns) = step(progress, "wait for the API server", async {
            node::write_kubeconfig(docker, name, &node, &kubeconfig).await?;
            let client = node::connect(&kubeconfig, name).await?;
            let (dns, ()) = tokio::join!(coredns::manifests(docker, &node.container), node::wait_for_api(&client));
            Ok::<_, ProviderError>((client, dns))
        })
        .await?;
        let dns = async {
            let Ok(known) = addresses.wait_for(Option::is_some).await.map(|a| a.clone().unwrap_or_default()) else {
                return std::future::pending().await;
            };
            step(progress, "install the cluster's DNS", coredns::install(&client, docker, &node.container, dns, &known)).await?;
            step(progress, "wait for the cluster's DNS", wait::deployment(&client, "kube-system", "coredns", plan.options.patience)).await
        };
        let (hashes, ()) = tokio::try_join!(install_mesh(&client, dir, tools, plan, &kubeconfig, images_loaded.clone(), progress), dns,)?;
        Ok((node, client, hashes))
    };
    let all = async { tokio::try_join!(make_node, load, stand_in, install) };
    let timed_out = |_| ProviderError::Timeout {
        what: "make the cluster".to_owned(),
        waited: plan.options.patience,
        seen: "see the last step that began".to_owned(),
    };
    let ((), (), stand_ins, (node, client, hashes)) = tokio::time::timeout(plan.options.patience, all).await.map_err(timed_out)??;

    let _ = std::fs::remove_file(scratch);
    state.creator = None;
    state.kept = plan.options.keep;
    state.gateways = hashes;
    state.ca_pem.clone_from(&stand_ins.ca_pem);
    state.fingerprints = stand_ins.fingerprints;
    dir.write(&state)?;
    let origin = if plan.options.keep { "created and kept" } else { "created for this run" };
    describe(docker, dir, tools, plan, &state, &node, client, origin, progress).await
}

/// Brings a cluster that stands to what is needed now; `what` is the name of this step.
pub(crate) async fn reuse(
    what: &str,
    docker: &Docker,
    dir: &StateDir,
    tools: &Tools,
    plan: &Plan<'_>,
    mut state: State,
    progress: &dyn Progress,
) -> Result<Cluster, ProviderError> {
    let name = plan.cluster();
    let node = node::find(docker, name)
        .await
        .ok_or_else(|| ProviderError::Command { what: "find the kept cluster's node".to_owned(), seen: "it does not run".to_owned() })?;
    let kubeconfig = dir.kubeconfig();
    let client = node::connect(&kubeconfig, name).await?;
    let ready = async {
        node::wait_for_api(&client).await;
        let there = outside::existing(docker, name).await?;
        let missing: Vec<OutsideHost> = plan
            .needs
            .outside
            .iter()
            .filter(|h| there.get(h.host.as_str()).is_none_or(|a| a.len() < usize::from(h.addresses)))
            .cloned()
            .collect();
        let wanted: Vec<Gateway> = plan
            .gateways
            .iter()
            .filter(|g| state.gateways.get(&g.at.to_string()) != Some(&hash_of(&gateways::values(g))))
            .cloned()
            .collect();
        if plan.options.reuse_only {
            return lacking(name, &missing, &wanted).map_or(Ok(()), Err);
        }
        let started = start_outside(docker, plan, &missing, progress).await?;
        if !started.addresses.is_empty() {
            let mut addresses = there;
            addresses.extend(started.addresses.clone());
            step(progress, "tell the cluster's DNS", coredns::tell(&client, &addresses)).await?;
            state.ca_pem.push_str(&started.ca_pem);
            state.fingerprints.extend(started.fingerprints);
        }
        namespaces(&client, plan).await?;
        if !wanted.is_empty() {
            let charts = Charts::provide(tools, &plan.settings, &plan.istio, plan.bundle.as_ref(), dir.path()).await?;
            wait::injector(&client, plan.options.patience).await?;
            let files = GatewayValues::write(dir, plan)?;
            install_gateways(tools, &kubeconfig, &charts, &files, &wanted, false, progress).await?;
        }
        let all = plan.gateways.iter().map(|g| wait::deployment(&client, &g.at.namespace, &g.at.name, plan.options.patience));
        let (_, ()) = tokio::try_join!(try_join_all(all), wait::deployment(&client, "kube-system", "coredns", plan.options.patience))?;
        state.gateways.extend(wanted.iter().map(|g| (g.at.to_string(), hash_of(&gateways::values(g)))));
        dir.write(&state)
    };
    step(progress, what, ready).await?;
    describe(docker, dir, tools, plan, &state, &node, client, "reused (kept by an earlier run)", progress).await
}

/// Why a run that may change nothing cannot use the cluster: what would have to be added to it.
fn lacking(cluster: &str, hosts: &[OutsideHost], gateways: &[Gateway]) -> Option<ProviderError> {
    let hosts = hosts.iter().map(|h| format!("host outside the mesh {}", h.host));
    let lacks: Vec<String> = gateways.iter().map(|g| format!("gateway {}", g.at)).chain(hosts).collect();
    (!lacks.is_empty()).then(|| ProviderError::Command {
        what: format!("use the cluster {cluster} as it stands"),
        seen: format!("it lacks {}, or has it otherwise; a run without --verify-only adds that", lacks.join(", ")),
    })
}

/// Starts stand-ins, once kind's network is there.
async fn start_outside(
    docker: &Docker,
    plan: &Plan<'_>,
    hosts: &[OutsideHost],
    progress: &dyn Progress,
) -> Result<StandIns, ProviderError> {
    if plan.options.internet == Internet::Real || hosts.is_empty() {
        return Ok(StandIns::default());
    }
    let image = plan.stand_in_image()?;
    let start = async {
        let archive = plan.bundle.as_ref().map(|b| b.workload_archive.as_path());
        images::ensure_in_engine(docker, image, archive).await?;
        while !remove::network_exists(docker).await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        outside::start(docker, plan.cluster(), image, hosts).await
    };
    step(progress, "start the hosts outside the mesh", start).await
}

/// Applies the namespaces that releases go into, as scenarios declare them.
async fn namespaces(client: &kube::Client, plan: &Plan<'_>) -> Result<(), ProviderError> {
    let declared: BTreeMap<&str, &Value> = plan.needs.namespaces.iter().map(|o| (o.key.name.as_str(), &o.value)).collect();
    let releases = plan.gateways.iter().map(|g| g.at.namespace.as_str()).chain([SYSTEM]);
    let names: BTreeSet<&str> = releases.chain(declared.keys().copied()).collect();
    try_join_all(names.into_iter().map(|name| install::namespace(client, name, declared.get(name).copied()))).await.map(|_| ())
}

/// Istio and its gateways. Gives each gateway's release and the hash of its values.
async fn install_mesh(
    client: &kube::Client,
    dir: &StateDir,
    tools: &Tools,
    plan: &Plan<'_>,
    kubeconfig: &Path,
    mut images_loaded: watch::Receiver<bool>,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, String>, ProviderError> {
    let patience = plan.options.patience;
    let charts = Charts::provide(tools, &plan.settings, &plan.istio, plan.bundle.as_ref(), dir.path()).await?;
    namespaces(client, plan).await?;
    let over = |chart: &str| {
        plan.bundle.as_ref().and_then(|b| b.helm_values.get(chart)).map(|v| helm::write_values(dir.path(), chart, v)).transpose()
    };
    let files = GatewayValues::write(dir, plan)?;
    let base = Release { name: "istio-base", namespace: SYSTEM, chart: &charts.base, values: Vec::from_iter(over("base")?) };
    let declared = helm::write_text(dir.path(), "declared-istiod", plan.settings.values_of("istiod"))?;
    let istiod_values = [declared].into_iter().chain(over("istiod")?).collect();
    let istiod = Release { name: "istiod", namespace: SYSTEM, chart: &charts.istiod, values: istiod_values };
    // Gateways wait for istiod's release, whose webhook keeps pods from starting uninjected; not for
    // istiod itself: their ReplicaSets are woken when it answers.
    let control_plane = async {
        // A pod that does not find its image asks a registry that may not be there, and backs off for 10 s.
        if images_loaded.wait_for(|loaded| *loaded).await.is_err() {
            return std::future::pending().await;
        }
        step(progress, "install istiod", helm::install(tools, kubeconfig, &istiod, true)).await?;
        let (installed, answers) = tokio::join!(
            install_gateways(tools, kubeconfig, &charts, &files, &plan.gateways, true, progress),
            step(progress, "wait for istiod", wait::injector(client, patience)),
        );
        installed.and(answers)
    };
    let definitions = async {
        match gateway_api(plan, progress).await? {
            Some(text) => step(progress, "install the Gateway API", crds::apply(client, &text)).await,
            None => Ok(()),
        }
    };
    let base = step(progress, "install istio-base", helm::install(tools, kubeconfig, &base, true));
    tokio::try_join!(base, control_plane, definitions)?;

    let roll_out = async {
        try_join_all(plan.gateways.iter().map(|g| wait::wake(client, &g.at.namespace, &g.at.name))).await?;
        let istiod = wait::deployment(client, SYSTEM, "istiod", patience);
        tokio::try_join!(
            istiod,
            try_join_all(plan.gateways.iter().map(|g| wait::deployment(client, &g.at.namespace, &g.at.name, patience)))
        )
    };
    step(progress, "roll out the gateways", roll_out).await?;
    Ok(plan.gateways.iter().map(|g| (g.at.to_string(), hash_of(&gateways::values(g)))).collect())
}

/// Files with the values that all gateways share and those of each.
struct GatewayValues {
    shared: Vec<PathBuf>,
    own: BTreeMap<String, PathBuf>,
}

impl GatewayValues {
    fn write(dir: &StateDir, plan: &Plan<'_>) -> Result<Self, ProviderError> {
        let mut shared = vec![helm::write_text(dir.path(), "declared-gateway", plan.settings.values_of("gateway"))?];
        if let Some(values) = plan.bundle.as_ref().and_then(|b| b.helm_values.get("gateway")) {
            shared.push(helm::write_values(dir.path(), "gateway", values)?);
        }
        let each = |g: &Gateway| {
            Ok((g.at.to_string(), helm::write_values(dir.path(), &format!("{}.{}", g.at.namespace, g.at.name), &gateways::values(g))?))
        };
        Ok(Self { shared, own: plan.gateways.iter().map(each).collect::<Result<_, ProviderError>>()? })
    }
}

async fn install_gateways(
    tools: &Tools,
    kubeconfig: &Path,
    charts: &Charts,
    files: &GatewayValues,
    wanted: &[Gateway],
    fresh: bool,
    progress: &dyn Progress,
) -> Result<(), ProviderError> {
    let each = wanted.iter().map(async |gateway| {
        let values = files.shared.iter().chain(files.own.get(&gateway.at.to_string())).cloned().collect();
        let release = Release { name: &gateway.at.name, namespace: &gateway.at.namespace, chart: &charts.gateway, values };
        helm::install(tools, kubeconfig, &release, fresh).await
    });
    let all = join_all(each);
    step(progress, "install the gateways", all).await.into_iter().collect()
}

/// The Gateway API's resource definitions: the bundle's, or those pinned in `kind/`.
async fn gateway_api(plan: &Plan<'_>, progress: &dyn Progress) -> Result<Option<String>, ProviderError> {
    if !plan.options.gateway_api {
        return Ok(None);
    }
    if let Some(file) = plan.bundle.as_ref().and_then(|b| b.gateway_api.as_ref()) {
        return std::fs::read_to_string(file).map(Some).map_err(ProviderError::io(format!("read {}", file.display())));
    }
    let Some(source) = &plan.settings.gateway_api else {
        progress.warn("kind/versions.yaml pins no Gateway API; its resource definitions are not installed");
        return Ok(None);
    };
    let failed = |why| ProviderError::Tool { tool: "the Gateway API's resource definitions".to_owned(), why };
    let url = source.url.replace("{version}", &source.version);
    let bytes = download(&url).await.map_err(failed)?;
    let got = format!("{:x}", HexDigest(Sha256::digest(&bytes).to_vec()));
    if got != source.sha256 {
        return Err(failed(format!("{url} has the SHA-256 {got}, and kind/versions.yaml wants {}: not used", source.sha256)));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What the run is told of the cluster.
#[allow(clippy::too_many_arguments)]
async fn describe(
    docker: &Docker,
    dir: &StateDir,
    tools: &Tools,
    plan: &Plan<'_>,
    state: &State,
    node: &Node,
    client: kube::Client,
    origin: &str,
    progress: &dyn Progress,
) -> Result<Cluster, ProviderError> {
    let name = plan.cluster();
    let declared = Declared { settings: &plan.settings, istio: &plan.istio, node_image: &plan.settings.node_image };
    let node_image = images::image_of(docker, &node.container).await.unwrap_or_else(|| plan.node_image.clone());
    let look = async {
        tokio::try_join!(
            versions::read(&client, tools, &node_image, &declared, progress),
            gateways::records(&client, &plan.gateways, node.address),
            outside_records(docker, plan),
        )
    };
    let (versions, gateways, outside) = step(progress, "read versions", look).await?;
    Ok(Cluster {
        name: name.to_owned(),
        kubeconfig: dir.kubeconfig(),
        record: ProviderRecord {
            name: "kind".to_owned(),
            chosen: String::new(),
            cluster: name.to_owned(),
            context: node::context_name(name),
            origin: origin.to_owned(),
        },
        versions,
        gateways,
        outside,
        preflight: Vec::new(),
        images: plan.images.clone(),
        outside_ca_pem: state.ca_pem.clone(),
        outside_fingerprints: state.fingerprints.clone(),
        analyst: tools.analyst(["--kubeconfig".into(), dir.kubeconfig().into()]),
        dialler: Arc::new(Tcp),
        pace: Pace::REAL,
        entrances: plan
            .gateways
            .iter()
            .filter_map(|g| Some((g.at.clone(), entrance(g.service, node.address, &state.host_ports)?)))
            .collect(),
        client,
        mesh: Mesh::default(),
    })
}

/// On Linux the node itself, so that a refused connection is seen as such and the gateway sees its
/// caller's own port; elsewhere the node is inside a virtual machine, and Docker forwards a host port.
fn entrance(service: GatewayService, node: IpAddr, host_ports: &BTreeMap<u16, u16>) -> Option<Entrance> {
    let GatewayService::NodePort { http, https } = service else { return None };
    let at = |port: u16| {
        if cfg!(target_os = "linux") {
            SocketAddr::new(node, port)
        } else {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), host_ports.get(&port).copied().unwrap_or(port))
        }
    };
    Some(Entrance { http: at(http), https: at(https) })
}

async fn outside_records(docker: &Docker, plan: &Plan<'_>) -> Result<Vec<OutsideRecord>, ProviderError> {
    if plan.options.internet == Internet::Real {
        return Ok(outside::real_records(&plan.needs.outside).await);
    }
    Ok(outside::stand_in_records(&outside::existing(docker, plan.cluster()).await?, plan.stand_in_image()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ProviderOptions {
        ProviderOptions::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../kind"))
    }

    #[test]
    fn the_hash_follows_the_configuration_and_not_the_needs() {
        let needs = ClusterNeeds::default();
        let more = ClusterNeeds { outside: vec![OutsideHost { host: "a.org".parse().unwrap(), addresses: 1 }], ..ClusterNeeds::default() };
        let plain = options();
        let other = ProviderOptions { istio: Some("1.30.1".to_owned()), ..options() };
        let kept = ProviderOptions { keep: true, ..options() };
        let hash = |o: &ProviderOptions, n: &ClusterNeeds| Plan::read(o, n).unwrap().hash;
        assert_eq!(hash(&plain, &needs), hash(&kept, &more));
        assert_ne!(hash(&plain, &needs), hash(&other, &needs));
    }

    #[test]
    fn a_run_that_may_change_nothing_is_told_what_would_have_to_be_added() {
        assert!(lacking("c", &[], &[]).is_none());
        let host = OutsideHost { host: "a.org".parse().unwrap(), addresses: 1 };
        let error = lacking("c", &[host], &Settings::read(&options().kind).unwrap().gateways[..1]).unwrap().to_string();
        assert!(error.contains("it lacks gateway istio-system/") && error.contains("host outside the mesh a.org"), "{error}");
    }

    #[test]
    fn names_that_docker_would_refuse_are_refused_first() {
        assert!(check_name("gateproof-2").is_ok());
        for bad in ["", "-a", "a-", "A", "a/b", &"a".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
