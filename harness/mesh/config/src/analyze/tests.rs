use std::sync::Arc;

use super::{ANALYSED, NOT_ANALYSED, analyze};
use crate::Snapshot;

fn found(objects: &str) -> Vec<String> {
    let mut all = Vec::new();
    for text in objects.split("\n---\n") {
        let object: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
        all.push(Arc::new(object));
    }
    let snapshot = Snapshot { objects: all, root_namespace: "istio-system".to_owned(), domain: "cluster.local".to_owned() };
    analyze(&snapshot).messages.iter().map(ToString::to_string).collect()
}

const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {istio-injection: enabled}}}";

#[test]
fn every_code_is_either_looked_for_or_not() {
    assert!(ANALYSED.iter().all(|code| !NOT_ANALYSED.contains(code)));
    assert!(ANALYSED.is_sorted() && NOT_ANALYSED.is_sorted());
}

#[test]
fn namespaces_and_pods_without_a_proxy_are_told() {
    let objects = format!(
        "{NAMESPACE}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: b}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: kube-system}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: a}}, spec: {{containers: [{{name: app, image: x}}]}}}}"
    );
    let wanted = [
        "Warning [IST0103] (Pod a/p) The pod a/p is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
        // As istioctl on a kind cluster printed it, but for the name.
        "Info [IST0102] (Namespace b) The namespace is not enabled for Istio injection. Run 'kubectl label namespace b istio-injection=enabled' to enable it, or 'kubectl label namespace b istio-injection=disabled' to explicitly mark it as not needing injection.",
    ];
    assert_eq!(found(&objects), wanted);
}

/// As istioctl on a kind cluster printed it.
#[test]
fn an_istiod_that_may_fetch_keys_from_anywhere_is_told_once_tokens_are_asked_for() {
    let istiod = |env: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: istiod, namespace: istio-system, labels: {{app: istiod}}}}, spec: {{template: {{metadata: {{labels: {{sidecar.istio.io/inject: 'false'}}}}, spec: {{containers: [{{name: discovery, image: pilot, env: [{env}]}}]}}}}}}}}"
        )
    };
    let policy = "{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: tokens, namespace: istio-system}, spec: {jwtRules: [{issuer: i, jwks: '{}'}]}}";
    let told = |objects: &str| found(objects).into_iter().filter(|line| line.contains("IST0175")).collect::<Vec<_>>();
    let wanted = "Warning [IST0175] (Deployment istio-system/istiod) BLOCKED_CIDRS_IN_JWKS_URIS is not configured but 1 RequestAuthentication resource(s) exist (istio-system/tokens). Consider configuring it to restrict JWKS URI fetches to trusted networks.";
    assert_eq!(told(&format!("{policy}\n---\n{}", istiod(""))), [wanted]);
    let restricted = istiod("{name: BLOCKED_CIDRS_IN_JWKS_URIS, value: 10.0.0.0/8}");
    assert_eq!(told(&format!("{policy}\n---\n{restricted}")), Vec::<String>::new());
    assert_eq!(told(&istiod("")), Vec::<String>::new());
}

#[test]
fn a_virtual_service_without_gateway_host_subset_or_port_is_told() {
    let objects = format!(
        "{NAMESPACE}
---
{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: a}}, spec: {{ports: [{{name: http, port: 80}}, {{name: web, port: 81}}]}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: a}}
spec:
  hosts: [x.y]
  gateways: [g]
  http:
  - route:
    - {{destination: {{host: s}}, weight: 1}}
    - {{destination: {{host: s, port: {{number: 82}}, subset: v1}}, weight: 1}}
    - {{destination: {{host: t}}, weight: 1}}"
    );
    let wanted = [
        "Error [IST0101] (VirtualService a/v) Referenced gateway not found: \"g\"",
        "Error [IST0101] (VirtualService a/v) Referenced host not found: \"t\"",
        "Error [IST0101] (VirtualService a/v) Referenced host+subset in destinationrule not found: \"s+v1\"",
        "Error [IST0101] (VirtualService a/v) Referenced host:port not found: \"s:82\"",
        "Error [IST0112] (VirtualService a/v) This VirtualService routes to a service \"s\" that exposes multiple ports [80 81]. Specifying a port in the destination is required to disambiguate.",
        "Warning [IST0132] (VirtualService a/v) one or more host [x.y] defined in VirtualService a/v not found in Gateway a/g.",
        "Info [IST0118] (Service a/s) Port name web (port: 81, targetPort: 0) doesn't follow the naming convention of Istio port.",
    ];
    assert_eq!(found(&objects), wanted);
}

#[test]
fn gateways_that_share_pods_port_and_host_conflict() {
    let gateway = |name: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: {name}, namespace: a}}, spec: {{selector: {{istio: gw}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [x.y]}}]}}}}"
        )
    };
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: b, labels: {istio: gw}}, spec: {containers: []}}";
    let service = "{apiVersion: v1, kind: Service, metadata: {name: gw, namespace: b}, spec: {selector: {istio: gw}, ports: [{name: http, port: 8080, protocol: TCP}]}}";
    let all = found(&[gateway("one").as_str(), &gateway("two"), pod, service].join("\n---\n"));
    assert_eq!(all[0], "Error [IST0145] (Gateway a/one) Conflict with gateways a/two (workload selector istio=gw, port 80, hosts x.y).");
    assert!(
        all[2].starts_with("Warning [IST0162] (Gateway a/one) The gateway is listening on a target port (port 80) that is not defined")
    );
    let alone = found(&gateway("one"));
    assert_eq!(alone, ["Error [IST0101] (Gateway a/one) Referenced selector not found: \"istio=gw\""]);
}

#[test]
fn rules_and_entries_are_told_theirs() {
    let objects = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: a}
spec: {host: x.y, trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: e, namespace: a}
spec: {host: unknown.y, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: c}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s, namespace: a}
spec: {hosts: [x.y], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: t, namespace: a}
spec: {hosts: [x.y], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}";
    let codes: Vec<String> =
        found(objects).iter().map(|text| text.chars().skip_while(|c| *c != '[').take_while(|c| *c != ' ').collect()).collect();
    assert_eq!(codes, ["[IST0173]", "[IST0128]", "[IST0129]", "[IST0134]", "[IST0174]", "[IST0177]", "[IST0177]"]);
}

#[test]
fn what_the_webhook_would_say_is_said_again() {
    let objects = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: a}
spec:
  hosts: ['x.y']
  http: [{route: [{destination: {host: s.t}}]}, {route: [{destination: {host: s.t}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s, namespace: a}
spec: {hosts: [s.t, '*'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}";
    let wanted = [
        "Error [IST0106] (ServiceEntry a/s) Schema validation error: hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode DNS, domain name \"*\" invalid (label \"*\" invalid)",
        "Error [IST0106] (ServiceEntry a/s) Schema validation error: invalid host *",
        "Warning [IST0130] (VirtualService a/v) VirtualService rule #1 not used (only the last rule can have no matches).",
    ];
    assert_eq!(found(objects), wanted);
}

/// What istioctl 1.31-alpha printed for these objects beside those of a kind cluster, without the file's lines. By those it
/// orders what is about one object, so here order does not count.
#[test]
fn istioctl_says_the_same() {
    let mut wanted: Vec<&str> = include_str!("testdata/mix.txt").lines().collect();
    let mut all = found(include_str!("testdata/mix.yaml"));
    wanted.sort_unstable();
    all.sort_unstable();
    assert_eq!(all, wanted);
}
