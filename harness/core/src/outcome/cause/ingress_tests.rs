//! An ingress broken in one place at a time.

use serde_json::json;

use super::harbour::*;

#[test]
fn ingress_without_a_virtual_service() {
    let whole = Harbour::whole();
    let vs = "VirtualService market/till";
    ingress_says(
        &whole.clone().without(vs),
        "no route",
        &["no VirtualService for till.harbour.test is bound to Gateway market/front-gw"],
        "",
    );
    ingress_says(
        &whole.clone().set(vs, "/spec/hosts/0", json!("tilt.harbour.test")),
        "no route",
        &["no VirtualService has the host till.harbour.test", "tilt.harbour.test"],
        "VirtualService market/till spec.hosts",
    );
    ingress_says(
        &whole.clone().set(vs, "/spec/gateways/0", json!("front-gate")),
        "no route",
        &["bound to Gateway market/front-gate, which does not exist", "market/front-gw"],
        "VirtualService market/till spec.gateways[0]",
    );
    ingress_says(
        &whole.clone().moved(vs, "stalls"),
        "no route",
        &["bound to Gateway stalls/front-gw, which does not exist"],
        "VirtualService stalls/till spec.gateways[0]",
    );
    ingress_says(
        &whole.clone().set(vs, "/spec/gateways", json!([])),
        "no route",
        &["names no gateways, so it holds in the mesh only"],
        "VirtualService market/till spec.gateways",
    );
    ingress_says(
        &whole.clone().set(vs, "/spec/gateways/0", json!("out-gw")),
        "no route",
        &["is bound to market/out-gw, not to market/front-gw"],
        "VirtualService market/till spec.gateways",
    );
    ingress_says(
        &whole.clone().set("Gateway market/front-gw", "/spec/servers/0/hosts/0", json!("stalls/till.harbour.test")),
        "no route",
        &["from other namespaces only", "VirtualService market/till is in market"],
        "Gateway market/front-gw spec.servers[0].hosts",
    );
    ingress_says(
        &whole.set(vs, "/spec/http/0/match/0/uri", json!({"exact": "/put"})),
        "no route",
        &["no route of VirtualService market/till takes GET /get"],
        "VirtualService market/till spec.http[].match",
    );
}

#[test]
fn ingress_with_a_wrong_subset() {
    let whole = Harbour::whole();
    let subset = "VirtualService market/till spec.http[0].route[0].destination.subset";
    ingress_says(
        &whole.clone().set("VirtualService market/till", "/spec/http/0/route/0/destination/subset", json!("high")),
        "no cluster",
        &["names subset `high` of till.market.svc.cluster.local", "DestinationRule market/till declares `low`"],
        subset,
    );
    ingress_says(&whole.clone().without("DestinationRule market/till"), "no cluster", &["no DestinationRule is for that host"], subset);
    ingress_says(
        &whole.clone().set("DestinationRule market/till", "/spec/host", json!("tilt")),
        "no cluster",
        &["no DestinationRule is for that host", "DestinationRule market/till declares it for tilt.market.svc.cluster.local"],
        subset,
    );
    ingress_says(
        &whole.clone().set("DestinationRule market/till", "/spec/exportTo", json!(["."])),
        "no cluster",
        &["exportTo (.) of DestinationRule market/till hides it from proxies in namespace edge"],
        "DestinationRule market/till spec.exportTo",
    );
    ingress_says(
        &whole
            .clone()
            .set("DestinationRule market/till", "/spec/host", json!("till.market.svc.cluster.local"))
            .moved("DestinationRule market/till", "stalls"),
        "no cluster",
        &["is not followed from namespace edge"],
        "DestinationRule stalls/till metadata.namespace",
    );
    ingress_says(
        &whole.set("DestinationRule market/till", "/spec/subsets/0/labels/tide", json!("high")),
        "no endpoint",
        &["wants pods with tide=high", "tide=low"],
        "DestinationRule market/till spec.subsets[0].labels",
    );
}

#[test]
fn ingress_with_a_wrong_selector() {
    let whole = Harbour::whole();
    ingress_says(
        &whole.clone().set("Gateway market/front-gw", "/spec/selector/gate", json!("back")),
        "refused",
        &["the selector (gate=back) of Gateway market/front-gw matches no pod", "gate=front"],
        "Gateway market/front-gw spec.selector",
    );
    ingress_says(
        &whole.clone().set("Gateway market/front-gw", "/spec/selector/gate", json!("out")),
        "reset over TLS",
        &["matches other pods than those of edge/front"],
        "Gateway market/front-gw spec.selector",
    );
    ingress_says(&whole.clone().without("Gateway market/front-gw"), "refused", &["no Gateway selects the pods of edge/front"], "");
    ingress_says(
        &whole.clone().set("Service market/till", "/spec/selector/app", json!("tilt")),
        "no endpoint",
        &["the selector (app=tilt) of Service market/till matches no pod in market"],
        "Service market/till spec.selector",
    );
    ingress_says(
        &whole.clone().without("Pod market/till-1"),
        "no endpoint",
        &["is for the pods of Deployment market/till, which has none"],
        "Deployment market/till spec.replicas",
    );
    ingress_says(
        &whole.set("Pod market/till-1", "/status/conditions/0/status", json!("False")),
        "no endpoint",
        &["no pod of Service market/till is ready"],
        "Pod market/till-1 status.conditions",
    );
}

#[test]
fn ingress_with_a_wrong_port() {
    let whole = Harbour::whole();
    ingress_says(
        &whole.clone().set("Gateway market/front-gw", "/spec/servers/0/port/number", json!(81)),
        "refused",
        &["Gateway market/front-gw serves till.harbour.test on port 81, and the call goes to port 80"],
        "Gateway market/front-gw spec.servers[0].port.number",
    );
    ingress_says(
        &whole.clone().set("VirtualService market/till", "/spec/http/0/route/0/destination/port/number", json!(8001)),
        "no cluster",
        &["leads to port 8001 of till.market.svc.cluster.local", "Service market/till serves 8000"],
        "VirtualService market/till spec.http[0].route[0].destination.port.number",
    );
    ingress_says(
        &whole.clone().set("VirtualService market/till", "/spec/http/0/route/0/destination/host", json!("tilt")),
        "no cluster",
        &["leads to tilt.market.svc.cluster.local, and no Service or ServiceEntry has that host"],
        "VirtualService market/till spec.http[0].route[0].destination.host",
    );
    ingress_says(
        &whole.clone().set("VirtualService market/till", "/spec/http/0/match/0/port", json!(8080)),
        "no route",
        &["is for port 8080, not for 80"],
        "VirtualService market/till spec.http[0].match[0].port",
    );
    ingress_says(
        &whole.clone().set("Service market/till", "/spec/ports/0/targetPort", json!(8081)),
        "failed",
        &["port 8000 of Service market/till leads to 8081 on its pods, whose containers have 8080"],
        "Service market/till spec.ports[0].targetPort",
    );
    // The same as the sidecar of the application tells it, when the gateway reached that.
    let wrong = whole.clone().set("Service market/till", "/spec/ports/0/targetPort", json!(8081));
    let line = Line { proxy: TILL, cluster: "inbound|8081||", on: 8081, ..at_front("UF", "-", "-") };
    let place = "Service market/till spec.ports[0].targetPort";
    says(&wrong, &ingress(), wants_200(), after(&line), &["leads to 8081 on its pods, whose containers have 8080"], place);
    assert_eq!(told_of(&whole, &ingress(), wants_200(), after(&Line { cluster: "inbound|8080||", ..line })), None);
    // Kubernetes lets `targetPort` be a name.
    let named = whole.set("Service market/till", "/spec/ports/0/targetPort", json!("web"));
    ingress_says(&named, "failed", &["leads to web on its pods"], "Service market/till spec.ports[0].targetPort");
}

#[test]
fn ingress_hidden_by_export_to() {
    let whole = Harbour::whole();
    ingress_says(
        &whole.clone().set("VirtualService market/till", "/spec/exportTo", json!(["."])),
        "no route",
        &["its exportTo (.) hides it from proxies in namespace edge"],
        "VirtualService market/till spec.exportTo",
    );
    let annotation = json!({"annotations": {"networking.istio.io/exportTo": "market"}});
    ingress_says(
        &whole.set("Service market/till", "/metadata", annotation),
        "no cluster",
        &["Service market/till", "exportTo (market) hides it from proxies in namespace edge"],
        "Service market/till metadata.annotations[networking.istio.io/exportTo]",
    );
}

#[test]
fn ingress_on_another_layer() {
    let whole = Harbour::whole();
    let tls = json!([{"match": [{"sniHosts": ["till.harbour.test"]}], "route": [{"destination": {"host": "till"}}]}]);
    let as_tls = Harbour::whole().set(
        "VirtualService market/till",
        "/spec",
        json!({"hosts": ["till.harbour.test"], "gateways": ["front-gw"], "tls": tls}),
    );
    ingress_says(
        &as_tls,
        "reset over TLS",
        &["has `tls` routes", "only `http` routes count", "ends the TLS (SIMPLE)"],
        "VirtualService market/till spec.tls",
    );
    ingress_says(
        &whole.clone().set("Gateway market/front-gw", "/spec/servers/1/tls", json!({"mode": "PASSTHROUGH"})),
        "reset over TLS",
        &["has `http` routes", "only `tls` routes count", "PASSTHROUGH leaves the TLS sealed"],
        "VirtualService market/till spec.http",
    );
    ingress_says(
        &whole.clone().without("Secret edge/till-cert").with(object("v1", "Secret", "market/till-cert", json!({}))),
        "reset over TLS",
        &["wants the Secret till-cert, which is not in edge", "there is one in market"],
        "Gateway market/front-gw spec.servers[1].tls.credentialName",
    );
    let mutual = whole.clone().set("Gateway market/front-gw", "/spec/servers/1/tls/mode", json!("MUTUAL"));
    let place = "Gateway market/front-gw spec.servers[1].tls.mode";
    ingress_says(&mutual, "reset over TLS", &["wants a certificate of callers (MUTUAL), and the call presents none"], place);
    let presenting = crate::outcome::cause::Call { certificate: true, ..ingress_tls() };
    let reset = ended(crate::scenario::Connection::Reset, vec![]);
    assert_eq!(told_of(&mutual, &presenting, wants_200(), reset), None);
    ingress_says(
        &whole.clone().set("Gateway market/front-gw", "/spec/servers/1/hosts/0", json!("tilt.harbour.test")),
        "reset over TLS",
        &["no server on port 443 of edge/front is for till.harbour.test", "tilt.harbour.test"],
        "Gateway market/front-gw spec.servers[1].hosts",
    );
    ingress_says(
        &whole.set("Gateway market/front-gw", "/spec/servers/1/port/protocol", json!("HTTP")),
        "reset over TLS",
        &["as HTTP, and the call is TLS"],
        "Gateway market/front-gw spec.servers[1].port.protocol",
    );
}
