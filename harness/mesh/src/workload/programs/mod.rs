//! The programs that containers of the simulated cluster can run, chosen by the name of the image.
//!
//! They are real as far as the network is concerned: bytes, connections, TLS, HTTP. There is no process and no kernel;
//! files are in memory ([`Files`]), and what a program writes goes to an [`Out`].

mod curl;
mod echo;
mod files;
mod httpbin;
mod image;
mod outside;
mod serve;
mod shell;
mod shell_like;
mod streams;
mod tools;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::net::{Bind, Caller, Conn, Host};

pub use files::{FileError, Files, Volume};
pub use httpbin::Flavour;
pub use image::{Image, find, with_registry};
pub use outside::{OutsideError, OutsideHost, OutsideTls, serve_outside};
pub use streams::{In, Out, pipe};

/// What a program reads and writes.
#[derive(Clone)]
pub struct Streams {
    /// Standard input.
    pub stdin: In,
    /// Standard output.
    pub stdout: Out,
    /// Standard error.
    pub stderr: Out,
}

/// One container, as its programs see it. Clones share files and network.
#[derive(Clone)]
pub struct Container {
    /// Where it is on the network.
    pub host: Host,
    /// Whose DNS search list it has.
    pub namespace: String,
    /// The DNS suffix of Services.
    pub domain: String,
    /// The name of its machine: the pod's.
    pub hostname: String,
    /// What its image holds.
    pub image: Image,
    /// What its curl calls itself.
    pub curl_version: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its files.
    pub files: Files,
}

impl Container {
    /// A container of an image, with the files that every container has. `env` is the pod's; what images set is added.
    #[must_use]
    pub fn new(
        host: Host,
        namespace: &str,
        domain: &str,
        hostname: &str,
        image: Image,
        reference: &str,
        env: BTreeMap<String, String>,
    ) -> Self {
        let files = Files::default();
        let ip = host.ip();
        files.install("/etc/hosts", format!("127.0.0.1\tlocalhost\n{ip}\t{hostname}\n").as_bytes());
        files.install("/etc/hostname", format!("{hostname}\n").as_bytes());
        let search = format!("search {namespace}.svc.{domain} svc.{domain} {domain}\noptions ndots:5\n");
        files.install("/etc/resolv.conf", search.as_bytes());
        // Nobody beyond this mesh can be reached, so no authority beyond it is known.
        files.install(curl::SYSTEM_BUNDLE, b"# The system's authorities: none in a simulated mesh.\n");
        for directory in ["/tmp", "/var/tmp", "/root", "/home", "/run"] {
            let _ = files.make_directory(directory, true);
        }
        let is_version = |tag: &&str| {
            tag.starts_with(|c: char| c.is_ascii_digit()) && tag.contains('.') && tag.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        };
        let curl_version = image::tag(reference).filter(|_| image == Image::Curl).filter(is_version);
        let mut all = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOSTNAME".to_owned(), hostname.to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
        ]);
        all.extend(env);
        Self {
            host,
            namespace: namespace.to_owned(),
            domain: domain.to_owned(),
            hostname: hostname.to_owned(),
            image,
            curl_version: curl_version.unwrap_or(curl::DEFAULT_VERSION).to_owned(),
            env: all,
            files: files.at("/"),
        }
    }

    /// The addresses of a name: `/etc/hosts` first, then DNS with the pod's search list.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        let hosts = self.files.read("/etc/hosts").map(|d| String::from_utf8_lossy(&d).into_owned()).unwrap_or_default();
        let listed: Vec<IpAddr> = hosts
            .lines()
            .filter_map(|line| line.split('#').next()?.split_once(char::is_whitespace))
            .filter(|(_, names)| names.split_whitespace().any(|n| n.eq_ignore_ascii_case(name.trim_end_matches('.'))))
            .filter_map(|(address, _)| address.parse().ok())
            .collect();
        if !listed.is_empty() {
            return Some(listed);
        }
        self.host.network().names().resolve_in(name, &self.namespace, &self.domain)
    }

    /// Connects as this container's programs do: as the proxy's own user in its container, else as an application.
    ///
    /// # Errors
    /// As [`Host::connect`].
    pub fn connect(&self, to: SocketAddr) -> io::Result<Conn> {
        self.host.connect(to, if self.image == Image::Proxy { Caller::Proxy } else { Caller::Application })
    }
}

/// Runs a command beside a container's main program. Gives the exit code.
///
/// # Errors
/// In the container runtime's words, when there is no such program in the image.
pub async fn exec(container: &Container, command: &[String], streams: &Streams) -> Result<i32, String> {
    let name = command.first().map(String::as_str).unwrap_or_default();
    if let Some(code) = tools::run(container, command, streams).await {
        return Ok(code);
    }
    let why = if name.contains('/') {
        format!("exec: {name:?}: stat {name}: no such file or directory")
    } else {
        format!("exec: {name:?}: executable file not found in $PATH")
    };
    Err(format!("OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"))
}

/// Runs a container's main program until it ends or is dropped: the pod's command if it names one, else the image's own.
/// Gives the exit code. The proxy is not run here.
///
/// # Errors
/// In the container runtime's words, when the command is not in the image.
pub async fn run_main(container: &Container, command: &[String], args: &[String], log: &Out) -> Result<i32, String> {
    let streams = Streams { stdin: In::empty(), stdout: log.clone(), stderr: log.clone() };
    // A server's own program named as the command is that program.
    let own = command.first().map(|c| c.rsplit('/').next().unwrap_or(c)).is_none_or(|name| match container.image {
        Image::Httpbin(_) => name.contains("httpbin") || name == "gunicorn",
        Image::EchoBasic => name == "echo-basic",
        Image::TcpEcho => name == "tcp-echo",
        Image::Istiod => name == "pilot-discovery",
        Image::Curl | Image::Tools | Image::Proxy => false,
    });
    if !own {
        let all: Vec<String> = command.iter().chain(args).cloned().collect();
        return match tools::run(container, &all, &streams).await {
            Some(code) => Ok(code),
            None => {
                let name = command.first().map(String::as_str).unwrap_or_default();
                let why = if name.contains('/') {
                    format!("exec: {name:?}: stat {name}: no such file or directory")
                } else {
                    format!("exec: {name:?}: executable file not found in $PATH")
                };
                Err(format!(
                    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {why}: unknown"
                ))
            }
        };
    }
    let args: Vec<String> = command.iter().skip(1).chain(args).cloned().collect();
    Ok(match container.image {
        Image::Httpbin(flavour) => httpbin_main(container, flavour, &args, log).await,
        Image::EchoBasic => echo::basic(container, log).await,
        Image::TcpEcho => echo::tcp(container, &args, log).await,
        Image::Curl => curl::run(container, &args, &streams.stdin, &streams.stdout, &streams.stderr).await,
        Image::Tools => {
            let mut all = vec!["sh".to_owned()];
            all.extend(args);
            tools::run(container, &all, &streams).await.unwrap_or(127)
        }
        // Another part of the simulation does istiod's and the proxy's work.
        Image::Istiod | Image::Proxy => std::future::pending().await,
    })
}

async fn httpbin_main(container: &Container, flavour: Flavour, args: &[String], log: &Out) -> i32 {
    let port = match httpbin::port(flavour, args, &container.env) {
        Ok(port) => port,
        Err(why) => {
            log.line(&format!("Error: {why}"));
            return 2;
        }
    };
    let tls = match (container.env.get("HTTPS_CERT_FILE"), container.env.get("HTTPS_KEY_FILE")) {
        (Some(chain), Some(key)) => {
            let text = |path: &String| container.files.read(path).map(|d| String::from_utf8_lossy(&d).into_owned()).unwrap_or_default();
            match serve::server_config(&text(chain), &text(key), None, false) {
                Ok(config) => Some(config),
                Err(error) => {
                    log.line(&format!("error: {error}"));
                    return 1;
                }
            }
        }
        _ => None,
    };
    match container.host.listen(Bind::Any, port) {
        Ok(listener) => {
            log.line(&format!("time=\"\" level=INFO msg=\"go-httpbin listening on http://0.0.0.0:{port}\""));
            let server = httpbin::Httpbin::new(flavour, &container.env, &container.hostname);
            serve::serve(listener, tls, server.handler()).await;
            0
        }
        Err(error) => {
            log.line(&format!("error: listen tcp 0.0.0.0:{port}: bind: {error}"));
            1
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
