//! Asks the cluster, all at once, until the time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, join_all};
use futures::{StreamExt, stream};
use gateproof_core::names::Namespaced;
use gateproof_core::outcome::Observation;
use gateproof_core::plan::{StateObjects, objects_in};
use gateproof_core::scenario::Probe;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, LogParams};
use serde_json::Value;
use tokio::time::timeout;

use super::concern::{self, Concern};
use super::{Bounds, Red, describe, envoy, tidy};
use crate::kube_ext::Resources;
use crate::probe::exec::pods_of;
use crate::probe::{Witnesses, World};
use crate::sync::ENVOY_ADMIN_PORT;

/// Questions at once.
const AT_ONCE: usize = 8;
/// Objects of a state that are read.
const OBJECTS: usize = 100;
/// Namespaces that are analysed, and whose events are read.
const NAMESPACES: usize = 6;
/// What tells of rejected calls and configuration. Only counters that were ever used are asked for.
const STATS: &str = "/stats?usedonly&filter=%28listener_manager%7Cupdate_%28rejected%7Cfailure%29%7Cwarming%7Cdraining%7Cno_filter_chain_match%7Cssl%5C.%28connection_error%7Cfail_%7Cno_certificate%7Chandshake%29%7Cupstream_cx_%28connect_fail%7Cconnect_timeout%7Cnone_healthy%7Coverflow%29%7Cupstream_rq_%285xx%7Cpending_overflow%7Ctimeout%7Cmaintenance%29%7Cdownstream_rq_%285xx%7C4xx%7Cno_route%29%7Cno_route%7Cno_cluster%7Crbac%7Cmembership_healthy%29";

/// What all questions need.
pub(super) struct Scope<'a> {
    pub(super) world: &'a World,
    pub(super) resources: &'a Resources,
    pub(super) istiod: &'a Namespaced,
    pub(super) began: Timestamp,
    pub(super) bounds: Bounds,
}

/// What became of one question.
#[derive(Debug, Clone)]
pub(super) enum Got {
    Pending,
    File { name: String, note: String },
    Nothing,
    Failed(String),
}

/// What became of all of them.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) files: Vec<(String, Got)>,
    pub(super) odd: Vec<String>,
    pub(super) took: f64,
}

/// Where answers go.
struct Sink<'a> {
    dir: &'a Path,
    bounds: Bounds,
    state: Mutex<Filling>,
}

#[derive(Default)]
struct Filling {
    files: Vec<(String, Got)>,
    /// By question, from 1 on; 0 is for what was seen before any was asked.
    odd: BTreeMap<usize, Vec<String>>,
    written: usize,
}

/// A text for a file, and what stands out in it.
struct Answer {
    text: String,
    note: String,
    odd: Vec<String>,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, note: String::new(), odd: Vec::new() }
    }
}

type Question<'a> = BoxFuture<'a, ()>;

impl<'a> Sink<'a> {
    /// A question whose answer becomes a file. It is known from now on, so that an index can say that it was not done.
    fn question<'s>(&'s self, file: String, about: String, work: impl Future<Output = Result<Answer, String>> + Send + 's) -> Question<'s> {
        let at = {
            let mut state = self.state.lock().expect("no panic holds this lock");
            state.files.push((about, Got::Pending));
            state.files.len() - 1
        };
        async move {
            let got = match work.await {
                Ok(answer) => {
                    let odd = answer.odd.clone();
                    let got = self.write(file, answer).await;
                    self.state.lock().expect("no panic holds this lock").odd.insert(at + 1, odd);
                    got
                }
                Err(why) => Got::Failed(why),
            };
            self.state.lock().expect("no panic holds this lock").files[at].1 = got;
        }
        .boxed()
    }

    async fn write(&self, name: String, answer: Answer) -> Got {
        if answer.text.trim().is_empty() {
            return Got::Nothing;
        }
        let (path, limit) = (self.dir.join(&name), self.bounds.file);
        // A proxy's dump is a megabyte: reading through it would hold up the other questions and the clock.
        let cleaned = tokio::task::spawn_blocking(move || tidy::clean(&tidy::newest(&answer.text, limit))).await;
        let Ok(text) = cleaned else { return Got::Failed("it could not be cleaned of secrets".to_owned()) };
        {
            let mut state = self.state.lock().expect("no panic holds this lock");
            if state.written + text.len() > self.bounds.state {
                return Got::Failed(format!("{} bytes are more than what is left of {} for one state", text.len(), self.bounds.state));
            }
            state.written += text.len();
        }
        match write(&path, &text) {
            Ok(()) => Got::File { name, note: answer.note },
            Err(error) => Got::Failed(error.to_string()),
        }
    }
}

fn write(path: &PathBuf, text: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, text)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Collects into a folder that exists.
pub(super) async fn gather(scope: &Scope<'_>, red: &Red<'_>, dir: &Path) -> Gathered {
    let began = Instant::now();
    let sink = Sink { dir, bounds: scope.bounds, state: Mutex::default() };
    let work = async {
        let target = objects_in(&red.planned.scenario, &red.stage.state).unwrap_or_default();
        let (concern, mut odd) = concerned(scope, red, &target).await;
        let pods = pods(scope, &concern, &mut odd).await;
        sink.state.lock().expect("no panic holds this lock").odd.insert(0, odd);
        let questions = questions(scope, red, &target, &concern, &pods, &sink);
        stream::iter(questions).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    };
    let whole = timeout(scope.bounds.time, work).await.is_ok();
    let state = std::mem::take(&mut *sink.state.lock().expect("no panic holds this lock"));
    let mut odd: Vec<String> = state.odd.into_values().flatten().collect();
    if !whole && state.files.is_empty() {
        odd.push(format!("the cluster did not answer within {:?}", scope.bounds.time));
    }
    Gathered { files: state.files, odd, took: began.elapsed().as_secs_f64() }
}

/// What the red checks are about, the Deployments that have not rolled out, and the proxies that their words name or that
/// are not in sync.
async fn concerned(scope: &Scope<'_>, red: &Red<'_>, target: &StateObjects) -> (Concern, Vec<String>) {
    let scenario = &red.planned.scenario;
    let checks = red.checks.iter().filter_map(|r| Some((scenario.checks.iter().find(|c| c.name == r.name)?, *r)));
    let mut concern = concern::concern(checks);
    let mut odd = Vec::new();

    let deployments: Vec<Namespaced> = concern::objects(red.planned, target)
        .into_iter()
        .filter(|(key, _)| key.kind == "Deployment")
        .filter_map(|(key, _)| Some(Namespaced { namespace: key.namespace.clone()?, name: key.name.clone() }))
        .collect();
    let looks = join_all(deployments.iter().take(OBJECTS).map(|at| async move {
        let api: Api<Deployment> = Api::namespaced(scope.world.client.clone(), &at.namespace);
        api.get_opt(&at.name).await.ok().flatten()
    }))
    .await;
    for (at, look) in deployments.iter().zip(looks) {
        if let Some(short) = look.as_ref().and_then(concern::short_of) {
            odd.push(format!("Deployment {at} has not rolled out: {short}"));
            concern.workloads.insert(at.clone());
        }
    }

    // A message names pods; which Deployment they are of, their labels do not tell for sure: the ReplicaSet's name does.
    let mut said = concern::words(&red.checks);
    said.push_str(red.not_reached.unwrap_or_default());
    if let Ok(statuses) = scope.world.gate.sync_status().await {
        for status in statuses.iter().filter(|s| concern::names(&said, &s.proxy) || !s.refusals().is_empty()) {
            let workload = status.pod().rsplitn(3, '-').nth(2).unwrap_or(status.pod()).to_owned();
            concern.workloads.insert(Namespaced { namespace: status.namespace().to_owned(), name: workload });
        }
    }
    while concern.workloads.len() > scope.bounds.workloads {
        if let Some(last) = concern.workloads.pop_last() {
            odd.push(format!("{last} is concerned too, and left out: at most {} workloads are looked at", scope.bounds.workloads));
        }
    }
    (concern, odd)
}

type Pods = BTreeMap<Namespaced, Vec<Pod>>;

async fn pods(scope: &Scope<'_>, concern: &Concern, odd: &mut Vec<String>) -> Pods {
    let looks = join_all(concern.workloads.iter().map(|at| pods_of(&scope.world.client, at))).await;
    let mut out = Pods::new();
    for (at, look) in concern.workloads.iter().zip(looks) {
        match look {
            Ok(pods) if pods.is_empty() => odd.push(format!("Deployment {at} has no pod")),
            Ok(pods) => {
                out.insert(at.clone(), pods.into_iter().take(scope.bounds.pods).collect());
            }
            Err(error) => odd.push(words(error)),
        }
    }
    out
}

fn questions<'s>(
    scope: &'s Scope<'_>,
    red: &'s Red<'_>,
    target: &'s StateObjects,
    concern: &'s Concern,
    pods: &'s Pods,
    sink: &'s Sink<'_>,
) -> Vec<Question<'s>> {
    let mut namespaces: BTreeSet<String> = concern.namespaces.clone();
    namespaces.extend(concern.workloads.iter().map(|w| w.namespace.clone()));
    let analysed: BTreeSet<String> =
        namespaces.iter().cloned().chain(target.objects.iter().filter_map(|o| o.key.namespace.clone())).take(NAMESPACES).collect();
    let namespaces: Vec<String> = namespaces.into_iter().take(NAMESPACES).collect();

    let mut all = vec![
        // It takes longest, so it begins first.
        sink.question("analysis.txt".into(), format!("`istioctl analyze` of {}", list(&analysed)), analysis(scope, analysed)),
        sink.question("objects.yaml".into(), "the scenario's objects as they stand in the API".into(), objects(scope, red, target)),
        sink.question("proxy-status.txt".into(), "what istiod says of each connected proxy".into(), proxy_status(scope)),
        sink.question(
            "events.txt".into(),
            format!("events of {} since the run began, the newest {} each", list(&namespaces), scope.bounds.events),
            events(scope, namespaces, red.since),
        ),
    ];
    for (at, pods) in pods {
        let file = format!("pods/{}_{}", at.namespace, at.name);
        let about = format!("Deployment {at} and its pods, described: what there is of them, why, and their events");
        all.push(sink.question(format!("{file}.txt"), about, described(scope, at, pods)));
        let about = format!("Deployment {at} and its pods, specification and status");
        all.push(sink.question(format!("{file}.yaml"), about, documents(scope, at, pods)));
    }
    let proxies = pods.values().flatten().filter(|pod| containers(pod).iter().any(|(name, _)| name == "istio-proxy"));
    for pod in proxies {
        let (namespace, name) = place(pod);
        let file = |what: &str| format!("proxies/{namespace}_{name}-{what}");
        all.push(sink.question(
            file("summary.txt"),
            format!("listeners, routes, clusters and secrets of {namespace}/{name} in short"),
            summary(scope, namespace.clone(), name.clone()),
        ));
        all.push(sink.question(
            file("config.json"),
            format!("Envoy's configuration in {namespace}/{name}"),
            config(scope, namespace.clone(), name.clone()),
        ));
        for (what, path, about) in
            [("clusters.txt", "/clusters", "Envoy's endpoints and their health"), ("stats.txt", STATS, "counters of what was rejected")]
        {
            let question = admin(scope, namespace.clone(), name.clone(), path);
            all.push(sink.question(file(what), format!("{about} in {namespace}/{name}"), question));
        }
    }
    for pod in pods.values().flatten() {
        for (container, restarts) in containers(pod) {
            logs(scope, red, sink, pod, &container, restarts, &mut all);
        }
    }
    all.push(sink.question("logs/istiod.log".into(), "istiod since the state".into(), istiod_log(scope, red.since)));
    all
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    if names.is_empty() { "no namespace".to_owned() } else { names.join(", ") }
}

fn place(pod: &Pod) -> (String, String) {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

/// Every container of a pod, with how often it was restarted.
fn containers(pod: &Pod) -> Vec<(String, i32)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let statuses = || {
        let status = pod.status.iter();
        status.flat_map(|s| s.init_container_statuses.iter().chain(s.container_statuses.iter()).flatten())
    };
    let restarts = |name: &str| statuses().find(|s| s.name == name).map_or(0, |s| s.restart_count);
    spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| (c.name.clone(), restarts(&c.name))).collect()
}

fn logs<'s>(
    scope: &'s Scope<'_>,
    red: &'s Red<'_>,
    sink: &'s Sink<'_>,
    pod: &'s Pod,
    container: &str,
    restarts: i32,
    all: &mut Vec<Question<'s>>,
) {
    let (namespace, name) = place(pod);
    let log = |previous: bool| {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            previous,
            // What ended a container may have been said before the state.
            since_time: (!previous).then_some(red.since),
            tail_lines: Some(scope.bounds.lines),
            timestamps: true,
            ..LogParams::default()
        };
        let api: Api<Pod> = Api::namespaced(scope.world.client.clone(), &namespace);
        let name = name.clone();
        async move { api.logs(&name, &parameters).await.map(Answer::from).map_err(words) }
    };
    let file = format!("logs/{namespace}_{name}_{container}");
    let about = format!("log of `{container}` in {namespace}/{name} since the state, the last {} lines", scope.bounds.lines);
    all.push(sink.question(format!("{file}.log"), about, log(false)));
    if restarts > 0 {
        let about = format!("log of `{container}` in {namespace}/{name} before its last restart (of {restarts})");
        all.push(sink.question(format!("{file}-previous.log"), about, log(true)));
    }
}

async fn istiod_log(scope: &Scope<'_>, since: Timestamp) -> Result<Answer, String> {
    let pods = pods_of(&scope.world.client, scope.istiod).await.map_err(words)?;
    let mut out = String::new();
    for pod in pods.iter().take(scope.bounds.pods) {
        let (namespace, name) = place(pod);
        let parameters = LogParams {
            container: Some("discovery".to_owned()),
            since_time: Some(since),
            tail_lines: Some(scope.bounds.lines),
            ..LogParams::default()
        };
        let api: Api<Pod> = Api::namespaced(scope.world.client.clone(), &namespace);
        let log = api.logs(&name, &parameters).await.map_err(words)?;
        if !log.trim().is_empty() {
            out.push_str(&format!("# {namespace}/{name}\n{log}\n"));
        }
    }
    Ok(out.into())
}

async fn analysis(scope: &Scope<'_>, namespaces: BTreeSet<String>) -> Result<Answer, String> {
    let probe = Probe::Analyze { namespaces: namespaces.into_iter().collect() };
    let Observation::Analysis { messages } = scope.world.ask(&probe, &Witnesses::default(), &Default::default()).await.map_err(words)?
    else {
        return Err("istioctl answered something else".to_owned());
    };
    let lines: Vec<(bool, String)> = messages.iter().map(|m| (m.level != "Info", format!("{} [{}] {}", m.level, m.code, m.text))).collect();
    let odd = lines.iter().filter(|(odd, _)| *odd).map(|(_, line)| format!("analysis: {line}")).collect();
    let text = lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    Ok(Answer { text: if text.is_empty() { "no message\n".to_owned() } else { text + "\n" }, note: String::new(), odd })
}

async fn proxy_status(scope: &Scope<'_>) -> Result<Answer, String> {
    let observed = scope.world.ask(&Probe::ProxyStatus, &Witnesses::default(), &Default::default()).await.map_err(words)?;
    let Observation::ProxyStatus { proxies, .. } = observed else { return Err("istiod answered something else".to_owned()) };
    let (mut text, mut odd) = (String::new(), Vec::new());
    for proxy in proxies {
        text.push_str(&format!("{}\n", proxy.id));
        for (what, said) in &proxy.types {
            text.push_str(&format!("  {what:24} {said}\n"));
            if said != "SYNCED" && said != "NOT SENT" {
                odd.push(format!("proxy {}: {what} {said}", proxy.id));
            }
        }
    }
    Ok(Answer { text, note: String::new(), odd })
}

async fn events(scope: &Scope<'_>, namespaces: Vec<String>, since: Timestamp) -> Result<Answer, String> {
    let looks = join_all(namespaces.iter().map(|namespace| async move {
        let api: Api<Event> = Api::namespaced(scope.world.client.clone(), namespace);
        api.list(&ListParams::default().limit(2000)).await.map_err(words)
    }))
    .await;
    let (mut text, mut odd) = (String::new(), Vec::new());
    for (namespace, look) in namespaces.iter().zip(looks) {
        let all: Vec<Value> = look?.items.iter().filter_map(|e| serde_json::to_value(e).ok()).collect();
        let lines = tidy::events(&all, scope.began, scope.bounds.events);
        if lines.is_empty() {
            continue;
        }
        text.push_str(&format!("# {namespace}\n"));
        lines.iter().for_each(|line| text.push_str(&format!("{}\n", line.text)));
        // Pods that were not ready while the cluster began are no news.
        odd.extend(
            lines
                .iter()
                .filter(|l| l.warning && tidy::is_since(l.at, since))
                .rev()
                .take(5)
                .map(|l| format!("event in {namespace}: {}", l.text)),
        );
    }
    Ok(Answer { text, note: String::new(), odd })
}

async fn described(scope: &Scope<'_>, at: &Namespaced, pods: &[Pod]) -> Result<Answer, String> {
    let api: Api<Deployment> = Api::namespaced(scope.world.client.clone(), &at.namespace);
    let mut deployment = serde_json::to_value(api.get(&at.name).await.map_err(words)?).map_err(words)?;
    let api: Api<Event> = Api::namespaced(scope.world.client.clone(), &at.namespace);
    let events = api.list(&ListParams::default().limit(2000)).await.map_err(words)?;
    let events: Vec<Value> = events.items.iter().filter_map(|e| serde_json::to_value(e).ok()).collect();
    let mut pods: Vec<Value> = pods.iter().filter_map(|pod| serde_json::to_value(pod).ok()).collect();
    std::iter::once(&mut deployment).chain(&mut pods).for_each(tidy::conceal);
    Ok(describe::page(&deployment, &pods, &events, scope.began).into())
}

async fn documents(scope: &Scope<'_>, at: &Namespaced, pods: &[Pod]) -> Result<Answer, String> {
    let api: Api<Deployment> = Api::namespaced(scope.world.client.clone(), &at.namespace);
    let deployment = api.get(&at.name).await.map_err(words)?;
    let mut parts = vec![document("apps/v1", "Deployment", &deployment)?];
    for pod in pods {
        parts.push(document("v1", "Pod", pod)?);
    }
    Ok(parts.join("---\n").into())
}

fn document(api_version: &str, kind: &str, object: &impl serde::Serialize) -> Result<String, String> {
    let mut value = serde_json::to_value(object).map_err(words)?;
    value["apiVersion"] = Value::from(api_version);
    value["kind"] = Value::from(kind);
    let yaml = tidy::yaml(value)?;
    Ok(if yaml.ends_with('\n') { yaml } else { yaml + "\n" })
}

async fn objects(scope: &Scope<'_>, red: &Red<'_>, target: &StateObjects) -> Result<Answer, String> {
    let all = concern::objects(red.planned, target);
    let looks = join_all(all.iter().take(OBJECTS).map(|(key, _)| async move {
        let api = scope.resources.api_for(key).await.map_err(words)?;
        api.get_opt(&key.name).await.map_err(words)
    }))
    .await;
    let (mut text, mut odd) = (String::new(), Vec::new());
    for ((key, whose), look) in all.iter().zip(looks) {
        text.push_str(&format!("---\n# {key} ({whose})\n"));
        match look {
            Ok(Some(object)) => {
                text.push_str(
                    &document(&key.api_version, &key.kind, &object).unwrap_or_else(|why| format!("# could not be written: {why}\n")),
                );
            }
            Ok(None) => {
                text.push_str("# not there\n");
                if !whose.ends_with("left out in this state") {
                    odd.push(format!("{key} ({whose}) is not there"));
                }
            }
            Err(why) => text.push_str(&format!("# could not be read: {}\n", why.replace('\n', " "))),
        }
    }
    if all.len() > OBJECTS {
        text.push_str(&format!("# {} more objects are left out\n", all.len() - OBJECTS));
    }
    Ok(Answer { text, note: String::new(), odd })
}

async fn summary(scope: &Scope<'_>, namespace: String, pod: String) -> Result<Answer, String> {
    let dump = scope.world.gate.envoy_dump(&namespace, &pod).await.map_err(words)?;
    let read = tokio::task::spawn_blocking(move || envoy::page(&dump)).await.map_err(words)?;
    let odd = read.1.into_iter().map(|line| format!("proxy {pod}.{namespace}: {line}")).collect();
    Ok(Answer { text: read.0, note: String::new(), odd })
}

async fn config(scope: &Scope<'_>, namespace: String, pod: String) -> Result<Answer, String> {
    let mut dump = scope.world.gate.envoy_dump(&namespace, &pod).await.map_err(words)?;
    let limit = scope.bounds.file;
    let written = tokio::task::spawn_blocking(move || {
        tidy::conceal(&mut dump);
        envoy::within(dump, limit)
    });
    let (text, gone) = written.await.map_err(words)?;
    let note = if gone.is_empty() { String::new() } else { format!("too long, without {}", gone.join(", ")) };
    Ok(Answer { text, note, odd: Vec::new() })
}

async fn admin(scope: &Scope<'_>, namespace: String, pod: String, path: &str) -> Result<Answer, String> {
    let body = scope.world.http.get(&namespace, &pod, ENVOY_ADMIN_PORT, path, Duration::from_secs(5)).await.map_err(words)?;
    Ok(String::from_utf8_lossy(&body).into_owned().into())
}
