//! Brings a cluster up and down and prints each step: `cargo run --example up -- [--keep] [--name N] [--hold SECONDS] [--delete]`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gateproof::provider::{self, ClusterNeeds, Progress, ProviderOptions};
use gateproof_core::names::{Namespaced, ObjectKey};
use gateproof_core::scenario::{Gateway, GatewayService, KubeObject, OutsideHost};

struct Printer {
    began: Instant,
    out: Mutex<()>,
}

impl Printer {
    fn line(&self, text: &str) {
        let _guard = self.out.lock();
        eprintln!("{:7.2}  {text}", self.began.elapsed().as_secs_f64());
    }
}

impl Progress for Printer {
    fn step_started(&self, name: &str) {
        self.line(&format!("> {name}"));
    }
    fn step_ended(&self, name: &str, took: Duration) {
        self.line(&format!("< {name} {:.2} s", took.as_secs_f64()));
    }
    fn warn(&self, text: &str) {
        self.line(&format!("! {text}"));
    }
}

fn egress(name: &str) -> (Gateway, KubeObject) {
    let gateway = Gateway {
        at: Namespaced { namespace: name.replace("egw", "egress"), name: name.to_owned() },
        labels: [("istio".to_owned(), name.to_owned())].into(),
        service: GatewayService::ClusterIp,
    };
    let ns = gateway.at.namespace.clone();
    let value =
        serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, "labels": {"istio-injection": "enabled"}}});
    let key = ObjectKey { api_version: "v1".to_owned(), kind: "Namespace".to_owned(), namespace: None, name: ns };
    (gateway, KubeObject { key, value, line: 1 })
}

#[tokio::main]
async fn main() {
    let mut options = ProviderOptions::new("kind");
    options.bundle = ProviderOptions::bundle_from_environment();
    let (mut hold, mut delete) = (0, false);
    let mut extra = 0;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keep" => options.keep = true,
            "--delete" => delete = true,
            "--name" => options.cluster_name = words.next().expect("a name"),
            "--hold" => hold = words.next().and_then(|w| w.parse().ok()).expect("seconds"),
            "--no-gateway-api" => options.gateway_api = false,
            "--more" => extra = 1,
            other => panic!("{other}?"),
        }
    }
    let progress = Printer { began: Instant::now(), out: Mutex::new(()) };
    if delete {
        println!("deleted: {:?}", provider::delete(&options.cluster_name, &progress).await);
        return;
    }
    let (pt, pt_ns) = egress("egw-pt");
    let (mtls, mtls_ns) = egress("egw-mtls");
    let (more, more_ns) = egress("egw-more");
    let hosts = ["httpbin.org", "example.org", "www.wikipedia.org", "more.example"].iter().take(3 + extra);
    let outside = hosts.map(|h| OutsideHost { host: h.parse().expect("a host"), addresses: 1 }).collect();
    let mut needs = ClusterNeeds { gateways: vec![pt, mtls], outside, namespaces: vec![pt_ns, mtls_ns], ..ClusterNeeds::default() };
    if extra > 0 {
        needs.gateways.push(more);
        needs.namespaces.push(more_ns);
    }
    let work = async {
        let lease = match provider::up(&options, &needs, &progress).await {
            Ok(lease) => lease,
            Err(error) => {
                eprintln!("error: {error}");
                std::process::exit(3)
            }
        };
        progress.line("up");
        println!("{:#?}\n{:#?}\n{:#?}\n{:#?}", lease.record, lease.versions, lease.gateways, lease.outside);
        println!("{:?} KUBECONFIG={}", lease.outside_fingerprints, lease.kubeconfig.display());
        tokio::time::sleep(Duration::from_secs(hold)).await;
        let result = lease.down(&progress).await;
        progress.line(&format!("down: {result:?}"));
    };
    tokio::select! {
        () = work => {}
        _ = tokio::signal::ctrl_c() => progress.line("interrupted"),
    }
    progress.line("end");
}
