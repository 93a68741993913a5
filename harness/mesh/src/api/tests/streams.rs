//! What needs a node: exec, attach, logs, port-forward, proxy.

use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, LogParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fake::Node;
use super::{pod, status_of, store};

fn pods() -> (crate::api::Store, kube::Client, Api<Pod>) {
    let store = store();
    store.create(pod("a"), "test").unwrap();
    store.patch_status("Pod", "default", "a", &json!({"podIP": "10.0.0.1", "phase": "Running"}), "test").unwrap();
    let client = Node::server(&store).client();
    (store.clone(), client.clone(), Api::namespaced(client, "default"))
}

fn in_c() -> AttachParams {
    AttachParams::default().container("c").stdout(true).stderr(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_its_output_and_exit_code() {
    let (_store, _, pods) = pods();
    let mut process = pods.exec("a", ["fail"], &in_c()).await.unwrap();
    let (mut stdout, mut stderr, status) = (process.stdout().unwrap(), process.stderr().unwrap(), process.take_status().unwrap());
    let (mut out, mut err) = (String::new(), String::new());
    let (a, b, status) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err), status);
    a.and(b).unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out", "err"));
    let status = status.unwrap();
    assert_eq!(status.status.as_deref(), Some("Failure"));
    let causes = status.details.unwrap().causes.unwrap();
    assert_eq!((causes[0].reason.as_deref(), causes[0].message.as_deref()), (Some("ExitCode"), Some("7")));
    process.join().await.unwrap();
}

#[tokio::test]
async fn standard_input_reaches_the_command_and_its_end_too() {
    let (_store, _, pods) = pods();
    let mut process = pods.exec("a", ["cat"], &in_c().stdin(true)).await.unwrap();
    let (mut stdin, mut stdout, status) = (process.stdin().unwrap(), process.stdout().unwrap(), process.take_status().unwrap());
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut out = String::new();
    let (_, status) = tokio::join!(stdout.read_to_string(&mut out), status);
    assert_eq!((out.as_str(), status.unwrap().status.as_deref()), ("hello", Some("Success")));
}

#[tokio::test]
async fn much_output_comes_whole() {
    let (_store, _, pods) = pods();
    let mut process = pods.exec("a", ["much"], &in_c()).await.unwrap();
    let mut out = Vec::new();
    process.stdout().unwrap().read_to_end(&mut out).await.unwrap();
    assert_eq!(out.len(), 1_000_000);
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_in_kubernetes_words() {
    let (store, _, pods) = pods();
    let error = |r: Result<kube::api::AttachedProcess, kube::Error>| status_of(r.err().unwrap());
    let unknown = error(pods.exec("a", ["x"], &AttachParams::default().container("z")).await);
    assert_eq!((unknown.code, unknown.message.as_str()), (400, "container z is not valid for pod a"));
    let unclear = error(pods.exec("a", ["x"], &AttachParams::default()).await);
    assert_eq!(unclear.message, "a container name must be specified for pod a, choose one of: [c istio-proxy]");
    let absent = error(pods.exec("b", ["x"], &in_c()).await);
    assert_eq!((absent.code, absent.message.as_str()), (404, "pods \"b\" not found"));
    let mut waiting = pod("w");
    waiting["spec"].as_object_mut().unwrap().remove("nodeName");
    store.create(waiting, "test").unwrap();
    assert_eq!(error(pods.exec("w", ["x"], &in_c()).await).message, "pod w does not have a host assigned");
    let mut process = pods.exec("a", ["nothing"], &in_c()).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert!(status.message.unwrap().contains("executable file not found"));
}

#[tokio::test]
async fn a_port_echoes_and_another_refuses() {
    let (_store, _, pods) = pods();
    let mut forward = pods.portforward("a", &[80, 1]).await.unwrap();
    let mut stream = forward.take_stream(80).unwrap();
    let refused = forward.take_error(1).unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
    assert!(refused.await.unwrap().contains("connection refused"));
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), forward.join()).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_pods_end_of_a_connection_is_seen() {
    let (_store, _, pods) = pods();
    for (port, said) in [(1, ""), (2, "bye")] {
        let mut forward = pods.portforward("a", &[port]).await.unwrap();
        let mut stream = forward.take_stream(port).unwrap();
        let mut rest = String::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_and_followed() {
    let (_store, _, pods) = pods();
    let c = || LogParams { container: Some("c".to_owned()), ..LogParams::default() };
    assert_eq!(pods.logs("a", &c()).await.unwrap(), "line 0 since false\nline 1 since false\nline 2 since false\n");
    let since = Some(k8s_openapi::jiff::Timestamp::now());
    let follow = LogParams { follow: true, since_time: since, ..c() };
    let mut lines = pods.log_stream("a", &follow).await.unwrap().lines();
    for n in 0..3 {
        assert_eq!(lines.try_next().await.unwrap().unwrap(), format!("line {n} since true"));
    }
    assert!(tokio::time::timeout(Duration::from_millis(20), lines.try_next()).await.is_err(), "it goes on");
    let previous = status_of(pods.logs("a", &LogParams { previous: true, ..c() }).await.unwrap_err());
    assert_eq!(previous.message, "previous terminated container \"c\" in pod \"a\" not found");
}

#[tokio::test]
async fn pods_and_services_are_reached_by_proxy() {
    let (store, client, _) = pods();
    let get = async |path: &str| {
        let request = hyper::Request::get(path).header("user-agent", "token").body(Vec::new()).unwrap();
        client.request_text(request).await
    };
    let pod = get("/api/v1/namespaces/default/pods/http:a:8080/proxy/x/y?z=1").await.unwrap();
    assert_eq!(pod, "default/a:8080 GET /x/y?z=1 token");
    let refused = status_of(get("/api/v1/namespaces/default/pods/http:a:1/proxy/x").await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (503, "ServiceUnavailable"));
    assert_eq!(refused.message, "error trying to reach service: dial tcp 10.0.0.1:1: connect: connection refused");
    store
        .create(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
                "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8000}]}}),
            "test",
        )
        .unwrap();
    assert_eq!(status_of(get("/api/v1/namespaces/default/services/s:80/proxy/").await.unwrap_err()).code, 503);
    store
        .create(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "s-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "s"}},
                "ports": [{"name": "http", "port": 8000}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}}]}),
            "test",
        )
        .unwrap();
    assert_eq!(get("/api/v1/namespaces/default/services/http:s:http/proxy/version").await.unwrap(), "default/a:8000 GET /version token");
}

#[tokio::test]
async fn a_person_may_ask_over_a_socket() {
    let store = store();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Node::server(&store);
    let serving = tokio::spawn(async move { server.serve(listener).await });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("v1.34.0"), "{answer}");
    serving.abort();
}
