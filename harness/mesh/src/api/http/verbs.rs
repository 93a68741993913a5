//! Reading and writing objects.

use hyper::header::CONTENT_TYPE;
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::request::{At, Call};
use super::respond::{self, InVersion};
use super::{ApiBody, Server};
use crate::api::error::ApiError;
use crate::api::fields::Schema;
use crate::api::registry::Resource;
use crate::api::store::{Deleted, Page, Patch, Subresource, Target, WriteOptions, Written};

impl Server {
    pub(super) fn objects(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        if at.resource.virtual_only {
            return self.review(call, at);
        }
        match (&call.method, &at.name, at.subresource.as_deref()) {
            (&Method::GET | &Method::HEAD, None, None) if call.flag("watch") => self.watch(call, at),
            (&Method::GET | &Method::HEAD, None, None) => self.list(call, at),
            (&Method::GET | &Method::HEAD, Some(_), None | Some("status")) if call.flag("watch") => self.watch(call, at),
            (&Method::GET | &Method::HEAD, Some(name), None | Some("status")) => {
                let object = self.store.read(&at.resource, at.namespace(), name)?;
                let text = self.texts.of(&object, &at.resource.in_version(&at.version));
                Ok(respond::bytes(200, "application/json", text.to_string()))
            }
            (&Method::GET, Some(name), Some("scale")) => {
                Ok(respond::json(200, &scale_of(&*self.store.read(&at.resource, at.namespace(), name)?)))
            }
            (&Method::POST, None, None) => self.create(call, at),
            (&Method::PUT, Some(name), part) => self.put(call, at, name, part),
            (&Method::PATCH, Some(name), part) => self.patch(call, at, name, part),
            (&Method::DELETE, Some(name), None) => self.delete(call, at, name),
            (&Method::DELETE, None, None) => self.delete_collection(call, at),
            (&Method::POST, Some(name), Some("eviction")) => {
                self.store.delete_at(&at.resource, at.namespace(), name, &Default::default())?;
                Ok(respond::json(201, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
            }
            (&Method::POST, Some(name), Some("binding")) => {
                let node = call.value()?.pointer("/target/name").cloned().unwrap_or_default();
                let kind = at.resource.group_kind();
                self.store.modify(&kind, at.namespace(), name, "kube-scheduler", |pod| {
                    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
                        spec.insert("nodeName".to_owned(), node.clone());
                    }
                })?;
                Ok(respond::json(201, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn list(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        let page = Page { limit: call.number("limit")?.unwrap_or(0), token: call.get("continue").unwrap_or_default().to_owned() };
        let listed = self.store.page(&at.resource, at.namespace.as_deref(), &call.selector()?, &page)?;
        let mut metadata = json!({"resourceVersion": listed.version.to_string()});
        if let Some((token, left)) = listed.next {
            metadata["continue"] = json!(token);
            metadata["remainingItemCount"] = json!(left);
        }
        let api_version = at.resource.in_version(&at.version);
        let kind = json!(format!("{}List", at.resource.kind));
        let mut out = format!("{{\"kind\":{kind},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[", json!(api_version));
        for (n, object) in listed.objects.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            out.push_str(&self.texts.of(object, &api_version));
        }
        out.push_str("]}");
        Ok(respond::bytes(200, "application/json", out))
    }

    fn create(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        let mut object = call.value()?;
        fits(at, &object, "")?;
        let namespace = match (&at.namespace, object.pointer("/metadata/namespace").and_then(Value::as_str)) {
            (Some(namespace), _) => namespace.clone(),
            // A namespaced object without a namespace in the path or the body.
            (None, None) if at.resource.namespaced => {
                return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
            }
            (None, Some(named)) if at.resource.namespaced => named.to_owned(),
            (None, _) => String::new(),
        };
        if object.pointer("/metadata").is_none()
            && let Some(map) = object.as_object_mut()
        {
            map.insert("metadata".to_owned(), json!({}));
        }
        let written = self.store.create_in(&at.resource, &namespace, object, &call.write_options(at)?)?;
        Ok(shown(at, &written, false))
    }

    fn put(&self, call: &Call, at: &At, name: &str, part: Option<&str>) -> Result<Response<ApiBody>, ApiError> {
        let object = call.value()?;
        let options = call.write_options(at)?;
        if part == Some("finalize") {
            return self.finalize(at, name, &object);
        }
        let part = subresource(part)?;
        if part != Subresource::Scale {
            fits(at, &object, name)?;
        }
        let target = Target { resource: &at.resource, namespace: at.namespace(), name, part };
        let written = self.store.change(target, &options, &|_| Ok(object.clone()))?;
        Ok(shown(at, &written, part == Subresource::Scale))
    }

    /// The store ends namespaces by itself: what a client says about that changes nothing.
    fn finalize(&self, at: &At, name: &str, _: &Value) -> Result<Response<ApiBody>, ApiError> {
        let object = self.store.read(&at.resource, at.namespace(), name)?;
        Ok(respond::object(200, &object, &at.resource, &at.version, &[]))
    }

    fn patch(&self, call: &Call, at: &At, name: &str, part: Option<&str>) -> Result<Response<ApiBody>, ApiError> {
        let body = call.value()?;
        let options = call.write_options(at)?;
        let part = subresource(part)?;
        let target = Target { resource: &at.resource, namespace: at.namespace(), name, part };
        let kind = call.header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
        let patch = match kind.as_str() {
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                return self.apply(call, at, target, &body, &options);
            }
            "application/json-patch+json" => Patch::Json(body),
            "application/merge-patch+json" => Patch::Merge(body),
            // Source: custom resources know no strategic merge, `apiextensions-apiserver/pkg/apiserver/customresource_handler.go`.
            "application/strategic-merge-patch+json" if at.resource.is_defined() => {
                return Err(unsupported_patch(&[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/apply-patch+yaml",
                ]));
            }
            "application/strategic-merge-patch+json" => Patch::Strategic(body),
            _ => {
                return Err(unsupported_patch(&[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                    "application/apply-patch+yaml",
                ]));
            }
        };
        let schema = Schema { group: &at.resource.group, kind: &at.resource.kind };
        let change = |current: &Value| match part {
            Subresource::Scale => patch.apply(Schema { group: "autoscaling", kind: "Scale" }, &scale_of(current)).map(|s| {
                let mut object = current.clone();
                if let (Some(spec), Some(replicas)) =
                    (object.get_mut("spec").and_then(Value::as_object_mut), s.pointer("/spec/replicas").cloned())
                {
                    spec.insert("replicas".to_owned(), replicas);
                }
                object
            }),
            _ => {
                let object = patch.apply(schema, current)?;
                fits(at, &in_stored_version(at, object.clone()), name)?;
                Ok(object)
            }
        };
        let written = self.store.change(target, &options, &change)?;
        Ok(shown(at, &written, part == Subresource::Scale))
    }

    fn apply(&self, call: &Call, at: &At, target: Target<'_>, body: &Value, options: &WriteOptions) -> Result<Response<ApiBody>, ApiError> {
        if call.get("fieldManager").is_none_or(str::is_empty) {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(ApiError::new(422, "Invalid", message));
        }
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("apiVersion").is_empty() || text("kind").is_empty() {
            return Err(ApiError::bad_request(format!("invalid object type: {}/, Kind={}", text("apiVersion"), text("kind"))));
        }
        if target.part != Subresource::Scale {
            fits(at, body, target.name)?;
        }
        let written = self.store.apply_to(target, body, options)?;
        Ok(shown(at, &written, target.part == Subresource::Scale))
    }

    fn delete(&self, call: &Call, at: &At, name: &str) -> Result<Response<ApiBody>, ApiError> {
        let options = call.delete_options()?;
        match self.store.delete_at(&at.resource, at.namespace(), name, &options)? {
            Deleted::Waits(object) => Ok(respond::object(200, &object, &at.resource, &at.version, &[])),
            Deleted::Gone(object) if returns_what_it_deletes(&at.resource) => {
                Ok(respond::object(200, &object, &at.resource, &at.version, &[]))
            }
            Deleted::Gone(object) => {
                let mut details = json!({"name": name, "kind": at.resource.plural, "uid": object.pointer("/metadata/uid")});
                if !at.resource.group.is_empty() {
                    details["group"] = json!(at.resource.group);
                }
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
                Ok(respond::json(200, &status))
            }
        }
    }

    fn delete_collection(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        if at.resource.namespaced && at.namespace.is_none() {
            return Err(ApiError::method_not_allowed());
        }
        let gone = self.store.delete_all(&at.resource, at.namespace.as_deref(), &call.selector()?, &call.delete_options()?);
        let api_version = at.resource.in_version(&at.version);
        let items: Vec<InVersion<'_>> = gone.iter().map(|o| InVersion::new(o, &api_version)).collect();
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct List<'a> {
            kind: String,
            api_version: &'a str,
            metadata: Value,
            items: Vec<InVersion<'a>>,
        }
        let metadata = json!({"resourceVersion": self.store.version().to_string()});
        Ok(respond::json(200, &List { kind: format!("{}List", at.resource.kind), api_version: &api_version, metadata, items }))
    }

    /// Reviews are answered and not kept: whoever asks is an administrator here.
    fn review(&self, call: &Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        if call.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let mut object = call.value()?;
        let status = match at.resource.kind.as_str() {
            "SelfSubjectRulesReview" => json!({
                "incomplete": false,
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }),
            "TokenReview" => json!({"authenticated": true, "user": {"username": "kubernetes-admin", "groups": ["system:masters"]}}),
            _ => json!({"allowed": true, "reason": "everything is allowed in this cluster"}),
        };
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".to_owned(), json!(at.resource.in_version(&at.version)));
            map.insert("kind".to_owned(), json!(at.resource.kind));
            map.entry("metadata").or_insert_with(|| json!({}));
            map.insert("status".to_owned(), status);
        }
        Ok(respond::json(201, &object))
    }
}

fn shown(at: &At, written: &Written, as_scale: bool) -> Response<ApiBody> {
    let status = if written.created { 201 } else { 200 };
    if as_scale {
        return respond::json(status, &scale_of(&written.object));
    }
    respond::object(status, &written.object, &at.resource, &at.version, &written.warnings)
}

fn subresource(part: Option<&str>) -> Result<Subresource, ApiError> {
    match part {
        None => Ok(Subresource::Main),
        Some("status") => Ok(Subresource::Status),
        Some("scale") => Ok(Subresource::Scale),
        Some(_) => Err(ApiError::method_not_allowed()),
    }
}

fn unsupported_patch(supported: &[&str]) -> ApiError {
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!("the body of the request was in an unknown format - accepted media types include: {}", supported.join(", ")),
    )
}

/// Source: `ReturnDeletedObject` of the storages under Kubernetes `pkg/registry`.
fn returns_what_it_deletes(resource: &Resource) -> bool {
    const SUCH: [&str; 6] = ["pods", "services", "serviceaccounts", "persistentvolumeclaims", "podtemplates", "resourcequotas"];
    resource.group.is_empty() && SUCH.contains(&resource.plural.as_str())
}

/// A patch is made on the object as it is kept; the version that the path says is as good.
fn in_stored_version(at: &At, mut object: Value) -> Value {
    let kept = at.resource.api_version();
    if let Some(map) = object.as_object_mut()
        && map.get("apiVersion").and_then(Value::as_str) == Some(kept.as_str())
    {
        map.insert("apiVersion".to_owned(), json!(at.resource.in_version(&at.version)));
    }
    object
}

/// Whether what the body says of itself is what the path says.
fn fits(at: &At, object: &Value, name: &str) -> Result<(), ApiError> {
    if !object.is_object() {
        return Err(ApiError::bad_request("the object provided is not a map"));
    }
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let api_version = at.resource.in_version(&at.version);
    let (said_version, said_kind) = (text("/apiVersion"), text("/kind"));
    if !said_version.is_empty() && said_version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({said_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !said_kind.is_empty() && said_kind != at.resource.kind {
        return Err(ApiError::bad_request(format!(
            "{said_kind} in version {:?} cannot be handled as a {}: no kind {said_kind:?} is registered for that path",
            at.version, at.resource.kind
        )));
    }
    let said = text("/metadata/name");
    if !name.is_empty() && !said.is_empty() && said != name {
        return Err(ApiError::bad_request(format!("the name of the object ({said}) does not match the name on the URL ({name})")));
    }
    let (namespace, said) = (at.namespace(), text("/metadata/namespace"));
    if !namespace.is_empty() && !said.is_empty() && said != namespace {
        return Err(ApiError::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    Ok(())
}

/// The `autoscaling/v1` Scale of an object.
fn scale_of(object: &Value) -> Value {
    let metadata = object.get("metadata");
    let field = |key: &str| metadata.and_then(|m| m.get(key)).cloned().unwrap_or_default();
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let selector: Vec<String> = labels.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": field("name"), "namespace": field("namespace"), "uid": field("uid"),
            "resourceVersion": field("resourceVersion"), "creationTimestamp": field("creationTimestamp"),
        },
        "spec": {"replicas": object.pointer("/spec/replicas").cloned().unwrap_or_else(|| json!(1))},
        "status": {
            "replicas": object.pointer("/status/replicas").cloned().unwrap_or_else(|| json!(0)),
            "selector": selector.join(","),
        },
    })
}
