//! What a probe asks, as a proxy sees it.

use crate::names::Namespaced;
use crate::scenario::{Caller, Probe, Scheme};

/// A call that a proxy could route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The Deployment that calls; None from outside the cluster.
    pub caller: Option<Namespaced>,
    /// The gateway that it connects to instead of the host.
    pub gateway: Option<Namespaced>,
    /// Whether the application speaks TLS.
    pub tls: bool,
    /// The Host header, in lower case and without a port.
    pub host: String,
    /// The server name that it sends; of TLS only.
    pub sni: Option<String>,
    /// The host that it connects to, where that is another than `host`.
    pub connects_to: Option<String>,
    /// The port that it connects to.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The method.
    pub method: String,
    /// Further request headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether the caller presents a certificate of its own.
    pub certificate: bool,
}

impl Call {
    /// The call that a probe makes; None for probes that make none, and for commands that are no readable curl.
    #[must_use]
    pub fn of(probe: &Probe) -> Option<Self> {
        match probe {
            Probe::Http(probe) => Some(Self {
                caller: match &probe.from {
                    Caller::Outside => None,
                    Caller::Workload(workload) => Some(workload.clone()),
                },
                gateway: probe.gateway.clone(),
                tls: probe.scheme == Scheme::Https,
                host: probe.host.as_str().to_owned(),
                sni: (probe.scheme == Scheme::Https).then(|| probe.sni.as_ref().unwrap_or(&probe.host).as_str().to_owned()),
                connects_to: None,
                port: probe.port,
                path: probe.path.clone(),
                method: probe.method.clone(),
                headers: probe.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
                certificate: probe.client_certificate.is_some(),
            }),
            Probe::Exec(probe) => curl(&probe.command).map(|call| Self { caller: Some(probe.workload.clone()), ..call }),
            _ => None,
        }
    }

    /// What chooses a chain or a virtual host: the server name of TLS, else the Host.
    pub(super) fn name(&self) -> &str {
        self.sni.as_deref().unwrap_or(&self.host)
    }
}

/// curl's options with a value, beside those that are read here. Source: curl's manual.
const WITH_VALUE: &[&str] = &[
    "-o",
    "--output",
    "-w",
    "--write-out",
    "-m",
    "--max-time",
    "--connect-timeout",
    "-A",
    "--user-agent",
    "--cacert",
    "--cert",
    "-E",
    "--key",
    "--retry",
    "--retry-delay",
    "-u",
    "--user",
    "-e",
    "--referer",
    "-b",
    "--cookie",
    "-c",
    "--cookie-jar",
    "-D",
    "--dump-header",
    "--resolve",
    "-T",
    "--upload-file",
    "--interface",
    "--ciphers",
    "--tls-max",
    "-F",
    "--form",
    "-x",
    "--proxy",
];

fn curl(command: &[String]) -> Option<Call> {
    let (first, rest) = command.split_first()?;
    if first != "curl" && !first.ends_with("/curl") {
        return None;
    }
    let (mut url, mut method, mut headers, mut connect_to, mut body) = (None, None, Vec::new(), None, false);
    let mut words = rest.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-X" | "--request" => method = words.next().map(str::to_owned),
            "-I" | "--head" => method = Some("HEAD".to_owned()),
            "-H" | "--header" => {
                let header = words.next()?.split_once(':').map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                headers.extend(header);
            }
            "--connect-to" => connect_to = words.next(),
            "--url" => url = words.next(),
            "-d" | "--data" | "--data-raw" | "--data-binary" | "--json" => {
                body = true;
                words.next();
            }
            word if WITH_VALUE.contains(&word) => drop(words.next()),
            word if word.starts_with("--") => {}
            // Joined short options: the last may take the next word (`-sSo FILE`).
            word if word.starts_with('-') && word.len() > 1 => {
                let last = word.chars().last().map(|c| format!("-{c}")).unwrap_or_default();
                if word.len() > 2 && WITH_VALUE.contains(&last.as_str()) {
                    words.next();
                }
            }
            word => url = url.or(Some(word)),
        }
    }
    let url = url?;
    let (tls, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return None,
        None => (false, url),
    };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') => (name, port.parse().ok()?),
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let name = name.to_ascii_lowercase();
    // `--connect-to HOST1:PORT1:HOST2:PORT2`, each perhaps empty.
    let to: Vec<&str> = connect_to.map(|to| to.split(':').collect()).unwrap_or_default();
    let host = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.split(':').next().unwrap_or_default().to_owned());
    Some(Call {
        caller: None,
        gateway: None,
        tls,
        host: host.unwrap_or_else(|| name.clone()),
        sni: tls.then(|| name.clone()),
        connects_to: match to.get(2) {
            Some(to) if !to.is_empty() => Some((*to).to_owned()),
            _ => Some(name.clone()),
        },
        port: to.get(3).and_then(|port| port.parse().ok()).unwrap_or(port),
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        method: method.unwrap_or_else(|| if body { "POST" } else { "GET" }.to_owned()),
        headers,
        certificate: rest_has_certificate(command),
    })
    .map(|call| Call { connects_to: call.connects_to.clone().filter(|to| *to != call.host), ..call })
}

fn rest_has_certificate(command: &[String]) -> bool {
    command.iter().any(|word| word == "--cert" || word == "-E")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str) -> Option<Call> {
        curl(&command.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn curl_is_read_as_people_write_it() {
        let call = read("curl -sS -o /dev/null -w %{http_code} https://Quay.test/a?b=1").unwrap();
        assert_eq!((call.tls, call.host.as_str(), call.port, call.path.as_str()), (true, "quay.test", 443, "/a?b=1"));
        assert_eq!((call.sni.as_deref(), call.connects_to, call.method.as_str()), (Some("quay.test"), None, "GET"));
        let call = read("curl -sSo /dev/null -H Host:other.test -d x http://till:8000").unwrap();
        assert_eq!((call.tls, call.host.as_str(), call.port, call.path.as_str()), (false, "other.test", 8000, "/"));
        assert_eq!((call.sni, call.connects_to.as_deref(), call.method.as_str()), (None, Some("till"), "POST"));
        let call = read("curl --connect-to ::gate.edge.svc:8443 --max-time 5 https://quay.test/").unwrap();
        assert_eq!((call.host.as_str(), call.connects_to.as_deref(), call.port), ("quay.test", Some("gate.edge.svc"), 8443));
    }

    #[test]
    fn what_is_no_curl_is_no_call() {
        assert_eq!(read("wget http://a.test"), None);
        assert_eq!(read("curl -s"), None);
        assert_eq!(read("curl ftp://a.test"), None);
    }
}
