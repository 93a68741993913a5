//! Commands in containers.
//!
//! Source: Kubernetes `kubelet/pkg/cri/streaming/remotecommand`; the channels are stdin 0, stdout 1, stderr 2, status 3,
//! resize 4, and in v5 255 for the end of one.

use hyper::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, duplex, empty, sink};

use super::request::{At, Call};
use super::websocket::{self, Incoming, Protocol, Receiver};
use super::{ApiBody, Server};
use crate::api::error::ApiError;
use crate::api::kubelet::{ExecRequest, ExecStreams};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const PIPE: usize = 64 * 1024;

impl Server {
    pub(super) fn exec(&self, call: &mut Call, at: &At) -> Result<Response<ApiBody>, ApiError> {
        let pod = self.pod(at)?;
        let container = self.container(&pod, at.name(), call.get("container").unwrap_or_default())?;
        let attaches = at.subresource.as_deref() == Some("attach");
        let command = if attaches { Vec::new() } else { call.all("command") };
        if command.is_empty() && !attaches {
            return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
        }
        let has = |long: &str, short: &str| call.flag(long) || call.flag(short);
        let (stdin, stdout, stderr) = (has("stdin", "input"), has("stdout", "output"), has("stderr", "error"));
        let request =
            ExecRequest { namespace: at.namespace().to_owned(), pod: at.name().to_owned(), container, command, tty: call.flag("tty") };
        let agreed = websocket::agree(call)?;
        let kubelet = self.kubelet.clone();
        let (response, upgrade, protocol) = agreed.split();
        tokio::spawn(async move {
            let (sender, receiver) = match websocket::open(upgrade, protocol).await {
                Ok(both) => both,
                Err(error) => {
                    tracing::debug!(%error, "an upgrade for exec broke");
                    return;
                }
            };
            let shown = format!("[{}]", request.command.join(" "));
            let (mine_in, its_in) = pipe(stdin);
            let (mine_out, its_out) = pipe(stdout);
            let (mine_err, its_err) = pipe(stderr);
            let streams = ExecStreams {
                stdin: its_in.map_or_else(|| Box::new(empty()) as Box<dyn AsyncRead + Send + Unpin>, |s| Box::new(s)),
                stdout: its_out.map_or_else(|| Box::new(sink()) as _, |s| Box::new(s) as _),
                stderr: its_err.map_or_else(|| Box::new(sink()) as _, |s| Box::new(s) as _),
            };
            let pump = async |channel, from: Option<DuplexStream>| match from {
                Some(from) => sender.pump(channel, from).await,
                None => true,
            };
            let run = async {
                let (code, _, _) = tokio::join!(kubelet.exec(request, streams), pump(STDOUT, mine_out), pump(STDERR, mine_err));
                code
            };
            // A client that is gone takes its command with it.
            tokio::select! {
                code = run => {
                    sender.send(STATUS, status(&code, &shown).to_string().as_bytes()).await;
                }
                () = feed(receiver, protocol, mine_in) => {}
            }
            sender.close().await;
        });
        Ok(response)
    }
}

fn pipe(wanted: bool) -> (Option<DuplexStream>, Option<DuplexStream>) {
    if !wanted {
        return (None, None);
    }
    let (mine, its) = duplex(PIPE);
    (Some(mine), Some(its))
}

/// Gives the command what the client sends; ends when the client is gone.
async fn feed(mut receiver: Receiver, protocol: Protocol, mut stdin: Option<DuplexStream>) {
    loop {
        match receiver.next().await {
            Incoming::Data(0, data) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            Incoming::End(0) => stdin = None,
            // v4 has no other way to say the end of standard input.
            Incoming::Closed if protocol == Protocol::V4 && stdin.is_some() => {
                drop(stdin);
                return std::future::pending().await;
            }
            Incoming::Closed => return,
            Incoming::Data(..) | Incoming::End(_) => {}
        }
    }
}

fn status(code: &Result<i32, ApiError>, command: &str) -> Value {
    match code {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: error executing command {command}, exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => error.to_status(),
    }
}
