//! An HTTP call from this machine, over TCP or TLS, that tells endings apart.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gateproof_core::outcome::{CallSeen, CertificateSeen};
use gateproof_core::scenario::{Connection, HttpProbe, Scheme, Verify};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::certificate;
use crate::provider::{Dialler, Stream};

/// The largest part of a body that is kept.
const BODY_LIMIT: usize = 64 * 1024;

/// A client certificate and its key, in PEM form. Never printed.
#[derive(Clone)]
pub struct Identity {
    /// The chain.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// Makes the call to `address`.
pub async fn call(
    dialler: &dyn Dialler,
    probe: &HttpProbe,
    address: SocketAddr,
    roots_pem: &str,
    identity: Option<&Identity>,
    user_agent: &str,
) -> CallSeen {
    let mut seen = CallSeen { remote: Some(address), ..CallSeen::default() };
    let finished = timeout(probe.timeout, attempt(dialler, probe, address, roots_pem, identity, user_agent, &mut seen)).await;
    match finished {
        Ok(Ok(())) => seen.connection = Some(Connection::Answered),
        Ok(Err(ending)) => {
            seen.connection = Some(ending.connection);
            seen.connection_detail = Some(ending.words);
        }
        Err(_) => {
            seen.connection = Some(Connection::Timeout);
            seen.connection_detail = Some(format!("nothing came within {:?}", probe.timeout));
        }
    }
    seen
}

struct Ending {
    connection: Connection,
    words: String,
}

async fn attempt(
    dialler: &dyn Dialler,
    probe: &HttpProbe,
    address: SocketAddr,
    roots_pem: &str,
    identity: Option<&Identity>,
    user_agent: &str,
    seen: &mut CallSeen,
) -> Result<(), Ending> {
    let dialled = dialler.dial(address).await.map_err(|e| ending_of(&e))?;
    seen.local = dialled.local;
    let stream = dialled.stream;
    match probe.scheme {
        Scheme::Http => exchange(probe, stream, false, user_agent, seen).await,
        Scheme::Https => {
            let shown: Arc<Mutex<Option<CertificateSeen>>> = Arc::default();
            let stream = handshake(probe, stream, roots_pem, identity, &shown).await;
            seen.certificate = shown.lock().expect("no panic holds this lock").take();
            let stream = stream?;
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let alert: Alert = Arc::default();
            let ended = exchange(probe, Listening { stream, alert: alert.clone() }, h2, user_agent, seen).await;
            // In TLS 1.3 a server refuses a client's certificate after the handshake. hyper then tells what it was doing, and
            // not always why that ended.
            let heard = alert.lock().expect("no panic holds this lock").take();
            ended.map_err(|ending| match heard {
                Some(connection) => Ending { connection, ..ending },
                None => ending,
            })
        }
    }
}

/// The alert that came, if one did.
type Alert = Arc<Mutex<Option<Connection>>>;

/// Notes a TLS alert wherever it comes, also where what was written met a closed connection first.
struct Listening<S> {
    stream: S,
    alert: Alert,
}

impl<S: AsyncRead + Unpin> Listening<S> {
    fn note(&self, error: &std::io::Error) {
        let ending = ending_of(error).connection;
        if matches!(ending, Connection::TlsAlert(_)) {
            *self.alert.lock().expect("no panic holds this lock") = Some(ending);
        }
    }

    /// Reads on after a failed write, for what the peer said before it closed.
    fn hear_out(&mut self, cx: &mut Context<'_>) {
        for _ in 0..16 {
            let mut bytes = [0_u8; 1024];
            let mut into = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) if !into.filled().is_empty() => {}
                Poll::Ready(Err(error)) => return self.note(&error),
                _ => return,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            self.note(error);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if matches!(written, Poll::Ready(Err(_))) {
            self.hear_out(cx);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Err(_))) {
            self.hear_out(cx);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn handshake(
    probe: &HttpProbe,
    stream: Box<dyn Stream>,
    roots_pem: &str,
    identity: Option<&Identity>,
    shown: &Arc<Mutex<Option<CertificateSeen>>>,
) -> Result<tokio_rustls::client::TlsStream<Box<dyn Stream>>, Ending> {
    let local = |words: String| Ending { connection: Connection::Other("the call could not be made".to_owned()), words };
    let config = tls_config(probe.verify, roots_pem, identity, shown.clone()).map_err(local)?;
    let name = probe.sni.as_ref().unwrap_or(&probe.host);
    let name = ServerName::try_from(name.as_str().to_owned()).map_err(|e| local(e.to_string()))?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| ending_of(&e))
}

fn tls_config(
    verify: Verify,
    roots_pem: &str,
    identity: Option<&Identity>,
    shown: Arc<Mutex<Option<CertificateSeen>>>,
) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    let strict = match verify {
        Verify::Insecure => None,
        Verify::RunCas => {
            Some(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map_err(|e| e.to_string())?)
        }
    };
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Observer { strict, schemes, shown }));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| e.to_string())?;
            builder.with_client_auth_cert(chain.map_err(|e| e.to_string())?, key).map_err(|e| e.to_string())?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Notes the certificate that was shown, and verifies it unless told not to.
#[derive(Debug)]
struct Observer {
    strict: Option<Arc<WebPkiServerVerifier>>,
    schemes: Vec<SignatureScheme>,
    shown: Arc<Mutex<Option<CertificateSeen>>>,
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().expect("no panic holds this lock") = certificate::describe(end_entity);
        match &self.strict {
            None => Ok(ServerCertVerified::assertion()),
            Some(verifier) => verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

async fn exchange<S>(probe: &HttpProbe, stream: S, h2: bool, user_agent: &str, seen: &mut CallSeen) -> Result<(), Ending>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let default_port = match probe.scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let authority = if probe.port == default_port { probe.host.to_string() } else { format!("{}:{}", probe.host, probe.port) };
    let mut request = hyper::Request::builder().method(probe.method.as_str()).header("user-agent", user_agent).header("accept", "*/*");
    request = if h2 {
        request.uri(format!("https://{authority}{}", probe.path))
    } else {
        request.uri(probe.path.as_str()).header("host", &authority)
    };
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(probe.body.clone().unwrap_or_default()));
    let request = request.body(body).map_err(|e| Ending {
        connection: Connection::Other("the call could not be made".to_owned()),
        words: format!("the request is not valid: {e}"),
    })?;
    let io = TokioIo::new(stream);
    let response = if h2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(|e| ending_of(&e))?;
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|e| ending_of(&e))?;
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let response = response.map_err(|e| ending_of(&e))?;
    seen.status = Some(response.status().as_u16());
    for (name, value) in response.headers() {
        seen.headers.insert(name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let body = response.into_body().collect().await.map_err(|e| ending_of(&e))?.to_bytes();
    seen.body = Some(String::from_utf8_lossy(&body[..body.len().min(BODY_LIMIT)]).into_owned());
    Ok(())
}

/// Finds the first cause that tells how a connection ended.
fn ending_of(error: &(dyn std::error::Error + 'static)) -> Ending {
    let mut words = error.to_string();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut connection = None;
    while let Some(current) = cause {
        let text = current.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        connection = connection.or_else(|| told_by(current));
        // tokio-rustls wraps rustls's error in an io::Error, whose `source` skips what it wraps.
        if let Some(inner) = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            connection = connection.or_else(|| told_by(inner));
            if !words.contains(&inner.to_string()) {
                words = format!("{words}: {inner}");
            }
        }
        cause = current.source();
    }
    Ending { connection: connection.unwrap_or(Connection::Closed), words }
}

fn told_by(error: &(dyn std::error::Error + 'static)) -> Option<Connection> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return match tls {
            rustls::Error::AlertReceived(alert) => Some(Connection::TlsAlert(alert_name(*alert))),
            rustls::Error::InvalidCertificate(_) => Some(Connection::CertificateRejected),
            _ => None,
        };
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    match io.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Some(Connection::Reset),
        std::io::ErrorKind::ConnectionRefused => Some(Connection::Refused),
        std::io::ErrorKind::TimedOut => Some(Connection::Timeout),
        std::io::ErrorKind::UnexpectedEof => Some(Connection::Closed),
        _ => None,
    }
}

/// RFC 8446's name with spaces: `CertificateRequired` becomes `certificate required`.
fn alert_name(alert: rustls::AlertDescription) -> String {
    let debug = format!("{alert:?}");
    let mut name = String::new();
    for (i, c) in debug.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 && !name.ends_with("c a") {
            name.push(' ');
        }
        name.push(c.to_ascii_lowercase());
    }
    name.replace("unrecognised", "unrecognized").replace("unknown c a", "unknown ca")
}

/// A TLS greeting with this SNI over any stream, then a request; answers are thrown away. Used as a sentinel.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: S, sni: &str, token: &str, limit: Duration) {
    let Ok(mut config) = tls_config(Verify::Insecure, "", None, Arc::default()) else { return };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let Ok(name) = ServerName::try_from(sni.to_owned()) else { return };
    let talk = async {
        if let Ok(mut stream) = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
            && stream.write_all(super::sentinel::request(token).as_bytes()).await.is_ok()
        {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    };
    let _ = timeout(limit, talk).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        assert_eq!(alert_name(rustls::AlertDescription::CertificateRequired), "certificate required");
        assert_eq!(alert_name(rustls::AlertDescription::UnrecognisedName), "unrecognized name");
        assert_eq!(alert_name(rustls::AlertDescription::UnknownCA), "unknown ca");
        assert_eq!(alert_name(rustls::AlertDescription::HandshakeFailure), "handshake failure");
    }

    #[test]
    fn an_io_error_inside_another_is_found() {
        let reset = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
        assert_eq!(ending_of(&reset).connection, Connection::Reset);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, alert);
        assert_eq!(ending_of(&wrapped).connection, Connection::TlsAlert("certificate required".to_owned()));
    }
}
