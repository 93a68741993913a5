//! curl as people write it, made to tell more than it prints. Pure.
//!
//! A curl command is given two additions that change nothing a server or a reader of its output would care about:
//! a token at the end of the User-Agent, by which its HTTP log lines are known, and a `--write-out` to *standard error*
//! with curl's own account of the transfer (`%{json}`, curl 7.70; certificates in it, curl 7.88). The account is taken
//! out of standard error again.

use std::net::{IpAddr, SocketAddr};

use gateproof_core::outcome::CertificateSeen;
use gateproof_core::scenario::Connection;
use serde_json::Value;

use crate::probe::certificate;

const ACCOUNT: &str = "@gateproof ";

/// What curl says of its last transfer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    /// Its own address.
    pub local: Option<SocketAddr>,
    /// The address it connected to.
    pub remote: Option<SocketAddr>,
    /// The response's status; None when no response came.
    pub status: Option<u16>,
    /// Its error message, when it failed.
    pub error: Option<String>,
    /// Its exit code.
    pub exit_code: i32,
    /// The server's certificate.
    pub certificate: Option<CertificateSeen>,
}

/// Whether the command is a curl call that can be made to tell.
#[must_use]
pub fn is_curl(command: &[String]) -> bool {
    command.first().is_some_and(|first| first == "curl" || first.ends_with("/curl"))
}

/// The command with the token and the account added.
#[must_use]
pub fn instrument(command: &[String], token: &str) -> Vec<String> {
    let mut out: Vec<String> = command.to_vec();
    let addition = format!("%{{stderr}}\\n{ACCOUNT}%{{json}}\\n");
    match value_of(&out, "-w", "--write-out") {
        Some(Place::Next(i)) => out[i].push_str(&addition),
        Some(Place::Attached(i)) => out[i].push_str(&addition),
        None => out.extend(["-w".to_owned(), addition]),
    }
    match value_of(&out, "-A", "--user-agent") {
        Some(Place::Next(i) | Place::Attached(i)) => {
            out[i].push(' ');
            out[i].push_str(token);
        }
        None => out.extend(["-A".to_owned(), token.to_owned()]),
    }
    out
}

/// How the shell in the pod gets the certificate and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pem {
    /// So many bytes of standard input: not every API server tells a command in a pod that its input has ended.
    Bytes(usize),
    /// All of standard input, for people.
    All,
}

/// The curl command presenting a certificate that comes, with its key, over standard input. Both are in no argument, no
/// variable and no process list, and in no file that has a name: it loses its name before anything is written into it, and
/// is gone with the last process that has it open, however that ends. curl opens it twice, which a pipe would not bear.
#[must_use]
pub fn with_certificate(command: &[String], pem: Pem) -> Vec<String> {
    let read = match pem {
        Pem::Bytes(count) => format!("head -c {count}"),
        Pem::All => "cat".to_owned(),
    };
    let script = format!(
        "umask 077; f=$(mktemp /dev/shm/gp.XXXXXX 2>/dev/null || mktemp) && exec 3<>\"$f\" && rm \"$f\" && {read} >&3 && exec \"$@\" </dev/null"
    );
    let mut out = vec!["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    let (curl, rest) = command.split_at(command.len().min(1));
    out.extend_from_slice(curl);
    out.extend(["--cert".to_owned(), "/proc/self/fd/3".to_owned()]);
    out.extend_from_slice(rest);
    out
}

enum Place {
    /// The value is the argument at this index.
    Next(usize),
    /// The value is the rest of the argument at this index.
    Attached(usize),
}

fn value_of(command: &[String], short: &str, long: &str) -> Option<Place> {
    for (i, argument) in command.iter().enumerate().skip(1) {
        if (argument == long || argument == short) && i + 1 < command.len() {
            return Some(Place::Next(i + 1));
        }
        if let Some(rest) = argument.strip_prefix(short)
            && !rest.is_empty()
            && !argument.starts_with("--")
        {
            return Some(Place::Attached(i));
        }
        // Short flags joined, value in the next argument: `-sSw FORMAT`.
        let letter = short.trim_start_matches('-');
        if argument.starts_with('-')
            && !argument.starts_with("--")
            && argument.len() > 2
            && argument.ends_with(letter)
            && argument[1..].bytes().all(|b| b.is_ascii_alphabetic())
            && !joined_takes_value(argument)
            && i + 1 < command.len()
        {
            return Some(Place::Next(i + 1));
        }
    }
    None
}

/// Whether a letter before the last takes a value itself, so that the last letter is part of that value (`-Xw`).
fn joined_takes_value(argument: &str) -> bool {
    argument[1..argument.len() - 1].chars().any(|c| "XHdoAwebuTFmxKrtyYzECcDPQU".contains(c))
}

/// Standard error without the account, and the account of the last transfer.
#[must_use]
pub fn read_account(stderr: &str) -> (String, Option<Account>) {
    let mut rest = String::new();
    let mut account = None;
    for line in stderr.lines() {
        match line.strip_prefix(ACCOUNT).and_then(|json| serde_json::from_str::<Value>(json).ok()) {
            Some(json) => account = Some(account_of(&json)),
            None => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (rest.trim().to_owned(), account)
}

fn account_of(json: &Value) -> Account {
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = json[ip].as_str()?.parse().ok()?;
        let port = u16::try_from(json[port].as_u64()?).ok().filter(|p| *p != 0)?;
        Some(SocketAddr::new(ip, port))
    };
    Account {
        local: address("local_ip", "local_port"),
        remote: address("remote_ip", "remote_port"),
        status: json["response_code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| *c != 0),
        error: json["errormsg"].as_str().map(str::to_owned),
        exit_code: i32::try_from(json["exitcode"].as_i64().unwrap_or(0)).unwrap_or(-1),
        certificate: json["certs"].as_str().and_then(certificate::first_in_pem),
    }
}

/// How the connection ended, by curl's exit code and words.
/// Source: curl's man page, "EXIT CODES"; OpenSSL's reason strings for TLS alerts.
#[must_use]
pub fn connection(account: &Account) -> Connection {
    let words = account.error.clone().unwrap_or_default();
    let lower = words.to_lowercase();
    if let Some(alert) = alert_in(&lower) {
        return Connection::TlsAlert(alert);
    }
    match account.exit_code {
        // 22: `--fail` and a status of 400 or more.
        0 | 22 if account.status.is_some() => Connection::Answered,
        6 => Connection::DnsFailure,
        28 => Connection::Timeout,
        51 | 60 | 77 => Connection::CertificateRejected,
        _ if lower.contains("connection reset") => Connection::Reset,
        7 => Connection::Refused,
        // TLS connect, empty reply, send and receive failures, a body cut short, HTTP/2 streams, TLS shutdown.
        16 | 18 | 35 | 52 | 55 | 56 | 80 | 92 => Connection::Closed,
        code => Connection::Other(format!("curl {code}")),
    }
}

/// `certificate required` of `…:SSL routines::tlsv13 alert certificate required, errno 0`.
fn alert_in(lower: &str) -> Option<String> {
    let (_, after) = lower.split_once("alert ")?;
    let name: String = after.chars().take_while(|c| c.is_ascii_alphabetic() || *c == ' ').collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_certificate_comes_over_standard_input_into_a_file_without_a_name() {
        let command: Vec<String> = ["curl", "-sS", "https://a.example/"].map(str::to_owned).into();
        let presenting = with_certificate(&instrument(&command, "gp-1"), Pem::Bytes(1234));
        assert_eq!(presenting[..2], ["sh", "-c"]);
        assert_eq!(presenting[3..8], ["sh", "curl", "--cert", "/proc/self/fd/3", "-sS"]);
        assert!(presenting.last().is_some_and(|last| last == "gp-1"));
        let place = |part: &str| presenting[2].find(part).unwrap_or_else(|| panic!("{part} in {}", presenting[2]));
        assert!(place("umask 077") < place("mktemp") && place("rm \"$f\"") < place("head -c 1234 >&3"));
        assert!(with_certificate(&command, Pem::All)[2].contains("&& cat >&3"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_can_be_read_twice_and_is_nowhere() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let command: Vec<String> =
            ["sh", "-c", "cat /proc/self/fd/3 /proc/self/fd/3; readlink /proc/self/fd/3; cat; tr '\\0' ' ' </proc/$$/cmdline"]
                .map(str::to_owned)
                .into();
        let mut words = with_certificate(&command, Pem::Bytes(6));
        words.retain(|word| word != "--cert");
        // What stands in for curl gets the place as its first argument, which `sh -c` would take for the script.
        words.retain(|word| word != "/proc/self/fd/3");
        let mut child =
            Command::new(&words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell is there");
        // The pipe stays open: the shell has to know by itself when it has it all.
        let mut input = child.stdin.take().expect("piped");
        input.write_all(b"SECRETmore").expect("the shell reads");
        let output = child.wait_with_output().expect("it ends");
        drop(input);
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("SECRETSECRET/") && lines[0].ends_with("(deleted)"), "{text}");
        assert!(!lines[1..].concat().contains("SECRET"), "{text}");
    }

    #[test]
    fn the_token_and_the_account_are_added_once_whatever_the_spelling() {
        for (given, wanted) in [
            ("curl -sS http://x", "curl -sS http://x -w %{stderr}\\n@gateproof %{json}\\n -A T"),
            ("curl -w %{http_code} http://x", "curl -w %{http_code}%{stderr}\\n@gateproof %{json}\\n http://x -A T"),
            ("curl -sSw %{http_code} http://x", "curl -sSw %{http_code}%{stderr}\\n@gateproof %{json}\\n http://x -A T"),
            ("curl -w%{http_code} -A me http://x", "curl -w%{http_code}%{stderr}\\n@gateproof %{json}\\n -A me T http://x"),
            ("curl --user-agent me http://x", "curl --user-agent me T http://x -w %{stderr}\\n@gateproof %{json}\\n"),
        ] {
            assert_eq!(instrument(&command(given), "T").join(" "), wanted);
        }
    }

    #[test]
    fn the_account_is_taken_out_of_standard_error() {
        let stderr = "curl: (6) Could not resolve host: nosuch.invalid\n\
            @gateproof {\"errormsg\":\"Could not resolve host: nosuch.invalid\",\"exitcode\":6,\"local_ip\":\"\",\"local_port\":0,\"response_code\":0}\n";
        let (rest, account) = read_account(stderr);
        assert_eq!(rest, "curl: (6) Could not resolve host: nosuch.invalid");
        let account = account.unwrap();
        assert_eq!((account.local, account.status, connection(&account)), (None, None, Connection::DnsFailure));
    }

    #[test]
    fn endings_of_a_connection_are_told_apart() {
        let ending = |exit_code: i32, error: &str| connection(&Account { exit_code, error: Some(error.to_owned()), ..Account::default() });
        assert_eq!(ending(35, "OpenSSL SSL_connect: Connection reset by peer in connection to x:443 "), Connection::Reset);
        assert_eq!(ending(35, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x:443 "), Connection::Closed);
        assert_eq!(ending(52, "Empty reply from server"), Connection::Closed);
        assert_eq!(ending(56, "Recv failure: Connection reset by peer"), Connection::Reset);
        assert_eq!(ending(7, "Failed to connect to x port 443"), Connection::Refused);
        assert_eq!(
            ending(56, "OpenSSL SSL_read: OpenSSL/3.0.19: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0"),
            Connection::TlsAlert("certificate required".to_owned())
        );
        assert_eq!(ending(60, "SSL certificate problem: unable to get local issuer certificate"), Connection::CertificateRejected);
    }
}
