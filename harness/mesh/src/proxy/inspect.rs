//! What the first bytes of a connection say: a TLS ClientHello, or the first line of HTTP.

use std::io;

use crate::net::Conn;

/// The longest ClientHello that is looked at (`TlsInspector::TLS_MAX_CLIENT_HELLO`).
const MAX_CLIENT_HELLO: usize = 16 * 1024;
/// The longest first line that is looked at (`http_inspector.h`, `MAX_INSPECT_SIZE`).
const MAX_FIRST_LINE: usize = 8 * 1024;
/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a ClientHello asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClientHello {
    /// SNI in lower case; empty: none.
    pub(super) server_name: String,
    /// ALPN in the client's order.
    pub(super) alpn: Vec<String>,
}

/// What can be said of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen<T> {
    /// More bytes are needed.
    More,
    /// Something else.
    No,
    /// This.
    Yes(T),
}

/// A cursor that never reads past its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn vector(&mut self, length_bytes: usize) -> Option<Self> {
        let n = self.number(length_bytes)?;
        self.take(n).map(Self)
    }
}

/// Looks for a ClientHello (RFC 8446, section 4.1.2), in one record or several.
pub(super) fn client_hello(bytes: &[u8]) -> Seen<ClientHello> {
    let mut records = Reader(bytes);
    let mut handshake = Vec::new();
    loop {
        if let Some(length) = handshake.get(1..4) {
            let wanted = 4 + length.iter().fold(0, |n, b: &u8| n << 8 | usize::from(*b));
            if handshake.first() != Some(&1) || wanted > MAX_CLIENT_HELLO {
                return Seen::No;
            }
            if handshake.len() >= wanted {
                return hello(&handshake[4..wanted]).map_or(Seen::No, Seen::Yes);
            }
        }
        match (records.0.first(), records.0.get(1)) {
            (None, _) => return Seen::More,
            (Some(22), None | Some(3)) => {}
            _ => return Seen::No,
        }
        let mut record = Reader(records.0);
        let (Some(_), Some(payload)) = (record.take(3), record.vector(2)) else { return Seen::More };
        handshake.extend_from_slice(payload.0);
        records = record;
    }
}

fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    body.vector(1)?;
    body.vector(2)?;
    body.vector(1)?;
    let mut found = ClientHello::default();
    if body.0.is_empty() {
        return Some(found);
    }
    let mut extensions = body.vector(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut data = extensions.vector(2)?;
        match kind {
            0 => {
                let mut names = data.vector(2)?;
                while !names.0.is_empty() {
                    let (kind, name) = (names.number(1)?, names.vector(2)?);
                    if kind == 0 {
                        found.server_name = String::from_utf8_lossy(name.0).to_ascii_lowercase();
                    }
                }
            }
            16 => {
                let mut protocols = data.vector(2)?;
                while !protocols.0.is_empty() {
                    found.alpn.push(String::from_utf8_lossy(protocols.vector(1)?.0).into_owned());
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// Looks for HTTP as Envoy's HTTP inspector does: the application protocol that it sets.
pub(super) fn http(bytes: &[u8]) -> Seen<&'static str> {
    if bytes.starts_with(HTTP2_PREFACE) {
        return Seen::Yes("h2c");
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return Seen::More;
    }
    let line = match bytes.iter().position(|b| *b == b'\n') {
        Some(end) => &bytes[..end],
        None if bytes.len() > MAX_FIRST_LINE => return Seen::No,
        None => bytes,
    };
    let complete = line.len() < bytes.len();
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let method = line.iter().take_while(|b| token(b)).count();
    match line.get(method) {
        Some(b' ') if method > 0 => {}
        None if !complete && method > 0 => return Seen::More,
        _ => return Seen::No,
    }
    if !complete {
        return Seen::More;
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.rsplit(|b| *b == b' ').next() {
        Some(b"HTTP/1.1") => Seen::Yes("http/1.1"),
        Some(b"HTTP/1.0") => Seen::Yes("http/1.0"),
        _ => Seen::No,
    }
}

/// Waits for bytes until something can be said of them; nothing is consumed. None: the client ended before.
///
/// # Errors
/// The connection was reset.
pub(super) async fn look<T>(conn: &Conn, judge: impl Fn(&[u8]) -> Seen<T>) -> io::Result<Option<T>> {
    let mut least = 1;
    loop {
        let bytes = conn.peek(least).await?;
        match judge(&bytes) {
            Seen::Yes(found) => return Ok(Some(found)),
            Seen::No => return Ok(None),
            Seen::More if bytes.len() < least => return Err(io::ErrorKind::UnexpectedEof.into()),
            Seen::More => least = bytes.len() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first flight of a rustls client.
    fn first_flight(name: &str, alpn: &[&str]) -> Vec<u8> {
        let mut config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let mut client = rustls::ClientConnection::new(config.into(), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn sni_and_alpn_are_found_and_every_shorter_beginning_asks_for_more() {
        let bytes = first_flight("outbound_.8000_._.Web.shop.svc.cluster.local", &["istio", "h2"]);
        let wanted =
            ClientHello { server_name: "outbound_.8000_._.web.shop.svc.cluster.local".to_owned(), alpn: vec!["istio".into(), "h2".into()] };
        assert_eq!(client_hello(&bytes), Seen::Yes(wanted.clone()));
        for n in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..n]), Seen::More, "{n}");
        }
        let (head, body) = bytes.split_at(5);
        let (one, two) = body.split_at(100);
        let record = |part: &[u8]| [&head[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
        assert_eq!(client_hello(&[record(one), record(two)].concat()), Seen::Yes(wanted));
    }

    #[test]
    fn other_first_bytes_are_no_client_hello() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", b"\x16\x02", b"\x15\x03\x03\x00\x02\x02\x28"] {
            assert_eq!(client_hello(bytes), Seen::No, "{bytes:?}");
        }
        assert_eq!(client_hello(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Seen::No, "a ServerHello");
        assert_eq!(client_hello(&[22, 3, 1, 0, 4, 1, 0xff, 0, 0]), Seen::No, "too long");
    }

    #[test]
    fn http_is_told_by_its_first_line() {
        assert_eq!(http(b"GET /a b HTTP/1.1\r\nHost"), Seen::Yes("http/1.1"));
        assert_eq!(http(b"GET / HTTP/1.0\n"), Seen::Yes("http/1.0"));
        assert_eq!(http(HTTP2_PREFACE), Seen::Yes("h2c"));
        assert_eq!(http(&HTTP2_PREFACE[..20]), Seen::More);
        assert_eq!(http(b"GET / HT"), Seen::More);
        assert_eq!(http(b"PROPFI"), Seen::More);
        assert_eq!(http(b"SSH-2.0-OpenSSH_9\r\n"), Seen::No);
        assert_eq!(http(b"\x16\x03\x01"), Seen::No);
        assert_eq!(http(b"* OK IMAP\r\n"), Seen::No);
    }
}
