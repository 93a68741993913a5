//! Names, connections and handshakes, with what curl says of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Instant;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::account::Account;
use super::http2::Session;
use super::options::{Options, Version};
use super::url::Url;
use super::{Failure, tls};
use crate::net::Conn;
use crate::workload::programs::{Container, Out};

/// Bytes to and from a server.
pub(super) enum Stream {
    Plain(Conn),
    Tls(Box<TlsStream<Conn>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// A connection that speaks HTTP/1.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) is_tls: bool,
}

/// A connection to a server, and to which.
pub(super) enum Spoken {
    One(Connection),
    Two(Session),
}

/// How far a transfer has come: what a timeout is called depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Connecting,
    Handshake,
    Transfer,
}

/// Where a URL leads when `--connect-to` has its say. Source: curl's man page.
fn redirected(options: &Options, url: &Url) -> (String, u16) {
    for entry in &options.connect_to {
        let parts = split_connect_to(entry);
        let [host, port, to_host, to_port] = parts.as_slice() else { continue };
        let fits = (host.is_empty() || host.eq_ignore_ascii_case(&url.host)) && (port.is_empty() || *port == url.port.to_string());
        if fits {
            let host = if to_host.is_empty() { url.host.clone() } else { to_host.trim_matches(['[', ']']).to_owned() };
            return (host, to_port.parse().unwrap_or(url.port));
        }
    }
    (url.host.clone(), url.port)
}

/// Four parts at colons outside brackets.
fn split_connect_to(entry: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    for c in entry.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if c == ':' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

/// Addresses that `--resolve` gives: by host (or `*`) and port.
fn given(options: &Options, host: &str, port: u16) -> Result<Option<Vec<IpAddr>>, Failure> {
    for entry in &options.resolve {
        if entry.starts_with('-') {
            continue;
        }
        let unreadable = || Failure::new(49, format!("Couldn't parse CURLOPT_RESOLVE entry '{entry}'"));
        let mut parts = entry.trim_start_matches('+').splitn(3, ':');
        let (Some(name), Some(at), Some(addresses)) = (parts.next(), parts.next(), parts.next()) else { return Err(unreadable()) };
        let at: u16 = at.parse().map_err(|_| unreadable())?;
        let addresses: Result<Vec<IpAddr>, _> = addresses.split(',').map(|a| a.trim_matches(['[', ']']).parse()).collect();
        let addresses = addresses.map_err(|_| unreadable())?;
        if at == port && (name == "*" || name.eq_ignore_ascii_case(host)) {
            return Ok(Some(addresses));
        }
    }
    Ok(None)
}

/// Who is being spoken to, and in whose name.
pub(super) struct Caller<'a> {
    pub(super) container: &'a Container,
    pub(super) options: &'a Options,
    pub(super) stderr: &'a Out,
    pub(super) began: Instant,
}

impl Caller<'_> {
    pub(super) fn say(&self, line: &str) {
        if self.options.verbose {
            self.stderr.line(&format!("* {line}"));
        }
    }

    /// Resolves, connects, and shakes hands.
    pub(super) async fn open(&self, url: &Url, account: &mut Account, phase: &mut Phase) -> Result<Spoken, Failure> {
        *phase = Phase::Connecting;
        // Whatever is wrong with files and options is found before any connection is made.
        let tls = if url.is_https { Some(tls::config(self.options, self.container)?) } else { None };
        let (host, port) = redirected(self.options, url);
        if (host.as_str(), port) != (url.host.as_str(), url.port) {
            self.say(&format!("Connecting to hostname: {host}"));
            self.say(&format!("Connecting to port: {port}"));
        }
        let addresses = match given(self.options, &host, port)? {
            Some(addresses) => {
                self.say(&format!("Added {host}:{port} to DNS cache"));
                Some(addresses)
            }
            None => self.container.resolve(&host),
        };
        let addresses = addresses.filter(|a| !a.is_empty()).ok_or_else(|| {
            self.say(&format!("Could not resolve host: {host}"));
            Failure::new(6, format!("Could not resolve host: {host}"))
        })?;
        account.time_namelookup = self.began.elapsed();
        let mut conn = None;
        for address in addresses {
            let to = SocketAddr::new(address, port);
            self.say(&format!("  Trying {to}..."));
            match self.container.connect(to) {
                Ok(open) => {
                    conn = Some(open);
                    break;
                }
                Err(error) => self.say(&format!("connect to {address} port {port} failed: {}", errno(&error))),
            }
        }
        let Some(conn) = conn else {
            let after = self.began.elapsed().as_millis();
            return Err(Failure::new(7, format!("Failed to connect to {host} port {port} after {after} ms: Couldn't connect to server")));
        };
        account.time_connect = self.began.elapsed();
        account.connects += 1;
        account.local = Some(conn.local_addr());
        account.remote = Some(conn.peer_addr());
        self.say(&format!("Connected to {host} ({}) port {port} (#0)", conn.peer_addr().ip()));
        let Some((config, seen)) = tls else {
            if self.options.version == Version::TwoAtOnce {
                return Ok(Spoken::Two(Session::begin(Stream::Plain(conn), false).await?));
            }
            return Ok(Spoken::One(Connection { stream: Stream::Plain(conn), is_tls: false }));
        };
        *phase = Phase::Handshake;
        // Until the chain was looked at, OpenSSL's verdict is "unspecified".
        account.verify_result = 1;
        let protocols: Vec<_> = config.alpn_protocols.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
        self.say(&format!("ALPN: offers {}", protocols.join(",")));
        let name = ServerName::try_from(url.host.trim_end_matches('.').to_owned())
            .map_err(|_| Failure::new(35, format!("failed to set SNI for {}", url.host)))?;
        let stream = TlsConnector::from(config).connect(name, conn).await;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        if !seen.chain.is_empty() {
            account.certs = tls::describe(&seen.chain);
            account.certs_number = seen.chain.len();
        }
        let stream = stream.map_err(|error| tls::handshake_failure(&error, &seen, &format!("{}:{}", url.host, url.port)))?;
        let session = stream.get_ref().1;
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let suite = session.negotiated_cipher_suite().map(|s| openssl_name(&format!("{:?}", s.suite()))).unwrap_or_default();
        self.say(&format!("SSL connection using {version} / {suite}"));
        let protocol = session.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
        self.say(&match &protocol {
            Some(protocol) => format!("ALPN: server accepted {protocol}"),
            None => "ALPN: server did not agree on a protocol. Uses default.".to_owned(),
        });
        for line in tls::verbose_lines(&seen).iter().filter(|_| self.options.verbose) {
            self.say(line);
        }
        if !self.options.insecure {
            let end = seen.chain.first().map(Vec::as_slice).unwrap_or_default();
            tls::check_name(end, url.host.trim_end_matches('.'))?;
        }
        account.verify_result = seen.result;
        account.time_appconnect = self.began.elapsed();
        let stream = Stream::Tls(Box::new(stream));
        if protocol.as_deref() == Some("h2") || self.options.version == Version::TwoAtOnce {
            self.say("using HTTP/2");
            return Ok(Spoken::Two(Session::begin(stream, true).await?));
        }
        Ok(Spoken::One(Connection { stream, is_tls: true }))
    }
}

fn errno(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused",
        io::ErrorKind::HostUnreachable => "No route to host",
        _ => "Network is unreachable",
    }
}

/// OpenSSL's name of a cipher suite: `TLS_AES_256_GCM_SHA384`, `ECDHE-RSA-AES256-GCM-SHA384`.
fn openssl_name(suite: &str) -> String {
    match suite.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => {
            suite.trim_start_matches("TLS_").replace("_WITH", "").replace("AES_", "AES").replace("_SHA256", "-SHA256").replace('_', "-")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn connect_to_and_resolve_lead_elsewhere() {
        let url = Url::parse("https://web.example/").unwrap();
        assert_eq!(redirected(&options("--connect-to ::gw.svc:8443"), &url), ("gw.svc".to_owned(), 8443));
        assert_eq!(redirected(&options("--connect-to web.example:443:[fd00::1]:"), &url), ("fd00::1".to_owned(), 443));
        assert_eq!(redirected(&options("--connect-to other::gw:1"), &url), ("web.example".to_owned(), 443));
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(given(&options("--resolve web.example:443:10.0.0.1"), "WEB.example", 443).unwrap(), Some(vec![address]));
        assert_eq!(given(&options("--resolve web.example:80:10.0.0.1"), "web.example", 443).unwrap(), None);
        assert_eq!(given(&options("--resolve a:1"), "a", 1).unwrap_err().code, 49);
    }
}
