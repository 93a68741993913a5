//! HTTP/2 as curl speaks it, on hyper.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Uri;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::request::Request;
use super::transfer::Taking;
use super::transport::Stream;
use super::{Failure, tls};

/// A connection that speaks HTTP/2.
pub(super) struct Session {
    sender: http2::SendRequest<Full<Bytes>>,
    driver: JoinHandle<Result<(), hyper::Error>>,
    is_tls: bool,
    noted: Noted,
}

/// What reading failed with.
type Noted = Arc<Mutex<Option<Failure>>>;

/// A stream that notes why reading failed: the HTTP/2 library keeps no more of it than its words.
struct Noting {
    stream: Stream,
    is_tls: bool,
    noted: Noted,
}

impl AsyncRead for Noting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &result {
            *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls::read_failure(error, self.is_tls));
        }
        result
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Headers that HTTP/2 has no place for (RFC 9113, section 8.2.2).
const CONNECTION_HEADERS: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host", "http2-settings"];

impl Session {
    pub(super) async fn begin(stream: Stream, is_tls: bool) -> Result<Self, Failure> {
        let noted = Noted::default();
        let stream = Noting { stream, is_tls, noted: noted.clone() };
        let begun = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = begun.map_err(|error| failure(&error, is_tls))?;
        Ok(Self { sender, driver: tokio::spawn(connection), is_tls, noted })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Why the connection ended, where the request itself says no more than that it did.
    async fn explain(&mut self, error: hyper::Error) -> Failure {
        let own = failure(&error, self.is_tls);
        if let Some(noted) = self.noted.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return noted;
        }
        if own.code != 16 || !(error.is_closed() || error.is_canceled()) {
            return own;
        }
        match tokio::time::timeout(std::time::Duration::from_millis(50), &mut self.driver).await {
            Ok(Ok(Err(cause))) => {
                let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner).take();
                noted.unwrap_or_else(|| failure(&cause, self.is_tls))
            }
            Ok(Ok(Ok(()))) => Failure::new(92, "HTTP/2 stream 1 was not closed cleanly before end of the underlying stream"),
            _ => own,
        }
    }

    /// Sends a request and takes its response.
    pub(super) async fn exchange(&mut self, request: &Request, taking: &mut Taking<'_>) -> Result<(), Failure> {
        let scheme = if self.is_tls { "https" } else { "http" };
        let authority = request.header("host").unwrap_or_default();
        let uri: Uri = format!("{scheme}://{authority}{}", request.target)
            .parse()
            .map_err(|_| Failure::new(3, "URL using bad/illegal format or missing URL"))?;
        let mut builder = hyper::Request::builder().method(request.method.as_str()).version(hyper::Version::HTTP_2).uri(uri);
        let mut shown = format!("{} {} HTTP/2\r\nHost: {authority}\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            let name = name.to_ascii_lowercase();
            if !CONNECTION_HEADERS.contains(&name.as_str()) {
                shown.push_str(&format!("{name}: {value}\r\n"));
                builder = builder.header(name, value);
            }
        }
        let outgoing = builder
            .body(Full::new(Bytes::copy_from_slice(&request.body)))
            .map_err(|e| Failure::new(43, format!("invalid request: {e}")))?;
        taking.sent(&(shown + "\r\n"), request.body.len());
        let mut response = match self.sender.send_request(outgoing).await {
            Ok(response) => response,
            Err(error) => return Err(self.explain(error).await),
        };
        let headers: Vec<(String, String)> =
            response.headers().iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
        let code = response.status().as_u16();
        let mut text = format!("HTTP/2 {code} \r\n");
        for (name, value) in &headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        taking.head(&(text + "\r\n"), "2", code, &headers);
        let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse().ok());
        if request.method != "HEAD" {
            taking.begin(length)?;
        }
        while let Some(frame) = response.body_mut().frame().await {
            match frame {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        taking.body(&data)?;
                    }
                }
                Err(error) => return Err(self.explain(error).await),
            }
        }
        Ok(())
    }
}

/// HTTP/2's error codes: the words of the h2 crate, and curl's (RFC 9113, section 7).
const CODES: &[(&str, &str, u32)] = &[
    ("not a result of an error", "NO_ERROR", 0),
    ("unspecific protocol error detected", "PROTOCOL_ERROR", 1),
    ("unexpected internal error encountered", "INTERNAL_ERROR", 2),
    ("flow-control protocol violated", "FLOW_CONTROL_ERROR", 3),
    ("settings ACK not received", "SETTINGS_TIMEOUT", 4),
    ("received frame when stream half-closed", "STREAM_CLOSED", 5),
    ("frame with invalid size", "FRAME_SIZE_ERROR", 6),
    ("refused stream before processing", "REFUSED_STREAM", 7),
    ("stream no longer needed", "CANCEL", 8),
    ("unable to maintain the header compression", "COMPRESSION_ERROR", 9),
    ("connection established in response to a CONNECT", "CONNECT_ERROR", 10),
    ("detected excessive load", "ENHANCE_YOUR_CALM", 11),
    ("security properties do not meet", "INADEQUATE_SECURITY", 12),
    ("endpoint requires HTTP/1.1", "HTTP_1_1_REQUIRED", 13),
];

fn failure(error: &hyper::Error, is_tls: bool) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return tls::read_failure(error, is_tls);
        }
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    let code = CODES.iter().find(|(words, ..)| text.contains(words));
    match code {
        Some((_, name, number)) if text.contains("stream error") => {
            Failure::new(92, format!("HTTP/2 stream 1 was not closed cleanly: {name} (err {number})"))
        }
        _ => Failure::new(16, "Error in the HTTP2 framing layer"),
    }
}
