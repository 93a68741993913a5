//! GatewayClasses, and what a Gateway of ours is called (Istio: `pilot/pkg/config/kube/gatewaycommon`).

use serde_json::{Value, json};

use super::condition::{among, condition};
use super::{CONTROLLER, Converted, Fault, Objects, Status};
use crate::istio::model::object;

/// The controller of Gateways that are elsewhere.
const UNMANAGED: &str = "istio.io/unmanaged-gateway";

/// A GatewayClass that istiod makes where it is not there yet (Istio: `ClassController`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: &'static str,
    /// `spec.controllerName`.
    pub controller: &'static str,
    /// `spec.description`.
    pub description: &'static str,
}

/// The GatewayClasses of an Istio without ambient mode.
pub const CLASSES: [Class; 2] = [
    Class { name: "istio", controller: CONTROLLER, description: "The default Istio GatewayClass" },
    Class { name: "istio-remote", controller: UNMANAGED, description: "Remote to this cluster. Does not deploy or affect configuration." },
];

/// Who looks after a Gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// istiod, with all that it takes.
    Istio,
    /// istiod, which only says that it has seen it.
    Unmanaged,
}

/// The controller of a Gateway, if it is one of Istio's. Istio's own classes count even where their object is not there.
pub(super) fn controller(objects: &Objects<'_>, gateway: &Value) -> Option<Controller> {
    let name = object::text(gateway, "/spec/gatewayClassName");
    let class = objects.of("GatewayClass").iter().find(|class| object::name(class) == name);
    let controller = match class {
        Some(class) => object::text(class, "/spec/controllerName"),
        None => CLASSES.iter().find(|class| class.name == name)?.controller,
    };
    match controller {
        CONTROLLER => Some(Controller::Istio),
        UNMANAGED => Some(Controller::Unmanaged),
        _ => None,
    }
}

/// The Gateways that istiod converts, oldest first.
pub(super) fn gateways<'o, 'a>(objects: &'o Objects<'a>) -> impl Iterator<Item = &'a Value> + use<'o, 'a> {
    objects.of("Gateway").iter().copied().filter(|gateway| controller(objects, gateway) == Some(Controller::Istio))
}

/// Whether istiod makes the Deployment and the Service of a Gateway: without addresses, or with one that is an IP (`IsManaged`).
pub(super) fn is_managed(gateway: &Value) -> bool {
    match object::list(gateway, "/spec/addresses") {
        [] => true,
        [only] => matches!(object::text(only, "/type"), "" | "IPAddress"),
        _ => false,
    }
}

/// `GATEWAY-CLASS`, of which Kubernetes takes the name of the Deployment.
fn default_name(gateway: &Value) -> String {
    format!("{}-{}", object::name(gateway), object::text(gateway, "/spec/gatewayClassName"))
}

fn annotated(gateway: &Value, key: &str) -> String {
    match object::annotation(gateway, key) {
        "" => default_name(gateway),
        name => name.to_owned(),
    }
}

/// The name of the Deployment and the Service.
pub(super) fn deployment_name(gateway: &Value) -> String {
    annotated(gateway, "gateway.istio.io/name-override")
}

/// The name of the service account.
pub(super) fn service_account(gateway: &Value) -> String {
    annotated(gateway, "gateway.istio.io/service-account")
}

/// The hosts of the Services in front of a Gateway, and what is wrong with its addresses (`extractGatewayServices`).
pub(super) fn services(gateway: &Value, domain: &str) -> (Vec<String>, Option<Fault>) {
    let namespace = object::namespace(gateway);
    if is_managed(gateway) {
        return (vec![format!("{}.{namespace}.svc.{domain}", deployment_name(gateway))], None);
    }
    let (mut hosts, mut skipped) = (Vec::new(), Vec::new());
    for address in object::list(gateway, "/spec/addresses") {
        let value = object::text(address, "/value");
        match address.get("type").and_then(Value::as_str) {
            None | Some("Hostname") if value.contains('.') => hosts.push(value.to_owned()),
            None | Some("Hostname") => hosts.push(format!("{value}.{namespace}.svc.{domain}")),
            Some(_) => skipped.push(value),
        }
    }
    let fault = if !skipped.is_empty() {
        Some(Fault::new("UnsupportedAddress", format!("only Hostname is supported, ignoring [{}]", skipped.join(" "))))
    } else if gateway.pointer("/metadata/annotations/networking.istio.io~1service-type").is_some() {
        let text = "annotation networking.istio.io/service-type is deprecated, use Spec.Infrastructure.Routeability";
        Some(Fault::new("DeprecatedField", text))
    } else {
        None
    };
    (hosts, fault)
}

/// The status of every GatewayClass of Istio's.
pub(super) fn statuses(objects: &Objects<'_>, out: &mut Converted) {
    for class in objects.of("GatewayClass") {
        if !CLASSES.iter().any(|one| one.controller == object::text(class, "/spec/controllerName")) {
            continue;
        }
        let ours = vec![condition(class, "Accepted", true, "Accepted", "Handled by Istio controller")];
        let status = json!({"conditions": among(object::list(class, "/status/conditions"), ours, &[])});
        out.statuses.push(Status { kind: "GatewayClass", namespace: String::new(), name: object::name(class).to_owned(), status });
    }
}
