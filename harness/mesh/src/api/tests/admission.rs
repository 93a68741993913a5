//! What reviews say.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, ValidationDirective};
use serde_json::json;

use super::{client, config_map, status_of};
use crate::api::{Admission, AdmissionRequest, Cause, Denial, Operation, Options, Reviewed, Store};

/// Reads in the value what it is to do.
struct Obedient;

impl Admission for Obedient {
    fn review(&self, request: &AdmissionRequest<'_>) -> Result<Reviewed, Denial> {
        assert_eq!(request.old.is_some(), request.operation == Operation::Update);
        if request.resource.kind != "ConfigMap" {
            return Ok(Reviewed::default());
        }
        match request.object["data"]["k"].as_str().unwrap_or_default() {
            "deny" => {
                let message = "configuration is invalid: no".to_owned();
                Err(Denial::Webhook { name: "validation.istio.io".to_owned(), code: 0, message })
            }
            "invalid" => Err(Denial::Invalid(vec![Cause::required("data.x", "")])),
            "forbid" => Err(Denial::Forbidden("not here".to_owned())),
            "change" => {
                let mut object = request.object.clone();
                object["data"]["added"] = json!(request.name);
                Ok(Reviewed { object: Some(object), ..Reviewed::default() })
            }
            "warn" => {
                Ok(Reviewed { warnings: vec!["mind \"this\"".to_owned()], unknown_fields: vec!["spec.foo".to_owned()], object: None })
            }
            _ => {
                // Reading is allowed.
                let _ = request.store.list("ConfigMap", None);
                Ok(Reviewed::default())
            }
        }
    }
}

#[tokio::test]
async fn reviews_deny_change_and_warn() {
    let store = Store::new(Options { admission: vec![Arc::new(Obedient)], ..Options::default() });
    let client = client(&store);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let make = async |value: &str| maps.create(&PostParams::default(), &serde_json::from_value(config_map(value, value)).unwrap()).await;
    let denied = status_of(make("deny").await.unwrap_err());
    assert_eq!((denied.code, denied.reason.as_str()), (400, ""));
    assert_eq!(denied.message, "admission webhook \"validation.istio.io\" denied the request: configuration is invalid: no");
    let invalid = status_of(make("invalid").await.unwrap_err());
    assert_eq!((invalid.code, invalid.message.as_str()), (422, "ConfigMap \"invalid\" is invalid: data.x: Required value"));
    assert_eq!(status_of(make("forbid").await.unwrap_err()).message, "configmaps \"forbid\" is forbidden: not here");
    assert_eq!(make("change").await.unwrap().data.unwrap()["added"], "change");
    make("plain").await.unwrap();
    let update = maps.patch("plain", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "deny"}}))).await;
    assert_eq!(status_of(update.unwrap_err()).code, 400);

    let warned = Patch::Apply(config_map("warn", "warn"));
    let strict = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("x") };
    let refused = status_of(maps.patch("warn", &strict, &warned).await.unwrap_err());
    assert_eq!((refused.code, refused.message.as_str()), (400, "strict decoding error: unknown field \"spec.foo\""));
    let request = hyper::Request::post("/api/v1/namespaces/default/configmaps").header("content-type", "application/json");
    let body = kube::client::Body::from(serde_json::to_vec(&config_map("warn", "warn")).unwrap());
    let response = client.send(request.body(body).unwrap()).await.unwrap();
    let warnings: Vec<&str> = response.headers().get_all("warning").iter().filter_map(|v| v.to_str().ok()).collect();
    assert_eq!(warnings, ["299 - \"mind \\\"this\\\"\"", "299 - \"unknown field \\\"spec.foo\\\"\""]);
}
