//! Patterns of scenarios that run as they stand: ingress by host, egress by server name.

use gateproof_core::names::{HostName, ScenarioId};

use super::File;

/// The sample applications that the patterns stand on, for a scenarios folder without them.
pub(super) fn sample_apps() -> Vec<File> {
    macro_rules! file {
        ($name:literal) => {
            (concat!("00-sample-apps/", $name).to_owned(), include_str!(concat!("../../../../scenarios/00-sample-apps/", $name)).to_owned())
        };
    }
    vec![file!("scenario.yaml"), file!("namespace.yaml"), file!("httpbin.yaml"), file!("sleep.yaml"), file!("callers.yaml")]
}

/// A name for objects, from the last part of the scenario's: `30-shop` → `shop`.
pub(super) fn object_name(id: &ScenarioId) -> String {
    let last = id.as_str().rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let bare = last.trim_start_matches(|c: char| c.is_ascii_digit() || "-._".contains(c));
    let source = if bare.is_empty() { last.as_str() } else { bare };
    let name: String = source.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { "new".to_owned() } else { name }
}

/// A host that nobody else has.
pub(super) fn default_host(id: &ScenarioId, egress: bool) -> String {
    format!("{}.example.{}", object_name(id), if egress { "org" } else { "com" })
}

/// Where the schema lies, seen from the scenario.
pub(super) fn schema_line(id: &ScenarioId) -> String {
    let up = "../".repeat(id.as_str().split('/').count());
    format!("# yaml-language-server: $schema={up}{}\n", super::write::SCHEMA)
}

fn fill(text: &str, id: &ScenarioId, host: &HostName) -> String {
    text.replace("NAME", &object_name(id)).replace("HOST", host.as_str())
}

fn files(id: &ScenarioId, host: &HostName, scenario: &str, manifests: &[(&str, &str)]) -> Vec<File> {
    let mut out = vec![(format!("{id}/scenario.yaml"), schema_line(id) + &fill(scenario, id, host))];
    out.extend(manifests.iter().map(|(name, text)| (format!("{id}/{name}"), fill(text, id, host))));
    out
}

/// A host that the shared ingress gateway serves from httpbin.
pub(super) fn ingress(id: &ScenarioId, host: &HostName) -> Vec<File> {
    files(id, host, INGRESS, &[("gateway.yaml", INGRESS_GATEWAY), ("virtualservice.yaml", INGRESS_ROUTES)])
}

/// A host outside the mesh that is reached through the egress gateway, its TLS left sealed.
pub(super) fn egress(id: &ScenarioId, host: &HostName) -> Vec<File> {
    let manifests = [
        ("serviceentry.yaml", EGRESS_ENTRY),
        ("gateway.yaml", EGRESS_GATEWAY),
        ("destinationrule.yaml", EGRESS_SUBSET),
        ("virtualservice.yaml", EGRESS_ROUTES),
    ];
    files(id, host, EGRESS, &manifests)
}

const INGRESS: &str = r#"title: HOST through the ingress gateway
tags: [ingress]
mechanism: |
  The Gateway makes the shared ingress gateway listen for the host on port 80, and the VirtualService says where its requests
  go: to the httpbin of 00-sample-apps. Put your own Service there, and its manifests beside this file.
needs: [00-sample-apps]
manifests: [gateway.yaml, virtualservice.yaml]
variations:
  - name: without the VirtualService
    about: The gateway listens for the host, but nothing says where its requests go.
    changes: [{without: virtualservice.yaml}]

checks:
  - name: the host is served
    proves: A request for HOST takes the route named all, through the gateway and httpbin's sidecar.
    http: {from: outside, gateway: istio-system/istio-ingressgateway, url: "http://HOST/get"}
    expect:
      status: 200
      path:
        - {proxy: istio-system/istio-ingressgateway, route: all, cluster: outbound|8000||httpbin.mesh-test.svc.cluster.local, code: 200}
        - {proxy: mesh-test/httpbin, cluster: inbound|8080||, code: 200}
  - name: another host is not served
    proves: A Host that nobody declared is refused by the gateway itself; it does not fall through to httpbin.
    http: {from: outside, gateway: istio-system/istio-ingressgateway, url: "http://not-HOST/get"}
    expect:
      status: 404
      path: [{proxy: istio-system/istio-ingressgateway, flags: NR, details: route_not_found, code: 404}]
      absentFrom: [mesh-test/httpbin]
  - name: without the VirtualService the host is not served
    proves: It is the VirtualService that leads to httpbin, and nothing else.
    given: without the VirtualService
    http: {from: outside, gateway: istio-system/istio-ingressgateway, url: "http://HOST/get"}
    expect:
      status: 404
      path: [{proxy: istio-system/istio-ingressgateway, flags: NR, code: 404}]
      absentFrom: [mesh-test/httpbin]
"#;

const INGRESS_GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: NAME
  namespace: mesh-test
spec:
  selector:
    istio: ingressgateway
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [HOST]
";

const INGRESS_ROUTES: &str = "# The first route that matches wins. Its name stands in the access log, where checks look for it.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: NAME
  namespace: mesh-test
spec:
  hosts: [HOST]
  gateways: [NAME]
  http:
  - name: all
    match:
    - uri: {prefix: /}
    route:
    - destination:
        host: httpbin.mesh-test.svc.cluster.local
        port: {number: 8000}
";

const EGRESS: &str = r#"title: HOST through the egress gateway, its TLS left sealed
tags: [egress, tls]
mechanism: |
  The application speaks HTTPS to the outside by itself; what can be read on the way is the server name. The sidecar sends the
  connection to the egress gateway instead of the host (first leg), and the gateway sends it on to the host (second leg). The
  ServiceEntry makes the host known, the DestinationRule declares the subset that the first leg names. The host that answers is
  a stand-in, made for the run.
needs: [00-sample-apps]
outside: [HOST]
manifests: [serviceentry.yaml, gateway.yaml, destinationrule.yaml, virtualservice.yaml]
variations:
  - name: without the VirtualService
    about: The host is known and the gateway is ready, but no route leads through it.
    changes: [{without: virtualservice.yaml}]
  - name: without the DestinationRule
    about: The first leg names a subset that nobody declares.
    changes: [{without: destinationrule.yaml}]

checks:
  - name: the call goes through the egress gateway
    proves: The application gets its answer with the host's own certificate, and the call's own lines are in both proxies' logs.
    exec: &call
      in: mesh-test/sleep
      command: [curl, -sS, -o, /dev/null, -w, "%{http_code}", "https://HOST/get"]
    expect:
      stdout: "200"
      certificate: {outside: HOST}
      path:
        - {proxy: mesh-test/sleep, cluster: outbound|443|NAME|istio-egressgateway.istio-system.svc.cluster.local, sni: HOST}
        - {proxy: istio-system/istio-egressgateway, cluster: outbound|443||HOST, sni: HOST}
  - name: another server name is closed
    proves: The gateway is no open relay. A name that nobody declared is closed, not answered.
    http: {from: mesh-test/sleep, gateway: istio-system/istio-egressgateway, url: "https://not-HOST/"}
    expect:
      connection: [closed, reset]
      path: [{proxy: istio-system/istio-egressgateway, flags: NR, sni: not-HOST, code: 0}]
  - name: without the VirtualService the call goes past the gateway
    proves: It is the VirtualService that leads through the gateway. Without it the call still succeeds, directly.
    given: without the VirtualService
    exec: *call
    expect:
      stdout: "200"
      path: [{proxy: mesh-test/sleep, cluster: outbound|443||HOST, sni: HOST}]
      absentFrom: [istio-system/istio-egressgateway]
  - name: without the DestinationRule the call fails
    proves: The route names a subset, and without it there is nowhere to go (NC).
    given: without the DestinationRule
    exec: *call
    expect:
      connection: [closed, reset]
      path: [{proxy: mesh-test/sleep, flags: NC, sni: HOST}]
      absentFrom: [istio-system/istio-egressgateway]
"#;

const EGRESS_ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: NAME
  namespace: mesh-test
spec:
  hosts: [HOST]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - {number: 443, name: tls, protocol: TLS}
";

const EGRESS_GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: NAME-egress
  namespace: mesh-test
spec:
  selector:
    istio: egressgateway
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    hosts: [HOST]
    tls:
      mode: PASSTHROUGH
";

const EGRESS_SUBSET: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: NAME-egress
  namespace: mesh-test
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: NAME
";

const EGRESS_ROUTES: &str = "# Two legs, told apart by the proxy that reads them.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: NAME-egress
  namespace: mesh-test
spec:
  hosts: [HOST]
  gateways: [mesh, NAME-egress]
  tls:
  # first leg: from the sidecar to the egress gateway
  - match:
    - gateways: [mesh]
      port: 443
      sniHosts: [HOST]
    route:
    - destination:
        host: istio-egressgateway.istio-system.svc.cluster.local
        subset: NAME
        port: {number: 443}
  # second leg: from the egress gateway to the host
  - match:
    - gateways: [NAME-egress]
      port: 443
      sniHosts: [HOST]
    route:
    - destination:
        host: HOST
        port: {number: 443}
";
