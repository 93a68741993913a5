//! What a request asks for.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName};
use hyper::{HeaderMap, Method, Request};
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::registry::{Registry, Resource};
use crate::api::selector::Selector;
use crate::api::store::{DeleteOptions, FieldValidation, Propagation, WriteOptions};

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Decoded, without empty ones.
    segments: Vec<String>,
    /// As it came, with the query.
    pub(super) target: String,
    query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Set when the connection can be upgraded.
    pub(super) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Place {
    /// To objects.
    Objects(At),
    /// To what the API says of itself.
    Info(Vec<String>),
}

/// Objects of one resource.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) resource: Arc<Resource>,
    pub(super) version: String,
    /// None for all namespaces, and for objects of the cluster.
    pub(super) namespace: Option<String>,
    /// None for the collection.
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    /// What follows `proxy`.
    pub(super) rest: Vec<String>,
}

impl At {
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

impl Call {
    pub(super) fn read(mut request: Request<Bytes>) -> Result<Self, ApiError> {
        let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
        let (parts, body) = request.into_parts();
        let segments = parts.uri.path().split('/').filter(|s| !s.is_empty()).map(|s| decoded(s, false)).collect();
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (decoded(key, true), decoded(value, true))
        };
        let query = parts.uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()).map(pair).collect();
        let target = parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), |p| p.as_str().to_owned());
        Ok(Self { method: parts.method, segments, target, query, headers: parts.headers, body, upgrade })
    }

    pub(super) fn place(&self, registry: &Registry) -> Result<Place, ApiError> {
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Ok(Place::Info(self.segments.clone())),
        };
        let find = |plural: &str| registry.at(group, version, plural).ok_or_else(ApiError::no_resource);
        let at = |resource: Arc<Resource>, namespace: Option<&str>, tail: &[&str]| At {
            resource,
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: tail.first().map(|n| (*n).to_owned()),
            subresource: tail.get(1).map(|s| (*s).to_owned()),
            rest: tail.iter().skip(2).map(|s| (*s).to_owned()).collect(),
        };
        let found = match rest {
            ["namespaces", name, sub @ ("status" | "finalize")] => at(find("namespaces")?, None, &[*name, *sub]),
            ["namespaces", namespace, plural, tail @ ..] => {
                let resource = find(plural)?;
                if !resource.namespaced {
                    return Err(ApiError::no_resource());
                }
                at(resource, Some(*namespace), tail)
            }
            [plural, tail @ ..] => {
                let resource = find(plural)?;
                // Without a namespace only the collection of a namespaced kind has a path; and it may be posted nowhere.
                if resource.namespaced && !tail.is_empty() {
                    return Err(ApiError::no_resource());
                }
                at(resource, None, tail)
            }
            [] => return Err(ApiError::no_resource()),
        };
        let known = found.subresource.as_deref().is_none_or(|s| match s {
            "status" => found.resource.status,
            "scale" => found.resource.scale,
            other => found.resource.subresources.iter().any(|known| known == other),
        });
        if !known || (!found.rest.is_empty() && found.subresource.as_deref() != Some("proxy")) {
            return Err(ApiError::no_resource());
        }
        Ok(Place::Objects(found))
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| v == "true" || v == "1")
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        match self.get(key).filter(|v| !v.is_empty()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("{key}: {text:?} is no number of that kind"))),
        }
    }

    pub(super) fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn selector(&self) -> Result<Selector, ApiError> {
        Selector::parse(self.get("labelSelector").unwrap_or_default(), self.get("fieldSelector").unwrap_or_default())
    }

    /// The body as a value: JSON, or YAML where it says so.
    pub(super) fn value(&self) -> Result<Value, ApiError> {
        let wrong =
            |why: String| ApiError::bad_request(format!("the object provided is unrecognized (must be of type that the path says): {why}"));
        if self.body.is_empty() {
            return Err(ApiError::bad_request("the body of the request was empty"));
        }
        let is_json = self.body.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b == b'{' || *b == b'[');
        if is_json && let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        let content = self.header(CONTENT_TYPE);
        if content.contains("protobuf") || content.contains("cbor") {
            return Err(ApiError::new(415, "UnsupportedMediaType", format!("the body of the request was in an unknown format: {content}")));
        }
        if content.contains("yaml") {
            let text = std::str::from_utf8(&self.body).map_err(|e| wrong(e.to_string()))?;
            return serde_saphyr::from_str(text).map_err(|e| wrong(e.to_string()));
        }
        serde_json::from_slice(&self.body).map_err(|e| wrong(e.to_string()))
    }

    pub(super) fn write_options(&self, at: &At) -> Result<WriteOptions, ApiError> {
        // Who says no manager is known by the program's name. Source: `apiserver/pkg/endpoints/handlers/create.go`, managerOrUserAgent.
        let agent = self.header(hyper::header::USER_AGENT).split('/').next().unwrap_or_default();
        let manager = self.get("fieldManager").filter(|m| !m.is_empty()).unwrap_or(agent);
        let validation = match self.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let message = format!("fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\"");
                return Err(ApiError::new(422, "Invalid", message));
            }
        };
        Ok(WriteOptions {
            manager: manager.to_owned(),
            version: at.version.clone(),
            dry_run: self.is_dry_run()?,
            validation,
            force: self.flag("force"),
        })
    }

    fn is_dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None | Some("") => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let message = format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"");
                Err(ApiError::new(422, "Invalid", message))
            }
        }
    }

    /// From the body and the query, the query being what a plain DELETE has.
    pub(super) fn delete_options(&self) -> Result<DeleteOptions, ApiError> {
        let body = if self.body.is_empty() { Value::Null } else { self.value()? };
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let propagation = text("/propagationPolicy").or_else(|| self.get("propagationPolicy").map(str::to_owned));
        let propagation = match propagation.as_deref() {
            None | Some("") => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let message = format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                );
                return Err(ApiError::new(422, "Invalid", message));
            }
        };
        let grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        let dry = body.get("dryRun").and_then(Value::as_array).is_some_and(|d| !d.is_empty());
        Ok(DeleteOptions {
            propagation,
            grace_period_seconds: match grace {
                Some(grace) => Some(grace),
                None => self.number("gracePeriodSeconds")?,
            },
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: dry || self.is_dry_run()?,
        })
    }
}

/// Percent-decoded; `+` is a space in a query.
fn decoded(text: &str, in_query: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if in_query => out.push(b' '),
            b'%' => {
                let rest = bytes.as_slice_hex();
                match rest {
                    Some(value) => {
                        out.push(value);
                        bytes.nth(1);
                    }
                    None => out.push(b'%'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Looks at the next two hex digits without taking them.
trait Hex {
    fn as_slice_hex(&self) -> Option<u8>;
}

impl Hex for std::str::Bytes<'_> {
    fn as_slice_hex(&self) -> Option<u8> {
        let mut ahead = self.clone();
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(ahead.next())?, digit(ahead.next())?);
        u8::try_from(high * 16 + low).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Result<Place, ApiError> {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        Call::read(request).unwrap().place(&Registry::builtin())
    }

    #[test]
    fn paths_lead_to_objects() {
        let at = |path: &str| match place(path) {
            Ok(Place::Objects(at)) => format!("{} {:?} {:?} {:?} {:?}", at.resource.plural, at.namespace, at.name, at.subresource, at.rest),
            Ok(Place::Info(path)) => format!("info {path:?}"),
            Err(error) => error.code.to_string(),
        };
        assert_eq!(at("/api/v1/namespaces/a"), r#"namespaces None Some("a") None []"#);
        assert_eq!(at("/api/v1/namespaces/a/status"), r#"namespaces None Some("a") Some("status") []"#);
        assert_eq!(at("/api/v1/namespaces/a/pods"), r#"pods Some("a") None None []"#);
        assert_eq!(at("/api/v1/pods"), "pods None None None []");
        assert_eq!(at("/api/v1/namespaces/a/pods/http:b:1%2F2/proxy/x/y"), r#"pods Some("a") Some("http:b:1/2") Some("proxy") ["x", "y"]"#);
        assert_eq!(at("/apis/networking.istio.io/v1alpha3/namespaces/a/gateways/b"), r#"gateways Some("a") Some("b") None []"#);
        assert_eq!(at("/apis/apps/v1"), r#"info ["apis", "apps", "v1"]"#);
        for missing in
            ["/api/v1/pods/a", "/apis/apps/v2/deployments", "/api/v1/namespaces/a/configmaps/b/scale", "/api/v1/namespaces/a/nodes"]
        {
            assert_eq!(at(missing), "404", "{missing}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decoded("a%3Db+c%", true), "a=b c%");
        assert_eq!(decoded("a+b%zz", false), "a+b%zz");
    }
}
