//! A run from its first look at the machine to its last line in the report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use gateproof_core::names::{Namespaced, ScenarioId};
use gateproof_core::plan::Plan;
use gateproof_core::report::{RECORD_SCHEMA, RunRecord, VersionRecord};
use gateproof_core::scenario::KubeObject;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::check::Attempts;
use super::diagnostics::Diagnostics;
use super::engine::Engine;
use super::event::{Event, Listener, Pause};
use super::lanes::Lanes;
use super::links;
use super::needs::{needs, objects_of};
use super::reporter::Reporter;
use super::reproduce::{Calling, On, reproduce};
use super::secrets;
use super::state::{Ground, Limits};
use super::steps::Steps;
use super::unreached;
use crate::apply::{Applier, Istiod};
use crate::kube_ext::{PodHttp, Resources};
use crate::probe::logs::LogTaps;
use crate::probe::pods::Pods;
use crate::probe::{Beside, ProbeError, World};
use crate::provider::{self, Cluster, KindFiles, Lease, Progress, ProviderError, ProviderOptions};
use crate::sync::{Gate, Mark};

/// What a run is asked to be.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Where reports go.
    pub reports: PathBuf,
    /// How the cluster is provided.
    pub provider: ProviderOptions,
    /// Why this provider.
    pub chosen: String,
    /// The command line, for the report.
    pub invoked: String,
    /// Applies nothing.
    pub verify_only: bool,
    /// How often a check is asked.
    pub attempts: Attempts,
    /// Whether every proxy's configuration is written down in each state.
    pub observe_proxies: bool,
    /// Ends the run after the first state in which a check is red.
    pub fail_fast: bool,
    /// Waits in each such state.
    pub pause: Option<Arc<dyn Pause>>,
    /// How many scenarios are run at once, at most, where they do not get in each other's way.
    pub parallel: usize,
}

/// Why a run could not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The cluster could not be had.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It was had and cannot be used.
    #[error("failed to prepare the cluster: {0}")]
    Prepare(String),
    /// The report could not be written.
    #[error("failed to write the report to {dir}: {source}")]
    Report {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// A run that has its cluster.
pub struct Session {
    lease: Lease,
    engine: Engine,
    lanes: Lanes,
    record: RunRecord,
    reporter: Arc<Reporter>,
    steps: Arc<Steps>,
    keep: bool,
    /// What was to be run, for the checks that are not reached.
    plans: Vec<Plan>,
    /// How the cluster was asked for, for the commands that have the run again.
    provider: ProviderOptions,
}

impl Session {
    /// Provides what the plan needs and prepares to carry it out.
    ///
    /// # Errors
    /// When the cluster cannot be had or used, or the report has no place.
    pub async fn begin(options: &SessionOptions, plan: &Plan, listener: Arc<dyn Listener>) -> Result<Self, SessionError> {
        let ids: Vec<ScenarioId> = plan.scenarios.iter().map(|s| s.scenario.id.clone()).collect();
        Self::begin_open(options, plan, plan, &ids, listener).await
    }

    /// The same for a run that does not know yet all that it will be asked. `all` is whatever may come; the gateways are
    /// those of `plan`, and [`Session::extend`] adds to them. Hosts outside and certificates are those of `all` from the
    /// start: pods read the CAs once, when they begin. `names` go into the report's file name.
    ///
    /// # Errors
    /// As [`Session::begin`].
    pub async fn begin_open(
        options: &SessionOptions,
        plan: &Plan,
        all: &Plan,
        names: &[ScenarioId],
        listener: Arc<dyn Listener>,
    ) -> Result<Self, SessionError> {
        // Two TLS providers in one process make rustls panic at the first use: say which.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (provider, why) = provider::settle(&options.provider).await;
        let chosen = why.unwrap_or_else(|| options.chosen.clone());
        let options = &SessionOptions { provider, chosen, ..options.clone() };
        let (version, name) = (env!("CARGO_PKG_VERSION"), options.provider.choice.name());
        listener.on(&Event::Note(format!("gateproof {version} on {name} ({})", options.chosen)));
        if options.provider.kind == KindFiles::BuiltIn {
            let text = "versions, gateways and Helm values are those built in; --kind-dir or GATEPROOF_KIND_DIR names a folder with others";
            listener.on(&Event::Note(text.to_owned()));
        }
        let started = Timestamp::now();
        let steps = Arc::new(Steps::new(listener.clone()));
        let lease = provider::up(&options.provider, &needs(plan, all), &*steps).await?;
        match Self::prepare(options, all, names, listener, started, &lease, steps.clone()).await {
            Ok((engine, record, reporter)) => {
                let keep = options.provider.keep;
                let lanes = Lanes::new(lanes(options, &lease, &steps), steps.clone());
                let provider = options.provider.clone();
                Ok(Self { lease, engine, lanes, record, reporter, steps, keep, plans: vec![plan.clone()], provider })
            }
            Err(error) => {
                let _ = lease.down(&*steps).await;
                Err(error)
            }
        }
    }

    async fn prepare(
        options: &SessionOptions,
        plan: &Plan,
        names: &[ScenarioId],
        listener: Arc<dyn Listener>,
        started: Timestamp,
        cluster: &Cluster,
        steps: Arc<Steps>,
    ) -> Result<(Engine, RunRecord, Arc<Reporter>), SessionError> {
        let date = started.strftime("%Y-%m-%d").to_string();
        let reporter = Reporter::reserve(&options.reports, &date, &cluster.record.name, names)
            .map(Arc::new)
            .map_err(|source| SessionError::Report { dir: options.reports.clone(), source })?;
        let prepare = |what: String| move |e: String| SessionError::Prepare(format!("{what}: {e}"));

        let client = cluster.client.clone();
        let certificates = &plan.certificates;
        let (mut run_secrets, objects) = secrets::make(certificates, &cluster.outside_ca_pem, &cluster.outside_fingerprints)
            .map_err(|e| SessionError::Prepare(e.to_string()))?;
        if options.verify_only {
            let homes: BTreeSet<&String> =
                plan.scenarios.iter().flat_map(|s| s.beneath.iter().chain([&s.scenario])).flat_map(|s| &s.run_config).collect();
            for text in secrets::from_cluster(&client, &mut run_secrets, certificates, &homes).await {
                steps.warn(&text);
            }
        }
        let mesh = &cluster.mesh;
        let resources = Resources::new(client.clone());
        let http = PodHttp::new(client.clone());
        let mark = if options.verify_only { Mark::None } else { mesh.mark };
        let gate = Gate::new(client.clone(), http.clone(), resources.clone(), &mesh.root_namespace).in_a_mesh_of_others(
            &mesh.istiod_selector,
            mark,
            mesh.proxies.clone(),
        );
        let gate = gate.at(cluster.pace);
        let gateways: Vec<Namespaced> = cluster.gateways.iter().map(|g| g.at.clone()).collect();
        let version = |what: &str| cluster.versions.iter().find(|v| v.what == what).map(|v| v.observed.clone());
        let world = World {
            client: client.clone(),
            http,
            gate,
            logs: Arc::new(LogTaps::new(client.clone())),
            pods: Arc::new(Pods::new(client.clone())),
            entrances: entrances(cluster),
            secrets: run_secrets,
            dialler: cluster.dialler.clone(),
            pace: cluster.pace,
            analyst: cluster.analyst.clone(),
            services: mesh.services.clone(),
            istioctl_version: version("istioctl"),
            control_plane_version: version("Istio control plane").unwrap_or_else(|| "unknown".to_owned()),
            run_config_namespace: plan
                .scenarios
                .iter()
                .flat_map(|s| s.beneath.iter().chain([&s.scenario]))
                .find_map(|s| s.run_config.first().cloned()),
            // Waited for only when a line does not come; where all is in this process, it comes within milliseconds.
            line_limit: cluster.pace.pause(Duration::from_secs(5)).max(Duration::from_millis(400)),
            beside: Beside::default(),
            calls: Arc::new(AtomicU64::new(0)),
        };
        // The homes of gateways that may still come are kept too: removing one later would take the gateway with it.
        let homes = gateways.iter().chain(plan.gateways.iter().map(|g| &g.at)).map(|at| at.namespace.clone());
        let kept: BTreeSet<String> = homes.chain([mesh.root_namespace.clone(), "default".to_owned()]).collect();
        let mut applier = Applier::new(client.clone(), resources, cluster.images.clone(), kept.iter().cloned().collect());
        if cluster.record.name == "embedded" {
            applier = applier.with_these_images_only();
        }
        if mesh.ours {
            applier = applier.leaving_namespaces();
        } else {
            let declared = objects_of(plan)
                .map(|o| if o.key.kind == "Namespace" { o.key.name.clone() } else { o.key.namespace.clone().unwrap_or_default() });
            applier = applier.looking_for_leftovers_only_in(declared.chain(kept).collect());
        }
        let mut ground = Ground {
            applier,
            secrets: objects.into_iter().map(|o| (place(&o), o)).collect(),
            scaled: BTreeMap::new(),
            control_plane: Istiod::new(client.clone(), world.http.clone(), mesh.istiod.clone(), mesh.ours || mesh.may_scale_gateways),
            rolled_out: BTreeSet::new(),
            gateways,
            istiod: mesh.istiod.clone(),
            ours: mesh.ours,
            every_proxy: options.observe_proxies,
            limits: Limits::default(),
            known: None,
        };
        if !options.verify_only {
            let name = "remove what a killed run left";
            steps.step_started(name);
            let began = Instant::now();
            let left = ground.remove_leftovers(plan).await;
            let changed = ground.control_plane.put_back(ground.limits.ready).await;
            steps.step_ended(name, began.elapsed());
            for key in changed.map_err(|e| prepare("putting back what an earlier run changed".to_owned())(e.to_string()))? {
                steps.warn(&format!("{key} was left changed by an earlier run and is as it was before"));
            }
            for key in left.map_err(|e| prepare("removing what an earlier run left".to_owned())(e.to_string()))? {
                steps.warn(&format!("{key} was left by an earlier run and is removed"));
            }
        }
        let unprepared = |e: ProbeError| SessionError::Prepare(e.to_string());
        world.pods.look(&ground.gateways.iter().cloned().collect()).await.map_err(unprepared)?;
        world.logs.follow(&world.pods, &ground.gateways.iter().map(|g| (g.clone(), None)).collect::<Vec<_>>()).await.map_err(unprepared)?;
        let mut versions = cluster.versions.clone();
        versions.extend(envoy_versions(&world, &ground.gateways).await);
        let record = RunRecord {
            schema: RECORD_SCHEMA,
            started: started.to_string(),
            finished: None,
            gateproof: env!("CARGO_PKG_VERSION").to_owned(),
            invoked: options.invoked.clone(),
            provider: gateproof_core::report::ProviderRecord { chosen: options.chosen.clone(), ..cluster.record.clone() },
            versions,
            warnings: Vec::new(),
            outside: cluster.outside.clone(),
            gateways: cluster.gateways.clone(),
            preflight: cluster.preflight.clone(),
            steps: Vec::new(),
            scenarios: Vec::new(),
            reproduce: Vec::new(),
            again: None,
            diagnostics: None,
            ended_early: None,
        };
        let mut engine = Engine::new(world, ground, listener);
        engine.attempts = options.attempts;
        engine.observe = options.observe_proxies.then(|| outside_addresses(cluster));
        engine.verify_only = options.verify_only;
        engine.fail_fast = options.fail_fast;
        engine.pause.clone_from(&options.pause);
        engine.reached_by = (cluster.kubeconfig.clone(), cluster.record.context.clone());
        engine.may_scale_gateways = mesh.may_scale_gateways;
        let istiod = engine.ground.istiod.clone();
        let diagnostics = Diagnostics::new(reporter.dir(), reporter.diagnostics(), started, Resources::new(client), istiod);
        engine.diagnostics = Some(Arc::new(Mutex::new(diagnostics)));
        Ok((engine, record, reporter))
    }

    /// Carries out a plan. May be called again with another part of the catalogue.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub async fn run(&mut self, plan: &Plan) -> Result<(), SessionError> {
        self.plans.push(plan.clone());
        let (reporter, steps) = (&self.reporter, &self.steps);
        let save = |record: &RunRecord| {
            let copy = || {
                let mut record = record.clone();
                steps.write_into(&mut record);
                links::from_reports(&mut record, reporter.dir());
                record
            };
            let steps = steps.clone();
            Reporter::save_aside(reporter, copy, move |error| steps.warn(&format!("the report could not be saved: {error}")));
        };
        let ended = if self.lanes.are_several() {
            self.lanes.run(&mut self.engine, plan, &mut self.record, &save).await
        } else {
            self.engine.run(plan, &mut self.record, &save).await
        };
        if let Some(why) = ended {
            self.ended_early(&why);
        }
        Ok(())
    }

    /// Adds to the cluster the gateways that this plan needs and that it does not have yet. `plan` is all that was asked so
    /// far, `all` as in [`Session::begin_open`].
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn extend(&mut self, options: &ProviderOptions, plan: &Plan, all: &Plan) -> Result<(), SessionError> {
        let there: BTreeSet<&Namespaced> = self.engine.ground.gateways.iter().collect();
        if plan.gateways.iter().all(|g| there.contains(&g.at)) {
            return Ok(());
        }
        self.lease.extend(options, &needs(plan, all), &*self.steps).await?;
        let cluster: &Cluster = &self.lease;
        let gateways: Vec<Namespaced> = cluster.gateways.iter().map(|g| g.at.clone()).collect();
        let added: Vec<Namespaced> = gateways.iter().filter(|g| !there.contains(g)).cloned().collect();
        self.engine.world.entrances = entrances(cluster);
        self.engine
            .world
            .logs
            .follow(&self.engine.world.pods, &added.iter().map(|g| (g.clone(), None)).collect::<Vec<_>>())
            .await
            .map_err(|e| SessionError::Prepare(e.to_string()))?;
        self.record.versions.extend(envoy_versions(&self.engine.world, &added).await);
        self.record.gateways.clone_from(&cluster.gateways);
        self.record.outside.clone_from(&cluster.outside);
        self.engine.ground.gateways = gateways;
        self.engine.ground.known = None;
        Ok(())
    }

    /// Where the report is.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.reporter.path()
    }

    /// Writes what there is of the report, now.
    pub fn save(&mut self) {
        self.steps.write_into(&mut self.record);
        links::from_reports(&mut self.record, self.reporter.dir());
        if let Err(error) = self.reporter.write(&self.record) {
            self.steps.warn(&format!("the report could not be saved: {error}"));
        }
    }

    /// Which provider gave the cluster.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.record.provider.name
    }

    /// Whether its cluster is the simulated mesh, of which there can be several at once.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.record.provider.name == "embedded"
    }

    /// The engine, for commands that change states by themselves.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Notes why the run ends before its time; the checks that it did not come to are then recorded with that reason.
    pub fn ended_early(&mut self, why: &str) {
        self.record.ended_early = Some(why.to_owned());
    }

    /// Leaves everything as it stands, on a kept cluster, without a report; returns the kubeconfig's path.
    /// The next run on the cluster removes what is left.
    ///
    /// # Errors
    /// When the cluster cannot be given back.
    pub async fn leave(self) -> Result<PathBuf, SessionError> {
        let kubeconfig = self.lease.kubeconfig.clone();
        self.lease.down(&*self.steps).await?;
        Ok(kubeconfig)
    }

    /// Writes the report, gives the cluster back, and returns the record and the report's path.
    ///
    /// # Errors
    /// When the report cannot be written or the cluster cannot be given back.
    pub async fn finish(mut self, listener: &dyn Listener) -> Result<(RunRecord, PathBuf), SessionError> {
        // Broken off, scenarios were in the middle of something.
        self.lanes.give_back(&mut self.engine, &mut self.record);
        if let Some(why) = self.record.ended_early.clone() {
            for plan in &self.plans {
                unreached::fill(&mut self.record, plan, &why);
            }
            // Broken off between the collection and the record of it.
            let folder = self.engine.diagnostics_folder();
            self.record.diagnostics = self.record.diagnostics.take().or(folder);
        }
        let kept = self.keep || self.record.provider.origin.starts_with("reused") || !self.lease.mesh.ours;
        if kept && !self.engine.verify_only {
            let (name, began) = ("remove what was applied", Instant::now());
            self.steps.step_started(name);
            let mut failed = self.engine.clear().await;
            failed.extend(self.lanes.clear().await);
            self.steps.step_ended(name, began.elapsed());
            // A run that leaves something behind is not green, whatever its checks said.
            for text in failed {
                self.steps.warn(&text);
                self.record.ended_early.get_or_insert(text);
            }
        }
        links::from_reports(&mut self.record, self.reporter.dir());
        let calling = Calling::of(&self.provider, &self.plans);
        let on = match self.lease.mesh.context.as_deref() {
            Some(context) => On::Existing(context),
            None if self.is_simulated() => On::Embedded,
            None => On::Kind,
        };
        self.record.again = (on == On::Embedded).then(|| calling.again(&self.record.scenarios, &self.plans));
        self.record.reproduce = reproduce(&self.record.scenarios, &self.plans, &calling, on);
        let down = self.lease.down(&*self.steps).await;
        self.steps.write_into(&mut self.record);
        self.record.finished = Some(Timestamp::now().to_string());
        self.reporter.note_history(&mut self.record);
        self.reporter.write(&self.record).map_err(|source| SessionError::Report { dir: self.reporter.dir().to_owned(), source })?;
        let path = self.reporter.path();
        listener.on(&Event::Finished(Box::new(self.record.clone()), path.clone()));
        down?;
        // Clients, logs that are followed, and a simulated mesh with all that runs in it: nobody waits for their end.
        let engine = self.engine;
        tokio::task::spawn_blocking(move || drop(engine));
        Ok((self.record, path))
    }
}

/// How many scenarios may be run at once.
fn lanes(options: &SessionOptions, cluster: &Cluster, steps: &Steps) -> usize {
    if options.parallel <= 1 || options.verify_only {
        return 1;
    }
    let why = if !cluster.mesh.ours {
        "the cluster is not gateproof's alone"
    } else if options.observe_proxies {
        "every proxy's configuration is written down in each state"
    } else if options.pause.is_some() {
        "a red state is to be looked at while it stands"
    } else {
        return options.parallel;
    };
    steps.warn(&format!("scenarios are run one after another and not {} at once: {why}", options.parallel));
    1
}

fn place(object: &KubeObject) -> Namespaced {
    Namespaced { namespace: object.key.namespace.clone().unwrap_or_default(), name: object.key.name.clone() }
}

fn entrances(cluster: &Cluster) -> BTreeMap<(Namespaced, u16), std::net::SocketAddr> {
    let ports = cluster.gateways.iter().flat_map(|g| [80, 443].map(|port| (g.at.clone(), port)));
    ports.filter_map(|(at, port)| Some(((at.clone(), port), cluster.outside_address(&at, port).ok()?))).collect()
}

fn outside_addresses(cluster: &Cluster) -> BTreeMap<std::net::IpAddr, String> {
    let hosts = cluster.outside.iter();
    hosts.flat_map(|host| host.addresses.iter().filter_map(|a| Some((a.parse().ok()?, host.host.clone())))).collect()
}

/// Envoy's own version in each gateway: a stock build shows as such.
async fn envoy_versions(world: &World, gateways: &[Namespaced]) -> Vec<VersionRecord> {
    let mut out = Vec::new();
    for gateway in gateways {
        let Ok(target) = crate::probe::exec::target(&world.pods, gateway, None).await else { continue };
        let answer = world.http.get(&target.namespace, &target.pod, 15000, "/server_info", Duration::from_secs(5)).await;
        let info: Option<serde_json::Value> = answer.ok().and_then(|body| serde_json::from_slice(&body).ok());
        if let Some(version) = info.as_ref().and_then(|i| i["version"].as_str()) {
            out.push(VersionRecord { what: format!("Envoy in {gateway}"), observed: version.to_owned(), declared: None });
        }
    }
    out
}
