//! Programs beside the main one: `sh`, `curl`, and small tools. Which of them an image has.

mod condition;
mod given;
mod lines;
mod network;
mod text;

use std::pin::Pin;
use std::time::Duration;

use super::{Container, Image, Streams, curl, httpbin, shell};

/// Programs of the images with a shell.
const ALL: &[&str] = &[
    "sh", "ash", "bash", "curl", "sleep", "echo", "cat", "printf", "env", "printenv", "ls", "grep", "head", "tail", "wc", "seq", "date",
    "hostname", "nslookup", "getent", "id", "whoami", "mktemp", "chmod", "rm", "mkdir", "touch", "cp", "mv", "tr", "cut", "sort", "uniq",
    "tee", "base64", "basename", "dirname", "true", "false", "test", "[", "uname", "wget", "nc", "timeout", "which", "pwd", "tty", "yes",
];
/// Of Istio's images: what people call in them, and which port it asks.
const AGENTS: &[(Image, &str, u16)] = &[(Image::Proxy, "pilot-agent", 15000), (Image::Istiod, "pilot-discovery", 15014)];
const DIRECTORIES: &[&str] = &["/bin/", "/usr/bin/", "/usr/local/bin/", "/sbin/", "/usr/sbin/"];

/// The name of a program in this image, whether it is called by name or by path.
fn program<'a>(container: &Container, command: &'a str) -> Option<&'a str> {
    let name = DIRECTORIES.iter().find_map(|d| command.strip_prefix(d)).unwrap_or(command);
    let has_tools = matches!(container.image, Image::Curl | Image::Tools | Image::Proxy);
    let is_here = (has_tools && ALL.contains(&name)) || AGENTS.iter().any(|(image, agent, _)| *image == container.image && *agent == name);
    is_here.then_some(name)
}

/// Where a program is.
pub(super) fn path(container: &Container, name: &str) -> Option<String> {
    program(container, name).map(|name| format!("/usr/bin/{name}"))
}

/// Runs a program; None when the image has none of that name.
pub(super) fn run<'a>(
    container: &'a Container,
    command: &'a [String],
    streams: &'a Streams,
) -> Pin<Box<dyn Future<Output = Option<i32>> + Send + 'a>> {
    Box::pin(async move {
        let (name, args) = command.split_first()?;
        let name = program(container, name)?;
        Some(match name {
            "sh" | "ash" | "bash" => shell::run(container, args, streams).await,
            "curl" => curl::run(container, args, &streams.stdin, &streams.stdout, &streams.stderr).await,
            "sleep" => sleep(args, streams).await,
            "env" => env(container, args, streams).await,
            "timeout" => timeout(container, args, streams).await,
            "pilot-agent" | "pilot-discovery" => agent(container, name, args, streams).await,
            "nslookup" | "getent" | "wget" | "nc" => network::run(container, name, args, streams).await,
            _ => text::run(container, name, args, streams).await,
        })
    })
}

/// A word on standard error, and an exit code.
fn complain(streams: &Streams, code: i32, words: &str) -> i32 {
    streams.stderr.line(words);
    code
}

/// An option that the program has and this one has not.
fn missing(streams: &Streams, program: &str, option: &str) -> i32 {
    complain(streams, 2, &format!("{program}: {option}: the one of this simulated mesh does not have it"))
}

/// What `echo` prints, with the end of the line.
pub(super) fn echo(args: &[String]) -> String {
    let (mut newline, mut escapes) = (true, false);
    let mut words = args;
    while let Some((first, rest)) = words.split_first() {
        if first.len() < 2 || !first.starts_with('-') || !first.chars().skip(1).all(|c| "neE".contains(c)) {
            break;
        }
        newline &= !first.contains('n');
        escapes |= first.contains('e');
        words = rest;
    }
    let text = words.join(" ");
    let text = if escapes { text::unescape(&text) } else { text };
    if newline { text + "\n" } else { text }
}

async fn sleep(args: &[String], streams: &Streams) -> i32 {
    let mut total = Duration::ZERO;
    for word in args {
        if word == "infinity" || word == "inf" {
            return std::future::pending().await;
        }
        let parsed = match word.strip_suffix('d') {
            Some(days) => days.parse::<f64>().ok().and_then(|d| Duration::try_from_secs_f64(d * 86400.0).ok()),
            None => httpbin::duration(word),
        };
        match parsed {
            Some(time) => total = total.saturating_add(time),
            None => return complain(streams, 1, &format!("sleep: invalid number '{word}'")),
        }
    }
    if args.is_empty() {
        return complain(streams, 1, "sleep: missing operand");
    }
    tokio::time::sleep(total).await;
    0
}

async fn env(container: &Container, args: &[String], streams: &Streams) -> i32 {
    let mut container = container.clone();
    let mut words = args;
    while let Some((first, rest)) = words.split_first() {
        if first == "-i" || first == "-" {
            container.env.clear();
        } else if first == "-u" {
            if let Some(name) = rest.first() {
                container.env.remove(name);
            }
            words = rest.get(1..).unwrap_or_default();
            continue;
        } else if let Some((name, value)) = first.split_once('=') {
            container.env.insert(name.to_owned(), value.to_owned());
        } else {
            break;
        }
        words = rest;
    }
    if words.is_empty() {
        for (name, value) in &container.env {
            streams.stdout.line(&format!("{name}={value}"));
        }
        return 0;
    }
    match run(&container, words, streams).await {
        Some(code) => code,
        None => complain(streams, 127, &format!("env: can't execute '{}': No such file or directory", words.join(" "))),
    }
}

async fn timeout(container: &Container, args: &[String], streams: &Streams) -> i32 {
    let words: Vec<&String> = args.iter().skip_while(|a| a.starts_with('-')).collect();
    let Some((limit, command)) = words.split_first() else { return complain(streams, 125, "timeout: missing operand") };
    let Some(limit) = httpbin::duration(limit) else { return complain(streams, 125, &format!("timeout: invalid time interval '{limit}'")) };
    let command: Vec<String> = command.iter().map(|w| (*w).clone()).collect();
    match tokio::time::timeout(limit, run(container, &command, streams)).await {
        Ok(Some(code)) => code,
        Ok(None) => complain(streams, 127, &format!("timeout: can't execute '{}': No such file or directory", command.join(" "))),
        // 128 and SIGTERM, as busybox; GNU's says 124.
        Err(_) => 143,
    }
}

/// `pilot-agent request METHOD PATH` asks the proxy's admin port, `pilot-discovery request` istiod's debug port.
async fn agent(container: &Container, name: &str, args: &[String], streams: &Streams) -> i32 {
    let words: Vec<&str> = args.iter().map(String::as_str).filter(|a| !a.starts_with('-')).collect();
    match words.as_slice() {
        ["request", method, path, ..] => {
            let port = AGENTS.iter().find(|(_, agent, _)| *agent == name).map_or(15000, |(_, _, port)| *port);
            let url = format!("http://localhost:{port}/{}", path.trim_start_matches('/'));
            let args: Vec<String> = ["-sS", "--fail", "-X", method, &url].iter().map(|w| (*w).to_owned()).collect();
            curl::run(container, &args, &streams.stdin, &streams.stdout, &streams.stderr).await
        }
        ["wait", ..] => 0,
        other => missing(streams, name, other.first().copied().unwrap_or("no command")),
    }
}
