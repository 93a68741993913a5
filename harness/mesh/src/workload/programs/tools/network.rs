//! Tools that speak to others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::{Container, Streams, curl};
use super::{complain, missing};

pub(super) async fn run(container: &Container, name: &str, args: &[String], streams: &Streams) -> i32 {
    match name {
        "nslookup" => nslookup(container, args, streams),
        "getent" => getent(container, args, streams),
        "wget" => wget(container, args, streams).await,
        _ => nc(container, args, streams).await,
    }
}

/// What cluster DNS is found at on kind.
const DNS: &str = "10.96.0.10";

fn nslookup(container: &Container, args: &[String], streams: &Streams) -> i32 {
    let Some(name) = args.iter().find(|a| !a.starts_with('-')) else { return complain(streams, 1, "nslookup: no name") };
    streams.stdout.line(&format!("Server:\t\t{DNS}\nAddress:\t{DNS}:53\n"));
    match container.resolve(name) {
        Some(addresses) => {
            for address in addresses {
                streams.stdout.line(&format!("Name:\t{name}\nAddress: {address}"));
            }
            0
        }
        None => {
            streams.stdout.line(&format!("** server can't find {name}: NXDOMAIN\n"));
            1
        }
    }
}

fn getent(container: &Container, args: &[String], streams: &Streams) -> i32 {
    match args {
        [database, name] if database == "hosts" || database == "ahosts" || database == "ahostsv4" => match container.resolve(name) {
            Some(addresses) => {
                for address in addresses {
                    streams.stdout.line(&format!("{:<15}   {name}", address.to_string()));
                }
                0
            }
            None => 2,
        },
        _ => missing(streams, "getent", "anything but `hosts NAME`"),
    }
}

/// busybox's wget, by way of curl.
async fn wget(container: &Container, args: &[String], streams: &Streams) -> i32 {
    let mut call: Vec<String> = vec!["-sSfL".to_owned()];
    let mut output: Option<String> = None;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-q" | "--quiet" | "-nv" => {}
            "-O-" | "-qO-" => output = Some("-".to_owned()),
            "-O" | "-qO" => output = words.next().cloned(),
            "-S" | "--server-response" => call.push("-i".to_owned()),
            "--no-check-certificate" => call.push("-k".to_owned()),
            "-T" | "--timeout" => call.extend(["--max-time".to_owned(), words.next().cloned().unwrap_or_default()]),
            "--header" => call.extend(["-H".to_owned(), words.next().cloned().unwrap_or_default()]),
            "--spider" => call.push("-I".to_owned()),
            other => match (other.strip_prefix("--header="), other.strip_prefix("--timeout="), other.strip_prefix("--post-data=")) {
                (Some(header), ..) => call.extend(["-H".to_owned(), header.to_owned()]),
                (_, Some(time), _) => call.extend(["--max-time".to_owned(), time.to_owned()]),
                (.., Some(data)) => call.extend(["-d".to_owned(), data.to_owned()]),
                _ if other.starts_with('-') => return missing(streams, "wget", other),
                _ => call.push(other.to_owned()),
            },
        }
    }
    match output.as_deref() {
        Some("-") => {}
        Some(path) => call.extend(["-o".to_owned(), path.to_owned()]),
        None => call.push("-O".to_owned()),
    }
    let code = curl::run(container, &call, &streams.stdin, &streams.stdout, &streams.stderr).await;
    // wget says no more than that it failed; the words are curl's, which tell more.
    i32::from(code != 0)
}

async fn nc(container: &Container, args: &[String], streams: &Streams) -> i32 {
    let mut limit = None;
    let (mut verbose, mut only_look) = (false, false);
    let mut place = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            None => place.push(word.as_str()),
            Some(flags) => {
                for flag in flags.chars() {
                    match flag {
                        'v' => verbose = true,
                        'z' => only_look = true,
                        'n' | 'N' | 'q' | 't' => {}
                        'w' => limit = words.next().and_then(|w| w.parse().ok()).map(Duration::from_secs),
                        other => return missing(streams, "nc", &format!("-{other}")),
                    }
                }
            }
        }
    }
    let [host, port] = place.as_slice() else { return missing(streams, "nc", "anything but `HOST PORT`") };
    let Ok(port) = port.parse::<u16>() else { return complain(streams, 1, &format!("nc: bad port '{port}'")) };
    let Some(address) = container.resolve(host).and_then(|a| a.first().copied()) else {
        return complain(streams, 1, &format!("nc: bad address '{host}'"));
    };
    let to = SocketAddr::new(address, port);
    let mut conn = match container.connect(to) {
        Ok(conn) => conn,
        Err(error) => {
            let why = if error.kind() == std::io::ErrorKind::ConnectionRefused { "Connection refused" } else { "Host is unreachable" };
            return complain(streams, 1, &format!("nc: {host} ({to}): {why}"));
        }
    };
    if verbose {
        streams.stderr.line(&format!("{host} ({to}) open"));
    }
    if only_look {
        return 0;
    }
    let exchange = async {
        let data = streams.stdin.read_all().await;
        conn.write_all(&data).await?;
        conn.shutdown().await?;
        let mut buffer = [0; 4096];
        loop {
            let n = conn.read(&mut buffer).await?;
            if n == 0 || !streams.stdout.write(buffer.get(..n).unwrap_or_default()) {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    let result = match limit {
        None => exchange.await,
        Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or(Ok(())),
    };
    match result {
        Ok(()) => 0,
        Err(error) => complain(streams, 1, &format!("nc: read: {error}")),
    }
}
