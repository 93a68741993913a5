//! HTTP servers on the virtual network: HTTP/1.1 and HTTP/2, over TLS or not.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::net::{Conn, Listener};

/// How an HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A response's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
/// What answers requests.
pub(crate) type Handler = Arc<dyn Fn(Request<Incoming>, Peer) -> Answer + Send + Sync>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The connection that a request came by.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) tls: Option<Arc<TlsSeen>>,
}

/// What a server knows of a TLS connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSeen {
    pub(crate) version: String,
    pub(crate) server_name: String,
    pub(crate) protocol: String,
    pub(crate) cipher: String,
    pub(crate) client_certificates: Vec<Vec<u8>>,
}

/// Answers on one port until it is dropped; whoever drops it drops its connections.
pub(crate) async fn serve(mut listener: Listener, tls: Option<Arc<ServerConfig>>, handler: Handler) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            conn = listener.accept() => {
                connections.spawn(one(conn, tls.clone(), handler.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn one(conn: Conn, tls: Option<Arc<ServerConfig>>, handler: Handler) {
    let mut peer = Peer { remote: conn.peer_addr(), tls: None };
    let result = match tls {
        None => match is_http2(&conn).await {
            Ok(http2) => speak(conn, http2, peer, handler).await,
            Err(error) => Err(error),
        },
        Some(_) if matches!(looks_like_http(&conn).await, Ok(true)) => refuse_http(conn).await,
        Some(config) => match TlsAcceptor::from(config).accept(conn).await {
            Ok(stream) => {
                let (_, session) = stream.get_ref();
                let seen = tls_seen(session);
                let http2 = seen.protocol == "h2";
                peer.tls = Some(Arc::new(seen));
                speak(stream, http2, peer, handler).await
            }
            Err(error) => Err(error),
        },
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to a server ended");
    }
}

/// How plain requests begin that Go's TLS server knows (`net/http`, `tlsRecordHeaderLooksLikeHTTP`).
const REQUESTS: [&[u8; 5]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

async fn looks_like_http(conn: &Conn) -> io::Result<bool> {
    let seen = conn.peek(REQUESTS[0].len()).await?;
    Ok(REQUESTS.iter().any(|known| seen.starts_with(known.as_slice())))
}

/// What Go's server says to plain HTTP where it expected a handshake (`net/http`, `conn.serve`).
async fn refuse_http(mut conn: Conn) -> io::Result<()> {
    conn.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n").await?;
    conn.shutdown().await?;
    // What was not read would make the end a reset, and the answer ends where the connection does.
    tokio::io::copy(&mut conn, &mut tokio::io::sink()).await.map(drop)
}

fn tls_seen(session: &rustls::ServerConnection) -> TlsSeen {
    TlsSeen {
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
            other => format!("{other:?}"),
        },
        server_name: session.server_name().unwrap_or_default().to_owned(),
        protocol: session.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default(),
        cipher: session.negotiated_cipher_suite().map(|s| cipher_name(s.suite())).unwrap_or_default(),
        client_certificates: session.peer_certificates().unwrap_or_default().iter().map(|c| c.to_vec()).collect(),
    }
}

/// IANA's name of a cipher suite, as Go prints it.
pub(crate) fn cipher_name(suite: rustls::CipherSuite) -> String {
    format!("{suite:?}").replace("TLS13_", "TLS_")
}

async fn is_http2(conn: &Conn) -> io::Result<bool> {
    let mut least = 1;
    loop {
        let seen = conn.peek(least).await?;
        let known = seen.len().min(PREFACE.len());
        if seen.get(..known) != PREFACE.get(..known) {
            return Ok(false);
        }
        if known == PREFACE.len() {
            return Ok(true);
        }
        if seen.len() < least {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        least = seen.len() + 1;
    }
}

async fn speak<S>(stream: S, http2: bool, peer: Peer, handler: Handler) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(stream);
    let result = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).serve_connection(io, service).await
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.title_case_headers(true).timer(TokioTimer::new()).serve_connection(io, service).with_upgrades().await
    };
    result.map_err(io::Error::other)
}

/// A server's TLS: its chain and key, and whose clients' certificates are asked for and checked.
///
/// # Errors
/// When the PEM holds no usable certificate or key.
pub(crate) fn server_config(chain_pem: &str, key_pem: &str, client_ca_pem: Option<&str>, required: bool) -> io::Result<Arc<ServerConfig>> {
    let invalid = |what: &str, error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {error}"));
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| invalid("certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| invalid("key", &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid("protocol versions", &e))?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|e| invalid("client CA", &e))?).map_err(|e| invalid("client CA", &e))?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| invalid("client CA", &e))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| invalid("certificate and key", &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
