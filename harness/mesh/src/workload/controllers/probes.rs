//! Asking containers whether they are ready, as a kubelet does. Source: Kubernetes `pkg/probe`.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::view::{list, number, text};
use crate::net::{Caller, Conn, Host};
use crate::workload::programs::{Container, In, Out, Streams, exec};

/// Asked for by Istio's agent on its port 15020 on behalf of the kubelet.
const AGENT_PORT: i64 = 15020;

/// A port of a container by number or name.
fn port(wanted: &Value, container: &Value) -> Option<u16> {
    let number = match wanted {
        Value::String(name) => match name.parse() {
            Ok(number) => Some(number),
            Err(_) => list(container, "/ports").iter().find(|p| text(p, "/name") == name).and_then(|p| number(p, "/containerPort")),
        },
        other => other.as_i64(),
    };
    number.and_then(|n| u16::try_from(n).ok())
}

/// What a probe that was given to the agent asked originally, by the sidecar's environment.
fn behind_agent(probe: &Value, pod: &Value) -> Option<Value> {
    if number(probe, "/httpGet/port") != Some(AGENT_PORT) {
        return None;
    }
    let containers = list(pod, "/spec/initContainers").iter().chain(list(pod, "/spec/containers"));
    let env = containers.filter(|c| text(c, "/name") == "istio-proxy").flat_map(|c| list(c, "/env"));
    let probers = env.into_iter().find(|e| text(e, "/name") == "ISTIO_KUBE_APP_PROBERS")?;
    let probers: Value = serde_json::from_str(text(probers, "/value")).ok()?;
    probers.get(text(probe, "/httpGet/path")).cloned()
}

/// Asks once. Gives what is wrong.
pub(super) async fn ask(probe: &Value, pod: &Value, spec: &Value, container: &Container, node: &Host) -> Result<(), String> {
    let limit = Duration::from_secs(number(probe, "/timeoutSeconds").and_then(|n| u64::try_from(n).ok()).unwrap_or(1).max(1));
    let (probe, from_agent) = match behind_agent(probe, pod) {
        Some(original) => (original, true),
        None => (probe.clone(), false),
    };
    let connect = |port: u16| -> Result<Conn, String> {
        let to = SocketAddr::new(container.host.ip(), port);
        // The agent runs beside the application and as the proxy's user: no sidecar is in its way.
        let conn = if from_agent { container.host.connect(to, Caller::Proxy) } else { node.connect(to, Caller::Proxy) };
        conn.map_err(|e| format!("dial tcp {to}: connect: {e}"))
    };
    let work = async {
        if let Some(command) = probe.pointer("/exec/command").and_then(Value::as_array) {
            let command: Vec<String> = command.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            let (out, kept) = Out::kept();
            let streams = Streams { stdin: In::empty(), stdout: out.clone(), stderr: out };
            let code = exec(container, &command, &streams).await?;
            if code == 0 {
                return Ok(());
            }
            let said = kept.lock().map(|k| String::from_utf8_lossy(&k).trim().to_owned()).unwrap_or_default();
            return Err(said);
        }
        if let Some(get) = probe.get("httpGet") {
            let port = port(&get["port"], spec).ok_or_else(|| "unknown port".to_owned())?;
            if text(get, "/scheme") == "HTTPS" {
                return Err("HTTPS probes: this simulated mesh does not have them".to_owned());
            }
            return http(connect(port)?, get, &container.host.ip().to_string(), port).await;
        }
        if let Some(tcp) = probe.get("tcpSocket") {
            let port = port(&tcp["port"], spec).ok_or_else(|| "unknown port".to_owned())?;
            return connect(port).map(drop);
        }
        if probe.get("grpc").is_some() {
            return Err("gRPC probes: this simulated mesh does not have them".to_owned());
        }
        Ok(())
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()))
}

async fn http(mut conn: Conn, get: &Value, host: &str, port: u16) -> Result<(), String> {
    let path = text(get, "/path");
    let mut request = format!("GET {} HTTP/1.1\r\n", if path.is_empty() { "/" } else { path });
    let own = list(get, "/httpHeaders");
    if !own.iter().any(|h| text(h, "/name").eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: {host}:{port}\r\n"));
    }
    for header in own {
        request.push_str(&format!("{}: {}\r\n", text(header, "/name"), text(header, "/value")));
    }
    request.push_str("User-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    let failed = |e: std::io::Error| format!("Get \"http://{host}:{port}{path}\": {e}");
    conn.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') {
        let mut buffer = [0; 512];
        let n = conn.read(&mut buffer).await.map_err(failed)?;
        if n == 0 {
            return Err(format!("Get \"http://{host}:{port}{path}\": EOF"));
        }
        head.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    match line.split(' ').nth(1).and_then(|c| c.parse::<u16>().ok()) {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
        None => Err(format!("malformed HTTP response {line:?}")),
    }
}
