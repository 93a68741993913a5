//! HTTP/1 as curl speaks it (RFC 9112).

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::request::Request;
use super::transfer::Taking;
use super::transport::Connection;
use super::{Failure, tls};

/// A head longer than this is refused. Source: curl, `MAX_HTTP_RESP_HEADER_SIZE`.
const MAX_HEAD: usize = 300 * 1024;

struct Reader<'a> {
    connection: &'a mut Connection,
    buffer: BytesMut,
}

impl Reader<'_> {
    /// Reads more. False at the end.
    async fn more(&mut self) -> Result<bool, io::Error> {
        let n = self.connection.stream.read_buf(&mut self.buffer).await?;
        Ok(n > 0)
    }

    /// A line of a chunked body, without its end.
    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(self.buffer.get(..at).unwrap_or_default()).into_owned();
                self.buffer.advance(at + 2);
                return Ok(line);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(Failure::new(56, "chunk hex-length longer than allowed"));
            }
            self.body_bytes().await?;
        }
    }

    async fn body_bytes(&mut self) -> Result<(), Failure> {
        match self.more().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(18, "transfer closed with outstanding read data remaining")),
            Err(error) => Err(tls::read_failure(&error, self.connection.is_tls)),
        }
    }
}

/// A status line and headers.
struct Head {
    text: String,
    version: &'static str,
    code: u16,
    headers: Vec<(String, String)>,
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n").flat_map(|l| l.split('\n'));
    let mut words = lines.next()?.splitn(3, ' ');
    let version = match words.next()? {
        "HTTP/1.1" => "1.1",
        "HTTP/1.0" => "1",
        _ => return None,
    };
    let code = words.next()?.parse().ok()?;
    let headers = lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())).collect();
    Some(Head { text: text.to_owned(), version, code, headers })
}

/// Sends a request and takes its response. Gives whether the connection can be used again.
pub(super) async fn exchange(connection: &mut Connection, request: &Request, taking: &mut Taking<'_>) -> Result<bool, Failure> {
    let head = request.head();
    taking.sent(&head, request.body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&request.body);
    // The server may refuse before it has read all: what it said counts more than that it stopped listening.
    let written = match connection.stream.write_all(&bytes).await {
        Ok(()) => connection.stream.flush().await,
        Err(error) => Err(error),
    };
    let mut reader = Reader { connection, buffer: BytesMut::new() };
    let head = loop {
        let head = read_head(&mut reader, &written).await?;
        taking.head(&head.text, head.version, head.code, &head.headers);
        if head.code == 101 {
            return Err(Failure::new(8, "101 Switching Protocols: this simulated curl cannot go on after an upgrade"));
        }
        if head.code >= 200 {
            break head;
        }
    };
    let find = |name: &str| head.headers.iter().rev().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let closes = find("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) || head.version == "1";
    if request.method == "HEAD" || request.no_body || head.code == 204 || head.code == 304 {
        return Ok(!closes);
    }
    let chunked = find("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
    let length = match find("content-length") {
        Some(text) if !chunked => Some(text.parse::<u64>().map_err(|_| Failure::new(8, "Invalid Content-Length: value"))?),
        _ => None,
    };
    taking.begin(length)?;
    if chunked {
        take_chunks(&mut reader, taking).await?;
    } else if let Some(length) = length {
        let mut left = length;
        while left > 0 {
            if reader.buffer.is_empty() {
                match reader.more().await {
                    Ok(true) => {}
                    Ok(false) => return Err(Failure::new(18, format!("transfer closed with {left} bytes remaining to read"))),
                    Err(error) => return Err(tls::read_failure(&error, reader.connection.is_tls)),
                }
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(reader.buffer.len());
            taking.body(&reader.buffer.split_to(n))?;
            left -= n as u64;
        }
    } else {
        loop {
            let piece = reader.buffer.split();
            taking.body(&piece)?;
            match reader.more().await {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => return Err(tls::read_failure(&error, reader.connection.is_tls)),
            }
        }
    }
    Ok(!closes && reader.buffer.is_empty())
}

async fn read_head(reader: &mut Reader<'_>, written: &io::Result<()>) -> Result<Head, Failure> {
    loop {
        let end = reader.buffer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let text = String::from_utf8_lossy(&reader.buffer.split_to(end)).into_owned();
            return parse(&text).ok_or_else(|| Failure::new(1, "Received HTTP/0.9 when not allowed"));
        }
        let looks = reader.buffer.len().min(5);
        if reader.buffer.get(..looks) != b"HTTP/".get(..looks) {
            return Err(Failure::new(1, "Received HTTP/0.9 when not allowed"));
        }
        if reader.buffer.len() > MAX_HEAD {
            return Err(Failure::new(56, "Too large response headers"));
        }
        let is_tls = reader.connection.is_tls;
        match reader.more().await {
            Ok(true) => {}
            Ok(false) if written.is_err() => return Err(Failure::new(55, "Send failure: Broken pipe")),
            Ok(false) => return Err(Failure::new(52, "Empty reply from server")),
            Err(error) => return Err(tls::read_failure(&error, is_tls)),
        }
    }
}

async fn take_chunks(reader: &mut Reader<'_>, taking: &mut Taking<'_>) -> Result<(), Failure> {
    loop {
        let line = reader.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let mut left =
            usize::from_str_radix(size, 16).map_err(|_| Failure::new(56, "Illegal or missing hexadecimal sequence in chunked-encoding"))?;
        if left == 0 {
            // Trailers, and the empty line after them.
            while !reader.line().await?.is_empty() {}
            return Ok(());
        }
        while left > 0 {
            if reader.buffer.is_empty() {
                reader.body_bytes().await?;
            }
            let n = left.min(reader.buffer.len());
            taking.body(&reader.buffer.split_to(n))?;
            left -= n;
        }
        if !reader.line().await?.is_empty() {
            return Err(Failure::new(56, "Malformed encoding found in chunked-encoding"));
        }
    }
}
