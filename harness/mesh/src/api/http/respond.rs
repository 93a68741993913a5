//! Responses.

use bytes::Bytes;
use futures::Stream;
use futures::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue, WARNING};
use hyper::{Response, StatusCode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::ApiBody;
use crate::api::error::ApiError;
use crate::api::registry::Resource;

/// An object as one of its versions.
pub(super) struct InVersion<'a> {
    pub(super) object: &'a Value,
    pub(super) api_version: &'a str,
}

impl<'a> InVersion<'a> {
    pub(super) fn new(object: &'a Value, api_version: &'a str) -> Self {
        Self { object, api_version }
    }
}

impl Serialize for InVersion<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(map) = self.object.as_object() else { return self.object.serialize(serializer) };
        let mut out = serializer.serialize_map(Some(map.len()))?;
        for (key, value) in map {
            if key == "apiVersion" {
                out.serialize_entry(key, self.api_version)?;
            } else {
                out.serialize_entry(key, value)?;
            }
        }
        out.end()
    }
}

pub(super) fn bytes(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<ApiBody> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn json(status: u16, value: &impl Serialize) -> Response<ApiBody> {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, "application/json", body),
        Err(error) => self::error(&ApiError::internal(error)),
    }
}

pub(super) fn error(error: &ApiError) -> Response<ApiBody> {
    let body = error.to_status().to_string();
    bytes(error.code, "application/json", body)
}

pub(super) fn stream(content_type: &'static str, chunks: impl Stream<Item = Bytes> + Send + 'static) -> Response<ApiBody> {
    use futures::StreamExt;
    let frames = chunks.map(Ok::<_, std::io::Error>).map_ok(Frame::data);
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// One object, with warnings in headers. Source of their form: RFC 9111's predecessor, as `apiserver/pkg/warning` writes it.
pub(super) fn object(status: u16, object: &Value, resource: &Resource, version: &str, warnings: &[String]) -> Response<ApiBody> {
    let mut response = json(status, &InVersion::new(object, &resource.in_version(version)));
    for warning in warnings {
        let clean: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
