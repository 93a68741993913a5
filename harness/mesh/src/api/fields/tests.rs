use serde_json::{Value, json};

use super::{Manager, Managers, Schema, apply};

const DEPLOYMENT: Schema<'static> = Schema { group: "apps", kind: "Deployment" };

fn by(name: &str, applies: bool) -> Manager {
    Manager { name: name.to_owned(), applies, api_version: "apps/v1".to_owned(), subresource: String::new() }
}

fn applied(live: &Value, configuration: &Value, name: &str, force: bool) -> Result<Value, crate::api::ApiError> {
    apply(DEPLOYMENT, live, configuration, &by(name, true), force, &[&["status"]], "2026-01-01T00:00:00Z").map(|a| {
        let mut object = a.object;
        a.managers.write(&mut object);
        object
    })
}

fn deployment(spec: &Value) -> Value {
    json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": spec})
}

#[test]
fn what_is_no_longer_applied_goes_and_others_fields_stay() {
    let none = json!({"metadata": {"name": "a"}});
    let first = applied(
        &none,
        &deployment(
            &json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}}}),
        ),
        "one",
        false,
    )
    .unwrap();
    let mut changed = first.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "E", "value": "1"}]);
    changed["spec"]["paused"] = json!(true);
    let mut managers = Managers::read(&first);
    managers.updated(DEPLOYMENT, &first, &changed, &by("other", false), "2026-01-01T00:00:01Z");
    managers.write(&mut changed);

    let config = deployment(&json!({"template": {"spec": {"containers": [{"name": "c", "image": "k"}]}}}));
    let second = applied(&changed, &config, "one", false).unwrap();
    let containers = second["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0]["image"], "k");
    assert_eq!(containers[0]["env"][0]["name"], "E", "another's field stays");
    assert_eq!((second["spec"]["replicas"].clone(), second["spec"]["paused"].clone()), (Value::Null, json!(true)));
    assert_eq!(applied(&second, &config, "one", false).unwrap(), second, "the same again changes nothing");
}

#[test]
fn an_item_goes_only_when_nobody_else_has_a_field_in_it() {
    let none = json!({"metadata": {"name": "a"}});
    let config = deployment(&json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}));
    let first = applied(&none, &config, "one", false).unwrap();
    let mut changed = first.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
    let mut managers = Managers::read(&first);
    managers.updated(DEPLOYMENT, &first, &changed, &by("other", false), "2026-01-01T00:00:01Z");
    managers.write(&mut changed);
    let left = applied(&changed, &deployment(&json!({"replicas": 1})), "one", false).unwrap();
    assert_eq!(left["spec"]["template"]["spec"]["containers"], json!([{"name": "c", "tty": true}]));
}

#[test]
fn another_appliers_field_is_a_conflict_unless_forced() {
    let none = json!({"metadata": {"name": "a"}});
    let first = applied(&none, &deployment(&json!({"replicas": 2})), "one", false).unwrap();
    let error = applied(&first, &json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}}), "two", false).unwrap_err();
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    assert_eq!((error.code, error.details.causes[0].field.as_str()), (409, ".spec.replicas"));
    assert!(applied(&first, &json!({"spec": {"replicas": 2}}), "two", false).is_ok(), "the same value is shared");
    let forced = applied(&first, &json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}}), "two", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    let owners = forced["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(owners.iter().filter(|o| o["fieldsV1"].to_string().contains("f:replicas")).count(), 1);
}

#[test]
fn several_conflicts_are_listed() {
    let none = json!({"metadata": {"name": "a"}});
    let image = |i: &str, n: u32| json!({"spec": {"replicas": n, "template": {"spec": {"containers": [{"name": "c", "image": i}]}}}});
    let first = applied(&none, &image("a", 1), "one", false).unwrap();
    let error = applied(&first, &image("b", 2), "two", false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
}
