//! Whatever is sent, nothing panics, and what holds for every apply holds.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::fields::{Manager, Schema, apply};
use crate::api::store::{Patch, Subresource, Target, WriteOptions};

fn value() -> impl Strategy<Value = Value> {
    let names = || prop::sample::select(vec!["name", "port", "protocol", "containers", "ports", "template", "spec", "a", "b/c", "uid"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        prop::sample::select(vec!["", "x", "TCP", "NodePort"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names(), inner), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

fn by(name: &str) -> Manager {
    Manager { name: name.to_owned(), applies: true, api_version: "apps/v1".to_owned(), subresource: String::new() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_apply_sets_what_it_says_and_once_is_as_good_as_twice(live in value(), spec in value(), other in value()) {
        let schema = Schema { group: "apps", kind: "Deployment" };
        let config = |spec: &Value| json!({"metadata": {"name": "a"}, "spec": spec});
        let one = |live: &Value, spec: &Value, name: &str| {
            let applied = apply(schema, live, &config(spec), &by(name), true, &[], "now").unwrap();
            let mut object = applied.object;
            applied.managers.write(&mut object);
            object
        };
        let start = json!({"metadata": {"name": "a"}, "spec": live});
        let first = one(&start, &spec, "one");
        prop_assert_eq!(&one(&first, &spec, "one"), &first);
        let second = one(&first, &other, "two");
        let _ = one(&second, &json!({}), "one");
    }

    #[test]
    fn no_object_and_no_patch_makes_the_store_panic(spec in value(), metadata in value(), patch in value()) {
        let store = crate::api::Store::default();
        let kinds = [("v1", "Pod"), ("v1", "Service"), ("v1", "Secret"), ("v1", "Namespace"), ("apps/v1", "Deployment"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("networking.istio.io/v1", "Gateway")];
        for (api_version, kind) in kinds {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec, "stringData": spec});
            let _ = store.create(object.clone(), "x");
            let _ = store.apply(object.clone(), "y");
            object["metadata"] = json!({"name": "x", "namespace": "default", "ownerReferences": metadata, "finalizers": spec, "labels": patch});
            let _ = store.create(object.clone(), "x");
            let _ = store.apply(object.clone(), "y");
            let resource = store.registry().of(api_version, kind).unwrap();
            let namespace = if resource.namespaced { "default" } else { "" };
            for change in [Patch::Merge(patch.clone()), Patch::Strategic(patch.clone()), Patch::Json(json!([{"op": "add", "path": "/spec", "value": patch}]))] {
                for part in [Subresource::Main, Subresource::Status, Subresource::Scale] {
                    let target = Target { resource: &resource, namespace, name: "x", part };
                    let schema = Schema { group: &resource.group, kind: &resource.kind };
                    let _ = store.change(target, &WriteOptions::default(), &|current| change.apply(schema, current));
                }
            }
            let _ = store.delete(&resource.group_kind(), namespace, "x", &crate::api::DeleteOptions::default());
        }
    }
}
