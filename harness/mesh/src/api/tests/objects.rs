//! Reading and writing, over the client.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret, Service};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{api, client, config_map, deployment, pod, status_of, store};
use crate::api::DeleteOptions;

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let store = store();
    let maps: Api<ConfigMap> = Api::namespaced(client(&store), "default");
    let map: ConfigMap = serde_json::from_value(config_map("a", "1")).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some() && made.metadata.generation.is_none());
    assert_eq!(maps.get("a").await.unwrap(), made);
    let taken = status_of(maps.create(&PostParams::default(), &map).await.unwrap_err());
    assert_eq!((taken.code, taken.reason.as_str(), taken.message.as_str()), (409, "AlreadyExists", "configmaps \"a\" already exists"));

    let patched = maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": null, "l": "2"}}))).await.unwrap();
    assert_eq!(patched.data.clone().unwrap(), [("l".to_owned(), "2".to_owned())].into());
    let stale = status_of(maps.replace("a", &PostParams::default(), &made).await.unwrap_err());
    assert_eq!(stale.reason, "Conflict");
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let mut fresh = patched.clone();
    fresh.data = Some([("m".to_owned(), "3".to_owned())].into());
    assert_eq!(maps.replace("a", &PostParams::default(), &fresh).await.unwrap().data, fresh.data);

    let wrong = DeleteParams::default().preconditions(Preconditions { uid: Some("other".to_owned()), resource_version: None });
    let error = status_of(maps.delete("a", &wrong).await.unwrap_err());
    assert_eq!(error.code, 409);
    assert!(error.message.contains("the UID in the precondition (other) does not match the UID in record ("), "{}", error.message);
    let right = DeleteParams::default().preconditions(Preconditions { uid: made.uid(), resource_version: None });
    let gone = maps.delete("a", &right).await.unwrap().right().unwrap();
    assert!(gone.is_success());
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let error = status_of(maps.get("a").await.unwrap_err());
    assert_eq!((error.code, error.reason.as_str(), error.message.as_str()), (404, "NotFound", "configmaps \"a\" not found"));
}

#[tokio::test]
async fn lists_are_narrowed_and_come_in_parts() {
    let store = store();
    for n in 0..5 {
        let name = format!("p{n}");
        store.create(pod(&name), "test").unwrap();
        let phase = if n == 0 { "Pending" } else { "Running" };
        store.patch_status("Pod", "default", &name, &json!({"phase": phase}), "test").unwrap();
    }
    let pods: Api<Pod> = Api::all(client(&store));
    let names = |list: kube::api::ObjectList<Pod>| list.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    let running = pods.list(&ListParams::default().labels("app in (p0,p1)").fields("status.phase=Running")).await.unwrap();
    assert_eq!(names(running), ["p1"]);
    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    let token = first.metadata.continue_.clone().unwrap();
    assert_eq!(names(first), ["p0", "p1"]);
    let second = pods.list(&ListParams::default().limit(9).continue_token(&token)).await.unwrap();
    assert_eq!(second.metadata.continue_, None);
    assert_eq!(names(second), ["p2", "p3", "p4"]);
    let elsewhere: Api<Event> = Api::namespaced(client(&store), "nowhere");
    assert!(elsewhere.list(&ListParams::default().limit(2000)).await.unwrap().items.is_empty());
    let gone = Api::<Pod>::namespaced(client(&store), "default")
        .delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=p4"))
        .await;
    assert_eq!(gone.unwrap().left().unwrap().items.len(), 1);
}

#[tokio::test]
async fn apply_makes_merges_and_repeats_without_a_change() {
    let store = store();
    let client = client(&store);
    let api = api(&client, "default", "networking.istio.io/v1alpha3", "EnvoyFilter").await;
    let filter = |mark: &str| {
        json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": {"name": "m", "namespace": "default"},
            "spec": {"configPatches": [{"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": {"mark": mark}}}]}})
    };
    let params = PatchParams::apply("gateproof").force();
    let first: DynamicObject = api.patch("m", &params, &Patch::Apply(&filter("1"))).await.unwrap();
    assert_eq!((first.metadata.generation, first.types.as_ref().unwrap().kind.as_str()), (Some(1), "EnvoyFilter"));
    let again = api.patch("m", &params, &Patch::Apply(&filter("1"))).await.unwrap();
    assert_eq!(again, first, "nothing changed, not even the resource version");
    let second = api.patch("m", &params, &Patch::Apply(&filter("2"))).await.unwrap();
    assert_eq!(second.metadata.generation, Some(2));
    let owner = &second.metadata.managed_fields.as_ref().unwrap()[0];
    assert_eq!((owner.manager.as_deref(), owner.operation.as_deref()), (Some("gateproof"), Some("Apply")));
    let other = api.patch("m", &PatchParams::apply("other"), &Patch::Apply(&filter("3"))).await;
    let conflict = status_of(other.unwrap_err());
    assert_eq!(conflict.message, "Apply failed with 1 conflict: conflict with \"gateproof\": .spec.configPatches");
    let nameless = filter("1");
    let request = hyper::Request::patch("/apis/networking.istio.io/v1alpha3/namespaces/default/envoyfilters/m")
        .header("content-type", "application/apply-patch+yaml")
        .body(serde_json::to_vec(&nameless).unwrap());
    let error = status_of(client.request_text(request.unwrap()).await.unwrap_err());
    assert_eq!((error.code, error.message.contains("is required for apply patch")), (422, true));
}

#[tokio::test]
async fn one_object_is_served_in_every_version_of_its_kind() {
    let store = store();
    let client = client(&store);
    let old = api(&client, "default", "networking.istio.io/v1alpha3", "Gateway").await;
    let value =
        json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "Gateway", "metadata": {"name": "g"}, "spec": {"servers": []}});
    old.patch("g", &PatchParams::apply("x"), &Patch::Apply(&value)).await.unwrap();
    let new = api(&client, "default", "networking.istio.io/v1", "Gateway").await;
    let found = new.get("g").await.unwrap();
    assert_eq!(found.types.unwrap().api_version, "networking.istio.io/v1");
    assert_eq!(old.get("g").await.unwrap().types.unwrap().api_version, "networking.istio.io/v1alpha3");
    let another = api(&client, "default", "gateway.networking.k8s.io/v1", "Gateway").await;
    assert!(another.get_opt("g").await.unwrap().is_none());
    assert_eq!(store.get("networking.istio.io/Gateway", "default", "g").unwrap()["apiVersion"], "networking.istio.io/v1");
    old.patch("g", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}))).await.unwrap();
    let missing = kube::discovery::pinned_kind(&client, &kube::core::GroupVersionKind::gvk("nobody.io", "v1", "X")).await;
    assert_eq!(status_of(missing.unwrap_err()).code, 404);
}

#[tokio::test]
async fn generation_counts_the_specification_and_status_is_written_apart() {
    let store = store();
    let deployments: Api<Deployment> = Api::namespaced(client(&store), "default");
    let made = deployments.create(&PostParams::default(), &serde_json::from_value(deployment("a")).unwrap()).await.unwrap();
    let spec = made.spec.clone();
    assert_eq!((spec.replicas, spec.template.spec.unwrap().restart_policy.as_deref()), (Some(1), Some("Always")));
    let label = Patch::Merge(json!({"metadata": {"labels": {"l": "1"}}, "status": {"replicas": 9}}));
    let labelled = deployments.patch("a", &PatchParams::default(), &label).await.unwrap();
    assert_eq!((labelled.metadata.generation, labelled.status.unwrap_or_default().replicas), (Some(1), None));
    let change = Patch::Merge(json!({"status": {"replicas": 1}, "spec": {"paused": true}}));
    let status = deployments.patch_status("a", &PatchParams::default(), &change).await.unwrap();
    assert_eq!((status.metadata.generation, status.status.unwrap().replicas, status.spec.paused), (Some(1), Some(1), None));

    assert_eq!(deployments.get_scale("a").await.unwrap().spec.unwrap().replicas, Some(1));
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scale = deployments.patch_scale("a", &PatchParams::default(), &three).await.unwrap();
    assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().selector.as_deref()), (Some(3), Some("app=a")));
    let scaled = deployments.get("a").await.unwrap();
    assert_eq!((scaled.metadata.generation, scaled.spec.replicas), (Some(2), Some(3)));
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "tty": true}]}}}});
    let patched = deployments.patch("a", &PatchParams::default(), &Patch::Strategic(strategic)).await.unwrap();
    let container = patched.spec.template.spec.unwrap().containers.remove(0);
    assert_eq!((container.image.as_deref(), container.tty), (Some("i:1"), Some(true)));
    deployments.restart("a").await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_causes() {
    let store = store();
    let client = client(&store);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let mut other = deployment("a");
    other["spec"]["selector"]["matchLabels"]["app"] = json!("b");
    let error = status_of(deployments.create(&PostParams::default(), &serde_json::from_value(other).unwrap()).await.unwrap_err());
    assert_eq!((error.code, error.reason.as_str()), (422, "Invalid"));
    assert!(
        error.message.starts_with("Deployment.apps \"a\" is invalid: spec.template.metadata.labels: Invalid value: "),
        "{}",
        error.message
    );
    assert_eq!(error.details.unwrap().causes[0].field, "spec.template.metadata.labels");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let name = serde_json::from_value(config_map("Not_A_Name", "1")).unwrap();
    assert_eq!(status_of(maps.create(&PostParams::default(), &name).await.unwrap_err()).code, 422);
    let elsewhere: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    let map = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    let error = status_of(elsewhere.create(&PostParams::default(), &map).await.unwrap_err());
    assert_eq!((error.code, error.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    for body in ["", "[", "{\"metadata\": 1}", "[]", "null"] {
        let request = hyper::Request::post("/api/v1/namespaces/default/configmaps").header("content-type", "application/json");
        let error = client.request_text(request.body(body.into()).unwrap()).await.unwrap_err();
        assert!((400..500).contains(&status_of(error).code), "{body}");
    }
}

#[tokio::test]
async fn the_server_fills_in_what_real_ones_do() {
    let store = store();
    let client = client(&store);
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = |name: &str, kind: &str| -> Service {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}})).unwrap()
    };
    let made = services.create(&PostParams::default(), &service("a", "NodePort")).await.unwrap().spec.unwrap();
    let other = services.create(&PostParams::default(), &service("b", "ClusterIP")).await.unwrap().spec.unwrap();
    assert!(made.cluster_ip.is_some() && made.cluster_ip != other.cluster_ip);
    assert!(made.ports.as_ref().unwrap()[0].node_port.is_some_and(|p| p >= 30_000));
    let patched =
        services.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"publishNotReadyAddresses": true}}))).await.unwrap();
    assert_eq!(patched.spec.unwrap().ports, made.ports);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let params = PatchParams::apply("x").force();
    let made = secrets.patch("s", &params, &Patch::Apply(&secret)).await.unwrap();
    assert_eq!((made.type_.as_deref(), made.data.as_ref().unwrap()["k"].0.as_slice()), (Some("Opaque"), b"v".as_slice()));
    assert_eq!(secrets.patch("s", &params, &Patch::Apply(&secret)).await.unwrap(), made);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let default = namespaces.get("default").await.unwrap();
    assert_eq!(default.labels()["kubernetes.io/metadata.name"], "default");
    assert_eq!(default.status.unwrap().phase.as_deref(), Some("Active"));
    assert!(store.get("ServiceAccount", "default", "default").is_some());
    let generated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-", "namespace": "default"}});
    let (a, b) = (store.create(generated.clone(), "x").unwrap(), store.create(generated, "x").unwrap());
    assert_ne!(a["metadata"]["name"], b["metadata"]["name"]);
}

#[tokio::test]
async fn nothing_is_kept_of_a_dry_run_or_a_review() {
    let store = store();
    let client = client(&store);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let dry = PostParams { dry_run: true, field_manager: None };
    maps.create(&dry, &serde_json::from_value(config_map("a", "1")).unwrap()).await.unwrap();
    assert!(store.get("ConfigMap", "default", "a").is_none());
    store.create(config_map("a", "1"), "x").unwrap();
    let version = store.version();
    maps.patch("a", &PatchParams { dry_run: true, ..PatchParams::apply("x").force() }, &Patch::Apply(&config_map("a", "2"))).await.unwrap();
    maps.delete("a", &DeleteParams::default().dry_run()).await.unwrap();
    assert_eq!((store.version(), store.get("ConfigMap", "default", "a").unwrap()["data"]["k"].clone()), (version, json!("1")));
    assert!(store.delete("ConfigMap", "default", "a", &DeleteOptions::default()).unwrap());
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let answer = reviews.create(&PostParams::default(), &SelfSubjectAccessReview::default()).await.unwrap();
    assert!(answer.status.unwrap().allowed);
}

#[tokio::test]
async fn discovery_knows_all_kinds() {
    let store = store();
    let client = client(&store);
    assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.34.0");
    let groups: Vec<String> = client.list_api_groups().await.unwrap().groups.into_iter().map(|g| g.name).collect();
    assert!(["apps", "networking.istio.io", "gateway.networking.k8s.io"].iter().all(|g| groups.iter().any(|n| n == g)));
    let plain = kube::discovery::Discovery::new(client.clone()).run().await.unwrap();
    let whole = kube::discovery::Discovery::new(client.clone()).run_aggregated().await.unwrap();
    for discovery in [plain, whole] {
        for (group, kind) in
            [("", "Pod"), ("apps", "Deployment"), ("security.istio.io", "PeerAuthentication"), ("gateway.networking.k8s.io", "HTTPRoute")]
        {
            let found = discovery.get(group).unwrap().recommended_kind(kind);
            assert!(found.is_some(), "{group}/{kind}");
        }
    }
}
