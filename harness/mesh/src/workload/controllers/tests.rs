//! From an object to what runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, LogParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::view::{self, is_ready, list, name, number, text};
use super::{InjectionSettings, Injector, LogSink, Proxies, ProxyHandle, Setup, WorkloadSettings, Workloads};
use crate::api::{DeleteOptions, Options, Server, Store};
use crate::net::{Host, Network};

/// Proxies that capture nothing and are ready when told.
#[derive(Default)]
struct Fake {
    ready: Mutex<Option<watch::Sender<bool>>>,
    running: Arc<AtomicUsize>,
}

struct FakeHandle(watch::Receiver<bool>, Arc<AtomicUsize>);

impl Drop for FakeHandle {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Proxies for Fake {
    fn start(&self, _pod: &Arc<Value>, _host: &Host, log: LogSink) -> Box<dyn ProxyHandle> {
        log.line("Envoy proxy is ready");
        self.running.fetch_add(1, Ordering::SeqCst);
        let ready = self.ready.lock().unwrap().get_or_insert_with(|| watch::Sender::new(true)).subscribe();
        Box::new(FakeHandle(ready, self.running.clone()))
    }
}

impl ProxyHandle for FakeHandle {
    fn ready(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

struct World {
    store: Store,
    network: Network,
    proxies: Arc<Fake>,
    workloads: Arc<Workloads>,
}

fn world() -> World {
    let store = Store::new(Options { admission: vec![Arc::new(Injector::new(InjectionSettings::default()))], ..Options::default() });
    let (network, proxies) = (Network::default(), Arc::new(Fake::default()));
    let settings = WorkloadSettings { restart_delay: Duration::from_millis(20), ..WorkloadSettings::default() };
    let setup = Setup { store: store.clone(), network: network.clone(), proxies: proxies.clone(), settings };
    let workloads = Arc::new(Workloads::start(setup).unwrap());
    World { store, network, proxies, workloads }
}

impl World {
    fn make(&self, object: Value) {
        self.store.create(object, "test").unwrap();
    }

    fn namespace(&self, name: &str, labels: Value) {
        self.make(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
    }

    fn deployment(&self, name: &str, replicas: i64, container: Value) {
        self.make(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}}}));
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        self.store.list("Pod", Some("shop"))
    }

    /// Waits until something holds.
    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let work = async {
            loop {
                let mut changed = self.store.changed();
                if holds() {
                    return;
                }
                // Some of what is waited for is no object.
                let _ = tokio::time::timeout(Duration::from_millis(20), changed.changed()).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), work).await.is_err() {
            panic!("not within 10 s: {what}; pods: {:#?}", self.pods().iter().map(|p| p["status"].clone()).collect::<Vec<_>>());
        }
    }

    fn available(&self, name: &str) -> i64 {
        self.store.get("apps/Deployment", "shop", name).and_then(|d| number(&d, "/status/availableReplicas")).unwrap_or(0)
    }
}

fn httpbin() -> Value {
    json!({"name": "web", "image": "go-httpbin:2", "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/status/200", "port": "http"}}})
}

fn client() -> Value {
    json!({"name": "client", "image": "curlimages/curl:8.17.0", "command": ["sleep", "infinity"]})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 8000, "targetPort": "http"}]}})
}

async fn exec(world: &World, pod: &str, command: &[&str]) -> (String, String, i32) {
    let client = Server::new(world.store.clone(), world.workloads.clone()).client();
    let pods: Api<Pod> = Api::namespaced(client, "shop");
    let mut process = pods.exec(pod, command.to_vec(), &AttachParams::default().stdout(true).stderr(true)).await.unwrap();
    let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
    let status = process.take_status().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let (_, _, status) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err), status);
    let status = status.unwrap();
    let cause = status.details.and_then(|d| d.causes).into_iter().flatten().find(|c| c.reason.as_deref() == Some("ExitCode"));
    (out, err, cause.and_then(|c| c.message?.parse().ok()).unwrap_or(0))
}

#[tokio::test]
async fn a_deployment_becomes_a_ready_pod_that_others_reach_by_name() {
    let world = world();
    world.namespace("shop", json!({}));
    world.deployment("web", 2, httpbin());
    world.deployment("client", 1, client());
    world.make(service("web"));
    world.until("both are available", || world.available("web") == 2 && world.available("client") == 1).await;
    world
        .until("endpoints", || {
            let slices = world.store.list("discovery.k8s.io/EndpointSlice", Some("shop"));
            slices
                .iter()
                .any(|s| list(s, "/endpoints").len() == 2 && list(s, "/endpoints").iter().all(|e| e["conditions"]["ready"] == true))
        })
        .await;
    let pod = world.pods().into_iter().find(|p| view::label(p, "app") == Some("client")).unwrap();
    let (out, err, code) =
        exec(&world, name(&pod), &["sh", "-c", "curl -sS -o /dev/null -w '%{http_code}' http://web:8000/get; exit 3"]).await;
    assert_eq!((out.as_str(), err.as_str(), code), ("200", "", 3));
    let client = Server::new(world.store.clone(), world.workloads.clone()).client();
    let logs: Api<Pod> = Api::namespaced(client, "shop");
    let web = world.pods().into_iter().find(|p| view::label(p, "app") == Some("web")).unwrap();
    assert!(logs.logs(name(&web), &LogParams::default()).await.unwrap().contains("listening on http://0.0.0.0:8080"));
    let deployment = world.store.get("apps/Deployment", "shop", "web").unwrap();
    assert_eq!(deployment["status"]["observedGeneration"], deployment["metadata"]["generation"]);
    assert!(view::has_condition(&deployment, "Available"));
    assert_eq!(text(&world.store.get("ConfigMap", "shop", "istio-ca-root-cert").unwrap(), "/metadata/labels/istio.io~1config"), "true");
}

#[tokio::test]
async fn a_sidecar_is_ready_before_the_application_and_counts() {
    let world = world();
    *world.proxies.ready.lock().unwrap() = Some(watch::Sender::new(false));
    world.namespace("shop", json!({"istio-injection": "enabled"}));
    world.deployment("web", 1, httpbin());
    let waiting = || {
        world
            .pods()
            .first()
            .is_some_and(|p| list(p, "/status/initContainerStatuses").get(1).is_some_and(|s| s["state"]["running"].is_object()))
    };
    world.until("the proxy runs", waiting).await;
    let pod = world.pods().remove(0);
    assert_eq!((text(&pod, "/status/phase"), is_ready(&pod)), ("Pending", false));
    assert!(text(&pod, "/status/containerStatuses/0/state/waiting/reason") == "PodInitializing");
    world.proxies.ready.lock().unwrap().as_ref().unwrap().send_replace(true);
    world.until("it is available", || world.available("web") == 1).await;
    let pod = world.pods().remove(0);
    assert!(["/status/initContainerStatuses/1", "/status/containerStatuses/0"].iter().all(|at| pod.pointer(at).unwrap()["ready"] == true));
    assert_eq!(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    world.proxies.ready.lock().unwrap().as_ref().unwrap().send_replace(false);
    world.until("it is not available", || world.available("web") == 0).await;
}

#[tokio::test]
async fn a_new_template_is_rolled_out_and_a_smaller_number_ends_pods() {
    let world = world();
    world.namespace("shop", json!({}));
    world.deployment("web", 2, httpbin());
    world.make(service("web"));
    world.until("two", || world.available("web") == 2).await;
    let before: Vec<String> = world.pods().iter().map(|p| name(p).to_owned()).collect();
    let restart =
        |d: &mut Value| view::put(d, &["spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt"], json!("now"));
    world.store.modify("apps/Deployment", "shop", "web", "test", restart).unwrap();
    world
        .until("two new", || {
            let pods = world.pods();
            pods.len() == 2 && pods.iter().all(|p| is_ready(p) && !before.contains(&name(p).to_owned())) && world.available("web") == 2
        })
        .await;
    world.store.modify("apps/Deployment", "shop", "web", "test", |d| view::put(d, &["spec", "replicas"], json!(0))).unwrap();
    world.until("none", || world.pods().is_empty()).await;
    world
        .until("no endpoints", || world.store.list("discovery.k8s.io/EndpointSlice", Some("shop")).iter().all(|s| s["endpoints"].is_null()))
        .await;
    let deployment = world.store.get("apps/Deployment", "shop", "web").unwrap();
    assert!(deployment["status"].get("replicas").is_none() && view::has_condition(&deployment, "Available"));
}

#[tokio::test]
async fn an_image_that_is_no_program_is_told_of() {
    let world = world();
    world.namespace("shop", json!({}));
    world.deployment("web", 1, json!({"name": "web", "image": "nginx:1"}));
    let reason =
        || world.pods().first().map(|p| text(p, "/status/containerStatuses/0/state/waiting/reason").to_owned()).unwrap_or_default();
    world.until("the image is refused", || reason() == "ImagePullBackOff").await;
    let message = text(&world.pods()[0], "/status/containerStatuses/0/state/waiting/message").to_owned();
    assert!(message.contains("nginx") && message.contains("go-httpbin"), "{message}");
    assert!(world.store.list("Event", Some("shop")).iter().any(|e| text(e, "/message").contains("ErrImagePull")));
}

#[tokio::test]
async fn what_is_missing_is_waited_for_and_what_changes_is_seen() {
    let world = world();
    world.namespace("shop", json!({}));
    let mut container = client();
    view::put(&mut container, &["env"], json!([{"name": "TOKEN", "valueFrom": {"configMapKeyRef": {"name": "run", "key": "token"}}}]));
    view::put(&mut container, &["volumeMounts"], json!([{"name": "run", "mountPath": "/etc/run"}]));
    world.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [container], "volumes": [{"name": "run", "configMap": {"name": "run"}}]}}));
    world.until("the event", || world.store.list("Event", Some("shop")).iter().any(|e| text(e, "/reason") == "FailedMount")).await;
    world.make(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "run", "namespace": "shop"}, "data": {"token": "t1"}}));
    world.until("ready", || world.pods().first().is_some_and(|p| is_ready(p))).await;
    assert_eq!(exec(&world, "p", &["sh", "-c", "echo $TOKEN; cat /etc/run/token"]).await.0, "t1\nt1");
    world.store.modify("ConfigMap", "shop", "run", "test", |c| view::put(c, &["data", "token"], json!("t2"))).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(exec(&world, "p", &["cat", "/etc/run/token"]).await.0, "t2");
    world.store.delete("Pod", "shop", "p", &DeleteOptions::default()).unwrap();
    world.until("gone", || world.pods().is_empty()).await;
}

#[tokio::test]
async fn a_program_that_ends_is_started_again() {
    let world = world();
    world.namespace("shop", json!({}));
    world.deployment("web", 1, json!({"name": "web", "image": "busybox", "command": ["sh", "-c", "echo once; exit 2"]}));
    let status =
        |at: &str| world.pods().first().and_then(|p| p.pointer(&format!("/status/containerStatuses/0{at}")).cloned()).unwrap_or_default();
    world.until("it was restarted", || status("/restartCount").as_i64().unwrap_or(0) >= 2).await;
    world.until("it is told", || status("/state/waiting/reason") == "CrashLoopBackOff").await;
    assert_eq!(status("/lastState/terminated/exitCode"), 2);
    assert_eq!(world.available("web"), 0);
}

#[tokio::test]
async fn a_gateway_is_its_proxy_and_ends_with_it() {
    let world = world();
    world.namespace("shop", json!({}));
    world.make(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gw", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "gw"}}, "template": {
            "metadata": {"labels": {"app": "gw", "sidecar.istio.io/inject": "true"}, "annotations": {"inject.istio.io/templates": "gateway"}},
            "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}}}));
    world.until("available", || world.available("gw") == 1).await;
    assert_eq!(world.proxies.running.load(Ordering::SeqCst), 1);
    world.store.delete("apps/Deployment", "shop", "gw", &DeleteOptions::default()).unwrap();
    world.until("gone", || world.pods().is_empty()).await;
    world.until("stopped", || world.proxies.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn istiod_is_ready_whatever_its_probe_asks() {
    let world = world();
    world.namespace("shop", json!({}));
    let probe = json!({"httpGet": {"path": "/ready", "port": 8080}});
    world.deployment("istiod", 1, json!({"name": "discovery", "image": "istio/pilot:1", "args": ["discovery"], "readinessProbe": probe}));
    world.until("available", || world.available("istiod") == 1).await;
}

#[tokio::test]
async fn stateful_and_daemon_sets_have_their_pods_and_names() {
    let world = world();
    world.namespace("shop", json!({}));
    let template = |app: &str| json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [httpbin()]}});
    world.make(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template("db")}}));
    world.make(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent")}}));
    let mut headless = service("db");
    view::put(&mut headless, &["spec", "clusterIP"], json!("None"));
    world.make(headless);
    let resolves = |name: &str| world.network.names().resolve(&format!("{name}.shop.svc.cluster.local")).map_or(0, |a| a.len());
    world.until("names", || resolves("db") == 2 && resolves("db-1.db") == 1).await;
    world
        .until("the agent", || {
            world.store.get("apps/DaemonSet", "shop", "agent").is_some_and(|d| number(&d, "/status/numberReady") == Some(1))
        })
        .await;
}
