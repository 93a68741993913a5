//! Which VirtualServices count for whom: by gateway, by `exportTo`, oldest first
//! (`pilot/pkg/model/virtualservice_controller.go`, `push_context.go`).

use super::delegate;
use super::spec::{Semantics, VirtualService, VirtualServiceSpec};
use crate::istio::PushContext;
use crate::istio::model::{Visibility, host};

/// What `gateways` calls all sidecars.
pub const MESH: &str = "mesh";

/// Every VirtualService of a push with its names resolved and its delegates merged in, oldest first.
#[derive(Debug, Clone, Default)]
pub struct VirtualServices {
    all: Vec<(VirtualService, Visibility)>,
    /// What istiod writes to its log while it merges delegates.
    pub log: Vec<String>,
}

impl VirtualServices {
    /// Reads them from what istiod knows.
    #[must_use]
    pub fn read(context: &PushContext) -> Self {
        let default = &context.mesh.virtual_service_export_to;
        let mut roots = Vec::new();
        let mut delegates = Vec::new();
        for mut service in context.objects("VirtualService").iter().filter_map(|object| VirtualService::of(object)) {
            let seen = Visibility::read(service.spec.export_to.iter().map(String::as_str), &service.meta.namespace, default);
            if service.semantics != Semantics::Gateway {
                resolve(&mut service, &context.domain);
            }
            // One without hosts is no VirtualService of its own but a part of others.
            if service.spec.hosts.is_empty() {
                delegates.push((service, seen));
            } else {
                roots.push((service, seen));
            }
        }
        let mut log = Vec::new();
        for (service, _) in roots.iter_mut().filter(|(service, _)| service.semantics == Semantics::Istio) {
            delegate::merge_into(service, &delegates, &mut log);
        }
        Self { all: roots, log }
    }

    /// Those that name this gateway (`namespace/name`, or [`MESH`]) and that proxies of this namespace may see: first what is
    /// visible to their own namespace alone, then what is exported to it by others, then what everybody sees, and in that last
    /// group first the routes of Gateway API that their own namespace made (`PushContext.VirtualServicesForGateway`).
    #[must_use]
    pub fn of_gateway(&self, gateway: &str, namespace: &str) -> Vec<&VirtualService> {
        let rank = |service: &VirtualService, seen: &Visibility| match seen {
            Visibility::Namespaces(_) if service.meta.namespace == namespace => 0,
            Visibility::Namespaces(_) | Visibility::Nobody => 1,
            Visibility::Public if service.semantics == Semantics::Gateway && service.meta.namespace == namespace => 2,
            Visibility::Public => 3,
        };
        let mut found: Vec<_> = self
            .all
            .iter()
            .filter(|(service, seen)| seen.includes(namespace) && names_gateway(&service.spec, gateway))
            .map(|(service, seen)| (rank(service, seen), service))
            .collect();
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, service)| service).collect()
    }
}

/// No gateway named means the sidecars.
fn names_gateway(spec: &VirtualServiceSpec, gateway: &str) -> bool {
    if spec.gateways.is_empty() { gateway == MESH } else { spec.gateways.iter().any(|named| named == gateway) }
}

/// Short names of hosts and gateways in full (`ResolveVirtualServiceShortnames`).
fn resolve(service: &mut VirtualService, domain: &str) {
    let namespace = service.meta.namespace.clone();
    let full = |name: &mut String| *name = host::resolve(name, &namespace, domain);
    let gateways = |names: &mut Vec<String>| {
        for name in names.iter_mut().filter(|name| *name != MESH) {
            *name = gateway_name(name, &namespace);
        }
    };
    let spec = &mut service.spec;
    spec.hosts.iter_mut().for_each(full);
    gateways(&mut spec.gateways);
    for http in &mut spec.http {
        http.r#match.iter_mut().for_each(|matching| gateways(&mut matching.gateways));
        http.route.iter_mut().for_each(|destination| full(&mut destination.destination.host));
        let mirrors = http.mirrors.iter_mut().filter_map(|mirror| mirror.destination.as_mut());
        http.mirror.iter_mut().chain(mirrors).for_each(|destination| full(&mut destination.host));
    }
    for tls in &mut spec.tls {
        tls.r#match.iter_mut().for_each(|matching| gateways(&mut matching.l4.gateways));
        tls.route.iter_mut().for_each(|destination| full(&mut destination.destination.host));
    }
    for tcp in &mut spec.tcp {
        tcp.r#match.iter_mut().for_each(|matching| gateways(&mut matching.gateways));
        tcp.route.iter_mut().for_each(|destination| full(&mut destination.destination.host));
    }
}

/// A Gateway as `namespace/name`: `name` is of the own namespace, as is `./name`, and `name.namespace` and what may follow is
/// an old way of writing it (`model.resolveGatewayName`).
fn gateway_name(name: &str, namespace: &str) -> String {
    match name.split_once('/') {
        Some((".", gateway)) => format!("{namespace}/{gateway}"),
        Some(_) => name.to_owned(),
        None => match name.split_once('.') {
            Some((gateway, rest)) => format!("{}/{gateway}", rest.split('.').next().unwrap_or_default()),
            None => format!("{namespace}/{name}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::context;
    use super::*;
    use serde_json::{Value, json};

    fn service(name: &str, namespace: &str, created: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created}, "spec": spec,
        })
    }

    fn names(found: Vec<&VirtualService>) -> Vec<&str> {
        found.into_iter().map(|service| service.meta.name.as_str()).collect()
    }

    #[test]
    fn gateways_are_named_in_several_ways() {
        for (written, full) in [
            ("gw", "shop/gw"),
            ("./gw", "shop/gw"),
            ("infra/gw", "infra/gw"),
            ("gw.infra", "infra/gw"),
            ("gw.infra.svc.cluster.local", "infra/gw"),
        ] {
            assert_eq!(gateway_name(written, "shop"), full);
        }
    }

    #[test]
    fn export_and_age_decide_who_sees_what_in_which_order() {
        let spec = |export: &[&str]| json!({"hosts": ["*"], "gateways": ["infra/gw"], "exportTo": export});
        let context = context(vec![
            service("young", "shop", "2026-01-02T00:00:00Z", spec(&[])),
            service("old", "shop", "2026-01-01T00:00:00Z", spec(&["*"])),
            service("to-infra", "shop", "2026-01-03T00:00:00Z", spec(&["infra"])),
            service("own", "infra", "2026-01-04T00:00:00Z", spec(&["."])),
            service("private", "shop", "2026-01-01T00:00:00Z", spec(&["."])),
            service("nobody", "infra", "2026-01-01T00:00:00Z", spec(&["~"])),
            service("mesh", "infra", "2026-01-01T00:00:00Z", json!({"hosts": ["a.example"]})),
        ]);
        let services = VirtualServices::read(&context);
        assert_eq!(names(services.of_gateway("infra/gw", "infra")), ["own", "to-infra", "old", "young"]);
        assert_eq!(names(services.of_gateway("infra/gw", "shop")), ["private", "old", "young"]);
        assert_eq!(names(services.of_gateway(MESH, "elsewhere")), ["mesh"]);
        assert!(services.of_gateway("infra/other", "infra").is_empty());
    }

    #[test]
    fn a_delegate_adds_its_routes_where_it_is_named() {
        let root = json!({"hosts": ["a.example"], "gateways": ["gw"], "http": [
            {"match": [{"uri": {"prefix": "/shop"}}], "delegate": {"name": "part", "namespace": "parts"}},
            {"match": [{"uri": {"prefix": "/none"}}], "delegate": {"name": "missing"}},
            {"route": [{"destination": {"host": "web"}}]},
        ]});
        let part = json!({"http": [
            {"match": [{"uri": {"prefix": "/shop/cart"}, "headers": {"x": {"exact": "1"}}}], "route": [{"destination": {"host": "cart"}}]},
            {"match": [{"uri": {"prefix": "/elsewhere"}}], "route": [{"destination": {"host": "cart"}}]},
            {"route": [{"destination": {"host": "rest"}}]},
        ]});
        let context =
            context(vec![service("root", "shop", "2026-01-01T00:00:00Z", root), service("part", "parts", "2026-01-01T00:00:00Z", part)]);
        let services = VirtualServices::read(&context);
        let found = services.of_gateway("shop/gw", "any");
        assert_eq!(found.len(), 1, "the delegate stands for nothing alone");
        let http = found.first().map(|service| service.spec.http.as_slice()).unwrap_or_default();
        let hosts: Vec<&str> = http.iter().filter_map(|http| Some(http.route.first()?.destination.host.as_str())).collect();
        assert_eq!(hosts, ["cart.parts.svc.cluster.local", "rest.parts.svc.cluster.local", "web.shop.svc.cluster.local"]);
        assert_eq!(http[1].r#match[0].uri.as_ref().and_then(|uri| uri.prefix.as_deref()), Some("/shop"));
        assert_eq!(services.log.len(), 3, "{:?}", services.log);
        assert!(services.log.iter().any(|line| line == "delegate virtual service shop/missing of shop/root not found"));
    }

    #[test]
    fn the_order_of_the_objects_does_not_matter() {
        let spec = json!({"hosts": ["*"], "gateways": ["infra/gw"]});
        let mut objects: Vec<Value> = (0..5).map(|n| service(&format!("s{n}"), "shop", "2026-01-01T00:00:00Z", spec.clone())).collect();
        let forward = VirtualServices::read(&context(objects.clone()));
        objects.reverse();
        let backward = VirtualServices::read(&context(objects));
        assert_eq!(forward.of_gateway("infra/gw", "x"), backward.of_gateway("infra/gw", "x"));
    }
}
