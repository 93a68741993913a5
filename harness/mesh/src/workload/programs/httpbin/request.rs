//! What an answer tells of its request.

use std::collections::BTreeMap;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::Read;
use super::text::{Values, canonical, unescape, values};
use crate::workload::programs::serve::Peer;

/// A body longer than this is refused. Source: go-httpbin, `DefaultMaxBodySize`.
const MAX_BODY: usize = 1024 * 1024;

/// A request, read whole.
pub(super) struct Asked {
    pub(super) method: String,
    /// As it was sent.
    pub(super) target: String,
    /// Decoded.
    pub(super) path: String,
    pub(super) args: Values,
    /// Names as Go writes them.
    pub(super) headers: Values,
    pub(super) version: hyper::Version,
    pub(super) origin: String,
    pub(super) url: String,
    pub(super) body: Vec<u8>,
}

impl Asked {
    /// Reads a request. None when its body is too long or breaks off.
    pub(super) async fn read(request: &mut Request<Incoming>, peer: &Peer) -> Option<Self> {
        let mut headers = Values::new();
        for (name, value) in request.headers() {
            headers.entry(canonical(name.as_str())).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        let authority = request.uri().authority().map(ToString::to_string);
        let host = authority.or_else(|| headers.get("Host")?.first().cloned()).unwrap_or_default();
        headers.insert("Host".to_owned(), vec![host.clone()]);
        let first = |name: &str| headers.get(name).and_then(|v| v.first()).map(String::as_str).filter(|v| !v.is_empty());
        let forwarded = first("X-Forwarded-For").map(|all| all.split(',').next().unwrap_or(all).trim().to_owned());
        let scheme = first("X-Forwarded-Proto").unwrap_or(if peer.tls.is_some() { "https" } else { "http" });
        let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let url = format!("{scheme}://{host}{target}");
        let args = values(request.uri().query().unwrap_or_default());
        let mut asked = Self {
            method: request.method().to_string(),
            path: unescape(request.uri().path(), false),
            args,
            target,
            version: request.version(),
            origin: forwarded.unwrap_or_else(|| peer.remote.ip().to_string()),
            url,
            headers,
            body: Vec::new(),
        };
        while let Some(frame) = request.body_mut().frame().await {
            if let Ok(data) = frame.ok()?.into_data() {
                asked.body.extend_from_slice(&data);
            }
            if asked.body.len() > MAX_BODY {
                return None;
            }
        }
        Some(asked)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.first()).map(String::as_str)
    }

    pub(super) fn arg(&self, name: &str) -> Option<&str> {
        self.args.get(name).and_then(|v| v.first()).map(String::as_str)
    }

    /// What `/get` tells, in its order; `flat` gives single values for lists of one.
    pub(super) fn told(&self, flat: bool) -> Vec<(&'static str, Value)> {
        let mut told = vec![("args", shown(&self.args, flat)), ("headers", shown(&self.headers, flat))];
        if !flat {
            told.push(("method", json!(self.method)));
        }
        told.push(("origin", json!(self.origin)));
        told.push(("url", json!(self.url)));
        told
    }

    /// What `/post` tells.
    pub(super) fn told_with_body(&self, read: &Read, flat: bool) -> Vec<(&'static str, Value)> {
        let mut told = self.told(flat);
        told.extend([
            ("data", json!(read.data)),
            ("files", shown(&read.files, flat)),
            ("form", shown(&read.form, flat)),
            ("json", read.json.clone()),
        ]);
        told
    }

    pub(super) fn cookies(&self) -> BTreeMap<String, String> {
        let all = self.headers.get("Cookie").into_iter().flatten().flat_map(|line| line.split(';'));
        all.filter_map(|pair| pair.trim().split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }
}

pub(super) fn shown(values: &Values, flat: bool) -> Value {
    let one = |all: &Vec<String>| match (flat, all.as_slice()) {
        (true, [only]) => json!(only),
        _ => json!(all),
    };
    values.iter().map(|(name, all)| (name.clone(), one(all))).collect::<serde_json::Map<_, _>>().into()
}
