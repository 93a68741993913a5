//! httpbin: an HTTP server that tells what it was asked. Its answers have the shape of go-httpbin 2.x; for images of the
//! Python original the names are the same and lists of one value are that value.

mod answers;
mod body;
mod request;
mod text;
mod websocket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use hyper::{Request, Response};
use sha2::{Digest, Sha256};

use super::serve::{Body, Handler, Peer};

pub(crate) use text::{canonical, duration};

/// Whose httpbin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `mccutchen/go-httpbin`.
    Go,
    /// `kennethreitz/httpbin`.
    Python,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Httpbin {
    flavour: Flavour,
    /// What `/env` tells: variables that begin with `HTTPBIN_ENV_`.
    env: BTreeMap<String, String>,
    hostname: String,
    /// What `/hostname` tells.
    told_hostname: String,
    dice: AtomicU64,
}

impl Httpbin {
    pub(crate) fn new(flavour: Flavour, env: &BTreeMap<String, String>, hostname: &str) -> Arc<Self> {
        // Source: go-httpbin, `httpbin/cmd/cmd.go`: the machine's own name is told only where that is asked for.
        let real = env.get("USE_REAL_HOSTNAME").is_some_and(|value| value == "1" || value == "true");
        let told_hostname = if real { hostname } else { "go-httpbin" }.to_owned();
        let env = env.iter().filter(|(name, _)| name.starts_with("HTTPBIN_ENV_")).map(|(n, v)| (n.clone(), v.clone())).collect();
        Arc::new(Self { flavour, env, hostname: hostname.to_owned(), told_hostname, dice: AtomicU64::new(0) })
    }

    pub(crate) fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |request: Request<Incoming>, peer: Peer| {
            let server = self.clone();
            Box::pin(async move { server.answer(request, peer).await })
        })
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let origin = request.headers().get("origin").cloned();
        let mut response = answers::answer(self, request, &peer).await;
        // Source: go-httpbin, `httpbin/middleware.go`: any origin may ask.
        let headers = response.headers_mut();
        headers.insert("access-control-allow-credentials", hyper::header::HeaderValue::from_static("true"));
        let allowed = origin.unwrap_or_else(|| hyper::header::HeaderValue::from_static("*"));
        headers.insert("access-control-allow-origin", allowed);
        response
    }

    /// Bytes that look like chance and are the same in every run.
    fn draw(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.hostname.as_bytes());
        hash.update(self.dice.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        hash.finalize().into()
    }

    /// A number from 0 to less than 1.
    fn chance(&self) -> f64 {
        let [a, b, c, d, ..] = self.draw();
        f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
    }
}

/// The port that the real images listen on, unless told otherwise by `-port` or `PORT`.
pub(crate) fn port(flavour: Flavour, args: &[String], env: &BTreeMap<String, String>) -> Result<u16, String> {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches('-');
        let value = match name.split_once('=') {
            Some(("port", value)) => Some(value.to_owned()),
            _ if word.starts_with('-') && name == "port" => words.next().cloned(),
            _ => match name.rsplit_once(':') {
                // gunicorn's -b 0.0.0.0:80
                Some((_, value)) if flavour == Flavour::Python && value.bytes().all(|b| b.is_ascii_digit()) => Some(value.to_owned()),
                _ => None,
            },
        };
        if let Some(value) = value {
            return value.parse().map_err(|_| format!("invalid value {value:?} for flag -port: parse error"));
        }
    }
    match (flavour, env.get("PORT")) {
        (Flavour::Go, Some(value)) => value.parse().map_err(|_| format!("invalid value {value:?} for env var PORT: parse error")),
        (Flavour::Go, None) => Ok(8080),
        (Flavour::Python, _) => Ok(80),
    }
}

#[cfg(test)]
mod tests;
