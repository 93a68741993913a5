//! What follows from writes: garbage collection, finalizers, namespaces, definitions.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{client, config_map, deployment, pod, status_of, store};
use crate::api::{DeleteOptions, Propagation, Store};

fn owned(mut object: Value, owner: &Value) -> Value {
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true}]);
    object
}

/// A Deployment with a ReplicaSet with a pod.
fn family(store: &Store) {
    let top = store.create(deployment("a"), "x").unwrap();
    let mut set = deployment("a-1");
    set["kind"] = json!("ReplicaSet");
    let set = store.create(owned(set, &top), "x").unwrap();
    store.create(owned(pod("a-1-p"), &set), "x").unwrap();
}

const NOW: DeleteOptions =
    DeleteOptions { propagation: None, grace_period_seconds: Some(0), uid: None, resource_version: None, dry_run: false };

#[tokio::test]
async fn a_deployment_deleted_in_the_foreground_waits_for_its_pods() {
    let store = store();
    family(&store);
    let api: Api<Deployment> = Api::namespaced(client(&store), "default");
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    let left = api.delete("a", &params).await.unwrap().left().unwrap();
    let uid = left.uid().unwrap();
    assert!(left.metadata.deletion_timestamp.is_some());
    let leaving = store.get("Pod", "default", "a-1-p").unwrap();
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(store.get("apps/ReplicaSet", "default", "a-1").is_some());
    let waiting = tokio::spawn(async move { await_condition(api, "a", conditions::is_deleted(&uid)).await.map(|_| ()) });
    tokio::task::yield_now().await;
    store.delete("Pod", "default", "a-1-p", &NOW).unwrap();
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert!(store.list("apps/ReplicaSet", None).is_empty() && store.list("apps/Deployment", None).is_empty());
}

#[tokio::test]
async fn in_the_background_the_owner_goes_first_and_orphans_stay() {
    let store = store();
    family(&store);
    assert!(store.delete("apps/Deployment", "default", "a", &DeleteOptions::default()).unwrap());
    assert!(store.list("apps/ReplicaSet", None).is_empty());
    assert!(store.get("Pod", "default", "a-1-p").is_some_and(|p| !p["metadata"]["deletionTimestamp"].is_null()));
    store.delete("Pod", "default", "a-1-p", &NOW).unwrap();

    family(&store);
    let orphan = DeleteOptions { propagation: Some(Propagation::Orphan), ..DeleteOptions::default() };
    assert!(!store.delete("apps/Deployment", "default", "a", &orphan).unwrap() || store.get("apps/Deployment", "default", "a").is_none());
    assert!(store.get("apps/Deployment", "default", "a").is_none());
    assert!(store.get("apps/ReplicaSet", "default", "a-1").is_some_and(|r| r["metadata"].get("ownerReferences").is_none()));
}

#[tokio::test]
async fn one_that_is_born_without_its_owner_goes_at_once() {
    let store = store();
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "uid": "no-such-uid"}});
    store.create(owned(config_map("a", "1"), &owner), "x").unwrap();
    assert!(store.get("ConfigMap", "default", "a").is_none());
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_taken_off() {
    let store = store();
    let maps: Api<ConfigMap> = Api::namespaced(client(&store), "default");
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    store.create(map, "x").unwrap();
    assert!(maps.delete("a", &DeleteParams::default()).await.unwrap().is_left());
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_namespace_empties_and_goes() {
    let store = store();
    let client = client(&store);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made =
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap()).await.unwrap();
    let mut inside = pod("p");
    inside["metadata"]["namespace"] = json!("n");
    store.create(inside, "x").unwrap();
    let left = namespaces.delete("n", &DeleteParams::background()).await.unwrap().left().unwrap();
    assert_eq!(left.status.unwrap().phase.as_deref(), Some("Terminating"));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "n");
    let refused = maps.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap()).await;
    let refused = status_of(refused.unwrap_err());
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (403, "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated")
    );
    store.delete("Pod", "n", "p", &NOW).unwrap();
    let uid = made.uid().unwrap();
    let gone = await_condition(namespaces, "n", conditions::is_deleted(&uid));
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap().unwrap();
    assert!(store.list("ServiceAccount", Some("n")).is_empty());
    assert_eq!(status_of(Api::<Namespace>::all(client).delete("default", &DeleteParams::default()).await.unwrap_err()).code, 403);
}

#[tokio::test]
async fn pods_end_when_the_kubelet_says_so() {
    let store = store();
    let pods: Api<Pod> = Api::namespaced(client(&store), "default");
    store.create(pod("a"), "x").unwrap();
    let left = pods.delete("a", &DeleteParams::default().grace_period(5)).await.unwrap().left().unwrap();
    assert_eq!(left.metadata.deletion_grace_period_seconds, Some(5));
    assert!(!store.delete("Pod", "default", "a", &DeleteOptions::default()).unwrap(), "asked again, it still waits");
    assert!(store.delete("Pod", "default", "a", &NOW).unwrap());
    store.create(pod("b"), "x").unwrap();
    pods.delete("b", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await.unwrap();
    assert!(store.get("Pod", "default", "b").is_none());
}

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things.example.com
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing}
  versions:
  - {name: v1beta1, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}}
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object}}
";

#[tokio::test]
async fn a_definition_adds_its_kind_when_it_is_established() {
    let store = store();
    let client = client(&store);
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com?fieldManager=gateproof&force=true";
    let request = hyper::Request::patch(path).header("content-type", "application/apply-patch+yaml");
    let response = client.send(request.body(kube::client::Body::from(DEFINITION.as_bytes().to_vec())).unwrap()).await.unwrap();
    assert_eq!(response.status(), 201);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let established = await_condition(definitions.clone(), "things.example.com", conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(5), established).await.unwrap().unwrap();
    let things = super::api(&client, "default", "example.com/v1beta1", "Thing").await;
    let thing: DynamicObject = serde_json::from_value(json!({"metadata": {"name": "t"}, "spec": {"a": 1}})).unwrap();
    assert_eq!(things.create(&PostParams::default(), &thing).await.unwrap().types.unwrap().api_version, "example.com/v1beta1");
    definitions.delete("things.example.com", &DeleteParams::default()).await.unwrap();
    assert_eq!(status_of(things.get("t").await.unwrap_err()).code, 404);
    assert!(store.resource("example.com/Thing").is_none());
}
